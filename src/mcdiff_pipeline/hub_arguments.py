# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The arguments of `mcdiff export` and `mcdiff push`, and what the commands do with them."""

import argparse
import re
from pathlib import Path


CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "examples" / "cat.jpg"


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments that [`run_export`] reads."""
    parser.add_argument("model", metavar="MODEL", help="folder of the model, or the name of the embedded one")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the folder to write: new, or empty")
    parser.add_argument(
        "--card",
        metavar="FILE",
        type=Path,
        help="the model card (default: README.md in the model's folder; for the embedded model, model_card.md of the "
        "checkout; else a blank one)",
    )
    parser.add_argument(
        "--example",
        metavar="PICTURE",
        type=Path,
        help="picture of the example, its stroke sheet (.json) beside it (default: examples/cat.jpg of the checkout, "
        "else none)",
    )
    parser.add_argument("--metrics", metavar="FILE", type=Path, help="metrics.json of an evaluation, for the card")
    parser.add_argument(
        "--variant",
        choices=("fp16", "bf16"),
        help="write the weights in this number format too, to be loaded with variant=...",
    )
    parser.add_argument(
        "--max-shard-size",
        metavar="SIZE",
        type=_shard_size,
        default="10GB",
        help="size up to which weights lie in one file, such as 500MB (default: 10GB)",
    )


def run_export(args: argparse.Namespace, model: str, is_embedded: bool) -> int:
    """
    Exports a model and says what was written.

    Args:
        args (`argparse.Namespace`): What [`add_export_arguments`] declares.
        model (`str`): Folder of the model that `args.model` names.
        is_embedded (`bool`): Whether it is the embedded model, whose card is that of the checkout.

    Returns:
        `int`: The exit code, 0.

    Raises:
        ValueError: If an argument is impossible; see [`export_model`].
        OSError: If a file cannot be read or written.
    """
    import diffusers

    from .hub.export import export_model

    if not Path(model).is_dir():
        raise ValueError(f"{model} is no folder: fetch the repository first, and name its folder.")
    for path in (args.card, args.metrics, args.example):
        if path is not None and not path.is_file():
            raise ValueError(f"{path}: there is no such file.")
    diffusers.utils.logging.disable_progress_bar()
    export_model(
        model,
        args.folder,
        card=args.card or (CHECKOUT / "model_card.md" if is_embedded else None),
        example=args.example or (EXAMPLE if EXAMPLE.is_file() else None),
        metrics=args.metrics,
        variant=args.variant,
        max_shard_size=args.max_shard_size,
    )
    size = sum(path.stat().st_size for path in args.folder.rglob("*") if path.is_file())
    print(f"{args.folder}: {size / 1e6:.1f} MB; `mcdiff push {args.folder} owner/name` uploads it")
    return 0


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments that [`run_push`] reads."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="what `mcdiff export` wrote")
    parser.add_argument("repository", metavar="OWNER/NAME", help="the repository; made if there is none")
    parser.add_argument("--private", action="store_true", help="make the repository private, if it is made")


def run_push(args: argparse.Namespace) -> int:
    """
    Uploads an export and says where it is.

    Returns:
        `int`: The exit code, 0.

    Raises:
        ValueError: If the folder is no export; see [`push_export`].
        RuntimeError: If the Hub refuses, or nobody is logged in.
    """
    from .hub.export import push_export, refusals_explained

    with refusals_explained(args.repository):
        address = push_export(args.folder, args.repository, private=args.private)
    print(address)
    return 0


def _shard_size(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*(KB|MB|GB)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 500MB or 5GB")
    return text
