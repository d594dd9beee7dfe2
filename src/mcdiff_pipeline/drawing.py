# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Drawing strokes, points, regions and a grid over an image, contact sheets, and titles of columns."""

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .atomic_files import atomic_path
from .regions import Region
from .strokes import StrokeSheet


MOVE_COLOR = (255, 70, 40)
HOLD_COLOR = (60, 160, 255)
# How much of the image the color of a region hides.
REGION_OPACITY = 0.35
# A grid is drawn over the image with a longer side in this range, in pixels.
GRID_SIDES = (960, 1600)
# Distance between lines of a grid in pixels of the page, at least.
GRID_STEP = 60
# Columns with titles are at least this wide, and titles this high, in pixels. Videos need an even height.
TITLED_WIDTH, TITLE_HEIGHT = 128, 20


def draw_strokes(image: Image.Image, sheet: StrokeSheet) -> Image.Image:
    """Draws strokes over an image: an arrow for a move, a ring for a hold. Below them are the regions of the sheet.

    Args:
        image (`PIL.Image.Image`): an image of any size.
        sheet (`StrokeSheet`): the strokes; they are scaled to the size of the image.

    Returns:
        `PIL.Image.Image`: a new image of the same size, RGB.
    """
    x_factor, y_factor = image.width / sheet.width, image.height / sheet.height
    if sheet.regions:
        image = draw_regions(image, [region.scaled(x_factor, y_factor) for region in sheet.regions])
    smooth = 4  # supersampling, for smooth edges
    layer = Image.new("RGBA", (image.width * smooth, image.height * smooth))
    canvas = ImageDraw.Draw(layer)
    unit = max(image.width, image.height) * smooth / 150
    for stroke in sheet.plain().strokes:
        stroke = stroke.scaled(x_factor * smooth, y_factor * smooth)
        if stroke.kind == "hold":
            _draw_ring(canvas, stroke.points[0], unit, HOLD_COLOR)
        else:
            _draw_arrow(canvas, stroke.points, unit)
    layer = layer.resize(image.size, Image.Resampling.LANCZOS)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def draw_regions(image: Image.Image, regions: Sequence[Region]) -> Image.Image:
    """Tints each region of an image in a color of its own, and outlines it. Rigid regions are hatched.

    Args:
        image (`PIL.Image.Image`): an image of any size.
        regions (`Sequence[Region]`): its regions, with polygons in pixels of the image.

    Returns:
        `PIL.Image.Image`: a new image of the same size, RGB.
    """
    unit = max(image.width, image.height) / 150
    rows, columns = np.arange(image.height)[:, None], np.arange(image.width)
    # lines from the lower left to the upper right
    hatch = torch.from_numpy(((rows + columns) % (4 * unit) < unit).astype(np.float32))
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).float()
    # the colors, multiplied by their opacity; a region hides the colors of earlier ones, and all let the image through
    layer, opacity = torch.zeros_like(pixels), torch.zeros(image.height, image.width)
    for index, region in enumerate(regions):
        color, coverage = torch.tensor(region_color(index)).float(), region.coverage(image.height, image.width)
        tint = (REGION_OPACITY * (1 + hatch) if region.rigid else torch.tensor(REGION_OPACITY)).expand_as(opacity)
        for value, share in (
            (tint, coverage),
            (torch.ones_like(opacity), _outline(coverage, max(1, round(unit / 2)))),
        ):
            layer.lerp_(color * value[..., None], share[..., None])
            opacity.lerp_(value, share)
    drawn = (pixels * (1 - opacity)[..., None] + layer).round_().clamp_(0, 255)
    return Image.fromarray(drawn.to(torch.uint8).numpy())


def region_color(index: int) -> tuple[int, int, int]:
    """The color of the region with this index, RGB. Hues are a golden angle apart, so that neighbors differ."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + index * 0.618034) % 1, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _outline(coverage: torch.Tensor, thickness: int) -> torch.Tensor:
    """A line of this many pixels inside the edge of a region, where the coverage is one half. The border of the image
    is no edge."""
    down, right = (torch.zeros_like(coverage) for _ in range(2))
    down[1:-1] = (coverage[2:] - coverage[:-2]) / 2
    right[:, 1:-1] = (coverage[:, 2:] - coverage[:, :-2]) / 2
    # the difference over the slope is about the distance to the edge, so this edge is one pixel wide
    inside = ((coverage - 0.5) / torch.hypot(down, right).clamp(min=1e-3) + 0.5).clamp(0, 1)
    return inside - _eroded(inside, thickness)


def _eroded(inside: torch.Tensor, thickness: int) -> torch.Tensor:
    """The minimum over a square window that reaches this many pixels to each side."""
    reach = 0
    while reach < thickness:
        step = min(2 * reach + 1, thickness - reach)  # the three windows have no gap between them
        for axis in (0, 1):
            length = max(0, inside.shape[axis] - step)
            eroded = inside.clone()
            for start, neighbors in ((0, step), (step, 0)):
                part = eroded.narrow(axis, start, length)
                torch.minimum(part, inside.narrow(axis, neighbors, length), out=part)
            inside = eroded
        reach += step
    return inside


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


def draw_grid(image: Image.Image) -> tuple[Image.Image, int]:
    """Draws an image with a grid and labels: pixels of the image above and on the left, percent on the other sides.

    Args:
        image (`PIL.Image.Image`): an image of any size; a small or very large one is drawn at another size.

    Returns:
        `tuple[PIL.Image.Image, int]`: the page, RGB, and the distance between its lines in pixels of the image: 1, 2
        or 5 times a power of ten.
    """
    longest = max(image.size)
    zoom = min(max(longest, GRID_SIDES[0]), GRID_SIDES[1]) / longest
    width, height = (max(round(side * zoom), 1) for side in image.size)
    powers = (factor * 10**power for power in range(10) for factor in (1, 2, 5))
    step = next(step for step in powers if step * zoom >= GRID_STEP)
    font = ImageFont.load_default(size=14)
    margin = round(max(font.getlength(str(longest)), font.getlength("100%"))) + 12
    page = Image.new("RGB", (width + 2 * margin, height + 2 * margin), "white")
    page.paste(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), (margin, margin))
    canvas = ImageDraw.Draw(page, "RGBA")

    for axis, side in enumerate(image.size):
        is_vertical = axis == 0  # a line of constant x
        far = (height if is_vertical else width) + margin
        for place in range(0, side + 1, step):
            at = margin + place * zoom
            ends = ((at, margin), (at, far)) if is_vertical else ((margin, at), (far, at))
            canvas.line(ends, fill=(0, 0, 0, 110), width=3)
            canvas.line(ends, fill=(255, 255, 255, 220), width=1)
            corner = (at, margin - 6) if is_vertical else (margin - 6, at)
            canvas.text(corner, str(place), fill="black", font=font, anchor="ms" if is_vertical else "rm")
        for percent in range(0, 101, 10):
            at = margin + percent / 100 * side * zoom
            tick = ((at, far), (at, far + 5)) if is_vertical else ((far, at), (far + 5, at))
            canvas.line(tick, fill="black")
            corner = (at, far + 8) if is_vertical else (far + 8, at)
            canvas.text(corner, f"{percent}%", fill="black", font=font, anchor="ma" if is_vertical else "lm")
    return page, step


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


def titled_columns(pixels: np.ndarray, titles: Sequence[str]) -> np.ndarray:
    """Writes titles above the columns of a sheet, or of all frames of a video.

    Args:
        pixels (`np.ndarray`): uint8 `[..., H, W, 3]`, columns of one width side by side. Narrow ones are enlarged.
        titles (`Sequence[str]`): the title of each column, from left to right.

    Returns:
        `np.ndarray`: uint8 `[..., F * H + TITLE_HEIGHT, F * W, 3]`, enlarged by the whole number F.
    """
    width = pixels.shape[-2] // len(titles)
    factor = max(1, -(-TITLED_WIDTH // width))
    width, pixels = width * factor, pixels.repeat(factor, axis=-3).repeat(factor, axis=-2)
    strip = Image.new("RGB", (pixels.shape[-2], TITLE_HEIGHT), "white")
    canvas = ImageDraw.Draw(strip)
    for column, title in enumerate(titles):
        fonts = map(ImageFont.load_default, range(13, 6, -1))
        font = next((font for font in fonts if font.getlength(title) < width - 4), ImageFont.load_default(6))
        center = (column * width + width // 2, TITLE_HEIGHT // 2)
        canvas.text(center, title, fill="black", font=font, anchor="mm")
    above = np.broadcast_to(np.asarray(strip), (*pixels.shape[:-3], *np.asarray(strip).shape))
    return np.concatenate([above, pixels], axis=-3)


def save_image(image: Image.Image, path: Path) -> None:
    """Writes an image under a temporary name first, so that the file is complete or does not exist."""
    with atomic_path(path) as unfinished:
        image.save(unfinished)
