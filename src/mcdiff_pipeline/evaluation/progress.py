# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The progress bar of an evaluation."""

import sys

from tqdm.auto import tqdm


def progress_bar(name: str, total: int, initial: int) -> tqdm:
    """A bar that starts at `initial` of `total`. It writes rarely where the output is not a terminal."""
    return tqdm(
        total=total, initial=initial, desc=name, disable=total == 0, mininterval=0.1 if sys.stderr.isatty() else 30
    )
