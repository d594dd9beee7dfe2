"""The exported bodies at rest, from `data/bodies.npz`, which `export_bodies.py` makes.

Axes: x the person's left, y backward, z up, in meters.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rendering.people.rasterizer import vertex_normals
from rendering.photographs import SPLITS, check_split


# Kinds of surface of a body; `extra_meshes.py` adds more.
TORSO, NECK, HEAD, ARM, HAND, LEG, FOOT = range(7)

_KIND_OF_PART = {
    "neck": NECK,
    "head": HEAD,
    "jaw": HEAD,
    "upper_arm": ARM,
    "forearm": ARM,
    "hand": HAND,
    "thigh": LEG,
    "shin": LEG,
    "foot": FOOT,
    "toes": FOOT,
}


@dataclass(frozen=True)
class Skeleton:
    """What all bodies share.

    Attributes:
        triangles: `[F, 3]` int32, counter-clockwise seen from outside.
        part_indices, part_weights: `[V, 4]` skinning; the part with the largest weight comes first.
        keypoint_vertices, keypoint_weights: `[17, N]`, the COCO keypoints as weighted means of vertices.
        parents: `[P]`; part_names: `[P]`; part: index of each name.
        vertex_kinds: `[V]`, triangle_kinds: `[F]`: TORSO … FOOT, by the dominant part.
    """

    triangles: np.ndarray
    part_indices: np.ndarray
    part_weights: np.ndarray
    keypoint_vertices: np.ndarray
    keypoint_weights: np.ndarray
    parents: np.ndarray
    part_names: list[str]
    part: dict[str, int]
    vertex_kinds: np.ndarray
    triangle_kinds: np.ndarray


@dataclass(frozen=True)
class Body:
    """One person at rest.

    Attributes:
        index: number in the file; of a mixture, that of the first body.
        rest: `[V, 3]` float32 vertices; normals: `[V, 3]`; joints: `[P, 3]`; keypoints: `[17, 3]`.
        along: `[V]`, place of a vertex along its arm or leg: 0 shoulder or hip, 0.5 elbow or knee, 1 wrist or ankle.
        age: Anny's age, 0.33 child, 0.67 young adult, 1 old; gender: 0 male to 1 female.
    """

    index: int
    rest: np.ndarray
    normals: np.ndarray
    joints: np.ndarray
    keypoints: np.ndarray
    along: np.ndarray
    age: float
    gender: float


def read_bodies(path: str | Path, split: str | None = None) -> tuple[Skeleton, list[Body]]:
    """Read the bodies of a split (`train`, `validation`, `test`), or all bodies if `split` is None.

    Raises:
        ValueError: if the split is unknown.
    """
    if split is not None:
        check_split(split)
    with np.load(path) as file:
        data = {name: file[name] for name in file.files}
    ends = np.cumsum(data["split_sizes"])
    ranges = {name: range(end - size, end) for name, size, end in zip(SPLITS, data["split_sizes"], ends)}
    skeleton = _make_skeleton(data)
    bodies = []
    for index in range(int(ends[-1])) if split is None else ranges[split]:
        shape = data["mean"] + np.tensordot(data["coefficients"][index], data["components"].astype(np.float32), 1)
        num_vertices = len(skeleton.vertex_kinds)
        rest, joints = shape[:num_vertices].astype(np.float32), shape[num_vertices:].astype(np.float64)
        age, gender = float(data["ages"][index]), float(data["genders"][index])
        bodies.append(_make_body(skeleton, index, rest, joints, age, gender))
    return skeleton, bodies


def mix_bodies(skeleton: Skeleton, first: Body, second: Body, share: float) -> Body:
    """A body between two others: `first` at a share of 1, `second` at 0, and beyond them at other shares."""

    def mix(a, b):
        return share * a + (1 - share) * b

    age, gender = (
        float(np.clip(mix(a, b), 0, 1)) for a, b in ((first.age, second.age), (first.gender, second.gender))
    )
    rest = mix(first.rest, second.rest).astype(np.float32)
    return _make_body(skeleton, first.index, rest, mix(first.joints, second.joints), age, gender)


def _make_body(
    skeleton: Skeleton, index: int, rest: np.ndarray, joints: np.ndarray, age: float, gender: float
) -> Body:
    return Body(
        index=index,
        rest=rest,
        normals=vertex_normals(rest, skeleton.triangles),
        joints=joints,
        keypoints=(rest[skeleton.keypoint_vertices] * skeleton.keypoint_weights[..., None]).sum(1),
        along=_place_along_limbs(rest, joints, skeleton),
        age=age,
        gender=gender,
    )


def _make_skeleton(data: dict[str, np.ndarray]) -> Skeleton:
    names = [str(name) for name in data["part_names"]]
    kind_of_part = np.array([_KIND_OF_PART.get(n.removeprefix("left_").removeprefix("right_"), TORSO) for n in names])
    triangles = data["triangles"].astype(np.int32)
    vertex_kinds = kind_of_part[data["part_indices"][:, 0]].astype(np.uint8)
    return Skeleton(
        triangles=triangles,
        part_indices=data["part_indices"],
        part_weights=data["part_weights"].astype(np.float32),
        keypoint_vertices=data["keypoint_vertices"].astype(np.int64),
        keypoint_weights=data["keypoint_weights"],
        parents=data["parents"],
        part_names=names,
        part={name: i for i, name in enumerate(names)},
        vertex_kinds=vertex_kinds,
        triangle_kinds=vertex_kinds[triangles[:, 0]],
    )


def _place_along_limbs(rest: np.ndarray, joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    part, part_of_vertex = skeleton.part, skeleton.part_indices[:, 0]
    along = np.zeros(len(rest), np.float32)
    for side in ("left_", "right_"):
        for chain in (("upper_arm", "forearm", "hand"), ("thigh", "shin", "foot")):
            stops = [joints[part[side + name]] for name in chain]
            for i in range(2):
                chosen = part_of_vertex == part[side + chain[i]]
                bone = stops[i + 1] - stops[i]
                along[chosen] = 0.5 * i + 0.5 * np.clip((rest[chosen] - stops[i]) @ bone / (bone @ bone), 0, 1)
            along[part_of_vertex == part[side + chain[2]]] = 1.0
        along[part_of_vertex == part[side + "toes"]] = 1.0
    return along
