# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Flow in the file formats of Middlebury (`.flo`) and KITTI (16-bit PNG).

Reading KITTI's files needs PyAV, since no other core dependency knows all kinds of 16-bit RGB PNG.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from .atomic_files import atomic_path


# Bytes of pixels in a byte of a PNG, at most: the limit of deflate (RFC 1951) is 1,032.
MAX_PNG_RATIO = 1100


def _read_bytes(source: str | os.PathLike | BinaryIO, suffix: str) -> tuple[str, bytes]:
    """Name for messages and the whole content of a file, given by path or opened for binary reading."""
    if hasattr(source, "read"):
        return "The given file", source.read()
    path = Path(source)
    if path.suffix.lower() != suffix:
        raise ValueError(f"'{path}' does not end in {suffix}, which is the only suffix of this format.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    return f"'{path}'", path.read_bytes()


def _write_bytes(target: str | os.PathLike | BinaryIO, suffix: str, content: bytes) -> None:
    """Writes a whole file; under a path it appears complete or not at all."""
    if hasattr(target, "write"):
        target.write(content)
        return
    path = Path(target)
    if path.suffix.lower() != suffix:
        raise ValueError(f"'{path}' does not end in {suffix}, which is the only suffix of this format.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{path.parent}' to write '{path.name}' to; make it first.")
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content)


def _check_single_flow(flow: torch.Tensor) -> None:
    if flow.ndim != 3 or flow.shape[0] != 2 or 0 in flow.shape or not flow.is_floating_point():
        raise ValueError(
            f"`flow` has shape {tuple(flow.shape)} and dtype {flow.dtype}, but one floating point flow field of shape "
            "[2, height, width] is needed; write the fields of a batch one by one."
        )


def write_flo(target: str | os.PathLike | BinaryIO, flow: torch.Tensor) -> None:
    """Writes a Middlebury `.flo` file: "PIEH", width and height as int32, then u and v interleaved as float32.

    Args:
        target (`str`, `os.PathLike` or binary file): where to write. Under a path the file appears complete or not at
            all.
        flow (`torch.Tensor`): `[2, H, W]` in pixels.

    Raises:
        ValueError: if `flow` is not `[2, H, W]` or the path does not end in `.flo`.
        FileNotFoundError: if the folder does not exist.
    """
    _check_single_flow(flow)
    height, width = flow.shape[1:]
    interleaved = flow.detach().float().cpu().permute(1, 2, 0).contiguous().numpy().astype("<f4")
    _write_bytes(target, ".flo", struct.pack("<4sii", b"PIEH", width, height) + interleaved.tobytes())


def read_flo(source: str | os.PathLike | BinaryIO) -> torch.Tensor:
    """Reads a Middlebury `.flo` file.

    Args:
        source (`str`, `os.PathLike` or binary file): the file.

    Returns:
        `torch.Tensor`: `[2, H, W]` float32 in pixels; values above 1e9 mean unknown.

    Raises:
        ValueError: if the file is not a `.flo` file or is truncated.
        FileNotFoundError: if there is no such file.
    """
    name, content = _read_bytes(source, ".flo")
    if len(content) < 12 or content[:4] != b"PIEH":
        raise ValueError(f"{name} is not a Middlebury .flo file: it does not start with PIEH, a width and a height.")
    width, height = struct.unpack("<ii", content[4:12])
    if width < 1 or height < 1 or len(content) != 12 + 8 * width * height:
        raise ValueError(
            f"{name} is damaged: its header says {width} x {height} pixels, which takes {12 + 8 * width * height} "
            f"bytes, but the file has {len(content)}."
        )
    interleaved = np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)
    return torch.from_numpy(interleaved).permute(2, 0, 1).contiguous()


def write_kitti_png(
    target: str | os.PathLike | BinaryIO, flow: torch.Tensor, valid: torch.Tensor | None = None
) -> None:
    """Writes flow as a 16-bit RGB PNG in the format of the KITTI flow benchmark, rounded to 1/64 pixel.

    Red is `64 u + 32768`, green `64 v + 32768`, blue 1 where the flow is valid. Flow that is not valid is stored too,
    as far as the format can hold it; KITTI's own readers ignore it.

    Args:
        target (`str`, `os.PathLike` or binary file): where to write. Under a path the file appears complete or not at
            all.
        flow (`torch.Tensor`): `[2, H, W]` in pixels, from -512 to 511.98 where it is valid.
        valid (`torch.Tensor`, *optional*): `[H, W]` bool; None says that all of it is valid.

    Raises:
        ValueError: if shapes do not fit, a valid displacement is out of range or the path does not end in `.png`.
        FileNotFoundError: if the folder does not exist.
    """
    _check_single_flow(flow)
    if valid is None:
        valid = torch.ones(flow.shape[1:], dtype=torch.bool)
    elif valid.shape != flow.shape[1:] or valid.dtype != torch.bool:
        raise ValueError(
            f"`valid` has shape {tuple(valid.shape)} and dtype {valid.dtype}, but bool of shape "
            f"{tuple(flow.shape[1:])} is needed for this flow."
        )
    values, valid = flow.detach().float().cpu().numpy(), valid.cpu().numpy()
    stored = np.rint(values * 64 + 2**15)
    if not (stored.min() >= 0 and stored.max() <= 2**16 - 1):  # or if one is NaN
        in_range = (stored >= 0) & (stored <= 2**16 - 1)
        if (out_of_range := valid & ~in_range).any():
            raise ValueError(
                f"`flow` holds a displacement of {values[out_of_range][0]:g} pixels, but KITTI's format ends at -512 "
                "and 511.98; mark it as not valid or write a .flo file."
            )
        stored = np.nan_to_num(stored, nan=2.0**15).clip(0, 2**16 - 1)
    # Numpy converts to big-endian in one step, too, but takes four times as long for it.
    pixels = np.empty((*valid.shape, 3), dtype=">u2")
    pixels[..., 0], pixels[..., 1] = stored.astype(np.uint16)
    pixels[..., 2] = valid
    _write_bytes(target, ".png", _png_of(pixels))


def _png_of(pixels: np.ndarray) -> bytes:
    """A PNG file of big-endian uint16 `[H, W, 3]`, RGB.

    The low bits of flow are noise, in which looking for repetitions costs time and finds little. So only runs are
    looked for (`zlib.Z_RLE`), in the differences from row to row. For flow of real video that takes half the time of
    FFmpeg's encoder at its level 4, and 3 % more bytes; flow of rendered clips takes 40 % more bytes.
    """
    height, width = pixels.shape[:2]
    rows = pixels.view(np.uint8).reshape(height, -1)
    filtered = np.full((height, 1 + rows.shape[1]), 2, dtype=np.uint8)  # 2 before each row: PNG's filter "Up"
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    compressor = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    compressed = compressor.compress(filtered.data) + compressor.flush()
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),  # 16 bits, RGB; the rest has one value
        (b"IDAT", compressed),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
    return content


def read_kitti_png(source: str | os.PathLike | BinaryIO) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads flow from a 16-bit RGB PNG in the format of the KITTI flow benchmark.

    Args:
        source (`str`, `os.PathLike` or binary file): the file.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: flow `[2, H, W]` float32 in pixels and `[H, W]` bool, True where it is
        valid. In KITTI's own files flow that is not valid reads -512.

    Raises:
        ValueError: if the file is not a 16-bit RGB PNG or is damaged.
        FileNotFoundError: if there is no such file.
        ImportError: if PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise ImportError("Reading KITTI flow needs PyAV, the Python package 'av': `pip install av`.") from None

    name, content = _read_bytes(source, ".png")
    # A PNG ends with this chunk; the decoder would fill the missing rows of a truncated file without an error.
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or b"IEND" not in content[-12:]:
        raise ValueError(f"{name} is not a PNG file, or is truncated.")
    width, height = struct.unpack(">II", content[16:24].ljust(8, b"\0"))
    if width * height * 6 > MAX_PNG_RATIO * len(content):
        raise ValueError(
            f"{name} is damaged: its header says {width} x {height} pixels, more than its {len(content)} bytes can "
            "hold."
        )
    decoder = av.CodecContext.create("png", "r")
    decoder.options = {"err_detect": "crccheck+explode"}  # by default checksums are not checked
    try:
        frames = [*decoder.decode(av.Packet(content)), *decoder.decode(None)]
    except (av.FFmpegError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{name} is a damaged PNG file: {getattr(error, 'strerror', None) or error}.") from error
    if len(frames) != 1 or frames[0].format.name != "rgb48be":
        found = frames[0].format.name if frames else "nothing"
        raise ValueError(
            f"{name} holds {found}, but flow in KITTI's format is a PNG of 16 bits in each of R, G and B."
        )
    pixels = frames[0].reformat(format="rgb48le").to_ndarray().astype(np.float32)
    pixels = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    return (pixels[:2] - 2**15) / 64, pixels[2] > 0
