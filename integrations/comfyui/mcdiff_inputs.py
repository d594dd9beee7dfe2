# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What nodes pass to each other, as the library reads it: splines, stroke sheets, images and videos."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import folder_paths
import numpy as np
import torch

from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.color_matching import color_match
from mcdiff_pipeline.video.clip_metadata import LeadIn


Point = tuple[float, float]


def image_of(images: torch.Tensor) -> torch.Tensor:
    """
    The single image of an IMAGE.

    Args:
        images (`torch.Tensor` of shape `(1, height, width, 3)`):
            In [0, 1]; values beyond, as some nodes make them, are cut off.

    Returns:
        `torch.Tensor` of shape `(3, height, width)`.

    Raises:
        ValueError: If there are several images.
    """
    if len(images) != 1:
        raise ValueError(
            f"There are {len(images)} images, but one is moved: choose one, for example with ImageFromBatch."
        )
    return images[0, :, :, :3].permute(2, 0, 1).clamp(0, 1)


def frames_of(frames: Sequence[torch.Tensor]) -> torch.Tensor:
    """Frames `(3, height, width)` as an IMAGE `(frames, height, width, 3)`."""
    return torch.stack(list(frames)).permute(0, 2, 3, 1).contiguous()


def strokes_of(tracks: Sequence[Sequence[Point]], num_frames: int) -> list[Stroke]:
    """
    Tracks as strokes over a whole clip. The points of a track are equally far apart in time, as the editor samples
    them; a track that stays where it is becomes a hold.
    """
    strokes = []
    for track in tracks:
        if len(set(track)) == 1:
            strokes.append(Stroke([track[0]], kind="hold"))
        else:
            strokes.append(Stroke(track, frames=np.linspace(0, num_frames - 1, len(track)).tolist()))
    return strokes


def sheet_of(text: str) -> StrokeSheet:
    """
    The stroke sheet in a text, or in a file of ComfyUI's input folder that the text names.

    Raises:
        ValueError: If it is not a sheet, or there is no such file.
    """
    if text.lstrip().startswith("{"):
        try:
            return StrokeSheet.from_dict(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"`sheet` is not JSON: {error}; paste the whole text of a stroke sheet.") from None
    return StrokeSheet.load(sheet_path(text))


def sheet_path(name: str) -> Path:
    """
    The path of a stroke sheet in ComfyUI's input folder.

    Raises:
        ValueError: If the name is not that of a file in this folder.
    """
    name = name.strip()
    path = Path(folder_paths.get_input_directory(), name)
    if not name or Path(name).name != name or not path.is_file():
        raise ValueError(
            f"`sheet` is {name[:60]!r}, but it has to be the JSON text of a stroke sheet, or the name of one in the "
            "input folder of ComfyUI: put the file there."
        )
    return path


def joined(first: StrokeSheet | None, second: StrokeSheet) -> StrokeSheet:
    """The strokes and regions of two sheets, with the size and the length of the second."""
    if first is None:
        return second
    first = first.scaled(second.width, second.height)
    strokes, regions = (*first.strokes, *second.strokes), (*first.regions, *second.regions)
    return replace(second, strokes=strokes, regions=regions)


def lead_of(first: torch.Tensor, last: torch.Tensor) -> LeadIn:
    """How a video with this first and this last frame `(3, height, width)` is continued: the match of their colors."""
    scale, shift = (tuple(one.flatten().tolist()) for one in color_match(last, first))
    return LeadIn(0, scale, shift)


def later(sheet: StrokeSheet, frames: int) -> StrokeSheet:
    """The strokes of a sheet, the given number of frames later, without its regions."""
    strokes = []
    for stroke in sheet.strokes:
        if stroke.frames is not None:
            strokes.append(replace(stroke, frames=[frame + frames for frame in stroke.frames]))
        else:
            end = None if stroke.end_frame is None else stroke.end_frame + frames
            strokes.append(replace(stroke, start_frame=stroke.start_frame + frames, end_frame=end))
    return replace(sheet, strokes=strokes, num_frames=sheet.num_frames + frames, regions=())
