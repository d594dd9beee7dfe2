# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""From what was measured on each clip to figures over all of them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from .confidence import difference_of_ratios, ratio_of_sums
from .evaluator import feature_name
from .methods import Model, TrueVideo
from .metrics.frechet_distance import frechet_distance
from .metrics.handle_search import scaled_to


PICTURE_METRICS = ("psnr", "psnr_moving", "psnr_still", "psnr_background", "ssim", "st_lpips", "lpips")
DRIFT_METRICS = ("color", "sharpness", "still_st_lpips", "still_psnr")


def recall_distance(description: dict[str, Any]) -> float:
    """Within how many pixels a handle counts as recalled, in this evaluation."""
    return scaled_to(*description["frame_size"])[2]


def differences(
    rows: list[dict[str, Any]], others: list[dict[str, Any]], strokes: int
) -> dict[str, dict[str, Any] | None]:
    """By how much two rows of the comparison differ on the same clips, of one evaluation or of two.

    Args:
        rows, others (`list[dict]`): what was measured of each row on each clip, in the same order of clips.
        strokes (`int`): the handles that are counted are the first so many.

    Returns:
        `dict[str, dict]`: the first row's figure minus the other's, with its interval: of each picture metric over
        all frames, and `ade` in pixels. None where there is nothing to compare.
    """
    pairs = {
        name: [[_total(row["pictures"].get(name, [])) for row in measured] for measured in (rows, others)]
        for name in PICTURE_METRICS
    }
    pairs["ade"] = [[_total(sum(row["handles"][:strokes], [])) for row in measured] for measured in (rows, others)]
    estimates = {name: difference_of_ratios(*map(_sums, both)) for name, both in pairs.items()}
    return {name: None if found is None else dataclasses.asdict(found) for name, found in estimates.items()}


def row_differences(records: list[dict[str, Any]], strokes: int) -> list[dict[str, Any]]:
    """How the model differs from each other row at one number of strokes; see `differences`."""
    places = {row["row"]: place for place, row in enumerate(records[0]["rows"]) if row["strokes"] in (None, strokes)}
    of_rows = {name: [record["rows"][place] for record in records] for name, place in places.items()}
    return [
        {"row": Model.name, "minus": name, "strokes": strokes, **differences(of_rows[Model.name], of_other, strokes)}
        for name, of_other in of_rows.items()
        if name not in (Model.name, TrueVideo.name)
    ]


def _sums(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The sums and the numbers of values of all clips."""
    sums, counts = np.array(pairs, dtype=float).reshape(-1, 2).T
    return sums, counts


def _estimate(pairs: list[tuple[float, int]]) -> dict[str, Any] | None:
    """A figure with its interval, from the sum and the number of values of each clip."""
    estimate = ratio_of_sums(*_sums(pairs))
    return None if estimate is None else dataclasses.asdict(estimate)


def _total(values: list[float | None]) -> tuple[float, int]:
    """Sum and number of the values that are there."""
    there = [value for value in values if value is not None]
    return sum(there), len(there)


def picture_figures(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each picture metric of each row: over all frames, of the first, and of the last; None where not measured."""
    measured = [name for name in PICTURE_METRICS if name in records[0]["rows"][0]["pictures"]]
    figures = []
    for place, first in enumerate(records[0]["rows"]):
        rows = [record["rows"][place]["pictures"] for record in records]
        for frames, chosen in (("all", slice(None)), ("first", slice(1)), ("last", slice(-1, None))):
            estimates = {name: _estimate([_total(row.get(name, [])[chosen]) for row in rows]) for name in measured}
            figures.append({"row": first["row"], "strokes": first["strokes"], "frames": frames, **estimates})
    return figures


def motion_figures(records: list[dict[str, Any]], strokes: list[int], recalled: float) -> list[dict[str, Any]]:
    """How well handles are followed, for each row and number of strokes; rows without strokes are given for all.

    `ade` is the average displacement error in pixels, over the strokes that are given; `recall` the share of them
    found within the distance of recall; `first_stroke_ade` that of the first stroke alone, which is there at every
    number.
    """
    figures = []
    for place, first in enumerate(records[0]["rows"]):
        for number in strokes if first["strokes"] is None else [first["strokes"]]:
            handles = [record["rows"][place]["handles"][:number] for record in records]
            for frames, chosen in (("all", slice(None)), ("first", slice(1))):
                at = [[distance for handle in drawn for distance in handle[chosen]] for drawn in handles]
                near = [[None if value is None else float(value <= recalled) for value in values] for values in at]
                figures.append(
                    {
                        "row": first["row"],
                        "strokes": number,
                        "frames": frames,
                        "ade": _estimate([_total(values) for values in at]),
                        "recall": _estimate([_total(values) for values in near]),
                        "first_stroke_ade": _estimate(
                            [_total(sum((d[chosen] for d in drawn[:1]), [])) for drawn in handles]
                        ),
                    }
                )
    return figures


def keypoint_figures(records: list[dict[str, Any]], strokes: list[int]) -> list[dict[str, Any]]:
    """How far detected keypoints are from the true ones in the last frame, and which share of them is detected."""
    figures = []
    for place, first in enumerate(records[0]["rows"]):
        for number in strokes if first["strokes"] is None else [first["strokes"]]:
            distances = [record["rows"][place]["keypoints"][:number] for record in records]
            detected = [[float(distance is not None) for distance in drawn] for drawn in distances]
            figures.append(
                {
                    "row": first["row"],
                    "strokes": number,
                    "ade": _estimate([_total(drawn) for drawn in distances]),
                    "detected": _estimate([_total(drawn) for drawn in detected]),
                }
            )
    return figures


def flow_figures(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """End-point errors of the first step, by region."""
    figures = []
    for place, first in enumerate(records[0]["flow"]):
        regions = {name for record in records for name in record["flow"][place]["errors"]}
        ordered = sorted(regions, key=list(max((r["flow"][place]["errors"] for r in records), key=len)).index)
        for region in ordered:
            pairs = [record["flow"][place]["errors"].get(region, (0.0, 0)) for record in records]
            figures.append(
                {
                    "flow": first["flow"],
                    "strokes": first["strokes"],
                    "region": region,
                    "end_point_error": _estimate(pairs),
                }
            )
    return figures


def drift_figures(drifts: list[dict[str, dict[str, float | None]]]) -> list[dict[str, Any]]:
    """Means over the long roll-outs, frame by frame, and the largest change of color among them."""
    figures = []
    for frame in drifts[0] if drifts else ():
        values = {name: [drift[frame][name] for drift in drifts] for name in DRIFT_METRICS}
        estimates = {name: _estimate([_total([value]) for value in of_all]) for name, of_all in values.items()}
        figures.append({"frame": int(frame), **estimates, "largest_color": max(values["color"])})
    return figures


def frechet_figures(
    output_dir: Path, keys: list[str], record: dict[str, Any]
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Distances between the distribution of each row's features and that of the true video's.

    Returns:
        `tuple[dict[str, dict[str, float]], dict[str, str]]`: for each metric the distance of each row, by `row_name`,
        and for each metric that cannot be measured on these clips the reason.
    """
    features: dict[str, list[np.ndarray]] = {}
    for key in keys:
        with np.load(output_dir / f"clips/{key}.npz") as arrays:
            for name in arrays.files:
                features.setdefault(name, []).append(arrays[name])
    distances, absent = {}, {}
    for metric in dict.fromkeys(name.partition(": ")[0] for name in features):
        truth = np.concatenate(features[feature_name(metric, TrueVideo.name, None)])
        try:
            distances[metric] = {
                row_name(row["row"], row["strokes"]): frechet_distance(
                    np.concatenate(features[feature_name(metric, row["row"], row["strokes"])]), truth
                )
                for row in record["rows"]
                if feature_name(metric, row["row"], row["strokes"]) in features
            }
        except ValueError as error:
            absent[metric] = str(error)
    return distances, absent


def row_name(row: str, strokes: int | None) -> str:
    """A row together with its number of strokes."""
    return row if strokes is None else f"{row} ({strokes})"


def scorecard(keys: list[str], records: list[dict[str, Any]], strokes: list[int]) -> list[dict[str, Any]]:
    """One line for each stroke of each clip: how far it goes, and how well each row follows it, in pixels.

    Rows are given for the largest number of strokes.
    """
    lines = []
    for key, record in zip(keys, records):
        rows = {row["row"]: row["handles"] for row in record["rows"] if row["strokes"] in (None, strokes[-1])}
        for number, track in enumerate(record["handles"]):
            track = np.array(track)
            line = {"clip": key, "stroke": number, "x": track[0, 0], "y": track[0, 1]}
            line["length"] = float(np.linalg.norm(track - track[0], axis=1).max())
            for row, handles in rows.items():
                total, count = _total(handles[number])
                line[row] = total / count if count else None
            lines.append({name: round(v, 2) if isinstance(v, float) else v for name, v in line.items()})
    return lines
