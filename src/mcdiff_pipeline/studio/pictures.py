# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Pictures and masks from the bytes that a client sent. No name, path or address of a client is ever opened."""

import base64
import binascii
import io

from PIL import Image, ImageOps

from .refusals import Refused, first_line
from .settings import LARGEST_ASPECT, MASK_SIDE, PICTURE_BYTES, PICTURE_PIXELS


FORMATS = ("PNG", "JPEG", "WEBP")
PNG_PREFIX = "data:image/png;base64,"
THUMBNAIL_SIDE = 320

# What Pillow raises for bytes that are not a complete picture.
PICTURE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError, EOFError, IndexError)


def read_picture(content: bytes, limit: int = PICTURE_BYTES) -> Image.Image:
    """
    A picture as it would be shown on a white page, RGB, upright. What its file says beside the pixels is dropped.

    Args:
        content (`bytes`): A PNG, JPEG or WebP file.
        limit (`int`): Bytes that it may have.

    Raises:
        Refused: If it is too large, in bytes or in pixels (which is checked before any is decoded), is none of these
            files, or is damaged.
    """
    if len(content) > limit:
        raise Refused(
            f"The picture has {len(content) / 1e6:.1f} MB; at most {limit / 1e6:.0f} MB are possible: save it "
            "smaller, or as JPEG.",
            status=413,
        )
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        check_size(picture.width, picture.height)
        picture.load()
        picture = ImageOps.exif_transpose(picture)
        return _on_white(picture)
    except Image.DecompressionBombError:
        raise Refused(
            f"The picture has too many pixels; at most {PICTURE_PIXELS / 1e6:.0f} million are possible: scale it "
            "down.",
            status=413,
        ) from None
    except PICTURE_ERRORS as error:
        reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({first_line(error).lower()})"
        raise Refused(
            f"The file is not a picture that can be read{reason}; PNG, JPEG and WebP can be: save it as one of these.",
            status=415,
        ) from None


def check_size(width: int, height: int) -> None:
    """Raises `Refused` if a picture of this size, in pixels, is not possible."""
    if width * height > PICTURE_PIXELS:
        raise Refused(
            f"The picture has {width} x {height} pixels; at most {PICTURE_PIXELS / 1e6:.0f} million are possible: "
            "scale it down.",
            status=413,
        )
    if max(width, height) > LARGEST_ASPECT * min(width, height):
        raise Refused(
            f"The picture has {width} x {height} pixels; one side may be at most {LARGEST_ASPECT} times as long as "
            "the other: crop it."
        )


def _on_white(picture: Image.Image) -> Image.Image:
    """RGB, 8 bits, as [`~mcdiff_pipeline.image_processor.load_image_tensor`] reads it."""
    if picture.mode.startswith("I") or picture.mode == "F":
        # Pillow opens gray pictures of 16 bits in these modes
        picture = picture.convert("F").point(lambda value: value * (255 / 65535) + 0.5).convert("L")
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    picture.info.clear()
    return picture


def thumbnail(picture: Image.Image) -> bytes:
    """A small WebP of a picture."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return encoded(small, "WEBP", quality=80)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    """The bytes of a picture in a format of Pillow."""
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


def lossless_webp(picture: Image.Image) -> bytes:
    """The bytes of a WebP with exactly these pixels, in the fastest way that saves space."""
    return encoded(picture, "WEBP", lossless=True, quality=0, method=0)


def read_mask(uri: object) -> Image.Image:
    """
    A mask from a data URI of a gray PNG.

    Raises:
        Refused: If it is not, has more than 4,096 pixels on a side (which is checked before any is decoded), or is
            damaged. The message starts with "mask".
    """
    if not (isinstance(uri, str) and uri.startswith(PNG_PREFIX)):
        raise Refused(f"mask must be a gray PNG as a text that starts with {PNG_PREFIX!r}.")
    try:
        content = base64.b64decode(uri.removeprefix(PNG_PREFIX), validate=True)
        mask = Image.open(io.BytesIO(content), formats=["PNG"])
        if max(mask.size) > MASK_SIDE:
            raise Refused(
                f"mask has {mask.width} x {mask.height} pixels; at most {MASK_SIDE} on a side are possible: scale it "
                "down."
            )
        if mask.mode not in ("L", "1"):
            raise Refused(f"mask is a PNG of mode {mask.mode!r}; it must be gray, with 8 bits and without alpha.")
        mask.load()
        return mask.convert("L")
    except Refused:
        raise
    except Image.DecompressionBombError:
        raise Refused(
            f"mask has too many pixels; at most {MASK_SIDE} on a side are possible: scale it down."
        ) from None
    except (*PICTURE_ERRORS, binascii.Error) as error:
        raise Refused(f"mask is not a complete PNG ({first_line(error).lower()}); write it again.") from None


def mask_uri(mask: Image.Image) -> str:
    """The data URI of a gray mask."""
    return PNG_PREFIX + base64.b64encode(encoded(mask, "PNG", compress_level=6)).decode()
