"""The loss of flow completion."""

import pytest
import torch

from loop.flow_loss import flow_completion_loss


def test_flow_loss_weighs_errors_by_motion():
    target = torch.zeros(1, 2, 1, 2)
    target[0, 0, 0, 0] = 4.0  # one cell moves, one is still
    moving_missed, still_missed = target.clone(), target.clone()
    moving_missed[0, 0, 0, 0] = 3.0
    still_missed[0, 1, 0, 1] = 1.0

    def loss(prediction, weighting, norm="norm"):
        return flow_completion_loss(prediction, target, weighting=weighting, weight_floor=0.1, norm=norm)

    assert loss(moving_missed, "magnitude") == pytest.approx((0.1 + 1) * 1 / 2, abs=2e-3)
    assert loss(still_missed, "magnitude") == pytest.approx(0.1 * 1 / 2, abs=2e-3)
    assert loss(2 * target, "magnitude", norm="squared") == pytest.approx((0.1 + 1) * 16 / 2)
    assert loss(moving_missed, "none") == pytest.approx(1 / 2, abs=2e-3)
    assert loss(still_missed, "none") == pytest.approx(1 / 2, abs=2e-3)


def test_flow_loss_by_mask_gives_all_background_cells_the_same_weight():
    target = torch.zeros(1, 2, 1, 3)
    target[0, 0, 0, 1:] = 4.0  # a still background, a moving background, and a person
    foreground = torch.tensor([0.0, 0.0, 1.0])[None, None, None]
    settings = {"weighting": "mask", "weight_floor": 0.2, "norm": "norm", "foreground": foreground}
    for cell, weight in enumerate((0.2, 0.2, 0.2 + 1)):
        missed = target.clone()
        missed[0, 1, 0, cell] = 3.0
        assert flow_completion_loss(missed, target, **settings) == pytest.approx(weight * 3 / 3, abs=4e-3)
