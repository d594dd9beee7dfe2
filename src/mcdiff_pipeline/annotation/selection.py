# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Which frames of a video become a clip: gap, crop, and what is dropped for which reason."""

import itertools
import math
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..video import TimedFrame, VideoReader
from .settings import SelectionSettings
from .shots import number_shots


# Lower ends of the bins of `VideoOutcome.displacements`, in pixels of the clip; the last bin has no upper end.
DISPLACEMENT_BINS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
# Motion is judged on pictures of this shorter side: 2 pixels at a resolution of 256 are still 0.4 pixels there in the
# smallest crop. DIS at half their size (its finest scale; the preset stops at a quarter) takes 0.7 ms; its 95th
# percentile is within 0.9 to 1.5 times that of the slow preset at 128 pixels in 80 % of the pairs of 6 real clips.
THUMBNAIL_SIDE = 96
FINEST_SCALE = 1
# The flow is looked at in cells of so many pixels of the thumbnail: the distance at which it is computed.
CELL = 4
# What moves less than this share of the fast parts (their 99th percentile) is background: grain, leaves, clouds.
BACKGROUND = 0.2
# The crop holds the motion but for this share of it at each end, and a margin of this share of its extent around it,
# because not all of a person moves. Seen to hold the people in clips of walking, balancing and talking.
STRAY = 0.02
MARGIN = 0.2
# A crop is at least this share of the largest one in width and height: how far the video is decoded beyond the
# resolution. Smaller ones would cost more time than the optical flow that they are for.
LEAST_CROP = 0.5
# A picture is enlarged so many times at most; beyond it, there is mostly blur to learn from.
MOST_ENLARGED = 2.0
# Where the motion does not fit into the crop, a place off the center has to hold this much more of it.
CENTRE_BONUS = 0.1
# 95th percentile of the difference in levels of 255 between a frame and the next with the motion undone. In 6 clips of
# real video it was at most 36 where the motion is in range, mostly below 20. Above it the motion was not found: things
# go farther than this flow can follow, the light changes, one shot dissolves into another, or the picture is damaged.
UNEXPLAINED = 40.0
# A step below this share of the first step of a clip repeats a frame (or everybody stops, which is seldom). It is not
# zero: a lossy codec shows the same frame a little differently.
REPEATED = 0.1
# Frames are repeated up to so many times where the frame rate was raised: 12 to 60 pictures per second is 4 times.
MOST_REPETITIONS = 4
# Longest over shortest time between the frames of a clip.
UNEVEN = 1.25
# A file that ends before this share of the time that it promises has lost its end; sound may last a little longer.
ENOUGH = 0.9


@dataclass
class VideoOutcome:
    """What became of one video. Made empty; whoever finds something out enters it. JSON holds all of it.

    Args:
        video (`str`): its name in the run: the path relative to the folder given.
        error (`str`, *optional*): one sentence if the video could not be read, or not to its end.
        notes (`list[str]`): what is odd about it but stopped nothing, e.g. that it is interlaced.
        num_frames (`int`): frames decoded.
        seconds (`float`): length: from the first frame to the end of the last.
        width, height (`int`): of the upright picture, in pixels.
        fps (`float`): frames per second; the average where the rate varies.
        shots (`int`): shots found.
        clips (`int`): clips kept.
        enlarged (`int`): those of them whose crop is smaller than the resolution, so that it was enlarged.
        dropped (`dict[str, int]`): reason -> candidate clips dropped for it. A long stretch counts once per length of
            a clip.
        gaps (`dict[str, int]`): gap -> clips with this gap; the key is a decimal number, as JSON wants it.
        people (`dict[str, int]`): number of people -> clips with so many.
        displacements (`list[int]`): pixels of the clips' flow by magnitude, in the bins of `DISPLACEMENT_BINS`.
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

    def keep(self, clip: "SelectedClip", flow: np.ndarray, num_people: int) -> None:
        """Enters a clip that goes into the dataset, with its flow `[T - 1, 2, H, W]` in pixels."""
        self.clips += 1
        height, width = clip.frames.shape[1:3]
        self.enlarged += clip.crop[2] < width or clip.crop[3] < height
        self.gaps[str(clip.gap)] = self.gaps.get(str(clip.gap), 0) + 1
        self.people[str(num_people)] = self.people.get(str(num_people), 0) + 1
        # `np.histogram` sorts, which takes ten times as long for so few bins.
        magnitude = np.sqrt(np.square(flow).sum(axis=1))
        at_least = [*(int(np.count_nonzero(magnitude >= edge)) for edge in DISPLACEMENT_BINS), 0]
        counts = [more - fewer for more, fewer in zip(at_least, at_least[1:])]
        self.displacements = [before + count for before, count in zip(self.displacements, counts, strict=True)]

    def drop(self, reason: str) -> None:
        """Enters a candidate that is not worth keeping; the reason is a few words, the same for all like it."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


@dataclass(frozen=True)
class SelectedClip:
    """`T` evenly spaced frames of one shot, cropped around what moves.

    Args:
        frames (`np.ndarray`): uint8 `[T, H, W, 3]`, RGB, at the working resolution.
        frame_numbers (`tuple[int, ...]`): which frames of the video these are, from 0; one gap apart.
        timestamps (`tuple[float, ...]`): when they are shown, in seconds.
        gap (`int`): frames of the video from one to the next.
        crop (`tuple[int, int, int, int]`): left, top, width and height of the part of the picture that they show, in
            pixels of the upright video.
        shot (`int`): number of the shot in the video, from 0.
    """

    frames: np.ndarray
    frame_numbers: tuple[int, ...]
    timestamps: tuple[float, ...]
    gap: int
    crop: tuple[int, int, int, int]
    shot: int


def select_clips(
    video: str | os.PathLike, settings: SelectionSettings, outcome: VideoOutcome
) -> Iterator[SelectedClip]:
    """Finds the clips of a video; memory does not grow with its length.

    From a start, the gap is the smallest after which things have moved far enough (the geometric mean of the range),
    by a quick optical flow between thumbnails. The frames a gap apart that follow make up the clip, unless the motion
    leaves the range or the shot ends. The next start comes after it. The crop is the smallest window around the motion
    of all its frames, but at least half as wide and high as the picture allows, and no smaller than the resolution as
    long as the picture is not.

    Nothing is raised for a bad video: what is wrong with it is entered in `outcome.error`, and the clips before the
    damage are kept.

    Args:
        video (`str` or `os.PathLike`): the file; any video that FFmpeg knows.
        settings (`SelectionSettings`): what a clip has to be like.
        outcome (`VideoOutcome`): of this video; what is known before flow and people are is entered as it becomes
            known. Clips are not counted: whoever keeps them does.

    Yields:
        [`SelectedClip`]: in the order of their frames, which no two share.
    """
    try:
        reader = VideoReader(video, num_threads=1)
    except (OSError, ValueError) as error:
        outcome.error = _without_folder(error, video, outcome)
        return
    with reader:
        outcome.fps = reader.fps
        if reader.hdr:
            outcome.error = (
                f"'{outcome.video}' is coded for HDR screens ({reader.hdr}) and would look flat and gray; convert it "
                "to SDR first, for example with FFmpeg's filter 'tonemap'."
            )
            return
        frames = number_shots(_frames_with_thumbnails(reader, outcome), lambda frame: frame.thumbnail)
        for shot, numbered_frames in itertools.groupby(frames, key=lambda numbered: numbered[0]):
            outcome.shots = shot + 1
            selection = _ShotSelection(shot, settings, outcome)
            yield from selection.clips(frame for _, frame in numbered_frames)


class _Frame:
    """A frame of the video and its thumbnail."""

    def __init__(self, frame: TimedFrame):
        self.full = frame
        self.number = frame.number
        self.seconds = frame.seconds
        self.thumbnail = frame.pixels(THUMBNAIL_SIDE, gray=True)  # uint8 [h, w]
        if min(self.thumbnail.shape) < THUMBNAIL_SIDE:
            scale = THUMBNAIL_SIDE / min(self.thumbnail.shape)
            self.thumbnail = cv2.resize(self.thumbnail, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def _frames_with_thumbnails(reader: VideoReader, outcome: VideoOutcome) -> Iterator[_Frame]:
    """All frames up to the end or the damage, which is entered in the outcome, as is what the frames tell."""
    frame = first = None
    try:
        for frame in reader.timed_frames():
            if first is None:
                first = frame
                outcome.width, outcome.height = frame.width, frame.height
                if frame.interlaced:
                    outcome.notes.append("It is interlaced: deinterlace it, or moving edges look like combs.")
            outcome.num_frames += 1
            outcome.seconds = frame.seconds - first.seconds + (1 / reader.fps if reader.fps else 0.0)
            yield _Frame(frame)
    except ValueError as error:
        outcome.error = _without_folder(error, reader.path, outcome)
        return
    if first is None:
        outcome.error = f"'{outcome.video}' holds no frames, so it is truncated or was never finished."
    elif outcome.seconds < ENOUGH * reader.seconds:
        outcome.error = (
            f"'{outcome.video}' ends after {outcome.seconds:.1f} of {reader.seconds:.1f} seconds, so it is damaged or "
            "truncated; copy or make it again."
        )


def _without_folder(error: Exception, path: str | os.PathLike, outcome: VideoOutcome) -> str:
    """The message with the video's name in the run for its path, which is different on every machine."""
    return str(error).replace(f"'{Path(path)}'", f"'{outcome.video}'")


@dataclass(frozen=True)
class _Motion:
    """The motion from one thumbnail to another, in cells of `CELL` pixels."""

    magnitude: np.ndarray  # float32 [rows, columns], pixels of the thumbnail
    moving: np.ndarray  # bool [rows, columns], False for the background
    unexplained: float  # 95th percentile of the difference in levels with the motion undone

    @classmethod
    def between(cls, first: np.ndarray, second: np.ndarray, estimator: cv2.DISOpticalFlow) -> "_Motion":
        flow = estimator.calc(first, second, None)[CELL // 2 :: CELL, CELL // 2 :: CELL]
        first = first[CELL // 2 :: CELL, CELL // 2 :: CELL]
        rows, columns = np.indices(first.shape, np.float32) * CELL + CELL // 2
        moved = cv2.remap(
            second, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        magnitude = np.hypot(flow[..., 0], flow[..., 1])
        moving = magnitude > BACKGROUND * percentile(magnitude, 99)
        return cls(magnitude, moving, percentile(cv2.absdiff(first, moved), 95))


def percentile(values: np.ndarray, percent: int) -> float:
    """One of the values, of which so many percent are not larger; `np.percentile` takes several times as long."""
    place = (values.size - 1) * percent // 100
    return float(np.partition(values, place, axis=None)[place])


class _CropWindow:
    """Finds the crop for a motion, and how far things move in it. All lengths are in pixels of the upright video."""

    def __init__(self, frame: _Frame, settings: SelectionSettings):
        self.height, self.width = settings.size
        self.picture_size = frame.full.height, frame.full.width
        self.thumbnail_height = frame.thumbnail.shape[0]
        self.aspect = self.width / self.height / frame.full.pixel_aspect
        self.largest = min(frame.full.height, frame.full.width / self.aspect)
        resolution = max(self.height, self.width / self.aspect)
        self.enlargement = resolution / self.largest
        self.smallest = min(self.largest, max(resolution, LEAST_CROP * self.largest))

    def around(self, motions: list[_Motion]) -> tuple[int, int, int, int]:
        """Left, top, width and height of the smallest window around these motions."""
        moving = np.sum([motion.moving for motion in motions], axis=0)
        shares = [np.concatenate([[0.0], np.cumsum(moving.sum(axis=axis))]) for axis in (1, 0)]
        edges = [np.linspace(0, size, len(share)) for size, share in zip(self.picture_size, shares, strict=True)]
        total = max(shares[0][-1], 1e-6)
        ends = [
            np.interp([STRAY * total, (1 - STRAY) * total], share, edge)
            for share, edge in zip(shares, edges, strict=True)
        ]
        extents = [(1 + 2 * MARGIN) * (high - low) for low, high in ends]
        height = min(max(extents[0], extents[1] / self.aspect, self.smallest), self.largest)
        starts, sizes = [], (round(height), round(height * self.aspect))
        for size, whole, share, edge, (low, high) in zip(sizes, self.picture_size, shares, edges, ends, strict=True):
            if high - low <= size:
                start = (low + high - size) / 2
            else:
                places = np.linspace(0, whole - size, 65)
                held = (np.interp(places + size, edge, share) - np.interp(places, edge, share)) / total
                off_center = np.abs(places / max(whole - size, 1) - 0.5) * 2
                start = places[np.argmax(held - CENTRE_BONUS * off_center)]
            starts.append(min(max(round(start), 0), whole - size))
        return starts[1], starts[0], sizes[1], sizes[0]

    def displacement(self, motion: _Motion, crop: tuple[int, int, int, int]) -> float:
        """95th percentile of the magnitude in the crop, in pixels of the clip."""
        left, top, width, height = crop
        rows, columns = motion.magnitude.shape
        down, right = rows / self.picture_size[0], columns / self.picture_size[1]
        inside = motion.magnitude[
            math.floor(top * down) : math.ceil((top + height) * down),
            math.floor(left * right) : math.ceil((left + width) * right),
        ]
        return percentile(inside, 95) * self.picture_size[0] / self.thumbnail_height * self.height / height

    def at_least(self, displacement: float, crop: tuple[int, int, int, int]) -> float:
        """What remains of a displacement in a crop when the rest of the clip makes it as large as can be."""
        return displacement * crop[3] / self.largest

    def cut(self, frame: _Frame, crop: tuple[int, int, int, int]) -> np.ndarray:
        """The crop of a frame at the working resolution."""
        # A crop as large as can be, which most are, is reduced in one step; all others have one size to be cut from.
        share = 1 if crop[3] == round(self.largest) else LEAST_CROP
        pixels = frame.full.pixels(math.ceil(min(self.picture_size) * min(1, self.enlargement / share)))
        scale = pixels.shape[0] / self.picture_size[0]
        left, top, width, height = (round(value * scale) for value in crop)
        part = pixels[top : top + height, left : left + width]
        shrinks = part.shape[0] >= self.height and part.shape[1] >= self.width
        return cv2.resize(
            part, (self.width, self.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        )


class _Lookahead:
    """Frames one after another, where those that were taken can be put back."""

    def __init__(self, frames: Iterator[_Frame]):
        self._frames = frames
        self._waiting: deque[_Frame] = deque()

    def take(self) -> _Frame | None:
        """The next frame; None at the end."""
        return self._waiting.popleft() if self._waiting else next(self._frames, None)

    def put_back(self, frames: list[_Frame]) -> None:
        self._waiting.extendleft(reversed(frames))


class _ShotSelection:
    """Selects the clips of one shot."""

    def __init__(self, shot: int, settings: SelectionSettings, outcome: VideoOutcome):
        self.shot = shot
        self.settings = settings
        self.outcome = outcome
        self.least, self.most = settings.displacement_limits
        self.target = math.sqrt(self.least * self.most)
        self.estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.estimator.setFinestScale(FINEST_SCALE)
        self.least_gap = 1
        self.counted_until: dict[str, int] = {}  # reason -> frame up to which it has been counted

    def clips(self, frames: Iterator[_Frame]) -> Iterator[SelectedClip]:
        """Yields the clips of the shot that these frames are."""
        source = _Lookahead(frames)
        found = False
        while (start := source.take()) is not None:
            self.window = _CropWindow(start, self.settings)
            if self.window.enlargement > MOST_ENLARGED:
                self._drop("picture too small", start.number, 1)
                continue
            kept, motions = [start], []
            self._first_step(kept, motions, source)
            while 1 < len(kept) < self.settings.num_frames:
                if not self._next_step(kept, motions, source):
                    break
            if len(kept) == self.settings.num_frames and self._is_good(kept, motions, source):
                found = True
                yield self._finish(kept, motions)
        if not found and not self.counted_until:
            self._drop("shot too short", 0, 1)

    def _first_step(self, kept: list[_Frame], motions: list[_Motion], source: _Lookahead) -> None:
        """Appends the frame after the gap that suits the motion from the start on, unless there is none."""
        (start,) = kept
        passed: list[_Frame] = []
        slow = 0  # a gap that was seen to be too small
        look = self.least_gap  # the gap to be looked at next
        while (frame := source.take()) is not None:
            passed.append(frame)
            gap = len(passed)
            seconds = frame.seconds - start.seconds
            if gap == 1 and seconds > self.settings.max_seconds + 1e-6:
                self._drop("too few frames per second", start.number, 1)
                return source.put_back([frame])
            is_last = gap == self.settings.max_gap or seconds * (gap + 1) / gap > self.settings.max_seconds + 1e-6
            if gap < look and not is_last:
                continue
            motion = _Motion.between(start.thumbnail, frame.thumbnail, self.estimator)
            crop = self.window.around([motion])
            displacement = self.window.displacement(motion, crop)
            at_least = self.window.at_least(displacement, crop)
            if at_least > self.most or motion.unexplained > UNEXPLAINED:
                if slow:  # it starts, or comes, all of a sudden
                    return source.put_back(passed[slow - 1 :])
                self._drop("too fast" if at_least > self.most else "unexplained change", start.number, 1)
                self.least_gap = 1
                return source.put_back([frame])
            if at_least >= self.target or is_last:
                if displacement < self.least:
                    self._drop("static", start.number, gap)
                    return source.put_back([frame])
                kept.append(frame)
                motions.append(motion)
                return
            slow = gap
            # Motion goes on much as it began, so most gaps need not be looked at.
            look = max(gap + 1, int(gap * min(2.0, 0.9 * self.target / max(at_least, 1e-6))))

    def _next_step(self, kept: list[_Frame], motions: list[_Motion], source: _Lookahead) -> bool:
        """Appends the frame one gap after the last; False if there is none, or the motion to it does not suit."""
        gap = kept[1].number - kept[0].number
        passed = [frame for frame in (source.take() for _ in range(gap)) if frame is not None]
        if len(passed) < gap:
            return False
        last, frame = kept[-1], passed[-1]
        motion = _Motion.between(last.thumbnail, frame.thumbnail, self.estimator)
        crop = self.window.around([*motions, motion])
        displacement = self.window.displacement(motion, crop)
        if displacement < REPEATED * self.window.displacement(motions[0], crop):
            self._drop("repeated frames", kept[0].number, gap)
            self.least_gap = min(gap, MOST_REPETITIONS) + 1
            source.put_back([frame])
            return False
        if displacement < self.least:
            self._drop("static", kept[0].number, gap)
            source.put_back([frame])
            return False
        too_fast = self.window.at_least(displacement, crop) > self.most
        if too_fast or motion.unexplained > UNEXPLAINED:
            self._drop("too fast" if too_fast else "unexplained change", kept[0].number, gap)
            source.put_back([last, *passed])
            return False
        kept.append(frame)
        motions.append(motion)
        return True

    def _is_good(self, kept: list[_Frame], motions: list[_Motion], source: _Lookahead) -> bool:
        gap = kept[1].number - kept[0].number
        times = np.diff([frame.seconds for frame in kept])
        crop = self.window.around(motions)
        displacements = [self.window.displacement(motion, crop) for motion in motions]
        if min(times) <= 0 or max(times) > UNEVEN * min(times) + 1e-6:
            reason = "uneven times"
        elif max(displacements) > self.most:
            reason = "too fast"
        elif min(displacements) < self.least:
            reason = "static"
        else:
            return True
        self._drop(reason, kept[0].number, gap)
        source.put_back(kept[-1:])
        return False

    def _finish(self, kept: list[_Frame], motions: list[_Motion]) -> SelectedClip:
        crop = self.window.around(motions)
        gap = kept[1].number - kept[0].number
        return SelectedClip(
            frames=np.stack([self.window.cut(frame, crop) for frame in kept]),
            frame_numbers=tuple(frame.number for frame in kept),
            timestamps=tuple(frame.seconds for frame in kept),
            gap=gap,
            crop=crop,
            shot=self.shot,
        )

    def _drop(self, reason: str, number: int, gap: int) -> None:
        """Counts a candidate that began with frame `number`, unless it would overlap the last that was counted."""
        if number >= self.counted_until.get(reason, 0):
            self.outcome.drop(reason)
            self.counted_until[reason] = number + (self.settings.num_frames - 1) * gap + 1
