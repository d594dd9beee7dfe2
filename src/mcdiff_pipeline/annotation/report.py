# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The report of an annotation run: its arguments, the outcome of every video, and their sums."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .outcome import DISPLACEMENT_BINS, VIDEO_COUNTS, VideoOutcome


REPORT_VERSION = 1
REPORT_JSON, REPORT_TEXT, HISTOGRAMS, CARD = "report.json", "report.md", "histograms.png", "README.md"


@dataclass(frozen=True)
class Report:
    """The report of a finished run.

    Args:
        folder (`Path`): folder of the dataset. It is not written to files.
        split (`str`): first part of the names of the shards.
        license (`str`): license of the videos, as the Hub abbreviates it.
        clips_per_shard (`int`): the last shard may hold fewer.
        settings (`dict`): `AnnotationSettings.as_dict()`.
        made_with (`list[dict]`): estimator, detector and versions, as in the clips' meta; several if videos were
            annotated by different versions.
        videos (`list[VideoOutcome]`): all videos that were found, sorted by name.
        was_finished (`bool`, defaults to False): the dataset was finished before, so nothing was done. It is not
            written to files.
    """

    folder: Path
    split: str
    license: str
    clips_per_shard: int
    settings: dict[str, Any]
    made_with: list[dict[str, Any]] = field(default_factory=list)
    videos: list[VideoOutcome] = field(default_factory=list)
    was_finished: bool = False

    @property
    def total(self) -> VideoOutcome:
        """The sums over all videos."""
        total = VideoOutcome("all")
        for outcome in self.videos:
            total.add(outcome)
        return total

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-self.total.clips // self.clips_per_shard)

    @property
    def num_sources(self) -> int:
        """Number of videos with clips in the dataset."""
        return sum(outcome.clips > 0 for outcome in self.videos)

    @property
    def failed(self) -> list[VideoOutcome]:
        """Videos that were not read, or not to their end."""
        return [outcome for outcome in self.videos if outcome.error is not None]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        total = self.total
        return {
            "version": REPORT_VERSION,
            "split": self.split,
            "license": self.license,
            "clips_per_shard": self.clips_per_shard,
            "shards": self.num_shards,
            "settings": self.settings,
            "made_with": self.made_with,
            "displacement_bins": list(DISPLACEMENT_BINS),
            "total": {"videos": len(self.videos), **{name: getattr(total, name) for name in VIDEO_COUNTS}},
            "videos": [dataclasses.asdict(outcome) for outcome in self.videos],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], folder: Path, *, was_finished: bool = False) -> Self:
        """The report for which `as_dict` returned these values.

        Raises:
            ValueError: if another version of the package, or another program, wrote them.
        """
        if not isinstance(values, dict) or values.get("version") != REPORT_VERSION:
            raise ValueError(
                f"'{folder}' holds a {REPORT_JSON} that is not of this version of the package; name another folder."
            )
        return cls(
            folder=folder,
            split=values["split"],
            license=values["license"],
            clips_per_shard=values["clips_per_shard"],
            settings=values["settings"],
            made_with=values["made_with"],
            videos=[VideoOutcome(**outcome) for outcome in values["videos"]],
            was_finished=was_finished,
        )

    def summary(self) -> str:
        """A few lines for the terminal."""
        total = self.total
        lines = [
            f"{self.folder}: {count_of(total.clips, 'clip')} in {count_of(self.num_shards, 'shard')}, from "
            f"{self.num_sources:,} of {count_of(len(self.videos), 'video')} ({duration(total.seconds)})"
        ]
        if self.was_finished:
            lines.insert(0, "This dataset was finished before, so nothing was done.")
        if total.dropped:
            lines.append("dropped: " + ", ".join(f"{count:,} {reason}" for reason, count in by_count(total.dropped)))
        if failed := self.failed:
            lines.append(f"not read to the end: {count_of(len(failed), 'video')}, e.g. {failed[0].error}")
        lines.append(f"{self.folder / REPORT_TEXT} has the details")
        return "\n".join(lines)


def count_of(number: int, noun: str) -> str:
    """A number with its noun: "1 clip", "2,000 clips"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length of time in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"


def by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """(reason, count), the largest count first, then by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def displacement_shares(total: VideoOutcome) -> list[tuple[str, float]]:
    """(label, fraction of all pixels) of each bin of displacement."""
    bins = [f"{value:g}" for value in DISPLACEMENT_BINS]
    labels = [*(f"{low}-{high}" for low, high in zip(bins, bins[1:])), f"{bins[-1]}+"]
    pixels = sum(total.displacements)
    return [(label, count / max(pixels, 1)) for label, count in zip(labels, total.displacements, strict=True)]
