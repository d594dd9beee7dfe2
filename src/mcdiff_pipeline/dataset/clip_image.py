# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A clip drawn as one image: frames, people, flow, occlusion, and strokes sampled from the flow."""

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..drawing import draw_strokes
from ..flow_visualization import flow_to_image
from ..strokes import Stroke, StrokeSheet
from .clips import Clip
from .keypoints import SKELETON
from .sampling import sample_strokes


TILE_WIDTH = 256
GAP = 4
LABEL_HEIGHT = 16
PERSON_COLORS = ((255, 200, 0), (0, 220, 255), (255, 90, 200), (130, 255, 90))


def draw_clip(clip: Clip, *, seed: int = 0) -> Image.Image:
    """Draws one row for each pair of frames: the frame with its people, the flow, and strokes sampled from the flow.

    Flow has the colors of the Middlebury wheel. One scale holds for the whole clip; the label states it. Occluded
    pixels are hatched. The last row shows the last frame.

    Args:
        clip (`Clip`): the clip.
        seed (`int`, defaults to 0): seed of the strokes.

    Returns:
        `PIL.Image.Image`: RGB, three tiles wide.
    """
    fastest = max(float(np.hypot(clip.flow[:, 0], clip.flow[:, 1]).max(initial=0)), 1e-6)
    rows = []
    for t, frame in enumerate(clip.frames):
        image = Image.fromarray(frame)
        row = [(f"frame {t}", _draw_people(image, clip.masks[t], clip.keypoints[t]))]
        if t < len(clip.flow):
            colors = flow_to_image(torch.from_numpy(clip.flow[t])[None], max_magnitude=fastest)[0].permute(1, 2, 0)
            colors = colors.numpy().copy()
            y, x = np.nonzero(clip.occlusion[t])
            hatched = (x + y) % 4 == 0
            colors[y[hatched], x[hatched]] = 0
            row.append((f"flow to {t + 1}: up to {fastest:.1f} px, occluded hatched", Image.fromarray(colors)))
            row.append(("sampled strokes", _draw_sample(clip, t, np.random.default_rng([seed, t]))))
        rows.append(row)
    return _page(rows, columns=3)


def draw_samples(clip: Clip, number: int, *, seed: int = 0) -> Image.Image:
    """Draws several samples of strokes from the first flow of a clip, as training draws them.

    Args:
        clip (`Clip`): the clip, with at least two frames.
        number (`int`): number of samples.
        seed (`int`, defaults to 0): sample k depends on the seed and k.

    Returns:
        `PIL.Image.Image`: RGB, four tiles wide.
    """
    tiles = [(f"draw {k}", _draw_sample(clip, 0, np.random.default_rng([seed, k]))) for k in range(number)]
    return _page([tiles[start : start + 4] for start in range(0, number, 4)], columns=4)


def _draw_sample(clip: Clip, t: int, rng: np.random.Generator) -> Image.Image:
    """Frame t with one sample of strokes: an arrow of the true length, or a ring for a displacement of zero."""
    height, width = clip.flow.shape[2:]
    points, displacements = sample_strokes(clip.flow[t], clip.masks[t], clip.keypoints[t], rng=rng)
    strokes = [
        Stroke([point, point + displacement]) if np.hypot(*displacement) > 0 else Stroke([point], kind="hold")
        for point, displacement in zip(points.astype(float), displacements.astype(float))
    ]
    return draw_strokes(_enlarged(Image.fromarray(clip.frames[t])), StrokeSheet(strokes, width, height, num_frames=2))


def _draw_people(image: Image.Image, masks: np.ndarray, keypoints: np.ndarray) -> Image.Image:
    """Draws outlines of the masks, and skeletons. A hidden keypoint is a hollow dot."""
    outline = np.zeros(masks.shape, dtype=bool)
    outline[:, 1:] |= masks[:, 1:] != masks[:, :-1]
    outline[1:] |= masks[1:] != masks[:-1]
    pixels = np.asarray(image).copy()
    pixels[outline] = 255
    scale = TILE_WIDTH / image.width
    drawn = _enlarged(Image.fromarray(pixels))
    canvas = ImageDraw.Draw(drawn)
    for index, person in enumerate(keypoints):
        color = PERSON_COLORS[index % len(PERSON_COLORS)]
        if len(person) == 1 + max(max(bone) for bone in SKELETON):  # a person; keypoints of objects have no bones
            for start, end in SKELETON:
                if person[start, 2] > 0 and person[end, 2] > 0:
                    canvas.line([tuple(person[joint, :2] * scale) for joint in (start, end)], fill=color, width=2)
        for x, y, visibility in person:
            box = (x * scale - 3, y * scale - 3, x * scale + 3, y * scale + 3)
            if visibility > 0:
                canvas.ellipse(box, fill=color if visibility == 2 else None, outline=color, width=1)
    return drawn


def _enlarged(image: Image.Image) -> Image.Image:
    size = TILE_WIDTH, max(1, round(TILE_WIDTH * image.height / image.width))
    return image.resize(size, Image.Resampling.BICUBIC)


def _page(rows: list[list[tuple[str, Image.Image]]], columns: int) -> Image.Image:
    """Places rows of labeled tiles on white."""
    tile_height = _enlarged(rows[0][0][1]).height
    step_x, step_y = TILE_WIDTH + GAP, tile_height + LABEL_HEIGHT + GAP
    page = Image.new("RGB", (columns * step_x - GAP, len(rows) * step_y - GAP), "white")
    canvas = ImageDraw.Draw(page)
    for r, row in enumerate(rows):
        for c, (label, tile) in enumerate(row):
            canvas.text((c * step_x + 2, r * step_y + 2), label, fill="black")
            page.paste(_enlarged(tile), (c * step_x, r * step_y + LABEL_HEIGHT))
    return page
