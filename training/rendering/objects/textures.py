"""What random objects look like: photographed cut-outs, or random shapes filled with a crop of a photograph."""

import numpy as np
from PIL import Image, ImageDraw

from rendering.objects.assets import Assets


# A texture has this many pixels per pixel of the frame, so that it stays sharp when it turns and grows.
TEXTURE_DENSITY = 1.5


def random_texture(rng: np.random.Generator, assets: Assets, length: float) -> tuple[Image.Image, float]:
    """A random object (RGBA) and the angle it has in the frame (radians).

    Args:
        length: pixels of the frame along the object's longer side.
    """
    texture_length = max(8, round(TEXTURE_DENSITY * length))
    if assets.cutouts and rng.random() < 0.6:
        image = assets.cutouts[rng.integers(len(assets.cutouts))]
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = texture_length / max(image.size)
        image = image.resize([max(4, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
        return image, rng.normal(0, 0.25)  # most cut-outs stand upright
    image = random_shape(rng, assets.photographs[rng.integers(len(assets.photographs))], texture_length)
    return image, rng.uniform(-np.pi, np.pi)


def random_shape(rng: np.random.Generator, photograph: Image.Image, length: int) -> Image.Image:
    """A random blob or polygon (RGBA), `length` pixels along its longer side, filled with a crop of a photograph."""
    outline = random_outline(rng)
    outline -= outline.min(0)
    outline *= length / outline.max()
    width, height = np.ceil(outline.max(0)).astype(int)
    alpha = Image.new("L", (4 * width, 4 * height))
    ImageDraw.Draw(alpha).polygon([tuple(point) for point in 4 * outline], fill=255)
    alpha = alpha.resize((width, height), Image.Resampling.BOX)

    side = np.array([width, height]) * rng.uniform(1, max(1, 0.8 * min(np.array(photograph.size) / (width, height))))
    side = np.minimum(side, photograph.size)
    corner = rng.uniform(0, 1, 2) * (np.array(photograph.size) - side)
    image = photograph.resize((width, height), Image.Resampling.LANCZOS, box=(*corner, *(corner + side)))
    image.putalpha(alpha)
    return image


def random_outline(rng: np.random.Generator) -> np.ndarray:
    """Corners (x, y) of a random blob or polygon around (0, 0), float64 `[N, 2]`, about one unit large."""
    if rng.random() < 0.6:
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        waves = np.arange(1, 6)
        radius = 1 + (
            rng.normal(0, 0.28, 5)[:, None]
            / waves[:, None]
            * np.cos(waves[:, None] * angles + rng.uniform(0, 6.3, (5, 1)))
        ).sum(0)
    else:
        corners = int(rng.integers(3, 9))
        angles = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
        radius = rng.uniform(0.5, 1, corners)
    outline = np.maximum(radius, 0.15)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return outline * [1, rng.uniform(0.3, 1)]


def premultiplied(image: Image.Image, light: np.ndarray) -> np.ndarray:
    """The texture of a `Piece`: float32 `[h + 2, w + 2, 4]`. `light` is a factor for each color, `[3]`."""
    pixels = np.asarray(image, dtype=np.float32)
    alpha = pixels[..., 3:] / 255
    color = np.clip(pixels[..., :3] * light.astype(np.float32), 0, 255)
    return np.pad(np.concatenate([color * alpha, alpha], axis=2), ((1, 1), (1, 1), (0, 0)))
