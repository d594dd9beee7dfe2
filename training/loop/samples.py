"""The dictionaries of training data.

Samples are dictionaries, since torch's `default_collate` stacks these to batches. Shapes are for one sample;
the same entry of a batch has one more axis in front. `C` is the number of latent channels, `h, w` the size of the
latent grid, `H, W` the size of the frames in pixels, `D, h', w'` channels and size of the semantic features. Latents
are scaled as the pipeline scales them.
"""

from typing import NotRequired, TypedDict

import numpy as np
import torch


class FramePair(TypedDict):
    """Two consecutive frames of a clip, t and t + 1: an item of `LatentClips`.

    latent, next_latent: float32 `[C, h, w]` of frame t and of frame t + 1.
    flow: float32 `[2, H, W]`, forward flow from t to t + 1 in pixels, rounded to float16.
    mask: uint8 `[H, W]` of frame t, 0 = background, k = k-th person or object.
    keypoints: float32 `[P, K, 3]` of frame t (x, y, visibility), padded with visibility 0.
    features: float32 `[D, h', w']`, semantic features of frame t; only with an image encoder.
    has_new_motions: True if the flow is not that of the clip, see `with_new_motions`; else missing.
    """

    latent: np.ndarray
    next_latent: np.ndarray
    flow: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray
    features: NotRequired[np.ndarray]
    has_new_motions: NotRequired[bool]


class ClipStart(TypedDict):
    """The start of a clip, as seen from a later frame t.

    start_latent: float32 `[C, h, w]` of frame 0.
    start_flow: float32 `[2, H, W]`, flow from frame 0 to frame t in pixels.
    start_picture: float32 `[3, H, W]` in [0, 1], frame 0; only where it is asked for.
    start_features: float32 `[D, h', w']`, semantic features of frame 0; only where they are asked for. All zeros mean
        that none are given.
    """

    start_latent: np.ndarray
    start_flow: np.ndarray
    start_picture: NotRequired[np.ndarray]
    start_features: NotRequired[np.ndarray]


class RegionSample(TypedDict):
    """The regions of a sample, and the strokes that belong to each.

    regions: float32 `[K, h, w]` in [0, 1], share of each cell that belongs to each region; zeros if it is not given.
    region_sparse_flow, region_mask: the strokes, float32 `[K, 2, h, w]` in cells and bool `[K, 1, h, w]`.
    """

    regions: torch.Tensor
    region_sparse_flow: torch.Tensor
    region_mask: torch.Tensor


class FlowSample(TypedDict):
    """A sample of flow completion.

    latent: float32 `[C, h, w]`.
    sparse_flow, mask: the strokes, float32 `[2, h, w]` in cells and bool `[1, h, w]`.
    flow: the true flow, float32 `[2, H, W]` in pixels.
    labels: uint8 `[1, H, W]`, 0 = background, k = k-th person or object.
    regions, region_sparse_flow, region_mask: as in `RegionSample`; only for a model that reads regions.
    features: float32 `[D, h', w']`, semantic features; only for a model that reads them. All zeros mean that none are
        given.
    """

    latent: np.ndarray
    sparse_flow: torch.Tensor
    mask: torch.Tensor
    flow: np.ndarray
    labels: np.ndarray
    regions: NotRequired[torch.Tensor]
    region_sparse_flow: NotRequired[torch.Tensor]
    region_mask: NotRequired[torch.Tensor]
    features: NotRequired[np.ndarray]


class LayerSample(TypedDict):
    """The things of a clip as layers of motion, L of them, for k steps from a frame t; see `Layers`.

    layer_shares: float32 `[L, H, W]`, share of each pixel of frame 0 that belongs to each layer.
    start_layer_flow: float32 `[L, 2, h, w]`, flow of each layer from frame 0 to frame t, in cells.
    layer_flow: float32 `[k, L, 2, h, w]`, flow of each layer in each step, in cells.
    """

    layer_shares: torch.Tensor
    start_layer_flow: torch.Tensor
    layer_flow: torch.Tensor


class FrameSample(TypedDict, total=False):
    """A sample of future-frame prediction: k steps from a frame t, and the entries that the conditions need.

    latent: as in `FramePair`, of frame t.
    next_latent, flow: as in `FramePair`, with an axis of k steps in front.
    start_latent, start_flow, start_picture: as in `ClipStart`.
    sparse_flow, mask: as in `FlowSample`, with an axis of k steps in front.
    layer_shares, start_layer_flow, layer_flow: as in `LayerSample`; only for training with regions.
    """

    latent: np.ndarray
    next_latent: np.ndarray
    flow: np.ndarray
    start_latent: np.ndarray
    start_flow: np.ndarray
    start_picture: np.ndarray
    sparse_flow: torch.Tensor
    mask: torch.Tensor
    layer_shares: torch.Tensor
    start_layer_flow: torch.Tensor
    layer_flow: torch.Tensor


class RolloutSample(TypedDict):
    """k consecutive steps of a clip.

    latent: float32 `[k + 1, C, h, w]` of the frames.
    flow, labels, sparse_flow, mask: as in `FlowSample`, with an axis of k steps in front.
    start_latent, start_flow, start_picture, start_features: as in `ClipStart`, as seen from the first of the frames.
    regions, region_sparse_flow, region_mask: as in `RegionSample`, of the last step; only for a model that reads
        regions.
    """

    latent: np.ndarray
    flow: np.ndarray
    labels: np.ndarray
    sparse_flow: torch.Tensor
    mask: torch.Tensor
    start_latent: np.ndarray
    start_flow: np.ndarray
    start_picture: NotRequired[np.ndarray]
    start_features: NotRequired[np.ndarray]
    regions: NotRequired[torch.Tensor]
    region_sparse_flow: NotRequired[torch.Tensor]
    region_mask: NotRequired[torch.Tensor]
