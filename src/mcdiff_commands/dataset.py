# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff dataset`: look at training data."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError, checking_input
from .option_values import number
from .outputs import IMAGE_SUFFIXES, ReplaceOption, check_output, check_outputs
from .telling import Teller, told
from .typer_classes import Command, CommandGroup


if TYPE_CHECKING:
    from mcdiff_pipeline.dataset import ClipDataset


app = typer.Typer(cls=CommandGroup, rich_markup_mode=None, help="Look at training data.")


@app.command(
    cls=Command, epilog="Example: mcdiff dataset show clips/train-00000.tar --output clip.png", rich_help_panel=None
)
@told
def show(
    teller: Teller,
    shard: Annotated[Path, typer.Argument(metavar="SHARD", help="A shard, or a folder of shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The image to write.")],
    clip: Annotated[str, typer.Option(metavar="N|KEY", help="Number or key of the clip.")] = "0",
    samples: Annotated[
        int | None,
        typer.Option(
            parser=number(int, 1), metavar="N", help="Draw N samples of strokes from the first flow instead."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(parser=number(int, 0), metavar="N", help="Seed of the strokes.")] = 0,
    replace_existing: ReplaceOption = None,
) -> None:
    """Draw a clip.

    Draws frames, people, flow, and strokes that are sampled from the flow, as one image.
    """
    from mcdiff_pipeline.dataset import ClipDataset
    from mcdiff_pipeline.dataset.clip_image import draw_clip, draw_samples
    from mcdiff_pipeline.drawing import save_image

    check_output(output, IMAGE_SUFFIXES)
    check_outputs({"--output": output}, [shard], replace=replace_existing)
    with checking_input():
        dataset = ClipDataset(shard)
    index = _find_clip(dataset, clip, shard)
    with checking_input():
        found = dataset[index]
    if len(found.flow) == 0:
        raise InputError(f"clip {found.key} has one frame and no flow, so there is nothing to draw.")
    if samples is None:
        image = draw_clip(found, seed=seed)
    else:
        image = draw_samples(found, samples, seed=seed)
    save_image(image, output)
    num_frames, height, width = found.frames.shape[:3]
    people = found.keypoints.shape[1]
    teller.say(
        f"{output}: clip {found.key}, {num_frames} frames of {width} x {height}, {people} people",
        image=str(output),
        clip=found.key,
        num_frames=num_frames,
        width=width,
        height=height,
        people=people,
        num_clips=len(dataset),
    )
    teller.detail(f"Clip {index} of {len(dataset)}: {json.dumps(found.meta, default=str)}")


def _find_clip(dataset: "ClipDataset", clip: str, shard: Path) -> int:
    """The number of the clip with this key or number."""
    if clip in dataset.keys:
        return dataset.keys.index(clip)
    if clip.isdecimal() and int(clip) < len(dataset):
        return int(clip)
    raise InputError(
        f"--clip {clip}: {shard} has no such clip; give a key, such as {dataset.keys[0]}, or a number from 0 to "
        f"{len(dataset) - 1}."
    )
