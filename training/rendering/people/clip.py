"""One clip of moving people over a photograph."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from mcdiff_pipeline.dataset import Clip
from rendering.affine import compose, inverse_affine
from rendering.clip_shape import frame_size, motion_factor
from rendering.people.assets import Assets
from rendering.people.backdrop import random_crop, random_motion, read_photograph
from rendering.people.bodies import Body, mix_bodies
from rendering.people.camera import aim_camera, screen_speed
from rendering.people.lighting import random_light
from rendering.people.outfit import dress
from rendering.people.performance import Performance, RecombinedPerformance
from rendering.people.rasterizer import draw_background, to_pixels
from rendering.people.scene import Scene
from rendering.photographs import SPLITS


def render_clip(
    seed: int | Sequence[int],
    split: str,
    assets: Assets,
    resolution: int | tuple[int, int] = 128,
    num_frames: int = 4,
    time_gap: float | None = None,
) -> Clip:
    """Render one clip.

    Args:
        seed: one or several numbers that determine everything random.
        split: name of the split of the assets; a part of the seed and of the clip's key.
        assets: from `load_assets(split, ...)`.
        resolution: pixels; one number for height and width, or (height, width).
        num_frames: number of frames, at least 1.
        time_gap: seconds between two frames; None for a random time, shorter if people move fast. Clips of the same
            seed have the same first frame for all gaps.

    Returns:
        A clip. The same arguments give the same bits.

    Raises:
        ValueError: if the resolution or the time gap is not possible.
    """
    size = frame_size(resolution)
    factor = motion_factor(time_gap, num_frames)
    numbers = [seed] if isinstance(seed, int | np.integer) else list(seed)
    rng = np.random.default_rng([*numbers, SPLITS.index(split)])
    photograph = read_photograph(str(assets.photographs[rng.integers(len(assets.photographs))]))
    cloth = read_photograph(str(assets.photographs[rng.integers(len(assets.photographs))]))

    count = rng.choice([1, 2, 3], p=[0.65, 0.25, 0.1])
    chosen = rng.choice(len(assets.bodies), count, replace=len(assets.bodies) < count)
    bodies = [assets.bodies[i] for i in chosen]
    if assets.recombined:
        bodies = [mix_with_another(rng, assets, body) for body in bodies]
    actors = [dress(rng, body, assets.skeleton, cloth) for body in bodies]
    perform = RecombinedPerformance if assets.recombined else Performance
    performances = [perform(rng, assets, body, first=n == 0) for n, body in enumerate(bodies)]
    gap = float(np.exp(rng.uniform(np.log(1 / 30), np.log(1 / 6))))

    camera = aim_camera(rng, performances, gap, num_frames, size)
    maps, drift = random_motion(rng, num_frames, size, factor)
    follow = drift and rng.random() < 0.6  # the camera moves; otherwise only what is behind the people
    views = np.zeros((num_frames, 9))
    views[:, 0], views[:, 1:3] = camera.focal, camera.center
    views[:, 3:] = (maps if follow else np.tile(np.eye(3)[:2], (num_frames, 1, 1))).reshape(num_frames, 6)
    if time_gap is None:
        # Fast people slow down until most landmarks of a body move by at most a twelfth of the frame.
        speed = max(screen_speed(performance, gap, camera, views) for performance in performances)
        gap *= min(1.0, 0.085 * min(size) / max(speed, 1e-6))
    else:
        gap = float(time_gap)

    transforms = [performance.transforms(gap, num_frames) for performance in performances]
    scene = Scene(actors, transforms, camera.pose, views, size)
    look = Look(rng, photograph, camera.pose, size)
    kind = "recombined-people" if assets.recombined else "people"
    key = "-".join([kind, split, *(f"{int(n):07d}" for n in numbers)])
    meta = {
        "source": "people",
        "seed": [int(n) for n in numbers],
        "split": split,
        "seconds_per_frame": gap,
        "motions": [performance.name for performance in performances],
        "bodies": [body.index for body in bodies],
        "moving_camera": bool(follow),
        "moving_background": bool(drift),
    }
    return _draw_clip(rng, scene, look, maps, key, meta)


def mix_with_another(rng: np.random.Generator, assets: Assets, body: Body) -> Body:
    """A mixture of a body and a random one."""
    other = assets.bodies[rng.integers(len(assets.bodies))]
    return mix_bodies(assets.skeleton, body, other, rng.uniform(0, 1.3))


class Look:
    """The backdrop, light, shadow, blur and noise of a clip.

    Attributes:
        backdrop: float32 `[h, w, 3]`; to_backdrop: `[2, 3]`, from points of the first frame to its pixels.
        light: `[12]`, see `shading.shade`; sun: `[3]`, the direction to the sun in the world.
        shadow_strength: from 0 (none) to 1.
        blur: standard deviation in pixels; noise: standard deviation in gray levels.
    """

    def __init__(self, rng: np.random.Generator, photograph: np.ndarray, pose: np.ndarray, size: tuple[int, int]):
        """Draw a look for people seen by a camera of `pose` `[3, 4]` in frames of `size` (H, W)."""
        self.backdrop, self.to_backdrop = random_crop(rng, photograph, size)
        self.light, self.sun = random_light(rng, pose, self.backdrop)
        self.shadow_strength = rng.uniform(0.2, 0.55) if rng.random() < 0.85 else 0.0
        self.blur = rng.uniform(0.2, 0.65) if rng.random() < 0.25 else 0.0
        self.noise = rng.uniform(0.5, 2.5) if rng.random() < 0.4 else 0.0

    def draw(self, rng: np.random.Generator, scene: Scene, t: int, motion: np.ndarray) -> np.ndarray:
        """Frame t, uint8 `[H, W, 3]`. `motion` `[2, 3]` takes points of the first frame's backdrop to frame t."""
        height, width = scene.size
        samples = np.empty((2 * height + 1, 2 * width + 1, 3), np.float32)
        to_backdrop = compose(self.to_backdrop, inverse_affine(motion))
        shadow = scene.shadow(t, self.sun) if self.shadow_strength else np.zeros((2, 2), np.float32)
        draw_background(self.backdrop, to_backdrop, shadow, self.shadow_strength, samples)
        scene.shade(t, samples, self.light)
        pixels = np.empty((height, width, 3), np.float32)
        to_pixels(samples, pixels)
        if self.blur:
            pixels = gaussian_filter(pixels, (self.blur, self.blur, 0))
        if self.noise:
            pixels += self.noise * rng.standard_normal(pixels.shape, np.float32)
        return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _draw_clip(rng: np.random.Generator, scene: Scene, look: Look, maps: np.ndarray, key: str, meta: dict) -> Clip:
    """Draw all frames; `maps` `[T, 2, 3]` take points of the first frame's backdrop to each frame."""
    num_frames, size = len(maps), scene.size
    frames = np.zeros((num_frames, *size, 3), np.uint8)
    flow = np.zeros((num_frames - 1, 2, *size), np.float32)
    occlusion = np.zeros((num_frames - 1, *size), bool)
    masks = np.zeros((num_frames, *size), np.uint8)
    for t in range(num_frames):
        frames[t] = look.draw(rng, scene, t, maps[t])
        if t + 1 < num_frames:
            motion = compose(maps[t + 1], inverse_affine(maps[t]))
            scene.flow(t, motion, flow[t], occlusion[t], masks[t])
        else:
            masks[t] = scene.mask(t)
    keypoints = np.stack([scene.keypoints(t) for t in range(num_frames)])
    return Clip(key, frames, flow, occlusion, masks, keypoints, meta)
