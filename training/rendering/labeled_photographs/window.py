"""The part of a photograph that a clip shows, and its layers at the density of textures."""

from dataclasses import dataclass

import numpy as np
from PIL import Image


# Pixels of a texture per pixel of the frame, so that moved layers are as sharp as the first frame.
DENSITY = 2


@dataclass(frozen=True)
class Window:
    """A rectangle of a photograph that becomes a frame.

    Args:
        corner: (x, y) of the corner of the frame, in pixels of the photograph.
        scale: pixels of the photograph per pixel of the frame.
        size: (H, W) of the frame.
        margin: pixels of the frame that layers reach beyond it on all sides.
        is_mirrored: whether the frame shows the photograph mirrored.
    """

    corner: tuple[float, float]
    scale: float
    size: tuple[int, int]
    margin: int
    is_mirrored: bool

    def layer(self, image: Image.Image, photograph_size: tuple[int, int], *, continues: bool) -> np.ndarray:
        """An image of the whole photograph as a layer: uint8 `[DENSITY (H + 2 margin), DENSITY (W + 2 margin), ...]`.

        Args:
            image: of any size; it shows the same as the photograph.
            photograph_size: (W, H) of the photograph in pixels.
            continues: whether the image is mirrored at its border where the layer reaches beyond it; else it is zero.
        """
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.is_mirrored else image
        height, width = (DENSITY * (side + 2 * self.margin) for side in self.size)
        ratio = np.array(image.size) / photograph_size
        step = self.scale / DENSITY * ratio  # pixels of the image per pixel of the layer
        start = (np.array(self.corner) - self.margin * self.scale) * ratio
        before = np.ceil(np.maximum(0, -start / step) - 1e-6).astype(int)
        shape = np.array([width, height])
        after = np.ceil(np.maximum(0, shape - (image.size - start) / step) - 1e-6).astype(int)
        inner = np.maximum(shape - before - after, 1)
        first = np.clip(start + before * step, 0, np.array(image.size) - 1)
        last = np.clip(first + inner * step, first + 1e-3, image.size)
        part = np.asarray(image.resize(tuple(inner), Image.Resampling.LANCZOS, box=(*first, *last), reducing_gap=3.0))
        widths = [(before[1], after[1]), (before[0], after[0])] + [(0, 0)] * (part.ndim - 2)
        padded = np.pad(part, widths, mode="symmetric" if continues else "constant")
        return padded[:height, :width]

    @property
    def to_texture(self) -> np.ndarray:
        """The `[3, 3]` matrix from points of frame 0 to points of a layer, in its pixels."""
        shift = DENSITY * self.margin
        return np.array([[DENSITY, 0, shift], [0, DENSITY, shift], [0, 0, 1]], dtype=np.float64)


def random_window(
    rng: np.random.Generator,
    photograph_size: tuple[int, int],
    size: tuple[int, int],
    margin: int,
    *,
    shows: tuple[float, float, float, float] | None = None,
    scales: tuple[float, float] = (0.4, 1.0),
) -> Window:
    """A random window of the shape of the frame that is inside the photograph.

    Args:
        photograph_size: (W, H).
        shows: (left, top, right, bottom) in pixels of the photograph; the window contains it if it is large enough.
        scales: smallest and largest extent, as a share of the largest that is possible.
    """
    extent = np.array(size[::-1], dtype=np.float64)
    largest = (np.array(photograph_size) / extent).min()
    scale = largest * rng.uniform(*scales)
    is_mirrored = bool(rng.random() < 0.5)
    free = np.array(photograph_size) - scale * extent
    low, high = np.zeros(2), free
    if shows is not None:
        left, top, right, bottom = shows
        if is_mirrored:
            left, right = photograph_size[0] - right, photograph_size[0] - left
        needed = np.array([right, bottom]) - scale * extent
        corner = np.array([left, top])
        low, high = np.minimum(needed, corner), np.maximum(needed, corner)
        low, high = np.clip(low, 0, free), np.clip(high, 0, free)
    corner = rng.uniform(low, np.maximum(high, low))
    return Window((float(corner[0]), float(corner[1])), float(scale), size, margin, is_mirrored)
