# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""End-point error of dense flow on the latent grid: on bodies, off them, where things move, away from strokes."""

import torch
import torch.nn.functional as F


# Edges, in pixels at 128 pixels on the shorter side, of the distances from a cell to the nearest stroke.
STROKE_DISTANCES = (0, 8, 16, 32)
# What moves less, in pixels, counts as still.
MOVING = 0.5


def cell_regions(
    true_flow: torch.Tensor, masks: torch.Tensor, points: torch.Tensor, cell: int
) -> dict[str, torch.Tensor]:
    """Which cells of the latent grid belong to what.

    Args:
        true_flow (`torch.Tensor`): `[2, h, w]` in pixels, on the latent grid.
        masks (`torch.Tensor`): integer `[H, W]`, 0 = background.
        points (`torch.Tensor`): `[N, 2]`, (x, y) of the strokes in pixels.
        cell (`int`): pixels along one side of a cell.

    Returns:
        `dict[str, torch.Tensor]`: bool `[h, w]` for `body` (people and things cover more than half), `off the body`
        (the rest), `still off the body` (what of it does not move), `moving`, and, where there are strokes, one for
        each range of distances from the cell's center to the nearest stroke, such as `8-16 px from a stroke`, on
        bodies.
    """
    height, width = true_flow.shape[1:]
    covered = F.avg_pool2d((masks > 0).float()[None, None], cell)[0, 0]
    body, moving = covered > 0.5, true_flow.norm(dim=0) > MOVING
    regions = {"body": body, "off the body": ~body, "still off the body": ~body & ~moving, "moving": moving}
    if len(points):
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers = (torch.stack([columns, rows], dim=-1) + 0.5) * cell
        distance = torch.cdist(centers.flatten(0, 1).float(), points.float()).amin(dim=1).unflatten(0, (height, width))
        factor = min(masks.shape) / 128
        for near, far in zip(STROKE_DISTANCES, (*STROKE_DISTANCES[1:], None)):
            name = f"{near * factor:g}-{far * factor:g} px" if far else f"over {near * factor:g} px"
            within = (distance >= near * factor) & (distance < (far * factor if far else torch.inf))
            regions[f"{name} from a stroke"] = body & within
    return regions


def end_point_errors(
    flow: torch.Tensor, true_flow: torch.Tensor, regions: dict[str, torch.Tensor]
) -> dict[str, tuple[float, int]]:
    """Sums of the end-point error ‖d - d̂‖ over the cells of each region, and the number of those cells.

    Args:
        flow, true_flow (`torch.Tensor`): `[2, h, w]` in pixels.
        regions (`dict[str, torch.Tensor]`): bool `[h, w]` by name.

    Returns:
        `dict[str, tuple[float, int]]`: sum in pixels and number of cells of each region.
    """
    error = (flow - true_flow).norm(dim=0)
    return {name: (float(error[cells].sum()), int(cells.sum())) for name, cells in regions.items()}
