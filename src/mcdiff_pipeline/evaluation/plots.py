# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Plots of an evaluation."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..atomic_files import atomic_path
from .confidence import Estimate
from .summary import DriftSummary, MotionSummary


SIZE = (7, 4.2)  # inches
DPI = 120


def plot_strokes(motion: list[MotionSummary], path: Path) -> None:
    """Plots the average displacement error over the number of strokes, with 95 % intervals (the paper's Table 3).

    Args:
        motion (`list[MotionSummary]`): how well strokes are followed.
        path (`Path`): the PNG to write.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    entries = [entry for entry in motion if entry.frames == "all"]
    for method in dict.fromkeys(entry.method for entry in entries):
        of_method = [entry for entry in entries if entry.method == method]
        _plot_method(left, method, {entry.strokes: entry.ade for entry in of_method})
        _plot_method(right, method, {entry.strokes: entry.first_stroke_ade for entry in of_method})
    for axis, title in ((left, "all strokes that are given"), (right, "the first stroke alone")):
        axis.set(title=title, xlabel="strokes", xticks=sorted({entry.strokes for entry in entries}), ylim=(0, None))
    left.set_ylabel("average displacement error, pixels")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    _save(figure, path)


def _plot_method(axis: Axes, method: str, estimates: dict[int, Estimate | None]) -> None:
    """Draws one line with error bars, over the number of strokes. The lines of the model stand out."""
    measured = {number: estimate for number, estimate in estimates.items() if estimate is not None}
    is_ours = method.startswith("ours")
    axis.errorbar(
        list(measured),
        [estimate.value for estimate in measured.values()],
        (
            [estimate.value - estimate.low for estimate in measured.values()],
            [estimate.high - estimate.value for estimate in measured.values()],
        ),
        label=method,
        marker="o" if is_ours else ".",
        linewidth=2.2 if is_ours else 1,
        linestyle="-" if is_ours else "--",
        capsize=3,
    )


def plot_drift(drift: list[DriftSummary], path: Path) -> None:
    """Plots color, sharpness and still regions of long rollouts over their frames.

    Args:
        drift (`list[DriftSummary]`): the long rollouts by frame.
        path (`Path`): the PNG to write.
    """
    figure = Figure(figsize=(SIZE[0], SIZE[1] / 1.4), layout="constrained")
    titles = {
        "color": "change of mean color",
        "sharpness": "sharpness, start = 1",
        "still_st_lpips": "ST-LPIPS, still",
    }
    for axis, (metric, title) in zip(figure.subplots(1, 3), titles.items()):
        estimates = {entry.frame: getattr(entry, metric) for entry in drift}
        measured = {frame: estimate for frame, estimate in estimates.items() if estimate is not None}
        axis.plot(list(measured), [estimate.value for estimate in measured.values()], marker="o")
        axis.fill_between(
            list(measured),
            [estimate.low for estimate in measured.values()],
            [estimate.high for estimate in measured.values()],
            alpha=0.25,
        )
        axis.set(title=title, xlabel="frame", ylim=(0, None))
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as unfinished:
        # Without the software's version, equal values give equal files.
        figure.savefig(unfinished, dpi=DPI, metadata={"Software": None})
