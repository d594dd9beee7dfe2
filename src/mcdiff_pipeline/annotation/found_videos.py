# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Search for videos in files and folders, and their names in a run."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


# Suffixes of videos in folders.
VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .divx .dv .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogm .ogv .ts .vob "
    ".webm .wmv .y4m".split()
)


@dataclass(frozen=True)
class FoundVideo:
    """A video, or a folder that could not be searched for videos.

    Args:
        path (`Path`): absolute path.
        name (`str`): name in the run; unique there, and printable as UTF-8.
        size (`int`): size in bytes.
        modified (`int`): time of the last change in nanoseconds. A video with another size or time has changed.
        error (`str`, *optional*): why it cannot be annotated.
    """

    path: Path
    name: str
    size: int = 0
    modified: int = 0
    error: str | None = None

    @property
    def identity(self) -> str:
        """Hash of the name, for file names: 20 hexadecimal digits."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:20]


def find_videos(videos: Sequence[str | os.PathLike]) -> list[FoundVideo]:
    """Finds videos in files and folders.

    A folder is searched with its subfolders for files with the suffixes of videos. Links are followed, and names that
    begin with a dot are skipped. A file that is given itself may have any name.

    The name of a video is its path relative to the given folder, or its file name. If two videos had the same name,
    parent folders are added to both until the names differ. Bytes that are not UTF-8 are written as `\\xff`, and a
    backslash is doubled.

    Args:
        videos (sequence of `str` or `os.PathLike`): files and folders, in any order.

    Returns:
        `list[FoundVideo]`: sorted by name. It contains unreadable videos and folders, with the reason.

    Raises:
        FileNotFoundError: if one of `videos` does not exist.
        ValueError: if there are no videos.
    """
    search = _Search()
    for given in sorted({Path(os.path.abspath(path)) for path in videos}):
        search.add(given)
    if not search.depths:
        raise ValueError(
            f"There are no videos in {', '.join(repr(str(path)) for path in videos) or 'an empty list'}: in folders, "
            f"names have to end in {', '.join(sorted(VIDEO_SUFFIXES))}; give other files by their own names."
        )
    found = [_found_video(path, name, search.errors.get(path)) for path, name in _unique_names(search.depths).items()]
    return sorted(found, key=lambda video: video.name)


class _Search:
    """Collects videos, and folders that cannot be searched.

    Attributes:
        depths: path -> number of the last parts of the path that make up the name.
        errors: path -> why it cannot be searched.
    """

    def __init__(self) -> None:
        self.depths: dict[Path, int] = {}
        self.errors: dict[Path, str] = {}
        self._searched: set[str] = set()  # real paths, so that a link to a parent folder ends the search

    def add(self, given: Path) -> None:
        """Adds a file, or the videos in a folder."""
        if not os.path.lexists(given):
            raise FileNotFoundError(f"There is no video or folder '{given}'.")
        if not given.is_dir():
            self.depths[given] = max(self.depths.get(given, 0), 1)
            return
        errors: list[OSError] = []
        for folder, subfolders, files in os.walk(given, onerror=errors.append, followlinks=True):
            real = os.path.realpath(folder)
            if real in self._searched:
                subfolders.clear()
                continue
            self._searched.add(real)
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in files:
                path = Path(folder, name)
                if not name.startswith(".") and path.suffix.lower() in VIDEO_SUFFIXES:
                    self.depths[path] = max(self.depths.get(path, 0), len(path.parts) - len(given.parts))
        for error in errors:
            folder = Path(error.filename)
            self.errors[folder] = f"this folder cannot be searched: {error.strerror}"
            self.depths[folder] = max(1, len(folder.parts) - len(given.parts))


def _unique_names(depths: dict[Path, int]) -> dict[Path, str]:
    """Path -> name. Adds parent folders to names that occur more than once."""
    depths = dict(depths)
    names = {path: _name(path, depth) for path, depth in depths.items()}
    while len(set(names.values())) < len(names):
        uses = Counter(names.values())
        for path, name in names.items():
            if uses[name] > 1:
                depths[path] += 1
                names[path] = _name(path, depths[path])
    return names


def _name(path: Path, depth: int) -> str:
    name = Path(*path.parts[1:][-depth:]).as_posix()
    return os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def _found_video(path: Path, name: str, error: str | None) -> FoundVideo:
    if error is not None:
        return FoundVideo(path, name, error=error)
    try:
        state = path.stat()
    except OSError as failure:
        return FoundVideo(path, name, error=f"it cannot be read: {failure.strerror}")
    # Reading a pipe would wait for a writer.
    if not stat.S_ISREG(state.st_mode):
        return FoundVideo(path, name, error="it is not a file")
    return FoundVideo(path, name, state.st_size, state.st_mtime_ns)
