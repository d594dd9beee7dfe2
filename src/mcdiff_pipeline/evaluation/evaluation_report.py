# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""From what was measured on each clip to figures over all of them: `metrics.json`, tables, plots, a scorecard."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import written_whole
from .clip_evaluation import feature_name
from .confidence import ratio_of_sums
from .frechet_distance import frechet_distance
from .motion_following import scaled_to
from .plots import plot_drift, plot_strokes
from .rows import TrueVideo


FORMAT, VERSION = "mcdiff evaluation", 1
# Title and unit of each metric, and whether more or less of it is better.
PICTURE_METRICS = {
    "psnr": "PSNR ↑ (dB)",
    "psnr_moving": "PSNR, moving ↑ (dB)",
    "psnr_still": "PSNR, still ↑ (dB)",
    "psnr_background": "PSNR, still, to start ↑ (dB)",
    "ssim": "SSIM ↑",
    "st_lpips": "ST-LPIPS ↓",
}
DRIFT_METRICS = {
    "colour": "colour ↓",
    "sharpness": "sharpness (1 = start)",
    "still_st_lpips": "still ST-LPIPS ↓",
    "still_psnr": "still PSNR ↑ (dB)",
}
FRECHET = "Fréchet distance on ST-LPIPS features ↓"
MOTION_NOTE = (
    "Each handle is found again in the output by what it looks like in the true video; its distance to where it "
    "should be is averaged over strokes and frames (ADE), and a handle within {distance:g} pixels is recalled. The "
    "true video is the floor, a still the ceiling, and what splatting along the true flow gives is as far as texture "
    "can be followed."
)
KEYPOINT_NOTE = (
    "MediaPipe looks for people in the last frame: how far the joints under the strokes are from their true "
    "positions, as far as it is sure of them. Its own error is that on the true video."
)
DRIFT_NOTE = (
    "Each handle goes its way and then holds its place. Everything is compared with the autoencoder's own picture of "
    "the start frame; still regions are those where nothing moves in the true video."
)
# How many of the best and of the worst strokes the report names.
NAMED_STROKES = 8


def write_report(
    output_dir: Path,
    description: dict[str, Any],
    keys: list[str],
    drifting: list[str],
    left_out: dict[str, int],
) -> dict[str, Any]:
    """Writes all that an evaluation gives over all clips.

    Args:
        output_dir (`Path`): folder of the evaluation, with `clips/` and `drift/`.
        description (`dict`): what is evaluated.
        keys, drifting (`list[str]`): the clips, and those with a long roll-out.
        left_out (`dict[str, int]`): how many clips were not used, by reason.

    Returns:
        `dict`: what `metrics.json` holds.
    """
    records = [json.loads((output_dir / f"clips/{key}.json").read_text()) for key in keys]
    settings = description["settings"]
    metrics = {
        "format": FORMAT,
        "version": VERSION,
        **description,
        "clips": len(keys),
        "clips_left_out": left_out,
        "rows": _picture_figures(records),
        "motion": _motion_figures(records, settings["strokes"], recall_distance(description)),
        "keypoints": _keypoint_figures(records, settings["strokes"]) if description["pose_model"] else [],
        "flow": _flow_figures(records),
        "drift": _drift_figures([json.loads((output_dir / f"drift/{key}.json").read_text()) for key in drifting]),
        "frechet": {},
    }
    metrics["frechet"], metrics["absent"] = _frechet_figures(output_dir, keys, records[0])
    if not description["pose_model"]:
        metrics["absent"]["Keypoints detected on the output"] = "no pose model was given."
    with written_whole(output_dir / "metrics.json") as path:
        path.write_text(json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    strokes = _scorecard(keys, records, settings["strokes"])
    with written_whole(output_dir / "strokes.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(strokes[0]) if strokes else [])
        writer.writeheader()
        writer.writerows(strokes)
    plot_strokes(metrics["motion"], output_dir / "ade.png")
    if metrics["drift"]:
        plot_drift(metrics["drift"], output_dir / "drift.png")
    with written_whole(output_dir / "report.md") as path:
        path.write_text(_report(metrics, strokes), encoding="utf-8")
    return metrics


def recall_distance(description: dict[str, Any]) -> float:
    """Within how many pixels a handle counts as recalled, in this evaluation."""
    return scaled_to(*description["frame_size"])[2]


def _estimate(pairs: list[tuple[float, int]]) -> dict[str, Any] | None:
    """A figure with its interval, from the sum and the number of values of each clip."""
    sums, counts = np.array(pairs, dtype=float).reshape(-1, 2).T
    estimate = ratio_of_sums(sums, counts)
    return None if estimate is None else dataclasses.asdict(estimate)


def _total(values: list[float | None]) -> tuple[float, int]:
    """Sum and number of the values that are there."""
    there = [value for value in values if value is not None]
    return sum(there), len(there)


def _picture_figures(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each picture metric of each row: over all frames, of the first, and of the last."""
    figures = []
    for place, first in enumerate(records[0]["rows"]):
        rows = [record["rows"][place]["pictures"] for record in records]
        for frames, chosen in (("all", slice(None)), ("first", slice(1)), ("last", slice(-1, None))):
            estimates = {name: _estimate([_total(row[name][chosen]) for row in rows]) for name in PICTURE_METRICS}
            figures.append({"row": first["row"], "strokes": first["strokes"], "frames": frames, **estimates})
    return figures


def _motion_figures(records: list[dict[str, Any]], strokes: list[int], recalled: float) -> list[dict[str, Any]]:
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


def _keypoint_figures(records: list[dict[str, Any]], strokes: list[int]) -> list[dict[str, Any]]:
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


def _flow_figures(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def _drift_figures(drifts: list[dict[str, dict[str, float | None]]]) -> list[dict[str, Any]]:
    """Means over the long roll-outs, frame by frame, and the largest change of colour among them."""
    figures = []
    for frame in drifts[0] if drifts else ():
        values = {name: [drift[frame][name] for drift in drifts] for name in DRIFT_METRICS}
        estimates = {name: _estimate([_total([value]) for value in of_all]) for name, of_all in values.items()}
        figures.append({"frame": int(frame), **estimates, "largest_colour": max(values["colour"])})
    return figures


def _frechet_figures(
    output_dir: Path, keys: list[str], record: dict[str, Any]
) -> tuple[dict[str, float], dict[str, str]]:
    """The Fréchet distance of each row by `feature_name`, and why there is none."""
    names = [feature_name(row["row"], row["strokes"]) for row in record["rows"]]
    features = {name: [] for name in names}
    for key in keys:
        with np.load(output_dir / f"clips/{key}.npz") as arrays:
            for name in names:
                features[name].append(arrays[name])
    features = {name: np.concatenate(parts) for name, parts in features.items()}
    truth = features.pop(TrueVideo.name)
    try:
        return {name: frechet_distance(of_row, truth) for name, of_row in features.items()}, {}
    except ValueError as error:
        return {}, {"Fréchet distance on ST-LPIPS features": str(error)}


def _scorecard(keys: list[str], records: list[dict[str, Any]], strokes: list[int]) -> list[dict[str, Any]]:
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


def _report(metrics: dict[str, Any], strokes: list[dict[str, Any]]) -> str:
    """The report as Markdown."""
    settings, usual = metrics["settings"], sorted(metrics["settings"]["strokes"])
    usual = usual[len(usual) // 2]
    height, width = metrics["frame_size"]
    handles = "pixels that move" if settings["anywhere"] else "body keypoints"
    lines = [
        f"# Evaluation of {metrics['model']}",
        "",
        f"{metrics['clips']} clips of {metrics['data']}, {width} × {height} pixels, {settings['num_frames']} frames "
        f"each, the given picture included; {settings['num_inference_steps']} denoising steps a frame; strokes start "
        f"at {handles} and go the true way. Below each figure: the interval of 95 % of the resamplings of the clips.",
        "",
    ]
    if metrics["clips_left_out"]:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in metrics["clips_left_out"].items())
        lines += [f"Left out: {reasons}.", ""]

    for frames, title in (("all", "mean over all frames"), ("first", "first frame"), ("last", "last frame")):
        chosen = [row for row in metrics["rows"] if row["frames"] == frames and row["strokes"] in (None, usual)]
        header = ["", *([FRECHET] if frames == "all" and metrics["frechet"] else []), *PICTURE_METRICS.values()]
        table = []
        for row in chosen:
            cells = [row["row"]]
            if frames == "all" and metrics["frechet"]:
                distance = metrics["frechet"].get(feature_name(row["row"], row["strokes"]))
                cells.append("0" if distance is None else f"{distance:.3g}")
            table.append(cells + [_cell(row[name]) for name in PICTURE_METRICS])
        lines += [f"## Pictures, {usual} strokes, {title}", "", *_table(header, table), ""]

    numbers = settings["strokes"]
    header = ["", *(f"ADE, {n} strokes ↓ (px)" for n in numbers)]
    header += [f"first stroke, of {n} ↓ (px)" for n in numbers]
    header += [f"recall, {n} strokes ↑" for n in numbers]
    motion = {(row["row"], row["strokes"]): row for row in metrics["motion"] if row["frames"] == "all"}
    table = [
        [row, *(_cell(motion[row, n][name]) for name in ("ade", "first_stroke_ade", "recall") for n in numbers)]
        for row in dict.fromkeys(row for row, _ in motion)
    ]
    lines += [
        "## Motion following",
        "",
        MOTION_NOTE.format(distance=recall_distance(metrics)),
        "",
        *_table(header, table),
    ]
    lines += ["", "![Average displacement error over the number of strokes](ade.png)", ""]

    if metrics["keypoints"]:
        header = ["", *(f"ADE, {n} strokes ↓ (px)" for n in numbers), *(f"detected, {n} strokes" for n in numbers)]
        keypoints = {(row["row"], row["strokes"]): row for row in metrics["keypoints"]}
        table = [
            [row, *(_cell(keypoints[row, n][name]) for name in ("ade", "detected") for n in numbers)]
            for row in dict.fromkeys(row for row, _ in keypoints)
        ]
        lines += ["## Keypoints detected on the last frame", "", KEYPOINT_NOTE, "", *_table(header, table), ""]

    flow = {(f["flow"], f["strokes"], f["region"]): f["end_point_error"] for f in metrics["flow"]}
    regions = list(dict.fromkeys(region for _, number, region in flow if number == usual))
    header = ["", "strokes", *regions]
    table = [
        [name, str(number), *(_cell(flow.get((name, number, region))) for region in regions)]
        for name, number in dict.fromkeys((name, number) for name, number, _ in flow)
    ]
    lines += ["## Flow of the first step, end-point error ↓ (px)", "", *_table(header, table), ""]

    if metrics["drift"]:
        header = ["frame", *DRIFT_METRICS.values(), "largest change of colour"]
        table = [
            [str(at["frame"]), *(_cell(at[name]) for name in DRIFT_METRICS), f"{at['largest_colour']:.3f}"]
            for at in metrics["drift"]
        ]
        lines += ["## Long roll-outs", "", DRIFT_NOTE, "", *_table(header, table), "", "![Drift](drift.png)", ""]

    rows = [name for name in ("ours", "splat, true flow", "still") if strokes and name in strokes[0]]
    followed = sorted((line for line in strokes if line.get("ours") is not None), key=lambda line: line["ours"])
    if followed:
        named = followed[:NAMED_STROKES] + followed[NAMED_STROKES:][-NAMED_STROKES:]
        table = [
            [line["clip"], str(line["stroke"]), f"({line['x']}, {line['y']})", f"{line['length']:.1f}"]
            + ["" if line[row] is None else f"{line[row]:.1f}" for row in rows]
            for line in named
        ]
        lines += [
            f"## The best and the worst strokes, {numbers[-1]} given, error in pixels (all in `strokes.csv`)",
            "",
            *_table(["clip", "stroke", "from", "length (px)", *rows], table),
            "",
        ]
    if metrics["absent"]:
        lines += ["## Not measured", "", *(f"- {name}: {reason}" for name, reason in metrics["absent"].items()), ""]
    return "\n".join(lines)


def _table(header: list[str], lines: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]


def _cell(estimate: dict[str, Any] | None) -> str:
    """A figure over its interval, with as many digits as three figures need."""
    if estimate is None:
        return "–"
    digits = 1 if abs(estimate["value"]) >= 10 else 2 if abs(estimate["value"]) >= 1 else 3
    value, low, high = (f"{estimate[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value}<br>{low}–{high}"
