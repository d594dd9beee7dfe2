# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A thing that a pen pulls while frames are made, and the strokes that its pulls are.

An endless render has no strokes for what is yet to come: before each frame, the thing under the pen goes on toward it.
Each pull is recorded as a move with a point for every frame, so that the render is the video of its strokes, like any
other, and can be made again.
"""

import math
import threading
from collections.abc import Sequence
from typing import Any

from .refusals import Refused
from .settings import STROKES


# How far a thing goes in a frame at most, as a share of the shorter side of the picture. F was trained with little
# more; the thing lags behind a pen that is faster.
LARGEST_STEP = 0.04
# Nearer than this, in pixels of the picture, the thing is where the pen is.
ARRIVED = 0.01


class Pull:
    """
    The strokes of an endless render. The pen may move in any thread; frames are made in one.

    Args:
        picture (`tuple[int, int]`): (width, height) of the picture in pixels.
        last (`int`): The last frame that is kept. What is pulled after it is not recorded.
    """

    def __init__(self, picture: tuple[int, int], last: int):
        self.picture, self.last = picture, last
        self._lock = threading.Lock()
        self._drawn: list[dict[str, Any]] = []
        self._recorded: list[_Recorded] = []
        self._going: _Recorded | None = None
        self._start: tuple[float, float] | None = None
        self._to = (0.0, 0.0)
        self._is_down = False

    def begin(self, drawn: Sequence[dict[str, Any]], num_frames: int) -> None:
        """
        Begins with other strokes and nothing recorded; a pull that is under way goes on.

        Args:
            drawn (`Sequence[dict]`): As in a stroke sheet, in pixels of the picture.
            num_frames (`int`): The length of the video that they were drawn for, which ends moves without an end.
        """
        with self._lock:
            self._drawn = [_with_end(stroke, num_frames) for stroke in drawn]
            self._recorded = []
            if self._going is not None:
                self._start, self._going = self._going.points[-1], None

    def pull(self, start: Sequence[float] | None, to: Sequence[float], *, is_down: bool) -> None:
        """
        The pen has moved.

        Args:
            start (`Sequence[float]`, *optional*): (x, y) in pixels of the picture where the pen took hold of a thing;
                None goes on with the same one.
            to (`Sequence[float]`): Where the pen is.
            is_down (`bool`): False if it was lifted: the thing goes as far as it was pulled, and no further.

        Raises:
            Refused: If too many strokes are recorded.
        """
        with self._lock:
            if start is not None:
                if len(self._drawn) + len(self._recorded) >= STROKES:
                    raise Refused(f"The version has {STROKES} strokes, as many as possible: end it.", code="limit")
                self._start, self._going = self._within_reach(start), None
            self._to, self._is_down = self._within_reach(to), is_down

    @property
    def is_wanted(self) -> bool:
        """Whether there is a frame to make: a pen is down, or a thing is not yet where it was pulled."""
        with self._lock:
            if self._start is None and self._going is None:
                return False
            return self._is_down or not self._has_arrived()

    def strokes(self, frame: int) -> list[dict[str, Any]]:
        """
        All strokes, with the step from `frame` to the next one.

        Args:
            frame (`int`): The current frame, each one once, in order.
        """
        with self._lock:
            if self._start is not None:
                self._going, self._start = _Recorded(frame, [self._start]), None
                self._recorded.append(self._going)
            if self._going is not None:
                if self._going.last < frame:  # the pen rested, and time went on
                    self._going.points.extend([self._going.points[-1]] * (frame - self._going.last))
                self._going.points.append(self._stepped(self._going.points[-1]))
                if not self._is_down and self._has_arrived():
                    self._going = None
            if frame >= self.last:
                self._recorded = [one for one in self._recorded if one is self._going or one.first < self.last]
            return self._all()

    def strokes_until(self, last: int) -> list[dict[str, Any]]:
        """All strokes, without what was recorded of steps after the frame `last`."""
        with self._lock:
            for one in self._recorded:
                del one.points[max(last + 1 - one.first, 1) :]
            return self._all()

    def _all(self) -> list[dict[str, Any]]:
        return [*self._drawn, *(one.stroke() for one in self._recorded if len(one.points) > 1)]

    def _has_arrived(self) -> bool:
        place = self._start if self._going is None else self._going.points[-1]
        return place is None or math.dist(place, self._to) < ARRIVED

    def _stepped(self, place: tuple[float, float]) -> tuple[float, float]:
        """Where the thing is a frame later."""
        left, largest = math.dist(place, self._to), LARGEST_STEP * min(self.picture)
        share = 1.0 if left <= largest else largest / left
        x, y = (one + share * (other - one) for one, other in zip(place, self._to, strict=True))
        return round(x, 3), round(y, 3)

    def _within_reach(self, point: Sequence[float]) -> tuple[float, float]:
        """A stroke may go one size of the picture beyond it."""
        x, y = (min(max(value, -side), 2 * side) for value, side in zip(point, self.picture, strict=True))
        return round(x, 3), round(y, 3)


class _Recorded:
    """A pull: where its thing is in the frame `first` and in those after it."""

    def __init__(self, first: int, points: list[tuple[float, float]]):
        self.first, self.points = first, points

    @property
    def last(self) -> int:
        return self.first + len(self.points) - 1

    def stroke(self) -> dict[str, Any]:
        if len(set(self.points)) == 1:
            place = list(self.points[0])
            return {"kind": "hold", "points": [place], "start_frame": self.first, "end_frame": self.last}
        frames = list(range(self.first, self.last + 1))
        return {"kind": "move", "points": [list(point) for point in self.points], "frames": frames}


def _with_end(stroke: dict[str, Any], num_frames: int) -> dict[str, Any]:
    """A stroke whose speed does not depend on the length of the video."""
    stays = stroke.get("kind", "move") == "hold" and not {"rotate", "scale"} & stroke.keys()
    if stays or stroke.get("frames") is not None or stroke.get("end_frame") is not None:
        return stroke
    return {**stroke, "end_frame": max(num_frames - 1, stroke.get("start_frame", 0) + 1)}
