# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Markdown tables of the results of an evaluation, and the notes that explain them."""

from .confidence import Estimate
from .records import method_label
from .summary import Estimates, EvaluationSummary


# Title, direction and unit of each metric.
IMAGE_TITLES = {
    "psnr": "PSNR ↑ (dB)",
    "psnr_moving": "PSNR, moving ↑ (dB)",
    "psnr_still": "PSNR, still ↑ (dB)",
    "psnr_background": "PSNR, still, to start ↑ (dB)",
    "psnr_uncovered": "PSNR, uncovered ↑ (dB)",
    "ssim": "SSIM, first and last frame ↑",
    "st_lpips": "ST-LPIPS, first and last frame ↓",
    "lpips": "LPIPS, first and last frame ↓",
}
DIFFERENCE_TITLES = {
    "psnr": "PSNR (dB)",
    "psnr_moving": "PSNR, moving (dB)",
    "ssim": "SSIM",
    "st_lpips": "ST-LPIPS",
    "ade": "ADE (px)",
}
DRIFT_TITLES = {
    "color": "color ↓",
    "sharpness": "sharpness (1 = start)",
    "still_st_lpips": "still ST-LPIPS ↓",
    "still_psnr": "still PSNR ↑ (dB)",
}
MOTION_NOTE = (
    "Each handle is searched for in the output by its patch of the true video. ADE is its mean distance to the true "
    "position over strokes and frames. Recall is the share of handles within {distance:g} pixels. The true video is "
    "the floor and a still is the ceiling. The splat along the true flow shows how far texture can be followed."
)
KEYPOINT_NOTE = (
    "MediaPipe detects people in the last frame. ADE is the mean distance of the detected joints under the strokes to "
    "their true positions. The true video shows the error of the detector itself."
)
FLOW_RATIO_NOTE = "The error of F on the body, divided by the error of each other flow:"
NEXT_FRAME_NOTE = (
    "The model and the baselines are given the true flow of the first step. PSNR is measured on the moving pixels of "
    "all clips together, and on those that the given image does not show. The splat along the true flow fills these "
    "from behind; the last column is the difference from it, over the same clips."
)
DRIFT_NOTE = (
    "Each stroke follows its handle and then holds its position. All frames are compared with the start frame. "
    "Still regions are those where nothing moves in the true video."
)
DIFFERENCE_NOTE = (
    "The value of the model minus the value of each method, over the same clips. Both are resampled together. An "
    "interval that excludes 0 is a difference, even if the intervals of the two values overlap."
)


def image_table(summary: EvaluationSummary, frames: str, strokes: int) -> list[str]:
    """Methods by image metrics, in the layout of the paper's Table 2.

    Args:
        summary (`EvaluationSummary`): the results.
        frames (`str`): "all", "first" or "last".
        strokes (`int`): number of strokes of the methods that use strokes.
    """
    distances = summary.frechet if frames == "all" else {}
    titles = {name: title for name, title in IMAGE_TITLES.items() if name in summary.images[0].estimates}
    lines = []
    for entry in summary.images:
        if entry.frames == frames and entry.strokes in (None, strokes):
            label = method_label(entry.method, entry.strokes)
            cells = [entry.method, *(f"{of_methods[label]:.3g}" for of_methods in distances.values())]
            lines.append(cells + [cell(entry.estimates[name]) for name in titles])
    return table(["", *(f"{metric} ↓" for metric in distances), *titles.values()], lines)


def difference_table(differences: dict[str, Estimates], title: str) -> list[str]:
    """Differences over the same clips.

    Args:
        differences (`dict[str, Estimates]`): the differences by the first cell of their line.
        title (`str`): title of the first column.
    """
    lines = [[name, *(cell(found[metric]) for metric in DIFFERENCE_TITLES)] for name, found in differences.items()]
    return table([title, *DIFFERENCE_TITLES.values()], lines)


def differences_to_methods_table(summary: EvaluationSummary) -> list[str]:
    """The model minus each other method."""
    return difference_table({found.minus: found.estimates for found in summary.differences}, "ours minus")


def motion_table(summary: EvaluationSummary) -> list[str]:
    """Methods by how well they follow strokes, in the layout of the paper's Table 3."""
    numbers = summary.description.settings.strokes
    header = ["", *(f"ADE, {n} {plural(n)} ↓ (px)" for n in numbers)]
    header += [f"first stroke, of {n} ↓ (px)" for n in numbers]
    header += [f"recall, {n} {plural(n)} ↑" for n in numbers]
    entries = {(entry.method, entry.strokes): entry for entry in summary.motion if entry.frames == "all"}
    lines = []
    for method in dict.fromkeys(method for method, _ in entries):
        of_method = [entries[method, number] for number in numbers]
        estimates = [entry.ade for entry in of_method] + [entry.first_stroke_ade for entry in of_method]
        estimates += [entry.recall for entry in of_method]
        lines.append([method, *map(cell, estimates)])
    return table(header, lines)


def keypoint_table(summary: EvaluationSummary) -> list[str]:
    """Methods by the keypoints that are detected in the last frame."""
    numbers = summary.description.settings.strokes
    header = ["", *(f"ADE, {n} {plural(n)} ↓ (px)" for n in numbers), *(f"detected, of {n}" for n in numbers)]
    entries = {(entry.method, entry.strokes): entry for entry in summary.keypoints}
    lines = []
    for method in dict.fromkeys(method for method, _ in entries):
        of_method = [entries[method, number] for number in numbers]
        lines.append([method, *(cell(entry.ade) for entry in of_method), *(cell(e.detected) for e in of_method)])
    return table(header, lines)


def flow_table(summary: EvaluationSummary) -> list[str]:
    """The flow of the first step by its end-point error in each region."""
    errors = {(entry.flow, entry.strokes, entry.region): entry.end_point_error for entry in summary.flow}
    regions = list(dict.fromkeys(region for _, _, region in errors))
    flows = dict.fromkeys((flow, strokes) for flow, strokes, _ in errors)
    return table(
        ["", "strokes", *regions],
        [
            [flow, str(strokes), *(cell(errors.get((flow, strokes, region))) for region in regions)]
            for flow, strokes in flows
        ],
    )


def flow_ratio_table(summary: EvaluationSummary) -> list[str]:
    """The error of the completed flow on the body over the error of each other flow."""
    ratios = {(entry.over, entry.strokes): entry.ratio for entry in summary.flow_ratios}
    flows = list(dict.fromkeys(flow for flow, _ in ratios))
    numbers = dict.fromkeys(strokes for _, strokes in ratios)
    return table(
        ["strokes", *(f"over {flow}" for flow in flows)],
        [[str(number), *(cell(ratios[flow, number]) for flow in flows)] for number in numbers],
    )


def next_frame_table(summary: EvaluationSummary) -> list[str]:
    """The first frame from the true flow."""
    titles = (IMAGE_TITLES["psnr_moving"], IMAGE_TITLES["psnr_uncovered"], "uncovered, minus filled from behind (dB)")
    lines = [
        [entry.method, cell(entry.psnr_moving), cell(entry.psnr_uncovered), cell(entry.uncovered_gain)]
        for entry in summary.next_frame
    ]
    return table(["", *titles], lines)


def drift_table(summary: EvaluationSummary) -> list[str]:
    """Long rollouts, frame by frame."""
    return table(
        ["frame", *DRIFT_TITLES.values(), "largest change of color"],
        [
            [str(entry.frame), *(cell(getattr(entry, name)) for name in DRIFT_TITLES), f"{entry.largest_color:.3f}"]
            for entry in summary.drift
        ],
    )


def table(header: list[str], lines: list[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]


def cell(estimate: Estimate | None) -> str:
    """A value with three significant digits, and its interval below."""
    if estimate is None:
        return "–"
    digits = 1 if abs(estimate.value) >= 10 else 2 if abs(estimate.value) >= 1 else 3
    value, low, high = (f"{number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return f"{value}<br>{low} to {high}" if estimate.low < 0 else f"{value}<br>{low}–{high}"


def plural(strokes: int) -> str:
    """ "stroke" or "strokes"."""
    return "stroke" if strokes == 1 else "strokes"
