# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff annotate`: turn videos into training data."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .errors import InputError, first_line
from .option_values import Size, given, number
from .outputs import check_output_folder
from .telling import Teller, told


EPILOG = "Example: mcdiff annotate holiday.mp4 videos/ --output-dir clips"

# What the extra `annotation` installs, by the names under which it is imported.
EXTRA_PACKAGES = ("cv2", "mediapipe", "torchvision")

CLIPS, FLOW, PEOPLE, RUNNING = "Clips", "Optical flow", "People", "Running"


@told
def annotate(
    teller: Teller,
    videos: Annotated[
        list[Path],
        typer.Argument(metavar="VIDEO_OR_FOLDER", help="Videos, and folders that are searched for videos."),
    ],
    output_dir: Annotated[
        Path,
        typer.Option(
            "--output-dir", "-o", metavar="DIR", help="Folder of the dataset; an unfinished run in it is continued."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="First part of the names of the shards (default: train)."),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="License of the videos, for the dataset card (default: unknown)."),
    ] = None,
    resolution: Annotated[
        Size | None,
        typer.Option(
            parser=Size.parser("resolution", "256 for a square, or HEIGHTxWIDTH"),
            metavar="N|HxW",
            help="Size of the frames in pixels (default: 256).",
            rich_help_panel=CLIPS,
        ),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(parser=number(int), metavar="N", help="Frames of a clip (default: 4).", rich_help_panel=CLIPS),
    ] = None,
    displacement_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            parser=number(float),
            metavar="MIN MAX",
            help="How far the fastest 5 % of a frame may move until the next frame, in pixels at a resolution of 256 "
            "(default: 1 16).",
            rich_help_panel=CLIPS,
        ),
    ] = None,
    max_gap: Annotated[
        int | None,
        typer.Option(
            parser=number(int),
            metavar="N",
            help="Largest distance between consecutive frames of a clip, in frames of the video (default: 12).",
            rich_help_panel=CLIPS,
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            parser=number(float),
            metavar="S",
            help="The same distance in seconds (default: 0.25).",
            rich_help_panel=CLIPS,
        ),
    ] = None,
    frame_format: Annotated[
        Literal["jpg", "png"] | None,
        typer.Option(
            metavar="jpg|png",
            help="Format of the frames; jpg takes half the space (default: jpg).",
            rich_help_panel=CLIPS,
        ),
    ] = None,
    clips_per_shard: Annotated[
        int | None,
        typer.Option(parser=number(int), metavar="N", help="Clips of a shard (default: 256).", rich_help_panel=CLIPS),
    ] = None,
    flow: Annotated[
        Literal["raft_large", "raft_small", "gmflow", "dis"] | None,
        typer.Option(
            metavar="raft_large|raft_small|gmflow|dis",
            help="The flow estimator (default: dis).",
            rich_help_panel=FLOW,
        ),
    ] = None,
    flow_weights: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|NAME",
            help="Weights of RAFT: a file, a folder that training/train_optical_flow.py wrote, or a member of "
            "torchvision's enum such as C_T_SKHT_V2, which is downloaded. Weights of GMFlow: a file.",
            rich_help_panel=FLOW,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="Device of RAFT and GMFlow (default: cuda if there is one).",
            rich_help_panel=FLOW,
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        typer.Option(
            metavar="float32|float16|bfloat16",
            help="Number format of RAFT and GMFlow (default: float32).",
            rich_help_panel=FLOW,
        ),
    ] = None,
    pose_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="MediaPipe pose landmarker (default: $MCDIFF_POSE_MODEL, else the cache that "
            "training/tools/build_pose_model.py fills).",
            rich_help_panel=PEOPLE,
        ),
    ] = None,
    no_keypoints: Annotated[
        bool, typer.Option("--no-keypoints", help="Do not look for people.", rich_help_panel=PEOPLE)
    ] = False,
    max_people: Annotated[
        int | None,
        typer.Option(
            parser=number(int),
            metavar="N",
            help="Largest number of people found in a frame (default: 4).",
            rich_help_panel=PEOPLE,
        ),
    ] = None,
    no_refinement: Annotated[
        bool, typer.Option("--no-refinement", help="Keep the estimator's flow on bodies.", rich_help_panel=PEOPLE)
    ] = False,
    require_person: Annotated[
        bool,
        typer.Option(
            "--require-person",
            help="Keep only clips in which, from each frame to the next, at least one person is tracked.",
            rich_help_panel=PEOPLE,
        ),
    ] = False,
    num_workers: Annotated[
        int | None,
        typer.Option(
            parser=number(int),
            metavar="N",
            help="Number of processes (default: one per CPU of the machine or cluster; for RAFT and GMFlow on GPUs at "
            "most four per GPU).",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run on this Ray cluster, for example auto or HOST:6379. All its machines must see the videos, the "
            "output, the pose model and the weights under the same paths.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
) -> None:
    """Turn videos into training data.

    Makes clips with dense flow, people and keypoints: shards that the training scripts read, a report and a dataset
    card. A run that was killed continues when it is started again.
    """
    check_output_folder(output_dir)
    try:
        annotate_videos, AnnotationSettings, SelectionSettings, find_pose_model = _import_annotation()
        selection = given(
            resolution=resolution and (resolution.sides if len(resolution.sides) == 2 else resolution.sides[0]),
            num_frames=num_frames,
            displacement_range=displacement_range,
            max_gap=max_gap,
            max_seconds=max_seconds,
        )
        settings = given(
            flow=flow,
            flow_weights=flow_weights,
            pose_model=None if no_keypoints else str(find_pose_model(pose_model)),
            max_people=max_people,
            frame_format=frame_format,
            device=device,
            dtype=dtype,
        )
        report = annotate_videos(
            videos,
            output_dir,
            AnnotationSettings(
                selection=SelectionSettings(**selection),
                refine=not no_refinement,
                require_person=require_person,
                **settings,
            ),
            num_workers=num_workers,
            ray_address=ray_address,
            **given(split=split, license=license, clips_per_shard=clips_per_shard),
        )
    except (ValueError, FileNotFoundError, ImportError) as error:  # other OSErrors, such as a full disk, are failures
        raise InputError(first_line(error)) from error
    teller.say(report.summary())
    total = report.total
    teller.facts |= {
        "folder": str(report.folder),
        "was_finished": report.was_finished,
        "clips": total.clips,
        "shards": report.num_shards,
        "videos": len(report.videos),
        "dropped": total.dropped,
        "failed": {outcome.video: outcome.error for outcome in report.failed},
    }
    for one in report.videos:
        dropped = ", ".join(f"{count} {reason}" for reason, count in one.dropped.items()) or "none"
        teller.detail(f"{one.video}: {one.clips} clips; dropped: {dropped}" + (f"; {one.error}" if one.error else ""))


def _import_annotation() -> tuple:
    """What annotation needs of the library.

    Raises:
        ImportError: with the way out, if a package of the extra `annotation` is missing.
    """
    try:
        from mcdiff_pipeline.annotation.pose_model import find_pose_model
        from mcdiff_pipeline.annotation.run import annotate_videos
        from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in EXTRA_PACKAGES:
            raise
        raise ImportError(
            f"annotation needs {error.name}, which is missing; pip install 'mcdiff-pipeline[annotation]' installs it."
        ) from error
    return annotate_videos, AnnotationSettings, SelectionSettings, find_pose_model
