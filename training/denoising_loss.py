"""L_G, the denoising loss of future-frame prediction, and what its inputs go through in training."""

import argparse

import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin
from diffusers.training_utils import compute_snr


def add_denoising_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that `denoising_loss` and `augment_with_noise` read."""
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
    group.add_argument("--snr_gamma", type=float, default=None, help="Min-SNR weighting (Hang et al. 2023), e.g. 5.")


def augment_with_noise(latent: torch.Tensor, args: argparse.Namespace) -> torch.Tensor:
    """Adds noise of a standard deviation drawn for each sample; latents `[B, C, h, w]`."""
    amount = args.noise_augmentation * torch.rand(len(latent), 1, 1, 1, device=latent.device)
    return latent + amount * torch.randn_like(latent)


def denoising_loss(
    model: torch.nn.Module,
    scheduler: SchedulerMixin,
    conditions: torch.Tensor,
    target: torch.Tensor,
    args: argparse.Namespace,
) -> torch.Tensor:
    """L_G: squared error of the noise (or velocity) that G predicts in the noisy next frame, at random timesteps.

    Args:
        conditions (`torch.Tensor`): `[B, C', h, w]`, what G is given beside the noisy latent.
        target (`torch.Tensor`): `[B, C, h, w]`, scaled latent of the next frame.
    """
    noise = torch.randn_like(target)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(target),), device=target.device)
    noisy = scheduler.add_noise(target, noise, timesteps)
    model_input = torch.cat([noisy, conditions], dim=1).contiguous(memory_format=torch.channels_last)
    prediction = model(model_input, timesteps, encoder_hidden_states=None, return_dict=False)[0]
    predicts_noise = scheduler.config.prediction_type == "epsilon"
    wanted = noise if predicts_noise else scheduler.get_velocity(target, noise, timesteps)
    error = F.mse_loss(prediction.float(), wanted, reduction="none").mean(dim=(1, 2, 3))
    if args.snr_gamma is not None:
        snr = compute_snr(scheduler, timesteps)
        error = error * snr.clamp(max=args.snr_gamma) / (snr if predicts_noise else snr + 1)
    return error.mean()
