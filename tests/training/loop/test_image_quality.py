"""PSNR in validation."""

import math

import pytest
import torch

from loop.image_quality import psnr, psnr_moving_and_still


def test_psnr_is_ten_for_a_squared_error_of_a_tenth():
    target = torch.zeros(1, 3, 2, 2)
    output = target + 2 * math.sqrt(0.1)
    assert psnr(output, target) == pytest.approx(10, abs=1e-4)


def test_psnr_is_split_into_moving_and_still_pixels():
    target = torch.zeros(1, 3, 1, 2)
    output, moving = target.clone(), torch.tensor([[[True, False]]])
    output[..., 0], output[..., 1] = math.sqrt(0.1), math.sqrt(0.01)
    values = psnr_moving_and_still({"model": output}, target, moving)
    assert values == pytest.approx({"psnr_moving_model": 10, "psnr_still_model": 20}, abs=1e-4)
