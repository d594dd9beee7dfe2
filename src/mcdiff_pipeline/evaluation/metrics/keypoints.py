# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Do people go where the strokes say? Their keypoints are detected on the output, as in the paper.

The paper detects them with HRNet, here it is MediaPipe. A detector guesses where joints are from the whole body, so it
is off by some pixels on the true video already: that floor stands beside every figure.
"""

import numpy as np
import torch

from ...annotation.people import Person, PersonDetector
from ...dataset import Clip
from ..handles import Handle


# Joints below this confidence are guesses.
LEAST_CONFIDENCE = 0.5
# A detection is of a person if its joints are, in the mean, off by less than this part of the person's size.
LARGEST_MISFIT = 0.5


def joints_of(clip: Clip, handles: list[Handle]) -> list[tuple[int, int]]:
    """Person and keypoint of each handle; handles that start at no keypoint have none.

    Returns:
        `list[tuple[int, int]]`: indices into `clip.keypoints[t]`, in the order of the handles.
    """
    starts = clip.keypoints[0, ..., :2]
    joints = []
    for handle in handles:
        at_start = np.argwhere((starts == handle.track[0].astype(starts.dtype)).all(axis=-1))
        if len(at_start):
            joints.append(tuple(at_start[0].tolist()))
    return joints


def keypoint_distances(
    detector: PersonDetector, frame: torch.Tensor, keypoints: np.ndarray, joints: list[tuple[int, int]]
) -> list[float]:
    """How far from its true position each joint is detected in a frame of the output.

    Args:
        detector (`PersonDetector`): finds people.
        frame (`torch.Tensor`): `[3, H, W]` in [0, 1].
        keypoints (`np.ndarray`): float `[P, 17, 3]`, the true keypoints at that time in COCO's order: x, y in pixels
            and visibility (0 absent, 1 hidden, 2 visible).
        joints (`list[tuple[int, int]]`): person and keypoint of each joint that is looked for.

    Returns:
        `list[float]`: in pixels; NaN where the joint is not to be seen in the true frame, its person is not found, or
        the detector is not sure of it.
    """
    pixels = frame.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    wanted = {person for person, joint in joints if keypoints[person, joint, 2] >= 2}
    found: dict[int, Person | None] = {}
    # Further searches are for those whom the first one misses.
    for people in detector.searches(pixels) if wanted else ():
        found = {person: _matching(people, keypoints[person]) for person in wanted}
        if all(detected is not None for detected in found.values()):
            break
    distances = []
    for person, joint in joints:
        x, y, visibility = keypoints[person, joint]
        detected = found.get(person)
        if visibility < 2 or detected is None or detected.keypoints[joint, 2] < LEAST_CONFIDENCE:
            distances.append(float("nan"))
        else:
            distances.append(float(np.hypot(*(detected.keypoints[joint, :2] - (x, y)))))
    return distances


def _matching(people: list[Person], keypoints: np.ndarray) -> Person | None:
    """The detection that fits the true keypoints of a person best, if one fits at all."""
    there = keypoints[:, 2] > 0
    if not there.any():
        return None
    size = np.linalg.norm(np.ptp(keypoints[there, :2], axis=0))
    misfits = []
    for person in people:
        sure = there & (person.keypoints[:, 2] >= LEAST_CONFIDENCE)
        offsets = person.keypoints[sure, :2] - keypoints[sure, :2]
        misfits.append(np.linalg.norm(offsets, axis=1).mean() if sure.any() else np.inf)
    best = int(np.argmin(misfits)) if misfits else None
    return people[best] if best is not None and misfits[best] <= LARGEST_MISFIT * size else None
