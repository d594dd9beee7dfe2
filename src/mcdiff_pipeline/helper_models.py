# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Where the models of other tools lie, such as the pose model and the segmenter."""

import os
import sys
from pathlib import Path


def cached_path(name: str) -> Path:
    """Path of `name` in the user's cache, whether it exists or not."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mcdiff-pipeline" / name


def locate(path: str | os.PathLike | None, variable: str, name: str) -> tuple[Path, str]:
    """The place of a model: `path` if given, else what an environment variable names, else the user's cache.

    If it is not in the cache, but in the environment of Python, where `make` puts it, that place is taken.

    Args:
        path (`str` or `os.PathLike`, *optional*): a place that somebody named.
        variable (`str`): the environment variable.
        name (`str`): file or folder in the cache.

    Returns:
        `tuple[Path, str]`: the place, and why it is this one, to be put behind it in a message; empty for `path`.
    """
    if path is not None:
        return Path(path), ""
    if named := os.environ.get(variable):
        return Path(named), f", which {variable} names"
    built = Path(sys.prefix, name)
    if built.exists() and not cached_path(name).exists():
        return built, ""
    return cached_path(name), f", and neither a path nor {variable} names another"
