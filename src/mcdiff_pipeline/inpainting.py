# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What may lie behind things: colors and texture of the surroundings, continued into a hole. Needs torch only.

Colors come from patches that agree with each other and with the surroundings, from coarse to fine (as Wexler et al.
2007, "Space-Time Completion of Video"); the nearest patches are found exactly, so the result is always the same. Means
of patches are blurred. So texture, which is what is left of the picture without its blurred colors, is taken in
overlapping blocks from places nearby where colors are alike.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from .flow import fill_from_behind


# Figures below are ST-LPIPS of 26 holes, of the shape of things, in validation photographs at 256 x 256 pixels. It is
# 0.076 with a blurred continuation, and 0.050 here.
# Patches have this many pixels along each side.
PATCH = 7
# Patches are compared by this many principal components of their colors, and of their blurred colors.
COLOR_COMPONENTS, BLURRED_COMPONENTS = 24, 12
# Rounds of search and vote at each size, and at the largest.
ROUNDS, LAST_ROUNDS = 5, 1
# The coarsest picture has at least this many pixels along its shorter side.
COARSEST = 32
# Patches of the surroundings that are compared, at most. Colors alone: 0.061; with twice as many, and one round more
# at each size, 0.059 in twice the time.
SOURCES = 4096
# How the distance of two places counts, in differences of a patch's colors per side of the picture: for colors and
# for texture. Texture with 1, 3 and 6: 0.050, 0.051 and 0.054, each before `_coherent`.
COLOR_LOCALITY, TEXTURE_LOCALITY = 0.5, 1.0
# How much worse than the best the offset of a neighboring block may be. With 1, 2 and 4: 0.051, 0.050 and 0.053.
INCOHERENCE = 2.0
# Pixels from the center of a block of texture to the next. Blocks reach that far and overlap. Texture of single pixels
# showed a lattice in large frames.
STRIDE = 6
# Standard deviation, in pixels, of the blur that separates colors from texture.
TEXTURE_BLUR = 1.5
# A voter counts less by this factor for each pixel of distance from the rim of the hole (Wexler et al. 2007).
CONFIDENCE = 1.3
# A hole is only filled from surroundings of at least this share of the picture.
SMALLEST_SURROUNDINGS = 0.4
# Targets that are compared at a time.
COMPARED_AT_A_TIME = 1024
# So many pictures that were filled last are remembered: all frames, branches and videos of one have one background.
_REMEMBERED = 8


@dataclass(frozen=True, eq=False)
class Inpainting:
    """
    A picture with its hole filled, which can be had at any size.

    Args:
        colors (`torch.Tensor` of shape `(3, height, width)`):
            The blurred picture with the hole filled.
        offsets (`torch.Tensor` of shape `(2, rows, columns)`, int64):
            From the center of each block of texture to that of the block which it is copied from, (y, x). The centers
            are [`STRIDE`] pixels apart, from the first pixel on.
    """

    colors: torch.Tensor
    offsets: torch.Tensor

    def part(self, picture: torch.Tensor, rows: slice, columns: slice) -> torch.Tensor:
        """
        A part of the picture with the hole filled. It means nothing outside the hole.

        Args:
            picture (`torch.Tensor` of shape `(3, output_height, output_width)`):
                The picture at the size that is wanted, uint8 or float in [0, 1].
            rows, columns (`slice`): Where the part lies.

        Returns:
            `torch.Tensor` of shape `(3, rows, columns)`, float32 in [0, 1].
        """
        height, width = picture.shape[1:]
        y = torch.arange(height, device=picture.device)[rows, None]
        x = torch.arange(width, device=picture.device)[None, columns]
        y, x = torch.broadcast_tensors(y, x)
        y_scale, x_scale = height / self.colors.shape[1], width / self.colors.shape[2]
        y_block, x_block = ((y + 0.5) / y_scale - 0.5) / STRIDE, ((x + 0.5) / x_scale - 0.5) / STRIDE
        texture = torch.zeros(3, *y.shape, device=picture.device)
        blocks: list[tuple[torch.Tensor, torch.Tensor]] = []
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            i, j = y_block.floor() + row, x_block.floor() + column
            weight = (1 - (y_block - i).abs()) * (1 - (x_block - j).abs())
            offset = self.offsets[:, i.long().clamp_min(0), j.long().clamp_min(0)]
            there_y = (y + (offset[0] * y_scale).round().long()).clamp(0, height - 1)
            there_x = (x + (offset[1] * x_scale).round().long()).clamp(0, width - 1)
            source = picture[:, there_y, there_x]
            source = source.float() / 255 if picture.dtype == torch.uint8 else source.float()
            texture += weight * (source - _looked_up(self.colors, there_y, there_x, (height, width)))
            blocks.append((weight, offset))
        # the mean of different textures is weaker than each
        variance = sum(
            first * second * (offset == other).all(dim=0) for first, offset in blocks for second, other in blocks
        )
        return (_looked_up(self.colors, y, x, (height, width)) + texture * variance**-0.5).clamp(0, 1)


def inpaint(picture: torch.Tensor, surroundings: torch.Tensor) -> Inpainting | None:
    """
    Fill a hole in a picture from its surroundings.

    Args:
        picture (`torch.Tensor` of shape `(3, height, width)`):
            The picture, float in [0, 1]. A few hundred pixels along each side are enough; the time grows with the
            square of their number.
        surroundings (`torch.Tensor` of shape `(height, width)`, bool):
            The pixels from which the rest is filled.

    Returns:
        [`Inpainting`], or None if there is no hole, or too little around it.
    """
    share = float(surroundings.float().mean())
    if share == 1 or share < SMALLEST_SURROUNDINGS:
        return None
    known = torch.where(surroundings, picture.float(), 0).cpu()
    return _inpaint(
        known.numpy().tobytes(), surroundings.cpu().numpy().tobytes(), tuple(surroundings.shape), picture.device
    )


@lru_cache(maxsize=_REMEMBERED)
def _inpaint(
    picture_bytes: bytes, surroundings_bytes: bytes, size: tuple[int, int], device: torch.device
) -> Inpainting | None:
    """[`inpaint`], of the bytes of its arguments."""
    picture = torch.frombuffer(bytearray(picture_bytes), dtype=torch.float32).view(3, *size).to(device)
    surroundings = torch.frombuffer(bytearray(surroundings_bytes), dtype=torch.bool).view(size).to(device)
    sizes = [size]
    while min(sizes[-1]) >= 2 * COARSEST:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    filled: torch.Tensor | None = None
    patches: _Patches | None = None
    for level in reversed(sizes):
        small = _at_level(picture, level)
        is_known = _at_level(surroundings[None].float(), level)[0] == 1
        patches = _Patches.of(small, is_known)
        if patches is None:
            continue
        filled = _continued(small, is_known) if filled is None else _enlarged(filled, level)
        filled = _agreeing(patches, filled, LAST_ROUNDS if level == size else ROUNDS)
    if patches is None or filled is None:
        return None
    return _with_texture(patches, filled)


@dataclass(frozen=True, eq=False)
class _Patches:
    """
    The patches of a picture that overlap its hole, and those of its surroundings.

    Args:
        picture (`torch.Tensor` of shape `(3, height, width)`): The picture.
        is_known (`torch.Tensor` of shape `(height, width)`, bool): The pixels outside the hole.
        targets (`torch.Tensor`, int64): The centers of patches with pixels of the hole, in the flattened picture.
        sources (`torch.Tensor`, int64): Those of the patches that are copied.
        places (`torch.Tensor` of shape `(height * width, 2)`): (y, x) of each pixel, in longer sides of the picture.
    """

    picture: torch.Tensor
    is_known: torch.Tensor
    targets: torch.Tensor
    sources: torch.Tensor
    places: torch.Tensor

    @classmethod
    def of(cls, picture: torch.Tensor, is_known: torch.Tensor) -> "_Patches | None":
        """The patches; None if none is without a hole."""
        half = PATCH // 2
        hole = (~is_known).float()[None]
        is_whole = F.max_pool2d(F.pad(hole, (half, half, half, half), value=1.0), PATCH, 1)[0] == 0
        targets = F.max_pool2d(hole, PATCH, 1, half).flatten().nonzero().flatten()
        return cls.between(picture, is_known, is_whole, targets)

    @classmethod
    def between(
        cls, picture: torch.Tensor, is_known: torch.Tensor, is_source: torch.Tensor, targets: torch.Tensor
    ) -> "_Patches | None":
        """The patches with given targets, and with sources `[height, width]`, bool; None if there are no sources."""
        sources = is_source.flatten().nonzero().flatten()
        if len(sources) == 0:
            return None
        if len(sources) > SOURCES:
            sources = sources[torch.linspace(0, len(sources) - 1, SOURCES, device=sources.device).long()]
        height, width = is_known.shape
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = torch.stack([y.flatten(), x.flatten()], dim=1).to(picture) / max(height, width)
        return cls(picture, is_known, targets, sources, places)

    def nearest(
        self, targets: torch.Tensor, sources: torch.Tensor, components: int, locality: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        For each target the source that is most like it.

        Args:
            targets, sources (`torch.Tensor` of shape `(number, values)`): Their patches.
            components (`int`): Number of principal components of the sources that are compared.
            locality (`float`): How the distance of their places counts.

        Returns:
            Its index in the flattened picture, and the squared difference, of each target.
        """
        mean = sources.mean(dim=0)
        centered = sources - mean
        # on the CPU, since Apple's GPUs have no such function
        basis = torch.linalg.eigh((centered.T @ centered).cpu())[1][:, -components:].to(centered)
        places = locality * PATCH * self.places
        compared = torch.cat([centered @ basis, places[self.sources]], dim=1)
        squares = compared.square().sum(dim=1)
        best, differences = [], []
        wanted = torch.cat([(targets - mean) @ basis, places[self.targets]], dim=1)
        for part in wanted.split(COMPARED_AT_A_TIME):
            difference, index = torch.addmm(squares[None], part, compared.T, alpha=-2).min(dim=1)
            best.append(self.sources[index])
            differences.append((difference + part.square().sum(dim=1)).clamp_min(0))
        return torch.cat(best), torch.cat(differences)

    def vote(self, patches: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The picture with each pixel of the hole the mean of the patches `[targets, 3 * PATCH^2]` over it."""
        height, width = self.is_known.shape
        half = PATCH // 2
        values = torch.cat([patches, torch.ones_like(patches[:, : PATCH**2])], dim=1) * weights[:, None]
        columns = values.new_zeros(values.shape[1], height * width)
        columns[:, self.targets] = values.T
        summed = F.fold(columns[None], (height + 2 * half, width + 2 * half), PATCH)[0]
        summed = summed[:, half:-half, half:-half]
        return torch.where(self.is_known, self.picture, summed[:3] / summed[3:].clamp_min(1e-12))


def _agreeing(patches: _Patches, filled: torch.Tensor, rounds: int) -> torch.Tensor:
    """The picture with the hole filled by patches of the surroundings that agree, from a first filling."""
    confidence = CONFIDENCE ** -_depth(~patches.is_known).flatten()[patches.targets]
    sources = _unfolded(patches.picture)[patches.sources]
    of_index = torch.zeros(patches.is_known.numel(), dtype=torch.long, device=sources.device)
    of_index[patches.sources] = torch.arange(len(sources), device=sources.device)
    for _ in range(rounds):
        targets = _unfolded(filled)[patches.targets]
        found, difference = patches.nearest(targets, sources, COLOR_COMPONENTS, COLOR_LOCALITY)
        # three quarters of the patches count much
        scale = 2 * difference.quantile(0.75).clamp_min(1e-6)
        weights = (-difference / scale).exp() * confidence + 1e-9
        filled = patches.vote(sources[of_index[found]], weights)
    return filled


def _with_texture(patches: _Patches, filled: torch.Tensor) -> Inpainting | None:
    """A filled picture with the places where the texture of its hole is found; None if no block is without a hole."""
    picture, (height, width) = patches.picture, patches.is_known.shape
    hole = (~patches.is_known).float()[None]
    near_hole = F.max_pool2d(hole, 2 * STRIDE + 1, 1, STRIDE)[0] > 0
    colors = _gaussian(filled, TEXTURE_BLUR)
    y, x = (torch.arange(0, side + STRIDE, STRIDE, device=picture.device) for side in (height, width))
    centers = y.clamp(max=height - 1)[:, None] * width + x.clamp(max=width - 1)
    is_target = near_hole.flatten()[centers]
    blocks = _Patches.between(picture, patches.is_known, ~near_hole, centers[is_target])
    if blocks is None:
        return None
    around = _unfolded(colors)
    found, difference = blocks.nearest(
        around[blocks.targets], around[blocks.sources], BLURRED_COMPONENTS, TEXTURE_LOCALITY
    )
    offsets = torch.zeros(2, len(y), len(x), dtype=torch.long, device=picture.device)
    offsets[0, is_target] = found // width - blocks.targets // width
    offsets[1, is_target] = found % width - blocks.targets % width
    return Inpainting(colors, _coherent(offsets, is_target, difference, blocks, around, ~near_hole))


def _coherent(
    offsets: torch.Tensor,
    is_target: torch.Tensor,
    differences: torch.Tensor,
    blocks: _Patches,
    around: torch.Tensor,
    is_source: torch.Tensor,
) -> torch.Tensor:
    """
    Offsets `[2, rows, columns]` with those of a neighbor where these are nearly as good, so that texture is copied in
    larger pieces. Blocks that each take the very best show a lattice where many take the same.

    Args:
        offsets (`torch.Tensor` of shape `(2, rows, columns)`): The best offset of each block.
        is_target (`torch.Tensor` of shape `(rows, columns)`, bool): The blocks that have one.
        differences (`torch.Tensor`): The squared difference of each of these.
        blocks ([`_Patches`]): The blocks.
        around (`torch.Tensor` of shape `(height * width, values)`): The patch around each pixel.
        is_source (`torch.Tensor` of shape `(height, width)`, bool): The pixels from which texture is taken.
    """
    height, width = is_source.shape
    offsets, limits = offsets.clone(), INCOHERENCE * (differences + differences.median())
    numbers = torch.full(is_target.shape, -1, dtype=torch.long)
    numbers[is_target.cpu()] = torch.arange(len(differences))
    order = is_target.nonzero().tolist()
    for ordered, step in ((order, -1), (order[::-1], 1)):
        for i, j in ordered:
            number = int(numbers[i, j])
            here = int(blocks.targets[number])
            y, x = divmod(here, width)
            for k, m in ((i + step, j), (i, j + step)):
                if not (0 <= k < len(numbers) and 0 <= m < numbers.shape[1]) or numbers[k, m] < 0:
                    continue
                there_y, there_x = y + int(offsets[0, k, m]), x + int(offsets[1, k, m])
                if not (0 <= there_y < height and 0 <= there_x < width and is_source[there_y, there_x]):
                    continue
                there = there_y * width + there_x
                apart = TEXTURE_LOCALITY * PATCH * (blocks.places[here] - blocks.places[there])
                if (around[here] - around[there]).square().sum() + apart.square().sum() < limits[number]:
                    offsets[:, i, j] = offsets[:, k, m]
                    break
    return offsets


def _unfolded(image: torch.Tensor) -> torch.Tensor:
    """The patch around each pixel: `[height * width, channels * PATCH^2]`."""
    half = PATCH // 2
    return F.unfold(F.pad(image[None], (half, half, half, half), mode="replicate"), PATCH)[0].T


def _continued(image: torch.Tensor, is_known: torch.Tensor) -> torch.Tensor:
    """The image with a blurred continuation of its known pixels in the others."""
    known = is_known.to(image.dtype)[None, None]
    return torch.where(is_known, image, fill_from_behind(image[None], known, torch.zeros_like(known))[0])


def _at_level(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.adaptive_avg_pool2d(image, size)


def _enlarged(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]


def _depth(hole: torch.Tensor) -> torch.Tensor:
    """How many pixels each pixel `[H, W]` lies in the hole; 0 outside."""
    depth, left = torch.zeros(hole.shape, device=hole.device), hole.float()
    for _ in range(max(hole.shape)):
        if not left.any():
            break
        depth += left
        left = -F.max_pool2d(-left[None], 3, stride=1, padding=1)[0]
    return depth


def _gaussian(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """An image `[C, H, W]` after a Gaussian blur."""
    reach = math.ceil(2.5 * sigma)
    taps = torch.exp(-torch.arange(-reach, reach + 1, device=image.device).square() / (2 * sigma**2))
    kernel = (taps / taps.sum()).to(image.dtype)[None, None]
    padded = F.pad(image[:, None], (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[..., None]), kernel[:, :, None])[:, 0]


def _looked_up(image: torch.Tensor, y: torch.Tensor, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """An image `[C, h, w]`, enlarged to `size`, at pixels of that size."""
    grid = torch.stack([(2 * x + 1) / size[1] - 1, (2 * y + 1) / size[0] - 1], dim=-1)
    return F.grid_sample(image[None], grid[None], "bilinear", "border", align_corners=False)[0]
