# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Aggregates the measurements of single clips to estimates over all clips."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from .confidence import Estimate, difference_of_ratios, ratio_of_sums
from .description import EvaluationDescription
from .methods import Model, SplatTrueFlow, TrueVideo
from .metrics.drift import DriftMeasurement
from .metrics.frechet_distance import frechet_distance
from .metrics.handle_search import scaled_to
from .metrics.image import PSNR_LARGEST
from .records import (
    COMPLETED_FLOW,
    COMPLETED_FLOW_IN_REGIONS,
    ClipRecord,
    MethodResult,
    feature_name,
    method_label,
    read_drift,
)
from .summary import (
    Difference,
    DriftSummary,
    Estimates,
    EvaluationSummary,
    FlowRatio,
    FlowSummary,
    ImageSummary,
    KeypointSummary,
    MotionSummary,
    NextFrameSummary,
)


IMAGE_METRICS = (
    *("psnr", "psnr_moving", "psnr_still", "psnr_background", "psnr_uncovered"),
    *("ssim", "st_lpips", "lpips"),
)
# The frames over which image metrics are averaged.
FRAMES = {"all": slice(None), "first": slice(1), "last": slice(-1, None)}


@dataclasses.dataclass(frozen=True)
class StrokeScore:
    """One stroke of one clip, and how well each method follows it with the largest number of strokes.

    Args:
        clip (`str`): key of the clip.
        stroke (`int`): number of the stroke.
        x, y (`float`): where the stroke starts, in pixels.
        length (`float`): how far the stroke gets from its start, in pixels.
        errors (`dict[str, float]`): mean distance in pixels of each method; NaN where nothing was measured.
    """

    clip: str
    stroke: int
    x: float
    y: float
    length: float
    errors: dict[str, float]


def summarize(
    output_dir: Path,
    description: EvaluationDescription,
    records: dict[str, ClipRecord],
    drifting: list[str],
    clips_left_out: dict[str, int],
    absent: dict[str, str],
) -> EvaluationSummary:
    """Aggregates all measurements of an evaluation.

    Args:
        output_dir (`Path`): folder of the evaluation, which holds features and long rollouts.
        description (`EvaluationDescription`): model, data and settings.
        records (`dict[str, ClipRecord]`): the measurements of each clip by its key.
        drifting (`list[str]`): keys of the clips with a long rollout.
        clips_left_out (`dict[str, int]`): number of clips that were not used, by reason.
        absent (`dict[str, str]`): for each metric that was not measured, the reason.
    """
    settings, clips = description.settings, list(records.values())
    frechet, too_few = frechet_distances(output_dir, records)
    return EvaluationSummary(
        description=description,
        clips=len(clips),
        clips_left_out=clips_left_out,
        absent=absent | too_few,
        images=summarize_images(clips),
        differences=differences_to_methods(clips, settings.middle_strokes),
        motion=summarize_motion(clips, settings.strokes, recall_distance(description)),
        keypoints=summarize_keypoints(clips, settings.strokes) if description.pose_model else [],
        flow=summarize_flow(clips),
        flow_ratios=flow_ratios(clips),
        next_frame=summarize_next_frame(clips),
        drift=summarize_drift([read_drift(output_dir / f"drift/{key}.json") for key in drifting]),
        frechet=frechet,
    )


def recall_distance(description: EvaluationDescription) -> float:
    """Recall threshold in pixels."""
    return scaled_to(*description.frame_size)[2]


def differences(first: list[MethodResult], second: list[MethodResult], strokes: int) -> Estimates:
    """The difference of two methods on the same clips, of one evaluation or of two.

    Args:
        first, second (`list[MethodResult]`): the results of both methods on each clip, in the same order of clips.
        strokes (`int`): how many handles of each clip count, from the first on.

    Returns:
        `Estimates`: the first method minus the second: each image metric over all frames, and `ade` in pixels.
    """
    pairs = {
        name: [[_total(result.images.get(name, [])) for result in results] for results in (first, second)]
        for name in IMAGE_METRICS
    }
    pairs["ade"] = [[_total(_joined(result.handles[:strokes])) for result in results] for results in (first, second)]
    return {name: difference_of_ratios(*map(_arrays, both)) for name, both in pairs.items()}


def differences_to_methods(records: list[ClipRecord], strokes: int) -> list[Difference]:
    """The model minus each other method at one number of strokes; see `differences`."""
    places = {
        result.method: place for place, result in enumerate(records[0].methods) if result.strokes in (None, strokes)
    }
    results = {name: [record.methods[place] for record in records] for name, place in places.items()}
    return [
        Difference(Model.name, name, strokes, differences(results[Model.name], other, strokes))
        for name, other in results.items()
        if name not in (Model.name, TrueVideo.name)
    ]


def summarize_images(records: list[ClipRecord]) -> list[ImageSummary]:
    """Each image metric of each method: over all frames, of the first frame and of the last frame."""
    measured = [name for name in IMAGE_METRICS if name in records[0].methods[0].images]
    summaries = []
    for place, first in enumerate(records[0].methods):
        images = [record.methods[place].images for record in records]
        for frames, chosen in FRAMES.items():
            estimates = {name: _mean(values.get(name, [])[chosen] for values in images) for name in measured}
            summaries.append(ImageSummary(first.method, first.strokes, frames, estimates))
    return summaries


def summarize_motion(
    records: list[ClipRecord], strokes: tuple[int, ...], recall_threshold: float
) -> list[MotionSummary]:
    """How well each method follows the handles, for each number of strokes.

    Args:
        records (`list[ClipRecord]`): the measurements.
        strokes (`tuple[int, ...]`): the numbers of strokes.
        recall_threshold (`float`): in pixels.
    """
    summaries = []
    for place, first in enumerate(records[0].methods):
        for number in strokes if first.strokes is None else [first.strokes]:
            handles = [record.methods[place].handles[:number] for record in records]
            for frames in ("all", "first"):
                # For each clip and handle the distances in these frames.
                chosen = [[distances[FRAMES[frames]] for distances in of_clip] for of_clip in handles]
                joined = [_joined(of_clip) for of_clip in chosen]
                summaries.append(
                    MotionSummary(
                        method=first.method,
                        strokes=number,
                        frames=frames,
                        ade=_mean(joined),
                        recall=_mean([_within(value, recall_threshold) for value in values] for values in joined),
                        first_stroke_ade=_mean(_joined(of_clip[:1]) for of_clip in chosen),
                    )
                )
    return summaries


def summarize_keypoints(records: list[ClipRecord], strokes: tuple[int, ...]) -> list[KeypointSummary]:
    """The keypoints that are detected in the last frame of each method, for each number of strokes."""
    summaries = []
    for place, first in enumerate(records[0].methods):
        for number in strokes if first.strokes is None else [first.strokes]:
            distances = [record.methods[place].keypoints[:number] for record in records]
            detected = [[float(not math.isnan(distance)) for distance in of_clip] for of_clip in distances]
            summaries.append(KeypointSummary(first.method, number, _mean(distances), _mean(detected)))
    return summaries


def summarize_flow(records: list[ClipRecord]) -> list[FlowSummary]:
    """End-point errors of the first step, by region."""
    summaries = []
    for place, first in enumerate(records[0].flow):
        errors = [record.flow[place].regions for record in records]
        # A clip without strokes has no regions by the distance to a stroke, so the longest list is complete.
        for region in max(errors, key=len):
            totals = [
                (regions[region].total, regions[region].cells) if region in regions else (0.0, 0) for regions in errors
            ]
            estimate = ratio_of_sums(*_arrays(totals))
            summaries.append(FlowSummary(first.flow, first.strokes, region, estimate))
    return summaries


def flow_ratios(records: list[ClipRecord]) -> list[FlowRatio]:
    """The error of the completed flow on the body over the error of each baseline, for each number of strokes.

    A clip in which the other flow has no error does not count.
    """
    totals = {
        (first.flow, first.strokes): np.array([record.flow[place].regions["body"].total for record in records])
        for place, first in enumerate(records[0].flow)
    }
    # Both errors are sums over the same cells, so the ratio of the sums is the ratio of the mean errors.
    return [
        FlowRatio(flow, strokes, ratio_of_sums(totals[COMPLETED_FLOW, strokes], total))
        for (flow, strokes), total in totals.items()
        if flow not in (COMPLETED_FLOW, COMPLETED_FLOW_IN_REGIONS) and (COMPLETED_FLOW, strokes) in totals
    ]


def summarize_next_frame(records: list[ClipRecord]) -> list[NextFrameSummary]:
    """PSNR of the first frame from the true flow, on moving and on uncovered pixels, and the gain over filling these
    from behind. Records of earlier versions have less, or none."""
    measured = [record.next_frame for record in records if record.next_frame]
    places = {first.method: place for place, first in enumerate(measured[0] if measured else [])}
    filled = [errors[places[SplatTrueFlow.name]] for errors in measured]
    summaries = []
    for method, place in places.items():
        errors = [of_clip[place] for of_clip in measured]
        moving = ratio_of_sums(*_arrays([(error.squared_error, error.values) for error in errors]))
        uncovered = ratio_of_sums(*_arrays([(error.uncovered_error, error.uncovered_values) for error in errors]))
        # over the same pixels, so the ratio of the sums is the ratio of the means
        ratio = ratio_of_sums(*_arrays([(a.uncovered_error, b.uncovered_error) for a, b in zip(errors, filled)]))
        gain = None if ratio is None else _mapped(ratio, lambda value: -10 * math.log10(max(value, 1e-12)))
        summaries.append(NextFrameSummary(method, _psnr(moving), _psnr(uncovered), gain))
    return summaries


def summarize_drift(drifts: list[dict[int, DriftMeasurement]]) -> list[DriftSummary]:
    """Means over the long rollouts, frame by frame, and the largest change of color among them."""
    summaries = []
    for frame in drifts[0] if drifts else ():
        measured = [drift[frame] for drift in drifts]
        estimates = {
            field.name: _mean([getattr(measurement, field.name)] for measurement in measured)
            for field in dataclasses.fields(DriftMeasurement)
        }
        largest = max(measurement.color for measurement in measured)
        summaries.append(DriftSummary(frame=frame, **estimates, largest_color=largest))
    return summaries


def frechet_distances(
    output_dir: Path, records: dict[str, ClipRecord]
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Distances between the features of each method and the features of the true video.

    Returns:
        `tuple[dict[str, dict[str, float]], dict[str, str]]`: for each Fréchet distance its value for each method, by
        `method_label`; and the reason for each Fréchet distance that cannot be measured on these clips.
    """
    collected: dict[str, list[np.ndarray]] = {}
    for key in records:
        with np.load(output_dir / f"clips/{key}.npz") as arrays:
            for name in arrays.files:
                collected.setdefault(name, []).append(arrays[name])
    features = {name: np.concatenate(arrays) for name, arrays in collected.items()}
    methods = [(result.method, result.strokes) for result in next(iter(records.values())).methods]
    distances, absent = {}, {}
    for metric in dict.fromkeys(name.partition(": ")[0] for name in features):
        truth = features[feature_name(metric, TrueVideo.name, None)]
        try:
            distances[metric] = {
                method_label(*method): frechet_distance(features[feature_name(metric, *method)], truth)
                for method in methods
                if feature_name(metric, *method) in features
            }
        except ValueError as error:
            absent[metric] = str(error)
    return distances, absent


def score_strokes(records: dict[str, ClipRecord], strokes: int) -> list[StrokeScore]:
    """One score for each stroke of each clip, rounded to two digits; `strokes` is the largest number of strokes."""
    scores = []
    for key, record in records.items():
        handles = {result.method: result.handles for result in record.methods if result.strokes in (None, strokes)}
        for number, track in enumerate(record.handles):
            positions = np.array(track)
            length = float(np.linalg.norm(positions - positions[0], axis=1).max())
            errors = {}
            for method, distances in handles.items():
                total, count = _total(distances[number])
                errors[method] = round(total / count, 2) if count else math.nan
            x, y = (float(round(value, 2)) for value in positions[0])
            scores.append(StrokeScore(key, number, x, y, round(length, 2), errors))
    return scores


def _mean(values: Iterable[list[float]]) -> Estimate | None:
    """The mean over the values of each clip, NaN left out."""
    return ratio_of_sums(*_arrays([_total(of_clip) for of_clip in values]))


def _arrays(pairs: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """The sums and the counts of all clips as arrays `[N]`."""
    sums, counts = np.array(pairs, dtype=float).reshape(-1, 2).T
    return sums, counts


def _total(values: list[float]) -> tuple[float, int]:
    """Sum and number of the values, NaN left out."""
    measured = [value for value in values if not math.isnan(value)]
    return sum(measured), len(measured)


def _joined(lists: list[list[float]]) -> list[float]:
    return [value for values in lists for value in values]


def _within(distance: float, threshold: float) -> float:
    """1 within the threshold, 0 beyond it, NaN where the distance is NaN."""
    return distance if math.isnan(distance) else float(distance <= threshold)


def _psnr(error: Estimate | None) -> Estimate | None:
    """PSNR in dB of a mean squared error."""
    return None if error is None else _mapped(error, _db)


def _mapped(estimate: Estimate, falling: Callable[[float], float]) -> Estimate:
    """An estimate and its interval on another scale, by a function that falls."""
    return Estimate(falling(estimate.value), falling(estimate.high), falling(estimate.low), estimate.clips)


def _db(squared_error: float) -> float:
    """PSNR in dB of a mean squared error, at most 60 dB."""
    return min(PSNR_LARGEST, -10 * math.log10(max(squared_error, 1e-12)))
