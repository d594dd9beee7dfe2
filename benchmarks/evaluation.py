"""Compares the time of an evaluation with the time of generating its videos.

    python benchmarks/evaluation.py --data data/people --split test

The evaluation is the whole of `evaluate`, from the shards to the report. The floor is the same model, called for the
same videos: once for each number of strokes and once with the true flow, and the true videos through the autoencoder.
Limit 1.3. Baselines, metrics, reading and writing count as cost. Long rollouts and sample videos are left out on both
sides. Each call of the floor encodes its images again, and decodes as many frames at a time as the evaluation.
Evaluation and floor alternate in one run; the ratio is the median of the turns.
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
from mcdiff_pipeline.evaluation.batches import ClipBatch, StrokedBatch
from mcdiff_pipeline.evaluation.handles import draw_handles
from mcdiff_pipeline.evaluation.run import read_clip, usable_clips
from mcdiff_pipeline.flow import to_pixels


LIMIT = 1.3


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(Path(__file__).parents[1] / "checkpoints/mcdiff-small-128"))
    parser.add_argument("--data", required=True, help="Folder of clip shards.")
    parser.add_argument("--split", default="test")
    parser.add_argument("--num_clips", type=int, default=24)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=None, help="Denoising steps (default: the model's).")
    parser.add_argument("--pose_model", default=None, help="MediaPipe's pose model; also detects keypoints.")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


def load_batches(
    pipe: MCDiffPipeline, dataset: ClipDataset, settings: EvaluationSettings, batch_size: int
) -> list[list[StrokedBatch]]:
    """The clips of an evaluation in batches, each with its strokes for every number of strokes."""
    indices, _ = usable_clips(dataset, pipe, settings)
    batches = []
    for first in range(0, len(indices), batch_size):
        chosen = indices[first : first + batch_size]
        clips = [read_clip(dataset, index, settings.num_frames) for index in chosen]
        handles = [
            draw_handles(clip, settings.strokes[-1], np.random.default_rng([settings.seed, index]))
            for clip, index in zip(clips, chosen)
        ]
        batch = ClipBatch(pipe, clips, [settings.seed + index for index in chosen], settings.num_inference_steps)
        batch.true_flow_on_cells  # computed on first use, which is not timed
        batches.append([StrokedBatch(batch, [h[:number] for h in handles]) for number in settings.strokes])
    return batches


def generate(batches: list[list[StrokedBatch]], settings: EvaluationSettings) -> tuple[float, float]:
    """Generates the videos of an evaluation and nothing else; seconds by the clock and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    for stroked in batches:
        clips = stroked[0].clips
        height, width = clips.start.shape[2:]
        true_flow = to_pixels(clips.true_flow_on_cells, clips.cell)
        for strokes, dense_flow in [*((batch.strokes, None) for batch in stroked), ([], true_flow)]:
            clips.pipe(
                clips.start,
                strokes,
                num_frames=settings.num_frames,
                height=height,
                width=width,
                num_inference_steps=settings.num_inference_steps,
                generator=[torch.Generator().manual_seed(seed) for seed in clips.seeds],
                dense_flow=dense_flow,
                decode_chunk_size=1,
                output_type="pt",
            )
        clips.reconstruction  # computed on first use
    return time.perf_counter() - clock, time.process_time() - cpu


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    dataset = ClipDataset(args.data, args.split)
    pipe = MCDiffPipeline.from_pretrained(args.model).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    settings = EvaluationSettings(
        num_clips=args.num_clips, num_inference_steps=args.steps, drift_clips=0, num_samples=0
    )
    # The warm-up loads everything that is loaded only once, such as the networks of the metrics.
    warm_up = EvaluationSettings(num_clips=1, drift_clips=0, num_samples=0)
    with tempfile.TemporaryDirectory() as folder:
        evaluate(pipe, dataset, folder, warm_up, pose_model=args.pose_model)

    ratios = {"clock": [], "CPU": []}
    print(
        f"{args.num_clips} clips of {Path(args.data).name}, {args.split}; {args.steps or 'default'} steps; "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {args.device}"
    )
    for _ in range(args.turns):
        floor = generate(load_batches(pipe, dataset, settings, args.batch_size), settings)
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
