"""How long `mcdiff generate` takes: for sizes of the motion, sizes of the frames, and numbers of frames.

    python benchmarks/commands.py                     # the embedded model
    python benchmarks/commands.py --device cuda
    python benchmarks/commands.py --model runs/mine/pipeline --frames 16

Each run is a command of its own, as a user would start it, on a photograph of 2,000 x 1,353 pixels. The time of a
frame is the difference between a long video and one of two frames, over the difference of their lengths. The rest is
the start: Python, imports, the model. Prints a table in Markdown: seconds on the clock, and in parentheses of CPU
time, which other programs disturb less.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pipeline_overhead import REPOSITORY, describe_machine


PHOTOGRAPH = REPOSITORY / "examples" / "fig.jpg"
STROKES = ("--stroke", "55%,50% 50%,45%", "--hold", "10%,10%")
SIZES = (128, 192, 256, 384)
OUTPUT_SIZES = ("working", "512", "1280x866", "image")


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(REPOSITORY / "checkpoints/mcdiff-small-128"), help="Folder of a model.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--frames", type=int, default=16, help="Frames of each video.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="Shorter sides of the working size.")
    parser.add_argument("--threads", type=int, help="Threads of torch (default: torch's).")
    return parser.parse_args(arguments)


def time_command(args: argparse.Namespace, size: int, output_size: str, num_frames: int) -> tuple[dict, np.ndarray]:
    """Runs the command; returns its facts, and the seconds of the process on the clock and of CPU time, `[2]`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mcdiff_commands", "generate", PHOTOGRAPH, *STROKES, "--json"]
        command += ["--model", args.model, "--device", args.device, "--dtype", args.dtype]
        command += ["--size", str(size), "--output-size", output_size, "--num-frames", str(num_frames)]
        environment = os.environ | ({"OMP_NUM_THREADS": str(args.threads)} if args.threads else {})
        before = now()
        output = Path(folder, "video.mp4")
        run = subprocess.run([*command, "-o", output], env=environment, check=True, capture_output=True, text=True)
    return json.loads(run.stdout), now() - before


def now() -> np.ndarray:
    """Seconds on the clock, and of CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.monotonic(), used.ru_utime + used.ru_stime])


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    print(f"command  python benchmarks/commands.py {' '.join(arguments or sys.argv[1:])}".rstrip())
    print(f"machine  {describe_machine(args.device)}\n")
    print(f"| motion at | frames of | start | a frame | {args.frames} frames, in total |\n|---|---|---|---|---|")
    for number, size in enumerate(args.sizes):
        for output_size in OUTPUT_SIZES if number == 0 else OUTPUT_SIZES[-2:-1]:
            _, short = time_command(args, size, output_size, 2)
            facts, total = time_command(args, size, output_size, args.frames)
            frame = (total - short) / (args.frames - 2)
            cells = (f"{clock:.3g} s ({cpu:.3g} s)" for clock, cpu in (short - frame, frame, total))
            sizes = (f"{facts[f'{which}width']} × {facts[f'{which}height']}" for which in ("working_", ""))
            print(f"| {' | '.join((*sizes, *cells))} |", flush=True)


if __name__ == "__main__":
    main()
