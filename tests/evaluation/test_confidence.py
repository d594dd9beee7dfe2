import numpy as np
import pytest

from mcdiff_pipeline.evaluation.confidence import ratio_of_sums


def test_the_figure_is_the_mean_over_all_that_was_measured():
    estimate = ratio_of_sums(np.array([2.0, 30.0, 0.0]), np.array([1, 3, 0]))
    assert estimate.value == 8
    assert estimate.clips == 2


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        values = rng.normal(5, 2, size=60)
        estimate = ratio_of_sums(values, np.ones(60), seed=seed)
        hits += estimate.low <= 5 <= estimate.high
    assert 0.88 < hits / 200 < 0.99


def test_the_interval_is_as_wide_as_that_of_the_mean():
    values = np.random.default_rng(1).normal(0, 1, size=400)
    estimate = ratio_of_sums(values, np.ones(400))
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / 400**0.5, rel=0.15)


def test_equal_clips_leave_no_doubt():
    estimate = ratio_of_sums(np.full(5, 6.0), np.full(5, 2))
    assert (estimate.low, estimate.value, estimate.high) == (3, 3, 3)


def test_where_nothing_was_measured_there_is_no_figure():
    assert ratio_of_sums(np.zeros(3), np.zeros(3)) is None
