# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""From the strokes of one step to its motion: F, at the size that it was trained for, and rigid layers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, cast

import torch
import torch.nn.functional as F

from .flow import resize_flow, splat_image, to_cells
from .flow_completion_unet import FlowCompletionUNet
from .latent_codec import Autoencoder, encode_images
from .layers import FILLED, LayerMotion, Layers, extend_flow, filled_cells, resize_shares, stroke_key
from .model_weights import is_offloaded
from .rollout import Motion, RolloutState
from .semantic_features import carry_features, channels_of_features
from .similarity import fit_similarity, identity_similarity, move_points
from .strokes import Stroke, rasterize_strokes, resolve_region


# F works on the latent grid as it is if its area differs from the area that F was trained for by less than this
# factor; otherwise on a grid of its own.
SAME_SIZE = 2.0


# A region begins to bend where its strokes differ from a similarity transform by the first share of their motion, and
# from the second on it bends altogether.
BENDS = (0.05, 0.12)


CompleteStrokes = Callable[[list[list[Stroke]]], Motion]


class MotionSource(Protocol):
    """
    A source of motion besides strokes: a camera, a reference video, or anything that changes the motion of a step.

    Attributes:
        needs_layers (`bool`): Whether the state of images without regions has to have a layer; a camera moves layers.
    """

    @property
    def needs_layers(self) -> bool: ...

    def check(self, layers: Layers | None, num_frames: int) -> None:
        """
        Raises `ValueError` if this source cannot act on images with these layers in a video of `num_frames` frames.
        It is called before anything slow starts.
        """
        ...

    def __call__(
        self,
        complete: CompleteStrokes,
        state: RolloutState,
        strokes: list[list[Stroke]],
        num_frames: int | None,
    ) -> Motion:
        """
        The motion of the step from the current frame.

        Args:
            complete (`Callable`):
                The motion that strokes have without this source. It can be left uncalled, which saves F.
            state (`RolloutState`):
                The state at the current frame.
            strokes (`list[list[Stroke]]`):
                Strokes of each image, in pixels of the working size.
            num_frames (`int`, *optional*):
                Number of frames that ends the strokes without an end of their own.
        """
        ...


class MotionCompleter:
    """
    Completes strokes, or a given motion, to everything that one step of G needs.

    Args:
        flow_completion ([`FlowCompletionUNet`], *optional*):
            F; None in a model without it.
        complete_flow (`Callable`):
            [`~mcdiff_pipeline.MCDiffPipeline.complete_flow`], which calls F.
        vae ([`AutoencoderDC`], [`AutoencoderKL`], [`AutoencoderTiny`] or [`VQModel`]):
            The autoencoder, which makes the latents of F's own size.
        cell (`int`):
            Pixels along one side of a latent cell.
        needs_sparse_flow (`bool`):
            Whether G is given the strokes themselves.
        sources (`Sequence[MotionSource]`):
            Further sources of motion, each of which changes what those before it give.
    """

    def __init__(
        self,
        flow_completion: FlowCompletionUNet | None,
        complete_flow: Callable[..., torch.Tensor],
        vae: Autoencoder,
        cell: int,
        needs_sparse_flow: bool,
        sources: Sequence[MotionSource] = (),
    ):
        self.flow_completion, self.complete_flow, self.vae = flow_completion, complete_flow, vae
        self.cell, self.needs_sparse_flow, self.sources = cell, needs_sparse_flow, tuple(sources)
        self._reduced: tuple[torch.Tensor, torch.Tensor] | None = None  # the last features, and what F reads of them

    def grid_of(self, grid: tuple[int, int]) -> tuple[int, int]:
        """
        The grid on which F works, if the latent grid is `grid`.

        Returns:
            `tuple[int, int]`: (height, width) in cells: `grid` itself if F has no size of its own or `grid` is about
            that size, else a grid of F's area at the same aspect ratio.
        """
        if self.flow_completion is None or self.flow_completion.config.sample_size is None:
            return grid
        size = self.flow_completion.config.sample_size
        zoom = math.sqrt(size**2 / (grid[0] * grid[1]))
        if 1 / SAME_SIZE < zoom**2 < SAME_SIZE:
            return grid
        multiple = 2 ** (len(self.flow_completion.config.block_out_channels) - 1)
        height, width = (max(round(side * zoom / multiple), 1) * multiple for side in grid)
        return height, width

    def complete_step(
        self,
        state: RolloutState,
        strokes: list[list[Stroke]],
        num_frames: int | None,
        dense_flow: torch.Tensor | None = None,
    ) -> Motion:
        """The motion of the step from the current frame, of strokes and of all sources; see [`complete_strokes`]."""

        def complete(sources: Sequence[MotionSource], strokes: list[list[Stroke]]) -> Motion:
            if not sources:
                return self.complete_strokes(state, strokes, num_frames, dense_flow)
            *others, last = sources
            motion = last(partial(complete, others), state, strokes, num_frames)
            return self._with_layers_of_dense_flow(state, motion)

        return complete(self.sources, strokes)

    def complete_strokes(
        self,
        state: RolloutState,
        strokes: list[list[Stroke]],
        num_frames: int | None,
        dense_flow: torch.Tensor | None = None,
    ) -> Motion:
        """
        The motion of the step from the current frame, of strokes alone.

        Strokes are in the scene: if a camera has moved, they are carried to where it sees them now.

        Args:
            state (`RolloutState`):
                The state at the current frame.
            strokes (`list[list[Stroke]]`):
                Strokes of each image, in pixels of the working size.
            num_frames (`int`, *optional*):
                Number of frames that ends the strokes without an end of their own.
            dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*):
                Flow that replaces the flow of F, in pixels of the working size, on the latent grid or on the pixel
                grid.
        """
        grid = _grid(state)
        motion = Motion()
        if dense_flow is not None:
            dense_flow = dense_flow.to(device=state.latents.device, dtype=torch.float32)
            if tuple(dense_flow.shape[2:]) == grid:
                motion = Motion(to_cells(dense_flow, self.cell))
            else:  # on the pixel grid, cells are pixels
                motion = Motion(resize_flow(dense_flow, grid))
        if self.needs_sparse_flow:
            sparse_flow, mask = self._rasterize(state, strokes, num_frames, grid)
            motion = replace(motion, sparse_flow=sparse_flow, mask=mask)
        if self.flow_completion is None or motion.dense_flow is not None:
            return self._with_layers_of_dense_flow(state, motion)
        if state.layers is not None:
            reads_regions = self.flow_completion.config.reads_regions
            dense_flow, layers = self._complete_layers(state, state.layers, strokes, num_frames, reads_regions)
            return replace(motion, dense_flow=dense_flow, layers=layers)
        own_grid = self.grid_of(grid)
        sparse_flow, mask = self._rasterize(state, strokes, num_frames, own_grid)
        return replace(motion, dense_flow=self._complete_as_one(state, sparse_flow, mask, grid))

    def complete(self, state: RolloutState, motion: Motion) -> Motion:
        """
        A given motion with the dense flow of F, if the model has F and the motion has none.

        Raises:
            ValueError: If dense flow is needed, and the motion has neither dense flow nor sparse flow with a mask.
        """
        if motion.dense_flow is None and self.flow_completion is not None:
            if motion.sparse_flow is None or motion.mask is None:
                raise ValueError(
                    "The motion has no dense flow, and no sparse flow with a mask to complete: give either."
                )
            grid = _grid(state)
            sparse_flow, mask = resize_sparse_flow(motion.sparse_flow, motion.mask, self.grid_of(grid))
            motion = replace(motion, dense_flow=self._complete_as_one(state, sparse_flow, mask, grid))
        return self._with_layers_of_dense_flow(state, motion)

    def _rasterize(
        self, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None, grid: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What strokes in pixels of the working size specify on a grid: sparse flow in its cells, and the mask."""
        height, width = _grid(state)
        return rasterize_strokes(
            strokes,
            state.frame,
            image_size=(height * self.cell, width * self.cell),
            latent_size=grid,
            num_frames=num_frames,
            device=state.latents.device,
        )

    def _complete_as_one(
        self, state: RolloutState, sparse_flow: torch.Tensor, mask: torch.Tensor, grid: tuple[int, int]
    ) -> torch.Tensor:
        """Completes sparse flow on F's grid to dense flow `[B, 2, h, w]` on the latent grid."""
        own_grid = (mask.shape[2], mask.shape[3])
        dense_flow = self.complete_flow(self._latents(state, own_grid), sparse_flow, mask, **self._features(state))
        return dense_flow if own_grid == grid else resize_flow(dense_flow, grid)

    def _latents(self, state: RolloutState, own_grid: tuple[int, int]) -> torch.Tensor:
        """
        What F sees: the latents of the current frame; or, on a grid of its own, those of frame 0, reduced to that
        size and carried to the current frame. Latents that are only averaged mislead F (on photographs its flow
        differed by a fifth to three times its mean length), and frames that G made are never encoded.
        """
        if own_grid == _grid(state):
            return state.latents
        size = (own_grid[0] * self.cell, own_grid[1] * self.cell)
        image = F.interpolate(state.given_start_image, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        if state.layers is not None:
            image = state.layers.carry(image)
        elif state.frame > 0:
            image = splat_image(image, resize_flow(state.accumulated_flow, size), self.cell)
        return encode_images(self.vae, image)

    def _features(self, state: RolloutState) -> dict[str, torch.Tensor]:
        """The argument `features` of F: those of frame 0, carried to the current frame. Empty if F does not read
        features, or the state has none."""
        features = state.start_features
        if features is None or self.flow_completion is None or channels_of_features(self.flow_completion) is None:
            return {}
        if not is_offloaded(self.flow_completion):  # else F reduces them itself, where its weights are
            if self._reduced is None or self._reduced[0] is not features:
                self._reduced = (features, self.flow_completion.reduce_features(features))
            features = self._reduced[1]
        if state.layers is not None:
            return {"features": state.layers.carry_features(features)}
        return {"features": carry_features(features, state.accumulated_flow)}

    def _complete_layers(
        self,
        state: RolloutState,
        layers: Layers,
        strokes: list[list[Stroke]],
        num_frames: int | None,
        reads_regions: bool,
    ) -> tuple[torch.Tensor, LayerMotion]:
        """The dense flow `[B, 2, h, w]` of a step on the latent grid, in its cells, and the motion of each layer."""
        grid = _grid(state)
        own_grid = self.grid_of(grid)
        by_layer, labels = self._strokes_by_layer(state, layers, strokes, num_frames)
        batch, number = layers.shares.shape[:2]
        flat = [of_layer for of_image in by_layer for of_layer in of_image]
        sparse_flow, mask = self._rasterize(state, flat, num_frames, own_grid)
        sparse_flow, mask = sparse_flow.unflatten(0, (batch, number)), mask.unflatten(0, (batch, number))
        visible = resize_shares(layers.visible, own_grid)
        # what strokes only hold stays exactly where it is: F moves even that by a pixel or two over a clip
        is_held = mask.flatten(2).any(dim=2) & ~(mask & (sparse_flow != 0)).flatten(2).any(dim=2)
        if reads_regions and number > 1:
            bending = self._bending(state, layers, by_layer, num_frames)
            flow = self._complete_together(state, visible, sparse_flow, mask, bending)
        else:
            flow = self._complete_each(state, layers, sparse_flow, mask, skipped=is_held | layers.is_rigid)
        flow = torch.where(is_held[..., None, None, None], 0.0, flow)

        # what the strokes say also counts where another layer hides them, in part or altogether
        hidden = mask & (visible[:, :, None] < FILLED)
        known = torch.maximum(filled_cells(visible), mask[:, :, 0].to(visible.dtype))
        flow = extend_flow(torch.where(hidden, sparse_flow, flow), known)
        flow = resize_flow(flow.flatten(0, 1), grid).unflatten(0, (batch, number))
        similarities = self._rigid_steps(state, layers, by_layer, num_frames)
        motion = LayerMotion(layers.with_rigid(flow, similarities), similarities, labels)
        return self._composite(layers, motion.flow), motion

    def _strokes_by_layer(
        self, state: RolloutState, layers: Layers, strokes: list[list[Stroke]], num_frames: int | None
    ) -> tuple[list[list[list[Stroke]]], tuple[dict[str, int], ...]]:
        """
        The strokes of this step for each image and layer. A stroke belongs to the layer in which it begins.

        Returns:
            The strokes, and for each image the layers of those that began after frame 0.
        """
        by_layer: list[list[list[Stroke]]] = [[[] for _ in range(layers.shares.shape[1])] for _ in strokes]
        labels: tuple[dict[str, int], ...] = tuple({} for _ in strokes)
        for index, of_image in enumerate(strokes):
            for stroke in of_image:
                position = stroke.at(state.frame, num_frames)
                if position is None or stroke.displacement(state.frame, num_frames) is None:
                    continue
                layer = layer_of_stroke(stroke, state.frame, num_frames, layers, index)
                start = stroke.span(num_frames)[0]
                if start > 0 and stroke.region is None:
                    labels[index][stroke_key(start, stroke.at(start, num_frames) or position)] = layer
                if layers.view is not None:
                    stroke = _seen_stroke(stroke, state.frame, num_frames, layers, index, layer)
                by_layer[index][layer].append(stroke)
        return by_layer, labels

    def _complete_together(
        self,
        state: RolloutState,
        visible: torch.Tensor,
        sparse_flow: torch.Tensor,
        mask: torch.Tensor,
        bending: torch.Tensor,
    ) -> torch.Tensor:
        """
        The flow `[B, L, 2, h, w]` of an F that reads regions: one run for all layers, and one more for those that bend
        (`[B, L]`, from 0 to 1). F moves what it knows as a region as a whole, so that run is not told of them.
        """
        latents, features = self._latents(state, (visible.shape[2], visible.shape[3])), self._features(state)
        count = mask.sum(dim=1)
        together = (sparse_flow * mask).sum(dim=1) / count.clamp_min(1)
        bends = bending.any()
        bending = bending[..., None, None, None].to(visible)

        def complete(told: torch.Tensor) -> torch.Tensor:
            """One run of F, which knows the layers that are told (bool `[B, L, 1, 1, 1]`) as regions."""
            flow = self.complete_flow(
                latents,
                together,
                count > 0,
                regions=torch.where(told[..., 0], visible, 0)[:, 1:],
                region_sparse_flow=torch.where(told, sparse_flow, 0)[:, 1:],
                region_mask=(mask & told)[:, 1:],
                **features,
            )
            return flow[:, None].expand_as(sparse_flow)

        flow = complete(torch.ones_like(bending, dtype=torch.bool))
        return torch.lerp(flow, complete(bending == 0), bending) if bends else flow

    def _complete_each(
        self,
        state: RolloutState,
        layers: Layers,
        sparse_flow: torch.Tensor,
        mask: torch.Tensor,
        skipped: torch.Tensor,
    ) -> torch.Tensor:
        """
        The flow `[B, L, 2, h, w]` of an F that does not read regions: one run for each layer that is not skipped (bool
        `[B, L]`), with its own strokes only. Layers of an image without strokes share one run.
        """
        batch, number = mask.shape[:2]
        latents = self._latents(state, (mask.shape[3], mask.shape[4]))
        has_strokes = mask.flatten(2).any(dim=2).tolist()
        is_skipped = skipped.tolist()
        runs: dict[tuple[int, int], int] = {}
        chosen: list[tuple[int, int]] = []
        run_of_free: dict[int, int] = {}
        for index in range(batch):
            for layer in range(len(layers.traits[index]) + 1):
                if is_skipped[index][layer]:
                    continue
                if not has_strokes[index][layer] and index in run_of_free:
                    runs[index, layer] = run_of_free[index]
                    continue
                runs[index, layer] = len(chosen)
                if not has_strokes[index][layer]:
                    run_of_free[index] = len(chosen)
                chosen.append((index, layer))
        flow = torch.zeros(batch, number, 2, *mask.shape[3:], device=mask.device)
        if not chosen:
            return flow
        images, of_layers = (torch.tensor(part, device=mask.device) for part in zip(*chosen, strict=True))
        features = {name: of_images[images] for name, of_images in self._features(state).items()}
        strokes = (sparse_flow[images, of_layers], mask[images, of_layers])
        completed = self.complete_flow(latents[images], *strokes, **features)
        for (index, layer), run in runs.items():
            flow[index, layer] = completed[run]
        return flow

    def _bending(
        self, state: RolloutState, layers: Layers, by_layer: list[list[list[Stroke]]], num_frames: int | None
    ) -> torch.Tensor:
        """How far the strokes of each region bend it in this step, `[B, L]` from 0 to 1, on the CPU; 0 for layer 0 and
        for rigid layers."""
        bending = torch.zeros(layers.shares.shape[:2])
        is_rigid = layers.is_rigid.tolist()
        for index, of_image in enumerate(by_layer):
            for layer, strokes in enumerate(of_image):
                if layer > 0 and len(strokes) > 2 and not is_rigid[index][layer]:
                    bending[index, layer] = bending_of(*_step_of(strokes, state.frame, num_frames, layers, index))
        return bending

    def _rigid_steps(
        self, state: RolloutState, layers: Layers, by_layer: list[list[list[Stroke]]], num_frames: int | None
    ) -> torch.Tensor:
        """The similarities `[B, L, 2, 2]` of this step that the strokes of the rigid layers say, in pixels of the
        given images. A rigid layer without strokes stays where it is."""
        similarities = identity_similarity(*layers.shares.shape[:2])
        is_rigid = layers.is_rigid.tolist()
        for index, of_image in enumerate(by_layer):
            for layer, strokes in enumerate(of_image):
                if not (is_rigid[index][layer] and strokes):
                    continue
                here, there = _step_of(strokes, state.frame, num_frames, layers, index)
                holds = [stroke.kind == "hold" for stroke in strokes]
                similarities[index, layer] = fit_similarity(here, there, holds)
        return similarities.to(layers.shares.device)

    def _with_layers_of_dense_flow(self, state: RolloutState, motion: Motion) -> Motion:
        """The motion with the motion of each layer, as its dense flow says it where the layer is seen."""
        layers = state.layers
        if layers is None or motion.dense_flow is None or motion.layers is not None:
            return motion
        visible = resize_shares(layers.visible, _grid(state))
        of_each = motion.dense_flow[:, None].expand(-1, visible.shape[1], -1, -1, -1)
        flow = extend_flow(of_each, filled_cells(visible))
        # from the current frame on, so in its coordinates
        similarities = layers.fit_rigid(flow, visible)
        layer_motion = LayerMotion(layers.with_rigid(flow, similarities), similarities)
        return replace(motion, dense_flow=self._composite(layers, layer_motion.flow), layers=layer_motion)

    def _composite(self, layers: Layers, flow: torch.Tensor) -> torch.Tensor:
        """One flow field `[B, 2, h, w]` of what is seen; what is uncovered moves with layer 0."""
        visible = layers.visible_on((flow.shape[3], flow.shape[4]))
        return (visible[:, :, None] * flow).sum(dim=1)


def bending_of(points: Sequence[tuple[float, float]], targets: Sequence[tuple[float, float]]) -> float:
    """
    How far a thing bends whose points move to targets, (x, y) both: from 0, if a similarity transform explains it, to
    1; see [`BENDS`].
    """
    fitted = move_points(points, fit_similarity(points, targets, [False] * len(points)))
    motion, rest = (
        math.hypot(*(math.dist(one, target) for one, target in zip(start, targets, strict=True)))
        for start in (points, fitted)
    )
    if motion == 0:
        return 0.0
    return min(max((rest / motion - BENDS[0]) / (BENDS[1] - BENDS[0]), 0.0), 1.0)


def layer_of_stroke(stroke: Stroke, frame: int, num_frames: int | None, layers: Layers, index: int) -> int:
    """The layer of an image that an active stroke belongs to: that of its region, else the one in which it began."""
    layer = resolve_region(stroke, layers.traits[index])
    if layer is not None:
        return layer
    position = _position(stroke, frame, num_frames, 1.0, 1.0)
    start = stroke.span(num_frames)[0]
    (seen,) = layers.seen_points(index, 0, [position])
    return layers.layer_at(index, start, stroke.at(start, num_frames) or position, seen)


@dataclass(frozen=True)
class MovedStroke:
    """
    A stroke that in one step goes from another place to another place than it says.

    Args:
        stroke (`Stroke`): The stroke.
        frame (`int`): The frame from which the step goes.
        here (`tuple[float, float]`): (x, y) at this frame, in pixels of the working size.
        there (`tuple[float, float]`): (x, y) at the next frame.
    """

    stroke: Stroke
    frame: int
    here: tuple[float, float]
    there: tuple[float, float]

    @property
    def kind(self) -> str:
        return self.stroke.kind

    @property
    def region(self) -> str | int | None:
        return self.stroke.region

    def span(self, num_frames: int | None = None) -> tuple[float, float]:
        """See [`Stroke.span`]."""
        return self.stroke.span(num_frames)

    def at(self, frame: float, num_frames: int | None = None) -> tuple[float, float] | None:
        """See [`Stroke.at`]."""
        if frame == self.frame:
            return self.here
        return self.there if frame == self.frame + 1 else self.stroke.at(frame, num_frames)

    def displacement(self, frame: float, num_frames: int | None = None) -> tuple[float, float] | None:
        """See [`Stroke.displacement`]."""
        here, there = self.at(frame, num_frames), self.at(frame + 1, num_frames)
        return None if here is None or there is None else (there[0] - here[0], there[1] - here[1])


def _seen_stroke(stroke: Stroke, frame: int, num_frames: int | None, layers: Layers, index: int, layer: int) -> Stroke:
    """The step of an active stroke as the camera sees it, which has moved its layer."""
    places = [_position(stroke, one, num_frames, 1.0, 1.0) for one in (frame, frame + 1)]
    return cast(Stroke, MovedStroke(stroke, frame, *layers.seen_points(index, layer, places)))


def resize_sparse_flow(
    flow: torch.Tensor, mask: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Sparse flow on another grid: each specified cell is written to the cell that holds its center.

    Args:
        flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Displacements in cells of this grid; read only where `mask` is set.
        mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool):
            Which cells are specified.
        size (`tuple[int, int]`):
            (height, width) of the new grid.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: displacements in cells of the new grid, the mean where several cells fall
        into one, and their mask.
    """
    batch, _, height, width = mask.shape
    if (height, width) == size:
        return flow, mask
    rows = ((torch.arange(height, device=mask.device) + 0.5) * (size[0] / height)).long()
    columns = ((torch.arange(width, device=mask.device) + 0.5) * (size[1] / width)).long()
    index = (rows[:, None] * size[1] + columns).flatten().expand(batch, 3, -1)
    scale = flow.new_tensor([size[1] / width, size[0] / height])[:, None, None]
    values = torch.cat([torch.where(mask, flow * scale, 0.0), mask.to(flow.dtype)], dim=1).flatten(2)
    sums = flow.new_zeros(batch, 3, size[0] * size[1]).scatter_add(2, index, values).unflatten(2, size)
    count = sums[:, 2:]
    return sums[:, :2] / count.clamp_min(1), count > 0


def _position(
    stroke: Stroke, frame: int, num_frames: int | None, x_factor: float, y_factor: float
) -> tuple[float, float]:
    """Where an active stroke is at a frame, (x, y) times the factors."""
    point = stroke.at(frame, num_frames)
    assert point is not None
    return point[0] * x_factor, point[1] * y_factor


def _step_of(
    strokes: Sequence[Stroke], frame: int, num_frames: int | None, layers: Layers, index: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Where active strokes on an image of the batch are at a frame and at the next one, (x, y) in pixels of the given
    image."""
    y_factor, x_factor = (layers.image_sizes[index][axis] / layers.size[axis] for axis in range(2))
    here, there = (
        [_position(stroke, one, num_frames, x_factor, y_factor) for stroke in strokes] for one in (frame, frame + 1)
    )
    return here, there


def _grid(state: RolloutState) -> tuple[int, int]:
    """(height, width) of the latent grid of a state."""
    return state.latents.shape[2], state.latents.shape[3]


def check_rigid_layers(layers: Layers | None, strokes: list[list[Stroke]], num_frames: int | None) -> None:
    """
    Check that every rigid layer at frame 0 has a stroke in the clip.

    Raises:
        ValueError: If a rigid region has none. A stroke that begins after frame 0 may belong to any region.
    """
    if layers is None:
        return
    for index, traits in enumerate(layers.traits):
        spoken = set()
        for stroke in strokes[index]:
            layer = resolve_region(stroke, traits)
            start = stroke.span(num_frames)[0]
            if layer is None and start > 0:
                return
            if layer is None:
                beginning = stroke.at(start, num_frames) or stroke.points[0]
                layer = layers.layer_at(index, start, beginning, beginning)
            spoken.add(layer)
        for layer, one in enumerate(traits, start=1):
            if one.rigid and layer not in spoken:
                name = f"{layer}" if one.name is None else f"{layer} ({one.name!r})"
                raise ValueError(
                    f"Region {name} is rigid, but no stroke begins in it to say how it moves: draw one there (a hold "
                    "keeps it still), or leave out `rigid`."
                )
