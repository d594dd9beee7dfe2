# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Making the videos of many jobs: in this process, in several, or on a Ray cluster."""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcdiff_pipeline.worker_processes import prepare_workers, worker_context

from .errors import first_line
from .jobs import Job, Outcome


if TYPE_CHECKING:
    from mcdiff_pipeline import MCDiffPipeline
    from mcdiff_pipeline.video.clip_metadata import ClipMetadata


# As in annotation: the tasks of Ray Data need CPUs, too, and a pool of actors that reserves all of them never starts.
CPUS_PER_ACTOR = 0.5

_PROCESSES = worker_context(["mcdiff_pipeline.public_names", __name__])
# Why a video was not made, if its process ended twice.
CRASHED = "The process that made it ended twice: it crashed or was killed."

# What a process has loaded.
_loaded: "Maker | None" = None

# A batch: the jobs and their digests.
Batch = list[tuple[Job, str]]


@dataclass(frozen=True)
class Settings:
    """How all videos of a run are made.

    Args:
        plan (`Callable`): makes the description of a video of a pipeline, a job, the name and the dtype of the model.
        model_path, model_name (`str`): the model, and its name in the videos.
        dtype (`str`), device (`str`, *optional*): as in the command.
        folder (`Path`): output folder, absolute.
        threads (`int`): threads of each process.
        engine (`str`): as in the command.
    """

    plan: Callable[..., "ClipMetadata"]
    model_path: str
    model_name: str
    dtype: str
    device: str | None
    folder: Path
    threads: int = 1
    engine: str = "pytorch"


class Maker:
    """Makes videos with one pipeline.

    Args:
        settings (`Settings`): the model, and where videos are written.
    """

    def __init__(self, settings: Settings) -> None:
        import torch

        from .model import load_model

        torch.set_num_threads(settings.threads)
        self.settings = settings
        arguments = (settings.model_path, settings.dtype, settings.device, settings.engine)
        self.pipe: MCDiffPipeline = load_model(*arguments)

    def make(self, batch: Batch) -> list[Outcome]:
        """Makes the videos of a batch. If one fails, the others are made one by one."""
        try:
            return self._make_together(batch)
        except (ValueError, TypeError, RuntimeError) as error:  # not of the disk
            if len(batch) == 1:
                job, digest = batch[0]
                return [Outcome(job.video, digest, first_line(error))]
        return [outcome for one in batch for outcome in self.make([one])]

    def _make_together(self, batch: Batch) -> list[Outcome]:
        import torch

        from mcdiff_pipeline.motion.clip_streams import stream_clip
        from mcdiff_pipeline.video import VideoWriter

        begun, model, dtype = time.monotonic(), self.settings.model_name, self.settings.dtype
        clips = [self.settings.plan(self.pipe, job, model, dtype) for job, _ in batch]
        one = clips[0].settings
        arguments: dict[str, Any] = {
            "num_frames": one.num_frames,
            "height": one.height,
            "width": one.width,
            "output_size": clips[0].output_size,
            "num_inference_steps": one.num_inference_steps,
            "guidance_scale": one.guidance_scale,
        }
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            videos: Iterable[Any]
            if len(clips) == 1:
                videos = [(frame for frame, _ in stream_clip(self.pipe, clips[0]))]
            else:
                images, sheets = [clip.image for clip in clips], [clip.strokes for clip in clips]
                generators = [torch.Generator().manual_seed(clip.settings.seed) for clip in clips]
                videos = self.pipe(images, sheets, generator=generators, **arguments).frames
            for (job, _), clip, frames in zip(batch, clips, videos, strict=True):
                path, fps = self.settings.folder / job.video, clip.settings.fps
                with VideoWriter(path, fps, clip.to_dict(), only_whole=True) as writer:
                    for frame in frames:
                        writer.write(frame)
        told = [str(one.message) for one in caught if one.category.__module__.startswith("mcdiff_pipeline")]
        seconds = round((time.monotonic() - begun) / len(batch), 3)
        return [Outcome(job.video, digest, None, one.num_frames, seconds, told) for job, digest in batch]


def prepare_processes() -> None:
    """Starts to import what the processes of [`make_here`] need, while this process goes on."""
    prepare_workers(_PROCESSES)


def make_here(batches: Sequence[Batch], settings: Settings, num_workers: int) -> Generator[list[Outcome], None, None]:
    """
    Makes the videos in processes on this machine; one worker is this process.

    If a process dies, what was being made is made again, one by one, each in a new process, and what kills it again is
    reported.

    Yields:
        `list[Outcome]`: of each batch when it is done. Closing the generator stops the processes.
    """
    num_workers = min(num_workers, len(batches))
    if num_workers <= 1:
        maker = Maker(settings) if batches else None
        yield from (maker.make(batch) for batch in batches if maker is not None)
        return
    lost: list[Batch] = []
    yield from _in_processes(deque(batches), settings, num_workers, lost)
    for one in (one for batch in lost for one in batch):
        again: list[Batch] = []
        yield from _in_processes(deque([[one]]), settings, 1, again)
        if again:
            yield [Outcome(one[0].video, one[1], CRASHED)]


def _in_processes(
    waiting: deque[Batch], settings: Settings, num_workers: int, lost: list[Batch]
) -> Iterator[list[Outcome]]:
    """Yields what is made. Batches whose process may have died are appended to `lost`."""
    while waiting:
        others = multiprocessing.active_children()
        pool = ProcessPoolExecutor(num_workers, mp_context=_PROCESSES, initializer=_begin)
        running: dict[Future[list[Outcome]], Batch] = {}
        is_broken = False
        try:
            while running or (waiting and not is_broken):
                while waiting and not is_broken and len(running) < num_workers:
                    try:
                        running[pool.submit(_make, settings, waiting[0])] = waiting[0]
                    except BrokenProcessPool:
                        is_broken = True
                        break
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    batch = running.pop(future)
                    try:
                        outcomes = future.result()
                    except BrokenProcessPool:
                        lost.append(batch)
                        is_broken = True
                        continue
                    yield outcomes
        finally:
            if running or is_broken:  # the caller has stopped, or a process has died
                # A broken pool ends its processes, but waits for ever for one that starts at the same time.
                for process in set(multiprocessing.active_children()) - set(others):
                    process.kill()
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Prepares a process: its parent handles Ctrl-C, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a child process
    parent.join()
    os._exit(1)


def _make(settings: Settings, batch: Batch) -> list[Outcome]:
    global _loaded
    if _loaded is None or _loaded.settings != settings:
        _loaded = Maker(settings)
    return _loaded.make(batch)


def make_on_ray(
    batches: Sequence[Batch], settings: Settings, num_workers: int | None, address: str
) -> Generator[list[Outcome], None, None]:
    """
    Makes the videos on a Ray cluster. All its machines see the files under the same paths.

    If a machine fails, Ray gives its batches to another one; a batch that kills its process is reported.

    Raises:
        ImportError: if Ray Data is missing.
        ConnectionError: if there is no cluster.
    """
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(
            "Ray Data, which runs the jobs on a cluster, is missing: pip install 'mcdiff-pipeline[distributed]'."
        ) from error

    connects = not ray.is_initialized()
    if connects:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    try:
        resources = ray.cluster_resources()
        gpus = 0.0 if settings.device == "cpu" else resources.get("GPU", 0.0)
        workers = min(num_workers or int(gpus or resources.get("CPU", 1)), len(batches))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # a long video is not a failure
        items = [{"batch": pickle.dumps(batch)} for batch in batches]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
            _Actor,
            fn_constructor_args=(settings,),
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            num_cpus=CPUS_PER_ACTOR,
            num_gpus=min(1, gpus / workers),
        )
        for row in dataset.iter_rows():
            if row["error"]:
                raise pickle.loads(row["error"])
            yield pickle.loads(row["outcomes"])
    finally:
        if connects:
            ray.shutdown()


class _Actor:
    """Makes videos in a process of its own, so that a crash does not look like a failed machine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        try:
            outcomes = [outcome for one in self._attempts(pickle.loads(row["batch"])) for outcome in one]
        except Exception as error:  # of loading the model or of the disk; the caller raises it
            return {"outcomes": b"", "error": pickle.dumps(error)}
        return {"outcomes": pickle.dumps(outcomes), "error": b""}

    def _attempts(self, batch: Batch) -> Iterator[list[Outcome]]:
        for attempt in range(2):
            if self._pool is None:
                self._pool = ProcessPoolExecutor(1, mp_context=_PROCESSES, initializer=_begin)
            try:
                yield self._pool.submit(_make, self._settings, batch).result()
                return
            except BrokenProcessPool:
                self._pool = None
        if len(batch) > 1:
            for one in batch:
                yield from self._attempts([one])
        else:
            job, digest = batch[0]
            yield [Outcome(job.video, digest, CRASHED)]
