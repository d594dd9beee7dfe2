"""The cost of showing frames at the picture's own size: CPU time of one frame, and peak memory.

    python benchmarks/detail.py                       # 128, 512, 1,024 and 4,096 pixels; 1 to 3 layers
    python benchmarks/detail.py --sizes 2048 --layers 4 --working_size 256

Layers are bands of the picture that move apart by a few pixels of the working size. Times are medians of CPU time, in
one thread unless `--threads` says otherwise. `invert` is `invert_latent_flow` of all layers, `render` is one frame,
`prepare` is done once for a picture. Memory is what a row adds to the peak of the resident set of the process.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from mcdiff_pipeline.detail import DetailRenderer
from mcdiff_pipeline.flow import invert_latent_flow


Result = TypeVar("Result")

CELL = 4  # pixels along one side of a latent cell


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512, 1024, 4096], help="Longer sides in pixels.")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--working_size", type=int, default=128, help="Longer side in pixels.")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def bands(layers: int, height: int, width: int) -> torch.Tensor:
    """Shares `[layers, height, width]`: layer 0 everywhere but in horizontal bands, one for each other layer."""
    shares = torch.zeros(layers, height, width)
    for layer in range(1, layers):
        top = layer * height // (layers + 1)
        shares[layer, top : top + height // (2 * layers), width // 4 : -width // 4] = 1
    shares[0] = 1 - shares[1:].sum(dim=0)
    return shares


def timed(function: Callable[[], Result]) -> tuple[Result, float]:
    """What a function returns, and the milliseconds of CPU time that it took."""
    begin = time.process_time()
    result = function()
    return result, 1000 * (time.process_time() - begin)


def measure(size: int, layers: int, working_size: int, repetitions: int) -> str:
    """One row of the table."""
    height, width = size * 3 // 4, size
    working = (working_size * 3 // 4, working_size)
    picture = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    start = torch.rand(3, *working)
    shares = bands(layers, *working) if layers > 1 else None
    grid = (working[0] // CELL, working[1] // CELL)
    flow = torch.full((layers, 2, *grid), 0.7 / CELL) * torch.arange(layers).view(-1, 1, 1, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    renderer, prepare = timed(lambda: DetailRenderer(picture, start, start, shares))
    inverting, rendering = [], []
    for _ in range(repetitions):
        (backward, known), milliseconds = timed(lambda: invert_latent_flow(flow, working))
        inverting.append(milliseconds)
        frame, milliseconds = timed(lambda: renderer.render(start, backward, known[:, 0]))
        rendering.append(milliseconds)
        del frame
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    times = f"{prepare:9.0f} {statistics.median(inverting):9.1f} {statistics.median(rendering):9.1f}"
    return f"{width:5d} x {height:4d} {layers:7d} {times} {memory:9.0f}"


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    torch.set_num_threads(args.threads)
    measure(args.sizes[0], 2, args.working_size, 1)  # what PyTorch loads at first use
    print(f"from a working size of {args.working_size} x {args.working_size * 3 // 4}")
    print("      output  layers prepare/ms invert/ms render/ms  more/MiB")
    for size in sorted(args.sizes):
        for layers in args.layers:
            print(measure(size, layers, args.working_size, args.repetitions), flush=True)


if __name__ == "__main__":
    main()
