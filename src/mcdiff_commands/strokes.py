# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The options that give strokes."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError, checking_input
from .option_values import Points
from .telling import Teller


if TYPE_CHECKING:
    from mcdiff_pipeline import StrokeSheet


PANEL = "Strokes, in pixels or percent of the image (50%,30%); all that are given are used together"

StrokesOption = Annotated[
    Path | None,
    typer.Option(
        "--strokes",
        metavar="FILE",
        help="A stroke sheet (JSON, see docs/stroke-format.md).",
        rich_help_panel=PANEL,
    ),
]
StrokeOption = Annotated[
    list[Points],
    typer.Option(
        "--stroke",
        parser=Points.parse,
        metavar='"X,Y X,Y ..."',
        help="Move the object at the first point along the other points, over the whole clip; repeatable.",
        rich_help_panel=PANEL,
    ),
]
HoldOption = Annotated[
    list[Points],
    typer.Option(
        "--hold",
        parser=Points.parse,
        metavar='"X,Y"',
        help="Keep the object at this point still; repeatable.",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class GivenStrokes:
    """The strokes on the command line.

    Args:
        file (`Path`, *optional*): a stroke sheet.
        moves (`list[Points]`): points of each `--stroke`.
        holds (`list[Points]`): point of each `--hold`.
        teller (`Teller`): warns of a file for an image of another shape.
    """

    file: Path | None
    moves: list[Points]
    holds: list[Points]
    teller: Teller

    def sheet(self, height: int, width: int, num_frames: int | None, *, needs_strokes: bool = True) -> "StrokeSheet":
        """All strokes as one sheet for an image of this size.

        The number of frames is taken from the file, else from `num_frames`. Without both it is 2.

        Raises:
            InputError: if there are no strokes with `needs_strokes`, or one of them is wrong.
        """
        from mcdiff_pipeline import Stroke, StrokeSheet

        if needs_strokes and self.file is None and not self.moves and not self.holds:
            raise InputError("no strokes are given: draw some with --stroke, --hold or --strokes FILE.")
        with checking_input("--stroke and --hold: "):
            moves = [Stroke(points.in_pixels(height, width)) for points in self.moves]
            holds = [Stroke(points.in_pixels(height, width), kind="hold") for points in self.holds]
            typed = StrokeSheet([*moves, *holds], width, height, num_frames or 2)
        if self.file is None:
            return typed
        if not self.file.is_file():
            raise InputError(f"{self.file}: there is no such stroke sheet.")
        with checking_input():
            sheet = StrokeSheet.load(self.file)
        if abs(math.log(sheet.width / sheet.height * height / width)) > 0.02:
            self.teller.warn(
                f"{self.file} was drawn on {sheet.width} x {sheet.height} pixels, but the image has {width} x "
                f"{height}; its strokes are stretched to fit."
            )
        sheet = sheet.scaled(width, height)
        return replace(sheet, strokes=[*sheet.strokes, *typed.strokes])
