"""A perceptual loss of future-frame prediction, on what its latents decode to."""

import torch
from diffusers import AutoencoderDC, AutoencoderKL

from mcdiff_pipeline.evaluation.metrics.st_lpips import SMALLEST, STLPIPS
from mcdiff_pipeline.latent_codec import decode_latents, vae_scale_factor


# Share of the samples of a batch that are decoded: those with the least noise. The others have blurred estimates.
DECODED_SHARE = 0.25


class PerceptualLoss:
    """ST-LPIPS between a random crop of predicted frames and of what the true latents decode to.

    The networks are frozen. Decoding is expensive, so only a quarter of a batch is decoded, and only a crop.

    Args:
        vae (`AutoencoderDC` or `AutoencoderKL`): the autoencoder, on the device of the training.

    Raises:
        ImportError: if `stlpips-pytorch` is missing.
    """

    def __init__(self, vae: AutoencoderDC | AutoencoderKL):
        self.vae, self.network = vae, STLPIPS(vae.device)
        self.side = -(-SMALLEST // vae_scale_factor(vae))  # of a crop, in latent cells

    def __call__(self, estimate: torch.Tensor, target: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The mean distance.

        Args:
            estimate, target (`torch.Tensor`): scaled latents `[B, C, h, w]`, predicted and true.
            timesteps (`torch.Tensor`): int64 `[B]`, how noisy the input of the prediction was.

        Raises:
            ValueError: if the frames are too small for the network.
        """
        height, width = estimate.shape[2:]
        if min(height, width) < self.side:
            raise ValueError(
                f"--perceptual_weight compares crops of {self.side} x {self.side} latent cells, but the frames have "
                f"{height} x {width}; train on larger frames, or leave it out."
            )
        chosen = timesteps.argsort()[: max(1, round(DECODED_SHARE * len(timesteps)))]
        top, left = (int(torch.randint(0, side - self.side + 1, ())) for side in (height, width))
        crop = (chosen, slice(None), slice(top, top + self.side), slice(left, left + self.side))
        with torch.no_grad():
            true = decode_latents(self.vae, target[crop]).float()
        return self.network.differentiable(decode_latents(self.vae, estimate[crop]).float(), true).mean()
