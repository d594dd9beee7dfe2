"""Regions that are drawn from the label maps of clips, as the input of training.

Users give regions that they draw, or that a segmentation model finds. So regions are given in some of the samples
only, not for all things, and with outlines that are not exact.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F

from loop.samples import FramePair, RegionSample
from loop.stroke_sampling import at, large_labels
from mcdiff_pipeline.dataset.sampling import rasterize_points


# Samples have this number of regions, so that they can be stacked; those that are not given are all zero. Further
# things of a frame are not given. A rendered frame shows up to 4.
NUM_REGIONS = 6
# Where regions are given, only those that a stroke touches with this probability, a random half with the next one, and
# all of them otherwise.
TOUCHED_PROBABILITY, HALF_PROBABILITY = 0.35, 0.15
# A region that is given is spoiled with this probability, by at most one latent cell.
SPOILED_PROBABILITY = 0.65


def add_region_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a model that reads regions."""
    group = parser.add_argument_group("regions")
    group.add_argument(
        "--reads_regions",
        action="store_true",
        help="Train a model that reads regions: a new one, or the pretrained one with new inputs of zero weight.",
    )
    add_region_probability_argument(group)


def add_region_probability_argument(parser: argparse._ActionsContainer) -> None:
    """Adds the argument of `draw_regions`."""
    parser.add_argument(
        "--region_probability",
        type=float,
        default=0.6,
        help="Share of the samples in which regions are given, for a model that reads them.",
    )


def draw_regions(
    pair: FramePair,
    points: np.ndarray,
    displacements: np.ndarray,
    args: argparse.Namespace,
    rng: np.random.Generator,
) -> RegionSample:
    """Draws the regions of one sample from its label map, and the strokes that belong to each.

    A stroke belongs to the region that is given at its point. For half of the samples it belongs to the thing at its
    point instead, even where the outline of the region is spoiled: in a rollout, a stroke keeps its region while the
    outline drifts.

    Args:
        points, displacements (`np.ndarray`): the strokes, float32 `[N, 2]` in pixels.
    """
    mask, size = pair["mask"], pair["latent"].shape[1:]
    labels = []
    if rng.random() < args.region_probability:
        labels = draw_labels(large_labels(mask, size), at(mask, points), rng)[:NUM_REGIONS]
    regions = np.zeros_like(mask)  # number of the region of each pixel; the last one wins where several overlap
    for number, label in enumerate(labels, 1):
        region = mask == label
        if rng.random() < SPOILED_PROBABILITY:
            region = spoil(region, int(rng.integers(1, mask.shape[0] // size[0] + 1)), rng)
        regions[region] = number
    numbers = at(regions, points)
    if rng.random() < 0.5:
        numbers = np.array([1 + labels.index(label) if label in labels else 0 for label in at(mask, points)])
    return rasterize_regions(regions, points, displacements, numbers, size)


def true_regions(pair: FramePair, points: np.ndarray, displacements: np.ndarray) -> RegionSample:
    """All things of a frame as regions with true outlines, for validation. Arguments: those of `draw_regions`."""
    mask, size = pair["mask"], pair["latent"].shape[1:]
    regions = np.zeros_like(mask)
    for number, label in enumerate(large_labels(mask, size)[:NUM_REGIONS], 1):
        regions[mask == label] = number
    return rasterize_regions(regions, points, displacements, at(regions, points), size)


def rasterize_regions(
    regions: np.ndarray, points: np.ndarray, displacements: np.ndarray, numbers: np.ndarray, size: tuple[int, int]
) -> RegionSample:
    """Puts regions and their strokes on the latent grid.

    Args:
        regions (`np.ndarray`): integer `[H, W]`, the number of the region of each pixel; 0 = none.
        points, displacements (`np.ndarray`): the strokes, float32 `[N, 2]` in pixels.
        numbers (`np.ndarray`): integer `[N]`, the number of the region to which each stroke belongs; 0 = none.
        size (`tuple[int, int]`): (h, w) in cells.
    """
    shares = torch.from_numpy(np.stack([regions == number for number in range(1, NUM_REGIONS + 1)])).float()
    strokes = [
        rasterize_points(points[numbers == number], displacements[numbers == number], size, regions.shape)
        for number in range(1, NUM_REGIONS + 1)
    ]
    return {
        "regions": F.interpolate(shares[None], size, mode="area")[0],
        "region_sparse_flow": torch.stack([sparse_flow for sparse_flow, _ in strokes]),
        "region_mask": torch.stack([mask for _, mask in strokes]),
    }


def draw_labels(labels: list[int], stroked: np.ndarray, rng: np.random.Generator) -> list[int]:
    """The things whose regions are given, in random order.

    Args:
        labels (`list[int]`): all things.
        stroked (`np.ndarray`): integer `[N]`, the label at each stroke.
    """
    kind = rng.random()
    if kind < TOUCHED_PROBABILITY:
        labels = [label for label in labels if label in stroked]
    elif kind < TOUCHED_PROBABILITY + HALF_PROBABILITY:
        labels = [label for label in labels if rng.random() < 0.5]
    return [labels[place] for place in rng.permutation(len(labels))]


def spoil(region: np.ndarray, radius: int, rng: np.random.Generator) -> np.ndarray:
    """A region with a displaced, grown, shrunken or ragged outline, as a coarse segmentation has it.

    The region is shifted and blurred. A threshold that varies over the image makes a new outline, at a distance of at
    most `radius` from the shifted one. A region of which nothing would be left is returned as it is.

    Args:
        region (`np.ndarray`): bool `[H, W]`.
        radius (`int`): largest shift, and largest distance by which the outline grows or shrinks, in pixels.
    """
    height, width = region.shape
    down, right = rng.integers(-radius, radius + 1, size=2) if rng.random() < 0.5 else (0, 0)
    padded = np.pad(region, radius, mode="edge")
    shifted = padded[radius - down : radius - down + height, radius - right : radius - right + width]
    blurred = F.avg_pool2d(
        torch.from_numpy(shifted)[None, None].float(), 2 * radius + 1, 1, radius, count_include_pad=False
    )
    raggedness = rng.uniform(0, 0.4) if rng.random() < 0.5 else 0.0
    noise = rng.uniform(-1, 1, (1, 1, -(-height // radius), -(-width // radius)))
    noise = F.interpolate(torch.from_numpy(noise).float(), (height, width), mode="bilinear")
    threshold = rng.uniform(0.1, 0.9) + raggedness * noise
    spoiled = ((blurred > threshold.clamp(1e-3, 1 - 1e-3))[0, 0]).numpy()
    return spoiled if spoiled.any() else region
