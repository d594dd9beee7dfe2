"""Batches of sliding squares with strokes, for tests of evaluation."""

import numpy as np

from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.evaluation.batches import ClipBatch, StrokedBatch
from mcdiff_pipeline.evaluation.handles import draw_handles
from support.sliding_squares import sliding_square


def make_stroked_batch(pipe: MCDiffPipeline, *numbers: int, strokes: int = 2) -> StrokedBatch:
    """The clips `sliding_square(number)`, with their numbers as seeds and `strokes` strokes each."""
    clips = [sliding_square(number) for number in numbers]
    handles = [draw_handles(clip, strokes, np.random.default_rng(0)) for clip in clips]
    return StrokedBatch(ClipBatch(pipe, clips, list(numbers), num_inference_steps=1), handles)
