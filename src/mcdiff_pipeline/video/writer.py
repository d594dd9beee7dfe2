# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Writing a video frame by frame."""

import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from ..atomic_files import unfinished_path
from .metadata import TRUE_VALUES, insert_gif_comment


@dataclass(frozen=True)
class _Format:
    container: str
    codec: str
    pixel_format: str
    codec_options: dict[str, str]
    container_options: dict[str, str]


_FORMATS = {
    # crf 16 is visually lossless. faststart puts the index first, so that a browser plays the file while it loads.
    ".mp4": _Format("mp4", "libx264", "yuv420p", {"crf": "16"}, {"movflags": "faststart"}),
    # VP9 uses crf only if the bit rate is 0.
    ".webm": _Format("webm", "libvpx-vp9", "yuv420p", {"crf": "18", "b:v": "0", "cpu-used": "4", "row-mt": "1"}, {}),
    ".gif": _Format("gif", "gif", "pal8", {}, {"loop": "0"}),  # 0: endless
    ".mkv": _Format("matroska", "ffv1", "bgr0", {"level": "3"}, {}),
}
# Frames per second that all formats and players can show.
MIN_FPS, MAX_FPS = 0.01, 1000
# Longest side that the encoders take, in pixels.
MAX_SIDE = 16384
# ITU-T H.273: 1 is BT.709 for primaries, transfer and matrix. Without these tags players guess, and red turns orange.
_BT709 = 1


class VideoWriter:
    """Writes a video frame by frame, in memory that does not grow with its length.

    Use it as a context manager. The file is built under a hidden name in the same folder and gets its name when the
    block ends. If Ctrl-C ends the block, the frames written so far become a playable file, and the exception is raised
    again. So they do with any other exception, unless that would replace a file. If there are no frames, nothing is
    left behind.

    Args:
        path (`str` or `os.PathLike`): the file; `.mp4`, `.webm`, `.gif` or `.mkv`. An existing file is replaced.
        fps (`float`): frames per second; at most 50 in a GIF, because browsers slow down faster ones.
        metadata (`dict`, *optional*): a JSON object to keep in the file.
        only_whole (`bool`, defaults to `False`): whether nothing is kept if an exception or Ctrl-C ends the block.

    Attributes:
        num_frames (`int`): number of frames written so far.

    Raises:
        ValueError: if the suffix is unknown, `fps` is not a number from `MIN_FPS` to `MAX_FPS`, or `metadata` is not a
            JSON object.
        FileNotFoundError: if the folder does not exist.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fps: float,
        metadata: dict[str, Any] | None = None,
        *,
        only_whole: bool = False,
    ):
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in _FORMATS:
            raise ValueError(f"'{self.path}' ends in '{suffix}', but a video must end in {_one_of(_FORMATS)}.")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder '{self.path.parent}' to write a video to; make it first.")
        is_number = isinstance(fps, Real) and not isinstance(fps, bool)
        if not is_number or not MIN_FPS <= fps <= MAX_FPS:  # also catches NaN
            raise ValueError(
                f"`fps` is {fps!r}, but it has to be a number of frames per second from {MIN_FPS} to {MAX_FPS}."
            )
        if suffix == ".gif" and fps > 50:
            raise ValueError(f"`fps` is {fps}, but a GIF shows at most 50 frames per second; use .mp4 or .webm.")
        if metadata is not None and (not isinstance(metadata, dict) or TRUE_VALUES in metadata):
            raise ValueError(f"`metadata` must be a dictionary without the key '{TRUE_VALUES}'.")
        try:
            json.dumps(metadata, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`metadata` cannot be written as JSON: {error}.") from error
        self.num_frames = 0
        self._only_whole = only_whole
        self._metadata = {} if metadata is None else metadata
        self._format = _FORMATS[suffix]
        self._rate = Fraction(float(fps)).limit_denominator(65535)
        self._unfinished = unfinished_path(self.path)
        self._container: av.container.OutputContainer | None = None
        self._comment = ""
        self._size = (0, 0)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        if exception is None:
            self.close()
            return
        replaces = isinstance(exception, Exception) and self.path.exists()
        if self.num_frames and not self._only_whole and not replaces:
            try:
                self.close()
            except (av.FFmpegError, OSError):
                pass  # for example a full disk; the caller has to see the exception that ended the block
        else:
            self._discard()

    def write(self, frame: Image.Image | np.ndarray) -> None:
        """Appends one frame.

        Args:
            frame (`PIL.Image.Image` or `np.ndarray`): an image, or `[height, width, 3]` in RGB, uint8 or floating
            point
                in [0, 1]. All frames have the same size, from 1 to 16,384 pixels on a side.

        Raises:
            ValueError: if it is neither of these, or its size differs from the size of the first frame.
        """
        if isinstance(frame, Image.Image):
            frame = np.asarray(frame.convert("RGB"))
        if isinstance(frame, np.ndarray) and frame.dtype.kind == "f" and frame.size:
            low, high = frame.min(), frame.max()
            if not (low >= 0 and high <= 1):  # also catches NaN
                raise ValueError(
                    f"A frame of floating point spans [{low:.3g}, {high:.3g}], but it has to lie in [0, 1]."
                )
            frame = (frame * 255).round().astype(np.uint8)
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise ValueError(
                f"A frame is {found}, but a PIL image, or an array of shape (height, width, 3), uint8 or floating "
                "point in [0, 1], is needed."
            )
        height, width = frame.shape[:2]
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise ValueError(
                f"A frame has {width} x {height} pixels, but each side needs 1 to {MAX_SIDE}: give it another size."
            )
        container = self._open(width, height) if self._container is None else self._container
        if (width, height) != self._size:
            raise ValueError(
                f"Frame {self.num_frames} is {width} x {height}, but the video began with {self._size[0]} x "
                f"{self._size[1]}; resize the frames to one size."
            )
        video_frame = self._to_video_frame(frame)
        video_frame.pts, video_frame.time_base = self.num_frames, 1 / self._rate
        with interrupt_postponed():  # Ctrl-C comes before or after it: the file holds `num_frames` frames
            container.mux(self._stream.encode(video_frame))
            self.num_frames += 1

    def close(self) -> None:
        """Finishes the file and moves it to its path.

        Raises:
            ValueError: if no frame has been written.
        """
        if self._container is None:
            raise ValueError(f"No frames were given for '{self.path}', but a video needs at least 1.")
        with interrupt_postponed():
            try:
                self._container.mux(self._stream.encode(None))
                self._container.close()
                if self._format.container == "gif":
                    insert_gif_comment(self._unfinished, self._comment)
                os.replace(self._unfinished, self.path)
            except Exception:
                self._discard()
                raise

    def _open(self, width: int, height: int) -> av.container.OutputContainer:
        """Begins the file, for frames of this size."""
        self._size = (width, height)
        padding = (width % 2, height % 2) if self._format.codec == "libx264" else (0, 0)
        comment = dict(self._metadata)
        if any(padding) or self._format.container == "gif":
            comment[TRUE_VALUES] = {"width": width, "height": height, "fps": float(self._rate)}
        if comment:
            self._comment = json.dumps(comment)
        self._container = container = av.open(
            str(self._unfinished), "w", format=self._format.container, options=self._format.container_options
        )
        if self._comment and self._format.container != "gif":
            container.metadata["comment"] = self._comment
        stream = container.add_stream(self._format.codec, rate=self._rate, options=self._format.codec_options)
        self._stream = cast(av.VideoStream, stream)
        self._stream.width, self._stream.height = width + padding[0], height + padding[1]
        self._stream.pix_fmt = self._format.pixel_format
        encoder = self._stream.codec_context
        encoder.time_base = 1 / self._rate
        if self._format.pixel_format == "yuv420p":
            encoder.color_range = ColorRange.MPEG
            encoder.colorspace = encoder.color_primaries = encoder.color_trc = _BT709
        return container

    def _to_video_frame(self, frame: np.ndarray) -> av.VideoFrame:
        """Converts uint8 `[height, width, 3]` in RGB to the pixel format of the file."""
        height, width = frame.shape[:2]
        if self._format.pixel_format == "pal8":
            # PyAV takes indices and a palette, although its stubs do not say so.
            return av.VideoFrame.from_ndarray(_reduce_colors(frame), format="pal8")  # type: ignore[arg-type]
        if self._format.codec == "libx264":
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        video_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if self._format.pixel_format == "yuv420p":
            return video_frame.reformat(
                format="yuv420p",
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                dst_colorspace=Colorspace.ITU709,
            )
        return video_frame.reformat(format=self._format.pixel_format)

    def _discard(self) -> None:
        """Removes the unfinished file."""
        if self._container is not None:
            try:
                self._container.close()
            except av.FFmpegError:
                pass  # nothing was written yet, or the disk is full; the file is removed anyway
        self._unfinished.unlink(missing_ok=True)


def write_video(
    frames: Iterable[Image.Image | np.ndarray],
    path: str | os.PathLike,
    fps: float = 8,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Writes frames to a video file, as [`VideoWriter`] does.

    Args:
        frames (iterable of `PIL.Image.Image` or `np.ndarray`): images, or `[height, width, 3]` in RGB, uint8 or
        floating
            point in [0, 1], all of the same size. A generator is written while it runs.
        path (`str` or `os.PathLike`): the file; `.mp4`, `.webm`, `.gif` or `.mkv`.
        fps (`float`, defaults to 8): frames per second.
        metadata (`dict`, *optional*): a JSON object to keep in the file.

    Raises:
        ValueError: if there are no frames, their sizes differ, the suffix is unknown, `fps` is not a positive number
            or `metadata` is not a JSON object.
        FileNotFoundError: if the folder does not exist.
    """
    with VideoWriter(path, fps, metadata) as writer:
        for frame in frames:
            writer.write(frame)


@contextmanager
def interrupt_postponed() -> Iterator[None]:
    """Delays Ctrl-C until the block ends, so that nothing in it is left half done.

    Only the main thread receives Ctrl-C; in another thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = []
    previous = signal.signal(signal.SIGINT, lambda *_: received.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if received:
            signal.raise_signal(signal.SIGINT)


def _one_of(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


def _reduce_colors(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduces a frame to 256 colors: indices `[height, width]` uint8, and the palette `[256, 4]` uint8 in ARGB."""
    image = Image.fromarray(frame)
    # On photographs the octree with dithering is about as accurate as the median cut (mean error 3.1 against 2.9
    # levels, and 0.6 against 1.0 after a 4 x 4 mean) in a hundredth of the time. Pillow dithers only with a palette.
    palette = image.quantize(256, method=Image.Quantize.FASTOCTREE)
    image = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    colors = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    argb = np.full((256, 4), 255, np.uint8)
    argb[: len(colors), 1:] = colors
    return np.array(image), argb
