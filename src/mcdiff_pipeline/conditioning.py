# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What G is given in addition to the noise, and the difference that it denoises.

[`FrameConditioner`] is built once from the configuration of a pipeline. The pipeline, the training scripts and the
evaluation use it for every step, so that a model is used in exactly the way in which it was trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from .flow import accumulate_flow, resize_flow, splat_image_with_coverage, splat_latents
from .latent_codec import Autoencoder, encode_images
from .layers import Layers, resize_shares
from .rollout import Motion, RolloutState


# A cell of which less than this share shows frame 0 is uncovered.
UNCOVERED = 0.75


@dataclass(frozen=True)
class FrameConditions:
    """
    The conditions of one step.

    Args:
        tensor (`torch.Tensor` of shape `(batch_size, FrameConditioner.channels, height, width)`):
            All conditions, concatenated in the order of their names.
        base (`torch.Tensor` of shape `(batch_size, latent_channels, height, width)`, *optional*):
            The condition that G denoises the difference from. None if G denoises the frame itself.
        accumulated_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*):
            Flow from frame 0 to the next frame, in latent cells. None if nothing needs it.
        layers (`Layers`, *optional*):
            The layers at the next frame, if the state has layers.
        seen (`torch.Tensor` of shape `(batch_size, 1, height, width)`, *optional*):
            Share of each latent cell of the next frame in which frame 0 is still to be seen; only with layers, if G
            denoises the difference from `start_picture`. None if G may change everything.
        coverage (`torch.Tensor` of shape `(batch_size, 1, height, width)`, *optional*):
            Share of each latent cell of the start picture that is carried from frame 0; the rest was filled. None if
            no condition is made of frame 0.
    """

    tensor: torch.Tensor
    base: torch.Tensor | None
    accumulated_flow: torch.Tensor | None
    layers: Layers | None = None
    seen: torch.Tensor | None = None
    coverage: torch.Tensor | None = None


class _Step:
    """What the builders of conditions read. Intermediate results that several of them need are computed once."""

    def __init__(
        self,
        state: RolloutState,
        motion: Motion,
        *,
        cell: int,
        flow_scale: float,
        vae: Autoencoder | None,
        vae_dtype: torch.dtype | None,
        is_carried: bool,
    ):
        self.state, self.motion, self.cell, self.flow_scale = state, motion, cell, flow_scale
        self.vae, self.vae_dtype = vae, vae_dtype
        self.is_carried = is_carried  # whether a condition is made of frame 0, carried as an image

    @property
    def flow(self) -> torch.Tensor:
        return _given(self.motion.dense_flow, "dense flow")

    @cached_property
    def layers(self) -> Layers | None:
        if self.state.layers is None:
            return None
        if self.motion.layers is None:
            raise ValueError(
                "The state has layers, but the motion has none: give the one that the pipeline completes."
            )
        return self.state.layers.advance(self.motion.layers)

    @cached_property
    def accumulated_flow(self) -> torch.Tensor:
        if self.layers is not None:
            return self.layers.composite_flow()
        return accumulate_flow(self.state.accumulated_flow, self.flow)

    @cached_property
    def splatted_latents(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.state.layers is not None and self.layers is not None and self.motion.layers is not None:
            return self.state.layers.splat_latents(self.state.latents, self.motion.layers, self.layers)
        return splat_latents(self.state.latents, self.flow)

    @cached_property
    def seen(self) -> torch.Tensor | None:
        """Share of each cell `[B, 1, h, w]` in which frame 0 is still to be seen, if layers tell it."""
        return self.start_coverage if self.layers is not None and self.is_carried else None

    def without_what_left(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents with the start picture where something is uncovered, so that G does not paint what has left."""
        return latents if self.seen is None else torch.where(self.seen < UNCOVERED, self.start_picture, latents)

    def previous_frame(self) -> torch.Tensor:
        return self.without_what_left(self.state.latents)

    def splatted_frame(self) -> torch.Tensor:
        return self.without_what_left(self.splatted_latents[0])

    def dense_flow(self) -> torch.Tensor:
        return self.flow / self.flow_scale

    def hole_mask(self) -> torch.Tensor:
        holes = 1 - self.splatted_latents[1].clamp(max=1)
        return holes if self.seen is None else torch.where(self.seen < UNCOVERED, 0.0, holes)

    @cached_property
    def carried(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Frame 0 carried to the next frame as an image `[B, 3, H, W]`, and the share of each of its pixels
        `[B, 1, H, W]` that is carried and not filled."""
        image = _given(self.state.start_image, "start image")
        if self.layers is not None:
            return self.layers.carry(image), self.layers.visible.sum(dim=1, keepdim=True).clamp(max=1)
        flow = resize_flow(self.accumulated_flow, (image.shape[2], image.shape[3]))  # [B, 2, H, W] pixels
        return splat_image_with_coverage(image, flow, self.cell)

    @cached_property
    def start_picture(self) -> torch.Tensor:
        return encode_images(self.vae, self.carried[0], self.vae_dtype)

    @cached_property
    def start_coverage(self) -> torch.Tensor:
        return resize_shares(self.carried[1], (self.state.latents.shape[2], self.state.latents.shape[3]))

    def sparse_flow(self) -> torch.Tensor:
        displacement = _given(self.motion.sparse_flow, "sparse flow")
        return torch.cat([displacement / self.flow_scale, _given(self.motion.mask, "mask")], dim=1)


def _given(tensor: torch.Tensor | None, name: str) -> torch.Tensor:
    if tensor is None:
        raise ValueError(f"A condition of this model is made of the {name}, but none is given: give one.")
    return tensor


@dataclass(frozen=True)
class _Condition:
    """
    One condition that G can be given.

    Args:
        build (`Callable`): Makes it from a `_Step`.
        channels (`int`, *optional*): Number of its channels; None for a latent.
        reads (`tuple[str, ...]`): What it is made of, out of `dense_flow`, `sparse_flow`, `accumulated_flow` and
            `start_image`.
    """

    build: Callable[[_Step], torch.Tensor]
    channels: int | None = None
    reads: tuple[str, ...] = ()


# The conditions by name. Names are part of the file format: `conditioning` in model_index.json lists them. They are
# always built in this order, so that gradients with respect to the flow are summed in one order.
CONDITIONS = {
    "previous_frame": _Condition(_Step.previous_frame),
    "start_picture": _Condition(
        lambda step: step.start_picture, reads=("dense_flow", "accumulated_flow", "start_image")
    ),
    "start_coverage": _Condition(
        lambda step: step.start_coverage, channels=1, reads=("dense_flow", "accumulated_flow", "start_image")
    ),
    "dense_flow": _Condition(_Step.dense_flow, channels=2, reads=("dense_flow",)),
    "splatted_frame": _Condition(_Step.splatted_frame, reads=("dense_flow",)),
    "hole_mask": _Condition(_Step.hole_mask, channels=1, reads=("dense_flow",)),
    "sparse_flow": _Condition(_Step.sparse_flow, channels=3, reads=("sparse_flow",)),
}

# Conditions of version 0.1.0 that lost in an ablation: frame 0, splatted as a latent.
REMOVED_CONDITIONS = ("start_frame",)


class FrameConditioner:
    """
    Builds what G is given in addition to the noise, and converts between latents and the difference that G denoises.

    The conditions:

    - `previous_frame`: the latent of the current frame, as in the paper.
    - `dense_flow`: the flow, in units of `flow_scale` latent cells, as in the paper.
    - `splatted_frame`: the latent of the current frame, splatted forward along the flow; 0 in holes. With regions,
      each layer along its own flow; see [`~mcdiff_pipeline.layers.Layers.splat_latents`].
    - `hole_mask`: 1 - coverage, at least 0: 1 where nothing was splatted to, 0 where the coverage is 1 or more.
    - `start_picture`: frame 0 splatted as an image along the same flow, with holes filled from behind, then encoded.
      Images can move by parts of a latent cell and latents cannot, so this is sharper, but an image is encoded for
      each frame. A frame that the model made is never encoded, so errors do not add up. With regions, each layer of
      the image follows its own flow; see [`~mcdiff_pipeline.layers.Layers.carry`].
    - `start_coverage`: the share of each cell of the start picture that is carried from frame 0; the rest was filled
      from behind. So G can tell what it has to paint.
    - `sparse_flow`: the strokes themselves: displacements in units of `flow_scale` latent cells, 0 where nothing is
      specified, and the mask.

    With regions and `start_picture`, the latents of `previous_frame` and `splatted_frame` are replaced by
    `start_picture` where something is uncovered, and `hole_mask` is 0 there. Otherwise G takes what it paints there
    from the thing that has left.

    Args:
        conditioning (`Sequence[str]`):
            Names of the conditions in the order of concatenation.
        latent_channels (`int`):
            Channels of a latent.
        vae_scale_factor (`int`):
            Pixels along one side of a latent cell.
        flow_scale (`float`, defaults to 1.0):
            Displacement, in latent cells, that is 1.0 for G.
        residual_condition (`str`, *optional*):
            The condition that G denoises the difference from, one of those that are latents. None denoises the frame
            itself, as in the paper.
        residual_scale (`float`, defaults to 1.0):
            Factor on that difference.

    Raises:
        ValueError: If no condition is named, a name is unknown, removed or given twice, `residual_condition` is not a
            latent out of `conditioning`, or `residual_scale` is not positive.
    """

    def __init__(
        self,
        conditioning: Sequence[str],
        *,
        latent_channels: int,
        vae_scale_factor: int,
        flow_scale: float = 1.0,
        residual_condition: str | None = None,
        residual_scale: float = 1.0,
    ):
        self.names = tuple(conditioning)
        self.latent_channels, self.cell = latent_channels, vae_scale_factor
        self.flow_scale, self.residual_condition, self.residual_scale = flow_scale, residual_condition, residual_scale

        if removed := [name for name in self.names if name in REMOVED_CONDITIONS]:
            raise ValueError(
                f"`conditioning` names {removed}, a condition of version 0.1.0 that no longer exists: give the model "
                "start_picture instead with training/tools/widen_unet.py and train it further, or use version 0.1.0."
            )
        unknown = [name for name in self.names if name not in CONDITIONS]
        if not self.names or unknown or len(set(self.names)) != len(self.names):
            raise ValueError(
                f"`conditioning` is {list(self.names)}, but it has to name one condition or more, each once, out of "
                f"{list(CONDITIONS)}."
            )
        latents = [name for name in self.names if CONDITIONS[name].channels is None]
        if residual_condition is not None and residual_condition not in latents:
            raise ValueError(
                f"`residual_condition` is {residual_condition!r}, but a difference is from a latent that the unet is "
                f"given, one of {latents}: name one of these, or leave it out."
            )
        if not residual_scale > 0:
            raise ValueError(f"`residual_scale` is {residual_scale}, but it has to be above 0.")

        reads = {source for name in self.names for source in CONDITIONS[name].reads}
        self.needs_dense_flow = "dense_flow" in reads
        self.needs_sparse_flow = "sparse_flow" in reads
        self.needs_accumulated_flow = "accumulated_flow" in reads
        self.needs_start_image = "start_image" in reads

    def channels_of(self, name: str) -> int:
        """Number of channels of one condition."""
        channels = CONDITIONS[name].channels
        return self.latent_channels if channels is None else channels

    @property
    def channels(self) -> int:
        """Number of channels of all conditions."""
        return sum(self.channels_of(name) for name in self.names)

    @property
    def in_channels(self) -> int:
        """Input channels of G: the noisy latent and all conditions."""
        return self.latent_channels + self.channels

    @property
    def dense_flow_conditions(self) -> list[str]:
        """Names of the conditions that are made of dense flow. Without any, G needs no F."""
        return [name for name in self.names if "dense_flow" in CONDITIONS[name].reads]

    @property
    def keeps_seen(self) -> bool:
        """Whether G changes only what is uncovered, where there are layers; see [`from_difference`]."""
        return self.residual_condition == "start_picture"

    def build(
        self,
        state: RolloutState,
        motion: Motion,
        vae: Autoencoder | None = None,
        vae_dtype: torch.dtype | None = None,
    ) -> FrameConditions:
        """
        Build the conditions of one step. They are differentiable with respect to the flow.

        Args:
            state (`RolloutState`):
                The state at the current frame; `accumulated_flow` and `start_image` are read only if a condition needs
                them.
            motion (`Motion`):
                The motion to the next frame; with dense flow if `needs_dense_flow`, with sparse flow and mask if
                `needs_sparse_flow`.
            vae ([`AutoencoderDC`], [`AutoencoderKL`], [`AutoencoderTiny`] or [`VQModel`], *optional*):
                The autoencoder, if `needs_start_image`.
            vae_dtype (`torch.dtype`, *optional*):
                Its dtype, as for [`~mcdiff_pipeline.latent_codec.encode_images`].

        Returns:
            `FrameConditions`: the conditions, in the dtype of `state.latents`.
        """
        step = _Step(
            state,
            motion,
            cell=self.cell,
            flow_scale=self.flow_scale,
            vae=vae,
            vae_dtype=vae_dtype,
            is_carried=self.needs_start_image,
        )
        # a state with a start image or features needs it for F or to be shown, even if no condition does
        is_carried = state.start_image is not None or state.start_features is not None
        needs_accumulated_flow = self.needs_accumulated_flow or is_carried
        accumulated_flow = step.accumulated_flow if needs_accumulated_flow else None
        names = [name for name in CONDITIONS if name in self.names]
        built = {name: CONDITIONS[name].build(step).to(state.latents.dtype) for name in names}
        return FrameConditions(
            tensor=torch.cat([built[name] for name in self.names], dim=1),
            base=None if self.residual_condition is None else built[self.residual_condition],
            accumulated_flow=accumulated_flow,
            layers=step.layers,
            seen=step.seen if self.keeps_seen else None,
            coverage=step.start_coverage if self.needs_start_image else None,
        )

    def to_difference(self, latents: torch.Tensor, base: torch.Tensor | None) -> torch.Tensor:
        """Converts scaled latents of a frame to what G denoises; `base` is a field of its [`FrameConditions`]."""
        return latents if base is None else self.residual_scale * (latents - base)

    def from_difference(
        self, difference: torch.Tensor, base: torch.Tensor | None, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Converts what G denoised to scaled latents of a frame; without `seen`, the inverse of
        [`FrameConditioner.to_difference`].

        With layers, the carried start picture is exact where frame 0 is still to be seen, so G changes only the rest.
        Otherwise what it paints in uncovered places spreads with each frame, and things lose their detail. `base` and
        `seen` are fields of the [`FrameConditions`].
        """
        if base is None:
            return difference
        change = difference / self.residual_scale
        return base + (change if seen is None else (1 - seen) * change)
