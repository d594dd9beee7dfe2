# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A batch of clips, and the videos and flow that several methods share.

`ClipBatch` holds what depends on the clips alone, `StrokedBatch` what depends on the strokes too. Shared tensors are
computed on first use and kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..baselines import (
    INTERPOLATIONS,
    accumulate_steps,
    moving_pixels,
    splat_frame,
    splat_start_frame,
    uncovered_pixels,
)
from ..dataset import Clip
from ..flow import resize_flow, to_cells, to_pixels
from ..frame_decoder import FrameDecoder
from ..pipeline_mcdiff import MCDiffPipeline
from ..rollout import RolloutState
from ..strokes import Stroke
from .handles import Handle


@dataclass(frozen=True)
class Video:
    """What a pipeline generates.

    Args:
        frames (`torch.Tensor`): `[B, N, 3, H, W]` in [0, 1], on the CPU; the first frame is the given image. They are
            the frames that the pipeline shows, with the detail of the given image.
        decoded (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1], on the CPU: what the latents of the frames after the
            first decode to, without that detail.
        dense_flow (`torch.Tensor`, *optional*): `[B, N - 1, 2, h, w]` in latent cells, on the CPU: the flow that drove
            each step; None for a model without flow completion.
    """

    frames: torch.Tensor
    decoded: torch.Tensor
    dense_flow: torch.Tensor | None


class ClipBatch:
    """Clips of one size, and what a model generates from them without strokes.

    Args:
        pipe (`MCDiffPipeline`): the model that is evaluated.
        clips (`Sequence[Clip]`): B clips of N >= 2 frames each, all of one size.
        seeds (`Sequence[int]`): the seed of the noise of each clip. A video does not depend on the rest of its batch.
        num_inference_steps (`int`, *optional*): denoising steps per frame; None takes the model's default.
    """

    def __init__(
        self,
        pipe: MCDiffPipeline,
        clips: Sequence[Clip],
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
    ) -> None:
        self.pipe, self.clips, self.seeds, self.num_inference_steps = pipe, clips, seeds, num_inference_steps
        self.cell = pipe.vae_scale_factor
        frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        self.true_frames = frames.permute(0, 1, 4, 2, 3).float() / 255  # [B, N, 3, H, W] in [0, 1]
        self.true_flow = torch.from_numpy(np.stack([clip.flow for clip in clips]))  # [B, N - 1, 2, H, W] in pixels
        self.start = self.true_frames[:, 0]  # [B, 3, H, W]
        self._start_states: dict[MCDiffPipeline, RolloutState] = {}

    @cached_property
    def true_flow_on_cells(self) -> torch.Tensor:
        """`[B, N - 1, 2, h, w]`: the true flow on the latent grid, in latent cells."""
        height, width = self.true_flow.shape[-2:]
        flow = resize_flow(self.true_flow.flatten(0, 1), (height // self.cell, width // self.cell))
        return flow.unflatten(0, self.true_flow.shape[:2])

    @cached_property
    def accumulated_flow(self) -> torch.Tensor:
        """`[B, N - 1, 2, H, W]`: the true flow from the first frame to each later one, in pixels."""
        return accumulate_steps(self.true_flow)

    @cached_property
    def moving(self) -> torch.Tensor:
        """bool `[B, N - 1, H, W]`: the pixels that a moving thing has left or reached since the first frame."""
        return moving_pixels(self.accumulated_flow.flatten(0, 1)).unflatten(0, self.true_flow.shape[:2])

    @cached_property
    def still(self) -> torch.Tensor:
        """bool `[B, N - 1, H, W]`: the pixels where nothing has moved up to each frame."""
        return ~(self.moving.cumsum(dim=1) > 0)

    @cached_property
    def uncovered(self) -> torch.Tensor:
        """bool `[B, N - 1, H, W]`: the pixels of each frame that the first frame does not show."""
        return uncovered_pixels(self.true_flow, torch.from_numpy(np.stack([clip.occlusion for clip in self.clips])))

    @cached_property
    def reconstruction(self) -> torch.Tensor:
        """`[B, N, 3, H, W]`: the true frames after the autoencoder, the best frames that the model can reach."""
        with torch.no_grad():
            latents = self.pipe.encode_image(self.true_frames.flatten(0, 1))
        return self.decode(self.pipe, latents.unflatten(0, self.true_frames.shape[:2]))

    @cached_property
    def true_flow_video(self) -> Video:
        """What the model generates from the true flow."""
        return self.generate(self.pipe, [[] for _ in self.seeds], dense_flow=self.true_flow_on_cells)

    @cached_property
    def true_flow_splat(self) -> torch.Tensor:
        """`[B, N - 1, 3, H, W]`: the start frame, splatted along the true flow of every pixel."""
        return splat_start_frame(self.start, self.accumulated_flow, self.cell)

    @cached_property
    def true_flow_on_cells_splat(self) -> torch.Tensor:
        """`[B, N - 1, 3, H, W]`: the start frame, splatted along the true flow on the latent grid."""
        return self.splat(self.true_flow_on_cells)

    @cached_property
    def true_flow_latent_splat(self) -> torch.Tensor:
        """`[B, 3, H, W]`: the second frame, made by splatting the latents of the start frame along the true flow."""
        latents = self.start_state(self.pipe).latents
        flow = self.true_flow_on_cells[:, 0].to(latents.device)
        return self.decode(self.pipe, splat_frame(latents, flow)[:, None])[:, 0]

    def splat(self, flow: torch.Tensor) -> torch.Tensor:
        """The start frame, splatted along flow `[B, N - 1, 2, h, w]` in latent cells: `[B, N - 1, 3, H, W]`."""
        height, width = self.start.shape[-2:]
        on_pixels = resize_flow(flow.flatten(0, 1), (height, width)).unflatten(0, flow.shape[:2])
        return splat_start_frame(self.start, accumulate_steps(on_pixels), self.cell)

    def start_state(self, pipe: MCDiffPipeline) -> RolloutState:
        """The state from which a pipeline generates all of its videos, with the start frames encoded once."""
        if pipe not in self._start_states:
            generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
            height, width = self.start.shape[2:]
            self._start_states[pipe] = pipe.start(self.start, height, width, generator=generators)
        return self._start_states[pipe]

    def roll_out(
        self,
        pipe: MCDiffPipeline,
        strokes: Sequence[Sequence[Stroke]],
        num_frames: int,
        dense_flow: torch.Tensor | None = None,
    ) -> Iterator[RolloutState]:
        """Runs a pipeline from the start frames.

        Args:
            pipe (`MCDiffPipeline`): the pipeline.
            strokes (`Sequence[Sequence[Stroke]]`): the strokes of each clip, in pixels.
            num_frames (`int`): number of frames, including the start frame.
            dense_flow (`torch.Tensor`, *optional*): `[B, num_frames - 1, 2, h, w]` in latent cells; replaces flow
                completion.

        Yields:
            `RolloutState`: the state at each frame after the first.
        """
        state = self.start_state(pipe)
        for number in range(num_frames - 1):
            following = pipe.step(
                state,
                [list(of_clip) for of_clip in strokes],
                num_frames=num_frames,
                dense_flow=None if dense_flow is None else to_pixels(dense_flow[:, number], self.cell),
                num_inference_steps=self.num_inference_steps,
            )
            assert following is not None  # only a canceled step gives None
            state = following
            yield state

    @torch.no_grad()
    def generate(
        self,
        pipe: MCDiffPipeline,
        strokes: Sequence[Sequence[Stroke]],
        dense_flow: torch.Tensor | None = None,
    ) -> Video:
        """Generates videos as long as the clips; the arguments are those of `roll_out`."""
        frames, decoded, flows = [self.start], [], []
        decoder = FrameDecoder(pipe.vae, pipe.conditioner, with_detail=True)
        for state in self.roll_out(pipe, strokes, self.true_frames.shape[1], dense_flow):
            decoded.append(pipe.decode_latents(state.latents).float())
            frames.append(decoder.finish(state, decoded[-1]))
            decoded[-1] = decoded[-1].cpu()
            if state.dense_flow is not None:
                flows.append(state.dense_flow.float().cpu())
        dense = torch.stack(flows, dim=1) if flows else None
        return Video(torch.stack(frames, dim=1), torch.stack(decoded, dim=1), dense)

    @staticmethod
    @torch.no_grad()
    def decode(pipe: MCDiffPipeline, latents: torch.Tensor) -> torch.Tensor:
        """What the autoencoder makes of scaled latents `[B, N, C, h, w]`: `[B, N, 3, H, W]` in [0, 1] on the CPU."""
        decoded = [pipe.decode_latents(of_frame).float().cpu() for of_frame in latents.unbind(1)]
        return torch.stack(decoded, dim=1)


class StrokedBatch:
    """The clips of a batch with strokes.

    Args:
        clips (`ClipBatch`): the clips.
        handles (`Sequence[Sequence[Handle]]`): the handles of each clip; each is one stroke.
    """

    def __init__(self, clips: ClipBatch, handles: Sequence[Sequence[Handle]]) -> None:
        self.clips = clips
        self.strokes = [[handle.stroke() for handle in drawn] for drawn in handles]

    @cached_property
    def video(self) -> Video:
        """What the model generates from the strokes."""
        return self.clips.generate(self.clips.pipe, self.strokes)

    @property
    def completed_flow(self) -> torch.Tensor:
        """`[B, N - 1, 2, h, w]` in latent cells: the flow of that video. The model must have flow completion."""
        assert self.video.dense_flow is not None
        return self.video.dense_flow

    @property
    def first_flow_in_regions(self) -> torch.Tensor:
        """`[B, 2, h, w]` in latent cells: the flow of the first step, if people and objects are given as regions,
        where a clip shows any. The model must have flow completion."""
        pipe, batch = self.clips.pipe, self.clips
        num_frames = len(batch.clips[0].frames)
        masks = [clip.masks[0] for clip in batch.clips]
        shown = [index for index, mask in enumerate(masks) if mask.any()]
        are_all_shown = len(shown) == len(masks)
        regions = masks if are_all_shown else None  # a batch has regions for all images or none
        flow = pipe.predict_flow(batch.start_state(pipe), self.strokes, num_frames=num_frames, regions=regions)
        if shown and not are_all_shown:
            height, width = batch.start.shape[2:]
            state = pipe.start(batch.start[shown], height, width)
            strokes, regions = [self.strokes[index] for index in shown], [masks[index] for index in shown]
            flow[shown] = pipe.predict_flow(state, strokes, num_frames=num_frames, regions=regions)
        return to_cells(flow.cpu(), batch.cell)

    @cached_property
    def interpolations(self) -> dict[str, torch.Tensor]:
        """For each of `INTERPOLATIONS` `[B, N - 1, 2, h, w]` in latent cells; zero in steps without a stroke."""
        true_flow = self.clips.true_flow_on_cells
        height, width = true_flow.shape[-2:]
        flows = {name: torch.zeros_like(true_flow) for name in INTERPOLATIONS}
        for sample in range(true_flow.shape[0]):
            for frame in range(true_flow.shape[1]):
                points, displacements = self.stroke_steps(sample, frame)
                for name, interpolate in INTERPOLATIONS.items() if len(points) else ():
                    flow = interpolate(points, displacements, (height, width), self.clips.cell)
                    flows[name][sample, frame] = torch.from_numpy(flow)
        return flows

    def stroke_steps(self, sample: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """The positions of a clip's strokes in a frame, and their displacements to the next one.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: float64 `[N, 2]` each, in pixels, for the N strokes that act in this step.
        """
        steps = [(stroke.at(frame), stroke.displacement(frame)) for stroke in self.strokes[sample]]
        steps = [step for step in steps if step[1] is not None]
        points, displacements = zip(*steps) if steps else ((), ())
        return np.array(points).reshape(-1, 2), np.array(displacements).reshape(-1, 2)
