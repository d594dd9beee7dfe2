"""Two ways to save time per frame that the pipeline does not take, measured.

    python benchmarks/alternatives.py
    python benchmarks/alternatives.py --dtype bfloat16 --size 256 256

1. A frame is decoded in a second thread while F and G make the next one. The networks run bare, at the shapes of the
   pipeline, with the given numbers of threads for the first and for the second; 0 decodes one after the other.
2. What carries the start image, latents and features along the flow is compiled by `torch.compile`. The break-even is
   the number of frames that save as much CPU time as compiling took. It is printed for the first compilation in the
   process; inductor keeps its results on disk (`TORCHINDUCTOR_FORCE_DISABLE_CACHES=1` compiles anew).

Variants take turns; times are medians.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import torch
from pipeline_overhead import Floor, describe_machine

from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.flow import invert_latent_flow, resize_flow, splat_image_with_coverage, splat_latents
from mcdiff_pipeline.semantic_features import carry_features


REPOSITORY = Path(__file__).resolve().parents[1]
# Threads of F and G, and of decoding beside them.
THREADS = ((2, 0), (1, 1), (2, 1), (2, 2))
# Values that are read and written before each call, since the networks leave little of the caches to the operations.
BETWEEN = 3_000_000


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(REPOSITORY / "checkpoints/mcdiff-small-128"), help="Folder of a model.")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=(128, 128), help="In pixels."
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--frames", type=int, default=24, help="Frames of a turn.")
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args(arguments)


def frame_times(floor: Floor, threads: int, beside: int, frames: int) -> list[float]:
    """Seconds of each frame, if the frame before it is decoded in a thread of its own (`beside` is not 0)."""
    torch.set_num_threads(threads)
    seconds = []
    # PyTorch sets the number of threads for the thread that calls it.
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(beside or threads,)) as pool:
        for _ in range(frames):
            start = time.perf_counter()
            decoding = pool.submit(torch.no_grad()(floor.decode), 1) if beside else None
            floor.next_latents()
            if decoding is None:
                floor.decode(1)
            else:
                decoding.result()
            seconds.append(time.perf_counter() - start)
    return seconds


def call_times(operation: Callable[[], object], calls: int) -> list[float]:
    """Seconds of each call, after other memory was used."""
    between, seconds = torch.zeros(BETWEEN), []
    for _ in range(calls):
        between.add_(1)
        start = time.perf_counter()
        operation()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_second_thread(pipe: MCDiffPipeline, args: argparse.Namespace) -> None:
    floor = Floor(pipe, *args.size, pipe.config.default_num_inference_steps)
    times: dict[tuple[int, int], list[float]] = {threads: [] for threads in THREADS}
    for threads in THREADS:  # warm-up
        frame_times(floor, *threads, 2)
    for _ in range(args.turns):
        for threads in THREADS:
            times[threads] += frame_times(floor, *threads, args.frames)
    print("threads of F and G, and of decoding beside them: time of a frame")
    for (first, second), seconds in times.items():
        print(f"{first} + {second}{1e3 * median(seconds):>12.1f} ms{median(seconds) / median(times[2, 0]):>8.2f}")


def measure_compiled(pipe: MCDiffPipeline, args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    height, width = args.size
    grid = (height // pipe.vae_scale_factor, width // pipe.vae_scale_factor)
    generator = torch.Generator().manual_seed(0)
    flow = resize_flow(torch.randn(1, 2, 5, 5, generator=generator), grid) / 4
    flow_in_pixels = resize_flow(flow, (height, width))
    image, latents = torch.rand(1, 3, height, width), torch.randn(1, pipe.latent_channels, *grid)
    features = torch.randn(1, pipe.flow_completion.stroke_attention.num_reduced, 16, 16)
    operations: dict[str, tuple[Callable, tuple]] = {
        "start image": (splat_image_with_coverage, (image, flow_in_pixels, pipe.vae_scale_factor)),
        "latents": (splat_latents, (latents, flow)),
        "features": (carry_features, (features, flow)),
        "inversion, for detail": (invert_latent_flow, (flow, (height, width))),
    }
    print(f"\n{'carried along':<24}{'eager':>12}{'compiled':>12}{'compiling':>12}{'break-even':>16}")
    for name, (function, inputs) in operations.items():
        compiled = torch.compile(function)
        start = time.process_time()
        compiled(*inputs)
        compiling = time.process_time() - start
        function(*inputs)
        eager, fast = [], []
        for _ in range(args.turns):
            eager += call_times(lambda: function(*inputs), args.frames)
            fast += call_times(lambda: compiled(*inputs), args.frames)
        saved = median(eager) - median(fast)
        frames = f"{compiling / saved:,.0f} frames" if saved > 0 else "never"
        print(f"{name:<24}{1e3 * median(eager):>9.2f} ms{1e3 * median(fast):>9.2f} ms{compiling:>10.1f} s{frames:>16}")


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    pipe = MCDiffPipeline.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
    print(f"machine  {describe_machine('cpu')}")
    print(f"shape    {args.size[0]} x {args.size[1]}, {args.dtype}, {os.cpu_count()} cores\n", flush=True)
    measure_second_thread(pipe, args)
    measure_compiled(pipe, args)


if __name__ == "__main__":
    main()
