"""Time of commands, with the CPU time of all processes that they start; and memory of this process."""

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


# Seconds until processes that a command has left are no longer waited for.
LONGEST_WAIT = 20.0


def become_reaper() -> None:
    """Makes this process the parent of orphaned processes, so that their CPU time is counted."""
    pr_set_child_subreaper = 36  # of <linux/prctl.h>
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def seconds_of(command: Sequence[object], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """
    Wall-clock and CPU seconds of a command. Call [`become_reaper`] before.

    Processes that it leaves are waited for, at most `LONGEST_WAIT`, and their CPU time counts. If it fails, the
    program ends.

    Args:
        command (`Sequence`): the command and its arguments.
        environment (`dict[str, str]`, *optional*): None is that of this process.
    """
    others, before, start = _children(), os.times(), time.perf_counter()
    run = subprocess.run(list(map(str, command)), env=environment, stdout=subprocess.DEVNULL)
    clock = time.perf_counter() - start
    if run.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed.")
    deadline = time.monotonic() + LONGEST_WAIT
    while (left := _children() - others) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process, os.WNOHANG)
        time.sleep(0.02)
    after = os.times()
    return clock, after.children_user + after.children_system - before.children_user - before.children_system


def resident_bytes() -> int:
    """Memory of this process: its resident set."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _children() -> set[int]:
    lists = (path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return {int(process) for content in lists for process in content.split()}
