"""The simple rivals that F and G have to beat, and where they are compared.

Flow is forward flow `[B, 2, H, W]`, channel 0 right, channel 1 down.
"""

import numpy as np
import torch

from ..flow import forward_splat
from ..pipeline_mcdiff import splat_importance


def nearest_stroke_flow(points: np.ndarray, displacements: np.ndarray, size: tuple[int, int], cell: int) -> np.ndarray:
    """F's rival: every cell moves like the stroke nearest to its centre.

    Args:
        points (`np.ndarray`): `[N, 2]`, (x, y) in pixels, at least one.
        displacements (`np.ndarray`): `[N, 2]`, (u, v) in pixels.
        size (`tuple[int, int]`): (height, width) of the grid in cells.
        cell (`int`): pixels along one side of a cell.

    Returns:
        `np.ndarray`: `[2, height, width]` in pixels, the dtype of `displacements`.
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    centres = (np.stack([columns, rows], axis=-1) + 0.5) * cell  # [h, w, 2] pixels
    distances = np.linalg.norm(centres[:, :, None] - points, axis=-1)
    return displacements[distances.argmin(axis=-1)].transpose(2, 0, 1)


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


def moving_pixels(flow: torch.Tensor, threshold: float = 0.5) -> torch.Tensor:
    """Where a next frame differs from repeating the last one: what something moves away from, and moves to.

    Args:
        flow (`torch.Tensor`): `[B, 2, H, W]` in pixels.
        threshold (`float`, defaults to 0.5): displacement in pixels above which something moves.

    Returns:
        `torch.Tensor`: bool `[B, H, W]`.
    """
    moving = (flow.norm(dim=1, keepdim=True) > threshold).float()
    arrived, _ = forward_splat(moving, flow, splat_importance(flow))
    return ((moving > 0) | (arrived > 0.5))[:, 0]
