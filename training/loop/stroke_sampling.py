"""The strokes that the training scripts draw from true flow, and the switches that say how."""

import argparse

import numpy as np
import torch

from mcdiff_pipeline.dataset.sampling import rasterize_points, sample_strokes


def add_stroke_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that `draw_sparse_flow` reads."""
    group = parser.add_argument_group("strokes")
    group.add_argument("--no_keypoints", action="store_true", help="Draw strokes at general points only.")
    group.add_argument(
        "--sampling",
        choices=("magnitude", "uniform"),
        default="magnitude",
        help="Draw points by how far they move, as in the paper, or all with the same probability.",
    )


def draw_sparse_flow(
    pair: dict[str, np.ndarray], args: argparse.Namespace, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Strokes of one pair of `LatentClips` on its latent grid.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: sparse flow float32 `[2, h, w]` in pixels and its bool mask `[1, h, w]`.
    """
    points, displacements = sample_strokes(
        pair["flow"],
        pair["mask"],
        pair["keypoints"],
        rng=rng,
        num_keypoints=0 if args.no_keypoints else None,
        sampling=args.sampling,
    )
    sparse_flow, mask = rasterize_points(points, displacements, pair["latent"].shape[1:], pair["flow"].shape[1:])
    return sparse_flow * (pair["flow"].shape[2] // pair["latent"].shape[2]), mask
