"""A short synthetic video, and how far a written copy may differ from it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np


def moving_square(num_frames: int = 6, height: int = 48, width: int = 64) -> Iterator[np.ndarray]:
    """A dark square that moves to the right over a smooth background, uint8 `[height, width, 3]` each."""
    y, x = np.mgrid[:height, :width]
    for frame in range(num_frames):
        image = np.stack([80 + x, 60 + 2 * y, 140 - x + y], axis=2).clip(0, 255).astype(np.uint8)
        image[height // 4 : height // 2, 4 * frame : 4 * frame + height // 4] = (150, 40, 30)
        yield image


def tolerance(path: Path) -> float:
    """Largest mean error of `moving_square` in a format, in levels of 255; a shift by one frame adds 2."""
    return {".mp4": 2, ".webm": 2, ".gif": 3.5, ".mkv": 0}[path.suffix]


def mean_error(frames: Iterable[np.ndarray], expected: Iterable[np.ndarray]) -> float:
    """Mean absolute difference in levels of 255."""
    return np.abs(np.stack(list(frames)).astype(int) - np.stack(list(expected)).astype(int)).mean()
