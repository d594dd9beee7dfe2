# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Points in pixels and the polygons that they make: checks, and the share of each pixel that lies inside.

Pixel (0, 0) covers [0, 1) x [0, 1), x goes right, y goes down.
"""

import math
import reprlib
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np


MAX_POLYGON_POINTS = 10_000
# Farther than this from the origin, products of coordinates lose the precision that the checks need.
MAX_COORDINATE = 1e6

# How many pairs of sides, or crossings of a side and a row, are handled at once.
CHUNK = 1 << 20


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number that a float can hold, and not a bool."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def checked_points(points: Any, field: str) -> tuple[tuple[float, float], ...]:
    """
    Points as a tuple of pairs of floats.

    Args:
        points: Any sequence of pairs of numbers.
        field (`str`): What the message of an error calls them.

    Raises:
        ValueError: If it is no sequence, or an entry is not a pair of finite numbers.
    """
    try:
        points = list(points)
    except TypeError:
        raise ValueError(f"{field} is {reprlib.repr(points)}; it must be a list of [x, y] pairs.") from None
    for index, point in enumerate(points):
        try:
            x, y = point
        except (TypeError, ValueError):
            x = y = None
        if not (is_number(x) and is_number(y)):
            raise ValueError(
                f"{field}[{index}] is {reprlib.repr(point)}; it must be a pair [x, y] of finite numbers in pixels."
            )
    return tuple((float(x), float(y)) for x, y in points)


def checked_polygon(polygon: Any, field: str = "polygon") -> tuple[tuple[float, float], ...]:
    """
    The corners of a polygon as a tuple of pairs of floats. The last one is joined to the first.

    A polygon may touch itself, as outlines of thin parts do, but its sides may not cross.

    Args:
        polygon: Any sequence of pairs of numbers.
        field (`str`, defaults to `"polygon"`): What the message of an error calls it.

    Raises:
        ValueError: If there are fewer than three points or too many, one is not a pair of finite numbers or is out of
            reach, sides cross, or there is no area inside.
    """
    points = checked_points(polygon, field)
    if len(points) > MAX_POLYGON_POINTS:
        raise ValueError(
            f"{field} holds {len(points)} points; {MAX_POLYGON_POINTS} are allowed: leave out points that lie nearly "
            "on the line between their neighbors, or give a mask."
        )
    if len(points) < 3:
        raise ValueError(
            f"{field} holds {len(points)} point{'s' * (len(points) != 1)}; a polygon needs at least three to have an "
            "inside."
        )
    for index, (x, y) in enumerate(points):
        if max(abs(x), abs(y)) > MAX_COORDINATE:
            raise ValueError(
                f"{field}[{index}] is [{x:g}, {y:g}]; coordinates go from {-MAX_COORDINATE:,.0f} to "
                f"{MAX_COORDINATE:,.0f} pixels: give the polygon in pixels of the picture."
            )
    corners = np.array(points)
    crossing = first_crossing(corners)
    if crossing is not None:
        raise ValueError(
            f"{field} crosses itself: the side from point {crossing[0]} crosses the side from point {crossing[1]}; "
            "give the points in the order in which the outline passes them."
        )
    x, y = (corners - corners[0]).T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2  # the shoelace formula
    if area <= 1e-9 * np.square(np.ptp(corners, axis=0)).sum():
        raise ValueError(f"{field} has no area: its points lie on one line; give at least three that do not.")
    return points


def first_crossing(corners: np.ndarray) -> tuple[int, int] | None:
    """
    Two sides of a polygon that cross, as the indices of the points at which they start.

    Args:
        corners (`np.ndarray` of shape `(num_points, 2)`): The points in order.

    Returns:
        `tuple[int, int]` or `None`: The smaller index first; None if no two sides cross. Sides that only touch, or lie
        on each other, do not cross.
    """
    indices = np.flatnonzero((corners != np.roll(corners, 1, axis=0)).any(axis=1))
    # A point in the middle of a straight line could hide that another side crosses the line there.
    before, after = (corners[indices] - np.roll(corners[indices], 1, axis=0), np.roll(corners[indices], -1, axis=0))
    after = after - corners[indices]
    straight = (_cross(before, after) == 0) & ((before * after).sum(axis=1) > 0)
    indices = indices[~straight]
    if len(indices) < 4:
        return None
    starts = corners[indices] - corners.mean(axis=0)
    ends = np.roll(starts, -1, axis=0)
    tolerance = 1e-12 * np.square(np.ptp(starts, axis=0)).sum()

    def sides(points: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        product = _cross(second - first, points - first)
        return np.sign(product) * (np.abs(product) > tolerance)

    for one, other in _pairs_of_near_sides(starts, ends):
        a, b, c, d = starts[one], ends[one], starts[other], ends[other]
        cross = (sides(c, a, b) * sides(d, a, b) < 0) & (sides(a, c, d) * sides(b, c, d) < 0)
        if cross.any():
            found = int(np.flatnonzero(cross)[0])
            first, second = sorted((int(indices[one[found]]), int(indices[other[found]])))
            return first, second
    return None


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _pairs_of_near_sides(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of sides whose bounding boxes overlap, in chunks of bounded size."""
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    orders = np.argsort(low, axis=0)
    # along the axis that separates more of them, the sides that follow and start before this one ends
    counts = [np.searchsorted(low[order, k], high[order, k], side="right") for k, order in enumerate(orders.T)]
    counts = [count - np.arange(1, len(low) + 1) for count in counts]
    axis = int(counts[1].sum() < counts[0].sum())
    order, count = orders[:, axis], counts[axis]
    total = np.concatenate([[0], np.cumsum(count)])
    first = 0
    while first < len(order):
        last = max(int(np.searchsorted(total, total[first] + CHUNK, side="right")) - 1, first + 1)
        place = np.repeat(np.arange(first, last), count[first:last])
        step = np.arange(len(place)) - np.repeat(total[first:last] - total[first], count[first:last])
        one, other = order[place], order[place + 1 + step]
        near = (low[one, 1 - axis] <= high[other, 1 - axis]) & (low[other, 1 - axis] <= high[one, 1 - axis])
        if near.any():
            yield one[near], other[near]
        first = last


def polygon_coverage(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """
    The share of each pixel that lies inside a polygon.

    Each row of pixels is divided into four bands (two if a side of the picture is longer than 2,048 pixels). In each
    band a side of the polygon adds a step at the middle of its part there, as high as that part, and the steps are
    summed along the row. So outlines along the axes are exact, and others are off by at most half a band.

    Args:
        corners (`np.ndarray` of shape `(num_points, 2)`): The points in order, in pixels of a picture of this size.
        height (`int`): Height of the picture in pixels.
        width (`int`): Its width.

    Returns:
        `np.ndarray` of shape `(height, width)`: float32 in [0, 1]. Only what is around the polygon is worked on, in
        strips of bounded size.
    """
    coverage = np.zeros((height, width), dtype=np.float32)
    limit = np.array([width, height])
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(int)
    if left >= right or top >= bottom:
        return coverage
    bands = 4 if max(height, width) <= 2048 else 2
    rows = max(1, min(CHUNK // (right - left + 2), CHUNK // (bands * len(corners))))
    for row in range(top, bottom, rows):
        end = min(row + rows, bottom)
        coverage[row:end, left:right] = _strip_coverage(corners - (left, row), end - row, right - left, bands)
    return coverage


def _strip_coverage(corners: np.ndarray, height: int, width: int, bands: int) -> np.ndarray:
    start, end = corners * (1, bands), np.roll(corners, -1, axis=0) * (1, bands)
    rise = end[:, 1] - start[:, 1]
    top = np.minimum(start[:, 1], end[:, 1]).clip(0, height * bands)
    bottom = np.maximum(start[:, 1], end[:, 1]).clip(0, height * bands)
    crossed = np.flatnonzero(bottom > top)
    start, end, rise, top, bottom = start[crossed], end[crossed], rise[crossed], top[crossed], bottom[crossed]

    first = np.floor(top).astype(int)
    count = np.ceil(bottom).astype(int) - first
    side = np.repeat(np.arange(len(count)), count)
    band = first[side] + np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count)
    low, high = np.maximum(top[side], band), np.minimum(bottom[side], band + 1)
    step = np.sign(rise[side]) * (high - low) / bands
    slope = (end[:, 0] - start[:, 0]) / rise
    x = (start[side, 0] + ((low + high) / 2 - start[side, 1]) * slope[side]).clip(0, width)

    column = np.floor(x).astype(int)
    place = band // bands * (width + 2) + column
    # the pixel in which the step lies is covered from the step on, all pixels to the right of it entirely
    steps = np.bincount(place, step * (column + 1 - x), minlength=height * (width + 2))
    steps += np.bincount(place + 1, step * (x - column), minlength=height * (width + 2))
    inside = np.abs(np.cumsum(steps.reshape(height, width + 2), axis=1)[:, :width])
    # sums that rounding keeps from 0 or 1
    return np.where(inside < 1e-9, 0, np.where(inside > 1 - 1e-9, 1, inside))
