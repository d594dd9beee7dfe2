# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""From the states of a rollout to the frames that are shown, with the detail of the given image."""

from collections.abc import Sequence

import torch

from .detail import DetailRenderer
from .flow import invert_flow, resize_flow
from .latent_codec import Autoencoder, decode_latents
from .layers import comes_from_inside
from .rollout import RolloutState


class FrameDecoder:
    """
    Decodes states of one rollout.

    With detail, a frame also shows what the autoencoder loses: the given image, carried to the frame at the output
    size, plus what G changed; see [`~mcdiff_pipeline.detail`].

    Args:
        vae ([`AutoencoderDC`], [`AutoencoderKL`], [`AutoencoderTiny`] or [`VQModel`]):
            The autoencoder.
        with_detail (`bool`):
            Whether to give back the detail of the given image. A state without carried latents shows none.
    """

    def __init__(self, vae: Autoencoder, with_detail: bool):
        self.vae, self.with_detail = vae, with_detail
        self._renderer: DetailRenderer | None = None

    def decode(self, states: Sequence[RolloutState]) -> list[torch.Tensor]:
        """
        Decode several states of the rollout together.

        Args:
            states (`Sequence[RolloutState]`):
                The states. At frame 0, a state that holds the given image shows it.

        Returns:
            `list[torch.Tensor]`: for each state `(batch_size, 3, output_height, output_width)`, float32 in [0, 1], on
            the CPU.
        """
        decoded = self._decode_all([state.latents for state in states])
        carried = [state.carried_latents for state in states if state.carried_latents is not None]
        if not self.with_detail or len(carried) < len(states):
            return [one.float().cpu() for one in decoded]
        reconstructions = self._decode_all(carried)
        return [
            self._with_detail(state, one.float(), reconstruction.float()).cpu()
            for state, one, reconstruction in zip(states, decoded, reconstructions, strict=True)
        ]

    def _decode_all(self, latents: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        stacked = torch.stack(list(latents), dim=1)  # [B, N, C, h, w]
        return decode_latents(self.vae, stacked.flatten(0, 1)).unflatten(0, stacked.shape[:2]).unbind(1)

    def _with_detail(
        self, state: RolloutState, decoded: torch.Tensor, reconstruction: torch.Tensor
    ) -> torch.Tensor:
        """The frame `[B, 3, H, W]` of a state from what its latents and its carried latents decode to."""
        size = (decoded.shape[2], decoded.shape[3])
        if state.frame == 0:
            return shown_images(state, state.given_start_image)
        layers = state.layers
        if self._renderer is None:
            picture = state.given_start_image if state.output_image is None else state.output_image.float() / 255
            self._renderer = DetailRenderer(picture, None if layers is None else layers.shares)
        if layers is not None:
            backward, known = layers.backward_flow(size)
            return self._renderer.render(decoded, reconstruction, backward, known, layers.front_to_back)
        cell = size[1] // state.latents.shape[3]
        backward, known = invert_flow(resize_flow(state.accumulated_flow, size), cell)
        backward, known = backward[:, None], known * comes_from_inside(backward[:, None])
        order = torch.zeros(len(decoded), 1, dtype=torch.int64, device=decoded.device)
        return self._renderer.render(decoded, reconstruction, backward, known, order)


def shown_images(state: RolloutState, images: torch.Tensor) -> torch.Tensor:
    """Frame 0 as it is shown, `[B, 3, H, W]` in [0, 1]: at the output size of its state, else `images`."""
    return images if state.output_image is None else (state.output_image.float() / 255).cpu()
