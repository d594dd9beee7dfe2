# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The public names of the package, imported the first time that one of them is used."""

import gc
import sys


_collects = gc.isenabled()
try:
    # The collector of cyclic garbage would look through the new objects again and again: 1.3 of 6.3 s of CPU time.
    gc.disable()
    import diffusers.pipelines

    from .flow_completion_unet import FlowCompletionOutput, FlowCompletionUNet
    from .pipeline_mcdiff import MCDiffPipeline, MCDiffPipelineOutput
    from .regions import Region
    from .rollout import Motion, RolloutState
    from .stroke_problems import StrokeProblem, StrokeWarning
    from .strokes import Stroke, StrokeSheet
finally:
    if _collects:
        gc.enable()

# diffusers loads a component of a Hub repository only from modules that are attributes of `diffusers.pipelines`. With
# this line, `MCDiffPipeline.from_pretrained("org/repo")` works without a trust flag.
setattr(diffusers.pipelines, FlowCompletionUNet.__module__, sys.modules[FlowCompletionUNet.__module__])

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
