# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Where a video cuts from one shot to the next, found on small gray pictures while the frames stream by.

The method is the classical one: a difference of frames, judged by a threshold and by the differences around it
(Lienhart, Comparison of automatic shot boundary detection algorithms, 1999), with a look ahead against flashes (as in
Yeo and Liu, Rapid scene analysis on compressed video, 1995). The difference is one minus the correlation of the
brightness, after undoing a shift of the whole picture that phase correlation finds (Kuglin and Hines, 1975). So
neither a pan nor a change of the light is a cut.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import TypeVar

import cv2
import numpy as np


Frame = TypeVar("Frame")

# Frames to each side that have a say; what lasts no longer is a flash.
REACH = 3
# The thresholds were set on 8 clips of real video (people, traffic, a cartoon) and on pictures of these clips side by
# side. A cut between different scenes has an unlikeness of 0.5 and more, typically 0.8, and where two takes of one
# scene meet, of 0.1 to 0.3. A step within a shot has 0.03 or less in 9 of 10 cases, but 0.47 where a bus rushes past;
# fast motion goes on for some frames, however, so it does not stand out from the steps around it as a cut does.
CUT, CUT_RATIO = 0.4, 2.0
JUMP, JUMP_RATIO = 0.08, 8.0
# How many steps a jump has to stand out from, so there is none at once: a cartoon may hold each picture for long.
MEMORY = 12
# The first frame after a cut may be the mean of both shots, which changing the frame rate puts on many cuts. Its
# correlation with either of two unrelated pictures is 1 / sqrt(2), so the step is 0.3 of the whole change.
MIXED = 0.25
# Pictures are compared at this size of the shorter side: phase correlation finds shifts of up to half the picture, at
# half this size it misses one in a hundred.
COMPARED_SIDE = 64
# Variance in squared levels of 255; a picture with less is blank. It also keeps the grain of blank pictures, a few
# levels, from counting as unlike.
BLANK_VARIANCE = 16.0
# What is darker in both pictures is no content: it may be a black bar, the same in all shots of a video.
BLACK = 24


def number_shots(frames: Iterable[Frame], thumbnail: Callable[[Frame], np.ndarray]) -> Iterator[tuple[int, Frame]]:
    """Tells which shot each frame belongs to; memory does not grow with the length.

    A new shot begins at a hard cut and after a fade through a blank picture. A flash of up to 3 frames is no cut.
    Dissolves and wipes are not found: the picture changes in the midst of a shot then.

    Args:
        frames (iterable): the frames of a video, in order; it is read 3 frames ahead.
        thumbnail (callable): gives the small picture of a frame, uint8 gray `[h, w]`, the shorter side about 100
            pixels.

    Yields:
        `tuple[int, Frame]`: number of the shot, from 0, and the frame; every frame, in order.
    """
    past: deque[np.ndarray] = deque(maxlen=REACH + 1)  # pictures of this shot
    steps: deque[float] = deque(maxlen=MEMORY)  # from picture to picture, over cuts, too
    coming: deque[tuple[np.ndarray, Frame]] = deque()
    shot = 0

    def take() -> tuple[int, Frame]:
        nonlocal shot
        picture, frame = coming[0]
        if past:
            step = _unlikeness(past[-1], picture)
            if _is_cut(step, list(past), list(steps), [picture for picture, _ in coming]):
                shot += 1
                past.clear()
            steps.append(step)
        coming.popleft()
        past.append(picture)
        return shot, frame

    for frame in frames:
        picture = thumbnail(frame)
        scale = COMPARED_SIDE / min(picture.shape)
        size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        coming.append((cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32), frame))
        if len(coming) > REACH:
            yield take()
    while coming:
        yield take()


def _is_cut(step: float, past: list[np.ndarray], steps: list[float], coming: list[np.ndarray]) -> bool:
    """Whether a shot begins with the first of the coming pictures, one step from the last of the shot before."""
    if len(past) > REACH and all(map(_is_blank, past)) and not _is_blank(coming[0]):
        return True
    if step < JUMP:
        return False
    usual = median(steps[-REACH:] or [0.0])
    if step < CUT_RATIO * usual:
        return False  # fast motion, which is not looked at any closer
    # No frame soon after a cut resembles the last before it, and none soon before it the second after it.
    across = [_unlikeness(past[-1], later) for later in coming[1:]]
    across += [_unlikeness(earlier, coming[1]) for earlier in past[:-1] if len(coming) > 1]
    change = min(across or [step])
    after = [_unlikeness(a, b) for a, b in zip(coming, coming[1:])]
    usual = max(usual, median(after or [0.0]))
    if change >= CUT and step >= max(MIXED * change, CUT_RATIO * usual):
        return True
    # The step after the first may be the other half of a mixture.
    return len(steps) == MEMORY and min(step, change) >= max(JUMP, JUMP_RATIO * max(steps + after[1:], default=0.0))


def _is_blank(picture: np.ndarray) -> bool:
    return float(picture.var()) < BLANK_VARIANCE


def _unlikeness(first: np.ndarray, second: np.ndarray) -> float:
    """How little of one picture is in the other: 0 for the same, also brighter or moved; about 1 for unrelated ones.

    Args:
        first, second (`np.ndarray`): float32 gray `[h, w]`.
    """
    if first.shape != second.shape:
        return 1.0  # the video changes its size
    unmoved = _one_minus_correlation(first, second)
    if unmoved < JUMP:
        return unmoved  # most pairs: undoing the motion can only make it smaller
    height, width = first.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F) if min(height, width) > 1 else None
    # OpenCV multiplies its inputs by the window where they stand.
    (x, y), _ = cv2.phaseCorrelate(first.copy(), second.copy(), window)
    x, y = round(x), round(y)
    if 2 * abs(x) > width or 2 * abs(y) > height:
        return unmoved  # little would be left to compare
    here = first[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    there = second[max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]
    return min(unmoved, _one_minus_correlation(here, there))


def _one_minus_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """1 - (cov + c) / sqrt((var1 + c) (var2 + c)), over what is not black in both; c is the variance of a blank."""
    seen = np.maximum(first, second) > BLACK
    if not seen.any():
        return 0.0
    a, b = first[seen], second[seen]
    a = a - a.mean()
    b = b - b.mean()
    covariance, variances = np.mean(a * b), (np.mean(a * a) + BLANK_VARIANCE) * (np.mean(b * b) + BLANK_VARIANCE)
    return float(1 - (covariance + BLANK_VARIANCE) / np.sqrt(variances))
