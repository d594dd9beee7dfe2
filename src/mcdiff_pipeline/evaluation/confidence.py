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
    sums, counts = sums[measured], counts[measured]
    if len(sums) == 0:
        return None
    drawn = np.random.default_rng(seed).integers(0, len(sums), size=(RESAMPLES, len(sums)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return Estimate(float(sums.sum() / counts.sum()), float(low), float(high), len(sums))
