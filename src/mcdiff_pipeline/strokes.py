# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Strokes: what the user wants to move, and their rasterization to sparse flow.

A *stroke* is a polyline with time, in pixels of the image it was drawn on: origin at the top left corner of the
image, x right, y down, pixel (0, 0) covers [0, 1) x [0, 1). Between the frames i and i + 1 it contributes one
displacement, `p(i + 1) - p(i)`, written at the latent cell that holds `p(i)`. A *stroke sheet* is a list of strokes
with the size of that image, the number of frames and the frame rate, and the regions of the image if there are any. A
file holds one sheet; `docs/stroke-format.md` describes every field of it.
"""

import json
import math
import os
import reprlib
from bisect import bisect_right
from collections.abc import Sequence, Sized
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch

from .regions import (
    MAX_MASK_PIXELS,
    MAX_REGIONS,
    Region,
    check_fit,
    check_regions,
    checked_points,
    is_number,
    is_whole,
    region_at,
)
from .stroke_controls import CONTROLS, EASINGS, checked_controls, scaled_controls, turned


# A sheet is written in the lowest version that has its fields: version 1 is what the first releases read.
SHEET_VERSIONS = (1, 2, 3, 4)
STROKE_KINDS = ("move", "hold")
# Fields of each version.
STROKE_FIELDS: dict[int, tuple[str, ...]] = {
    1: ("kind", "points", "start_frame", "end_frame", "frames"),
    2: ("kind", "points", "start_frame", "end_frame", "frames", "region"),
    3: ("kind", "points", "start_frame", "end_frame", "frames", "region", *CONTROLS),
    4: ("kind", "points", "start_frame", "end_frame", "frames", "region", *CONTROLS),
}
SHEET_FIELDS: dict[int, tuple[str, ...]] = {
    1: ("version", "width", "height", "num_frames", "fps", "strokes"),
    2: ("version", "width", "height", "num_frames", "fps", "regions", "strokes"),
    3: ("version", "width", "height", "num_frames", "fps", "regions", "strokes"),
    4: ("version", "width", "height", "num_frames", "fps", "regions", "strokes", "camera"),
}


# Far above what a hand draws, or a tracker follows, and still fast.
MAX_STROKES, MAX_POINTS = 1000, 100_000
# Frames of a clip that strokes are drawn for; a stream without `num_frames` has no end.
MAX_FRAMES = 100_000


def check_number(number: int, maximum: int, field: str, what: str) -> None:
    """Raises `ValueError` if there are more strokes or points than are read."""
    if number > maximum:
        raise ValueError(f"{field} holds {number}, but at most {maximum} {what} are read: leave some out.")


@dataclass(frozen=True)
class Stroke:
    """A handle on the image and its path: a polyline with time, or one point that stays.

    Without `frames` the handle runs along the polyline at constant speed (by arc length) from `start_frame` to
    `end_frame`. With `frames` it is at `points[k]` at frame `frames[k]` and moves linearly in between. Outside its
    time a stroke specifies nothing, and the model is free there. A hold is different: it specifies *zero
    displacement*.

    Args:
        points (`Sequence[tuple[float, float]]`):
            The polyline, (x, y) in pixels of the image: two points or more for a move, one for a hold. Stored as a
            tuple of pairs of floats.
        start_frame (`int`, defaults to 0):
            The frame at which the handle is at the first point. Leave it at 0 if `frames` is given.
        end_frame (`int`, *optional*):
            The frame at which the handle is at the last point; None is the last frame of the clip. Leave it at None if
            `frames` is given.
        frames (`Sequence[float]`, *optional*):
            The time of each point of a move, in frames, one number per point, increasing.
        kind (`"move"` or `"hold"`, defaults to `"move"`):
            A hold has one point and specifies zero displacement from `start_frame` to `end_frame`.
        region (`str` or `int`, *optional*):
            The name or the number of the region that the stroke belongs to for its whole life. Numbers count from 1;
            0 is what belongs to no region. None: the region at the point where the stroke starts.
        easing (`str`, defaults to `"linear"`):
            How the speed of the handle changes over the whole time: `"linear"`, `"ease-in"`, `"ease-out"` or
            `"ease-in-out"`. `frames` are eased, too.
        strength (`float`, defaults to 1.0):
            Factor on the whole motion, from -10 to 10: each position at `strength` times its distance from the first
            one. 0 is a hold, and negative numbers go the other way.
        rotate (`float`, defaults to 0.0):
            How far the handles turn about the path until its end, in degrees clockwise, from -3600 to 3600.
        scale (`float`, defaults to 1.0):
            By which factor they move away from the path until its end, from 0.05 to 20.
        radius (`float`, *optional*):
            With `rotate` or `scale`, distance of two handles from the path in pixels, to the left and to the right.
        handles (`Sequence[tuple[float, float]]`, defaults to `()`):
            Points that move with the path, each as a stroke of its own; (x, y) in pixels at the start of the stroke.
            They are there instead of the first point of the path, which need not be on the thing.

    Raises:
        ValueError: If a field is not as described. The message starts with the name of the field.
    """

    points: Sequence[tuple[float, float]]
    _: KW_ONLY
    start_frame: int = 0
    end_frame: int | None = None
    frames: Sequence[float] | None = None
    kind: Literal["move", "hold"] = "move"
    region: str | int | None = None
    easing: str = "linear"
    strength: float = 1.0
    rotate: float = 0.0
    scale: float = 1.0
    radius: float | None = None
    handles: Sequence[tuple[float, float]] = ()

    def __post_init__(self):
        if not (isinstance(self.kind, str) and self.kind in STROKE_KINDS):
            kinds = ", ".join(map(repr, STROKE_KINDS))
            raise ValueError(f"kind is {reprlib.repr(self.kind)}; it must be one of {kinds}.")
        object.__setattr__(self, "points", self._checked_points())
        start_frame, end_frame = self._checked_ends()
        object.__setattr__(self, "start_frame", start_frame)
        object.__setattr__(self, "end_frame", end_frame)
        if self.frames is not None:
            object.__setattr__(self, "frames", self._checked_frames(self.frames))
        if self.region is not None:
            object.__setattr__(self, "region", self._checked_region(self.region))
        for name, value in checked_controls(self.kind, self._controls()).items():
            object.__setattr__(self, name, value)

    @property
    def has_controls(self) -> bool:
        """Whether the stroke says more than its path and its time; see [`Stroke.plain`]."""
        return any(getattr(self, name) != value for name, value in CONTROLS.items())

    def _controls(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in CONTROLS}

    def _checked_points(self) -> tuple[tuple[float, float], ...]:
        if isinstance(self.points, Sized):
            check_number(len(self.points), MAX_POINTS, "points", "points in a stroke")
        checked = checked_points(self.points, "points")
        if self.kind == "hold" and len(checked) != 1:
            raise ValueError(
                f"points holds {len(checked)} points; a hold has exactly one: give the others holds of their own, or "
                "make the stroke a move."
            )
        if self.kind == "move" and len(checked) < 2:
            raise ValueError(
                f"points holds {len(checked)} point{'s' * (len(checked) != 1)}; a move needs at least two: add where "
                "it goes, or make the stroke a hold."
            )
        if self.kind == "move" and len(set(checked)) == 1:
            raise ValueError(
                f"points are all {list(checked[0])}, a move of length zero; make the stroke a hold to keep that point "
                "still."
            )
        return checked

    def _checked_ends(self) -> tuple[int, int | None]:
        start_frame, end_frame = self.start_frame, self.end_frame
        if not is_whole(start_frame, 0):
            raise ValueError(f"start_frame is {reprlib.repr(start_frame)}; it must be a whole number from 0.")
        if end_frame is None:
            return int(start_frame), None
        if not is_whole(end_frame, 0):
            raise ValueError(
                f"end_frame is {reprlib.repr(end_frame)}; it must be a whole number, or left out for the last frame."
            )
        if end_frame <= start_frame:
            raise ValueError(
                f"end_frame is {int(end_frame)}, not after start_frame, which is {int(start_frame)}; a stroke lasts "
                "at least from one frame to the next."
            )
        return int(start_frame), int(end_frame)

    def _checked_frames(self, frames: Sequence[float]) -> tuple[float, ...]:
        if self.kind == "hold":
            raise ValueError("frames is given for a hold, which does not move; use start_frame and end_frame.")
        if self.start_frame != 0 or self.end_frame is not None:
            raise ValueError(
                "frames is given together with start_frame or end_frame; give the time of every point, or the time of "
                "both ends."
            )
        try:
            frames = list(frames)
        except TypeError:
            raise ValueError(f"frames is {reprlib.repr(frames)}; it must be a list of numbers.") from None
        for index, frame in enumerate(frames):
            if not (is_number(frame) and frame >= 0):
                raise ValueError(f"frames[{index}] is {reprlib.repr(frame)}; it must be a number from 0.")
        if len(frames) != len(self.points):
            raise ValueError(f"frames holds {len(frames)} numbers for {len(self.points)} points; give one per point.")
        for index, (before, after) in enumerate(pairwise(frames), start=1):
            if after <= before:
                raise ValueError(
                    f"frames[{index}] is {after}, not above frames[{index - 1}], which is {before}; frames must "
                    "increase from point to point."
                )
        if frames[-1] - frames[0] < 1:
            raise ValueError(
                f"frames run from {frames[0]} to {frames[-1]}; a stroke lasts at least from one frame to the next."
            )
        return tuple(float(frame) for frame in frames)

    @staticmethod
    def _checked_region(region: str | int) -> str | int:
        if isinstance(region, str) and region.strip():
            return region
        if not is_whole(region, 0):
            raise ValueError(
                f"region is {reprlib.repr(region)}; it must be the name of a region or its number, from 1, or 0 for "
                "what belongs to no region."
            )
        return int(region)

    def span(self, num_frames: int | None = None) -> tuple[float, float]:
        """
        The first and the last frame of the stroke.

        Args:
            num_frames (`int`, *optional*):
                The length of the clip. A stroke without an end stops at frame `num_frames - 1`.

        Returns:
            `tuple[float, float]`: (start, end). The end is infinite for a hold without an end if `num_frames` is None.

        Raises:
            ValueError: If a move has no end and `num_frames` is None, since its speed is not known then.
        """
        if self.frames is not None:
            return self.frames[0], self.frames[-1]
        if self.end_frame is not None:
            return self.start_frame, self.end_frame
        if num_frames is not None:
            return self.start_frame, num_frames - 1
        if self.kind == "hold":
            return self.start_frame, math.inf
        raise ValueError(
            "end_frame is None and num_frames is None, so the speed of the stroke is not known; give the stroke an "
            "end_frame or the clip a num_frames."
        )

    def plain(self, num_frames: int | None = None) -> list[Self]:
        """
        The strokes of all handles, with a point for each frame and without easing, strength, turns and handles.

        Args:
            num_frames (`int`, *optional*): The length of the clip, needed for a stroke without an end.

        Returns:
            `list[Stroke]`: This stroke, if it has none of these. A hold for a handle that does not move.

        Raises:
            ValueError: If the stroke has no end and `num_frames` is None.
        """
        if not self.has_controls:
            return [self]
        start, end = self.span(num_frames)
        if math.isinf(end):
            raise ValueError("end_frame is None and num_frames is None, so it is not known when the handles arrive.")
        path = replace(self, **CONTROLS)
        first, last = math.ceil(start), math.floor(end)
        if last - first < 1:  # it specifies nothing
            return [path]
        frames = sorted({float(start), *map(float, range(first, last + 1)), float(end)})
        strokes = []
        for handle in self._all_handles():
            points = [self._handle_at(handle, frame, start, end, num_frames) for frame in frames]
            if max(math.dist(one, points[0]) for one in points) < 1e-9:
                hold = type(self)(points[:1], kind="hold", start_frame=first, end_frame=last, region=self.region)
                strokes.append(hold)
            else:
                strokes.append(type(self)(points, frames=frames, region=self.region))
        return strokes

    def _all_handles(self) -> Sequence[tuple[float, float]]:
        """Where the handles are at the start of the stroke."""
        x, y = self.points[0]
        if self.radius is not None:
            return (x - self.radius, y), (x + self.radius, y)
        return self.handles or ((x, y),)

    def _handle_at(
        self, handle: tuple[float, float], frame: float, start: float, end: float, num_frames: int | None
    ) -> tuple[float, float]:
        here = self.at(frame, num_frames)
        assert here is not None
        share = self.strength * EASINGS[self.easing]((frame - start) / (end - start))
        return turned(handle, self.points[0], here, self.rotate * share, self.scale**share)

    def at(self, frame: float, num_frames: int | None = None) -> tuple[float, float] | None:
        """
        The position of the handle at a frame; with `radius` or `handles`, that of the path.

        Args:
            frame (`float`): The time in frames; fractions are allowed.
            num_frames (`int`, *optional*): The length of the clip, needed for a move without an end.

        Returns:
            `tuple[float, float]` or `None`: (x, y) in pixels of the image, None outside the time of the stroke.

        Raises:
            ValueError: If a move has no end and `num_frames` is None.
        """
        start, end = self.span(num_frames)
        if not start <= frame <= end or start >= end:
            return None
        if self.kind == "hold":
            return self.points[0]
        if self.easing != "linear":
            frame = min(start + (end - start) * EASINGS[self.easing]((frame - start) / (end - start)), end)
        x, y = self._path_at(frame, start, end)
        if self.strength == 1:
            return x, y
        (x0, y0), strength = self.points[0], self.strength
        return x0 + strength * (x - x0), y0 + strength * (y - y0)

    def _path_at(self, frame: float, start: float, end: float) -> tuple[float, float]:
        """The position on the path of a move at a frame between its ends."""
        # how far along the path each point lies, and how far the handle is, both in frames or both in pixels
        if self.frames is not None:
            knots, way = self.frames, frame
        else:
            knots = (0.0, *accumulate(math.dist(a, b) for a, b in pairwise(self.points)))
            way = knots[-1] * ((frame - start) / (end - start))
        if way >= knots[-1]:
            return self.points[-1]
        segment = bisect_right(knots, way) - 1
        (x0, y0), (x1, y1) = self.points[segment : segment + 2]
        share = (way - knots[segment]) / (knots[segment + 1] - knots[segment])
        return x0 + share * (x1 - x0), y0 + share * (y1 - y0)

    def displacement(self, frame: float, num_frames: int | None = None) -> tuple[float, float] | None:
        """
        The displacement that the stroke specifies for the step from `frame` to `frame + 1`.

        Args:
            frame (`float`): The frame the step starts from.
            num_frames (`int`, *optional*): The length of the clip, needed for a move without an end.

        Returns:
            `tuple[float, float]` or `None`: `at(frame + 1) - at(frame)` in pixels, (right, down); None if the step is
            not completely inside the time of the stroke.

        Raises:
            ValueError: If a move has no end and `num_frames` is None.
        """
        here, there = self.at(frame, num_frames), self.at(frame + 1, num_frames)
        if here is None or there is None:
            return None
        return there[0] - here[0], there[1] - here[1]

    def cut(self, first: int, last: int, num_frames: int | None = None) -> Self | None:
        """
        The part of the stroke between two frames, with times of its own.

        At every whole frame from `first` to `last` the part is exactly where the stroke is, so that a video made with
        the parts of a stroke, one after the other, is equal to the video made with the stroke. A part keeps the
        region that the stroke names. If it names none, the part belongs to the region in which the part starts.

        Args:
            first (`int`): The first frame of the part.
            last (`int`): The last frame of the part.
            num_frames (`int`, *optional*): The length of the clip, needed for a move without an end.

        Returns:
            `Stroke` or `None`: The part; None if the stroke and the two frames share less than one step. A part in
            which the handle does not move is a hold.

        Raises:
            ValueError: If `last` is not above `first`, a move has no end and `num_frames` is None, or the stroke has
                easing, strength, turns or handles.
        """
        if self.has_controls:
            raise ValueError("The stroke has easing, strength, turns or handles; cut the strokes of `plain` instead.")
        if last <= first:
            raise ValueError(f"The frames are {first} and {last}; the second must be above the first.")
        start, end = self.span(num_frames)
        start, end = max(start, first), min(end, last)
        if math.floor(end) - math.ceil(start) < 1:
            return None
        if self.kind == "hold":
            return replace(self, start_frame=math.ceil(start), end_frame=math.floor(end))
        corners = zip(self._corner_frames(num_frames), self.points, strict=True)
        positions = {frame: point for frame, point in corners if start < frame < end}
        for frame in (start, *range(math.ceil(start), math.floor(end) + 1), end):
            position = self.at(frame, num_frames)
            if position is not None:
                positions[frame] = position
        frames = sorted(positions)
        points = [positions[frame] for frame in frames]
        if len(set(points)) == 1:
            start_frame, end_frame = math.ceil(start), math.floor(end)
            return type(self)(
                points[:1], kind="hold", start_frame=start_frame, end_frame=end_frame, region=self.region
            )
        return type(self)(points, frames=frames, region=self.region)

    def _corner_frames(self, num_frames: int | None) -> list[float]:
        """The times at which the handle of a move passes its points."""
        if self.frames is not None:
            return list(self.frames)
        start, end = self.span(num_frames)
        lengths = [0.0, *accumulate(math.dist(a, b) for a, b in pairwise(self.points))]
        return [start + (end - start) * length / lengths[-1] for length in lengths]

    def timed(self, num_frames: int, first: int = 0) -> Self | None:
        """
        The same stroke with times of its own, in a clip that begins earlier.

        Args:
            num_frames (`int`): The length of the clip of this stroke, which ends it if it has no end.
            first (`int`, defaults to 0): The frame of the longer clip at which the clip of this stroke begins.

        Returns:
            `Stroke` or `None`: It is at each frame exactly where this one is, `first` frames later. None if this one
            begins at the last frame of its clip, or later.
        """
        if self.frames is not None:
            return replace(self, frames=tuple(frame + first for frame in self.frames))
        start, end = self.start_frame, num_frames - 1 if self.end_frame is None else self.end_frame
        return replace(self, start_frame=start + first, end_frame=end + first) if start < end else None

    def scaled(self, x_factor: float, y_factor: float) -> Self:
        """
        The same stroke on an image `x_factor` times as wide and `y_factor` times as high.

        Constant speed is measured on the new image, so with unequal factors a bent stroke passes its corners at other
        times than before. Give `frames` if that matters.

        Raises:
            ValueError: If a factor is not above 0.
        """
        if not (is_number(x_factor) and is_number(y_factor) and x_factor > 0 and y_factor > 0):
            raise ValueError(f"The factors are {x_factor!r} and {y_factor!r}; both must be numbers above 0.")
        points = tuple((x * x_factor, y * y_factor) for x, y in self.points)
        if not self.has_controls:
            return replace(self, points=points)
        return replace(self, points=points, **scaled_controls(self.handles, self.radius, x_factor, y_factor))


@dataclass(frozen=True)
class StrokeSheet:
    """Strokes, with the size of the image that they were drawn on and the length of their clip.

    Two sheets are equal if all their fields are. Regions are compared by what they hold.

    Args:
        strokes (`Sequence[Stroke]`):
            The strokes, in pixels of the image; an empty list leaves all motion to the model. Stored as a tuple.
        width (`int`): Width of the image in pixels.
        height (`int`): Height of the image in pixels.
        num_frames (`int`): Length of the clip, the given image included; at least 2.
        fps (`float`, defaults to 8.0): Frames per second when the clip is shown.
        regions (`Sequence[Region]`, *optional*):
            The regions of the image, in its pixels: masks have its size. Stored as a tuple.
        camera (`dict`, *optional*):
            The camera that the strokes were drawn with, as [`~mcdiff_pipeline.motion.camera.Camera.to_dict`] gives it.
            It moves nothing by itself: `motion=Camera.from_dict(sheet.camera)` does.

    Raises:
        ValueError: If a field is not as described, a point lies more than one image size away from the image, a
            stroke starts too late for any step of the clip, a region does not fit the image, or a stroke names a
            region that the sheet does not have. The message names the index of the stroke or region and the field.
    """

    strokes: Sequence[Stroke]
    width: int
    height: int
    num_frames: int
    fps: float = 8.0
    regions: Sequence[Region] = field(default=(), compare=False)  # [`__eq__`] compares what they hold
    camera: dict[str, Any] | None = None

    def __post_init__(self):
        for name, minimum in (("width", 1), ("height", 1), ("num_frames", 2)):
            value = getattr(self, name)
            if not is_whole(value, minimum):
                raise ValueError(f"{name} is {reprlib.repr(value)}; it must be a whole number from {minimum}.")
            object.__setattr__(self, name, int(value))
        if self.num_frames > MAX_FRAMES:
            raise ValueError(f"num_frames is {self.num_frames}, but a clip has at most {MAX_FRAMES} frames.")
        if not (is_number(self.fps) and self.fps > 0):
            raise ValueError(f"fps is {reprlib.repr(self.fps)}; it must be a number above 0.")
        object.__setattr__(self, "fps", float(self.fps))
        object.__setattr__(self, "strokes", tuple(self.strokes))
        check_number(len(self.strokes), MAX_STROKES, "strokes", "strokes in a sheet")

        for index, stroke in enumerate(self.strokes):
            given = [(f"points[{number}]", point) for number, point in enumerate(stroke.points)]
            for where, (x, y) in [*given, *((f"handles[{n}]", point) for n, point in enumerate(stroke.handles))]:
                # the small margin forgives the rounding of `scaled`
                if abs(x / self.width - 0.5) > 1.5 + 1e-9 or abs(y / self.height - 0.5) > 1.5 + 1e-9:
                    raise ValueError(
                        f"strokes[{index}].{where} is [{x:g}, {y:g}], more than one image size away "
                        f"from the image of {self.width} x {self.height} pixels; x must be between {-self.width} "
                        f"and {2 * self.width}, y between {-self.height} and {2 * self.height}."
                    )
            if stroke.frames is not None:
                name, start = "frames[0]", stroke.frames[0]
            else:
                name, start = "start_frame", stroke.start_frame
            if start > self.num_frames - 2:
                raise ValueError(
                    f"strokes[{index}].{name} is {start:g}, too late for a clip of {self.num_frames} frames; it must "
                    f"be at most {self.num_frames - 2}, where the last step starts."
                )
        if self.camera is not None and not isinstance(self.camera, dict):
            raise ValueError(f"camera is {reprlib.repr(self.camera)}; it must be an object, as in a file of a camera.")
        self._check_regions()

    def _check_regions(self):
        object.__setattr__(self, "regions", tuple(self.regions))
        check_fit(self.regions, self.height, self.width)
        # strokes of a sheet without regions can name regions that are given beside it
        for index, stroke in enumerate(self.strokes if self.regions else ()):
            try:
                resolve_region(stroke, self.regions)
            except ValueError as error:
                raise ValueError(f"strokes[{index}].{error}") from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StrokeSheet):
            return NotImplemented
        names = ("strokes", "width", "height", "num_frames", "fps", "camera")
        return (
            all(getattr(self, name) == getattr(other, name) for name in names)
            and len(self.regions) == len(other.regions)
            and all(one.same_as(another) for one, another in zip(self.regions, other.regions, strict=True))
        )

    def scaled(self, width: int, height: int) -> Self:
        """
        The same sheet on the same image at another size.

        Args:
            width (`int`): The new width in pixels.
            height (`int`): The new height in pixels.

        Returns:
            `StrokeSheet`: With every point scaled along each axis, and masks brought to the new size.
        """
        factors = width / self.width, height / self.height
        strokes = tuple(stroke.scaled(*factors) for stroke in self.strokes)
        return replace(self, strokes=strokes, width=width, height=height, regions=self._regions_at(height, width))

    def _regions_at(self, height: int, width: int) -> tuple[Region, ...]:
        if (height, width) == (self.height, self.width):
            return tuple(self.regions)
        return tuple(
            replace(region, mask=region.coverage(height, width))
            if region.polygon is None
            else region.scaled(width / self.width, height / self.height)
            for region in self.regions
        )

    def plain(self, num_frames: int | None = None) -> Self:
        """
        The sheet with the strokes of all handles; see [`Stroke.plain`].

        Args:
            num_frames (`int`, *optional*): The length that ends strokes without an end; None is that of the sheet.
        """
        if not any(stroke.has_controls for stroke in self.strokes):
            return self
        return replace(self, strokes=plain_strokes(self.strokes, num_frames or self.num_frames))

    def continued(self, frame: int, other: "StrokeSheet") -> "StrokeSheet":
        """
        One sheet for a video that follows this sheet up to a frame, and another sheet from there on.

        Scale both sheets to the working size first if the video has to be exactly equal to one that was branched at
        `frame`: the parts have times of their own, and scaling them rounds differently, or changes the constant speed
        of a bent stroke.

        Args:
            frame (`int`): The frame at which the other sheet takes over; times of both sheets count from frame 0.
            other (`StrokeSheet`): The sheet that is followed from `frame` on; the result has its length and frame
                rate. It is scaled to the image of this sheet.

        Returns:
            `StrokeSheet`: The parts of both sheets, see [`Stroke.cut`], and the regions of this sheet. A part of a
            stroke that starts at frame 0 names the region in which the whole stroke starts, so that it belongs there.

        Raises:
            ValueError: If `frame` is not inside the clip of the other sheet, or the other sheet has regions that are
                not those of this one: another number of them, or other names.
        """
        last = other.num_frames - 1
        if not 0 < frame < last:
            raise ValueError(f"frame is {frame}; it must be from 1 to {last - 1}, inside a clip of {last + 1} frames.")
        if other.regions and [one.name for one in other.regions] != [one.name for one in self.regions]:
            raise ValueError(
                f"The sheets have {len(self.regions)} and {len(other.regions)} regions, or other names for them; a "
                "clip has one set of regions: give both sheets the same, or only the first."
            )
        factors = self.width / other.width, self.height / other.height
        before = [stroke.cut(0, frame, self.num_frames) for stroke in self.plain().strokes]
        after = [
            self._with_region(stroke.scaled(*factors)).cut(frame, last, other.num_frames)
            for stroke in other.plain().strokes
        ]
        strokes = [stroke for stroke in before + after if stroke is not None]
        return StrokeSheet(strokes, self.width, self.height, other.num_frames, other.fps, self.regions)

    def _with_region(self, stroke: Stroke) -> Stroke:
        """The stroke, naming its region if it starts at frame 0, where the regions of the sheet are."""
        start = stroke.start_frame if stroke.frames is None else stroke.frames[0]
        if not self.regions or stroke.region is not None or start > 0:
            return stroke
        return replace(stroke, region=region_at(self.regions, *stroke.points[0], self.height, self.width))

    def to_dict(self) -> dict[str, Any]:
        """The sheet as the JSON object of a file, in the lowest version that has its fields. Fields that are None, and
        controls that change nothing, are left out."""
        strokes = []
        version = 1
        for stroke in self.strokes:
            fields: dict[str, Any] = {"kind": stroke.kind, "points": [list(point) for point in stroke.points]}
            if stroke.frames is not None:
                fields["frames"] = list(stroke.frames)
            else:
                fields["start_frame"] = stroke.start_frame
                if stroke.end_frame is not None:
                    fields["end_frame"] = stroke.end_frame
            if stroke.region is not None:
                fields["region"], version = stroke.region, max(version, 2)
            if stroke.has_controls:
                version = 3
                fields |= {name: value for name, value in stroke._controls().items() if value != CONTROLS[name]}
                if stroke.handles:
                    fields["handles"] = [list(point) for point in stroke.handles]
            strokes.append(fields)
        regions = [region.to_dict(self.height, self.width) for region in self.regions]
        version = max(version, 2) if regions else version
        return {
            "version": version if self.camera is None else 4,
            "width": self.width,
            "height": self.height,
            "num_frames": self.num_frames,
            "fps": self.fps,
            **({"regions": regions} if regions else {}),
            "strokes": strokes,
            **({} if self.camera is None else {"camera": self.camera}),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """
        The inverse of [`to_dict`], checking every field.

        Raises:
            ValueError: If a field is missing, unknown or not as `docs/stroke-format.md` says. The message names the
                index of the stroke and the field, shows the value, and says what is allowed.
        """
        if not isinstance(fields, dict):
            raise ValueError(f"The stroke sheet is {reprlib.repr(fields)}; it must be an object.")
        readable = f"this program reads versions {SHEET_VERSIONS[0]} to {SHEET_VERSIONS[-1]}."
        if "version" not in fields:
            raise ValueError(f"version is missing; {readable}")
        version = fields["version"]
        if not (is_whole(version, 0) and version in SHEET_VERSIONS):
            raise ValueError(f"version is {reprlib.repr(version)}; {readable}")
        version = int(version)
        for name in fields:
            if name not in SHEET_FIELDS[version]:
                raise ValueError(
                    f"{reprlib.repr(name)} is not a field of a stroke sheet of version {version}"
                    f"{_version_of(name, SHEET_FIELDS)}; fields are: "
                    f"{', '.join(SHEET_FIELDS[version])}."
                )
        for name in ("width", "height", "num_frames", "strokes"):
            if name not in fields:
                raise ValueError(f"{name} is missing; a stroke sheet needs it.")
        if not isinstance(fields["strokes"], list):
            raise ValueError(f"strokes is {reprlib.repr(fields['strokes'])}; it must be a list of strokes.")
        check_number(len(fields["strokes"]), MAX_STROKES, "strokes", "strokes in a sheet")
        strokes = [_stroke_from_dict(stroke, index, version) for index, stroke in enumerate(fields["strokes"])]
        numbers = {name: fields[name] for name in fields if name not in ("version", "regions", "strokes")}
        sheet = cls(strokes, **numbers)  # its size is checked before any mask is unpacked
        if "regions" not in fields:
            return sheet
        return replace(sheet, regions=_regions_from_list(fields["regions"], sheet.height, sheet.width))

    def save(self, path: str | os.PathLike) -> None:
        """Write the sheet to a JSON file, one region or stroke per line. The file appears complete, or not at all."""
        lines = []
        for name, value in self.to_dict().items():
            if isinstance(value, list):
                lines.append(f'  "{name}": [\n' + ",\n".join("    " + json.dumps(item) for item in value) + "\n  ]")
            else:
                lines.append(f'  "{name}": {json.dumps(value)}')
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """
        Read a stroke sheet from a JSON file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not JSON, or not a stroke sheet. The message names the file, the stroke and the field.
        """
        content = Path(path).read_bytes()
        try:
            # utf-8-sig: editors on Windows write a byte order mark
            fields = json.loads(content.decode("utf-8-sig"))
        except json.JSONDecodeError as error:
            reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
            before = error.doc[: error.pos].rstrip()
            if before.endswith(",") and error.doc[error.pos : error.pos + 1] in ("]", "}"):
                line = before.count("\n") + 1
                reason = f"the comma at the end of line {line} has nothing after it, so remove it"
            raise ValueError(f"{path} is not JSON, but a stroke sheet has to be: {reason}.") from None
        except (ValueError, RecursionError) as error:
            reason = "too many brackets in each other" if isinstance(error, RecursionError) else str(error)
            raise ValueError(f"{path} is not JSON, but a stroke sheet has to be: {reason}.") from None
        try:
            return cls.from_dict(fields)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def _version_of(name: str, fields: dict[int, tuple[str, ...]]) -> str:
    """In which version a field came, for messages; empty if in none."""
    found = [version for version, names in fields.items() if name in names]
    return f" (it is one of version {min(found)})" if found else ""


def plain_strokes(strokes: Sequence[Stroke], num_frames: int | None) -> list[Stroke]:
    """The strokes of all handles of strokes; see [`Stroke.plain`]."""
    return [one for stroke in strokes for one in stroke.plain(num_frames)]


def _stroke_from_dict(fields: Any, index: int, version: int) -> Stroke:
    where = f"strokes[{index}]"
    if not isinstance(fields, dict):
        raise ValueError(f"{where} is {reprlib.repr(fields)}; it must be an object with at least 'points'.")
    for name, value in fields.items():
        if name not in STROKE_FIELDS[version]:
            hint = _version_of(name, STROKE_FIELDS)
            raise ValueError(
                f"{where}.{name[:40]} is not a field of a stroke{f' of version {version}{hint}' if hint else ''}; its "
                f"fields are: "
                f"{', '.join(STROKE_FIELDS[version])}."
            )
        if value is None:
            raise ValueError(f"{where}.{name} is null; give it a value or leave it out.")
    if "points" not in fields:
        raise ValueError(f"{where}.points is missing; a stroke needs a list of [x, y] pairs.")
    if "frames" in fields and ("start_frame" in fields or "end_frame" in fields):
        raise ValueError(
            f"{where}.frames is given together with start_frame or end_frame; give the time of every point or the "
            "time of both ends."
        )
    try:
        return Stroke(**fields)
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None


def _regions_from_list(items: Any, height: int, width: int) -> list[Region]:
    if not isinstance(items, list):
        raise ValueError(f"regions is {reprlib.repr(items)}; it must be a list of regions.")
    if len(items) > MAX_REGIONS:
        raise ValueError(f"regions holds {len(items)} regions; {MAX_REGIONS} are allowed: join or leave out some.")
    masks = sum(isinstance(item, dict) and "mask" in item for item in items)
    if masks * height * width > MAX_MASK_PIXELS:
        raise ValueError(
            f"regions holds {masks} masks of {width} x {height} pixels; a sheet may have {MAX_MASK_PIXELS:,} pixels "
            "in all its masks: give polygons, or draw on a smaller picture."
        )
    regions = []
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise ValueError(
                f"regions[{index}] is {reprlib.repr(item)}; it must be an object with a 'polygon' or a 'mask'."
            )
        try:
            regions.append(Region.from_dict(item, height, width))
        except ValueError as error:
            raise ValueError(f"regions[{index}].{error}") from None
    return regions


class Named(Protocol):
    """Something that may have a name, such as a [`Region`]."""

    @property
    def name(self) -> str | None: ...


def resolve_region(stroke: Stroke, regions: Sequence[Named]) -> int | None:
    """
    The number of the region that a stroke names.

    Args:
        stroke (`Stroke`): The stroke.
        regions (`Sequence[Region]`): The regions of its picture.

    Returns:
        `int` or `None`: From 1 for a region, 0 for what belongs to none; None if the stroke names no region, so that
        it belongs to the one in which it starts.

    Raises:
        ValueError: If there is no region of that name or number. The message starts with "region".
    """
    if stroke.region is None or stroke.region == 0:
        return stroke.region
    names = [region.name for region in regions]
    if isinstance(stroke.region, str) and stroke.region in names:
        return names.index(stroke.region) + 1
    if isinstance(stroke.region, int) and stroke.region <= len(regions):
        return stroke.region
    if not regions:
        raise ValueError(f"region is {stroke.region!r}, but the picture has no regions; give some, or leave it out.")
    known = ", ".join(repr(name) for name in names if name is not None) or "none has a name"
    raise ValueError(
        f"region is {stroke.region!r}, but the picture has the regions 1 to {len(regions)} (names: {known}); give one "
        "of these, or 0 for what belongs to no region."
    )


def _is_stroke(item: Any) -> bool:
    """Whether `item` is a stroke in one of the forms that [`load_sheets`] takes."""
    if isinstance(item, Stroke) or (isinstance(item, dict) and "points" in item):
        return True
    if all(hasattr(item, name) for name in STROKE_FIELDS[1]):
        return True
    return isinstance(item, (list, tuple)) and len(item) > 0 and all(_is_point(point) for point in item)


def _is_point(item: Any) -> bool:
    return isinstance(item, (list, tuple)) and len(item) == 2 and all(is_number(number) for number in item)


def _as_stroke(item: Any, index: int) -> Stroke:
    """A stroke from a `Stroke` of any copy of this module, a dict as in a sheet, or a list of points."""
    if isinstance(item, Stroke):
        return item
    if isinstance(item, dict):
        return _stroke_from_dict(item, index, max(STROKE_FIELDS))
    if isinstance(item, (list, tuple)):
        return Stroke(item, kind="hold" if len(item) == 1 else "move")
    names = [name for name in STROKE_FIELDS[max(STROKE_FIELDS)] if hasattr(item, name)]
    return Stroke(**{name: getattr(item, name) for name in names})


def load_sheets(strokes: Any, num_images: int) -> list[StrokeSheet | list[Stroke]]:
    """
    The strokes of every image of a batch, with sheets read from their files. What this returns can be given again.

    Args:
        strokes: A list of [`Stroke`] in pixels of the given image, a [`StrokeSheet`], the path of one, or a list of
            these with one entry for each image. A single entry serves all images. A dict with the fields of a stroke,
            and a list of points (x, y), stand for a [`Stroke`]: a hold if there is one point.
        num_images (`int`): The number of images.

    Returns:
        `list[StrokeSheet | list[Stroke]]`: one entry for each image. Each path is read once.

    Raises:
        ValueError: If the number of entries is not 1 and not the number of images, or a file is not a stroke sheet.
        TypeError: If an entry is of none of the types above.
    """
    if not isinstance(strokes, (list, tuple)):
        strokes = [strokes]
    elif all(_is_stroke(item) for item in strokes):
        strokes = [strokes]
    if len(strokes) not in (1, num_images):
        raise ValueError(
            f"There are strokes for {len(strokes)} images, but {num_images} images: give one list or sheet "
            "for each image, or a single one for all."
        )
    loaded: list[StrokeSheet | list[Stroke]] = []
    sheets: dict[str | os.PathLike, StrokeSheet] = {}
    for item in strokes:
        if isinstance(item, (str, os.PathLike)):
            if item not in sheets:
                sheets[item] = StrokeSheet.load(item)
            loaded.append(sheets[item])
        elif isinstance(item, StrokeSheet):
            loaded.append(item)
        elif hasattr(item, "strokes") and hasattr(item, "to_dict"):
            # a sheet of another copy of this module, as with code that travels with a model
            loaded.append(StrokeSheet.from_dict(item.to_dict()))
        elif isinstance(item, (list, tuple)) and all(_is_stroke(stroke) for stroke in item):
            check_number(len(item), MAX_STROKES, "strokes", "strokes for one image")
            loaded.append([_as_stroke(stroke, index) for index, stroke in enumerate(item)])
        else:
            raise TypeError(
                f"`strokes` holds a {type(item).__name__}, but it has to be a list of `Stroke`, a `StrokeSheet`, "
                "the path of a sheet, or a list of these."
            )
    return loaded * num_images if len(loaded) == 1 else loaded


def strokes_at_size(
    strokes: Any,
    image_sizes: Sequence[tuple[int, int]],
    height: int,
    width: int,
    num_frames: int | None = None,
    default_num_frames: int = 16,
) -> tuple[list[list[Stroke]], int]:
    """
    Bring the strokes of every image of a batch to pixels of the working size, each handle as a stroke of its own.

    Args:
        strokes: What [`load_sheets`] takes or returns.
        image_sizes (`Sequence[tuple[int, int]]`):
            (height, width) in which each image was given.
        height (`int`):
            Working height in pixels.
        width (`int`):
            Working width in pixels.
        num_frames (`int`, *optional*):
            Number of frames of the video. None takes the number that the sheets have.
        default_num_frames (`int`, defaults to 16):
            Number of frames if there is no sheet.

    Returns:
        `tuple[list[list[Stroke]], int]`: one list of strokes for each image, and the number of frames.

    Raises:
        ValueError: If the number of entries is not 1 and not the number of images, or sheets differ in `num_frames`
            and the call does not say it.
        TypeError: If an entry is of none of the types that [`load_sheets`] takes.
    """
    loaded = load_sheets(strokes, len(image_sizes))
    if num_frames is None:
        lengths = {item.num_frames for item in loaded if isinstance(item, StrokeSheet)}
        if len(lengths) > 1:
            raise ValueError(f"The stroke sheets last {sorted(lengths)} frames: give `num_frames`.")
        num_frames = lengths.pop() if lengths else default_num_frames
    scaled = []
    for item, (image_height, image_width) in zip(loaded, image_sizes, strict=True):
        drawn: Sequence[Stroke] = item if isinstance(item, list) else item.strokes
        if isinstance(item, StrokeSheet):
            image_height, image_width = item.height, item.width
        factors = width / image_width, height / image_height
        # turns are circles on the image as it was drawn on
        scaled.append([stroke.scaled(*factors) for stroke in plain_strokes(drawn, num_frames)])
    return scaled, num_frames


def regions_of_sheets(strokes: Any, image_sizes: Sequence[tuple[int, int]]) -> list[tuple[Region, ...] | None]:
    """
    The regions that the sheets of a batch have.

    Args:
        strokes: What [`load_sheets`] takes or returns; a path is read again.
        image_sizes (`Sequence[tuple[int, int]]`):
            (height, width) in which each image was given.

    Returns:
        `list[tuple[Region, ...] | None]`: for each image the regions of its sheet, checked by
        [`~mcdiff_pipeline.regions.check_regions`] at the size of the sheet. Polygons are in pixels of the given image,
        masks have the size of the sheet. None if the image has no sheet, or a sheet without regions.

    Raises:
        ValueError, TypeError: See [`load_sheets`] and [`~mcdiff_pipeline.regions.check_regions`].
    """
    found: list[tuple[Region, ...] | None] = []
    for item, (height, width) in zip(load_sheets(strokes, len(image_sizes)), image_sizes, strict=True):
        if isinstance(item, StrokeSheet) and item.regions:
            check_regions(item.regions, item.height, item.width)
            found.append(tuple(one.scaled(width / item.width, height / item.height) for one in item.regions))
        else:
            found.append(None)
    return found


def rasterize_strokes(
    strokes: list[list[Stroke]],
    frame: int,
    *,
    image_size: tuple[int, int],
    latent_size: tuple[int, int],
    num_frames: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Rasterize what the strokes specify for one step onto the latent grid.

    Each stroke writes its displacement at the cell that holds its position at `frame`. Several strokes in one cell are
    averaged. A stroke outside its time, or outside the image, specifies nothing; a point on the border is inside. A
    set mask with zero flow (hold still) and an unset mask (free) are different.

    Args:
        strokes (`list[list[Stroke]]`):
            One list per image of the batch, in pixels of `image_size`.
        frame (`int`):
            The step from `frame` to `frame + 1`.
        image_size (`tuple[int, int]`):
            (height, width) in pixels.
        latent_size (`tuple[int, int]`):
            (height, width) in latent cells.
        num_frames (`int`, *optional*):
            The length of the clip, needed for moves without an end.
        device (`torch.device`, *optional*):
            Where the result goes.
        dtype (`torch.dtype`, defaults to `torch.float32`):
            The type of the flow.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: The flow `[B, 2, h, w]` in latent cells, channel 0 right, channel 1 down,
        zero where nothing is specified; and the mask `[B, 1, h, w]`, bool, True where a stroke specifies something.

    Raises:
        ValueError: If a move has no end and `num_frames` is None.
    """
    image_height, image_width = image_size
    height, width = latent_size
    cells, displacements = [], []
    for sample, sample_strokes in enumerate(strokes):
        for stroke in sample_strokes:
            displacement, position = stroke.displacement(frame, num_frames), stroke.at(frame, num_frames)
            if displacement is None or position is None:
                continue
            x, y = position
            if not (0 <= x <= image_width and 0 <= y <= image_height):
                continue
            row, column = int(y * height / image_height), int(x * width / image_width)
            # a point on the right or lower border belongs to the last cell
            row, column = min(row, height - 1), min(column, width - 1)
            cells.append((sample * height + row) * width + column)
            displacements.append((displacement[0] * (width / image_width), displacement[1] * (height / image_height)))

    # [B * h * w, (u, v, count)]
    total = torch.zeros(len(strokes) * height * width, 3, dtype=torch.float64)
    if cells:
        values = torch.nn.functional.pad(torch.tensor(displacements, dtype=torch.float64), (0, 1), value=1.0)
        total.index_add_(0, torch.tensor(cells), values)
    total = total.view(len(strokes), height, width, 3).permute(0, 3, 1, 2)
    flow, count = total[:, :2], total[:, 2:]
    return (flow / count.clamp(min=1)).to(device, dtype), (count > 0).to(device)
