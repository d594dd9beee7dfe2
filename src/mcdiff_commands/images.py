# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The image that is given, its working size, and the images that are written."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError, checking_input
from .option_values import Size


if TYPE_CHECKING:
    import PIL.Image
    import torch

    from mcdiff_pipeline import MCDiffPipeline


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

SizeOption = Annotated[
    Size | None,
    typer.Option(
        "--size",
        parser=Size.parser("size", "256 for the shorter side, or 384x256"),
        metavar="N|WxH",
        help="Working size: the shorter side, or width x height (default: the model's, at the image's aspect ratio).",
    ),
]


def check_output(path: Path, suffixes: tuple[str, ...] | None = None) -> None:
    """Raises an [`InputError`] unless a file, with one of `suffixes` if given, can be written at `path`."""
    if suffixes is not None and path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: the suffix is {path.suffix!r}, but must be one of {', '.join(suffixes)}.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it first.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written there; name a file in a folder that you may write to.")


def read_image(name: str) -> "torch.Tensor":
    """The image in a file or at an address, float32 `[3, H, W]` in [0, 1], as the pipeline reads it."""
    from mcdiff_pipeline.image_processor import load_image_tensor

    if not name.startswith(("http://", "https://")) and not Path(name).is_file():
        raise InputError(f"{name}: there is no such image.")
    with checking_input(f"{name} cannot be read as an image: "):
        return load_image_tensor(name)


def working_image(pipe: "MCDiffPipeline", image: "torch.Tensor", size: Size | None) -> "PIL.Image.Image":
    """The given image at the working size, as 8-bit RGB: frame 0 shows it, and a clip contains it.

    Args:
        pipe (`MCDiffPipeline`): knows the default size and checks `size`.
        image (`torch.Tensor`): `[3, H, W]` in [0, 1].
        size (`Size`, *optional*): the shorter side, or width and height.

    Raises:
        InputError: if the model cannot work at this size.
    """
    height = width = None
    if size is not None and len(size.sides) == 2:
        width, height = size.sides
    elif size is not None and image.shape[1] <= image.shape[2]:
        (height,) = size.sides
    elif size is not None:
        (width,) = size.sides
    with checking_input():
        images, _ = pipe.prepare_images(image, height, width)
        height, width = images.shape[2:]
        pipe.check_inputs(num_frames=2, height=height, width=width, num_inference_steps=1, batch_size=1)
    return to_pil(images[0])


def to_pil(image: "torch.Tensor") -> "PIL.Image.Image":
    """A tensor `[3, H, W]` in [0, 1], rounded to 8 bits."""
    from PIL import Image

    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
