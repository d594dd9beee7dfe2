# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Detecting videos that end too early. FFmpeg does not report this: it reads to the end of the file and stops."""

import io
import os
from pathlib import Path
from typing import BinaryIO


_EBML_HEADER = b"\x1a\x45\xdf\xa3"


def is_truncated(path: Path, container: str) -> bool:
    """Whether a GIF, MP4, Matroska or WebM file ends too early. Always False for other containers.

    Args:
        path (`Path`): the file.
        container (`str`): FFmpeg's name of its container.
    """
    with open(path, "rb") as file:
        if container == "gif":
            file.seek(-1, io.SEEK_END)
            return file.read() != b"\x3b"  # the trailer (GIF89a, section 27)
        if "mp4" in container:
            return _is_truncated_mp4(file)
        return "matroska" in container and _is_truncated_matroska(file)


def _is_truncated_mp4(file: BinaryIO) -> bool:
    """Whether the last box is shorter than its length says (ISO 14496-12: each box begins with its length)."""
    size = os.fstat(file.fileno()).st_size
    end = 0
    while end + 8 <= size:
        file.seek(end)
        length = int.from_bytes(file.read(4), "big")
        if length == 1:  # a length of 64 bits follows the name of the box
            file.seek(4, io.SEEK_CUR)
            length = int.from_bytes(file.read(8), "big")
        if length < 8:  # 0: the box ends with the file. Else it is not a box, but bytes that another program appended
            return False
        end += length
    return end > size


def _is_truncated_matroska(file: BinaryIO) -> bool:
    """Whether the segment, which follows the EBML header, is shorter than its length says (RFC 8794)."""
    size = os.fstat(file.fileno()).st_size
    for _ in range(2):
        name = file.read(4)
        first = file.read(1)[0]
        length = 9 - first.bit_length()  # number of bytes of the value: leading zero bits, plus one
        value = int.from_bytes(bytes([first]) + file.read(length - 1), "big") - (1 << 7 * length)
        end = file.tell() + value
        if name != _EBML_HEADER:
            return value != (1 << 7 * length) - 1 and end > size  # all bits set: the length is unknown
        file.seek(end)
    return False
