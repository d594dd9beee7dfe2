# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""End-point error of dense flow on the latent grid, by region."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


# Edges, in pixels at 128 pixels on the shorter side, of the distances from a cell to the nearest stroke.
STROKE_DISTANCES = (0, 8, 16, 32)
# Displacement in pixels above which a cell moves.
MOVING = 0.5


@dataclass(frozen=True)
class RegionError:
    """The end-point error of a flow field over one region.

    Args:
        total (`float`): sum of the end-point errors of the cells, in pixels.
        cells (`int`): number of cells.
    """

    total: float
    cells: int


def cell_regions(
    true_flow: torch.Tensor, masks: torch.Tensor, points: torch.Tensor, cell: int
) -> dict[str, torch.Tensor]:
    """Divides the cells of the latent grid into regions.

    Args:
        true_flow (`torch.Tensor`): `[2, h, w]` in pixels, on the latent grid.
        masks (`torch.Tensor`): integer `[H, W]`, 0 = background.
        points (`torch.Tensor`): `[N, 2]`, (x, y) of the strokes in pixels.
        cell (`int`): side of a cell in pixels.

    Returns:
        `dict[str, torch.Tensor]`: bool `[h, w]` by name.

        - `body`: people and objects cover more than half of the cell. `off the body`: the other cells.
        - `still off the body`: cells off the body that do not move. `moving`: all cells that move.
        - If there are strokes, one region of the body for each range of distances from the center of the cell to the
          nearest stroke, such as `8-16 px from a stroke`.
    """
    covered = F.avg_pool2d((masks > 0).float()[None, None], cell)[0, 0]
    body, moving = covered > 0.5, true_flow.norm(dim=0) > MOVING
    regions = {"body": body, "off the body": ~body, "still off the body": ~body & ~moving, "moving": moving}
    if len(points):
        rows, columns = torch.meshgrid(*(torch.arange(length) for length in body.shape), indexing="ij")
        centers = (torch.stack([columns, rows], dim=-1) + 0.5) * cell
        distance = torch.cdist(centers.flatten(0, 1).float(), points.float()).amin(dim=1).unflatten(0, body.shape)
        factor = min(masks.shape) / 128
        for near, far in zip(STROKE_DISTANCES, (*STROKE_DISTANCES[1:], None)):
            name = f"{near * factor:g}-{far * factor:g} px" if far else f"over {near * factor:g} px"
            within = (distance >= near * factor) & (distance < (far * factor if far else torch.inf))
            regions[f"{name} from a stroke"] = body & within
    return regions


def end_point_errors(
    flow: torch.Tensor, true_flow: torch.Tensor, regions: dict[str, torch.Tensor]
) -> dict[str, RegionError]:
    """The end-point error ‖d - d̂‖ over each region.

    Args:
        flow, true_flow (`torch.Tensor`): `[2, h, w]` in pixels.
        regions (`dict[str, torch.Tensor]`): bool `[h, w]` by name.

    Returns:
        `dict[str, RegionError]`: the error of each region, in pixels.
    """
    error = (flow - true_flow).norm(dim=0)
    return {name: RegionError(float(error[cells].sum()), int(cells.sum())) for name, cells in regions.items()}
