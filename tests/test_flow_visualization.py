# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Flow painted with the Middlebury color wheel."""

import pytest
import torch

from mcdiff_pipeline.flow_visualization import flow_to_image


def random_flow(*shape, scale=2.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale


class TestFlowToImage:
    def test_colors_equal_those_of_torchvision(self):
        utils = pytest.importorskip("torchvision.utils", reason="torchvision's color wheel is the reference")
        flow = random_flow(3, 2, 40, 50, scale=7.0)
        assert torch.equal(flow_to_image(flow), utils.flow_to_image(flow))

    def test_directions_have_the_colors_of_the_middlebury_wheel(self):
        flow = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]).T.reshape(1, 2, 1, 4)
        right, down, left, up = flow_to_image(flow)[0, :, 0].T.tolist()
        assert right == [255, 0, 0]
        assert down[0] > 200 and down[1] > 200 and down[2] == 0  # yellow
        assert left[0] == 0 and left[1] > 200 and left[2] > 200  # cyan
        assert up[0] > 60 and up[1] == 0 and up[2] > 200  # blue to violet

    def test_no_motion_is_white_and_unknown_flow_is_black(self):
        flow = torch.zeros(1, 2, 1, 4)
        flow[0, 0, 0] = torch.tensor([0.0, 1e10, float("nan"), 2.0])
        pixels = flow_to_image(flow)[0, :, 0].T.tolist()
        assert pixels == [[255, 255, 255], [0, 0, 0], [0, 0, 0], [255, 0, 0]]

    def test_image_without_motion_is_white(self):
        assert torch.equal(flow_to_image(torch.zeros(1, 2, 3, 4)), torch.full((1, 3, 3, 4), 255, dtype=torch.uint8))

    def test_given_magnitude_is_the_scale_and_larger_ones_are_darkened(self):
        flow = torch.zeros(1, 2, 1, 3)
        flow[0, 0, 0] = torch.tensor([2.0, 4.0, 8.0])
        pixels = flow_to_image(flow, max_magnitude=4.0)[0, :, 0].T.tolist()
        assert pixels == [[255, 127, 127], [255, 0, 0], [191, 0, 0]]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_painted(self, dtype):
        image = flow_to_image(random_flow(1, 2, 6, 8).to(dtype))
        assert image.dtype == torch.uint8
        assert image.shape == (1, 3, 6, 8)

    @pytest.mark.parametrize("max_magnitude", [0.0, -1.0, float("nan")])
    def test_scale_that_is_not_positive_is_refused(self, max_magnitude):
        with pytest.raises(ValueError, match="max_magnitude.*above 0"):
            flow_to_image(torch.zeros(1, 2, 6, 8), max_magnitude)
