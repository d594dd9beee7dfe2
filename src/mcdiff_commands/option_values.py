# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Option values that are more than text, and the parsers that read them.

A parser raises `typer.BadParameter` with the value and what is allowed. Typer adds the name of the option.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer


# The largest whole number that programs in C take, and so those that this package calls.
MAX_WHOLE = 2**63 - 1
# As in mcdiff_pipeline.strokes, which takes a second to import.
MAX_FRAMES = 100_000


def number(
    convert: type[int] | type[float],
    minimum: float = -math.inf,
    maximum: float = MAX_WHOLE,
    *,
    exclusive: bool = False,
) -> Callable[[str], Any]:
    """A parser of numbers of type `convert` from `minimum`, or above it if `exclusive`, to `maximum`."""
    kind = "whole number" if convert is int else "number"
    limit = "" if minimum == -math.inf else f" {'above' if exclusive else 'of at least'} {minimum}"

    def parse(text: str) -> int | float:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if value > maximum:
            raise typer.BadParameter(f"{text:.40} is too large; it must be at most {maximum:g}")
        if not value >= minimum or (exclusive and value == minimum):  # also catches NaN
            raise typer.BadParameter(f"{text!r:.80} is not a {kind}{limit}")
        return value

    return parse


@dataclass(frozen=True)
class Coordinate:
    """One coordinate of a point: pixels of the image, or percent of its width or height."""

    value: float
    is_percent: bool = False

    def in_pixels(self, side: int) -> float:
        """Its place along a side of `side` pixels."""
        return self.value * side / 100 if self.is_percent else self.value


@dataclass(frozen=True)
class Points:
    """Points (x, y) of an image."""

    coordinates: tuple[tuple[Coordinate, Coordinate], ...]

    @classmethod
    def parse(cls, text: str) -> "Points":
        """Reads `"x,y x,y ..."`; a coordinate may end in a percent sign."""
        points = []
        for pair in re.sub(r"\s*,\s*", ",", text).split():  # "206, 238" is one point, too
            try:
                x, y = (
                    Coordinate(float(part.removesuffix("%")), is_percent=part.endswith("%"))
                    for part in pair.split(",")
                )
            except ValueError:
                raise typer.BadParameter(
                    f'{pair!r:.80} is not a point; write "x,y x,y" in pixels, or "x%,y% x%,y%" of the image'
                ) from None
            points.append((x, y))
        return cls(tuple(points))

    def in_pixels(self, height: int, width: int) -> list[tuple[float, float]]:
        """The points in pixels of an image of this size."""
        return [(x.in_pixels(width), y.in_pixels(height)) for x, y in self.coordinates]


# Words after the points of a stroke: those that take a number, those of its speed, and the one that takes further
# points. They are those of `mcdiff_pipeline.stroke_controls`, which imports PyTorch.
STROKE_NUMBERS = ("strength", "rotate", "scale")
STROKE_EASINGS = ("linear", "ease-in", "ease-out", "ease-in-out")
HANDLES = "handles"


@dataclass(frozen=True)
class StrokeWords:
    """A stroke in words: its points, and how it moves.

    Args:
        path (`Points`): the points of the stroke.
        handles (`Points`): points that move with it.
        radius (`Coordinate`, *optional*): distance of two handles; percent are of the width of the image.
        controls (`dict`): further fields of the stroke that are given.
    """

    path: Points
    handles: Points
    radius: Coordinate | None
    controls: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "StrokeWords":
        """Reads `"x,y x,y ease-in-out rotate 20 radius 25"`; see `docs/motion.md`."""
        words = iter(re.sub(r"\s*,\s*", ",", text).split())
        points: dict[str, list[str]] = {"path": [], HANDLES: []}
        controls: dict[str, Any] = {}
        radius, found = None, "path"
        for word in words:
            if word == HANDLES:
                found = HANDLES
            elif word == "radius":
                radius = _coordinate(word, next(words, ""))
            elif word in STROKE_NUMBERS:
                controls[word] = _coordinate(word, next(words, ""), percent=False).value
            elif word in STROKE_EASINGS:
                controls["easing"] = word
            elif word.isalpha():
                raise typer.BadParameter(
                    f"{word!r:.80} is not a point, nor one of the words "
                    f"{', '.join((*STROKE_EASINGS, *STROKE_NUMBERS, 'radius', HANDLES))}"
                )
            else:
                points[found].append(word)
        if found == HANDLES and not points[HANDLES]:
            raise typer.BadParameter('handles are given without points; write "... handles x,y x,y"')
        path, handles = (Points.parse(" ".join(some)) for some in points.values())
        return cls(path, handles, radius, controls)

    def fields(self, height: int, width: int) -> dict[str, Any]:
        """The fields of a [`~mcdiff_pipeline.Stroke`] on an image of this size."""
        fields = {"points": self.path.in_pixels(height, width)} | self.controls
        if self.handles.coordinates:
            fields["handles"] = self.handles.in_pixels(height, width)
        if self.radius is not None:
            fields["radius"] = self.radius.in_pixels(width)
        return fields


def _coordinate(word: str, text: str, *, percent: bool = True) -> Coordinate:
    """The number after a word, which may be in percent."""
    is_percent = percent and text.endswith("%")
    try:
        value = float(text.removesuffix("%") if is_percent else text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{word} is {text!r:.80}, which is not a number; write a number after it")
    return Coordinate(value, is_percent)


class Point(Points):
    """A single point (x, y) of an image."""

    @classmethod
    def parse(cls, text: str) -> "Point":
        """Reads `"x,y"`; a coordinate may end in a percent sign."""
        points = super().parse(text)
        if len(points.coordinates) != 1:
            raise typer.BadParameter(f'{text!r} is not one point; write "x,y" in pixels, or "x%,y%" of the image')
        return cls(points.coordinates)


class Counts(tuple[int, ...]):
    """Whole numbers."""

    @classmethod
    def parse(cls, text: str) -> "Counts":
        """Reads `"1,5,9"`."""
        try:
            return cls(int(count) for count in text.split(","))
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not a list of whole numbers; write 1,5,9") from None


@dataclass(frozen=True)
class Size:
    """One side, or two sides in the order in which they were given, in pixels."""

    sides: tuple[int, ...]

    @classmethod
    def parser(cls, name: str, examples: str) -> Callable[[str], "Size"]:
        """A parser of `"256"` and `"384x256"`; its error calls the value `name` and shows `examples`."""

        def parse(text: str) -> Size:
            if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4})?", text):
                raise typer.BadParameter(f"{text!r} is not a {name}; write {examples}")
            return cls(tuple(map(int, text.split("x"))))

        return parse


@dataclass(frozen=True)
class OutputSize:
    """The size of frames: one side, width and height, or a name.

    Args:
        sides (`tuple[int, ...]`): the shorter side, or width and height, in pixels; empty if there is a name.
        name (`str`): `"image"`, `"working"`, or empty.
    """

    sides: tuple[int, ...] = ()
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "OutputSize":
        """Reads `"512"`, `"768x512"`, `"image"` and `"working"`."""
        if text in ("image", "working"):
            return cls(name=text)
        return cls(Size.parser("size", "512 for the shorter side, 768x512, image or working")(text).sides)


@dataclass(frozen=True)
class NamedModel:
    """A model, and the name under which a report shows it."""

    name: str
    model: str

    @classmethod
    def parse(cls, text: str) -> "NamedModel":
        """Reads `"NAME=MODEL"`."""
        name, _, model = text.partition("=")
        if not name or not model:
            raise typer.BadParameter(f"{text!r} is not NAME=MODEL")
        return cls(name, model)


def file_size(text: str) -> str:
    """Checks a size such as `"500MB"`."""
    if not re.fullmatch(r"[1-9]\d*(KB|MB|GB)", text):
        raise typer.BadParameter(f"{text!r} is not a size; write 500MB or 5GB")
    return text


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None: an option that is not given leaves the library's default in place."""
    return {name: value for name, value in values.items() if value is not None}
