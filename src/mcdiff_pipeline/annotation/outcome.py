# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The outcome of annotating one video: errors, and counts of shots, clips and dropped candidates."""

import dataclasses
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from ..dataset import Clip


# Lower edges of the bins of `ClipCounts.displacements`, in pixels of the clip. The last bin has no upper edge.
DISPLACEMENT_BINS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass
class ClipCounts:
    """Statistics of clips.

    Args:
        clips (`int`): number of clips.
        enlarged (`int`): number of clips whose crop is smaller than the resolution, so that it was enlarged.
        gaps (`dict[str, int]`): gap -> number of clips. The key is a decimal number, because JSON needs text.
        people (`dict[str, int]`): number of people -> number of clips.
        displacements (`list[int]`): number of pixels by magnitude of flow, in the bins of `DISPLACEMENT_BINS`.
    """

    clips: int = 0
    enlarged: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    people: dict[str, int] = field(default_factory=dict)
    displacements: list[int] = field(default_factory=lambda: [0] * len(DISPLACEMENT_BINS))

    @classmethod
    def of(cls, clip: Clip) -> Self:
        """The statistics of one annotated clip."""
        _, _, crop_width, crop_height = clip.meta["crop"]
        height, width = clip.frames.shape[1:3]
        # `np.histogram` sorts, which takes ten times as long for this few bins.
        magnitude = np.sqrt(np.square(clip.flow).sum(axis=1))
        at_least = [*(int(np.count_nonzero(magnitude >= edge)) for edge in DISPLACEMENT_BINS), 0]
        return cls(
            clips=1,
            enlarged=int(crop_width < width or crop_height < height),
            gaps={str(clip.meta["gap"]): 1},
            people={str(clip.keypoints.shape[1]): 1},
            displacements=[more - fewer for more, fewer in zip(at_least, at_least[1:])],
        )


@dataclass
class VideoOutcome:
    """What became of one video. Starts empty; each stage fills in its fields. It can be written as JSON.

    Args:
        video (`str`): name of the video in the run: the path relative to the given folder.
        error (`str`, *optional*): one sentence if the video could not be read, or not to its end.
        notes (`list[str]`): remarks on what is unusual but no error, e.g. that the video is interlaced.
        num_frames (`int`): number of decoded frames.
        seconds (`float`): length, from the first frame to the end of the last.
        width, height (`int`): size of the upright image in pixels.
        fps (`float`): frames per second; the average if the rate varies.
        shots (`int`): number of shots found.
        clips, enlarged, gaps, people, displacements: see [`ClipCounts`]; of the clips that were kept.
        dropped (`dict[str, int]`): reason -> number of candidate clips dropped for it. A long part of the video counts
            once for each clip length.
    """

    video: str
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    num_frames: int = 0
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    shots: int = 0
    clips: int = 0
    enlarged: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    people: dict[str, int] = field(default_factory=dict)
    displacements: list[int] = field(default_factory=lambda: [0] * len(DISPLACEMENT_BINS))

    def drop(self, reason: str) -> None:
        """Counts a candidate that was not kept. The reason is a few words, the same for all such candidates."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def add(self, counts: "ClipCounts | VideoOutcome", *, sign: int = 1) -> None:
        """Adds counts of clips or of another video; `sign=-1` subtracts them. Dictionaries drop keys that reach 0."""
        for name in CLIP_COUNTS if isinstance(counts, ClipCounts) else VIDEO_COUNTS:
            present, added = getattr(self, name), getattr(counts, name)
            if isinstance(present, dict):
                keys = sorted(present.keys() | added.keys())
                value = {key: present.get(key, 0) + sign * added.get(key, 0) for key in keys}
                value = {key: count for key, count in value.items() if count != 0}
            elif isinstance(present, list):
                value = [count + sign * more for count, more in zip(present, added, strict=True)]
            else:
                value = present + sign * added
            setattr(self, name, value)


CLIP_COUNTS = tuple(count.name for count in dataclasses.fields(ClipCounts))
VIDEO_COUNTS = ("num_frames", "seconds", "shots", *CLIP_COUNTS, "dropped")
