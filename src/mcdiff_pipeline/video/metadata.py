# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The JSON object in the comment of a video's container."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import av
from PIL import Image


# H.264 needs even sizes, and GIF counts hundredths of a second. This key keeps the true size and frame rate.
TRUE_VALUES = "mcdiff_video"


def read_comment(path: Path, container: av.container.InputContainer) -> dict[str, Any]:
    """The JSON object in the comment; empty if there is no comment, or another program wrote it.

    Args:
        path (`Path`): the file.
        container (`av.container.InputContainer`): the same file, opened.
    """
    if container.format.name == "gif":
        try:
            with Image.open(path) as image:
                comment = image.info.get("comment", b"").decode("utf-8", errors="replace")
        except Exception:  # truncated before the first frame, or damaged; reading frames reports it
            return {}
    else:
        comment = {name.lower(): value for name, value in container.metadata.items()}.get("comment", "")
    try:
        comment = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    return comment if isinstance(comment, dict) else {}


def true_values(comment: dict[str, Any]) -> dict[str, Any]:
    """Removes the true size and frame rate from a comment, and returns them; empty unless [`VideoWriter`] wrote them.

    Returns:
        `dict[str, Any]`: `width` and `height`, whole numbers from 1, and `fps`, a finite number above 0.
    """
    values = comment.pop(TRUE_VALUES, None)
    if not isinstance(values, dict) or set(values) != {"width", "height", "fps"}:
        return {}
    numbers = [values["width"], values["height"], values["fps"]]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers):
        return {}
    is_true = all(isinstance(one, int) and one >= 1 for one in numbers[:2]) and 0 < numbers[2] < math.inf
    return values if is_true else {}


def insert_gif_comment(path: Path, comment: str) -> None:
    """Inserts a comment extension (GIF89a, section 24) before the first frame, which FFmpeg cannot write.

    Args:
        path (`Path`): a GIF; it is replaced.
        comment (`str`): ASCII text.
    """
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
