# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff strokes`: stroke sheets to and from the tracks of other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError, checking_input
from .images import read_image
from .option_values import MAX_FRAMES, Size, number
from .outputs import ReplaceOption, check_outputs
from .telling import Teller, told
from .typer_classes import Command, CommandGroup


if TYPE_CHECKING:
    from mcdiff_pipeline.motion.tracks import Tracks


app = typer.Typer(cls=CommandGroup, rich_markup_mode=None, help="Convert stroke sheets.")


@app.command(
    cls=Command,
    epilog="Example: mcdiff strokes convert tracks.npy strokes.json --format wan-move --image photo.jpg",
    rich_help_panel=None,
)
@told
def convert(
    teller: Teller,
    source: Annotated[Path, typer.Argument(metavar="IN", help="A stroke sheet, or tracks of another program.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: the other of the two.")],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Format of the tracks: wan-move, ati, ati-json, cotracker, kjnodes, ltx, ltx-points or tora "
            "(default: by the suffix). docs/interchange.md describes them.",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="The image that the tracks are for; it tells their size."),
    ] = None,
    size: Annotated[
        Size | None,
        typer.Option(
            parser=Size.parser("size", "832x480"), metavar="WIDTHxHEIGHT", help="The size instead of an image."
        ),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            parser=number(int, 2, MAX_FRAMES),
            metavar="N",
            help="Frames of the result; the motion is stretched to them (default: those of IN, or those that the "
            "other program expects).",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            parser=number(float, 0, exclusive=True),
            metavar="FPS",
            help="Frames per second of a stroke sheet (default: keeps the duration if the format has a rate, else 8).",
        ),
    ] = None,
    max_strokes: Annotated[
        int,
        typer.Option(
            parser=number(int, 1, 1000),
            metavar="N",
            help="Tracks that become strokes, at most: those from which the others follow.",
        ),
    ] = 32,
    max_error: Annotated[
        float,
        typer.Option(
            parser=number(float, 0),
            metavar="PIXELS",
            help="Keep no more tracks once the others are within this distance of what the kept ones say.",
        ),
    ] = 1.0,
    replace_existing: ReplaceOption = None,
) -> None:
    """Convert a stroke sheet to tracks of another program, or back.

    Of IN and OUT, one is a stroke sheet (.json). The other are points that are followed over frames.
    """
    from mcdiff_pipeline.motion.interchange import format_of, is_sheet, write_tracks
    from mcdiff_pipeline.motion.tracks import Tracks

    check_outputs({"OUT": output}, [source, image], replace=replace_existing)
    if not source.exists():
        raise InputError(f"{source}: there is no such file.")
    if not is_sheet(source):
        tracks = _read(source, format, image, size, num_frames, fps)
        _write_sheet(teller, tracks, output, max_strokes, max_error)
        return
    from mcdiff_pipeline import StrokeSheet

    with checking_input():
        found = format_of(output, format)
        sheet = StrokeSheet.load(source)
        if sheet.camera is not None:
            teller.warn(f"{source} has a camera, which tracks cannot say: it is left out.")
        tracks = Tracks.of_sheet(sheet)
        written = write_tracks(tracks, output, format, num_frames=num_frames)
    files = " and ".join(str(path) for path in written.paths)
    teller.say(
        f"{files}: {len(tracks)} tracks of {written.num_frames} frames ({found.name})",
        files=[str(path) for path in written.paths],
        format=found.name,
        tracks=len(tracks),
        num_frames=written.num_frames,
    )
    if written.filled:
        teller.say(
            f"{len(written.filled)} of them do not last for the whole clip, which this format cannot say: their first "
            "and last points are repeated.",
            repeated=written.filled,
        )


def _read(
    source: Path, format: str | None, image: str | None, size: Size | None, num_frames: int | None, fps: float | None
) -> "Tracks":
    """Reads the tracks of another program, at the size that the options tell."""
    from mcdiff_pipeline.motion.interchange import read_tracks

    if (image is None) == (size is None):
        raise InputError(
            f"{source} does not tell the size of its image; give either --image, or --size such as --size 832x480."
        )
    if image is not None:
        height, width = read_image(image).shape[1:]
    else:
        assert size is not None
        if len(size.sides) != 2:
            raise InputError(f"--size {size.sides[0]} is one side; give both, such as --size 832x480.")
        width, height = size.sides
    with checking_input():
        return read_tracks(source, format, width, height, num_frames=num_frames, fps=fps)


def _write_sheet(teller: Teller, tracks: "Tracks", output: Path, max_strokes: int, max_error: float) -> None:
    """Writes tracks as a stroke sheet, and tells what was left out."""
    from mcdiff_pipeline.motion.thinning import thin_tracks

    if output.suffix != ".json":
        raise InputError(f"{output}: IN holds tracks, so OUT is a stroke sheet; give it a name that ends in .json.")
    with checking_input():
        thinned = thin_tracks(tracks, max_strokes, max_error)
        sheet = thinned.tracks.sheet()
    sheet.save(output)
    holds = sum(stroke.kind == "hold" for stroke in sheet.strokes)
    teller.say(
        f"{output}: {len(sheet.strokes)} strokes, {holds} of them holds, {sheet.num_frames} frames at {sheet.fps:g} a "
        f"second, for {sheet.width} x {sheet.height} pixels",
        strokes=len(sheet.strokes),
        holds=holds,
        num_frames=sheet.num_frames,
        fps=sheet.fps,
        files=[str(output)],
    )
    left_out = len(tracks) - len(thinned.tracks)
    if left_out:
        teller.say(
            f"{len(thinned.tracks)} of {len(tracks)} tracks are kept. The other {left_out} are "
            f"{thinned.mean_error:.2f} pixels on average, {thinned.max_error:.2f} at most, from where the kept ones "
            "say they are.",
            left_out=left_out,
            mean_error=round(thinned.mean_error, 3),
            max_error=round(thinned.max_error, 3),
        )
