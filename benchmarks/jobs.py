"""Many videos by `mcdiff generate --jobs`, over a loop that calls the pipeline for one after another.

    python benchmarks/jobs.py                   # the embedded model, on a machine that does nothing else
    python benchmarks/jobs.py --tiny            # tries the program: random weights, few frames

All make the same videos of examples/cat.jpg, each with strokes and a seed of its own, in the number format that the
command chooses, and write them as MP4. Each run is a command of its own:

- `--jobs` with two processes of one thread each, which make batches of four;
- the same on a Ray cluster of this machine (extra `distributed`), which is started before and not measured;
- a loop in one process, with the threads that PyTorch takes by itself, and with one thread.

Each is run with all videos, and with two of two frames, which is its start: Python, imports, the model, and what each
network prepares in its first call. The ratio is the throughput of `--jobs` over that of a loop, for the whole command
and without the start. Limit 1.5 over the faster loop. CPU seconds are of all processes of a run, and are not known for
Ray, whose processes belong to the cluster.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pipeline_overhead import REPOSITORY, describe_machine
from process_times import become_reaper, seconds_of


LIMIT = 1.5
MODEL = REPOSITORY / "checkpoints/mcdiff-small-128"
PHOTOGRAPH = REPOSITORY / "examples/cat.jpg"
HERE, RAY = "--jobs", "--ray-address"
# The threads of PyTorch; None is what it takes by itself.
LOOPS = {"loop": None, "loop, 1 thread": "1"}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL), help="Folder of a model.")
    parser.add_argument("--tiny", action="store_true", help="Random weights, and few videos of few frames.")
    parser.add_argument("--num_jobs", type=int, help="Videos (default: 16).")
    parser.add_argument("--frames", type=int, help="Frames of each, with the given image (default: 13).")
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=1, help="Measurements; the median counts.")
    parser.add_argument("--no_ray", action="store_true", help="Leave Ray out.")
    parser.add_argument("--loop", type=Path, metavar="JOBS", help=argparse.SUPPRESS)  # the subprocess
    args = parser.parse_args(arguments)
    args.num_jobs = args.num_jobs or (4 if args.tiny else 16)
    args.frames = args.frames or (3 if args.tiny else 13)
    return args


def write_jobs(folder: Path, num_jobs: int, num_frames: int) -> Path:
    """A list of jobs with sheets of their own. Its videos are of one kind, so that they can be made in batches."""
    from mcdiff_pipeline import Stroke, StrokeSheet

    folder.mkdir()
    lines = []
    for number in range(num_jobs):
        strokes = [
            Stroke([(206, 238), (160 + 4 * number, 230)]),
            Stroke([(112, 115), (82 + 2 * number, 119)]),
            Stroke([(287, 280)], kind="hold"),
        ]
        StrokeSheet(strokes, 300, 300, num_frames).save(folder / f"{number}.json")
        line = {"image": "image.jpg", "strokes": f"{number}.json", "output": f"{number}.mp4", "seed": number}
        lines.append(json.dumps(line))
    (folder / "image.jpg").write_bytes(PHOTOGRAPH.read_bytes())
    (folder / "jobs.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "jobs.jsonl"


def loop(jobs: Path, model: str) -> None:
    """Makes the videos one after another, as a short program of a user does."""
    import PIL.Image
    import torch

    from mcdiff_commands.model import default_dtype, load_model
    from mcdiff_pipeline import StrokeSheet
    from mcdiff_pipeline.video import write_video

    pipe = load_model(model, default_dtype("cpu"), "cpu")
    for line in jobs.read_text().splitlines():
        job = json.loads(line)
        image, sheet = PIL.Image.open(jobs.parent / job["image"]), StrokeSheet.load(jobs.parent / job["strokes"])
        generator = torch.Generator().manual_seed(job["seed"])
        output = pipe(image, sheet, num_frames=sheet.num_frames, output_size="image", generator=generator)
        write_video(output.frames[0], jobs.parent / job["output"], fps=8)


@contextlib.contextmanager
def ray_cluster(num_workers: int) -> Iterator[str]:
    """The address of a Ray cluster that ends with the block."""
    import ray

    context = ray.init(num_cpus=num_workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


def make(name: str, jobs: Path, args: argparse.Namespace, ray_address: str | None) -> np.ndarray:
    """Makes the videos of a list in one of the ways, and checks that all are there.

    Returns:
        `np.ndarray`: seconds of the clock and of CPU time, `[2]`.
    """
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        if name in LOOPS:
            copied = Path(folder, "jobs")
            shutil.copytree(jobs.parent, copied)
            command = [sys.executable, __file__, "--model", args.model, "--loop", str(copied / jobs.name)]
            environment |= {} if LOOPS[name] is None else {"OMP_NUM_THREADS": LOOPS[name]}
            videos = copied
        else:
            videos = Path(folder, "videos")
            command = [sys.executable, "-m", "mcdiff_commands", "generate", "--jobs", str(jobs), "-o", str(videos)]
            command += ["--model", args.model, "--num-workers", str(args.num_workers), "--device", "cpu"]
            command += ["--ray-address", ray_address] if name == RAY else []
        seconds = np.array(seconds_of(command, environment))
        made, wanted = len(list(videos.glob("*.mp4"))), len(jobs.read_text().splitlines())
        if made != wanted:
            sys.exit(f"{name} made {made} of {wanted} videos.")
    return seconds


def save_random_model(folder: Path) -> str:
    """Writes a model with random weights in the shape of the embedded one, which makes a frame in one step."""
    from random_pipelines import make_random_pipeline

    make_random_pipeline("small-128", 64, steps=1).save_pretrained(folder)
    return str(folder)


def measure(names: list[str], lists: dict[str, Path], args: argparse.Namespace, ray_address: str | None) -> None:
    """Runs all in turn, and prints the table."""
    seconds = {(name, length): [] for name in names for length in lists}
    for _ in range(args.turns):
        for (name, length), values in seconds.items():
            values.append(make(name, lists[length], args, ray_address))
            print(f"{name}, {length}: {values[-1][0]:.1f} s", file=sys.stderr, flush=True)
    frames = args.num_jobs * (args.frames - 1) - 2  # without those of the start
    whole = {name: np.median(seconds[name, "all"], axis=0) for name in names}
    start = {name: np.median(seconds[name, "start"], axis=0) for name in names}
    print(f"{'':<18}{'whole':>9}{'start':>9}{'frames/s':>10}{'CPU whole':>11}{'start':>8}{'a frame':>10}")
    for name in names:
        work = whole[name] - start[name]
        row = f"{name:<18}{whole[name][0]:>7.1f} s{start[name][0]:>7.1f} s{frames / work[0]:>10.2f}"
        if name != RAY:
            row += f"{whole[name][1]:>9.1f} s{start[name][1]:>6.1f} s{1e3 * work[1] / frames:>7.0f} ms"
        print(row)
    print(f"\n{'throughput over':<34}{'whole command':>14}{'without start':>15}{'limit':>7}")
    for name in names[:-2]:
        for other in LOOPS:
            ratios = [
                statistics.median(
                    (slow[0] - slow_start[0] * without) / (fast[0] - fast_start[0] * without)
                    for slow, slow_start, fast, fast_start in zip(
                        *(seconds[one, length] for one in (other, name) for length in ("all", "start")), strict=True
                    )
                )
                for without in (False, True)
            ]
            print(f"{f'{name} / {other}':<34}{ratios[0]:>14.2f}{ratios[1]:>15.2f}{LIMIT:>7}")


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    if args.loop is not None:
        loop(args.loop, args.model)
        return
    from mcdiff_commands.model import default_dtype

    become_reaper()
    print(f"command  python benchmarks/jobs.py {' '.join(sys.argv[1:] if arguments is None else arguments)}")
    print(f"machine  {describe_machine('cpu')}; {default_dtype('cpu')}, {time.strftime('%Y-%m-%d')}")
    print(f"videos   {args.num_jobs} of {args.frames} frames, {args.num_workers} processes\n", flush=True)
    names = [HERE, *([] if args.no_ray else [RAY]), *LOOPS]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.tiny:
            args.model = save_random_model(folder / "model")
        lists = {
            "all": write_jobs(folder / "all", args.num_jobs, args.frames),
            "start": write_jobs(folder / "start", 2, 2),
        }
        address = None if args.no_ray else stack.enter_context(ray_cluster(args.num_workers))
        measure(names, lists, args, address)


if __name__ == "__main__":
    main()
