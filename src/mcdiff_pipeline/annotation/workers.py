# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""One video to one part of a dataset, in a process of its own: what crashes it costs one video.

A part is `ID.tar`, the clips of the video, and `ID.json`, what became of it. The latter comes last and says that the
video is done. Files are built in a folder beside and get their names when they are complete and on disk.
"""

import base64
import contextlib
import copy
import dataclasses
import errno
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch

from ..atomic_files import durable_replace, durable_write
from ..dataset import ShardWriter
from .annotator import VideoAnnotator
from .found_videos import FoundVideo
from .near_duplicates import FINGERPRINT_LENGTH, fingerprint
from .report import CLIP_COUNTS, add_counts
from .selection import VideoOutcome
from .settings import AnnotationSettings


logger = logging.getLogger(__name__)

# Where files are built. What is found there when a run begins can go.
WRITING = "writing"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Fields of a clip's meta that say what made it.
MADE_WITH = ("flow", "keypoints", "versions")
# A choice, not a measurement: each process holds a CUDA context and RAFT in the GPU's memory, and while some of them
# decode, look for people and write, the others keep the GPU busy.
WORKERS_PER_GPU = 4
# A worker is forked from a process that has imported everything and done nothing yet. So it starts in milliseconds
# instead of the seconds that the imports take, also after a crash, and shares their memory with the other workers.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


@dataclass
class Part:
    """What became of a video, as `ID.json` holds it.

    Args:
        size, modified (`int`): those of the video when it was annotated; see [`FoundVideo`].
        outcome (`VideoOutcome`): what became of it.
        made_with (`dict`, *optional*): estimator, detector and versions; None without clips.
        counts (`list[dict]`): for each clip, what it added to the outcome: field -> number, list or dictionary.
        fingerprints (`np.ndarray`): int8 `[clips, FINGERPRINT_LENGTH]`.
    """

    size: int
    modified: int
    outcome: VideoOutcome
    made_with: dict[str, Any] | None = None
    counts: list[dict[str, Any]] = field(default_factory=list)
    fingerprints: np.ndarray = field(default_factory=lambda: np.empty((0, FINGERPRINT_LENGTH), dtype=np.int8))

    def write(self, video: FoundVideo, folder: Path) -> None:
        values = dataclasses.asdict(self) | {"fingerprints": base64.b64encode(self.fingerprints.tobytes()).decode()}
        durable_write(folder / f"{video.identity}.json", json.dumps(values).encode(), folder / WRITING)

    @classmethod
    def read(cls, video: FoundVideo, folder: Path) -> Self | None:
        """The part of a video, or None if the video is not done, or has changed since."""
        try:
            values = json.loads((folder / f"{video.identity}.json").read_bytes())
        except FileNotFoundError:
            return None
        if (values["size"], values["modified"]) != (video.size, video.modified):
            return None
        fingerprints = np.frombuffer(base64.b64decode(values["fingerprints"]), dtype=np.int8)
        values["fingerprints"] = fingerprints.reshape(-1, FINGERPRINT_LENGTH)
        values["outcome"] = VideoOutcome(**values["outcome"])
        return cls(**values)


def annotate_part(annotator: VideoAnnotator, video: FoundVideo, folder: Path) -> None:
    """Annotates one video into a part in `folder`; whatever was there of it is replaced.

    Raises:
        OSError: if the part cannot be written.
        Exception: if memory ran out or the GPU failed, for which the video may not be to blame.
    """
    outcome = VideoOutcome(video.name)
    part = Part(video.size, video.modified, outcome)
    counted = copy.deepcopy(outcome)
    fingerprints = []
    attempt = f"{video.identity}_{uuid.uuid4().hex}"  # unique also among machines that share the folder
    clips = annotator.annotate(video.path, video.name, outcome)
    with ShardWriter(
        folder / WRITING, attempt, clips_per_shard=sys.maxsize, frame_format=annotator.settings.frame_format
    ) as writer:
        while True:
            try:
                clip = next(clips, None)
            except Exception as error:  # whatever it is, it must not cost the videos that are fine
                if _comes_from_the_machine(error):
                    raise
                logger.exception("while annotating %s", video.path)
                reason = f"{type(error).__name__}: {error}".replace(str(video.path), video.name)
                outcome.error = f"'{video.name}' cannot be annotated: {' '.join(reason.split())}"
                break
            if clip is None:
                break
            counts = copy.deepcopy(outcome)
            add_counts(counts, {name: getattr(counted, name) for name in CLIP_COUNTS}, sign=-1)
            counts = {name: getattr(counts, name) for name in CLIP_COUNTS}
            writer.write(clip)
            part.made_with = {name: clip.meta[name] for name in MADE_WITH}
            part.counts.append(counts)
            fingerprints.append(fingerprint(clip.frames))
            counted = copy.deepcopy(outcome)
    if fingerprints:
        part.fingerprints = np.stack(fingerprints)
        durable_replace(folder / WRITING / f"{attempt}-00000.tar", folder / f"{video.identity}.tar")
    part.write(video, folder)


class MachineFailed(Exception):
    """Memory ran out, or the GPU failed, while a video was annotated; the message says what happened."""


def _comes_from_the_machine(error: Exception) -> bool:
    """Whether memory ran out or the GPU failed: another video may be to blame, or another program."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, cv2.error):
        return error.code == cv2.Error.StsNoMem
    # These have no type of their own in all versions of torch.
    signs = ("can't allocate memory", "CUDA error", "CUDNN_STATUS_", "CUBLAS_STATUS_")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def write_crash(video: FoundVideo, folder: Path, reason: str) -> None:
    """The part of a video that ends whatever process reads it."""
    outcome = VideoOutcome(video.name, error=f"'{video.name}' ends the process that annotates it, twice: {reason}.")
    Part(video.size, video.modified, outcome).write(video, folder)


class WorkerDied(Exception):
    """A worker's process has ended, or is not fit for more; the message says why."""


class Worker:
    """A process that annotates one video after the other.

    `answer` returns once for the start, when estimator and detector are loaded, and once for each video given.

    Args:
        settings (`AnnotationSettings`): for its [`VideoAnnotator`].
        folder (`Path`): of the parts.
        num_threads (`int`): for its computations.
    """

    def __init__(self, settings: AnnotationSettings, folder: Path, num_threads: int) -> None:
        self.video: FoundVideo | None = None
        self._folder = folder
        self._connection, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=_work, args=(theirs, settings, folder, num_threads), daemon=True)
        self._process.start()
        theirs.close()

    def fileno(self) -> int:
        """Lets `multiprocessing.connection.wait` wait for its answer."""
        return self._connection.fileno()

    def give(self, video: FoundVideo) -> None:
        self.video = video
        with contextlib.suppress(BrokenPipeError):  # it died meanwhile, which the answer will say
            self._connection.send(video)

    def answer(self) -> None:
        """Waits until it has started, or is done with the video.

        Raises:
            WorkerDied: if its process has ended, or gave up because the machine failed.
            RuntimeError: if it died while it started: no video is to blame.
            Exception: what stopped it: nothing that has to do with the video.
        """
        try:
            error = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            if self.video is None:
                raise RuntimeError(
                    f"A worker ended with {reason} before it could begin: either it has said why, or memory ran out "
                    'and fewer workers are needed; a script that annotates needs `if __name__ == "__main__":`, '
                    "because workers import it."
                ) from None
            for path in (self._folder / WRITING).glob(f"{self.video.identity}_*"):
                path.unlink(missing_ok=True)
            raise WorkerDied(reason) from None
        if isinstance(error, MachineFailed):
            raise WorkerDied(str(error))
        if error is not None:
            raise error

    def stop(self) -> None:
        """Ends the process at once: an unfinished part leaves no trace under its name."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def annotate_here(
    videos: Sequence[FoundVideo], settings: AnnotationSettings, folder: Path, num_workers: int | None
) -> Iterator[FoundVideo]:
    """Annotates videos into parts, in processes on this machine.

    A video whose worker dies, or that finds memory full or the GPU failing, is tried once more at the end, alone and
    in a new process, because it may have been another's fault.

    Args:
        videos (sequence of `FoundVideo`): in the order in which they are begun.
        settings (`AnnotationSettings`): what the clips are like.
        folder (`Path`): of the parts.
        num_workers (`int`, *optional*): processes at a time, among which the CPUs are divided; None: as
            `default_num_workers` says.

    Yields:
        [`FoundVideo`]: each when it is done. Closing the generator stops the workers.

    Raises:
        RuntimeError: if workers cannot start.
        Exception: what `VideoAnnotator` raises, or writing a part.
    """
    if num_workers is None:
        num_workers = default_num_workers(settings, num_cpus(), num_gpus=int(torch.cuda.is_available()))
    died: list[tuple[FoundVideo, str]] = []
    yield from _annotate_once(videos, settings, folder, num_workers, died)
    again, died = [video for video, _ in died], []
    yield from _annotate_once(again, settings, folder, 1, died)
    for video, reason in died:
        write_crash(video, folder, reason)
        yield video


def _annotate_once(
    videos: Sequence[FoundVideo],
    settings: AnnotationSettings,
    folder: Path,
    num_workers: int,
    died: list[tuple[FoundVideo, str]],
) -> Iterator[FoundVideo]:
    """Yields the videos that are done; those whose worker died are appended to `died`, with the reason."""
    num_workers = min(num_workers, len(videos))
    num_threads = max(1, num_cpus() // max(num_workers, 1))
    waiting = deque(videos)
    workers: list[Worker] = []
    try:
        while waiting or workers:
            busy = sum(worker.video is not None for worker in workers)
            while len(workers) < min(num_workers, busy + len(waiting)):
                workers.append(Worker(settings, folder, num_threads))
            for worker in multiprocessing.connection.wait(workers):
                try:
                    worker.answer()
                except WorkerDied as death:
                    died.append((worker.video, str(death)))
                    workers.remove(worker)
                    worker.stop()
                    continue
                done = worker.video
                if waiting:
                    worker.give(waiting.popleft())
                else:
                    workers.remove(worker)
                    worker.stop()
                if done is not None:
                    yield done
    finally:
        for worker in workers:
            worker.stop()


def default_num_workers(settings: AnnotationSettings, num_cpus: int, num_gpus: float) -> int:
    """How many processes annotate at a time: one a CPU, or fewer where they share GPUs.

    Args:
        settings (`AnnotationSettings`): say whether a GPU is used.
        num_cpus (`int`): of the machine, or of all machines of a cluster.
        num_gpus (`float`): of those, the ones that may be used; where there are none the CPUs compute.
    """
    if not needs_gpu(settings) or num_gpus == 0:
        return num_cpus
    return max(1, min(num_cpus, int(WORKERS_PER_GPU * num_gpus)))


def needs_gpu(settings: AnnotationSettings) -> bool:
    """Whether the estimator runs on a GPU where there is one."""
    return settings.flow != "dis" and settings.device != "cpu"


def num_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(
    connection: multiprocessing.connection.Connection, settings: AnnotationSettings, folder: Path, num_threads: int
) -> None:
    """A worker's process."""
    # Ctrl-C reaches all processes of the terminal; the one that started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(num_threads)
    cv2.setNumThreads(num_threads)
    try:
        annotator = VideoAnnotator(settings)
        connection.send(None)
        while True:
            video = connection.recv()
            try:
                annotate_part(annotator, video, folder)
            except Exception as error:
                if not _comes_from_the_machine(error):
                    raise
                raise MachineFailed(" ".join(f"{type(error).__name__}: {error}".split())) from error
            connection.send(None)
    except Exception as error:
        error.add_note(traceback.format_exc())  # a traceback itself does not travel
        connection.send(error)


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, be it by kill -9."""
    multiprocessing.parent_process().join()
    os._exit(1)
