"""Many videos by `mcdiff generate --jobs`, over a loop that calls the pipeline for one after another.

    python benchmarks/jobs.py                   # the embedded model, on a machine that does nothing else
    python benchmarks/jobs.py --tiny            # tries the program: random weights, few frames

Both sides make the same videos of examples/cat.jpg, with strokes and seeds of their own, in the same number format, and
write them as MP4. Each run is a process of its own, and all take turns:

- `--jobs` with two processes of one thread each, which make batches of four;
- the same on a Ray cluster of this machine (extra `distributed`), which is started before and not measured;
- a loop in one process, with the threads that PyTorch takes by itself, and with one thread.

Each is run with all videos, and with two of two frames, which is its start: Python, imports, the model, and what each
network prepares in its first call. The ratio is the throughput of `--jobs` over that of a loop, for the whole command
and without the start. Limit 1.5 over the faster loop. CPU seconds are of all processes of a run.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pipeline_overhead import REPOSITORY, describe_machine


LIMIT = 1.5
MODEL = REPOSITORY / "checkpoints/mcdiff-small-128"
PHOTOGRAPH = REPOSITORY / "examples/cat.jpg"
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


def seconds_of(command: list[str], threads: str | None) -> np.ndarray:
    """Seconds of a process on the clock, and of CPU time with the processes that it has started, `[2]`."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{run.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return np.array([time.monotonic() - begun, cpu])


def make(name: str, jobs: Path, args: argparse.Namespace, ray_address: str | None) -> np.ndarray:
    """Makes the videos of a list in one of the ways, checks that all are there, and returns the seconds of it."""
    with tempfile.TemporaryDirectory() as folder:
        if name in LOOPS:
            copied = Path(folder, "jobs")
            subprocess.run(["cp", "-r", str(jobs.parent), str(copied)], check=True)
            command = [sys.executable, __file__, "--model", args.model, "--loop", str(copied / jobs.name)]
            seconds, videos = seconds_of(command, LOOPS[name]), copied
        else:
            videos = Path(folder, "videos")
            command = [sys.executable, "-m", "mcdiff_commands", "generate", "--jobs", str(jobs), "-o", str(videos)]
            command += ["--model", args.model, "--num-workers", str(args.num_workers), "--device", "cpu"]
            command += ["--ray-address", ray_address] if name == "--ray-address" else []
            seconds = seconds_of(command, None)
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
            print(f"{name}, {length}: {values[-1][0]:.1f} s, CPU {values[-1][1]:.1f} s", file=sys.stderr, flush=True)
    frames = args.num_jobs * (args.frames - 1) - 2  # without those of the start
    whole = {name: np.median(seconds[name, "all"], axis=0) for name in names}
    start = {name: np.median(seconds[name, "start"], axis=0) for name in names}
    print(f"{'':<18}{'whole':>9}{'start':>9}{'frames/s':>10}{'CPU whole':>11}{'start':>8}{'a frame':>10}")
    for name in names:
        work = whole[name] - start[name]
        print(
            f"{name:<18}{whole[name][0]:>7.1f} s{start[name][0]:>7.1f} s{frames / work[0]:>10.2f}"
            f"{whole[name][1]:>9.1f} s{start[name][1]:>6.1f} s{1e3 * work[1] / frames:>7.0f} ms"
        )
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

    print(f"command  python benchmarks/jobs.py {' '.join(sys.argv[1:] if arguments is None else arguments)}")
    print(f"machine  {describe_machine('cpu')}; {default_dtype('cpu')}, {time.strftime('%Y-%m-%d')}")
    print(f"videos   {args.num_jobs} of {args.frames} frames, {args.num_workers} processes\n", flush=True)
    names = ["--jobs", *([] if args.no_ray else ["--ray-address"]), *LOOPS]
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
