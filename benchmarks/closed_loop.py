# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Measures what a closed loop gains: the distance of handles to where strokes want them, with and without it.

    python benchmarks/closed_loop.py --data data/validation --num-clips 20

Clips are made by `training/render_people.py --split validation` or `mcdiff annotate`.
"""

import argparse
import time

import numpy as np
import torch

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.dataset import Clip
from mcdiff_pipeline.dataset.shards import ClipDataset
from mcdiff_pipeline.evaluation.batches import ClipBatch
from mcdiff_pipeline.evaluation.handles import Handle, draw_handles
from mcdiff_pipeline.evaluation.metrics.handle_search import HandleSearch
from mcdiff_pipeline.evaluation.metrics.image import psnr
from mcdiff_pipeline.evaluation.run import read_clip
from mcdiff_pipeline.frame_decoder import FrameDecoder
from mcdiff_pipeline.motion.closed_loop import ClosedLoop


# A clip counts as better or worse if the mean distance changes by more than this, in pixels.
NOTICEABLE = 0.3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of shards with true flow")
    parser.add_argument("--model", default="mcdiff-small-128")
    parser.add_argument("--first-clip", type=int, default=0)
    parser.add_argument("--num-clips", type=int, default=20)
    parser.add_argument("--num-frames", type=int, default=7)
    parser.add_argument("--strokes", type=int, default=5)
    return parser.parse_args()


def video_of(clips: ClipBatch, strokes: list[Stroke], motion: ClosedLoop | None) -> torch.Tensor:
    """The frames after the given one, `[N - 1, 3, H, W]` in [0, 1]."""
    state, frames = clips.start_state(clips.pipe), []
    decoder = FrameDecoder(clips.pipe.vae, clips.pipe.conditioner, with_detail=True)
    num_frames = clips.true_frames.shape[1]
    for _ in range(num_frames - 1):
        state = clips.pipe.step(state, [strokes], num_frames=num_frames, motion=motion)
        frames += decoder.decode([state])
    return torch.cat(frames)


def measure(pipe: MCDiffPipeline, clip: Clip, handles: list[Handle], seed: int) -> list[tuple[float, float, float]]:
    """Mean distance in pixels, PSNR on moving pixels in dB, and seconds: without and with a closed loop."""
    clips = ClipBatch(pipe, [clip], [seed])
    places = [(frame - 1, one.track[frame]) for one in handles for frame in range(1, len(one.track))]
    truth = clips.true_frames[0, 1:]
    positions, numbers = (torch.tensor(np.array(values)) for values in zip(*((p, n) for n, p in places), strict=True))
    search = HandleSearch(truth, positions.float(), numbers)
    found = []
    for motion in (None, ClosedLoop(pipe)):
        begun = time.monotonic()
        video = video_of(clips, [one.stroke() for one in handles], motion)
        seconds = time.monotonic() - begun
        quality = psnr(video, truth, clips.moving[0]).nanmean().item()
        found.append((search.distances(video).nanmean().item(), quality, seconds))
    return found


def main() -> None:
    args = arguments()
    pipe = MCDiffPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    data, results = ClipDataset(args.data), []
    for index in range(args.first_clip, min(args.first_clip + args.num_clips, len(data))):
        clip = read_clip(data, index, args.num_frames)
        handles = draw_handles(clip, args.strokes, np.random.default_rng([0, index]))
        if handles:
            results.append(measure(pipe, clip, handles, index))
    values = np.array(results)  # [clips, 2, 3]
    for name, (distance, quality, seconds) in zip(("open", "closed"), np.nanmean(values, axis=0), strict=True):
        print(f"{name} loop: ADE {distance:.2f} px, PSNR on moving pixels {quality:.2f} dB, {seconds:.2f} s a clip")
    change = values[:, 1, 0] - values[:, 0, 0]
    change = change[np.isfinite(change)]
    error = change.std(ddof=1) / len(change) ** 0.5
    print(f"change of ADE over {len(change)} clips: {change.mean():+.2f} px, standard error {error:.2f}")
    print(
        f"{(change < -NOTICEABLE).sum()} clips better and {(change > NOTICEABLE).sum()} worse by more than "
        f"{NOTICEABLE} px; the worst {change.max():+.2f} px"
    )


if __name__ == "__main__":
    main()
