# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Writes the results of an evaluation: `metrics.json`, `report.md`, plots and the scorecard of strokes."""

import csv
import json
import math
from pathlib import Path

from ..atomic_files import atomic_path
from .aggregation import StrokeScore, recall_distance
from .plots import plot_drift, plot_strokes
from .summary import EvaluationSummary
from .tables import (
    DIFFERENCE_NOTE,
    DRIFT_NOTE,
    FLOW_RATIO_NOTE,
    KEYPOINT_NOTE,
    MOTION_NOTE,
    NEXT_FRAME_NOTE,
    differences_to_methods_table,
    drift_table,
    flow_ratio_table,
    flow_table,
    image_table,
    keypoint_table,
    motion_table,
    next_frame_table,
    plural,
    table,
)
from .whole_tables import wholes_section


# How many of the best strokes, and of the worst, the report lists.
LISTED_STROKES = 8


def write_report(output_dir: Path, summary: EvaluationSummary, scores: list[StrokeScore]) -> None:
    """Writes `metrics.json`, `strokes.csv`, `report.md` and the plots.

    Args:
        output_dir (`Path`): folder of the evaluation.
        summary (`EvaluationSummary`): the results.
        scores (`list[StrokeScore]`): one score per stroke.
    """
    content = json.dumps(summary.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_path(output_dir / "metrics.json") as path:
        path.write_text(content + "\n", encoding="utf-8")
    with atomic_path(output_dir / "strokes.csv") as path:
        _write_scores(path, scores)
    plot_strokes(summary.motion, output_dir / "ade.png")
    if summary.drift:
        plot_drift(summary.drift, output_dir / "drift.png")
    with atomic_path(output_dir / "report.md") as path:
        path.write_text(_report(summary, scores), encoding="utf-8")


def _write_scores(path: Path, scores: list[StrokeScore]) -> None:
    """Writes one line per stroke, with one column per method."""
    columns = ["clip", "stroke", "x", "y", "length", *scores[0].errors] if scores else []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for score in scores:
            errors = ["" if math.isnan(error) else error for error in score.errors.values()]
            writer.writerow([score.clip, score.stroke, score.x, score.y, score.length, *errors])


def _report(summary: EvaluationSummary, scores: list[StrokeScore]) -> str:
    """The report as Markdown."""
    settings = summary.description.settings
    number = f"{settings.middle_strokes} {plural(settings.middle_strokes)}"
    lines = _introduction(summary)
    for frames, title in (("all", "mean over all frames"), ("first", "first frame"), ("last", "last frame")):
        lines += [f"## Images, {number}, {title}", "", *image_table(summary, frames, settings.middle_strokes), ""]
    lines += [f"## Ours minus each method, {number}", "", DIFFERENCE_NOTE, ""]
    lines += [*differences_to_methods_table(summary), ""]
    lines += ["## Motion following", "", MOTION_NOTE.format(distance=recall_distance(summary.description)), ""]
    lines += [*motion_table(summary), "", "![Average displacement error over the number of strokes](ade.png)", ""]
    if summary.keypoints:
        lines += ["## Keypoints detected on the last frame", "", KEYPOINT_NOTE, "", *keypoint_table(summary), ""]
    lines += ["## Flow of the first step, end-point error ↓ (px)", "", *flow_table(summary), ""]
    if summary.flow_ratios:
        lines += [FLOW_RATIO_NOTE, "", *flow_ratio_table(summary), ""]
    if summary.next_frame:
        lines += ["## Next frame from the true flow", "", NEXT_FRAME_NOTE, "", *next_frame_table(summary), ""]
    if summary.drift:
        lines += ["## Long rollouts", "", DRIFT_NOTE, "", *drift_table(summary), "", "![Drift](drift.png)", ""]
    if summary.wholes:
        lines += wholes_section(summary.wholes)
    lines += _listed_strokes(scores, settings.strokes[-1])
    if summary.absent:
        lines += ["## Not measured", "", *(f"- {name}: {reason}" for name, reason in summary.absent.items()), ""]
    return "\n".join(lines)


def _introduction(summary: EvaluationSummary) -> list[str]:
    """The head of the report: model, data and settings."""
    description, settings = summary.description, summary.description.settings
    height, width = description.frame_size
    handles = "moving pixels" if settings.anywhere else "body keypoints"
    lines = [
        f"# Evaluation of {description.model}",
        "",
        f"{summary.clips} clips of {description.data}, {width} × {height} pixels, {settings.num_frames} frames "
        f"each, including the given image; {settings.num_inference_steps} denoising steps per frame; strokes start "
        f"at {handles} and follow the true motion. Each value has its 95 % bootstrap interval over clips below it.",
        "",
    ]
    if summary.clips_left_out:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in summary.clips_left_out.items())
        lines += [f"Left out: {reasons}.", ""]
    return lines


def _listed_strokes(scores: list[StrokeScore], strokes: int) -> list[str]:
    """The strokes that the model follows best and worst."""
    followed = [score for score in scores if not math.isnan(score.errors["ours"])]
    if not followed:
        return []
    followed.sort(key=lambda score: score.errors["ours"])
    methods = ("ours", "splat, true flow", "still")
    listed = followed[:LISTED_STROKES] + followed[LISTED_STROKES:][-LISTED_STROKES:]
    cells = []
    for score in listed:
        errors = ["" if math.isnan(score.errors[name]) else f"{score.errors[name]:.1f}" for name in methods]
        cells.append([score.clip, str(score.stroke), f"({score.x}, {score.y})", f"{score.length:.1f}", *errors])
    return [
        f"## The best and the worst strokes, {strokes} given, error in pixels",
        "",
        *table(["clip", "stroke", "from", "length (px)", *methods], cells),
        "",
        "`strokes.csv` has all strokes.",
        "",
    ]
