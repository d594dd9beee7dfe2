# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The image that is given, its working size, and the size of the frames."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError, checking_input, first_line
from .option_values import OutputSize, Size


if TYPE_CHECKING:
    import PIL.Image
    import torch

    from mcdiff_pipeline import MCDiffPipeline


# Longest side of the frames in pixels, if their size is not given.
DEFAULT_LONGEST_SIDE = 1280

SizeOption = Annotated[
    Size | None,
    typer.Option(
        "--size",
        parser=Size.parser("size", "256 for the shorter side, or 384x256"),
        metavar="N|WxH",
        help="Working size: the shorter side, or width x height (default: the model's, at the image's aspect ratio).",
    ),
]


OutputSizeOption = Annotated[
    OutputSize | None,
    typer.Option(
        "--output-size",
        parser=OutputSize.parse,
        metavar="N|WxH|image|working",
        help="Size of the frames: the shorter side, width x height, the image's own, or the working size "
        f"(default: the image's own, at most {DEFAULT_LONGEST_SIDE} pixels on the longer side).",
    ),
]


def read_image(name: str) -> "torch.Tensor":
    """The image in a file or at an address, float32 `[3, H, W]` in [0, 1], as the pipeline reads it."""
    from mcdiff_pipeline.image_processor import load_image_tensor

    if not name.startswith(("http://", "https://")) and not Path(name).is_file():
        why = "this is a folder, not an image" if Path(name).is_dir() else "there is no such image"
        raise InputError(f"{name}: {why}.")
    try:
        return load_image_tensor(name)
    except (ValueError, TypeError, OSError) as error:
        why = first_line(error)
        raise InputError(why if name in why else f"{name} cannot be read as an image: {why}") from error


def working_size(pipe: "MCDiffPipeline", image: "torch.Tensor", size: Size | None) -> tuple[int, int]:
    """The working (height, width).

    Args:
        pipe (`MCDiffPipeline`): knows the default size and checks `size`.
        image (`torch.Tensor`): `[3, H, W]` in [0, 1].
        size (`Size`, *optional*): the shorter side, or width and height; None takes the size that stretches the image
            least.

    Raises:
        InputError: if the model cannot work at this size.
    """
    height = width = None
    if size is None:
        height, width = pipe.image_processor.fitting_size((image.shape[1], image.shape[2]))
    elif len(size.sides) == 2:
        width, height = size.sides
    elif image.shape[1] <= image.shape[2]:
        (height,) = size.sides
    else:
        (width,) = size.sides
    with checking_input():
        images, _ = pipe.prepare_images(image, height, width)
        height, width = images.shape[2:]
        pipe.check_inputs(num_frames=2, height=height, width=width, num_inference_steps=1, batch_size=1)
    return height, width


def shown_size(
    pipe: "MCDiffPipeline", image: "torch.Tensor", working: tuple[int, int], size: OutputSize | None
) -> tuple[int, int]:
    """The (height, width) of the frames.

    Args:
        pipe (`MCDiffPipeline`): tells whether the model can show frames at another size than the working size.
        image (`torch.Tensor`): `[3, H, W]`, the given image.
        working (`tuple[int, int]`): working (height, width).
        size (`OutputSize`, *optional*): what the command line says; None is the size of the image, at most
            `DEFAULT_LONGEST_SIDE` pixels on the longer side.
    """
    height, width = image.shape[1:]
    if size is None:
        if not pipe.conditioner.needs_dense_flow:
            return working
        zoom = min(1.0, DEFAULT_LONGEST_SIDE / max(height, width))
    elif size.name == "working":
        return working
    elif size.name == "image":
        zoom = 1.0
    elif len(size.sides) == 2:
        return size.sides[1], size.sides[0]
    else:
        zoom = size.sides[0] / min(height, width)
    return max(round(height * zoom), 1), max(round(width * zoom), 1)


def working_size_reason(pipe: "MCDiffPipeline", size: Size | None, *, is_replay: bool) -> str:
    """Why the model works at its size."""
    if is_replay:
        return "as in the clip"
    if size is not None:
        return "--size"
    width, height = pipe.config.default_width, pipe.config.default_height
    return f"about the area of the model's {width} x {height}, in the shape of the image"


def shown_size_reason(pipe: "MCDiffPipeline", image: "torch.Tensor", size: OutputSize | None) -> str:
    """Why the frames have their size."""
    if size is not None:
        return {"image": "as the image", "working": "the working size"}.get(size.name, "--output-size")
    if not pipe.conditioner.needs_dense_flow:
        return "the working size, since the model has no dense flow that could carry a larger image"
    height, width = image.shape[1:]
    if max(height, width) <= DEFAULT_LONGEST_SIDE:
        return "as the image"
    return f"the image has {width} x {height}; --output-size image keeps them"


def shown_image(image: "torch.Tensor", size: tuple[int, int]) -> "PIL.Image.Image":
    """The given image `[3, H, W]` at the size of the frames, as 8-bit RGB: frame 0 shows it, and a clip contains it.

    Raises:
        InputError: if frames cannot be as large.
    """
    from mcdiff_pipeline.image_processor import MAX_OUTPUT_SIDE, ImageProcessor

    if max(size) > MAX_OUTPUT_SIDE:
        height, width = (max(int(side * MAX_OUTPUT_SIDE / max(size)), 1) for side in size)
        raise InputError(
            f"--output-size: frames would have {size[1]} x {size[0]} pixels, but at most {MAX_OUTPUT_SIDE} on the "
            f"longer side are possible; write --output-size {width}x{height}."
        )
    with checking_input():
        images = ImageProcessor.to_output_size([image], size)
    assert images is not None
    return to_pil(images[0].float() / 255)


def to_pil(image: "torch.Tensor") -> "PIL.Image.Image":
    """A tensor `[3, H, W]` in [0, 1], rounded to 8 bits."""
    from PIL import Image

    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
