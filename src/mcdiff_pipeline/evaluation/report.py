# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What an evaluation writes over all clips: `metrics.json`, a report with tables, plots, a scorecard."""

import csv
import json
from pathlib import Path
from typing import Any

from ..atomic_files import atomic_path
from .plots import plot_drift, plot_strokes
from .summary import (
    drift_figures,
    flow_figures,
    frechet_figures,
    keypoint_figures,
    motion_figures,
    picture_figures,
    recall_distance,
    row_differences,
    row_name,
    scorecard,
)


FORMAT, VERSION = "mcdiff evaluation", 1
# Title and unit of each metric, and whether more or less of it is better.
PICTURE_TITLES = {
    "psnr": "PSNR ↑ (dB)",
    "psnr_moving": "PSNR, moving ↑ (dB)",
    "psnr_still": "PSNR, still ↑ (dB)",
    "psnr_background": "PSNR, still, to start ↑ (dB)",
    "ssim": "SSIM, first and last frame ↑",
    "st_lpips": "ST-LPIPS, first and last frame ↓",
    "lpips": "LPIPS, first and last frame ↓",
}
DRIFT_TITLES = {
    "color": "color ↓",
    "sharpness": "sharpness (1 = start)",
    "still_st_lpips": "still ST-LPIPS ↓",
    "still_psnr": "still PSNR ↑ (dB)",
}
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
DIFFERENCE_NOTE = (
    "The model's figure minus that of each row, over the same clips. Clips are resampled for both together, so an "
    "interval that leaves out 0 is a difference, even where those of the two figures overlap."
)
# How many of the best and of the worst strokes the report names.
NAMED_STROKES = 8


def write_report(
    output_dir: Path,
    description: dict[str, Any],
    keys: list[str],
    drifting: list[str],
    left_out: dict[str, int],
    absent: dict[str, str],
) -> dict[str, Any]:
    """Writes all that an evaluation gives over all clips.

    Args:
        output_dir (`Path`): folder of the evaluation, with `clips/` and `drift/`.
        description (`dict`): what is evaluated.
        keys, drifting (`list[str]`): the clips, and those with a long roll-out.
        left_out (`dict[str, int]`): how many clips were not used, by reason.
        absent (`dict[str, str]`): metrics that were not measured, with the reason.

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
        "rows": picture_figures(records),
        "differences": row_differences(records, usual_strokes(description)),
        "motion": motion_figures(records, settings["strokes"], recall_distance(description)),
        "keypoints": keypoint_figures(records, settings["strokes"]) if description["pose_model"] else [],
        "flow": flow_figures(records),
        "drift": drift_figures([json.loads((output_dir / f"drift/{key}.json").read_text()) for key in drifting]),
    }
    metrics["frechet"], too_few = frechet_figures(output_dir, keys, records[0])
    metrics["absent"] = absent | too_few
    with atomic_path(output_dir / "metrics.json") as path:
        path.write_text(json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    strokes = scorecard(keys, records, settings["strokes"])
    with atomic_path(output_dir / "strokes.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(strokes[0]) if strokes else [])
        writer.writeheader()
        writer.writerows(strokes)
    plot_strokes(metrics["motion"], output_dir / "ade.png")
    if metrics["drift"]:
        plot_drift(metrics["drift"], output_dir / "drift.png")
    with atomic_path(output_dir / "report.md") as path:
        path.write_text(_report(metrics, strokes), encoding="utf-8")
    return metrics


def usual_strokes(metrics: dict[str, Any]) -> int:
    """The number of strokes that tables of pictures are given for."""
    strokes = metrics["settings"]["strokes"]
    return strokes[len(strokes) // 2]


def picture_table(metrics: dict[str, Any], frames: str, strokes: int) -> list[str]:
    """Rows of the comparison by picture metrics, in the layout of the paper's Table 2, as lines of Markdown.

    Args:
        metrics (`dict`): what `metrics.json` holds.
        frames (`str`): "all", "first" or "last".
        strokes (`int`): rows that use strokes are those with so many.
    """
    distances = metrics["frechet"] if frames == "all" else {}
    titles = {name: title for name, title in PICTURE_TITLES.items() if name in metrics["rows"][0]}
    lines = []
    for row in metrics["rows"]:
        if row["frames"] == frames and row["strokes"] in (None, strokes):
            name = row_name(row["row"], row["strokes"])
            cells = [row["row"], *(f"{of_rows[name]:.3g}" for of_rows in distances.values())]
            lines.append(cells + [cell(row[name]) for name in titles])
    return table(["", *(f"{metric} ↓" for metric in distances), *titles.values()], lines)


def difference_table(differences: dict[str, dict[str, Any]], title: str) -> list[str]:
    """Differences over the same clips, as `differences` in figures.py gives them, as lines of Markdown.

    Args:
        differences (`dict[str, dict]`): the differences by the first cell of their line.
        title (`str`): of the first column.
    """
    titles = {"psnr": "PSNR (dB)", "psnr_moving": "PSNR, moving (dB)", "ssim": "SSIM", "st_lpips": "ST-LPIPS"}
    titles |= {"ade": "ADE (px)"}
    lines = [[name, *(cell(found[metric]) for metric in titles)] for name, found in differences.items()]
    return table([title, *titles.values()], lines)


def motion_table(metrics: dict[str, Any]) -> list[str]:
    """Rows of the comparison by how strokes are followed, in the layout of the paper's Table 3."""
    numbers = metrics["settings"]["strokes"]
    header = ["", *(f"ADE, {n} {plural(n)} ↓ (px)" for n in numbers)]
    header += [f"first stroke, of {n} ↓ (px)" for n in numbers]
    header += [f"recall, {n} {plural(n)} ↑" for n in numbers]
    figures = {(row["row"], row["strokes"]): row for row in metrics["motion"] if row["frames"] == "all"}
    names = ("ade", "first_stroke_ade", "recall")
    rows = dict.fromkeys(row for row, _ in figures)
    return table(header, [[row, *(cell(figures[row, n][name]) for name in names for n in numbers)] for row in rows])


def keypoint_table(metrics: dict[str, Any]) -> list[str]:
    """Rows of the comparison by keypoints detected on the last frame."""
    numbers = metrics["settings"]["strokes"]
    header = ["", *(f"ADE, {n} {plural(n)} ↓ (px)" for n in numbers), *(f"detected, of {n}" for n in numbers)]
    figures = {(row["row"], row["strokes"]): row for row in metrics["keypoints"]}
    rows = dict.fromkeys(row for row, _ in figures)
    return table(
        header,
        [[row, *(cell(figures[row, n][name]) for name in ("ade", "detected") for n in numbers)] for row in rows],
    )


def flow_table(metrics: dict[str, Any]) -> list[str]:
    """Ways to complete strokes by the end-point error of the first step."""
    figures = {(f["flow"], f["strokes"], f["region"]): f["end_point_error"] for f in metrics["flow"]}
    regions = list(dict.fromkeys(region for _, _, region in figures))
    ways = dict.fromkeys((name, number) for name, number, _ in figures)
    return table(
        ["", "strokes", *regions],
        [
            [name, str(number), *(cell(figures.get((name, number, region))) for region in regions)]
            for name, number in ways
        ],
    )


def drift_table(metrics: dict[str, Any]) -> list[str]:
    """Long roll-outs, frame by frame."""
    header = ["frame", *DRIFT_TITLES.values(), "largest change of color"]
    return table(
        header,
        [
            [str(at["frame"]), *(cell(at[name]) for name in DRIFT_TITLES), f"{at['largest_color']:.3f}"]
            for at in metrics["drift"]
        ],
    )


def table(header: list[str], lines: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]


def cell(estimate: dict[str, Any] | None) -> str:
    """A figure over its interval, with as many digits as three figures need."""
    if estimate is None:
        return "–"
    digits = 1 if abs(estimate["value"]) >= 10 else 2 if abs(estimate["value"]) >= 1 else 3
    value, low, high = (f"{estimate[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value}<br>{low} to {high}" if estimate["low"] < 0 else f"{value}<br>{low}–{high}"


def plural(strokes: int) -> str:
    """The word for so many strokes."""
    return "stroke" if strokes == 1 else "strokes"


def _report(metrics: dict[str, Any], strokes: list[dict[str, Any]]) -> str:
    """The report as Markdown."""
    settings, usual = metrics["settings"], usual_strokes(metrics)
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
        lines += [f"## Pictures, {usual} {plural(usual)}, {title}", "", *picture_table(metrics, frames, usual), ""]
    lines += [f"## Ours minus each row, {usual} {plural(usual)}", "", DIFFERENCE_NOTE, ""]
    lines += [*difference_table({found["minus"]: found for found in metrics["differences"]}, "ours minus"), ""]
    lines += ["## Motion following", "", MOTION_NOTE.format(distance=recall_distance(metrics)), ""]
    lines += [*motion_table(metrics), "", "![Average displacement error over the number of strokes](ade.png)", ""]
    if metrics["keypoints"]:
        lines += ["## Keypoints detected on the last frame", "", KEYPOINT_NOTE, "", *keypoint_table(metrics), ""]
    lines += ["## Flow of the first step, end-point error ↓ (px)", "", *flow_table(metrics), ""]
    if metrics["drift"]:
        lines += ["## Long roll-outs", "", DRIFT_NOTE, "", *drift_table(metrics), "", "![Drift](drift.png)", ""]

    followed = sorted((line for line in strokes if line.get("ours") is not None), key=lambda line: line["ours"])
    if followed:
        rows = [name for name in ("ours", "splat, true flow", "still") if name in followed[0]]
        named = followed[:NAMED_STROKES] + followed[NAMED_STROKES:][-NAMED_STROKES:]
        cells = [
            [line["clip"], str(line["stroke"]), f"({line['x']}, {line['y']})", f"{line['length']:.1f}"]
            + ["" if line[row] is None else f"{line[row]:.1f}" for row in rows]
            for line in named
        ]
        lines += [
            f"## The best and the worst strokes, {settings['strokes'][-1]} given, error in pixels",
            "",
            *table(["clip", "stroke", "from", "length (px)", *rows], cells),
            "",
            "All of them are in `strokes.csv`.",
            "",
        ]
    if metrics["absent"]:
        lines += ["## Not measured", "", *(f"- {name}: {reason}" for name, reason in metrics["absent"].items()), ""]
    return "\n".join(lines)
