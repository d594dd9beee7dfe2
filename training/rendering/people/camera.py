"""Placing the camera in front of people.

A *camera* is a rigid map `[3, 4]` from the world to camera space. A *view*, as `rasterizer.py` defines it, holds the
focal length, the principal point, and an affine map of the finished image.
"""

from dataclasses import dataclass

import numpy as np

from rendering.people.performance import Performance


# How people are framed, and how often; and their height in parts of the frame's height.
FRAMINGS = {"far": 0.1, "full": 0.38, "large": 0.2, "upper": 0.32}
HEIGHTS = {"far": (0.2, 0.38), "full": (0.38, 0.65), "large": (0.65, 0.98), "upper": (1.1, 2.3)}


@dataclass(frozen=True)
class Camera:
    """A camera: `pose` `[3, 4]` from the world to camera space; `focal` and `center` `[2]` in pixels."""

    pose: np.ndarray
    focal: float
    center: np.ndarray


def aim_camera(
    rng: np.random.Generator, performances: list[Performance], gap: float, num_frames: int, size: tuple[int, int]
) -> Camera:
    """A random camera that has the people in the frame. `size` is (H, W)."""
    points = [performance.landmarks(performance.transforms(gap, num_frames)) for performance in performances]
    subject = points[0] if len(points) == 1 or rng.random() < 0.5 else np.concatenate(points, 1)
    middle = subject[num_frames // 2]
    framing = rng.choice(list(FRAMINGS), p=list(FRAMINGS.values()))
    distance = rng.uniform(1.5, 4) if framing == "upper" else rng.uniform(2.2, 6)
    pose = _look_at(0.5 * (middle.min(0) + middle.max(0)), distance, np.deg2rad(rng.normal(6, 7)))

    height, width = size
    seen = middle @ pose[:, :3].T + pose[:, 3]
    seen = seen[seen[:, 2] > 0.3]
    flat = seen[:, :2] / seen[:, 2:]
    low, high = flat.min(0), flat.max(0)
    # People who lie or crouch fill the width of the frame; they are not enlarged to its height.
    extent = max(high[1] - low[1], 0.8 * (high[0] - low[0]) * (height / width), 0.75 / distance)
    focal = rng.uniform(*HEIGHTS[framing]) * height / extent
    aim = 0.5 * (low + high)
    frame = np.array([width, height])
    spread = np.maximum(0.5 - 0.5 * focal * (high - low) / frame, 0.12)
    wanted = frame * (0.5 + rng.uniform(-1, 1, 2) * np.minimum(spread, 0.3))
    if framing == "upper":
        # A point between the chest and the head comes near the middle of the frame.
        first = points[0][num_frames // 2] @ pose[:, :3].T + pose[:, 3]
        chest = first[performances[0].skeleton.part["chest"]]
        top = first[len(performances[0].body.joints)]
        mix = chest + rng.uniform(-0.2, 0.9) * (top - chest)
        aim = mix[:2] / max(mix[2], 0.3)
        wanted = frame * np.array([rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.6)])
    return Camera(pose, focal, wanted - focal * aim)


def _look_at(target: np.ndarray, distance: float, elevation: float) -> np.ndarray:
    """Pose `[3, 4]` of a camera that looks at `target` from the front, at least 25 cm above the ground."""
    eye = target + distance * np.array([0, -np.cos(elevation), np.sin(elevation)])
    eye[2] = max(eye[2], 0.25)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.array([1.0, 0, 0])
    rotation = np.stack([right, np.cross(forward, right), forward])
    return np.concatenate([rotation, (-rotation @ eye)[:, None]], 1)


def screen_speed(performance: Performance, gap: float, camera: Camera, views: np.ndarray) -> float:
    """How far landmarks of a body move between two frames, in pixels: the 0.9 quantile.

    Args:
        gap: seconds between two frames.
        views: `[T, 9]`, a view for each frame.
    """
    if len(views) < 2:
        return 0.0
    points = performance.landmarks(performance.transforms(gap, len(views))) @ camera.pose[:, :3].T + camera.pose[:, 3]
    flat = views[:, None, :1] * points[..., :2] / np.maximum(points[..., 2:], 0.3)
    return float(np.quantile(np.linalg.norm(np.diff(flat, axis=0), axis=-1), 0.9))
