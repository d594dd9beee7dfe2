# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The methods of the comparison. Each makes a video from an image and strokes; the true video is one of them."""

import torch

from ..baselines import INTERPOLATIONS
from ..pipeline_mcdiff import MCDiffPipeline
from .batches import StrokedBatch


class Method:
    """One way to make a video.

    Attributes:
        name: the name in reports.
        uses_strokes: whether the frames depend on the strokes. If they do not, they are made only once.
    """

    name: str
    uses_strokes = True

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        """`[B, N - 1, 3, H, W]` in [0, 1]: the frames after the given one."""
        raise NotImplementedError


class TrueVideo(Method):
    """The true frames: the floor of every error."""

    name = "true video"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.true_frames[:, 1:]


class Reconstruction(Method):
    """The true frames after the model's autoencoder: the result of a perfect model with this autoencoder."""

    name = "true video, autoencoded"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.reconstruction[:, 1:]


class Still(Method):
    """The given image in every frame: the ceiling of motion errors."""

    name = "still"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.start[:, None].expand(-1, batch.clips.true_frames.shape[1] - 1, -1, -1, -1)


class SplatTrueFlow(Method):
    """The given image, splatted along the true flow of every pixel."""

    name = "splat, true flow"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.true_flow_splat


class SplatTrueFlowOnCells(Method):
    """The given image, splatted along the true flow on the latent grid: what the model is given with the true flow."""

    name = "splat, true flow on cells"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.true_flow_on_cells_splat


class SplatCompletedFlow(Method):
    """The given image, splatted along the flow that the model completes in its own video."""

    name = "splat, F's flow"

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.splat(batch.completed_flow)


class SplatInterpolatedStrokes(Method):
    """The given image, splatted along an interpolation of the strokes.

    Args:
        interpolation (`str`): a key of `INTERPOLATIONS`.
    """

    def __init__(self, interpolation: str) -> None:
        self.name, self.interpolation = f"splat, {interpolation}", interpolation

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.splat(batch.interpolations[self.interpolation])


class Model(Method):
    """The whole model: it completes the flow of the strokes, generates the frames, and gives back their detail."""

    name = "ours"

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.video.frames[:, 1:]


class ModelWithTrueFlow(Method):
    """The model with the true flow instead of its own: the result of a perfect flow completion."""

    name = "ours, true flow"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.true_flow_video.frames[:, 1:]


class ModelWithoutDetail(Method):
    """The whole model without the detail of the given image: what the latents of its frames decode to."""

    name = "ours, without detail"

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.video.decoded


class ModelWithTrueFlowWithoutDetail(Method):
    """The same with the true flow: what G and the autoencoder make alone."""

    name = "ours, true flow, without detail"
    uses_strokes = False

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.true_flow_video.decoded


class OtherModel(Method):
    """Another pipeline with the same images, strokes and noise, e.g. one without flow completion (paper, Table 2).

    Args:
        name (`str`): the name in reports.
        pipe (`MCDiffPipeline`): the other model.
    """

    def __init__(self, name: str, pipe: MCDiffPipeline) -> None:
        self.name, self.pipe = name, pipe

    def frames(self, batch: StrokedBatch) -> torch.Tensor:
        return batch.clips.generate(self.pipe, batch.strokes).frames[:, 1:]


def comparison_methods(pipe: MCDiffPipeline, others: dict[str, MCDiffPipeline] | None = None) -> list[Method]:
    """All methods of a comparison, in the order of the report.

    For a model without flow completion, the methods that need it are left out. Where the pipeline gives back no detail
    of the given image, so are the methods without it.

    Args:
        pipe (`MCDiffPipeline`): the model that is evaluated.
        others (`dict[str, MCDiffPipeline]`, *optional*): other models by the names of their methods.
    """
    methods = [TrueVideo(), Reconstruction(), Still(), SplatTrueFlow(), SplatTrueFlowOnCells()]
    methods += [SplatInterpolatedStrokes(name) for name in INTERPOLATIONS]
    has_flow, has_detail = pipe.flow_completion is not None, pipe.conditioner.needs_start_image
    methods += [SplatCompletedFlow()] if has_flow else []
    methods += [Model(), ModelWithoutDetail()] if has_detail else [Model()]
    if has_flow:
        methods += [ModelWithTrueFlow(), ModelWithTrueFlowWithoutDetail()] if has_detail else [ModelWithTrueFlow()]
    return methods + [OtherModel(name, other) for name, other in (others or {}).items()]
