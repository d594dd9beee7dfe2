"""Regions, drawn from label maps."""

import argparse

import numpy as np
import pytest
import torch

from loop.region_sampling import NUM_REGIONS, draw_regions, rasterize_regions, spoil, true_regions
from loop.stroke_sampling import draw_strokes_on_things


SIZE, CELL = 32, 4


def make_pair():
    """Three things: one moves right, one moves down, the third is smaller than four cells."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[2:14, 2:16], mask[18:30, 5:21], mask[2:8, 26:32] = 1, 2, 3
    flow = np.zeros((2, SIZE, SIZE), np.float32)
    flow[0, mask == 1], flow[1, mask == 2] = 3, 2
    keypoints = np.zeros((2, 2, 3), np.float32)
    keypoints[0, 0], keypoints[1, 0] = (4.5, 4.5, 2), (10.5, 20.5, 2)
    latent = np.zeros((4, SIZE // CELL, SIZE // CELL), np.float32)
    return {"latent": latent, "next_latent": latent, "flow": flow, "mask": mask, "keypoints": keypoints}


def make_args(**changes) -> argparse.Namespace:
    return argparse.Namespace(
        **{"no_keypoints": False, "sampling": "magnitude", "region_probability": 1.0, "strokes_on_things": 0.5}
        | changes
    )


def draw_many(args, number=200):
    """Strokes and regions of many seeds."""
    for seed in range(number):
        rng = np.random.default_rng(seed)
        points, displacements = draw_strokes_on_things(make_pair(), args, rng)
        yield points, displacements, draw_regions(make_pair(), points, displacements, args, rng)


def test_probability_says_in_how_many_samples_regions_are_given():
    given = np.mean([bool(sample["regions"].any()) for _, _, sample in draw_many(make_args(region_probability=0.5))])
    assert 0.4 < given < 0.6
    assert not any(sample["regions"].any() for _, _, sample in draw_many(make_args(region_probability=0.0), 20))


def test_samples_of_regions_have_one_shape_and_shares_of_at_most_one():
    cells = SIZE // CELL
    for _, _, sample in draw_many(make_args(), 50):
        assert sample["regions"].shape == (NUM_REGIONS, cells, cells)
        assert sample["region_sparse_flow"].shape == (NUM_REGIONS, 2, cells, cells)
        assert sample["region_mask"].shape == (NUM_REGIONS, 1, cells, cells)
        assert sample["regions"].min() >= 0 and sample["regions"].sum(dim=0).max() <= 1 + 1e-6
        assert sample["regions"].flatten(1).any(dim=1).sum() <= 2  # the third thing is too small
        assert (sample["region_sparse_flow"] * ~sample["region_mask"] == 0).all()


def test_things_without_a_stroke_are_given_in_some_samples_and_left_out_in_others():
    touched, untouched = [], []
    for _, _, sample in draw_many(make_args()):
        for region, mask in zip(sample["regions"], sample["region_mask"]):
            if region.any():
                (touched if mask.any() else untouched).append(region)
    assert len(touched) > len(untouched) > 30


def test_strokes_belong_to_the_region_at_their_points():
    pair = make_pair()
    points = np.array([[4.5, 5.5], [10.5, 25.5], [28.5, 28.5]], np.float32)
    displacements = np.array([[3, 0], [0, 2], [1, 1]], np.float32)
    sample = true_regions(pair, points, displacements)
    assert sample["region_mask"].sum() == 2  # the third stroke belongs to no region
    assert sample["region_mask"][0, 0, 1, 1] and sample["region_mask"][1, 0, 6, 2]
    assert sample["region_sparse_flow"][0, :, 1, 1].tolist() == [0.75, 0]  # in cells
    assert sample["regions"][0, 1, 1] == 1 and sample["regions"][0, 0, 1] == 0.5  # half of this cell is covered
    assert not sample["regions"][2:].any()


def test_strokes_of_spoiled_regions_sometimes_start_outside_of_them():
    outside = 0
    for _, _, sample in draw_many(make_args()):
        outside += int((sample["region_mask"][:, 0] & (sample["regions"] == 0)).sum())
    assert outside > 5


def test_stroke_can_belong_to_a_region_that_its_point_has_left():
    regions = np.zeros((SIZE, SIZE), np.uint8)
    regions[:8, :8] = 1
    points, displacements = np.array([[20.5, 20.5]], np.float32), np.array([[4, 0]], np.float32)
    sample = rasterize_regions(regions, points, displacements, np.array([1]), (8, 8))
    assert sample["region_mask"][0, 0, 5, 5] and sample["regions"][0, 5, 5] == 0


@pytest.mark.parametrize("shape", [(slice(8, 24), slice(8, 24)), (slice(0, 32), slice(0, 16))])
def test_spoiled_outlines_lie_near_the_true_one(shape):
    region = np.zeros((SIZE, SIZE), bool)
    region[shape] = True
    rows, columns = np.mgrid[:SIZE, :SIZE]
    inside, outside = (
        np.abs([axis[..., None] - axis[pixels] for axis in (rows, columns)]).max(axis=0).min(axis=-1)
        for pixels in (~region, region)  # distance to the nearest pixel on the other side, in either axis
    )
    shares = []
    for seed in range(50):
        spoiled = spoil(region, CELL, np.random.default_rng(seed))
        assert spoiled[inside > 2 * CELL].all() and not spoiled[outside > 2 * CELL].any()
        shares.append((spoiled[region].mean(), spoiled[~region].mean()))
    kept, added = np.transpose(shares)
    assert kept.min() < 0.8 and added.max() > 0.2  # by shrinking and by growing
    assert 0.7 < kept.mean() < 0.95 and 0.02 < added.mean() < 0.2
    assert len(set(shares)) > 25


def test_region_that_would_vanish_is_kept():
    region = np.zeros((SIZE, SIZE), bool)
    region[16, 16] = True
    assert all(spoil(region, CELL, np.random.default_rng(seed)).any() for seed in range(30))


def test_draws_follow_from_the_generator():
    for first, second in zip(draw_many(make_args(), 10), draw_many(make_args(), 10)):
        assert np.array_equal(first[0], second[0])
        assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])
