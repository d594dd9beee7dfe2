# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Annotation of one video into a part of a dataset.

A part is `ID.tar`, the clips of the video, and `ID.json`, its outcome. `ID.json` is written last; it states that the
video is done. Files are written in the subfolder `writing` and moved when they are complete and on disk.
"""

import base64
import dataclasses
import errno
import json
import logging
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch

from ..atomic_files import durable_replace, durable_write
from ..dataset import ShardWriter
from .annotator import VideoAnnotator
from .found_videos import FoundVideo
from .near_duplicates import FINGERPRINT_LENGTH, fingerprint
from .outcome import ClipCounts, VideoOutcome


logger = logging.getLogger(__name__)

# Subfolder in which files are written. Its content can be deleted when a run begins.
WRITING = "writing"
# Error numbers of a full disk.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Fields of a clip's meta that state how it was made.
MADE_WITH = ("flow", "keypoints", "versions")


@dataclass
class Part:
    """The outcome of a video, as `ID.json` holds it.

    Args:
        size, modified (`int`): of the video when it was annotated; see [`FoundVideo`].
        outcome (`VideoOutcome`): counts and errors of the video.
        made_with (`dict`, *optional*): estimator, detector and versions, as in the clips' meta; None without clips.
        counts (`list[ClipCounts]`): statistics of each clip, which `outcome` contains.
        fingerprints (`np.ndarray`): int8 `[clips, FINGERPRINT_LENGTH]`.
    """

    size: int
    modified: int
    outcome: VideoOutcome
    made_with: dict[str, Any] | None = None
    counts: list[ClipCounts] = field(default_factory=list)
    fingerprints: np.ndarray = field(default_factory=lambda: np.empty((0, FINGERPRINT_LENGTH), dtype=np.int8))

    def write(self, video: FoundVideo, folder: Path) -> None:
        values = dataclasses.asdict(self) | {"fingerprints": base64.b64encode(self.fingerprints.tobytes()).decode()}
        durable_write(folder / f"{video.identity}.json", json.dumps(values).encode(), folder / WRITING)

    @classmethod
    def read(cls, video: FoundVideo, folder: Path) -> Self | None:
        """The part of a video, or None if the video is not done or has changed since."""
        try:
            values = json.loads((folder / f"{video.identity}.json").read_bytes())
        except FileNotFoundError:
            return None
        if (values["size"], values["modified"]) != (video.size, video.modified):
            return None
        fingerprints = np.frombuffer(base64.b64decode(values["fingerprints"]), dtype=np.int8)
        values["fingerprints"] = fingerprints.reshape(-1, FINGERPRINT_LENGTH)
        values["outcome"] = VideoOutcome(**values["outcome"])
        values["counts"] = [ClipCounts(**counts) for counts in values["counts"]]
        return cls(**values)


def annotate_part(
    annotator: VideoAnnotator, video: FoundVideo, folder: Path, watch: Callable[[float], object] | None = None
) -> None:
    """Annotates one video into a part in `folder`. An existing part is replaced.

    Args:
        annotator (`VideoAnnotator`): makes the clips.
        video (`FoundVideo`): the video.
        folder (`Path`): folder of the parts.
        watch (`Callable`, *optional*): as in `select_clips`.

    Raises:
        OSError: if the part cannot be written.
        Exception: if memory ran out or the GPU failed, which may not be caused by the video.
    """
    outcome = VideoOutcome(video.name)
    part = Part(video.size, video.modified, outcome)
    fingerprints = []
    attempt = f"{video.identity}_{uuid.uuid4().hex}"  # unique also among machines that share the folder
    clips = annotator.annotate(video.path, video.name, outcome, watch)
    with ShardWriter(
        folder / WRITING, attempt, clips_per_shard=sys.maxsize, frame_format=annotator.settings.frame_format
    ) as writer:
        while True:
            try:
                clip = next(clips, None)
            except Exception as error:  # one bad video must not stop the others
                if is_machine_failure(error):
                    raise
                logger.exception("while annotating %s", video.path)
                reason = f"{type(error).__name__}: {error}".replace(str(video.path), video.name)
                outcome.error = f"'{video.name}' cannot be annotated: {' '.join(reason.split())}"
                break
            if clip is None:
                break
            writer.write(clip)
            part.made_with = {name: clip.meta[name] for name in MADE_WITH}
            part.counts.append(ClipCounts.of(clip))
            fingerprints.append(fingerprint(clip.frames))
    if fingerprints:
        part.fingerprints = np.stack(fingerprints)
        durable_replace(folder / WRITING / f"{attempt}-00000.tar", folder / f"{video.identity}.tar")
    part.write(video, folder)


def write_crash(video: FoundVideo, folder: Path, reason: str) -> None:
    """Writes the part of a video that ends every process that reads it."""
    outcome = VideoOutcome(video.name, error=f"'{video.name}' ends the process that annotates it, twice: {reason}.")
    Part(video.size, video.modified, outcome).write(video, folder)


def is_machine_failure(error: Exception) -> bool:
    """Whether memory ran out or the GPU failed. Another video may be the cause, or another program."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, cv2.error):
        return error.code == cv2.Error.StsNoMem
    # Some versions of torch have no own types for these.
    signs = ("can't allocate memory", "CUDA error", "CUDNN_STATUS_", "CUBLAS_STATUS_")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
