# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Nodes of ComfyUI for mcdiff-pipeline; see docs/comfyui.md. ComfyUI loads this folder from `custom_nodes`."""

from .mcdiff_nodes import (
    MCDiffContinue,
    MCDiffContinueVideo,
    MCDiffFlowPreview,
    MCDiffGenerate,
    MCDiffLoadModel,
    MCDiffRegion,
    MCDiffStrokesFromJSON,
    MCDiffStrokesFromSplines,
)


NODE_CLASS_MAPPINGS = {
    "MCDiffLoadModel": MCDiffLoadModel,
    "MCDiffStrokesFromSplines": MCDiffStrokesFromSplines,
    "MCDiffStrokesFromJSON": MCDiffStrokesFromJSON,
    "MCDiffRegion": MCDiffRegion,
    "MCDiffFlowPreview": MCDiffFlowPreview,
    "MCDiffGenerate": MCDiffGenerate,
    "MCDiffContinue": MCDiffContinue,
    "MCDiffContinueVideo": MCDiffContinueVideo,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "MCDiffLoadModel": "MCDiff: Load Model",
    "MCDiffStrokesFromSplines": "MCDiff: Strokes from Splines",
    "MCDiffStrokesFromJSON": "MCDiff: Strokes from JSON",
    "MCDiffRegion": "MCDiff: Region from Mask",
    "MCDiffFlowPreview": "MCDiff: Flow Preview",
    "MCDiffGenerate": "MCDiff: Generate",
    "MCDiffContinue": "MCDiff: Continue",
    "MCDiffContinueVideo": "MCDiff: Continue Video",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
