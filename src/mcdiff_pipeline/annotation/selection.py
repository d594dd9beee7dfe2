# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Selection of clips from a video: their frames, their crop, and the reasons why candidates are dropped."""

import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..video import VideoReader
from .crop import CropWindow
from .motion import Motion, ThumbnailFrame, motion_estimator
from .outcome import VideoOutcome
from .settings import SelectionSettings
from .shots import number_shots


# Largest factor by which an image is enlarged. Above it, clips would be mostly blur.
MOST_ENLARGED = 2.0
# 95th percentile of the difference in levels of 255 between a frame and the next, with the motion undone. In 6 clips
# of real video it is at most 36 where the motion is in range, and mostly below 20. Above this limit the motion was not
# found: it is larger than this flow can follow, the light changes, one shot dissolves into another, or the image is
# damaged.
UNEXPLAINED = 40.0
# A step below this fraction of the first step of a clip repeats a frame (or everything stops, which is rare). It is
# not zero, because a lossy codec shows the same frame a little differently.
REPEATED = 0.1
# Largest number of copies of a frame where the frame rate was raised: 12 to 60 frames per second gives up to 4.
MOST_REPETITIONS = 4
# Largest ratio of the longest to the shortest time between consecutive frames of a clip.
UNEVEN = 1.25
# A file that ends before this fraction of its stated length is truncated. Sound may last a little longer than video.
ENOUGH = 0.9
# Seconds; container formats round times.
TIME_TOLERANCE = 1e-6


@dataclass(frozen=True)
class SelectedClip:
    """`T` evenly spaced frames of one shot, cropped around the motion.

    Args:
        frames (`np.ndarray`): uint8 `[T, H, W, 3]`, RGB, at the resolution of the clips.
        frame_numbers (`tuple[int, ...]`): numbers of these frames in the video, from 0.
        timestamps (`tuple[float, ...]`): their times in seconds.
        gap (`int`): difference of consecutive frame numbers.
        crop (`tuple[int, int, int, int]`): left, top, width and height of the crop in pixels of the upright video.
        shot (`int`): number of the shot in the video, from 0.
    """

    frames: np.ndarray
    frame_numbers: tuple[int, ...]
    timestamps: tuple[float, ...]
    gap: int
    crop: tuple[int, int, int, int]
    shot: int


def select_clips(
    video: str | os.PathLike,
    settings: SelectionSettings,
    outcome: VideoOutcome,
    watch: Callable[[float], object] | None = None,
) -> Iterator[SelectedClip]:
    """Selects the clips of a video. Memory does not grow with its length.

    From a first frame, the gap is the smallest that gives enough displacement (the geometric mean of the allowed
    range), by a fast optical flow between thumbnails. The frames that follow at this gap form the clip, unless the
    motion leaves the range or the shot ends. The next clip begins after it. The crop is the smallest one around the
    motion of all frames, but at least half as wide and high as the largest crop, and not smaller than the resolution
    unless the image is.

    A bad video raises no error: `outcome.error` states it, and the clips before the damage are kept.

    Args:
        video (`str` or `os.PathLike`): the file, in any format that FFmpeg reads.
        settings (`SelectionSettings`): which parts become clips.
        outcome (`VideoOutcome`): outcome of this video. Everything that is known before optical flow is entered while
            the video is read. The caller counts the clips that it keeps.
        watch (`Callable`, *optional*): called with the share of the video that is read, in [0, 1], for each frame; not
            if the file does not state its length.

    Yields:
        [`SelectedClip`]: in the order of their frames, which do not overlap.
    """
    try:
        reader = VideoReader(video, num_threads=1)
    except (OSError, ValueError) as error:
        outcome.error = _with_name(error, video, outcome)
        return
    with reader:
        outcome.fps = reader.fps
        if reader.hdr:
            outcome.error = (
                f"'{outcome.video}' is coded for HDR screens ({reader.hdr}) and would look flat and gray; convert it "
                "to SDR first, for example with FFmpeg's filter 'tonemap'."
            )
            return
        frames = number_shots(_frames_with_thumbnails(reader, outcome, watch), lambda frame: frame.thumbnail)
        for shot, numbered_frames in itertools.groupby(frames, key=lambda numbered: numbered[0]):
            outcome.shots = shot + 1
            selection = _ShotSelection(shot, settings, outcome)
            yield from selection.clips(frame for _, frame in numbered_frames)


def _frames_with_thumbnails(
    reader: VideoReader, outcome: VideoOutcome, watch: Callable[[float], object] | None
) -> Iterator[ThumbnailFrame]:
    """All frames until the end or the damage. Enters the damage and the properties of the frames in the outcome."""
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
            if watch is not None and reader.seconds > 0:
                watch(min(outcome.seconds / reader.seconds, 1.0))
            yield ThumbnailFrame(frame)
    except ValueError as error:
        outcome.error = _with_name(error, reader.path, outcome)
        return
    if first is None:
        outcome.error = f"'{outcome.video}' holds no frames, so it is truncated or was never finished."
    elif outcome.seconds < ENOUGH * reader.seconds:
        outcome.error = (
            f"'{outcome.video}' ends after {outcome.seconds:.1f} of {reader.seconds:.1f} seconds, so it is damaged or "
            "truncated; copy or make it again."
        )


def _with_name(error: Exception, path: str | os.PathLike, outcome: VideoOutcome) -> str:
    """The message with the name of the video instead of its path, which differs between machines."""
    return str(error).replace(f"'{Path(path)}'", f"'{outcome.video}'")


class _Lookahead:
    """An iterator of frames to which frames can be returned."""

    def __init__(self, frames: Iterator[ThumbnailFrame]) -> None:
        self._frames = frames
        self._waiting: deque[ThumbnailFrame] = deque()

    def take(self) -> ThumbnailFrame | None:
        """The next frame; None at the end."""
        return self._waiting.popleft() if self._waiting else next(self._frames, None)

    def put_back(self, frames: list[ThumbnailFrame]) -> None:
        self._waiting.extendleft(reversed(frames))


class _ShotSelection:
    """Selects the clips of one shot."""

    def __init__(self, shot: int, settings: SelectionSettings, outcome: VideoOutcome) -> None:
        self.shot = shot
        self.settings = settings
        self.outcome = outcome
        self.least, self.most = settings.displacement_limits
        self.target = math.sqrt(self.least * self.most)
        self.estimator = motion_estimator()
        self.least_gap = 1
        self.counted_until: dict[str, int] = {}  # reason -> frame number up to which candidates are counted

    def clips(self, frames: Iterator[ThumbnailFrame]) -> Iterator[SelectedClip]:
        """Yields the clips of the shot, which consists of these frames."""
        source = _Lookahead(frames)
        found = False
        while (start := source.take()) is not None:
            self.window = CropWindow(start, self.settings)
            if self.window.enlargement > MOST_ENLARGED:
                self._drop("picture too small", start.number, 1)
                continue
            kept = [start]
            motions: list[Motion] = []
            self._first_step(kept, motions, source)
            while 1 < len(kept) < self.settings.num_frames:
                if not self._next_step(kept, motions, source):
                    break
            if len(kept) == self.settings.num_frames and self._is_good(kept, motions, source):
                found = True
                yield self._finish(kept, motions)
        if not found and not self.counted_until:
            self._drop("shot too short", 0, 1)

    def _first_step(self, kept: list[ThumbnailFrame], motions: list[Motion], source: _Lookahead) -> None:
        """Appends the second frame of the clip, at the gap that gives enough displacement, if there is one."""
        (start,) = kept
        passed: list[ThumbnailFrame] = []
        slow = 0  # the largest gap that was found too small
        look = self.least_gap  # the next gap to try
        while (frame := source.take()) is not None:
            passed.append(frame)
            gap = len(passed)
            seconds = frame.seconds - start.seconds
            limit = self.settings.max_seconds + TIME_TOLERANCE
            if gap == 1 and seconds > limit:
                self._drop("too few frames per second", start.number, 1)
                return source.put_back([frame])
            is_last = gap == self.settings.max_gap or seconds * (gap + 1) / gap > limit
            if gap < look and not is_last:
                continue
            motion = Motion.between(start, frame, self.estimator)
            crop = self.window.around([motion])
            displacement = self.window.displacement(motion, crop)
            at_least = self.window.at_least(displacement, crop)
            if at_least > self.most or motion.unexplained > UNEXPLAINED:
                if slow:  # the motion begins suddenly; start again just before it
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
            # Motion mostly continues as it began, so most gaps can be skipped.
            look = max(gap + 1, int(gap * min(2.0, 0.9 * self.target / max(at_least, 1e-6))))

    def _next_step(self, kept: list[ThumbnailFrame], motions: list[Motion], source: _Lookahead) -> bool:
        """Appends the frame one gap after the last; False if it does not exist or its motion is not allowed."""
        gap = kept[1].number - kept[0].number
        passed = [frame for frame in (source.take() for _ in range(gap)) if frame is not None]
        if len(passed) < gap:
            return False
        last, frame = kept[-1], passed[-1]
        motion = Motion.between(last, frame, self.estimator)
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

    def _is_good(self, kept: list[ThumbnailFrame], motions: list[Motion], source: _Lookahead) -> bool:
        """Checks a clip with all of its frames, in its final crop."""
        gap = kept[1].number - kept[0].number
        times = np.diff([frame.seconds for frame in kept])
        crop = self.window.around(motions)
        displacements = [self.window.displacement(motion, crop) for motion in motions]
        if min(times) <= 0 or max(times) > UNEVEN * min(times) + TIME_TOLERANCE:
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

    def _finish(self, kept: list[ThumbnailFrame], motions: list[Motion]) -> SelectedClip:
        crop = self.window.around(motions)
        return SelectedClip(
            frames=np.stack([self.window.cut(frame, crop) for frame in kept]),
            frame_numbers=tuple(frame.number for frame in kept),
            timestamps=tuple(frame.seconds for frame in kept),
            gap=kept[1].number - kept[0].number,
            crop=crop,
            shot=self.shot,
        )

    def _drop(self, reason: str, number: int, gap: int) -> None:
        """Counts a candidate that begins with frame `number`, unless it overlaps the last one that was counted."""
        if number >= self.counted_until.get(reason, 0):
            self.outcome.drop(reason)
            self.counted_until[reason] = number + (self.settings.num_frames - 1) * gap + 1
