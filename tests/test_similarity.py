# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import math

import pytest
import torch

from mcdiff_pipeline.similarity import (
    compose_similarities,
    fit_similarity,
    identity_similarity,
    invert_similarity,
    similarity_flow,
    similarity_of_flow,
)


def moved(similarity, point):
    """Where a similarity maps a point."""
    z = complex(*similarity[0]) * complex(*point) + complex(*similarity[1])
    return z.real, z.imag


def turned(angle, scale, shift):
    return torch.tensor([[scale * math.cos(angle), scale * math.sin(angle)], shift], dtype=torch.float64)


TURN = turned(0.4, 1.2, (3.0, -2.0))


# Fit


def test_one_point_gives_a_translation():
    similarity = fit_similarity([(3, 4)], [(5, 7)], [False])
    assert similarity.tolist() == [[1, 0], [2, 3]]


def test_two_points_are_mapped_exactly():
    points = [(10.0, 20.0), (40.0, 25.0)]
    similarity = fit_similarity(points, [(12.0, 18.0), (35.0, 60.0)], [False, False])
    assert moved(similarity, points[0]) == pytest.approx((12, 18))
    assert moved(similarity, points[1]) == pytest.approx((35, 60))


def test_more_points_of_one_similarity_give_it_back():
    points = [(0.0, 0.0), (30.0, 5.0), (12.0, 44.0), (-7.0, 9.0)]
    similarity = fit_similarity(points, [moved(TURN, point) for point in points], [False] * 4)
    assert torch.allclose(similarity, TURN)


def test_other_points_are_fitted_by_least_squares():
    points = [(0.0, 0.0), (10.0, 0.0), (0.0, 10.0), (10.0, 10.0)]
    targets = [(1.0, 0.0), (11.0, 1.0), (0.0, 12.0), (10.0, 10.0)]

    def error(similarity):
        return sum(math.dist(moved(similarity, point), target) ** 2 for point, target in zip(points, targets))

    found = fit_similarity(points, targets, [False] * 4)
    for row in range(2):
        for column in range(2):
            for change in (-0.01, 0.01):
                other = found.clone()
                other[row, column] += change
                assert error(other) > error(found)


def test_a_hold_is_a_fixed_point_about_which_the_rest_turns():
    hold, handle = (5.0, 5.0), (15.0, 5.0)
    similarity = fit_similarity([hold, handle], [(99.0, 99.0), (5.0, 15.0)], [True, False])
    assert moved(similarity, hold) == pytest.approx(hold)
    assert moved(similarity, handle) == pytest.approx((5, 15))
    three = fit_similarity([hold, handle, (5, 0)], [hold, (5, 15), (99, 0)], [True, False, False])
    assert moved(three, hold) == pytest.approx(hold)


def test_two_holds_leave_no_motion():
    similarity = fit_similarity([(0, 0), (10, 0), (5, 5)], [(0, 0), (10, 0), (50, 50)], [True, True, False])
    assert torch.equal(similarity, identity_similarity())


def test_handles_at_one_point_give_their_mean_translation():
    similarity = fit_similarity([(4, 4), (4.1, 4)], [(6, 4), (8.1, 4)], [False, False])
    assert similarity[0].tolist() == [1, 0] and similarity[1].tolist() == pytest.approx([3, 0])


def test_nothing_collapses_to_a_point():
    similarity = fit_similarity([(0, 0), (10, 0)], [(5, 0), (5, 0)], [False, False])
    inverse = invert_similarity(similarity)
    assert torch.isfinite(inverse).all() and similarity[0, 0] > 0


def test_no_points_give_the_identity():
    assert torch.equal(fit_similarity([], [], []), identity_similarity())


# Composition


def test_inverse_undoes():
    both = compose_similarities(TURN, invert_similarity(TURN))
    assert torch.allclose(both, identity_similarity())


def test_composition_does_the_first_first():
    shift = turned(0, 1, (10.0, 0.0))
    point = (3.0, 7.0)
    assert moved(compose_similarities(shift, TURN), point) == pytest.approx(moved(TURN, moved(shift, point)))


# Flow


def test_flow_of_a_similarity_moves_the_centers_of_cells():
    flow = similarity_flow(TURN, (6, 8), (12, 24))  # cells of 2 x 3 pixels
    for row, column in ((0, 0), (5, 2), (3, 7)):
        x, y = (column + 0.5) * 3, (row + 0.5) * 2
        u, v = flow[:, row, column].tolist()
        assert (x + 3 * u, y + 2 * v) == pytest.approx(moved(TURN, (x, y)), abs=1e-4)


def test_similarity_of_its_flow_is_found_again():
    flow = similarity_flow(TURN, (6, 8), (12, 24))
    weight = torch.zeros(6, 8)
    weight[1:4, 2:7] = 1
    other = torch.where(weight > 0, flow, 99.0)  # what has no weight does not count
    assert torch.allclose(similarity_of_flow(other, weight, (12, 24)), TURN, atol=1e-5)


def test_without_weight_nothing_moves():
    flow = similarity_flow(TURN, (6, 8), (12, 24))
    assert torch.allclose(similarity_of_flow(flow, torch.zeros(6, 8), (12, 24)), identity_similarity())


def test_ridge_holds_a_turn_back_where_few_cells_tell_it():
    def angle(size, ridge):
        flow = similarity_flow(turned(0.2, 1.0, (0.0, 0.0)), (size, size), (size, size))
        factor = similarity_of_flow(flow, torch.ones(size, size), (size, size), ridge)[0]
        return math.atan2(*factor.flip(0).tolist())

    assert angle(3, 0.0) == pytest.approx(0.2)
    assert angle(3, 4.0) == pytest.approx(0.75 * 0.2, rel=0.05)  # 12 squared cells around the center
    assert angle(8, 4.0) == pytest.approx(0.2, rel=0.01)
