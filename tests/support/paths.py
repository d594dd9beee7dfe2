"""Where the files of the repository are, and which files this process has open."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"


def is_open(path: Path) -> bool:
    """
    Whether this process has the file open, by `/proc`. A count of all descriptors would also change when the garbage
    collector closes what another test left.
    """
    return os.path.realpath(path) in open_files("self")


def open_files(process: int | str) -> Iterator[str]:
    """What a process, or `"self"`, has open, by `/proc`. Raises `OSError` if it has ended or is another user's."""
    for descriptor in os.listdir(f"/proc/{process}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it is closed by now, that of the listing itself for one
            yield os.readlink(f"/proc/{process}/fd/{descriptor}")
