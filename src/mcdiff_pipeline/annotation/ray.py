# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Annotation of videos on several machines, with Ray Data. It writes the same parts, into a shared folder."""

import dataclasses
import logging
import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path

from .found_videos import FoundVideo
from .parts import WRITING, Part, write_crash
from .settings import AnnotationSettings
from .workers import VideoProgress, Worker, WorkerDied, default_num_workers, needs_gpu


# There is one actor per CPU, but it reserves half a CPU: the tasks of Ray Data need CPUs too, and a pool of actors
# that reserves all of them never starts.
CPUS_PER_ACTOR = 0.5
# Largest number of blocks of videos. Each block costs Ray some milliseconds and kilobytes. With fewer videos, each is
# a block.
MAX_BLOCKS = 10_000


def annotate_on_ray(
    videos: Sequence[FoundVideo],
    settings: AnnotationSettings,
    folder: Path,
    num_workers: int | None,
    address: str,
) -> Generator[VideoProgress, None, None]:
    """Annotates videos into parts on a Ray cluster.

    If a machine fails, its videos are annotated on another one. An existing part is replaced.

    Args:
        videos (sequence of `FoundVideo`): in the order in which they are started.
        settings (`AnnotationSettings`): settings of the clips. All machines must see the files that it names.
        folder (`Path`): folder of the parts, which all machines share.
        num_workers (`int`, *optional*): number of processes. None: see `default_num_workers`.
        address (`str`): address of the cluster, for `ray.init`. If this process is already connected to a cluster, it
            uses that one and stays connected.

    Yields:
        [`VideoProgress`]: each video when it is done.

    Raises:
        ImportError: if Ray Data is missing.
        ConnectionError: if there is no cluster.
        ValueError: if the folder is not shared.
        Exception: an error of loading `VideoAnnotator`, or of writing a part.
    """
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(
            "Ray Data, which runs the annotation on a cluster, is missing: pip install 'mcdiff-pipeline[distributed]'."
        ) from error

    connects = not ray.is_initialized()
    if connects:
        sigterm_handler = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, sigterm_handler)  # Ray's handler would end the program without a message
    try:
        for row in _rows(videos, _with_absolute_paths(settings), folder, num_workers):
            if row["error"]:
                raise pickle.loads(row["error"])
            yield VideoProgress(pickle.loads(row["video"]))
    finally:
        if connects:
            ray.shutdown()


def _with_absolute_paths(settings: AnnotationSettings) -> AnnotationSettings:
    """Makes paths absolute, because actors run in other folders. Other values name weights of torchvision."""
    paths = {name: getattr(settings, name) for name in ("pose_model", "flow_weights")}
    paths = {name: os.path.abspath(path) for name, path in paths.items() if path is not None and os.path.exists(path)}
    return dataclasses.replace(settings, **paths)


def _rows(
    videos: Sequence[FoundVideo], settings: AnnotationSettings, folder: Path, num_workers: int | None
) -> Iterable[dict[str, bytes]]:
    """Annotates the videos while it is iterated. A row has the pickled video, and the pickled error or nothing."""
    import ray.data

    resources = ray.cluster_resources()
    cpus = int(resources.get("CPU", 1))
    if num_workers is None:
        num_workers = default_num_workers(settings, cpus, resources.get("GPU", 0))
    num_actors = min(num_workers, len(videos))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False  # the caller shows progress
    context.execution_no_progress_timeout_s = -1  # a video of two hours is not a failure
    pickled = [{"video": pickle.dumps(video)} for video in videos]
    dataset = ray.data.from_items(pickled, override_num_blocks=min(len(videos), MAX_BLOCKS)).map(
        _Actor,
        fn_constructor_args=(settings, folder, max(1, cpus // num_actors)),
        compute=ray.data.ActorPoolStrategy(size=num_actors, max_tasks_in_flight_per_actor=1),
        num_cpus=CPUS_PER_ACTOR,
        num_gpus=_gpus_per_actor(settings, resources, num_actors),
    )
    return dataset.iter_rows()


def _gpus_per_actor(settings: AnnotationSettings, resources: Mapping[str, float], num_actors: int) -> float:
    """Fraction of a GPU that each actor reserves. Ray hides the GPUs from actors that reserve none."""
    return min(1, resources.get("GPU", 0) / num_actors) if needs_gpu(settings) else 0


class _Actor:
    """Runs one worker. It is a separate process, so that a video that crashes does not look like a failed machine."""

    def __init__(self, settings: AnnotationSettings, folder: Path, num_threads: int) -> None:
        self._settings, self._folder, self._num_threads = settings, folder, num_threads
        self._worker: Worker | None = None

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        try:
            self._annotate(pickle.loads(row["video"]))
        except Exception as error:
            return {"video": row["video"], "error": pickle.dumps(error)}
        return {"video": row["video"], "error": b""}

    def _annotate(self, video: FoundVideo) -> None:
        if not (self._folder / WRITING).is_dir():
            raise ValueError(
                f"A machine of the cluster does not see '{self._folder}', but all need the output folder, the videos, "
                "the pose model and the weights under the same paths: put them on storage that they share."
            )
        if Part.read(video, self._folder) is not None:
            return  # done by a machine that failed before it could report it
        for attempt in range(2):
            if self._worker is None:
                self._worker = Worker(self._settings, self._folder, self._num_threads)
                self._worker.answer()
            self._worker.give(video)
            try:
                while self._worker.answer() is not None:
                    pass  # a part of the video is read
                return
            except WorkerDied as death:
                self._worker.stop()
                self._worker = None
                reason = str(death)
        write_crash(video, self._folder, reason)
