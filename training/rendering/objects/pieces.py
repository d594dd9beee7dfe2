"""Random objects made of rigid, hinged or soft pieces, and their motion through a clip."""

from dataclasses import dataclass

import numpy as np

from rendering.affine import compose, similarity
from rendering.objects.assets import Assets
from rendering.objects.background import smooth_noise
from rendering.objects.joints import split_at_joints
from rendering.objects.textures import TEXTURE_DENSITY, premultiplied, random_texture


# Control points of each of the two cubic B-splines that bend a soft object.
CONTROL_POINTS = 7


@dataclass
class Piece:
    """A rigid or soft part of an object: a texture and its motion through the clip.

    Args:
        texture: float32 `[h, w, 4]`, premultiplied RGBA with a transparent rim; colors 0 to 255, alpha 0 to 1.
        matrices: float64 `[T, 2, 3]`, from points of the bent texture to points of frame t.
        controls: float64 `[T, 2, CONTROL_POINTS]`, two shears in texture pixels. The first moves each point along x by
            a spline of y, the second along y by a spline of the new x. Shears have an exact inverse, so flow is exact.
        object_number: number of the object that it is a part of, from 1.
    """

    texture: np.ndarray
    matrices: np.ndarray
    controls: np.ndarray
    object_number: int


@dataclass
class ObjectPath:
    """How an object moves in the world, before the camera moves.

    Args:
        position: float64 `[T, 2]`, its center (x, y) in pixels.
        turn: float64 `[T]`, its rotation in radians.
        growth: float64 `[T]`, the logarithm of its scale.
    """

    position: np.ndarray
    turn: np.ndarray
    growth: np.ndarray


def random_object(
    rng: np.random.Generator,
    assets: Assets,
    camera: np.ndarray,
    *,
    size: tuple[int, int],
    factor: float,
    object_number: int,
) -> list[Piece]:
    """The pieces of one random object on a random path through the clip, in the order of drawing.

    Args:
        camera: float64 `[T, 2, 3]`, the maps from points of frame 0 to frame t that follow the background.
        size: (H, W) of the frames.
        factor: factor on all speeds (see `motion_factor`).
        object_number: from 1; the first object always moves.
    """
    num_frames, short = len(camera), min(size)
    length = short * np.exp(rng.uniform(np.log(0.25), np.log(0.8)))  # pixels along the longer side
    image, angle = random_texture(rng, assets, length)
    time = factor * np.arange(num_frames, dtype=np.float64)
    still = object_number > 1 and rng.random() < 0.2
    path = random_path(rng, time, size=size, factor=factor, still=still)
    fixed_to_world = rng.random() < 0.6  # otherwise only the background moves with the camera

    textures, joints = [image], [np.zeros(2)]
    kind = rng.choice(["rigid", "hinged", "soft"], p=[0.35, 0.35, 0.3])
    if kind == "hinged":
        textures, joints = split_at_joints(rng, image)
    controls = np.zeros((num_frames, 2, CONTROL_POINTS))
    if kind == "soft":
        controls = random_bending(rng, time, np.array(image.size) + 2.0, still=still)
    swings = [np.zeros(num_frames), *(random_swing(rng, time, still=still) for _ in textures[1:])]

    pieces = []
    center = np.array(image.size) / 2 + 1  # the transparent rim shifts everything by one pixel
    light = rng.uniform(0.75, 1.2) * rng.uniform(0.93, 1.07, 3)  # of another scene than the background
    for texture, joint, swing in zip(textures, joints, swings, strict=True):
        matrices = np.zeros((num_frames, 2, 3))
        for t in range(num_frames):
            about_joint = similarity(swing[t], 1.0, joint + 1, joint + 1)
            scale = np.exp(path.growth[t]) / TEXTURE_DENSITY
            matrix = compose(similarity(angle + path.turn[t], scale, center, path.position[t]), about_joint)
            matrices[t] = compose(camera[t], matrix) if fixed_to_world else matrix
        pieces.append(Piece(premultiplied(texture, light), matrices, controls, object_number))
    return [pieces[i] for i in rng.permutation(len(pieces))]


def random_path(
    rng: np.random.Generator, time: np.ndarray, *, size: tuple[int, int], factor: float, still: bool
) -> ObjectPath:
    """A random path that is inside the frame in the middle of the clip.

    Args:
        time: float64 `[T]`, frame numbers times `factor`.
    """
    num_frames = len(time)
    position, turn, growth = np.zeros((num_frames, 2)), np.zeros(num_frames), np.zeros(num_frames)
    if not still:
        direction, speed = rng.uniform(0, 2 * np.pi), min(size) * np.exp(rng.uniform(np.log(0.003), np.log(0.06)))
        position = speed * (
            time[:, None] * [np.cos(direction), np.sin(direction)]
            + 0.3 * factor * np.cumsum(smooth_noise(rng, num_frames, 2), axis=0)
        )
        if rng.random() < 0.6:
            turn = time * rng.normal(0, 0.07) + 0.02 * factor * np.cumsum(smooth_noise(rng, num_frames, 1)[:, 0])
        if rng.random() < 0.4:
            growth = time * rng.normal(0, 0.02)
    position += rng.uniform(0.1, 0.9, 2) * size[::-1] - position[num_frames // 2]
    return ObjectPath(position, turn, growth)


def random_bending(rng: np.random.Generator, time: np.ndarray, extent: np.ndarray, *, still: bool) -> np.ndarray:
    """Controls of a soft piece (see `Piece`) that swing in time; `extent` is (w, h) of its texture."""
    amplitude = rng.normal(0, 0.06, (2, CONTROL_POINTS)) * extent[:, None]
    phase = rng.uniform(0, 2 * np.pi, (2, CONTROL_POINTS))
    rate = 0 if still else rng.uniform(0.15, 0.9)
    return amplitude * np.sin(rate * time[:, None, None] + phase)


def random_swing(rng: np.random.Generator, time: np.ndarray, *, still: bool) -> np.ndarray:
    """Angle of a hinged part about its joint, float64 `[T]`."""
    rate, amplitude = rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.7)
    return amplitude * np.sin((0 if still else rate) * time + rng.uniform(0, 2 * np.pi))
