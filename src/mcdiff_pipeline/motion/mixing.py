# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Sources of motion for a part of the time or for one region, and the flow of one region."""

from dataclasses import dataclass, replace

import torch

from ..layers import Layers, extend_flow, resize_shares
from ..motion_completion import CompleteStrokes, MotionSource
from ..rollout import Motion, RolloutState
from ..similarity import similarity_of_flow
from ..strokes import Stroke


@dataclass(frozen=True)
class Between:
    """
    A source of motion for a part of the time.

    Args:
        source (`MotionSource`): The source.
        first (`int`): The frame from which on it acts.
        end (`int`): The frame before which its last step begins.
    """

    source: MotionSource
    first: int
    end: int

    @property
    def needs_layers(self) -> bool:
        return self.source.needs_layers

    def check(self, layers: Layers | None, num_frames: int) -> None:
        """See [`~mcdiff_pipeline.motion_completion.MotionSource`]."""
        self.source.check(layers, num_frames)

    def __call__(
        self, complete: CompleteStrokes, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None
    ) -> Motion:
        """See [`~mcdiff_pipeline.motion_completion.MotionSource`]."""
        if self.first <= state.frame < self.end:
            return self.source(complete, state, strokes, num_frames)
        return complete(strokes)


@dataclass(frozen=True)
class InRegion:
    """
    A source of motion for one region; the others move as they do without it.

    Args:
        source (`MotionSource`): The source.
        region (`str` or `int`): The name or the number of the region; 0 is what belongs to none.
    """

    source: MotionSource
    region: str | int

    @property
    def needs_layers(self) -> bool:
        return self.source.needs_layers

    def check(self, layers: Layers | None, num_frames: int) -> None:
        """See [`~mcdiff_pipeline.motion_completion.MotionSource`]."""
        self.source.check(layers, num_frames)
        check_region(layers, self.region)

    def __call__(
        self, complete: CompleteStrokes, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None
    ) -> Motion:
        """See [`~mcdiff_pipeline.motion_completion.MotionSource`]."""
        motion = complete(strokes)
        inside = self.source(lambda _: motion, state, strokes, num_frames)
        flow = inside.dense_flow
        if flow is None:
            return motion
        if inside.layers is not None and state.layers is not None:
            layers = [layer_of(state.layers, index, self.region) for index in range(len(flow))]
            flow = torch.stack([inside.layers.flow[index, layer] for index, layer in enumerate(layers)])
        return with_region_flow(state, motion, self.region, flow, torch.ones_like(flow[:, :1]))


def with_region_flow(
    state: RolloutState, motion: Motion, region: str | int, flow: torch.Tensor, valid: torch.Tensor
) -> Motion:
    """
    The motion of a step with the flow of one region replaced.

    Args:
        state (`RolloutState`):
            The state at the current frame.
        motion (`Motion`):
            The motion of the step, with that of each layer.
        region (`str` or `int`):
            The name or the number of the region.
        flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Its flow on the latent grid, in cells.
        valid (`torch.Tensor` of shape `(batch_size, 1, height, width)`):
            Where it is known, in [0, 1]. It continues smoothly from there over the region.

    Raises:
        ValueError: If the image has no such region.
    """
    layers = state.layers
    if layers is None or motion.layers is None:
        raise ValueError(f"region is {region!r}, but the image has no regions: give some, or leave it out.")
    own, similarities = motion.layers.flow.clone(), motion.layers.similarities.clone()
    visible = resize_shares(layers.visible, layers.grid)
    for index in range(len(layers.traits)):
        layer = layer_of(layers, index, region)
        known = valid[index, 0] * visible[index, layer]
        if not known.any():
            continue
        own[index, layer] = extend_flow(flow[index][None, None], known[None, None])[0, 0]
        if layers.is_rigid[index, layer]:
            similarities[index, layer] = similarity_of_flow(own[index, layer], known, layers.image_sizes[index])
    changed = replace(motion.layers, flow=layers.with_rigid(own, similarities), similarities=similarities)
    shares = layers.visible_on(layers.grid)
    return replace(motion, dense_flow=(shares[:, :, None] * changed.flow).sum(dim=1), layers=changed)


def check_region(layers: Layers | None, region: str | int) -> None:
    """Raises `ValueError` if an image has no such region."""
    if layers is None:
        raise ValueError(f"region is {region!r}, but the image has no regions: give some, or leave it out.")
    for index in range(len(layers.traits)):
        layer_of(layers, index, region)


def layer_of(layers: Layers, index: int, region: str | int) -> int:
    """The layer of a region of an image. Raises `ValueError` if there is no such region."""
    names = [one.name for one in layers.traits[index]]
    if isinstance(region, str) and region in names:
        return names.index(region) + 1
    if isinstance(region, int) and 0 <= region <= len(names):
        return region
    if not names:
        raise ValueError(f"region is {region!r}, but the image has no regions; give some, or leave it out.")
    raise ValueError(
        f"region is {region!r}, but the image has the regions 1 to {len(names)} (names: "
        f"{', '.join(map(repr, filter(None, names))) or 'none'}): give one of these."
    )
