"""Occlusion between layers that move over each other."""

import numpy as np


def occlusion_from_layers(flow: np.ndarray, layers: np.ndarray, next_layers: np.ndarray) -> np.ndarray:
    """Which pixels are not visible in the next frame: they leave the frame, or another layer covers them.

    Args:
        flow: float32 `[2, H, W]`, forward flow in pixels.
        layers, next_layers: integer `[H, W]`, the number of the piece visible at each pixel, in both frames.

    Returns:
        bool `[H, W]`. The target of a pixel lies between pixels of the next frame. It is covered if no neighbor with a
        bilinear weight of at least 0.15 shows the same layer; this keeps pixels at the rim of a piece visible.
    """
    height, width = layers.shape
    target = pixel_centers((height, width)) + np.moveaxis(flow, 0, -1)
    outside = (target[..., 0] < 0) | (target[..., 0] >= width) | (target[..., 1] < 0) | (target[..., 1] >= height)
    position = np.moveaxis(target, -1, 0) - 0.5
    column, row = np.floor(position).astype(np.int64)
    right, down = position - [column, row]
    seen = np.zeros((height, width), dtype=bool)
    for y, vertical in ((row, 1 - down), (row + 1, down)):
        for x, horizontal in ((column, 1 - right), (column + 1, right)):
            same = next_layers[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] == layers
            seen |= same & (vertical * horizontal >= 0.15)
    return outside | ~seen


def pixel_centers(size: tuple[int, int]) -> np.ndarray:
    """Points (x, y) of the pixel centers, float64 `[H, W, 2]`."""
    height, width = size
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
