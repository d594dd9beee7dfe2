# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Regions as layers of motion: each has a soft outline on the pixels of frame 0 and a complete flow field of its own.

A point of frame 0 follows the flow of its own layer, also while another layer hides it (layers of motion, Wang and
Adelson 1994). Layer 0 holds what belongs to no region; layer k holds region k. Because each flow field is complete, it
does not mix with another one at an outline, on whatever grid it is resized.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
import torch.nn.functional as F

from .flow import (
    MIN_COVERAGE,
    accumulate_flow,
    backward_warp,
    fill_from_behind,
    flow_magnitude,
    forward_splat,
    invert_latent_flow,
    known_share,
    resize_flow,
    sampling_grid,
)
from .layer_colors import composite, separate_colors, stack_layers
from .regions import Region, layer_of_shares, layer_shares
from .short_repr import ShortReprMixin
from .similarity import (
    compose_similarities,
    identity_similarity,
    invert_similarity,
    move_flow,
    move_points,
    similarity_flow,
    similarity_of_flow,
)


# A layer whose median motion since frame 0 is below this, in latent cells, stands still.
STILL = 0.25
# A layer has a cell to itself if it covers at least this share of it. Less is on an outline, where flow is a mean over
# layers: on photographs of the validation split with a region, F's flow in cells from 0.25 on has a miss of 0.08 with
# one stroke, in cells from 0.75 on 0.03, from 0.9 on 0.03, with three strokes 0.05, 0.01 and 0.01.
FILLED = 0.9
# Ridge in the similarity by which flow continues, in squared cells. It holds back rotation and growth of a layer that
# is known in a few cells only: by a quarter for 3 x 3 cells, by a fiftieth for 6 x 6.
EXTENSION_RIDGE = 4.0


@dataclass(frozen=True)
class LayerTraits:
    """
    What is known of a region besides its outline.

    Args:
        name (`str`, *optional*): Its name.
        rigid (`bool`, defaults to `False`): Whether it moves by similarities only.
        order (`int`, *optional*): Larger is nearer to the viewer; layer 0 has 0. None: by motion.
    """

    name: str | None = None
    rigid: bool = False
    order: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class LayerMotion(ShortReprMixin):
    """
    The motion of each layer in one step.

    Args:
        flow (`torch.Tensor` of shape `(batch_size, layers, 2, height, width)`):
            Complete flow field of each layer on the latent grid, in latent cells.
        similarities (`torch.Tensor` of shape `(batch_size, layers, 2, 2)`, float64):
            Motion of the rigid layers, in pixels of the given image; see [`~mcdiff_pipeline.similarity`].
        labels (`tuple[Mapping[str, int], ...]`):
            For each image, the layers of strokes that began after frame 0; see [`Layers.layer_at`].
        own_flow (`torch.Tensor` of shape `(batch_size, layers, 2, height, width)`, *optional*):
            What `flow` is without the motion of the camera; None if there is none. `similarities` never contain it.
        view (`torch.Tensor` of shape `(batch_size, layers, 2, 2)`, float64, *optional*):
            How the camera moves each layer after its own motion, as similarities in pixels of the given image.
    """

    flow: torch.Tensor
    similarities: torch.Tensor
    labels: tuple[Mapping[str, int], ...] = ()
    own_flow: torch.Tensor | None = None
    view: torch.Tensor | None = None

    def still(self) -> Self:
        """The motion in which nothing moves, the camera included."""
        batch, layers = self.similarities.shape[:2]
        identity = identity_similarity(batch, layers).to(self.similarities.device)
        return replace(self, flow=torch.zeros_like(self.flow), similarities=identity, own_flow=None, view=None)

    def seen_from(self, view: torch.Tensor, image_sizes: Sequence[tuple[int, int]]) -> Self:
        """
        The same motion, seen by a camera that moves.

        Args:
            view (`torch.Tensor` of shape `(batch_size, layers, 2, 2)`, float64):
                How the camera moves each layer in this step, in pixels of the given images.
            image_sizes (`Sequence[tuple[int, int]]`):
                (height, width) of each given image.
        """
        own_flow = self.flow if self.own_flow is None else self.own_flow
        view = view if self.view is None else compose_similarities(self.view, view)
        return replace(self, flow=move_flow(own_flow, view, image_sizes), own_flow=own_flow, view=view)

    def to(self, device: torch.device | str) -> Self:
        """The same motion on another device."""
        own_flow, view = (None if one is None else one.to(device) for one in (self.own_flow, self.view))
        flow, similarities = self.flow.to(device), self.similarities.to(device)
        return replace(self, flow=flow, similarities=similarities, own_flow=own_flow, view=view)


@dataclass(frozen=True, eq=False, repr=False)
class Layers(ShortReprMixin):
    """
    The layers of each image of a batch at one frame of a rollout. They are never changed in place.

    Images with fewer regions than others have empty layers at the end.

    Args:
        shares (`torch.Tensor` of shape `(batch_size, layers, height, width)`):
            Share of each pixel of frame 0, at the working size, that belongs to each layer; they sum to 1.
        accumulated_flow (`torch.Tensor` of shape `(batch_size, layers, 2, height / f, width / f)`):
            Flow of each layer from frame 0 to the current frame, float32, in latent cells, without the motion of the
            camera.
        similarities (`torch.Tensor` of shape `(batch_size, layers, 2, 2)`, float64):
            Motion of the rigid layers from frame 0 to the current frame, in pixels of the given image, without the
            motion of the camera.
        traits (`tuple[tuple[LayerTraits, ...], ...]`):
            For each image, what is known of its regions.
        image_sizes (`tuple[tuple[int, int], ...]`):
            (height, width) in which each image was given.
        labels (`tuple[Mapping[str, int], ...]`):
            For each image, the layers of strokes that began after frame 0.
        output_shares (`torch.Tensor` of shape `(batch_size, layers, output_height, output_width)`, uint8, *optional*):
            `shares` times 255 at the size at which frames are shown, if that is not the working size.
        view (`torch.Tensor` of shape `(batch_size, layers, 2, 2)`, float64, *optional*):
            How the camera has moved each layer since frame 0, after its own motion: similarities in pixels of the
            given image. None if the camera has not moved.
    """

    shares: torch.Tensor
    accumulated_flow: torch.Tensor
    similarities: torch.Tensor
    traits: tuple[tuple[LayerTraits, ...], ...]
    image_sizes: tuple[tuple[int, int], ...]
    labels: tuple[Mapping[str, int], ...]
    output_shares: torch.Tensor | None = None
    view: torch.Tensor | None = None

    @classmethod
    def begin(
        cls,
        regions: Sequence[Sequence[Region]],
        image_sizes: Sequence[tuple[int, int]],
        size: tuple[int, int],
        accumulated_flow: torch.Tensor,
        output_size: tuple[int, int] | None = None,
        *,
        needs_layers: bool = False,
    ) -> Self | None:
        """
        The layers of images that have moved by `accumulated_flow` as one layer so far.

        Args:
            regions (`Sequence[Sequence[Region]]`):
                Regions of each image, in pixels of the given image.
            image_sizes (`Sequence[tuple[int, int]]`):
                (height, width) in which each image was given.
            size (`tuple[int, int]`):
                Working (height, width).
            accumulated_flow (`torch.Tensor` of shape `(batch_size, 2, height / f, width / f)`):
                Flow from frame 0 to the current frame, in latent cells; zero at frame 0.
            output_size (`tuple[int, int]`, *optional*):
                (height, width) at which frames are shown.
            needs_layers (`bool`, defaults to `False`):
                Whether an image without regions is one layer, for a camera to move.

        Returns:
            `Layers`, or None if no image has a region and none needs one.
        """
        number = 1 + max(len(one) for one in regions)
        if number == 1 and not needs_layers:
            return None
        shares = (_shares_at(regions, image_sizes, size).float() / 255).to(accumulated_flow.device)
        traits = tuple(tuple(LayerTraits(one.name, one.rigid, one.order) for one in of_image) for of_image in regions)
        layers = cls(
            shares=shares,
            accumulated_flow=accumulated_flow[:, None].expand(-1, number, -1, -1, -1),
            similarities=identity_similarity(len(regions), number).to(shares.device),
            traits=traits,
            image_sizes=tuple(image_sizes),
            labels=tuple({} for _ in regions),
            output_shares=None if output_size is None else _shares_at(regions, image_sizes, output_size),
        )
        if not accumulated_flow.any():
            return layers
        on_grid = resize_shares(shares, layers.grid)
        own = extend_flow(layers.accumulated_flow, filled_cells(on_grid))
        fitted = layers.fit_rigid(own, on_grid)
        return replace(layers, accumulated_flow=layers.with_rigid(own, fitted), similarities=fitted)

    @property
    def size(self) -> tuple[int, int]:
        """Working (height, width)."""
        return self.shares.shape[2], self.shares.shape[3]

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the latent grid."""
        return self.accumulated_flow.shape[3], self.accumulated_flow.shape[4]

    @property
    def cell(self) -> int:
        """Pixels along one side of a latent cell."""
        return self.shares.shape[3] // self.accumulated_flow.shape[4]

    @cached_property
    def is_rigid(self) -> torch.Tensor:
        """Which layers are rigid: bool `[B, L]`."""
        rigid = torch.zeros(self.shares.shape[:2], dtype=torch.bool)
        for index, traits in enumerate(self.traits):
            for layer, one in enumerate(traits, start=1):
                rigid[index, layer] = one.rigid
        return rigid.to(self.shares.device)

    @cached_property
    def is_as_given(self) -> bool:
        """Whether nothing has moved since frame 0, so that the current frame is frame 0."""
        return self.view is None and not self.accumulated_flow.any()

    def advance(self, motion: LayerMotion) -> Self:
        """The layers at the next frame."""
        if self.view is not None or motion.view is not None:
            return self._advance_view(motion)
        flow = motion.flow.flatten(0, 1)
        accumulated = accumulate_flow(self.accumulated_flow.flatten(0, 1), flow).view_as(motion.flow)
        similarities = compose_similarities(self.similarities, motion.similarities)
        return self._moved(accumulated, similarities, motion)

    def _moved(self, accumulated: torch.Tensor, similarities: torch.Tensor, motion: LayerMotion) -> Self:
        """The layers with the flow and the similarities from frame 0 to the next frame, and with the labels of what
        moves there."""
        labels = motion.labels or tuple({} for _ in self.labels)
        return replace(
            self,
            accumulated_flow=self.with_rigid(accumulated, similarities),
            similarities=similarities,
            labels=tuple({**old, **new} for old, new in zip(self.labels, labels, strict=True)),
        )

    def _advance_view(self, motion: LayerMotion) -> Self:
        """
        The layers at the next frame, if a camera moves.

        A point p of frame 0 is at V(p + a) in the current frame, with the view V and its own motion a. Its own motion
        in this step is r, so that a becomes V^-1(V(p + a) + r) - p, whatever the camera does next.
        """
        identity = identity_similarity(*self.shares.shape[:2]).to(self.shares.device)
        view = identity if self.view is None else self.view
        own_flow = motion.flow if motion.own_flow is None else motion.own_flow
        seen = move_flow(self.accumulated_flow, view, self.image_sizes)
        moved = accumulate_flow(seen.flatten(0, 1), own_flow.flatten(0, 1)).view_as(own_flow)
        accumulated = move_flow(moved, invert_similarity(view), self.image_sizes)
        # exactly what it was where nothing moves on its own
        is_moved = own_flow.flatten(2).any(dim=2)[..., None, None, None]
        accumulated = torch.where(is_moved, accumulated, self.accumulated_flow)
        seen_step = compose_similarities(compose_similarities(view, motion.similarities), invert_similarity(view))
        similarities = compose_similarities(self.similarities, seen_step)
        following = view if motion.view is None else compose_similarities(view, motion.view)
        return replace(self._moved(accumulated, similarities, motion), view=following)

    def composite_flow(self) -> torch.Tensor:
        """One flow field from frame 0 to the current frame, `[B, 2, h, w]` in latent cells: the mean of the layers by
        their shares of each cell of frame 0."""
        shares = resize_shares(self.shares, self.grid)
        flow = self.accumulated_flow
        if self.view is not None:
            flow = move_flow(flow, self.view, self.image_sizes)
        return (shares[:, :, None] * flow).sum(dim=1)

    def fit_rigid(self, flow: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The similarities that explain the flow `[B, L, 2, h, w]` of the rigid layers best, the identity for others;
        `weight` is `[B, L, h, w]`."""
        fitted = torch.stack(
            [
                similarity_of_flow(one, of_image, image_size)
                for one, of_image, image_size in zip(flow, weight, self.image_sizes, strict=True)
            ]
        )
        return torch.where(self.is_rigid[..., None, None], fitted, identity_similarity(1, 1).to(fitted.device))

    def with_rigid(self, flow: torch.Tensor, similarities: torch.Tensor) -> torch.Tensor:
        """Flow fields `[B, L, 2, h, w]` on any grid, in its cells, with those of rigid layers from similarities."""
        if not self.is_rigid.any():
            return flow
        exact = self._flow_of(similarities, (flow.shape[3], flow.shape[4]))
        return torch.where(self.is_rigid[..., None, None, None], exact, flow)

    def forward_flow(self, size: tuple[int, int]) -> torch.Tensor:
        """Flow from frame 0 to the current frame on a grid of `size`, `[B, L, 2, height, width]` in its cells."""
        flow = resize_flow(self.accumulated_flow.flatten(0, 1), size).unflatten(0, self.shares.shape[:2])
        flow = self.with_rigid(flow, self.similarities)
        return flow if self.view is None else move_flow(flow, self.view, self.image_sizes)

    def backward_flow(self, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Where each pixel of the current frame comes from, if it shows a layer.

        Args:
            size (`tuple[int, int]`):
                (height, width) of the grid on which it is wanted.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: the flow from the current frame to frame 0,
            `[B, L, 2, height, width]` in pixels of that grid; and `[B, L, height, width]` in [0, 1]: 1 where it is
            known, 0 where it comes from outside the image or flow tears.
        """
        # that of rigid layers is replaced below
        backward, known = invert_latent_flow(self.accumulated_flow.flatten(0, 1), size)
        backward, known = (one.unflatten(0, self.shares.shape[:2]) for one in (backward, known))
        similarities = self.similarities
        if self.view is not None:
            # from the frame to the scene, and from there to where things were
            to_scene = self._flow_of(invert_similarity(self.view), size)
            looked_up = sample(torch.cat([backward, known], dim=2), to_scene)
            backward, known = to_scene + looked_up[:, :, :2], looked_up[:, :, 2:]
            similarities = compose_similarities(similarities, self.view)
        backward = self.with_rigid(backward, invert_similarity(similarities))
        known = torch.where(self.is_rigid[..., None, None], 1.0, known[:, :, 0])
        return backward, known * comes_from_inside(backward)

    def _flow_of(self, similarities: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The flow `[B, L, 2, *size]` of similarities `[B, L, 2, 2]`, in cells of a grid of `size`."""
        return torch.stack(
            [similarity_flow(one, size, image) for one, image in zip(similarities, self.image_sizes, strict=True)]
        )

    @cached_property
    def front_to_back(self) -> torch.Tensor:
        """
        The layers of each image from the nearest to the farthest: int64 `[B, L]`.

        A larger `order` is nearer; regions without one, and layer 0, have the order 0. Among these, the region that
        has moved more since frame 0 is nearer, as in [`~mcdiff_pipeline.flow.splat_importance`]. Layer 0 is behind
        them, since it is the scene; but a region that stands still in a scene that stands still is the scene too, so
        it lies behind what moves in layer 0.
        """
        shares = resize_shares(self.shares, self.grid)
        moved = flow_magnitude(self.accumulated_flow.flatten(0, 1)).unflatten(0, self.shares.shape[:2])[:, :, 0]
        mean = ((shares * moved).sum(dim=(2, 3)) / shares.sum(dim=(2, 3)).clamp_min(1e-6)).tolist()
        ranks = []
        for traits, motion, share, distance in zip(self.traits, mean, shares, moved, strict=True):
            pure = distance[0][share[0] > 0.5]
            is_still_scene = len(pure) == 0 or float(pure.median()) < STILL
            keys: list[tuple[float, int, float]] = [(0, 0, 0)]
            for layer, one in enumerate(traits, start=1):
                is_scene = is_still_scene and one.order is None and motion[layer] < STILL
                keys.append((one.order or 0, -1 if is_scene else 1, motion[layer]))
            keys += [(-float("inf"), 0, 0)] * (len(motion) - len(keys))
            ranks.append(sorted(range(len(keys)), key=lambda layer: keys[layer], reverse=True))
        return torch.tensor(ranks, device=self.shares.device)

    @cached_property
    def visible(self) -> torch.Tensor:
        """
        Share of each pixel of the current frame, at the working size, that shows each layer: `[B, L, height, width]`.
        They sum to at most 1; the rest is uncovered.
        """
        if self.is_as_given:
            return self.shares
        _, stacks = self._stacked(self.shares)
        return torch.stack([visible[:, 0] for visible, _ in stacks])

    def _stacked(self, shares: torch.Tensor) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """
        What is seen of each layer in the current frame.

        Args:
            shares (`torch.Tensor` of shape `(batch_size, layers, height, width)`):
                Share of each pixel of frame 0 that belongs to each layer, at any size.

        Returns:
            The backward flow `[B, L, 2, height, width]` in pixels of that size; and for each image what
            [`~mcdiff_pipeline.layer_colors.stack_layers`] returns.
        """
        backward, _ = self.backward_flow((shares.shape[2], shares.shape[3]))
        moved = sample(shares[:, :, None], backward) * comes_from_inside(backward)[:, :, None]
        orders = self.front_to_back.tolist()
        return backward, [stack_layers(*one) for one in zip(moved, orders, strict=True)]

    def visible_on(self, grid: tuple[int, int]) -> torch.Tensor:
        """[`Layers.visible`] on a grid of (height, width) cells, `[B, L, height, width]`; they sum to 1, since what is
        uncovered counts to layer 0."""
        visible = resize_shares(self.visible, grid)
        uncovered = (1 - visible.sum(dim=1, keepdim=True)).clamp_min(0)
        return torch.cat([visible[:, :1] + uncovered, visible[:, 1:]], dim=1)

    def carry(self, image: torch.Tensor) -> torch.Tensor:
        """
        Frame 0 as it looks when each layer has moved to the current frame.

        What is uncovered shows layer 0, continued behind the regions from its own surroundings.

        Args:
            image (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Frame 0 at any size.

        Returns:
            `torch.Tensor` of shape `(batch_size, 3, height, width)`.
        """
        if self.is_as_given:
            return image
        shares = resize_shares(self.shares, (image.shape[2], image.shape[3]))
        backward, stacks = self._stacked(shares)
        carried = []
        for picture, share, flow, stack in zip(image, shares, backward, stacks, strict=True):
            colors = separate_colors(picture, share)
            colors = F.grid_sample(colors, sampling_grid(flow), "bicubic", "border", align_corners=False)
            carried.append(composite(colors, *stack))
        return torch.stack(carried).clamp(0, 1)

    def carry_features(self, features: torch.Tensor) -> torch.Tensor:
        """
        Features of frame 0 as they lie when each layer has moved to the current frame.

        Each layer has the features of the cells that show it, continued behind the others.

        Args:
            features (`torch.Tensor` of shape `(batch_size, channels, grid_height, grid_width)`):
                Features of frame 0 on any grid; see [`~mcdiff_pipeline.semantic_features`].

        Returns:
            `torch.Tensor` of the shape of `features`: float32, or `features` themselves if nothing moves.
        """
        if self.is_as_given:
            return features
        shares = resize_shares(self.shares, (features.shape[2], features.shape[3]))
        backward, stacks = self._stacked(shares)
        carried = []
        for one, share, flow, stack in zip(features.float(), shares[:, :, None], backward, stacks, strict=True):
            of_layers = fill_from_behind(one.expand(len(share), -1, -1, -1), share, torch.zeros_like(share))
            of_layers = F.grid_sample(of_layers, sampling_grid(flow), "bilinear", "border", align_corners=False)
            carried.append(composite(of_layers, *stack))
        return torch.stack(carried)

    def splat_latents(
        self, latents: torch.Tensor, motion: LayerMotion, following: Self
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Splat latents of the current frame, each layer along its own flow.

        Args:
            latents (`torch.Tensor` of shape `(batch_size, channels, height / f, width / f)`):
                Scaled latents.
            motion (`LayerMotion`):
                The motion to the next frame.
            following (`Layers`):
                The layers at the next frame; their order counts.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: the moved latents, 0 in holes, and their coverage
            `(batch_size, 1, height / f, width / f)`, at most 1.
        """
        visible = self.visible_on(self.grid)[:, :, None]
        payload = torch.cat([visible * latents[:, None].float(), visible], dim=2)
        moved, coverage = forward_splat(payload.flatten(0, 1), motion.flow.flatten(0, 1))
        moved = (moved * coverage).unflatten(0, visible.shape[:2])
        share = moved[:, :, -1:]
        colors = moved[:, :, :-1] / share.clamp_min(MIN_COVERAGE)
        splatted, covered = [], []
        for index, order in enumerate(following.front_to_back.tolist()):
            seen, left_over = stack_layers(share[index], order)
            covered.append(1 - left_over)
            splatted.append((seen * colors[index]).sum(dim=0) / covered[-1].clamp_min(MIN_COVERAGE))
        return torch.stack(splatted).to(latents.dtype), torch.stack(covered).to(latents.dtype)

    def seen_points(self, index: int, layer: int, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Where the camera sees points of the scene that belong to a layer of an image; (x, y) in pixels of the
        working size."""
        if self.view is None:
            return list(points)
        x_scale, y_scale = (self.image_sizes[index][1 - axis] / self.size[1 - axis] for axis in range(2))
        in_image = [(x * x_scale, y * y_scale) for x, y in points]
        return [(x / x_scale, y / y_scale) for x, y in move_points(in_image, self.view[index, layer])]

    def layer_at(self, index: int, start: float, beginning: tuple[float, float], position: tuple[float, float]) -> int:
        """
        The layer of the thing that a stroke began on.

        Args:
            index (`int`):
                Index of the image in the batch.
            start (`float`):
                The frame at which the stroke begins.
            beginning (`tuple[float, float]`):
                (x, y) at that frame, in pixels of the working size. From frame 0, it tells the layer.
            position (`tuple[float, float]`):
                (x, y) in the current frame. It tells the layer of a stroke that begins later, the first time that it
                is asked for.

        Returns:
            `int`: From 1 for a region; 0 for what belongs to none, and for a point outside the image.
        """
        known = self.labels[index].get(stroke_key(start, beginning))
        if known is not None:
            return known
        shares, (x, y) = (self.shares, beginning) if start <= 0 else (self.visible, position)
        height, width = self.size
        if not (0 <= x <= width and 0 <= y <= height):  # a point close to the border may be rounded onto it
            return 0
        return layer_of_shares(shares[index, :, min(int(y), height - 1), min(int(x), width - 1)].tolist())

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors, by name."""
        tensors = {
            "shares": self.shares,
            "accumulated_flow": self.accumulated_flow,
            "similarities": self.similarities,
        }
        optional = {"output_shares": self.output_shares, "view": self.view}
        return tensors | {name: tensor for name, tensor in optional.items() if tensor is not None}

    def to(self, device: torch.device | str) -> Self:
        """The same layers on another device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return replace(self, **moved)

    def description(self) -> str:
        """What is not a tensor, as JSON."""
        traits = [[vars(one) for one in of_image] for of_image in self.traits]
        return json.dumps({"traits": traits, "labels": self.labels})

    @classmethod
    def from_file(
        cls, tensors: Mapping[str, torch.Tensor], description: str, image_sizes: tuple[tuple[int, int], ...]
    ) -> Self:
        """
        The layers with these tensors and this description.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: If they are damaged or do not fit together.
        """
        content: dict[str, Any] = json.loads(description)
        traits = tuple(tuple(LayerTraits(**one) for one in of_image) for of_image in content["traits"])
        labels = tuple({str(key): int(value) for key, value in one.items()} for one in content["labels"])
        layers = cls(traits=traits, labels=labels, image_sizes=image_sizes, **tensors)
        batch, number = layers.shares.shape[:2]
        if not (len(traits) == len(labels) == batch and all(len(one) < number for one in traits)):
            raise ValueError("its layers do not fit together")
        of_layers = [layers.similarities] if layers.view is None else [layers.similarities, layers.view]
        if any(one.shape != (batch, number, 2, 2) or one.dtype != torch.float64 for one in of_layers):
            raise ValueError("the motion of its layers does not fit together")
        return layers


def _shares_at(
    regions: Sequence[Sequence[Region]], image_sizes: Sequence[tuple[int, int]], size: tuple[int, int]
) -> torch.Tensor:
    """[`~mcdiff_pipeline.regions.layer_shares`] of each image, uint8 `[B, L, *size]`."""
    shares = torch.zeros(len(regions), 1 + max(len(one) for one in regions), *size, dtype=torch.uint8)
    for index, (of_image, (height, width)) in enumerate(zip(regions, image_sizes, strict=True)):
        scaled = [region.scaled(size[1] / width, size[0] / height) for region in of_image]
        shares[index, : 1 + len(scaled)] = layer_shares(scaled, *size)
    return shares


def stroke_key(frame: float, point: tuple[float, float]) -> str:
    """Names the beginning of a stroke: its frame and point, in pixels of the working size."""
    return f"{frame:.6g} {point[0]:.6g} {point[1]:.6g}"


def resize_shares(shares: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Shares `[B, L, H, W]` at another size, by the mean over each pixel, or interpolated."""
    if tuple(shares.shape[2:]) == size:
        return shares
    if shares.shape[2] >= size[0] and shares.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(shares, size)
    return F.interpolate(shares, size=size, mode="bilinear", align_corners=False)


def sample(values: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
    """Looks up the values of each layer, `[B, L, C, H, W]`, at the end of its flow, `[B, L, 2, H, W]` in pixels."""
    return backward_warp(values.flatten(0, 1), backward.flatten(0, 1)).unflatten(0, backward.shape[:2])


def comes_from_inside(backward: torch.Tensor) -> torch.Tensor:
    """Where flow `[B, L, 2, H, W]` in pixels ends inside the image: float `[B, L, H, W]`, 0 or 1."""
    height, width = backward.shape[3:]
    columns = torch.arange(width, device=backward.device)
    rows = torch.arange(height, device=backward.device)[:, None]
    x, y = columns + backward[:, :, 0], rows + backward[:, :, 1]
    return ((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)).to(backward.dtype)


def filled_cells(shares: torch.Tensor) -> torch.Tensor:
    """
    Where a flow field of what is seen is the flow of one layer alone.

    In a cell on an outline, such a field is a mean over layers.

    Args:
        shares (`torch.Tensor` of shape `(batch_size, layers, height, width)`):
            Share of each cell that shows each layer, in [0, 1].

    Returns:
        `torch.Tensor` of the same shape, in [0, 1]: 1 in the cells that a layer fills, 0 in those of which it fills
        less than [`FILLED`]. A layer that fills no cell has its largest share instead of all of a cell.
    """
    largest = shares.amax(dim=(2, 3), keepdim=True)
    relative = shares / largest.clamp_min(1e-6)
    return ((relative - FILLED) / (1 - FILLED)).clamp(0, 1)


def extend_flow(flow: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """
    Continues the flow of each layer smoothly from where it is known to the whole grid.

    It continues as the similarity transform that explains the known flow best, so a layer that turns goes on turning.
    What that does not explain continues as it is at the border.

    Args:
        flow (`torch.Tensor` of shape `(batch_size, layers, 2, height, width)`):
            Flow in cells of this grid.
        known (`torch.Tensor` of shape `(batch_size, layers, height, width)`):
            How well the flow of each cell is known, in [0, 1].

    Returns:
        `torch.Tensor` of shape `(batch_size, layers, 2, height, width)`; zero in a layer that is known nowhere.
    """
    size = (flow.shape[3], flow.shape[4])
    similarity = similarity_of_flow(flow, known, size, ridge=EXTENSION_RIDGE)
    explained = similarity_flow(similarity, size, size)
    coverage = known.flatten(0, 1)[:, None]
    residual = fill_from_behind((flow - explained).flatten(0, 1), coverage, torch.zeros_like(coverage))
    extended = explained + residual.unflatten(0, flow.shape[:2])
    # what is known stays as it is in all bits
    extended = torch.where(known_share(known)[:, :, None] == 1, flow, extended)
    return torch.where(known.amax(dim=(2, 3), keepdim=True)[:, :, None] > 0, extended, 0.0)
