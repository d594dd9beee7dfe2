# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Makes and measures the videos of all methods for a few clips at a time."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..annotation.people import PersonDetector
from ..dataset import Clip
from ..flow import to_pixels
from ..pipeline_mcdiff import MCDiffPipeline
from .batches import ClipBatch, StrokedBatch
from .handles import Handle, draw_handles
from .long_rollout import long_rollout
from .measurements import FrameMeasurements, Networks
from .methods import (
    Method,
    Model,
    ModelWithTrueFlow,
    ModelWithTrueFlowWithoutDetail,
    SplatTrueFlow,
    SplatTrueFlowOnCells,
    Still,
    comparison_methods,
)
from .metrics.drift import DriftMeasurement, erode_still_region, measure_drift
from .metrics.flow_errors import cell_regions, end_point_errors
from .records import (
    COMPLETED_FLOW,
    COMPLETED_FLOW_IN_REGIONS,
    ClipRecord,
    FlowErrors,
    MethodResult,
    NextFrameError,
    feature_name,
)
from .samples import Sample
from .settings import EvaluationSettings


# Name of the baseline that splats latents, which is measured on the next frame only.
LATENT_SPLAT = "splat of latents, true flow"


@dataclass
class ClipResult:
    """The result of one clip.

    Args:
        record (`ClipRecord`): the measurements.
        features (`dict[str, np.ndarray]`): float32 `[n, D]` for each method and each Fréchet distance, by
            `feature_name`.
        sample (`Sample`): the frames, for sample images and videos.
    """

    record: ClipRecord
    features: dict[str, np.ndarray]
    sample: Sample


class ClipEvaluator:
    """Makes and measures the videos of all methods.

    Args:
        pipe (`MCDiffPipeline`): the model that is evaluated, on its device.
        settings (`EvaluationSettings`): the settings.
        others (`dict[str, MCDiffPipeline]`, *optional*): other models by the names of their methods.
        detector (`PersonDetector`, *optional*): finds people in the output; None turns keypoint distances off.
        i3d (`str` or `os.PathLike`, *optional*): the file that FVD needs.
    """

    def __init__(
        self,
        pipe: MCDiffPipeline,
        settings: EvaluationSettings,
        others: dict[str, MCDiffPipeline] | None = None,
        detector: PersonDetector | None = None,
        i3d: str | os.PathLike | None = None,
    ) -> None:
        self.pipe, self.settings, self.detector = pipe, settings, detector
        self.methods = comparison_methods(pipe, others)
        self.networks = Networks(pipe.device, i3d)

    def draw(self, clip: Clip, index: int) -> list[Handle]:
        """The handles of the clip with this index in its dataset, enough for the largest number of strokes."""
        rng = np.random.default_rng([self.settings.seed, index])
        return draw_handles(clip, self.settings.strokes[-1], rng, anywhere=self.settings.anywhere)

    def evaluate(self, clips: Sequence[Clip], indices: Sequence[int]) -> list[ClipResult]:
        """Makes and measures the videos of some clips.

        Args:
            clips (`Sequence[Clip]`): clips of `num_frames` frames, all of one size.
            indices (`Sequence[int]`): their indices in the dataset, which seed handles and noise.
        """
        batch = _EvaluatedBatch(self, clips, indices)
        batch.measure_without_strokes()
        for number in self.settings.strokes:
            stroked = batch.measure_with_strokes(number)
            if number == self.settings.middle_strokes:
                shown = stroked
        return batch.results(shown)

    def drift(self, clip: Clip, index: int) -> dict[int, DriftMeasurement]:
        """Makes and measures the long rollout of the clip with this index in its dataset; see `measure_drift`."""
        batch = ClipBatch(self.pipe, [clip], [self.settings.seed + index], self.settings.num_inference_steps)
        handles = self.draw(clip, index)[: self.settings.middle_strokes]
        frames = long_rollout(batch, handles, self.settings.drift_frames)
        still = erode_still_region(batch.still[:, -1])
        return measure_drift(frames, batch.start, still, self.networks.st_lpips)


class _EvaluatedBatch:
    """One batch of clips, and the results that are collected for it.

    Args:
        evaluator (`ClipEvaluator`): settings, methods and networks.
        clips, indices (`Sequence[Clip]`, `Sequence[int]`): as in `ClipEvaluator.evaluate`.
    """

    def __init__(self, evaluator: ClipEvaluator, clips: Sequence[Clip], indices: Sequence[int]) -> None:
        self.settings, self.methods = evaluator.settings, evaluator.methods
        self.handles = [evaluator.draw(clip, index) for clip, index in zip(clips, indices)]
        seeds = [self.settings.seed + index for index in indices]
        self.clips = ClipBatch(evaluator.pipe, clips, seeds, self.settings.num_inference_steps)
        self.measurements = FrameMeasurements(self.clips, self.handles, evaluator.networks, evaluator.detector)
        self.records = [ClipRecord([handle.track.tolist() for handle in drawn]) for drawn in self.handles]
        self.features: list[dict[str, np.ndarray]] = [{} for _ in clips]
        self.videos: dict[str, torch.Tensor] = {}  # of the sample images, by method

    @property
    def has_dense_flow(self) -> bool:
        return self.clips.pipe.flow_completion is not None

    @property
    def reads_regions(self) -> bool:
        flow_completion = self.clips.pipe.flow_completion
        return flow_completion is not None and flow_completion.config.reads_regions

    def measure_without_strokes(self) -> None:
        """Measures the methods that use no strokes, and the next frame from the true flow."""
        unstroked = StrokedBatch(self.clips, self.handles)
        for method in self.methods:
            if not method.uses_strokes:
                self._measure(method, None, method.frames(unstroked))
        if self.has_dense_flow:
            self._measure_next_frame(unstroked)

    def measure_with_strokes(self, number: int) -> StrokedBatch:
        """Measures the methods that use strokes, and the flow of the first step, for one number of strokes."""
        stroked = StrokedBatch(self.clips, [drawn[:number] for drawn in self.handles])
        for method in self.methods:
            if method.uses_strokes:
                self._measure(method, number, method.frames(stroked))
        self._measure_flow(number, stroked)
        return stroked

    def _measure(self, method: Method, number: int | None, frames: torch.Tensor) -> None:
        images, features = self.measurements.pixel_metrics(frames), dict[str, torch.Tensor]()
        handles = self.measurements.handle_distances(frames, number or self.settings.strokes[-1])
        keypoints: list[list[float]] = [[] for _ in self.records]
        # The slow metrics are measured at one number of strokes only.
        at_middle = number in (None, self.settings.middle_strokes)
        if at_middle:
            self.videos[method.name] = frames
            structure, features = self.measurements.structure_metrics(frames)
            images |= structure
        if at_middle or isinstance(method, Model):
            keypoints = self.measurements.detected_distances(frames, number or self.settings.strokes[-1])
        for sample, record in enumerate(self.records):
            values = {name: by_clip[sample].tolist() for name, by_clip in images.items()}
            record.methods.append(MethodResult(method.name, number, values, handles[sample], keypoints[sample]))
            for metric, by_clip in features.items():
                self.features[sample][feature_name(metric, method.name, number)] = by_clip[sample].numpy()

    def _measure_flow(self, number: int, stroked: StrokedBatch) -> None:
        """End-point errors of the first step, in which flow completion is given the true image."""
        true_flow = self.clips.true_flow_on_cells[:, 0]
        flows = {"zero flow": torch.zeros_like(true_flow)}
        flows |= {name: flow[:, 0] for name, flow in stroked.interpolations.items()}
        if self.has_dense_flow:
            flows[COMPLETED_FLOW] = stroked.completed_flow[:, 0]
        if self.reads_regions:
            flows[COMPLETED_FLOW_IN_REGIONS] = stroked.first_flow_in_regions
        cell = self.clips.cell
        true_flow = to_pixels(true_flow, cell)  # errors are recorded in pixels
        for sample, record in enumerate(self.records):
            points = torch.from_numpy(stroked.stroke_steps(sample, 0)[0])
            masks = torch.from_numpy(self.clips.clips[sample].masks[0])
            regions = cell_regions(true_flow[sample], masks, points, cell)
            for name, flow in flows.items():
                errors = end_point_errors(to_pixels(flow[sample], cell), true_flow[sample], regions)
                record.flow.append(FlowErrors(name, number, errors))

    def _measure_next_frame(self, unstroked: StrokedBatch) -> None:
        """Errors of the first generated frame, where the model and the baselines are given the true flow."""
        kinds = (Still, SplatTrueFlow, SplatTrueFlowOnCells, ModelWithTrueFlow, ModelWithTrueFlowWithoutDetail)
        compared = [method for method in self.methods if isinstance(method, kinds)]
        images = {method.name: method.frames(unstroked)[:, 0] for method in compared}
        images[LATENT_SPLAT] = self.clips.true_flow_latent_splat
        for name, image in images.items():
            for record, error in zip(self.records, self.measurements.next_frame_errors(image)):
                record.next_frame.append(NextFrameError(name, *error))

    def results(self, shown: StrokedBatch) -> list[ClipResult]:
        """The results of all clips; `shown` has the strokes of the sample images."""
        true_flow = self.clips.true_flow_on_cells
        flow = shown.completed_flow if self.has_dense_flow else true_flow
        return [
            ClipResult(
                self.records[sample],
                self.features[sample],
                Sample(
                    start=self.clips.start[sample],
                    strokes=shown.strokes[sample],
                    videos={name: frames[sample] for name, frames in self.videos.items()},
                    true_flow=to_pixels(true_flow[sample], self.clips.cell),
                    flow=to_pixels(flow[sample], self.clips.cell),
                ),
            )
            for sample in range(len(self.records))
        ]
