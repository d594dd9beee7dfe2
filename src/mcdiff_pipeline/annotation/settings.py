# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""All that the clips of a video depend on."""

import hashlib
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .flow import DTYPES, ESTIMATORS


# Displacements between two frames of a clip are stated in pixels at this resolution; they scale with the resolution.
REFERENCE_RESOLUTION = 256


@dataclass(frozen=True)
class SelectionSettings:
    """What a clip has to be like.

    Args:
        resolution (`int` or `tuple[int, int]`, defaults to 256): the clips' height and width in pixels; one number is
            a square.
        num_frames (`int`, defaults to 4): frames of a clip.
        displacement_range (`tuple[float, float]`, defaults to (1.0, 16.0)): how far things move between two frames of
            a clip: pixels at a resolution of 256, scaled with the shorter side of other resolutions. The 95th
            percentile over the picture has to lie in this range from each frame to the next; the gap between them is
            chosen for it.
        max_gap (`int`, defaults to 12): at most so many frames of the video lie between two frames of a clip, the
            latter counted; 1 takes every frame.
        max_seconds (`float`, defaults to 0.25): at most so much time.

    Raises:
        ValueError: if one of them is impossible.
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
        return (self.resolution,) * 2 if isinstance(self.resolution, (int, float)) else tuple(self.resolution)

    @property
    def displacement_limits(self) -> tuple[float, float]:
        """`displacement_range` in pixels of the clips."""
        scale = min(self.size) / REFERENCE_RESOLUTION
        return self.displacement_range[0] * scale, self.displacement_range[1] * scale


@dataclass(frozen=True)
class AnnotationSettings:
    """All that the clips of a video depend on.

    Args:
        selection (`SelectionSettings`): which frames become clips.
        flow (`str`, defaults to `"dis"`): the optical flow estimator: `raft_large`, `raft_small` or `dis`.
        flow_weights (`str`, *optional*): RAFT's weights: a file, a folder that `training/train_optical_flow.py` wrote,
            or the name of a member of torchvision's enum.
        pose_model (`str`, *optional*): a pose landmarker's `.task` file; None annotates no people.
        max_people (`int`, defaults to 4): at most so many people are found in a frame.
        refine (`bool`, defaults to True): keypoint flow replaces dense flow on the body where the latter fails.
        require_person (`bool`, defaults to False): keep only clips in which, from each frame to the next, at least
            one person is followed.
        frame_format (`str`, defaults to `"jpg"`): `jpg` (quality 95) or `png` (lossless, about twice as large).
        device (`str`, *optional*): where RAFT runs; None takes CUDA if there is one.
        dtype (`str`, defaults to `"float32"`): RAFT's number format; `float16` and `bfloat16` are for GPUs.

    Raises:
        ValueError: if one of them is not known or impossible, or people are required and not looked for.
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
                f"`max_people` is {self.max_people}, but at least 1 is looked for; without a `pose_model` nobody is."
            )
        if self.require_person and self.pose_model is None:
            raise ValueError("`require_person` is True, but people are found only with a `pose_model`; name one.")

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON, with the content of files and folders in place of their paths."""
        values = asdict(self)
        for name in ("flow_weights", "pose_model"):
            if values[name] is not None and Path(values[name]).exists():
                values[name] = _content_hash(Path(values[name]))
        return values


def _content_hash(path: Path) -> str:
    """Stands for a file, or for a model's folder, of which weights and configuration are read."""
    files = [path] if path.is_file() else [path / "model.safetensors", path / "config.json"]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return "sha256:" + digest.hexdigest()[:16]
