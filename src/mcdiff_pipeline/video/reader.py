# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Reading a video frame by frame."""

import math
import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorTrc, Interpolation, VideoReformatter

from .metadata import read_comment, true_values
from .truncation import is_truncated


# Twice as many as 8K. A damaged file may say that its frames have more, for which there is no memory.
MAX_FRAME_PIXELS = 8192**2

_HDR_TRANSFERS: dict[int, str] = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}


@dataclass(frozen=True)
class Video:
    """A video in memory.

    Attributes:
        frames (`list[np.ndarray]`): uint8 `[height, width, 3]` in RGB.
        fps (`float`): frames per second; the average if the rate varies.
        metadata (`dict`): the JSON object in the file's comment; empty if there is none.
    """

    frames: list[np.ndarray]
    fps: float
    metadata: dict[str, Any]


class TimedFrame:
    """One decoded frame of a video. It is converted to pixels on request, at the requested size.

    Attributes:
        number (`int`): its index in the video, from 0.
        seconds (`float`): its presentation time.
        height, width (`int`): size of the upright image in pixels.
        pixel_aspect (`float`): display width of a pixel over its display height.
        interlaced (`bool`): whether odd and even rows were recorded at different times.
    """

    def __init__(self, frame: av.VideoFrame, number: int, seconds: float, reader: "VideoReader"):
        self.number = number
        self.seconds = seconds
        self.interlaced = frame.interlaced_frame
        self._frame = frame
        self._reader = reader
        self._quarter_turns, self._mirrored = _orientation(frame)
        # the true size is at most the stored one, which is padded
        self._stored_size = (
            min(reader._crop[0] or frame.height, frame.height),
            min(reader._crop[1] or frame.width, frame.width),
        )
        turned = self._quarter_turns % 2 == 1
        self.height, self.width = self._stored_size[:: -1 if turned else 1]
        self.pixel_aspect = 1 / reader._pixel_aspect if turned else reader._pixel_aspect

    def pixels(self, shorter_side: int | None = None, *, gray: bool = False) -> np.ndarray:
        """The upright image.

        Args:
            shorter_side (`int`, *optional*): size of the shorter side in pixels; the aspect ratio is kept. Pixels are
                averaged over their areas in the same pass that converts the colors, which is much cheaper than
                converting first. A smaller image keeps its size.
            gray (`bool`, defaults to `False`): return the luma only.

        Returns:
            `np.ndarray`: uint8 `[height, width, 3]` in RGB, or `[height, width]` if gray.
        """
        scale = min(1, shorter_side / min(self._stored_size)) if shorter_side else 1
        height, width = (max(1, round(size * scale)) for size in self._stored_size)
        reduced = self._reader._reformatters[height, width, gray].reformat(
            self._frame,
            max(width, round(self._frame.width * scale)),
            max(height, round(self._frame.height * scale)),
            "gray" if gray else "rgb24",
            interpolation=Interpolation.AREA if scale < 1 else Interpolation.BILINEAR,
            threads=self._reader._num_threads,
        )
        array = reduced.to_ndarray()[:height, :width]
        if self._mirrored:
            array = array[:, ::-1]
        return np.ascontiguousarray(np.rot90(array, self._quarter_turns))


def _orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """How a stored frame becomes upright: it is mirrored left to right, if that is True, then turned.

    The display matrix of a file (ISO 14496-12, 8.3.2) maps a stored point (x, y) to `(a x + c y, b x + d y)`, in 16.16
    fixed point. All eight orientations of cameras are products of a mirror and quarter turns.

    Args:
        frame (`av.VideoFrame`): a decoded frame.

    Returns:
        `tuple[int, bool]`: quarter turns counterclockwise, 0 to 3, and whether the frame is mirrored before.
    """
    data: Any = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]  # PyAV's stubs
    if data is None:
        return round(frame.rotation / 90) % 4, False
    a, b, _, c, d = (value / 2**16 for value in struct.unpack("=5i", bytes(data)[:20]))
    mirrored = a * d - b * c < 0
    if mirrored:  # what remains after the mirror, which negates x
        a, b = -a, -b
    return round(math.degrees(math.atan2(-b, a)) / 90) % 4, mirrored


class VideoReader:
    """Reads a video in any format of FFmpeg, frame by frame. The attributes are known before the first frame.

    Use it as a context manager and iterate over it once. Frames are uint8 `[height, width, 3]` in RGB. They are turned
    and mirrored upright if the file says how the camera was held. `timed_frames` yields the same frames with their
    times, and can reduce them.

    Args:
        path (`str` or `os.PathLike`): the file.
        num_threads (`int`, defaults to 0): threads that decode and convert; FFmpeg chooses their number if 0. 1 is
            fastest if one video per core is read at a time.

    Attributes:
        fps (`float`): frames per second; the average if the rate varies, 0 if it is unknown.
        seconds (`float`): duration according to the file; 0 if it is unknown.
        metadata (`dict`): the JSON object in the file's comment; empty if there is none.
        hdr (`str`, *optional*): `"PQ"` or `"HLG"` (ITU-R BT.2100) if the brightness is coded for HDR screens. Frames
            are not converted, so they look flat and gray on other screens. None for all other videos.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a video; while iterating, after the last good frame, if it is damaged or truncated.
    """

    def __init__(self, path: str | os.PathLike, num_threads: int = 0):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no video '{self.path}'.")
        try:
            # "file:" keeps FFmpeg from reading a name such as "http:a.mp4" as an address.
            self._container = av.open(f"file:{self.path}", metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise ValueError(f"'{self.path}' is not a video, or is truncated: {_reason(error)}.") from error
        try:
            self._read_header(num_threads)
        except BaseException as error:
            self._container.close()
            if isinstance(error, ValueError) or not isinstance(error, Exception):
                raise
            raise ValueError(f"'{self.path}' is not a video, or is damaged: {_reason(error)}.") from error

    def _read_header(self, num_threads: int) -> None:
        """Sets the attributes from what the file says before its first frame."""
        if not self._container.streams.video:
            raise ValueError(f"'{self.path}' holds no frames, so it is not a video, or it is truncated.")
        stream = self._container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError(
                f"'{self.path}' is coded in a way that FFmpeg here has no decoder for; convert it to H.264."
            )
        self._truncated = is_truncated(self.path, self._container.format.name)
        self.metadata = read_comment(self.path, self._container)
        stored = true_values(self.metadata)
        self._check_size(stream.codec_context.width, stream.codec_context.height)
        stream.codec_context.thread_count = num_threads
        self.fps = float(stored.get("fps") or stream.average_rate or stream.guessed_rate or 0)
        if stream.duration and stream.time_base:
            self.seconds = float(stream.duration * stream.time_base)
        else:
            self.seconds = (self._container.duration or 0) / av.time_base
        self.hdr = _HDR_TRANSFERS.get(stream.codec_context.color_trc)
        self._pixel_aspect = float(stream.sample_aspect_ratio or 1)
        self._crop = stored.get("height"), stored.get("width")
        self._num_threads = num_threads
        # Setting up a conversion takes longer than converting a small frame, so each size keeps its converter.
        self._reformatters: defaultdict[tuple[int, int, bool], VideoReformatter] = defaultdict(VideoReformatter)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > MAX_FRAME_PIXELS:
            raise ValueError(
                f"'{self.path}' is damaged, or too large: its frames have {width} x {height} pixels, but at most "
                f"{MAX_FRAME_PIXELS} are read; make it smaller."
            )

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.timed_frames():
            yield frame.pixels()

    def timed_frames(self) -> Iterator[TimedFrame]:
        """Yields the frames with their times, not yet converted to pixels. A frame stays valid after the next one.

        Raises:
            ValueError: after the last good frame, if the file is damaged or truncated.
        """
        last_size = 0, 0
        try:
            for number, frame in enumerate(self._container.decode(video=0)):
                last_size = frame.width, frame.height
                if frame.width * frame.height > MAX_FRAME_PIXELS:
                    break
                # Some raw streams have no times.
                seconds = number / (self.fps or 1) if frame.time is None else frame.time
                yield TimedFrame(frame, number, seconds, self)
        except (av.FFmpegError, OSError, RuntimeError, ValueError, MemoryError) as error:
            raise ValueError(f"'{self.path}' is damaged or truncated: {_reason(error)}.") from error
        self._check_size(*last_size)
        if self._truncated:
            raise ValueError(f"'{self.path}' is truncated; copy or make it again.")


def _reason(error: Exception) -> str:
    """Why FFmpeg or PyAV failed, as part of a sentence."""
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return reason.splitlines()[0].rstrip(".")


def read_video(path: str | os.PathLike) -> Video:
    """Reads a whole video into memory; [`VideoReader`] reads a long video frame by frame.

    Args:
        path (`str` or `os.PathLike`): the file, in any format of FFmpeg.

    Returns:
        [`Video`]: its frames, frame rate and metadata.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a video, or is truncated or damaged.
    """
    with VideoReader(path) as reader:
        frames = list(reader)
        if not frames:
            raise ValueError(f"'{path}' holds no frames, so it is truncated or was never finished.")
        return Video(frames, reader.fps, reader.metadata)
