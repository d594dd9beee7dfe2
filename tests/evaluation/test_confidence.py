import numpy as np
import pytest

from mcdiff_pipeline.evaluation.confidence import difference_of_ratios, ratio_of_sums


def test_estimate_is_the_mean_over_all_measurements():
    estimate = ratio_of_sums(np.array([2.0, 30.0, 0.0]), np.array([1, 3, 0]))
    assert estimate.value == 8
    assert estimate.clips == 2


def test_interval_contains_the_true_mean_in_95_percent_of_draws():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        values = rng.normal(5, 2, size=60)
        estimate = ratio_of_sums(values, np.ones(60), seed=seed)
        hits += estimate.low <= 5 <= estimate.high
    assert 0.88 < hits / 200 < 0.99


def test_interval_has_the_width_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(0, 1, size=400)
    estimate = ratio_of_sums(values, np.ones(400))
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / 400**0.5, rel=0.15)


def test_interval_of_equal_clips_has_no_width():
    estimate = ratio_of_sums(np.full(5, 6.0), np.full(5, 2))
    assert (estimate.low, estimate.value, estimate.high) == (3, 3, 3)


def test_estimate_is_none_without_measurements():
    assert ratio_of_sums(np.zeros(3), np.zeros(3)) is None


def test_difference_is_resampled_over_the_same_clips():
    rng = np.random.default_rng(2)
    difficulty = rng.normal(20, 5, size=50)  # varies much more between clips than between the two methods
    first, second = difficulty + rng.normal(1, 0.5, size=50), difficulty
    ones = np.ones(50)
    estimate = difference_of_ratios((first, ones), (second, ones))
    assert estimate.value == pytest.approx((first - second).mean())
    assert estimate.low > 0.7
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 0.5 / 50**0.5, rel=0.3)


def test_difference_uses_only_clips_with_both_measurements():
    first = np.array([4.0, 100.0, 0.0]), np.array([2, 1, 0])
    second = np.array([1.0, 0.0, 7.0]), np.array([1, 0, 1])
    estimate = difference_of_ratios(first, second)
    assert (estimate.value, estimate.clips) == (1, 1)
    assert difference_of_ratios(first, (np.zeros(3), np.zeros(3))) is None
