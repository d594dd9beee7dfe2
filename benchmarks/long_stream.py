"""A very long stream: memory, time of a frame, and how far the frames drift.

    python benchmarks/long_stream.py                        # 10,000 frames of the embedded model
    python benchmarks/long_stream.py --frames 200 --sheet sheet.png

The head of the cat of examples/cat.jpg is dragged to and fro without end, by strokes that are asked for before each
frame; one point is held. Every 50 frames the strokes are where they began, so a perfect model shows the given image
again at each frame that is measured, up to what 13 frames of the way mean at frame 63.

- **Memory**: the resident set at equal distances after a warm-up; the last over the first, limit 1.02.
- **Time**: CPU time of a frame, median of the last tenth over that of the first; and, since other programs change it
  in half an hour, of 100 more frames in turn with the first ones of a new stream, limit 1.05.
- **Drift**: color and sharpness as in the long rollouts of `mcdiff evaluate`, against frame 0. No limit.

`--sheet` draws the measured frames. Progress with the time that is left is on stderr. Ctrl-C ends the stream earlier,
and what was measured until then is printed.
"""

import argparse
import contextlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from pipeline_overhead import REPOSITORY, describe_machine
from process_times import resident_bytes

from mcdiff_commands.model import default_dtype, load_model
from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.drawing import titled_columns
from mcdiff_pipeline.evaluation.metrics.drift import measure_drift
from mcdiff_pipeline.progress import progress_bar
from mcdiff_pipeline.video.writer import interrupt_postponed


MEMORY_LIMIT, TIME_LIMIT = 1.02, 1.05
WARM_UP = 20  # frames after which memory and time are measured
MEASURED = (1, 63, 250, 1_000, 10_000)  # frames whose drift is measured, if the stream is as long
PERIOD = 50  # frames of the way to and fro
TURNS = 100  # frames that are compared in turn with those of a new stream


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(REPOSITORY / "checkpoints/mcdiff-small-128"), help="Folder of a model.")
    parser.add_argument("--image", default=str(REPOSITORY / "examples/cat.jpg"))
    parser.add_argument("--frames", type=int, default=10_000, help="Frames that are made, without the given image.")
    parser.add_argument("--samples", type=int, default=11, help="How often memory is measured.")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="Default: that of `mcdiff generate`.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sheet", type=Path, help="Image (.png, .jpg) of the measured frames to write.")
    args = parser.parse_args(arguments)
    if args.frames < 2 * WARM_UP or args.samples < 2:
        parser.error(f"--frames needs at least {2 * WARM_UP}, and --samples at least 2.")
    return args


def swinging(width: int, height: int) -> Callable[[int], list[Stroke]]:
    """The strokes of the step from a frame to the next one: two points go to and fro by a tenth of the width, and one
    is held."""

    def position(x: float, y: float, frame: int) -> tuple[float, float]:
        share = 0.5 - 0.5 * math.cos(2 * math.pi * frame / PERIOD)
        return (x - 0.1 * share) * width, y * height

    def strokes(frame: int) -> list[Stroke]:
        moves = [
            Stroke([position(x, y, frame), position(x, y, frame + 1)], start_frame=frame, end_frame=frame + 1)
            for x, y in ((0.69, 0.79), (0.37, 0.38))
        ]
        return [*moves, Stroke([(0.957 * width, 0.933 * height)], kind="hold")]

    return strokes


def timed_frame(stream: Iterator[torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Seconds of CPU time of the next frame, and the frame."""
    begun = time.process_time()
    frame = next(stream)
    return time.process_time() - begun, frame


class Run:
    """What is measured while frames are made.

    Args:
        args (`argparse.Namespace`): the arguments of the program.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.last = args.frames
        self.rows = {round(WARM_UP + k * (self.last - WARM_UP) / (args.samples - 1)) for k in range(args.samples)}
        self.rows |= {frame for frame in MEASURED if frame <= self.last}
        self.memory: dict[int, float] = {}  # MiB
        self.seconds: list[float] = []  # CPU time of each frame
        self.pairs: list[tuple[float, float]] = []  # the same, of a frame of a new stream and of the next one, in turn
        self.images: dict[int, torch.Tensor] = {}  # [3, H, W]

    def follow(self, pipe: MCDiffPipeline, image: PIL.Image.Image) -> None:
        """Makes the frames, and prints a row for each that is measured."""

        def begin() -> Iterator[torch.Tensor]:
            generator = torch.Generator().manual_seed(0)
            strokes = swinging(image.width, image.height)
            return pipe.stream(image, strokes, generator=generator, output_type="pt")

        stream = begin()
        self.images[0] = frame = next(stream)
        print(f"{'frame':>7}{'memory':>11}{'CPU time of a frame':>21}{'color':>8}{'sharpness':>11}")
        with contextlib.suppress(KeyboardInterrupt), progress_bar("Frames", self.last, unit="frame") as bar:
            for number in range(1, self.last + 1):
                with interrupt_postponed():
                    seconds, frame = timed_frame(stream)
                    self.seconds.append(seconds)
                    if number in self.rows:
                        self.add_row(frame)
                    bar.update()
        if len(self.seconds) not in self.rows:  # it was interrupted
            self.add_row(frame)
        new = begin()
        for _ in range(1 + WARM_UP):
            next(new)
        self.pairs = [(timed_frame(new)[0], timed_frame(stream)[0]) for _ in range(TURNS)]

    def add_row(self, frame: torch.Tensor) -> None:
        """Measures the latest frame. CPU time is the median since the row before."""
        before, number = max(self.memory, default=0), len(self.seconds)
        self.images[number], self.memory[number] = frame, resident_bytes() / 2**20
        # no region is known to be still, so that none is measured alone
        nothing = torch.zeros(1, *frame.shape[1:], dtype=torch.bool)
        (drift,) = measure_drift([(0, frame[None])], self.images[0][None], nothing, st_lpips=None).values()
        seconds = statistics.median(self.seconds[before:])
        print(
            f"{number:>7,}{self.memory[number]:>7.0f} MiB{1e3 * seconds:>18.1f} ms{drift.color:>8.3f}"
            f"{drift.sharpness:>11.3f}",
            flush=True,
        )

    def print(self) -> None:
        """Prints what is compared with a limit."""
        tenth = max(1, (len(self.seconds) - WARM_UP) // 10)
        parts = (self.seconds[WARM_UP : WARM_UP + tenth], self.seconds[-tenth:])
        memory = [value for number, value in self.memory.items() if number >= WARM_UP]
        print(f"\n{'':<38}{'first':>12}{'last':>12}{'ratio':>8}{'limit':>7}")
        for name, unit, (first, last), limit in (
            ("memory", "MiB", (memory[0], memory[-1]), f"{MEMORY_LIMIT:.2f}"),
            (f"CPU time of a frame, {tenth:,} frames", "ms", [1e3 * statistics.median(part) for part in parts], ""),
            (f"the same in turn, {TURNS} frames", "ms", self.in_turn(), f"{TIME_LIMIT:.2f}"),
        ):
            cells = "".join(f"{value:>{11 - len(unit)}.1f} {unit}" for value in (first, last))
            print(f"{name:<38}{cells}{last / first:>8.3f}{limit:>7}")

    def in_turn(self) -> tuple[float, float]:
        """Milliseconds of a frame of a new stream, and of this one: the median, and its product with the median of the
        ratios."""
        new = 1e3 * statistics.median(new for new, _ in self.pairs)
        return new, new * statistics.median(old / new for new, old in self.pairs)

    def draw(self, path: Path) -> None:
        """Draws the frames of `MEASURED` beside each other."""
        shown = {number: image for number, image in self.images.items() if number in (0, *MEASURED, self.last)}
        images = [(image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for image in shown.values()]
        titles = [f"frame {number:,}" for number in shown]
        PIL.Image.fromarray(titled_columns(np.concatenate(images, axis=1), titles)).save(path)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    torch.set_num_threads(args.threads)
    dtype = args.dtype or default_dtype("cpu")
    pipe = load_model(args.model, dtype, "cpu")
    print(f"command  python benchmarks/long_stream.py {' '.join(sys.argv[1:] if arguments is None else arguments)}")
    print(f"machine  {describe_machine('cpu')}; {dtype}, {time.strftime('%Y-%m-%d')}\n", flush=True)
    run = Run(args)
    run.follow(pipe, PIL.Image.open(args.image).convert("RGB"))
    run.print()
    if args.sheet is not None:
        run.draw(args.sheet)


if __name__ == "__main__":
    main()
