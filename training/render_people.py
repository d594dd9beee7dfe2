#!/usr/bin/env python
"""Render short clips of moving people over photographs, with exact flow, occlusion, masks and keypoints.

    pip download --no-deps --only-binary :all: --python-version 3.11 pybullet==3.2.7
    python -m zipfile -e pybullet-*.whl pybullet
    python training/render_people.py --output_dir clips/people --split train --num_clips 2000 --seed 0 \\
        --motions_dir pybullet/pybullet_data/data/motions --photographs_dir photographs

Bodies, motions and photographs are divided into train, validation and test. Test motions (`dance_b`, `spinkick`,
`getup_facedown`) are never used elsewhere; validation uses the last quarter of five training motions
(`VALIDATION_MOTIONS`), of which training sees the first 70 % only. A clip depends on nothing but its seed, its split,
its size and time gap and the files given.

The time between two frames is drawn for each clip, from 1/30 to 1/6 s, and shortened where people move too far for the
picture. `--time_gap` sets it for all clips: the first frames stay as they are, and the rest follows that much later.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from rendering.bodies import Body, Skeleton, read_bodies
from rendering.clip_shards import SPLITS, clip_parser, parse_clip_arguments, write_shards
from rendering.compositing import compose, frame_size, inverse_affine, list_photographs, motion_factor
from rendering.humanoid_motion import JOINTS, UPPER_BODY, Motion, pose_transforms, read_motion
from rendering.rasterizer import (
    draw_background,
    flow_and_occlusion,
    project_all,
    rasterize,
    to_pixels,
    vertex_normals,
)
from rendering.wardrobe import Actor, dress, shade
from scipy.ndimage import gaussian_filter

from mcdiff_pipeline.dataset import Clip


TEST_MOTIONS = ("dance_b", "spinkick", "getup_facedown")
VALIDATION_MOTIONS = ("punch", "kick", "dance_a", "jump", "getup_faceup")
BODIES_FILE = Path(__file__).parent / "data" / "bodies.npz"

# How far, in metres, the surface in front of a COCO keypoint (which lies inside the body) may be for the keypoint to
# count as visible: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
KEYPOINT_DEPTH = np.array(
    [0.03, 0.03, 0.03, 0.05, 0.05, 0.13, 0.13, 0.09, 0.09, 0.07, 0.07, 0.2, 0.2, 0.12, 0.12, 0.1, 0.1]
)

# A surface of the next frame this much nearer than a point hides it (metres).
OCCLUSION_TOLERANCE = 0.025

# Acrobatics are drawn this much less often than upright motions, which photographs show far more of.
RARE_MOTIONS = ("backflip", "cartwheel", "roll", "crawl", "getup_faceup", "getup_facedown", "spinkick", "jump")
RARE_SHARE = 0.35


@dataclass
class Assets:
    """Everything that clips of one split are made of."""

    skeleton: Skeleton
    bodies: list[Body]
    motions: list[Motion]
    photographs: list[Path]
    ground: dict[tuple[int, str], float] = field(default_factory=dict)


def load_assets(
    split: str, *, motions_dir: str | Path, photographs_dir: str | Path, bodies: str | Path = BODIES_FILE
) -> Assets:
    """Read what the clips of `split` may use.

    Args:
        split: `train`, `validation` or `test`.
        motions_dir: folder of motion files in the 44-number format, `humanoid3d_*.txt`.
        photographs_dir: folder with one subfolder of JPEG or PNG photographs per split.
        bodies: file made by `export_bodies.py`.

    Raises:
        ValueError: If the split is unknown.
        FileNotFoundError: If there is no motion or no photograph for it.
    """
    if split not in SPLITS:
        raise ValueError(f"Split {split!r} is unknown, it must be one of {', '.join(SPLITS)}.")
    motions = []
    for path in sorted(Path(motions_dir).glob("humanoid3d_*.txt")):
        motion = read_motion(path)
        if (motion.name in TEST_MOTIONS) != (split == "test"):
            continue
        if motion.name in VALIDATION_MOTIONS:
            motions.append(motion.part(0.75, 1) if split == "validation" else motion.part(0, 0.7))
        elif split != "validation":
            motions.append(motion)
    if not motions:
        raise FileNotFoundError(
            f"{motions_dir} holds no motion for the split {split!r}: unpack the wheel that `pip download pybullet` "
            "fetches and give its folder pybullet_data/data/motions."
        )
    photographs = list_photographs(photographs_dir, split)
    skeleton, people = read_bodies(bodies, split)
    return Assets(skeleton, people, motions, photographs)


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
        seed: number, or numbers, that everything random follows from.
        split: name of the split the assets belong to; part of the seed and of the clip's key.
        assets: from `load_assets(split, ...)`.
        resolution: pixels; one number for height and width, or (height, width).
        num_frames: number of frames, at least 1.
        time_gap: seconds between two frames; None for a random time that keeps quick people in reach. All gaps start
            from the same first frame.

    Returns:
        A clip, the same bit for bit whenever the arguments are the same.

    Raises:
        ValueError: If the resolution or the time gap is not possible.
    """
    size = height, width = frame_size(resolution)
    factor = motion_factor(time_gap, num_frames)
    numbers = [seed] if isinstance(seed, int | np.integer) else list(seed)
    rng = np.random.default_rng([*numbers, SPLITS.index(split)])
    photograph = _read_photograph(str(assets.photographs[rng.integers(len(assets.photographs))]))
    cloth = _read_photograph(str(assets.photographs[rng.integers(len(assets.photographs))]))

    count = rng.choice([1, 2, 3], p=[0.65, 0.25, 0.1])
    chosen = rng.choice(len(assets.bodies), count, replace=len(assets.bodies) < count)
    actors = [dress(rng, assets.bodies[i], assets.skeleton, cloth) for i in chosen]
    acts = [_Act(rng, assets, assets.bodies[i], first=n == 0) for n, i in enumerate(chosen)]
    gap = float(np.exp(rng.uniform(np.log(1 / 30), np.log(1 / 6))))

    camera, focal, center = _aim_camera(rng, acts, gap, num_frames, size)
    pictures, drift = _move_background(rng, num_frames, size, factor)
    follow = drift and rng.random() < 0.6  # the camera moves, or only what is behind the people does
    identity = np.tile(np.eye(3)[:2], (num_frames, 1, 1))
    views = np.zeros((num_frames, 9))
    views[:, 0], views[:, 1:3] = focal, center
    views[:, 3:] = (pictures if follow else identity).reshape(num_frames, 6)

    if time_gap is None:
        # People in quick motion slow down until the bulk of a body moves by at most a twelfth of the picture.
        speed = max(_displacement(act, gap, num_frames, camera, views) for act in acts)
        gap *= min(1.0, 0.085 * min(size) / max(speed, 1e-6))
    else:
        gap = float(time_gap)
    transforms = [act.transforms(gap, num_frames) for act in acts]

    scene = _Scene(actors, transforms, camera, views, size)
    photo, to_photo = _crop(rng, photograph, size)
    light, sun = _random_light(rng, camera, photo)
    shadow_strength = rng.uniform(0.2, 0.55) if rng.random() < 0.85 else 0.0
    blur = rng.uniform(0.2, 0.65) if rng.random() < 0.25 else 0.0
    noise = rng.uniform(0.5, 2.5) if rng.random() < 0.4 else 0.0

    frames = np.zeros((num_frames, *size, 3), np.uint8)
    flow = np.zeros((num_frames - 1, 2, *size), np.float32)
    occlusion = np.zeros((num_frames - 1, *size), bool)
    masks = np.zeros((num_frames, *size), np.uint8)
    keypoints = np.zeros((num_frames, count, 17, 3), np.float32)
    for t in range(num_frames):
        samples = np.empty((2 * height + 1, 2 * width + 1, 3), np.float32)
        background = compose(to_photo, inverse_affine(pictures[t]))
        shade_map = scene.shadow(t, sun) if shadow_strength else np.zeros((2, 2), np.float32)
        draw_background(photo, background, shade_map, shadow_strength, samples)
        scene.shade(t, samples, light)
        pixels = np.empty((*size, 3), np.float32)
        to_pixels(samples, pixels)
        if blur:
            pixels = gaussian_filter(pixels, (blur, blur, 0))
        if noise:
            pixels += noise * rng.standard_normal(pixels.shape, np.float32)
        frames[t] = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
        keypoints[t] = scene.keypoints(t)
        if t + 1 < num_frames:
            motion = compose(pictures[t + 1], inverse_affine(pictures[t]))
            scene.flow(t, motion, flow[t], occlusion[t], masks[t])
        else:
            centers = scene.drawn(t)[1][1::2, 1::2]
            masks[t] = np.where(centers >= 0, scene.owner[np.maximum(centers, 0)], 0)

    meta = {
        "source": "people",
        "seed": [int(n) for n in numbers],
        "split": split,
        "seconds_per_frame": gap,
        "motions": [act.name for act in acts],
        "bodies": [assets.bodies[i].index for i in chosen],
        "moving_camera": bool(follow),
        "moving_background": bool(drift),
    }
    key = "people-" + split + "-" + "-".join(f"{int(n):07d}" for n in numbers)
    return Clip(key, frames, flow, occlusion, masks, keypoints, meta)


class _Act:
    """What one person does, and where: a motion or a mixture of two, with its phase, place and direction."""

    def __init__(self, rng: np.random.Generator, assets: Assets, body: Body, *, first: bool) -> None:
        self.skeleton, self.body = assets.skeleton, body
        self.motion = _pick_motion(rng, assets)
        self.mirrored = bool(rng.random() < 0.5)
        self.start = rng.uniform(*self.motion.span)
        self.rate = rng.uniform(0.8, 1.25) * (-1 if rng.random() < 0.15 else 1)
        # A photograph is often moved by one arm alone: let some people hold still but for a few joints.
        self.free = np.ones(len(JOINTS), bool)
        self.root_free = True
        kind = rng.choice(["whole", "mixed", "partial", "still"], p=[0.6, 0.18, 0.18, 0.04])
        self.other = _pick_motion(rng, assets) if kind == "mixed" else None
        self.other_start = rng.uniform(*self.other.span) if self.other else 0.0
        if kind in ("partial", "still"):
            self.root_free = False
            self.free[:] = False
            if kind == "partial":
                groups = (
                    ("right_shoulder", "right_elbow"),
                    ("left_shoulder", "left_elbow"),
                    ("right_shoulder", "right_elbow", "left_shoulder", "left_elbow"),
                    ("neck",),
                    ("chest", "neck"),
                    ("right_hip", "right_knee", "right_ankle"),
                    ("left_hip", "left_knee", "left_ankle"),
                )
                odds = np.array([4, 4, 3, 2, 2, 1.5, 1.5])
                for joint in groups[rng.choice(len(groups), p=odds / odds.sum())]:
                    self.free[JOINTS.index(joint)] = True
        self.name = self.motion.name if self.other is None else f"{self.motion.name}+{self.other.name}"
        # Small constant turns of every joint make poses that no motion file holds.
        turn = rng.normal(0, 0.06, (len(JOINTS), 3))
        turn[[JOINTS.index(n) for n in ("root", "right_knee", "left_knee", "right_ankle", "left_ankle")]] *= 0.3
        half = np.linalg.norm(turn, axis=1, keepdims=True) / 2
        self.offset = np.concatenate([np.cos(half), turn / 2 * np.sinc(half / np.pi)], 1)
        self.yaw = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else rng.normal(0, 0.7)
        self.place = np.zeros(3)
        if not first:
            side = rng.choice([-1, 1]) * rng.uniform(0.35, 1.5)
            self.place[:2] = side, rng.uniform(-0.7, 2.0)
        self.drift = np.zeros(3)
        if rng.random() < 0.3:
            self.drift[:2] = rng.normal(0, 0.35, 2)
        self.ground = _ground_of(assets, self.motion, body)

    def transforms(self, gap: float, num_frames: int) -> np.ndarray:
        """Part transforms `[T, P, 3, 4]` in the world (metres, z up, ground at 0), frames `gap` seconds apart."""
        times = self.start + self.rate * gap * np.arange(num_frames)
        positions, rotations = self.motion.at(times, mirrored=self.mirrored)
        if self.other is not None:
            _, arms = self.other.at(self.other_start + self.rate * gap * np.arange(num_frames), mirrored=self.mirrored)
            rotations[:, UPPER_BODY] = arms[:, UPPER_BODY]
        rotations[:, ~self.free] = rotations[:1, ~self.free]
        if not self.root_free:
            positions[:] = positions[0]
        rotations = _multiply(rotations, self.offset)
        transforms = pose_transforms(
            positions, rotations, self.body.joints, self.skeleton.parents, self.skeleton.part_names
        )
        # The first frame stands at the person's place and faces the camera when yaw is 0.
        _, facing = self.motion.at(times[:1], mirrored=self.mirrored)
        heading = _heading(facing[0, 0])
        c, s = np.cos(self.yaw - heading), np.sin(self.yaw - heading)
        spin = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        pelvis = transforms[0, 0] @ np.append(self.body.joints[0], 1)
        transforms = spin @ transforms
        move = self.place - spin @ (pelvis * [1, 1, 0]) - [0, 0, self.ground]
        transforms[..., 3] += move + np.arange(num_frames)[:, None, None] * gap * self.drift
        return transforms

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


def _pick_motion(rng: np.random.Generator, assets: Assets) -> Motion:
    odds = np.array([RARE_SHARE if motion.name in RARE_MOTIONS else 1.0 for motion in assets.motions])
    return assets.motions[rng.choice(len(odds), p=odds / odds.sum())]


def _ground_of(assets: Assets, motion: Motion, body: Body) -> float:
    """Height of the lowest point that this body reaches in this motion."""
    key = (body.index, motion.name)
    if key not in assets.ground:
        skeleton = assets.skeleton
        transforms = pose_transforms(
            *motion.at(np.linspace(*motion.span, 12)), body.joints, skeleton.parents, skeleton.part_names
        )
        few = slice(0, None, 23)
        points = np.concatenate([body.rest[few], np.ones((len(body.rest[few]), 1))], 1)
        heights = np.einsum("tnj,nj->tn", transforms[:, skeleton.part_indices[few, 0], 2], points)
        assets.ground[key] = float(heights.min())
    return assets.ground[key]


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
    """Direction that a root quaternion faces, as an angle about the vertical."""
    w, x, y, z = root
    return float(np.arctan2(2 * (w * y + x * z), 1 - 2 * (y * y + z * z)))


def _aim_camera(rng, acts, gap, num_frames, size):
    """Place the camera: returns world-to-camera `[3, 4]`, focal length and principal point in pixels."""
    height, width = size
    points = [act.landmarks(act.transforms(gap, num_frames)) for act in acts]
    subject = points[0] if len(points) == 1 or rng.random() < 0.5 else np.concatenate(points, 1)
    middle = subject[num_frames // 2]
    framing = rng.choice(["far", "full", "large", "upper"], p=[0.1, 0.38, 0.2, 0.32])
    distance = rng.uniform(1.5, 4) if framing == "upper" else rng.uniform(2.2, 6)
    elevation = np.deg2rad(rng.normal(6, 7))
    target = 0.5 * (middle.min(0) + middle.max(0))
    eye = target + distance * np.array([0, -np.cos(elevation), np.sin(elevation)])
    eye[2] = max(eye[2], 0.25)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.array([1.0, 0, 0])
    rotation = np.stack([right, np.cross(forward, right), forward])
    camera = np.concatenate([rotation, (-rotation @ eye)[:, None]], 1)

    seen = middle @ camera[:, :3].T + camera[:, 3]
    seen = seen[seen[:, 2] > 0.3]
    flat = seen[:, :2] / seen[:, 2:]
    low, high = flat.min(0), flat.max(0)
    # People lying down or crouching fill the picture's width, and are not blown up to its height.
    extent = max(high[1] - low[1], 0.8 * (high[0] - low[0]) * (height / width), 0.75 / distance)
    share = {"far": (0.2, 0.38), "full": (0.38, 0.65), "large": (0.65, 0.98), "upper": (1.1, 2.3)}[framing]
    share = rng.uniform(*share)
    focal = share * height / extent
    aim = 0.5 * (low + high)
    picture = np.array([width, height])
    spread = np.maximum(0.5 - 0.5 * focal * (high - low) / picture, 0.12)
    wanted = picture * (0.5 + rng.uniform(-1, 1, 2) * np.minimum(spread, 0.3))
    if framing == "upper":
        # Somewhere from the chest to the head comes to the middle of the picture.
        body = acts[0].body
        names = acts[0].skeleton.part
        first = points[0][num_frames // 2] @ camera[:, :3].T + camera[:, 3]
        chest, top = first[names["chest"]], first[len(body.joints)]
        mix = chest + rng.uniform(-0.2, 0.9) * (top - chest)
        aim = mix[:2] / max(mix[2], 0.3)
        wanted = picture * np.array([rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.6)])
    return camera, focal, wanted - focal * aim


def _displacement(act, gap, num_frames, camera, views) -> float:
    """Pixels a frame that the quicker tenth of a body's landmarks moves."""
    if num_frames < 2:
        return 0.0
    points = act.landmarks(act.transforms(gap, num_frames)) @ camera[:, :3].T + camera[:, 3]
    flat = views[:, None, :1] * points[..., :2] / np.maximum(points[..., 2:], 0.3)
    return float(np.quantile(np.linalg.norm(np.diff(flat, axis=0), axis=-1), 0.9))


def _move_background(rng, num_frames, size, factor):
    """Affine maps `[T, 2, 3]` from the first frame's picture to each frame's, and whether they move at all.

    `factor` multiplies the speeds; the shape of the way stays.
    """
    pictures = np.tile(np.eye(3)[:2], (num_frames, 1, 1))
    if rng.random() < 0.6:
        return pictures, False
    kinds = rng.random(3) < [0.75, 0.45, 0.3]
    if not kinds.any():
        kinds[rng.integers(3)] = True
    scale = min(size) / 128
    pan = np.zeros(2)
    if kinds[0]:
        angle, length = rng.uniform(0, 2 * np.pi), scale * np.exp(rng.uniform(np.log(0.3), np.log(5)))
        pan = length * np.array([np.cos(angle), np.sin(angle)])
    zoom = rng.normal(0, 0.015) if kinds[1] else 0.0
    roll = np.deg2rad(rng.normal(0, 0.8)) if kinds[2] else 0.0
    bend = rng.normal(0, 0.15 * np.linalg.norm(pan) + 1e-9, 2)
    pivot = rng.uniform(0.3, 0.7, 2) * size[::-1]
    zoom, roll, pan, bend = factor * zoom, factor * roll, factor * pan, factor * bend
    for t in range(num_frames):
        c, s = np.exp(zoom * t) * np.cos(roll * t), np.exp(zoom * t) * np.sin(roll * t)
        linear = np.array([[c, -s], [s, c]])
        pictures[t, :, :2] = linear
        pictures[t, :, 2] = pivot - linear @ pivot + pan * t + 0.5 * bend * t * t
    return pictures, True


@functools.lru_cache(maxsize=512)
def _read_photograph(path: str) -> np.ndarray:
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail((1024, 1024), Image.Resampling.LANCZOS)
        return np.asarray(image)


def _crop(rng, photograph, size):
    """Choose a part of a photograph: returns it at twice the resolution, float32, and the map from picture to it."""
    height, width = photograph.shape[:2]
    down, across = size[0] / min(size), size[1] / min(size)
    side = min(height / down, width / across) * rng.uniform(0.55, 1.0)  # the short one
    left, top = rng.uniform(0, width - side * across), rng.uniform(0, height - side * down)
    # Moving pictures look a little beyond the crop; beyond the photograph it is mirrored.
    margin = 0.25 * side
    box = [
        max(0, left - margin),
        max(0, top - margin),
        min(width, left + side * across + margin),
        min(height, top + side * down + margin),
    ]
    box = [int(round(edge)) for edge in box]
    scale = 2 * min(size) / side
    size = (max(2, round((box[2] - box[0]) * scale)), max(2, round((box[3] - box[1]) * scale)))
    image = Image.fromarray(photograph).resize(size, Image.Resampling.BICUBIC, box=box)
    to_photo = np.array([[2.0, 0.0, (left - box[0]) * scale], [0.0, 2.0, (top - box[1]) * scale]])
    pixels = np.asarray(image, np.float32)
    if rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    return pixels, to_photo


def _random_light(rng, camera, photo):
    """Light for `wardrobe.shade` `[12]`, and the direction towards it in the world `[3]`."""
    azimuth, height = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(20, 75))
    sun = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    warmth = rng.normal(0, 0.06)
    # Darker photographs get darker people.
    exposure = np.clip(1.0 + 0.5 * (photo.mean() / 255 - 0.5) + rng.normal(0, 0.1), 0.6, 1.25)
    direct = rng.uniform(0.25, 0.75)
    cast = photo.mean((0, 1)) / max(photo.mean(), 1)
    color = exposure * direct * np.array([1 + warmth, 1, 1 - warmth])
    sky = exposure * (1.15 - 0.75 * direct) * (0.7 + 0.3 * cast)
    # Seen from the front: a light from behind leaves faces in the dark.
    to_camera = camera[:, :3]
    if (to_camera @ sun)[2] > 0.3 and rng.random() < 0.7:
        sun[:2] *= -1
    return np.concatenate([to_camera @ sun, color, sky, to_camera @ [0, 0, 1]]), sun


class _Scene:
    """The people of a clip in camera space, drawn one frame at a time."""

    def __init__(
        self,
        actors: list[Actor],
        transforms: list[np.ndarray],
        camera: np.ndarray,
        views: np.ndarray,
        size: tuple[int, int],
    ) -> None:
        self.size = size
        offsets = np.cumsum([0] + [len(actor.rest) for actor in actors])
        self.actors, self.transforms, self.camera, self.views, self.offsets = (
            actors,
            transforms,
            camera,
            views,
            offsets,
        )
        self.triangles = np.concatenate([a.triangles + o for a, o in zip(actors, offsets)]).astype(np.int32)
        self.kinds = np.concatenate([a.kinds for a in actors])
        self.two_sided = np.concatenate([a.two_sided for a in actors])
        self.owner = np.concatenate([np.full(len(a.triangles), i + 1, np.uint8) for i, a in enumerate(actors)])
        self.paint = np.concatenate([a.paint for a in actors])
        self.measures = np.stack([a.measures for a in actors])
        self.materials = np.stack([a.materials for a in actors])
        self.textures = np.stack([a.textures for a in actors])
        self._world: dict[int, np.ndarray] = {}
        self._screen: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def world(self, t: int) -> np.ndarray:
        if t not in self._world:
            posed = [a.posed(m[t]) for a, m in zip(self.actors, self.transforms)]
            self._world[t] = np.concatenate(posed)
        return self._world[t]

    def screen(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Vertices in camera space `[V, 3]` and projected to samples `[V, 3]`."""
        if t not in self._screen:
            camera = self.world(t) @ self.camera[:, :3].T.astype(np.float32) + self.camera[:, 3].astype(np.float32)
            screen = np.empty(camera.shape, np.float64)
            project_all(camera, self.views[t], screen)
            self._screen[t] = camera, screen
        return self._screen[t]

    def drawn(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Nearness and triangle of every sample."""
        if t not in self._drawn:
            shape = tuple(2 * side + 1 for side in self.size)
            nearness, triangle_of = np.zeros(shape), np.full(shape, -1, np.int32)
            rasterize(self.screen(t)[1], self.triangles, self.two_sided, nearness, triangle_of)
            self._drawn[t] = nearness, triangle_of
        return self._drawn[t]

    def shade(self, t: int, samples: np.ndarray, light: np.ndarray) -> None:
        camera, screen = self.screen(t)
        normals = vertex_normals(camera, self.triangles)
        shade(
            samples,
            screen,
            self.triangles,
            self.kinds,
            self.two_sided,
            self.owner,
            self.drawn(t)[1],
            self.paint,
            normals,
            self.measures,
            self.materials,
            self.textures,
            light,
        )

    def shadow(self, t: int, sun: np.ndarray) -> np.ndarray:
        """Soft shadow of the people on the ground, `[H // 2, W // 2]` from 0 to 1, stretched over the picture."""
        (height, width), rows, columns = self.size, self.size[0] // 2, self.size[1] // 2
        points = self.world(t)[::3]
        heights = np.maximum(points[:, 2:], 0)
        # Long shadows look odd on photographs without a plane: they are cut to 0.8 times the height.
        slope = sun[:2] / sun[2]
        slope *= min(1.0, 0.8 / (np.linalg.norm(slope) + 1e-9))
        ground = np.concatenate([points[:, :2] - slope * heights, np.zeros_like(heights)], 1)
        camera = ground @ self.camera[:, :3].T + self.camera[:, 3]
        screen = np.empty(camera.shape)
        project_all(camera, self.views[t], screen)
        cells = np.floor(screen[:, :2] * [columns / (2.0 * width), rows / (2.0 * height)]).astype(int)
        inside = (cells >= 0).all(1) & (cells < [columns, rows]).all(1) & (screen[:, 2] > 0)
        # The nearer to the ground, the sharper and darker.
        shadow = np.zeros((rows, columns), np.float32)
        for low, high, softness in ((0.0, 0.25, 0.012), (0.25, 1.0, 0.02), (1.0, 9.0, 0.035)):
            layer = np.zeros((rows, columns), np.float32)
            chosen = inside & (heights[:, 0] >= low) & (heights[:, 0] < high)
            layer[cells[chosen, 1], cells[chosen, 0]] = 1
            shadow = np.maximum(shadow, np.minimum(1.5 * gaussian_filter(layer, softness * min(rows, columns)), 1.0))
        return shadow

    def flow(self, t: int, background: np.ndarray, flow: np.ndarray, occlusion: np.ndarray, mask: np.ndarray) -> None:
        """Fill in flow, occlusion and mask of frame `t`; the next frame is drawn for it."""
        next_camera, next_screen = self.screen(t + 1)
        next_nearness, next_triangle_of = self.drawn(t + 1)
        flow_and_occlusion(
            self.screen(t)[1],
            self.triangles,
            self.two_sided,
            self.owner,
            self.drawn(t)[1],
            next_camera,
            next_screen,
            self.views[t + 1],
            next_nearness,
            next_triangle_of,
            background,
            flow,
            occlusion,
            mask,
            OCCLUSION_TOLERANCE,
        )

    def keypoints(self, t: int) -> np.ndarray:
        """COCO keypoints `[people, 17, 3]`: x, y in pixels; 0 out of the picture, 1 hidden, 2 visible."""
        camera, _ = self.screen(t)
        nearness, triangle_of = self.drawn(t)
        result = np.zeros((len(self.actors), 17, 3), np.float32)
        for i, actor in enumerate(self.actors):
            own = camera[self.offsets[i] : self.offsets[i + 1]]
            points = (own[actor.keypoint_vertices] * actor.keypoint_weights[..., None]).sum(1).astype(np.float64)
            screen = np.empty(points.shape)
            project_all(points, self.views[t], screen)
            for k in range(17):
                x, y = screen[k, :2] / 2
                if screen[k, 2] == 0 or not (0 <= x < self.size[1] and 0 <= y < self.size[0]):
                    continue
                row, column = 2 * int(y) + 1, 2 * int(x) + 1
                seen = triangle_of[row, column]
                near = nearness[row, column]
                visible = seen < 0 or (
                    self.owner[seen] == i + 1 and points[k, 2] - 1 / max(near, 1e-9) < KEYPOINT_DEPTH[k]
                )
                result[i, k] = x, y, 2 if visible else 1
        return result


def main(arguments: list[str] | None = None) -> None:
    parser = clip_parser(__doc__, default_gap="default: drawn for each clip, from 1/30 to 1/6, less for quick people")
    parser.add_argument("--motions_dir", type=Path, required=True, help="Folder of humanoid3d_*.txt motion files.")
    parser.add_argument("--bodies", type=Path, default=BODIES_FILE, help="File made by export_bodies.py.")
    args = parse_clip_arguments(parser, arguments)
    sources = {"motions_dir": args.motions_dir, "photographs_dir": args.photographs_dir, "bodies": args.bodies}
    write_shards(args, render_clip, load_assets, sources)


if __name__ == "__main__":
    main()
