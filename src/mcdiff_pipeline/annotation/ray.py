# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Annotating videos on many machines, with Ray Data: the same parts as on one, in a folder that all of them share."""

import dataclasses
import logging
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .found_videos import FoundVideo
from .settings import AnnotationSettings
from .workers import WRITING, Part, Worker, WorkerDied, default_num_workers, needs_gpu, write_crash


# An actor for each CPU books half of it: Ray Data's own tasks need CPUs as well, and a pool of actors that books all
# of them never starts.
CPUS_PER_ACTOR = 0.5
# Videos are handed out one by one, or in blocks of several where there are more than so many: each block costs Ray
# some milliseconds and kilobytes.
MAX_BLOCKS = 10_000


def annotate_on_ray(
    videos: Sequence[FoundVideo],
    settings: AnnotationSettings,
    folder: Path,
    num_workers: int | None,
    address: str,
) -> Iterator[FoundVideo]:
    """Annotates videos into parts on a Ray cluster.

    The videos of a machine that fails are annotated on another one. A part that was there is replaced as a whole.

    Args:
        videos (sequence of `FoundVideo`): in the order in which they are begun.
        settings (`AnnotationSettings`): what the clips are like; all machines must see the files that it names.
        folder (`Path`): of the parts, which all machines share.
        num_workers (`int`, *optional*): processes at a time; None: as `default_num_workers` says.
        address (`str`): of the cluster, as `ray.init` takes it. Where Ray runs already, that is used and left running.

    Yields:
        [`FoundVideo`]: each when it is done.

    Raises:
        ImportError: if Ray Data is missing.
        ConnectionError: if there is no cluster.
        ValueError: if the folder is not shared.
        Exception: what `VideoAnnotator` raises, or writing a part.
    """
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(
            "Ray Data, which runs the annotation on a cluster, is missing: pip install 'mcdiff-pipeline[distributed]'."
        ) from error

    # Actors run in other folders than this program. What is no file is the name of weights that torchvision has.
    paths = {name: getattr(settings, name) for name in ("pose_model", "flow_weights")}
    paths = {name: os.path.abspath(path) for name, path in paths.items() if path is not None and os.path.exists(path)}
    settings = dataclasses.replace(settings, **paths)

    is_ours = not ray.is_initialized()
    if is_ours:
        at_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, at_sigterm)  # Ray's own would end the program without a word
    try:
        resources = ray.cluster_resources()
        cpus = int(resources.get("CPU", 1))
        if num_workers is None:
            num_workers = default_num_workers(settings, cpus, resources.get("GPU", 0))
        num_actors = min(num_workers, len(videos))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False  # the caller counts videos
        context.execution_no_progress_timeout_s = -1  # a film of two hours is no failure
        rows = (
            ray.data.from_items(
                [{"video": pickle.dumps(video)} for video in videos],
                override_num_blocks=min(len(videos), MAX_BLOCKS),
            )
            .map(
                _Actor,
                fn_constructor_args=(settings, folder, max(1, cpus // num_actors)),
                compute=ray.data.ActorPoolStrategy(size=num_actors, max_tasks_in_flight_per_actor=1),
                num_cpus=CPUS_PER_ACTOR,
                num_gpus=_gpus_per_actor(settings, resources, num_actors),
            )
            .iter_rows()
        )
        for row in rows:
            if row["error"]:
                raise pickle.loads(row["error"])
            yield pickle.loads(row["video"])
    finally:
        if is_ours:
            ray.shutdown()


def _gpus_per_actor(settings: AnnotationSettings, resources: Mapping[str, float], num_actors: int) -> float:
    """A share of the cluster's GPUs; what books none sees none."""
    return min(1, resources.get("GPU", 0) / num_actors) if needs_gpu(settings) else 0


class _Actor:
    """Keeps one worker. That it is a process of its own tells a video that crashes from a machine that fails."""

    def __init__(self, settings: AnnotationSettings, folder: Path, num_threads: int) -> None:
        self._settings, self._folder, self._num_threads = settings, folder, num_threads
        self._worker: Worker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
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
            return  # done by a machine that failed before it could say so
        for attempt in range(2):
            if self._worker is None:
                self._worker = Worker(self._settings, self._folder, self._num_threads)
                self._worker.answer()
            self._worker.give(video)
            try:
                self._worker.answer()
                return
            except WorkerDied as death:
                self._worker.stop()
                self._worker = None
                reason = str(death)
        write_crash(video, self._folder, reason)
