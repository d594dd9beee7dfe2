# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Strokes with easing and strength, and groups of strokes that turn and scale what they are on."""

import cmath
import math
from collections.abc import Sequence
from dataclasses import replace

from ..strokes import Stroke
from .easing import EASINGS, check_easing


def eased(stroke: Stroke, easing: str, num_frames: int | None = None) -> Stroke:
    """
    The same path with another course of its speed.

    Args:
        stroke (`Stroke`): A move. Its own times, if it has some, are eased, too.
        easing (`str`): `"linear"`, `"ease-in"`, `"ease-out"` or `"ease-in-out"`.
        num_frames (`int`, *optional*): The length of the clip, needed for a move without an end.

    Returns:
        `Stroke`: with a point for each frame; it starts and ends when and where the stroke does. A hold is returned as
        it is.

    Raises:
        ValueError: If there is no such easing, or the move has no end and `num_frames` is None.
    """
    check_easing(easing, "easing")
    if stroke.kind == "hold":
        return stroke
    start, end = stroke.span(num_frames)
    frames = _frames(start, end)
    times = [start + (end - start) * EASINGS[easing]((frame - start) / (end - start)) for frame in frames]
    points = [_at(stroke, min(time, end), num_frames) for time in times]
    return replace(stroke, points=points, frames=frames, start_frame=0, end_frame=None)


def strengthened(stroke: Stroke, strength: float, num_frames: int | None = None) -> Stroke:
    """
    The same motion, weaker or stronger: each point at `strength` times its distance from the first one.

    Args:
        stroke (`Stroke`): A stroke.
        strength (`float`): 1 changes nothing, 0 is a hold, and negative numbers go the other way.
        num_frames (`int`, *optional*): The length of the clip, needed for a move without an end at a strength of 0.

    Raises:
        ValueError: If `strength` is not finite.
    """
    if not math.isfinite(strength):
        raise ValueError(f"strength is {strength}; it must be a finite number, 1 for the stroke as it is.")
    if stroke.kind == "hold":
        return stroke
    x, y = stroke.points[0]
    if strength == 0:
        start, end = stroke.span(num_frames)
        first, last = math.ceil(start), math.floor(end)
        return replace(stroke, points=[(x, y)], kind="hold", frames=None, start_frame=first, end_frame=last)
    points = [(x + strength * (a - x), y + strength * (b - y)) for a, b in stroke.points]
    return replace(stroke, points=points)


def group(
    points: Sequence[tuple[float, float]],
    path: Stroke,
    *,
    rotate: float = 0.0,
    scale: float = 1.0,
    easing: str = "linear",
    num_frames: int | None = None,
) -> list[Stroke]:
    """
    Strokes that move points together along a path, and turn and scale them about it.

    The points of a thing that are moved so, move it by the same similarity: the position along the path, the angle and
    the logarithm of the scale all change by the same easing.

    Args:
        points (`Sequence[tuple[float, float]]`): (x, y) of each handle at the first frame of the path.
        path (`Stroke`): A move, or a hold about which the points turn.
        rotate (`float`, defaults to 0.0): Degrees clockwise at the end.
        scale (`float`, defaults to 1.0): Size at the end, relative to the start; above 0.
        easing (`str`, defaults to `"linear"`): See [`eased`].
        num_frames (`int`, *optional*): The length of the clip, needed for a path without an end.

    Returns:
        `list[Stroke]`: one for each point, with the region of the path; a hold for one that does not move.

    Raises:
        ValueError: If `scale` is not above 0, there is no such easing, or the path has no end without `num_frames`.
    """
    check_easing(easing, "easing")
    if not (0 < scale < math.inf and math.isfinite(rotate)):
        raise ValueError(f"rotate is {rotate} and scale {scale}; give degrees, and a factor above 0.")
    start, end = path.span(num_frames)
    if math.isinf(end):
        raise ValueError("The path is a hold without an end; give it an end_frame, or the clip a num_frames.")
    frames = _frames(start, end)
    center = complex(*path.points[0])
    strokes = []
    for point in points:
        arm, moved = complex(*point) - center, []
        for frame in frames:
            share = EASINGS[easing]((frame - start) / (end - start))
            here = complex(*_at(path, min(start + (end - start) * share, end), num_frames))
            place = here + arm * scale**share * cmath.exp(1j * math.radians(rotate * share))
            moved.append((place.real, place.imag))
        if max(math.dist(one, moved[0]) for one in moved) < 1e-9:
            first, last = math.ceil(start), math.floor(end)
            strokes.append(Stroke(moved[:1], kind="hold", start_frame=first, end_frame=last, region=path.region))
        else:
            strokes.append(Stroke(moved, frames=frames, region=path.region))
    return strokes


def turning_handle(
    path: Stroke,
    *,
    rotate: float = 0.0,
    scale: float = 1.0,
    radius: float = 20.0,
    easing: str = "linear",
    num_frames: int | None = None,
) -> list[Stroke]:
    """
    A handle that also turns and scales what it is on: two strokes on both sides of a path; see [`group`].

    Args:
        radius (`float`, defaults to 20.0): Distance of both from the path in pixels. They have to be on the thing.
    """
    x, y = path.points[0]
    points = [(x - radius, y), (x + radius, y)]
    return group(points, path, rotate=rotate, scale=scale, easing=easing, num_frames=num_frames)


def _frames(start: float, end: float) -> list[float]:
    """The start, the whole frames after it, and the end."""
    between = range(math.floor(start) + 1, math.ceil(end))
    return [float(start), *map(float, between), float(end)]


def _at(stroke: Stroke, frame: float, num_frames: int | None) -> tuple[float, float]:
    point = stroke.at(frame, num_frames)
    assert point is not None
    return point
