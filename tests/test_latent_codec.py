# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Images to scaled latents and back, with every kind of autoencoder."""

import pytest
import torch

from mcdiff_pipeline.latent_codec import decode_latents, encode_images, latent_scaling, vae_scale_factor
from support.tiny_models import make_deep_compression_autoencoder, make_tiny_autoencoder, make_vae, make_vq_model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_encoding_takes_the_mode_and_scales_it(images):
    vae = make_vae()
    expected = vae.encode(2 * images - 1).latent_dist.mode() * 0.18215
    torch.testing.assert_close(encode_images(vae, images), expected)
    assert torch.equal(encode_images(vae, images), encode_images(vae, images))


@torch.no_grad()
def test_shift_of_the_latents_is_undone_by_decoding(images):
    vae = make_vae(shift_factor=0.3, scaling_factor=0.5)
    assert latent_scaling(vae) == (0.5, 0.3)
    unscaled = vae.encode(2 * images - 1).latent_dist.mode()
    torch.testing.assert_close(encode_images(vae, images), (unscaled - 0.3) * 0.5)
    expected = (vae.decode(unscaled).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(decode_latents(vae, encode_images(vae, images)), expected)


@torch.no_grad()
@pytest.mark.parametrize(
    "make, channels, scaling",
    [
        (make_tiny_autoencoder, 4, (1.0, 0.0)),
        (make_vq_model, 3, (0.18215, 0.0)),
        (make_deep_compression_autoencoder, 4, (1.5, 0.0)),
    ],
)
def test_other_autoencoders_encode_and_decode(images, make, channels, scaling):
    vae = make()
    cell = vae_scale_factor(vae)
    assert cell == 4 and latent_scaling(vae) == scaling
    latents = encode_images(vae, images)
    assert latents.shape == (2, channels, 8, 12)
    decoded = decode_latents(vae, latents)
    assert decoded.shape == images.shape and 0 <= decoded.min() and decoded.max() <= 1


@torch.no_grad()
def test_latents_and_images_have_the_dtype_of_the_autoencoder(images):
    vae = make_vae().to(torch.bfloat16)
    latents = encode_images(vae, images)
    assert latents.dtype == torch.bfloat16
    assert decode_latents(vae, latents.float()).dtype == torch.bfloat16


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_scale_factor_doubles_with_each_level_after_the_first(levels):
    vae = make_vae(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    assert vae_scale_factor(vae) == 2 ** (levels - 1)
