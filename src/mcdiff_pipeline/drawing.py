# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Drawing strokes, points and regions over an image, and contact sheets."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from .atomic_files import atomic_path
from .strokes import StrokeSheet


MOVE_COLOR = (255, 70, 40)
HOLD_COLOR = (60, 160, 255)
# Told apart also by people who see few colors (Okabe and Ito, "Color Universal Design").
REGION_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def draw_strokes(image: Image.Image, sheet: StrokeSheet) -> Image.Image:
    """Draws strokes over an image: an arrow for a move, a ring for a hold.

    Args:
        image (`PIL.Image.Image`): an image of any size.
        sheet (`StrokeSheet`): the strokes; they are scaled to the size of the image.

    Returns:
        `PIL.Image.Image`: a new image of the same size, RGB.
    """
    smooth = 4  # supersampling, for smooth edges
    layer = Image.new("RGBA", (image.width * smooth, image.height * smooth))
    canvas = ImageDraw.Draw(layer)
    unit = max(image.width, image.height) * smooth / 150
    for stroke in sheet.scaled(*layer.size).strokes:
        if stroke.kind == "hold":
            _draw_ring(canvas, stroke.points[0], unit, HOLD_COLOR)
        else:
            _draw_arrow(canvas, stroke.points, unit)
    layer = layer.resize(image.size, Image.Resampling.LANCZOS)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def _draw_ring(
    canvas: ImageDraw.ImageDraw, center: tuple[float, float], unit: float, ring_color: tuple[int, int, int]
) -> None:
    x, y = center
    for radius, color in ((2.5 * unit, "white"), (2 * unit, ring_color), (unit, "white")):
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _draw_arrow(canvas: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], unit: float) -> None:
    x1, y1 = points[-1]
    x0, y0 = next(point for point in reversed(points) if point != points[-1])
    angle = math.atan2(y1 - y0, x1 - x0)
    for grow, color in ((0.4 * unit, "white"), (0, MOVE_COLOR)):  # the outline, then the arrow
        x, y = points[0]
        radius = unit + grow
        canvas.line(points, fill=color, width=round(unit + 2 * grow), joint="curve")
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
        head = [
            (x1 + (reach + 2 * grow) * math.cos(angle + turn), y1 + (reach + 2 * grow) * math.sin(angle + turn))
            for reach, turn in ((2 * unit, 0), (4 * unit, 2.6), (4 * unit, -2.6))
        ]
        canvas.polygon(head, fill=color)


def draw_regions(image: Image.Image, masks: Sequence[np.ndarray]) -> Image.Image:
    """Draws regions over an image: each tinted in its own color, the rest dark.

    Args:
        image (`PIL.Image.Image`): an image of any size.
        masks (`Sequence[np.ndarray]`): float32 `[H, W]` in [0, 1], of the image's size, later ones in front.

    Returns:
        `PIL.Image.Image`: a new image of the same size, RGB.
    """
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    drawn = 0.3 * pixels
    for number, mask in enumerate(masks):
        color = np.array(ImageColor.getrgb(REGION_COLORS[number % len(REGION_COLORS)]), dtype=np.float32)
        share = np.asarray(mask, dtype=np.float32)[..., None]
        drawn = drawn * (1 - share) + (0.7 * pixels + 0.3 * color) * share
    return Image.fromarray(drawn.round().clip(0, 255).astype(np.uint8))


def draw_points(
    image: Image.Image, points: Sequence[tuple[float, float]], colors: Sequence[tuple[int, int, int]]
) -> Image.Image:
    """Draws points over an image, each as a ring of its color.

    Args:
        image (`PIL.Image.Image`): an image of any size.
        points (`Sequence[tuple[float, float]]`): (x, y) in pixels of the image.
        colors (`Sequence[tuple[int, int, int]]`): RGB, one for each point.

    Returns:
        `PIL.Image.Image`: a new image of the same size, RGB.
    """
    drawn = image.convert("RGB")
    canvas = ImageDraw.Draw(drawn)
    for point, color in zip(points, colors, strict=True):
        _draw_ring(canvas, point, max(image.width, image.height) / 150, color)
    return drawn


def contact_sheet(
    image: Image.Image,
    sheet: StrokeSheet,
    frames: dict[int, Image.Image],
    *,
    columns: int = 4,
    tile_width: int = 256,
    gap: int = 4,
) -> Image.Image:
    """Draws the image with its strokes, then numbered frames of the video, as tiles of one page.

    Args:
        image (`PIL.Image.Image`): the given image.
        sheet (`StrokeSheet`): its strokes.
        frames (`dict[int, PIL.Image.Image]`): frames by their index in the video.
        columns (`int`, defaults to 4): tiles in a row.
        tile_width (`int`, defaults to 256): width of a tile in pixels.
        gap (`int`, defaults to 4): distance between tiles in pixels.

    Returns:
        `PIL.Image.Image`: the page, RGB.
    """
    tile_size = tile_width, max(1, round(tile_width * image.height / image.width))
    tiles = [draw_strokes(image.resize(tile_size, Image.Resampling.LANCZOS), sheet)]
    for index, frame in frames.items():
        tile = frame.resize(tile_size, Image.Resampling.LANCZOS)
        ImageDraw.Draw(tile).text((6, 4), str(index), fill="white", stroke_width=2, stroke_fill="black")
        tiles.append(tile)
    step_x, step_y = tile_size[0] + gap, tile_size[1] + gap
    rows, columns = math.ceil(len(tiles) / columns), min(columns, len(tiles))
    page = Image.new("RGB", (columns * step_x - gap, rows * step_y - gap), "white")
    for place, tile in enumerate(tiles):
        page.paste(tile, (place % columns * step_x, place // columns * step_y))
    return page


def save_image(image: Image.Image, path: Path) -> None:
    """Writes an image under a temporary name first, so that the file is complete or does not exist."""
    with atomic_path(path) as unfinished:
        image.save(unfinished)
