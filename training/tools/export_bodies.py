#!/usr/bin/env python
"""Export the human bodies that `render_people.py` draws into one small file.

The bodies come from Anny (package `anny`, Apache-2.0; its mesh data is CC0): 44 people of random age, gender, weight,
height and build, from a fixed seed. The first 32 are for training, the next 4 for validation and the last 8 for
testing. Anny's 163 bones are merged into the 23 parts that motion files can move. The shapes at rest are stored as a
mean and principal components in 16-bit integers, so that NumPy alone can read and pose them.

    pip install anny
    python training/tools/export_bodies.py --output training/data/bodies.npz
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np


# Vertices that a keypoint is a weighted mean of.
VERTICES_PER_KEYPOINT = 48

PARTS = (
    "pelvis spine_lower spine_upper chest neck head "
    "left_clavicle left_upper_arm left_forearm left_hand right_clavicle right_upper_arm right_forearm right_hand "
    "left_thigh left_shin left_foot left_toes right_thigh right_shin right_foot right_toes jaw"
).split()
"""Names of the merged bones, in the order of the file's arrays."""

PARENTS = [-1, 0, 1, 2, 3, 4, 3, 6, 7, 8, 3, 10, 11, 12, 0, 14, 15, 16, 0, 18, 19, 20, 5]

# The Anny bone whose head is the joint of each part, in the order of PARTS.
PIVOT_BONES = (
    "spine05 spine05 spine03 spine01 neck01 head "
    "clavicle.L upperarm01.L lowerarm01.L wrist.L clavicle.R upperarm01.R lowerarm01.R wrist.R "
    "upperleg01.L lowerleg01.L foot.L toe2-1.L upperleg01.R lowerleg01.R foot.R toe2-1.R jaw"
).split()

COCO_KEYPOINTS = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
).split()

SPLIT_SIZES = (32, 4, 8)


def part_of_bone(bone: str) -> str:
    """The part that an Anny bone is merged into. All bones of the face except the jaw move with the head."""
    name, _, side = bone.partition(".")
    side = {"L": "left_", "R": "right_", "": ""}[side]
    for prefix, part in (
        ("root", "pelvis"),
        ("pelvis", "pelvis"),
        ("spine05", "spine_lower"),
        ("spine04", "spine_lower"),
        ("spine03", "spine_upper"),
        ("spine02", "spine_upper"),
        ("spine01", "chest"),
        ("breast", "chest"),
        ("neck", "neck"),
        ("clavicle", side + "clavicle"),
        ("shoulder", side + "clavicle"),
        ("upperarm", side + "upper_arm"),
        ("lowerarm", side + "forearm"),
        ("wrist", side + "hand"),
        ("finger", side + "hand"),
        ("metacarpal", side + "hand"),
        ("upperleg", side + "thigh"),
        ("lowerleg", side + "shin"),
        ("foot", side + "foot"),
        ("toe", side + "toes"),
        ("jaw", "jaw"),
    ):
        if name.startswith(prefix):
            return part
    return "head"


def random_phenotypes(rng: np.random.Generator, count: int, labels: list[str]) -> dict[str, np.ndarray]:
    """Draw `count` people: one in eight is a child, all builds occur. Returns one array `[count]` per label."""
    child = rng.random(count) < 0.125
    phenotypes = {
        # Anny's age runs over newborn (-1/3), baby (0), child (1/3), young adult (2/3) and old (1).
        "age": np.where(child, rng.uniform(0.25, 0.45, count), rng.uniform(0.55, 0.95, count)),
        "gender": np.clip(rng.choice([0.08, 0.92], count) + rng.normal(0, 0.08, count), 0, 1),
        "weight": rng.beta(2.2, 2.2, count),
        "height": np.clip(rng.normal(0.5, 0.13, count), 0.2, 0.8),
        "muscle": rng.beta(2.2, 2.2, count),
        "proportions": rng.uniform(0.4, 1, count),
        "cupsize": rng.uniform(0.2, 0.7, count),
        "firmness": rng.uniform(0.3, 0.8, count),
    }
    origins = rng.dirichlet([0.6, 0.6, 0.6], count)
    phenotypes |= {name: origins[:, i] for i, name in enumerate(("african", "asian", "caucasian"))}
    return {label: phenotypes[label] for label in labels}


@dataclass(frozen=True)
class Topology:
    """What all exported bodies share.

    Attributes:
        used: `[V]`, the exported vertices by their index in Anny's mesh.
        triangles: `[F, 3]`, indices into `used`.
        part_indices, part_weights: `[V, 4]`, skinning by PARTS, the largest weight first.
        keypoint_vertices, keypoint_weights: `[17, VERTICES_PER_KEYPOINT]`, COCO keypoints as means of vertices.
    """

    used: np.ndarray
    triangles: np.ndarray
    part_indices: np.ndarray
    part_weights: np.ndarray
    keypoint_vertices: np.ndarray
    keypoint_weights: np.ndarray


def export_topology(model) -> Topology:
    """Merge the bones of an Anny model into parts, and drop the tongue, which is never visible."""
    import anny

    labels = list(model.bone_labels)
    bone_indices, bone_weights = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    part_of = np.array([PARTS.index(part_of_bone(bone)) for bone in labels])
    weights = np.zeros((len(bone_indices), len(PARTS)))
    for slot in range(bone_indices.shape[1]):
        np.add.at(weights, (np.arange(len(weights)), part_of[bone_indices[:, slot]]), bone_weights[:, slot])

    tongue = np.array([bone.startswith("tongue") for bone in labels])
    dominant = bone_indices[np.arange(len(weights)), bone_weights.argmax(1)]
    triangles = model.get_triangular_faces().numpy()
    triangles = triangles[~tongue[dominant][triangles].any(1)]
    used = np.unique(triangles)
    renumber = np.full(len(weights), -1)
    renumber[used] = np.arange(len(used))

    part_indices = np.argsort(-weights[used], axis=1)[:, :4]
    part_weights = np.take_along_axis(weights[used], part_indices, 1)
    part_weights /= part_weights.sum(1, keepdims=True)

    regressor = anny.KeypointsRegressor.coco(model, labels=COCO_KEYPOINTS).regression_weights.numpy()[:, used]
    keypoint_vertices = np.argsort(-np.abs(regressor), axis=1)[:, :VERTICES_PER_KEYPOINT]
    keypoint_weights = np.take_along_axis(regressor, keypoint_vertices, 1)
    keypoint_weights /= keypoint_weights.sum(1, keepdims=True)
    return Topology(used, renumber[triangles], part_indices, part_weights, keypoint_vertices, keypoint_weights)


def principal_components(shapes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean `[N, 3]`, components `[count, N, 3]` int16 and coefficients `[bodies, count]` of shapes `[bodies, N, 3]`.

    A shape is about mean + coefficients @ components.
    """
    mean = shapes.mean(0)
    left, singular, right = np.linalg.svd((shapes - mean).reshape(len(shapes), -1), full_matrices=False)
    components = right[:count].reshape(count, -1, 3)
    scales = np.abs(components).max((1, 2)) / 32767
    stored = np.round(components / scales[:, None, None]).astype(np.int16)
    return mean, stored, (left * singular)[:, :count] * scales


def main() -> None:
    parser = argparse.ArgumentParser(description="Export random Anny bodies for render_people.py.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "data" / "bodies.npz")
    parser.add_argument("--seed", type=int, default=2024, help="Seed of the random bodies.")
    parser.add_argument("--components", type=int, default=24, help="Number of principal components of the shapes.")
    args = parser.parse_args()

    import anny
    import torch

    model = anny.create_fullbody_model(all_phenotypes=True)
    model.set_skinning_method("lbs")
    count = sum(SPLIT_SIZES)
    phenotypes = random_phenotypes(np.random.default_rng(args.seed), count, list(model.phenotype_labels))
    with torch.no_grad():
        rest = model(phenotype_kwargs={k: torch.as_tensor(v, dtype=model.dtype) for k, v in phenotypes.items()})
    topology = export_topology(model)

    # Joints are reduced together with the vertices: both are linear in the same components.
    vertices = rest["rest_vertices"].numpy()  # [bodies, V, 3] meters, z up, facing -y, the person's left at +x
    joints = rest["rest_bone_heads"].numpy()[:, [list(model.bone_labels).index(bone) for bone in PIVOT_BONES]]
    shapes = np.concatenate([vertices[:, topology.used], joints], 1)
    mean, components, coefficients = principal_components(shapes, args.components)
    rebuilt = mean + np.einsum("bc,cvd->bvd", coefficients, components)
    error = np.linalg.norm(rebuilt - shapes, axis=-1)

    args.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        args.output,
        mean=mean.astype(np.float32),
        components=components,
        coefficients=coefficients.astype(np.float32),
        triangles=topology.triangles.astype(np.uint16),
        part_indices=topology.part_indices.astype(np.uint8),
        part_weights=topology.part_weights.astype(np.float16),
        keypoint_vertices=topology.keypoint_vertices.astype(np.uint16),
        keypoint_weights=topology.keypoint_weights.astype(np.float32),
        parents=np.array(PARENTS, np.int8),
        part_names=np.array(PARTS),
        split_sizes=np.array(SPLIT_SIZES),
        ages=phenotypes["age"].astype(np.float32),
        genders=phenotypes["gender"].astype(np.float32),
    )
    print(
        f"{args.output}: {count} bodies, {len(topology.used)} vertices, {len(topology.triangles)} triangles, "
        f"{args.output.stat().st_size / 1e6:.2f} MB, "
        f"error {1e3 * error.mean():.2f} mm mean, {1e3 * error.max():.2f} mm max"
    )


if __name__ == "__main__":
    main()
