"""The photograph behind the people, and how it moves."""

import functools

import numpy as np
from PIL import Image


@functools.lru_cache(maxsize=512)
def read_photograph(path: str) -> np.ndarray:
    """A photograph, uint8 `[H, W, 3]`, reduced to at most 1024 pixels on the longer side."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail((1024, 1024), Image.Resampling.LANCZOS)
        return np.asarray(image)


def random_crop(
    rng: np.random.Generator, photograph: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Crop a random part of a photograph for frames of `size` (H, W).

    Returns:
        The crop at twice the resolution of the frames, float32 `[h, w, 3]`, with a margin for a moving camera; and the
        affine map `[2, 3]` from points of the first frame to pixels of the crop.
    """
    height, width = photograph.shape[:2]
    down, across = size[0] / min(size), size[1] / min(size)
    side = min(height / down, width / across) * rng.uniform(0.55, 1.0)  # the shorter side of the part
    left, top = rng.uniform(0, width - side * across), rng.uniform(0, height - side * down)
    margin = 0.25 * side
    box = [
        max(0, left - margin),
        max(0, top - margin),
        min(width, left + side * across + margin),
        min(height, top + side * down + margin),
    ]
    box = [int(round(edge)) for edge in box]
    scale = 2 * min(size) / side
    size = (max(2, round((box[2] - box[0]) * scale)), max(2, round((box[3] - box[1]) * scale)))
    image = Image.fromarray(photograph).resize(size, Image.Resampling.BICUBIC, box=box)
    to_crop = np.array([[2.0, 0.0, (left - box[0]) * scale], [0.0, 2.0, (top - box[1]) * scale]])
    pixels = np.asarray(image, np.float32)
    if rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    return pixels, to_crop


def random_motion(
    rng: np.random.Generator, num_frames: int, size: tuple[int, int], factor: float
) -> tuple[np.ndarray, bool]:
    """Affine maps `[T, 2, 3]` from the first frame to each frame, and whether they move at all.

    `factor` multiplies the speeds (see `motion_factor`); the shape of the path stays.
    """
    maps = np.tile(np.eye(3)[:2], (num_frames, 1, 1))
    if rng.random() < 0.6:
        return maps, False
    kinds = rng.random(3) < [0.75, 0.45, 0.3]
    if not kinds.any():
        kinds[rng.integers(3)] = True
    scale = min(size) / 128
    pan = np.zeros(2)
    if kinds[0]:
        angle, length = rng.uniform(0, 2 * np.pi), scale * np.exp(rng.uniform(np.log(0.3), np.log(5)))
        pan = length * np.array([np.cos(angle), np.sin(angle)])
    zoom = rng.normal(0, 0.015) if kinds[1] else 0.0
    roll = np.deg2rad(rng.normal(0, 0.8)) if kinds[2] else 0.0
    bend = rng.normal(0, 0.15 * np.linalg.norm(pan) + 1e-9, 2)
    pivot = rng.uniform(0.3, 0.7, 2) * size[::-1]
    zoom, roll, pan, bend = factor * zoom, factor * roll, factor * pan, factor * bend
    for t in range(num_frames):
        c, s = np.exp(zoom * t) * np.cos(roll * t), np.exp(zoom * t) * np.sin(roll * t)
        linear = np.array([[c, -s], [s, c]])
        maps[t, :, :2] = linear
        maps[t, :, 2] = pivot - linear @ pivot + pan * t + 0.5 * bend * t * t
    return maps, True
