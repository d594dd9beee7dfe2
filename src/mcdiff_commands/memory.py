# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""How much memory a working size takes, before a model is loaded."""

import json
import math
from pathlib import Path

from .errors import InputError
from .model import device_of
from .option_values import Size


# Memory of the frames at a working size, in units of one activation of the decoder at full resolution. Measured with
# the embedded model in float32: 7 to 9 between 256 and 768 pixels.
ACTIVATIONS = 9
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def check_memory(model: str, size: Size | None, image_size: tuple[int, int], dtype: str, device: str | None) -> None:
    """Refuses a working size for which there is not enough memory, since the system would kill the process.

    Nothing is refused if the size is that of the model, or the folder of the model is not on this machine.

    Args:
        model (`str`): folder of the model.
        size (`Size`, *optional*): the working size, or its shorter side; None is that of the model.
        image_size (`tuple[int, int]`): (height, width) of the image.
        dtype (`str`): number format of the networks.
        device (`str`, *optional*): device of the networks; None is a GPU if there is one.

    Raises:
        InputError: in one sentence with the estimate, what is free, and the largest size that fits.
    """
    from mcdiff_pipeline.image_processor import MAX_WORKING_SIDE

    channels = _decoder_channels(Path(model, "vae", "config.json"))
    if size is None or channels is None:
        return
    aspect = max(image_size) / min(image_size)
    width, height = size.sides if len(size.sides) == 2 else (size.sides[0] * aspect, size.sides[0])
    needed = ACTIVATIONS * BYTES[dtype] * channels * width * height
    weights = sum(path.stat().st_size for path in Path(model).glob("*/*.safetensors"))
    free = _free_memory(device)
    if needed + weights <= free:
        return
    zoom = min(math.sqrt(max(free - weights, 0) / needed), MAX_WORKING_SIDE / max(width, height))
    fitting = "x".join(str(int(side * zoom)) for side in size.sides)
    way_out = "use a machine with more memory" if zoom == 0 else f"write --size {fitting} or less"
    raise InputError(
        f"--size {'x'.join(map(str, size.sides))}: frames of {width:.0f} x {height:.0f} pixels need about "
        f"{(needed + weights) / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; {way_out}, and --output-size "
        "for larger frames."
    )


def _decoder_channels(config: Path) -> int | None:
    """Channels of the last layers of the decoder; None if the file does not tell. Loading refuses damaged files."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        channels = content.get("decoder_block_out_channels") or content.get("block_out_channels")
        return int(channels[0])
    except (OSError, ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError):
        return None


def _free_memory(device: str | None) -> int:
    """Bytes that are free on a device."""
    import psutil
    import torch

    name = device_of(device)
    if name.startswith("cuda"):
        try:
            return torch.cuda.mem_get_info(name)[0]
        except (RuntimeError, AssertionError, ValueError):  # loading says that there is no such device
            pass
    return psutil.virtual_memory().available
