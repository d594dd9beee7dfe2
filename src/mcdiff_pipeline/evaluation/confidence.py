# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""How sure a figure is: resampling of clips."""

from dataclasses import dataclass

import numpy as np


# Draws of the bootstrap: the ends of a 95 % interval are then those of about 25 draws on each side.
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure over clips, with the interval in which it lies for 95 % of the resamplings of these clips.

    Args:
        value (`float`): the figure.
        low, high (`float`): the ends of the interval.
        clips (`int`): how many clips had something to measure.
    """

    value: float
    low: float
    high: float
    clips: int


def ratio_of_sums(sums: np.ndarray, counts: np.ndarray, *, seed: int = 0) -> Estimate | None:
    """A mean over all that was measured, with its percentile bootstrap over clips (Efron 1979).

    Clips are drawn with replacement, whole: what lies in one clip is not independent.

    Args:
        sums (`np.ndarray`): float `[N]`, what each clip adds up to.
        counts (`np.ndarray`): float `[N]`, over how many values.
        seed (`int`, defaults to 0): of the resampling.

    Returns:
        `Estimate`, or None where nothing was measured.
    """
    measured = counts > 0
    return _resampled([(sums[measured], counts[measured])], seed)


def difference_of_ratios(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], *, seed: int = 0
) -> Estimate | None:
    """How much larger one mean is than another over the same clips, with its percentile bootstrap.

    Both are resampled together, so what makes a clip hard for both falls out: the interval is narrower than those of
    the two means, and says whether they differ.

    Args:
        first, second (`tuple[np.ndarray, np.ndarray]`): sums and counts as in `ratio_of_sums`, of the same clips in
            the same order. A clip counts where both have something measured.
        seed (`int`, defaults to 0): of the resampling.

    Returns:
        `Estimate` of the first minus the second, or None where no clip counts.
    """
    measured = (first[1] > 0) & (second[1] > 0)
    return _resampled([(sums[measured], counts[measured]) for sums, counts in (first, second)], seed)


def _resampled(pairs: list[tuple[np.ndarray, np.ndarray]], seed: int) -> Estimate | None:
    """The ratio of one pair of sums and counts, or the difference of the ratios of two."""
    number = len(pairs[0][0])
    if number == 0:
        return None
    drawn = np.random.default_rng(seed).integers(0, number, size=(RESAMPLES, number))
    # The first draw is of every clip once, which is the figure itself.
    drawn = np.vstack([np.arange(number), drawn])
    ratios = [sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for sums, counts in pairs]
    values = ratios[0] - ratios[1] if len(ratios) == 2 else ratios[0]
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Estimate(float(values[0]), float(low), float(high), number)
