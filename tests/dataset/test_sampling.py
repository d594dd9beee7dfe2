import numpy as np
import pytest
import torch

from mcdiff_pipeline.dataset import keypoint_strokes, rasterize_points, sample_strokes
from mcdiff_pipeline.strokes import Stroke, rasterize_strokes


HEIGHT, WIDTH = 64, 96


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A still background and one person, whose left half moves 2 pixels and whose right half moves 6 pixels."""
    flow = np.zeros((2, HEIGHT, WIDTH), dtype=np.float32)
    masks = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    masks[10:50, 20:60] = 1
    flow[0, 10:50, 20:40] = 2
    flow[0, 10:50, 40:60] = 6
    x = np.linspace(22.25, 57.75, 10)
    keypoints = np.stack([x, np.full(10, 30.5), np.full(10, 2)], axis=-1)[None].astype(np.float32)
    return flow, masks, keypoints


def test_same_seed_draws_same_strokes():
    draws = [sample_strokes(*scene(), rng=np.random.default_rng(seed)) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(draws[0][0], draws[1][0])
    np.testing.assert_array_equal(draws[0][1], draws[1][1])
    assert draws[0][0].shape != draws[2][0].shape or not np.array_equal(draws[0][0], draws[2][0])


def test_small_numbers_of_strokes_are_more_probable():
    rng = np.random.default_rng(0)
    numbers = np.array([len(sample_strokes(*scene(), rng=rng, num_holds=0)[0]) for _ in range(1000)])
    assert numbers.min() == 1 and 8 <= numbers.max() <= 12
    assert (numbers == 1).mean() > (numbers == 2).mean() > (numbers == 6).mean() > 0


def test_displacements_are_dense_flow_at_points():
    flow, masks, keypoints = scene()
    flow += np.random.default_rng(1).normal(size=flow.shape).astype(np.float32)
    points, displacements = sample_strokes(flow, masks, keypoints, rng=np.random.default_rng(0), num_holds=0)
    columns, rows = points.astype(int).T
    np.testing.assert_array_equal(displacements, flow[:, rows, columns].T)
    assert points.dtype == displacements.dtype == np.float32


def test_keypoints_are_drawn_in_proportion_to_displacement():
    flow, masks, keypoints = scene()
    rng = np.random.default_rng(0)
    drawn = [
        sample_strokes(flow, masks, keypoints, rng=rng, num_keypoints=1, num_general=0, num_holds=0)[1]
        for _ in range(2000)
    ]
    fast = (np.concatenate(drawn)[:, 0] == 6).mean()
    assert fast == pytest.approx(0.75, abs=0.04)


def test_uniform_sampling_ignores_motion():
    flow, masks, keypoints = scene()
    rng = np.random.default_rng(0)

    def moved(**numbers):
        drawn = [
            sample_strokes(flow, masks, keypoints, rng=rng, num_holds=0, sampling="uniform", **numbers)[1]
            for _ in range(500)
        ]
        return np.concatenate(drawn)[:, 0]

    assert (moved(num_keypoints=1, num_general=0) == 6).mean() == pytest.approx(0.5, abs=0.06)
    assert (moved(num_keypoints=0, num_general=4) > 0).mean() == pytest.approx((masks > 0).mean(), abs=0.04)


def test_unknown_sampling_is_rejected():
    with pytest.raises(ValueError, match="`sampling` is 'even', but only 'magnitude' and 'uniform'"):
        sample_strokes(*scene(), rng=np.random.default_rng(0), sampling="even")


def test_number_of_strokes_varies_from_one_to_twelve():
    flow, masks, keypoints = scene()
    rng = np.random.default_rng(0)
    numbers = [len(sample_strokes(flow, masks, keypoints, rng=rng, num_holds=0)[0]) for _ in range(2000)]
    assert min(numbers) == 1 and max(numbers) == 12
    assert numbers.count(1) > 2 * numbers.count(12) > 0


def test_hidden_absent_and_covered_keypoints_are_not_drawn():
    flow, masks, keypoints = scene()
    keypoints[0, 0:3, 2] = 1
    keypoints[0, 3:5, 2] = 0
    keypoints[0, 5, 0] = WIDTH + 3
    masks[30, int(keypoints[0, 6, 0])] = 2  # another person covers it
    points, _ = sample_strokes(
        flow, masks, keypoints, rng=np.random.default_rng(0), num_keypoints=10, num_general=0, num_holds=0
    )
    assert sorted(points[:, 0]) == sorted(keypoints[0, 7:, 0])


def test_half_of_general_points_are_drawn_by_motion():
    flow, masks, keypoints = scene()
    rng = np.random.default_rng(0)
    drawn = [
        sample_strokes(flow, masks, keypoints, rng=rng, num_keypoints=0, num_general=4, num_holds=0)[1]
        for _ in range(200)
    ]
    moving = (np.concatenate(drawn)[:, 0] > 0).mean()
    assert moving == pytest.approx(0.5 + 0.5 * (masks > 0).mean(), abs=0.1)


def test_holds_are_on_still_pixels_with_zero_displacement():
    flow, masks, keypoints = scene()
    flow += 0.1
    points, displacements = sample_strokes(
        flow, masks, keypoints, rng=np.random.default_rng(0), num_keypoints=0, num_general=0, num_holds=3
    )
    columns, rows = points.astype(int).T
    assert len(points) == 3 and (displacements == 0).all() and (masks[rows, columns] == 0).all()


def test_moving_image_has_no_holds():
    flow, masks, keypoints = scene()
    points, _ = sample_strokes(
        flow + 1, masks, keypoints, rng=np.random.default_rng(0), num_keypoints=2, num_general=0, num_holds=3
    )
    assert len(points) == 2


def test_image_without_people_gives_general_points():
    flow, masks, _ = scene()
    points, _ = sample_strokes(flow, masks, np.zeros((0, 17, 3), np.float32), rng=np.random.default_rng(0))
    assert len(points) >= 1


def test_keypoint_strokes_use_each_visible_keypoint_once():
    flow, _, keypoints = scene()
    keypoints[0, 0, 2] = 1
    points, displacements = keypoint_strokes(flow, keypoints, 5, np.random.default_rng(0))
    assert points.shape == displacements.shape == (5, 2)
    assert len(np.unique(points[:, 0])) == 5 and keypoints[0, 0, 0] not in points[:, 0]
    assert len(keypoint_strokes(flow, keypoints, 50, np.random.default_rng(0))[0]) == 9


def test_rasterized_points_equal_rasterized_strokes():
    rng = np.random.default_rng(0)
    points = rng.uniform(-5, 100, size=(60, 2)).astype(np.float32)
    displacements = rng.normal(size=(60, 2)).astype(np.float32)
    strokes = [
        Stroke([tuple(map(float, point)), tuple(map(float, point.astype(float) + displacement))], end_frame=1)
        for point, displacement in zip(points, displacements)
    ]
    image_size, latent_size = (HEIGHT, WIDTH), (16, 24)
    flow, mask = rasterize_points(points, displacements, latent_size, image_size)
    expected_flow, expected_mask = rasterize_strokes([strokes], 0, image_size=image_size, latent_size=latent_size)
    torch.testing.assert_close(flow, expected_flow[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(mask, expected_mask[0])
    assert flow.dtype == torch.float32 and mask.dtype == torch.bool
    assert (flow[:, ~mask[0]] == 0).all()
