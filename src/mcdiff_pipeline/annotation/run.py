# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Annotation of many videos into a dataset: parallel and resumable.

A run keeps its state in `OUTPUT/.unfinished/`: its arguments (`run.json`) and one part for each video that is done
(`parts`). When all parts are done, `merge.json` fixes which clips the dataset contains, in which order (`merge`). The
clips are packed into the final shards as they are stored in the parts. Then the report is written; its last file,
`report.json`, states that the dataset is finished. At the end the folder is deleted. Every step can be killed; the
next run repeats or skips it, so the bytes are the same if the estimator gives the same flow.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ..atomic_files import durable_write
from ..dataset.shards import check_shard_arguments
from ..folder_lock import folder_lock
from ..progress import progress_bar
from .found_videos import FoundVideo, find_videos
from .merge import MERGE_PLAN, MergePlan, merge_parts
from .parts import DISK_FULL, WRITING, Part
from .ray import annotate_on_ray
from .report import REPORT_JSON, Report
from .settings import AnnotationSettings
from .workers import annotate_here


UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class RunArguments:
    """The arguments that the dataset depends on, as `run.json` holds them.

    Args:
        split (`str`): first part of the names of the shards.
        license (`str`): license of the videos.
        clips_per_shard (`int`): number of clips in a shard.
        settings (`dict`): `AnnotationSettings.as_dict()`, after a round trip through JSON.
    """

    split: str
    license: str
    clips_per_shard: int
    settings: dict[str, Any]


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

    A run that was stopped continues when it is started again, with any number of workers, on one machine or several.
    With DIS, on processors of one kind, the result has the same bytes as without the stop. The last digits of RAFT
    depend on the device, the version of torch and the number of threads (the workers share the CPUs). A finished
    dataset stays unchanged.

    A video that cannot be read, or crashes the process that reads it, does not affect other videos. Near-duplicates of
    earlier clips are left out if they are recognized: all exact copies, and about half of the clips that were encoded
    again (`near_duplicates`).

    Args:
        videos (sequence of `str` or `os.PathLike`): files and folders; see `find_videos`.
        output_dir (`str` or `os.PathLike`): folder of the dataset: new, empty, or of a run that was stopped.
        settings (`AnnotationSettings`): settings of the clips.
        split (`str`, defaults to `"train"`): first part of the names of the shards.
        license (`str`, defaults to `"unknown"`): license of the videos, for the dataset card, as the Hub abbreviates
            it.
        num_workers (`int`, *optional*): number of processes. None: one per CPU of the machine or the cluster, and at
            most four per GPU if RAFT runs on GPUs.
        clips_per_shard (`int`, defaults to 256): the last shard may hold fewer.
        ray_address (`str`, *optional*): run on this Ray cluster. All its machines must see the videos, the output, the
            pose model and the weights under the same paths.
        progress (`bool`, defaults to True): show progress bars on stderr.

    Returns:
        [`Report`]: the outcome of all videos.

    Raises:
        ValueError: if an argument is not allowed, there are no videos, the folder holds other files, or another run
            uses it.
        FileNotFoundError: if one of `videos` does not exist.
        ImportError: if a package of the extra `annotation` is missing, or of `distributed` with `ray_address`.
        OSError: if the disk is full. Finished work is kept, and the next run continues.
        RuntimeError: if workers cannot start.
        KeyboardInterrupt: at Ctrl-C and SIGTERM, with a message. Finished work is kept.

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
    arguments = RunArguments(split, license, clips_per_shard, json.loads(json.dumps(settings.as_dict())))
    if not unfinished.exists():
        if (output / REPORT_JSON).exists():
            return _finished_report(output, arguments, found, was_finished=True)
        if output.exists() and (others := [path.name for path in output.iterdir() if not path.name.startswith(".")]):
            raise ValueError(
                f"'{output}' holds other files ({min(others)}), but a dataset needs a new or empty folder; name one."
            )

    with _stop_messages(output, found), _exclusive_lock(output), _sigterm_as_interrupt():
        if not (output / REPORT_JSON).exists():
            _begin(unfinished, arguments)
            if not (unfinished / MERGE_PLAN).exists():
                _annotate_missing(found, settings, unfinished, num_workers, ray_address, progress)
                plan = MergePlan.make(found, unfinished, Report(output, **vars(arguments)))
                plan.write(unfinished)
            merge_parts(output, unfinished, progress)
    # Only now is the lock file closed, and network file systems keep a folder with an open file. If deleting fails,
    # the next run deletes it.
    shutil.rmtree(unfinished, ignore_errors=True)
    return _finished_report(output, arguments, found, was_finished=False)


@contextlib.contextmanager
def _stop_messages(output: Path, found: Sequence[FoundVideo]) -> Iterator[None]:
    """Adds to errors that stop a run how much is done and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped with {_progress(found, output / UNFINISHED)} done, which are kept; the same command continues."
        ) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise OSError(
            f"'{output}' takes no more data ({error.strerror}), with {_progress(found, output / UNFINISHED)} done, "
            "which are kept; make room, and the same command continues."
        ) from error


def _progress(found: Sequence[FoundVideo], unfinished: Path) -> str:
    done = sum(bool(video.error) or (unfinished / f"{video.identity}.json").exists() for video in found)
    return f"{done} of {len(found)} videos"


@contextlib.contextmanager
def _exclusive_lock(output: Path) -> Iterator[None]:
    """Keeps other runs out of the folder. The lock ends with its process, even if that is killed."""
    unfinished = output / UNFINISHED
    with folder_lock(output, name=f"{UNFINISHED}/lock"):
        try:
            yield
        finally:
            # Partial files are useless for the next run, and may fill the disk.
            shutil.rmtree(unfinished / WRITING, ignore_errors=True)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM stop the block as Ctrl-C does. Both reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _begin(unfinished: Path, arguments: RunArguments) -> None:
    """Writes the arguments of a new run, or checks that a stopped run had the same.

    A run without a finished part may have any arguments: they may be why its workers could not start.
    """
    shutil.rmtree(unfinished / WRITING, ignore_errors=True)  # of a run that was killed
    (unfinished / WRITING).mkdir()
    file = unfinished / "run.json"
    if all(path == file for path in unfinished.glob("*.json")):
        durable_write(file, json.dumps(dataclasses.asdict(arguments)).encode(), unfinished / WRITING)
    if difference := _difference(json.loads(file.read_bytes()), dataclasses.asdict(arguments)):
        raise ValueError(
            f"'{unfinished.parent}' holds an unfinished run with other arguments ({difference}); continue with those, "
            "or name another folder."
        )


def _difference(before: Any, now: Any, name: str = "") -> str | None:
    """The first difference between two JSON values, as "name: one, now other", or None."""
    if isinstance(before, dict) and isinstance(now, dict):
        parts = (_difference(before.get(key), now.get(key), f"{name}.{key}") for key in sorted(before | now))
        return next(filter(None, parts), None)
    return None if before == now else f"{name.lstrip('.')}: {json.dumps(before)}, now {json.dumps(now)}"


def _annotate_missing(
    found: Sequence[FoundVideo],
    settings: AnnotationSettings,
    unfinished: Path,
    num_workers: int | None,
    ray_address: str | None,
    progress: bool,
) -> None:
    """Makes the missing parts."""
    todo = [video for video in found if not video.error and Part.read(video, unfinished) is None]
    if not todo:
        return
    todo.sort(key=lambda video: -video.size)  # the largest first, so that it does not run alone at the end
    if ray_address is None:
        parts = annotate_here(todo, settings, unfinished, num_workers)
    else:
        parts = annotate_on_ray(todo, settings, unfinished, num_workers, ray_address)
    total, waiting = (sum(video.size for video in videos) / 1e6 for videos in (found, todo))
    with (
        contextlib.closing(parts),
        progress_bar("Annotation", total, initial=total - waiting, unit="MB", disable=not progress) as bar,
    ):
        done, shares = len(found) - len(todo), dict.fromkeys((video.identity for video in todo), 0.0)
        bar.set_postfix_str(f"{done} of {len(found)} videos", refresh=False)
        for part in parts:
            done += part.is_done
            bar.set_postfix_str(f"{done} of {len(found)} videos", refresh=False)
            bar.update(part.video.size / 1e6 * (part.share - shares[part.video.identity]))
            shares[part.video.identity] = part.share


def _finished_report(
    output: Path, arguments: RunArguments, found: Sequence[FoundVideo], *, was_finished: bool
) -> Report:
    """Reads the report of a finished dataset.

    Raises:
        ValueError: if it is of other videos or other arguments.
    """
    values = json.loads((output / REPORT_JSON).read_bytes())
    report = Report.from_dict(values, output, was_finished=was_finished)
    now = dataclasses.asdict(arguments)
    difference = _difference({name: values[name] for name in now}, now)
    if difference is None:
        others = {outcome.video for outcome in report.videos} ^ {video.name for video in found}
        difference = f"only one of them has the video '{min(others)}'" if others else None
    if difference is not None:
        raise ValueError(f"'{output}' holds a finished dataset of another run ({difference}); name another folder.")
    return report
