"""Rollout states from batches of training data."""

import torch

from mcdiff_pipeline.flow import resize_flow
from mcdiff_pipeline.rollout import RolloutState


def state_from_batch(
    batch: dict[str, torch.Tensor], latents: torch.Tensor, prompt_embeds: torch.Tensor | None
) -> RolloutState:
    """The state of a rollout at a true frame.

    Args:
        batch (`dict`): `start_latent`, `start_flow` and `start_picture` of `ClipStart`; entries that no condition
            needs may be absent.
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
        prompt_embeds=None if prompt_embeds is None else prompt_embeds.expand(batch_size, -1, -1),
    )
