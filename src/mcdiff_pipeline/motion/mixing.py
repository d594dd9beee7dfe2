# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Sources of motion for a part of the time or of the image."""

from dataclasses import dataclass

from ..motion_completion import CompleteStrokes, MotionSource
from ..rollout import Motion, RolloutState
from ..strokes import Stroke


@dataclass(frozen=True)
class Between:
    """
    A source of motion for a part of the time.

    Args:
        source (`MotionSource`): The source.
        first (`int`): The frame from which on it acts.
        end (`int`): The frame before which its last step begins.
    """

    source: MotionSource
    first: int
    end: int

    @property
    def needs_layers(self) -> bool:
        return self.source.needs_layers

    def __call__(
        self, complete: CompleteStrokes, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None
    ) -> Motion:
        """See [`~mcdiff_pipeline.motion_completion.MotionSource`]."""
        if self.first <= state.frame < self.end:
            return self.source(complete, state, strokes, num_frames)
        return complete(strokes)
