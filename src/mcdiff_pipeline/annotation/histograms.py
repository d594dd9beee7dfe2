# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Histograms drawn with Pillow. A plotting library would be a large dependency for four panels."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont


# Sizes in pixels.
PANEL_SIZE = (800, 520)
LEFT, RIGHT, TOP, BOTTOM = 90, 30, 90, 90
TITLE_FONT, FONT = ImageFont.load_default(26), ImageFont.load_default(18)
INK, GRID, BAR = (40, 40, 40), (228, 228, 228), (62, 110, 176)


def column_panel(title: str, x_label: str, y_label: str, columns: Sequence[tuple[str, float]]) -> Image.Image:
    """Draws a histogram with vertical columns.

    Args:
        title (`str`): title of the panel.
        x_label, y_label (`str`): labels of the axes.
        columns (`Sequence[tuple[str, float]]`): name and value of each column, from left to right; at least one.
            Values are not negative.

    Returns:
        `PIL.Image.Image`: RGB, of `PANEL_SIZE`.
    """
    panel, canvas = _empty_panel(title)
    right, bottom = panel.width - RIGHT, panel.height - BOTTOM
    canvas.text((LEFT, TOP - 14), y_label, fill=INK, font=FONT, anchor="ls")
    top_value = _round_up(max(value for _, value in columns))
    for step in range(5):
        y = bottom - (bottom - TOP) * step // 4
        canvas.line((LEFT, y, right, y), fill=GRID, width=2)
        canvas.text((LEFT - 10, y), f"{top_value * step / 4:,g}", fill=INK, font=FONT, anchor="rm")
    pitch = (right - LEFT) / len(columns)
    widest = max(canvas.textlength(name, font=FONT) for name, _ in columns)
    labeled_every = math.ceil((widest + 10) / pitch)
    for index, (name, value) in enumerate(columns):
        center, half = LEFT + pitch * (index + 0.5), min(0.38 * pitch, 60)
        height = round((bottom - TOP) * value / top_value)
        if value > 0:
            canvas.rectangle((center - half, bottom - max(height, 2), center + half, bottom), fill=BAR)
        if index % labeled_every == 0:
            canvas.text((center, bottom + 10), name, fill=INK, font=FONT, anchor="ma")
    canvas.line((LEFT, bottom, right, bottom), fill=INK, width=2)
    canvas.text(((LEFT + right) / 2, bottom + 44), x_label, fill=INK, font=FONT, anchor="ma")
    return panel


def bar_panel(title: str, bars: Sequence[tuple[str, int]]) -> Image.Image:
    """Draws a horizontal bar for each name, with its count as text.

    Args:
        title (`str`): title of the panel.
        bars (`Sequence[tuple[str, int]]`): name and count of each bar, from top to bottom; at least one.

    Returns:
        `PIL.Image.Image`: RGB, of `PANEL_SIZE`.
    """
    panel, canvas = _empty_panel(title)
    left, right = RIGHT, panel.width - RIGHT
    pitch = min(60, (panel.height - TOP) / len(bars))
    most = max(1, *(count for _, count in bars))
    for index, (name, count) in enumerate(bars):
        y = TOP - 20 + pitch * index
        canvas.text((left, y + 0.45 * pitch), f"{name}: {count:,}", fill=INK, font=FONT, anchor="ls")
        canvas.rectangle((left, y + 0.57 * pitch, right, y + 0.82 * pitch), fill=GRID)
        if count > 0:
            end = left + max(2, (right - left) * count / most)
            canvas.rectangle((left, y + 0.57 * pitch, end, y + 0.82 * pitch), fill=BAR)
    return panel


def page_of(panels: Sequence[Image.Image]) -> Image.Image:
    """Places panels on one page, two in a row."""
    width, height = PANEL_SIZE
    page = Image.new("RGB", (2 * width, -(-len(panels) // 2) * height), "white")
    for index, panel in enumerate(panels):
        page.paste(panel, (index % 2 * width, index // 2 * height))
    return page


def _empty_panel(title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    panel = Image.new("RGB", PANEL_SIZE, "white")
    canvas = ImageDraw.Draw(panel)
    canvas.text((RIGHT, 20), title, fill=INK, font=TITLE_FONT)
    return panel, canvas


def _round_up(value: float) -> float:
    """Rounds up to 4, 8, 20, 40, 80, 100, 200, 400, ..., which are multiples of 4 for the labels of the axis."""
    if value <= 4:
        return 4
    magnitude = 10 ** math.floor(math.log10(value))
    return next(
        factor * magnitude
        for factor in (1, 2, 4, 8, 20)
        if factor * magnitude >= value and factor * magnitude % 4 == 0
    )
