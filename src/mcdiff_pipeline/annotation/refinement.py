# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Keypoint flow instead of dense flow on bodies, where dense flow fails.

MCDiff (arXiv 2304.14404) replaces dense flow by the displacement of body keypoints, "since it describes the human body
better", and does not say which pixels belong to a keypoint. Here a pixel of a person belongs to the nearest of ten
*parts*: upper and lower arms, thighs, shins, torso and head. A part moves as its keypoints do, and replaces dense flow
only where dense flow is not consistent forward and backward.

Positions and displacements are in pixels, x to the right and y down; pixel (0, 0) covers [0, 1) x [0, 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from ..dataset.keypoints import COCO_KEYPOINTS, HEAD, LIMBS, TORSO
from ..flow import backward_warp
from .people import Person


# A joint is used if its confidence is at least this in both frames.
MIN_KEYPOINT_CONFIDENCE = 0.5
# A part keeps its dense flow if at least this fraction of its pixels is consistent forward and backward. Chosen among
# 0.5, 0.7, 0.85 and 0.95 on the validation split of the rendered people (`benchmarks/refinement.py`).
MIN_AGREEMENT = 0.7
# A part keeps its dense flow if the color difference of keypoint flow is larger than this factor times the one of
# dense flow. On the same split, factors from 1.1 to 1.5 gave the same error, and no check gave a larger error.
MAX_MISFIT = 1.2
# In levels of 255. A smaller color difference is rounding: on a uniform surface every flow fits.
LEAST_MISFIT = 1e-6
# Half widths of the parts, as fractions of the part's own length, and at least of the torso's length for limbs that
# point at the camera. Measured by eye on people who stand upright. Parts are rather too wide, because the mask and the
# nearest part limit them as well.
LIMB_RADIUS, SHORT_LIMB_RADIUS, TORSO_RADIUS, HEAD_RADIUS = 0.3, 0.14, 0.25, 0.45
# Lower arms and shins reach beyond wrist and ankle by this fraction of the torso's length, to include hands and feet.
EXTREMITY = 0.1
# Outer fraction of a part's radius in which keypoint flow is blended with dense flow.
RIM = 0.35


PARTS = (
    "left upper arm",
    "left lower arm",
    "right upper arm",
    "right lower arm",
    "left thigh",
    "left shin",
    "right thigh",
    "right shin",
    "torso",
    "head",
)


@dataclass(frozen=True)
class _Part:
    """One part of a body, evaluated at `N` pixels.

    Args:
        name (`str`): one of `PARTS`.
        distance (`np.ndarray`): float `[N]`, in radii of the part: 0 on its axis or area, 1 at its rim.
        flow (`np.ndarray`): float `[N, 2]`, displacement in pixels.
    """

    name: str
    distance: np.ndarray
    flow: np.ndarray


def refine_flow(
    frames: np.ndarray,
    flow: np.ndarray,
    confidence: np.ndarray,
    people: Sequence[tuple[Person, Person]],
    *,
    min_agreement: float = MIN_AGREEMENT,
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces dense flow by keypoint flow on the parts of bodies where dense flow is not reliable.

    A pixel inside the mask of a person belongs to the nearest part, by the distance in radii. Along a limb, the
    displacement is interpolated linearly between its two joints. The torso moves by the affine map that fits its three
    or four joints best. The head moves by the mean of its keypoints.

    Dense flow stays on a part if most of its pixels are consistent with backward flow, if keypoint flow leads to other
    colors, or if a joint is not visible in both frames or may be swapped left for right. It also stays on single
    consistent pixels, beyond the radius of every part, and off the people. Near the rim of a part and of the mask the
    two flows are blended.

    Args:
        frames (`np.ndarray`): uint8 `[2, H, W, 3]`, the two frames.
        flow (`np.ndarray`): float32 `[2, H, W]`, dense flow from the first frame to the second.
        confidence (`np.ndarray`): float32 `[H, W]` in [0, 1], from `forward_backward_consistency`; a pixel above 0.5
            is consistent.
        people (sequence of pairs of [`Person`]): the same person in the first and in the second frame; people who were
            not found in both frames keep dense flow.
        min_agreement (`float`, defaults to 0.7): a part keeps its dense flow if at least this fraction of its pixels
            is consistent; 0 keeps dense flow everywhere.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the refined flow, float32 `[2, H, W]`, and the weight of keypoint flow in it,
        float32 `[H, W]` in [0, 1].

    Raises:
        ValueError: if the sizes are not the same.
    """
    height, width = flow.shape[1:]
    shapes = {"frames": frames.shape[1:3], "confidence": confidence.shape}
    shapes |= {f"mask {k}": first.mask.shape for k, (first, _) in enumerate(people)}
    for name, shape in shapes.items():
        if shape != (height, width):
            raise ValueError(
                f"{name} has {shape[0]} x {shape[1]} pixels, but the flow has {height} x {width}; compute all of "
                "them from the same frames."
            )
    refined = flow.copy()
    total_weight = np.zeros((height, width), dtype=np.float32)
    doubtful = confidence <= 0.5
    for first, second in people:
        rows, columns = np.nonzero(first.mask > 0.5)
        parts = _moving_parts(first, second, np.stack([columns, rows], axis=1) + 0.5)
        if not parts or len(rows) == 0:
            continue
        distances = np.stack([part.distance for part in parts])  # [P, N]
        nearest = distances.argmin(axis=0)
        distance = np.take_along_axis(distances, nearest[None], axis=0)[0]
        part_flow = np.stack([part.flow for part in parts])[nearest, np.arange(len(nearest))]  # [N, 2]

        fading = np.clip((1 - distance) / RIM, 0, 1)
        weight = fading * fading * (3 - 2 * fading)  # smoothstep
        weight *= np.clip(2 * first.mask[rows, columns] - 1, 0, 1) * doubtful[rows, columns]
        owned = [(nearest == index) & (distance < 1) for index in range(len(parts))]
        for own in owned:
            if own.any() and 1 - doubtful[rows[own], columns[own]].mean() >= min_agreement:
                weight[own] = 0
        if not weight.any():
            continue  # most people: dense flow is consistent on all of their parts
        _drop_misfits(weight, owned, frames, flow, part_flow, (rows, columns))
        weight = np.maximum(weight - total_weight[rows, columns], 0)  # where two people overlap, the first one counts
        total_weight[rows, columns] += weight
        refined[:, rows, columns] += (weight[:, None] * (part_flow - flow[:, rows, columns].T)).T
    return refined.astype(np.float32), total_weight


def _drop_misfits(
    weight: np.ndarray,
    owned: Sequence[np.ndarray],
    frames: np.ndarray,
    flow: np.ndarray,
    part_flow: np.ndarray,
    pixels: tuple[np.ndarray, np.ndarray],
) -> None:
    """Sets the weight to 0 on parts where colors fit worse after keypoint flow than after dense flow.

    Args:
        weight (`np.ndarray`): float `[N]`, changed in place.
        owned (sequence of `np.ndarray`): for each part, bool `[N]`, its pixels.
        frames (`np.ndarray`): uint8 `[2, H, W, 3]`.
        flow (`np.ndarray`): float32 `[2, H, W]`, dense flow.
        part_flow (`np.ndarray`): float `[N, 2]`, keypoint flow.
        pixels (`tuple[np.ndarray, np.ndarray]`): rows and columns of the `N` pixels.
    """
    rows, columns = pixels
    candidate = flow.astype(np.float64)
    candidate[:, rows, columns] = part_flow.T
    misfit, dense_misfit = (_misfit(frames, field)[rows, columns] for field in (candidate, flow))
    for own in owned:
        changed = own & (weight > 0)
        if changed.any() and misfit[changed].mean() > max(MAX_MISFIT * dense_misfit[changed].mean(), LEAST_MISFIT):
            weight[own] = 0


def label_parts(person: Person) -> np.ndarray:
    """Assigns pixels to parts of the body, by the rule of `refine_flow`.

    Args:
        person ([`Person`]): in one frame.

    Returns:
        `np.ndarray`: int8 `[H, W]`, an index into `PARTS`, or -1 off the person and beyond the radius of every part.
    """
    labels = np.full(person.mask.shape, -1, dtype=np.int8)
    rows, columns = np.nonzero(person.mask > 0.5)
    parts = _moving_parts(person, person, np.stack([columns, rows], axis=1) + 0.5)
    if parts:
        distances = np.stack([part.distance for part in parts])
        names = np.array([PARTS.index(part.name) for part in parts], dtype=np.int8)
        labels[rows, columns] = np.where(distances.min(axis=0) < 1, names[distances.argmin(axis=0)], -1)
    return labels


def _moving_parts(first: Person, second: Person, pixels: np.ndarray) -> list[_Part]:
    """The parts whose joints are visible in both frames, evaluated at `pixels`, float `[N, 2]` (x, y)."""
    confidence = np.minimum(first.keypoints[:, 2], second.keypoints[:, 2])
    position = first.keypoints[:, :2].astype(np.float64)
    displacement = second.keypoints[:, :2].astype(np.float64) - position
    seen = (confidence >= MIN_KEYPOINT_CONFIDENCE) & ~_maybe_swapped(first, second)
    torso_length = _torso_length(position, seen)
    if torso_length is None:
        return []
    parts = []
    for name, (start, end) in zip(PARTS, LIMBS):
        if seen[start] and seen[end]:
            reach = EXTREMITY * torso_length if name.endswith(("lower arm", "shin")) else 0.0
            along, offset = _project(pixels, position[start], position[end], reach)
            length = np.linalg.norm(position[end] - position[start])
            radius = max(LIMB_RADIUS * length, SHORT_LIMB_RADIUS * torso_length)
            flow = displacement[start] + along[:, None] * (displacement[end] - displacement[start])
            parts.append(_Part(name, offset / radius, flow))
    corners = [joint for joint in TORSO if seen[joint]]
    if len(corners) >= 3:
        # Affine instead of bilinear, because the four corners of a twisted body may not form a convex quadrilateral.
        matrix = np.concatenate([position[corners], np.ones((len(corners), 1))], axis=1)
        affine, *_ = np.linalg.lstsq(matrix, displacement[corners], rcond=None)
        flow = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ affine
        distance = _distance_to_polygon(pixels, position[corners])
        parts.append(_Part("torso", distance / (TORSO_RADIUS * torso_length), flow))
    face = [joint for joint in HEAD if seen[joint]]
    if face:
        distance = np.linalg.norm(pixels - position[face].mean(axis=0), axis=1)
        flow = np.broadcast_to(displacement[face].mean(axis=0), pixels.shape)
        parts.append(_Part("head", distance / (HEAD_RADIUS * torso_length), flow))
    return parts


def _maybe_swapped(first: Person, second: Person) -> np.ndarray:
    """bool `[17]`: joints that would move less if left and right were swapped in one of the frames.

    Detectors do swap them: MediaPipe in one of 15 to 20 pairs of frames. Legs that really pass each other also count
    as swapped, so they are not refined.
    """
    swapped = np.zeros(len(COCO_KEYPOINTS), dtype=bool)
    for left, name in enumerate(COCO_KEYPOINTS):
        if name.startswith("left_"):
            pair = [left, COCO_KEYPOINTS.index(name.replace("left_", "right_"))]
            before, after = first.keypoints[pair, :2], second.keypoints[pair, :2]
            straight, crossed = (np.linalg.norm(end - before, axis=1).sum() for end in (after, after[::-1]))
            swapped[pair] = crossed < straight
    return swapped


def _misfit(frames: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """float64 `[H, W]`: color difference to the end of flow `[2, H, W]`, the mean of RGB in levels of 255."""
    first, second = torch.from_numpy(frames).permute(0, 3, 1, 2).double()
    found = backward_warp(second[None], torch.from_numpy(flow)[None].double())[0]
    return (found - first).abs().mean(dim=0).numpy()


def _torso_length(position: np.ndarray, seen: np.ndarray) -> float | None:
    """Length from shoulders to hips in pixels, the unit of all widths.

    If these joints are not visible, the length is estimated from the others; None if fewer than two are visible.
    """
    left_shoulder, right_shoulder, right_hip, left_hip = TORSO
    sides = [(left_shoulder, left_hip), (right_shoulder, right_hip)]
    lengths = [np.linalg.norm(position[a] - position[b]) for a, b in sides if seen[a] and seen[b]]
    if seen[left_shoulder] and seen[right_shoulder]:
        # For a bust, or a body that bends towards the camera. The shoulders are about 0.8 torso lengths apart.
        lengths.append(np.linalg.norm(position[left_shoulder] - position[right_shoulder]) / 0.8)
    if lengths:
        return float(max(lengths))
    if seen.sum() >= 2:
        extent = position[seen].max(axis=0) - position[seen].min(axis=0)
        return float(np.linalg.norm(extent) / 2)
    return None


def _project(
    pixels: np.ndarray, start: np.ndarray, end: np.ndarray, reach: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Projects pixels onto a segment that is extended beyond its end by `reach` pixels.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: two float `[N]`: position of the nearest point of the segment, 0 at the start
        and 1 at the end, and distance from it in pixels.
    """
    axis = end - start
    length = max(float(np.linalg.norm(axis)), 1e-6)
    along = np.clip((pixels - start) @ axis / length**2, 0, 1 + reach / length)
    return along, np.linalg.norm(pixels - start - along[:, None] * axis, axis=1)


def _distance_to_polygon(pixels: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """float `[N]`: distance in pixels from the convex hull of three or four points; 0 inside."""
    distance = np.min([_project(pixels, a, b)[1] for a, b in combinations(corners, 2)], axis=0)
    for triangle in combinations(corners, 3):  # together the triangles cover the hull
        sides = [
            (b[0] - a[0]) * (pixels[:, 1] - a[1]) - (b[1] - a[1]) * (pixels[:, 0] - a[0])
            for a, b in zip(triangle, (*triangle[1:], triangle[0]))
        ]
        distance[(np.min(sides, axis=0) >= 0) | (np.max(sides, axis=0) <= 0)] = 0
    return distance
