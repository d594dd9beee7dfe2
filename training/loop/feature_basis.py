"""The principal components of semantic features, in which flow completion compares them."""

import numpy as np
import torch

from loop.draws import SeededDraws
from loop.latent_cache import LatentClips
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet


# Tokens from which the components are estimated, and how many of them are from one frame.
NUM_TOKENS, TOKENS_OF_FRAME = 20000, 40
# Components with a smaller share of the largest standard deviation are divided by this share of it, so that they do
# not become noise.
SMALLEST_DEVIATION = 1e-3


def has_feature_basis(model: FlowCompletionUNet) -> bool:
    """Whether `set_feature_basis` was called for a model before."""
    return bool(model.stroke_attention.mean.any())


def feature_basis(
    clips: LatentClips, draws: SeededDraws, model: FlowCompletionUNet, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and whitened principal components of the features of the training clips.

    The frames are those of the first draws, so folders have the shares that they have in the training.

    Args:
        clips (`LatentClips`): clips with features.
        draws (`SeededDraws`): draws of these clips.
        model (`FlowCompletionUNet`): the model, which says how many components it needs.
        seed (`int`): seed of the choice of tokens.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: arguments of `FlowCompletionUNet.set_feature_basis`.
    """
    rng, tokens, number = np.random.default_rng([seed, 5]), [], NUM_TOKENS // TOKENS_OF_FRAME
    for draw in range(8 * number):  # of which some are left out
        index = draws.index(draw)
        if index is None:
            continue
        features = clips[index]["features"]
        features = features.reshape(len(features), -1)
        tokens.append(features[:, rng.integers(features.shape[1], size=TOKENS_OF_FRAME)].T)
        if len(tokens) == number:
            break
    values = np.concatenate(tokens).astype(np.float64)
    mean = values.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(values, rowvar=False))
    order = np.argsort(variances)[::-1][: len(model.stroke_attention.projection)]
    deviations = np.sqrt(variances[order].clip(min=0))
    deviations = deviations.clip(min=SMALLEST_DEVIATION * max(deviations[0], 1e-6))
    projection = axes[:, order].T / deviations[:, None]
    return torch.from_numpy(mean).float(), torch.from_numpy(projection).float()
