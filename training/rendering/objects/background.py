"""A photograph seen by a moving camera, with exact flow.

Positions are in pixels of the rendered frame, x right and y down; pixel (0, 0) covers [0, 1) x [0, 1).
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from rendering.occlusion import pixel_centers


# How the camera moves, and how often. Speeds are in parts of the frame's short side per frame.
CAMERAS = {"static": 0.6, "pan": 0.2, "zoom": 0.1, "handheld": 0.1}
PAN_SPEED = (0.003, 0.03)
ZOOM_SPEED = (0.003, 0.025)
HANDHELD = {"shift": 0.012, "angle": 0.01, "zoom": 0.01}


@dataclass(frozen=True)
class Background:
    """A photograph seen by a moving camera.

    Args:
        image: the part of the photograph that the camera sees, at about one pixel per pixel of a frame.
        views: float64 `[T, 2, 3]`, affine maps from points (x, y) of frame t to points of `image`.
        size: (H, W) of the frames.
    """

    image: Image.Image
    views: np.ndarray
    size: tuple[int, int]

    @classmethod
    def random(
        cls,
        photograph: Image.Image,
        rng: np.random.Generator,
        *,
        size: tuple[int, int],
        num_frames: int,
        factor: float,
    ) -> "Background":
        """A random crop of the photograph under a random camera path that stays inside it.

        `factor` multiplies the camera's speeds (see `motion_factor`).
        """
        height, width = size
        views = camera_path(rng, size=size, num_frames=num_frames, factor=factor)
        corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], dtype=np.float64)
        seen = views @ corners  # [T, 2, 4]
        lowest, highest = seen.min(axis=(0, 2)) - 2, seen.max(axis=(0, 2)) + 2  # margin for the resampling filter
        extent = highest - lowest
        # Pixels of the photograph per pixel of a frame: at least one if possible, so that frames are sharp.
        largest = (np.array(photograph.size) / extent).min()
        scale = np.exp(rng.uniform(np.log(min(largest, max(1.0, 0.3 * largest))), np.log(largest)))
        corner = rng.uniform(0, 1, 2) * (np.array(photograph.size) - scale * extent)
        canvas = tuple(np.ceil(extent).astype(int))
        box = np.clip([*corner, *(corner + scale * extent)], 0, [*photograph.size, *photograph.size])
        image = photograph.resize(canvas, Image.Resampling.LANCZOS, box=tuple(box), reducing_gap=3.0)
        stretch = np.array(canvas) / extent
        views = np.concatenate([views[:, :, :2], views[:, :, 2:] - lowest[:, None]], axis=2) * stretch[:, None]
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return cls(image, views, size)

    def frame(self, t: int) -> np.ndarray:
        """Frame t, uint8 `[H, W, 3]`."""
        height, width = self.size
        # PIL uses the same coordinates: pixel (0, 0) covers [0, 1) x [0, 1).
        return np.asarray(
            self.image.transform(
                (width, height),
                Image.Transform.AFFINE,
                tuple(self.views[t].ravel()),
                Image.Resampling.BICUBIC,
            )
        )

    def motion(self, t: int, other: int) -> np.ndarray:
        """float64 `[2, 3]`: the affine map that takes points of the photograph from frame t to frame `other`."""
        first, second = self.views[t], self.views[other]
        first = np.concatenate([first[:, :2], (first[:, 2] - second[:, 2])[:, None]], axis=1)
        return np.linalg.solve(second[:, :2], first)

    def flow(self, t: int) -> np.ndarray:
        """Flow from frame t to frame t + 1 in pixels, float32 `[2, H, W]`."""
        centers = pixel_centers(self.size)
        matrix = self.motion(t, t + 1)
        return np.moveaxis(centers @ matrix[:, :2].T + matrix[:, 2] - centers, -1, 0).astype(np.float32)


def camera_path(rng: np.random.Generator, *, size: tuple[int, int], num_frames: int, factor: float) -> np.ndarray:
    """A random camera path: float64 `[T, 2, 3]`, the maps from points of frame t to frame 0.

    `factor` multiplies all speeds, also of the shake of a handheld camera.
    """
    height, width = size
    short = min(height, width)
    time = factor * np.arange(num_frames, dtype=np.float64)
    shift, angle, zoom = np.zeros((num_frames, 2)), np.zeros(num_frames), np.ones(num_frames)
    kind = rng.choice(list(CAMERAS), p=list(CAMERAS.values()))
    if kind == "pan":
        direction = rng.uniform(0, 2 * np.pi)
        speed = short * np.exp(rng.uniform(*np.log(PAN_SPEED)))
        shift = time[:, None] * speed * np.array([np.cos(direction), np.sin(direction)])
    elif kind == "zoom":
        zoom = np.exp(time * rng.choice([-1, 1]) * np.exp(rng.uniform(*np.log(ZOOM_SPEED))))
    elif kind == "handheld":
        shake = factor * np.cumsum(smooth_noise(rng, num_frames, 4), axis=0)
        shift, angle = short * HANDHELD["shift"] * shake[:, :2], HANDHELD["angle"] * shake[:, 2]
        zoom = np.exp(HANDHELD["zoom"] * shake[:, 3])
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
    linear = rotation * zoom[:, None, None]
    center = np.array([width / 2, height / 2])
    return np.concatenate([linear, (center + shift - linear @ center)[:, :, None]], axis=2)


def smooth_noise(rng: np.random.Generator, num_frames: int, channels: int) -> np.ndarray:
    """Noise that is smooth in time, float64 `[T, channels]`: zero at frame 0, then an autoregressive process."""
    noise = np.zeros((num_frames, channels))
    for t in range(1, num_frames):
        noise[t] = 0.7 * noise[t - 1] + 0.7 * rng.normal(size=channels)
    return noise
