"""Motions that are drawn for the things of a frame, as the input of training.

Flow completion sees one frame, and the flow of its things can be any that strokes may ask for. So labeled things can
be given other motions than those of their clip, without rendering anything.
"""

import numpy as np

from loop.samples import FramePair
from loop.stroke_sampling import large_labels


# Each thing moves with this probability, and one of them always does.
MOVES_PROBABILITY = 0.6
# The background moves with this probability, as under a moving camera.
CAMERA_PROBABILITY = 0.25
# A thing translates, turns, or does both, with equal probabilities. Displacements are shares of the frame's side, in
# one step: 1/32 are 4 of 128 pixels.
DISPLACEMENT, LARGEST_DISPLACEMENT = 1 / 32, 0.1
# Radians and logarithm of the scale in one step.
LARGEST_TURN, GROWTH = np.deg2rad(12), 0.03
# The camera's, which moves less.
CAMERA_DISPLACEMENT, CAMERA_TURN, CAMERA_GROWTH = 1 / 50, 0.02, 0.015

# A similarity `z -> center + factor (z - center) + shift` of points z = x + iy, as (center, factor, shift) in pixels.
Motion = tuple[complex, complex, complex]
STILL: Motion = (0j, 1 + 0j, 0j)


def with_new_motions(pair: FramePair, rng: np.random.Generator) -> FramePair:
    """Gives each large thing of a frame a new motion, a random similarity, and the background that of a camera.

    Args:
        pair (`FramePair`): a pair of frames. Things with few cells move with the background.
        rng (`np.random.Generator`): source of randomness.

    Returns:
        `FramePair`: the same with other flow, as far as flow completion reads it: `next_latent` is no longer the frame
        that the flow leads to. Unchanged if no thing is large.
    """
    mask = pair["mask"]
    labels = large_labels(mask, pair["latent"].shape[1:])
    if not labels:
        return pair
    flow = displacements(random_camera(mask.shape, rng), *np.indices(mask.shape)).astype(np.float32)
    moves = rng.random(len(labels)) < MOVES_PROBABILITY
    moves[rng.integers(len(labels))] = True
    for label, is_moving in zip(labels, moves, strict=True):
        rows, columns = np.nonzero(mask == label)
        motion = random_motion(rows, columns, np.sqrt(mask.size), rng) if is_moving else STILL
        flow[:, rows, columns] = displacements(motion, rows, columns)
    return {**pair, "flow": flow, "has_new_motions": True}


def random_motion(rows: np.ndarray, columns: np.ndarray, side: float, rng: np.random.Generator) -> Motion:
    """The motion of a thing with pixels at these rows and columns, in a frame with the geometric mean `side`."""
    center = complex(columns.mean() + 0.5, rows.mean() + 0.5)
    translates, turns = ((True, False), (False, True), (True, True))[rng.integers(3)]
    factor, shift = 1 + 0j, 0j
    if translates:
        speed = side * min(DISPLACEMENT * np.exp(rng.normal(0, 0.6)), LARGEST_DISPLACEMENT)
        shift = speed * np.exp(2j * np.pi * rng.random())
    if turns:
        factor = np.exp(rng.normal(0, GROWTH) + 1j * rng.uniform(-LARGEST_TURN, LARGEST_TURN))
        radius = np.abs(columns + 0.5 + 1j * (rows + 0.5) - center).max()
        factor = 1 + (factor - 1) * min(1, LARGEST_DISPLACEMENT * side / max(abs(factor - 1) * radius, 1e-6))
    return center, factor, shift


def random_camera(size: tuple[int, int], rng: np.random.Generator) -> Motion:
    """The motion of the background of a frame of (H, W): mostly none."""
    center, side = complex(size[1] / 2, size[0] / 2), np.sqrt(size[0] * size[1])
    if rng.random() >= CAMERA_PROBABILITY:
        return STILL
    shift = side * CAMERA_DISPLACEMENT * complex(*rng.normal(size=2))
    factor = np.exp(rng.normal(0, CAMERA_GROWTH) + 1j * rng.normal(0, CAMERA_TURN)) if rng.random() < 0.5 else 1 + 0j
    return center, factor, shift


def displacements(motion: Motion, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """How far a motion moves the centers of pixels, `[2, ...]` in pixels (x, y)."""
    center, factor, shift = motion
    displacement = (factor - 1) * (columns + 0.5 + 1j * (rows + 0.5) - center) + shift
    return np.stack([displacement.real, displacement.imag])
