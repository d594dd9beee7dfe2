# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Files of tracks of other programs, by the name of their format. `docs/interchange.md` describes each of them."""

import os
from dataclasses import dataclass
from pathlib import Path

from .track_arrays import (
    ATI_FRAMES,
    Arrays,
    read_ati,
    read_cotracker,
    read_wan_move,
    visibility_path,
    write_ati,
    write_cotracker,
    write_wan_move,
)
from .track_splines import (
    read_control_points,
    read_splines,
    read_tora,
    write_splines,
    write_tora,
)
from .tracks import Tracks


@dataclass(frozen=True)
class TrackFormat:
    """
    A format of tracks.

    Args:
        name (`str`): Its name here.
        suffixes (`tuple[str, ...]`): Suffixes of its files; `""` is a folder.
        num_frames (`int`, *optional*): Frames that files are written with, if the program expects a fixed number.
        fps (`float`, *optional*): Frames per second of its files, if it is fixed.
        has_visibility (`bool`): Whether the file says when a point is visible.
        is_fixed (`bool`): Whether no other number of frames can be written.
    """

    name: str
    suffixes: tuple[str, ...]
    num_frames: int | None = None
    fps: float | None = None
    has_visibility: bool = True
    is_fixed: bool = False


FORMATS = {
    one.name: one
    for one in (
        TrackFormat("wan-move", (".npy",), 81, 16.0),
        TrackFormat("ati", (".pth", ".pt"), ATI_FRAMES, 24.0, is_fixed=True),
        TrackFormat("ati-json", (".json",), ATI_FRAMES, 24.0, has_visibility=False),
        TrackFormat("cotracker", (".npz", ".pt", ".pth")),
        TrackFormat("kjnodes", (".json",), has_visibility=False),
        TrackFormat("ltx", (".json",), ATI_FRAMES, has_visibility=False),
        TrackFormat("ltx-points", (".json",), ATI_FRAMES, has_visibility=False),
        TrackFormat("tora", (".txt", ""), has_visibility=False),
    )
}
# The format that a suffix means if none is named.
USUAL_FORMATS = {".npy": "wan-move", ".npz": "cotracker", ".txt": "tora", ".pth": "ati", ".pt": "cotracker"}
READ_ONLY = ("ltx-points",)


def format_of(path: str | os.PathLike, name: str | None = None) -> TrackFormat:
    """
    The format of a file.

    Args:
        path (`str` or `os.PathLike`): The file.
        name (`str`, *optional*): The name of its format; None takes the usual one of the suffix.

    Raises:
        ValueError: If there is no such format, or the suffix does not tell it.
    """
    path = Path(path)
    if name is None:
        name = "tora" if path.is_dir() else USUAL_FORMATS.get(path.suffix)
        if name is None:
            raise ValueError(f"{path}: the suffix does not tell the format; name one of {', '.join(FORMATS)}.")
    if name not in FORMATS:
        raise ValueError(f"There is no format {name!r}; name one of {', '.join(FORMATS)}.")
    found = FORMATS[name]
    if path.suffix not in found.suffixes and not path.is_dir():
        suffixes = " or ".join(suffix or "no suffix, for a folder" for suffix in found.suffixes)
        raise ValueError(f"{path}: files of the format {name} have the suffix {suffixes}; give it that name.")
    return found


def is_sheet(path: str | os.PathLike) -> bool:
    """Whether a file holds a JSON object, as stroke sheets do and tracks do not."""
    path = Path(path)
    if path.suffix != ".json" or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4096).decode("utf-8-sig", errors="replace").lstrip()[:1] == "{"


def read_tracks(
    path: str | os.PathLike,
    format: str | None,
    width: int,
    height: int,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
) -> Tracks:
    """
    Read the tracks of another program. Pickles that could run code are refused.

    Args:
        path (`str` or `os.PathLike`):
            The file; for `wan-move` that of the positions, for `tora` also a folder.
        format (`str`, *optional*):
            One of [`FORMATS`]; None takes the usual one of the suffix.
        width (`int`): Width in pixels of the image that the tracks are for, since no format tells it.
        height (`int`): Its height.
        num_frames (`int`, *optional*):
            Frames that the tracks are resampled to; None keeps those of the file.
        fps (`float`, *optional*):
            Frames per second of the result. None keeps the duration, if the format has a frame rate; else it is 8.

    Returns:
        `Tracks`

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as this format.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    found = format_of(path, format)
    arrays: Arrays
    if found.name == "wan-move":
        arrays = read_wan_move(path)
    elif found.name == "ati":
        arrays = read_ati(path)
    elif found.name == "cotracker":
        arrays = read_cotracker(path)
    elif found.name == "ltx-points":
        arrays = read_control_points(path, num_frames or ATI_FRAMES)
    elif found.name == "tora":
        arrays = read_tora(path, num_frames, (width, height))
    else:
        arrays = read_splines(path)
    tracks = Tracks(*arrays, width, height, found.fps or 8.0)
    tracks = tracks if num_frames is None else tracks.resampled(num_frames)
    if fps is None:
        fps = 8.0 if found.fps is None else tracks.fps
    return Tracks(tracks.positions, tracks.visible, width, height, fps)


@dataclass(frozen=True)
class WrittenTracks:
    """
    What was written.

    Args:
        paths (`list[Path]`): The files.
        num_frames (`int`): Frames of each track.
        filled (`list[int]`): Tracks that are not visible in all frames, in a format that cannot say so. Their first
            and last position are repeated.
    """

    paths: list[Path]
    num_frames: int
    filled: list[int]


def write_tracks(
    tracks: Tracks, path: str | os.PathLike, format: str | None, *, num_frames: int | None = None
) -> WrittenTracks:
    """
    Write tracks for another program. Each file appears complete, or not at all.

    Args:
        tracks (`Tracks`): The tracks.
        path (`str` or `os.PathLike`): The file to write; see [`read_tracks`].
        format (`str`, *optional*): One of [`FORMATS`]; None takes the usual one of the suffix.
        num_frames (`int`, *optional*):
            Frames of each track; None takes the number that the program expects, or that of the tracks.

    Returns:
        `WrittenTracks`

    Raises:
        ValueError: If the format cannot be written, or not with so many frames.
    """
    path = Path(path)
    found = format_of(path, format)
    if found.name in READ_ONLY:
        raise ValueError(f"The format {found.name} is only read; write ltx, which the same nodes take.")
    if found.is_fixed and num_frames not in (None, found.num_frames):
        raise ValueError(
            f"{num_frames} frames cannot be written, since tracks of {found.name} have {found.num_frames}."
        )
    tracks = tracks.resampled(num_frames or found.num_frames or tracks.num_frames)
    arrays, paths, filled = (tracks.positions, tracks.visible), [path], []
    if found.name == "wan-move":
        write_wan_move(path, *arrays)
        paths.append(visibility_path(path))
    elif found.name == "ati":
        write_ati(path, *arrays)
    elif found.name == "cotracker":
        write_cotracker(path, *arrays)
    elif found.name == "tora":
        filled = write_tora(path, *arrays, (tracks.width, tracks.height))
    else:
        filled = write_splines(path, *arrays)
    return WrittenTracks(paths, tracks.num_frames, filled)
