# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Merge of the parts of all videos into the final shards and the report.

The plan of the merge fixes which clips the dataset contains, and their order. It is written before anything is packed,
so a merge that was stopped continues with the same plan, although packed parts are deleted.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from ..atomic_files import durable_replace, durable_write
from ..dataset import ClipDataset, ShardWriter
from ..progress import progress_bar
from .found_videos import FoundVideo
from .near_duplicates import FINGERPRINT_LENGTH, without_near_duplicates
from .outcome import VideoOutcome
from .parts import WRITING, Part
from .report import Report
from .report_files import report_files


NEAR_DUPLICATE = "near-duplicate of an earlier clip"
MERGE_PLAN = "merge.json"


@dataclass(frozen=True)
class MergePlan:
    """The dataset that a merge makes.

    Args:
        report (`Report`): the final report.
        clips (`list[tuple[str, int]]`): for each clip of the dataset, in order: identity of its video, and index in
            the part of this video.
    """

    report: Report
    clips: list[tuple[str, int]]

    @classmethod
    def make(cls, found: Sequence[FoundVideo], unfinished: Path, report: Report) -> Self:
        """Plans the merge of the parts of all videos, in the order of the videos, without near-duplicates.

        Besides the outcomes, only the fingerprints of all clips are in memory.

        Args:
            found (sequence of `FoundVideo`): all videos of the run.
            unfinished (`Path`): folder of the parts.
            report (`Report`): without `made_with` and `videos`, which the plan adds.
        """
        readable = [video for video in found if not video.error]
        fingerprints = [_part(video, unfinished).fingerprints for video in readable]
        starts = np.cumsum([0, *map(len, fingerprints)])
        keep = without_near_duplicates(np.concatenate([np.empty((0, FINGERPRINT_LENGTH), np.int8), *fingerprints]))
        keep_of = {video.identity: keep[start:stop] for video, start, stop in zip(readable, starts, starts[1:])}

        outcomes, made_with, clips = [], [], []
        for video in found:
            if video.error:
                outcomes.append(VideoOutcome(video.name, error=f"'{video.name}': {video.error}"))
                continue
            part = _part(video, unfinished)
            for index, is_kept in enumerate(keep_of[video.identity]):
                if is_kept:
                    clips.append((video.identity, index))
                else:
                    part.outcome.add(part.counts[index], sign=-1)
                    part.outcome.drop(NEAR_DUPLICATE)
            outcomes.append(part.outcome)
            if part.made_with is not None and part.made_with not in made_with:
                made_with.append(part.made_with)
        return cls(dataclasses.replace(report, made_with=made_with, videos=outcomes), clips)

    def write(self, unfinished: Path) -> None:
        values = {"report": self.report.as_dict(), "clips": self.clips}
        durable_write(unfinished / MERGE_PLAN, json.dumps(values).encode(), unfinished / WRITING)

    @classmethod
    def read(cls, unfinished: Path, output: Path) -> Self:
        values = json.loads((unfinished / MERGE_PLAN).read_bytes())
        return cls(Report.from_dict(values["report"], output), [tuple(clip) for clip in values["clips"]])


def _part(video: FoundVideo, unfinished: Path) -> Part:
    part = Part.read(video, unfinished)
    assert part is not None  # all videos are done
    return part


def merge_parts(output: Path, unfinished: Path, progress: bool) -> None:
    """Packs the clips into the final shards and writes the report, unless an earlier run has done so.

    A part is deleted when all of its clips are packed.

    Args:
        output (`Path`): folder of the dataset.
        unfinished (`Path`): folder of the parts and of the plan.
        progress (`bool`): show a progress bar on stderr.
    """
    plan = MergePlan.read(unfinished, output)
    size = plan.report.clips_per_shard
    shards = [plan.clips[start : start + size] for start in range(0, len(plan.clips), size)]
    with progress_bar("Packing", len(plan.clips), unit="clip", disable=not progress) as bar:
        for number, clips in enumerate(shards):
            shard = output / f"{plan.report.split}-{number:05d}.tar"
            if not shard.exists():
                with ShardWriter(
                    unfinished / WRITING, plan.report.split, clips_per_shard=size, first_shard=number
                ) as writer:
                    for part, group in itertools.groupby(clips, key=lambda clip: clip[0]):
                        dataset = ClipDataset(unfinished / f"{part}.tar")
                        for _, index in group:
                            writer.copy(dataset, index)
                durable_replace(unfinished / WRITING / shard.name, shard)
            # The last part continues if the next shard begins with it.
            needed = {part for part, _ in shards[number + 1][:1]} if number + 1 < len(shards) else set()
            for part in {part for part, _ in clips} - needed:
                (unfinished / f"{part}.tar").unlink(missing_ok=True)
            bar.update(len(clips))
    for name, content in report_files(plan.report).items():
        durable_write(output / name, content, unfinished / WRITING)
