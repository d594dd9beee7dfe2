# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The rows of the comparison: ways to get from a picture and strokes to a video, the truth among them.

What several rows need is computed when the first of them asks for it, and kept: that of the clips alone in
`ClipBatch`, that of the strokes drawn on them in `StrokedBatch`.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from ..baselines import (
    accumulate_steps,
    inverse_distance_flow,
    moving_pixels,
    nearest_stroke_flow,
    splat_start_frame,
    thin_plate_flow,
)
from ..dataset import Clip
from ..flow import resize_flow
from ..pipeline_mcdiff import MCDiffPipeline, MCDiffPipelineOutput, MCDiffRollout
from ..strokes import Stroke
from .handles import Handle


# Ways to make dense flow of strokes without learning anything.
INTERPOLATIONS = {
    "nearest stroke": nearest_stroke_flow,
    "inverse distance": inverse_distance_flow,
    "thin plate": thin_plate_flow,
}


class ClipBatch:
    """Clips of one size, and what a model makes of them without strokes.

    Args:
        pipe (`MCDiffPipeline`): the model that is evaluated.
        clips (`Sequence[Clip]`): clips of N >= 2 frames each, all of one size.
        seeds (`Sequence[int]`): of the noise of each clip, so that a clip's video does not depend on its batch.
        num_inference_steps (`int`, *optional*): denoising steps of a frame; None takes the model's default.
    """

    def __init__(
        self,
        pipe: MCDiffPipeline,
        clips: Sequence[Clip],
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
    ) -> None:
        self.pipe, self.seeds, self.num_inference_steps = pipe, seeds, num_inference_steps
        self.cell = pipe.vae_scale_factor
        self.masks = torch.from_numpy(np.stack([clip.masks for clip in clips]))  # [B, N, H, W]
        frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        self.true_frames = frames.permute(0, 1, 4, 2, 3).float() / 255  # [B, N, 3, H, W] in [0, 1]
        self.true_flow = torch.from_numpy(np.stack([clip.flow for clip in clips]))  # [B, N - 1, 2, H, W] pixels
        self.start = self.true_frames[:, 0]  # [B, 3, H, W]
        self.starts: dict[MCDiffPipeline, MCDiffRollout] = {}  # what each pipeline's videos begin with

    @cached_property
    def true_flow_on_cells(self) -> torch.Tensor:
        """`[B, N - 1, 2, h, w]`: the true flow in pixels on the latent grid."""
        height, width = self.true_flow.shape[-2:]
        cells = resize_flow(self.true_flow.flatten(0, 1), (height // self.cell, width // self.cell))
        return (cells * self.cell).unflatten(0, self.true_flow.shape[:2])

    @cached_property
    def accumulated_flow(self) -> torch.Tensor:
        """`[B, N - 1, 2, H, W]`: the true flow from the first frame to each other, in pixels."""
        return accumulate_steps(self.true_flow)

    @cached_property
    def moving(self) -> torch.Tensor:
        """bool `[B, N - 1, H, W]`: where each frame differs from the first, as things have left or reached it."""
        return moving_pixels(self.accumulated_flow.flatten(0, 1)).unflatten(0, self.true_flow.shape[:2])

    @cached_property
    def still(self) -> torch.Tensor:
        """bool `[B, N - 1, H, W]`: where nothing has moved up to each frame."""
        return ~(self.moving.cumsum(dim=1) > 0)

    @cached_property
    def true_flow_rollout(self) -> MCDiffPipelineOutput:
        """What G makes of the true flow."""
        return self.run(self.pipe, [[] for _ in self.seeds], dense_flow=self.true_flow_on_cells)

    @cached_property
    def reconstruction(self) -> torch.Tensor:
        """`[B, N, 3, H, W]`: the true frames through the autoencoder and back, as far as any frame of G can get."""
        with torch.no_grad():
            latents = self.pipe.encode_image(self.true_frames.flatten(0, 1))
            return self.pipe.decode_latents(latents).float().cpu().unflatten(0, self.true_frames.shape[:2])

    @torch.no_grad()
    def run(
        self,
        pipe: MCDiffPipeline,
        strokes: Sequence[Sequence[Stroke]],
        dense_flow: torch.Tensor | None = None,
    ) -> MCDiffPipelineOutput:
        """Runs a pipeline from the start frames, which it encodes once for all of its runs.

        Args:
            pipe (`MCDiffPipeline`): the pipeline.
            strokes (`Sequence[Sequence[Stroke]]`): those of each clip, in pixels.
            dense_flow (`torch.Tensor`, *optional*): `[B, N - 1, 2, h, w]` in pixels, in place of F's.

        Returns:
            `MCDiffPipelineOutput`: what a call gives, on the CPU: frames `[B, N, 3, H, W]` and flow `[B, N - 1, 2, h,
            w]`.
        """
        if pipe not in self.starts:
            self.starts[pipe] = pipe.start_rollout(self.start)
        num_frames = self.true_frames.shape[1]
        rollouts = pipe.roll_out(
            self.starts[pipe],
            [list(of_clip) for of_clip in strokes],
            num_frames,
            num_frames,
            dense_flow=dense_flow,
            generator=[torch.Generator().manual_seed(seed) for seed in self.seeds],
            num_inference_steps=self.num_inference_steps,
            prompt_embeds=pipe.encode_prompt(None, len(self.start)),
        )
        frames, flows = [self.start], []
        for rollout in rollouts:
            frames.append(pipe.decode_latents(rollout.latents).float().cpu())
            if rollout.dense_flow is not None:
                flows.append(rollout.dense_flow.float().cpu())
        return MCDiffPipelineOutput(torch.stack(frames, dim=1), torch.stack(flows, dim=1) if flows else None)


class StrokedBatch:
    """The same clips with strokes drawn on them.

    Args:
        clips (`ClipBatch`): the clips.
        handles (`Sequence[Sequence[Handle]]`): the handles of each clip; each is one stroke.
    """

    def __init__(self, clips: ClipBatch, handles: Sequence[Sequence[Handle]]) -> None:
        self.clips, self.handles = clips, handles
        self.strokes = [[handle.stroke() for handle in drawn] for drawn in handles]

    @cached_property
    def rollout(self) -> MCDiffPipelineOutput:
        """What the model makes of the strokes."""
        return self.clips.run(self.clips.pipe, self.strokes)

    @cached_property
    def interpolations(self) -> dict[str, torch.Tensor]:
        """For each of `INTERPOLATIONS`: `[B, N - 1, 2, h, w]` in pixels; zero while no stroke says anything."""
        true_flow = self.clips.true_flow_on_cells
        flows = {name: torch.zeros_like(true_flow) for name in INTERPOLATIONS}
        for sample in range(true_flow.shape[0]):
            for frame in range(true_flow.shape[1]):
                points, displacements = self.momentary_strokes(sample, frame)
                for name, interpolate in INTERPOLATIONS.items() if len(points) else ():
                    flow = interpolate(points, displacements, tuple(true_flow.shape[-2:]), self.clips.cell)
                    flows[name][sample, frame] = torch.from_numpy(flow)
        return flows

    def momentary_strokes(self, sample: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """float64 `[N, 2]` twice: where the strokes of a clip are at a frame, and how far they go until the next."""
        pieces = [(stroke.at(frame), stroke.displacement(frame)) for stroke in self.strokes[sample]]
        pieces = [piece for piece in pieces if piece[1] is not None]
        points, displacements = zip(*pieces) if pieces else ((), ())
        return np.array(points).reshape(-1, 2), np.array(displacements).reshape(-1, 2)


class Row:
    """One way to make a video.

    Attributes:
        name: what reports call it.
        uses_strokes: whether the frames depend on the strokes; where they do not, they are made once.
    """

    name: str
    uses_strokes = True

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        """`[B, N - 1, 3, H, W]` in [0, 1]: the frames after the given one."""
        raise NotImplementedError


class TrueVideo(Row):
    """The true frames themselves: the floor of every error."""

    name = "true video"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.true_frames[:, 1:]


class Reconstruction(Row):
    """The true frames through the model's autoencoder: what a perfect G would reach."""

    name = "true video, autoencoded"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.reconstruction[:, 1:]


class Still(Row):
    """The given picture again and again, repeating the last frame: nothing moves, nothing is followed."""

    name = "still"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.start[:, None].expand(-1, batch.clips.true_frames.shape[1] - 1, -1, -1, -1)


class SplatTrueFlow(Row):
    """The given picture, carried along the true flow of every pixel."""

    name = "splat, true flow"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return splat_start_frame(batch.clips.start, batch.clips.accumulated_flow, batch.clips.cell)


class SplatCompletedFlow(Row):
    """The given picture, carried along the flow that F completes in the model's own run."""

    name = "splat, F's flow"

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return _splat_on_pixels(batch, batch.rollout.dense_flow)


class SplatInterpolatedStrokes(Row):
    """The given picture, carried along an interpolation of the strokes.

    Args:
        interpolation (`str`): a key of `INTERPOLATIONS`.
    """

    def __init__(self, interpolation: str) -> None:
        self.name, self.interpolation = f"splat, {interpolation}", interpolation

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return _splat_on_pixels(batch, batch.interpolations[self.interpolation])


class Model(Row):
    """The whole chain: F completes the strokes, G paints."""

    name = "ours"

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.rollout.frames[:, 1:]


class ModelWithTrueFlow(Row):
    """G alone, given the true flow: what the chain would reach with a perfect F."""

    name = "ours, true flow"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.true_flow_rollout.frames[:, 1:]


class OtherModel(Row):
    """Another pipeline, given the same pictures, strokes and noise; for example one without F (the paper's Table 2).

    Args:
        name (`str`): what reports call it.
        pipe (`MCDiffPipeline`): the other model.
    """

    def __init__(self, name: str, pipe: MCDiffPipeline) -> None:
        self.name, self.pipe = name, pipe

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.run(self.pipe, batch.strokes).frames[:, 1:]


def comparison_rows(pipe: MCDiffPipeline, others: dict[str, MCDiffPipeline] | None = None) -> list[Row]:
    """All rows of a comparison, in the order of the report.

    Rows that need F are absent for a model without one.

    Args:
        pipe (`MCDiffPipeline`): the model that is evaluated.
        others (`dict[str, MCDiffPipeline]`, *optional*): further models by the name of their row.
    """
    rows = [TrueVideo(), Reconstruction(), Still(), SplatTrueFlow()]
    rows += [SplatInterpolatedStrokes(name) for name in INTERPOLATIONS]
    rows += [Model()] if pipe.flow_completion is None else [SplatCompletedFlow(), Model(), ModelWithTrueFlow()]
    return rows + [OtherModel(name, other) for name, other in (others or {}).items()]


def _splat_on_pixels(batch: StrokedBatch, flow: torch.Tensor) -> torch.Tensor:
    """Splats the start frames along flow `[B, N - 1, 2, h, w]` in pixels on the latent grid."""
    clips = batch.clips
    on_pixels = resize_flow(flow.flatten(0, 1) / clips.cell, tuple(clips.start.shape[-2:]))
    return splat_start_frame(clips.start, accumulate_steps(on_pixels.unflatten(0, flow.shape[:2])), clips.cell)
