# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Plots of an evaluation."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..atomic_files import atomic_path


SIZE = (7, 4.2)  # inches
DPI = 120


def plot_strokes(motion: list[dict[str, Any]], path: Path) -> None:
    """Average displacement error over the number of strokes, with 95 % intervals: the paper's Table 3 as a plot.

    Args:
        motion (`list[dict]`): the entry `motion` of `metrics.json`.
        path (`Path`): the PNG to write.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    entries = [entry for entry in motion if entry["frames"] == "all"]
    titles = {"ade": "all strokes that are given", "first_stroke_ade": "the first stroke alone"}
    for axis, (metric, title) in zip(axes, titles.items()):
        for row in dict.fromkeys(entry["row"] for entry in entries):
            points = [(e["strokes"], e[metric]) for e in entries if e["row"] == row and e[metric] is not None]
            numbers, values = [number for number, _ in points], [estimate["value"] for _, estimate in points]
            below = [estimate["value"] - estimate["low"] for _, estimate in points]
            above = [estimate["high"] - estimate["value"] for _, estimate in points]
            is_ours = row.startswith("ours")
            axis.errorbar(
                numbers,
                values,
                (below, above),
                label=row,
                marker="o" if is_ours else ".",
                linewidth=2.2 if is_ours else 1,
                linestyle="-" if is_ours else "--",
                capsize=3,
            )
        axis.set(title=title, xlabel="strokes", xticks=sorted({entry["strokes"] for entry in entries}), ylim=(0, None))
    axes[0].set_ylabel("average displacement error, pixels")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    _save(figure, path)


def plot_drift(drift: list[dict[str, Any]], path: Path) -> None:
    """What a long roll-out does, over its frames.

    Args:
        drift (`list[dict]`): the entry `drift` of `metrics.json`.
        path (`Path`): the PNG to write.
    """
    figure = Figure(figsize=(SIZE[0], SIZE[1] / 1.4), layout="constrained")
    axes = figure.subplots(1, 3)
    titles = {
        "color": "change of mean color",
        "sharpness": "sharpness, start = 1",
        "still_st_lpips": "ST-LPIPS, still",
    }
    for axis, (metric, title) in zip(axes, titles.items()):
        points = [(entry["frame"], entry[metric]) for entry in drift if entry[metric] is not None]
        frames = [frame for frame, _ in points]
        axis.plot(frames, [estimate["value"] for _, estimate in points], marker="o")
        axis.fill_between(
            frames,
            [estimate["low"] for _, estimate in points],
            [estimate["high"] for _, estimate in points],
            alpha=0.25,
        )
        axis.set(title=title, xlabel="frame", ylim=(0, None))
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as unfinished:
        # Without a date in it, equal figures give equal files.
        figure.savefig(unfinished, dpi=DPI, metadata={"Software": None})
