"""L_G, the denoising loss of future-frame prediction, and what its inputs go through in training."""

import argparse

import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin
from diffusers.training_utils import compute_snr


def add_denoising_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that the functions of this file read."""
    group = parser.add_argument_group("loss of future-frame prediction")
    augmentation = group.add_mutually_exclusive_group()
    augmentation.add_argument(
        "--noise_augmentation",
        type=float,
        default=0.1,
        help="The previous frame gets noise of a standard deviation drawn from 0 to this, so that the model learns to "
        "go on from its own imperfect frames.",
    )
    augmentation.add_argument(
        "--no_noise_augmentation", dest="noise_augmentation", action="store_const", const=0.0, help="Leave that out."
    )
    group.add_argument(
        "--flow_dropout",
        type=float,
        default=0.0,
        help="Part of the samples without motion: zero flow and no strokes. What guidance on motion starts from.",
    )
    group.add_argument(
        "--image_dropout", type=float, default=0.0, help="Part of the samples without current and start frame (zeros)."
    )
    group.add_argument(
        "--noise_offset",
        type=float,
        default=0.0,
        help="Standard deviation of what is added to the noise of a whole channel, so that brightness is learned at "
        "all timesteps (Guttenberg 2023), e.g. 0.1.",
    )
    group.add_argument("--snr_gamma", type=float, default=None, help="Min-SNR weighting (Hang et al. 2023), e.g. 5.")


def augment_with_noise(latent: torch.Tensor, args: argparse.Namespace) -> torch.Tensor:
    """Adds noise of a standard deviation drawn for each sample; latents `[B, C, h, w]`."""
    amount = args.noise_augmentation * torch.rand(len(latent), 1, 1, 1, device=latent.device)
    return latent + amount * torch.randn_like(latent)


def drop_conditions(condition: dict[str, torch.Tensor], args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Takes the motion, the frames or both from some of the samples.

    Args:
        condition (`dict`): tensors whose first axis is the batch, by name: `flow`, `sparse_flow` and `mask` are the
            motion of the step; `latent`, `start_latent` and `start_picture` are frames; others are left alone.
    """
    names = {
        "flow_dropout": ("flow", "sparse_flow", "mask"),
        "image_dropout": ("latent", "start_latent", "start_picture"),
    }
    condition = dict(condition)
    for argument, dropped in names.items():
        rate = getattr(args, argument)
        if rate > 0:
            kept = torch.rand(len(condition["latent"]), 1, 1, 1, device=condition["latent"].device) >= rate
            condition |= {name: condition[name] * kept for name in dropped if name in condition}
    return condition


def denoising_loss(
    model: torch.nn.Module,
    scheduler: SchedulerMixin,
    conditions: torch.Tensor,
    target: torch.Tensor,
    args: argparse.Namespace,
    prompt_embeds: torch.Tensor | None = None,
) -> torch.Tensor:
    """L_G: squared error of the noise (or velocity) that G predicts in the noisy next frame, at random timesteps.

    Args:
        conditions (`torch.Tensor`): `[B, C', h, w]`, what G is given beside the noisy latent.
        target (`torch.Tensor`): `[B, C, h, w]`, scaled latent of the next frame.
        prompt_embeds (`torch.Tensor`, *optional*): `[B, tokens, channels]`, for a G that attends to text.
    """
    noise = torch.randn_like(target)
    if args.noise_offset > 0:
        noise = noise + args.noise_offset * torch.randn(*target.shape[:2], 1, 1, device=target.device)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(target),), device=target.device)
    noisy = scheduler.add_noise(target, noise, timesteps)
    model_input = torch.cat([noisy, conditions], dim=1).contiguous(memory_format=torch.channels_last)
    prediction = model(model_input, timesteps, encoder_hidden_states=prompt_embeds, return_dict=False)[0]
    predicts_noise = scheduler.config.prediction_type == "epsilon"
    wanted = noise if predicts_noise else scheduler.get_velocity(target, noise, timesteps)
    error = F.mse_loss(prediction.float(), wanted, reduction="none").mean(dim=(1, 2, 3))
    if args.snr_gamma is not None:
        snr = compute_snr(scheduler, timesteps)
        error = error * snr.clamp(max=args.snr_gamma) / (snr if predicts_noise else snr + 1)
    return error.mean()
