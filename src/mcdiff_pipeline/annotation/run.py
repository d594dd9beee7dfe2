# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""From many videos to a dataset: on all cores of a machine or of a cluster, and on from where it was stopped.

A run keeps everything unfinished in `OUTPUT/.unfinished/`: its arguments (`run.json`), and a part for each video that
is done (`annotation_workers`). When all are, `merge.json` fixes the order of the clips, that of the videos' names,
without those that are recognized as near-duplicates. They are packed into the final shards as they are stored in the
parts; a part goes once all its clips are packed. Then come the reports, at last `report.json`, which says that the
dataset is finished, and the folder goes. Every step can be killed and is done again or found done by the next run, so
the bytes are the same, as far as the estimator gives the same flow again.
"""

import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..atomic_files import durable_replace, durable_write
from ..dataset import ClipDataset, ShardWriter
from ..dataset.shards import check_shard_arguments
from .found_videos import FoundVideo, find_videos
from .near_duplicates import FINGERPRINT_LENGTH, first_of_their_kind
from .ray import annotate_on_ray
from .report import REPORT_JSON, Report, add_counts
from .selection import VideoOutcome
from .settings import AnnotationSettings
from .workers import DISK_FULL, WRITING, Part, annotate_here


UNFINISHED = ".unfinished"
MERGE_PLAN = "merge.json"
NEAR_DUPLICATE = "near-duplicate of an earlier clip"


def annotate_videos(
    videos: Sequence[str | os.PathLike],
    output_dir: str | os.PathLike,
    settings: AnnotationSettings,
    *,
    split: str = "train",
    license: str = "unknown",
    num_workers: int | None = None,
    clips_per_shard: int = 256,
    ray_address: str | None = None,
    progress: bool = True,
) -> Report:
    """Turns videos into a dataset: shards, a report and a dataset card.

    A run that was stopped goes on when it is started again, with any number of workers and on one machine or many.
    With DIS on processors of one kind, it ends with the same bytes as one that was not stopped. RAFT gives other last
    digits with another device, another number of threads (the CPUs are divided among the workers) or another version
    of torch. A dataset that is finished is left as it is.

    A video that cannot be read, or crashes the process that reads it, costs nothing but itself. Clips that show the
    same piece of film as an earlier one are left out where that is recognized: exact copies are, and of those that
    were encoded again about half (`near_duplicates`).

    Args:
        videos (sequence of `str` or `os.PathLike`): files and folders; see `find_videos`.
        output_dir (`str` or `os.PathLike`): the dataset's folder: new, empty, or one in which a run was stopped.
        settings (`AnnotationSettings`): what the clips are like.
        split (`str`, defaults to `"train"`): first part of the shards' names.
        license (`str`, defaults to `"unknown"`): of the videos, as the Hub abbreviates it, for the dataset card.
        num_workers (`int`, *optional*): processes. None: one for each CPU of the machine or the cluster, and at most
            four for each GPU that RAFT runs on.
        clips_per_shard (`int`, defaults to 256): the last shard may hold fewer.
        ray_address (`str`, *optional*): run on this Ray cluster; all its machines must see the videos, the output,
            the pose model and the weights under the same paths.
        progress (`bool`, defaults to True): show progress bars on stderr.

    Returns:
        [`Report`]: what became of the videos.

    Raises:
        ValueError: if an argument is impossible, there are no videos, the folder holds something else, or another run
            is at work in it.
        FileNotFoundError: if one of `videos` does not exist.
        ImportError: if a package of the extra `annotation`, or for `ray_address` of `distributed`, is missing.
        OSError: if the disk is full; what is finished stays, and another run goes on.
        RuntimeError: if workers cannot start.
        KeyboardInterrupt: at Ctrl-C and at SIGTERM, with a message; what is finished stays here, too.

    Example:
        ```py
        if __name__ == "__main__":  # the processes that annotate import the script, too
            report = annotate_videos(["holiday.mp4", "videos"], "data/mine", AnnotationSettings(flow="dis"))
            print(report.summary())
        ```
    """
    check_shard_arguments(split, clips_per_shard)
    if not re.fullmatch(r"[a-z][a-z0-9.+-]*", license):
        raise ValueError(
            f"`license` is {license!r}, but the Hub's abbreviations are of small letters, digits, '.' and '-', e.g. "
            "'cc-by-4.0'."
        )
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"`num_workers` is {num_workers}, but at least 1 is needed.")
    found = find_videos(videos)
    output = Path(os.path.abspath(output_dir))
    unfinished = output / UNFINISHED
    run = {"split": split, "license": license, "clips_per_shard": clips_per_shard, "settings": settings.as_dict()}
    run = json.loads(json.dumps(run))  # as it comes back from a file
    if not unfinished.exists():
        if (output / REPORT_JSON).exists():
            return _finished_report(output, run, found)
        if output.exists() and (others := [path.name for path in output.iterdir() if not path.name.startswith(".")]):
            raise ValueError(
                f"'{output}' holds other files ({min(others)}), but a dataset needs a new or empty folder; name one."
            )

    try:
        with _sole_run(unfinished), _sigterm_as_interrupt():
            if not (output / REPORT_JSON).exists():
                _begin(unfinished, run)
                if not (unfinished / MERGE_PLAN).exists():
                    _annotate_missing(found, settings, unfinished, num_workers, ray_address, progress)
                    plan = _merge_plan(found, output, run)
                    durable_write(unfinished / MERGE_PLAN, json.dumps(plan).encode(), unfinished / WRITING)
                _merge(output, progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped with {_progress(found, unfinished)} done, which are kept; the same command goes on."
        ) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise OSError(
            f"'{output}' takes no more data ({error.strerror}), with {_progress(found, unfinished)} done, which are "
            "kept; make room, and the same command goes on."
        ) from error
    # The lock is open until here, and network file systems keep a folder in which a file is open. Should this fail,
    # the next run does it.
    shutil.rmtree(unfinished, ignore_errors=True)
    return _finished_report(output, run, found, was_finished=False)


@contextlib.contextmanager
def _sole_run(unfinished: Path) -> Iterator[None]:
    """Keeps other runs out of the folder; a lock that goes with its process, however that ends."""
    unfinished.mkdir(parents=True, exist_ok=True)
    with open(unfinished / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that has ended meanwhile has removed the file, and somebody else may lock a new one.
            is_sole = os.path.samestat(os.fstat(lock.fileno()), os.stat(unfinished / "lock"))
        except (BlockingIOError, FileNotFoundError):
            is_sole = False
        if not is_sole:
            raise ValueError(
                f"Another run is at work in '{unfinished.parent}'; wait until it has ended, or name another folder."
            )
        try:
            yield
        finally:
            # What is half written is of no use to the next run, and may be what fills the disk.
            shutil.rmtree(unfinished / WRITING, ignore_errors=True)


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Lets SIGTERM stop what runs as Ctrl-C does; only the main thread hears of either."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _begin(unfinished: Path, run: dict[str, Any]) -> None:
    """Notes the arguments of a new run, or checks that they are those of the one that was stopped.

    A run that has made no part yet binds nobody: its arguments may be what kept its workers from starting.
    """
    shutil.rmtree(unfinished / WRITING, ignore_errors=True)  # of a run that was killed
    (unfinished / WRITING).mkdir()
    arguments = unfinished / "run.json"
    if all(path == arguments for path in unfinished.glob("*.json")):
        durable_write(arguments, json.dumps(run).encode(), unfinished / WRITING)
    if difference := _difference(json.loads(arguments.read_bytes()), run):
        raise ValueError(
            f"'{unfinished.parent}' holds an unfinished run with other arguments ({difference}); go on with those, or "
            "name another folder."
        )


def _difference(before: Any, now: Any, name: str = "") -> str | None:
    """The first difference between two values from JSON, as "name: one, now other"; None if there is none."""
    if isinstance(before, dict) and isinstance(now, dict):
        parts = (_difference(before.get(key), now.get(key), f"{name}.{key}") for key in sorted(before | now))
        return next(filter(None, parts), None)
    return None if before == now else f"{name.lstrip('.')}: {json.dumps(before)}, now {json.dumps(now)}"


def _progress(found: Sequence[FoundVideo], unfinished: Path) -> str:
    done = sum(bool(video.error) or (unfinished / f"{video.identity}.json").exists() for video in found)
    return f"{done} of {len(found)} videos"


def _annotate_missing(
    found: Sequence[FoundVideo],
    settings: AnnotationSettings,
    unfinished: Path,
    num_workers: int | None,
    ray_address: str | None,
    progress: bool,
) -> None:
    """Makes the parts that are not there yet."""
    todo = [video for video in found if not video.error and Part.read(video, unfinished) is None]
    if not todo:
        return
    todo.sort(key=lambda video: -video.size)  # the longest first, so that none is left running alone at the end
    if ray_address is None:
        parts = annotate_here(todo, settings, unfinished, num_workers)
    else:
        parts = annotate_on_ray(todo, settings, unfinished, num_workers, ray_address)
    with (
        contextlib.closing(parts),
        tqdm(total=len(found), initial=len(found) - len(todo), unit="video", disable=not progress) as bar,
    ):
        for _ in parts:
            bar.update()


def _merge_plan(found: Sequence[FoundVideo], output: Path, run: dict[str, Any]) -> dict[str, Any]:
    """JSON with the final report and the clips of the dataset: [identity of the video, number of its clip] in order.

    Beside the outcomes, no more than the fingerprints of all clips is held in memory.
    """
    unfinished = output / UNFINISHED
    readable = [video for video in found if not video.error]
    fingerprints = [Part.read(video, unfinished).fingerprints for video in readable]
    starts = np.cumsum([0, *map(len, fingerprints)])
    is_first = first_of_their_kind(np.concatenate([np.empty((0, FINGERPRINT_LENGTH), np.int8), *fingerprints]))
    is_first_of = {
        video.identity: is_first[start:stop] for video, start, stop in zip(readable, starts, starts[1:], strict=False)
    }

    outcomes, made_with, clips = [], [], []
    for video in found:
        if video.error:
            outcomes.append(VideoOutcome(video.name, error=f"'{video.name}': {video.error}"))
            continue
        part = Part.read(video, unfinished)
        for index, stays in enumerate(is_first_of[video.identity]):
            if stays:
                clips.append([video.identity, index])
            else:
                add_counts(part.outcome, part.counts[index], sign=-1)
                part.outcome.drop(NEAR_DUPLICATE)
        outcomes.append(part.outcome)
        if part.made_with is not None and part.made_with not in made_with:
            made_with.append(part.made_with)
    report = Report(output, **run, made_with=made_with, videos=outcomes)
    return {"report": report.as_dict(), "clips": clips}


def _merge(output: Path, progress: bool) -> None:
    """Packs the clips into the final shards and writes the reports, as far as an earlier run has not done it."""
    unfinished = output / UNFINISHED
    plan = json.loads((unfinished / MERGE_PLAN).read_bytes())
    report = Report.from_dict(plan["report"], output)
    size = report.clips_per_shard
    shards = [plan["clips"][start : start + size] for start in range(0, len(plan["clips"]), size)]
    for number, clips in enumerate(tqdm(shards, desc="packing", unit="shard", disable=not progress)):
        shard = output / f"{report.split}-{number:05d}.tar"
        if not shard.exists():
            with ShardWriter(unfinished / WRITING, report.split, clips_per_shard=size, first_shard=number) as writer:
                for part, group in itertools.groupby(clips, key=lambda clip: clip[0]):
                    dataset = ClipDataset(unfinished / f"{part}.tar")
                    for _, index in group:
                        writer.copy(dataset, index)
            durable_replace(unfinished / WRITING / shard.name, shard)
        # Unless the next shard begins with the rest of it, a part is packed now.
        needed = {part for part, _ in shards[number + 1][:1]} if number + 1 < len(shards) else set()
        for part in {part for part, _ in clips} - needed:
            (unfinished / f"{part}.tar").unlink(missing_ok=True)
    for name, content in report.files().items():
        durable_write(output / name, content, unfinished / WRITING)


def _finished_report(
    output: Path, run: dict[str, Any], found: Sequence[FoundVideo], *, was_finished: bool = True
) -> Report:
    """The report in a finished folder.

    Raises:
        ValueError: if it is of other videos or other arguments.
    """
    values = json.loads((output / REPORT_JSON).read_bytes())
    report = Report.from_dict(values, output, was_finished=was_finished)
    difference = _difference({name: values[name] for name in run}, run)
    if difference is None:
        others = {outcome.video for outcome in report.videos} ^ {video.name for video in found}
        difference = f"only one of them has the video '{min(others)}'" if others else None
    if difference is not None:
        raise ValueError(f"'{output}' holds a finished dataset of another run ({difference}); name another folder.")
    return report
