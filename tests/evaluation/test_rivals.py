import numpy as np
import torch

from mcdiff_pipeline.evaluation.rivals import moving_pixels, nearest_stroke_flow, splat_frame


def test_every_cell_copies_its_nearest_stroke():
    points = np.array([[2.0, 2.0], [30.0, 2.0]])
    displacements = np.array([[1.0, 2.0], [-3.0, 4.0]])
    flow = nearest_stroke_flow(points, displacements, (4, 8), 4)
    assert flow.shape == (2, 4, 8)
    np.testing.assert_array_equal(flow[:, 3, :4], np.tile([[1.0], [2.0]], 4))
    np.testing.assert_array_equal(flow[:, 3, 4:], np.tile([[-3.0], [4.0]], 4))


def square_that_moves() -> torch.Tensor:
    """Flow of a 4 x 4 square at the left that moves 6 pixels right on a still ground."""
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0, 4:8, 2:6] = 6
    return flow


def test_moving_pixels_are_those_that_something_leaves_or_reaches():
    moving = moving_pixels(square_that_moves())[0]
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[4:8, 2:6] = expected[4:8, 8:12] = True
    assert torch.equal(moving, expected)


def test_splatting_carries_the_square_and_keeps_what_was_in_the_hole():
    frame = torch.zeros(1, 3, 16, 16)
    frame[:, :, 4:8, 2:6] = 1
    result = splat_frame(frame, square_that_moves())
    assert (result[:, :, 4:8, 8:12] > 0.9).all()  # in front of the ground that stays there
    assert torch.equal(result[:, :, 4:8, 2:6], frame[:, :, 4:8, 2:6])
    assert (result[:, :, :4] == 0).all()
