# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Detection of people in a frame: COCO keypoints and a mask for each, by MediaPipe's pose landmarker."""

import contextlib
import hashlib
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from .pose_model import check_pose_model, find_pose_model


# MediaPipe's 33 landmarks (`mediapipe.tasks.python.vision.PoseLandmark`) contain the COCO keypoints; in COCO's order.
_COCO_LANDMARKS = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)

# Frames are enlarged to this shorter side, in pixels, because MediaPipe samples the input of its networks by bilinear
# interpolation. On rendered people of 128 x 128 pixels the mean error of the keypoints fell from 4.4 to 3.2 % of a
# person's size, and from 3.8 to 3.2 % in a second set; on real people reduced to 128 pixels the median fell from 1.0
# to 0.7 %. At 256 pixels there is little effect. Bicubic is better than linear interpolation; 768 and 1024 pixels give
# no improvement.
_SHORTER_SIDE = 512

# Smallest confidence of MediaPipe that there is a person. At 0.3 it finds a tenth more people in rendered clips, and
# three times as many false ones, such as a bird or a tower.
_MIN_CONFIDENCE = 0.5

# Two detections that share a larger part of the smaller mask are the same person, or one is made of limbs of two
# people. Masks of different people hardly overlap, however close they stand.
_LARGEST_OVERLAP = 0.2


@dataclass(frozen=True)
class Person:
    """One person in a frame of `[H, W]` pixels.

    Args:
        keypoints (`np.ndarray`): float32 `[17, 3]`: x, y and confidence, in the order of `COCO_KEYPOINTS`. Positions
            are in pixels of the frame; pixel (0, 0) covers [0, 1) x [0, 1). The confidence, in [0, 1], is the smaller
            of MediaPipe's two values: that the joint is inside the frame, and that nothing hides it. A joint of low
            confidence is a guess and may be outside the frame.
        mask (`np.ndarray`): float32 `[H, W]` in [0, 1], confidence that a pixel shows this person.
    """

    keypoints: np.ndarray
    mask: np.ndarray


class PersonDetector:
    """Finds people in a frame. The result depends on this frame alone.

    MediaPipe often finds one of two people who are close together, and mixes their limbs. So the detector paints over
    the people it has found and searches again, until it finds nobody new.

    A detector holds memory outside Python: use it as a context manager, or call `close`. It can be used only in the
    process that created it.

    Args:
        model (`str` or `os.PathLike`): the `.task` file; see [`find_pose_model`].
        max_people (`int`, defaults to 4): largest number of people per frame.

    Attributes:
        description (`dict`): everything besides the frame that the result depends on, as JSON.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not a pose model, or `max_people` is below 1.
        ImportError: if MediaPipe is missing.
    """

    description: dict[str, Any]

    def __init__(self, model: str | os.PathLike, *, max_people: int = 4) -> None:
        if max_people < 1:
            raise ValueError(f"`max_people` is {max_people}, but a detector looks for at least 1 person.")
        check_pose_model(find_pose_model(model))
        try:
            import cv2
            import mediapipe
        except ImportError as error:
            raise ImportError(
                f"Finding people needs MediaPipe, which cannot be imported ({error}); "
                "pip install 'mcdiff-pipeline[annotation]' installs it."
            ) from error
        self._mediapipe = mediapipe
        self._cv2 = cv2
        self.max_people = max_people
        self.description = {
            "name": "mediapipe_pose_landmarker",
            "library": f"mediapipe {mediapipe.__version__}",
            "weights": f"sha256:{hashlib.sha256(Path(model).read_bytes()).hexdigest()[:16]}",
            "max_people": max_people,
            "min_confidence": _MIN_CONFIDENCE,
        }
        with _silent_stderr():
            self._landmarker = self._load(model, max_people, _MIN_CONFIDENCE)
            # MediaPipe prints its last message with the first person. At a confidence of 0 it finds one in any image.
            with self._load(model, 1, 0.0) as first:
                first.detect(self._image(np.zeros((64, 64, 3), dtype=np.uint8)))

    def __call__(self, frame: np.ndarray) -> list[Person]:
        """Finds the people in one frame.

        Args:
            frame (`np.ndarray`): uint8 `[H, W, 3]`, RGB.

        Returns:
            `list[Person]`: each person once, in the order of the searches; within a search, by mean confidence of the
            keypoints, the highest first.

        Raises:
            ValueError: if the shape or the dtype of the frame is not as above.
        """
        *_, people = self.searches(frame)
        return people

    def searches(self, frame: np.ndarray) -> Iterator[list[Person]]:
        """Finds the people in one frame, search by search, for callers that can stop early.

        Args:
            frame (`np.ndarray`): uint8 `[H, W, 3]`, RGB.

        Yields:
            `list[Person]`: after each search, all people found so far. The last list is the result of a call.

        Raises:
            ValueError: if the shape or the dtype of the frame is not as above.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
            raise ValueError(f"`frame` is {frame.dtype} {list(frame.shape)}, but uint8 [H, W, 3] is needed.")
        people: list[Person] = []
        searched = frame
        while True:
            known = len(people)
            for person in self._search(searched):
                if all(_overlap(person, other) <= _LARGEST_OVERLAP for other in people):
                    people.append(person)
            yield people[: self.max_people]
            if len(people) == known or len(people) >= self.max_people:
                return
            mask = np.max([person.mask for person in people], axis=0)[..., None]
            background = (frame * (1 - mask)).sum(axis=(0, 1)) / max((1 - mask).sum(), 1)  # its mean color
            searched = np.rint(frame * (1 - mask) + background * mask).astype(np.uint8)

    def close(self) -> None:
        """Frees the networks."""
        self._landmarker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _load(self, model: str | os.PathLike, max_people: int, min_confidence: float) -> Any:
        tasks = self._mediapipe.tasks
        return tasks.vision.PoseLandmarker.create_from_options(
            tasks.vision.PoseLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_path=os.fspath(model)),
                num_poses=max_people,
                min_pose_detection_confidence=min_confidence,
                min_pose_presence_confidence=min_confidence,
                output_segmentation_masks=True,
            )
        )

    def _image(self, pixels: np.ndarray) -> Any:
        return self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels))

    def _search(self, frame: np.ndarray) -> list[Person]:
        """Detections of MediaPipe, the highest confidence first. A person may be in the list twice."""
        height, width = frame.shape[:2]
        scale = max(1.0, _SHORTER_SIDE / min(height, width))
        # MediaPipe aborts the process when the rows of a mask are not a multiple of 16 bytes, so the width is rounded
        # up to a multiple of 4. Its positions are fractions of width and height, so they are not distorted.
        size = (4 * math.ceil(width * scale / 4), round(height * scale))
        enlarged = self._cv2.resize(frame, size, interpolation=self._cv2.INTER_CUBIC)
        result = self._landmarker.detect(self._image(enlarged))
        people = []
        for landmarks, mask in zip(result.pose_landmarks, result.segmentation_masks or ()):
            keypoints = [
                (landmark.x * width, landmark.y * height, min(landmark.visibility, landmark.presence))
                for landmark in (landmarks[number] for number in _COCO_LANDMARKS)
            ]
            mask = self._cv2.resize(mask.numpy_view()[..., 0], (width, height), interpolation=self._cv2.INTER_AREA)
            if (mask > 0.5).any():
                people.append(Person(np.array(keypoints, dtype=np.float32), mask))
        return sorted(people, key=lambda person: -float(person.keypoints[:, 2].mean()))


def _overlap(person: Person, other: Person) -> float:
    """The part of the smaller mask that both masks share."""
    first, second = person.mask > 0.5, other.mask > 0.5
    return float((first & second).sum() / min(first.sum(), second.sum()))


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drops everything that is written to stderr, also by C code.

    MediaPipe writes useless messages that no option and no environment variable turns off. Its errors are exceptions,
    so they are not lost.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
