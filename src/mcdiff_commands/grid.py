# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff grid`: an image with a grid from which the coordinates of points can be read."""

from pathlib import Path
from typing import Annotated

import typer

from .images import read_image, to_pil
from .outputs import IMAGE_SUFFIXES, ReplaceOption, check_output, check_outputs
from .telling import Teller, told


EPILOG = "Example: mcdiff grid cat.jpg --output grid.png"


@told
def grid(
    teller: Teller,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The image: a file or an http(s) address.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The image to write.")],
    replace_existing: ReplaceOption = None,
) -> None:
    """Draw a labeled grid over an image, to read off points for --stroke and --hold.

    The labels are pixels of the given image above it and on its left, percent below it and on its right.
    """
    from mcdiff_pipeline.drawing import draw_grid, save_image

    check_output(output, IMAGE_SUFFIXES)
    check_outputs({"--output": output}, [image], replace=replace_existing)
    picture = to_pil(read_image(image))
    page, step = draw_grid(picture)
    save_image(page, output)
    teller.detail(f"The page has {page.width} x {page.height} pixels.")
    teller.say(
        f"{output}: {picture.width} x {picture.height} pixels, a line every {step}",
        image=str(output),
        width=picture.width,
        height=picture.height,
        step=step,
    )
