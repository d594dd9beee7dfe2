# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Soft masks at the picture's size, from logits on a coarse grid, without specks and holes, and a little larger."""

import math
from dataclasses import dataclass

import numpy as np
import torch


# A hole in a thing, or a second part of it, is kept from this share of its area on: the hole in the handle of a cup is
# part of its shape.
_SMALLEST_PART = 0.01

# Softness of outlines, the scale of a logistic curve in pixels of a picture of up to 1,024 pixels: from 10 to 90 % in
# 2.2 pixels. Larger pictures have softer outlines, because the grid that they come from has the same 256 cells.
_SOFTNESS = 0.5
_SHARP_SIZE = 1024

# Found outlines are moved outward by this share of the longer side, so that no rim of the thing stays behind when it
# moves. In the photographs of examples/, the color of the thing has a share of 0.74 at the found outline, and of 0.15,
# 0.05 and 0.01 when it is 1, 1.5 and 2 pixels farther out, at 256 pixels (medians of 12 things; 0.31, 0.19 and 0.08 at
# the upper quartile).
_GROWTH = 2 / 256


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A thing in a picture.

    Args:
        mask (`np.ndarray`): float32 `[H, W]` in [0, 1], share of each pixel of the picture that belongs to the thing.
        confidence (`float`): in [0, 1]; see the segmenter that made it.
        warning (`str`, *optional*): why the mask may be wrong, as part of a sentence; None if nothing speaks against
            it.
    """

    mask: np.ndarray
    confidence: float
    warning: str | None = None


def stability(logits: np.ndarray) -> float:
    """How little the mask changes with the threshold: its area at a logit of 1 over its area at -1.

    The stability score of SAM (`calculate_stability_score` with an offset of 1), 0 for an empty mask.
    """
    return float((logits > 1).sum() / max((logits > -1).sum(), 1))


def smoothed(logits: np.ndarray) -> np.ndarray:
    """Logits `[h, w]` without the checkerboard that the decoder's transposed convolutions leave (3 x 3 binomial)."""
    padded = np.pad(logits.astype(np.float32), 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4


def specks_and_holes(
    mask: np.ndarray, inside: list[tuple[int, int]], outside: list[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """What is wrong with a mask: parts that do not belong to the thing, and small holes in it.

    Args:
        mask (`np.ndarray`): bool `[h, w]`.
        inside (`list[tuple[int, int]]`): (row, column) of cells of the thing. Parts that contain none, also not among
            the neighbors of their cells, are specks. Without any such part, only small ones are.
        outside (`list[tuple[int, int]]`): (row, column) of cells that are not of the thing; holes around them stay.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: bool `[h, w]` each, the specks and the holes.
    """
    from scipy import ndimage

    parts, num_parts = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(parts.ravel(), minlength=num_parts + 1)
    areas[0] = 0
    touched = {number for row, column in inside for number in parts[_around(row), _around(column)].flat} - {0}
    kept = np.isin(parts, list(touched) or np.flatnonzero(areas > _SMALLEST_PART * areas.max()))
    holes, num_holes = ndimage.label(~kept)
    areas = np.bincount(holes.ravel(), minlength=num_holes + 1)
    stays = {0, *holes[0], *holes[-1], *holes[:, 0], *holes[:, -1], *(holes[cell] for cell in outside)}
    small = set(np.flatnonzero(areas < _SMALLEST_PART * kept.sum()).tolist())
    return mask & ~kept, np.isin(holes, list(small - stays))


def grown(
    logits: np.ndarray, specks: np.ndarray, holes: np.ndarray, outside: list[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, specks and holes of a mask whose outline is moved outward by a 128th of the longer side.

    Args:
        logits (`np.ndarray`): float32 `[h, w]`, of a square grid whose side is the longer side of the picture.
        specks (`np.ndarray`): bool, the cells of the picture that are cleared; see [`specks_and_holes`].
        holes (`np.ndarray`): bool, the cells of the picture that are filled.
        outside (`list[tuple[int, int]]`): (row, column) of cells that are not of the thing; around them, the outline
            stays where it is.

    Returns:
        `tuple[np.ndarray, np.ndarray, np.ndarray]`: what [`soft_mask`] takes.
    """
    from scipy import ndimage

    rows, columns = specks.shape
    covered = logits[:rows, :columns]
    thing = (covered > 0) & ~specks | holes
    clean = np.where(ndimage.binary_dilation(specks, iterations=2) & ~thing, covered.min(), covered)
    clean = np.where(holes, covered.max(), clean)
    # the dilation of a function moves its level sets as that of the mask would, and keeps their places within cells
    result = logits.copy()
    result[:rows, :columns] = ndimage.grey_dilation(clean, footprint=_disk(_GROWTH * len(logits)))
    if outside:
        is_outside = np.zeros_like(specks)
        is_outside[tuple(np.transpose(outside))] = True
        kept = ndimage.binary_dilation(is_outside, _disk(_GROWTH * len(logits) + 1))
        result[:rows, :columns][kept] = clean[kept]
    return result, specks & (result[:rows, :columns] <= 0), holes


def _disk(radius: float) -> np.ndarray:
    """Bool `[side, side]`, the cells whose centers are within a radius of the middle one's."""
    places = np.arange(-math.floor(radius), math.floor(radius) + 1)
    return places[:, None] ** 2 + places**2 <= radius**2


def _around(place: int) -> slice:
    return slice(max(place - 1, 0), place + 2)


def soft_mask(logits: np.ndarray, specks: np.ndarray, holes: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask with soft outlines at the picture's size.

    The logits are interpolated and divided by their slope, which gives the distance to the outline: networks are less
    sure of some outlines than of others, but a thing does not become transparent there.

    Args:
        logits (`np.ndarray`): float32 `[h, w]`, of a square grid whose side is the longer side of the picture.
        specks (`np.ndarray`): bool, the cells of the picture that are cleared; see [`specks_and_holes`].
        holes (`np.ndarray`): bool, the cells of the picture that are filled.
        height (`int`): of the picture in pixels.
        width (`int`): of the picture in pixels.

    Returns:
        `np.ndarray`: float32 `[height, width]` in [0, 1].
    """
    from scipy import ndimage

    fine = _interpolated(logits, height, width)
    slope = torch.zeros_like(fine)
    for axis, size in enumerate((height, width)):
        if size > 1:
            slope += torch.gradient(fine, dim=axis)[0].square_()
    softness = _SOFTNESS * max(1.0, max(height, width) / _SHARP_SIZE)
    # Where the logits are flat, their sign decides; where they are steep, their values do.
    mask = fine.div_(slope.sqrt_().mul_(softness).clamp_(min=0.02, max=1.0)).sigmoid_()
    # What is cleared or filled reaches a little beyond its outline, but not into the thing, or out of it.
    is_thing = (logits[: len(specks), : specks.shape[1]] > 0) & ~specks | holes
    if specks.any():
        cleared = ndimage.binary_dilation(specks, iterations=2) & ~is_thing
        mask = torch.minimum(mask, 1 - _interpolated(_on_grid(cleared, logits), height, width))
    if holes.any():
        filled = ndimage.binary_dilation(holes, iterations=2) & is_thing
        mask = torch.maximum(mask, _interpolated(_on_grid(filled, logits), height, width))
    return mask.numpy()


def _on_grid(cells: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Cells of the picture as float32 on the whole grid."""
    grid = np.zeros_like(logits)
    grid[: cells.shape[0], : cells.shape[1]] = cells
    return grid


def _interpolated(grid: np.ndarray, height: int, width: int) -> torch.Tensor:
    """A square grid, whose side is the longer side of the picture, at the picture's size: float32 `[H, W]`."""
    cell = max(height, width) / len(grid)
    # The rows and columns that the pixels lie in, and one more, which bilinear interpolation reads.
    grid = grid[: math.ceil(height / cell) + 1, : math.ceil(width / cell) + 1]
    scale = cell + 1e-9  # the size is rounded down, and must not lose a row to the rounding of `cell`
    fine = torch.nn.functional.interpolate(torch.from_numpy(grid)[None, None], scale_factor=scale, mode="bilinear")
    return fine[0, 0, :height, :width].contiguous()


def without_overlap(masks: list[np.ndarray]) -> list[np.ndarray]:
    """Masks `[H, W]` in [0, 1], from back to front, each without what the ones in front of it cover."""
    result, free = [], np.ones_like(masks[0]) if masks else np.empty(0)
    for mask in reversed(masks):
        result.append(mask * free)
        free = free * (1 - mask)
    return result[::-1]
