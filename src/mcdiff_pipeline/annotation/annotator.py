# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Annotation of one video: selection of clips, optical flow, people and refinement."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from .. import __version__
from ..dataset import Clip
from ..dataset.keypoints import COCO_KEYPOINTS
from .consistency import forward_backward_consistency, leaves_image
from .flow import load_flow_estimator
from .motion import percentile
from .outcome import ClipCounts, VideoOutcome
from .people import Person, PersonDetector
from .refinement import MIN_KEYPOINT_CONFIDENCE, refine_flow
from .selection import SelectedClip, select_clips
from .settings import AnnotationSettings
from .tracking import track_people


# A clip is dropped if in some pair of frames a smaller fraction of pixels is consistent forward and backward.
MIN_CONSISTENT = 0.5
# Largest displacement in pixels, in each direction, of KITTI's format, in which flow is stored.
LONGEST_STORED = 511.98


class VideoAnnotator:
    """Turns videos into clips. Loads the estimator and the detector once.

    A detector holds memory outside Python: use the annotator as a context manager, or call `close`.

    Args:
        settings (`AnnotationSettings`): the settings of all clips.

    Raises:
        ValueError: if the estimator is unknown, or weights are missing.
        ImportError: if a package of the extra `annotation` is missing.
    """

    def __init__(self, settings: AnnotationSettings) -> None:
        self.settings = settings
        self.estimator = load_flow_estimator(
            settings.flow,
            weights=settings.flow_weights,
            device=settings.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            dtype=getattr(torch, settings.dtype),
        )
        self.detector = None
        if settings.pose_model is not None:
            self.detector = PersonDetector(settings.pose_model, max_people=settings.max_people)

    def close(self) -> None:
        """Frees the detector."""
        if self.detector is not None:
            self.detector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def annotate(
        self,
        path: str | os.PathLike,
        name: str,
        outcome: VideoOutcome,
        watch: Callable[[float], object] | None = None,
    ) -> Iterator[Clip]:
        """Yields the clips of one video, in the order of their frames. Memory does not grow with the length.

        A bad video raises no error: `outcome.error` states it, and the clips before the damage are kept.

        Args:
            path (`str` or `os.PathLike`): the video.
            name (`str`): name of the video in keys and meta of the clips, unique in the dataset, e.g. a relative path.
            outcome (`VideoOutcome`): outcome of this video, filled in while the clips are yielded.
            watch (`Callable`, *optional*): as in `select_clips`.

        Yields:
            [`Clip`]: with COCO keypoints of all people found. `docs/dataset-format.md` lists the fields of its meta.
        """
        slug = re.sub(r"[^A-Za-z0-9-]+", "_", Path(name).stem)[:40]
        identity = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        for selected in select_clips(path, self.settings.selection, outcome, watch):
            key = f"{slug}_{identity}_{selected.frame_numbers[0]:06d}"
            clip = self.annotate_clip(selected, key, {"source": "video", "video": name})
            if isinstance(clip, str):
                outcome.drop(clip)
            else:
                outcome.add(ClipCounts.of(clip))
                yield clip

    def annotate_clip(self, selected: SelectedClip, key: str, meta: dict[str, Any]) -> Clip | str:
        """Computes flow, people and refinement for the frames of one clip.

        Args:
            selected (`SelectedClip`): the frames.
            key (`str`): key of the clip.
            meta (`dict`): more fields of the clip's meta.

        Returns:
            `Clip | str`: the clip, or the reason why it is dropped.
        """
        frames = selected.frames
        directions = self.estimator.both_directions(frames)
        flow = next(directions)  # [T - 1, 2, H, W]
        low, high = self.settings.selection.displacement_limits
        speeds = [percentile(magnitude, 95) for magnitude in np.sqrt(np.square(flow).sum(axis=1))]
        if np.mean(speeds) < low:
            return "moves too little"
        if max(speeds) > high:
            return "moves too far"
        occlusion, confidence = forward_backward_consistency(flow, next(directions))
        consistent = (confidence > 0.5).mean(axis=(1, 2))  # of each pair of frames
        if consistent.min() < MIN_CONSISTENT:
            return "flow contradicts itself"

        people = [self.detector(frame) for frame in frames] if self.detector is not None else [[] for _ in frames]
        tracks = track_people(people)
        followed = [
            [(track[t], track[t + 1]) for track in tracks if t in track and t + 1 in track] for t in range(len(flow))
        ]
        replaced = np.zeros_like(confidence)
        if self.settings.refine and any(followed):
            for t, pairs in enumerate(followed):
                flow[t], replaced[t] = refine_flow(frames[t : t + 2], flow[t], confidence[t], pairs)
            # Where keypoint flow is better, inconsistent dense flow does not indicate an occlusion.
            occlusion &= (replaced < 0.5) | leaves_image(flow)

        longest = np.abs(flow).max(axis=1)  # NaN if one of both is NaN
        if not np.isfinite(longest).all() or ((longest > LONGEST_STORED) & ~occlusion).any():
            return "flow cannot be stored"
        if self.settings.require_person and not all(followed):
            return "no person"

        masks, keypoints = _masks_and_keypoints(tracks, frames.shape[:3])
        meta = meta | {
            **_source_meta(selected),
            "flow": self.estimator.description,
            "keypoints": self.detector.description if self.detector is not None else None,
            "keypoint_flow": round(float((replaced >= 0.5).mean()), 6),
            "consistent": round(float(consistent.mean()), 6),
            "versions": {"mcdiff_pipeline": __version__, "numpy": np.__version__},
        }
        return Clip(key, frames, flow, occlusion, masks, keypoints, meta)


def _source_meta(selected: SelectedClip) -> dict[str, Any]:
    """Where in the video a clip comes from, as fields of its meta."""
    first, last = selected.timestamps[0], selected.timestamps[-1]
    return {
        "frame_numbers": list(selected.frame_numbers),
        "timestamps": [round(time, 6) for time in selected.timestamps],
        "seconds_per_frame": round((last - first) / (len(selected.timestamps) - 1), 6),
        "gap": selected.gap,
        "crop": list(selected.crop),
        "shot": selected.shot,
    }


def _masks_and_keypoints(
    tracks: Sequence[dict[int, Person]], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The tracked people as stored in a clip: masks uint8 `[T, H, W]` and keypoints float32 `[T, P, 17, 3]`."""
    time, height, width = shape
    masks = np.zeros(shape, dtype=np.uint8)
    keypoints = np.zeros((time, len(tracks), len(COCO_KEYPOINTS), 3), dtype=np.float32)
    for t in range(time):
        highest = np.full((height, width), 0.5, dtype=np.float32)
        for index, track in enumerate(tracks):
            if t not in track:
                continue
            person = track[t]
            masks[t][person.mask > highest] = index + 1
            highest = np.maximum(highest, person.mask)
            x, y, confidence = person.keypoints.T
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            keypoints[t, index, inside, :2] = person.keypoints[inside, :2]
            keypoints[t, index, inside, 2] = np.where(confidence[inside] >= MIN_KEYPOINT_CONFIDENCE, 2, 1)
    return masks, keypoints
