# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Strokes and regions of a client as those of the library, and the one sheet that a branch is.

A branch follows its root up to a frame, then a child, and so on. Its strokes are *baked*: each handle is a stroke of
its own with a point for every whole frame, so that a part of it is exactly where the whole is. Therefore a branch
equals the video of one sheet, and its clip replays to the same frames.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..regions import REGION_FIELDS, Region
from ..strokes import Stroke, StrokeSheet, resolve_region
from .pictures import read_mask
from .protocol import check_strokes
from .refusals import Refused
from .settings import MASKS_PIXELS, REGIONS
from .store import SessionFiles
from .tree import Node


_STROKE = re.compile(r"strokes\[(\d+)\]\.(\w+)")
_REGION = re.compile(r"regions\[(\d+)\]\.(\w+)")


def refusal_of(error: Exception) -> Refused:
    """The library's sentence about strokes or regions, with the stroke or region and the field that it names."""
    why = (str(error).strip() or type(error).__name__).splitlines()[0]
    why = why[:1].upper() + why[1:] if not why.startswith(("strokes[", "regions[", "`")) else why
    if stroke := _STROKE.match(why):
        return Refused(why, code="strokes", stroke=int(stroke[1]), field=stroke[2])
    if region := _REGION.match(why):
        return Refused(why, code="regions", region=int(region[1]), field=region[2])
    return Refused(why)


def make_regions(items: Sequence[dict[str, Any]], picture: tuple[int, int], size: tuple[int, int]) -> list[Region]:
    """
    The regions of a client.

    Args:
        items (`Sequence[dict]`): As in a stroke sheet, with polygons in pixels of the picture and masks of any size.
        picture (`tuple[int, int]`): (width, height) of the picture.
        size (`tuple[int, int]`): (width, height) at which they are wanted.

    Returns:
        `list[Region]`: with polygons in pixels of `size`, and masks of that size.

    Raises:
        Refused: If one is wrong.
    """
    if len(items) > REGIONS:
        raise Refused(
            f"There are {len(items)} regions; {REGIONS} are allowed: join or leave out some.", code="regions"
        )
    masks = sum("mask" in item for item in items)
    if masks * size[0] * size[1] > MASKS_PIXELS:
        raise Refused(
            f"{masks} masks on {size[0]} x {size[1]} pixels are too many: join some, outline them as polygons, or "
            "make smaller frames.",
            code="regions",
        )
    regions = []
    for index, item in enumerate(items):
        try:
            if "mask" in item and "polygon" not in item:
                regions.append(_masked_region(item, size))
            else:
                region = Region.from_dict(item, picture[1], picture[0])
                regions.append(region.scaled(size[0] / picture[0], size[1] / picture[1]))
        except Refused as error:
            raise Refused(f"regions[{index}].{error.why}", code="regions", region=index, field="mask") from None
        except (ValueError, TypeError) as error:
            raise refusal_of(ValueError(f"regions[{index}].{error}")) from None
    return regions


def _masked_region(item: dict[str, Any], size: tuple[int, int]) -> Region:
    """A region with a mask, brought to a (width, height). Raises as [`Region`] and [`read_mask`] do."""
    for name, value in item.items():
        if name not in REGION_FIELDS:
            raise ValueError(f"{name[:40]} is not a field of a region; its fields are: {', '.join(REGION_FIELDS)}.")
        if value is None:
            raise ValueError(f"{name} is null; give it a value or leave it out.")
    mask = Region(np.asarray(read_mask(item["mask"]))).coverage(size[1], size[0])
    # 8 bits, as in the file of a sheet: a replay reads the same
    return Region(**{**item, "mask": (mask * 255).round().byte()})


def make_sheet(
    strokes: list[dict[str, Any]],
    picture: tuple[int, int],
    num_frames: int,
    fps: float = 8.0,
    regions: Sequence[Region] | None = None,
    size: tuple[int, int] | None = None,
    is_plain: bool = False,
) -> StrokeSheet:
    """
    The sheet of a client.

    Args:
        strokes (`list[dict]`): As in a stroke sheet, in pixels of the picture.
        picture (`tuple[int, int]`): (width, height) of the picture.
        num_frames (`int`): Frames of the video.
        fps (`float`): Frames per second.
        regions (`Sequence[Region]`, *optional*): The regions at `size`; None does not check which ones strokes name.
        size (`tuple[int, int]`, *optional*): (width, height) at which it is wanted; None is that of the picture.
        is_plain (`bool`, defaults to `False`): Whether each handle becomes a stroke of its own. They turn in circles
            on the picture, whatever the size.

    Raises:
        Refused: If a stroke is wrong, or names a region that does not exist.
    """
    check_strokes(strokes)
    width, height = picture
    fields = {"version": 3, "width": width, "height": height, "num_frames": num_frames, "fps": fps, "strokes": strokes}
    try:
        sheet = StrokeSheet.from_dict(fields)
        for index, stroke in enumerate(sheet.strokes if regions is not None else ()):
            try:
                resolve_region(stroke, regions or ())
            except ValueError as error:
                raise ValueError(f"strokes[{index}].{error}") from None
        if is_plain:
            sheet = sheet.plain()
        if size is not None:
            sheet = sheet.scaled(*size)
        return sheet if regions is None else replace(sheet, regions=regions)
    except (ValueError, TypeError) as error:
        raise refusal_of(error) from None


class SheetMaker:
    """
    The sheets of the nodes of one session, at the size of their full frames.

    Args:
        files (`SessionFiles`): Hold the regions.
        picture (`tuple[int, int]`): (width, height) of the picture.
    """

    def __init__(self, files: SessionFiles, picture: tuple[int, int]):
        self.files, self.picture = files, picture

    def regions(self, key: str | None, size: tuple[int, int]) -> list[Region]:
        """The regions of a key at a (width, height). Raises `Refused` if they are not there, or wrong."""
        return make_regions(self.files.read_regions(key), self.picture, size)

    def of_node(self, node: Node, regions: Sequence[Region], *, is_plain: bool = False) -> StrokeSheet:
        """All strokes of a node at the size of its full frames, as they were drawn or each handle as one."""
        size = node.settings.output_width, node.settings.output_height
        return make_sheet(node.strokes, self.picture, node.num_frames, node.fps, regions, size, is_plain)

    def of_branch(
        self, branch: Sequence[Node], regions: Sequence[Region], num_frames: int | None = None
    ) -> StrokeSheet:
        """
        The one sheet that a branch is, baked.

        Args:
            branch (`Sequence[Node]`): From the root to a node.
            regions (`Sequence[Region]`): Their regions, at the size of full frames.
            num_frames (`int`, *optional*): Frames of the video; None is the number of the last node.

        Raises:
            Refused: If a stroke is wrong.
        """
        num_frames = num_frames or branch[-1].num_frames
        try:
            sheet = _baked(self.of_node(branch[0], regions, is_plain=True))
            for node in branch[1:]:
                sheet = sheet.continued(node.at, _baked(self.of_node(node, regions, is_plain=True)))
            return sheet if num_frames == sheet.num_frames else _baked(sheet, num_frames)
        except (ValueError, TypeError) as error:
            raise refusal_of(error) from None


def _baked(sheet: StrokeSheet, num_frames: int | None = None) -> StrokeSheet:
    """The sheet of the first frames of its video, or of all, with a point for every whole frame of each move."""
    num_frames = num_frames or sheet.num_frames
    parts = [stroke.cut(0, num_frames - 1, sheet.num_frames) for stroke in sheet.strokes]
    strokes: list[Stroke] = [part for part in parts if part is not None]
    return StrokeSheet(strokes, sheet.width, sheet.height, num_frames, sheet.fps, sheet.regions)
