# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Strokes that cannot do what they say, so that nobody has to find out from the frames."""

from collections.abc import Sequence

from .strokes import Stroke


# A longer clip is looked at up to this step, so that this takes milliseconds.
MAX_STEPS = 256


def stroke_warnings(
    strokes: Sequence[Stroke], num_frames: int, size: tuple[int, int], cell: int, shown_size: tuple[int, int]
) -> list[str]:
    """
    Find strokes that move nothing, and strokes that move less than they say because others are at the same place.

    Args:
        strokes (`Sequence[Stroke]`):
            Strokes of one image, in pixels of the working size.
        num_frames (`int`):
            Length of the clip.
        size (`tuple[int, int]`):
            Working (height, width) in pixels.
        cell (`int`):
            Pixels along one side of a cell of the latent grid.
        shown_size (`tuple[int, int]`):
            (height, width) of the image in whose pixels the messages are.

    Returns:
        `list[str]`: one sentence for each, which names the strokes by their index, says why, and what to do.
    """
    zoom_x, zoom_y = shown_size[1] / size[1], shown_size[0] / size[0]
    steps = range(min(num_frames - 1, MAX_STEPS))
    found = []
    in_cell: dict[tuple[int, int, int], int] = {}  # (step, row, column) -> the first stroke there
    conflicts: dict[tuple[int, int], int] = {}  # (stroke, other stroke) -> first step
    for index, stroke in enumerate(strokes):
        is_active = is_inside = False
        for step in steps:
            position, displacement = stroke.at(step, num_frames), stroke.displacement(step, num_frames)
            if position is None or displacement is None:
                continue
            is_active = True
            x, y = position
            if not (0 <= x <= size[1] and 0 <= y <= size[0]):
                continue
            is_inside = True
            row, column = min(int(y), size[0] - 1) // cell, min(int(x), size[1] - 1) // cell
            first = in_cell.setdefault((step, row, column), index)
            if first != index and _differ(strokes[first].displacement(step, num_frames), displacement):
                conflicts.setdefault((first, index), step)
        ends_later = num_frames - 1 > MAX_STEPS and stroke.span(num_frames)[1] > MAX_STEPS
        if is_active and not is_inside and not ends_later:
            x, y = stroke.points[0]
            found.append(
                f"strokes[{index}], which begins at ({x * zoom_x:g}, {y * zoom_y:g}), is outside the image of "
                f"{shown_size[1]} x {shown_size[0]} pixels all the time, so it moves nothing: begin it inside."
            )
    for (first, second), step in conflicts.items():
        found.append(
            f"strokes[{first}] and strokes[{second}] say different things about the same place in the step from frame "
            f"{step}, so the mean of both counts: leave one out, or put them at least {cell * zoom_x:.0f} pixels "
            "apart."
        )
    return found


def _differ(one: tuple[float, float] | None, other: tuple[float, float]) -> bool:
    """Whether two displacements differ by more than a quarter of a pixel, below which a stroke is a hold for F."""
    return one is None or max(abs(one[0] - other[0]), abs(one[1] - other[1])) > 0.25
