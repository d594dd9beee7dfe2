# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Keypoint distance: detects the keypoints of people in the output and compares them with the true ones.

The paper detects keypoints with HRNet; this module uses MediaPipe. A detector infers each joint from the whole body,
so it is several pixels off on the true video too. Reports also show this error of the true video.
"""

import numpy as np
import torch

from ...annotation.people import Person, PersonDetector
from ...dataset.keypoints import COCO_KEYPOINTS


# Joints below this confidence do not count as detected.
LEAST_CONFIDENCE = 0.5
# A detection matches a person if its mean joint error is at most this share of the person's size.
LARGEST_MISFIT = 0.5


def joints_at(keypoints: np.ndarray, points: np.ndarray) -> list[tuple[int, int]]:
    """The person and keypoint that lie exactly at each point. Points without a keypoint of a body are left out.

    Args:
        keypoints (`np.ndarray`): float `[P, K, 3]`, x, y in pixels and visibility. If they are not the 17 of COCO,
            they are landmarks of objects, which no detector of people finds.
        points (`np.ndarray`): float `[N, 2]`, (x, y) in pixels.

    Returns:
        `list[tuple[int, int]]`: indices of person and keypoint, in the order of the points.
    """
    if keypoints.shape[1] != len(COCO_KEYPOINTS):
        return []
    positions = keypoints[..., :2]
    joints = []
    for point in points:
        matching = np.argwhere((positions == point.astype(positions.dtype)).all(axis=-1))
        if len(matching):
            joints.append(tuple(matching[0].tolist()))
    return joints


def keypoint_distances(
    detector: PersonDetector, frame: torch.Tensor, keypoints: np.ndarray, joints: list[tuple[int, int]]
) -> list[float]:
    """The distance of each detected joint from its true position in one frame of the output.

    Args:
        detector (`PersonDetector`): finds people.
        frame (`torch.Tensor`): `[3, H, W]` in [0, 1].
        keypoints (`np.ndarray`): float `[P, 17, 3]`, the true keypoints of this frame in COCO order: x, y in pixels
            and visibility (0 absent, 1 hidden, 2 visible).
        joints (`list[tuple[int, int]]`): person and keypoint of each joint.

    Returns:
        `list[float]`: in pixels; NaN where the joint is not visible in the true frame, its person is not found, or the
        confidence of the detection is too low.
    """
    pixels = frame.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    wanted = {person for person, joint in joints if keypoints[person, joint, 2] >= 2}
    found: dict[int, Person | None] = {}
    # Later searches run only for people whom the earlier ones missed.
    for people in detector.searches(pixels) if wanted else ():
        found = {person: _best_match(people, keypoints[person]) for person in wanted}
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


def _best_match(people: list[Person], keypoints: np.ndarray) -> Person | None:
    """The detection with the smallest mean joint error, or None where that error is too large."""
    present = keypoints[:, 2] > 0
    if not present.any():
        return None
    size = np.linalg.norm(np.ptp(keypoints[present, :2], axis=0))
    misfits = []
    for person in people:
        confident = present & (person.keypoints[:, 2] >= LEAST_CONFIDENCE)
        offsets = person.keypoints[confident, :2] - keypoints[confident, :2]
        misfits.append(np.linalg.norm(offsets, axis=1).mean() if confident.any() else np.inf)
    best = int(np.argmin(misfits)) if misfits else None
    return people[best] if best is not None and misfits[best] <= LARGEST_MISFIT * size else None
