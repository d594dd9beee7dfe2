"""Speed and memory on a GPU: streaming, latency, flow, training, for models of several sizes.

    python benchmarks/gpu.py --output gpu.json                           # everything, in less than 6 minutes
    python benchmarks/gpu.py --sizes sd15-512 --variants eager compiled --steps 4
    python benchmarks/gpu.py --device cpu --sizes small-128 --minutes 1  # tries the script without a GPU

Sizes are `small-128` (the embedded weights), `ldm4-256` and `sd15-512` (random weights in the shape of
training/configs, since speed does not depend on them), and `sd15-512-tiny`, the same with diffusers' tiny autoencoder.
Variants are `eager`, `channels_last`, and `compiled`: the networks with `torch.compile` and CUDA graphs.

Each row is one model, dtype, variant, batch size and number of denoising steps. `first` is the time from an image in
memory to the first new frame in memory, `frames/s` that of a stream with all of the batch, `over bare` is its time
over that of the networks alone at the same shapes. TFLOP/s counts the multiplications and additions of the networks.
Then follow peak memory, the latency of flow for a stroke that is being drawn, and training steps.

Every row is printed and saved as soon as it is there. A row that fails says why, and the others go on. What does not
fit into `--minutes` is left out and named.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pipeline_overhead import Floor, describe_machine
from random_pipelines import make_random_pipeline
from torch.utils.flop_counter import FlopCounterMode

from mcdiff_pipeline import MCDiffPipeline, Stroke


REPOSITORY = Path(__file__).resolve().parents[1]
# Dense TFLOP/s in bfloat16 by parts of the name of the card, from NVIDIA's data sheets.
PEAKS = {"H200": 989.5, "H100 PCIe": 756.5, "H100": 989.5, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.2}
# Targets on an H100 or H200: what, of which rows, and the limit.
TARGETS = (
    ("frames/s, sd15-512, batch 1, 4 steps", {"size": "sd15-512", "batch": 1, "steps": 4}, "frames_per_s", ">=", 30.0),
    ("frames/s, sd15-512, batch 1, 2 steps", {"size": "sd15-512", "batch": 1, "steps": 2}, "frames_per_s", ">=", 60.0),
    (
        "frames/s, sd15-512-tiny, batch 1, 4 steps",
        {"size": "sd15-512-tiny", "batch": 1, "steps": 4},
        "frames_per_s",
        ">=",
        60.0,
    ),
    ("first frame, sd15-512, batch 1, 4 steps", {"size": "sd15-512", "batch": 1, "steps": 4}, "first_s", "<=", 0.15),
    ("over bare, sd15-512, batch 1, 4 steps", {"size": "sd15-512", "batch": 1, "steps": 4}, "over_bare", "<=", 1.03),
)
LONGEST_GROWTH = 1.05  # of peak memory, from the short to the long stream
SHORT, LONG = 16, 256


@dataclass(frozen=True)
class Size:
    """A model that is measured.

    Args:
        name (`str`): name in the report.
        pixels (`int`): side of the frames.
        config (`str`, *optional*): folder of training/configs; None for the embedded model.
        is_tiny (`bool`): whether the autoencoder is diffusers' tiny one.
        train_batch (`int`): samples of a training step.
    """

    name: str
    pixels: int
    config: str | None
    is_tiny: bool
    train_batch: int


SIZES = {
    size.name: size
    for size in (
        Size("small-128", 128, None, False, 128),
        Size("ldm4-256", 256, "ldm4-256", False, 16),
        Size("sd15-512", 512, "sd15-512", False, 8),
        Size("sd15-512-tiny", 512, "sd15-512", True, 8),
    )
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--dtypes", nargs="+", choices=("float16", "bfloat16", "float32"), default=None)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 2, 1], help="Denoising steps per frame.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=6.0, help="No measurement begins after this time.")
    parser.add_argument("--seconds", type=float, default=1.0, help="Time of a stream that is measured.")
    parser.add_argument("--no_tests", action="store_true", help="Leave out the tests of the project that need a GPU.")
    parser.add_argument("--output", default=None, help="JSON file of all rows.")
    args = parser.parse_args(arguments)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu tries the script without one")
    if args.dtypes is None:
        args.dtypes = ["bfloat16", "float16"] if args.device.startswith("cuda") else ["float32"]
    return args


def make_pipeline(size: Size, dtype: torch.dtype, device: str) -> MCDiffPipeline:
    """The embedded model, or one with random weights."""
    if size.config is None:
        pipe = MCDiffPipeline.from_pretrained(REPOSITORY / "checkpoints/mcdiff-small-128", dtype=dtype).to(device)
    else:
        pipe = make_random_pipeline(
            size.config, size.pixels, dtype=dtype, device=device, has_tiny_autoencoder=size.is_tiny
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def as_channels_last(pipe: MCDiffPipeline) -> None:
    for network in (pipe.vae, pipe.unet, pipe.flow_completion):
        network.to(memory_format=torch.channels_last)


def compiled(pipe: MCDiffPipeline) -> None:
    as_channels_last(pipe)
    options = {"mode": "reduce-overhead", "fullgraph": True, "dynamic": False}
    pipe.unet.compile(**options)
    pipe.flow_completion.compile(**options)
    pipe.vae.decode = torch.compile(pipe.vae.decode, **options)
    pipe.vae.encode = torch.compile(pipe.vae.encode, **options)


VARIANTS: dict[str, Callable[[MCDiffPipeline], None]] = {
    "eager": lambda pipe: None,
    "channels_last": as_channels_last,
    "compiled": compiled,
}


def synchronize(device: str) -> float:
    """Waits until the device is idle; seconds of the clock."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(call: Callable[[], Any], device: str, repetitions: int = 5) -> float:
    """Median seconds of a call after one that is not counted."""
    call()
    found = []
    for _ in range(repetitions):
        begin = synchronize(device)
        call()
        found.append(synchronize(device) - begin)
    return statistics.median(found)


def strokes_for(size: Size) -> list[Stroke]:
    """A move and a hold."""
    side = size.pixels
    return [
        Stroke([(0.3 * side, 0.5 * side), (0.6 * side, 0.4 * side)]),
        Stroke([(0.5 * side, 0.9 * side)], kind="hold"),
    ]


class Subject:
    """One pipeline in one variant, ready to be measured.

    Args:
        size (`Size`): the model.
        dtype, variant (`str`): how it is run.
        args (`argparse.Namespace`): device and length of a measurement.
    """

    def __init__(self, size: Size, dtype: str, variant: str, args: argparse.Namespace) -> None:
        self.size, self.dtype, self.variant, self.args = size, dtype, variant, args
        self.device = args.device
        self.pipe = make_pipeline(size, getattr(torch, dtype), self.device)
        VARIANTS[variant](self.pipe)
        self.strokes = strokes_for(size)

    def images(self, batch: int) -> torch.Tensor:
        return torch.rand(batch, 3, self.size.pixels, self.size.pixels, generator=torch.Generator().manual_seed(0))

    def stream(self, batch: int, steps: int, num_frames: int | None) -> Iterator[Any]:
        return self.pipe.stream(
            self.images(batch),
            [self.strokes] * batch if batch > 1 else self.strokes,
            num_frames=num_frames,
            num_inference_steps=steps,
            height=self.size.pixels,
            width=self.size.pixels,
            output_type="pt",
        )

    def first_frame(self, steps: int) -> float:
        """Seconds from an image to the first new frame."""

        def call() -> None:
            frames = self.stream(1, steps, 16)
            next(frames)
            next(frames)

        return seconds_of(call, self.device, 3)

    def frame(self, batch: int, steps: int) -> float:
        """Seconds of a new frame of a stream, the median over `args.seconds`."""
        frames, found = self.stream(batch, steps, 100_000), []
        for _ in range(4):
            next(frames)
        end = time.perf_counter() + self.args.seconds
        while len(found) < 3 or time.perf_counter() < end:
            begin = synchronize(self.device)
            next(frames)
            found.append(synchronize(self.device) - begin)
        return statistics.median(found)

    @torch.no_grad()
    def bare(self, batch: int, steps: int) -> dict[str, float]:
        """Seconds of each network in a frame, called alone on tensors that are ready."""
        floor = self.floor(batch, steps)
        parts = {
            "F": lambda: floor.complete(),
            "unet": lambda: floor.denoise(),
            "decode": lambda: floor.decode(batch),
        }
        if self.pipe.conditioner.needs_start_image:
            parts["encode"] = floor.encode
        return {name: seconds_of(call, self.device) for name, call in parts.items()}

    def floor(self, batch: int, steps: int) -> Floor:
        return Floor(self.pipe, self.size.pixels, self.size.pixels, steps, batch)

    @torch.no_grad()
    def flops(self, batch: int, steps: int) -> float:
        """Floating-point operations of the networks in a frame; a multiplication with an addition counts as two."""
        floor = self.floor(batch, steps)
        with FlopCounterMode(display=False) as counter:
            floor.next_latents()
            floor.decode(batch)
        return float(counter.get_total_flops())

    def row(self, batch: int, steps: int, flops: float | None) -> dict[str, Any]:
        """The measurements of one batch size and number of steps."""
        frame, parts = self.frame(batch, steps), self.bare(batch, steps)
        bare = sum(parts.values())
        row = {
            "frames_per_s": batch / frame,
            "first_s": self.first_frame(steps) if batch == 1 else None,
            "over_bare": frame / bare,
            "shares": {name: seconds / bare for name, seconds in parts.items()},
        }
        if flops is not None:
            row |= {"tflop_per_s": flops / frame / 1e12, "tflop_per_s_of_bare": flops / bare / 1e12}
        return row

    def flow_latency(self) -> float:
        """Seconds of `predict_flow` for a state that is there, as while a stroke is drawn."""
        state = self.pipe.start(self.images(1), self.size.pixels, self.size.pixels)
        return seconds_of(lambda: self.pipe.predict_flow(state, self.strokes, num_frames=16), self.device, 9)

    def peak_memory(self, num_frames: int) -> int:
        """Peak bytes of the device while streaming."""
        torch.cuda.reset_peak_memory_stats(self.device)
        for _ in self.stream(1, 1, num_frames):
            pass
        return torch.cuda.max_memory_allocated(self.device)


def training_step(size: Size, name: str, device: str) -> dict[str, float]:
    """Training steps per second of F or G in bfloat16 autocast with AdamW, and peak memory in bytes.

    Args:
        size (`Size`): the model.
        name (`str`): `flow_completion` or `unet`.
        device (`str`): the device.
    """
    pipe = make_pipeline(size, torch.float32, device)
    network, batch = getattr(pipe, name).train().requires_grad_(True), size.train_batch
    grid = size.pixels // pipe.vae_scale_factor
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)
    latents = torch.randn(batch, pipe.latent_channels, grid, grid, device=device)
    if name == "unet":
        inputs = torch.randn(batch, network.config.in_channels, grid, grid, device=device)
        arguments = (inputs, torch.randint(0, 1000, (batch,), device=device), None)
    else:
        arguments = (
            latents,
            torch.zeros(batch, 2, grid, grid, device=device),
            torch.zeros_like(latents[:, :1]).bool(),
        )

    def step() -> None:
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            output = network(*arguments, return_dict=False)[0]
        output.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    seconds = seconds_of(step, device, 5)
    found = {"batch": batch, "steps_per_s": 1 / seconds, "samples_per_s": batch / seconds}
    if device.startswith("cuda"):
        found["peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return found


class Report:
    """The rows, printed and saved as they come."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.begin = args, time.perf_counter()
        self.content: dict[str, Any] = {
            "machine": describe_machine(args.device),
            "command": " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
            "rows": [],
            "left_out": [],
        }
        if args.device.startswith("cuda"):
            name = torch.cuda.get_device_name(args.device)
            peak = next((peak for part, peak in PEAKS.items() if part in name), None)
            self.content |= {"device": name, "peak_tflop_per_s": peak}
        print(self.content["machine"])

    @property
    def is_late(self) -> bool:
        return time.perf_counter() - self.begin > 60 * self.args.minutes

    def measure(self, kind: str, where: dict[str, Any], call: Callable[[], dict[str, Any]]) -> None:
        """Adds a row with what `call` returns, or with the reason why it failed, unless it is late."""
        if self.is_late:
            self.content["left_out"].append({"kind": kind} | where)
            return
        row: dict[str, Any] = {"kind": kind} | where
        try:
            row |= call()
        except Exception as error:  # each row stands alone: a compiler or memory may fail in one of them
            row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        row["at_s"] = round(time.perf_counter() - self.begin, 1)
        self.content["rows"].append(row)
        print("  ".join(f"{name} {_shown(value)}" for name, value in row.items()), flush=True)
        self.save()

    def save(self) -> None:
        if self.args.output is not None:
            path = Path(self.args.output)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.content, indent=1))

    def targets(self) -> None:
        """Prints each target with the best row, or "not measured"."""
        print("\ntarget (H100 or H200)" + " " * 31 + "reached   limit")
        for title, where, value, comparison, limit in TARGETS:
            rows = [row for row in self.content["rows"] if row.items() >= where.items() and value in row]
            best = (max if comparison == ">=" else min)((row[value] for row in rows), default=None)
            print(f"{title:<50}{'not measured' if best is None else f'{best:9.3f}':>12}   {comparison} {limit:g}")
        for row in self.content["rows"]:
            if row["kind"] == "memory" and "growth" in row:
                title = f"memory of {LONG} over {SHORT} frames, {row['size']}"
                print(f"{title:<50}{row['growth']:12.3f}   <= {LONGEST_GROWTH}")
        if self.content["left_out"]:
            print(f"{len(self.content['left_out'])} measurements are left out, since the time was over.")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "/".join(f"{name} {_shown(part)}" for name, part in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def measure_size(size: Size, args: argparse.Namespace, report: Report) -> None:
    """All rows of one model. The most important come first, since time may be over."""
    flops: dict[tuple[int, int], float] = {}
    for variant in args.variants:
        for dtype in args.dtypes:
            where = {"size": size.name, "variant": variant, "dtype": dtype}
            if report.is_late:
                report.content["left_out"].append(where)
            else:
                measure_variant(size, where, args, report, flops)
                if args.device.startswith("cuda"):
                    torch.cuda.empty_cache()
                torch.compiler.reset()


def measure_variant(
    size: Size, where: dict[str, Any], args: argparse.Namespace, report: Report, flops: dict[tuple[int, int], float]
) -> None:
    """All rows of one model in one variant and dtype.

    Args:
        size (`Size`): the model.
        where (`dict`): its name, variant and dtype.
        args (`argparse.Namespace`): what is measured.
        report (`Report`): gets the rows.
        flops (`dict`): operations of a frame by batch size and steps, which are counted where they are missing.
    """
    try:
        subject = Subject(size, where["dtype"], where["variant"], args)
        for batch, steps in itertools.product(args.batches, args.steps):
            if where["variant"] == "eager" and (batch, steps) not in flops:
                flops[batch, steps] = subject.flops(batch, steps)
    except Exception as error:
        report.measure("stream", where, partial(_raise, error))
        return
    for batch, steps in itertools.product(args.batches, args.steps):
        row = partial(subject.row, batch, steps, flops.get((batch, steps)))
        report.measure("stream", where | {"batch": batch, "steps": steps}, row)
    report.measure("flow", where, lambda: {"latency_s": subject.flow_latency()})
    is_first = where["variant"] == args.variants[0] and where["dtype"] == args.dtypes[0]
    if args.device.startswith("cuda") and is_first:
        report.measure("memory", where, lambda: memory_row(subject))


def memory_row(subject: Subject) -> dict[str, Any]:
    """Peak memory of a short and of a long stream."""
    short, long = subject.peak_memory(SHORT), subject.peak_memory(LONG)
    return {"short_bytes": short, "long_bytes": long, "growth": long / short}


def _raise(error: Exception) -> dict[str, Any]:
    raise error


def run_tests(report: Report) -> None:
    """The tests of the project that need a GPU."""

    def call() -> dict[str, Any]:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:xdist", "tests"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=os.environ)
        return {"exit_status": done.returncode, "last_line": (done.stdout.strip().splitlines() or [done.stderr])[-1]}

    report.measure("tests", {}, call)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    torch.set_float32_matmul_precision("high")
    report = Report(args)
    for name in args.sizes:
        measure_size(SIZES[name], args, report)
    for name in args.sizes:
        if not SIZES[name].is_tiny:
            for network in ("flow_completion", "unet"):
                where = {"size": name, "network": network}
                report.measure("training", where, partial(training_step, SIZES[name], network, args.device))
                if args.device.startswith("cuda"):
                    torch.cuda.empty_cache()
    if args.device.startswith("cuda") and not args.no_tests:
        run_tests(report)
    report.targets()
    report.save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
