# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The arguments of `mcdiff annotate` and of `training/annotate_videos.py`, declared once."""

import argparse
import re
import sys
from pathlib import Path

from .flow import DTYPES, ESTIMATORS
from .people import find_pose_model
from .settings import AnnotationSettings, SelectionSettings


# What the extra `annotation` brings, by the names under which it is imported.
EXTRA_PACKAGES = ("cv2", "mediapipe", "torchvision")


def add_annotation_arguments(parser: argparse.ArgumentParser, *, separator: str = "-") -> None:
    """Declares the arguments that `run_annotation` reads.

    Args:
        parser (`argparse.ArgumentParser`): gets them.
        separator (`str`, defaults to `"-"`): between the words of a name; `"_"` in training scripts.
    """
    settings = AnnotationSettings()
    selection = settings.selection

    def add(target, name: str, **keywords) -> None:
        target.add_argument("--" + name.replace("-", separator), **keywords)

    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO_OR_FOLDER", help="folders are searched through")
    add(
        parser,
        "output-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the dataset; an unfinished run in it goes on",
    )
    add(parser, "split", default="train", help="first part of the shards' names (default: train)")
    add(parser, "license", default="unknown", help="license of the videos, for the dataset card (default: unknown)")

    clips = parser.add_argument_group("clips")
    add(
        clips,
        "resolution",
        type=_resolution,
        default=selection.resolution,
        metavar="N|HxW",
        help=f"size of the frames in pixels (default: {selection.resolution})",
    )
    add(
        clips,
        "num-frames",
        type=int,
        default=selection.num_frames,
        metavar="N",
        help=f"frames of a clip (default: {selection.num_frames})",
    )
    add(
        clips,
        "displacement-range",
        type=float,
        nargs=2,
        default=selection.displacement_range,
        metavar=("MIN", "MAX"),
        help="how far the fastest 5 %% of a picture may move between two frames, in pixels at a "
        f"resolution of 256 (default: {selection.displacement_range[0]:g} {selection.displacement_range[1]:g})",
    )
    add(
        clips,
        "max-gap",
        type=int,
        default=selection.max_gap,
        metavar="N",
        help=f"frames of the video from one frame of a clip to the next, at most (default: {selection.max_gap})",
    )
    add(
        clips,
        "max-seconds",
        type=float,
        default=selection.max_seconds,
        metavar="S",
        help=f"the same in seconds (default: {selection.max_seconds:g})",
    )
    add(
        clips,
        "frame-format",
        choices=("jpg", "png"),
        default=settings.frame_format,
        help=f"jpg is half as large (default: {settings.frame_format})",
    )
    add(clips, "clips-per-shard", type=int, default=256, metavar="N", help="(default: 256)")

    flow = parser.add_argument_group("optical flow")
    add(
        flow,
        "flow",
        choices=ESTIMATORS,
        default=settings.flow,
        help=f"the estimator (default: {settings.flow})",
    )
    add(
        flow,
        "flow-weights",
        metavar="PATH|NAME",
        help="weights of RAFT: a file, a folder that training/train_optical_flow.py wrote, or a member of "
        "torchvision's enum such as C_T_SKHT_V2, which is downloaded",
    )
    add(flow, "device", help="where RAFT runs (default: cuda if there is one)")
    add(
        flow,
        "dtype",
        choices=DTYPES,
        default=settings.dtype,
        help=f"number format of RAFT (default: {settings.dtype})",
    )

    people = parser.add_argument_group("people")
    add(
        people,
        "pose-model",
        type=Path,
        metavar="FILE",
        help="MediaPipe pose landmarker (default: "
        "$MCDIFF_POSE_MODEL, else the cache that training/tools/build_pose_model.py fills)",
    )
    add(people, "no-keypoints", action="store_true", help="look for no people")
    add(
        people,
        "max-people",
        type=int,
        default=settings.max_people,
        metavar="N",
        help=f"people found in a frame, at most (default: {settings.max_people})",
    )
    add(people, "no-refinement", action="store_true", help="keep the estimator's flow on bodies")
    add(
        people,
        "require-person",
        action="store_true",
        help="keep only clips in which, from each frame to the next, at least one person is followed",
    )

    running = parser.add_argument_group("running")
    add(
        running,
        "num-workers",
        type=int,
        metavar="N",
        help="processes (default: one a CPU of the machine or cluster, and for RAFT on GPUs at most four a GPU)",
    )
    add(
        running,
        "ray-address",
        metavar="ADDRESS",
        help="run on this Ray cluster instead, e.g. auto or HOST:6379; all its machines must see the videos, the "
        "output, the pose model and the weights under the same paths",
    )


def run_annotation(args: argparse.Namespace) -> int:
    """Annotates the videos that the arguments name, and says where the dataset is and what is in it.

    Returns:
        `int`: the exit code, 0.

    Raises:
        ValueError: if an argument is impossible, or the folder holds another dataset.
        FileNotFoundError: if a video, a folder or a model does not exist.
        ImportError: if a package of the extra `annotation` is missing.
        OSError: if the disk is full; what is finished stays, and another run goes on.
    """
    try:
        from .run import annotate_videos  # not needed to declare arguments, and wants more than the core
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in EXTRA_PACKAGES:
            raise
        raise ImportError(
            f"annotation needs {error.name}, which is missing; pip install 'mcdiff-pipeline[annotation]' brings it."
        ) from error

    settings = AnnotationSettings(
        selection=SelectionSettings(
            resolution=args.resolution,
            num_frames=args.num_frames,
            displacement_range=tuple(args.displacement_range),
            max_gap=args.max_gap,
            max_seconds=args.max_seconds,
        ),
        flow=args.flow,
        flow_weights=args.flow_weights,
        pose_model=None if args.no_keypoints else str(find_pose_model(args.pose_model)),
        max_people=args.max_people,
        refine=not args.no_refinement,
        require_person=args.require_person,
        frame_format=args.frame_format,
        device=args.device,
        dtype=args.dtype,
    )
    report = annotate_videos(
        args.videos,
        args.output_dir,
        settings,
        split=args.split,
        license=args.license,
        num_workers=args.num_workers,
        clips_per_shard=args.clips_per_shard,
        ray_address=args.ray_address,
        progress=sys.stderr.isatty(),
    )
    print(report.summary())
    return 0


def _resolution(text: str) -> int | tuple[int, int]:
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no resolution; write 256 for a square, or HEIGHTxWIDTH")
    numbers = tuple(map(int, text.split("x")))
    return numbers[0] if len(numbers) == 1 else numbers
