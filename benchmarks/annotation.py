"""Cost of annotation compared to its estimators alone, and its memory.

    python benchmarks/annotation.py videos/
    python benchmarks/annotation.py videos/ --flow raft_small=runs/optical_flow/raft_small --resolution 128
    python benchmarks/annotation.py videos/ --variants data/web --shorter_side 720 --max_fps 30
    python benchmarks/annotation.py data/web --in_turn              # on a busy machine
    python benchmarks/annotation.py videos/ --lengths 300 3000      # memory

The result is a ratio of times. The numerator is the whole command: start, search, decoding, selection, estimation,
writing, packing and report. The denominator is the bare estimators on the same frames: flow in both directions for
every pair that was written and, with people, the pose detector on every frame. Both use the same number of processes,
which share the CPUs. Wall-clock time is what a user waits for. CPU time is less affected by other programs. The time
of the start is measured by the same command on a video without clips.

Other programs that start or end between both measurements distort the ratio. `--in_turn` measures both for one video
after another, in one process, by CPU time. It leaves out start, packing and report.

A few short videos take no longer than the start. `--variants` measures 96 copies of each video instead: mirrored,
upside down, turned, backwards, as negatives, lighter and darker. Each file has 8 of them, as H.264 of medium quality,
with lower resolution or frame rate if requested.
"""

import argparse
import itertools
import multiprocessing
import multiprocessing.synchronize
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from process_times import become_reaper, seconds_of

from mcdiff_pipeline.annotation.annotator import VideoAnnotator
from mcdiff_pipeline.annotation.found_videos import find_videos
from mcdiff_pipeline.annotation.outcome import VideoOutcome
from mcdiff_pipeline.annotation.parts import WRITING, annotate_part
from mcdiff_pipeline.annotation.pose_model import find_pose_model
from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings
from mcdiff_pipeline.annotation.workers import num_cpus
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.video import VideoReader, VideoWriter, write_video


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument(
        "--flow", default="dis", metavar="NAME[=WEIGHTS]", help="Estimator and weights, as for `mcdiff annotate`."
    )
    parser.add_argument("--keypoints", action="store_true", help="Detect people.")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--num_workers", type=int, default=num_cpus())
    parser.add_argument("--repetitions", type=int, default=1, help="Number of measurements.")
    parser.add_argument("--variants", type=Path, help="Folder for variants of the videos, which are measured instead.")
    parser.add_argument("--shorter_side", type=int, help="Largest shorter side of variants in pixels.")
    parser.add_argument("--max_fps", type=float, default=float("inf"), help="Largest frame rate of variants.")
    parser.add_argument(
        "--in_turn", action="store_true", help="Measure annotation and estimators video by video, in one process."
    )
    parser.add_argument(
        "--lengths", type=int, nargs=2, help="Measure memory instead, on videos with these two numbers of frames."
    )
    return parser.parse_args(arguments)


def write_variants(videos: list[Path], folder: Path, shorter_side: int | None, max_fps: float) -> None:
    """Writes 96 variants of each video, 8 per file. The frames of a video are in memory."""
    folder.mkdir(parents=True)
    for number, video in enumerate(find_videos(videos)):
        with VideoReader(video.path) as reader:
            step = max(1, round(reader.fps / max_fps))
            rate = round(reader.fps / step)
            frames = [frame.pixels(shorter_side) for frame in reader.timed_frames() if frame.number % step == 0]
        height, width = (length // 2 * 2 for length in frames[0].shape[:2])
        levels = np.linspace(0, 1, 256)
        for turned, gamma, negative in itertools.product((False, True), (0.6, 1.0, 1.6), (False, True)):
            table = np.round(255 * (1 - levels if negative else levels) ** gamma).astype(np.uint8)
            name = f"{number}_{'turned' if turned else 'upright'}_{gamma}_{'negative' if negative else 'positive'}.mp4"
            with av.open(str(folder / name), "w") as container:
                stream = container.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "faster"})
                stream.height, stream.width = (width, height) if turned else (height, width)
                for backwards, upside_down, mirrored in itertools.product((1, -1), (1, -1), (1, -1)):
                    for frame in frames[::backwards]:
                        frame = table[frame[:height, :width][::upside_down, ::mirrored]]
                        frame = np.ascontiguousarray(frame.swapaxes(0, 1) if turned else frame)
                        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode(None))


def run_command(videos: list[Path], args: argparse.Namespace, output: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of `mcdiff annotate`, including processes that end after it."""
    name, _, weights = args.flow.partition("=")
    options = ["--flow", name, "--resolution", args.resolution, "--num-workers", args.num_workers]
    options += ["--flow-weights", weights] if weights else []
    options += [] if args.keypoints else ["--no-keypoints"]
    command = [sys.executable, "-m", "mcdiff_commands", "annotate", *videos, "--output-dir", output, *options]
    return seconds_of(command)


annotator: VideoAnnotator | None = None
all_loaded: multiprocessing.synchronize.Barrier | None = None


def load_annotator(
    settings: AnnotationSettings, num_threads: int, barrier: multiprocessing.synchronize.Barrier
) -> None:
    """Loads the estimators of one process, with the threads of a worker. This is not measured."""
    global annotator, all_loaded
    torch.set_num_threads(num_threads)
    cv2.setNumThreads(num_threads)
    annotator, all_loaded = VideoAnnotator(settings), barrier


def warm_up(frames: np.ndarray) -> None:
    """Runs one clip in every process. The barrier makes each process take one."""
    all_loaded.wait()
    run_estimators(frames)


def run_estimators(frames: np.ndarray) -> float:
    """Runs the bare estimators on one clip, uint8 `[T, H, W, 3]`; returns seconds of CPU time."""
    start = time.process_time()
    annotator.estimator(frames[:-1], frames[1:])
    annotator.estimator(frames[1:], frames[:-1])
    if annotator.detector is not None:
        for frame in frames:
            annotator.detector(frame)
    return time.process_time() - start


def run_bare_estimators(dataset: ClipDataset, args: argparse.Namespace) -> tuple[float, float]:
    """Wall-clock and CPU seconds of the bare estimators."""
    clips = [dataset[index].frames for index in range(len(dataset))]
    context = multiprocessing.get_context("spawn")
    num_threads = max(1, num_cpus() // args.num_workers)
    arguments = annotation_settings(args), num_threads, context.Barrier(args.num_workers)
    with ProcessPoolExecutor(args.num_workers, context, load_annotator, arguments) as pool:
        list(pool.map(warm_up, clips[:1] * args.num_workers))
        start = time.perf_counter()
        cpu = sum(pool.map(run_estimators, clips))
        return time.perf_counter() - start, cpu


def annotation_settings(args: argparse.Namespace) -> AnnotationSettings:
    name, _, weights = args.flow.partition("=")
    return AnnotationSettings(
        selection=SelectionSettings(resolution=args.resolution),
        flow=name,
        flow_weights=weights or None,
        pose_model=str(find_pose_model()) if args.keypoints else None,
    )


def measure_time(videos: list[Path], args: argparse.Namespace) -> None:
    become_reaper()
    what = f"{args.flow}{' and people' if args.keypoints else ''}"
    with tempfile.TemporaryDirectory() as folder:
        still = Path(folder, "still.mp4")
        write_video([np.zeros((64, 64, 3), np.uint8)] * 2, still)
        clock, cpu = run_command([still], args, f"{folder}/start")
        print(f"{what} at {args.resolution} px, {args.num_workers} processes on {num_cpus()} CPUs")
        print(f"start: {clock:.1f} s, CPU {cpu:.1f} s", flush=True)
        for repetition in range(args.repetitions):
            whole = run_command(videos, args, f"{folder}/{repetition}")
            dataset = ClipDataset(f"{folder}/{repetition}")
            pairs = sum(dataset.num_frames(index) - 1 for index in range(len(dataset)))
            bare = run_bare_estimators(dataset, args)
            print(
                f"{len(dataset)} clips, {pairs} pairs: whole {whole[0]:.1f} s, bare estimators {bare[0]:.1f} s, ratio "
                f"{whole[0] / bare[0]:.3f}; CPU {whole[1]:.1f} s, {bare[1]:.1f} s, ratio {whole[1] / bare[1]:.3f}",
                flush=True,
            )


def measure_in_turn(videos: list[Path], args: argparse.Namespace) -> None:
    """Measures the CPU time of annotating a video, then of the bare estimators on its clips, for each video."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder, VideoAnnotator(annotation_settings(args)) as each:
        global annotator
        annotator = each
        Path(folder, WRITING).mkdir()
        found = find_videos(videos)
        annotate_part(annotator, found[0], Path(folder))  # warm-up
        for video in found:
            start = time.process_time()
            annotate_part(annotator, video, Path(folder))
            whole = time.process_time() - start
            part = Path(folder, f"{video.identity}.tar")
            clips = [clip.frames for clip in ClipDataset(part)] if part.exists() else []
            rows.append((sum(len(frames) - 1 for frames in clips), whole, sum(map(run_estimators, clips))))
            pairs, whole, bare = (sum(column) for column in zip(*rows))
            if pairs:
                print(
                    f"{len(rows)} videos, {pairs} pairs: CPU {whole:.1f} s, bare estimators {bare:.1f} s, ratio "
                    f"{whole / bare:.3f}; a pair {1000 * whole / pairs:.0f} ms, {1000 * bare / pairs:.0f} ms",
                    flush=True,
                )


def peak_memory(settings: AnnotationSettings, path: str) -> float:
    """Peak memory of one process in MiB, after annotating one video."""
    with VideoAnnotator(settings) as annotator:
        for _ in annotator.annotate(path, "video", VideoOutcome("video")):
            pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_memory(args: argparse.Namespace) -> None:
    """Repeats frames of the first video in a short and in a long video, and annotates each in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        first = next(iter(find_videos(args.videos))).path
        with VideoReader(first) as reader:
            loop = [frame for frame, _ in zip(reader, range(60))]
            rate = reader.fps
        peaks = []
        for length in args.lengths:
            path = Path(folder, f"{length}.mp4")
            with VideoWriter(path, rate) as writer:
                for number in range(length):
                    phase = number % (2 * len(loop) - 2)  # forward, then backward
                    writer.write(loop[min(phase, 2 * len(loop) - 2 - phase)])
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                peaks.append(pool.submit(peak_memory, annotation_settings(args), str(path)).result())
    growth = peaks[1] / peaks[0] - 1
    print(
        f"peak memory: {peaks[0]:.0f} MiB at {args.lengths[0]} frames, {peaks[1]:.0f} MiB at {args.lengths[1]} "
        f"({growth:+.1%})"
    )


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    if args.lengths:
        measure_memory(args)
        return
    if args.variants and not args.variants.exists():
        write_variants(args.videos, args.variants, args.shorter_side, args.max_fps)
    measure = measure_in_turn if args.in_turn else measure_time
    measure([args.variants] if args.variants else args.videos, args)


if __name__ == "__main__":
    main()
