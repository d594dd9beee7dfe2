"""Dressing a body: hair, a face and clothes in random styles and colors."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from rendering.people.bodies import ARM, FOOT, HEAD, LEG, TORSO, Body, Skeleton
from rendering.people.extra_meshes import LONG_HAIR, brim, long_hair, skirt
from rendering.people.materials import choose_complexion, choose_materials, choose_textures
from rendering.people.measures import (
    COLLAR,
    EAR_Y,
    EYE_Y,
    EYE_Z,
    HAT_LINE,
    HEM,
    OPENING,
    SHOE_TOP,
    SLEEVE,
    TOP_Z,
    TROUSER_LEG,
    choose_clothes,
    choose_hair,
    hair_line,
    measure_head,
)
from rendering.people.rasterizer import skin


@dataclass
class Actor:
    """A dressed body, ready to be posed.

    Attributes:
        rest: `[V, 3]` float32 meters at rest; part_indices `[V, 4]`, part_weights `[V, 4]`: skinning.
        paint: `[V, 4]` float32, what a point's color depends on: its position (x, y, z) on the undressed body, and how
            far along its limb it is.
        triangles: `[F, 3]` int32; kinds: `[F]` uint8; two_sided: `[F]` bool.
        measures: `[NUM_MEASURES]`; materials: `[NUM_MATERIALS, LOOK_COLUMNS]`; textures: `[2, 64, 64, 3]`, 0 to 1.
        keypoint_vertices, keypoint_weights: of the body.
    """

    rest: np.ndarray
    part_indices: np.ndarray
    part_weights: np.ndarray
    paint: np.ndarray
    triangles: np.ndarray
    kinds: np.ndarray
    two_sided: np.ndarray
    measures: np.ndarray
    materials: np.ndarray
    textures: np.ndarray
    keypoint_vertices: np.ndarray
    keypoint_weights: np.ndarray

    def posed(self, transforms: np.ndarray) -> np.ndarray:
        """Vertices `[V, 3]` float32 under part transforms `[P, 3, 4]`."""
        out = np.empty_like(self.rest)
        skin(self.rest, self.part_indices, self.part_weights, transforms, out)
        return out


def dress(rng: np.random.Generator, body: Body, skeleton: Skeleton, photograph: np.ndarray) -> Actor:
    """Give a body hair, a face and random clothes.

    Args:
        rng: source of every choice.
        body: the body at rest.
        skeleton: what all bodies share.
        photograph: `[H, W, 3]` uint8; crops of it become printed cloth.
    """
    m = measure_head(body, skeleton)
    size = (body.rest[:, 2].max() - body.rest[:, 2].min()) / 1.7
    hip_z = body.joints[skeleton.part["left_thigh"]][2]
    waist_z = hip_z + 0.35 * (body.joints[skeleton.part["chest"]][2] - hip_z)
    bottoms = choose_clothes(rng, m, body, skeleton, waist_z, size)
    has_long_hair, hat = choose_hair(rng, m, body)
    tone, complexion, hair = choose_complexion(rng)
    materials = choose_materials(rng, complexion, hair, female=body.gender > 0.5, dress=bottoms == "dress")
    textures = choose_textures(rng, photograph)

    rest = body.rest.copy()
    thickness = rng.uniform(0.008, 0.035) * size if m[HAT_LINE] > 5 else 0.012 * size
    if rng.random() < 0.08 and tone > 5:
        thickness = rng.uniform(0.05, 0.09) * size
    raise_hair(body.rest, body.normals, skeleton.vertex_kinds == HEAD, m, thickness, rest)
    rest += loose_cloth(rng, m, body, skeleton, size)

    meshes = []
    if has_long_hair:
        meshes.append(long_hair(rng, m, skeleton.part, thickness, size))
    if bottoms in ("skirt", "dress"):
        meshes.append(skirt(rng, body, skeleton, waist_z, size))
        m[TROUSER_LEG] = min(m[TROUSER_LEG], 0.15)
    if hat == "cap":
        meshes.append(brim(m, skeleton.part))

    paint = np.concatenate([body.rest, body.along[:, None]], 1).astype(np.float32)
    parts = [(rest, skeleton.part_indices, skeleton.part_weights, paint, skeleton.triangles, skeleton.triangle_kinds)]
    offset = len(rest)
    for mesh in meshes:
        extra_paint = np.concatenate([mesh.vertices, np.zeros((len(mesh.vertices), 1))], 1)
        kinds = np.full(len(mesh.triangles), mesh.kind)
        triangles = mesh.triangles + offset
        parts.append((mesh.vertices, mesh.part_indices, mesh.part_weights, extra_paint, triangles, kinds))
        offset += len(mesh.vertices)
    rest, indices, weights, paint, triangles, kinds = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Actor(
        rest=rest.astype(np.float32),
        part_indices=indices.astype(np.uint8),
        part_weights=weights.astype(np.float32),
        paint=paint.astype(np.float32),
        triangles=triangles.astype(np.int32),
        kinds=kinds.astype(np.uint8),
        two_sided=kinds >= LONG_HAIR,
        measures=m,
        materials=materials,
        textures=textures,
        keypoint_vertices=skeleton.keypoint_vertices,
        keypoint_weights=skeleton.keypoint_weights,
    )


@njit(cache=True)
def raise_hair(rest, normals, is_head, measures, thickness, out):
    """Give the hair volume: write into `out` the vertices under hair, moved outward by up to `thickness` meters."""
    head = measures[TOP_Z] - measures[EYE_Z]
    for v in range(rest.shape[0]):
        if not is_head[v]:
            continue
        f = (measures[EAR_Y] - rest[v, 1]) / (measures[EAR_Y] - measures[EYE_Y])
        margin = (rest[v, 2] - measures[EYE_Z]) / head - hair_line(f, measures)
        if margin > 0.0:
            lift = thickness * min(1.0, 0.25 + 2.0 * margin)
            for i in range(3):
                out[v, i] = rest[v, i] + lift * normals[v, i]


def loose_cloth(rng: np.random.Generator, m: np.ndarray, body: Body, skeleton: Skeleton, size: float) -> np.ndarray:
    """Offsets `[V, 3]` of the vertices under clothes: shirts and trousers hang loose, and shoes hide the toes."""
    kinds, z = skeleton.vertex_kinds, body.rest[:, 2]
    over_hips = z > m[HEM]
    top = (kinds == TORSO) & over_hips & (z < m[COLLAR] - 0.02 * size) | (kinds == ARM) & (body.along < m[SLEEVE])
    bottom = ((kinds == TORSO) | (kinds == LEG) & (body.along < m[TROUSER_LEG])) & ~over_hips
    top |= (kinds == LEG) & over_hips
    loose = np.zeros(len(body.rest), np.float32)
    loose[top] = rng.uniform(0.002, 0.03) * size * (1.4 if m[OPENING] >= 0 else 1)
    loose[bottom] = rng.uniform(0.002, 0.025) * size
    loose[kinds == FOOT] = 0.011 * size if m[SHOE_TOP] < 1.5 else 0
    ripple = 1 + 0.22 * np.sin(body.rest @ rng.normal(0, 30, (3, 2)) + rng.uniform(0, 6, 2)).sum(1)
    return (loose * ripple.astype(np.float32))[:, None] * body.normals
