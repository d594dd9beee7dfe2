# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What became of the videos of a run: for people, for programs, as a picture, and as a dataset card for the Hub.

Nothing here depends on the time or the paths: the same videos, settings and clips give the same files.
"""

import dataclasses
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .histograms import bar_panel, column_panel, page_of
from .selection import DISPLACEMENT_BINS, VideoOutcome


REPORT_VERSION = 1
REPORT_JSON, REPORT_TEXT, HISTOGRAMS, CARD = "report.json", "report.md", "histograms.png", "README.md"
# What `VideoOutcome.keep` counts for each clip.
CLIP_COUNTS = ("clips", "enlarged", "gaps", "people", "displacements")
COUNTS = ("num_frames", "seconds", "shots", *CLIP_COUNTS, "dropped")


@dataclass(frozen=True)
class Report:
    """All that is known about a finished run.

    Args:
        folder (`Path`): where the dataset is. Not part of what is written.
        split (`str`): first part of the shards' names.
        license (`str`): of the videos, as the Hub abbreviates it.
        clips_per_shard (`int`): the last shard may hold fewer.
        settings (`dict`): `AnnotationSettings.as_dict()`.
        made_with (`list[dict]`): estimator, detector and versions, as in the clips' meta; several if some videos were
            annotated by other versions than the rest.
        videos (`list[VideoOutcome]`): every video that was found, in the order of their names.
        was_finished (`bool`): whether the dataset was there already, so that nothing was done. Not written either.
    """

    folder: Path
    split: str
    license: str
    clips_per_shard: int
    settings: dict[str, Any]
    made_with: list[dict[str, Any]]
    videos: list[VideoOutcome]
    was_finished: bool = False

    @property
    def total(self) -> VideoOutcome:
        """The sums over all videos."""
        total = VideoOutcome("all")
        for outcome in self.videos:
            add_counts(total, {name: getattr(outcome, name) for name in COUNTS})
        return total

    @property
    def num_shards(self) -> int:
        return -(-self.total.clips // self.clips_per_shard)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
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
            "total": {"videos": len(self.videos), **{name: getattr(total, name) for name in COUNTS}},
            "videos": [dataclasses.asdict(outcome) for outcome in self.videos],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], folder: Path, *, was_finished: bool = False) -> Self:
        """The report that `as_dict` gave these values for.

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

    def files(self) -> dict[str, bytes]:
        """Content of the report's files by their names; `report.json`, which the others follow from, comes last."""
        return {
            CARD: self._card().encode(),
            REPORT_TEXT: self._text().encode(),
            HISTOGRAMS: self._histograms(),
            REPORT_JSON: (json.dumps(self.as_dict(), indent=1, sort_keys=True) + "\n").encode(),
        }

    def summary(self) -> str:
        """A few lines for whoever started the run."""
        total = self.total
        sources = sum(outcome.clips > 0 for outcome in self.videos)
        lines = [
            f"{self.folder}: {_count(total.clips, 'clip')} in {_count(self.num_shards, 'shard')}, from {sources:,} of "
            f"{_count(len(self.videos), 'video')} ({_duration(total.seconds)})"
        ]
        if self.was_finished:
            lines.insert(0, "This dataset was finished before, so nothing was done.")
        if total.dropped:
            lines.append("dropped: " + ", ".join(f"{count:,} {reason}" for reason, count in _by_count(total.dropped)))
        if failed := [outcome for outcome in self.videos if outcome.error is not None]:
            lines.append(f"not read, or not to the end: {_count(len(failed), 'video')}, e.g. {failed[0].error}")
        lines.append(f"{self.folder / REPORT_TEXT} has the rest")
        return "\n".join(lines)

    def _text(self) -> str:
        total = self.total
        sources = sum(outcome.clips > 0 for outcome in self.videos)
        failed = [outcome for outcome in self.videos if outcome.error is not None]
        dropped = sum(total.dropped.values())
        parts = [
            "# Annotation report",
            _table(
                ["", "in all"],
                [
                    ["**came in**", ""],
                    ["videos found", f"{len(self.videos):,}"],
                    ["of which not read, or not to the end", f"{len(failed):,}"],
                    ["length", _duration(total.seconds)],
                    ["frames decoded", f"{total.num_frames:,}"],
                    ["shots", f"{total.shots:,}"],
                    ["candidate clips", f"{total.clips + dropped:,}"],
                    ["**dropped**", f"{dropped:,}"],
                    *([reason, f"{count:,}"] for reason, count in _by_count(total.dropped)),
                    ["**went out**", ""],
                    [f"clips in split `{self.split}`", f"{total.clips:,}"],
                    ["of which enlarged to the resolution", f"{total.enlarged:,}"],
                    ["videos that they come from", f"{sources:,}"],
                    ["shards", f"{self.num_shards:,}"],
                ],
            ),
        ]
        if failed:
            parts += [
                "## Not read, or not to the end",
                _table(
                    ["video", "why", "clips kept"],
                    [[_code(outcome.video), _plain(outcome.error), f"{outcome.clips:,}"] for outcome in failed],
                ),
            ]
        parts += [
            "## What the clips show",
            f"![Histograms]({HISTOGRAMS})",
            _table(["frames of the video from one frame to the next", "clips"], _rows(total.gaps)),
            _table(["people", "clips"], _rows(total.people)),
            _table(
                ["displacement between two frames, in pixels", "share of all pixels"],
                [[label, f"{share:.2%}"] for label, share in _displacement_shares(total)],
            ),
            "## Video by video",
            _table(
                ["video", "length", "size", "frames/s", "shots", "clips", "dropped", "remarks"],
                [
                    [
                        _code(outcome.video),
                        f"{outcome.seconds:.1f} s",
                        f"{outcome.width} × {outcome.height}",
                        f"{outcome.fps:.4g}",
                        f"{outcome.shots:,}",
                        f"{outcome.clips:,}",
                        "; ".join(f"{count:,} {reason}" for reason, count in _by_count(outcome.dropped)),
                        "; ".join(map(_plain, [*([outcome.error] if outcome.error else []), *outcome.notes])),
                    ]
                    for outcome in self.videos
                ],
            ),
            "## Settings",
            _table(["setting", "value"], [[name, _code(value)] for name, value in _flat(self.settings)]),
            "## Made with",
            *(_table(["", ""], [[name, _code(value)] for name, value in _flat(made)]) for made in self.made_with),
        ]
        return "\n\n".join(parts) + "\n"

    def _card(self) -> str:
        total = self.total
        selection = self.settings["selection"]
        size = selection["resolution"]
        height, width = (size, size) if isinstance(size, int) else size
        with_people = sum(count for number, count in total.people.items() if int(number) > 0)
        gaps = sorted(map(int, total.gaps)) or [0]
        metadata = [
            "---",
            f"license: {self.license}",
            "task_categories:",
            "- image-to-video",
            "tags:",
            *(f"- {tag}" for tag in ("mcdiff", "motion-control", "optical-flow", "keypoints", "webdataset")),
            "size_categories:",
            f"- {_size_category(total.clips)}",
            "configs:",
            "- config_name: default",
            "  data_files:",
            f"  - split: {self.split}",
            f"    path: {self.split}-*.tar",
            "---",
        ]
        people = (
            f"Masks and keypoints of people are in {with_people:,} of them."
            if self.settings["pose_model"] is not None
            else "No people were looked for."
        )
        parts = [
            "\n".join(metadata),
            "# Video clips with dense motion",
            f"{_count(total.clips, 'clip')} of {selection['num_frames']} frames of {width} × {height} pixels, with "
            f"dense forward flow and occlusion. {people} Made by mcdiff-pipeline from {_duration(total.seconds)} of "
            "plain video, as training data for image-to-video models that follow strokes.",
            f"![Displacements, gaps, people, and what became of candidate clips]({HISTOGRAMS})",
            "## How to read it",
            "```python\n"
            "from mcdiff_pipeline.dataset import ClipDataset\n\n"
            f'dataset = ClipDataset("path/of/this/folder", split="{self.split}")\n'
            "clip = dataset[0]  # frames, flow, occlusion, masks, keypoints, meta\n"
            "```",
            "The shards are tar files in the layout of WebDataset. `docs/dataset-format.md` of mcdiff-pipeline says "
            "all about every field, coordinates and units included:",
            _table(
                ["member", "content"],
                [
                    ["`frame_TT`", "the picture, 8-bit RGB"],
                    ["`flow_TT.png`", "flow to the next frame and occlusion, 16-bit RGB in the encoding of KITTI"],
                    ["`mask_TT.png`", "0 = background, k = the k-th person"],
                    ["`keypoints.npy`", "17 COCO keypoints of each person: x, y, visibility"],
                    ["`meta.json`", "video, frames, gap, crop, shot, estimators, versions"],
                ],
            ),
            "## How it was made",
            "Clips were cut from the videos within shots, around what moves; still, too fast and doubtful pieces were "
            "left out. Of clips that show the same piece of film, exact copies were left out, and of those that were "
            f"encoded again about half. [{REPORT_TEXT}]({REPORT_TEXT}) says what became of every video. "
            f"From one frame of a clip to the next it is {gaps[0]} to {gaps[-1]} frames of its video.",
            *(_table(["", ""], [[name, _code(value)] for name, value in _flat(made)]) for made in self.made_with),
            _table(["setting", "value"], [[name, _code(value)] for name, value in _flat(self.settings)]),
            "## What to know before using it",
            "- Flow, occlusion, masks and keypoints are estimates by the programs named above, not measurements.\n"
            "- The clips are pieces of the videos and come under their license"
            + (", which was not stated.\n" if self.license == "unknown" else f" (`{self.license}`).\n")
            + "- Where people are to be seen, ask whether they agreed to this use.",
        ]
        return "\n\n".join(parts) + "\n"

    def _histograms(self) -> bytes:
        total = self.total
        most_people = max(map(int, total.people), default=0)
        largest_gap = max(map(int, total.gaps), default=1)
        page = page_of(
            [
                column_panel(
                    "Displacement between two frames",
                    "pixels",
                    "% of all pixels",
                    [(label, 100 * share) for label, share in _displacement_shares(total)],
                ),
                column_panel(
                    "Gap from one frame to the next",
                    "frames of the video",
                    "clips",
                    [(str(gap), total.gaps.get(str(gap), 0)) for gap in range(1, largest_gap + 1)],
                ),
                column_panel(
                    "People in a clip",
                    "people",
                    "clips",
                    [(str(number), total.people.get(str(number), 0)) for number in range(most_people + 1)],
                ),
                bar_panel("What became of the candidate clips", [("kept", total.clips), *_by_count(total.dropped)]),
            ]
        )
        buffer = io.BytesIO()
        page.save(buffer, format="PNG")
        return buffer.getvalue()


def add_counts(outcome: VideoOutcome, counts: Mapping[str, Any], *, sign: int = 1) -> None:
    """Adds to the counts of an outcome.

    Args:
        outcome (`VideoOutcome`): is changed.
        counts (`Mapping[str, Any]`): some of its fields, each a number, a list or a dictionary of numbers.
        sign (`int`, defaults to 1): -1 takes them away again. What reaches zero in a dictionary leaves it.
    """
    for name, added in counts.items():
        present = getattr(outcome, name)
        if isinstance(present, dict):
            keys = sorted(present.keys() | added.keys())
            value = {key: present.get(key, 0) + sign * added.get(key, 0) for key in keys}
            value = {key: count for key, count in value.items() if count != 0}
        elif isinstance(present, list):
            value = [count + sign * more for count, more in zip(present, added, strict=True)]
        else:
            value = present + sign * added
        setattr(outcome, name, value)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _rows(histogram: Mapping[str, int]) -> list[list[str]]:
    return [[key, f"{histogram[key]:,}"] for key in sorted(histogram, key=int)]


def _displacement_shares(total: VideoOutcome) -> list[tuple[str, float]]:
    bins = [f"{value:g}" for value in DISPLACEMENT_BINS]
    labels = [*(f"{low}-{high}" for low, high in zip(bins, bins[1:])), f"{bins[-1]}+"]
    pixels = sum(total.displacements)
    return [(label, count / max(pixels, 1)) for label, count in zip(labels, total.displacements, strict=True)]


def _size_category(clips: int) -> str:
    """The Hub's name for the order of magnitude, from `n<1K` to `n>1T`."""
    steps = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    step = max(0, int(math.log10(max(clips, 1))) - 2)
    if step == 0:
        return f"n<{steps[0]}"
    return f"{steps[step - 1]}<n<{steps[step]}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested dictionaries as rows: ("selection.num_frames", "8")."""
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value if isinstance(value, str) else json.dumps(value)))
    return rows


def _plain(text: str) -> str:
    """The text as Markdown that shows it as it is, also in a table."""
    return re.sub(r"([\\`*\[\]<>|~&])", r"\\\1", _printable(text))


def _code(text: str) -> str:
    """The same in a fixed font."""
    text = _printable(text).replace("|", "\\|")
    runs = re.findall("`+", text)
    fence = "`" * (1 + max(map(len, runs), default=0))
    return f"{fence} {text} {fence}" if runs else f"{fence}{text}{fence}"


def _printable(text: str) -> str:
    """Line breaks, control characters and the like as escapes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
