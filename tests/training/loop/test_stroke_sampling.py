"""Strokes on things, drawn from label maps and flow."""

import argparse

import numpy as np
import pytest

from loop.stroke_sampling import draw_strokes_on_things


SIZE, CELL = 64, 4


def make_pair(*, camera: bool = False) -> dict[str, np.ndarray]:
    """Two things that move and one that is too small, over a background that is still or moves with the camera."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[8:32, 8:28], mask[36:56, 30:54], mask[2:8, 56:62] = 1, 2, 3
    flow = np.zeros((2, SIZE, SIZE), np.float32)
    flow[1] = 2 if camera else 0.1
    flow[:, mask == 1], flow[:, mask == 2] = np.array([[3], [0]]), np.array([[0], [-2]])
    keypoints = np.zeros((2, 2, 3), np.float32)
    keypoints[0, 0], keypoints[1, 0] = (9.5, 9.5, 2), (40.5, 40.5, 2)
    latent = np.zeros((4, SIZE // CELL, SIZE // CELL), np.float32)
    return {"latent": latent, "next_latent": latent, "flow": flow, "mask": mask, "keypoints": keypoints}


def draw_many(*, camera: bool = False, number: int = 200, pair: dict[str, np.ndarray] | None = None, **changes):
    """Labels at points, points and displacements of many seeds."""
    settings = {"no_keypoints": False, "sampling": "magnitude", "strokes_on_things": 1.0}
    args, pair = argparse.Namespace(**settings | changes), make_pair(camera=camera) if pair is None else pair
    for seed in range(number):
        points, displacements = draw_strokes_on_things(pair, args, np.random.default_rng(seed))
        columns, rows = points.astype(int).T
        assert points.dtype == displacements.dtype == np.float32
        yield pair["mask"][rows, columns], points, displacements


def test_all_moves_are_on_one_large_thing_and_often_there_is_one():
    numbers = []
    for labels, _, displacements in draw_many():
        moved = labels[np.hypot(*displacements.T) > 0]
        assert len(set(moved)) == 1 and moved[0] in (1, 2)
        numbers.append(len(moved))
    assert set(numbers) == {1, 2, 3, 4} and 0.38 < np.mean(np.array(numbers) == 1) < 0.62


@pytest.mark.parametrize(("turns", "is_new", "fewest"), [(True, True, 2), (True, False, 1), (False, True, 1)])
def test_a_thing_with_a_new_motion_that_turns_has_two_strokes_or_more(turns, is_new, fewest):
    pair = make_pair()
    if turns:
        rows, columns = np.indices((SIZE, SIZE))
        turning = 0.1 * np.stack([20 - rows, columns - 18])
        pair["flow"] = np.where(pair["mask"] > 0, turning, 0).astype(np.float32)
    if is_new:
        pair["has_new_motions"] = True
    numbers = {int(np.isin(labels, (1, 2)).sum()) for labels, _, _ in draw_many(pair=pair)}
    assert numbers == set(range(fewest, 5))


def test_share_says_how_often_all_moves_are_on_one_thing():
    together = [len(set(labels[displacements.any(axis=1)])) for labels, _, displacements in draw_many(number=60)]
    mixed = [
        len(set(labels)) > 1 and displacements[labels == 0].any()
        for labels, _, displacements in draw_many(number=60, strokes_on_things=0.0)
    ]
    assert set(together) == {1} and sum(mixed) > 10


def test_strokes_carry_the_flow_at_their_points_and_still_ones_are_holds():
    for labels, _, displacements in draw_many():
        flow = {0: (0, 0), 1: (3, 0), 2: (0, -2), 3: (0, 0)}
        assert displacements.tolist() == [list(flow[label]) for label in labels]


def test_strokes_around_a_thing_are_outside_of_it_and_sometimes_near():
    numbers, distances = [], []
    for labels, points, _ in draw_many():
        is_around = (labels == 0) | (labels == 3)  # the third thing is still
        around = points[is_around]
        numbers.append(len(around))
        (label,) = set(labels[~is_around])
        rows, columns = np.nonzero(make_pair()["mask"] == label)
        for x, y in around:
            distances.append(np.maximum(abs(columns + 0.5 - x), abs(rows + 0.5 - y)).min())
    assert set(numbers) == {0, 1, 2, 3} and 0.2 < np.mean(np.array(numbers) == 0) < 0.4
    assert min(distances) > CELL  # never in the same cell as the outline
    assert 0.4 < np.mean(np.array(distances) < 0.1 * SIZE + 1) < 0.8


def test_strokes_on_the_background_tell_the_motion_of_the_camera():
    around = [displacements[labels == 0].tolist() for labels, _, displacements in draw_many(camera=True)]
    assert sum(map(bool, around)) > 100
    assert {tuple(displacement) for sample in around for displacement in sample} == {(0, 2)}


def test_one_stroke_is_never_only_on_the_outline():
    mask = make_pair()["mask"]
    for labels, points, _ in draw_many(no_keypoints=True):
        depths = []
        for x, y in points[labels > 0]:
            rows, columns = np.nonzero(mask == 0)
            depths.append(np.maximum(abs(columns + 0.5 - x), abs(rows + 0.5 - y)).min())
        assert max(depths) > CELL


def test_strokes_are_at_keypoints_unless_switched_off():
    keypoints = {(9.5, 9.5), (40.5, 40.5)}

    def share(**changes):
        points = [tuple(point) for labels, points, _ in draw_many(**changes) for point in points[labels > 0].tolist()]
        return np.mean([point in keypoints for point in points])

    assert share() == pytest.approx(0.5, abs=0.1)
    assert share(no_keypoints=True) < 0.05


def test_draws_follow_from_the_generator():
    for first, second in zip(draw_many(number=10), draw_many(number=10)):
        assert all(np.array_equal(*arrays) for arrays in zip(first, second))
