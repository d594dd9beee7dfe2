# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Settings of annotation: everything that the clips of a video depend on."""

import hashlib
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .flow import DTYPES, ESTIMATORS


# Displacements in settings are in pixels at this resolution. They scale with the resolution of the clips.
REFERENCE_RESOLUTION = 256


@dataclass(frozen=True)
class SelectionSettings:
    """Which parts of a video become clips.

    Args:
        resolution (`int` or `tuple[int, int]`, defaults to 256): height and width of the clips in pixels; one number
            is a square.
        num_frames (`int`, defaults to 4): frames of a clip.
        displacement_range (`tuple[float, float]`, defaults to (1.0, 16.0)): allowed displacement between consecutive
            frames of a clip, in pixels at a resolution of 256. It scales with the shorter side of other resolutions.
            The 95th percentile over the image has to be in this range; the gap between the frames is chosen for it.
        max_gap (`int`, defaults to 12): largest difference of the video's frame numbers between consecutive frames of
            a clip; 1 takes every frame.
        max_seconds (`float`, defaults to 0.25): largest time between consecutive frames of a clip.

    Raises:
        ValueError: if a value is not allowed.
    """

    resolution: int | tuple[int, int] = 256
    num_frames: int = 4
    displacement_range: tuple[float, float] = (1.0, 16.0)
    max_gap: int = 12
    max_seconds: float = 0.25

    def __post_init__(self) -> None:
        for name, value in zip(("height", "width"), self.size, strict=True):
            if not isinstance(value, int) or value < 32:
                raise ValueError(
                    f"`resolution` asks for a {name} of {value!r}, but clips have at least 32 pixels, e.g. 256 or "
                    "(256, 384)."
                )
        if self.num_frames < 2:
            raise ValueError(f"`num_frames` is {self.num_frames}, but a clip has at least 2 frames.")
        least, most = self.displacement_range
        if not 0 < least < most < math.inf:
            raise ValueError(
                f"`displacement_range` is {self.displacement_range}, but two numbers above 0 are needed, the smaller "
                "one first, e.g. (1.0, 16.0)."
            )
        if self.max_gap < 1:
            raise ValueError(f"`max_gap` is {self.max_gap}, but it has to be at least 1, every frame.")
        if not 0 < self.max_seconds < math.inf:
            raise ValueError(f"`max_seconds` is {self.max_seconds}, but a number of seconds above 0 is needed.")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the clips."""
        if isinstance(self.resolution, (int, float)):
            return self.resolution, self.resolution
        height, width = self.resolution
        return height, width

    @property
    def displacement_limits(self) -> tuple[float, float]:
        """`displacement_range` in pixels of the clips."""
        scale = min(self.size) / REFERENCE_RESOLUTION
        return self.displacement_range[0] * scale, self.displacement_range[1] * scale


@dataclass(frozen=True)
class AnnotationSettings:
    """Everything that the clips of a video depend on.

    Args:
        selection (`SelectionSettings`): which parts of the video become clips.
        flow (`str`, defaults to `"dis"`): the optical flow estimator: `raft_large`, `raft_small`, `gmflow` or `dis`.
        flow_weights (`str`, *optional*): weights of RAFT: a file, a folder that `training/train_optical_flow.py`
            wrote, or the name of a member of torchvision's enum. Weights of GMFlow: a file.
        pose_model (`str`, *optional*): the `.task` file of a pose landmarker. None annotates no people.
        max_people (`int`, defaults to 4): largest number of people per frame.
        refine (`bool`, defaults to True): keypoint flow replaces dense flow on bodies where dense flow fails.
        require_person (`bool`, defaults to False): keep a clip only if at least one person is followed from each frame
            to the next.
        frame_format (`str`, defaults to `"jpg"`): `jpg` (quality 95) or `png` (lossless, about twice as large).
        device (`str`, *optional*): device of RAFT and GMFlow. None takes CUDA if it is available.
        dtype (`str`, defaults to `"float32"`): number format of RAFT and GMFlow. `float16` is for GPUs, `bfloat16`
            also for processors that compute in it.

    Raises:
        ValueError: if a value is unknown or not allowed, or people are required without a pose model.
    """

    selection: SelectionSettings = field(default_factory=SelectionSettings)
    flow: str = "dis"
    flow_weights: str | None = None
    pose_model: str | None = None
    max_people: int = 4
    refine: bool = True
    require_person: bool = False
    frame_format: Literal["jpg", "png"] = "jpg"
    device: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, known in (("flow", ESTIMATORS), ("frame_format", ("jpg", "png")), ("dtype", DTYPES)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"`{name}` is {value!r}, but only {', '.join(map(repr, known))} are known.")
        if self.max_people < 1:
            raise ValueError(
                f"`max_people` is {self.max_people}, but it has to be at least 1; leave out `pose_model` to annotate "
                "no people."
            )
        if self.require_person and self.pose_model is None:
            raise ValueError("`require_person` is True, but people are found only with a `pose_model`; name one.")

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON, with hashes of files and folders instead of their paths."""
        values = asdict(self)
        for name in ("flow_weights", "pose_model"):
            if values[name] is not None and Path(values[name]).exists():
                values[name] = _content_hash(Path(values[name]))
        return values


def _content_hash(path: Path) -> str:
    """Hash of a file, or of the weights and the configuration in the folder of a model."""
    files = [path] if path.is_file() else [path / "model.safetensors", path / "config.json"]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return "sha256:" + digest.hexdigest()[:16]
