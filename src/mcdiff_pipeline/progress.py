# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Progress of long work: a bar in terminals and notebooks, elsewhere a line every 30 seconds."""

import contextlib
import contextvars
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from tqdm.auto import tqdm as bar_of_place
from tqdm.std import tqdm


# Seconds between lines where a bar cannot be redrawn, such as a log file.
LINE_INTERVAL = 30.0
LINE_FORMAT = "{desc}: {n_fmt} of {total_fmt}UNIT, {elapsed} so far, {remaining} left{postfix}"
# How units are written in such a line; others get an s.
UNITS = {"it": "", "MB": " MB", "min": " min"}

_is_hidden = contextvars.ContextVar("_is_hidden", default=False)


@contextlib.contextmanager
def progress_hidden() -> Iterator[None]:
    """Shows no progress of work that begins in this block."""
    token = _is_hidden.set(True)
    try:
        yield
    finally:
        _is_hidden.reset(token)


def is_progress_hidden() -> bool:
    """Whether this runs in a block of [`progress_hidden`]."""
    return _is_hidden.get()


class _Lines:
    """A stream on which each state of a bar is a line of its own."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        for line in filter(None, (part.strip() for part in text.split("\r"))):
            self.stream.write(line + "\n")

    def flush(self) -> None:
        self.stream.flush()


def progress_bar(
    name: str, total: float | None, *, initial: float = 0, unit: str = "it", disable: bool = False
) -> tqdm:
    """Progress with the time that is left.

    Work that takes less than 30 seconds writes nothing where there is neither a terminal nor a notebook.

    Args:
        name (`str`): what is done.
        total (`float`, *optional*): the amount of work in `unit`; None if it is not known, and then no time left.
        initial (`float`, defaults to 0): how much was done before.
        unit (`str`, defaults to `"it"`): what is counted.
        disable (`bool`, defaults to `False`): whether to show nothing.

    Returns:
        `tqdm`: a bar, to be used as a context manager; `update(n)` counts.
    """
    arguments: dict[str, Any] = {
        "total": total,
        "initial": initial,
        "desc": name,
        "unit": unit,
        "disable": disable or total == 0 or is_progress_hidden(),
    }
    if isinstance(total, float) or isinstance(initial, float):
        arguments["unit_scale"] = True  # without it, tqdm prints all digits
    is_in_notebook = bar_of_place.__module__ == "tqdm.auto"
    if sys.stderr.isatty() or is_in_notebook:
        return bar_of_place(**arguments)
    return tqdm(
        **arguments,
        file=_Lines(sys.stderr),
        bar_format=LINE_FORMAT.replace("UNIT", UNITS.get(unit, f" {unit}s")),
        mininterval=LINE_INTERVAL,
        miniters=0,  # without it, tqdm guesses from the speed so far how much is to be done until the next line
        delay=LINE_INTERVAL,
    )
