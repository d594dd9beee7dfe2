"""Where the files of the repository are, and which files this process has open."""

import contextlib
import os
from pathlib import Path


REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"


def is_open(path: Path) -> bool:
    """
    Whether this process has the file open, by `/proc`. A count of all descriptors would also change when the garbage
    collector closes what another test left.
    """
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself, for one, is closed by now
            if os.readlink(f"/proc/self/fd/{descriptor}") == os.path.realpath(path):
                return True
    return False
