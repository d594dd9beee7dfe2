# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A lock on a folder, so that only one run at a time works in it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


# Name of the file that is locked. It stays when the lock ends.
LOCK = ".lock"


class FolderInUse(ValueError):
    """Another run works in a folder. The message names the folder and the way out."""


@contextlib.contextmanager
def folder_lock(folder: Path, *, name: str = LOCK, used_by: str = "run") -> Iterator[None]:
    """Keeps other processes and threads out of a folder during the block.

    The lock ends with its process, even if that is killed by SIGKILL, on all systems that
    `filelock` knows.

    Args:
        folder (`Path`): the folder. It is created if it does not exist.
        name (`str`, defaults to `LOCK`): the file that is locked, relative to the folder.
        used_by (`str`, defaults to `"run"`): what works in such folders, as in "Another run works in ...".

    Raises:
        FolderInUse: if another process, or another thread, has the lock.
        OSError: if the folder cannot be made, or the file cannot be written.
    """
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderInUse(
            f"Another {used_by} works in '{folder}': wait until it has ended, or name another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()
