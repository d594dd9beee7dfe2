# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Atomic writes of files and folders: complete under their name, or not there at all."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, with the same suffix, that takes its place once the block is through.

    After an error what was at `path` before is still there, and nothing else is.

    Args:
        path (`str` or `os.PathLike`): the file to write; one that is there is replaced.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.unfinished{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_name(folder: Path) -> Path:
    """Where `atomic_folder` fills a folder."""
    return folder.with_name(f".{folder.name}.unfinished")


def atomic_folder(folder: str | Path, write: Callable[[Path], None]) -> None:
    """Fills a folder under a temporary name and renames it, so that a folder of this name is always complete.

    Where `write` fails, nothing of it is left: half a folder would keep a full disk full.
    """
    folder = Path(folder)
    unfinished, replaced = unfinished_name(folder), folder.with_name(f".{folder.name}.replaced")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        write(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
