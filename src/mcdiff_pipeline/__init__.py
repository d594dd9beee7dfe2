"""MCDiff (arXiv 2304.14404) as a diffusers pipeline: one image and a few strokes in, a video out."""

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .flow_completion_unet import FlowCompletionOutput, FlowCompletionUNet
    from .pipeline_mcdiff import MCDiffPipeline, MCDiffPipelineOutput
    from .regions import Region
    from .rollout import Motion, RolloutState
    from .stroke_problems import StrokeProblem, StrokeWarning
    from .strokes import Stroke, StrokeSheet

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


def __getattr__(name: str) -> Any:
    # PyTorch and diffusers take seconds to import. Packages that answer before the model is loaded do without them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import public_names

    globals().update({public: getattr(public_names, public) for public in __all__})
    return globals()[name]
