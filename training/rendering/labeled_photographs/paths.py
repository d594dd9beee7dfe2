"""How things and the camera move: homographies of the frame as `[T, 3, 3]` arrays.

Positions are in pixels of the rendered frame, x right and y down; pixel (0, 0) covers [0, 1) x [0, 1).
"""

import numpy as np


# Speeds are per frame of 1/12 s. Lengths are for frames of 128 pixels and grow with the shorter side.
REFERENCE_SIDE = 128
# The logarithm of the speed of a thing in pixels has this mean and deviation; most are between 2 and 8.
SPEED, SPEED_DEVIATION, SPEED_LIMITS = 4.0, 0.6, (1.0, 14.0)
KINDS = {"translation": 0.45, "similarity": 0.4, "perspective": 0.15}
# Radians; logarithm of the scale; parts of a unit of length; displacement at the rim of a thing in parts of its
# radius.
TURN, GROWTH, SHEAR, PERSPECTIVE = 0.07, 0.03, 0.03, 0.03
LARGEST_TURN, LARGEST_GROWTH = np.deg2rad(10), np.log(1.08)
# A joint turns faster than a thing as a whole.
JOINT_TURN = 0.1
# How the camera moves where it moves.
CAMERA = {"speed": (1.0, 6.0), "turn": 0.015, "growth": 0.015}
# Speed changes by at most this share of itself per frame.
ACCELERATION = 0.25


def times(rng: np.random.Generator, num_frames: int, factor: float) -> np.ndarray:
    """The times of the frames, float64 `[T]`: 0, about `factor`, ... They are not quite evenly spaced."""
    number = np.arange(num_frames, dtype=np.float64)
    change = rng.uniform(-1, 1) * ACCELERATION / max(1, num_frames - 1)
    return factor * number * (1 + change * (number - 1))


def random_camera(rng: np.random.Generator, time: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A camera that pans, zooms and turns about the center of the frame: from points of frame 0 to frame t."""
    speed = rng.uniform(*CAMERA["speed"]) if rng.random() < 0.7 else 0.0
    turn = rng.normal(0, CAMERA["turn"]) if rng.random() < 0.4 else 0.0
    growth = rng.normal(0, CAMERA["growth"]) if rng.random() < 0.5 or speed == 0 else 0.0
    velocity = speed * min(size) / REFERENCE_SIDE * unit_vector(rng)
    center = np.array(size[::-1]) / 2
    return steady_motion(time, center, velocity, turn=turn, growth=growth)


def random_thing_path(
    rng: np.random.Generator, time: np.ndarray, points: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The path of a thing that stays in the frame as far as possible.

    Args:
        points: float64 `[N, 2]`, points (x, y) that are spread over the thing at frame 0.
        size: (H, W) of the frames.
    """
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    unit = min(size) / REFERENCE_SIDE
    speed = unit * np.clip(np.exp(rng.normal(np.log(SPEED), SPEED_DEVIATION)), *SPEED_LIMITS)
    center, radius = points.mean(0), np.linalg.norm(points - points.mean(0), axis=1).max() + 1
    deformation = {}
    if kind != "translation":
        deformation["turn"] = np.clip(rng.normal(0, TURN), -LARGEST_TURN, LARGEST_TURN)
        deformation["growth"] = np.clip(rng.normal(0, GROWTH), -LARGEST_GROWTH, LARGEST_GROWTH)
        speed *= rng.choice([0.0, 0.5, 1.0])
    if kind == "perspective":
        deformation["shear"] = rng.normal(0, SHEAR, (2, 2))
        deformation["tilt"] = rng.normal(0, PERSPECTIVE, 2) / radius
    seen = inside(points, size).mean()
    for attempt in range(8):
        velocity = speed * unit_vector(rng) * (1 if attempt < 5 else 0.4)
        path = limited(lambda time: steady_motion(time, center, velocity, **deformation), time, points, unit)
        if inside(apply(path[-1], points), size).mean() >= 0.6 * seen:
            break
    return path


def random_joint_path(
    rng: np.random.Generator, time: np.ndarray, joint: np.ndarray, points: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The path of a part that turns about a joint (x, y); `points` are as in `random_thing_path`."""
    turn = rng.choice([-1, 1]) * np.clip(0.02 + abs(rng.normal(0, JOINT_TURN)), 0, LARGEST_TURN)
    turning = lambda time: steady_motion(time, joint, np.zeros(2), turn=turn)  # noqa: E731
    return limited(turning, time, points, min(size) / REFERENCE_SIDE)


def limited(motion, time: np.ndarray, points: np.ndarray, unit: float) -> np.ndarray:
    """`motion(time)`, slowed down if a point moves further than the largest speed allows in a step."""
    slower = time
    for _ in range(4):
        path = motion(slower)
        places = np.stack([apply(matrix, points) for matrix in path])
        largest = np.linalg.norm(np.diff(places, axis=0), axis=-1).max(initial=0)
        allowed = SPEED_LIMITS[1] * unit * max(1.0, np.diff(time).max(initial=0))
        if largest <= allowed:
            break
        slower = slower * (0.95 * allowed / largest)
    return path


def steady_motion(
    time: np.ndarray,
    center: np.ndarray,
    velocity: np.ndarray,
    *,
    turn: float = 0.0,
    growth: float = 0.0,
    shear: np.ndarray | float = 0.0,
    tilt: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Motion at constant rates about a center that itself moves: float64 `[T, 3, 3]`.

    Args:
        time: float64 `[T]`.
        center, velocity: (x, y) at time 0, and per unit of time.
        turn, growth: radians from x to y, and the logarithm of the scale, per unit of time.
        shear: `[2, 2]`, what is added to the identity per unit of time.
        tilt: `[2]`, the lower row of the homography per unit of time.
    """
    matrices = np.tile(np.eye(3), (len(time), 1, 1))
    cosine, sine = np.cos(turn * time), np.sin(turn * time)
    rotation = np.stack([cosine, -sine, sine, cosine], -1).reshape(-1, 2, 2)
    sheared = np.eye(2) + time[:, None, None] * np.broadcast_to(shear, (2, 2))
    matrices[:, :2, :2] = np.exp(growth * time)[:, None, None] * rotation @ sheared
    matrices[:, 2, :2] = time[:, None] * np.broadcast_to(tilt, 2)
    back = translation(-center)
    return np.stack([translation(center + velocity * t) @ matrix @ back for t, matrix in zip(time, matrices)])


def translation(shift: np.ndarray) -> np.ndarray:
    """The `[3, 3]` matrix that adds `shift` (x, y)."""
    matrix = np.eye(3)
    matrix[:2, 2] = shift
    return matrix


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (x, y) `[..., 2]` under a homography `[3, 3]`."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return moved[..., :2] / moved[..., 2:]


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bool `[N]`: which points are in a frame of (H, W)."""
    return ((points >= 0) & (points < size[::-1])).all(-1)


def unit_vector(rng: np.random.Generator) -> np.ndarray:
    """A random direction (x, y)."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
