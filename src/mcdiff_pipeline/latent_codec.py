# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Images to scaled latents and back, for every kind of autoencoder that the pipeline accepts."""

from typing import TypeAlias

import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, VQModel
from diffusers.utils import BaseOutput


Autoencoder: TypeAlias = AutoencoderDC | AutoencoderKL | AutoencoderTiny | VQModel


def vae_scale_factor(vae: Autoencoder) -> int:
    """Pixels along one side of a latent cell. The autoencoder halves the image at each level after the first."""
    if isinstance(vae, AutoencoderDC):
        return vae.spatial_compression_ratio
    return 2 ** (len(vae.config.block_out_channels) - 1)


def retrieve_latents(encoded: BaseOutput) -> torch.Tensor:
    """The unscaled latent in the output of `vae.encode`: the mode, if the autoencoder is variational."""
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mode()
    return encoded.latent if hasattr(encoded, "latent") else encoded.latents


def latent_scaling(vae: Autoencoder) -> tuple[float, float]:
    """Factor and shift of scaled latents, `factor * (latent - shift)`. The shift is 0 if the config has none."""
    return vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0


def encode_images(vae: Autoencoder, images: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """
    Encode images to scaled latents.

    Args:
        vae ([`AutoencoderDC`], [`AutoencoderKL`], [`AutoencoderTiny`] or [`VQModel`]):
            The autoencoder.
        images (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
            Images in [0, 1].
        dtype (`torch.dtype`, *optional*):
            That of the autoencoder. None asks for it; diffusers searches all modules for it, which is slow for every
            frame.

    Returns:
        `torch.Tensor` of shape `(batch_size, channels, height / f, width / f)`, in the dtype of the autoencoder.
    """
    factor, shift = latent_scaling(vae)
    return (retrieve_latents(vae.encode(2 * images.to(dtype or vae.dtype) - 1)) - shift) * factor


def decode_latents(vae: Autoencoder, latents: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """
    Decode scaled latents to images.

    Args:
        vae ([`AutoencoderDC`], [`AutoencoderKL`], [`AutoencoderTiny`] or [`VQModel`]):
            The autoencoder.
        latents (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
            Scaled latents.
        dtype (`torch.dtype`, *optional*):
            That of the autoencoder, as for [`encode_images`].

    Returns:
        `torch.Tensor` of shape `(batch_size, 3, height * f, width * f)` in [0, 1], in the dtype of the autoencoder.
    """
    factor, shift = latent_scaling(vae)
    decoded = vae.decode(latents.to(dtype or vae.dtype) / factor + shift, return_dict=False)[0]
    return (decoded / 2 + 0.5).clamp(0, 1)
