# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff export`: make the folder of a Hub repository."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .errors import InputError, checking_input
from .model import find_model
from .option_values import file_size
from .telling import Teller, told


EPILOG = "Example: mcdiff export mcdiff-small-128 exported --variant fp16"


@told
def export(
    teller: Teller,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder of the model, or the name of the embedded model.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to write: new, or empty.")],
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The model card (default: README.md in the folder of the model; for the embedded model, "
            "model_card.md of the checkout; else a blank one).",
        ),
    ] = None,
    example: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="Image of the example, with its stroke sheet (.json) beside it (default: examples/cat.jpg of the "
            "checkout, else none).",
        ),
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="metrics.json of an evaluation, for the card.")
    ] = None,
    variant: Annotated[
        Literal["fp16", "bf16"] | None,
        typer.Option(
            metavar="fp16|bf16", help="Also write the weights in this number format, to be loaded with variant=..."
        ),
    ] = None,
    max_shard_size: Annotated[
        str,
        typer.Option(parser=file_size, metavar="SIZE", help="Largest size of one file of weights, such as 500MB."),
    ] = "10GB",
) -> None:
    """Make the folder of a Hub repository of a model.

    Writes weights, code, model card, license and an example into a folder that loads with and without this package.
    """
    location = find_model(model)
    if not Path(location.path).is_dir():
        raise InputError(f"{location.path} is not a folder: download the repository first, and name its folder.")
    for path in (card, metrics, example):
        if path is not None and not path.is_file():
            raise InputError(f"{path}: there is no such file.")

    import diffusers

    from mcdiff_pipeline.hub import export_model
    from mcdiff_pipeline.model_names import EMBEDDED_MODEL_CARD, default_example

    diffusers.utils.logging.disable_progress_bar()
    with checking_input():
        export_model(
            location.path,
            folder,
            card=card or (EMBEDDED_MODEL_CARD if location.is_embedded else None),
            example=example or default_example(),
            metrics=metrics,
            variant=variant,
            max_shard_size=max_shard_size,
        )
    sizes = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    for path, size in sizes.items():
        teller.detail(f"{path}: {size:,} bytes")
    total = sum(sizes.values())
    teller.say(
        f"{folder}: {total / 1e6:.1f} MB; `mcdiff push {folder} owner/name` uploads it",
        folder=str(folder),
        files=len(sizes),
        bytes=total,
    )
