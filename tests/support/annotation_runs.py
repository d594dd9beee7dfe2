"""What tests of annotation runs share: small videos, runs in processes of their own, and a look at what they do."""

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
from support.paths import EXAMPLES

from mcdiff_pipeline.annotation.report import Report
from mcdiff_pipeline.annotation.run import annotate_videos
from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings
from mcdiff_pipeline.video import write_video


PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket", "walking")
SETTINGS = AnnotationSettings(selection=SelectionSettings(resolution=48, num_frames=3), flow="dis")
CLIPS_PER_SHARD = 3


def annotate(videos, output: Path, settings: AnnotationSettings = SETTINGS, **options) -> Report:
    return annotate_videos(videos, output, settings, clips_per_shard=CLIPS_PER_SHARD, progress=False, **options)


def process_of(function, *arguments) -> multiprocessing.Process:
    """A process of its own, that is not this one's fork, for what it would not survive; it is running."""
    process = multiprocessing.get_context("forkserver").Process(target=function, args=arguments)
    process.start()
    return process


def annotate_until(change: int, videos, output: Path) -> None:
    """Annotates, and kills its own process just before it makes that change to files, counted from 0."""
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


@contextlib.contextmanager
def largest_file(size: int):
    """Lets this process, and what it starts, write no larger files, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def error_with_largest_file(size: int, videos, output: Path, answer) -> None:
    """Sends what annotating fails with when no larger files can be written, by its workers neither."""
    with largest_file(size):
        try:
            annotate(videos, output, num_workers=2)
        except OSError as error:
            answer.send(str(error))


def photograph(name: str) -> np.ndarray:
    """uint8 `[160, 160, 3]`."""
    return np.asarray(Image.open(EXAMPLES / f"{name}.jpg").convert("RGB").resize((160, 160)))


def pan(name: str, num_frames: int = 24, speed: int = 2) -> list[np.ndarray]:
    """A camera that moves over a photograph: frames of 96 x 96."""
    picture = photograph(name)
    return [np.ascontiguousarray(picture[30:126, speed * t : speed * t + 96]) for t in range(num_frames)]


def write_pans(folder: Path, names=PHOTOGRAPHS) -> None:
    for name in names:
        write_video(pan(name), folder / f"{name}.mp4", fps=12)


def num_parts(output: Path) -> int:
    """Videos that are done, in a run that is not."""
    return sum(len(path.stem) == 20 for path in (output / ".unfinished").glob("*.json"))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
        for path in sorted(folder.rglob("*"))
    }


@contextlib.contextmanager
def meanwhile(action, every: float = 0.003):
    """Runs `action()` in a thread beside the block, every so many seconds, until it returns True or the block ends."""
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
    """Processes, other than this one, that have a file of the folder open, and the file's name."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                for file in (process / "fd").iterdir():
                    path, name = os.path.split(os.readlink(file))
                    if path == str(folder):
                        found.append((int(process.name), name))
    return found


def kill(process: int) -> bool:
    """Sends SIGKILL, as the system does when memory runs out; whether the process was still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False
