"""Human motions in the 44-number text format of DeepMimic, and posing an exported body with them.

The clips are not part of this repository; they come with the `pybullet` wheel (`pip download pybullet`, unpack it,
`pybullet_data/data/motions`). A file is JSON with a list of `Frames`; a frame holds its duration in seconds, the
root's position and 12 rotations relative to the parent joint: quaternions in w, x, y, z order, or one angle for knees
and elbows (Peng et al. 2018, "DeepMimic"). Its axes: x forward, y up, z to the person's right. In the rest pose arms
and legs hang straight down.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation


JOINTS = (
    "root chest neck right_hip right_knee right_ankle right_shoulder right_elbow "
    "left_hip left_knee left_ankle left_shoulder left_elbow"
).split()
HINGES = ("right_knee", "right_elbow", "left_knee", "left_elbow")
UPPER_BODY = tuple(JOINTS.index(name) for name in JOINTS if name.endswith(("shoulder", "elbow", "neck")))

# Rows: the body file's axes (x the person's left, y backward, z up) in terms of the motion file's axes.
TO_BODY_AXES = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

# Hip to ankle of the figure that the motions were fitted to, in metres (legs of its description file).
FIGURE_LEG_LENGTH = 0.831


@dataclass(frozen=True)
class Motion:
    """A motion sampled at `times`.

    Attributes:
        name: The file's name without `humanoid3d_` and suffix.
        times: `[N]` seconds, increasing from 0.
        positions: `[N, 3]` root position in metres, in the motion file's axes.
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

        Times beyond the span run back and forth inside it, so any number of frames can be asked for. `mirrored` swaps
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
        ValueError: If a frame does not have 44 numbers or there are fewer than two frames.
    """
    path = Path(path)
    frames = np.asarray(json.loads(path.read_text())["Frames"], np.float64)
    if frames.ndim != 2 or frames.shape[1] != 44 or len(frames) < 2:
        raise ValueError(
            f"{path} holds frames of shape {frames.shape}, a motion has at least two frames of 44 numbers each: "
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


def pose_transforms(
    positions: np.ndarray, rotations: np.ndarray, joints: np.ndarray, parents: np.ndarray, part_names: list[str]
) -> np.ndarray:
    """Pose a body: rigid transforms of its parts, from rest to the motion's pose.

    The limbs' rest directions differ between Anny's relaxed A-pose and the motions' straight figure; each limb is
    first turned so that it hangs straight down and its hinge axis points sideways, then rotated as the motion says.

    Args:
        positions: `[T, 3]` and `rotations`: `[T, 13, 4]` from `Motion.at`.
        joints: `[P, 3]` rest position of each part's joint, in metres, body axes.
        parents: `[P]` parent part or -1; parents come first.
        part_names: `[P]` names as in `export_bodies.PARTS`.

    Returns:
        `[T, P, 3, 4]` transforms in metres, body axes, z up.
    """
    num_frames = len(positions)
    part = {name: i for i, name in enumerate(part_names)}
    local = Rotation.from_quat(rotations.reshape(-1, 4)[:, [1, 2, 3, 0]]).as_matrix()
    local = TO_BODY_AXES @ local.reshape(num_frames, len(JOINTS), 3, 3) @ TO_BODY_AXES.T
    local = {name: local[:, i] for i, name in enumerate(JOINTS)}

    turn = {"pelvis": local["root"]}
    turn["chest"] = local["root"] @ local["chest"]
    bend = Rotation.from_matrix(local["chest"]).as_rotvec()
    turn["spine_lower"] = local["root"] @ Rotation.from_rotvec(0.33 * bend).as_matrix()
    turn["spine_upper"] = local["root"] @ Rotation.from_rotvec(0.66 * bend).as_matrix()
    nod = Rotation.from_matrix(local["neck"]).as_rotvec()
    turn["neck"] = turn["chest"] @ Rotation.from_rotvec(0.5 * nod).as_matrix()
    turn["head"] = turn["jaw"] = turn["chest"] @ local["neck"]
    for side in ("left_", "right_"):
        shoulder, elbow, wrist = (joints[part[side + name]] for name in ("upper_arm", "forearm", "hand"))
        hinge = np.cross(elbow - shoulder, wrist - elbow)
        arm = turn["chest"] @ local[side + "shoulder"]
        straighten_arm = _straighten(elbow - shoulder, hinge)
        turn[side + "upper_arm"] = arm @ straighten_arm
        forearm = arm @ local[side + "elbow"] @ _straighten(wrist - elbow, hinge)
        turn[side + "forearm"] = turn[side + "hand"] = forearm
        lift = Rotation.from_matrix(local[side + "shoulder"] @ straighten_arm).as_rotvec()
        turn[side + "clavicle"] = turn["chest"] @ Rotation.from_rotvec(0.15 * lift).as_matrix()

        hip, knee, ankle, toes = (joints[part[side + name]] for name in ("thigh", "shin", "foot", "toes"))
        leg = local["root"] @ local[side + "hip"]
        turn[side + "thigh"] = leg @ _straighten(knee - hip, np.array([-1.0, 0.0, 0.0]))
        shin = leg @ local[side + "knee"]
        turn[side + "shin"] = shin @ _straighten(ankle - knee, np.array([-1.0, 0.0, 0.0]))
        outward = np.arctan2((toes - ankle)[0], -(toes - ankle)[1])
        foot = shin @ local[side + "ankle"] @ Rotation.from_rotvec([0, 0, -outward]).as_matrix()
        turn[side + "foot"] = turn[side + "toes"] = foot

    hips = 0.5 * (joints[part["left_thigh"]] + joints[part["right_thigh"]])
    leg_length = np.linalg.norm(joints[part["left_thigh"]] - joints[part["left_shin"]])
    leg_length += np.linalg.norm(joints[part["left_shin"]] - joints[part["left_foot"]])
    root = positions @ TO_BODY_AXES.T * (leg_length / FIGURE_LEG_LENGTH)

    posed = np.zeros((num_frames, len(part_names), 3))
    transforms = np.zeros((num_frames, len(part_names), 3, 4))
    for i, name in enumerate(part_names):
        if parents[i] < 0:
            posed[:, i] = root + turn[name] @ (joints[i] - hips)
        else:
            posed[:, i] = posed[:, parents[i]] + turn[part_names[parents[i]]] @ (joints[i] - joints[parents[i]])
        transforms[:, i, :, :3] = turn[name]
        transforms[:, i, :, 3] = posed[:, i] - turn[name] @ joints[i]
    return transforms


def _straighten(direction: np.ndarray, hinge: np.ndarray) -> np.ndarray:
    """Rotation `[3, 3]` that makes a limb hang straight down with its hinge axis pointing to the person's right."""
    down = direction / np.linalg.norm(direction)
    side = hinge - (hinge @ down) * down
    side /= np.linalg.norm(side)
    rest = np.stack([down, side, np.cross(down, side)], 1)
    straight = np.stack([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], np.cross([0.0, 0.0, -1.0], [-1.0, 0.0, 0.0])], 1)
    return straight @ rest.T
