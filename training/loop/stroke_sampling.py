"""Strokes that are drawn from true flow, as the input of training."""

import argparse

import numpy as np
import torch

from loop.samples import FramePair
from mcdiff_pipeline.dataset.sampling import rasterize_points, sample_strokes


def add_stroke_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `draw_sparse_flow`."""
    group = parser.add_argument_group("strokes")
    group.add_argument("--no_keypoints", action="store_true", help="Draw strokes at general points only.")
    group.add_argument(
        "--sampling",
        choices=("magnitude", "uniform"),
        default="magnitude",
        help="Draw points with a probability that grows with their motion, as in the paper, or uniformly.",
    )


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
