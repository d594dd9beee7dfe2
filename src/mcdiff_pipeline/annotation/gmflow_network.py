# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The network of GMFlow (Xu et al., "GMFlow: Learning Optical Flow via Global Matching", CVPR 2022, arXiv 2111.13680).

This is the variant with one refinement at 1/4 of the image size. Names and shapes of the parameters are those of the
authors' weights. The forward pass reads top to bottom: features of both frames at two scales, a transformer that lets
each frame see the other, matching by softmax, propagation of flow to pixels without a match, convex upsampling.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..flow import backward_warp


CHANNELS = 128
LAYERS = 6
# Windows of attention along each side, at 1/8 and at 1/4 of the image size, as the weights were trained.
WINDOWS = (2, 8)
# Refinement looks for matches at most this many cells away; flow is propagated among neighbors of distance 1.
MATCHING_RADIUS, PROPAGATION_RADIUS = 4, 1
UPSAMPLING = 4
# Height and width of the frames are multiples of this: 1/8 is divided into 2 windows, 1/4 into 8.
MULTIPLE = 32
# Mean and standard deviation of the RGB values of ImageNet, for frames in [0, 1].
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ResidualBlock(nn.Module):
    """Two convolutions with instance normalization; `[B, C, H, W]` to `[B, C', H / stride, W / stride]`."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride), nn.InstanceNorm2d(channels))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        residual = F.relu(F.instance_norm(self.conv1(hidden)))
        residual = F.relu(F.instance_norm(self.conv2(residual)))
        return F.relu(self.downsample(hidden) + residual)


class Backbone(nn.Module):
    """Features of frames `[B, 3, H, W]`: `[B, 128, H / 8, W / 8]` and `[B, 128, H / 4, W / 4]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64), ResidualBlock(64, 64))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, stride=2), ResidualBlock(96, 96))
        self.layer3 = nn.Sequential(ResidualBlock(96, CHANNELS), ResidualBlock(CHANNELS, CHANNELS))
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        # Both scales share these weights (Li et al., "Scale-Aware Trident Networks", ICCV 2019).
        self.trident_conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.relu(F.instance_norm(self.conv1(frames)))
        hidden = self.conv2(self.layer3(self.layer2(self.layer1(hidden))))
        coarse = F.conv2d(hidden, self.trident_conv.weight, stride=2, padding=1)
        return coarse, self.trident_conv(hidden)


def to_windows(image: torch.Tensor, windows: int) -> torch.Tensor:
    """`[B, H, W, C]` to the cells of `windows` x `windows` windows, `[B * windows ** 2, H * W / windows ** 2, C]`."""
    batch, height, width, channels = image.shape
    image = image.view(batch, windows, height // windows, windows, width // windows, channels)
    return image.transpose(2, 3).reshape(batch * windows**2, -1, channels)


def from_windows(cells: torch.Tensor, windows: int, size: tuple[int, int]) -> torch.Tensor:
    """The inverse of `to_windows`, for an image of `size` (height, width)."""
    height, width = size
    cells = cells.view(-1, windows, windows, height // windows, width // windows, cells.shape[-1])
    return cells.transpose(2, 3).reshape(-1, height, width, cells.shape[-1])


def position_encoding(height: int, width: int) -> torch.Tensor:
    """Sines and cosines of the position in a window, `[height, width, 128]`, as in DETR (Carion et al., ECCV 2020)."""
    half = CHANNELS // 2
    # Frequencies come in pairs: a sine and a cosine.
    periods = 10000 ** (2 * (torch.arange(half) // 2) / half)
    encoded = []
    for length in (height, width):
        angles = torch.arange(1, length + 1)[:, None] * (2 * math.pi / length) / periods
        encoded.append(torch.where(torch.arange(half) % 2 == 0, angles.sin(), angles.cos()))
    rows, columns = encoded
    return torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=2)


def shift_mask(size: tuple[int, int], windows: int) -> torch.Tensor:
    """Which cells of a shifted window attend to each other, bool `[windows ** 2, 1, L, L]` (Liu et al., "Swin
    Transformer", ICCV 2021): not those that came to one window from opposite borders of the image."""
    height, width = size
    part = []
    for length in size:
        window = length // windows
        position = torch.arange(length)
        part.append((position >= length - window).int() + (position >= length - window // 2).int())
    region = 3 * part[0][:, None] + part[1][None]  # [H, W]
    cells = to_windows(region.view(1, height, width, 1), windows)  # [windows ** 2, L, 1]
    return (cells == cells.transpose(1, 2))[:, None]


class TransformerLayer(nn.Module):
    """Single-head attention of `source` to `target` in windows, then a two-layer perceptron where there is one."""

    def __init__(self, has_perceptron: bool) -> None:
        super().__init__()
        self.q_proj = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.k_proj = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.v_proj = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.merge = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.mlp = None
        if has_perceptron:
            wide = 8 * CHANNELS
            self.mlp = nn.Sequential(
                nn.Linear(2 * CHANNELS, wide, bias=False), nn.GELU(), nn.Linear(wide, CHANNELS, bias=False)
            )
            self.norm2 = nn.LayerNorm(CHANNELS)

    def forward(
        self, source: torch.Tensor, target: torch.Tensor, windows: int, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """`source` and `target` are `[B, H, W, C]`. With a mask, windows are shifted by half of their size."""
        size = source.shape[1], source.shape[2]
        shift = (size[0] // windows // 2, size[1] // windows // 2) if mask is not None else (0, 0)
        query, key, value = (
            to_windows(projected.roll((-shift[0], -shift[1]), (1, 2)), windows)[:, None]
            for projected in (self.q_proj(source), self.k_proj(target), self.v_proj(target))
        )
        if mask is not None:
            mask = mask.repeat(len(source), 1, 1, 1)
        message = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)[:, 0]
        message = from_windows(message, windows, size).roll(shift, (1, 2))
        message = self.norm1(self.merge(message))
        if self.mlp is not None:
            message = self.norm2(self.mlp(torch.cat([source, message], dim=-1)))
        return source + message


class TransformerBlock(nn.Module):
    """Attention of each frame to itself, then to the other frame."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = TransformerLayer(has_perceptron=False)
        self.cross_attn_ffn = TransformerLayer(has_perceptron=True)

    def forward(self, frames: torch.Tensor, windows: int, mask: torch.Tensor | None) -> torch.Tensor:
        """`frames` is `[2B, H, W, C]`: all first frames, then all second ones."""
        others = frames.roll(len(frames) // 2, 0)
        frames = self.self_attn(frames, frames, windows, mask)
        return self.cross_attn_ffn(frames, others, windows, mask)


class FeatureTransformer(nn.Module):
    """Features of both frames that have seen each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerBlock() for _ in range(LAYERS))

    def forward(self, first: torch.Tensor, second: torch.Tensor, windows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`[B, C, H, W]` twice; the same shapes are returned."""
        frames = torch.cat([first, second]).permute(0, 2, 3, 1)  # [2B, H, W, C]
        size = frames.shape[1], frames.shape[2]
        encoding = position_encoding(size[0] // windows, size[1] // windows).to(frames)
        frames = frames + encoding.repeat(windows, windows, 1)
        mask = shift_mask(size, windows).to(frames.device)
        for number, layer in enumerate(self.layers):
            frames = layer(frames, windows, mask if number % 2 else None)
        first, second = frames.permute(0, 3, 1, 2).contiguous().chunk(2)
        return first, second


def match_globally(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Flow `[B, 2, H, W]` in cells: the mean position in `second`, weighted by similarity, minus one's own
    position (the paper's section "Formulation"). Features are `[B, C, H, W]`."""
    _, channels, height, width = first.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack([columns, rows]).to(first)[None]  # [1, 2, H, W]
    similarity = first.flatten(2).transpose(1, 2) @ second.flatten(2) / channels**0.5  # [B, HW, HW]
    matched = positions.flatten(2) @ similarity.softmax(dim=2).transpose(1, 2)  # [B, 2, HW]
    return matched.view(-1, 2, height, width) - positions


def shifted(image: torch.Tensor, radius: int) -> list[torch.Tensor]:
    """`image` `[B, C, H, W]` seen from all cells at most `radius` away, row by row; 0 outside."""
    height, width = image.shape[2:]
    padded = F.pad(image, [radius] * 4)
    reach = range(2 * radius + 1)
    return [padded[:, :, y : y + height, x : x + width] for y in reach for x in reach]


def match_locally(first: torch.Tensor, second: torch.Tensor, radius: int) -> torch.Tensor:
    """As `match_globally`, among the cells of `second` at most `radius` away."""
    channels, is_inside = first.shape[1], torch.ones_like(first[:1, :1])
    similarity = torch.cat(
        [
            (first * seen).sum(dim=1, keepdim=True).where(inside > 0, -math.inf)
            for seen, inside in zip(shifted(second, radius), shifted(is_inside, radius), strict=True)
        ],
        dim=1,
    )  # [B, (2 radius + 1) ** 2, H, W]
    weights = (similarity / channels**0.5).softmax(dim=1)
    reach = torch.arange(-radius, radius + 1).to(first)
    offsets = torch.cartesian_prod(reach, reach).flip(1)  # [(2 radius + 1) ** 2, 2], x and y
    return torch.einsum("bkhw,kc->bchw", weights, offsets)


class FlowPropagation(nn.Module):
    """Flow averaged over cells with similar features, so that cells without a match get flow (the
    paper's section "Flow Propagation")."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(CHANNELS, CHANNELS)
        self.k_proj = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, features: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """Among all cells. Features are `[B, C, H, W]`, flow is `[B, 2, H, W]`."""
        query = self.q_proj(features.flatten(2).transpose(1, 2))  # [B, HW, C]
        key = self.k_proj(query)  # of the queries: so the weights were trained
        return F.scaled_dot_product_attention(query, key, flow.flatten(2).transpose(1, 2)).mT.view_as(flow)

    def among_neighbors(self, features: torch.Tensor, flow: torch.Tensor, radius: int) -> torch.Tensor:
        """As `forward`, among cells at most `radius` away; outside of the image, features and flow are 0."""
        cells = features.permute(0, 2, 3, 1)
        query, key = (projection(cells).permute(0, 3, 1, 2) for projection in (self.q_proj, self.k_proj))
        similarity = torch.stack([(query * seen).sum(dim=1) for seen in shifted(key, radius)])  # [K, B, H, W]
        weights = (similarity / CHANNELS**0.5).softmax(dim=0)
        return (weights[:, :, None] * torch.stack(shifted(flow, radius))).sum(dim=0)


class GmflowNetwork(nn.Module):
    """Flow from one frame to another, by global matching and one refinement.

    Weights are those of the authors' `gmflow_with_refine` models.

    Args:
        dtype (`torch.dtype`): number format of the features (autocast). Matching and flow are always in float32, since
            positions in an image need more digits than bfloat16 has.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.backbone = Backbone()
        self.transformer = FeatureTransformer()
        self.feature_flow_attn = FlowPropagation()
        self.upsampler = nn.Sequential(
            nn.Conv2d(2 + CHANNELS, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * UPSAMPLING**2, 1)
        )

    def encode(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of frames, at two scales.

        Args:
            frames (`torch.Tensor`): float `[B, 3, H, W]`, RGB in [0, 1]; H and W are multiples of 32.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: `[B, 128, H / 8, W / 8]` and `[B, 128, H / 4, W / 4]`.
        """
        mean, deviation = (frames.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        with self._autocast(frames.device):
            coarse, fine = self.backbone((frames - mean) / deviation)
        return coarse.to(frames), fine.to(frames)

    def forward(self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
        """Computes flow from some frames to others, from the features that `encode` returns.

        Returns:
            `torch.Tensor`: `[B, 2, H, W]`, in pixels.
        """
        features, others = self._attend(first[0], second[0], WINDOWS[0])
        flow = self.feature_flow_attn(features, match_globally(features, others))

        flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
        features, others = self._attend(first[1], warp(second[1], flow), WINDOWS[1])
        flow = flow + match_locally(features, others, MATCHING_RADIUS)
        flow = self.feature_flow_attn.among_neighbors(features, flow, PROPAGATION_RADIUS)
        return self.upsample(flow, features)

    def _attend(self, first: torch.Tensor, second: torch.Tensor, windows: int) -> tuple[torch.Tensor, torch.Tensor]:
        with self._autocast(first.device):
            features, others = self.transformer(first, second, windows)
        return features.to(first), others.to(first)

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)

    def upsample(self, flow: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Each pixel gets a convex combination of the flow of the 9 cells around it (Teed & Deng, ECCV 2020)."""
        batch, _, height, width = flow.shape
        weights = self.upsampler(torch.cat([flow, features], dim=1))
        weights = weights.view(batch, 9, UPSAMPLING**2, height, width).softmax(dim=1)
        neighbors = torch.stack(shifted(UPSAMPLING * flow, 1), dim=1)  # [B, 9, 2, h, w]
        pixels = torch.einsum("bnphw,bnchw->bcphw", weights, neighbors)
        return F.pixel_shuffle(pixels.flatten(1, 2), UPSAMPLING)


def warp(features: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Features `[B, C, H, W]` at the ends of flow; outside of the image they fade to 0 within one cell."""
    size = features.shape[2:]
    padded = F.pad(features, [1] * 4)
    inner = F.pad(flow, [1] * 4)
    return backward_warp(padded, inner)[:, :, 1 : 1 + size[0], 1 : 1 + size[1]]
