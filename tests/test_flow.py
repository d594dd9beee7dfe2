# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Operators on flow: magnitude, units, resizing, splatting, warping, chaining."""

import math

import pytest
import torch

from mcdiff_pipeline import flow as flow_operators
from mcdiff_pipeline.flow import (
    OCCLUSION_SHARPNESS,
    accumulate_flow,
    backward_warp,
    fill_from_behind,
    flow_magnitude,
    forward_splat,
    invert_flow,
    invert_latent_flow,
    is_stretched,
    resize_flow,
    splat_image,
    splat_importance,
    splat_latents,
    to_cells,
    to_pixels,
)
from mcdiff_pipeline.flow_visualization import flow_to_image


HALF_DTYPES = [torch.float16, torch.bfloat16]


def constant_flow(u, v, height=6, width=8, batch=1):
    return torch.tensor([u, v], dtype=torch.float32).view(1, 2, 1, 1).repeat(batch, 1, height, width)


def random_flow(*shape, scale=2.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale


def random_image(batch=1, channels=3, height=6, width=8, seed=1):
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


class TestResizeFlow:
    @pytest.mark.parametrize("size", [(3, 4), (12, 16), (6, 4), (3, 16), (5, 7), (6, 8)])
    def test_displacements_scale_with_their_axis(self, size):
        resized = resize_flow(constant_flow(4.0, -3.0), size)
        torch.testing.assert_close(resized, constant_flow(4.0 * size[1] / 8, -3.0 * size[0] / 6, *size))

    def test_shrinking_takes_the_mean_over_each_new_cell(self):
        flow = random_flow(2, 2, 8, 8)
        expected = flow.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5)) / 4
        torch.testing.assert_close(resize_flow(flow, (2, 2)), expected)

    def test_growing_keeps_pixel_centers_aligned(self):
        # A zoom about the center of the image stays a zoom about the center of the image.
        x = torch.arange(8) + 0.5 - 4
        zoom = torch.stack([x.expand(8, 8), x[:, None].expand(8, 8)])[None] * 0.1
        x = torch.arange(16) + 0.5 - 8
        expected = torch.stack([x.expand(16, 16), x[:, None].expand(16, 16)])[None] * 0.1
        inner = (..., slice(1, -1), slice(1, -1))
        torch.testing.assert_close(resize_flow(zoom, (16, 16))[inner], expected[inner])

    def test_same_size_changes_nothing(self):
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


class TestIsStretched:
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
    def test_stretch_of_an_affine_motion_is_its_largest_singular_value(self, matrix, largest):
        y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
        places = torch.stack([x, y])
        flow = torch.einsum("ij,jhw->ihw", torch.tensor(matrix).float(), places) - places + 4
        assert is_stretched(flow[None], 0.999 * largest)[..., 1:-1, 1:-1].all()
        assert not is_stretched(flow[None], 1.001 * largest)[..., 1:-1, 1:-1].any()

    def test_cell_that_moves_like_one_neighbor_is_not_stretched(self):
        flow = torch.zeros(1, 2, 4, 8)
        flow[:, 0, :, 5:] = 10
        assert not is_stretched(flow, 1.001).any()

    def test_cell_that_moves_unlike_both_neighbors_is_stretched(self):
        flow = torch.zeros(1, 2, 4, 9)
        flow[:, 0, :, 5:] = 10
        flow[:, 0, :, 4] = 4
        for factor, torn in ((1.001, True), (4.999, True), (5.001, False)):
            assert is_stretched(flow, factor)[0, 0, 0].tolist() == [False] * 4 + [torn] + [False] * 4

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_does_not_overflow(self, dtype):
        flow = torch.zeros(1, 2, 4, 9, dtype=dtype)
        flow[:, 0, :, 5:] = 600
        flow[:, 0, :, 4] = 300
        assert is_stretched(flow, 250.0)[0, 0, 0].tolist() == [False] * 4 + [True] + [False] * 4

    def test_tensor_that_is_not_flow_is_refused(self):
        with pytest.raises(ValueError, match="`flow` has shape"):
            is_stretched(torch.zeros(1, 3, 4, 4), 3.0)


class TestForwardSplat:
    @pytest.mark.parametrize(("u", "v"), [(0, 0), (2, 0), (-3, 1), (0, -2)])
    def test_whole_cells_move_exactly_and_leave_holes(self, u, v):
        image = random_image()
        output, coverage = forward_splat(image, constant_flow(u, v))
        expected, covered = torch.zeros_like(image), torch.zeros(1, 1, 6, 8)
        for y in range(6):
            for x in range(8):
                if 0 <= y + v < 6 and 0 <= x + u < 8:
                    expected[:, :, y + v, x + u] = image[:, :, y, x]
                    covered[:, :, y + v, x + u] = 1
        assert torch.equal(output, expected)
        assert torch.equal(coverage, covered)

    def test_fraction_of_a_cell_is_shared_bilinearly(self):
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

    def test_importance_is_the_logarithm_of_the_weight_and_does_not_change_coverage(self):
        image = torch.tensor([1.0, 0.0, 3.0]).view(1, 1, 1, 3)
        flow = torch.zeros(1, 2, 1, 3)
        flow[0, 0, 0] = torch.tensor([1.0, 9.0, -1.0])
        importance = torch.tensor([math.log(3.0), 0.0, 0.0]).view(1, 1, 1, 3)
        output, coverage = forward_splat(image, flow, importance)
        torch.testing.assert_close(output[..., 1].item(), (3 * 1.0 + 1 * 3.0) / 4)
        torch.testing.assert_close(coverage.flatten(), torch.tensor([0.0, 2.0, 0.0]))

    def test_cell_of_far_larger_importance_is_in_front(self):
        image = torch.tensor([1.0, 0.0, 3.0]).view(1, 1, 1, 3)
        flow = torch.zeros(1, 2, 1, 3)
        flow[0, 0, 0] = torch.tensor([1.0, 9.0, -1.0])
        output, _ = forward_splat(image, flow, torch.tensor([40.0, 0.0, 0.0]).view(1, 1, 1, 3))
        assert output[..., 1].item() == 1.0

    @pytest.mark.parametrize("importance", [-1e30, -1e4, 1e4, 1e30])
    def test_extreme_importance_stays_finite_and_loses_nothing(self, importance):
        image = random_image().requires_grad_()
        weights = torch.zeros(1, 1, 6, 8)
        weights[..., :4] = importance
        weights.requires_grad_()
        flow = constant_flow(0.3, 0.0).requires_grad_()
        output, _ = forward_splat(image, flow, weights)
        # Columns 1 and 6 get cells of one importance only.
        torch.testing.assert_close(output[..., 1], 0.3 * image[..., 0] + 0.7 * image[..., 1])
        torch.testing.assert_close(output[..., 6], 0.3 * image[..., 5] + 0.7 * image[..., 6])
        output.sum().backward()
        assert all(tensor.grad.isfinite().all() for tensor in (image, flow, weights))

    def test_only_differences_of_importance_within_a_sample_matter(self):
        image, flow, weights = random_image(batch=2), random_flow(2, 2, 6, 8), random_flow(2, 1, 6, 8)
        shifted = weights + torch.tensor([1000.0, -2000.0]).view(2, 1, 1, 1)
        torch.testing.assert_close(
            forward_splat(image, flow, shifted)[0], forward_splat(image, flow, weights)[0], rtol=1e-3, atol=1e-3
        )

    def test_samples_of_a_batch_do_not_mix(self):
        image, flow, weights = random_image(batch=3), random_flow(3, 2, 6, 8), random_flow(3, 1, 6, 8)
        together = forward_splat(image, flow, weights)
        for index in range(3):
            one = slice(index, index + 1)
            alone = forward_splat(image[one], flow[one], weights[one])
            torch.testing.assert_close(together[0][one], alone[0])
            torch.testing.assert_close(together[1][one], alone[1])

    def test_constant_stays_constant_in_covered_cells(self):
        output, coverage = forward_splat(
            torch.full((1, 1, 6, 8), 5.0), random_flow(1, 2, 6, 8), random_image(channels=1)
        )
        torch.testing.assert_close(output, torch.where(coverage >= 1e-3, 5.0, 0.0))

    def test_coverage_counts_every_cell_that_stays_on_the_grid(self):
        coverage = forward_splat(random_image(height=20, width=20), random_flow(1, 2, 20, 20, scale=0.0))[1]
        assert coverage.sum() == 400

    def test_rounding_errors_do_not_fill_holes(self):
        output, coverage = forward_splat(random_image(), constant_flow(2.0 - 1e-5, 0.0))
        assert coverage[..., 1].max() < 1e-4
        assert torch.equal(output[..., 1], torch.zeros(1, 3, 6))

    @pytest.mark.parametrize("displacement", [1e30, float("inf"), float("nan")])
    def test_cell_that_leaves_the_grid_is_dropped(self, displacement):
        flow = constant_flow(0.0, 0.0)
        flow[:, 0, 2, 3] = displacement
        output, coverage = forward_splat(random_image(), flow)
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

    @pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 1), (33, 16)])
    def test_processor_and_gpu_agree(self, monkeypatch, size):
        # Each has a way of its own to add up what lands on a cell; that of the GPU runs on a processor, too.
        inputs = [random_image(2, 3, *size), random_flow(2, 2, *size), random_flow(2, 1, *size)]
        inputs[1][0, 0, 0, 0], inputs[1][1, 1, 0, -1] = -1e30, 1e30
        results = []
        for way in (flow_operators._share_out_by_kernel, flow_operators._share_out_by_scattering):
            monkeypatch.setattr(flow_operators, "_share_out_by_kernel", way)
            leaves = [one.clone().requires_grad_() for one in inputs]
            outputs = forward_splat(*leaves)
            (outputs[0].square().sum() + outputs[1].square().sum()).backward()
            results.append([*outputs, *(leaf.grad for leaf in leaves)])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)

    @pytest.mark.parametrize("dtype", HALF_DTYPES)
    def test_half_precision_is_computed_in_float32(self, dtype):
        image, flow, weights = (
            random_image().to(dtype),
            random_flow(1, 2, 6, 8).to(dtype),
            random_image(channels=1).to(dtype),
        )
        output, coverage = forward_splat(image, flow, weights)
        expected, expected_coverage = forward_splat(image.float(), flow.float(), weights.float())
        assert output.dtype == coverage.dtype == dtype
        assert torch.equal(output, expected.to(dtype))
        assert torch.equal(coverage, expected_coverage.to(dtype))

    def test_autocast_changes_nothing(self):
        image, flow, weights = random_image(), random_flow(1, 2, 6, 8), random_image(channels=1)
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
        image = random_image(height=33, width=57)
        warped = backward_warp(image, constant_flow(u, v, 33, 57))
        rows, columns = (torch.arange(33) + v).clamp(0, 32), (torch.arange(57) + u).clamp(0, 56)
        assert torch.equal(warped, image[:, :, rows][:, :, :, columns])

    def test_fractions_of_a_cell_are_interpolated(self):
        image = torch.arange(8.0).expand(1, 1, 6, 8)
        warped = backward_warp(image, constant_flow(0.25, 0.5))
        torch.testing.assert_close(warped[..., :-1], image[..., :-1] + 0.25)
        torch.testing.assert_close(warped[..., -1], image[..., -1])

    def test_warping_undoes_splatting_where_nothing_left_the_grid(self):
        image, flow = random_image(), constant_flow(2.0, -1.0)
        splatted, _ = forward_splat(image, flow)
        assert torch.equal(backward_warp(splatted, flow)[..., 1:, :-2], image[..., 1:, :-2])

    def test_warping_equals_grid_sample(self):
        image, flow = random_image(batch=2), random_flow(2, 2, 6, 8)
        x = (torch.arange(8) + flow[:, 0]) * 2 / 7 - 1
        y = (torch.arange(6)[:, None] + flow[:, 1]) * 2 / 5 - 1
        expected = torch.nn.functional.grid_sample(
            image, torch.stack([x, y], dim=3), mode="bilinear", padding_mode="border", align_corners=True
        )
        torch.testing.assert_close(backward_warp(image, flow), expected, rtol=1e-5, atol=1e-5)

    def test_unknown_flow_gives_nan(self):
        flow = constant_flow(0.0, 0.0)
        flow[:, :, 2, 3] = float("nan")
        warped = backward_warp(random_image(), flow)
        assert warped[:, :, 2, 3].isnan().all()
        assert warped.isnan().sum() == 3

    def test_gradients_are_exact(self):
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        flow = torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(backward_warp, (image, flow))

    @pytest.mark.parametrize("dtype", HALF_DTYPES)
    def test_half_precision_is_computed_in_float32(self, dtype):
        image, flow = random_image().to(dtype), random_flow(1, 2, 6, 8).to(dtype)
        warped = backward_warp(image, flow)
        assert warped.dtype == dtype
        assert torch.equal(warped, backward_warp(image.float(), flow.float()).to(dtype))

    def test_errors_name_the_shapes(self):
        with pytest.raises(ValueError, match=r"\(1, 3, 6, 8\).*\(1, 2, 3, 4\)"):
            backward_warp(torch.zeros(1, 3, 6, 8), torch.zeros(1, 2, 3, 4))


class TestAccumulateFlow:
    def test_translations_add_up(self):
        accumulated = accumulate_flow(constant_flow(1.5, -2.0), constant_flow(0.5, 3.0))
        torch.testing.assert_close(accumulated, constant_flow(2.0, 1.0))

    def test_second_flow_is_read_at_the_end_of_the_first(self):
        second = torch.zeros(1, 2, 6, 8)
        second[:, 1, 2, 5] = 1.0  # only the cell (5, 2) of the middle frame moves on
        accumulated = accumulate_flow(constant_flow(3.0, 0.0), second)
        expected = constant_flow(3.0, 0.0)
        expected[:, 1, 2, 2] = 1.0
        assert torch.equal(accumulated, expected)

    def test_zoom_applied_twice_is_the_squared_zoom(self):
        x, y = torch.arange(9.0) - 4, torch.arange(9.0)[:, None] - 4
        grid = torch.stack([x.expand(9, 9), y.expand(9, 9)])[None]
        accumulated = accumulate_flow(-0.5 * grid, -0.5 * grid)  # halves the distance from the center
        torch.testing.assert_close(accumulated, -0.75 * grid)

    def test_different_shapes_are_refused(self):
        with pytest.raises(ValueError, match=r"\(1, 2, 6, 8\).*\(1, 2, 3, 4\).*resize_flow"):
            accumulate_flow(torch.zeros(1, 2, 6, 8), torch.zeros(1, 2, 3, 4))


class TestFlowMagnitude:
    def test_magnitude_is_the_euclidean_norm_in_float32(self):
        flow = random_flow(2, 2, 4, 5)
        torch.testing.assert_close(flow_magnitude(flow), flow.norm(dim=1, keepdim=True))
        assert flow_magnitude(flow.half()).dtype == torch.float32
        assert flow_magnitude(constant_flow(0, 0)).max() < 1e-15

    def test_gradient_of_the_magnitude_is_the_direction_and_zero_without_motion(self):
        flow = torch.zeros(1, 2, 1, 2)
        flow[0, :, 0, 0] = torch.tensor([3.0, 4.0])
        flow_magnitude(flow.requires_grad_()).sum().backward()
        torch.testing.assert_close(flow.grad[0, :, 0], torch.tensor([[0.6, 0.0], [0.8, 0.0]]))


def test_tensor_functions_compile_without_graph_breaks():
    def chain(image, flow, importance):
        splatted, coverage = forward_splat(image, flow, importance)
        warped = backward_warp(splatted, accumulate_flow(flow, flow))
        return warped, coverage, flow_to_image(resize_flow(flow, (3, 10)))

    arguments = random_image(), random_flow(1, 2, 6, 8), random_image(channels=1)
    compiled = torch.compile(chain, fullgraph=True, backend="eager")
    for output, expected in zip(compiled(*arguments), chain(*arguments), strict=True):
        torch.testing.assert_close(output, expected)


class TestUnits:
    @pytest.mark.parametrize("cell", [1, 4, 8])
    def test_cells_and_pixels_are_converted_without_changing_the_grid(self, cell):
        pixels = random_flow(2, 2, 6, 8)
        assert torch.equal(to_cells(pixels, cell), pixels / cell)
        assert torch.equal(to_pixels(to_cells(pixels, cell), cell), pixels)  # exact, since a cell is a power of two


class TestSplatImportance:
    def test_more_motion_is_more_important(self):
        flow = random_flow(2, 2, 6, 8)
        torch.testing.assert_close(splat_importance(flow), OCCLUSION_SHARPNESS * flow.norm(dim=1, keepdim=True))

    @pytest.mark.parametrize("dtype", HALF_DTYPES)
    def test_importance_is_float32(self, dtype):
        assert splat_importance(random_flow(1, 2, 6, 8).to(dtype)).dtype == torch.float32

    def test_importance_on_pixels_is_that_on_latent_cells(self):
        cells = random_flow(1, 2, 6, 8)
        assert torch.equal(splat_importance(4 * cells, cell=4), splat_importance(cells))


class TestSplatLatents:
    def test_faster_cell_is_in_front_and_holes_are_zero(self):
        latents, flow = random_image(channels=4), torch.zeros(1, 2, 6, 8)
        flow[0, 0, 3, 2] = 2.0  # lands on the cell two to the right, which stays
        moved, coverage = splat_latents(latents, flow)
        share = torch.tensor(2.0 * OCCLUSION_SHARPNESS).sigmoid()
        expected = share * latents[0, :, 3, 2] + (1 - share) * latents[0, :, 3, 4]
        torch.testing.assert_close(moved[0, :, 3, 4], expected)
        assert coverage[0, 0, 3, 4] == 2 and coverage[0, 0, 3, 2] == 0
        assert (moved[0, :, 3, 2] == 0).all()
        others = coverage == 1
        torch.testing.assert_close(moved * others, latents * others)


class TestSplatImage:
    def test_whole_pixels_move_exactly(self):
        image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        moved = splat_image(image, constant_flow(4, 2, 16, 16), 4)
        torch.testing.assert_close(moved[..., 2:, 4:], image[..., :-2, :-4])

    def test_torn_outline_is_not_scattered_over_the_uncovered_area(self):
        image = torch.zeros(1, 1, 16, 64)
        image[..., 24:40] = 1  # a white bar moves right; on its left outline, 5 pixels wide, flow is a mixture
        flow = torch.zeros(1, 2, 16, 64)
        flow[:, 0, :, 24:40] = 20
        flow[:, 0, :, 22:27] = torch.linspace(0, 20, 7)[1:-1]
        moved = splat_image(image, flow, 4)
        assert (moved[..., 50:58] > 0.9).all() and (moved[..., :20] < 0.1).all()
        assert moved[..., 28:42].max() < 0.2

    def test_hole_is_filled_from_what_moves_less(self):
        image = torch.full((1, 1, 8, 64), 0.2)
        image[..., 20:30] = 1
        flow = torch.zeros(1, 2, 8, 64)
        flow[:, 0, :, 20:30] = 16
        moved = splat_image(image, flow, 4)
        assert (moved[..., 37:45] > 0.95).all()
        assert (moved[..., 20:30] - 0.2).abs().max() < 0.1


class TestFillFromBehind:
    def test_hole_is_filled_from_what_moves_less(self):
        image = torch.zeros(1, 1, 16, 16)
        image[..., 8:] = 1  # moves fast, the left half does not
        motion = torch.zeros(1, 1, 16, 16)
        motion[..., 8:] = 5
        coverage = torch.ones(1, 1, 16, 16)
        coverage[..., 6:10] = 0
        filled = fill_from_behind(image, coverage, motion)
        assert torch.equal(filled[..., :6], image[..., :6])
        assert torch.equal(filled[..., 10:], image[..., 10:])
        assert filled[..., 6:10].max() < 0.3

    @pytest.mark.parametrize("size", [(16, 16), (7, 13), (1, 5)])
    def test_image_of_one_color_keeps_that_color(self, size):
        coverage = (torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0)) > 0.7).float()
        coverage[..., 0, 0] = 1
        image = torch.where(coverage > 0, 0.75, 0.0)
        filled = fill_from_behind(image, coverage, torch.zeros(1, 1, *size))
        torch.testing.assert_close(filled, torch.full_like(filled, 0.75))


class TestInvertFlow:
    def test_what_does_not_move_comes_from_where_it_is(self):
        backward, known = invert_flow(torch.zeros(2, 2, 32, 48), 4)
        assert torch.equal(backward, torch.zeros(2, 2, 32, 48))
        assert torch.equal(known, torch.ones(2, 1, 32, 48))

    def test_translation_is_undone(self):
        backward, known = invert_flow(constant_flow(3.0, -2.5, 32, 48), 4)
        torch.testing.assert_close(backward, constant_flow(-3.0, 2.5, 32, 48))
        assert (known[..., :26, 7:] == 1).all()

    def test_the_side_that_nothing_comes_to_is_unknown(self):
        _, known = invert_flow(constant_flow(12.0, 0.0, 32, 48), 4)
        assert (known[..., :8] == 0).all()
        assert (known[..., 16:] == 1).all()

    def test_a_hole_comes_from_what_lies_behind(self):
        flow = torch.zeros(1, 2, 32, 48)
        flow[:, 0, 8:24, 8:20] = 16.0  # a block moves from columns 8 to 19 to columns 24 to 35
        backward, known = invert_flow(flow, 4)
        assert known[0, 0, 12:20, 12:16].max() < 0.5
        assert backward[0, :, 12:20, 10:18].abs().max() < 1
        torch.testing.assert_close(backward[0, 0, 12:20, 27:33], torch.full((8, 6), -16.0), atol=0.01, rtol=0)

    def test_stretched_flow_has_no_ripples(self):
        stretch = torch.zeros(1, 2, 32, 48)
        stretch[:, 0] = torch.arange(48) - 24.0  # the picture grows to twice its width
        backward, known = invert_flow(stretch, 4)
        expected = -(torch.arange(48) - 24.0) / 2  # of the last column nothing arrives
        torch.testing.assert_close(backward[0, 0, 16, 1:-1], expected[1:-1], atol=0.3, rtol=0)
        assert known[..., 4:44].min() > 0.5

    def test_torn_flow_is_unknown(self):
        torn = torch.zeros(1, 2, 32, 48)
        torn[:, 0, :, 16:] = 5 * (torch.arange(32) - 16.0)
        torn[:, 0, :, :16] = -80.0
        _, known = invert_flow(torn, 4)
        assert known[..., 4:-4, 10:38].max() < 0.3


class TestInvertLatentFlow:
    @pytest.mark.parametrize("size", [(32, 48), (16, 24), (8, 12), (4, 6)])
    def test_what_does_not_move_comes_from_where_it_is(self, size):
        backward, known = invert_latent_flow(torch.zeros(2, 2, 8, 12), size)
        assert torch.equal(backward, torch.zeros(2, 2, *size))
        assert torch.equal(known, torch.ones(2, 1, *size))

    @pytest.mark.parametrize("factor", [0.5, 1, 2, 4])
    def test_translation_is_undone_in_cells_of_the_wanted_grid(self, factor):
        size = (round(8 * factor), round(12 * factor))
        backward, known = invert_latent_flow(constant_flow(1.5, -0.5, 8, 12), size)
        torch.testing.assert_close(backward, factor * constant_flow(-1.5, 0.5, *size))
        assert (known[..., : size[0] // 2, size[1] // 2 :] == 1).all()

    def test_pixels_are_nearly_those_of_an_inversion_on_their_own_grid(self):
        flow = resize_flow(random_flow(1, 2, 3, 4, scale=0.4), (8, 12))  # smooth
        backward, known = invert_latent_flow(flow, (32, 48))
        expected, expected_known = invert_flow(resize_flow(flow, (32, 48)), 4)
        is_known = (known > 0.9) & (expected_known > 0.9)
        assert is_known.float().mean() > 0.7
        assert ((backward - expected).abs() * is_known).mean() < 0.25  # pixels, of up to 5
