"""Strokes that are drawn from true flow, as the input of training."""

import argparse

import numpy as np
import torch

from loop.samples import FramePair
from mcdiff_pipeline.dataset.sampling import (
    CANDIDATES,
    STILL,
    pixel_centers,
    rasterize_points,
    sample_strokes,
    visible_keypoints,
    weighted_order,
)


# Things with a smaller area, in latent cells, get no strokes of their own.
MIN_CELLS = 4
# Strokes on one thing: one with this probability, else 2 to 4.
ONE_STROKE_PROBABILITY = 0.5
# A thing turns or grows if its flow differs from its mean by more than this share of it, as standard deviation.
TURNS = 0.1
# Strokes around the thing: none with this probability, else 1 to 3.
NO_STROKE_AROUND_PROBABILITY = 0.3
# A stroke around a thing is near it with this probability: at most this share of the frame's side from one of its
# pixels, in x and in y.
NEAR_PROBABILITY, NEAR = 0.5, 0.1
# A stroke on a thing is at a keypoint with this probability, if the thing has any.
KEYPOINT_PROBABILITY = 0.5
# Directions in which `surroundings` looks, (x, y).
DIRECTIONS = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)])


def add_stroke_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `draw_strokes`."""
    group = parser.add_argument_group("strokes")
    group.add_argument("--no_keypoints", action="store_true", help="Draw strokes at general points only.")
    group.add_argument(
        "--sampling",
        choices=("magnitude", "uniform"),
        default="magnitude",
        help="Draw points with a probability that grows with their motion, as in the paper, or uniformly.",
    )


def add_strokes_on_things_argument(parser: argparse._ActionsContainer) -> None:
    """Adds the argument of `draw_strokes_on_things`."""
    parser.add_argument(
        "--strokes_on_things",
        type=float,
        default=None,
        help="Share of the samples in which all moves are on one person or object. Default: 0.5 for a model that "
        "reads regions or features, else 0.",
    )


def set_strokes_on_things(args: argparse.Namespace, *, reads_either: bool) -> None:
    """Sets the default of `--strokes_on_things`, for a model that reads regions or features or for another one."""
    if args.strokes_on_things is None:
        args.strokes_on_things = 0.5 if reads_either else 0.0


def draw_strokes(pair: FramePair, args: argparse.Namespace, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws strokes for one pair of frames: points and displacements in pixels, float32 `[N, 2]` (x, y)."""
    return sample_strokes(
        pair["flow"],
        pair["mask"],
        pair["keypoints"],
        rng=rng,
        num_keypoints=0 if args.no_keypoints else None,
        sampling=args.sampling,
    )


def draw_sparse_flow(
    pair: FramePair, args: argparse.Namespace, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws strokes for one pair of frames and rasterizes them on the latent grid.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: sparse flow, float32 `[2, h, w]` in cells, and its bool mask `[1, h, w]`.
    """
    points, displacements = draw_strokes(pair, args, rng)
    return rasterize_points(points, displacements, pair["latent"].shape[1:], pair["flow"].shape[1:])


def draw_strokes_on_things(
    pair: FramePair, args: argparse.Namespace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws strokes that are all on the same person or object in a share of the samples, `args.strokes_on_things`.

    This is how a thing is moved as a whole: by one stroke or a few on it, and by some around it that say what stays. A
    fast thing is drawn more often. The other samples get the strokes of `draw_strokes`.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: points and displacements in pixels, float32 `[N, 2]` (x, y).
    """
    flow, mask = pair["flow"], pair["mask"]
    labels = large_labels(mask, pair["latent"].shape[1:])
    if rng.random() >= args.strokes_on_things or not labels:
        return draw_strokes(pair, args, rng)
    speeds = np.array([np.hypot(*flow[:, mask == label]).mean() for label in labels])
    label = labels[weighted_order(speeds + 0.1, rng)[0]]
    cell = mask.shape[0] // pair["latent"].shape[1]
    inside = points_inside(pair, label, cell, args, rng)
    around = points_around(pair, label, cell, rng)
    displacements = at(flow, around).T
    displacements[np.hypot(*displacements.T) < STILL] = 0
    displacements = np.concatenate([at(flow, inside).T, displacements]).astype(np.float32)
    return np.concatenate([inside, around]), displacements


def points_inside(
    pair: FramePair, label: int, cell: int, args: argparse.Namespace, rng: np.random.Generator
) -> np.ndarray:
    """Points on a thing, float32 `[N, 2]`. One is at a keypoint or a cell away from the outline, if possible.

    One stroke cannot say how a thing turns. Who draws one means a translation. But where things turn by random angles,
    the mean over all of them hardly moves far from the stroke, and that is what F would learn. So a thing with a new
    motion that turns has two strokes or more.
    """
    mask = pair["mask"]
    number = 1 if rng.random() < ONE_STROKE_PROBABILITY else int(rng.integers(2, 5))
    if number == 1 and pair.get("has_new_motions", False) and turns(pair["flow"][:, mask == label]):
        number = 2
    points = points_of(mask == label, CANDIDATES, rng)
    deep = np.flatnonzero((surroundings(mask, points, cell) == label).all(axis=0))
    first = deep[0] if len(deep) else 0
    points = np.concatenate([points[first : first + 1], np.delete(points, first, axis=0)[: number - 1]])
    keypoints = visible_keypoints(pair["keypoints"], mask.shape, mask)
    keypoints = keypoints[at(mask, keypoints) == label]
    at_keypoint = rng.random(number) < KEYPOINT_PROBABILITY
    if len(keypoints) and not args.no_keypoints:
        points[at_keypoint] = keypoints[rng.integers(len(keypoints), size=at_keypoint.sum())]
    return points


def turns(flow: np.ndarray) -> bool:
    """Whether a thing with this flow, `[2, N]` at its pixels, does anything but translate."""
    mean = flow.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(flow - mean).sum(axis=0).mean())
    return bool(deviation > TURNS * np.hypot(*mean)[0])


def points_around(pair: FramePair, label: int, cell: int, rng: np.random.Generator) -> np.ndarray:
    """Points that say what does not move with a thing, float32 `[N, 2]`, at least a cell away from it.

    They are on the background, which moves if the camera does, or on another thing that is still. Some are near the
    thing.
    """
    mask = pair["mask"]
    if rng.random() < NO_STROKE_AROUND_PROBABILITY:
        return np.zeros((0, 2), np.float32)
    reach = NEAR * np.sqrt(mask.size)
    anywhere = pixel_centers(rng, CANDIDATES, *mask.shape)
    near = points_of(mask == label, CANDIDATES, rng) + rng.uniform(-reach, reach, (CANDIDATES, 2))
    near = (np.floor(near) + 0.5).astype(np.float32)
    near = near[((near > 0) & (near < mask.shape[::-1])).all(axis=1)]
    found = []
    for candidates in (anywhere, near):
        is_still = np.hypot(*at(pair["flow"], candidates)) < STILL
        is_free = (surroundings(mask, candidates, cell) != label).all(axis=0)
        found.append(candidates[is_free & (is_still | (at(mask, candidates) == 0))])
    number = int(rng.integers(1, 4))
    number_near = min(int(rng.binomial(number, NEAR_PROBABILITY)), len(found[1]))
    return np.concatenate([found[0][: number - number_near], found[1][:number_near]])


def points_of(where: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """float32 `[number, 2]`: centers (x, y) of pixels of a mask, bool `[H, W]`, drawn uniformly with replacement."""
    pixels = np.flatnonzero(where)
    rows, columns = np.divmod(pixels[rng.integers(len(pixels), size=number)], where.shape[1])
    return np.stack([columns, rows], axis=1).astype(np.float32) + 0.5


def surroundings(mask: np.ndarray, points: np.ndarray, distance: int) -> np.ndarray:
    """`[9, N]`: the labels at points and at this distance from them in eight directions, inside the frame."""
    places = points[None] + distance * DIRECTIONS[:, None]
    places = places.clip(0, np.array(mask.shape[::-1]) - 1)
    return at(mask, places.reshape(-1, 2)).reshape(len(DIRECTIONS), -1)


def large_labels(mask: np.ndarray, size: tuple[int, int]) -> list[int]:
    """The labels of a label map `[H, W]` that cover `MIN_CELLS` latent cells or more, without 0."""
    cell_area = mask.size / (size[0] * size[1])
    labels, areas = np.unique(mask[mask > 0], return_counts=True)
    return labels[areas >= MIN_CELLS * cell_area].tolist()


def at(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The values `[..., H, W]` at points `[N, 2]`, (x, y) in pixels: `[..., N]`."""
    columns, rows = points.astype(np.int64).T
    return values[..., rows, columns]
