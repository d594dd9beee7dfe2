# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Sample images and videos of single clips: a sheet of all methods, and a video of the main ones side by side."""

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
# Smaller images are enlarged to at least this width in pixels.
LEAST_TILE = 192
# The methods in a video, as far as they are measured. The flow that drove the model comes last.
SIDE_BY_SIDE = ("true video", "ours", "ours, true flow", "splat, F's flow", "splat, nearest stroke")


@dataclass
class Sample:
    """The frames of one clip.

    Args:
        start (`torch.Tensor`): `[3, H, W]` in [0, 1], the given image.
        strokes (`list[Stroke]`): the strokes, in pixels of that image.
        videos (`dict[str, torch.Tensor]`): for each method `[N - 1, 3, H, W]` in [0, 1].
        true_flow, flow (`torch.Tensor`): `[N - 1, 2, h, w]` in pixels, the true flow and the flow that drove the
            model.
    """

    start: torch.Tensor
    strokes: list[Stroke]
    videos: dict[str, torch.Tensor]
    true_flow: torch.Tensor
    flow: torch.Tensor

    def save(self, folder: Path, key: str) -> None:
        """Writes the sheet to `KEY.png` and the video to `KEY.mp4`."""
        save_image(self.sheet(), folder / f"{key}.png")
        write_video(self.side_by_side(), folder / f"{key}.mp4", fps=FPS)

    def sheet(self) -> Image.Image:
        """One line per method: the given image with its strokes, then every frame. The last lines show flow."""
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
                if column > 0:
                    title = f"frame {column - 1} to {column}" if name in flows else f"frame {column}"
                    canvas.text((column * step_x + 2, line * step_y + 2), title, fill="black")
                page.paste(tile, (column * step_x, line * step_y + LABEL_HEIGHT))
        return page

    def side_by_side(self) -> list[Image.Image]:
        """The N frames of the video, one column per method. The first frame shows the given image in each column."""
        first = self._start_tile()
        shown = [name for name in SIDE_BY_SIDE if name in self.videos]
        columns = {name: [first] + [self._tile(frame) for frame in self.videos[name]] for name in shown}
        flow = self._flow_tiles(self.flow)
        columns["flow of ours"] = [*flow, flow[-1]]
        # Widths and heights of a video must be even.
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

    def _start_tile(self) -> Image.Image:
        height, width = self.start.shape[1:]
        return draw_strokes(self._tile(self.start), StrokeSheet(self.strokes, width, height, 1 + len(self.flow)))

    def _flow_tiles(self, flow: torch.Tensor) -> list[Image.Image]:
        """Flow as colors. Both kinds of flow use the color scale of the true flow."""
        colors = flow_to_image(flow, max_magnitude=float(flow_magnitude(self.true_flow).max().clamp_min(1)))
        size = tuple(self.start.shape[1:])
        return [self._tile(tile) for tile in F.interpolate(colors, size=size, mode="nearest").float() / 255]

    def _tile(self, image: torch.Tensor) -> Image.Image:
        pixels = image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        tile = Image.fromarray(pixels)
        factor = max(1, -(-LEAST_TILE // tile.width))
        return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.BICUBIC)
