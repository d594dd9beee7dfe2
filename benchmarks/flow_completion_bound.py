"""How well strokes on keypoints can be completed at all: what F would reach if it saw the body perfectly.

    python benchmarks/flow_completion_bound.py --data data/people --split test --train_data data/people10

Three answers are given what F has to see in the picture: the true outline of every body and the true position of every
joint, hidden ones included. They differ in what they know about motion:

- nothing but the strokes: each person moves like the nearest stroke on it ("same person");
- the strokes and how joints move together: the expected motion of the other joints, given those that strokes name,
  under a Gaussian whose covariance is estimated on the training clips ("expected joints");
- how all joints move, by the flow at those that are visible ("all joints").

Between the joints the last two interpolate along the limbs. All are compared on the body, beside zero flow
and the nearest stroke. Strokes are visible keypoints, drawn by the magnitude of their flow.
"""

import argparse
import json

import numpy as np
import torch
from tqdm.auto import tqdm

from mcdiff_pipeline.baselines import nearest_stroke_flow
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.dataset.sampling import keypoint_strokes
from mcdiff_pipeline.flow import resize_flow


CELL = 4  # pixels, of the embedded model
# Pairs of COCO keypoints with body between them: arms, legs, the torso's sides and diagonals, neck and head.
LIMBS = np.array(
    [(5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16)]
    + [(5, 6), (11, 12), (5, 11), (6, 12), (5, 12), (6, 11)]
    + [(0, 5), (0, 6), (0, 1), (0, 2), (1, 3), (2, 4)]
)
# Limbs are blended where they are about equally near. 1 to 6 pixels give the same error within 1 %.
BLENDING_DISTANCE = 4.0
# Variance, in square pixels, by which the flow at a keypoint's pixel differs from the motion of the joint inside.
STROKE_VARIANCE = 0.3


def limb_flow(joints: np.ndarray, displacements: np.ndarray, known: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The motion of points of a body, interpolated along its limbs.

    Args:
        joints: `[K, 2]` in pixels; displacements: `[K, 2]`; known: bool `[K]`, the joints to use.
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
    """Second moments `[2 K, 2 K]` of the joints' displacements, each over the people whose two joints are in view."""
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
    """The mean of all joints' displacements `[K, 2]` under a Gaussian, given those of some (bool `[K]`)."""
    if not given.any():
        return np.zeros(displacements.shape)
    seen = given.repeat(2)
    observed = covariance[np.ix_(seen, seen)] + STROKE_VARIANCE * np.eye(seen.sum())
    return (covariance[:, seen] @ np.linalg.solve(observed, displacements.ravel()[seen])).reshape(-1, 2)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Folder of clip shards of people.")
    parser.add_argument("--split", default="test")
    parser.add_argument("--train_data", nargs="+", required=True, help="Folders to learn from how joints move.")
    parser.add_argument("--num_clips", type=int, default=300, help="The first clips of the split.")
    parser.add_argument("--strokes", type=int, nargs="+", default=[5])
    parser.add_argument("--seed", type=int, default=0, help="Of the strokes.")
    args = parser.parse_args(arguments)

    covariance = joint_covariance(args.train_data, "train")
    dataset = ClipDataset(args.data, args.split)
    sums = {number: {} for number in args.strokes}  # answer -> [sum of errors, cells]
    for index in tqdm(range(min(args.num_clips, len(dataset))), desc="Clips"):
        clip = dataset.read(index, frames=(0, 1))
        rng = np.random.default_rng([args.seed, index])
        grid = (clip.flow.shape[2] // CELL, clip.flow.shape[3] // CELL)
        true_flow = (resize_flow(torch.from_numpy(clip.flow), grid)[0] * CELL).numpy()
        people = np.arange(1, len(clip.keypoints[0]) + 1)
        share = clip.masks[0][None] == people[:, None, None]  # [P, H, W]
        share = share.reshape(len(people), grid[0], CELL, grid[1], CELL).mean(axis=(2, 4))
        body, owner = share.sum(axis=0) > 0.5, share.argmax(axis=0)
        centers = (np.stack(np.meshgrid(*map(np.arange, grid[::-1])), axis=-1) + 0.5) * CELL  # [h, w, 2]
        joints, motion = clip.keypoints[0, ..., :2], np.diff(clip.keypoints[..., :2], axis=0)[0]  # [P, K, 2]
        in_view, known = clip.keypoints[0, ..., 2] > 0, (clip.keypoints[..., 2] > 0).all(axis=0)
        visible = clip.keypoints[0, ..., 2] == 2
        columns, rows = joints[visible].astype(int).T
        motion[visible] = clip.flow[0][:, rows, columns].T

        for number in args.strokes:
            points, displacements = keypoint_strokes(clip.flow[0], clip.keypoints[0], number, rng)
            if len(points) == 0:
                continue
            given, named = np.zeros(in_view.shape, bool), np.zeros(joints.shape)
            for point, displacement in zip(points, displacements):
                place = np.unravel_index(np.abs(joints - point).sum(axis=-1).argmin(), given.shape)
                given[place], named[place] = True, displacement
            answers = {
                "zero flow": np.zeros_like(true_flow),
                "nearest stroke": nearest_stroke_flow(points, displacements, grid, CELL) * CELL,
            }
            oracles = {name: np.zeros_like(true_flow) for name in ("same person", "expected joints", "all joints")}
            for person in range(len(people)):
                cells = body & (owner == person)
                where = centers[cells]
                if given[person].any():
                    own = nearest_stroke_flow(joints[person][given[person]], named[person][given[person]], grid, CELL)
                    oracles["same person"][:, cells] = own[:, cells] * CELL
                expected = expected_motion(covariance, given[person], named[person])
                expected = np.where(given[person][:, None], named[person], expected)
                oracles["expected joints"][:, cells] = limb_flow(joints[person], expected, in_view[person], where).T
                oracles["all joints"][:, cells] = limb_flow(
                    joints[person], motion[person], (known | visible)[person], where
                ).T
            for name, answer in (answers | oracles).items():
                error = np.linalg.norm(answer - true_flow, axis=0)[body]
                total = sums[number].setdefault(name, [0.0, 0])
                total[0] += float(error.sum())
                total[1] += error.size

    figures = {}
    for number, totals in sums.items():
        errors = {name: error / max(cells, 1) for name, (error, cells) in totals.items()}
        figures[f"{number} strokes, body (px)"] = errors
        for rival in ("zero flow", "nearest stroke"):
            figures[f"{number} strokes, over {rival}"] = {
                name: error / errors[rival] for name, error in errors.items()
            }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
