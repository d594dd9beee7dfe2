# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The motion of a person in a video, for a person in an image: limbs turn as in the video, and keep their length."""

import os
from pathlib import Path

import numpy as np

from ..annotation.people import PersonDetector
from ..annotation.pose_model import find_pose_model
from ..annotation.tracking import track_people
from ..strokes import Stroke
from ..video import VideoReader
from .tracks import Tracks


# Confidence from which a joint counts as found.
FOUND = 0.5
# The range by which a limb gets shorter or longer, as it turns towards the camera or away from it.
FORESHORTENING = (0.5, 2.0)

# COCO keypoints: the joints of each one are those that the limb begins at (their mean). Parents come first. The hips
# are moved by their center.
LIMBS: tuple[tuple[int, tuple[int, ...]], ...] = (
    (5, (11, 12)),
    (6, (11, 12)),
    (0, (5, 6)),
    (7, (5,)),
    (9, (7,)),
    (8, (6,)),
    (10, (8,)),
    (13, (11,)),
    (15, (13,)),
    (14, (12,)),
    (16, (14,)),
)
HIPS = (11, 12)


def retargeted(tracks: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    How the joints of one person move, if their limbs turn as those of another.

    The center of the hips moves as in the video, in proportion to the size of the bodies, and the hips turn about it.
    From there on, each limb begins where the one before it ends, turns by the angle by which it has turned in the
    video since frame 0, and gets shorter or longer by the same factor.

    Args:
        tracks (`np.ndarray` of shape `(num_frames, 17, 3)`):
            x, y in pixels and confidence of the joints in the video, in the order of COCO.
        keypoints (`np.ndarray` of shape `(17, 3)`):
            The same of the person in the image.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: positions `(num_frames, 17, 2)` in pixels of the image, and bool `(num_frames,
        17)`, whether they are known. A joint is unknown if it was not found in the image or in frame 0, and from the
        first frame on in which the limb before it is not found.

    Raises:
        ValueError: If the hips are not found in the image and in frame 0 of the video.
    """
    found = (tracks[..., 2] >= FOUND) & (tracks[0, :, 2] >= FOUND) & (keypoints[:, 2] >= FOUND)
    found = np.logical_and.accumulate(found, axis=0)
    if not found[0, HIPS].all():
        raise ValueError(
            "The hips of the person are not found in the image and in the first frame of the video, so the motion has "
            "nothing to start from: choose pictures that show them, or align by points."
        )
    video = tracks[..., 0].astype(float) + 1j * tracks[..., 1]
    image = keypoints[:, 0].astype(float) + 1j * keypoints[:, 1]
    lengths = [
        (abs(image[joint] - image[list(parents)].mean()), abs(video[0, joint] - video[0, list(parents)].mean()))
        for joint, parents in LIMBS
        if found[0, [joint, *parents]].all()
    ]
    lengths.append((abs(image[11] - image[12]), abs(video[0, 11] - video[0, 12])))
    scale = sum(pair[0] for pair in lengths) / max(sum(pair[1] for pair in lengths), 1e-6)

    moved, known = np.tile(image, (len(tracks), 1)), np.zeros(tracks.shape[:2], dtype=bool)
    hips = list(HIPS)
    known[:, hips] = found[:, hips].all(axis=1, keepdims=True)
    center = video[:, hips].mean(axis=1)
    for joint in HIPS:
        turn = _turn(video[:, joint] - center)
        moved[:, joint] = (
            image[hips].mean() + scale * (center - center[0]) + turn * (image[joint] - image[hips].mean())
        )
    for joint, parents in LIMBS:
        begins = list(parents)
        known[:, joint] = known[:, begins].all(axis=1) & found[:, joint]
        turn = _turn(video[:, joint] - video[:, begins].mean(axis=1))
        moved[:, joint] = moved[:, begins].mean(axis=1) + turn * (image[joint] - image[begins].mean())
    return np.stack([moved.real, moved.imag], axis=2), known


def _turn(limb: np.ndarray) -> np.ndarray:
    """Rotation and change of length of a limb `(num_frames,)` since frame 0, as complex factors."""
    start = limb[0] if abs(limb[0]) > 1e-6 else 1e-6
    factor = limb / start
    length = np.maximum(np.abs(factor), 1e-6)
    return factor / length * length.clip(*FORESHORTENING)


def people_strokes(
    image: np.ndarray,
    video: str | os.PathLike,
    *,
    speed: float = 1.0,
    num_frames: int | None = None,
    model: str | os.PathLike | None = None,
) -> list[Stroke]:
    """
    Strokes that move the person in an image as the person in a video moves.

    Where several people are found, the largest is taken.

    Args:
        image (`np.ndarray`): uint8 `[H, W, 3]`, RGB.
        video (`str` or `os.PathLike`): The video.
        speed (`float`, defaults to 1.0): Frames of the video in a frame of the result.
        num_frames (`int`, *optional*): Frames of the result; None goes to the end of the video.
        model (`str` or `os.PathLike`, *optional*): The pose model; see [`find_pose_model`].

    Returns:
        `list[Stroke]`: for each joint that moves, in pixels of the image; holds for those that stay.

    Raises:
        FileNotFoundError: If there is no pose model.
        ImportError: If MediaPipe is not installed.
        ValueError: If no person is found in the image or in the first frame of the video.
    """
    with PersonDetector(find_pose_model(model)) as detector:
        here = detector(image)
        if not here:
            raise ValueError("No person is found in the image, so there is nobody to move: align by points.")
        keypoints = max(here, key=lambda person: float((person.mask > 0.5).sum())).keypoints
        frames, wanted = [], 0
        with VideoReader(Path(video)) as reader:
            for index, frame in enumerate(reader):
                if index >= wanted * speed - 1e-6:
                    frames.append(detector(frame))
                    wanted += 1
                if num_frames is not None and wanted == num_frames:
                    break
    if not frames or not frames[0] or len(frames) < 2:
        raise ValueError(f"No person is found in the first frame of {video}: begin with a frame that shows one.")
    first = max(frames[0], key=lambda person: float((person.mask > 0.5).sum()))
    tracks = np.zeros((len(frames), 17, 3))
    for track in track_people(frames):
        if track.get(0) is first:
            for number, person in track.items():
                tracks[number] = person.keypoints
    positions, known = retargeted(tracks, keypoints)
    joints = np.flatnonzero(known[:2].all(axis=0))
    height, width = image.shape[:2]
    return list(Tracks(positions[:, joints], known[:, joints], width, height).sheet(tolerance=0.5).strokes)
