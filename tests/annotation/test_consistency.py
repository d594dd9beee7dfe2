import numpy as np
import pytest
import torch

from mcdiff_pipeline.annotation.consistency import forward_backward_consistency
from mcdiff_pipeline.flow import backward_warp


def constant_flow(right: float, down: float, size: int = 20) -> np.ndarray:
    return np.tile(np.array([right, down], np.float32)[:, None, None], (1, 1, size, size))


def test_consistent_flow_has_confidence_and_pixels_that_leave_the_image_are_occluded():
    occlusion, confidence = forward_backward_consistency(constant_flow(5, -2), constant_flow(-5, 2))
    expected = np.zeros((1, 20, 20), dtype=bool)
    expected[:, :, -5:] = expected[:, :2] = True
    np.testing.assert_array_equal(occlusion, expected)
    np.testing.assert_array_equal(confidence, np.where(expected, 0, 1))
    assert occlusion.dtype == bool and confidence.dtype == np.float32


def test_pixel_leaves_the_image_when_its_center_does():
    occlusion, _ = forward_backward_consistency(constant_flow(0.49, 0), constant_flow(-0.49, 0))
    assert not occlusion.any()
    occlusion, _ = forward_backward_consistency(constant_flow(0.51, 0), constant_flow(-0.51, 0))
    assert occlusion[0, :, -1].all() and not occlusion[0, :, :-1].any()


def test_background_covered_by_a_moving_square_is_occluded():
    forward, backward = np.zeros((2, 1, 2, 40, 40), dtype=np.float32)
    forward[0, 0, 10:20, 10:20] = 8
    backward[0, 0, 10:20, 18:28] = -8
    occlusion, _ = forward_backward_consistency(forward, backward)
    expected = np.zeros((40, 40), dtype=bool)
    expected[10:20, 20:28] = True
    np.testing.assert_array_equal(occlusion[0], expected)


def test_threshold_grows_with_motion_and_confidence_is_one_half_there():
    # |w + w'|² = 0.01 (|w|² + |w'|²) + 0.5 for w = (10, 0) and w' = (-10 + gap, 0), solved for the gap.
    gap = (-0.2 + np.sqrt(0.04 + 4 * 0.99 * 2.5)) / (2 * 0.99)
    for factor, occluded in ((0.99, False), (1.01, True)):
        occlusion, confidence = forward_backward_consistency(
            constant_flow(10, 0), constant_flow(-10 + factor * gap, 0)
        )
        assert (occlusion[:, :, :10] == occluded).all()
        assert ((confidence[:, :, :10] < 0.5) == occluded).all()
        np.testing.assert_allclose(confidence[:, :, :10], 0.5, atol=0.02)
    occlusion, _ = forward_backward_consistency(constant_flow(1, 0), constant_flow(-1 + gap, 0))
    assert occlusion.all()


def test_backward_flow_is_interpolated_and_nan_is_occluded():
    rng = np.random.default_rng(0)
    forward, backward = rng.normal(0, 3, (2, 2, 2, 24, 31)).astype(np.float32)
    back = backward_warp(torch.from_numpy(backward), torch.from_numpy(forward)).numpy()
    allowed = 0.01 * (np.square(forward).sum(axis=1) + np.square(back).sum(axis=1)) + 0.5
    contradicts = np.square(forward + back).sum(axis=1) > allowed
    x, y = np.arange(31) + forward[:, 0], np.arange(24)[:, None] + forward[:, 1]
    inside = (x >= -0.5) & (x < 30.5) & (y >= -0.5) & (y < 23.5)
    occlusion, _ = forward_backward_consistency(forward, backward)
    np.testing.assert_array_equal(occlusion, contradicts | ~inside)

    forward[1, 0, 5, 5] = np.nan
    changed, confidence = forward_backward_consistency(forward, backward)
    assert changed[1, 5, 5] and confidence[1, 5, 5] == 0
    changed[1, 5, 5] = occlusion[1, 5, 5]
    np.testing.assert_array_equal(changed, occlusion)


def test_flows_of_different_shapes_are_rejected():
    with pytest.raises(ValueError, match=r"`backward` has shape \(1, 2, 8, 8\)"):
        forward_backward_consistency(constant_flow(0, 0), constant_flow(0, 0, size=8))
