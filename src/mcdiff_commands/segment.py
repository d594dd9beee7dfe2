# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff segment`: the thing at some points of an image, as a mask."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError, checking_input
from .images import read_image, to_pil
from .option_values import Point
from .outputs import IMAGE_SUFFIXES, ReplaceOption, check_output, check_outputs
from .regions import MASK_MARK, load_segmenter
from .telling import Teller, told


if TYPE_CHECKING:
    import numpy as np


EPILOG = 'Example: mcdiff segment coffee.jpg --point "210,164" --not-point "365,240" --output mask.png'


@told
def segment(
    teller: Teller,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The image: a file or an http(s) address.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The mask to write, a gray PNG: white is the thing.")
    ],
    point: Annotated[
        list[Point],
        typer.Option(
            parser=Point.parse,
            metavar='"X,Y"',
            help="A point of the thing, in pixels or percent; repeatable.",
        ),
    ],
    not_point: Annotated[
        list[Point],
        typer.Option(parser=Point.parse, metavar='"X,Y"', help="A point that is not of the thing; repeatable."),
    ] = [],  # noqa: B006
    overlay: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the image (.png, .jpg) with the thing and the points on it."),
    ] = None,
    segmenter: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with encoder.onnx and decoder.onnx (default: $MCDIFF_SEGMENTER, else the cache that "
            "training/tools/build_segmenter.py fills).",
        ),
    ] = None,
    replace_existing: ReplaceOption = None,
) -> None:
    """Find the thing at some points of an image.

    Writes a mask at the image's size, for `mcdiff generate --regions` and for `Region(mask=...)` in Python. One point
    may mean a thing or a part of it; more points say it better. A warning tells if the mask may be wrong.
    """
    from mcdiff_pipeline import Region
    from mcdiff_pipeline.drawing import HOLD_COLOR, MOVE_COLOR, draw_points, draw_regions, save_image

    check_output(output, (".png",))
    if overlay is not None:
        check_output(overlay, IMAGE_SUFFIXES)
    check_outputs({"--output": output, "--overlay": overlay}, [image], replace=replace_existing)
    picture = read_image(image)
    height, width = picture.shape[1:]
    points = [one.in_pixels(height, width)[0] for one in (*point, *not_point)]
    labels = [1] * len(point) + [0] * len(not_point)
    loaded = load_segmenter(segmenter)
    with checking_input():
        found = loaded.segment(picture, points, labels)
    if found.mask.sum() < 1:
        raise InputError(f"there is no thing at {points[0][0]:g},{points[0][1]:g}; give other or more points.")
    _write_mask(found.mask, output)
    if overlay is not None:
        colors = [MOVE_COLOR] * len(point) + [HOLD_COLOR] * len(not_point)
        save_image(draw_points(draw_regions(to_pil(picture), [Region(found.mask)]), points, colors), overlay)
    if found.warning is not None:
        teller.warn(f"{output} may be wrong: {found.warning}; give more points.")
    share, files = float(found.mask.mean()), {"mask": output, "overlay": overlay}
    teller.say(
        f"{output}: {100 * share:.1f} % of {width} x {height} pixels, confidence {found.confidence:.2f}"
        + ("" if overlay is None else f"\n{overlay}"),
        **{name: str(path) for name, path in files.items() if path is not None},
        width=width,
        height=height,
        share=round(share, 4),
        confidence=round(float(found.confidence), 3),
    )
    for place, label in zip(points, labels, strict=True):
        teller.detail(f"{place[0]:g},{place[1]:g} is {'' if label else 'not '}of the thing.")


def _write_mask(mask: "np.ndarray", path: Path) -> None:
    """Writes a mask `[H, W]` in [0, 1] with a mark by which `--regions` knows it."""
    from PIL import Image, PngImagePlugin

    from mcdiff_pipeline.atomic_files import atomic_path

    mark = PngImagePlugin.PngInfo()
    mark.add_text(*MASK_MARK)
    with atomic_path(path) as unfinished:
        Image.fromarray((mask * 255).round().astype("uint8")).save(unfinished, pnginfo=mark)
