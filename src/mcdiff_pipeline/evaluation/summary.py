# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The results of an evaluation over all clips and their JSON form, `metrics.json`.

JSON calls a method `row`. Estimates are None, or null in JSON, where nothing was measured.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from .confidence import Estimate
from .description import EvaluationDescription
from .whole_summary import WholesSummary


FORMAT, VERSION = "mcdiff evaluation", 1

Estimates = dict[str, Estimate | None]


@dataclass(frozen=True)
class ImageSummary:
    """The image metrics of one method.

    Args:
        method (`str`): name of the method.
        strokes (`int`, *optional*): number of strokes; None for a method that uses none.
        frames (`str`): "all", "first" or "last".
        estimates (`Estimates`): the mean of each image metric over these frames.
    """

    method: str
    strokes: int | None
    frames: str
    estimates: Estimates


@dataclass(frozen=True)
class Difference:
    """The model minus another method, over the same clips and all frames.

    Args:
        method (`str`): name of the model's method.
        minus (`str`): name of the other method.
        strokes (`int`): number of strokes.
        estimates (`Estimates`): the difference of each image metric, and of `ade` in pixels.
    """

    method: str
    minus: str
    strokes: int
    estimates: Estimates


@dataclass(frozen=True)
class MotionSummary:
    """How well one method follows the strokes.

    Args:
        method (`str`): name of the method.
        strokes (`int`): number of strokes. Methods without strokes have one entry for each number.
        frames (`str`): "all" or "first".
        ade (`Estimate`, *optional*): average displacement error of the handles in pixels.
        recall (`Estimate`, *optional*): share of the handles within the recall threshold.
        first_stroke_ade (`Estimate`, *optional*): average displacement error of the first handle, which is the same
            for every number of strokes.
    """

    method: str
    strokes: int
    frames: str
    ade: Estimate | None
    recall: Estimate | None
    first_stroke_ade: Estimate | None


@dataclass(frozen=True)
class KeypointSummary:
    """The keypoints that are detected in the last frame of one method.

    Args:
        method (`str`): name of the method.
        strokes (`int`): number of strokes.
        ade (`Estimate`, *optional*): average distance to the true keypoints in pixels.
        detected (`Estimate`, *optional*): share of the keypoints that are detected.
    """

    method: str
    strokes: int
    ade: Estimate | None
    detected: Estimate | None


@dataclass(frozen=True)
class FlowSummary:
    """The flow of the first step in one region.

    Args:
        flow (`str`): name of the flow.
        strokes (`int`): number of strokes.
        region (`str`): name of the region.
        end_point_error (`Estimate`, *optional*): mean end-point error in pixels.
    """

    flow: str
    strokes: int
    region: str
    end_point_error: Estimate | None


@dataclass(frozen=True)
class FlowRatio:
    """The end-point error of the completed flow on the body, divided by the error of another flow.

    Args:
        over (`str`): name of the other flow.
        strokes (`int`): number of strokes.
        ratio (`Estimate`, *optional*): the ratio of the two errors.
    """

    over: str
    strokes: int
    ratio: Estimate | None


@dataclass(frozen=True)
class NextFrameSummary:
    """The first generated frame of one method that is given the true flow.

    Args:
        method (`str`): name of the method.
        psnr_moving (`Estimate`, *optional*): PSNR in dB of the moving pixels of all clips together.
        psnr_uncovered (`Estimate`, *optional*): the same for the pixels that the given image does not show.
        uncovered_gain (`Estimate`, *optional*): by how many dB that is more than filling these pixels from behind.
    """

    method: str
    psnr_moving: Estimate | None
    psnr_uncovered: Estimate | None = None
    uncovered_gain: Estimate | None = None


@dataclass(frozen=True)
class DriftSummary:
    """One frame of the long rollouts; see `DriftMeasurement`.

    Args:
        frame (`int`): number of the frame.
        color, sharpness, still_st_lpips, still_psnr (`Estimate`, *optional*): the means over all rollouts.
        largest_color (`float`): the largest change of color among all rollouts.
    """

    frame: int
    color: Estimate | None
    sharpness: Estimate | None
    still_st_lpips: Estimate | None
    still_psnr: Estimate | None
    largest_color: float


@dataclass(frozen=True)
class EvaluationSummary:
    """The results of an evaluation over all clips.

    Args:
        description (`EvaluationDescription`): model, data and settings.
        clips (`int`): number of clips.
        clips_left_out (`dict[str, int]`): number of clips that were not used, by reason.
        absent (`dict[str, str]`): for each metric that was not measured, the reason.
        images (`list[ImageSummary]`): image metrics, in the order of the methods.
        differences (`list[Difference]`): the model minus each other method at the middle number of strokes.
        motion (`list[MotionSummary]`): how well strokes are followed.
        keypoints (`list[KeypointSummary]`): detected keypoints; empty without a pose model.
        flow (`list[FlowSummary]`): the flow of the first step.
        flow_ratios (`list[FlowRatio]`): the completed flow of the first step over others; empty for a model without
            flow completion.
        next_frame (`list[NextFrameSummary]`): the first frame from the true flow; empty for a model without flow
            completion.
        drift (`list[DriftSummary]`): long rollouts by frame; empty if there are none.
        frechet (`dict[str, dict[str, float]]`): for each Fréchet distance its value for each method, by
            `method_label`.
        wholes (`WholesSummary`, *optional*): the flow of whole things on photographs; None if it was not measured.
    """

    description: EvaluationDescription
    clips: int
    clips_left_out: dict[str, int]
    absent: dict[str, str]
    images: list[ImageSummary]
    differences: list[Difference]
    motion: list[MotionSummary]
    keypoints: list[KeypointSummary]
    flow: list[FlowSummary]
    flow_ratios: list[FlowRatio]
    next_frame: list[NextFrameSummary]
    drift: list[DriftSummary]
    frechet: dict[str, dict[str, float]]
    wholes: WholesSummary | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        return {
            "format": FORMAT,
            "version": VERSION,
            **self.description.to_json(),
            "absent": self.absent,
            "clips": self.clips,
            "clips_left_out": self.clips_left_out,
            "rows": _to_json(self.images),
            "differences": _to_json(self.differences),
            "motion": _to_json(self.motion),
            "keypoints": _to_json(self.keypoints),
            "flow": _to_json(self.flow),
            "flow_ratios": _to_json(self.flow_ratios),
            "next_frame": _to_json(self.next_frame),
            "drift": _to_json(self.drift),
            "frechet": self.frechet,
            "wholes": self.wholes and self.wholes.to_json(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Reads the content of `metrics.json`. The keys that earlier versions did not write are empty."""
        return cls(
            description=EvaluationDescription.from_json(content),
            clips=content["clips"],
            clips_left_out=content["clips_left_out"],
            absent=content["absent"],
            images=_from_json(ImageSummary, content["rows"]),
            differences=_from_json(Difference, content["differences"]),
            motion=_from_json(MotionSummary, content["motion"]),
            keypoints=_from_json(KeypointSummary, content["keypoints"]),
            flow=_from_json(FlowSummary, content["flow"]),
            flow_ratios=_from_json(FlowRatio, content.get("flow_ratios", [])),
            next_frame=_from_json(NextFrameSummary, content.get("next_frame", [])),
            drift=_from_json(DriftSummary, content["drift"]),
            frechet=content["frechet"],
            wholes=content.get("wholes") and WholesSummary.from_json(content["wholes"]),
        )


def _to_json(entries: list) -> list[dict[str, Any]]:
    """Entries as JSON objects: `method` becomes `row`, and `estimates` become keys of the object."""
    objects = []
    for entry in entries:
        fields = dataclasses.asdict(entry)
        estimates = fields.pop("estimates", {})
        objects.append({"row" if name == "method" else name: value for name, value in (fields | estimates).items()})
    return objects


def _from_json(kind: type, objects: list[dict[str, Any]]) -> list:
    """The inverse of `_to_json` for entries of one class."""
    names = {field.name for field in dataclasses.fields(kind)}
    entries = []
    for content in objects:
        values = {
            "method" if key == "row" else key: Estimate(**value) if isinstance(value, dict) else value
            for key, value in content.items()
        }
        fields = {name: value for name, value in values.items() if name in names}
        if "estimates" in names:
            fields["estimates"] = {name: value for name, value in values.items() if name not in names}
        entries.append(kind(**fields))
    return entries
