# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Annotation of videos in separate processes, so that a crash affects one video only."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from ..worker_processes import worker_context
from .annotator import VideoAnnotator
from .found_videos import FoundVideo
from .parts import WRITING, annotate_part, is_machine_failure, write_crash
from .settings import AnnotationSettings


# Chosen, not measured: each process holds a CUDA context and RAFT in the memory of the GPU, and while some processes
# decode, detect people and write, the others use the GPU.
WORKERS_PER_GPU = 4
_PROCESSES = worker_context([__name__])

# Seconds between the messages of a worker that say how much of a video is read.
WATCH_INTERVAL = 1.0


@dataclass(frozen=True)
class VideoProgress:
    """How far the annotation of a video is.

    Args:
        video (`FoundVideo`): the video.
        share (`float`): share of it that is read, in [0, 1].
        is_done (`bool`): whether its part is written.
    """

    video: FoundVideo
    share: float = 1.0
    is_done: bool = True


class MachineFailed(Exception):
    """Memory ran out, or the GPU failed, while a video was annotated. The message describes it."""


class WorkerDied(Exception):
    """The process of a worker has ended, or cannot be used any more. The message states the reason."""


class Worker:
    """A process that annotates videos one after another.

    `answer` returns None once after the start, when estimator and detector are loaded, and once for each video. Before
    that, it returns shares of the video that are read.

    Args:
        settings (`AnnotationSettings`): of its [`VideoAnnotator`].
        folder (`Path`): folder of the parts.
        num_threads (`int`): number of threads for its computations.
        watch_interval (`float`, defaults to `WATCH_INTERVAL`): seconds between two shares.

    Attributes:
        connection: readable when there is an answer.
    """

    def __init__(
        self,
        settings: AnnotationSettings,
        folder: Path,
        num_threads: int,
        watch_interval: float = WATCH_INTERVAL,
    ) -> None:
        self.video: FoundVideo | None = None
        self._folder = folder
        self.connection, child_connection = _PROCESSES.Pipe()
        arguments = (child_connection, settings, folder, num_threads, watch_interval)
        self._process = _PROCESSES.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        child_connection.close()

    def give(self, video: FoundVideo) -> None:
        """Hands the next video to the process."""
        self.video = video
        with contextlib.suppress(BrokenPipeError):  # the process has died; `answer` raises the error
            self.connection.send(video)

    def answer(self) -> float | None:
        """Waits until the process has started, has read more of the video, or is done with it.

        Returns:
            `float`, *optional*: share of the video that is read; None if the process has started or is done.

        Raises:
            WorkerDied: if the process has ended, or stopped because of a failure of the machine.
            RuntimeError: if it ended during its start, which no video causes.
            Exception: an error of the process that no video causes.
        """
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode or 0
            reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            if self.video is None:
                raise RuntimeError(
                    f"A worker ended with {reason} before it could begin: either its message is above, or memory ran "
                    'out and fewer workers are needed; a script that annotates needs `if __name__ == "__main__":`, '
                    "because workers import it."
                ) from None
            for path in (self._folder / WRITING).glob(f"{self.video.identity}_*"):
                path.unlink(missing_ok=True)
            raise WorkerDied(reason) from None
        if isinstance(answer, float):
            return answer
        if isinstance(answer, MachineFailed):
            raise WorkerDied(str(answer))
        if answer is not None:
            raise answer
        return None

    def stop(self) -> None:
        """Kills the process. An unfinished part does not appear under its name."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def annotate_here(
    videos: Sequence[FoundVideo],
    settings: AnnotationSettings,
    folder: Path,
    num_workers: int | None,
    watch_interval: float = WATCH_INTERVAL,
) -> Generator[VideoProgress, None, None]:
    """Annotates videos into parts, in processes on this machine.

    If a worker dies, memory runs out or the GPU fails, another video may be the cause. So the video is tried again at
    the end, alone and in a new process.

    Args:
        videos (sequence of `FoundVideo`): in the order in which they are started.
        settings (`AnnotationSettings`): settings of the clips.
        folder (`Path`): folder of the parts.
        num_workers (`int`, *optional*): number of processes, which share the CPUs. None: see `default_num_workers`.
        watch_interval (`float`, defaults to `WATCH_INTERVAL`): seconds between two shares of a video.

    Yields:
        [`VideoProgress`]: while videos are read, and for each when it is done. Closing the generator stops the
            workers.

    Raises:
        RuntimeError: if workers cannot start.
        Exception: an error of loading `VideoAnnotator`, or of writing a part.
    """
    if num_workers is None:
        num_workers = default_num_workers(settings, num_cpus(), num_gpus=int(torch.cuda.is_available()))
    died: list[tuple[FoundVideo, str]] = []
    yield from _annotate_once(videos, settings, folder, num_workers, watch_interval, died)
    again, died = [video for video, _ in died], []
    yield from _annotate_once(again, settings, folder, 1, watch_interval, died)
    for video, reason in died:
        write_crash(video, folder, reason)
        yield VideoProgress(video)


def _annotate_once(
    videos: Sequence[FoundVideo],
    settings: AnnotationSettings,
    folder: Path,
    num_workers: int,
    watch_interval: float,
    died: list[tuple[FoundVideo, str]],
) -> Iterator[VideoProgress]:
    """Yields the progress of the videos. Appends those whose worker died to `died`, with the reason."""
    num_workers = min(num_workers, len(videos))
    num_threads = max(1, num_cpus() // max(num_workers, 1))
    waiting = deque(videos)
    workers: list[Worker] = []
    try:
        while waiting or workers:
            busy = sum(worker.video is not None for worker in workers)
            while len(workers) < min(num_workers, busy + len(waiting)):
                workers.append(Worker(settings, folder, num_threads, watch_interval))
            for worker in _answering(workers):
                try:
                    share = worker.answer()
                except WorkerDied as death:
                    assert worker.video is not None  # during the start, `answer` raises another error
                    died.append((worker.video, str(death)))
                    workers.remove(worker)
                    worker.stop()
                    continue
                done = worker.video
                if share is not None:
                    assert done is not None  # during the start, nothing is read
                    yield VideoProgress(done, share, is_done=False)
                    continue
                if waiting:
                    worker.give(waiting.popleft())
                else:
                    workers.remove(worker)
                    worker.stop()
                if done is not None:
                    yield VideoProgress(done)
    finally:
        for worker in workers:
            worker.stop()


def _answering(workers: Sequence[Worker]) -> list[Worker]:
    """Waits until at least one of the workers has an answer, and returns those that have one."""
    ready = multiprocessing.connection.wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in ready]


def default_num_workers(settings: AnnotationSettings, num_cpus: int, num_gpus: float) -> int:
    """Default number of processes: one per CPU, or at most `WORKERS_PER_GPU` per GPU if the estimator uses GPUs.

    Args:
        settings (`AnnotationSettings`): decide whether a GPU is used.
        num_cpus (`int`): CPUs of the machine, or of all machines of a cluster.
        num_gpus (`float`): GPUs that may be used. If there are none, the estimator runs on CPUs.
    """
    if not needs_gpu(settings) or num_gpus == 0:
        return num_cpus
    return max(1, min(num_cpus, int(WORKERS_PER_GPU * num_gpus)))


def needs_gpu(settings: AnnotationSettings) -> bool:
    """Whether the estimator uses a GPU if there is one."""
    return settings.flow != "dis" and settings.device != "cpu"


def num_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(
    connection: multiprocessing.connection.Connection,
    settings: AnnotationSettings,
    folder: Path,
    num_threads: int,
    watch_interval: float,
) -> None:
    """The process of a worker."""
    # Ctrl-C reaches all processes of the terminal. The parent process decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(num_threads)
    cv2.setNumThreads(num_threads)
    try:
        annotator = VideoAnnotator(settings)
        connection.send(None)
        while True:
            video = connection.recv()
            try:
                annotate_part(annotator, video, folder, _Watch(connection, watch_interval).tell)
            except Exception as error:
                if not is_machine_failure(error):
                    raise
                raise MachineFailed(" ".join(f"{type(error).__name__}: {error}".split())) from error
            connection.send(None)
    except Exception as error:
        error.add_note(traceback.format_exc())  # tracebacks cannot be pickled
        connection.send(error)


class _Watch:
    """Sends the share of a video that is read, from time to time."""

    def __init__(self, connection: multiprocessing.connection.Connection, interval: float) -> None:
        self.connection, self._interval, self._told = connection, interval, time.monotonic()

    def tell(self, share: float) -> None:
        if time.monotonic() - self._told >= self._interval:
            self._told = time.monotonic()
            self.connection.send(share)


def _exit_with_parent() -> None:
    """Exits when the parent process dies, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a child process
    parent.join()
    os._exit(1)
