# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Any image to a tensor at the working size, and frames to what the caller asked for."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import load_image

from .color_matching import color_match
from .regions import is_whole


# An image in one of the forms that [`load_image_tensor`] reads.
ImageInput = PIL.Image.Image | np.ndarray | torch.Tensor | str | os.PathLike

OUTPUT_TYPES = ("pil", "np", "pt", "latent")

# Longest side of the frames that are shown, in pixels.
MAX_OUTPUT_SIDE = 4096

# Longest side of the working size, in pixels. The largest networks that run at it need hundreds of gigabytes.
MAX_WORKING_SIDE = 4096

# What stretching counts against a working size with more or fewer pixels than the default, both in logarithms.
STRETCH_WEIGHT = 16

# The size of frames: None (the working size), "image" (the size of the given image) or (height, width) in pixels.
OutputSize = Literal["image"] | tuple[int, int] | None

# The value of white in images of whole numbers.
INTEGER_WHITE = {torch.uint8: 255, torch.uint16: 65535}


def _download(address: str) -> PIL.Image.Image:
    """The image at an address. Raises `ConnectionError` if there is no answer."""
    try:
        return load_image(address, convert_method=lambda image: image)
    except PIL.UnidentifiedImageError:
        raise
    except OSError as error:  # those of requests, too
        raise ConnectionError(f"{address} does not answer with an image: {error}") from error


@contextlib.contextmanager
def reading_image(
    name: str | os.PathLike, unless: type[Exception] | tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """
    Turns whatever PIL raises about a damaged or too large image into one `ValueError` that names it.

    Args:
        name (`str` or `os.PathLike`): What is read, for the message.
        unless (`type[Exception]` or a tuple of them): Exceptions that pass unchanged.
    """
    try:
        yield
    except PIL.Image.DecompressionBombError as error:
        raise ValueError(
            f"{name} has more pixels than are read ({error}): make it smaller; in Python, PIL.Image.MAX_IMAGE_PIXELS "
            "can be raised for an image that you trust."
        ) from error
    except Exception as error:
        if isinstance(error, unless):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        if isinstance(error, PIL.UnidentifiedImageError):
            reason = "its format is not known"  # PIL's words name an object in memory
        raise ValueError(
            f"{name} cannot be read as an image ({reason:.200}): it is damaged, or not an image; save it again as PNG "
            "or JPEG."
        ) from error


def _pixels_of(image: PIL.Image.Image) -> np.ndarray:
    """
    The upright pixels of a PIL image, `[height, width]` or `[height, width, 3]`, as [`load_image_tensor`] reads them.
    """
    image.load()
    try:
        image = PIL.ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF chunk: the image is shown as it is stored, as browsers do
        pass
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled_levels(np.asarray(image).astype(np.float32), image.mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def _scaled_levels(pixels: np.ndarray, mode: str) -> np.ndarray:
    """
    Levels of gray in [0, 1].

    PIL reads 16 bits as the modes that begin with "I;", and 32 bits, which have no agreed white, as "I" and "F".

    Raises:
        ValueError: If white cannot be told from the values.
    """
    if mode.startswith("I;"):
        return pixels / 65535
    largest = pixels.max(initial=0)
    if not (pixels.min(initial=0) >= 0 and largest <= 65535):  # also catches NaN
        raise ValueError(
            f"its values span [{pixels.min():.4g}, {largest:.4g}], but 32-bit images have to lie in [0, 1], [0, "
            "255] or [0, 65535]"
        )
    if mode == "F" and largest <= 1:
        return pixels
    return pixels / (255 if largest <= 255 else 65535)


def load_image_tensor(image: ImageInput) -> torch.Tensor:
    """
    Read one image, of any mode and size, as it would be shown on a white page.

    Args:
        image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor`, `str` or `os.PathLike`):
            A PIL image of any mode (its EXIF rotation is applied, transparency is laid over white, 16-bit and CMYK
            are converted; the white of 32-bit images is 255 if no value is larger, else 65535, and 1 for floating
            point values up to 1), an array `(height, width[, 1, 3 or 4])` or tensor `(1, 3 or 4, height, width)`,
            both either uint8, uint16 or floating point in [0, 1]; or the path or http(s) address of an image.

    Returns:
        `torch.Tensor` of shape `(3, height, width)`, float32 in [0, 1].

    Raises:
        ValueError: If the image has no pixels, a wrong number of channels, another dtype, or values outside [0, 1]; if
            a file is damaged, or has more pixels than PIL allows (`PIL.Image.MAX_IMAGE_PIXELS`).
        TypeError: If the image is none of the types above.
        OSError: If there is no such file, or the address does not answer.
    """
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        with reading_image(image, unless=ConnectionError):
            image = _pixels_of(_download(image))
    elif isinstance(image, (str, os.PathLike)):
        path = image
        # opened here, so that PIL's errors about the content are told from those about the file
        with open(path, "rb") as file, reading_image(path), PIL.Image.open(file) as opened:
            image = _pixels_of(opened)
    elif isinstance(image, PIL.Image.Image):
        with reading_image(getattr(image, "filename", "") or "the given image"):
            image = _pixels_of(image)
    if isinstance(image, np.ndarray):
        pixels = torch.from_numpy(np.array(image.astype(np.float32) if image.dtype == np.float64 else image))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.movedim(-1, 0)
    elif isinstance(image, torch.Tensor):
        pixels = image.detach().cpu()
    else:
        raise TypeError(
            f"`image` is a {type(image).__name__}, but it has to be a PIL image, an array, a tensor, a path, or a "
            "list of these."
        )

    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3, 4) or pixels.numel() == 0:
        raise ValueError(
            f"An image has 1, 3 or 4 channels and at least one pixel, but this one has the shape "
            f"{tuple(pixels.shape)} (channels first): give arrays as height x width x channels and tensors as "
            "channels x height x width."
        )
    if not (pixels.is_floating_point() or pixels.dtype in INTEGER_WHITE):
        raise ValueError(
            f"An image's values have to be uint8, uint16 or floating point, but these are {pixels.dtype}: convert "
            "them."
        )
    pixels = pixels.float() / INTEGER_WHITE.get(pixels.dtype, 1)
    if not (pixels.amin() >= 0 and pixels.amax() <= 1):  # also catches NaN
        raise ValueError(
            f"An image's values have to lie in [0, 1], but they span [{pixels.amin():.3g}, {pixels.amax():.3g}]: "
            "rescale floating point images, or give uint8."
        )
    if pixels.shape[0] == 4:
        pixels, alpha = pixels[:3], pixels[3:]
        pixels = pixels * alpha + (1 - alpha)
    return pixels.expand(3, -1, -1).clone()


def resize_image(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """An image `[3, H, W]` in [0, 1] at another (height, width), bicubic with antialiasing."""
    if tuple(image.shape[1:]) == size:
        return image
    return torch.nn.functional.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)


class ImageProcessor:
    """
    Brings images to the working size of a model, and frames to the form that the caller asked for.

    Args:
        size_multiple (`int`):
            Height and width of a working size are multiples of this.
        default_height (`int`):
            With `default_width`, about how many pixels the working size has if a call names none; see
            [`ImageProcessor.fitting_size`].
        default_width (`int`):
            See `default_height`.
    """

    def __init__(self, size_multiple: int, default_height: int, default_width: int):
        self.size_multiple, self.default_area = size_multiple, default_height * default_width

    def preprocess(
        self, image: ImageInput | Sequence[ImageInput], height: int | None = None, width: int | None = None
    ) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        """
        Read images and bring them to the working size.

        Args:
            image: One image as [`load_image_tensor`] reads it, a batch of them as a 4-dimensional array or tensor, or
                a list of images.
            height (`int`, *optional*):
                Working height in pixels. If only one of the two is given, the other follows the aspect ratio of the
                image. If none is given, [`ImageProcessor.fitting_size`] decides. If both are given, the image is
                stretched to them.
            width (`int`, *optional*):
                Working width in pixels.

        Returns:
            `tuple[torch.Tensor, list[tuple[int, int]]]`: the images `(batch_size, 3, height, width)`, float32 in
            [0, 1], and the `(height, width)` that each was given in.

        Raises:
            ValueError: If there is no image, `height` or `width` is not a multiple of `size_multiple`, a side of the
                working size is above `MAX_WORKING_SIDE`, or images of several shapes come without `height` and
                `width`.
            TypeError: If an image is of none of the types that [`load_image_tensor`] reads.
        """
        images = self.load(image)
        return self.to_working_size(images, height, width), [(one.shape[1], one.shape[2]) for one in images]

    @staticmethod
    def load(image: ImageInput | Sequence[ImageInput]) -> list[torch.Tensor]:
        """
        Read images at the size in which they are given.

        Args:
            image: As in [`ImageProcessor.preprocess`].

        Returns:
            `list[torch.Tensor]`: each `(3, height, width)`, float32 in [0, 1].

        Raises:
            ValueError: If there is no image.
            TypeError: If an image is of none of the types that [`load_image_tensor`] reads.
        """
        given: Sequence[Any] = image if isinstance(image, (list, tuple)) else [image]
        if isinstance(image, (np.ndarray, torch.Tensor)) and image.ndim == 4:
            given = list(image)
        if not len(given):
            raise ValueError("`image` is an empty list, but a video starts from an image: give at least one.")
        return [load_image_tensor(one) for one in given]

    @staticmethod
    def continued_image(frames: Sequence[ImageInput]) -> torch.Tensor:
        """
        The image from which a video goes on: its last frame, with colors matched to those of its first.

        Args:
            frames: The frames of one video, in their order; only the first and the last are read.

        Returns:
            `torch.Tensor` of shape `(3, height, width)`, float32 in [0, 1].

        Raises:
            ValueError: If there is no frame.
        """
        if not len(frames):
            raise ValueError("`frames` is empty, but a video has at least one frame to start from.")
        first, last = load_image_tensor(frames[0]), load_image_tensor(frames[-1])
        scale, shift = color_match(last, first)
        return (scale * last + shift).clamp(0, 1)

    def to_working_size(
        self, images: Sequence[torch.Tensor], height: int | None = None, width: int | None = None
    ) -> torch.Tensor:
        """
        Bring images to the working size.

        Args:
            images (`Sequence[torch.Tensor]`):
                Images of [`ImageProcessor.load`].
            height (`int`, *optional*):
                As in [`ImageProcessor.preprocess`].
            width (`int`, *optional*):
                As in [`ImageProcessor.preprocess`].

        Returns:
            `torch.Tensor` of shape `(batch_size, 3, height, width)`, float32 in [0, 1].

        Raises:
            ValueError: If `height` or `width` is not a multiple of `size_multiple`, or images of several shapes come
                without `height` and `width`.
        """
        for name, size in (("height", height), ("width", width)):
            if size is None:
                continue
            if isinstance(size, bool) or not isinstance(size, int):
                raise ValueError(f"`{name}` is {size!r}, but it has to be a whole number of pixels.")
            if size < self.size_multiple or size % self.size_multiple:
                raise ValueError(
                    f"`{name}` is {size}, but this model needs a multiple of {self.size_multiple}: "
                    f"{min(self._nearest_multiple(size), MAX_WORKING_SIDE)} is the nearest."
                )

        given = {(one.shape[1], one.shape[2]) for one in images}
        if height is None and width is None:
            sizes = {self.fitting_size(size) for size in given}
        else:
            sizes = {self.working_size(size, height, width) for size in given}
        for working_height, working_width in sizes:
            if max(working_height, working_width) > MAX_WORKING_SIDE:
                raise ValueError(
                    f"The working size would be {working_width} x {working_height} pixels, but each side can have at "
                    f"most {MAX_WORKING_SIDE}, since memory grows with the size: give a smaller `height` and `width`, "
                    "and `output_size` for larger frames."
                )
        if len(sizes) > 1:
            raise ValueError(
                f"The images of a batch share one working size, but theirs would be {sorted(sizes)}: give `height` "
                "and `width`."
            )
        (size,) = sizes
        return torch.stack([resize_image(one, size) for one in images])

    @staticmethod
    def unstretched_size(given: Sequence[tuple[int, int]], working: tuple[int, int]) -> tuple[int, int] | None:
        """
        The size that shows images in their shape, with as many pixels as the working size.

        Args:
            given (`Sequence[tuple[int, int]]`):
                The (height, width) of each image.
            working (`tuple[int, int]`):
                Working (height, width).

        Returns:
            `tuple[int, int]`: (height, width); None if it is the working size, if images differ in shape, so that one
            size cannot suit all, or if a side would be longer than `MAX_OUTPUT_SIDE`.
        """
        sizes = set()
        for height, width in given:
            zoom = math.sqrt(working[0] * working[1] / (height * width))
            sizes.add((max(round(height * zoom), 1), max(round(width * zoom), 1)))
        if len(sizes) > 1 or sizes == {working} or max(max(size) for size in sizes) > MAX_OUTPUT_SIDE:
            return None
        return sizes.pop()

    @staticmethod
    def to_output_size(images: Sequence[torch.Tensor], output_size: OutputSize) -> torch.Tensor | None:
        """
        Bring images to the size at which frames are shown.

        Args:
            images (`Sequence[torch.Tensor]`):
                Images of [`ImageProcessor.load`].
            output_size (`"image"` or `tuple[int, int]`, *optional*):
                "image" is the size of the images, a pair is (height, width) in pixels.

        Returns:
            `torch.Tensor` of shape `(batch_size, 3, height, width)`, uint8; None if `output_size` is None.

        Raises:
            ValueError: If it is of none of these forms, a side is longer than 4,096 pixels, or images of several
                sizes come with "image".
        """
        if output_size is None:
            return None
        sizes = {(one.shape[1], one.shape[2]) for one in images}
        if output_size == "image":
            if len(sizes) > 1:
                raise ValueError(
                    f'`output_size` is "image", but the images of the batch have the sizes {sorted(sizes)}, and '
                    "frames share one: give (height, width)."
                )
            (size,) = sizes
        elif (
            isinstance(output_size, (tuple, list))
            and len(output_size) == 2
            and all(is_whole(side, 1) for side in output_size)
        ):
            size = (int(output_size[0]), int(output_size[1]))
        else:
            raise ValueError(
                f'`output_size` is {output_size!r}, but it has to be None, "image", or (height, width) in pixels.'
            )
        if max(size) > MAX_OUTPUT_SIDE:
            zoom = MAX_OUTPUT_SIDE / max(size)
            fitting = tuple(max(int(side * zoom), 1) for side in size)
            raise ValueError(
                f"Frames would have {size[1]} x {size[0]} pixels, but at most {MAX_OUTPUT_SIDE} on the longer side "
                f"are possible: give `output_size={fitting}`, (height, width)."
            )
        return torch.stack([(resize_image(one, size) * 255).round().to(torch.uint8) for one in images])

    def working_size(self, given: tuple[int, int], height: int | None, width: int | None) -> tuple[int, int]:
        """The working (height, width) of an image that was given in this size, if a call names `height`, `width`."""
        if height is not None and width is not None:
            return height, width
        if height is not None:
            return height, self._nearest_multiple(given[1] * (height / given[0]))
        if width is not None:
            return self._nearest_multiple(given[0] * (width / given[1])), width
        zoom = math.sqrt(self.default_area / (given[0] * given[1]))
        height, width = (self._nearest_multiple(min(side * zoom, MAX_WORKING_SIDE)) for side in given)
        return height, width

    def fitting_size(self, given: tuple[int, int]) -> tuple[int, int]:
        """
        The working (height, width) for an image of the (height, width) `given` that stretches it least.

        Among the sizes with half to twice as many pixels as the default size, this weighs the stretching against the
        number of pixels. A photograph of 3:2 or 4:3 is not stretched at all; one of 16:9 by 2 % if sizes are multiples
        of 32.
        """
        aspect = given[1] / given[0]
        best, size = math.inf, self.working_size(given, None, None)
        for height in range(self.size_multiple, 2 * self.default_area // self.size_multiple + 1, self.size_multiple):
            width = self._nearest_multiple(height * aspect)
            pixels = height * width / self.default_area
            badness = STRETCH_WEIGHT * abs(math.log(width / height / aspect)) + abs(math.log(pixels))
            if 0.5 <= pixels <= 2 and badness < best:
                best, size = badness, (height, width)
        return size

    def _nearest_multiple(self, side: float) -> int:
        return max(round(side / self.size_multiple), 1) * self.size_multiple

    @staticmethod
    def postprocess(frames: torch.Tensor, output_type: str) -> list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor:
        """
        Convert frames to what the caller asked for.

        Args:
            frames (`torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`):
                Frames in [0, 1].
            output_type (`str`):
                `"pil"`, `"np"` or `"pt"`.

        Returns:
            Lists of PIL images, an array `(batch_size, num_frames, height, width, 3)`, or the tensor.
        """
        if output_type == "pt":
            return frames
        pixels = frames.float().movedim(2, -1).numpy()
        if output_type == "np":
            return pixels
        return [VaeImageProcessor.numpy_to_pil(video) for video in pixels]

    @staticmethod
    def concatenate(videos):
        """Join the outputs of several calls of [`ImageProcessor.postprocess`] in time."""
        if isinstance(videos[0], torch.Tensor):
            return torch.cat(videos, dim=1)
        if isinstance(videos[0], np.ndarray):
            return np.concatenate(videos, axis=1)
        return [[frame for part in parts for frame in part] for parts in zip(*videos, strict=True)]
