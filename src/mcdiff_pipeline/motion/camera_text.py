# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A camera in a few words: `zoom 1.5`, `pan 10%,0 ease-in-out`, `4: zoom 1.2; 15: zoom 1 pan 40,0`."""

import re
from typing import Any

from ..stroke_controls import EASINGS
from .camera import REST, Camera, CameraKeyframe


EXAMPLE = '"zoom 1.5 ease-in-out", or "8: zoom 1.3; 15: pan 10%,0" for the frames 8 and 15'


def camera_from_text(text: str, width: int, height: int, num_frames: int, parallax: float = 0.5) -> Camera:
    """
    Read a camera in a few words.

    Keyframes are separated by semicolons. Each may begin with its frame and a colon; without, it is the last frame.
    Then follow, in any order, `pan X,Y`, `truck X,Y`, `zoom Z`, `rotate DEGREES`, `dolly D`, `parallax P` and an
    easing. X and Y are in pixels, or in percent of the width and the height.

    Args:
        text (`str`): The words.
        width (`int`): Width of the image in pixels.
        height (`int`): Its height.
        num_frames (`int`): Frames of the video.
        parallax (`float`, defaults to 0.5): See [`Camera`]; the text can name another.

    Raises:
        ValueError: If a word is not understood, or a value is not allowed. The message shows it.
    """
    keyframes = []
    for part in text.split(";"):
        frame: float = num_frames - 1
        head, colon, words = part.partition(":")
        if colon:
            frame = _number(head.strip(), "frame")
        else:
            words = part
        values: dict[str, Any] = {}
        tokens = re.sub(r"\s*,\s*", ",", words).split()
        while tokens:
            word = tokens.pop(0)
            if word in EASINGS:
                values["easing"] = word
                continue
            if word not in (*REST, "parallax") or not tokens:
                raise ValueError(f"{word!r:.60} is not understood in a camera; write for example {EXAMPLE}.")
            value = tokens.pop(0)
            if word == "parallax":
                parallax = _number(value, word)
            elif word in ("pan", "truck"):
                values[word] = _pair(value, word, width, height)
            else:
                values[word] = _number(value, word)
        if not values.keys() & REST.keys():
            raise ValueError(f"{part.strip()!r:.60} does not move the camera; write for example {EXAMPLE}.")
        keyframes.append(CameraKeyframe(frame, **values))
    return Camera(keyframes, width, height, parallax)


def _pair(text: str, name: str, width: int, height: int) -> tuple[float, float]:
    parts = text.split(",")
    if len(parts) != 2:
        raise ValueError(f"{name} is {text!r:.60}; it must be X,Y in pixels, or X%,Y% of the image.")
    x, y = (
        _number(part.removesuffix("%"), name) * (side / 100 if part.endswith("%") else 1)
        for part, side in zip(parts, (width, height), strict=True)
    )
    return x, y


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r:.60}; it must be a number.") from None
