# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What is asked of a thing in a photograph: strokes that move it as a whole, and the flow that they ask for.

Lengths are shares of the geometric mean of the sides of the photograph, so that they do not depend on its size and
shape. In comments they are in pixels of a working size of 256 × 256.
"""

import math
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from ..strokes import Stroke


# Sides of the grid on which points are chosen, in geometric mean.
POINT_GRID = 256
# A stroke starts this far inside the outline, or less if that leaves less than a fifth of the thing.
INSETS = (10, 6, 3, 0)
# A hold is this far outside the outline, or less if that leaves less than a fifth of what is outside.
OUTSETS = (24, 12, 6, 0)
SMALLEST_SHARE = 0.2
# The displacement of one step: 8 of 256 pixels, which are 4 of 128.
STEP = 1 / 32
# Steps of a stroke. The first one is measured.
STEPS = 5
# A rotation turns by this much in each step, in radians: 25 degrees in five steps.
TURN = math.radians(5)
# Translations go in this many directions, with equal angles between them; rotations go both ways.
DIRECTIONS = 4
TURNS = 2


@dataclass(frozen=True)
class Setup:
    """What kind of motion is asked for, and by how many strokes.

    Args:
        motion (`str`): "translation" or "rotation" about the centroid of the thing.
        strokes (`int`): number of strokes inside the thing.
        holds (`bool`): whether two holds lie outside it.
    """

    motion: str
    strokes: int
    holds: bool

    @property
    def directions(self) -> int:
        """In how many directions it is asked for; results are means over them."""
        return DIRECTIONS if self.motion == "translation" else TURNS

    @property
    def title(self) -> str:
        """Its name in reports."""
        count = f"{self.strokes} stroke{'s' * (self.strokes > 1)}"
        return f"{self.motion}, {count}" + ("" if self.holds else ", no holds")


SETUPS = tuple(
    Setup(motion, strokes, holds)
    for holds in (True, False)
    for motion, strokes in (("translation", 1), ("translation", 3), ("rotation", 3))
)


class AskedMotion:
    """The strokes of one setup in one direction, and the motion that they ask for.

    Args:
        name (`str`): name of the photograph. It seeds the first direction.
        mask (`np.ndarray`): bool `[H, W]`, the thing.
        setup (`Setup`): the setup.
        direction (`int`): which of its directions.
        seed (`int`): seed of the first direction of all photographs.
    """

    def __init__(self, name: str, mask: np.ndarray, setup: Setup, direction: int, seed: int) -> None:
        self.mask, self.setup = mask, setup
        rows, columns = np.nonzero(mask)
        self._center = np.array([columns.mean(), rows.mean()]) + 0.5
        self._turn = TURN * (-1) ** direction
        angle = np.random.default_rng([seed, zlib.crc32(name.encode())]).uniform(0, 2 * math.pi)
        angle += direction * 2 * math.pi / DIRECTIONS
        self._step = STEP * math.sqrt(mask.size) * np.array([math.cos(angle), math.sin(angle)])

    def displacements(self, points: np.ndarray, steps: int = 1) -> np.ndarray:
        """`[..., 2]`: how far points (x, y), in pixels of the photograph, are asked to move in some steps."""
        if self.setup.motion == "translation":
            return np.broadcast_to(steps * self._step, points.shape)
        cosine, sine = math.cos(steps * self._turn), math.sin(steps * self._turn)
        arms = points - self._center
        return arms @ np.array([[cosine, sine], [-sine, cosine]]) - arms

    @cached_property
    def start_points(self) -> np.ndarray:
        """`[N, 2]`: (x, y) in pixels of the photograph where the strokes inside the thing start."""
        return spread_points(self.mask, self.setup.strokes, INSETS)

    @cached_property
    def strokes(self) -> list[Stroke]:
        """The strokes inside the thing, and the holds."""
        strokes = []
        for point in self.start_points:
            track = [tuple(point + self.displacements(point, step)) for step in range(STEPS + 1)]
            still = math.dist(track[0], track[-1]) == 0  # the center of a rotation
            strokes.append(Stroke(track[:1], kind="hold") if still else Stroke(track, frames=list(range(STEPS + 1))))
        if self.setup.holds:
            strokes += [Stroke([tuple(point)], kind="hold") for point in spread_points(~self.mask, 2, OUTSETS)]
        return strokes

    def flow(self, size: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
        """The flow that one step asks for inside the thing.

        Args:
            size (`tuple[int, int]`): working (height, width) in pixels.
            grid (`tuple[int, int]`): (height, width) of the grid.

        Returns:
            `torch.Tensor`: float32 `[2, h, w]` in pixels of the working size.
        """
        scale = np.array(self.mask.shape[::-1]) / grid[::-1]  # pixels of the photograph per cell, x and y
        rows, columns = np.mgrid[: grid[0], : grid[1]]
        displacements = self.displacements((np.stack([columns, rows], axis=-1) + 0.5) * scale)
        displacements = displacements * (np.array(size[::-1]) / self.mask.shape[::-1])
        return torch.from_numpy(displacements.astype(np.float32)).movedim(-1, 0)


def spread_points(mask: np.ndarray, number: int, margins: tuple[int, ...]) -> np.ndarray:
    """Points of a mask that are far from its outline and from each other.

    The first is the one closest to the center of the mask. Each next one is farthest from those before it (Gonzalez
    1985).

    Args:
        mask (`np.ndarray`): bool `[H, W]`.
        number (`int`): number of points.
        margins (`tuple[int, ...]`): distances to the outline on the grid of points, of which the first one that leaves
            `SMALLEST_SHARE` of the mask is kept; the last one is 0.

    Returns:
        `np.ndarray`: float `[number, 2]`, (x, y) in pixels.

    Raises:
        ValueError: if the mask has fewer places than points.
    """
    scale = POINT_GRID / math.sqrt(mask.size)
    grid = [max(1, round(side * scale)) for side in mask.shape]
    covered = F.interpolate(torch.from_numpy(mask)[None, None].float(), grid, mode="area")
    for margin in margins:
        eroded = -_grow(-covered, margin)[0, 0] > 0.5
        if eroded.sum() >= SMALLEST_SHARE * covered.sum():
            break
    places = np.argwhere(eroded.numpy())
    if len(places) < number:
        raise ValueError(f"A mask of {int(mask.sum())} pixels has no room for {number} strokes; leave it out.")
    chosen = [places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]]
    while len(chosen) < number:
        nearest = np.min([np.square(places - place).sum(axis=1) for place in chosen], axis=0)
        chosen.append(places[nearest.argmax()])
    return (np.array(chosen)[:, ::-1] + 0.5) * (np.array(mask.shape[::-1]) / grid[::-1])


def _grow(values: torch.Tensor, distance: int) -> torch.Tensor:
    """The maximum of `[1, 1, H, W]` within a square, which reaches `distance` cells to each side."""
    rows = F.max_pool2d(values, (2 * distance + 1, 1), 1, (distance, 0))
    return F.max_pool2d(rows, (1, 2 * distance + 1), 1, (0, distance))
