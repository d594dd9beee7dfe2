# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Checks of the inputs of a call, before anything slow starts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.utils import logging
from transformers import Dinov2Model

from .conditioning import FrameConditioner
from .flow_completion_unet import FlowCompletionUNet
from .latent_codec import Autoencoder, latent_scaling, vae_scale_factor
from .regions import is_number
from .rollout import Motion, RolloutState
from .semantic_features import channels_of_features


component_logger = logging.get_logger(__name__)


# What the pipeline uses of a scheduler. Flow matching, for example, has no `init_noise_sigma`.
SCHEDULER_PARTS = ("set_timesteps", "scale_model_input", "step", "init_noise_sigma")
# Tensors of schedulers that come from their configuration.
SCHEDULER_TENSORS = ("betas", "alphas_cumprod", "sigmas")
# Far above what is of use, and too small to overflow in half precision.
MAX_GUIDANCE = 1000


def check_scheduler(scheduler: Any, num_inference_steps: int) -> None:
    """Raises `ValueError` if the pipeline cannot run with a scheduler, or not with this number of steps."""
    missing = [name for name in SCHEDULER_PARTS if not hasattr(scheduler, name)]
    if missing:
        raise ValueError(
            f"`scheduler` is a {type(scheduler).__name__}, which has no `{missing[0]}`: give a scheduler for models "
            "that predict noise, such as DDIMScheduler or DPMSolverMultistepScheduler."
        )
    timesteps = scheduler.config.get("num_train_timesteps")
    if timesteps is not None and num_inference_steps > timesteps:
        raise ValueError(
            f"`num_inference_steps` is {num_inference_steps}, but `scheduler` has {timesteps} timesteps: give at most "
            "as many."
        )
    for name in SCHEDULER_TENSORS:
        tensor = getattr(scheduler, name, None)
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.isnan().any():
            raise ValueError(
                f"`scheduler` is a {type(scheduler).__name__} whose `{name}` holds NaN: correct beta_start and "
                "beta_end in its configuration."
            )


def check_vae(vae: Autoencoder, conditioner: FrameConditioner) -> None:
    """Raises `ValueError` if an autoencoder does not scale its latents by finite numbers, or if it is another one than
    the pipeline was made with, and has latents of another shape."""
    shape = (vae.config.latent_channels, vae_scale_factor(vae))
    if shape != (conditioner.latent_channels, conditioner.cell):
        raise ValueError(
            f"`vae` has latents of {shape[0]} channels and {shape[1]} pixels a cell, but this pipeline was made for "
            f"{conditioner.latent_channels} and {conditioner.cell}: make a pipeline of its own for this `vae`."
        )
    factor, shift = latent_scaling(vae)
    for name, value in (("scaling_factor", factor), ("shift_factor", shift)):
        if not is_number(value) or (name == "scaling_factor" and value == 0):
            raise ValueError(
                f"`vae` has {name} = {value!r}, but it has to be a finite number{' other than 0' * (value == 0)}: "
                "correct its configuration."
            )


def check_components(
    unet: UNet2DConditionModel | None,
    flow_completion: FlowCompletionUNet | None,
    conditioner: FrameConditioner,
    completes_strokes: bool = True,
) -> None:
    """Raises `ValueError` if the networks of a pipeline do not fit together, or F is missing where strokes need it."""
    if unet is not None and unet.config.in_channels != conditioner.in_channels:
        raise ValueError(
            f"`unet` takes {unet.config.in_channels} channels, but the noisy latent has {conditioner.latent_channels} "
            f"and `conditioning` {list(conditioner.names)} has {conditioner.channels}: give the `conditioning` "
            f"that `unet` was trained with, or a `unet` with `in_channels={conditioner.in_channels}`."
        )
    if completes_strokes and unet is not None and flow_completion is None and conditioner.needs_dense_flow:
        raise ValueError(
            f"`flow_completion` is None, but the conditions {conditioner.dense_flow_conditions} of `unet` are "
            "made of dense flow: give the `flow_completion` that completes strokes to it, or a `unet` that was "
            "trained with `sparse_flow`."
        )
    if flow_completion is not None and (
        flow_completion.config.in_channels != conditioner.latent_channels
        or flow_completion.config.vae_scale_factor != conditioner.cell
    ):
        raise ValueError(
            f"`flow_completion` reads latents of {flow_completion.config.in_channels} channels and "
            f"{flow_completion.config.vae_scale_factor} pixels a cell, but those of `vae` have "
            f"{conditioner.latent_channels} and {conditioner.cell}: use models that were trained together."
        )


def check_image_encoder(image_encoder: Dinov2Model | None, flow_completion: FlowCompletionUNet | None) -> None:
    """Raises `ValueError` if `flow_completion` reads features of another size than those of the encoder, and warns if
    it reads features but there is no encoder."""
    channels = channels_of_features(flow_completion)
    if channels is None:
        return
    if image_encoder is None:
        component_logger.warning(
            f"`flow_completion` reads semantic features of {channels} channels, but there is no `image_encoder`, so "
            "it runs without them, and strokes move whole things less: give the encoder that it was trained with."
        )
    elif image_encoder.config.hidden_size != channels:
        raise ValueError(
            f"`image_encoder` makes features of {image_encoder.config.hidden_size} channels, but `flow_completion` "
            f"reads {channels}: give the encoder that it was trained with, or None to run without features."
        )


def check_noise(
    generator: torch.Generator | list[torch.Generator] | None,
    latents: torch.Tensor | None,
    batch_size: int,
    num_frames: int,
    latent_shape: tuple[int, int, int],
) -> None:
    """Raises `ValueError` if generators or noise do not fit a call; `latent_shape` is (channels, height, width)."""
    generators = generator if isinstance(generator, list) else [] if generator is None else [generator]
    if not all(isinstance(one, torch.Generator) for one in generators):
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
    """Raises `ValueError` or `TypeError` if `dense_flow` does not fit a call at the working (height, width) `size`."""
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
        if flow is not None and not isinstance(flow, torch.Tensor):
            raise TypeError(
                f"`dense_flow` holds a {type(flow).__name__}, but each of its entries has to be a tensor or None."
            )
        if flow is not None and tuple(flow.shape) not in ((batch_size, 2, *grid), (batch_size, 2, height, width)):
            raise ValueError(
                f"`dense_flow` has the shape {tuple(flow.shape)} for one step, but it has to be "
                f"{(batch_size, 2, *grid)} on the latent grid or {(batch_size, 2, height, width)} on the pixels."
            )
        if flow is not None and not flow.isfinite().all():
            raise ValueError(
                "`dense_flow` holds values that are NaN or infinite: replace them, for example by those of the "
                "nearest cell, or give None for the step."
            )


def check_flow_steps(dense_flow: Sequence[object], num_frames: int) -> None:
    """Raises `ValueError` if flow is given for steps after the last frame."""
    if len(dense_flow) > num_frames - 1:
        raise ValueError(
            f"`dense_flow` is given for {len(dense_flow)} steps, but a video of {num_frames} frames has "
            f"{num_frames - 1}: leave the last ones out, or raise `num_frames`."
        )


def check_guidance(guidance_scale: object, conditioner: FrameConditioner, scheduler: Any) -> None:
    """Raises `ValueError` if guidance on motion has no number for a scale, or cannot be computed with a scheduler."""
    if not (is_number(guidance_scale) and 0 <= guidance_scale <= MAX_GUIDANCE):  # type: ignore[operator]
        raise ValueError(
            f"`guidance_scale` is {guidance_scale!r}, but it has to be a number from 0 to {MAX_GUIDANCE}; 1.0 is no "
            "guidance."
        )
    if guidance_scale == 1 or conditioner.residual_condition is None:
        return
    predicts = scheduler.config.get("prediction_type")
    if not hasattr(scheduler, "alphas_cumprod") or predicts not in ("epsilon", "sample", "v_prediction"):
        raise ValueError(
            f"`guidance_scale` is {guidance_scale}, but guidance of a model with `residual_condition` needs "
            f"`alphas_cumprod` and a prediction of noise, velocity or sample, and `scheduler` is a "
            f"{type(scheduler).__name__} with prediction_type {predicts!r}: give 1.0, or a scheduler such as "
            "DDIMScheduler."
        )


def check_running(eta: object, cancel: object, callback: object) -> None:
    """Raises `ValueError` or `TypeError` if an argument is wrong that tells how a call runs."""
    if not (is_number(eta) and 0 <= eta <= 1):  # type: ignore[operator]
        raise ValueError(f"`eta` is {eta!r}, but it has to be a number from 0 to 1.")
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise TypeError(f"`cancel` is a {type(cancel).__name__}, but it has to be a `threading.Event`.")
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback_on_step_end` is a {type(callback).__name__}, but it has to be a function.")


def check_carried(
    conditioner: FrameConditioner, output_size: object, regions: object, sources: Sequence[object] = ()
) -> None:
    """Raises `ValueError` if regions, frames at an output size or sources of motion are asked of a model without dense
    flow."""
    if conditioner.needs_dense_flow:
        return
    if output_size is not None:
        raise ValueError(
            f"`output_size` is {output_size!r}, but this model has no dense flow to carry the picture along: leave it "
            "out, and enlarge the frames afterwards."
        )
    if regions is not None:
        raise ValueError(
            "There are regions, but this model has no dense flow that could move them as wholes: leave them out."
        )
    if sources:
        raise ValueError(
            f"`motion` holds a {type(sources[0]).__name__}, but this model has no dense flow, only strokes: leave it "
            "out."
        )


def check_state(
    state: RolloutState,
    conditioner: FrameConditioner,
    unet: UNet2DConditionModel,
    flow_completion: FlowCompletionUNet | None,
    given: Mapping[str, object],
) -> None:
    """Raises `ValueError` if a state does not fit a model, or an argument in `given` is not None: a state holds it."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"`{name}` is given together with a state, which holds one: give it to `start`.")
    if state.latents.shape[1] != conditioner.latent_channels:
        raise ValueError(
            f"The state has latents of {state.latents.shape[1]} channels, but this model has "
            f"{conditioner.latent_channels}: continue a state with the model that made it."
        )
    if conditioner.needs_start_image and state.start_image is None:
        raise ValueError(
            "The state holds no start image, but this model needs one: continue a state with the model that made it."
        )
    features, channels = state.start_features, channels_of_features(flow_completion)
    if features is not None and channels is not None and features.shape[1] != channels:
        raise ValueError(
            f"The state has features of {features.shape[1]} channels, but this model reads {channels}: continue a "
            "state with the model that made it."
        )
    if reads_text(unet) and state.prompt_embeds is None:
        raise ValueError(
            "The state holds no encoded text, but this model needs it: continue a state with the model that made it."
        )


def check_step(
    state: object,
    motion: object,
    dense_flow: torch.Tensor | None,
    noise: torch.Tensor | None,
    sources: object = None,
) -> None:
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
        raise ValueError("`dense_flow` is given together with a `Motion`, which has its own dense flow: give one.")
    if sources is not None:
        raise ValueError("`motion` is given together with a `Motion`, which no source changes: give strokes instead.")
    for name, channels in (("dense_flow", 2), ("sparse_flow", 2), ("mask", 1)):
        part, expected = getattr(motion, name), (latents.shape[0], channels, *latents.shape[2:])
        if part is not None and tuple(part.shape) != expected:
            raise ValueError(
                f"`Motion.{name}` has the shape {tuple(part.shape)}, but on the latent grid of this state it has to "
                f"be {expected}."
            )
    if motion.mask is not None and motion.mask.dtype != torch.bool:
        raise ValueError(f"`Motion.mask` has the dtype {motion.mask.dtype}, but it has to be torch.bool: convert it.")


def text_blocks(unet: UNet2DConditionModel) -> list[str]:
    """The types of the blocks of a UNet that have cross-attention to text."""
    config = unet.config
    blocks = (*config.down_block_types, config.mid_block_type or "", *config.up_block_types)
    return [block for block in blocks if "CrossAttn" in block]


def reads_text(unet: UNet2DConditionModel) -> bool:
    """Whether a UNet has cross-attention to text."""
    return bool(text_blocks(unet))


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
