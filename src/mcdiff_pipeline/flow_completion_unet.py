# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""F of MCDiff (arXiv 2304.14404): a UNet that completes a few strokes to dense flow, by regression."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import AttentionMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block, get_up_block
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


# Channels of `region_channels`, without the spread of strokes.
REGION_CHANNELS = 6
# Channels for regions are multiplied by this. Their weights are zero at first in a model that learns to read regions,
# and larger inputs give larger gradients, so that it learns sooner.
REGION_INPUT_SCALE = 3.0
# Ridge in the similarity of a region's strokes, in squared cells. It holds back rotation and growth if the strokes are
# close to each other, where small errors of the strokes would turn into large motion far away. With 4, three strokes
# on a thing of ten by ten cells turned it a tenth too little.
FIT_RIDGE = 1.0
# The gate of the fit starts at 1 / (1 + exp(3)), which is 5 %.
GATE_BIAS = -3.0
# Principal components of the semantic features that are compared, and how many of these are further input channels.
FEATURE_COMPONENTS, FEATURE_INPUTS = 64, 16
# A whitened component beyond this many standard deviations is cut off.
FEATURE_LIMIT = 4.0
# Other input channels of `StrokeAttention`: similarity to moves, to holds, and their difference; the flow by attention
# and how much attention strokes get; the flow of the local similarity.
ATTENTION_CHANNELS = 3 + 3 + 2
# Strokes beyond this number are only read as sparse flow.
ATTENTION_STROKES = 64
# Attention to a stroke begins as exp(cosine / 0.12), against exp(0.2 / 0.12) for "no stroke": the values of a trial in
# which they were not tuned. All are trained.
ATTENTION_TEMPERATURE, ATTENTION_THRESHOLD, ATTENTION_LOCALITY = 0.12, 0.2, 2.0
# The gates of the two flows start at exp(-1) to 1 for the flow of the UNet.
ATTENTION_GATE_BIAS = -1.0
# A displacement below this, in pixels, is a hold.
HOLD = 0.25


@dataclass
class FlowCompletionOutput(BaseOutput):
    """
    Output of [`FlowCompletionUNet`].

    Args:
        dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Forward flow in pixels of the working resolution, one vector for every latent cell; channel 0 points
            right, channel 1 points down.
        foreground (`torch.Tensor` of shape `(batch_size, 1, height, width)`, *optional*):
            Share of each cell that people and objects cover, from 0 to 1; only from a model with
            `separate_foreground`.
    """

    dense_flow: torch.Tensor
    foreground: torch.Tensor | None = None


def spread_strokes(displacement: torch.Tensor, mask: torch.Tensor, num_levels: int) -> torch.Tensor:
    """
    Spread what the strokes specify over neighborhoods of several sizes, to every cell of the grid.

    A stroke is one cell in a thousand. Without this input a UNet needs thousands of training steps to notice it. At
    each level, displacements are averaged over the specified cells in windows of 2, 4, 8, ... cells (normalized
    averaging, Knutsson and Westin 1993) and interpolated between the windows.

    Args:
        displacement (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Displacements; read only where `mask` is set.
        mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool):
            True where a stroke specifies the displacement.
        num_levels (`int`):
            Number of window sizes.

    Returns:
        `torch.Tensor` of shape `(batch_size, 3 * num_levels, height, width)`, float32: for each level the mean
        displacement, 0 where no stroke is near, and the number of strokes nearby, at most 1.
    """
    height, width = mask.shape[2:]
    total = torch.cat([torch.where(mask, displacement.float(), 0.0), mask.float()], dim=1)  # [B, 2 + 1, h, w]
    levels = []
    for level in range(1, num_levels + 1):
        window = 2**level
        near = F.avg_pool2d(total, window, ceil_mode=True, divisor_override=1)
        near = F.interpolate(near, scale_factor=window, mode="bilinear")[:, :, :height, :width]
        number = near[:, 2:]
        # far from a stroke its interpolated weight fades out, and the small constant fades its displacement as well
        levels += [near[:, :2] / (number + 1e-2), number.clamp(max=1)]
    return torch.cat(levels, dim=1)


def region_channels(
    displacement: torch.Tensor,
    mask: torch.Tensor,
    regions: torch.Tensor,
    region_displacement: torch.Tensor,
    region_mask: torch.Tensor,
    num_levels: int,
) -> torch.Tensor:
    """
    What the strokes of a region specify, for every cell of the region.

    A cell that belongs to several regions, or to one in part, gets the mean by shares. All values of a sample without
    regions are 0.

    Args:
        displacement (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Displacements of all strokes; read only where `mask` is set.
        mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool):
            True where any stroke specifies the displacement.
        regions (`torch.Tensor` of shape `(batch_size, num_regions, height, width)`, float32):
            Share of each cell that belongs to each region.
        region_displacement (`torch.Tensor` of shape `(batch_size, num_regions, 2, height, width)`, float32):
            Displacements of the strokes of each region; 0 where `region_mask` is not set.
        region_mask (`torch.Tensor` of shape `(batch_size, num_regions, 1, height, width)`, bool):
            True where a stroke of the region specifies the displacement.
        num_levels (`int`):
            Number of window sizes, see [`spread_strokes`].

    Returns:
        `torch.Tensor` of shape `(batch_size, 6 + 3 * num_levels, height, width)`, float32: the mean displacement of
        the region's strokes (2), whether there are any, whether the cell belongs to a region, the outline between
        regions, whether regions are given; and [`spread_strokes`] of the strokes that belong to the same region, or
        outside of regions of the strokes that belong to none.
    """
    batch_size, num_regions, height, width = regions.shape
    outside = 1 - regions.sum(dim=1, keepdim=True)
    given = (regions.flatten(1).sum(dim=1) > 0).float()[:, None, None, None]

    # No product of matrices, since autocast would round it.
    count = region_mask.float().sum(dim=(3, 4), keepdim=True)  # [B, K, 1, 1, 1]
    mean = region_displacement.sum(dim=(3, 4), keepdim=True) / count.clamp_min(1)  # [B, K, 2, 1, 1]
    stroked = torch.cat([mean, (count > 0).float()], dim=2)  # [B, K, 2 + 1, 1, 1]
    channels = [(regions[:, :, None] * stroked).sum(dim=1), 1 - outside]

    # The outline is half the sum of the differences between the shares of neighboring cells, so at most 1.
    shares = torch.cat([regions, outside], dim=1)  # [B, K + 1, h, w]
    columns = shares.diff(dim=3).abs().sum(dim=1, keepdim=True) / 2
    rows = shares.diff(dim=2).abs().sum(dim=1, keepdim=True) / 2
    neighbors = [F.pad(columns, (1, 0)), F.pad(columns, (0, 1)), F.pad(rows, (0, 0, 1, 0)), F.pad(rows, (0, 0, 0, 1))]
    channels += [torch.cat(neighbors, dim=1).amax(dim=1, keepdim=True), given.expand(-1, 1, height, width)]

    if num_levels > 0:
        others = mask & ~region_mask.any(dim=1)  # strokes that belong to no region
        masks = torch.cat([region_mask, others[:, None]], dim=1)
        displacements = torch.cat([region_displacement, displacement.float()[:, None]], dim=1)
        spread = spread_strokes(displacements.flatten(0, 1), masks.flatten(0, 1), num_levels)
        spread = spread.unflatten(0, (batch_size, num_regions + 1))  # [B, K + 1, 3 * levels, h, w]
        channels.append((shares[:, :, None] * spread).sum(dim=1) * given)
    return torch.cat(channels, dim=1)


def fit_regions(
    regions: torch.Tensor, displacement: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Move each region by the similarity (translation, rotation, growth) that fits its strokes best.

    This is ridge regression of the displacements `(s R - I) p + t` on the positions `p` of the strokes, where rotation
    and growth `s R - I` have the form `[[a, -b], [b, a]]`. The ridge is [`FIT_RIDGE`]. One stroke gives its
    translation.

    Args:
        regions (`torch.Tensor` of shape `(batch_size, num_regions, height, width)`, float32):
            Share of each cell that belongs to each region.
        displacement (`torch.Tensor` of shape `(batch_size, num_regions, 2, height, width)`, float32):
            Displacements of the strokes of each region; 0 where `mask` is not set.
        mask (`torch.Tensor` of shape `(batch_size, num_regions, 1, height, width)`, bool):
            True where a stroke of the region specifies the displacement.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`, both float32: the share of each cell that belongs to regions with strokes,
        `(batch_size, 1, height, width)`, and the flow of these regions times their shares,
        `(batch_size, 2, height, width)`.
    """
    height, width = regions.shape[2:]
    columns = torch.arange(width, device=regions.device, dtype=torch.float32).expand(height, width)
    rows = torch.arange(height, device=regions.device, dtype=torch.float32)[:, None].expand(height, width)
    position = torch.stack([columns, rows])  # [2, h, w] (x, y)

    weight = mask.float()
    count = weight.sum(dim=(3, 4), keepdim=True)  # [B, K, 1, 1, 1]
    mean = displacement.sum(dim=(3, 4), keepdim=True) / count.clamp_min(1)  # [B, K, 2, 1, 1]
    center = (weight * position).sum(dim=(3, 4), keepdim=True) / count.clamp_min(1)
    offset = position - center  # [B, K, 2, h, w]
    turned = torch.stack([-offset[:, :, 1], offset[:, :, 0]], dim=2)  # by 90 degrees

    residual = weight * (displacement - mean)
    total = (weight * offset).square().sum(dim=(2, 3, 4), keepdim=True) + FIT_RIDGE
    a = (offset * residual).sum(dim=(2, 3, 4), keepdim=True) / total
    b = (turned * residual).sum(dim=(2, 3, 4), keepdim=True) / total
    shares = regions[:, :, None] * (count > 0)  # [B, K, 1, h, w]
    return shares.sum(dim=1), (shares * (mean + a * offset + b * turned)).sum(dim=1)


def shrink_small_motion(
    flow: torch.Tensor, displacement: torch.Tensor, mask: torch.Tensor, from_strokes: torch.Tensor, threshold: float
) -> torch.Tensor:
    """
    Make flow still where it is small beside the motion of the strokes.

    A network that is trained on the error of flow is rarely exactly still, and what it leaves behind adds up over the
    frames. A vector of length `n` becomes `n^4 / (n^4 + s^4)` times itself, where `s` is `threshold` times the
    harmonic mean of the strokes' displacements. In the harmonic mean slow strokes count most, so that a slow stroke is
    followed beside fast ones.

    Args:
        flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Flow, in any unit.
        displacement (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Displacements that the strokes specify, in the same unit; read only where `mask` is set. Holds do not
            count. If nothing else is specified, flow stays as it is.
        mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool):
            True where a stroke specifies the displacement.
        from_strokes (`torch.Tensor` of shape `(batch_size, 1, height, width)`):
            Share of the flow of each cell, in [0, 1], that is the motion of strokes and stays as it is.
        threshold (`float`):
            Share of the strokes' motion.

    Returns:
        `torch.Tensor`: the flow, in its shape and dtype.
    """
    length = displacement.float().square().sum(dim=1, keepdim=True).sqrt()
    moves = mask & (length > 0)
    inverse = torch.where(moves, length, torch.inf).reciprocal()
    scale = threshold * moves.flatten(1).sum(dim=1) / inverse.flatten(1).sum(dim=1).clamp_min(1e-12)
    fourth_power = flow.float().square().sum(dim=1, keepdim=True).square()
    limit = scale.square().square()[:, None, None, None]
    kept = fourth_power / (fourth_power + limit).clamp_min(1e-30)
    kept = torch.where(limit > 0, kept + from_strokes.float() * (1 - kept), 1.0)
    return (flow * kept).to(flow.dtype)


class StrokeAttention(nn.Module):
    r"""
    Lets each cell follow the strokes that are on something alike, by semantic features of the image.

    A cell pays attention to a stroke by how similar the features at both are, and by how near it is, with "no stroke"
    as a further choice:

        logit = cosine / temperature - locality * (distance / side) ** 2
        logit of "no stroke" = threshold / temperature

    where the features are whitened principal components after a trained linear map, `side` is the geometric mean of
    the sides of the grid, and temperature, threshold and locality are trained. From this follow two flows: the mean of
    the strokes' displacements by attention, and the similarity transform that fits them best by squared attention, for
    each cell another one (moving least squares; Schaefer, McPhail and Warren 2006), with the ridge of [`fit_regions`].
    Attention is squared there, since a stroke on another thing is far away, where even a small weight turns or grows
    the fit.

    Args:
        feature_channels (`int`):
            Channels of the features.
    """

    mean: torch.Tensor
    projection: torch.Tensor

    def __init__(self, feature_channels: int):
        super().__init__()
        components = min(FEATURE_COMPONENTS, feature_channels)
        self.num_inputs = min(FEATURE_INPUTS, components)
        # what FlowCompletionUNet.set_feature_basis sets
        self.register_buffer("mean", torch.zeros(feature_channels))
        self.register_buffer("projection", torch.eye(components, feature_channels))
        self.metric = nn.Parameter(torch.eye(components))
        self.log_sharpness = nn.Parameter(torch.tensor(-math.log(ATTENTION_TEMPERATURE)))
        self.threshold = nn.Parameter(torch.tensor(ATTENTION_THRESHOLD))
        self.log_locality = nn.Parameter(torch.tensor(math.log(ATTENTION_LOCALITY)))

    @property
    def num_channels(self) -> int:
        """Number of channels that the model reads."""
        return self.num_inputs + ATTENTION_CHANNELS

    @property
    def num_reduced(self) -> int:
        """Number of channels of reduced features."""
        return self.projection.shape[0] + 1

    def reduce(self, features: torch.Tensor) -> torch.Tensor:
        """See [`FlowCompletionUNet.reduce_features`]."""
        if features.shape[1] == self.num_reduced:
            return features
        given = features.flatten(1).any(dim=1).float()[:, None, None, None]
        centered = features.float() - self.mean.float()[:, None, None]
        whitened = torch.einsum("kc,bchw->bkhw", self.projection.float(), centered)
        return torch.cat([whitened * given, given.expand(-1, -1, *features.shape[2:])], dim=1)

    def forward(
        self, features: torch.Tensor, displacement: torch.Tensor, mask: torch.Tensor, hold: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Compare all cells with the strokes.

        Args:
            features (`torch.Tensor` of shape `(batch_size, feature_channels, feature_height, feature_width)`):
                Features of the frame, all zeros in a sample without them; or these, reduced.
            displacement (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
                Displacements; read only where `mask` is set.
            mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool):
                True where a stroke specifies the displacement.
            hold (`float`):
                A shorter displacement is a hold.

        Returns:
            `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`, float32: input channels, `(batch_size, num_channels,
            height, width)`, and the two flows, `(batch_size, 2, 2, height, width)`, zeros in a sample without
            features; and which samples have features, 0 or 1 `(batch_size,)`.
        """
        # Attention and fit are differences of sums, which bfloat16 or float16 would spoil.
        with torch.autocast(mask.device.type, enabled=False):
            return self._compare(self.reduce(features), displacement.float(), mask, hold)

    def _compare(
        self, features: torch.Tensor, displacement: torch.Tensor, mask: torch.Tensor, hold: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch_size, _, height, width = mask.shape
        are_given = (features[:, -1].flatten(1).amax(dim=1) > 0.5).float()
        given = are_given[:, None, None]  # [B, 1, 1]
        whitened = features[:, :-1].clamp(-FEATURE_LIMIT, FEATURE_LIMIT)
        whitened = F.interpolate(whitened, (height, width), mode="bilinear", align_corners=False)
        compared = torch.einsum("kl,blhw->bkhw", self.metric.float(), whitened).flatten(2)
        compared = F.normalize(compared, dim=1)  # [B, K, cells]

        # the cells with strokes, padded by others
        order = mask.flatten(1).float().topk(min(ATTENTION_STROKES, height * width), dim=1)
        is_stroke, places = order.values[:, None] > 0, order.indices[:, None]  # [B, 1, S]
        at_strokes = compared.gather(2, places.expand(-1, compared.shape[1], -1))
        moved = displacement.flatten(2).gather(2, places.expand(-1, 2, -1))
        moved = torch.where(is_stroke, moved, 0.0)  # [B, 2, S]
        cosine = compared.transpose(1, 2) @ at_strokes  # [B, cells, S]

        is_hold = moved.norm(dim=1, keepdim=True) < hold
        nearest = [
            cosine.masked_fill(~(is_stroke & kind), -1.0).amax(dim=2) * (is_stroke & kind).any(dim=2)
            for kind in (~is_hold, is_hold)
        ]  # similarity to the most similar move and hold, 0 without one

        position = _positions(height, width, mask.device).flatten(1)  # [2, cells] (x, y) from the center
        stroke_position = position.expand(batch_size, -1, -1).gather(2, places.expand(-1, 2, -1))  # [B, 2, S]
        distance = (position[None, :, :, None] - stroke_position[:, :, None]).square().sum(dim=1)  # [B, cells, S]
        sharpness = self.log_sharpness.float().exp()
        logits = cosine * sharpness - self.log_locality.float().exp() * distance / (height * width)
        logits = logits.masked_fill(~is_stroke, -torch.inf)
        nothing = (self.threshold.float() * sharpness).expand(batch_size, height * width, 1)
        attention = torch.cat([logits, nothing], dim=2).softmax(dim=2)[:, :, :-1]

        average = attention @ moved.transpose(1, 2)  # [B, cells, 2]
        fit = _fit_locally(attention.square(), stroke_position, moved, position)
        flows = torch.stack([average.transpose(1, 2), fit], dim=1)  # [B, 2, 2, cells]
        channels = torch.cat(
            [
                torch.stack([*nearest, nearest[0] - nearest[1], attention.sum(dim=2)], dim=1),
                flows.flatten(1, 2),
            ],
            dim=1,
        )
        inputs = whitened[:, : self.num_inputs].flatten(2)
        channels = torch.cat([inputs, REGION_INPUT_SCALE * channels], dim=1) * given
        flows = flows * given[:, None]
        return channels.unflatten(2, (height, width)), flows.unflatten(3, (height, width)), are_given


def _positions(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Positions `[2, height, width]` (x, y) of the cells, from the center of the grid."""
    columns = torch.arange(width, device=device, dtype=torch.float32) - (width - 1) / 2
    rows = torch.arange(height, device=device, dtype=torch.float32) - (height - 1) / 2
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])


def _fit_locally(
    weight: torch.Tensor, stroke_position: torch.Tensor, moved: torch.Tensor, position: torch.Tensor
) -> torch.Tensor:
    """
    For each cell, the flow of the similarity that fits the strokes best by the weights of that cell.

    The weights of a cell are divided by their sum. The ridge is divided by the effective number of strokes (Kish
    1965), so that equal weights give the fit of [`fit_regions`].

    Args:
        weight (`torch.Tensor` of shape `(batch_size, cells, strokes)`): Weight of each stroke for each cell.
        stroke_position, moved (`torch.Tensor` of shape `(batch_size, 2, strokes)`): The strokes.
        position (`torch.Tensor` of shape `(2, cells)`): The cells.

    Returns:
        `torch.Tensor` of shape `(batch_size, 2, cells)`.
    """
    total = weight.sum(dim=2, keepdim=True).clamp_min(1e-12)
    weight = weight / total
    ridge = FIT_RIDGE * weight.square().sum(dim=2)[:, None]  # [B, 1, cells]
    turned = torch.stack([-stroke_position[:, 1], stroke_position[:, 0]], dim=1)
    products = [
        stroke_position.square().sum(dim=1, keepdim=True),
        (stroke_position * moved).sum(dim=1, keepdim=True),
        (turned * moved).sum(dim=1, keepdim=True),
    ]
    moments = torch.cat([stroke_position, moved, *products], dim=1) @ weight.transpose(1, 2)  # [B, 7, cells]
    center, mean, square, along, across = moments.split((2, 2, 1, 1, 1), dim=1)
    turned_center = torch.stack([-center[:, 1], center[:, 0]], dim=1)
    variance = (square - center.square().sum(dim=1, keepdim=True)).clamp_min(0) + ridge + 1e-6
    a = (along - (center * mean).sum(dim=1, keepdim=True)) / variance
    b = (across - (turned_center * mean).sum(dim=1, keepdim=True)) / variance
    offset = position - center
    return mean + a * offset + b * torch.stack([-offset[:, 1], offset[:, 0]], dim=1)


class FlowCompletionUNet(ModelMixin, AttentionMixin, ConfigMixin):
    r"""
    The flow completion model F of MCDiff: `d_i = F(x_i, s_i)`, deterministic, no diffusion.

    It reads the latent of the current frame and the sparse flow of one step on the same grid. A cell that no stroke
    specifies holds a **learnable embedding** instead of a displacement, and a mask says which cells are specified, so
    that "hold still" (zero displacement, specified) and "free to move" (unspecified) are different inputs.

    A model with `reads_regions` can also be told which cells belong together, and which strokes belong to them. A
    model with `feature_channels` finds that out by itself, from semantic features of the image ([`StrokeAttention`]).

    The defaults give 10 M parameters. `block_out_channels=(224, 448, 672, 896)` with four levels gives 261 M, the size
    of the UNet of LDM-4 (Rombach et al. 2022); `(32, 64, 64)` with `layers_per_block=1` gives 1 M.

    Parameters:
        in_channels (`int`, defaults to 4):
            Channels of the latent of the current frame.
        block_out_channels (`tuple[int, ...]`, defaults to `(64, 128, 192)`):
            Channels of each level, finest first. Each level after the first halves the grid.
        down_block_types (`tuple[str, ...]`, *optional*):
            diffusers' 2D block type of each level, `"DownBlock2D"` or `"AttnDownBlock2D"`.
        up_block_types (`tuple[str, ...]`, *optional*):
            Block types on the way up, coarsest first, `"UpBlock2D"` or `"AttnUpBlock2D"`.
        layers_per_block (`int`, defaults to 2):
            ResNet layers of each level.
        attention_head_dim (`int`, defaults to 32):
            Channels of one attention head.
        norm_num_groups (`int`, defaults to 32):
            Groups of the group normalization; divides every entry of `block_out_channels`.
        dropout (`float`, defaults to 0.0):
            Dropout probability inside the ResNet layers.
        vae_scale_factor (`int`, defaults to 4):
            Pixels along one side of a latent cell.
        flow_scale (`float`, defaults to 1.0):
            Displacement, in latent cells, that is 1.0 inside the network.
        num_spread_levels (`int`, defaults to 5):
            Window sizes over which the strokes are spread as further input, see [`spread_strokes`]; 0 is the paper's
            plain form.
        separate_foreground (`bool`, defaults to `False`):
            Whether to predict two flows, one of people and objects and one of the background, and the share of each
            cell that people and objects cover. The flows are mixed by this share (layers of motion, Wang and Adelson
            1994), so flow can be smooth on a body and end at its outline.
        sample_size (`int`, *optional*):
            Latent cells along one side of the square grid that the model was trained at. The model itself runs at any
            size; the pipeline runs it at about this area, whatever the working size. None: at the working size.
        reads_regions (`bool`, defaults to `False`):
            Whether the model reads regions, as further input channels ([`region_channels`]).
        fits_regions (`bool`, defaults to `False`):
            Whether the model also gets the similarity that the strokes of each region suggest ([`fit_regions`]): as
            input, and through a gate `g` that it predicts, `flow + g * (fit - flow)`. Needs `reads_regions`.
        feature_channels (`int`, *optional*):
            Channels of the semantic features that the model reads, such as the tokens of DINOv2 (Oquab et al. 2023),
            384 of the small one. [`StrokeAttention`] makes input channels and two flows of them. The dense flow is the
            mean of these flows and that of the UNet, by weights that the model predicts. None: it reads no features.
        max_displacement (`float`, *optional*):
            Displacement of one step, in pixels, that only 0.1 % of the training data exceeds. The model computes
            nothing with it: faster strokes give a warning. None: it is not known.
        motion_threshold (`float`, defaults to 0.0):
            Flow below this share of the motion of the strokes becomes still, unless it comes from a stroke through
            semantic features or regions ([`shrink_small_motion`]). Not while training. 0 leaves all flow as it is.

    Raises:
        ValueError: If `block_out_channels`, `down_block_types` and `up_block_types` differ in length, if
            `fits_regions` is set without `reads_regions`, or if `motion_threshold` is not in [0, 1).
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ResnetBlock2D", "Attention"]
    _skip_layerwise_casting_patterns = ["norm"]
    _repeated_blocks = ["ResnetBlock2D"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        block_out_channels: tuple[int, ...] = (64, 128, 192),
        down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block: int = 2,
        attention_head_dim: int = 32,
        norm_num_groups: int = 32,
        dropout: float = 0.0,
        vae_scale_factor: int = 4,
        flow_scale: float = 1.0,
        num_spread_levels: int = 5,
        separate_foreground: bool = False,
        sample_size: int | None = None,
        reads_regions: bool = False,
        fits_regions: bool = False,
        feature_channels: int | None = None,
        max_displacement: float | None = None,
        motion_threshold: float = 0.0,
    ):
        super().__init__()
        if not len(block_out_channels) == len(down_block_types) == len(up_block_types):
            raise ValueError(
                f"`block_out_channels` ({len(block_out_channels)} levels), `down_block_types` "
                f"({len(down_block_types)}) and `up_block_types` ({len(up_block_types)}) describe the same levels: "
                "give as many of each."
            )
        if fits_regions and not reads_regions:
            raise ValueError(
                "`fits_regions` is True, but `reads_regions` is False, so there are no regions to fit: set both or "
                "neither."
            )
        if not 0 <= motion_threshold < 1:
            raise ValueError(
                f"`motion_threshold` is {motion_threshold}, but it is a share of the motion of strokes, in [0, 1): 0 "
                "leaves all flow as it is."
            )

        # what an unspecified cell holds in place of its displacement (section 3 of the paper)
        self.unspecified = nn.Parameter(torch.randn(2))
        num_input_channels = in_channels + 2 + 1 + 3 * num_spread_levels
        if reads_regions:
            num_input_channels += REGION_CHANNELS + 3 * num_spread_levels + (2 if fits_regions else 0)
        if feature_channels is not None:
            self.stroke_attention = StrokeAttention(feature_channels)
            num_input_channels += self.stroke_attention.num_channels
        self.conv_in = nn.Conv2d(num_input_channels, block_out_channels[0], kernel_size=3, padding=1)

        block_arguments = {
            "temb_channels": None,
            "resnet_eps": 1e-5,
            "resnet_act_fn": "silu",
            "resnet_groups": norm_num_groups,
            "attention_head_dim": attention_head_dim,
            "dropout": dropout,
        }
        self.down_blocks = _make_down_blocks(down_block_types, block_out_channels, layers_per_block, block_arguments)
        self.mid_block = UNetMidBlock2D(in_channels=block_out_channels[-1], **block_arguments)
        self.up_blocks = _make_up_blocks(up_block_types, block_out_channels, layers_per_block, block_arguments)

        channels = block_out_channels[0]
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, channels, eps=1e-5)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(channels, 5 if separate_foreground else 2, kernel_size=3, padding=1)
        if fits_regions:
            self.conv_gate = nn.Conv2d(channels, 1, kernel_size=3, padding=1)
            nn.init.zeros_(self.conv_gate.weight)
            nn.init.constant_(cast(nn.Parameter, self.conv_gate.bias), GATE_BIAS)
        if feature_channels is not None:
            self.conv_attention_gate = nn.Conv2d(channels, 2, kernel_size=3, padding=1)
            nn.init.zeros_(self.conv_attention_gate.weight)
            nn.init.constant_(cast(nn.Parameter, self.conv_attention_gate.bias), ATTENTION_GATE_BIAS)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> Self:
        r"""
        Load a model as [`ModelMixin.from_pretrained`] does, but from safetensors only, never from a pickle.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                Folder of [`~ModelMixin.save_pretrained`], or the name of a Hub repository.
            kwargs:
                Those of [`ModelMixin.from_pretrained`].

        Raises:
            ValueError: If `use_safetensors` is False, or weights are missing or left over.
            OSError: If there are no safetensors, or the Hub cannot be reached.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                "`use_safetensors` is False, but a pickle can run any code, so only safetensors are read: leave it "
                "out, and take weights that end in .safetensors."
            )
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, **kwargs | {"use_safetensors": True, "output_loading_info": True}
        )
        for keys, what in (("missing_keys", "lack"), ("unexpected_keys", "hold what this network does not have,")):
            if names := sorted(info[keys]):
                raise ValueError(
                    f"The weights in {pretrained_model_name_or_path} {what} {names[0]} and {len(names) - 1} more: "
                    "take weights and config.json from the same model."
                )
        return (model, info) if wants_info else model  # type: ignore[return-value]

    @classmethod
    def widened(
        cls,
        model: Self,
        reads_regions: bool | None = None,
        fits_regions: bool | None = None,
        feature_channels: int | None = None,
    ) -> Self:
        r"""
        A copy of a model that also reads regions or semantic features, to be trained.

        The weights of the new input channels are zero, so the flow is as before if neither regions nor features are
        given. If they are, it differs by as much as the new gates are open.

        Args:
            model ([`FlowCompletionUNet`]):
                The model, which stays as it is.
            reads_regions (`bool`, *optional*):
                Whether the copy reads regions; None: as the model does.
            fits_regions (`bool`, *optional*):
                Whether the copy gets the similarity that the strokes of each region suggest; None: as the model does.
            feature_channels (`int`, *optional*):
                Channels of the features that the copy reads; None: as the model does.

        Raises:
            ValueError: If the model has one of them already, and the copy would have it no more or in another size.
        """
        wanted = {"reads_regions": reads_regions, "fits_regions": fits_regions, "feature_channels": feature_channels}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        for name, value in wanted.items():
            if model.config[name] and model.config[name] != value:
                raise ValueError(
                    f"`{name}` is {value}, but the model was made with {model.config[name]}: a copy can only have "
                    "more inputs, so leave the argument out."
                )
        # Not `from_config`: for a model that was loaded from an older config, it ignores the new values, because the
        # config lists them in `_use_default_values`.
        config = {name: value for name, value in model.config.items() if not name.startswith("_")}
        widened = cls(**config | wanted)
        widened.to(model.device).train(model.training)
        if model.dtype != widened.dtype:
            widened.to(model.dtype)

        channels, old_channels = widened._input_channels(), model._input_channels()
        if sum(channels) != widened.conv_in.in_channels or sum(old_channels) != model.conv_in.in_channels:
            raise RuntimeError(
                f"The copy has {widened.conv_in.in_channels} input channels and the model "
                f"{model.conv_in.in_channels}, but their configs say {sum(channels)} and {sum(old_channels)}: "
                f"{dict(widened.config)}."
            )
        weights, given = widened.state_dict(), model.state_dict()
        parts = given["conv_in.weight"].split(old_channels, dim=1)
        given["conv_in.weight"] = torch.cat(
            [
                F.pad(part, (0, 0, 0, 0, 0, number - part.shape[1]))
                for part, number in zip(parts, channels, strict=True)
            ],
            dim=1,
        )
        widened.load_state_dict(weights | given)
        return widened

    def _input_channels(self) -> list[int]:
        """Numbers of input channels: latent and strokes, regions, the fit of regions, features."""
        config = self.config
        spread = 3 * config.num_spread_levels
        return [
            config.in_channels + 2 + 1 + spread,
            REGION_CHANNELS + spread if config.reads_regions else 0,
            2 if config.fits_regions else 0,
            self.stroke_attention.num_channels if config.feature_channels is not None else 0,
        ]

    def set_feature_basis(self, mean: torch.Tensor, projection: torch.Tensor) -> None:
        r"""
        Set the whitened principal components of the semantic features.

        Args:
            mean (`torch.Tensor` of shape `(feature_channels,)`):
                Mean of the features.
            projection (`torch.Tensor` of shape `(num_components, feature_channels)`):
                Principal axes, most important first, each divided by the standard deviation along it. `num_components`
                is 64, or `feature_channels` if that is less.

        Raises:
            ValueError: If the model reads no features, or the shapes are others.
        """
        if self.config.feature_channels is None:
            raise ValueError(
                "This model reads no semantic features (`feature_channels` is None in its config), so it has no basis "
                "of them: widen the model by `FlowCompletionUNet.widened` first."
            )
        basis = self.stroke_attention
        if mean.shape != basis.mean.shape or projection.shape != basis.projection.shape:
            raise ValueError(
                f"`mean` and `projection` have the shapes {tuple(mean.shape)} and {tuple(projection.shape)}, but this "
                f"model needs {tuple(basis.mean.shape)} and {tuple(basis.projection.shape)}."
            )
        basis.mean.copy_(mean)
        basis.projection.copy_(projection)

    def forward(
        self,
        sample: torch.Tensor,
        sparse_flow: torch.Tensor,
        mask: torch.Tensor,
        regions: torch.Tensor | None = None,
        region_sparse_flow: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> FlowCompletionOutput | tuple[torch.Tensor, ...]:
        r"""
        Complete the sparse flow of one step.

        Args:
            sample (`torch.Tensor` of shape `(batch_size, in_channels, height, width)`):
                Scaled latent of the current frame.
            sparse_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
                Displacements in pixels; read only where `mask` is set.
            mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool):
                True where a stroke specifies the displacement.
            regions (`torch.Tensor` of shape `(batch_size, num_regions, height, width)`, *optional*):
                Share of each cell that belongs to each region, from 0 to 1; at most 1 in sum. Samples with fewer
                regions are padded by zeros, and all zeros mean that no regions are given.
            region_sparse_flow (`torch.Tensor` of shape `(batch_size, num_regions, 2, height, width)`, *optional*):
                Displacements in pixels of the strokes of each region; read only where `region_mask` is set. A stroke
                belongs to the region in which it starts, so its cell may lie outside of the region by now.
            region_mask (`torch.Tensor` of shape `(batch_size, num_regions, 1, height, width)`, bool, *optional*):
                True where a stroke of the region specifies the displacement.
            features (`torch.Tensor` of shape `(batch_size, feature_channels, rows, columns)`, *optional*):
                Semantic features of the frame, on a grid of any size. All zeros in a sample mean that it has none. Or
                what [`FlowCompletionUNet.reduce_features`] makes of them.
            return_dict (`bool`, defaults to `True`):
                Whether to return a [`FlowCompletionOutput`] instead of a tuple.

        Returns:
            [`FlowCompletionOutput`] or `tuple`: the dense flow, `(batch_size, 2, height, width)` in pixels; with
            `separate_foreground` also the foreground, `(batch_size, 1, height, width)`.

        Raises:
            ValueError: If the grid cannot be halved once for each level after the first, if the model does not read
                regions or no features but they are given, or if `regions`, `region_sparse_flow` and `region_mask` do
                not fit together.
        """
        self._check_inputs(sample, regions, region_sparse_flow, region_mask)
        self._check_features(sample, features)
        pixels_per_unit = self.config.vae_scale_factor * self.config.flow_scale

        displacement = (sparse_flow / pixels_per_unit).to(sample.dtype)
        unspecified = self.unspecified.to(sample.dtype)[None, :, None, None]
        inputs = [sample, torch.where(mask, displacement, unspecified), mask.to(sample.dtype)]
        if self.config.num_spread_levels > 0:
            inputs.append(spread_strokes(displacement, mask, self.config.num_spread_levels).to(sample.dtype))
        if self.config.reads_regions:
            channels, fitted, fit = self._read_regions(displacement, mask, regions, region_sparse_flow, region_mask)
            inputs.append((REGION_INPUT_SCALE * channels).to(sample.dtype))
        if self.config.feature_channels is not None:
            channels, attention_flows, has_features = self._read_features(displacement, mask, features)
            inputs.append(channels.to(sample.dtype))
        hidden_states = torch.cat(inputs, dim=1)  # [B, C + 2 + 1 + 3 * levels (+ regions) (+ features), h, w]
        hidden_states = self.run_blocks(hidden_states)  # [B, block_out_channels[0], h, w]
        flow = self.conv_out(hidden_states)  # [B, 2 or 2 + 2 + 1, h, w]

        foreground = None
        if self.config.separate_foreground:
            foreground_flow, background_flow, logit = flow.split((2, 2, 1), dim=1)
            foreground = logit.sigmoid()
            flow = foreground * foreground_flow + (1 - foreground) * background_flow
        gates = None
        if self.config.feature_channels is not None:
            logits = self.conv_attention_gate(hidden_states).float()
            gates = F.pad(logits, (0, 0, 0, 0, 1, 0)).softmax(dim=1)[:, 1:, None] * has_features  # [B, 2, 1, h, w]
            flow = (flow + (gates * (attention_flows - flow[:, None])).sum(dim=1)).to(flow.dtype)
        if self.config.motion_threshold > 0 and not self.training:
            from_strokes = torch.zeros_like(flow[:, :1]) if gates is None else gates.sum(dim=1)
            flow = shrink_small_motion(flow, displacement, mask, from_strokes, self.config.motion_threshold)
        if self.config.fits_regions:
            gate = self.conv_gate(hidden_states).float().sigmoid()
            flow = (flow + gate * (fit - fitted * flow)).to(flow.dtype)
        dense_flow = flow * pixels_per_unit  # [B, 2, h, w] pixels

        if not return_dict:
            return (dense_flow,) if foreground is None else (dense_flow, foreground)
        return FlowCompletionOutput(dense_flow=dense_flow, foreground=foreground)

    @apply_forward_hook
    def reduce_features(self, features: torch.Tensor) -> torch.Tensor:
        """
        Leave in semantic features what the model reads of them: their principal components.

        This is linear, so that means of reduced features, as in a splat, are reduced means. A rollout reduces the
        features of its first frame once, and has a sixth of the numbers to carry along.

        Args:
            features (`torch.Tensor` of shape `(batch_size, feature_channels, rows, columns)`):
                Semantic features; all zeros in a sample without them. Reduced ones are returned as they are.

        Returns:
            `torch.Tensor` of shape `(batch_size, components + 1, rows, columns)`, float32: the whitened components,
            64 at most, and as the last channel 1 in a sample that has features, else 0.
        """
        return self.stroke_attention.reduce(features)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the model computes, as in every model of diffusers, but without a search through all
        modules, which takes 0.4 ms of each frame."""
        weight = cast(nn.Parameter, self.conv_in.weight)
        registry = getattr(self.conv_in, "_diffusers_hook", None)
        casting = None if registry is None else registry.get_hook("layerwise_casting")
        return weight.dtype if casting is None else casting.compute_dtype

    def run_blocks(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """
        The convolutions and attention, which take nearly all of the time: from input channels to features.

        Args:
            hidden_states (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
                Latent, strokes, and what is made of them.

        Returns:
            `torch.Tensor` of shape `(batch_size, block_out_channels[0], height, width)`.
        """
        hidden_states = self.conv_in(hidden_states)

        residuals = (hidden_states,)
        for down_block in self.down_blocks:
            hidden_states, block_residuals = down_block(hidden_states)
            residuals += block_residuals

        hidden_states = self.mid_block(hidden_states)

        num_layers = self.config.layers_per_block + 1
        for up_block in self.up_blocks:
            block_residuals = residuals[-num_layers:]
            residuals = residuals[:-num_layers]
            hidden_states = up_block(hidden_states, block_residuals)

        hidden_states = self.conv_norm_out(hidden_states)
        return self.conv_act(hidden_states)

    def _read_regions(
        self,
        displacement: torch.Tensor,
        mask: torch.Tensor,
        regions: torch.Tensor | None,
        region_sparse_flow: torch.Tensor | None,
        region_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The input channels for regions, float32, and the results of [`fit_regions`]; zeros without regions."""
        batch_size, _, height, width = mask.shape
        num_levels, fits_regions = self.config.num_spread_levels, self.config.fits_regions
        if regions is None or region_sparse_flow is None or region_mask is None:
            number = REGION_CHANNELS + 3 * num_levels + (2 if fits_regions else 0)
            zeros = torch.zeros(batch_size, number, height, width, device=mask.device)
            return zeros, zeros[:, :1], zeros[:, :2]
        regions = regions.float()
        region_displacement = region_sparse_flow.float() / (self.config.vae_scale_factor * self.config.flow_scale)
        region_displacement = torch.where(region_mask, region_displacement, 0.0)
        channels = region_channels(displacement, mask, regions, region_displacement, region_mask, num_levels)
        fitted, fit = fit_regions(regions, region_displacement, region_mask)
        if fits_regions:
            channels = torch.cat([channels, fit], dim=1)
        return channels, fitted, fit

    def _read_features(
        self, displacement: torch.Tensor, mask: torch.Tensor, features: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The input channels and the flows of [`StrokeAttention`], float32, and `[B, 1, 1, 1, 1]` which samples have
        features, 0 or 1; zeros without features."""
        batch_size, _, height, width = mask.shape
        if features is None:
            zeros = torch.zeros(batch_size, self.stroke_attention.num_channels, height, width, device=mask.device)
            return zeros, zeros[:, :4].unflatten(1, (2, 2)), zeros[:, :1, :1, :1, None]
        hold = HOLD / (self.config.vae_scale_factor * self.config.flow_scale)
        channels, flows, are_given = self.stroke_attention(features, displacement, mask, hold)
        return channels, flows, are_given[:, None, None, None, None]

    def _check_features(self, sample: torch.Tensor, features: torch.Tensor | None) -> None:
        """Raises `ValueError` if the model cannot read these features."""
        if features is None:
            return
        if self.config.feature_channels is None:
            raise ValueError(
                "Semantic features are given, but this model does not read them (`feature_channels` is None in its "
                "config): leave them out, or widen the model by `FlowCompletionUNet.widened` and train it."
            )
        channels = (self.config.feature_channels, self.stroke_attention.num_reduced)
        if features.ndim != 4 or features.shape[0] != sample.shape[0] or features.shape[1] not in channels:
            raise ValueError(
                f"`features` has the shape {tuple(features.shape)}, but ({sample.shape[0]}, {channels[0]}, height, "
                "width) is needed: take the features of the encoder that the model was trained with."
            )

    def _check_inputs(
        self,
        sample: torch.Tensor,
        regions: torch.Tensor | None,
        region_sparse_flow: torch.Tensor | None,
        region_mask: torch.Tensor | None,
    ) -> None:
        """Raises `ValueError` if the model cannot read these inputs."""
        batch_size, _, height, width = sample.shape
        divisor = 2 ** (len(self.config.block_out_channels) - 1)
        if height % divisor or width % divisor:
            raise ValueError(
                f"A latent grid of {height} x {width} cells cannot be halved for each of the "
                f"{len(self.config.block_out_channels)} levels: use a height and width that {divisor} divides."
            )
        given = {"regions": regions, "region_sparse_flow": region_sparse_flow, "region_mask": region_mask}
        shapes = {name: None if tensor is None else tuple(tensor.shape) for name, tensor in given.items()}
        if shapes == dict.fromkeys(given):
            return
        if not self.config.reads_regions:
            raise ValueError(
                "Regions are given, but this model does not read them (`reads_regions` is False in its config): leave "
                "them out, or widen the model by `FlowCompletionUNet.widened` and train it."
            )
        number = regions.shape[1] if regions is not None and regions.ndim == 4 else "num_regions"
        needed = {
            "regions": (batch_size, number, height, width),
            "region_sparse_flow": (batch_size, number, 2, height, width),
            "region_mask": (batch_size, number, 1, height, width),
        }
        if shapes != needed:
            raise ValueError(
                f"`regions`, `region_sparse_flow` and `region_mask` have the shapes {list(shapes.values())}, "
                f"but {list(needed.values())} are needed: give all three, on the grid of `sample`."
            )


def _make_down_blocks(
    block_types: Sequence[str], block_out_channels: Sequence[int], num_layers: int, arguments: dict[str, Any]
) -> nn.ModuleList:
    """The blocks of all levels, finest first. Each but the last halves the grid."""
    blocks = nn.ModuleList()
    in_channels = block_out_channels[0]
    for block_type, out_channels in zip(block_types, block_out_channels, strict=True):
        is_coarsest = len(blocks) == len(block_out_channels) - 1
        blocks.append(
            get_down_block(
                block_type,
                num_layers=num_layers,
                in_channels=in_channels,
                out_channels=out_channels,
                add_downsample=not is_coarsest,
                downsample_padding=1,
                downsample_type=None if is_coarsest else "conv",
                **arguments,
            )
        )
        in_channels = out_channels
    return blocks


def _make_up_blocks(
    block_types: Sequence[str], block_out_channels: Sequence[int], num_layers: int, arguments: dict[str, Any]
) -> nn.ModuleList:
    """The blocks of all levels, coarsest first. Each but the last doubles the grid, and reads what the down block of
    its level made."""
    blocks = nn.ModuleList()
    coarse_to_fine = tuple(reversed(block_out_channels))
    channels = coarse_to_fine[0]
    for level, block_type in enumerate(block_types):
        is_finest = level == len(coarse_to_fine) - 1
        blocks.append(
            get_up_block(
                block_type,
                num_layers=num_layers + 1,
                in_channels=coarse_to_fine[min(level + 1, len(coarse_to_fine) - 1)],
                out_channels=coarse_to_fine[level],
                prev_output_channel=channels,
                add_upsample=not is_finest,
                upsample_type=None if is_finest else "conv",
                **arguments,
            )
        )
        channels = coarse_to_fine[level]
    return blocks
