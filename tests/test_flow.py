# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import io
import math

import numpy as np
import pytest
import torch

from mcdiff_pipeline.flow import (
    accumulate_flow,
    backward_warp,
    flow_magnitude,
    flow_stretch,
    forward_splat,
    resize_flow,
)
from mcdiff_pipeline.flow_io import read_flo, read_kitti_png, write_flo, write_kitti_png
from mcdiff_pipeline.flow_visualization import flow_to_image


HALF_DTYPES = [torch.float16, torch.bfloat16]


def constant_flow(u, v, height=6, width=8, batch=1):
    return torch.tensor([u, v], dtype=torch.float32).view(1, 2, 1, 1).repeat(batch, 1, height, width)


def random_flow(*shape, scale=2.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale


def picture(batch=1, channels=3, height=6, width=8, seed=1):
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


class TestResizeFlow:
    @pytest.mark.parametrize("size", [(3, 4), (12, 16), (6, 4), (3, 16), (5, 7), (6, 8)])
    def test_displacements_scale_with_their_axis(self, size):
        resized = resize_flow(constant_flow(4.0, -3.0), size)
        torch.testing.assert_close(resized, constant_flow(4.0 * size[1] / 8, -3.0 * size[0] / 6, *size))

    def test_shrinking_takes_the_mean_of_what_a_cell_covers(self):
        flow = random_flow(2, 2, 8, 8)
        expected = flow.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5)) / 4
        torch.testing.assert_close(resize_flow(flow, (2, 2)), expected)

    def test_growing_keeps_pixel_centers_aligned(self):
        # A zoom about the center of the picture stays a zoom about the center of the picture.
        x = torch.arange(8) + 0.5 - 4
        zoom = torch.stack([x.expand(8, 8), x[:, None].expand(8, 8)])[None] * 0.1
        x = torch.arange(16) + 0.5 - 8
        expected = torch.stack([x.expand(16, 16), x[:, None].expand(16, 16)])[None] * 0.1
        inner = (..., slice(1, -1), slice(1, -1))
        torch.testing.assert_close(resize_flow(zoom, (16, 16))[inner], expected[inner])

    def test_the_same_size_changes_nothing(self):
        flow = random_flow(1, 2, 5, 7)
        assert torch.equal(resize_flow(flow, (5, 7)), flow)

    @pytest.mark.parametrize("dtype", HALF_DTYPES)
    def test_half_precision_is_kept(self, dtype):
        resized = resize_flow(constant_flow(4.0, 2.0).to(dtype), (3, 4))
        assert resized.dtype == dtype
        assert torch.equal(resized, constant_flow(2.0, 1.0, 3, 4).to(dtype))

    @pytest.mark.parametrize(
        ("flow", "size", "message"),
        [
            (torch.zeros(2, 6, 8), (3, 4), r"\(2, 6, 8\).*\[batch, 2, height, width\]"),
            (torch.zeros(1, 3, 6, 8), (3, 4), r"\(1, 3, 6, 8\)"),
            (torch.zeros(1, 2, 6, 8, dtype=torch.int64), (3, 4), "torch.int64"),
            (torch.zeros(1, 2, 6, 8), (0, 4), r"\(0, 4\).*at least 1"),
        ],
    )
    def test_errors_name_the_value_and_what_is_allowed(self, flow, size, message):
        with pytest.raises(ValueError, match=message):
            resize_flow(flow, size)


class TestStretch:
    @pytest.mark.parametrize(
        "matrix, largest",
        [
            ([[1, 0], [0, 1]], 1),
            ([[0, -1], [1, 0]], 1),
            ([[3, 0], [0, 0.5]], 3),
            ([[0.5, 0], [0, 2]], 2),
            ([[1, 1], [0, 1]], (1 + 5**0.5) / 2),
        ],
    )
    def test_of_an_affine_motion_is_its_largest_singular_value(self, matrix, largest):
        y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
        places = torch.stack([x, y])
        flow = torch.einsum("ij,jhw->ihw", torch.tensor(matrix).float(), places) - places + 4
        torch.testing.assert_close(flow_stretch(flow[None])[..., 1:-1, 1:-1], torch.full((1, 1, 4, 5), float(largest)))

    def test_a_cell_that_stays_with_one_side_is_not_torn(self):
        flow = torch.zeros(1, 2, 4, 8)
        flow[:, 0, :, 5:] = 10
        assert (flow_stretch(flow) == 1).all()

    def test_a_cell_between_two_sides_is_torn(self):
        flow = torch.zeros(1, 2, 4, 9)
        flow[:, 0, :, 5:] = 10
        flow[:, 0, :, 4] = 4
        assert flow_stretch(flow)[0, 0, 0].tolist() == [1] * 4 + [5] + [1] * 4

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_kept(self, dtype):
        stretch = flow_stretch(torch.full((1, 2, 4, 4), 300.0, dtype=dtype))
        assert stretch.dtype == dtype and (stretch == 1).all()

    def test_what_is_no_flow_is_refused(self):
        with pytest.raises(ValueError, match="`flow` has shape"):
            flow_stretch(torch.zeros(1, 3, 4, 4))


class TestForwardSplat:
    @pytest.mark.parametrize(("u", "v"), [(0, 0), (2, 0), (-3, 1), (0, -2)])
    def test_whole_cells_move_exactly_and_leave_holes(self, u, v):
        image = picture()
        output, coverage = forward_splat(image, constant_flow(u, v))
        expected, covered = torch.zeros_like(image), torch.zeros(1, 1, 6, 8)
        for y in range(6):
            for x in range(8):
                if 0 <= y + v < 6 and 0 <= x + u < 8:
                    expected[:, :, y + v, x + u] = image[:, :, y, x]
                    covered[:, :, y + v, x + u] = 1
        assert torch.equal(output, expected)
        assert torch.equal(coverage, covered)

    def test_a_fraction_of_a_cell_is_shared_bilinearly(self):
        image = torch.zeros(1, 1, 3, 3)
        image[..., 1, 1] = 1
        flow = torch.zeros(1, 2, 3, 3)
        flow[:, :, 1, 1] = torch.tensor([0.25, -0.5])
        _, coverage = forward_splat(image, flow)
        expected = torch.tensor([[1.0, 1.375, 1.125], [1.0, 0.375, 1.125], [1.0, 1.0, 1.0]])
        torch.testing.assert_close(coverage[0, 0], expected)

    def test_without_importance_cells_that_meet_are_averaged(self):
        image = torch.tensor([1.0, 0.0, 3.0]).view(1, 1, 1, 3)
        flow = torch.zeros(1, 2, 1, 3)
        flow[0, 0, 0] = torch.tensor([1.0, 9.0, -1.0])  # both ends move to the middle, the middle leaves
        output, coverage = forward_splat(image, flow)
        torch.testing.assert_close(output.flatten(), torch.tensor([0.0, 2.0, 0.0]))
        torch.testing.assert_close(coverage.flatten(), torch.tensor([0.0, 2.0, 0.0]))

    def test_importance_weighs_exponentially_and_leaves_coverage_alone(self):
        image = torch.tensor([1.0, 0.0, 3.0]).view(1, 1, 1, 3)
        flow = torch.zeros(1, 2, 1, 3)
        flow[0, 0, 0] = torch.tensor([1.0, 9.0, -1.0])
        importance = torch.tensor([math.log(3.0), 0.0, 0.0]).view(1, 1, 1, 3)
        output, coverage = forward_splat(image, flow, importance)
        torch.testing.assert_close(output[..., 1].item(), (3 * 1.0 + 1 * 3.0) / 4)
        torch.testing.assert_close(coverage.flatten(), torch.tensor([0.0, 2.0, 0.0]))

    def test_a_far_larger_importance_is_in_front(self):
        image = torch.tensor([1.0, 0.0, 3.0]).view(1, 1, 1, 3)
        flow = torch.zeros(1, 2, 1, 3)
        flow[0, 0, 0] = torch.tensor([1.0, 9.0, -1.0])
        output, _ = forward_splat(image, flow, torch.tensor([40.0, 0.0, 0.0]).view(1, 1, 1, 3))
        assert output[..., 1].item() == 1.0

    @pytest.mark.parametrize("importance", [-1e30, -1e4, 1e4, 1e30])
    def test_extreme_importance_stays_finite_and_loses_nothing(self, importance):
        image = picture().requires_grad_()
        weights = torch.zeros(1, 1, 6, 8)
        weights[..., :4] = importance
        weights.requires_grad_()
        flow = constant_flow(0.3, 0.0).requires_grad_()
        output, _ = forward_splat(image, flow, weights)
        # Columns 1 and 6 receive from one side of the border of importance only.
        torch.testing.assert_close(output[..., 1], 0.3 * image[..., 0] + 0.7 * image[..., 1])
        torch.testing.assert_close(output[..., 6], 0.3 * image[..., 5] + 0.7 * image[..., 6])
        output.sum().backward()
        assert all(tensor.grad.isfinite().all() for tensor in (image, flow, weights))

    def test_only_differences_of_importance_within_a_sample_matter(self):
        image, flow, weights = picture(batch=2), random_flow(2, 2, 6, 8), random_flow(2, 1, 6, 8)
        shifted = weights + torch.tensor([1000.0, -2000.0]).view(2, 1, 1, 1)
        torch.testing.assert_close(
            forward_splat(image, flow, shifted)[0], forward_splat(image, flow, weights)[0], rtol=1e-3, atol=1e-3
        )

    def test_samples_of_a_batch_do_not_mix(self):
        image, flow, weights = picture(batch=3), random_flow(3, 2, 6, 8), random_flow(3, 1, 6, 8)
        together = forward_splat(image, flow, weights)
        for index in range(3):
            one = slice(index, index + 1)
            alone = forward_splat(image[one], flow[one], weights[one])
            torch.testing.assert_close(together[0][one], alone[0])
            torch.testing.assert_close(together[1][one], alone[1])

    def test_a_constant_stays_constant_wherever_something_lands(self):
        output, coverage = forward_splat(torch.full((1, 1, 6, 8), 5.0), random_flow(1, 2, 6, 8), picture(channels=1))
        torch.testing.assert_close(output, torch.where(coverage >= 1e-3, 5.0, 0.0))

    def test_coverage_counts_every_cell_that_stays_in_the_picture(self):
        coverage = forward_splat(picture(height=20, width=20), random_flow(1, 2, 20, 20, scale=0.0))[1]
        assert coverage.sum() == 400

    def test_rounding_errors_do_not_fill_holes(self):
        output, coverage = forward_splat(picture(), constant_flow(2.0 - 1e-5, 0.0))
        assert coverage[..., 1].max() < 1e-4
        assert torch.equal(output[..., 1], torch.zeros(1, 3, 6))

    @pytest.mark.parametrize("displacement", [1e30, float("inf"), float("nan")])
    def test_what_leaves_for_good_is_dropped(self, displacement):
        flow = constant_flow(0.0, 0.0)
        flow[:, 0, 2, 3] = displacement
        output, coverage = forward_splat(picture(), flow)
        assert output.isfinite().all()
        assert coverage[0, 0, 2, 3] == 0
        assert coverage.sum() == 6 * 8 - 1

    def test_gradients_of_input_flow_and_importance_are_exact(self):
        double = {"dtype": torch.float64, "requires_grad": True}
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(2, 2, 4, 5, generator=generator, **double)
        flow = torch.randn(2, 2, 4, 5, generator=generator, **double)
        importance = torch.randn(2, 1, 4, 5, generator=generator, **double)
        assert torch.autograd.gradcheck(forward_splat, (image, flow, importance))

    @pytest.mark.parametrize("dtype", HALF_DTYPES)
    def test_half_precision_is_computed_in_float32(self, dtype):
        image, flow, weights = picture().to(dtype), random_flow(1, 2, 6, 8).to(dtype), picture(channels=1).to(dtype)
        output, coverage = forward_splat(image, flow, weights)
        expected, expected_coverage = forward_splat(image.float(), flow.float(), weights.float())
        assert output.dtype == coverage.dtype == dtype
        assert torch.equal(output, expected.to(dtype))
        assert torch.equal(coverage, expected_coverage.to(dtype))

    def test_autocast_changes_nothing(self):
        image, flow, weights = picture(), random_flow(1, 2, 6, 8), picture(channels=1)
        expected = forward_splat(image, flow, weights)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = forward_splat(image, flow, weights)
        assert torch.equal(output[0], expected[0])
        assert torch.equal(output[1], expected[1])

    @pytest.mark.parametrize(
        ("image", "flow", "importance", "message"),
        [
            (torch.zeros(1, 3, 6, 8), torch.zeros(1, 2, 6, 7), None, r"\(1, 3, 6, 8\).*\(1, 2, 6, 7\)"),
            (torch.zeros(2, 3, 6, 8), torch.zeros(1, 2, 6, 8), None, "batch"),
            (torch.zeros(3, 6, 8), torch.zeros(1, 2, 6, 8), None, r"\(3, 6, 8\)"),
            (torch.zeros(1, 3, 6, 8, dtype=torch.uint8), torch.zeros(1, 2, 6, 8), None, "torch.uint8"),
            (torch.zeros(1, 3, 6, 8), torch.zeros(1, 2, 6, 8), torch.zeros(1, 6, 8), r"importance.*\(1, 1, 6, 8\)"),
        ],
    )
    def test_errors_name_the_value_and_what_is_allowed(self, image, flow, importance, message):
        with pytest.raises(ValueError, match=message):
            forward_splat(image, flow, importance)


class TestBackwardWarp:
    @pytest.mark.parametrize(("u", "v"), [(0, 0), (2, 0), (-3, 1), (0, -2), (100, -100)])
    def test_whole_cells_are_exact_and_the_border_repeats(self, u, v):
        image = picture(height=33, width=57)
        warped = backward_warp(image, constant_flow(u, v, 33, 57))
        rows, columns = (torch.arange(33) + v).clamp(0, 32), (torch.arange(57) + u).clamp(0, 56)
        assert torch.equal(warped, image[:, :, rows][:, :, :, columns])

    def test_fractions_of_a_cell_are_interpolated(self):
        image = torch.arange(8.0).expand(1, 1, 6, 8)
        warped = backward_warp(image, constant_flow(0.25, 0.5))
        torch.testing.assert_close(warped[..., :-1], image[..., :-1] + 0.25)
        torch.testing.assert_close(warped[..., -1], image[..., -1])

    def test_it_undoes_a_splat_where_nothing_left(self):
        image, flow = picture(), constant_flow(2.0, -1.0)
        splatted, _ = forward_splat(image, flow)
        assert torch.equal(backward_warp(splatted, flow)[..., 1:, :-2], image[..., 1:, :-2])

    def test_it_equals_grid_sample(self):
        image, flow = picture(batch=2), random_flow(2, 2, 6, 8)
        x = (torch.arange(8) + flow[:, 0]) * 2 / 7 - 1
        y = (torch.arange(6)[:, None] + flow[:, 1]) * 2 / 5 - 1
        expected = torch.nn.functional.grid_sample(
            image, torch.stack([x, y], dim=3), mode="bilinear", padding_mode="border", align_corners=True
        )
        torch.testing.assert_close(backward_warp(image, flow), expected, rtol=1e-5, atol=1e-5)

    def test_unknown_flow_gives_unknown_values_and_no_crash(self):
        flow = constant_flow(0.0, 0.0)
        flow[:, :, 2, 3] = float("nan")
        warped = backward_warp(picture(), flow)
        assert warped[:, :, 2, 3].isnan().all()
        assert warped.isnan().sum() == 3

    def test_gradients_are_exact(self):
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        flow = torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(backward_warp, (image, flow))

    @pytest.mark.parametrize("dtype", HALF_DTYPES)
    def test_half_precision_is_computed_in_float32(self, dtype):
        image, flow = picture().to(dtype), random_flow(1, 2, 6, 8).to(dtype)
        warped = backward_warp(image, flow)
        assert warped.dtype == dtype
        assert torch.equal(warped, backward_warp(image.float(), flow.float()).to(dtype))

    def test_errors_name_the_shapes(self):
        with pytest.raises(ValueError, match=r"\(1, 3, 6, 8\).*\(1, 2, 3, 4\)"):
            backward_warp(torch.zeros(1, 3, 6, 8), torch.zeros(1, 2, 3, 4))


class TestAccumulateFlow:
    def test_translations_add(self):
        accumulated = accumulate_flow(constant_flow(1.5, -2.0), constant_flow(0.5, 3.0))
        torch.testing.assert_close(accumulated, constant_flow(2.0, 1.0))

    def test_the_second_flow_is_read_where_the_first_one_leads(self):
        second = torch.zeros(1, 2, 6, 8)
        second[:, 1, 2, 5] = 1.0  # only the thing at (5, 2) of the middle frame moves on
        accumulated = accumulate_flow(constant_flow(3.0, 0.0), second)
        expected = constant_flow(3.0, 0.0)
        expected[:, 1, 2, 2] = 1.0
        assert torch.equal(accumulated, expected)

    def test_a_zoom_applied_twice_is_the_squared_zoom(self):
        x, y = torch.arange(9.0) - 4, torch.arange(9.0)[:, None] - 4
        grid = torch.stack([x.expand(9, 9), y.expand(9, 9)])[None]
        accumulated = accumulate_flow(-0.5 * grid, -0.5 * grid)  # to the half of the distance from the center
        torch.testing.assert_close(accumulated, -0.75 * grid)

    def test_different_shapes_are_refused(self):
        with pytest.raises(ValueError, match=r"\(1, 2, 6, 8\).*\(1, 2, 3, 4\).*resize_flow"):
            accumulate_flow(torch.zeros(1, 2, 6, 8), torch.zeros(1, 2, 3, 4))


class TestFlowToImage:
    def test_it_equals_torchvision(self):
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

    def test_rest_is_white_and_unknown_flow_is_black(self):
        flow = torch.zeros(1, 2, 1, 4)
        flow[0, 0, 0] = torch.tensor([0.0, 1e10, float("nan"), 2.0])
        pixels = flow_to_image(flow)[0, :, 0].T.tolist()
        assert pixels == [[255, 255, 255], [0, 0, 0], [0, 0, 0], [255, 0, 0]]

    def test_a_picture_without_motion_is_white(self):
        assert torch.equal(flow_to_image(torch.zeros(1, 2, 3, 4)), torch.full((1, 3, 3, 4), 255, dtype=torch.uint8))

    def test_the_given_magnitude_is_the_scale_and_more_is_darkened(self):
        flow = torch.zeros(1, 2, 1, 3)
        flow[0, 0, 0] = torch.tensor([2.0, 4.0, 8.0])
        pixels = flow_to_image(flow, max_magnitude=4.0)[0, :, 0].T.tolist()
        assert pixels == [[255, 127, 127], [255, 0, 0], [191, 0, 0]]

    @pytest.mark.parametrize("dtype", HALF_DTYPES)
    def test_half_precision_is_painted(self, dtype):
        image = flow_to_image(random_flow(1, 2, 6, 8).to(dtype))
        assert image.dtype == torch.uint8
        assert image.shape == (1, 3, 6, 8)

    @pytest.mark.parametrize("max_magnitude", [0.0, -1.0, float("nan")])
    def test_the_scale_has_to_be_positive(self, max_magnitude):
        with pytest.raises(ValueError, match="max_magnitude.*above 0"):
            flow_to_image(torch.zeros(1, 2, 6, 8), max_magnitude)


class TestFlowMagnitude:
    def test_it_is_the_euclidean_norm_in_float32(self):
        flow = random_flow(2, 2, 4, 5)
        torch.testing.assert_close(flow_magnitude(flow), flow.norm(dim=1, keepdim=True))
        assert flow_magnitude(flow.half()).dtype == torch.float32
        assert flow_magnitude(constant_flow(0, 0)).max() < 1e-15

    def test_its_gradient_is_the_direction_and_zero_where_nothing_moves(self):
        flow = torch.zeros(1, 2, 1, 2)
        flow[0, :, 0, 0] = torch.tensor([3.0, 4.0])
        flow_magnitude(flow.requires_grad_()).sum().backward()
        torch.testing.assert_close(flow.grad[0, :, 0], torch.tensor([[0.6, 0.0], [0.8, 0.0]]))


def test_tensor_functions_compile_without_graph_breaks():
    def chain(image, flow, importance):
        splatted, coverage = forward_splat(image, flow, importance)
        warped = backward_warp(splatted, accumulate_flow(flow, flow))
        return warped, coverage, flow_to_image(resize_flow(flow, (3, 10)))

    arguments = picture(), random_flow(1, 2, 6, 8), picture(channels=1)
    compiled = torch.compile(chain, fullgraph=True, backend="eager")
    for output, expected in zip(compiled(*arguments), chain(*arguments), strict=True):
        torch.testing.assert_close(output, expected)


class TestFlo:
    def test_round_trip_is_exact(self, tmp_path):
        flow = random_flow(2, 5, 7, scale=100.0)
        write_flo(tmp_path / "a.flo", flow)
        assert torch.equal(read_flo(tmp_path / "a.flo"), flow)
        assert [file.name for file in tmp_path.iterdir()] == ["a.flo"]

    def test_the_layout_is_middleburys(self, tmp_path):
        write_flo(tmp_path / "a.flo", torch.arange(12.0).view(2, 2, 3))
        content = (tmp_path / "a.flo").read_bytes()
        assert np.frombuffer(content, "<f4", count=1) == np.float32(202021.25)
        assert np.frombuffer(content, "<i4", offset=4, count=2).tolist() == [3, 2]
        assert np.frombuffer(content, "<f4", offset=12).tolist() == [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]

    def test_torchvision_reads_the_same_numbers(self, tmp_path):
        datasets = pytest.importorskip("torchvision.datasets._optical_flow", reason="torchvision's reader is compared")
        flow = random_flow(2, 5, 7, scale=100.0)
        write_flo(tmp_path / "a.flo", flow)
        assert np.array_equal(datasets._read_flo(str(tmp_path / "a.flo")), flow.numpy())

    def test_open_files_are_read_and_written(self):
        flow, file = random_flow(2, 5, 7), io.BytesIO()
        write_flo(file, flow)
        file.seek(0)
        assert torch.equal(read_flo(file), flow)

    def test_half_precision_and_views_are_written(self, tmp_path):
        flow = random_flow(2, 5, 7).to(torch.bfloat16).transpose(1, 2)
        write_flo(tmp_path / "a.flo", flow)
        assert torch.equal(read_flo(tmp_path / "a.flo"), flow.float())

    def test_a_failed_write_leaves_the_old_file(self, tmp_path):
        flow = random_flow(2, 5, 7)
        write_flo(tmp_path / "a.flo", flow)
        with pytest.raises(ValueError):
            write_flo(tmp_path / "a.flo", flow[None])
        assert torch.equal(read_flo(tmp_path / "a.flo"), flow)

    def test_errors_say_what_is_wrong(self, tmp_path):
        flow = random_flow(2, 5, 7)
        with pytest.raises(ValueError, match=r"\(1, 2, 5, 7\).*\[2, height, width\].*one by one"):
            write_flo(tmp_path / "a.flo", flow[None])
        with pytest.raises(ValueError, match=r"a\.png.*\.flo"):
            write_flo(tmp_path / "a.png", flow)
        with pytest.raises(FileNotFoundError, match="no folder.*missing"):
            write_flo(tmp_path / "missing" / "a.flo", flow)
        with pytest.raises(FileNotFoundError, match=r"no file.*a\.flo"):
            read_flo(tmp_path / "a.flo")
        write_flo(tmp_path / "a.flo", flow)
        content = (tmp_path / "a.flo").read_bytes()
        (tmp_path / "a.flo").write_bytes(content[:-1])
        with pytest.raises(ValueError, match=r"a\.flo.*damaged.*7 x 5 pixels.*292 bytes.*291"):
            read_flo(tmp_path / "a.flo")
        (tmp_path / "a.flo").write_bytes(b"\x89PNG" + content[4:])
        with pytest.raises(ValueError, match=r"a\.flo.*not a Middlebury"):
            read_flo(tmp_path / "a.flo")


class TestKittiPng:
    @pytest.fixture
    def flow(self):
        """Every multiple of 1/64 pixel that the format has, `[2, 256, 256]`."""
        every = (torch.arange(2**16) - 2**15).float().view(256, 256) / 64
        return torch.stack([every, every.flip(1).T])

    @pytest.fixture
    def valid(self):
        return torch.rand(256, 256, generator=torch.Generator().manual_seed(0)) > 0.3

    def test_every_value_of_the_format_survives(self, tmp_path, flow, valid):
        write_kitti_png(tmp_path / "a.png", flow, valid)
        read, read_valid = read_kitti_png(tmp_path / "a.png")
        assert torch.equal(read, flow)
        assert torch.equal(read_valid, valid)
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"]

    def test_torchvision_reads_the_same_numbers(self, tmp_path, flow, valid):
        datasets = pytest.importorskip("torchvision.datasets._optical_flow", reason="torchvision's reader is compared")
        write_kitti_png(tmp_path / "a.png", flow, valid)
        read, read_valid = datasets._read_16bits_png_with_flow_and_valid_mask(str(tmp_path / "a.png"))
        assert np.array_equal(read, flow.numpy())
        assert np.array_equal(read_valid, valid.numpy())

    def test_opencv_reads_and_writes_the_same_numbers(self, tmp_path, flow, valid):
        cv2 = pytest.importorskip("cv2", reason="OpenCV's PNG codec is compared")
        write_kitti_png(tmp_path / "a.png", flow, valid)
        pixels = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)  # blue, green, red
        assert pixels.dtype == np.uint16
        expected = torch.stack([valid.float(), flow[1] * 64 + 2**15, flow[0] * 64 + 2**15], dim=2)
        assert np.array_equal(pixels, expected.numpy())
        cv2.imwrite(str(tmp_path / "b.png"), pixels)
        read, read_valid = read_kitti_png(tmp_path / "b.png")
        assert torch.equal(read, flow)
        assert torch.equal(read_valid, valid)

    def test_other_displacements_are_rounded_to_a_64th(self, tmp_path):
        flow = random_flow(2, 5, 7, scale=20.0)
        write_kitti_png(tmp_path / "a.png", flow)
        read, valid = read_kitti_png(tmp_path / "a.png")
        torch.testing.assert_close(read, flow, rtol=0, atol=0.51 / 64)
        assert valid.all()

    def test_open_files_are_read_and_written(self, flow, valid):
        file = io.BytesIO()
        write_kitti_png(file, flow, valid)
        file.seek(0)
        read, read_valid = read_kitti_png(file)
        assert torch.equal(read, flow)
        assert torch.equal(read_valid, valid)

    @pytest.mark.parametrize("displacement", [512.0, -513.0, float("nan"), float("inf")])
    def test_out_of_range_is_refused_where_valid_and_clipped_elsewhere(self, tmp_path, displacement):
        flow, valid = torch.zeros(2, 5, 7), torch.ones(5, 7, dtype=torch.bool)
        flow[0, 2, 3] = displacement
        with pytest.raises(ValueError, match=f"{displacement:g} pixels.*-512 and 511.98"):
            write_kitti_png(tmp_path / "a.png", flow, valid)
        valid[2, 3] = False
        write_kitti_png(tmp_path / "a.png", flow, valid)
        read, read_valid = read_kitti_png(tmp_path / "a.png")
        assert torch.equal(read_valid, valid)
        assert torch.equal(read[:, valid], torch.zeros(2, 34))

    def test_errors_say_what_is_wrong(self, tmp_path, flow, valid):
        with pytest.raises(ValueError, match=r"valid.*\(2, 2\).*\(256, 256\)"):
            write_kitti_png(tmp_path / "a.png", flow, valid[:2, :2])
        with pytest.raises(ValueError, match=r"valid.*torch.float32.*bool"):
            write_kitti_png(tmp_path / "a.png", flow, valid.float())
        with pytest.raises(ValueError, match=r"\(3, 256, 256\)"):
            write_kitti_png(tmp_path / "a.png", torch.zeros(3, 256, 256))
        with pytest.raises(ValueError, match=r"a\.flo.*\.png"):
            write_kitti_png(tmp_path / "a.flo", flow)
        with pytest.raises(FileNotFoundError, match="no folder.*missing"):
            write_kitti_png(tmp_path / "missing" / "a.png", flow)
        with pytest.raises(FileNotFoundError, match=r"no file.*a\.png"):
            read_kitti_png(tmp_path / "a.png")

    def test_truncated_files_are_refused(self, tmp_path, flow):
        path = tmp_path / "a.png"
        write_kitti_png(path, flow)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=r"a\.png.*truncated"):
            read_kitti_png(path)
        path.write_bytes(b"PIEH" + content)
        with pytest.raises(ValueError, match=r"a\.png.*not a PNG"):
            read_kitti_png(path)

    @pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    def test_a_single_wrong_bit_is_noticed(self, tmp_path, share):
        path = tmp_path / "a.png"
        write_kitti_png(path, random_flow(2, 40, 50))
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.png.*damaged"):
            read_kitti_png(path)

    def test_an_ordinary_picture_is_refused(self, tmp_path):
        image = pytest.importorskip("PIL.Image")
        image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"a\.png.*rgb24.*16 bits"):
            read_kitti_png(tmp_path / "a.png")
