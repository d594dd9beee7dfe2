# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Simple baselines for a trained model.

Flow completion is compared with interpolations of the strokes. Generated frames are compared with splatted ones. Flow
is forward flow `[B, 2, H, W]`: channel 0 points right, channel 1 points down.
"""

import numpy as np
import torch

from .flow import (
    KNOWN_COVERAGE,
    accumulate_flow,
    backward_warp,
    flow_magnitude,
    forward_splat,
    splat_image,
    splat_latents,
)


def nearest_stroke_flow(points: np.ndarray, displacements: np.ndarray, size: tuple[int, int], cell: int) -> np.ndarray:
    """Interpolates strokes: every cell takes the displacement of the stroke nearest to its center.

    Args:
        points (`np.ndarray`): `[N, 2]`, (x, y) in pixels, N >= 1.
        displacements (`np.ndarray`): `[N, 2]`, (u, v) in pixels.
        size (`tuple[int, int]`): (height, width) of the grid in cells.
        cell (`int`): side of a cell in pixels.

    Returns:
        `np.ndarray`: `[2, height, width]` in cells of the grid, with the dtype of `displacements`.
    """
    distances = np.linalg.norm(_cell_centers(size, cell)[:, :, None] - points, axis=-1)
    return displacements[distances.argmin(axis=-1)].transpose(2, 0, 1) / cell


def inverse_distance_flow(
    points: np.ndarray, displacements: np.ndarray, size: tuple[int, int], cell: int
) -> np.ndarray:
    """Interpolates strokes: every cell takes their mean, weighted by the inverse squared distance (Shepard 1968).

    Arguments and result are those of `nearest_stroke_flow`.
    """
    squared = np.square(_cell_centers(size, cell)[:, :, None] - points).sum(axis=-1)  # [h, w, N]
    weights = 1 / np.maximum(squared, 1e-6)
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ displacements).transpose(2, 0, 1).astype(displacements.dtype) / cell


def thin_plate_flow(points: np.ndarray, displacements: np.ndarray, size: tuple[int, int], cell: int) -> np.ndarray:
    """Interpolates strokes by a thin-plate spline, the smoothest surface through them (Duchon 1977, Bookstein 1989).

    One stroke gives a constant flow. Two strokes give a flow that changes only along the line between them. The spline
    bends from three strokes on, if they do not lie on one line.

    Arguments and result are those of `nearest_stroke_flow`.
    """
    middle, unit = points.mean(axis=0), cell * max(size)  # coordinates of about 1, which condition the system well
    knots = (points - middle) / unit
    cells = (_cell_centers(size, cell).reshape(-1, 2) - middle) / unit
    bending, affine = _thin_plate_basis(knots, knots)
    # One or two strokes do not determine the affine part. `lstsq` takes the solution with the smallest norm. Because
    # the coordinates are centered on the strokes, this is the solution with the smallest slope.
    system = np.block([[bending, affine], [affine.T, np.zeros((3, 3))]])
    weights = np.linalg.lstsq(system, np.vstack([displacements, np.zeros((3, 2))]), rcond=1e-10)[0]
    flow = np.hstack(_thin_plate_basis(cells, knots)) @ weights
    return flow.T.reshape(2, *size).astype(displacements.dtype) / cell


def _thin_plate_basis(positions: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The radial part `[M, N]`, r² log r, and the affine part `[M, 3]` of the spline at positions `[M, 2]`."""
    squared = np.square(positions[:, None] - knots).sum(axis=-1)
    radial = 0.5 * squared * np.log(np.maximum(squared, 1e-12))
    return radial, np.column_stack([np.ones(len(positions)), positions])


def _cell_centers(size: tuple[int, int], cell: int) -> np.ndarray:
    """`[h, w, 2]`: (x, y) of the center of each cell, in pixels."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (np.stack([columns, rows], axis=-1) + 0.5) * cell


# Each interpolation, by its name in reports.
INTERPOLATIONS = {
    "nearest stroke": nearest_stroke_flow,
    "inverse distance": inverse_distance_flow,
    "thin plate": thin_plate_flow,
}


def splat_frame(latents: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Predicts the next frame by splatting the current one along the flow. Holes keep their old content.

    Args:
        latents (`torch.Tensor`): `[B, C, h, w]`, the current frame.
        flow (`torch.Tensor`): `[B, 2, h, w]` in cells of this grid.

    Returns:
        `torch.Tensor`: `[B, C, h, w]`.
    """
    splatted, coverage = splat_latents(latents, flow)
    coverage = coverage.clamp(max=1)
    return coverage * splatted + (1 - coverage) * latents


def accumulate_steps(flow: torch.Tensor) -> torch.Tensor:
    """Chains flow between consecutive frames to flow from the first frame to each later one, `[B, N - 1, 2, H, W]`."""
    total, accumulated = torch.zeros_like(flow[:, 0]), []
    for step in flow.unbind(1):
        total = accumulate_flow(total, step)
        accumulated.append(total)
    return torch.stack(accumulated, dim=1)


def splat_start_frame(start: torch.Tensor, accumulated_flow: torch.Tensor, cell: int) -> torch.Tensor:
    """Makes a whole video by splatting the start frame along the accumulated flow. Holes are filled from behind.

    Every frame is resampled only once, so none is blurrier than the others.

    Args:
        start (`torch.Tensor`): `[B, 3, H, W]`.
        accumulated_flow (`torch.Tensor`): `[B, N - 1, 2, H, W]` in pixels, from the first frame to each later one.
        cell (`int`): side of a latent cell in pixels. Splatting measures motion in latent cells to decide what is in
            front.

    Returns:
        `torch.Tensor`: `[B, N - 1, 3, H, W]`, the frames after the first.
    """
    return torch.stack([splat_image(start, flow, cell) for flow in accumulated_flow.unbind(1)], dim=1)


def moving_pixels(flow: torch.Tensor, threshold: float = 0.5) -> torch.Tensor:
    """The pixels that a moving thing leaves or reaches. Elsewhere the next frame repeats the current one.

    Args:
        flow (`torch.Tensor`): `[B, 2, H, W]` in pixels.
        threshold (`float`, defaults to 0.5): displacement in pixels above which a pixel moves.

    Returns:
        `torch.Tensor`: bool `[B, H, W]`.
    """
    moving = flow_magnitude(flow) > threshold
    # Each pixel of motion multiplies the weight by e, so a pixel that a moving thing covers in part is reached. With
    # equal weights, still regions would contain so much of the outlines of moving things that their PSNR drops.
    reached, _ = forward_splat(moving.to(flow.dtype), flow, flow_magnitude(flow))
    return (moving | (reached > 0.5))[:, 0]


def uncovered_pixels(flow: torch.Tensor, occlusion: torch.Tensor) -> torch.Tensor:
    """The pixels of each later frame that the first frame does not show: what came out from behind something, or into
    the image.

    A point of the first frame is followed until it is occluded for the first time. A pixel that no point which is
    still followed reaches is uncovered.

    Args:
        flow (`torch.Tensor`): `[B, N - 1, 2, H, W]` in pixels, between consecutive frames.
        occlusion (`torch.Tensor`): bool `[B, N - 1, H, W]`, True where the point at that pixel is not visible in the
            next frame.

    Returns:
        `torch.Tensor`: bool `[B, N - 1, H, W]`.
    """
    uncovered, followed = [], torch.ones_like(flow[:, 0, :1])
    total = torch.zeros_like(flow[:, 0])
    for step, hidden in zip(flow.unbind(1), occlusion.unbind(1), strict=True):
        followed = followed * (backward_warp(hidden[:, None].to(flow.dtype), total) < 0.5)
        total = accumulate_flow(total, step)
        reached, coverage = forward_splat(followed, total)
        uncovered.append((reached * coverage < KNOWN_COVERAGE)[:, 0])
    return torch.stack(uncovered, dim=1)
