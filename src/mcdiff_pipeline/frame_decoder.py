# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""From the states of a rollout to the frames that are shown, with the detail of the given image."""

from collections.abc import Sequence

import torch

from .conditioning import FrameConditioner
from .detail import DetailRenderer
from .flow import invert_latent_flow
from .image_processor import resize_image
from .latent_codec import Autoencoder, decode_latents
from .layers import comes_from_inside
from .rollout import RolloutState


class FrameDecoder:
    """
    Decodes states of one rollout.

    With detail, a frame also shows what the autoencoder loses: the given image, carried to the frame at the output
    size, plus what G changed; see [`~mcdiff_pipeline.detail`]. This is done for models with the condition
    `start_picture`, and for states with an output size.

    Args:
        vae ([`AutoencoderDC`], [`AutoencoderKL`], [`AutoencoderTiny`] or [`VQModel`]):
            The autoencoder.
        conditioner (`FrameConditioner`):
            Tells whether the model is given the carried image, and whether it changes only what is uncovered.
        with_detail (`bool`):
            Whether to give back the detail of the given image.
    """

    def __init__(self, vae: Autoencoder, conditioner: FrameConditioner, with_detail: bool):
        self.vae, self.conditioner, self.with_detail = vae, conditioner, with_detail
        self._dtype = vae.dtype
        self._renderers: list[DetailRenderer] = []  # of each image
        self._made_for: RolloutState | None = None  # a state with the images and layers of the renderers

    def decode(self, states: Sequence[RolloutState]) -> list[torch.Tensor]:
        """
        Decode several states of the rollout together.

        Args:
            states (`Sequence[RolloutState]`):
                The states. The given image is shown at frame 0.

        Returns:
            `list[torch.Tensor]`: for each state `(batch_size, 3, output_height, output_width)`, float32 in [0, 1], on
            the CPU.
        """
        stacked = torch.stack([state.latents for state in states], dim=1)  # [B, N, C, h, w]
        decoded = decode_latents(self.vae, stacked.flatten(0, 1), self._dtype).float()
        decoded = decoded.unflatten(0, stacked.shape[:2]).unbind(1)
        return [self.finish(state, images) for state, images in zip(states, decoded, strict=True)]

    def finish(self, state: RolloutState, decoded: torch.Tensor) -> torch.Tensor:
        """
        The frame of a state, for a caller that also needs what its latents decode to.

        Args:
            state (`RolloutState`):
                A state of the rollout.
            decoded (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                What its latents decode to, in [0, 1].

        Returns:
            `torch.Tensor` of shape `(batch_size, 3, output_height, output_width)`: as of [`FrameDecoder.decode`].
        """
        if self.conditioner.needs_start_image or state.output_image is not None:
            decoded = self._at_output_size(state, decoded)
        return decoded.cpu()

    def _at_output_size(self, state: RolloutState, decoded: torch.Tensor) -> torch.Tensor:
        """The frame `[B, 3, H, W]` of a state at its output size, from what its latents decode to at the working
        size `[B, 3, h, w]`."""
        if state.frame == 0:
            return shown_images(state, state.given_start_image)
        if self.with_detail:
            return self._with_detail(state, decoded)
        if state.output_image is None:
            return decoded
        size = (state.output_image.shape[2], state.output_image.shape[3])
        return torch.stack([resize_image(one, size) for one in decoded])

    def _with_detail(self, state: RolloutState, decoded: torch.Tensor) -> torch.Tensor:
        """The same, with the detail of the given image."""
        size, layers = (decoded.shape[2], decoded.shape[3]), state.layers
        if self._made_for is None or not _show_the_same(state, self._made_for):  # a step may be given other regions
            self._renderers, self._made_for = self._make_renderers(state), state
        if layers is not None:
            backward, known = layers.backward_flow(size)
            orders = layers.front_to_back.tolist()
        else:
            backward, known = invert_latent_flow(state.accumulated_flow, size)
            backward, orders = backward[:, None], [[0]] * len(decoded)
            known = known * comes_from_inside(backward)
        unchanged: Sequence[torch.Tensor | None] = [None] * len(decoded)
        if layers is not None and self.conditioner.keeps_seen:
            unchanged = list(layers.visible.sum(dim=1, keepdim=True).clamp(max=1))
        frames = zip(self._renderers, decoded, backward, known, orders, unchanged, strict=True)
        return torch.stack([renderer.render(*inputs) for renderer, *inputs in frames])

    def _make_renderers(self, state: RolloutState) -> list[DetailRenderer]:
        """One for each image; `state` may be any state with the same layers."""
        starts = state.given_start_image
        reconstructions = decode_latents(self.vae, state.start_latents).float()
        pictures = starts if state.output_image is None else state.output_image
        shares: Sequence[torch.Tensor | None] = [None] * len(pictures)
        if state.layers is not None:
            fine = state.layers.output_shares
            shares = list(state.layers.shares if fine is None else fine.to(pictures.device).float() / 255)
        return [DetailRenderer(*inputs) for inputs in zip(pictures, starts, reconstructions, shares, strict=True)]


def _show_the_same(one: RolloutState, other: RolloutState) -> bool:
    """Whether two states have the same image and layers; states that were loaded have copies."""
    pairs = [(one.given_start_image, other.given_start_image)]
    if one.layers is not None and other.layers is not None:
        pairs.append((one.layers.shares, other.layers.shares))
    elif one.layers is not other.layers:
        return False
    return all(first is second or torch.equal(first, second) for first, second in pairs)


def shown_images(state: RolloutState, images: torch.Tensor) -> torch.Tensor:
    """Frame 0 as it is shown, `[B, 3, H, W]` in [0, 1]: at the output size of its state, else `images`."""
    return images if state.output_image is None else state.output_image.float() / 255
