# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Long rollouts: the model continues from its own frames far beyond the end of the clip, so that errors add up.

The strokes follow their handles until the clip ends. After that each stroke holds its position.
"""

from collections.abc import Iterator

import torch

from ..frame_decoder import FrameDecoder
from ..strokes import Stroke
from .batches import ClipBatch
from .handles import Handle


def long_strokes(handles: list[Handle]) -> list[Stroke]:
    """The strokes of the handles, each with a hold after its end."""
    ends = [(handle.track[-1].tolist(), len(handle.track) - 1) for handle in handles]
    holds = [Stroke([point], kind="hold", start_frame=frame) for point, frame in ends]
    return [handle.stroke() for handle in handles] + holds


def measured_frames(num_frames: int) -> list[int]:
    """The frames that are measured: 1, 2, 4, 8, ... and the last one."""
    frames = [1]
    while 2 * frames[-1] < num_frames - 1:
        frames.append(2 * frames[-1])
    return sorted({*frames, num_frames - 1})


def long_rollout(batch: ClipBatch, handles: list[Handle], num_frames: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Generates a long rollout and yields the frames that are measured.

    Args:
        batch (`ClipBatch`): one clip.
        handles (`list[Handle]`): its handles.
        num_frames (`int`): length of the rollout, including the given image.

    Yields:
        `tuple[int, torch.Tensor]`: number of the frame, and the frame `[1, 3, H, W]` in [0, 1] on the CPU.
    """
    wanted = measured_frames(num_frames)
    decoder = FrameDecoder(batch.pipe.vae, batch.pipe.conditioner, with_detail=True)
    for state in batch.roll_out(batch.pipe, [long_strokes(handles)], num_frames):
        if state.frame in wanted:
            with torch.no_grad():
                (frame,) = decoder.decode([state])
            yield state.frame, frame
