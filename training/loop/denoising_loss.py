"""L_G, the denoising loss of future-frame prediction, and the augmentation of its inputs."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin
from diffusers.training_utils import compute_snr

from mcdiff_pipeline.rollout import Motion, RolloutState


T = TypeVar("T", Motion, RolloutState)


def add_denoising_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the functions in this file."""
    group = parser.add_argument_group("loss of future-frame prediction")
    augmentation = group.add_mutually_exclusive_group()
    augmentation.add_argument(
        "--noise_augmentation",
        type=float,
        default=0.1,
        help="Adds noise to the current frame, with a standard deviation drawn from 0 to this number. So the model "
        "learns to continue from its own imperfect frames.",
    )
    augmentation.add_argument(
        "--no_noise_augmentation", dest="noise_augmentation", action="store_const", const=0.0, help="Add no noise."
    )
    group.add_argument(
        "--flow_dropout",
        type=float,
        default=0.0,
        help="Share of the samples without motion: zero flow and no strokes. Guidance on motion needs such samples.",
    )
    group.add_argument(
        "--image_dropout",
        type=float,
        default=0.0,
        help="Share of the samples without current and start frame (zeros).",
    )
    group.add_argument(
        "--noise_offset",
        type=float,
        default=0.0,
        help="Standard deviation of an offset to the noise of a whole channel, so that the model learns brightness at "
        "all timesteps (Guttenberg 2023), e.g. 0.1.",
    )
    group.add_argument(
        "--uncovered_weight",
        type=float,
        default=0.0,
        help="Cells of the start picture that are filled, since the start frame does not show them, have 1 + this "
        "number times the weight of the others in the loss. Needs a condition that is made of the start picture.",
    )
    group.add_argument("--snr_gamma", type=float, default=None, help="Min-SNR weighting (Hang et al. 2023), e.g. 5.")


def check_denoising_arguments(args: argparse.Namespace) -> None:
    """Raises `ValueError` if the weight is negative, or `args.conditioning` has no start picture that it needs."""
    if args.uncovered_weight < 0:
        raise ValueError(f"--uncovered_weight is {args.uncovered_weight}; it must be 0 or more.")
    if args.uncovered_weight and "start_picture" not in args.conditioning:
        raise ValueError(
            f"--uncovered_weight needs the start picture, but the conditions are {', '.join(args.conditioning)}; add "
            "start_picture, or leave it out."
        )


def augment_with_noise(latent: torch.Tensor, args: argparse.Namespace) -> torch.Tensor:
    """Adds noise to latents `[B, C, h, w]`, with a standard deviation drawn for each sample."""
    # `randn_like` would draw in another order for another memory layout.
    amount = args.noise_augmentation * torch.rand(len(latent), 1, 1, 1, device=latent.device)
    return latent + amount * torch.randn(latent.shape, device=latent.device)


def drop_conditions(state: RolloutState, motion: Motion, args: argparse.Namespace) -> tuple[RolloutState, Motion]:
    """Sets the motion, the frames or both to zero in some of the samples, each with its own probability."""
    motion = _zero_some(motion, ("dense_flow", "sparse_flow", "mask"), args.flow_dropout, state)
    return _zero_some(state, ("latents", "start_latents", "start_image"), args.image_dropout, state), motion


def _zero_some(given: T, names: tuple[str, ...], rate: float, state: RolloutState) -> T:
    """Sets the tensors with these names to zero, in a share `rate` of the samples of `state`."""
    if rate == 0:
        return given
    kept = torch.rand(len(state.latents), 1, 1, 1, device=state.latents.device) >= rate
    tensors = {name: getattr(given, name) for name in names}
    return replace(given, **{name: tensor * kept for name, tensor in tensors.items() if tensor is not None})


def denoising_loss(
    model: torch.nn.Module,
    scheduler: SchedulerMixin,
    conditions: torch.Tensor,
    target: torch.Tensor,
    args: argparse.Namespace,
    prompt_embeds: torch.Tensor | None = None,
    coverage: torch.Tensor | None = None,
    further_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """L_G: squared error of the predicted noise, velocity or sample (`prediction_type`), at random timesteps.

    Args:
        model (`torch.nn.Module`): the unet, as prepared for training.
        conditions (`torch.Tensor`): `[B, C', h, w]`, the input in addition to the noisy latent.
        target (`torch.Tensor`): `[B, C, h, w]`, the latent to denoise.
        prompt_embeds (`torch.Tensor`, *optional*): `[B, tokens, channels]`, for a unet that attends to text.
        coverage (`torch.Tensor`, *optional*): `[B, 1, h, w]` of `FrameConditions`, for `--uncovered_weight`.
        further_loss (`Callable`, *optional*): a loss to add. It takes the estimate of the target `[B, C, h, w]` that
            follows from the prediction, and the timesteps `[B]`.
    """
    noise = torch.randn(target.shape, device=target.device)
    if args.noise_offset > 0:
        noise = noise + args.noise_offset * torch.randn(*target.shape[:2], 1, 1, device=target.device)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(target),), device=target.device)
    noisy = scheduler.add_noise(target, noise, timesteps)
    model_input = torch.cat([noisy, conditions], dim=1).contiguous(memory_format=torch.channels_last)
    prediction = model(model_input, timesteps, encoder_hidden_states=prompt_embeds, return_dict=False)[0]
    predicts = scheduler.config.prediction_type
    if predicts == "v_prediction":
        expected = scheduler.get_velocity(target, noise, timesteps)
    else:
        expected = {"epsilon": noise, "sample": target}[predicts]
    error = F.mse_loss(prediction.float(), expected, reduction="none")
    if args.uncovered_weight and coverage is not None:
        weight = 1 + args.uncovered_weight * (1 - coverage.detach())
        error = error * (weight / weight.mean())
    error = error.mean(dim=(1, 2, 3))
    if args.snr_gamma is not None:
        snr = compute_snr(scheduler, timesteps)
        # what turns the squared error of each prediction into that of the noise (Hang et al. 2023)
        divisor = {"epsilon": snr, "v_prediction": snr + 1, "sample": 1}[predicts]
        error = error * snr.clamp(max=args.snr_gamma) / divisor
    if further_loss is None:
        return error.mean()
    signal = scheduler.alphas_cumprod.to(target.device)[timesteps].view(-1, 1, 1, 1)
    # of x_t = sqrt(a) x_0 + sqrt(1 - a) e, and v = sqrt(a) e - sqrt(1 - a) x_0 (Salimans and Ho 2022)
    if predicts == "sample":
        estimate = prediction.float()
    elif predicts == "epsilon":
        estimate = (noisy - (1 - signal).sqrt() * prediction.float()) / signal.sqrt().clamp_min(1e-3)
    else:
        estimate = signal.sqrt() * noisy - (1 - signal).sqrt() * prediction.float()
    return error.mean() + further_loss(estimate, timesteps)
