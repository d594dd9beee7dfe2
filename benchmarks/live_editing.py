"""What a live editor waits for: flow of a kept state, one step from a state, and the file of a state.

    python benchmarks/live_editing.py            # the embedded model
    python benchmarks/live_editing.py --tiny     # its shape with random weights

- `predict_flow` of a state is compared with F alone, called on the same latents and sparse flow.
- `step` is compared with a frame of `stream`. Both start at the same state and give latents; nothing is decoded.
- A state is saved and loaded after its first frame.

The two sides of a comparison take turns, and the ratio is the median over all pairs. On a busy machine, other programs
disturb the ratio of CPU time less.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch
from pipeline_overhead import REPOSITORY, describe_machine, load_pipeline, now, prepare_input

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.flow import to_pixels
from mcdiff_pipeline.rollout import RolloutState
from mcdiff_pipeline.strokes import rasterize_strokes


FLOW_LIMIT = 1.15  # time of `predict_flow` over the time of F
STEP_LIMIT = 1.05  # time of `step` over the time of a frame of `stream`
SEED = 0

# Seconds of both sides of each pair: on the clock and of CPU time, `[2]` float64 each.
Pairs = list[tuple[torch.Tensor, torch.Tensor]]


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(REPOSITORY / "checkpoints/mcdiff-small-128"), help="Folder of a model.")
    parser.add_argument(
        "--tiny", action="store_true", help="Random weights in the shape of training/configs/small-128."
    )
    parser.add_argument("--image", default=str(REPOSITORY / "examples/cat.jpg"))
    parser.add_argument("--sizes", type=int, nargs="+", default=(128, 256), help="Height and width of the image.")
    parser.add_argument("--repetitions", type=int, default=20, help="Pairs timed for each comparison.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, help="Threads of torch (default: torch's).")
    return parser.parse_args(arguments)


@torch.no_grad()
def time_flow(pipe: MCDiffPipeline, state: RolloutState, strokes: list[Stroke], args: argparse.Namespace) -> Pairs:
    """`predict_flow` of a state and its F alone, in turns."""
    grid, num_frames = tuple(state.latents.shape[2:]), args.repetitions + 2
    size = tuple(side * pipe.vae_scale_factor for side in grid)
    sparse_flow, mask = rasterize_strokes(
        [strokes], 0, image_size=size, latent_size=grid, num_frames=num_frames, device=args.device
    )
    displacement = to_pixels(sparse_flow, pipe.vae_scale_factor)
    pairs: Pairs = []
    for _ in range(args.repetitions + 1):
        start = now(args.device)
        pipe.predict_flow(state, strokes, num_frames=num_frames)
        between = now(args.device)
        pipe.flow_completion(state.latents, displacement, mask, return_dict=False)
        pairs.append((between - start, now(args.device) - between))
    return pairs[1:]  # the first pair warms up


def time_step(pipe: MCDiffPipeline, state: RolloutState, strokes: list[Stroke], args: argparse.Namespace) -> Pairs:
    """`step` and the same frame of a `stream`, in turns."""
    num_frames = args.repetitions + 2
    stream = pipe.stream(state, strokes, num_frames=num_frames, output_type="latent")
    pairs: Pairs = []
    for _ in range(args.repetitions + 1):
        start = now(args.device)
        state = pipe.step(state, strokes, num_frames=num_frames)
        between = now(args.device)
        next(stream)
        pairs.append((between - start, now(args.device) - between))
    return pairs[1:]


def time_file(state: RolloutState, args: argparse.Namespace) -> tuple[float, float, int]:
    """Median seconds to save and to load a state, and the size of its file in bytes."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.safetensors")
        for _ in range(args.repetitions):
            start = now(args.device)
            state.save(path)
            between = now(args.device)
            RolloutState.load(path, args.device)
            seconds.append(torch.stack([between - start, now(args.device) - between])[:, 0])
        saving, loading = torch.stack(seconds).median(dim=0).values.tolist()
        return saving, loading, os.path.getsize(path)


def print_ratios(name: str, pairs: Pairs, limit: float, device: str) -> None:
    measured, reference = (torch.stack(seconds) for seconds in zip(*pairs, strict=True))  # [pairs, 2]
    for clock, kind in enumerate(("clock",) if device.startswith("cuda") else ("clock", "CPU")):
        ratio = (measured / reference)[:, clock]
        low, middle, high = ratio.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=ratio.dtype)).tolist()
        times = "".join(f"{1e3 * seconds[:, clock].median():>9.1f} ms" for seconds in (measured, reference))
        holds = "yes" if middle <= limit else "no"
        print(f"{f'{name}, {kind}':<26}{times}{middle:>8.3f}{f'{low:.2f}-{high:.2f}':>12}{limit:>7.2f}{holds:>7}")


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    pipe = load_pipeline(args)
    print(f"command  {' '.join(['python benchmarks/live_editing.py', *(arguments or sys.argv[1:])])}")
    print(f"machine  {describe_machine(args.device)}")
    print(f"model    {'random weights' if args.tiny else Path(args.model).name}, {args.dtype}")
    print(f"         {args.repetitions} pairs each\n")

    files = []
    print(f"{'time':<26}{'measured':>12}{'reference':>12}{'ratio':>8}{'quartiles':>12}{'limit':>7}{'holds':>7}")
    for side in args.sizes:
        args.size = (side, side)
        image, strokes = prepare_input(pipe, args)
        state = pipe.start(image, side, side, generator=torch.Generator().manual_seed(SEED))
        print_ratios(f"predict_flow, {side} px", time_flow(pipe, state, strokes, args), FLOW_LIMIT, args.device)
        print_ratios(f"step, {side} px", time_step(pipe, state, strokes, args), STEP_LIMIT, args.device)
        files.append((side, *time_file(pipe.step(state, strokes, num_frames=2), args)))

    print(f"\n{'file of a state':<26}{'saving':>12}{'loading':>12}{'size':>12}")
    for side, saving, loading, size in files:
        print(f"{f'{side} px':<26}{1e3 * saving:>9.1f} ms{1e3 * loading:>9.1f} ms{size / 1024:>8.0f} KiB")


if __name__ == "__main__":
    main()
