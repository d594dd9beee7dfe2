"""The loss of flow completion."""

import pytest
import torch

from loop.flow_loss import flow_completion_loss, gradient_loss


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


def test_gradient_loss_sees_what_tears_a_thing_and_nothing_else():
    labels = torch.zeros(1, 1, 8, 16, dtype=torch.uint8)
    labels[..., 4:12] = 1  # in cells of 2 x 2 pixels, columns 2 to 5 of a thing
    labels[..., 12:15] = 2  # and column 6 of another; an outline crosses column 7
    target = torch.zeros(1, 2, 4, 8)
    moved_apart, torn, noisy_background = (target.clone() for _ in range(3))
    moved_apart[..., 2:6], moved_apart[..., 6:] = 3.0, -5.0
    torn[:, 0, :, 4:6] = 1.0
    noisy_background[..., :2], noisy_background[..., 7] = torch.randn(1, 2, 4, 2), 3.0
    assert gradient_loss(moved_apart, target, labels) == pytest.approx(0, abs=2e-3)
    assert gradient_loss(noisy_background, target, labels) == pytest.approx(0, abs=2e-3)
    pairs = 4 * 3 + 3 * 4 + 3  # of neighbors in the first thing, in rows and columns, and in the second one
    assert gradient_loss(torn, target, labels) == pytest.approx(4 / pairs, abs=2e-3)
    assert gradient_loss(torn, torn, labels) == pytest.approx(0, abs=2e-3)
    assert gradient_loss(torn, target, torch.zeros_like(labels)) == 0
