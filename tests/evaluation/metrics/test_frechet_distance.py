import numpy as np
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from mcdiff_pipeline.evaluation.metrics.frechet_distance import frechet_distance


def features_with(mean: np.ndarray, covariance: np.ndarray, samples: int, seed: int = 0) -> np.ndarray:
    """`[samples, D]` whose mean and unbiased covariance are exactly those given."""
    noise = np.random.default_rng(seed).normal(size=(samples, len(mean)))
    noise -= noise.mean(axis=0)
    noise = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise, rowvar=False))).T
    return mean + noise @ np.linalg.cholesky(covariance).T


def test_distance_of_equal_sets_is_zero():
    features = np.random.default_rng(0).normal(size=(50, 8))
    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-10)


def test_shift_of_the_mean_adds_its_square():
    features = np.random.default_rng(0).normal(size=(50, 4))
    assert frechet_distance(features, features + [3, 0, 0, 4]) == pytest.approx(25)


def test_commuting_covariances_add_the_squared_difference_of_standard_deviations():
    # For diagonal covariances the distance is the sum of the squared differences of standard deviations.
    a = features_with(np.zeros(3), np.diag([1.0, 4.0, 9.0]), 20, seed=1)
    b = features_with(np.ones(3), np.diag([4.0, 4.0, 1.0]), 30, seed=2)
    assert frechet_distance(a, b) == pytest.approx(3 + (1 + 0 + 4))


def test_distance_of_covariances_that_do_not_commute():
    # For 2 x 2 matrices tr((AB)^(1/2)) = (tr(AB) + 2 det(AB)^(1/2))^(1/2).
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[4.0, -1.5], [-1.5, 1.0]])
    expected = np.trace(a + b) - 2 * np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    measured = frechet_distance(features_with(np.zeros(2), a, 20, seed=1), features_with(np.zeros(2), b, 20, seed=2))
    assert measured == pytest.approx(expected)


def test_agrees_with_torchmetrics_on_the_same_features():
    a, b = (np.random.default_rng(seed).normal(size=(200, 16)) * (1 + seed) for seed in (0, 1))
    metric = FrechetInceptionDistance(torch.nn.Flatten(), input_img_size=(16, 1, 1), normalize=True)
    metric.update(torch.tensor(a)[:, :, None, None], real=True)
    metric.update(torch.tensor(b)[:, :, None, None], real=False)
    assert frechet_distance(a, b) == pytest.approx(metric.compute().item(), rel=1e-5)


def test_constant_features_are_allowed():
    # A constant channel makes the covariance singular. Only the varying one may count.
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.normal(size=(50, 1)), np.zeros((50, 3))], axis=1)
    assert frechet_distance(a, 2 * a) == pytest.approx(a[:, 0].mean() ** 2 + a[:, 0].var(ddof=1))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((8, 8)), np.zeros((9, 8)), "more than 8 samples on either side, not 8 and 9"),
        (np.zeros((9, 8)), np.zeros((9, 7)), r"\[9, 8\] and \[9, 7\]"),
        (np.full((9, 8), np.nan), np.zeros((9, 8)), "must be finite"),
    ],
)
def test_invalid_features_raise(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)
