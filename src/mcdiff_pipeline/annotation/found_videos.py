# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Which videos there are in files and folders, and what a run calls each of them."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


# What is taken for a video in a folder.
VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .divx .dv .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogm .ogv .ts .vob "
    ".webm .wmv .y4m".split()
)


@dataclass(frozen=True)
class FoundVideo:
    """A video, or a folder that could not be searched for videos.

    Args:
        path (`Path`): where it is, absolute.
        name (`str`): what the run calls it; unique in the run, and printable as UTF-8.
        size (`int`): in bytes.
        modified (`int`): time of its last change in nanoseconds. Size and time tell whether it is still the same.
        error (`str`, *optional*): why it cannot be annotated.
    """

    path: Path
    name: str
    size: int = 0
    modified: int = 0
    error: str | None = None

    @property
    def identity(self) -> str:
        """Stands for the name where a file's name is needed: 20 hexadecimal digits."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:20]


def find_videos(videos: Sequence[str | os.PathLike]) -> list[FoundVideo]:
    """Finds the videos in files and folders.

    In a folder, all files count whose names end as those of videos do, its subfolders' files too; links are followed,
    and what begins with a dot is left out. A file that is named itself may be called anything.

    A video's name is its path relative to the folder given, or its file's name. Where two of them would have the same
    name, as many of the folders above are added as it takes to tell them apart. Bytes that are no UTF-8 are written
    as `\\xff`, and a backslash as two.

    Args:
        videos (sequence of `str` or `os.PathLike`): the files and folders, in any order.

    Returns:
        `list[FoundVideo]`: in the order of their names. What cannot be read is there too, with the reason.

    Raises:
        FileNotFoundError: if one of `videos` does not exist.
        ValueError: if there are none.
    """
    # How many of the last parts of a path make up its name, and what is wrong with it.
    depths: dict[Path, int] = {}
    errors: dict[Path, str] = {}
    searched: set[str] = set()  # real paths, so that a link to a folder above ends the search
    for given in sorted({Path(os.path.abspath(path)) for path in videos}):
        if not os.path.lexists(given):
            raise FileNotFoundError(f"There is no video or folder '{given}'.")
        if not given.is_dir():
            depths[given] = max(depths.get(given, 0), 1)
            continue

        def not_searched(error: OSError, given: Path = given) -> None:
            folder = Path(error.filename)
            errors[folder] = f"this folder cannot be searched: {error.strerror}"
            depths[folder] = max(1, len(folder.parts) - len(given.parts))

        for folder, subfolders, files in os.walk(given, onerror=not_searched, followlinks=True):
            real = os.path.realpath(folder)
            if real in searched:
                subfolders.clear()
                continue
            searched.add(real)
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in files:
                path = Path(folder, name)
                if not name.startswith(".") and path.suffix.lower() in VIDEO_SUFFIXES:
                    depths[path] = max(depths.get(path, 0), len(path.parts) - len(given.parts))
    if not depths:
        raise ValueError(
            f"There are no videos in {', '.join(repr(str(path)) for path in videos) or 'an empty list'}: in folders, "
            f"names have to end in {', '.join(sorted(VIDEO_SUFFIXES))}; give other files by their own names."
        )

    names = {path: _name(path, depth) for path, depth in depths.items()}
    while len(set(names.values())) < len(names):
        uses = Counter(names.values())
        for path, name in names.items():
            if uses[name] > 1:
                depths[path] += 1
                names[path] = _name(path, depths[path])
    return sorted(
        (_look_at(path, name, errors.get(path)) for path, name in names.items()), key=lambda video: video.name
    )


def _name(path: Path, depth: int) -> str:
    name = Path(*path.parts[1:][-depth:]).as_posix()
    return os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def _look_at(path: Path, name: str, error: str | None) -> FoundVideo:
    if error is not None:
        return FoundVideo(path, name, error=error)
    try:
        state = path.stat()
    except OSError as failure:
        return FoundVideo(path, name, error=f"it cannot be read: {failure.strerror}")
    # Reading a pipe would wait for whoever may write into it.
    if not stat.S_ISREG(state.st_mode):
        return FoundVideo(path, name, error="it is no file")
    return FoundVideo(path, name, state.st_size, state.st_mtime_ns)
