"""MCDiff (arXiv 2304.14404) as a diffusers pipeline: one image and a few strokes in, a video out."""

import diffusers.pipelines

from . import flow_completion_unet
from .flow_completion_unet import FlowCompletionOutput, FlowCompletionUNet
from .pipeline_mcdiff import MCDiffPipeline, MCDiffPipelineOutput
from .regions import Region
from .rollout import Motion, RolloutState
from .stroke_problems import StrokeProblem, StrokeWarning
from .strokes import Stroke, StrokeSheet


# diffusers loads a component of a Hub repository only from modules that are attributes of `diffusers.pipelines`. With
# this line, `MCDiffPipeline.from_pretrained("org/repo")` works without a trust flag.
setattr(diffusers.pipelines, flow_completion_unet.__name__, flow_completion_unet)

__version__ = "0.1.0"

__all__ = [
    "FlowCompletionOutput",
    "FlowCompletionUNet",
    "MCDiffPipeline",
    "MCDiffPipelineOutput",
    "Motion",
    "Region",
    "RolloutState",
    "Stroke",
    "StrokeProblem",
    "StrokeSheet",
    "StrokeWarning",
]
