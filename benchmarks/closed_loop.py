# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Measures what a closed loop gains: the distance of handles to where strokes want them, with and without it.

    python benchmarks/closed_loop.py --data data/validation --num-clips 64
    python benchmarks/closed_loop.py --photographs data/photographs/validation

Clips are made by `training/render_people.py --split validation` or `mcdiff annotate`: handles are searched for in the
output by the patches of the true video. On photographs, one stroke of 16 pixels over 8 steps pulls the corner with
most contrast in any direction, at 128 pixels. Where it goes is followed by the optical flow of the output (DIS), which
knows nothing of patches.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.annotation.flow import load_flow_estimator
from mcdiff_pipeline.dataset import Clip
from mcdiff_pipeline.dataset.shards import ClipDataset
from mcdiff_pipeline.evaluation.batches import ClipBatch
from mcdiff_pipeline.evaluation.handles import Handle, draw_handles
from mcdiff_pipeline.evaluation.metrics.handle_search import HandleSearch
from mcdiff_pipeline.evaluation.metrics.image import psnr
from mcdiff_pipeline.evaluation.run import read_clip
from mcdiff_pipeline.frame_decoder import FrameDecoder
from mcdiff_pipeline.image_processor import load_image_tensor
from mcdiff_pipeline.motion.closed_loop import ClosedLoop


# A clip counts as better or worse if the mean distance changes by more than this, in pixels.
NOTICEABLE = 0.3
# Photographs: side and margin of the place of the stroke, its length, all in pixels, and the frames.
SIDE, MARGIN, LENGTH, FRAMES = 128, 36, 16, 9


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", help="folder of shards with true flow")
    what.add_argument("--photographs", type=Path, help="folder of photographs")
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


def corner_of(image: torch.Tensor) -> tuple[float, float]:
    """The corner with most contrast (Shi and Tomasi 1994) in the middle of an image `[3, H, W]`; (x, y) in pixels."""
    gray = image.mean(dim=0)
    dx, dy = (F.pad(gray.diff(dim=axis), pad) for axis, pad in ((1, (0, 1)), (0, (0, 0, 0, 1))))
    xx, xy, yy = F.avg_pool2d(torch.stack([dx * dx, dx * dy, dy * dy])[None], 15, 1, 7)[0]
    smaller = (xx + yy) / 2 - ((xx - yy).square() / 4 + xy.square()).sqrt()
    inner = smaller[MARGIN:-MARGIN, MARGIN:-MARGIN]
    row, column = divmod(int(inner.argmax()), inner.shape[1])
    return column + MARGIN + 0.5, row + MARGIN + 0.5


def measure_photograph(pipe: MCDiffPipeline, path: Path, seed: int) -> list[tuple[float, float, float]]:
    """As [`measure`], without PSNR, on a photograph."""
    image = load_image_tensor(path)
    side = min(image.shape[1:])
    image = F.interpolate(image[None, :, :side, :side], (SIDE, SIDE), mode="bicubic", antialias=True)[0].clamp(0, 1)
    (x, y), angle = corner_of(image), np.random.default_rng(seed).uniform(0, 2 * math.pi)
    stroke = Stroke([(x, y), (x + LENGTH * math.cos(angle), y + LENGTH * math.sin(angle))])
    estimator, found = load_flow_estimator("dis"), []
    for motion in (None, ClosedLoop(pipe)):
        begun = time.monotonic()
        generator = torch.Generator().manual_seed(0)
        arguments = {"num_frames": FRAMES, "height": SIDE, "width": SIDE, "motion": motion, "generator": generator}
        video = pipe(image, [stroke], **arguments, output_type="np").frames[0]
        seconds = time.monotonic() - begun
        frames = (video * 255).round().astype(np.uint8)
        place, distances = np.array([x, y]), []
        for number, flow in enumerate(estimator(frames[:-1], frames[1:]), start=1):
            column, row = place.astype(int).clip(0, SIDE - 1)
            place = place + flow[:, row, column]
            distances.append(np.linalg.norm(place - np.array(stroke.at(number, FRAMES))))
        found.append((float(np.mean(distances)), math.nan, seconds))
    return found


def main() -> None:
    args = arguments()
    pipe = MCDiffPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    results = []
    if args.photographs is not None:
        paths = sorted(path for path in args.photographs.iterdir() if path.suffix in (".jpg", ".png"))
        results = [measure_photograph(pipe, path, seed) for seed, path in enumerate(paths[: args.num_clips])]
    else:
        data = ClipDataset(args.data)
        for index in range(args.first_clip, min(args.first_clip + args.num_clips, len(data))):
            clip = read_clip(data, index, args.num_frames)
            handles = draw_handles(clip, args.strokes, np.random.default_rng([0, index]))
            if handles:
                results.append(measure(pipe, clip, handles, index))
    values = np.array(results)  # [clips, 2, 3]
    for number, name in enumerate(("open", "closed")):
        distance, quality, seconds = (column[np.isfinite(column)] for column in values[:, number].T)
        shown = f", PSNR on moving pixels {quality.mean():.2f} dB" if len(quality) else ""
        print(f"{name} loop: ADE {distance.mean():.2f} px{shown}, {seconds.mean():.2f} s a clip")
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
