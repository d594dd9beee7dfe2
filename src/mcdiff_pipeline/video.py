# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Frames to a video file and back, with metadata that travels inside the file.

The suffix names the format: `.mp4` (H.264, plays everywhere), `.webm` (VP9), `.gif` (256 colors a frame) and `.mkv`
(FFV1, lossless: every pixel comes back bit for bit). Metadata is one JSON object in the container's comment, where any
tool that shows comments shows it. A file appears under its name complete or not at all; when the program is stopped
half way, it holds the frames made so far.
"""

import io
import json
import math
import os
import shutil
import signal
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from PIL import Image


@dataclass(frozen=True)
class _Format:
    container: str
    codec: str
    pixel_format: str
    codec_options: dict[str, str]
    container_options: dict[str, str]


_FORMATS = {
    # crf 16 is visually lossless; faststart puts the index in front, so that a browser plays while it loads.
    ".mp4": _Format("mp4", "libx264", "yuv420p", {"crf": "16"}, {"movflags": "faststart"}),
    # A bit rate of 0 makes VP9 keep to the quality that crf names.
    ".webm": _Format("webm", "libvpx-vp9", "yuv420p", {"crf": "18", "b:v": "0", "cpu-used": "4", "row-mt": "1"}, {}),
    ".gif": _Format("gif", "gif", "pal8", {}, {"loop": "0"}),  # 0: for ever
    ".mkv": _Format("matroska", "ffv1", "bgr0", {"level": "3"}, {}),
}
# H.264 stores pairs of pixels and GIF whole hundredths of a second. What they cannot say is kept beside the metadata.
_TRUE_VALUES = "mcdiff_video"
# ITU-T H.273: 1 is BT.709 in each of the three. Without these tags players guess, and red turns orange.
_BT709 = 1
_HDR_TRANSFERS = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}


class VideoWriter:
    """Writes a video frame by frame; memory does not grow with its length.

    Use it as a context manager. The file is built under a hidden name in the same folder and gets its own name when
    the block ends. If the block ends by an exception, Ctrl-C included, after at least one frame, the frames written so
    far are finished to a playable file before the exception goes on; without any frame nothing is left behind.

    Args:
        path (`str` or `os.PathLike`): the file; `.mp4`, `.webm`, `.gif` or `.mkv`. An existing file is replaced.
        fps (`float`): frames per second; at most 50 in a GIF, because browsers slow down anything faster.
        metadata (`dict`, *optional*): a JSON object to keep in the file.

    Attributes:
        num_frames (`int`): how many frames have been written.

    Raises:
        ValueError: if the suffix is unknown, `fps` is not a positive number or `metadata` is not a JSON object.
        FileNotFoundError: if the folder does not exist.
    """

    def __init__(self, path: str | os.PathLike, fps: float, metadata: dict[str, Any] | None = None):
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in _FORMATS:
            raise ValueError(f"'{self.path}' ends in '{suffix}', but a video has to end in {_one_of(_FORMATS)}.")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder '{self.path.parent}' to write a video to; make it first.")
        if not isinstance(fps, (int, float, Fraction)) or not math.isfinite(fps) or fps <= 0:
            raise ValueError(f"`fps` is {fps!r}, but a number of frames per second above 0 is needed.")
        if suffix == ".gif" and fps > 50:
            raise ValueError(f"`fps` is {fps}, but a GIF shows at most 50 frames per second; use .mp4 or .webm.")
        if metadata is not None and (not isinstance(metadata, dict) or _TRUE_VALUES in metadata):
            raise ValueError(f"`metadata` has to be a dictionary without the key '{_TRUE_VALUES}'.")
        try:
            json.dumps(metadata, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`metadata` cannot be written as JSON: {error}.") from error
        self.num_frames = 0
        self._metadata = {} if metadata is None else metadata
        self._format = _FORMATS[suffix]
        self._rate = Fraction(fps).limit_denominator(65535)
        self._unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}.unfinished{suffix}")
        self._container = None
        self._comment = ""
        self._size = (0, 0)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        if exception is None:
            self.close()
        elif self.num_frames:
            try:
                self.close()
            except (av.FFmpegError, OSError):
                pass  # the disk may be full; what stopped the block is what the caller has to know
        else:
            self._discard()

    def write(self, frame: Image.Image | np.ndarray) -> None:
        """Appends one frame.

        Args:
            frame (`PIL.Image.Image` or `np.ndarray`): a picture, or uint8 `[height, width, 3]` in RGB; all of one
                video have the same size.

        Raises:
            ValueError: if it is neither, or its size is not that of the first frame.
        """
        if isinstance(frame, Image.Image):
            frame = np.asarray(frame.convert("RGB"))
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise ValueError(
                f"A frame is {found}, but a PIL picture or a uint8 array of shape (height, width, 3) is needed."
            )
        height, width = frame.shape[:2]
        if self._container is None:
            self._open(width, height)
        elif (width, height) != self._size:
            raise ValueError(
                f"Frame {self.num_frames} is {width} x {height}, but the video began with {self._size[0]} x "
                f"{self._size[1]}; resize the frames to one size."
            )
        if self._format.codec == "libx264":
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._format.pixel_format == "pal8":
            picture = av.VideoFrame.from_ndarray(_reduce_colors(frame), format="pal8")
        else:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if self._format.pixel_format == "yuv420p":
            picture = picture.reformat(
                format="yuv420p",
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                dst_colorspace=Colorspace.ITU709,
            )
        elif self._format.pixel_format != "pal8":
            picture = picture.reformat(format=self._format.pixel_format)
        picture.pts, picture.time_base = self.num_frames, 1 / self._rate
        # Encoding and writing are one call into C: Ctrl-C comes before or after, and never loses a packet in between.
        list(map(self._container.mux, map(self._stream.encode, [picture])))
        self.num_frames += 1

    def close(self) -> None:
        """Finishes the file and gives it its name.

        Raises:
            ValueError: if no frame has been written.
        """
        if self._container is None:
            raise ValueError(f"No frames were given for '{self.path}', but a video needs at least 1.")
        with _interrupt_postponed():
            try:
                self._container.mux(self._stream.encode(None))
                self._container.close()
                if self._format.container == "gif":
                    _insert_gif_comment(self._unfinished, self._comment)
                os.replace(self._unfinished, self.path)
            except Exception:
                self._discard()
                raise

    def _open(self, width: int, height: int) -> None:
        self._size = (width, height)
        padding = (width % 2, height % 2) if self._format.codec == "libx264" else (0, 0)
        comment = dict(self._metadata)
        if any(padding) or self._format.container == "gif":
            comment[_TRUE_VALUES] = {"width": width, "height": height, "fps": float(self._rate)}
        if comment:
            self._comment = json.dumps(comment)
        self._container = av.open(
            str(self._unfinished), "w", format=self._format.container, options=self._format.container_options
        )
        if self._comment and self._format.container != "gif":
            self._container.metadata["comment"] = self._comment
        self._stream = self._container.add_stream(
            self._format.codec, rate=self._rate, options=self._format.codec_options
        )
        self._stream.width, self._stream.height = width + padding[0], height + padding[1]
        self._stream.pix_fmt = self._format.pixel_format
        encoder = self._stream.codec_context
        encoder.time_base = 1 / self._rate
        if self._format.pixel_format == "yuv420p":
            encoder.color_range = ColorRange.MPEG
            encoder.colorspace = encoder.color_primaries = encoder.color_trc = _BT709

    def _discard(self) -> None:
        if self._container is not None:
            try:
                self._container.close()
            except av.FFmpegError:
                pass  # a container that was never begun, or a full disk; the file goes away now
        self._unfinished.unlink(missing_ok=True)


def write_video(
    frames: Iterable[Image.Image | np.ndarray],
    path: str | os.PathLike,
    fps: float = 8,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Writes frames to a video file, as [`VideoWriter`] does.

    Args:
        frames (iterable of `PIL.Image.Image` or `np.ndarray`): pictures, or uint8 `[height, width, 3]` in RGB, of one
            size; a generator is written as it runs.
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


@dataclass(frozen=True)
class Video:
    """A video in memory.

    Attributes:
        frames (`list[np.ndarray]`): uint8 `[height, width, 3]` in RGB.
        fps (`float`): frames per second; the average where the file's rate varies.
        metadata (`dict`): the JSON object of the file's comment; empty if it has none.
    """

    frames: list[np.ndarray]
    fps: float
    metadata: dict[str, Any]


class TimedFrame:
    """One frame of a video that is being read: decoded, but turned into pixels only when asked, and as large as asked.

    Attributes:
        number (`int`): its place in the video, from 0.
        seconds (`float`): when it is shown.
        height, width (`int`): size of the upright picture in pixels.
        pixel_aspect (`float`): width of a pixel over its height, as they are meant to be shown.
        interlaced (`bool`): whether its odd and even rows were taken at different times.
    """

    def __init__(self, picture: av.VideoFrame, number: int, seconds: float, reader: "VideoReader"):
        self.number = number
        self.seconds = seconds
        self.interlaced = picture.interlaced_frame
        self._picture = picture
        self._reader = reader
        self._quarter_turns = round(picture.rotation / 90)
        self._stored_size = reader._crop[0] or picture.height, reader._crop[1] or picture.width
        turned = self._quarter_turns % 2 == 1
        self.height, self.width = self._stored_size[:: -1 if turned else 1]
        self.pixel_aspect = 1 / reader._pixel_aspect if turned else reader._pixel_aspect

    def pixels(self, shorter_side: int | None = None, *, gray: bool = False) -> np.ndarray:
        """The upright picture.

        Args:
            shorter_side (`int`, *optional*): size of the shorter side in pixels; the other follows. Pixels are
                averaged over their areas, in the same pass that converts the colors, which is much cheaper than to
                convert first. A picture that is smaller stays as it is.
            gray (`bool`, defaults to `False`): only the brightness.

        Returns:
            `np.ndarray`: uint8 `[height, width, 3]` in RGB, or `[height, width]` if gray.
        """
        scale = min(1, shorter_side / min(self._stored_size)) if shorter_side else 1
        height, width = (max(1, round(size * scale)) for size in self._stored_size)
        picture = self._reader._reformatters[height, width, gray].reformat(
            self._picture,
            max(width, round(self._picture.width * scale)),
            max(height, round(self._picture.height * scale)),
            "gray" if gray else "rgb24",
            interpolation=Interpolation.AREA if scale < 1 else Interpolation.BILINEAR,
            threads=self._reader._num_threads,
        )
        array = picture.to_ndarray()[:height, :width]
        return np.ascontiguousarray(np.rot90(array, self._quarter_turns))


class VideoReader:
    """Reads any video that FFmpeg knows frame by frame; opening it is enough to know all but the frames.

    Use it as a context manager and iterate over it, once: frames are uint8 `[height, width, 3]` in RGB, upright also
    where the camera was not. `timed_frames` yields the same frames with their times, and at reduced size.

    Args:
        path (`str` or `os.PathLike`): the file.
        num_threads (`int`, defaults to 0): threads that decode and convert; 0 leaves it to FFmpeg. Where as many
            videos are read at a time as there are cores, 1 is fastest.

    Attributes:
        fps (`float`): frames per second; the average where the file's rate varies, 0 if it is not known.
        seconds (`float`): how long the file says it is; 0 if it does not say.
        metadata (`dict`): the JSON object of the file's comment; empty if it has none.
        hdr (`str`, *optional*): "PQ" or "HLG" (ITU-R BT.2100) if the brightness is coded for HDR screens; the frames
            are then as coded, too flat and gray for any other. None for all other videos.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no video; also while iterating, after the last frame before the damage, if it is damaged
            or truncated.
    """

    def __init__(self, path: str | os.PathLike, num_threads: int = 0):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no video '{self.path}'.")
        try:
            # "file:" keeps FFmpeg from taking a name such as "http:a.mp4" for an address.
            self._container = av.open(f"file:{self.path}")
        except av.FFmpegError as error:
            raise ValueError(f"'{self.path}' is not a video, or is truncated: {error.strerror}.") from error
        try:
            if not self._container.streams.video:
                raise ValueError(f"'{self.path}' holds no pictures, so it is not a video, or it is truncated.")
            self._truncated = _is_truncated(self.path, self._container.format.name)
            comment = _read_comment(self.path, self._container)
        except ValueError:
            self._container.close()
            raise
        stream = self._container.streams.video[0]
        stream.codec_context.thread_count = num_threads
        true_values = comment.pop(_TRUE_VALUES, {})
        self.metadata = comment
        self.fps = float(true_values.get("fps") or stream.average_rate or stream.guessed_rate or 0)
        self.seconds = float(
            stream.duration * stream.time_base if stream.duration else (self._container.duration or 0) / av.time_base
        )
        self.hdr = _HDR_TRANSFERS.get(stream.codec_context.color_trc)
        self._pixel_aspect = float(stream.sample_aspect_ratio or 1)
        self._crop = true_values.get("height"), true_values.get("width")
        self._num_threads = num_threads
        # Setting up a conversion takes longer than a small picture does, so each size keeps its own.
        self._reformatters: defaultdict[tuple[int, int, bool], VideoReformatter] = defaultdict(VideoReformatter)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.timed_frames():
            yield frame.pixels()

    def timed_frames(self) -> Iterator[TimedFrame]:
        """Yields the frames with their times, not yet turned into pixels; a frame may be kept as long as it is needed.

        Raises:
            ValueError: after the last frame before the damage, if the file is damaged or truncated.
        """
        try:
            for number, picture in enumerate(self._container.decode(video=0)):
                # Some raw streams carry no times.
                seconds = number / (self.fps or 1) if picture.time is None else picture.time
                yield TimedFrame(picture, number, seconds, self)
        except av.FFmpegError as error:
            raise ValueError(f"'{self.path}' is damaged or truncated: {error.strerror}.") from error
        if self._truncated:
            raise ValueError(f"'{self.path}' is truncated; copy or make it again.")


def read_video(path: str | os.PathLike) -> Video:
    """Reads a whole video; [`VideoReader`] reads a long one frame by frame.

    Args:
        path (`str` or `os.PathLike`): the file; any video that FFmpeg knows.

    Returns:
        [`Video`]: its frames, frame rate and metadata.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no video, or is truncated or damaged.
    """
    with VideoReader(path) as reader:
        frames = list(reader)
        if not frames:
            raise ValueError(f"'{path}' holds no frames, so it is truncated or was never finished.")
        return Video(frames, reader.fps, reader.metadata)


@contextmanager
def _interrupt_postponed() -> Iterator[None]:
    """Lets the block end before Ctrl-C is raised; threads other than the main one never see it anyway."""
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
    """Index `[height, width]` uint8 and ARGB palette `[256, 4]` uint8 of the 256 colors that suit this frame."""
    picture = Image.fromarray(frame)
    # On photographs the octree with dithering is as close as the median cut (3.1 against 2.9 levels, 0.6 against 1.0
    # after a 4 x 4 mean) in a hundredth of the time. Pillow dithers only towards a palette that it is given.
    palette = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    picture = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    colors = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)
    argb = np.full((256, 4), 255, np.uint8)
    argb[: len(colors), 1:] = colors
    return np.array(picture), argb


def _insert_gif_comment(path: Path, comment: str) -> None:
    """Puts a comment extension (GIF89a, section 24) in front of the first frame; FFmpeg writes none."""
    content = comment.encode("ascii")
    blocks = [content[start : start + 255] for start in range(0, len(content), 255)]
    extension = b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\x00"
    commented = path.with_suffix(".commented.gif")
    try:
        with open(path, "rb") as source, open(commented, "wb") as target:
            header = source.read(13)
            colors = 2 ** ((header[10] & 7) + 1) if header[10] & 0x80 else 0
            target.write(header + source.read(3 * colors) + extension)
            shutil.copyfileobj(source, target)
        os.replace(commented, path)
    finally:
        commented.unlink(missing_ok=True)


def _read_comment(path: Path, container: av.container.InputContainer) -> dict[str, Any]:
    """The JSON object in the container's comment; empty if there is none, or another program's."""
    if container.format.name == "gif":
        try:
            with Image.open(path) as picture:
                comment = picture.info.get("comment", b"").decode("utf-8", errors="replace")
        except OSError:  # cut off before its first picture; reading on will say so
            return {}
    else:
        comment = {name.lower(): value for name, value in container.metadata.items()}.get("comment", "")
    try:
        comment = json.loads(comment)
    except ValueError:
        return {}
    return comment if isinstance(comment, dict) else {}


def _is_truncated(path: Path, container: str) -> bool:
    """Whether a GIF lacks its end, or an MP4, Matroska or WebM file is shorter than it says; FFmpeg only reads on."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if container == "gif":
            file.seek(-1, io.SEEK_END)
            return file.read() != b"\x3b"
        if "mp4" in container:
            end = 0
            while end + 8 <= size:  # ISO 14496-12: boxes one after another, each with its length in front
                file.seek(end)
                length = int.from_bytes(file.read(4), "big")
                if length == 1:  # the true length, of 64 bits, follows the box's name
                    file.seek(4, io.SEEK_CUR)
                    length = int.from_bytes(file.read(8), "big")
                if length < 8:  # 0: as long as the file is; else no box, and what other programs append is no matter
                    return False
                end += length
            return end > size
        if "matroska" not in container:
            return False
        for _ in range(2):  # RFC 8794: the EBML header, then one segment that holds all the rest
            name = file.read(4)
            first = file.read(1)[0]
            length = 9 - first.bit_length()  # as many bytes as there are leading zero bits, and one
            value = int.from_bytes(bytes([first]) + file.read(length - 1), "big") - (1 << 7 * length)
            end = file.tell() + value
            if name != b"\x1a\x45\xdf\xa3":
                return value != (1 << 7 * length) - 1 and end > size  # all bits set: of unknown length
            file.seek(end)
    return False
