# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Atomic writes of files and folders: under its name, a file or folder is complete or does not exist."""

import contextlib
import glob
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`, with the same suffix, and renames it to `path` after the block.

    If the block raises an error, an existing file stays unchanged and the temporary file is removed.

    Args:
        path (`str` or `os.PathLike`): the file to write. An existing file is replaced.
    """
    path = Path(path)
    unfinished = unfinished_path(path)
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_path(path: Path) -> Path:
    """
    A hidden name beside `path`, with the same suffix, for this process to write to.

    Files of this kind that processes left behind which do not run any more, as after SIGKILL, are removed.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.*.unfinished{glob.escape(path.suffix)}"):
        owner = leftover.name.removeprefix(f".{path.stem}.").removesuffix(f".unfinished{path.suffix}")
        if owner.isdigit() and not _is_running(int(owner)):
            leftover.unlink(missing_ok=True)
    return path.with_name(f".{path.stem}.{os.getpid()}.unfinished{path.suffix}")


def _is_running(process: int) -> bool:
    try:
        return psutil.pid_exists(process)
    except OverflowError:  # no process has such a number
        return False


def unfinished_name(folder: Path) -> Path:
    """Temporary name under which `atomic_folder` fills a folder."""
    return folder.with_name(f".{folder.name}.unfinished")


def atomic_folder(folder: str | Path, write: Callable[[Path], None]) -> None:
    """Fills a folder under a temporary name, then renames it. An existing folder is replaced.

    If `write` raises an error, the temporary folder is removed, so that it does not fill the disk.
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


def durable_replace(source: Path, target: Path) -> None:
    """Flushes a complete file to disk, then renames it to `target`, which it replaces.

    After a crash of the machine `target` is complete, so that files it was made from can be removed at once.
    """
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    os.replace(source, target)


def durable_write(path: Path, content: bytes, temporary_folder: Path) -> None:
    """Writes a file into `temporary_folder`, which is on the same disk, then moves it by `durable_replace`."""
    unfinished = temporary_folder / f"{path.name}_{uuid.uuid4().hex}"
    unfinished.write_bytes(content)
    durable_replace(unfinished, path)
