"""The simple rivals that F and G have to beat, and where they are compared.

F's rivals interpolate the strokes, G's carry pixels along the flow. Flow is forward flow `[B, 2, H, W]`, channel 0
right, channel 1 down.
"""

import numpy as np
import torch

from .flow import accumulate_flow, flow_magnitude, forward_splat, splat_image, splat_importance


def nearest_stroke_flow(points: np.ndarray, displacements: np.ndarray, size: tuple[int, int], cell: int) -> np.ndarray:
    """F's rival: every cell moves like the stroke nearest to its center.

    Args:
        points (`np.ndarray`): `[N, 2]`, (x, y) in pixels, at least one.
        displacements (`np.ndarray`): `[N, 2]`, (u, v) in pixels.
        size (`tuple[int, int]`): (height, width) of the grid in cells.
        cell (`int`): pixels along one side of a cell.

    Returns:
        `np.ndarray`: `[2, height, width]` in pixels, the dtype of `displacements`.
    """
    distances = np.linalg.norm(_cell_centers(size, cell)[:, :, None] - points, axis=-1)
    return displacements[distances.argmin(axis=-1)].transpose(2, 0, 1)


def inverse_distance_flow(
    points: np.ndarray, displacements: np.ndarray, size: tuple[int, int], cell: int
) -> np.ndarray:
    """F's rival: every cell moves like all strokes, weighted by one over the squared distance (Shepard 1968).

    Arguments and result are those of `nearest_stroke_flow`.
    """
    squared = np.square(_cell_centers(size, cell)[:, :, None] - points).sum(axis=-1)  # [h, w, N]
    weights = 1 / np.maximum(squared, 1e-6)
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ displacements).transpose(2, 0, 1).astype(displacements.dtype)


def thin_plate_flow(points: np.ndarray, displacements: np.ndarray, size: tuple[int, int], cell: int) -> np.ndarray:
    """F's rival: the smoothest surface through the strokes, a thin-plate spline (Duchon 1977, Bookstein 1989).

    One stroke moves everything alike, two give what changes along the line between them, and only from three on that
    are not on one line the spline bends.

    Arguments and result are those of `nearest_stroke_flow`.
    """
    middle, unit = points.mean(axis=0), cell * max(size)  # numbers of size 1, for the solver's sake
    at = (points - middle) / unit
    cells = (_cell_centers(size, cell).reshape(-1, 2) - middle) / unit

    def basis(to):
        squared = np.square(to[:, None] - at).sum(axis=-1)
        return 0.5 * squared * np.log(np.maximum(squared, 1e-12)), np.column_stack([np.ones(len(to)), to])

    bending, affine = basis(at)
    # Too few strokes leave the affine part open; of all solutions the least is taken, and with coordinates around the
    # strokes' middle that is the one with the smallest slope.
    system = np.block([[bending, affine], [affine.T, np.zeros((3, 3))]])
    weights = np.linalg.lstsq(system, np.vstack([displacements, np.zeros((3, 2))]), rcond=1e-10)[0]
    return (np.hstack(basis(cells)) @ weights).T.reshape(2, *size).astype(displacements.dtype)


def _cell_centers(size: tuple[int, int], cell: int) -> np.ndarray:
    """`[h, w, 2]`: (x, y) of the center of each cell, in pixels."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (np.stack([columns, rows], axis=-1) + 0.5) * cell


def splat_frame(latents: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """G's rival: the current frame carried along the flow; holes keep what was there.

    Args:
        latents (`torch.Tensor`): `[B, C, h, w]` of the current frame; pictures serve as well.
        flow (`torch.Tensor`): `[B, 2, h, w]` in cells of this grid.

    Returns:
        `torch.Tensor`: `[B, C, h, w]`.
    """
    splatted, coverage = forward_splat(latents, flow, splat_importance(flow))
    coverage = coverage.clamp(max=1)
    return coverage * splatted + (1 - coverage) * latents


def accumulate_steps(flow: torch.Tensor) -> torch.Tensor:
    """Flow from each frame to the next, chained to flow from the first frame to each other; `[B, N - 1, 2, H, W]`."""
    total, accumulated = torch.zeros_like(flow[:, 0]), []
    for step in flow.unbind(1):
        total = accumulate_flow(total, step)
        accumulated.append(total)
    return torch.stack(accumulated, dim=1)


def splat_start_frame(start: torch.Tensor, accumulated_flow: torch.Tensor, cell: int) -> torch.Tensor:
    """The rival of the whole chain: the start frame, carried along the flow accumulated so far, frame by frame.

    Holes are filled from behind. So every frame has the sharpness of a picture that is resampled once, and what comes
    into sight is what its surroundings suggest.

    Args:
        start (`torch.Tensor`): `[B, 3, H, W]`.
        accumulated_flow (`torch.Tensor`): `[B, N - 1, 2, H, W]` in pixels, from the first frame to each other.
        cell (`int`): pixels along one side of a latent cell, the unit in which motion decides who is in front.

    Returns:
        `torch.Tensor`: `[B, N - 1, 3, H, W]`, the frames after the first.
    """
    return torch.stack([splat_image(start, flow, cell) for flow in accumulated_flow.unbind(1)], dim=1)


def moving_pixels(flow: torch.Tensor, threshold: float = 0.5) -> torch.Tensor:
    """Where a next frame differs from repeating the last one: what something moves away from, and moves to.

    Args:
        flow (`torch.Tensor`): `[B, 2, H, W]` in pixels.
        threshold (`float`, defaults to 0.5): displacement in pixels above which something moves.

    Returns:
        `torch.Tensor`: bool `[B, H, W]`.
    """
    moving = (flow_magnitude(flow) > threshold).float()
    arrived, _ = forward_splat(moving, flow, splat_importance(flow))
    return ((moving > 0) | (arrived > 0.5))[:, 0]
