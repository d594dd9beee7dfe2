"""What one person does in a clip, and where."""

import numpy as np

from rendering.people.assets import Assets
from rendering.people.bodies import Body, Skeleton
from rendering.people.motions import JOINTS, UPPER_BODY, Motion
from rendering.people.posing import pose_transforms


# Photographs show more upright people than acrobats, so acrobatics have a smaller weight in the random choice.
RARE_MOTIONS = ("backflip", "cartwheel", "roll", "crawl", "getup_faceup", "getup_facedown", "spinkick", "jump")
RARE_SHARE = 0.35

# A person may keep still except for one of these groups of joints, chosen with these weights.
FREE_GROUPS = (
    ("right_shoulder", "right_elbow"),
    ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow", "left_shoulder", "left_elbow"),
    ("neck",),
    ("chest", "neck"),
    ("right_hip", "right_knee", "right_ankle"),
    ("left_hip", "left_knee", "left_ankle"),
)
FREE_GROUP_ODDS = np.array([4, 4, 3, 2, 2, 1.5, 1.5])

# What may follow a motion of its own in a `RecombinedPerformance`.
LIMBS = (
    ("chest", "neck"),
    ("right_shoulder", "right_elbow"),
    ("left_shoulder", "left_elbow"),
    ("right_hip", "right_knee", "right_ankle"),
    ("left_hip", "left_knee", "left_ankle"),
)
# A limb follows a motion of its own with the first probability, keeps still with the second one, and moves with the
# body otherwise.
OWN_MOTION, KEEPS_STILL = 0.6, 0.15
# Largest standard deviation of the joint offsets of a `RecombinedPerformance`, in radians.
WIDE_OFFSETS = 0.35


class Performance:
    """A random motion, or a mixture of two, with a phase, a place and a direction.

    Attributes:
        name: the name of the motion, or of both, joined by `+`.
        skeleton, body: who moves.
    """

    def __init__(self, rng: np.random.Generator, assets: Assets, body: Body, *, first: bool) -> None:
        """Draw a performance of `body`. The first person of a clip stands at the origin, others stand next to it."""
        self.skeleton, self.body = assets.skeleton, body
        self._motion = _pick_motion(rng, assets)
        self._mirrored = bool(rng.random() < 0.5)
        self._start = rng.uniform(*self._motion.span)
        self._rate = rng.uniform(0.8, 1.25) * (-1 if rng.random() < 0.15 else 1)
        kind = rng.choice(["whole", "mixed", "partial", "still"], p=[0.6, 0.18, 0.18, 0.04])
        self._other = _pick_motion(rng, assets) if kind == "mixed" else None
        self._other_start = rng.uniform(*self._other.span) if self._other else 0.0
        self._root_moves = kind in ("whole", "mixed")
        # Strokes on a photograph often move one arm alone, so some people keep still except for a few joints.
        self._free_joints = np.full(len(JOINTS), self._root_moves)
        if kind == "partial":
            group = FREE_GROUPS[rng.choice(len(FREE_GROUPS), p=FREE_GROUP_ODDS / FREE_GROUP_ODDS.sum())]
            self._free_joints[[JOINTS.index(joint) for joint in group]] = True
        self.name = self._motion.name if self._other is None else f"{self._motion.name}+{self._other.name}"
        self._joint_offsets = _random_joint_offsets(rng, 0.06)
        self._yaw = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else rng.normal(0, 0.7)
        self._place = np.zeros(3)
        if not first:
            side = rng.choice([-1, 1]) * rng.uniform(0.35, 1.5)
            self._place[:2] = side, rng.uniform(-0.7, 2.0)
        self._drift = np.zeros(3)
        if rng.random() < 0.3:
            self._drift[:2] = rng.normal(0, 0.35, 2)
        self._assets = assets

    def transforms(self, gap: float, num_frames: int) -> np.ndarray:
        """Part transforms `[T, P, 3, 4]` in the world (meters, z up, ground at 0), frames `gap` seconds apart."""
        positions, rotations = self._pose(gap * np.arange(num_frames))
        rotations[:, ~self._free_joints] = rotations[:1, ~self._free_joints]
        if not self._root_moves:
            positions[:] = positions[0]
        rotations = _multiply(rotations, self._joint_offsets)
        skeleton = self.skeleton
        transforms = pose_transforms(positions, rotations, self.body.joints, skeleton.parents, skeleton.part_names)
        # In the first frame the person stands at its place, and faces the camera if yaw is 0.
        _, facing = self._motion.at(np.array([self._start]), mirrored=self._mirrored)
        heading = _heading(facing[0, 0])
        c, s = np.cos(self._yaw - heading), np.sin(self._yaw - heading)
        spin = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        pelvis = transforms[0, 0] @ np.append(self.body.joints[0], 1)
        transforms = spin @ transforms
        move = self._place - spin @ (pelvis * [1, 1, 0]) - [0, 0, self._height_of_ground(transforms[0])]
        transforms[..., 3] += move + np.arange(num_frames)[:, None, None] * gap * self._drift
        return transforms

    def _pose(self, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Root positions `[T, 3]` and joint rotations `[T, 13, 4]` so many seconds `[T]` after the first frame."""
        positions, rotations = self._motion.at(self._start + self._rate * seconds, mirrored=self._mirrored)
        if self._other is not None:
            _, arms = self._other.at(self._other_start + self._rate * seconds, mirrored=self._mirrored)
            rotations[:, UPPER_BODY] = arms[:, UPPER_BODY]
        return positions, rotations

    def _height_of_ground(self, first: np.ndarray) -> float:
        """The height on which the person stands, if these are its part transforms `[P, 3, 4]` in the first frame."""
        return _ground_of(self._assets, self._motion, self.body)

    def landmarks(self, transforms: np.ndarray) -> np.ndarray:
        """Points `[T, N, 3]` that span the body: its joints, the top of the head, fingers and toes."""
        part, rest = self.skeleton.part, self.body.rest
        points, parts = list(self.body.joints), list(range(len(self.body.joints)))
        points.append(rest[rest[:, 2].argmax()])
        parts.append(part["head"])
        for name in ("left_hand", "right_hand", "left_toes", "right_toes"):
            own = rest[self.skeleton.part_indices[:, 0] == part[name]]
            points.append(own[np.linalg.norm(own - self.body.joints[part[name]], axis=1).argmax()])
            parts.append(part[name])
        points = np.concatenate([np.array(points), np.ones((len(points), 1))], 1)
        return np.einsum("tnij,nj->tni", transforms[:, parts], points)


class RecombinedPerformance(Performance):
    """A motion whose limbs follow other motions, at times and speeds of their own, in poses that none of them has."""

    def __init__(self, rng: np.random.Generator, assets: Assets, body: Body, *, first: bool) -> None:
        super().__init__(rng, assets, body, first=first)
        self._own: list[tuple[list[int], Motion, float, float, bool]] = []
        names = [self.name]
        for limb in LIMBS:
            joints = [JOINTS.index(name) for name in limb]
            kind = rng.choice(["own", "still", "body"], p=[OWN_MOTION, KEEPS_STILL, 1 - OWN_MOTION - KEEPS_STILL])
            if kind == "own":
                motion = _pick_motion(rng, assets)
                rate = rng.uniform(0.4, 1.5) * (-1 if rng.random() < 0.3 else 1)
                self._own.append((joints, motion, rng.uniform(*motion.span), rate, bool(rng.random() < 0.5)))
                names.append(motion.name)
            self._free_joints[joints] = kind != "still"
        self.name = "+".join(dict.fromkeys(names))
        self._joint_offsets = _random_joint_offsets(rng, rng.uniform(0, WIDE_OFFSETS))

    def _pose(self, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions, rotations = super()._pose(seconds)
        for joints, motion, start, rate, mirrored in self._own:
            _, own = motion.at(start + rate * seconds, mirrored=mirrored)
            rotations[:, joints] = own[:, joints]
        return positions, rotations

    def _height_of_ground(self, first: np.ndarray) -> float:
        return _lowest(self.body, self.skeleton, first[None])


def _pick_motion(rng: np.random.Generator, assets: Assets) -> Motion:
    odds = np.array([RARE_SHARE if motion.name in RARE_MOTIONS else 1.0 for motion in assets.motions])
    return assets.motions[rng.choice(len(odds), p=odds / odds.sum())]


def _random_joint_offsets(rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Constant rotations of all joints, quaternions `[13, 4]`; they make poses that no motion file holds."""
    turn = rng.normal(0, deviation, (len(JOINTS), 3))
    turn[[JOINTS.index(n) for n in ("root", "right_knee", "left_knee", "right_ankle", "left_ankle")]] *= 0.3
    half = np.linalg.norm(turn, axis=1, keepdims=True) / 2
    return np.concatenate([np.cos(half), turn / 2 * np.sinc(half / np.pi)], 1)


def _ground_of(assets: Assets, motion: Motion, body: Body) -> float:
    """The lowest height that this body reaches in this motion, at 12 times."""
    key = (body.index, motion.name)
    if key not in assets.ground:
        skeleton = assets.skeleton
        transforms = pose_transforms(
            *motion.at(np.linspace(*motion.span, 12)), body.joints, skeleton.parents, skeleton.part_names
        )
        assets.ground[key] = _lowest(body, skeleton, transforms)
    return assets.ground[key]


def _lowest(body: Body, skeleton: Skeleton, transforms: np.ndarray) -> float:
    """The lowest height of a body under part transforms `[T, P, 3, 4]`, from every 23rd vertex."""
    few = slice(0, None, 23)
    points = np.concatenate([body.rest[few], np.ones((len(body.rest[few]), 1))], 1)
    heights = np.einsum("tnj,nj->tn", transforms[:, skeleton.part_indices[few, 0], 2], points)
    return float(heights.min())


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Product of quaternions (w, x, y, z) in the last axis."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def _heading(root: np.ndarray) -> float:
    """The direction that a root quaternion faces, as an angle about the vertical."""
    w, x, y, z = root
    return float(np.arctan2(2 * (w * y + x * z), 1 - 2 * (y * y + z * z)))
