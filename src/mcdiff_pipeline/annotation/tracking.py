# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Tracking of people from frame to frame, by their masks and the positions of their pelvis."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from .people import Person


_LEFT_HIP, _RIGHT_HIP = 11, 12

# From one frame to the next the pelvis of a person may move by less than this fraction of the person's size. After
# undoing this displacement, the masks must have at least this intersection over union. Of 331 pairs of one rendered
# person, up to 0.2 s apart, 330 fulfill both.
_LARGEST_STEP = 0.5
_SMALLEST_AGREEMENT = 0.2
# Masks number people from 1 in 8 bits.
_MAX_TRACKS = 255


def track_people(people: Sequence[Sequence[Person]]) -> list[dict[int, Person]]:
    """Follows people from frame to frame.

    A person who is lost in a frame and found again starts a new track, because nothing is known about the frames
    between. A person who is found in one frame only is left out: most of these are false detections, and they have no
    motion.

    Args:
        people (sequence of sequences of [`Person`]): the people in each frame.

    Returns:
        `list[dict[int, Person]]`: for each track, frame number -> person; consecutive frames.
    """
    tracks: list[dict[int, Person]] = []
    current: list[dict[int, Person]] = []  # the track of each person of the previous frame
    for t, found in enumerate(people):
        matches = {j: i for i, j in match_people(people[t - 1], found)} if t > 0 else {}
        following = []
        for j, person in enumerate(found):
            if j in matches:
                track = current[matches[j]]
            else:
                track = {}
                tracks.append(track)
            track[t] = person
            following.append(track)
        current = following
    return [track for track in tracks if len(track) > 1][:_MAX_TRACKS]


def match_people(first: Sequence[Person], second: Sequence[Person]) -> list[tuple[int, int]]:
    """Matches the people of two frames: the assignment with the largest sum of agreements.

    The agreement of two people is the intersection over union of their masks, after the first mask is moved by the
    displacement of the pelvis. It decreases with this displacement, relative to the size of the people. A person who
    moved too far, or agrees too little with everybody, has no match.

    Args:
        first (sequence of [`Person`]): people in one frame.
        second (sequence of [`Person`]): people in a later frame of the same size.

    Returns:
        `list[tuple[int, int]]`: sorted pairs of indices into `first` and `second`; each index occurs once at most.
    """
    agreements = [
        {j: agreement for j, other in enumerate(second) if (agreement := _agreement(person, other)) > 0}
        for person in first
    ]
    return list(_Assignment(agreements).best(0, frozenset())[1])


class _Assignment:
    """Finds the assignment with the largest sum of agreements by trying all, each part of it once.

    Args:
        agreements: for each person of the first frame, person of the second frame -> agreement.
    """

    def __init__(self, agreements: Sequence[Mapping[int, float]]) -> None:
        self._agreements = agreements
        self.best = functools.cache(self._best)

    def _best(self, i: int, taken: frozenset[int]) -> tuple[float, tuple[tuple[int, int], ...]]:
        """Largest sum, and its pairs, for the people from `i` on, if the people in `taken` are matched already."""
        if i == len(self._agreements):
            return 0.0, ()
        choices = [self.best(i + 1, taken)]
        for j, agreement in self._agreements[i].items():
            if j not in taken:
                total, pairs = self.best(i + 1, taken | {j})
                choices.append((agreement + total, ((i, j), *pairs)))
        return max(choices, key=lambda choice: choice[0])


def _agreement(person: Person, other: Person) -> float:
    """Agreement of two people in [0, 1], as [`match_people`] describes it; 0 if they cannot be the same person."""
    pelvis, later_pelvis = (p.keypoints[[_LEFT_HIP, _RIGHT_HIP], :2].mean(axis=0) for p in (person, other))
    size = max(float(np.hypot(*np.ptp(p.keypoints[:, :2], axis=0))) for p in (person, other))
    step = float(np.hypot(*(later_pelvis - pelvis))) / max(size, 1.0)
    right, down = np.rint(later_pelvis - pelvis).astype(int)
    height, width = other.mask.shape
    # A pelvis that is guessed outside the frame may move by more than the size of the frame.
    if step >= _LARGEST_STEP or abs(right) >= width or abs(down) >= height:
        return 0.0
    moved = np.zeros_like(other.mask)
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = person.mask[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    union = np.maximum(moved, other.mask).sum()
    agreement = float(np.minimum(moved, other.mask).sum() / union) if union else 0.0
    return agreement * (1 - step / _LARGEST_STEP) if agreement >= _SMALLEST_AGREEMENT else 0.0
