"""Time of a frame on a processor, for several ways to run a model and several versions of the code in turn.

    python benchmarks/processor.py                                      # float32, bfloat16, and OpenVINO if installed
    python benchmarks/processor.py --checkouts before=../before --sizes 128 256
    python benchmarks/processor.py --checkouts before=../before --variants float32 bfloat16 --threads 2

Each variant is a process of its own that streams frames of the same image with the same five strokes. The processes
take turns, one frame each, so the ratios hold on a machine that other programs use, too. `--checkouts` adds other
versions of this repository, with their own models, in float32. CPU time counts all threads of a process. The parts
are the calls of the networks in a frame; the rest is splatting, strokes, detail, and conversion to PIL.

The last columns say how far the frames are from those of float32 in PyTorch (PSNR in dB, the lowest of all frames).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import IO


REPOSITORY = Path(__file__).resolve().parents[1]
VARIANTS = ("float32", "bfloat16", "openvino-float32", "openvino-bfloat16")
PARTS = ("F", "unet", "encode", "decode")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=None)
    parser.add_argument("--checkouts", nargs="*", default=[], metavar="NAME=DIR", help="Other versions of the code.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], help="Side of the frames in pixels.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, default=12, help="Frames that are measured.")
    parser.add_argument("--image", default=str(REPOSITORY / "examples/cat.jpg"))
    parser.add_argument("--child", nargs=3, metavar=("MODEL", "VARIANT", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variants is None:
        import importlib.util

        found = importlib.util.find_spec("openvino") is not None
        args.variants = [name for name in VARIANTS if found or not name.startswith("openvino")]
    return args


def child(args: argparse.Namespace, answers: IO[str]) -> None:
    """Streams a frame for each line of stdin, and answers its times and pixels. It also runs older versions."""
    import PIL.Image
    import torch

    from mcdiff_pipeline import MCDiffPipeline, Stroke

    model, variant, size = args.child
    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if variant.endswith("bfloat16") else torch.float32
    pipe = MCDiffPipeline.from_pretrained(model, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    if not variant.startswith("checkout"):
        for network in (pipe.vae, pipe.unet, pipe.flow_completion):
            network.to(memory_format=torch.channels_last)
    if variant.startswith("openvino"):
        from mcdiff_pipeline.openvino_networks import use_openvino

        use_openvino(pipe)
    seconds: dict[str, float] = defaultdict(float)
    networks = (pipe.flow_completion, pipe.unet, pipe.vae.encoder, pipe.vae.decoder)
    for name, network in zip(PARTS, networks, strict=True):
        network.register_forward_pre_hook(lambda *_, name=name: add(seconds, name, -1))
        network.register_forward_hook(lambda *_, name=name: add(seconds, name, 1))
    side = int(size)
    image = PIL.Image.open(args.image).convert("RGB").resize((side, side))
    moves = [
        Stroke([(share * side, 0.5 * side), ((share + 0.1) * side, 0.4 * side)]) for share in (0.2, 0.4, 0.6, 0.8)
    ]
    stream = pipe.stream(
        image,
        [*moves, Stroke([(0.5 * side, 0.9 * side)], kind="hold")],
        num_frames=args.frames + 3,
        height=side,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    )
    for _ in range(3):  # the given image, and two frames in which everything is prepared
        frame = next(stream)
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        seconds.clear()
        clock, cpu = time.perf_counter(), time.process_time()
        frame = next(stream)
        times = {"clock": time.perf_counter() - clock, "cpu": time.process_time() - cpu} | seconds
        pixels = frame.mul(255).round().to(torch.uint8).flatten().tolist()
        print(json.dumps({"times": times, "pixels": pixels}), file=answers, flush=True)


def add(seconds: dict[str, float], name: str, sign: int) -> None:
    seconds[name] += sign * time.process_time()


class Child:
    """A process that makes frames in one way."""

    def __init__(self, name: str, checkout: Path, variant: str, size: int, args: argparse.Namespace) -> None:
        self.name, self.frames = name, []
        environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": str(args.threads)}
        environment["OMP_WAIT_POLICY"] = "passive"  # threads that wait would count as CPU time
        command = [sys.executable, __file__, "--threads", str(args.threads), "--frames", str(args.frames)]
        command += ["--image", args.image]
        command += ["--child", str(checkout / "checkpoints/mcdiff-small-128"), variant, str(size)]
        self.process = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{self.name} could not be started; run it alone to see why.")

    def make_frame(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.frames.append(json.loads(self.process.stdout.readline()))

    def median(self, name: str) -> float:
        """Milliseconds of a frame, or of a part of it."""
        return 1e3 * statistics.median(frame["times"].get(name, 0.0) for frame in self.frames)

    def psnr(self, reference: "Child") -> float:
        import numpy as np

        values = []
        for frame, expected in zip(self.frames, reference.frames, strict=True):
            difference = np.subtract(frame["pixels"], expected["pixels"], dtype=np.float64)
            values.append(10 * np.log10(255**2 / max((difference**2).mean(), 1e-9)))
        return min(values)


def measure(size: int, args: argparse.Namespace) -> None:
    """Prints a row for each variant at one size."""
    children = [
        Child(name, Path(folder).resolve(), "checkout", size, args)
        for name, _, folder in (one.partition("=") for one in args.checkouts)
    ]
    children += [Child(name, REPOSITORY, name, size, args) for name in args.variants]
    for one in children:
        one.wait_until_ready()
    for _ in range(args.frames):
        for one in children:
            one.make_frame()
    first = children[0]
    reference = next((one for one in children if one.name == "float32"), first)
    for one in children:
        ratios = {
            clock: statistics.median(
                frame["times"][clock] / other["times"][clock]
                for frame, other in zip(one.frames, first.frames, strict=True)
            )
            for clock in ("cpu", "clock")
        }
        parts = [one.median(name) for name in PARTS]
        row = f"{size:>4} px  {one.name:<18}{one.median('cpu'):>8.1f} ms{ratios['cpu']:>7.2f}{ratios['clock']:>7.2f}  "
        row += "".join(f"{part:>8.1f}" for part in [*parts, one.median("cpu") - sum(parts)])
        is_same_model = one.name in VARIANTS
        print(
            row + (f"{one.psnr(reference):>9.1f}" if is_same_model and one is not reference else "        –"),
            flush=True,
        )
        assert one.process.stdin is not None
        one.process.stdin.close()
        one.process.wait()


def main() -> None:
    args = parse_args()
    if args.child:
        child(args, sys.stdout)
        return
    from pipeline_overhead import describe_machine

    print(f"command  python benchmarks/processor.py {' '.join(sys.argv[1:])}")
    print(f"machine  {describe_machine('cpu')}, measured with {args.threads}\n")
    print("         variant             CPU/frame  CPU  clock         F    unet  encode  decode    rest   PSNR/dB")
    print("                                        / first          CPU time in ms")
    for size in args.sizes:
        measure(size, args)


if __name__ == "__main__":
    main()
