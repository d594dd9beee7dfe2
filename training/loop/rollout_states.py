"""Rollout states and motions from batches of training data. The things of a clip may be their regions."""

import numpy as np
import torch
import torch.nn.functional as F

from mcdiff_pipeline.flow import accumulate_flow, resize_flow
from mcdiff_pipeline.layers import LayerMotion, Layers, LayerTraits, extend_flow
from mcdiff_pipeline.rollout import Motion, RolloutState
from mcdiff_pipeline.similarity import identity_similarity


# Layer 0, and the largest things of a frame. A rendered frame shows up to 4.
NUM_LAYERS = 5


def state_from_batch(
    batch: dict[str, torch.Tensor], latents: torch.Tensor, prompt_embeds: torch.Tensor | None
) -> RolloutState:
    """The state of a rollout at a true frame.

    Args:
        batch (`dict`): `start_latent`, `start_flow`, `start_picture` and `start_features` of `ClipStart`; entries
            that nothing needs may be absent. With `layer_shares` and `start_layer_flow` of `LayerSample`, the state
            has layers.
        latents (`torch.Tensor`): `[B, C, h, w]` of the frame.
        prompt_embeds (`torch.Tensor`, *optional*): `[1, tokens, channels]`, the same text for all samples.
    """
    batch_size, _, height, width = latents.shape
    accumulated_flow = torch.zeros(batch_size, 2, height, width, device=latents.device)
    if "start_flow" in batch:
        accumulated_flow = resize_flow(batch["start_flow"], (height, width))
    return RolloutState(
        frame=0,
        latents=latents,
        start_latents=batch.get("start_latent", latents),
        accumulated_flow=accumulated_flow,
        start_image=batch.get("start_picture"),
        start_features=batch.get("start_features"),
        layers=layers_from_batch(batch) if "layer_shares" in batch else None,
        prompt_embeds=None if prompt_embeds is None else prompt_embeds.expand(batch_size, -1, -1),
    )


def layers_from_batch(batch: dict[str, torch.Tensor]) -> Layers:
    """The layers of a batch of `LayerSample`."""
    shares = batch["layer_shares"]
    batch_size, number, height, width = shares.shape
    return Layers(
        shares=shares,
        accumulated_flow=batch["start_layer_flow"],
        similarities=identity_similarity(batch_size, number).to(shares.device),
        traits=tuple(tuple(LayerTraits() for _ in range(number - 1)) for _ in range(batch_size)),
        image_sizes=((height, width),) * batch_size,
        labels=tuple({} for _ in range(batch_size)),
    )


def motion_from_batch(batch: dict[str, torch.Tensor], step: int, grid: tuple[int, int]) -> Motion:
    """The true motion of one of the k steps of a batch of `FrameSample`, on a grid of (height, width) cells."""
    dense_flow = layers = None
    if "flow" in batch:
        dense_flow = resize_flow(batch["flow"][:, step], grid)
    if "layer_flow" in batch:
        flow = batch["layer_flow"][:, step]
        layers = LayerMotion(flow, identity_similarity(*flow.shape[:2]).to(flow.device))
    sparse_flow, mask = (batch[name][:, step] if name in batch else None for name in ("sparse_flow", "mask"))
    return Motion(dense_flow, sparse_flow, mask, layers)


def layer_entries(flow: np.ndarray, labels: np.ndarray, steps: int, grid: tuple[int, int]) -> dict[str, torch.Tensor]:
    """The things of a clip as layers; see `LayerSample`.

    Args:
        flow (`np.ndarray`): float32 `[n, 2, H, W]` in pixels, of all steps from frame 0 on.
        labels (`np.ndarray`): uint8 `[n, H, W]`, the label map of the frame before each step.
        steps (`int`): how many of the last steps are those of the sample.
        grid (`tuple[int, int]`): (height, width) in latent cells.
    """
    number = torch.arange(NUM_LAYERS)[:, None, None]
    things, areas = np.unique(labels[0][labels[0] > 0], return_counts=True)
    of_label = np.zeros(256, np.int64)  # the layer of each label; the smallest things stay in layer 0
    of_label[things[areas.argsort()[::-1]][: NUM_LAYERS - 1]] = range(1, min(len(things), NUM_LAYERS - 1) + 1)
    shares = [(torch.from_numpy(of_label[one]) == number).float() for one in labels]  # [L, H, W] each
    by_step = torch.stack([_layer_flow(torch.from_numpy(u), one, grid) for u, one in zip(flow, shares, strict=True)])
    start = torch.zeros_like(by_step[0])
    for step in by_step[: len(by_step) - steps]:
        start = accumulate_flow(start, step)
    return {"layer_shares": shares[0], "start_layer_flow": start, "layer_flow": by_step[len(by_step) - steps :]}


def _layer_flow(flow: torch.Tensor, shares: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The complete flow of each layer `[L, 2, h, w]` in cells: the mean over its pixels in a cell, continued to where
    it is not seen. The flow is `[2, H, W]` in pixels, the shares `[L, H, W]`."""
    known = F.adaptive_avg_pool2d(shares[:, None], grid)
    masked = resize_flow(shares[:, None] * flow, grid)  # [L, 2, h, w]
    return extend_flow((masked / known.clamp_min(1e-6))[None], known[None, :, 0])[0]
