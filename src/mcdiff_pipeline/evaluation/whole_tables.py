# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The section of a report about things that move as a whole."""

import math

from .tables import cell, table
from .whole_measures import RULES
from .whole_motions import SETUPS, STEP, TURN, Setup
from .whole_summary import WholeResult, WholesSummary


TITLES = {"miss": "miss ↓", "leak": "leak ↓", "tear": "tear ↓", "slowest": "slowest (1 = as asked)"}
NOTE = (
    "{number} photographs with masked things. Strokes on a thing ask it to move as a whole, in one step by {step:.1%} "
    "of the geometric mean of the sides, or to turn by {degrees:.0f} degrees; two holds are beside it. Lengths are "
    "divided by that of the motion asked for: miss is the mean error on the thing, leak the mean motion off it, tear "
    "the standard deviation of the error on it, slowest the 10th percentile of the motion along the one asked for. "
    "The rules know the mask: they move the thing by the mean of its strokes or by the similarity transform that fits "
    "them, and nothing else. Intervals are over photographs."
)
DIFFERENCE_NOTE = "The value of each method minus the value of F without regions, on the same photographs:"
# The photographs are listed with these setups.
LISTED = tuple(setup for setup in SETUPS if setup.motion == "translation" and setup.holds)


def wholes_section(summary: WholesSummary) -> list[str]:
    """The lines of the section."""
    note = NOTE.format(number=len(summary.photographs), step=STEP, degrees=math.degrees(TURN))
    lines = ["## Things that move as a whole", "", note, ""]
    for size in summary.sizes:
        lines += [f"### At {size} × {size} pixels", "", *_table(summary.results, size), ""]
        if any(result.size == size for result in summary.differences):
            lines += [DIFFERENCE_NOTE, "", *_table(summary.differences, size), ""]
    return [*lines, "### Miss by photograph", "", *_photograph_table(summary), ""]


def _table(results: list[WholeResult], size: int) -> list[str]:
    """Setups and methods by the measures, at one working size."""
    chosen = [result for result in results if result.size == size]
    lines = [
        [result.setup.title, result.method, *(cell(result.estimates[name]) for name in TITLES)] for result in chosen
    ]
    return table(["motion and strokes", "", *TITLES.values()], lines)


def _photograph_table(summary: WholesSummary) -> list[str]:
    """Photographs by the miss of each model."""
    methods = dict.fromkeys(result.method for result in summary.differences if result.method not in RULES)
    reference = summary.differences[0].minus if summary.differences else summary.results[0].method
    columns = [(method, size, setup) for size in summary.sizes for setup in LISTED for method in (reference, *methods)]
    header = [f"{method}, {size} px, {setup.strokes}" for method, size, setup in columns]
    lines = []
    for photograph in summary.photographs:
        misses = {
            (row["row"], row["size"], Setup(row["motion"], row["strokes"], row["holds"])): row["miss"]
            for row in photograph["rows"]
        }
        lines.append([photograph["name"], *(f"{misses[column]:.2f}" for column in columns)])
    return table(["", *header], lines)
