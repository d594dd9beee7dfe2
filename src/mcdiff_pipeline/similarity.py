# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Similarity transforms of the plane: how a rigid thing moves. They translate, rotate and scale.

A similarity maps the point z = x + iy to `a z + b` with complex numbers a (rotation and scale) and b (translation). A
tensor of similarities has the shape `[..., 2, 2]`, float64: `[[Re a, Im a], [Re b, Im b]]`.

This file needs torch only.
"""

from collections.abc import Sequence

import torch


# Handles whose distance from their center is less than this, in pixels (root mean square), are one handle: they tell a
# translation, and nothing reliable about rotation and scale.
SMALLEST_SPREAD = 0.5

# One step shrinks a thing at most to this part of its size, so that every similarity has an inverse.
SMALLEST_SCALE = 0.05


def identity_similarity(*shape: int) -> torch.Tensor:
    """Similarities `[*shape, 2, 2]` that leave every point where it is."""
    similarity = torch.zeros(*shape, 2, 2, dtype=torch.float64)
    similarity[..., 0, 0] = 1
    return similarity


def fit_similarity(
    points: Sequence[tuple[float, float]], targets: Sequence[tuple[float, float]], holds: Sequence[bool]
) -> torch.Tensor:
    """
    The similarity that maps points to their targets, by least squares (Umeyama 1991, in the plane without reflection).

    One point gives a translation. Two points, or a point and a hold, are mapped exactly. A hold is mapped exactly in
    every case: one hold leaves rotation and scale about it; two holds at different points leave no motion.

    Args:
        points (`Sequence[tuple[float, float]]`):
            (x, y) of each handle.
        targets (`Sequence[tuple[float, float]]`):
            Where each handle is moved to.
        holds (`Sequence[bool]`):
            Which handles are holds. They stay at their point, whatever their target.

    Returns:
        `torch.Tensor` of shape `(2, 2)`, float64: the similarity; the identity without points.
    """
    start = [complex(x, y) for x, y in points]
    end = [here if is_hold else complex(x, y) for here, (x, y), is_hold in zip(start, targets, holds, strict=True)]
    held = [here for here, is_hold in zip(start, holds, strict=True) if is_hold]
    if not start:
        return identity_similarity()
    center = sum(held or start) / len(held or start)
    target = center if held else sum(end) / len(end)
    if len(held) > 1 and max(abs(point - center) for point in held) >= SMALLEST_SPREAD:
        return identity_similarity()

    offsets = [point - center for point in start]
    spread = sum(abs(offset) ** 2 for offset in offsets)
    factor = 1 + 0j
    if spread >= len(offsets) * SMALLEST_SPREAD**2:
        pairs = zip(offsets, end, strict=True)
        factor = sum(offset.conjugate() * (point - target) for offset, point in pairs) / spread
        if abs(factor) < SMALLEST_SCALE:
            factor = SMALLEST_SCALE * (factor / abs(factor) if factor else 1)
    shift = target - factor * center
    return torch.tensor([[factor.real, factor.imag], [shift.real, shift.imag]], dtype=torch.float64)


def compose_similarities(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The similarities that do `first`, then `second`; both `[..., 2, 2]`."""
    (a, b), (c, d) = (torch.view_as_complex(part.contiguous()).unbind(-1) for part in (first, second))
    return torch.view_as_real(torch.stack([c * a, c * b + d], dim=-1))


def invert_similarity(similarity: torch.Tensor) -> torch.Tensor:
    """The similarities that undo those in `[..., 2, 2]`."""
    a, b = torch.view_as_complex(similarity.contiguous()).unbind(-1)
    return torch.view_as_real(torch.stack([1 / a, -b / a], dim=-1))


def similarity_flow(similarity: torch.Tensor, size: tuple[int, int], image_size: tuple[int, int]) -> torch.Tensor:
    """
    The displacement that a similarity gives each cell of a grid over the image.

    Args:
        similarity (`torch.Tensor` of shape `(..., 2, 2)`):
            Similarities in pixels of an image of `image_size`.
        size (`tuple[int, int]`):
            (height, width) of the grid. It covers the whole image; its cells do not need to be squares.
        image_size (`tuple[int, int]`):
            (height, width) of the image.

    Returns:
        `torch.Tensor` of shape `(..., 2, height, width)`, float32: displacements in cells of the grid.
    """
    y_scale, x_scale = image_size[0] / size[0], image_size[1] / size[1]
    device = similarity.device
    y = (torch.arange(size[0], device=device, dtype=torch.float64)[:, None] + 0.5) * y_scale
    x = (torch.arange(size[1], device=device, dtype=torch.float64)[None] + 0.5) * x_scale
    (a_x, a_y), (b_x, b_y) = (
        (part[..., 0, None, None], part[..., 1, None, None]) for part in similarity.unbind(dim=-2)
    )
    u = (a_x - 1) * x - a_y * y + b_x
    v = a_y * x + (a_x - 1) * y + b_y
    return torch.stack([u / x_scale, v / y_scale], dim=-3).float()


def move_flow(flow: torch.Tensor, similarities: torch.Tensor, image_sizes: Sequence[tuple[int, int]]) -> torch.Tensor:
    """
    Flow that is followed by a similarity: from p to S(p + flow(p)).

    Args:
        flow (`torch.Tensor` of shape `(batch_size, layers, 2, height, width)`):
            Displacements in cells of this grid, which covers the whole image.
        similarities (`torch.Tensor` of shape `(batch_size, layers, 2, 2)`):
            A similarity for each field, in pixels of its image.
        image_sizes (`Sequence[tuple[int, int]]`):
            (height, width) of each image.

    Returns:
        `torch.Tensor` of the shape of `flow`, float32.
    """
    size = (flow.shape[3], flow.shape[4])
    moved = []
    for one, similarity, (height, width) in zip(flow, similarities, image_sizes, strict=True):
        y_scale, x_scale = height / size[0], width / size[1]
        u, v = one[:, 0].double() * x_scale, one[:, 1].double() * y_scale
        # S(p + f) = S(p) + a f, since a similarity is linear but for its translation
        a_x, a_y = similarity[:, 0, 0, None, None], similarity[:, 0, 1, None, None]
        carried = torch.stack([(a_x * u - a_y * v) / x_scale, (a_y * u + a_x * v) / y_scale], dim=1)
        moved.append(similarity_flow(similarity, size, (height, width)) + carried.float())
    return torch.stack(moved)


def move_points(points: Sequence[tuple[float, float]], similarity: torch.Tensor) -> list[tuple[float, float]]:
    """Points (x, y), in the unit of a similarity `[2, 2]`, moved by it."""
    (a_x, a_y), (b_x, b_y) = similarity.tolist()
    return [(a_x * x - a_y * y + b_x, a_y * x + a_x * y + b_y) for x, y in points]


def similarity_of_flow(
    flow: torch.Tensor, weight: torch.Tensor, image_size: tuple[int, int], ridge: float = 0.0
) -> torch.Tensor:
    """
    The similarity that explains a flow field best, by weighted least squares.

    Args:
        flow (`torch.Tensor` of shape `(..., 2, height, width)`):
            Displacements in cells of this grid, which covers an image of `image_size`.
        weight (`torch.Tensor` of shape `(..., height, width)`):
            Weight of each cell, from 0 up.
        image_size (`tuple[int, int]`):
            (height, width) of the image in pixels.
        ridge (`float`, defaults to 0.0):
            Ridge on rotation and growth, in weighted squared pixels: it holds them back where the weights are small
            or close together.

    Returns:
        `torch.Tensor` of shape `(..., 2, 2)`, float64: similarities in pixels of the image; the identity where all
        weights are 0.
    """
    height, width = flow.shape[-2:]
    y_scale, x_scale = image_size[0] / height, image_size[1] / width
    y = (torch.arange(height, device=flow.device, dtype=torch.float64)[:, None] + 0.5) * y_scale
    x = (torch.arange(width, device=flow.device, dtype=torch.float64)[None] + 0.5) * x_scale
    start = torch.complex(x.expand(height, width), y.expand(height, width))
    displacement = torch.complex(flow[..., 0, :, :].double() * x_scale, flow[..., 1, :, :].double() * y_scale)
    weight = weight.double()
    total = weight.sum(dim=(-2, -1)).clamp_min(1e-12)
    center = (weight * start).sum(dim=(-2, -1)) / total
    shift = (weight * displacement).sum(dim=(-2, -1)) / total
    offset = start - center[..., None, None]
    spread = (weight * offset.abs().square()).sum(dim=(-2, -1))
    change = (weight * offset.conj() * displacement).sum(dim=(-2, -1)) / (spread + ridge).clamp_min(1e-12)
    change = torch.where(spread >= total * SMALLEST_SPREAD**2, change, 0)
    factor = 1 + change
    return torch.view_as_real(torch.stack([factor, center + shift - factor * center], dim=-1))
