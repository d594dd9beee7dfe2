# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The measurements of one clip and their JSON form, `clips/KEY.json` and `drift/KEY.json`.

Values that were not measured are NaN here and null in JSON.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..atomic_files import atomic_path
from .metrics.drift import DriftMeasurement
from .metrics.flow_errors import RegionError


# Names of the model's own flow, and of the same if people and objects are given as regions.
COMPLETED_FLOW = "F"
COMPLETED_FLOW_IN_REGIONS = "F, regions"


def method_label(method: str, strokes: int | None) -> str:
    """The name of a method together with its number of strokes."""
    return method if strokes is None else f"{method} ({strokes})"


def feature_name(metric: str, method: str, strokes: int | None) -> str:
    """The name under which the features of a method are stored in `clips/KEY.npz`."""
    return f"{metric}: {method_label(method, strokes)}"


@dataclass(frozen=True)
class MethodResult:
    """What was measured of one method on one clip.

    Args:
        method (`str`): name of the method.
        strokes (`int`, *optional*): number of strokes; None for a method that uses none.
        images (`dict[str, list[float]]`): for each image metric one value per frame after the first.
        handles (`list[list[float]]`): for each handle its distances in pixels, one per frame in which it is visible.
        keypoints (`list[float]`): for each handle that starts at a keypoint, the distance in pixels of the keypoint
            detected in the last frame.
    """

    method: str
    strokes: int | None
    images: dict[str, list[float]]
    handles: list[list[float]]
    keypoints: list[float]

    def to_json(self) -> dict[str, Any]:
        return {
            "row": self.method,
            "strokes": self.strokes,
            "pictures": self.images,
            "handles": self.handles,
            "keypoints": self.keypoints,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        measured = [_nan_for_null(content[key]) for key in ("pictures", "handles", "keypoints")]
        return cls(content["row"], content["strokes"], *measured)


@dataclass(frozen=True)
class FlowErrors:
    """The end-point errors of one flow in the first step of one clip.

    Args:
        flow (`str`): name of the flow.
        strokes (`int`): number of strokes.
        regions (`dict[str, RegionError]`): the error of each region, in pixels.
    """

    flow: str
    strokes: int
    regions: dict[str, RegionError]

    def to_json(self) -> dict[str, Any]:
        errors = {name: [error.total, error.cells] for name, error in self.regions.items()}
        return {"flow": self.flow, "strokes": self.strokes, "errors": errors}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        regions = {name: RegionError(*error) for name, error in content["errors"].items()}
        return cls(content["flow"], content["strokes"], regions)


@dataclass(frozen=True)
class NextFrameError:
    """The error of one method in the first generated frame, where it is given the true flow.

    Args:
        method (`str`): name of the method.
        squared_error (`float`): sum of the squared errors of all color values in [0, 1], on moving pixels.
        values (`int`): number of these color values.
        uncovered_error, uncovered_values (`float`, `int`): the same on the pixels that the given image does not show;
            0 in records of earlier versions.
    """

    method: str
    squared_error: float
    values: int
    uncovered_error: float = 0.0
    uncovered_values: int = 0

    def to_json(self) -> dict[str, Any]:
        content = dataclasses.asdict(self)
        return {"row": content.pop("method"), **content}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        return cls(**{"method" if name == "row" else name: value for name, value in content.items()})


@dataclass
class ClipRecord:
    """All measurements of one clip.

    Args:
        handles (`list[list[list[float]]]`): the track of each handle, a list of (x, y) in pixels.
        methods (`list[MethodResult]`): the results of every method, in the same order for every clip.
        flow (`list[FlowErrors]`): the errors of every flow in the first step, in the same order for every clip.
        next_frame (`list[NextFrameError]`): the errors of the first frame, given the true flow; empty for a model
            without flow completion and in records of earlier versions.
    """

    handles: list[list[list[float]]]
    methods: list[MethodResult] = dataclasses.field(default_factory=list)
    flow: list[FlowErrors] = dataclasses.field(default_factory=list)
    next_frame: list[NextFrameError] = dataclasses.field(default_factory=list)

    def write(self, path: Path) -> None:
        """Writes `clips/KEY.json`."""
        content = {
            "handles": self.handles,
            "rows": [result.to_json() for result in self.methods],
            "flow": [errors.to_json() for errors in self.flow],
            "next_frame": [error.to_json() for error in self.next_frame],
        }
        write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads `clips/KEY.json`."""
        content = json.loads(path.read_text())
        return cls(
            content["handles"],
            [MethodResult.from_json(result) for result in content["rows"]],
            [FlowErrors.from_json(errors) for errors in content["flow"]],
            [NextFrameError.from_json(error) for error in content.get("next_frame", [])],
        )


def write_drift(path: Path, drift: dict[int, DriftMeasurement]) -> None:
    """Writes `drift/KEY.json`, the measurements of a long rollout by the number of the frame."""
    write_json(path, {number: dataclasses.asdict(measurement) for number, measurement in drift.items()})


def read_drift(path: Path) -> dict[int, DriftMeasurement]:
    """Reads `drift/KEY.json`."""
    content = json.loads(path.read_text())
    return {int(number): DriftMeasurement(**_nan_for_null(values)) for number, values in content.items()}


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically, with null for NaN."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(_null_for_nan(content), allow_nan=False) + "\n")


def _null_for_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _null_for_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_null_for_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _nan_for_null(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _nan_for_null(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_nan_for_null(value) for value in content]
    return math.nan if content is None else content
