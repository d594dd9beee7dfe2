import pytest
import torch

from mcdiff_pipeline.evaluation.metrics.flow_errors import RegionError, cell_regions, end_point_errors


CELL = 4


def body_on_the_left() -> tuple[torch.Tensor, torch.Tensor]:
    """True flow `[2, 32, 32]` in pixels and mask `[128, 128]`: the left half is a body that moves by (3, 4)."""
    flow, mask = torch.zeros(2, 32, 32), torch.zeros(128, 128, dtype=torch.uint8)
    flow[0, :, :16], flow[1, :, :16] = 3, 4
    mask[:, :64] = 1
    return flow, mask


def test_error_of_zero_flow_is_the_motion_on_the_body_and_zero_off_it():
    flow, mask = body_on_the_left()
    errors = end_point_errors(torch.zeros_like(flow), flow, cell_regions(flow, mask, torch.zeros(0, 2), CELL))
    assert errors == {
        "body": RegionError(pytest.approx(5 * 32 * 16), 32 * 16),
        "off the body": RegionError(0, 32 * 16),
        "still off the body": RegionError(0, 32 * 16),
        "moving": RegionError(pytest.approx(5 * 32 * 16), 32 * 16),
    }


def test_cell_belongs_to_the_body_if_more_than_half_of_it_is_covered():
    flow, mask = body_on_the_left()
    mask[:, 64:66] = 1  # half a cell
    assert cell_regions(flow, mask, torch.zeros(0, 2), CELL)["body"].sum() == 32 * 16
    mask[:, 66:67] = 1
    assert cell_regions(flow, mask, torch.zeros(0, 2), CELL)["body"].sum() == 32 * 17


def test_cells_of_the_body_are_grouped_by_distance_to_the_nearest_stroke():
    flow, mask = body_on_the_left()
    regions = cell_regions(flow, mask, torch.tensor([[2.0, 2.0]]), CELL)
    rings = {name: cells for name, cells in regions.items() if name.endswith("from a stroke")}
    assert list(rings) == [
        "0-8 px from a stroke",
        "8-16 px from a stroke",
        "16-32 px from a stroke",
        "over 32 px from a stroke",
    ]
    # The center of the cell in row r and column c is 4 * (c, r) pixels from the stroke.
    assert rings["0-8 px from a stroke"].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert torch.equal(torch.stack(list(rings.values())).sum(dim=0), regions["body"].long())
