# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Detection of cuts between shots, on small gray images, while the frames are read.

The method compares the difference of consecutive frames with a threshold and with the differences around it (Lienhart,
"Comparison of automatic shot boundary detection algorithms", 1999), and looks ahead to ignore flashes (as in Yeo and
Liu, "Rapid scene analysis on compressed video", 1995). The difference is one minus the correlation of the brightness,
after undoing a shift of the whole image that phase correlation finds (Kuglin and Hines, 1975). So pans and changes of
light are not cuts.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Generic, TypeVar

import cv2
import numpy as np


Frame = TypeVar("Frame")

# Number of frames on each side that a decision uses. An event that lasts no longer is a flash.
REACH = 3
# The thresholds were set on 8 clips of real video (people, traffic, a cartoon) and on images of these clips side by
# side. At a cut between different scenes the difference is 0.5 or more, typically 0.8; between two takes of one scene
# it is 0.1 to 0.3. Within a shot it is 0.03 or less in 9 of 10 cases, but 0.47 where a bus drives past. Fast motion
# lasts for some frames, so it does not exceed the differences around it as a cut does.
CUT, CUT_RATIO = 0.4, 2.0
JUMP, JUMP_RATIO = 0.08, 8.0
# Number of earlier steps that a jump has to exceed. A jump needs all of them, because a cartoon may repeat each image
# for a long time.
MEMORY = 12
# The first frame after a cut may be the mean of both shots; changing the frame rate does this at many cuts. Its
# correlation with either of two unrelated images is 1 / sqrt(2), so the step is 0.3 of the whole change.
MIXED = 0.25
# Shorter side of the compared images in pixels. Phase correlation finds shifts of up to half the image; at half this
# size it misses one in a hundred.
COMPARED_SIDE = 64
# Variance in squared levels of 255. An image with less is blank. The same value keeps the noise of blank images, a few
# levels, from counting as a difference.
BLANK_VARIANCE = 16.0
# Level of 255. Pixels that are darker in both images are ignored: they may be black bars, the same in all shots.
BLACK = 24


def number_shots(frames: Iterable[Frame], thumbnail: Callable[[Frame], np.ndarray]) -> Iterator[tuple[int, Frame]]:
    """Assigns each frame to a shot. Memory does not grow with the length.

    A new shot begins at a hard cut, and after a fade through a blank image. A flash of up to 3 frames is not a cut.
    Dissolves and wipes are not found, so the image changes within a shot there.

    Args:
        frames (iterable): the frames of a video, in order. It is read 3 frames ahead.
        thumbnail (callable): returns the small image of a frame, uint8 gray `[h, w]`, with a shorter side of about 100
            pixels.

    Yields:
        `tuple[int, Frame]`: number of the shot, from 0, and the frame; all frames, in order.
    """
    numbering: _ShotNumbering[Frame] = _ShotNumbering()
    for frame in frames:
        numbering.add(thumbnail(frame), frame)
        if len(numbering) > REACH:
            yield numbering.take()
    while len(numbering):
        yield numbering.take()


class _ShotNumbering(Generic[Frame]):
    """Frames that wait for their shot number, and the images that decide it."""

    def __init__(self) -> None:
        self._shot = 0
        self._past: deque[np.ndarray] = deque(maxlen=REACH + 1)  # images of this shot
        self._steps: deque[float] = deque(maxlen=MEMORY)  # differences of consecutive images, also across cuts
        self._coming: deque[tuple[np.ndarray, Frame]] = deque()

    def __len__(self) -> int:
        """Number of frames that wait."""
        return len(self._coming)

    def add(self, image: np.ndarray, frame: Frame) -> None:
        scale = COMPARED_SIDE / min(image.shape)
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        self._coming.append((cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32), frame))

    def take(self) -> tuple[int, Frame]:
        """Removes the next frame and returns its shot and the frame."""
        image, frame = self._coming[0]
        if self._past:
            step = _difference(self._past[-1], image)
            if _is_cut(step, list(self._past), list(self._steps), [coming for coming, _ in self._coming]):
                self._shot += 1
                self._past.clear()
            self._steps.append(step)
        self._coming.popleft()
        self._past.append(image)
        return self._shot, frame


def _is_cut(step: float, past: list[np.ndarray], steps: list[float], coming: list[np.ndarray]) -> bool:
    """Whether a shot begins with the first coming image.

    Args:
        step: difference between the last past image and the first coming image.
        past: the last images of the current shot.
        steps: the last differences of consecutive images, without `step`.
        coming: the next images; at least one.
    """
    if len(past) > REACH and all(map(_is_blank, past)) and not _is_blank(coming[0]):
        return True
    if step < JUMP:
        return False
    usual = median(steps[-REACH:] or [0.0])
    if step < CUT_RATIO * usual:
        return False  # fast motion; no further checks
    # At a cut, no image soon after it resembles the last image before it, and no image soon before it resembles the
    # second image after it.
    across = [_difference(past[-1], later) for later in coming[1:]]
    across += [_difference(earlier, coming[1]) for earlier in past[:-1] if len(coming) > 1]
    change = min(across or [step])
    after = [_difference(a, b) for a, b in zip(coming, coming[1:])]
    usual = max(usual, median(after or [0.0]))
    if change >= CUT and step >= max(MIXED * change, CUT_RATIO * usual):
        return True
    # The first step after this one may be the second half of a mixed frame, so it is left out.
    return len(steps) == MEMORY and min(step, change) >= max(JUMP, JUMP_RATIO * max(steps + after[1:], default=0.0))


def _is_blank(image: np.ndarray) -> bool:
    return float(image.var()) < BLANK_VARIANCE


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """Difference of two images: 0 for the same image, also brighter or shifted; about 1 for unrelated images.

    Args:
        first, second (`np.ndarray`): float32 gray `[h, w]`.
    """
    if first.shape != second.shape:
        return 1.0  # the video changes its size
    unmoved = _one_minus_correlation(first, second)
    if unmoved < JUMP:
        return unmoved  # most pairs; undoing a shift can only reduce the difference
    height, width = first.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F) if min(height, width) > 1 else None
    # OpenCV multiplies its inputs by the window in place.
    (x, y), _ = cv2.phaseCorrelate(first.copy(), second.copy(), window)
    x, y = round(x), round(y)
    if 2 * abs(x) > width or 2 * abs(y) > height:
        return unmoved  # too little overlap to compare
    here = first[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    there = second[max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]
    return min(unmoved, _one_minus_correlation(here, there))


def _one_minus_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """1 - (cov + c) / sqrt((var1 + c) (var2 + c)), without pixels black in both images; c is `BLANK_VARIANCE`."""
    seen = np.maximum(first, second) > BLACK
    if not seen.any():
        return 0.0
    a, b = (first.ravel(), second.ravel()) if seen.all() else (first[seen], second[seen])
    a = a - a.mean()
    b = b - b.mean()
    covariance, variances = np.mean(a * b), (np.mean(a * a) + BLANK_VARIANCE) * (np.mean(b * b) + BLANK_VARIANCE)
    return float(1 - (covariance + BLANK_VARIANCE) / np.sqrt(variances))
