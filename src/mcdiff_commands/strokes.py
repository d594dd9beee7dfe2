# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The options that give strokes."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError, checking_input
from .option_values import StrokeWords
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
    list[StrokeWords],
    typer.Option(
        "--stroke",
        parser=StrokeWords.parse,
        metavar='"X,Y X,Y ..."',
        help="Move the object at the first point along the other points, over the whole clip; repeatable. Words may "
        'follow: "ease-in-out", "strength 0.5", "rotate 20 radius 25", "scale 1.2 handles X,Y X,Y" (docs/motion.md).',
        rich_help_panel=PANEL,
    ),
]
HoldOption = Annotated[
    list[StrokeWords],
    typer.Option(
        "--hold",
        parser=StrokeWords.parse,
        metavar='"X,Y"',
        help='Keep the object at this point still, or turn it about the point: "X,Y rotate 20 handles X,Y"; '
        "repeatable.",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class GivenStrokes:
    """The strokes on the command line.

    Args:
        file (`Path`, *optional*): a stroke sheet.
        moves (`list[StrokeWords]`): each `--stroke`.
        holds (`list[StrokeWords]`): each `--hold`.
        teller (`Teller`): warns of a file for an image of another shape.
    """

    file: Path | None
    moves: list[StrokeWords]
    holds: list[StrokeWords]
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
            moves = [Stroke(**words.fields(height, width)) for words in self.moves]
            holds = [Stroke(**words.fields(height, width), kind="hold") for words in self.holds]
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
