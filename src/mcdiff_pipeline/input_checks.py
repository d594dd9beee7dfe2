# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Checks of the arguments of a call, before anything slow starts."""

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel

from .conditioning import FrameConditioner
from .rollout import Motion, RolloutState


def check_noise(
    generator: torch.Generator | list[torch.Generator] | None,
    latents: torch.Tensor | None,
    batch_size: int,
    num_frames: int,
    latent_shape: tuple[int, int, int],
) -> None:
    """Raises `ValueError` if generators or noise do not fit a call; `latent_shape` is (channels, height, width)."""
    generators = generator if isinstance(generator, list) else [generator]
    if not all(one is None or isinstance(one, torch.Generator) for one in generators):
        raise ValueError(
            f"`generator` is {generator!r}, but it has to be a `torch.Generator` or a list of one for each image: "
            "give torch.Generator().manual_seed(0) for the seed 0."
        )
    if isinstance(generator, list) and len(generator) != batch_size:
        raise ValueError(
            f"`generator` is a list of {len(generator)}, but there are {batch_size} images: give one for each, or "
            "a single one."
        )
    if latents is not None:
        expected = (batch_size, num_frames - 1, *latent_shape)
        if tuple(latents.shape) != expected:
            raise ValueError(
                f"`latents` has the shape {tuple(latents.shape)}, but the noise of all steps of this call has "
                f"{expected}: (images, num_frames - 1, channels, height, width of the latent grid)."
            )


def check_dense_flow(
    dense_flow: torch.Tensor | Sequence[torch.Tensor | None] | None,
    batch_size: int,
    size: tuple[int, int],
    conditioner: FrameConditioner,
) -> None:
    """Raises `ValueError` if `dense_flow` does not fit a call at the working (height, width) `size`."""
    if dense_flow is None:
        return
    if not conditioner.needs_dense_flow:
        raise ValueError(
            f"`dense_flow` is given, but the conditions of this model, {list(conditioner.names)}, are not made of "
            "dense flow: leave it out."
        )
    if isinstance(dense_flow, torch.Tensor) and dense_flow.ndim != 5:
        raise ValueError(
            f"`dense_flow` has the shape {tuple(dense_flow.shape)}, but a tensor for several steps has five "
            "dimensions, (images, steps, 2, height, width): give a list of tensors to name single steps."
        )
    height, width = size
    grid = (height // conditioner.cell, width // conditioner.cell)
    for flow in dense_flow.unbind(1) if isinstance(dense_flow, torch.Tensor) else dense_flow:
        if flow is not None and tuple(flow.shape) not in ((batch_size, 2, *grid), (batch_size, 2, height, width)):
            raise ValueError(
                f"`dense_flow` has the shape {tuple(flow.shape)} for one step, but it has to be "
                f"{(batch_size, 2, *grid)} on the latent grid or {(batch_size, 2, height, width)} on the pixels."
            )


def check_step(state: object, motion: object, dense_flow: torch.Tensor | None, noise: torch.Tensor | None) -> None:
    """
    Raises `TypeError` if `state` is not a state, and `ValueError` if the noise or the [`Motion`] of one step does not
    fit the latents of its state.
    """
    if not isinstance(state, RolloutState):
        raise TypeError(
            f"`state` is a {type(state).__name__}, but it has to be a `RolloutState`: `start` makes one of an image."
        )
    latents = state.latents
    if noise is not None and noise.shape != latents.shape:
        raise ValueError(
            f"`noise` has the shape {tuple(noise.shape)}, but the noise of one step has the shape of the latents, "
            f"{tuple(latents.shape)}."
        )
    if not isinstance(motion, Motion):
        return
    if dense_flow is not None:
        raise ValueError("`dense_flow` is given beside a `Motion`, which has dense flow of its own: give one of them.")
    for name, channels in (("dense_flow", 2), ("sparse_flow", 2), ("mask", 1)):
        part, expected = getattr(motion, name), (latents.shape[0], channels, *latents.shape[2:])
        if part is not None and tuple(part.shape) != expected:
            raise ValueError(
                f"`motion.{name}` has the shape {tuple(part.shape)}, but on the latent grid of this state it has to "
                f"be {expected}."
            )


def reads_text(unet: UNet2DConditionModel) -> bool:
    """Whether a UNet has cross-attention to text."""
    config = unet.config
    blocks = (*config.down_block_types, config.mid_block_type or "", *config.up_block_types)
    return any("CrossAttn" in block for block in blocks)


def check_text(
    prompt: str | list[str] | None,
    prompt_embeds: torch.Tensor | None,
    batch_size: int,
    unet: UNet2DConditionModel,
    has_text_encoder: bool,
) -> None:
    """Raises `ValueError` if a text is given that the model does not read, or one that it needs is missing."""
    if prompt is not None and prompt_embeds is not None:
        raise ValueError("`prompt` and `prompt_embeds` say the same thing twice: give only one of them.")
    needs_text = reads_text(unet)
    if prompt is not None and not (has_text_encoder and needs_text):
        raise ValueError(
            f"`prompt` is {prompt!r}, but this model takes no text (no text encoder or no cross-attention): "
            "leave `prompt` out."
        )
    if isinstance(prompt, list) and len(prompt) not in (1, batch_size):
        raise ValueError(
            f"`prompt` is a list of {len(prompt)}, but there are {batch_size} images: give one text for each "
            "image, or one for all."
        )
    if prompt_embeds is not None and not needs_text:
        raise ValueError(
            "`prompt_embeds` is given, but the `unet` of this model has no cross-attention to text: leave it out."
        )
    if prompt_embeds is not None and (prompt_embeds.ndim != 3 or prompt_embeds.shape[0] != batch_size):
        raise ValueError(
            f"`prompt_embeds` has the shape {tuple(prompt_embeds.shape)}, but it has to be ({batch_size}, tokens, "
            f"channels) for {batch_size} images."
        )
    if needs_text and not has_text_encoder and prompt_embeds is None:
        raise ValueError(
            "This model's `unet` attends to text, but there is no text encoder: load the pipeline with one, or "
            "give `prompt_embeds`."
        )
