"""A photograph before a moving camera, and occlusion between layers that move over it, both with exact flow.

An affine map is a `[2, 3]` array, (x, y) -> `map @ (x, y, 1)`.
Positions are in pixels of the rendered frame, x right and y down; pixel (0, 0) covers [0, 1) x [0, 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


# Seconds from frame to frame for which the speeds of cameras and things, which are drawn per frame, are meant.
FRAME_GAP = 1 / 12
# Nothing moves further in a clip than in this many such frames (4 seconds): photographs end, and things leave.
LONGEST_MOTION = 48
SMALLEST_SIDE = 8

# How the camera moves, and how often. Speeds are in parts of the frame's short side per frame.
CAMERAS = {"static": 0.6, "pan": 0.2, "zoom": 0.1, "handheld": 0.1}
PAN_SPEED = (0.003, 0.03)
ZOOM_SPEED = (0.003, 0.025)
HANDHELD = {"shift": 0.012, "angle": 0.01, "zoom": 0.01}


def frame_size(resolution: int | Sequence[int]) -> tuple[int, int]:
    """(H, W) of frames, from one number for both or from height and width.

    Raises:
        ValueError: if these are not one or two whole numbers of at least 8 pixels.
    """
    size = (resolution, resolution) if isinstance(resolution, int | np.integer) else tuple(resolution)
    if len(size) != 2 or any(side != int(side) or side < SMALLEST_SIDE for side in size):
        raise ValueError(
            f"A resolution of {resolution} is not possible; give one number of at least {SMALLEST_SIDE} pixels for "
            "square frames, or two, height and width."
        )
    return int(size[0]), int(size[1])


def motion_factor(time_gap: float | None, num_frames: int) -> float:
    """How many times as far as drawn a camera or a thing moves between two frames `time_gap` seconds apart.

    1 where no gap is given, and proportional to the gap, 1 at `FRAME_GAP`, until the whole clip shows what
    `LONGEST_MOTION` frames would at that gap.

    Raises:
        ValueError: if the gap is not a positive number.
    """
    if time_gap is None:
        return 1.0
    if not 0 < time_gap < math.inf:
        raise ValueError(f"A time gap of {time_gap} s is not possible; give a positive number of seconds, or none.")
    return min(time_gap / FRAME_GAP, LONGEST_MOTION / max(num_frames - 1, 1))


def list_photographs(photographs_dir: str | Path, split: str) -> list[Path]:
    """The pictures in `photographs_dir/split`, as `collect_photographs.py` leaves them, in the order of their names.

    Raises:
        FileNotFoundError: if there are none.
    """
    folder = Path(photographs_dir) / split
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise FileNotFoundError(f"There are no photographs in {folder}; run collect_photographs.py first.")
    return paths


@dataclass(frozen=True)
class Background:
    """A photograph seen by a moving camera.

    Args:
        picture (`PIL.Image.Image`): the part of the photograph that is ever seen, at about one pixel per frame pixel.
        views (`np.ndarray`): float64 `[T, 2, 3]`; `views[t] @ (x, y, 1)` is where in `picture` the point (x, y) of
            frame t lies.
        size (`tuple[int, int]`): (H, W) of the frames.
    """

    picture: Image.Image
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
        """A random crop of the photograph under a random camera path that never leaves it.

        `factor` multiplies the camera's speeds, see `motion_factor`.
        """
        height, width = size
        views = camera_path(rng, size=size, num_frames=num_frames, factor=factor)
        corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], dtype=np.float64)
        seen = views @ corners  # [T, 2, 4]
        lowest, highest = seen.min(axis=(0, 2)) - 2, seen.max(axis=(0, 2)) + 2  # room for the filter
        extent = highest - lowest
        # Photograph pixels per frame pixel: from the whole photograph down to what is still sharp.
        largest = (np.array(photograph.size) / extent).min()
        scale = np.exp(rng.uniform(np.log(min(largest, max(1.0, 0.3 * largest))), np.log(largest)))
        corner = rng.uniform(0, 1, 2) * (np.array(photograph.size) - scale * extent)
        canvas = tuple(np.ceil(extent).astype(int))
        box = np.clip([*corner, *(corner + scale * extent)], 0, [*photograph.size, *photograph.size])
        picture = photograph.resize(canvas, Image.Resampling.LANCZOS, box=tuple(box), reducing_gap=3.0)
        stretch = np.array(canvas) / extent
        views = np.concatenate([views[:, :, :2], views[:, :, 2:] - lowest[:, None]], axis=2) * stretch[:, None]
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return cls(picture, views, size)

    def frame(self, t: int) -> np.ndarray:
        """uint8 `[H, W, 3]`."""
        height, width = self.size
        # PIL's convention is ours: it maps pixel centers, and pixel (0, 0) covers [0, 1) x [0, 1).
        return np.asarray(
            self.picture.transform(
                (width, height),
                Image.Transform.AFFINE,
                tuple(self.views[t].ravel()),
                Image.Resampling.BICUBIC,
            )
        )

    def motion(self, t: int, other: int) -> np.ndarray:
        """float64 `[2, 3]`: the affine map from points of frame t, fixed on the photograph, to frame `other`."""
        first, second = self.views[t], self.views[other]
        first = np.concatenate([first[:, :2], (first[:, 2] - second[:, 2])[:, None]], axis=1)
        return np.linalg.solve(second[:, :2], first)

    def flow(self, t: int) -> np.ndarray:
        """float32 `[2, H, W]`, from frame t to frame t + 1."""
        centers = pixel_centers(self.size)
        matrix = self.motion(t, t + 1)
        return np.moveaxis(centers @ matrix[:, :2].T + matrix[:, 2] - centers, -1, 0).astype(np.float32)


def camera_path(rng: np.random.Generator, *, size: tuple[int, int], num_frames: int, factor: float) -> np.ndarray:
    """float64 `[T, 2, 3]`: the similarity that takes points of frame t to the world, which frame 0 shows upright.

    `factor` multiplies all speeds, those of a shaking hand included.
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


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine map that applies `first`, then `second`."""
    return np.concatenate([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2:] + second[:, 2:]], axis=1)


def inverse_affine(matrix: np.ndarray) -> np.ndarray:
    """The affine map that undoes `matrix`."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def smooth_noise(rng: np.random.Generator, num_frames: int, channels: int) -> np.ndarray:
    """float64 `[T, channels]`: zero at frame 0, then normal noise with a memory of a few frames."""
    noise = np.zeros((num_frames, channels))
    for t in range(1, num_frames):
        noise[t] = 0.7 * noise[t - 1] + 0.7 * rng.normal(size=channels)
    return noise


def pixel_centers(size: tuple[int, int]) -> np.ndarray:
    """float64 `[H, W, 2]`, x and y."""
    height, width = size
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)


def occlusion_from_layers(flow: np.ndarray, layers: np.ndarray, next_layers: np.ndarray) -> np.ndarray:
    """Which pixels are not to be seen in the next frame: they leave it, or another layer covers their place.

    Args:
        flow (`np.ndarray`): float32 `[2, H, W]`, forward flow in pixels.
        layers, next_layers (`np.ndarray`): integer `[H, W]`, which rigid piece is seen at each pixel, now and next.

    Returns:
        `np.ndarray`: bool `[H, W]`. A place between pixels counts as covered when none of its neighbors with a
        bilinear weight of 0.15 or more shows the same layer, so rims are not lost to rounding.
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
