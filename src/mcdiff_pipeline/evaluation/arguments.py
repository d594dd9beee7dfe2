# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The arguments of `mcdiff evaluate`; nothing heavy is imported here."""

import argparse
import importlib.util
from pathlib import Path

from .settings import EvaluationSettings


# Modules of the extra `evaluation`, by the package that brings them.
NEEDED = {"matplotlib": "matplotlib", "stlpips_pytorch": "stlpips-pytorch", "torchmetrics": "torchmetrics"}


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all arguments but those that name a model."""
    default = EvaluationSettings()
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--data", metavar="SHARDS", type=Path, required=True, help="clips with true flow: a folder of shards, or one"
    )
    group.add_argument("--split", default="test", help="which of the folder's splits (default: test)")
    group.add_argument("--output", metavar="DIR", type=Path, required=True, help="an unfinished run in it goes on")
    group.add_argument(
        "--strokes",
        type=_whole_numbers,
        default=default.strokes,
        metavar="N,N,...",
        help=f"numbers of strokes (default: {','.join(map(str, default.strokes))})",
    )
    group.add_argument(
        "--num-frames",
        type=int,
        default=default.num_frames,
        metavar="N",
        help=f"frames of a video, the given picture included (default: {default.num_frames})",
    )
    group.add_argument("--num-clips", type=int, metavar="N", help="the first N clips that can be used (default: all)")
    group.add_argument("--steps", type=int, metavar="N", help="denoising steps per frame (default: the model's)")
    group.add_argument("--seed", type=int, default=default.seed, metavar="N", help="of strokes and noise (default: 0)")
    group.add_argument(
        "--anywhere", action="store_true", help="strokes start at any pixels that move, instead of body keypoints"
    )
    group.add_argument(
        "--drift-frames",
        type=int,
        default=default.drift_frames,
        metavar="N",
        help=f"length of the long roll-outs (default: {default.drift_frames})",
    )
    group.add_argument(
        "--drift-clips",
        type=int,
        default=default.drift_clips,
        metavar="N",
        help=f"how many of these, 0 for none (default: {default.drift_clips})",
    )
    group.add_argument(
        "--num-samples",
        type=int,
        default=default.num_samples,
        metavar="N",
        help=f"clips of which sheets and videos are kept (default: {default.num_samples})",
    )
    group.add_argument(
        "--other",
        type=_named_model,
        action="append",
        default=[],
        metavar="NAME=MODEL",
        help="one more model to compare with, such as one without F; may be repeated",
    )
    group.add_argument(
        "--pose-model",
        metavar="FILE",
        help="MediaPipe's pose model, to follow people's keypoints by (default: the one that annotation takes, if "
        "there is one)",
    )
    group.add_argument("--i3d", metavar="FILE", help="the network that FVD needs, see docs/evaluation.md")
    group.add_argument("--batch-size", type=int, default=8, metavar="N", help="clips at a time (default: 8)")


def evaluation_settings(args: argparse.Namespace) -> EvaluationSettings:
    """What the arguments say.

    Raises:
        ValueError: if a number is out of its range, or two models share a name.
    """
    if args.batch_size < 1:
        raise ValueError(f"--batch-size is {args.batch_size}; it must be 1 or more.")
    names = [name for name, _ in args.other]
    if len(set(names)) < len(names):
        raise ValueError(f"--other names {names}; give each model a name of its own.")
    return EvaluationSettings(
        strokes=args.strokes,
        num_frames=args.num_frames,
        num_clips=args.num_clips,
        num_inference_steps=args.steps,
        seed=args.seed,
        anywhere=args.anywhere,
        drift_frames=args.drift_frames,
        drift_clips=args.drift_clips,
        num_samples=args.num_samples,
    )


def check_evaluation_packages() -> None:
    """Raises `ValueError` where a package of the extra `evaluation` is not installed."""
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} cannot be imported: evaluation needs `pip install mcdiff-pipeline[evaluation]`."
        )


def find_pose_model_if_any(path: str | None) -> Path | None:
    """The pose model that is named, else the one where annotation looks for it; None where there is none.

    Raises:
        FileNotFoundError: if one is named that is not there.
    """
    from ..annotation.people import find_pose_model

    if path is None and importlib.util.find_spec("mediapipe") is None:
        return None
    try:
        return find_pose_model(path)
    except FileNotFoundError:
        if path is not None:
            raise
        return None


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers; write 1,5,9") from None


def _named_model(text: str) -> tuple[str, str]:
    name, _, model = text.partition("=")
    if not name or not model:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=MODEL")
    return name, model
