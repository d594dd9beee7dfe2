import numpy as np
import pytest
import torch

from mcdiff_pipeline.baselines import (
    accumulate_steps,
    inverse_distance_flow,
    moving_pixels,
    nearest_stroke_flow,
    splat_frame,
    splat_start_frame,
    thin_plate_flow,
    uncovered_pixels,
)


CELL = 4


def test_every_cell_takes_the_displacement_of_its_nearest_stroke():
    points = np.array([[2.0, 2.0], [30.0, 2.0]])
    displacements = np.array([[1.0, 2.0], [-3.0, 4.0]])
    flow = nearest_stroke_flow(points, displacements, (4, 8), CELL) * CELL
    assert flow.shape == (2, 4, 8)
    np.testing.assert_array_equal(flow[:, 3, :4], np.tile([[1.0], [2.0]], 4))
    np.testing.assert_array_equal(flow[:, 3, 4:], np.tile([[-3.0], [4.0]], 4))


each_interpolation = pytest.mark.parametrize(
    "interpolate",
    [nearest_stroke_flow, inverse_distance_flow, thin_plate_flow],
    ids=lambda function: function.__name__,
)


@each_interpolation
def test_interpolation_equals_the_strokes_at_their_positions(interpolate):
    rng = np.random.default_rng(0)
    cells = rng.permutation(64)[:6]
    points = np.stack([cells % 8, cells // 8], axis=1) * 4.0 + 2  # centers of cells
    displacements = rng.normal(size=(6, 2))
    flow = interpolate(points, displacements, (8, 8), CELL) * CELL
    assert flow.shape == (2, 8, 8)
    np.testing.assert_allclose(flow[:, cells // 8, cells % 8].T, displacements, atol=1e-4)


@each_interpolation
def test_interpolation_of_one_stroke_is_constant(interpolate):
    flow = interpolate(np.array([[5.0, 9.0]]), np.array([[1.5, -2.0]]), (6, 8), CELL) * CELL
    np.testing.assert_allclose(flow, np.broadcast_to([[[1.5]], [[-2.0]]], (2, 6, 8)), atol=1e-9)


@each_interpolation
def test_interpolation_of_two_strokes_at_one_position_is_finite(interpolate):
    flow = interpolate(np.array([[5.0, 9.0], [5.0, 9.0]]), np.array([[1.0, 0.0], [3.0, 0.0]]), (6, 8), CELL) * CELL
    assert np.isfinite(flow).all()
    assert flow[0].min() >= 1 - 1e-6
    assert flow[0].max() <= 3 + 1e-6


def test_thin_plate_of_an_affine_motion_is_that_motion():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 32, size=(7, 2))
    matrix, offset = np.array([[0.1, -0.2], [0.05, 0.15]]), np.array([1.0, -2.0])
    flow = thin_plate_flow(points, points @ matrix + offset, (8, 8), CELL) * CELL
    columns, rows = np.meshgrid(np.arange(8) * 4 + 2, np.arange(8) * 4 + 2)
    expected = np.stack([columns, rows], axis=-1) @ matrix + offset
    np.testing.assert_allclose(flow.transpose(1, 2, 0), expected, atol=1e-6)


def test_thin_plate_of_two_strokes_changes_only_along_the_line_between_them():
    points, displacements = np.array([[2.0, 18.0], [30.0, 18.0]]), np.array([[0.0, 0.0], [7.0, 0.0]])
    flow = thin_plate_flow(points, displacements, (8, 8), CELL) * CELL
    np.testing.assert_allclose(flow[0], np.tile(np.arange(8.0), (8, 1)), atol=1e-6)
    np.testing.assert_allclose(flow[1], 0, atol=1e-9)


def test_accumulated_flow_chains_the_steps():
    step = torch.zeros(1, 3, 2, 8, 8)
    step[:, :, 0] = torch.tensor([1.0, 2.0, -4.0])[None, :, None, None]
    assert accumulate_steps(step)[0, :, 0, 4, 4].tolist() == [1, 3, -1]


def moving_square() -> torch.Tensor:
    """Flow of a square of 4 x 4 pixels that moves 6 pixels right over a still ground."""
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0, 4:8, 2:6] = 6
    return flow


def test_moving_pixels_are_those_that_the_square_leaves_or_reaches():
    moving = moving_pixels(moving_square())[0]
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[4:8, 2:6] = expected[4:8, 8:12] = True
    assert torch.equal(moving, expected)


def test_pixel_that_a_moving_thing_covers_in_part_is_reached():
    for share, reached in ((0.2, True), (0.01, False)):
        flow = torch.zeros(1, 2, 1, 8)
        flow[0, 0, 0, 1] = 3 + share  # covers pixel 4, and this share of pixel 5
        moving = moving_pixels(flow)[0, 0]
        assert moving.tolist() == [False, True, False, False, True, reached, False, False]


def test_splat_moves_the_square_and_keeps_the_old_content_in_the_hole():
    frame = torch.zeros(1, 3, 16, 16)
    frame[:, :, 4:8, 2:6] = 1
    result = splat_frame(frame, moving_square())
    assert (result[:, :, 4:8, 8:12] > 0.9).all()  # in front of the ground that stays there
    assert torch.equal(result[:, :, 4:8, 2:6], frame[:, :, 4:8, 2:6])
    assert (result[:, :, :4] == 0).all()


def test_splat_of_the_start_frame_moves_the_square_over_several_frames():
    start = torch.full((1, 3, 16, 16), 0.25)
    start[:, :, 4:8, 2:6] = 1
    steps = torch.zeros(1, 2, 2, 16, 16)
    steps[:, 0, 0, 4:8, 2:6] = 3
    steps[:, 1, 0, 4:8, 5:9] = 3
    frames = splat_start_frame(start, accumulate_steps(steps), cell=4)
    expected = torch.full((1, 3, 16, 16), 0.25)
    expected[:, :, 4:8, 8:12] = 1
    # The motion of the square puts it in front of the ground, but it is not opaque.
    assert (frames[:, 1] - expected).abs().max() < 0.35
    assert (frames[:, 1] - expected)[..., 2:5].abs().max() < 0.01


def test_what_a_thing_leaves_is_uncovered_and_stays_so_when_it_was_covered_in_between():
    """A square of 2 x 2 pixels moves to the right by two pixels, twice, over a still background."""
    flow, occlusion = torch.zeros(1, 2, 2, 4, 8), torch.zeros(1, 2, 4, 8, dtype=torch.bool)
    for step, left in enumerate((0, 2)):
        flow[0, step, 0, 1:3, left : left + 2] = 2
        occlusion[0, step, 1:3, left + 2 : left + 4] = True  # the background that the square covers next
    expected = torch.zeros_like(occlusion)
    expected[0, 0, 1:3, :2] = True
    expected[0, 1, 1:3, :4] = True  # also the background that was seen at the start, and is seen again
    assert torch.equal(uncovered_pixels(flow, occlusion), expected)
