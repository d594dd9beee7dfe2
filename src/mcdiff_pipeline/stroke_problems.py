# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Strokes that cannot work as they are: outside the image, at odds with each other, or faster than the model has seen.

Such strokes are allowed, so they are warnings and not errors.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from .layers import Layers
from .strokes import Stroke, resolve_region


# A move that comes this near to a hold, in cells of the grid of F, is under it. Two moves are at odds in one cell.
HOLD_RADIUS = 1.5
# Two strokes at one place are at odds if this difference, continued over all their common steps, is more than so many
# cells, and more than this share of the larger displacement.
MIN_DIFFERENCE, MIN_DIFFERENCE_SHARE = 0.5, 0.25
# Displacements above the largest that the model has seen by less than this factor give no warning.
SPEED_MARGIN = 1.1


class StrokeWarning(UserWarning):
    """A stroke cannot work as it is."""


@dataclass(frozen=True)
class StrokeProblem:
    """
    Why one or two strokes cannot work as they are.

    Args:
        kind (`"outside"`, `"conflict"`, `"held"` or `"fast"`):
            Outside the image; two moves of one place; a move at a held point; faster than the model has seen.
        strokes (`tuple[int, ...]`):
            Indices of the strokes, from 0.
        message (`str`):
            One sentence, with the way out. It counts strokes from 1, and its points are in pixels of the given image.
        image (`int`, defaults to 0):
            Index of the image in the batch.
    """

    kind: Literal["outside", "conflict", "held", "fast"]
    strokes: tuple[int, ...]
    message: str
    image: int = 0


def find_stroke_problems(
    strokes: Sequence[Sequence[Stroke]],
    image_sizes: Sequence[tuple[int, int]],
    size: tuple[int, int],
    grid: tuple[int, int],
    num_frames: int,
    *,
    cell: int,
    max_displacement: float | None = None,
    layers: Layers | None = None,
) -> list[StrokeProblem]:
    """
    The strokes that cannot work as they are. [`~mcdiff_pipeline.MCDiffPipeline.check_strokes`] calls this for a model.

    Args:
        strokes (`Sequence[Sequence[Stroke]]`):
            Strokes of each image, in pixels of the working size.
        image_sizes (`Sequence[tuple[int, int]]`):
            (height, width) in which each image was given, for the messages.
        size (`tuple[int, int]`):
            Working (height, width) in pixels.
        grid (`tuple[int, int]`):
            (height, width) in cells of the grid on which F works.
        num_frames (`int`):
            Length of the clip; it ends the strokes without an end of their own.
        cell (`int`):
            Pixels along one side of a cell for F.
        max_displacement (`float`, *optional*):
            The largest displacement of one step that F has seen, in pixels of its own size; None if it is not known.
        layers (`Layers`, *optional*):
            The regions at frame 0. Strokes of different regions are never at odds, and rigid ones have no speed limit.

    Returns:
        `list[StrokeProblem]`: at most one of each kind for a stroke, or for a pair of strokes.
    """
    problems = []
    for image, (of_image, image_size) in enumerate(zip(strokes, image_sizes, strict=True)):
        traits = () if layers is None else layers.traits[image]
        paths = []
        for index, stroke in enumerate(of_image):
            layer = _layer_of(stroke, layers, image, num_frames)
            is_rigid = layer is not None and layer > 0 and traits[layer - 1].rigid
            paths.append(_Path(index, stroke, layer, is_rigid, num_frames, image_size, size, grid))
        for path in paths:
            if not path.is_rigid:
                problems += _outside(path, image)
                problems += _too_fast(path, image, cell, max_displacement)
        for first, second in combinations(paths, 2):
            if first.layer is not None and first.layer == second.layer and not first.is_rigid:
                problems += _at_odds(first, second, image)
    return problems


def warn_of(problems: Sequence[StrokeProblem], stacklevel: int) -> None:
    """Gives each problem as a [`StrokeWarning`] at the line that is `stacklevel` calls above; equal ones show once."""
    for problem in problems:
        warnings.warn(problem.message, StrokeWarning, stacklevel=stacklevel + 1)


def stroke_name(index: int, stroke: Stroke) -> str:
    """What messages call a stroke: its number from 1, and where it begins, in pixels of the image that it is for."""
    x, y = stroke.points[0]
    return f"stroke {index + 1} ({'hold at' if stroke.kind == 'hold' else 'from'} {x:.0f},{y:.0f})"


class _Path:
    """Where a stroke is at the steps of a clip, in cells of the grid of F."""

    def __init__(
        self,
        index: int,
        stroke: Stroke,
        layer: int | None,
        is_rigid: bool,
        num_frames: int,
        image_size: tuple[int, int],
        size: tuple[int, int],
        grid: tuple[int, int],
    ):
        self.index, self.stroke, self.layer, self.is_rigid = index, stroke, layer, is_rigid
        self.num_frames, self.grid, self.image_size, self.unit = num_frames, grid, image_size, image_size[1] / grid[1]
        x_factor, y_factor = grid[1] / size[1], grid[0] / size[0]
        start, end = stroke.span(num_frames)
        steps = range(math.ceil(start), min(math.floor(end), num_frames - 1))
        self.places: dict[int, tuple[float, float]] = {}
        self.displacements: dict[int, tuple[float, float]] = {}
        for frame in steps:
            place, displacement = stroke.at(frame, num_frames), stroke.displacement(frame, num_frames)
            if place is not None and displacement is not None:
                self.places[frame] = place[0] * x_factor, place[1] * y_factor
                self.displacements[frame] = displacement[0] * x_factor, displacement[1] * y_factor
        self.name = stroke_name(index, stroke.scaled(image_size[1] / size[1], image_size[0] / size[0]))

    def is_inside(self, frame: int) -> bool:
        """Whether the stroke is in the image at a frame. A point on the border is, as where strokes are rasterized."""
        x, y = self.places[frame]
        return 0 <= x <= self.grid[1] and 0 <= y <= self.grid[0]


def _layer_of(stroke: Stroke, layers: Layers | None, image: int, num_frames: int) -> int | None:
    """The layer of a stroke; None if it is not known before the clip is made."""
    if layers is None:
        return 0
    named = resolve_region(stroke, layers.traits[image])
    start = stroke.span(num_frames)[0]
    if named is not None or start > 0:
        return named
    beginning = stroke.at(start, num_frames) or stroke.points[0]
    return layers.layer_at(image, start, beginning, beginning)


def _outside(path: _Path, image: int) -> list[StrokeProblem]:
    inside = sum(path.is_inside(frame) for frame in path.places)
    if 2 * inside >= len(path.places):
        return []
    if inside:
        what = f"is in the image in {inside} of {len(path.places)} steps only, and specifies nothing in the others"
    else:
        height, width = path.image_size
        what = f"is outside the image, which has {width} x {height} pixels, and specifies nothing"
    better = "put it on what is to stay" if path.stroke.kind == "hold" else "draw it on the thing that is to move"
    message = f"{path.name} {what}; {better}."
    return [StrokeProblem("outside", (path.index,), message, image)]


def _too_fast(path: _Path, image: int, cell: int, max_displacement: float | None) -> list[StrokeProblem]:
    lengths = [math.hypot(*path.displacements[frame]) for frame in path.places if path.is_inside(frame)]
    fastest = max(lengths, default=0.0)
    if max_displacement is None or fastest * cell <= SPEED_MARGIN * max_displacement:
        return []
    limit = max_displacement / cell
    needed = math.ceil((path.num_frames - 1) * fastest / limit) + 1
    message = (
        f"{path.name} moves {fastest * path.unit:.0f} px from one frame to the next, but the model has seen at most "
        f"{limit * path.unit:.0f} px at this size; give it {needed} frames instead of {path.num_frames}, a shorter "
        "way, or a rigid region."
    )
    return [StrokeProblem("fast", (path.index,), message, image)]


def _at_odds(first: _Path, second: _Path, image: int) -> list[StrokeProblem]:
    holds = [path.stroke.kind == "hold" for path in (first, second)]
    if all(holds):
        return []
    common = sorted(first.places.keys() & second.places.keys())
    for frame in common:
        (x0, y0), (x1, y1) = first.places[frame], second.places[frame]
        (u0, v0), (u1, v1) = first.displacements[frame], second.displacements[frame]
        difference = math.hypot(u1 - u0, v1 - v0)
        longest = max(math.hypot(u0, v0), math.hypot(u1, v1))
        if difference <= max(MIN_DIFFERENCE / len(common), MIN_DIFFERENCE_SHARE * longest):
            continue
        if not (first.is_inside(frame) and second.is_inside(frame)):
            continue
        if any(holds) and math.hypot(x1 - x0, y1 - y0) < HOLD_RADIUS:
            hold, move = (first, second) if holds[0] else (second, first)
            message = (
                f"{move.name} passes the held point of {hold.name} at frame {frame}, so both get less than they ask; "
                "move the hold away, end it before, or give the moving thing a region."
            )
            return [StrokeProblem("held", (first.index, second.index), message, image)]
        if not any(holds) and (int(x0), int(y0)) == (int(x1), int(y1)):
            message = (
                f"{first.name} and {second.name} move the same place in different ways at frame {frame}, so their "
                "mean is used; draw them apart, or leave one out."
            )
            return [StrokeProblem("conflict", (first.index, second.index), message, image)]
    return []
