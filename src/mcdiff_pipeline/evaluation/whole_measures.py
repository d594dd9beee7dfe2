# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""How well the flow of one step moves a thing as a whole, and the rules that it is compared with."""

import numpy as np
import torch
import torch.nn.functional as F

from .whole_motions import AskedMotion


# Names of the measures.
MEASURES = ("miss", "leak", "tear", "slowest")
# What is still measured as outside has no part of the thing within this many cells.
LEAK_DISTANCE = 2


def share_inside(mask: np.ndarray, grid: tuple[int, int]) -> torch.Tensor:
    """Float32 `[h, w]`: the share of each cell that a mask, bool `[H, W]`, covers."""
    return F.interpolate(torch.from_numpy(mask)[None, None].float(), grid, mode="area")[0, 0]


def measure_whole(flow: torch.Tensor, asked: torch.Tensor, share: torch.Tensor) -> dict[str, float]:
    """Measures the flow of one step.

    Inside are the cells that the thing covers by more than half. Outside are those with no part of it within
    `LEAK_DISTANCE` cells. One flow vector cannot be right for both sides of an outline that crosses its cell. So in a
    cell of which the thing covers the share s, every motion from s times the motion asked for to all of it is right,
    and the error is the distance to the nearest of these. All lengths are divided by the mean inside of s times the
    motion asked for, so that no motion at all has a miss of 1.

    Args:
        flow (`torch.Tensor`): `[2, h, w]`, the flow.
        asked (`torch.Tensor`): `[2, h, w]`, the motion asked for, in the same unit.
        share (`torch.Tensor`): `[h, w]`, the share of each cell that the thing covers.

    Returns:
        `dict[str, float]`: `miss`, the mean error inside; `leak`, the mean motion outside (NaN if nothing is
        outside); `tear`, the standard deviation of the error vector inside; `slowest`, the 10th percentile over the
        cells inside of 1 + the error along the motion asked for, in parts of it: 1 where the motion is as asked, 0
        where it is missing.

    Raises:
        ValueError: if the thing covers no cell by more than half.
    """
    inside = share > 0.5
    if not inside.any():
        raise ValueError(
            f"The mask covers no cell of {tuple(share.shape)} by more than half; leave the thing out, or measure at a "
            "larger size."
        )
    outside = F.max_pool2d(share[None, None], 2 * LEAK_DISTANCE + 1, 1, LEAK_DISTANCE)[0, 0] == 0
    moved, wanted, covered = flow[:, inside], asked[:, inside], share[inside]
    squared = wanted.square().sum(dim=0).clamp(min=1e-12)
    nearest = torch.maximum((moved * wanted).sum(dim=0) / squared, covered).clamp(max=1)
    errors = moved - nearest * wanted
    length = (covered * wanted.norm(dim=0)).mean()
    spread = (errors - errors.mean(dim=1, keepdim=True)).square().sum(dim=0).mean().sqrt()
    along = 1 + (errors * wanted).sum(dim=0) / (covered * squared)
    return {
        "miss": float(errors.norm(dim=0).mean() / length),
        "leak": float(flow[:, outside].norm(dim=0).mean() / length),
        "tear": float(spread / length),
        "slowest": float(along.quantile(0.1)),
    }


def mean_rule(asked: AskedMotion, size: tuple[int, int], share: torch.Tensor) -> torch.Tensor:
    """The mean displacement of the strokes inside the thing, zero elsewhere. Arguments as in `similarity_rule`."""
    step = asked.displacements(asked.start_points).mean(axis=0)
    return _inside_only(np.broadcast_to(step, (*share.shape, 2)), asked, size, share)


def similarity_rule(asked: AskedMotion, size: tuple[int, int], share: torch.Tensor) -> torch.Tensor:
    """The similarity transform that fits the strokes inside the thing best (Umeyama 1991), zero elsewhere.

    One stroke gives a translation.

    Args:
        asked (`AskedMotion`): the strokes.
        size (`tuple[int, int]`): working (height, width) in pixels.
        share (`torch.Tensor`): `[h, w]`, the share of each cell that the thing covers.

    Returns:
        `torch.Tensor`: `[2, h, w]` in pixels of the working size.
    """
    points = asked.start_points
    steps = asked.displacements(points)
    center, mean = points.mean(axis=0), steps.mean(axis=0)
    arms = (points - center) @ (1, 1j)  # points and displacements as complex numbers
    squared = np.square(np.abs(arms)).sum()
    factor = 0 if squared == 0 else (arms.conj() * ((steps - mean) @ (1, 1j))).sum() / squared
    rows, columns = np.mgrid[: share.shape[0], : share.shape[1]]
    cells = (np.stack([columns, rows], axis=-1) + 0.5) * (np.array(asked.mask.shape[::-1]) / share.shape[::-1])
    turned = factor * ((cells - center) @ (1, 1j))
    return _inside_only(mean + np.stack([turned.real, turned.imag], axis=-1), asked, size, share)


def _inside_only(
    displacements: np.ndarray, asked: AskedMotion, size: tuple[int, int], share: torch.Tensor
) -> torch.Tensor:
    """Displacements `[h, w, 2]` in pixels of the photograph as flow in pixels of the working size, zero outside."""
    flow = displacements * (np.array(size[::-1]) / asked.mask.shape[::-1])
    return torch.from_numpy(flow.astype(np.float32)).movedim(-1, 0) * (share > 0.5)


RULES = {"mean of the strokes": mean_rule, "similarity of the strokes": similarity_rule}
