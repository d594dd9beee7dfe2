"""Human motions in the 44-number text format of DeepMimic (Peng et al. 2018).

The motion files are not part of this repository. They come with the `pybullet` wheel, in `pybullet_data/data/motions`.
A file is JSON with a list of `Frames`. A frame holds its duration in seconds, the position of the root, and 12
rotations relative to the parent joint: quaternions in w, x, y, z order, or one angle for knees and elbows. Axes: x
forward, y up, z to the person's right. In the rest pose arms and legs hang straight down.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


JOINTS = (
    "root chest neck right_hip right_knee right_ankle right_shoulder right_elbow "
    "left_hip left_knee left_ankle left_shoulder left_elbow"
).split()
HINGES = ("right_knee", "right_elbow", "left_knee", "left_elbow")
UPPER_BODY = tuple(JOINTS.index(name) for name in JOINTS if name.endswith(("shoulder", "elbow", "neck")))


@dataclass(frozen=True)
class Motion:
    """A motion sampled at `times`.

    Attributes:
        name: The file's name without `humanoid3d_` and suffix.
        times: `[N]` seconds, increasing from 0.
        positions: `[N, 3]` root position in meters, in the motion file's axes.
        rotations: `[N, 13, 4]` unit quaternions (w, x, y, z) relative to the parent, in the order of `JOINTS`.
        span: Start and end, in seconds, of the part that may be used.
    """

    name: str
    times: np.ndarray
    positions: np.ndarray
    rotations: np.ndarray
    span: tuple[float, float]

    def part(self, start: float, end: float) -> "Motion":
        """Return this motion limited to the fractions `start` to `end` of its duration."""
        duration = self.times[-1]
        return Motion(self.name, self.times, self.positions, self.rotations, (start * duration, end * duration))

    def at(self, times: np.ndarray, *, mirrored: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return root positions `[T, 3]` and joint rotations `[T, 13, 4]` at `times` `[T]` in seconds.

        Times outside the span run back and forth inside it, so a clip may be longer than the motion. `mirrored` swaps
        left and right.
        """
        start, end = self.span
        period = 2 * (end - start)
        phase = np.mod(np.asarray(times, np.float64) - start, period)
        local = start + np.minimum(phase, period - phase)
        right = np.clip(np.searchsorted(self.times, local, side="right"), 1, len(self.times) - 1)
        fraction = (local - self.times[right - 1]) / (self.times[right] - self.times[right - 1])

        positions = self.positions[right - 1] + fraction[:, None] * (self.positions[right] - self.positions[right - 1])
        before, after = self.rotations[right - 1], self.rotations[right]
        after = np.where((before * after).sum(-1, keepdims=True) < 0, -after, after)
        rotations = before + fraction[:, None, None] * (after - before)
        rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
        if mirrored:
            swap = [JOINTS.index(_other_side(name)) for name in JOINTS]
            positions = positions * [1, 1, -1]
            rotations = rotations[:, swap] * [1, -1, -1, 1]
        return positions, rotations


def _other_side(joint: str) -> str:
    if joint.startswith("right_"):
        return joint.replace("right_", "left_")
    return joint.replace("left_", "right_")


def read_motion(path: str | Path) -> Motion:
    """Read one motion file.

    Raises:
        ValueError: if a frame does not have 44 numbers or there are fewer than two frames.
    """
    path = Path(path)
    frames = np.asarray(json.loads(path.read_text())["Frames"], np.float64)
    if frames.ndim != 2 or frames.shape[1] != 44 or len(frames) < 2:
        raise ValueError(
            f"{path} holds frames of shape {frames.shape}; a motion has at least two frames of 44 numbers each: "
            "use the humanoid3d_*.txt files of pybullet_data/data/motions."
        )
    durations = frames[:-1, 0]
    times = np.concatenate([[0.0], np.cumsum(np.where(durations > 0, durations, 1 / 60))])
    rotations = np.zeros((len(frames), len(JOINTS), 4))
    column = 4
    for i, joint in enumerate(JOINTS):
        if joint in HINGES:
            half = frames[:, column] / 2
            rotations[:, i, 0], rotations[:, i, 3] = np.cos(half), np.sin(half)
            column += 1
        else:
            rotations[:, i] = frames[:, column : column + 4]
            column += 4
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    name = path.stem.removeprefix("humanoid3d_")
    return Motion(name, times, frames[:, 1:4], rotations, (0.0, times[-1]))
