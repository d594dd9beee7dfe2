"""The cost of the pipeline in addition to its networks: time per frame, and memory that must not grow with the video.

    python benchmarks/pipeline_overhead.py            # the embedded model
    python benchmarks/pipeline_overhead.py --tiny     # its shape with random weights

The floor is what every pipeline with these networks needs. It calls the networks bare at the same shapes and dtype,
on tensors that are ready. For a frame of `stream`: F once (with one encoding if it works on a grid of its own), G
once per denoising step, one decoding, and one encoding if the model is given the splatted start image. For a whole
`__call__`: also the encoding of the image, its semantic features if F reads them, and frames decoded in the same
chunks. Everything else is overhead: reading the image and the strokes, sparse flow, splatting, the scheduler,
conversion to PIL, progress bars. Frames are as decoded, and a second time with the detail of the given image, whose
floor is the same but for one decoding of the image's latents.
Pipeline and floor alternate in one run, and the median of their ratios counts. On a machine that is busy with other
programs, use the ratio of CPU time.

Memory is the peak of the resident set (on CUDA, of the device's memory) while streaming, after a warm-up, in one
process for each length. It uses one denoising step, because memory does not depend on their number.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import torch
from random_pipelines import make_random_pipeline

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.motion_completion import MotionCompleter
from mcdiff_pipeline.semantic_features import channels_of_features, encode_features


REPOSITORY = Path(__file__).resolve().parents[1]
TIME_LIMIT = 1.03  # time of the pipeline over its floor
MEMORY_LIMIT = 0.05  # growth of the peak from the shortest to the longest stream


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(REPOSITORY / "checkpoints/mcdiff-small-128"), help="Folder of a model.")
    parser.add_argument(
        "--tiny", action="store_true", help="Random weights in the shape of training/configs/small-128."
    )
    parser.add_argument("--image", default=str(REPOSITORY / "examples/cat.jpg"))
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="In pixels (default: the model's)."
    )
    parser.add_argument("--steps", type=int, help="Denoising steps (default: the model's).")
    parser.add_argument("--num_frames", type=int, default=16, help="Frames of every timed video.")
    parser.add_argument("--repetitions", type=int, default=5, help="Timed videos; stream is compared frame by frame.")
    parser.add_argument("--memory_frames", type=int, nargs=2, default=(16, 256), metavar=("SHORT", "LONG"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, help="Threads of torch (default: torch's).")
    parser.add_argument("--peak_memory_of", type=int, metavar="FRAMES", help=argparse.SUPPRESS)  # the subprocess
    return parser.parse_args(arguments)


def load_pipeline(args: argparse.Namespace) -> MCDiffPipeline:
    dtype = getattr(torch, args.dtype)
    if args.tiny:
        pipe = make_random_pipeline("small-128", 128, dtype=dtype, steps=5)
    elif Path(args.model, "model_index.json").is_file():
        pipe = MCDiffPipeline.from_pretrained(args.model, dtype=dtype)
    else:
        sys.exit(f"There is no model in '{args.model}': name one with --model, or use --tiny for random weights.")
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(args.device)


def prepare_input(pipe: MCDiffPipeline, args: argparse.Namespace) -> tuple[PIL.Image.Image, list[Stroke]]:
    """The image at the working size, and five strokes over it that last as long as the video."""
    height, width = args.size or (pipe.config.default_height, pipe.config.default_width)
    image = PIL.Image.open(args.image).convert("RGB").resize((width, height))
    strokes = [
        Stroke([(share * width, 0.5 * height), ((share + 0.1) * width, 0.4 * height)])
        for share in (0.2, 0.4, 0.6, 0.8)
    ]
    return image, [*strokes, Stroke([(0.5 * width, 0.9 * height)], kind="hold")]


def now(device: str) -> torch.Tensor:
    """Seconds of the clock and of CPU time over all threads, after the device is idle: `[2]` float64."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)


class Floor:
    """The networks of a pipeline, called bare on tensors of the pipeline's shapes.

    Args:
        pipe (`MCDiffPipeline`): the pipeline.
        height, width (`int`): size of the frames in pixels.
        steps (`int`): denoising steps of a frame.
        batch (`int`, defaults to 1): frames at a time.
    """

    def __init__(self, pipe: MCDiffPipeline, height: int, width: int, steps: int, batch: int = 1):
        self.pipe, self.steps = pipe, steps
        options = {"device": pipe.device, "dtype": pipe.unet.dtype}
        grid = (height // pipe.vae_scale_factor, width // pipe.vae_scale_factor)
        guided = pipe.config.default_guidance_scale != 1
        self.image = torch.rand(batch, 3, height, width, **options)
        self.latents = torch.randn(batch, pipe.latent_channels, *grid, **options)
        # F may have a grid of its own. Then the given image is encoded for it at that size.
        own_grid = MotionCompleter(pipe.flow_completion, pipe.complete_flow, pipe.vae, 1, False).grid_of(grid)
        self.own_latents = torch.randn(batch, pipe.latent_channels, *own_grid, **options)
        own_size = (side * pipe.vae_scale_factor for side in own_grid)
        self.own_image = None if own_grid == grid else torch.rand(batch, 3, *own_size, **options)
        self.flow = torch.zeros(batch, 2, *own_grid, device=pipe.device)
        self.mask = torch.zeros(batch, 1, *own_grid, device=pipe.device, dtype=torch.bool)
        channels = channels_of_features(pipe.flow_completion)
        self.features = None
        if channels is not None and pipe.image_encoder is not None:
            self.features = pipe.flow_completion.reduce_features(encode_features(pipe.image_encoder, self.image))
        self.model_input = torch.randn(batch * (2 if guided else 1), pipe.unet.config.in_channels, *grid, **options)
        self.timestep = torch.tensor(500, device=pipe.device)

    def encode(self) -> None:
        self.pipe.vae.encode(self.image)

    def prepare(self, detail: bool) -> None:
        """What is done once for an image."""
        self.encode()
        if self.features is not None:
            encode_features(self.pipe.image_encoder, self.image)
        if detail:
            self.decode(1)

    def next_latents(self) -> None:
        if self.pipe.conditioner.needs_start_image:
            self.encode()
        self.complete()
        self.denoise()

    def complete(self) -> None:
        if self.own_image is not None:
            self.pipe.vae.encode(self.own_image)
        self.pipe.flow_completion(self.own_latents, self.flow, self.mask, features=self.features, return_dict=False)

    def denoise(self) -> None:
        for _ in range(self.steps):
            self.pipe.unet(self.model_input, self.timestep, encoder_hidden_states=None, return_dict=False)

    def decode(self, frames: int) -> None:
        self.pipe.vae.decode(self.latents[:1].expand(frames, -1, -1, -1), return_dict=False)


@torch.no_grad()
def time_stream(pipe, image, strokes, floor: Floor, args, detail: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Seconds of each new frame of `stream` and of its floor, alternating; see `now`."""
    stream = pipe.stream(image, strokes, num_frames=args.num_frames, num_inference_steps=floor.steps, detail=detail)
    next(stream)  # the given image
    pairs = []
    for _ in range(args.num_frames - 1):
        start = now(args.device)
        next(stream)
        between = now(args.device)
        floor.next_latents()
        floor.decode(1)
        pairs.append((between - start, now(args.device) - between))
    return pairs


@torch.no_grad()
def time_call(
    pipe, image, strokes, floor: Floor, args, detail: bool, chunk: int = 8
) -> tuple[torch.Tensor, torch.Tensor]:
    """Seconds per new frame of one `__call__` and of its floor; see `now`."""
    new_frames = args.num_frames - 1
    start = now(args.device)
    pipe(
        image,
        strokes,
        num_frames=args.num_frames,
        num_inference_steps=floor.steps,
        decode_chunk_size=chunk,
        height=image.height,
        width=image.width,
        detail=detail,
    )
    between = now(args.device)
    floor.prepare(detail)
    for _ in range(new_frames):
        floor.next_latents()
    for first in range(0, new_frames, chunk):
        floor.decode(min(chunk, new_frames - first))
    end = now(args.device)
    return (between - start) / new_frames, (end - between) / new_frames


def peak_memory(args: argparse.Namespace) -> int:
    """Peak bytes while streaming `args.peak_memory_of` frames, after a warm-up in the same process."""
    pipe = load_pipeline(args)
    image, strokes = prepare_input(pipe, args)
    for _ in pipe.stream(image, strokes, num_frames=4, num_inference_steps=1):
        pass
    if args.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(args.device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak, VmHWM
    for _ in pipe.stream(image, strokes, num_frames=args.peak_memory_of, num_inference_steps=1):
        pass
    if args.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(args.device)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def describe_machine(device: str) -> str:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        model = names[0] if names else model
    accelerator = f"{torch.cuda.get_device_name(device)}, " if device.startswith("cuda") else ""
    return (
        f"{accelerator}{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )


def print_times(name: str, pairs: list[tuple[torch.Tensor, torch.Tensor]], device: str) -> None:
    """Print a line for the clock and, on a CPU, one for CPU time."""
    pipeline, bare = (torch.stack(seconds) for seconds in zip(*pairs, strict=True))  # [pairs, 2]
    for clock, kind in enumerate(("clock",) if device.startswith("cuda") else ("clock", "CPU")):
        ratio = (pipeline / bare)[:, clock]
        low, middle, high = ratio.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=ratio.dtype)).tolist()
        times = "".join(f"{1e3 * seconds[:, clock].median():>9.1f} ms" for seconds in (pipeline, bare))
        print(f"{f'{name}, {kind}':<24}{times}{middle:>8.3f}{f'{low:.2f}-{high:.2f}':>14}{TIME_LIMIT:>7.2f}")


def print_memory(args: argparse.Namespace, arguments: list[str]) -> None:
    """Measure the peak memory of a short and a long stream, each in a new process, and print both."""
    peaks = []
    for frames in args.memory_frames:
        process = subprocess.run(
            [sys.executable, __file__, *arguments, "--peak_memory_of", str(frames)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        peaks.append(json.loads(process.stdout.splitlines()[-1])["peak"] / 2**20)
    short, long = (f"{frames} frames" for frames in args.memory_frames)
    growth = f"{100 * (peaks[1] / peaks[0] - 1):.1f} %"
    print(f"\n{'peak memory':<24}{short:>12}{long:>12}{'growth':>8}{'limit':>21}")
    print(f"{'stream':<24}{peaks[0]:>8.0f} MiB{peaks[1]:>8.0f} MiB{growth:>8}{f'{100 * MEMORY_LIMIT:.0f} %':>21}")


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.peak_memory_of:
        print(json.dumps({"peak": peak_memory(args)}))
        return

    pipe = load_pipeline(args)
    image, strokes = prepare_input(pipe, args)
    steps = args.steps or pipe.config.default_num_inference_steps
    floor = Floor(pipe, image.height, image.width, steps)
    parameters = {
        name: sum(p.numel() for p in getattr(pipe, name).parameters()) / 1e6
        for name in ("vae", "flow_completion", "unet")
    }
    print(f"command  {' '.join(['python', 'benchmarks/pipeline_overhead.py', *arguments])}")
    print(f"machine  {describe_machine(args.device)}")
    print(
        f"model    {'random weights' if args.tiny else Path(args.model).name}, "
        + ", ".join(f"{name} {millions:.1f} M" for name, millions in parameters.items())
    )
    print(f"given    noise, {', '.join(pipe.conditioning)}")
    print(f"shape    {image.height} x {image.width}, {args.num_frames} frames, {steps} steps, {args.dtype}\n")

    print(f"{'time per frame':<24}{'pipeline':>12}{'floor':>12}{'ratio':>8}{'quartiles':>14}{'limit':>7}")
    for detail in (False, True) if pipe.conditioner.needs_start_image else (False,):
        time_call(pipe, image, strokes, floor, args, detail)  # warm-up
        streamed, called = [], []
        for _ in range(args.repetitions):
            streamed += time_stream(pipe, image, strokes, floor, args, detail)
            called.append(time_call(pipe, image, strokes, floor, args, detail))
        suffix = ", detail" if detail else ""
        print_times(f"stream{suffix}", streamed, args.device)
        print_times(f"__call__{suffix}", called, args.device)
    print_memory(args, arguments)


if __name__ == "__main__":
    main()
