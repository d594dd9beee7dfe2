"""Helpers for tests of annotation runs: small videos, runs in other processes, and events while a run works."""

import contextlib
import hashlib
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mcdiff_pipeline.annotation.report import Report
from mcdiff_pipeline.annotation.run import annotate_videos
from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings
from mcdiff_pipeline.video import write_video
from support.paths import EXAMPLES, open_files


PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket", "walking")
SETTINGS = AnnotationSettings(selection=SelectionSettings(resolution=48, num_frames=3), flow="dis")
CLIPS_PER_SHARD = 3


def annotate(videos, output: Path, settings: AnnotationSettings = SETTINGS, **options) -> Report:
    return annotate_videos(videos, output, settings, clips_per_shard=CLIPS_PER_SHARD, progress=False, **options)


def start_process(function, *arguments) -> multiprocessing.Process:
    """Starts a function in another process that is not a fork of this one, for functions that end their process."""
    process = multiprocessing.get_context("forkserver").Process(target=function, args=arguments)
    process.start()
    return process


def annotate_until(change: int, videos, output: Path) -> None:
    """Annotates, and kills this process just before the given change to files, counted from 0."""
    changes = 0

    def count(event, arguments):
        nonlocal changes
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (
            event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
        ):
            if changes == change:
                os.kill(os.getpid(), signal.SIGKILL)
            changes += 1

    sys.addaudithook(count)
    annotate(videos, output)


def stopped_run(number: int, parts: int, videos, output: Path) -> str:
    """Annotates with one worker in a process that gets a signal when this number of videos is done; what it says."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    run = start_process(_annotate_until_stopped, videos, output, sender)
    while num_parts(output) < parts:
        assert run.is_alive()
        time.sleep(0.003)
    assert run.pid is not None
    os.kill(run.pid, number)
    run.join()
    assert receiver.poll(), f"The run ended with exit code {run.exitcode} without being stopped."
    return receiver.recv()


def _annotate_until_stopped(videos, output: Path, connection) -> None:
    try:
        annotate(videos, output, num_workers=1)
    except KeyboardInterrupt as interrupt:
        connection.send(str(interrupt))


@contextlib.contextmanager
def largest_file(size: int):
    """Limits the size of files that this process and its new children write, like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def error_with_largest_file(size: int, videos, output: Path, connection) -> None:
    """Annotates with a limit on the size of files, also for its workers, and sends the error message."""
    with largest_file(size):
        try:
            annotate(videos, output, num_workers=2)
        except OSError as error:
            connection.send(str(error))


def photograph(name: str) -> np.ndarray:
    """uint8 `[160, 160, 3]`."""
    return np.asarray(Image.open(EXAMPLES / f"{name}.jpg").convert("RGB").resize((160, 160)))


def pan(name: str, num_frames: int = 24, speed: int = 2) -> list[np.ndarray]:
    """A camera that pans over a photograph, `speed` pixels per frame: frames of 96 x 96 pixels."""
    image = photograph(name)
    return [np.ascontiguousarray(image[30:126, speed * t : speed * t + 96]) for t in range(num_frames)]


def write_pans(folder: Path, names=PHOTOGRAPHS) -> None:
    for name in names:
        write_video(pan(name), folder / f"{name}.mp4", fps=12)


def num_parts(output: Path) -> int:
    """Number of videos that are done in an unfinished run."""
    return sum(len(path.stem) == 20 for path in (output / ".unfinished").glob("*.json"))


def digests(folder: Path) -> dict[str, str]:
    """Relative path -> hash of the content, for all files and folders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
        for path in sorted(folder.rglob("*"))
    }


@contextlib.contextmanager
def meanwhile(action, every: float = 0.003):
    """Calls `action()` in a thread during the block, every `every` seconds, until it returns True."""
    over = threading.Event()

    def repeat():
        while not over.is_set() and not action():
            time.sleep(every)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def readers_in(folder: Path) -> list[tuple[int, str]]:
    """(process, file name) of all other processes that have a file of the folder open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                for file in open_files(process.name):
                    path, name = os.path.split(file)
                    if path == str(folder):
                        found.append((int(process.name), name))
    return found


def kill(process: int) -> bool:
    """Sends SIGKILL, as the system does when memory runs out; returns whether the process existed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False
