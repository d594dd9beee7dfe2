# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""All rows of the comparison, made and measured for a few clips at a time."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..annotation.people import PersonDetector
from ..dataset import Clip
from ..pipeline_mcdiff import MCDiffPipeline
from .handles import Handle, draw_handles
from .methods import ClipBatch, Model, Row, StrokedBatch, comparison_rows
from .metrics.drift import measure_drift
from .metrics.flow_errors import cell_regions, end_point_errors
from .metrics.frames import FrameMeasurements, Networks
from .samples import Sample
from .settings import EvaluationSettings


@dataclass
class ClipResult:
    """What the evaluation of one clip gives.

    Args:
        record (`dict`): all figures, as JSON can hold them.
            `rows`: `{"row", "strokes", "pictures", "handles", "keypoints"}` of each row: its name, the number of
            strokes (None for rows that use none), each picture metric with one value for each frame after the first,
            for each handle its distances, one for each frame in which it is to be seen, and those of keypoints in the
            last frame.
            `flow`: `{"flow", "strokes", "errors"}` of the first step: sum and number of cells for each region.
            `handles`: the handles' tracks.
        features (`dict[str, np.ndarray]`): float32 `[n, D]` for each row and each metric that compares distributions,
            by `feature_name`.
        sample (`Sample`): the frames, for pictures and videos.
    """

    record: dict[str, Any]
    features: dict[str, np.ndarray]
    sample: Sample


def feature_name(metric: str, row: str, strokes: int | None) -> str:
    """Under which name the features of a row are kept."""
    return f"{metric}: {row}" if strokes is None else f"{metric}: {row} ({strokes})"


class ClipEvaluator:
    """Makes and measures all rows.

    Args:
        pipe (`MCDiffPipeline`): the model that is evaluated, on its device.
        settings (`EvaluationSettings`): see there.
        others (`dict[str, MCDiffPipeline]`, *optional*): further models by the name of their row.
        detector (`PersonDetector`, *optional*): finds people in the output; without one keypoints are not followed.
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
        self.rows = comparison_rows(pipe, others)
        self.networks = Networks(pipe.device, i3d)

    def draw(self, clip: Clip, index: int) -> list[Handle]:
        """The handles of the clip with this number in its dataset: as many as the largest number of strokes needs."""
        rng = np.random.default_rng([self.settings.seed, index])
        return draw_handles(clip, self.settings.strokes[-1], rng, anywhere=self.settings.anywhere)

    def evaluate(self, clips: Sequence[Clip], indices: Sequence[int]) -> list[ClipResult]:
        """Makes and measures the videos of some clips.

        Args:
            clips (`Sequence[Clip]`): clips of `num_frames` frames, all of one size.
            indices (`Sequence[int]`): their numbers in the dataset, from which handles and noise follow.
        """
        handles = [self.draw(clip, index) for clip, index in zip(clips, indices)]
        seeds = [self.settings.seed + index for index in indices]
        batch = ClipBatch(self.pipe, clips, seeds, self.settings.num_inference_steps)
        measurements = FrameMeasurements(batch, clips, handles, self.networks, self.detector)
        records = [
            {"handles": [handle.track.tolist() for handle in drawn], "rows": [], "flow": []} for drawn in handles
        ]
        features = [{} for _ in clips]
        videos = {}
        for row in self.rows:
            if not row.uses_strokes:
                videos[row.name] = frames = row.frames(StrokedBatch(batch, handles))
                self._measure(row, None, frames, measurements, records, features)
        for number in self.settings.strokes:
            stroked = StrokedBatch(batch, [drawn[:number] for drawn in handles])
            for row in self.rows:
                if row.uses_strokes:
                    frames = row.frames(stroked)
                    self._measure(row, number, frames, measurements, records, features)
                    if number == self.settings.usual_strokes:
                        videos[row.name] = frames
            self._measure_flow(number, stroked, records)
            if number == self.settings.usual_strokes:
                shown = stroked
        flow = batch.true_flow_on_cells if self.pipe.flow_completion is None else shown.rollout.dense_flow
        return [
            ClipResult(
                records[sample],
                features[sample],
                Sample(
                    start=batch.start[sample],
                    strokes=shown.strokes[sample],
                    videos={name: frames[sample] for name, frames in videos.items()},
                    true_flow=batch.true_flow_on_cells[sample],
                    flow=flow[sample],
                ),
            )
            for sample in range(len(clips))
        ]

    def drift(self, clip: Clip, index: int) -> dict[int, dict[str, float]]:
        """The long roll-out of the clip with this number in its dataset; see `measure_drift`."""
        return measure_drift(
            self.pipe,
            clip,
            self.draw(clip, index)[: self.settings.usual_strokes],
            num_frames=self.settings.drift_frames,
            num_inference_steps=self.settings.num_inference_steps,
            seed=self.settings.seed + index,
            st_lpips=self.networks.st_lpips,
        )

    def _measure(
        self,
        row: Row,
        number: int | None,
        frames: torch.Tensor,
        measurements: FrameMeasurements,
        records: list[dict[str, Any]],
        features: list[dict[str, np.ndarray]],
    ) -> None:
        pictures, of_metrics = measurements.pixels(frames), {}
        distances = measurements.handles(frames, number or self.settings.strokes[-1])
        keypoints = [[] for _ in records]
        # What costs most is measured of the rivals at one number of strokes.
        at_usual_strokes = number in (None, self.settings.usual_strokes)
        if at_usual_strokes:
            structure, of_metrics = measurements.structure(frames)
            pictures |= structure
        if at_usual_strokes or isinstance(row, Model):
            keypoints = measurements.keypoints(frames, number or self.settings.strokes[-1])
        for sample, record in enumerate(records):
            record["rows"].append(
                {
                    "row": row.name,
                    "strokes": number,
                    "pictures": {name: values[sample].tolist() for name, values in pictures.items()},
                    "handles": distances[sample],
                    "keypoints": keypoints[sample],
                }
            )
            for metric, of_row in of_metrics.items():
                features[sample][feature_name(metric, row.name, number)] = of_row[sample].numpy()

    def _measure_flow(self, number: int, batch: StrokedBatch, records: list[dict[str, Any]]) -> None:
        """End-point errors of the first step, where F is given the true picture."""
        clips = batch.clips
        true_flow = clips.true_flow_on_cells[:, 0]
        flows = {"zero flow": torch.zeros_like(true_flow)}
        flows |= {name: flow[:, 0] for name, flow in batch.interpolations.items()}
        if self.pipe.flow_completion is not None:
            flows["F"] = batch.rollout.dense_flow[:, 0]
        for sample, record in enumerate(records):
            points = torch.from_numpy(batch.momentary_strokes(sample, 0)[0])
            regions = cell_regions(true_flow[sample], clips.masks[sample, 0], points, clips.cell)
            for name, flow in flows.items():
                errors = end_point_errors(flow[sample], true_flow[sample], regions)
                record["flow"].append({"flow": name, "strokes": number, "errors": errors})
