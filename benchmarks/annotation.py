"""What annotation costs beside its networks, and whether memory stays flat.

    python benchmarks/annotation.py videos/ --flow dis
    python benchmarks/annotation.py videos/ --flow raft_small

A few short videos last no longer than the start of the processes: `--variants` adds each of them mirrored, upside down
and both, encoded again beforehand.

Time is a ratio: the whole job (finding, decoding, selecting, estimating, writing, merging, reporting, the start of its
processes included) over the bare estimators on the same frames: flow in both directions for every pair that was
written and, with people, the pose detector on every frame. Both take the same number of processes.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from mcdiff_pipeline.annotation.annotation_run import annotate_videos
from mcdiff_pipeline.annotation.clip_selection import VideoOutcome
from mcdiff_pipeline.annotation.clips import ClipDataset
from mcdiff_pipeline.annotation.found_videos import find_videos
from mcdiff_pipeline.annotation.optical_flow import ESTIMATORS
from mcdiff_pipeline.annotation.people import find_pose_model
from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings
from mcdiff_pipeline.annotation.video_annotation import VideoAnnotator
from mcdiff_pipeline.video import VideoReader, VideoWriter


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--flow", choices=ESTIMATORS, default="dis")
    parser.add_argument("--flow_weights", default=None)
    parser.add_argument("--keypoints", action="store_true", help="Look for people, too.")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--variants", action="store_true", help="Add mirrored variants of the videos.")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count())
    parser.add_argument("--lengths", type=int, nargs=2, default=(300, 3000), help="Frames of the videos for memory.")
    return parser.parse_args(arguments)


def add_variants(videos: list[Path], folder: Path) -> list[Path]:
    """The videos, and each of them mirrored, upside down and both."""
    variants = []
    for number, video in enumerate(find_videos(videos)):
        for name, flip in {"mirrored": np.s_[:, ::-1], "upside_down": np.s_[::-1], "both": np.s_[::-1, ::-1]}.items():
            variants.append(folder / f"{name}_{number}.mp4")
            with VideoReader(video.path) as reader, VideoWriter(variants[-1], reader.fps) as writer:
                for frame in reader:
                    writer.write(np.ascontiguousarray(frame[flip]))
    return [*videos, *variants]


annotator: VideoAnnotator | None = None


def load_annotator(settings: AnnotationSettings, num_threads: int) -> None:
    """Makes the estimators of one process, which is not part of the floor."""
    global annotator
    torch.set_num_threads(num_threads)
    annotator = VideoAnnotator(settings)


def run_estimators(frames: np.ndarray) -> None:
    """The floor for one clip: uint8 `[T, H, W, 3]`."""
    annotator.estimator(frames[:-1], frames[1:])
    annotator.estimator(frames[1:], frames[:-1])
    if annotator.detector is not None:
        for frame in frames:
            annotator.detector(frame)


def measure_time(videos: list[Path], args: argparse.Namespace, settings: AnnotationSettings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        annotate_videos(videos, folder, settings, num_workers=args.num_workers, progress=False)
        whole = time.perf_counter() - start
        dataset = ClipDataset(folder)
        clips = [dataset[index].frames for index in range(len(dataset))]

    pool = ProcessPoolExecutor(
        args.num_workers,
        multiprocessing.get_context("spawn"),
        load_annotator,
        (settings, max(1, os.cpu_count() // args.num_workers)),
    )
    with pool:
        list(pool.map(run_estimators, clips[: args.num_workers]))  # warm-up: every process has loaded its estimators
        start = time.perf_counter()
        list(pool.map(run_estimators, clips))
        floor = time.perf_counter() - start
    pairs = sum(len(frames) - 1 for frames in clips)
    what = f"{args.flow}{' and people' if args.keypoints else ''}"
    print(f"{what}: {len(clips)} clips, {pairs} pairs at {args.resolution} px, {args.num_workers} processes")
    print(f"whole {whole:.1f} s, bare estimators {floor:.1f} s, ratio {whole / floor:.3f}")


def peak_memory(settings: AnnotationSettings, path: str) -> float:
    """MiB that one process has needed at most, after annotating one video."""
    with VideoAnnotator(settings) as annotator:
        for _ in annotator.annotate(path, "video", VideoOutcome("video")):
            pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_memory(args: argparse.Namespace, settings: AnnotationSettings) -> None:
    """Loops the first video's first frames into a short and a long one, and annotates each in a fresh process."""
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
                    there_and_back = number % (2 * len(loop) - 2)
                    writer.write(loop[min(there_and_back, 2 * len(loop) - 2 - there_and_back)])
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                peaks.append(pool.submit(peak_memory, settings, str(path)).result())
    growth = peaks[1] / peaks[0] - 1
    print(
        f"peak memory: {peaks[0]:.0f} MiB at {args.lengths[0]} frames, {peaks[1]:.0f} MiB at {args.lengths[1]} ",
        end="",
    )
    print(f"({growth:+.1%})")


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    settings = AnnotationSettings(
        selection=SelectionSettings(resolution=args.resolution),
        flow=args.flow,
        flow_weights=args.flow_weights,
        pose_model=str(find_pose_model()) if args.keypoints else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        videos = add_variants(args.videos, Path(folder)) if args.variants else args.videos
        measure_time(videos, args, settings)
    measure_memory(args, settings)


if __name__ == "__main__":
    main()
