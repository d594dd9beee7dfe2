# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Confidence intervals by bootstrap over clips."""

from dataclasses import dataclass

import numpy as np


# Bootstrap samples. About 25 of them lie beyond each end of a 95 % interval.
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A value over many clips with its 95 % bootstrap interval.

    Args:
        value (`float`): the value over all clips.
        low, high (`float`): the ends of the interval.
        clips (`int`): number of clips with a measurement.
    """

    value: float
    low: float
    high: float
    clips: int


def ratio_of_sums(sums: np.ndarray, counts: np.ndarray, *, seed: int = 0) -> Estimate | None:
    """The mean over all measurements, with its percentile bootstrap over clips (Efron 1979).

    The bootstrap draws whole clips with replacement, because measurements of one clip are not independent.

    Args:
        sums (`np.ndarray`): float `[N]`, the sum of the measurements of each clip.
        counts (`np.ndarray`): float `[N]`, the number of measurements of each clip. Clips with 0 do not count.
        seed (`int`, defaults to 0): seed of the resampling.

    Returns:
        `Estimate`, or None where nothing was measured.
    """
    measured = counts > 0
    return _bootstrap([(sums[measured], counts[measured])], seed)


def difference_of_ratios(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], *, seed: int = 0
) -> Estimate | None:
    """The difference of two means over the same clips, with its percentile bootstrap.

    Both means are resampled together, so the difficulty that a clip has for both cancels out. The interval is
    therefore narrower than the intervals of the two means.

    Args:
        first, second (`tuple[np.ndarray, np.ndarray]`): sums and counts as in `ratio_of_sums`, of the same clips in
            the same order. A clip counts only where both have a measurement.
        seed (`int`, defaults to 0): seed of the resampling.

    Returns:
        `Estimate` of the first mean minus the second, or None where no clip counts.
    """
    measured = (first[1] > 0) & (second[1] > 0)
    return _bootstrap([(sums[measured], counts[measured]) for sums, counts in (first, second)], seed)


def _bootstrap(pairs: list[tuple[np.ndarray, np.ndarray]], seed: int) -> Estimate | None:
    """The ratio of one pair of sums and counts, or the difference of the ratios of two pairs."""
    number = len(pairs[0][0])
    if number == 0:
        return None
    drawn = np.random.default_rng(seed).integers(0, number, size=(RESAMPLES, number))
    # The first row takes every clip once: it gives the value itself.
    drawn = np.vstack([np.arange(number), drawn])
    ratios = [sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for sums, counts in pairs]
    values = ratios[0] - ratios[1] if len(ratios) == 2 else ratios[0]
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Estimate(float(values[0]), float(low), float(high), number)
