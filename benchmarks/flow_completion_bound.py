"""How well can strokes on keypoints be completed at all, by a model that sees every body perfectly?

    python benchmarks/flow_completion_bound.py --data data/people --split test --train_data data/people10

Three methods are given what flow completion has to see in the image: the true outline of each body and the true
position of each joint, also of hidden ones. They differ in what they know about motion:
- "same person" knows the strokes: each person moves like the nearest stroke on it.
- "expected joints" knows the strokes and how joints move together: the other joints have their expected motion, given
  those with strokes, under a Gaussian whose covariance is estimated on training clips.
- "all joints" knows how all joints move, from the true flow at visible joints and the keypoints of hidden ones.

The last two interpolate along the limbs, between joints. All are compared on bodies, in the cells and with the strokes
of the validation of `train_flow_completion.py`, together with zero flow and the nearest stroke.
"""

import argparse
import json
from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from mcdiff_pipeline.baselines import nearest_stroke_flow
from mcdiff_pipeline.dataset import Clip, ClipDataset, keypoint_strokes
from mcdiff_pipeline.flow import resize_flow


CELL = 4  # pixels along one side of a latent cell of the embedded model
# Pairs of COCO keypoints that are connected by a part of the body: arms, legs, sides and diagonals of the torso, neck
# and head.
LIMBS = np.array(
    [(5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16)]
    + [(5, 6), (11, 12), (5, 11), (6, 12), (5, 12), (6, 11)]
    + [(0, 5), (0, 6), (0, 1), (0, 2), (1, 3), (2, 4)]
)
# Limbs at similar distances are blended. Values from 1 to 6 pixels give the same error within 1 %.
BLENDING_DISTANCE = 4.0
# Variance, in square pixels, of the difference between the flow at a keypoint's pixel and the motion of the joint.
STROKE_VARIANCE = 0.3


@dataclass(frozen=True)
class Scene:
    """The truth about the first step of a clip. Flow and positions are in pixels.

    Args:
        flow: `[2, h, w]` on the grid of cells.
        body: bool `[h, w]`, cells that people cover by more than half.
        owner: int `[h, w]`, the person who covers most of a cell.
        centers: `[h, w, 2]`, (x, y) of the centers of the cells.
        joints, motion: `[P, K, 2]`, positions and displacements of joints.
        in_view, known: bool `[P, K]`, joints in the first frame, and joints with known motion.
    """

    flow: np.ndarray
    body: np.ndarray
    owner: np.ndarray
    centers: np.ndarray
    joints: np.ndarray
    motion: np.ndarray
    in_view: np.ndarray
    known: np.ndarray


def make_scene(clip: Clip) -> Scene:
    height, width = clip.flow.shape[2] // CELL, clip.flow.shape[3] // CELL
    people = np.arange(1, len(clip.keypoints[0]) + 1)
    share = clip.masks[0][None] == people[:, None, None]  # [P, H, W]
    share = share.reshape(len(people), height, CELL, width, CELL).mean(axis=(2, 4))
    joints, motion = clip.keypoints[0, ..., :2], np.diff(clip.keypoints[..., :2], axis=0)[0]
    visible = clip.keypoints[0, ..., 2] == 2
    columns, rows = joints[visible].astype(int).T
    motion[visible] = clip.flow[0][:, rows, columns].T
    return Scene(
        flow=(resize_flow(torch.from_numpy(clip.flow), (height, width))[0] * CELL).numpy(),
        body=share.sum(axis=0) > 0.5,
        owner=share.argmax(axis=0),
        centers=(np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + 0.5) * CELL,
        joints=joints,
        motion=motion,
        in_view=clip.keypoints[0, ..., 2] > 0,
        known=(clip.keypoints[..., 2] > 0).all(axis=0) | visible,
    )


def limb_flow(joints: np.ndarray, displacements: np.ndarray, known: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The motion of points of a body, interpolated along its limbs.

    Args:
        joints, displacements: `[K, 2]` in pixels.
        known: bool `[K]`, the joints to use.
        positions: `[N, 2]` in pixels.

    Returns:
        `[N, 2]`; zero if no limb has two known ends.
    """
    limbs = LIMBS[known[LIMBS].all(axis=1)]
    if len(limbs) == 0:
        return np.zeros(positions.shape)
    start, end = joints[limbs[:, 0]], joints[limbs[:, 1]]
    along = end - start
    share = ((positions[:, None] - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-6)
    share = share.clip(0, 1)[..., None]  # [N, limbs, 1]
    squared_distance = ((start + share * along - positions[:, None]) ** 2).sum(-1)
    nearness = squared_distance.min(axis=1, keepdims=True) - squared_distance
    weight = np.exp(nearness / (2 * BLENDING_DISTANCE**2))
    motion = (1 - share) * displacements[limbs[:, 0]] + share * displacements[limbs[:, 1]]
    return (weight[..., None] * motion).sum(axis=1) / weight.sum(axis=1, keepdims=True)


def joint_covariance(data_dirs: list[str], split: str) -> np.ndarray:
    """Second moments `[2 K, 2 K]` of the joints' displacements, over the people with both joints in view."""
    moments, count = 0.0, 0.0
    for data_dir in data_dirs:
        dataset = ClipDataset(data_dir, split)
        for index in tqdm(range(len(dataset)), desc="Covariance"):
            keypoints = dataset[index].keypoints  # [T, P, K, 3]
            motion = np.diff(keypoints[..., :2], axis=0)
            known = (keypoints[:-1, ..., 2] > 0) & (keypoints[1:, ..., 2] > 0)
            motion = np.where(known[..., None], motion, 0).reshape(-1, 2 * known.shape[2])  # [people, 2 K]
            known = known.reshape(-1, known.shape[2]).repeat(2, axis=1).astype(float)
            moments, count = moments + motion.T @ motion, count + known.T @ known
    return moments / np.maximum(count, 1)


def expected_motion(covariance: np.ndarray, given: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """The mean displacement of all joints `[K, 2]` under a Gaussian, given the joints in `given`, bool `[K]`."""
    if not given.any():
        return np.zeros(displacements.shape)
    seen = given.repeat(2)
    observed = covariance[np.ix_(seen, seen)] + STROKE_VARIANCE * np.eye(seen.sum())
    return (covariance[:, seen] @ np.linalg.solve(observed, displacements.ravel()[seen])).reshape(-1, 2)


def nearest_stroke(points: np.ndarray, displacements: np.ndarray, scene: Scene) -> np.ndarray:
    """The baseline `[2, h, w]` in pixels."""
    return nearest_stroke_flow(points, displacements, scene.body.shape, CELL) * CELL


def answers(
    scene: Scene, points: np.ndarray, displacements: np.ndarray, covariance: np.ndarray
) -> dict[str, np.ndarray]:
    """The flow of the baselines and of the three methods for some strokes, `[2, h, w]` in pixels."""
    given, stroke = np.zeros(scene.in_view.shape, bool), np.zeros(scene.joints.shape)
    for point, displacement in zip(points, displacements):
        place = np.unravel_index(np.abs(scene.joints - point).sum(axis=-1).argmin(), given.shape)
        given[place], stroke[place] = True, displacement

    names = ("zero flow", "nearest stroke", "same person", "expected joints", "all joints")
    flows = {name: np.zeros_like(scene.flow) for name in names}
    flows["nearest stroke"] = nearest_stroke(points, displacements, scene)
    for person in range(len(scene.joints)):
        cells = scene.body & (scene.owner == person)
        joints, own, where = scene.joints[person], given[person], scene.centers[cells]
        if own.any():
            flows["same person"][:, cells] = nearest_stroke(joints[own], stroke[person][own], scene)[:, cells]
        expected = expected_motion(covariance, own, stroke[person])
        expected = np.where(own[:, None], stroke[person], expected)
        flows["expected joints"][:, cells] = limb_flow(joints, expected, scene.in_view[person], where).T
        flows["all joints"][:, cells] = limb_flow(joints, scene.motion[person], scene.known[person], where).T
    return flows


def mean_errors(args: argparse.Namespace) -> dict[int, dict[str, float]]:
    """End-point errors on bodies in pixels, by the number of strokes and the name of the method."""
    covariance = joint_covariance(args.train_data, "train")
    dataset = ClipDataset(args.data, args.split)
    sums: dict[int, dict[str, float]] = {number: {} for number in args.strokes}
    cells = dict.fromkeys(args.strokes, 0)
    for index in tqdm(range(min(args.num_clips, len(dataset))), desc="Clips"):
        clip = dataset.read(index, frames=(0, 1))
        scene = make_scene(clip)
        rng = np.random.default_rng([args.seed, index])
        for number in args.strokes:
            points, displacements = keypoint_strokes(clip.flow[0], clip.keypoints[0], number, rng)
            if len(points) == 0:
                continue
            cells[number] += int(scene.body.sum())
            for name, flow in answers(scene, points, displacements, covariance).items():
                error = np.linalg.norm(flow - scene.flow, axis=0)[scene.body]
                sums[number][name] = sums[number].get(name, 0.0) + float(error.sum())
    return {
        number: {name: total / max(cells[number], 1) for name, total in totals.items()}
        for number, totals in sums.items()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Folder of clip shards of people.")
    parser.add_argument("--split", default="test")
    parser.add_argument("--train_data", nargs="+", required=True, help="Folders to learn the motion of joints from.")
    parser.add_argument("--num_clips", type=int, default=300, help="Use the first clips of the split.")
    parser.add_argument("--strokes", type=int, nargs="+", default=[5])
    parser.add_argument("--seed", type=int, default=0, help="Seed of the strokes.")
    args = parser.parse_args(arguments)

    summary = {}
    for number, errors in mean_errors(args).items():
        summary[f"{number} strokes, body (px)"] = errors
        for baseline in ("zero flow", "nearest stroke"):
            ratios = {name: error / errors[baseline] for name, error in errors.items()}
            summary[f"{number} strokes, over {baseline}"] = ratios
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
