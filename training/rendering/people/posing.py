"""Posing an exported body with a motion."""

import numpy as np
from scipy.spatial.transform import Rotation

from rendering.people.motions import JOINTS


# Rows: the body file's axes (x the person's left, y backward, z up) in terms of the motion file's axes.
TO_BODY_AXES = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

# Hip to ankle of the figure that the motions were fitted to, in meters (legs of its description file).
FIGURE_LEG_LENGTH = 0.831


def pose_transforms(
    positions: np.ndarray, rotations: np.ndarray, joints: np.ndarray, parents: np.ndarray, part_names: list[str]
) -> np.ndarray:
    """Pose a body: rigid transforms of its parts, from rest to the pose of the motion.

    Args:
        positions: `[T, 3]` and `rotations`: `[T, 13, 4]` from `Motion.at`.
        joints: `[P, 3]` rest position of each part's joint, in meters, body axes.
        parents: `[P]` parent part or -1; parents come first.
        part_names: `[P]` names as in `export_bodies.PARTS`.

    Returns:
        `[T, P, 3, 4]` transforms in meters, body axes, z up.
    """
    num_frames = len(positions)
    part = {name: i for i, name in enumerate(part_names)}
    local = Rotation.from_quat(rotations.reshape(-1, 4)[:, [1, 2, 3, 0]]).as_matrix()
    local = TO_BODY_AXES @ local.reshape(num_frames, len(JOINTS), 3, 3) @ TO_BODY_AXES.T
    local = {name: local[:, i] for i, name in enumerate(JOINTS)}
    turn = _torso_rotations(local)
    for side in ("left_", "right_"):
        turn |= _arm_rotations(side, local, turn["chest"], joints, part)
        turn |= _leg_rotations(side, local, joints, part)

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


def _torso_rotations(local: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rotations `[T, 3, 3]` of pelvis, spine, chest, neck, head and jaw; `local` has those of the motion's joints."""
    chest = local["root"] @ local["chest"]
    bend = Rotation.from_matrix(local["chest"]).as_rotvec()
    nod = Rotation.from_matrix(local["neck"]).as_rotvec()
    head = chest @ local["neck"]
    return {
        "pelvis": local["root"],
        "spine_lower": local["root"] @ Rotation.from_rotvec(0.33 * bend).as_matrix(),
        "spine_upper": local["root"] @ Rotation.from_rotvec(0.66 * bend).as_matrix(),
        "chest": chest,
        "neck": chest @ Rotation.from_rotvec(0.5 * nod).as_matrix(),
        "head": head,
        "jaw": head,
    }


def _arm_rotations(
    side: str, local: dict[str, np.ndarray], chest: np.ndarray, joints: np.ndarray, part: dict[str, int]
) -> dict[str, np.ndarray]:
    """Rotations `[T, 3, 3]` of clavicle, upper arm, forearm and hand of the `left_` or `right_` side.

    Anny's arms are in a relaxed A-pose at rest, the motions' arms hang straight down. So each limb is first
    straightened, then rotated by the motion.
    """
    shoulder, elbow, wrist = (joints[part[side + name]] for name in ("upper_arm", "forearm", "hand"))
    hinge = np.cross(elbow - shoulder, wrist - elbow)
    arm = chest @ local[side + "shoulder"]
    straighten_arm = _straighten(elbow - shoulder, hinge)
    forearm = arm @ local[side + "elbow"] @ _straighten(wrist - elbow, hinge)
    lift = Rotation.from_matrix(local[side + "shoulder"] @ straighten_arm).as_rotvec()
    return {
        side + "upper_arm": arm @ straighten_arm,
        side + "forearm": forearm,
        side + "hand": forearm,
        side + "clavicle": chest @ Rotation.from_rotvec(0.15 * lift).as_matrix(),
    }


def _leg_rotations(
    side: str, local: dict[str, np.ndarray], joints: np.ndarray, part: dict[str, int]
) -> dict[str, np.ndarray]:
    """Rotations `[T, 3, 3]` of thigh, shin, foot and toes, straightened first like the arms."""
    hip, knee, ankle, toes = (joints[part[side + name]] for name in ("thigh", "shin", "foot", "toes"))
    leg = local["root"] @ local[side + "hip"]
    shin = leg @ local[side + "knee"]
    outward = np.arctan2((toes - ankle)[0], -(toes - ankle)[1])
    foot = shin @ local[side + "ankle"] @ Rotation.from_rotvec([0, 0, -outward]).as_matrix()
    return {
        side + "thigh": leg @ _straighten(knee - hip, np.array([-1.0, 0.0, 0.0])),
        side + "shin": shin @ _straighten(ankle - knee, np.array([-1.0, 0.0, 0.0])),
        side + "foot": foot,
        side + "toes": foot,
    }


def _straighten(direction: np.ndarray, hinge: np.ndarray) -> np.ndarray:
    """Rotation `[3, 3]` that turns a limb straight down and its hinge axis to the person's right."""
    down = direction / np.linalg.norm(direction)
    side = hinge - (hinge @ down) * down
    side /= np.linalg.norm(side)
    rest = np.stack([down, side, np.cross(down, side)], 1)
    straight = np.stack([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], np.cross([0.0, 0.0, -1.0], [-1.0, 0.0, 0.0])], 1)
    return straight @ rest.T
