# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Pictures for people to look at: strokes over a picture, and pages of many."""

import math
from pathlib import Path

from PIL import Image, ImageDraw

from .atomic_files import atomic_path
from .strokes import StrokeSheet


MOVE_COLOR = (255, 70, 40)
HOLD_COLOR = (60, 160, 255)


def draw_strokes(image: Image.Image, sheet: StrokeSheet) -> Image.Image:
    """
    The picture with the strokes over it: an arrow for a move, a ring for a hold.

    Args:
        image (`PIL.Image.Image`): The picture, RGB, at any size.
        sheet (`StrokeSheet`): The strokes; they are scaled to the picture's size.

    Returns:
        `PIL.Image.Image`: A new RGB picture of the same size.
    """
    smooth = 4  # drawn larger and shrunk, for smooth edges
    layer = Image.new("RGBA", (image.width * smooth, image.height * smooth))
    canvas = ImageDraw.Draw(layer)
    unit = max(image.width, image.height) * smooth / 150
    for stroke in sheet.scaled(*layer.size).strokes:
        if stroke.kind == "hold":
            x, y = stroke.points[0]
            for radius, color in ((2.5 * unit, "white"), (2 * unit, HOLD_COLOR), (unit, "white")):
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
            continue
        x1, y1 = stroke.points[-1]
        x0, y0 = next(point for point in reversed(stroke.points) if point != stroke.points[-1])
        angle = math.atan2(y1 - y0, x1 - x0)
        for grow, color in ((0.4 * unit, "white"), (0, MOVE_COLOR)):
            x, y = stroke.points[0]
            radius = unit + grow
            canvas.line(stroke.points, fill=color, width=round(unit + 2 * grow), joint="curve")
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
            head = [
                (x1 + (reach + 2 * grow) * math.cos(angle + turn), y1 + (reach + 2 * grow) * math.sin(angle + turn))
                for reach, turn in ((2 * unit, 0), (4 * unit, 2.6), (4 * unit, -2.6))
            ]
            canvas.polygon(head, fill=color)
    layer = layer.resize(image.size, Image.Resampling.LANCZOS)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def contact_sheet(
    picture: Image.Image,
    sheet: StrokeSheet,
    frames: dict[int, Image.Image],
    *,
    columns: int = 4,
    tile_width: int = 256,
    gap: int = 4,
) -> Image.Image:
    """
    The picture with its strokes, then frames of the video with their numbers, on one page.

    Args:
        picture (`PIL.Image.Image`): The given picture.
        sheet (`StrokeSheet`): Its strokes.
        frames (`dict[int, PIL.Image.Image]`): Frames by their index.
        columns (`int`, defaults to 4): Tiles in a row.
        tile_width (`int`, defaults to 256): Width of a tile in pixels.
        gap (`int`, defaults to 4): Pixels between tiles.

    Returns:
        `PIL.Image.Image`: The page, RGB.
    """
    tile_size = tile_width, max(1, round(tile_width * picture.height / picture.width))
    tiles = [draw_strokes(picture.resize(tile_size, Image.Resampling.LANCZOS), sheet)]
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


def save_picture(image: Image.Image, path: Path) -> None:
    """Writes a PIL picture under a temporary name first, so that there is never half a file."""
    with atomic_path(path) as unfinished:
        image.save(unfinished)
