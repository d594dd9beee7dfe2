# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What an evaluation shows of a clip: a sheet of all rows, and a video of the most telling ones side by side."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from ..drawing import draw_strokes, save_image
from ..flow import flow_magnitude
from ..flow_visualization import flow_to_image
from ..strokes import Stroke, StrokeSheet
from ..video import write_video


LABEL_HEIGHT = 16
GAP = 4
FPS = 4
# Tiles of pictures smaller than this are enlarged.
LEAST_TILE = 192
# Rows beside each other in a video, as far as they are there; the flow that drove the model comes last.
SIDE_BY_SIDE = ("true video", "ours", "ours, true flow", "splat, F's flow", "splat, nearest stroke")


@dataclass
class Sample:
    """The frames of one clip.

    Args:
        start (`torch.Tensor`): `[3, H, W]` in [0, 1], the given picture.
        strokes (`list[Stroke]`): the strokes, in its pixels.
        videos (`dict[str, torch.Tensor]`): for each row `[N - 1, 3, H, W]` in [0, 1].
        true_flow, flow (`torch.Tensor`): `[N - 1, 2, h, w]` in pixels, the true flow and that which drove the model.
    """

    start: torch.Tensor
    strokes: list[Stroke]
    videos: dict[str, torch.Tensor]
    true_flow: torch.Tensor
    flow: torch.Tensor

    def save(self, folder: Path, key: str) -> None:
        """Writes `KEY.png`, the sheet, and `KEY.mp4`, the video."""
        save_image(self.sheet(), folder / f"{key}.png")
        write_video(self.side_by_side(), folder / f"{key}.mp4", fps=FPS)

    def sheet(self) -> Image.Image:
        """One line for each row of the comparison: the given picture with its strokes, then every frame."""
        first = self._start_tile()
        flows = {"true flow": self._flow_tiles(self.true_flow), "flow of ours": self._flow_tiles(self.flow)}
        lines = {name: [self._tile(frame) for frame in frames] for name, frames in self.videos.items()} | flows
        step_x, step_y = first.width + GAP, first.height + LABEL_HEIGHT + GAP
        columns = 1 + len(self.flow)
        page = Image.new("RGB", (columns * step_x - GAP, len(lines) * step_y - GAP), "white")
        canvas = ImageDraw.Draw(page)
        for line, (name, tiles) in enumerate(lines.items()):
            canvas.text((2, line * step_y + 2), name, fill="black")
            for column, tile in enumerate([first, *tiles]):
                page.paste(tile, (column * step_x, line * step_y + LABEL_HEIGHT))
        return page

    def side_by_side(self) -> list[Image.Image]:
        """N frames; the first shows the given picture with its strokes everywhere."""
        first = self._start_tile()
        columns = {name: [first] + [self._tile(frame) for frame in self.videos[name]] for name in self._shown()}
        flow = self._flow_tiles(self.flow)
        columns["flow of ours"] = [*flow, flow[-1]]
        # Widths and heights of a video are even.
        width = (len(columns) * (first.width + GAP) + 1) // 2 * 2
        height = (first.height + LABEL_HEIGHT + 1) // 2 * 2
        frames = []
        for number in range(1 + len(self.flow)):
            page = Image.new("RGB", (width, height), "white")
            canvas = ImageDraw.Draw(page)
            for place, (name, tiles) in enumerate(columns.items()):
                canvas.text((place * (first.width + GAP) + 2, 2), name, fill="black")
                page.paste(tiles[number], (place * (first.width + GAP), LABEL_HEIGHT))
            frames.append(page)
        return frames

    def _shown(self) -> list[str]:
        return [name for name in SIDE_BY_SIDE if name in self.videos]

    def _start_tile(self) -> Image.Image:
        height, width = self.start.shape[1:]
        return draw_strokes(self._tile(self.start), StrokeSheet(self.strokes, width, height, 1 + len(self.flow)))

    def _flow_tiles(self, flow: torch.Tensor) -> list[Image.Image]:
        """On one scale of colors, that of the true flow."""
        colors = flow_to_image(flow, max_magnitude=float(flow_magnitude(self.true_flow).max().clamp_min(1)))
        size = tuple(self.start.shape[1:])
        return [self._tile(tile) for tile in F.interpolate(colors, size=size, mode="nearest").float() / 255]

    def _tile(self, picture: torch.Tensor) -> Image.Image:
        pixels = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        tile = Image.fromarray(pixels)
        factor = max(1, -(-LEAST_TILE // tile.width))
        return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.BICUBIC)
