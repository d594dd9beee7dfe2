# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The files that a command writes. Their names are checked; an existing file is replaced only if the user agrees."""

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from .errors import InputError


# Existing files that a message names.
LISTED_FILES = 5
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

ReplaceOption = Annotated[
    bool | None,
    typer.Option(
        "--yes/--no",
        "-y/-n",
        help="Replace outputs that exist, or refuse to (default: ask on a terminal, refuse elsewhere).",
    ),
]


def check_outputs(
    outputs: Mapping[str, Path | None], inputs: Iterable[str | Path | None], *, replace: bool | None
) -> None:
    """Checks that outputs can be written without harm, and asks whether existing ones may be replaced.

    Args:
        outputs (`Mapping[str, Path]`): the files to write by their options; None for options that are not given.
        inputs (`Iterable[str | Path]`): files that are read. Addresses, names and None are allowed and mean no file.
        replace (`bool`, *optional*): whether existing files may be replaced. None asks on a terminal, and means no
            elsewhere.

    Raises:
        InputError: if a file cannot be written, is an input or leads to one, two outputs are the same file, or a file
            exists and may not be replaced.
    """
    given = {option: path for option, path in outputs.items() if path is not None}
    for path in given.values():
        check_output(path)
    read = [Path(name) for name in inputs if name is not None]
    options = list(given)
    for index, option in enumerate(options):
        path = given[option]
        for one in read:
            if file_identity(path) == file_identity(one):
                raise InputError(f"{option} {path} is to be written, but it is also an input; give it another name.")
        for other in options[:index]:
            if file_identity(path) == file_identity(given[other]):
                raise InputError(f"{other} and {option} name the same file, {path}; give each its own.")
    check_existing([path for path in given.values() if path.exists() or path.is_symlink()], replace)


@contextlib.contextmanager
def reserved(paths: Iterable[Path]) -> Iterator[None]:
    """Keeps the other runs of this user on this machine from writing the same files during the block.

    Each file has a lock in the folder for temporary files, so that nothing is left beside it.

    Raises:
        InputError: if another run writes one of the files.
    """
    from mcdiff_pipeline.folder_lock import FolderInUse, folder_lock

    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir(), f"mcdiff-outputs-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for place, path in {path.resolve(): path for path in paths}.items():
            name = hashlib.sha256(os.fsencode(place)).hexdigest()[:32]
            try:
                stack.enter_context(folder_lock(folder, name=f"{name}.lock"))
            except FolderInUse:
                message = f"another run writes {path} now: wait until it has ended, or give another name."
                raise InputError(message) from None
        yield


def check_output(path: Path, suffixes: tuple[str, ...] | None = None) -> None:
    """Raises an [`InputError`] unless a file, with one of `suffixes` if given, can be written at `path`."""
    if suffixes is not None and path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: the suffix is {path.suffix!r}, but must be one of {', '.join(suffixes)}.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it first.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written there; name a file in a folder that you may write to.")


def check_output_folder(path: Path) -> None:
    """Raises an [`InputError`] unless files can be written into a folder, which may have to be made."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{path} cannot be a folder, since {existing} is a file; name another folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written, since you may not write into {existing}; name another folder.")


def is_on_terminal() -> bool:
    """Whether somebody can be asked: input and messages are on a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def check_existing(paths: list[Path], replace: bool | None) -> None:
    """Asks whether existing files may be replaced, unless `replace` says it; see [`check_outputs`].

    Raises:
        InputError: if they may not.
    """
    if not paths or replace:
        return
    listed, more = paths[:LISTED_FILES], len(paths) - LISTED_FILES
    names = ", ".join(map(str, listed)) + (f" and {more} more" if more > 0 else "")
    exist = f"{names} exists" if len(paths) == 1 else f"{names} exist"
    if replace is None and is_on_terminal():
        if typer.confirm(f"{exist}. Replace?", err=True):
            return
        stay = "stays as it is" if len(paths) == 1 else "stay as they are"
        raise InputError(f"nothing is done, and {names} {stay}.")
    raise InputError(f"{exist}; give -y to replace what exists, or another name.")


def file_identity(path: Path) -> tuple[int, int] | Path:
    """Equal for paths that are one file, also by links."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # it does not exist, or is an address
        return path.resolve()
    return (found.st_dev, found.st_ino)
