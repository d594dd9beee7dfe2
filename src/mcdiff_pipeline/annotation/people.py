# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""People in a frame, a mask and COCO keypoints for each, by MediaPipe's pose landmarker; and who is who in the next.

The landmarker needs a model file, a bundle of two networks with the suffix `.task`. [`find_pose_model`] finds it,
[`download_pose_model`] downloads the vendor's, and `training/tools/build_pose_model.py` makes one from Python packages
alone. Only [`download_pose_model`] uses the network.
"""

import contextlib
import functools
import hashlib
import math
import os
import shutil
import sys
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np


"""The lines of a stick figure from the shoulders down: limbs and the outline of the trunk."""

VENDOR_MODEL = (
    "https://storage.googleapis.com/mediapipe-models/pose_landmarker/pose_landmarker_full/float16/latest/"
    "pose_landmarker_full.task"
)
"""Where the vendor offers the model."""

NETWORKS = ("pose_detector.tflite", "pose_landmarks_detector.tflite")
"""The members of a bundle: one network finds people, the other their landmarks and their mask."""

# Those of MediaPipe's 33 landmarks (`mediapipe.tasks.python.vision.PoseLandmark`) that COCO has, in COCO's order.
_COCO_LANDMARKS = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
_LEFT_HIP, _RIGHT_HIP = 11, 12

# Frames are enlarged until the shorter side has as many pixels, because MediaPipe samples what its networks see by
# bilinear interpolation. On rendered people of 128 x 128 pixels the mean error of the keypoints fell from 4.4 to 3.2 %
# of a person's size and from 3.8 to 3.2 % in a second set, on real people brought down to 128 pixels the median from
# 1.0 to 0.7 %; at 256 pixels it matters little. Bicubic beats linear interpolation; 768 and 1024 pixels add nothing.
_SHORTER_SIDE = 512

# How sure MediaPipe has to be that there is a person. At 0.3 it finds a tenth more people in rendered clips, and three
# times as often a bird or a tower.
_MIN_CONFIDENCE = 0.5

# Two detections that share a larger part of the smaller one's mask are one person, or one is made of the limbs of two.
# Masks of different people hardly overlap, however close they stand.
_LARGEST_OVERLAP = 0.2

# From one frame to the next a pelvis may move by this part of its person's size, and after that move the masks must
# agree to this intersection over union. Of 331 pairs of one rendered person up to 0.2 s apart, 330 are within.
_LARGEST_STEP = 0.5
_SMALLEST_AGREEMENT = 0.2


@dataclass(frozen=True)
class Person:
    """One person in a frame of `[H, W]` pixels.

    Args:
        keypoints (`np.ndarray`): float32 `[17, 3]`, x, y and confidence in the order of `COCO_KEYPOINTS`. Positions
            are in pixels of the frame, pixel (0, 0) covers [0, 1) x [0, 1). The confidence, in [0, 1], is the smaller
            one of MediaPipe's two: that the joint lies within the frame, and that nothing hides it. A joint of low
            confidence is a guess and may lie outside of the frame.
        mask (`np.ndarray`): float32 `[H, W]` in [0, 1], how surely a pixel shows this person.
    """

    keypoints: np.ndarray
    mask: np.ndarray


class PersonDetector:
    """Finds the people in a frame; what it finds depends on that frame alone.

    MediaPipe tends to find one of two people who are close together, and to mix their limbs. So the frame is searched
    again with those painted over who were found, until nobody new turns up.

    A detector holds memory outside of Python: use it as a context manager, or call `close`. It belongs to the process
    that made it.

    Args:
        model (`str` or `os.PathLike`): the `.task` file, as [`find_pose_model`] gives it.
        max_people (`int`, defaults to 4): at most so many people are found in a frame.

    Attributes:
        description (`dict`): all that the people found depend on beside the frame. JSON.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a pose model, or `max_people` is below 1.
        ImportError: if MediaPipe is missing.
    """

    description: dict[str, Any]

    def __init__(self, model: str | os.PathLike, *, max_people: int = 4) -> None:
        if max_people < 1:
            raise ValueError(f"`max_people` is {max_people}, but a detector looks for at least 1 person.")
        _check_bundle(find_pose_model(model))
        try:
            import cv2
            import mediapipe
        except ImportError as error:
            raise ImportError(
                f"Finding people needs MediaPipe, which cannot be imported ({error}); "
                "pip install 'mcdiff-pipeline[annotation]' brings it."
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
            # MediaPipe's last message comes with the first person, whom a confidence of 0 sees even in the dark.
            with self._load(model, 1, 0.0) as first:
                first.detect(self._image(np.zeros((64, 64, 3), dtype=np.uint8)))

    def __call__(self, frame: np.ndarray) -> list[Person]:
        """Finds the people in one frame.

        Args:
            frame (`np.ndarray`): uint8 `[H, W, 3]`, RGB.

        Returns:
            `list[Person]`: nobody twice, in the order in which they were found; of those found together the one whose
            keypoints are surest comes first.

        Raises:
            ValueError: if the frame's shape or dtype is another.
        """
        *_, people = self.searches(frame)
        return people

    def searches(self, frame: np.ndarray) -> Iterator[list[Person]]:
        """The same search by search, for those who can stop early.

        Args:
            frame (`np.ndarray`): uint8 `[H, W, 3]`, RGB.

        Yields:
            `list[Person]`: after each search all who are found so far; at last what a call returns.

        Raises:
            ValueError: if the frame's shape or dtype is another.
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
            rest = (frame * (1 - mask)).sum(axis=(0, 1)) / max((1 - mask).sum(), 1)  # the mean color around them
            searched = np.rint(frame * (1 - mask) + rest * mask).astype(np.uint8)

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
        """What MediaPipe finds, the surest first; one person may be there twice."""
        height, width = frame.shape[:2]
        scale = max(1.0, _SHORTER_SIDE / min(height, width))
        # MediaPipe ends the process when it is asked for a mask whose rows are no multiple of 16 bytes, so the width
        # is rounded up to 4 pixels. Its positions are parts of width and height, which undoes the stretching.
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


def match_people(first: Sequence[Person], second: Sequence[Person]) -> list[tuple[int, int]]:
    """Who of the first frame is who in the second: the assignment whose agreement is largest in sum.

    Two people agree by the overlap of their masks, after the first one's has moved along with the pelvis (intersection
    over union), the less the farther the pelvis moved in relation to their size. Who moved too far or agrees too
    little with everybody stays without a partner.

    Args:
        first (sequence of [`Person`]): everybody in one frame.
        second (sequence of [`Person`]): everybody in a later frame of the same size.

    Returns:
        `list[tuple[int, int]]`: pairs of indices into both, sorted; no index is there twice.
    """
    agreements = [
        {j: agreement for j, other in enumerate(second) if (agreement := _agreement(person, other)) > 0}
        for person in first
    ]

    @functools.cache
    def best(i: int, taken: frozenset[int]) -> tuple[float, tuple[tuple[int, int], ...]]:
        """Largest sum of agreements, and the pairs, for the persons from i on, while some partners are taken."""
        if i == len(first):
            return 0.0, ()
        choices = [best(i + 1, taken)]
        for j, agreement in agreements[i].items():
            if j not in taken:
                total, pairs = best(i + 1, taken | {j})
                choices.append((agreement + total, ((i, j), *pairs)))
        return max(choices, key=lambda choice: choice[0])

    return list(best(0, frozenset())[1])


def find_pose_model(path: str | os.PathLike | None = None) -> Path:
    """The model file: the one given, else the one that MCDIFF_POSE_MODEL names, else the one in the user's cache.

    Raises:
        FileNotFoundError: if there is none; the message says how to get one.
    """
    if path is not None:
        model, origin = Path(path), ""
    elif named := os.environ.get("MCDIFF_POSE_MODEL"):
        model, origin = Path(named), ", which MCDIFF_POSE_MODEL names"
    else:
        model, origin = cached_pose_model(), ", and neither a path nor MCDIFF_POSE_MODEL names another"
    if not model.is_file():
        raise FileNotFoundError(
            f"There is no pose model {model}{origin}; download it from {VENDOR_MODEL}, or make one from Python "
            "packages with training/tools/build_pose_model.py."
        )
    return model


def cached_pose_model() -> Path:
    """Where the user's own copy of the model lies, whether it is there or not."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mcdiff-pipeline" / "pose_landmarker_full.task"


def download_pose_model(path: str | os.PathLike, url: str) -> None:
    """Downloads a model. The file appears complete or not at all.

    Args:
        path (`str` or `os.PathLike`): the file to write, replaced if it is there.
        url (`str`): where the model comes from, such as `VENDOR_MODEL`.

    Raises:
        OSError: if it cannot be downloaded or written.
        ValueError: if what comes is not a pose model.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        try:
            opener = urllib.request.build_opener()  # `urlopen` would keep the proxies of its first call
            with opener.open(url, timeout=30) as answer, open(unfinished, "wb") as file:
                shutil.copyfileobj(answer, file)
        except OSError as error:
            raise OSError(
                f"The pose model cannot be downloaded from {url} to {target}: {error}; download it by other means, or "
                "make one from Python packages with training/tools/build_pose_model.py."
            ) from error
        _check_bundle(unfinished, name=url)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def _overlap(person: Person, other: Person) -> float:
    """The part of the smaller one's mask that both share."""
    first, second = person.mask > 0.5, other.mask > 0.5
    return float((first & second).sum() / min(first.sum(), second.sum()))


def _agreement(person: Person, other: Person) -> float:
    """How well two people of two frames agree, as [`match_people`] describes it, in [0, 1]; 0: not the same person."""
    pelvis, later_pelvis = (p.keypoints[[_LEFT_HIP, _RIGHT_HIP], :2].mean(axis=0) for p in (person, other))
    size = max(float(np.hypot(*np.ptp(p.keypoints[:, :2], axis=0))) for p in (person, other))
    step = float(np.hypot(*(later_pelvis - pelvis))) / max(size, 1.0)
    right, down = np.rint(later_pelvis - pelvis).astype(int)
    height, width = other.mask.shape
    # A pelvis that is guessed beyond the frame can even move by more than the frame.
    if step >= _LARGEST_STEP or abs(right) >= width or abs(down) >= height:
        return 0.0
    moved = np.zeros_like(other.mask)
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = person.mask[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    union = np.maximum(moved, other.mask).sum()
    agreement = float(np.minimum(moved, other.mask).sum() / union) if union else 0.0
    return agreement * (1 - step / _LARGEST_STEP) if agreement >= _SMALLEST_AGREEMENT else 0.0


def _check_bundle(path: str | os.PathLike, *, name: str | None = None) -> None:
    """Raises ValueError unless the file is a bundle of the networks; `name` is what the message calls it."""
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [network for network in NETWORKS if network not in archive.namelist()]
    except zipfile.BadZipFile:
        missing = list(NETWORKS)
    if missing:
        raise ValueError(
            f"{name or path} is not a pose model, a zip file with {' and '.join(NETWORKS)}; download {VENDOR_MODEL}, "
            "or make one from Python packages with training/tools/build_pose_model.py."
        )


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drops what is written to stderr, by C code too.

    MediaPipe writes messages of no use to anyone, which neither an option nor the environment turns off. Its errors
    are exceptions and come through.
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
