"""What does evaluation cost beside the videos that it looks at?

    python benchmarks/evaluation.py --data data/people --split test

Time of `evaluate`, from the shards to the report, over the floor: the same model, called for the same videos, once for
each number of strokes and once with the true flow, and the true videos through the autoencoder. Limit 1.3. Rivals,
metrics, reading and writing count as cost; long roll-outs and sample videos are left out on both sides. Each call of
the floor encodes its pictures, as any call does, and decodes as many frames at a time as the evaluation. Evaluation
and floor take turns in one run; the ratio is the median of the turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.evaluation import EvaluationSettings, evaluate
from mcdiff_pipeline.evaluation.handles import draw_handles
from mcdiff_pipeline.evaluation.methods import ClipBatch, StrokedBatch
from mcdiff_pipeline.evaluation.run import read_clip, usable_clips


LIMIT = 1.3


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(Path(__file__).parents[1] / "checkpoints/mcdiff-small-128"))
    parser.add_argument("--data", required=True, help="Folder of clip shards.")
    parser.add_argument("--split", default="test")
    parser.add_argument("--num_clips", type=int, default=24)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=None, help="Denoising steps; the model's default if absent.")
    parser.add_argument("--pose_model", default=None, help="Follow people's keypoints too, by MediaPipe's pose model.")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


def generate(pipe: MCDiffPipeline, dataset: ClipDataset, settings: EvaluationSettings, batch_size: int) -> tuple:
    """Makes the videos of an evaluation and nothing else; seconds by the clock and of the CPU."""
    indices, _ = usable_clips(dataset, pipe, settings)
    clips = [read_clip(dataset, index, settings.num_frames) for index in indices]
    drawn = [
        draw_handles(clip, settings.strokes[-1], np.random.default_rng([settings.seed, index]))
        for clip, index in zip(clips, indices)
    ]
    batches = []
    for first in range(0, len(clips), batch_size):
        part = slice(first, first + batch_size)
        seeds = [settings.seed + index for index in indices[part]]
        batch = ClipBatch(pipe, clips[part], seeds, settings.num_inference_steps)
        strokes = [StrokedBatch(batch, [h[:number] for h in drawn[part]]).strokes for number in settings.strokes]
        batches.append((batch, strokes, batch.true_flow_on_cells))
    clock, cpu = time.perf_counter(), time.process_time()
    for batch, strokes, flow in batches:
        height, width = batch.start.shape[2:]
        for of_clips, dense_flow in [*((of_clips, None) for of_clips in strokes), ([], flow)]:
            pipe(
                batch.start,
                of_clips,
                num_frames=settings.num_frames,
                height=height,
                width=width,
                num_inference_steps=settings.num_inference_steps,
                generator=[torch.Generator().manual_seed(seed) for seed in batch.seeds],
                dense_flow=dense_flow,
                decode_chunk_size=1,
                output_type="pt",
            )
        batch.reconstruction  # computed when it is asked for
    return time.perf_counter() - clock, time.process_time() - cpu


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    dataset = ClipDataset(args.data, args.split)
    pipe = MCDiffPipeline.from_pretrained(args.model).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    settings = EvaluationSettings(
        num_clips=args.num_clips, num_inference_steps=args.steps, drift_clips=0, num_samples=0
    )
    # What is only loaded once, such as the metric's networks, is loaded before anything is timed.
    warm_up = EvaluationSettings(num_clips=1, drift_clips=0, num_samples=0)
    with tempfile.TemporaryDirectory() as folder:
        evaluate(pipe, dataset, folder, warm_up, pose_model=args.pose_model)

    ratios = {"clock": [], "CPU": []}
    print(
        f"{args.num_clips} clips of {Path(args.data).name}, {args.split}; {args.steps or 'default'} steps; "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {args.device}"
    )
    for _ in range(args.turns):
        floor = generate(pipe, dataset, settings, args.batch_size)
        with tempfile.TemporaryDirectory() as folder:
            clock, cpu = time.perf_counter(), time.process_time()
            evaluate(pipe, dataset, folder, settings, pose_model=args.pose_model, batch_size=args.batch_size)
            whole = time.perf_counter() - clock, time.process_time() - cpu
        for name, over, under in zip(ratios, whole, floor):
            ratios[name].append(over / under)
            print(f"{name:6}  evaluation {over:7.1f} s   floor {under:7.1f} s   ratio {over / under:.3f}")
    for name, values in ratios.items():
        print(f"{name:6}  median ratio {statistics.median(values):.3f}   limit {LIMIT}")


if __name__ == "__main__":
    main()
