# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The folder of a promptable segmenter: where it is, how to get it, and what it has to contain."""

import json
import os
from pathlib import Path
from typing import Any

from ..helper_models import cached_path, locate


# Name of the folder in the user's cache.
CACHE_NAME = "segmenter"

ENCODER, DECODER, CONFIG = "encoder.onnx", "decoder.onnx", "config.json"

CONFIG_FIELDS = ("image_size", "mean", "std")


def cached_segmenter() -> Path:
    """Path of the folder in the user's cache, whether it exists or not."""
    return cached_path(CACHE_NAME)


def find_segmenter(path: str | os.PathLike | None = None) -> Path:
    """Returns the folder: `path` if given, else $MCDIFF_SEGMENTER if set, else the folder in the user's cache.

    Raises:
        FileNotFoundError: if the folder does not contain both networks; the message says how to get them.
    """
    folder, origin = locate(path, "MCDIFF_SEGMENTER", CACHE_NAME)
    missing = [name for name in (ENCODER, DECODER) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"There is no segmenter in {folder}{origin} ({' and '.join(missing)} missing); make one with "
            "training/tools/build_segmenter.py (`make studio` does it, too), or name a folder with the encoder and "
            "the decoder of any ONNX export of MobileSAM or SAM."
        )
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of the folder's `config.json`; empty if there is no such file.

    `image_size` is the side of the encoder's input in pixels. `mean` and `std` are three numbers each, the
    normalization of RGB values from 0 to 255; null says that the encoder normalizes by itself.

    Raises:
        ValueError: if the file is not as above.
    """
    path = folder / CONFIG
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); correct it, or remove it to use the defaults.") from error
    if not isinstance(config, dict) or not set(config) <= set(CONFIG_FIELDS):
        raise ValueError(f"{path} holds {json.dumps(config)[:80]}; its fields are {', '.join(CONFIG_FIELDS)}.")
    size = config.get("image_size", 1)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ValueError(f"{path}: image_size is {size!r}; it is the side of the encoder's input in pixels.")
    values = [config.get(name) for name in ("mean", "std")]
    if (values[0] is None) != (values[1] is None) or not all(value is None or _is_color(value) for value in values):
        raise ValueError(
            f"{path}: mean and std are {values[0]!r} and {values[1]!r}; both are three numbers, or null if the "
            "encoder normalizes by itself."
        )
    return config


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(number) in (int, float) for number in value)
