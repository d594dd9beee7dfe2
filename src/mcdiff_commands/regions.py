# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The options that give regions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError, checking_input
from .telling import Teller


if TYPE_CHECKING:
    import torch

    from mcdiff_pipeline import Region, StrokeSheet
    from mcdiff_pipeline.segmentation import PromptSegmenter


PANEL = "Regions: things that move as a whole (default: those of the stroke sheet, if it has any)"

# The key and the value of the text in a PNG file that tells a mask, with soft outlines, from a label map.
MASK_MARK = ("mcdiff", "mask")

RegionsOption = Annotated[
    str | None,
    typer.Option(
        "--regions",
        metavar="auto|persons|sheet|FILE",
        help="auto: a region for each thing that strokes move, found by the segmenter; persons: a region for each "
        "person, found by the pose model; sheet: those of the stroke sheet; or a label map as an image (0: no "
        "region), or a mask of `mcdiff segment`.",
        rich_help_panel=PANEL,
    ),
]
SegmenterOption = Annotated[
    Path | None,
    typer.Option(
        "--segmenter",
        metavar="DIR",
        help="Folder with encoder.onnx and decoder.onnx (default: $MCDIFF_SEGMENTER, else the cache that "
        "training/tools/build_segmenter.py fills).",
        rich_help_panel=PANEL,
    ),
]


def find_regions(
    option: str | None,
    image: "torch.Tensor",
    sheet: "StrokeSheet",
    segmenter: Path | None = None,
    teller: Teller | None = None,
) -> "tuple[Region, ...]":
    """The regions that the options give; without `--regions` those of the sheet.

    Args:
        option (`str`, *optional*): the value of `--regions`.
        image (`torch.Tensor`): the given image, float32 `[3, H, W]` in [0, 1].
        sheet (`StrokeSheet`): all strokes, in pixels of the image.
        segmenter (`Path`, *optional*): the value of `--segmenter`.
        teller (`Teller`, *optional*): warns if `--segmenter` is ignored.

    Returns:
        `tuple[Region, ...]`: for the given image. `auto` gives none for things whose outline is unsure, and warns.

    Raises:
        InputError: if the sheet has regions, too, a file is not a label map or a mask of the image, nobody is found,
            or what finds regions is missing.
    """
    if segmenter is not None and option != "auto" and teller is not None:
        teller.warn("--segmenter is ignored: only --regions auto uses it.")
    if option == "sheet" and not sheet.regions:
        raise InputError("--regions sheet is given, but no stroke sheet with regions; name another source of regions.")
    if option in (None, "sheet"):
        return tuple(sheet.regions)
    if sheet.regions:
        raise InputError(
            f"--regions {option} is given, but the stroke sheet has {len(sheet.regions)} regions of its own; leave "
            "the option out, or remove them from the sheet."
        )
    if option == "auto":
        from mcdiff_pipeline.segmentation import regions_of_strokes

        return tuple(regions_of_strokes(image, sheet, load_segmenter(segmenter)))
    if option == "persons":
        return _people(image)
    return _read_regions(Path(option), *image.shape[1:])


def load_segmenter(folder: Path | None) -> "PromptSegmenter":
    """The segmenter in a folder; see `mcdiff_pipeline.segmentation.find_segmenter`.

    Raises:
        InputError: in one sentence with the way out, if it or the extra `segmentation` is missing.
    """
    from mcdiff_pipeline.segmentation import PromptSegmenter

    try:
        with checking_input():
            return PromptSegmenter(folder)
    except ImportError as error:
        raise InputError(str(error)) from error


def _people(image: "torch.Tensor") -> "tuple[Region, ...]":
    from mcdiff_pipeline.segmentation import PersonSegmenter, regions_of_people

    try:
        with checking_input("--regions persons: "), PersonSegmenter() as segmenter:
            regions = tuple(regions_of_people(image, segmenter))
    except ImportError as error:
        raise InputError(f"--regions persons: {error}") from error
    if not regions:
        raise InputError("--regions persons: nobody is found in the image; leave it out, or give auto or a file.")
    return regions


def _read_regions(path: Path, height: int, width: int) -> "tuple[Region, ...]":
    from PIL import Image

    from mcdiff_pipeline.image_processor import reading_image
    from mcdiff_pipeline.regions import Region, check_regions, regions_of

    if not path.is_file():
        raise InputError(
            f"--regions {path}: there is no such file; the option is auto, persons, sheet or an image file."
        )
    with checking_input("--regions: "), reading_image(path), Image.open(path) as image:
        image.load()
    with checking_input(f"--regions {path}: "):
        key, value = MASK_MARK
        regions = (Region(mask=image),) if image.info.get(key) == value else regions_of(image, height, width)
        check_regions(regions, height, width)
    return regions
