"""Meshes in addition to the body, which the body's parts move: long hair, skirts, the peaks of caps."""

from dataclasses import dataclass

import numpy as np

from rendering.people.bodies import LEG, TORSO, Body, Skeleton
from rendering.people.measures import EAR_Y, EYE_Z, HAT_LINE, TOP_Z


# Kinds of surface beyond those of `bodies.py`.
LONG_HAIR, SKIRT, BRIM = range(7, 10)


@dataclass(frozen=True)
class ExtraMesh:
    """A mesh at rest, visible from both sides.

    Attributes:
        vertices: `[V, 3]` meters; part_indices, part_weights: `[V, 4]` skinning.
        triangles: `[F, 3]`; kind: LONG_HAIR, SKIRT or BRIM.
    """

    vertices: np.ndarray
    part_indices: np.ndarray
    part_weights: np.ndarray
    triangles: np.ndarray
    kind: int


def sheet(rows: int, columns: int) -> np.ndarray:
    """Triangles of a grid of `rows` x `columns` vertices."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel()
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])


def bind(count: int, bindings: list[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Indices uint8 and normalized weights float32 `[count, 4]` from up to four pairs (part, weights `[count]`)."""
    indices, weights = np.zeros((count, 4), np.uint8), np.zeros((count, 4), np.float32)
    for slot, (part, weight) in enumerate(bindings):
        indices[:, slot], weights[:, slot] = part, weight
    return indices, weights / weights.sum(1, keepdims=True)


def long_hair(
    rng: np.random.Generator, m: np.ndarray, part: dict[str, int], thickness: float, size: float
) -> ExtraMesh:
    """Hair that hangs from the sides and the back of the head to the shoulders or the back.

    `thickness` is the volume of the hair on the head in meters, `size` the height of the body in units of 1.7 m.
    """
    head = m[TOP_Z] - m[EYE_Z]
    angle = np.linspace(-1, 1, 17) * rng.uniform(1.6, 2.1)  # 0 at the back
    down = np.linspace(0, 1, 9)
    length = rng.uniform(0.16, 0.42) * size
    wide = 0.72 * head + thickness
    deep = 0.85 * head + thickness
    flare = 1 + rng.uniform(-0.1, 0.25) * down[:, None]
    x = flare * wide * np.sin(angle)
    y = m[EAR_Y] + 0.05 * head + flare * deep * np.cos(angle)
    z = np.broadcast_to(m[EYE_Z] + 0.3 * head - length * down[:, None], x.shape)
    vertices = np.stack([x, y, z], -1).reshape(-1, 3)
    low = np.repeat(down, 17)
    bindings = [(part["head"], 1 - 0.45 * low), (part["chest"], 0.45 * low)]
    return ExtraMesh(vertices, *bind(len(vertices), bindings), sheet(9, 17), LONG_HAIR)


def skirt(rng: np.random.Generator, body: Body, skeleton: Skeleton, waist_z: float, size: float) -> ExtraMesh:
    """A cone from the waist to the thighs, knees or shins. The pelvis moves its top and the legs move its bottom."""
    part, joints = skeleton.part, body.joints
    leg = joints[part["left_thigh"]][2] - joints[part["left_foot"]][2]
    near_waist = np.abs(body.rest[:, 2] - joints[part["left_thigh"]][2]) < 0.06 * size
    near_waist &= (skeleton.vertex_kinds == TORSO) | (skeleton.vertex_kinds == LEG)
    ring = body.rest[near_waist]
    center = 0.5 * (ring.min(0) + ring.max(0))
    radius = 0.5 * (ring.max(0) - ring.min(0)) + 0.012
    top = waist_z - 0.3 * (waist_z - joints[part["left_thigh"]][2])
    bottom = joints[part["left_thigh"]][2] - rng.uniform(0.25, 0.6) * leg
    down = np.linspace(0, 1, 10)[:, None]
    angle = np.linspace(0, 2 * np.pi, 33)
    # Narrow at the waist, as wide as the hips below them, wider still at the hem.
    grow = np.minimum(1, 0.8 + 1.2 * down) + rng.uniform(0.0, 0.35) * np.maximum(0, down - 0.2)
    fold = 1 + 0.05 * down * np.sin(9 * angle)
    x = center[0] + radius[0] * grow * fold * np.cos(angle)
    y = center[1] + radius[1] * grow * fold * np.sin(angle)
    z = np.broadcast_to(top + (bottom - top) * down, x.shape)
    vertices = np.stack([x, y, z], -1).reshape(-1, 3)
    low = np.repeat(np.clip(1.3 * down[:, 0], 0, 0.85), 33)
    left = np.clip(0.5 + 0.5 * vertices[:, 0] / (0.7 * radius[0]), 0, 1)
    bindings = [(part["pelvis"], 1 - low), (part["left_thigh"], low * left), (part["right_thigh"], low * (1 - left))]
    return ExtraMesh(vertices, *bind(len(vertices), bindings), sheet(10, 33), SKIRT)


def brim(m: np.ndarray, part: dict[str, int]) -> ExtraMesh:
    """The peak of a cap."""
    head = m[TOP_Z] - m[EYE_Z]
    angle = np.linspace(-1.35, 1.35, 11)
    reach = np.linspace(0, 1, 4)[:, None]
    x = (0.66 + 0.06 * reach) * head * np.sin(angle)
    y = m[EAR_Y] - (0.66 + 0.62 * reach) * head * 1.2 * np.cos(angle)
    z = m[EYE_Z] + (m[HAT_LINE] + 0.03 - 0.12 * reach * np.cos(angle)) * head
    vertices = np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3)
    bindings = [(part["head"], np.ones(len(vertices)))]
    return ExtraMesh(vertices, *bind(len(vertices), bindings), sheet(4, 11), BRIM)
