# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Errors of the user's input, as opposed to failures."""

import contextlib
from collections.abc import Iterator


class InputError(ValueError):
    """The user's input is wrong. The message is one sentence for the user."""


@contextlib.contextmanager
def checking_input(prefix: str = "") -> Iterator[None]:
    """Turns the library's errors about wrong input into an [`InputError`], with `prefix` before the message."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise InputError(prefix + first_line(error)) from error


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the name of its type if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
