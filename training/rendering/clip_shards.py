"""What the two renderers share: command-line arguments, and writing clips of consecutive seeds into shards."""

import argparse
import functools
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mcdiff_pipeline.dataset import Clip, ShardWriter
from mcdiff_pipeline.progress import progress_bar
from rendering.clip_shape import frame_size, motion_factor
from rendering.photographs import SPLITS


def clip_parser(description: str, *, default_gap: str) -> argparse.ArgumentParser:
    """Arguments of every renderer. Each renderer adds the arguments that name its sources.

    Args:
        description: text of `--help`, printed unchanged.
        default_gap: phrase that says the default time between two frames.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="Folder for the shards {split}-00000.tar …")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--num_clips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="Different seeds give different clips.")
    parser.add_argument(
        "--resolution",
        type=int,
        nargs="+",
        default=[128],
        metavar="PIXELS",
        help="One number for square frames, or height and width.",
    )
    parser.add_argument("--num_frames", type=int, default=4)
    parser.add_argument("--time_gap", type=float, metavar="SECONDS", help=f"Between two frames; {default_gap}.")
    parser.add_argument("--photographs_dir", type=Path, required=True, help="Folder with train/ validation/ test/.")
    parser.add_argument("--num_workers", type=int, default=1, help="Processes; the clips do not depend on it.")
    parser.add_argument("--clips_per_shard", type=int, default=256)
    parser.add_argument(
        "--max_minutes", type=float, help="Stop after this time with the clips that are there, at least one."
    )
    return parser


def parse_clip_arguments(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Parse the arguments. An impossible size or time gap ends the program before any file is read."""
    args = parser.parse_args(arguments)
    try:
        args.resolution = frame_size(args.resolution[0] if len(args.resolution) == 1 else args.resolution)
        motion_factor(args.time_gap, args.num_frames)
    except ValueError as error:
        parser.error(str(error))
    return args


def write_shards(
    args: argparse.Namespace,
    render_clip: Callable[..., Clip],
    load_assets: Callable[..., Any],
    sources: dict[str, Path | None],
) -> None:
    """Render clips 0 to `args.num_clips` - 1 and write them in this order into shards of `args.output_dir`.

    Args:
        args: from `parse_clip_arguments`.
        render_clip: called as `render_clip((seed, index), split, assets, resolution, num_frames, time_gap)`.
        load_assets: called once in each process as `load_assets(split, **sources)`.
        sources: the files and folders that clips are made of.
    """
    render = functools.partial(
        _render, render_clip, args.seed, args.split, args.resolution, args.num_frames, args.time_gap
    )
    # Also in this process: a pool restarts workers that fail to start, again and again, and hides their error.
    _start_worker(load_assets, args.split, sources)
    if args.num_workers > 1:
        # A forked process could inherit a lock that another thread holds.
        context = multiprocessing.get_context("spawn")
        with context.Pool(args.num_workers, _start_worker, (load_assets, args.split, sources)) as pool:
            _write(pool.imap(render, range(args.num_clips), chunksize=4), args)
    else:
        _write(map(render, range(args.num_clips)), args)


def _start_worker(load_assets, split, sources) -> None:
    global _assets
    _assets = load_assets(split, **sources)


def _render(render_clip, seed, split, resolution, num_frames, time_gap, index) -> Clip:
    return render_clip((seed, index), split, _assets, resolution, num_frames, time_gap)


def _write(clips: Iterable[Clip], args: argparse.Namespace) -> None:
    start, number, by_minutes = time.perf_counter(), 0, args.max_minutes is not None
    total, unit = (args.max_minutes, "min") if by_minutes else (args.num_clips, "clip")
    with (
        ShardWriter(args.output_dir, args.split, clips_per_shard=args.clips_per_shard) as writer,
        progress_bar("Rendering", total, unit=unit) as bar,
    ):
        for number, clip in enumerate(clips, 1):
            writer.write(clip)
            minutes = (time.perf_counter() - start) / 60
            bar.set_postfix_str(f"{number} clips", refresh=False)
            bar.update(minutes - bar.n if by_minutes else 1)
            if by_minutes and minutes >= args.max_minutes:
                break
    minutes = (time.perf_counter() - start) / 60
    rate = number * args.num_frames / (60 * minutes)
    print(f"{number} clips in {minutes:.1f} minutes, {rate:.0f} frames/s", file=sys.stderr)
