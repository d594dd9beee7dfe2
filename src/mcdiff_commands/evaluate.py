# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff evaluate`: compare a model with baselines, on clips and on photographs of things that move as a whole."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import InputError, checking_input, first_line
from .model import DeviceOption, DtypeOption, ModelOption, find_model, load_model, long_dtype, tell_model
from .option_values import Counts, NamedModel, given, number
from .outputs import check_output_folder
from .telling import Teller, told


if TYPE_CHECKING:
    from mcdiff_pipeline.dataset import ClipDataset
    from mcdiff_pipeline.evaluation import EvaluationSettings
    from mcdiff_pipeline.pipeline_mcdiff import MCDiffPipeline


EPILOG = "Example: mcdiff evaluate --data data/people --output evaluation"

# Modules of the extra `evaluation`, with the packages that install them.
EXTRA_PACKAGES = {"matplotlib": "matplotlib", "stlpips_pytorch": "stlpips-pytorch", "torchmetrics": "torchmetrics"}


@told
def evaluate(
    teller: Teller,
    context: typer.Context,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of the results; an unfinished run in it is continued."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(metavar="SHARDS", help="Clips with true flow: a folder of shards, or one shard.")
    ] = None,
    wholes: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Photographs with masked things, on which the flow of things that move as a whole is measured; "
            "instead of --data, or in addition to it.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Split of the folder of shards.")] = "test",
    strokes: Annotated[
        Counts | None,
        typer.Option(parser=Counts.parse, metavar="N,N,...", help="Numbers of strokes (default: 1,5,9)."),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(parser=number(int), metavar="N", help="Frames of a video, the image included (default: 7)."),
    ] = None,
    num_clips: Annotated[
        int | None,
        typer.Option(parser=number(int), metavar="N", help="Use the first N usable clips (default: all)."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(parser=number(int), metavar="N", help="Denoising steps per frame (default: the model's)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(parser=number(int), metavar="N", help="Seed of strokes and noise (default: 0).")
    ] = None,
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="Start strokes at any moving pixels instead of body keypoints.")
    ] = False,
    drift_frames: Annotated[
        int | None, typer.Option(parser=number(int), metavar="N", help="Length of the long rollouts (default: 64).")
    ] = None,
    drift_clips: Annotated[
        int | None,
        typer.Option(parser=number(int), metavar="N", help="Number of long rollouts; 0 for none (default: 16)."),
    ] = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            parser=number(int), metavar="N", help="Number of clips whose sheets and videos are kept (default: 8)."
        ),
    ] = None,
    other: Annotated[
        list[NamedModel],
        typer.Option(
            parser=NamedModel.parse,
            metavar="NAME=MODEL",
            help="One more model to compare with, for example one without flow completion; repeatable.",
        ),
    ] = [],  # noqa: B006
    pose_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="MediaPipe's pose model, which tracks keypoints of people (default: the one that `mcdiff annotate` "
            "uses, if there is one).",
        ),
    ] = None,
    i3d: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The network that FVD needs, see docs/evaluation.md.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(parser=number(int), metavar="N", help="Clips at a time (default: 8).")
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Compare a model with baselines.

    Measures a model and simple baselines on clips with true flow, in one run. Writes metrics.json, a report
    with tables and plots, sheets and videos. With --wholes it also measures whether strokes move whole things in
    photographs. A run that was killed continues when it is started again.
    """
    inputs = check_evaluation(context.params)
    location = find_model(model)
    others = {named.name: find_model(named.model).path for named in other}
    output.mkdir(parents=True, exist_ok=True)

    dtype = long_dtype(dtype) or "float32"
    pipe = load_model(location.path, dtype, device)
    pipes = {name: load_model(path, dtype, device) for name, path in others.items()}
    tell_model(teller, pipe, location.name)
    if inputs.dataset is not None:
        teller.detail(f"{len(inputs.dataset)} clips; {inputs.settings}", num_clips=len(inputs.dataset))
    try:
        if inputs.dataset is None:
            _evaluate_wholes(pipe, pipes, location.name, context.params)
        else:
            _evaluate_clips(pipe, pipes, location.name, inputs, context.params)
    except ValueError as error:
        raise InputError(first_line(error)) from error
    report = output / "report.md"
    teller.say(f"Report: {report}", report=str(report), metrics=str(output / "metrics.json"))


def _evaluate_wholes(
    pipe: "MCDiffPipeline", others: dict[str, "MCDiffPipeline"], model_name: str, options: Mapping[str, Any]
) -> None:
    """Evaluates a model on photographs alone."""
    from mcdiff_pipeline.evaluation.wholes import evaluate_wholes

    evaluate_wholes(
        pipe,
        options["wholes"],
        options["output"],
        model_name=model_name,
        others=others,
        **given(seed=options["seed"]),
    )


def _evaluate_clips(
    pipe: "MCDiffPipeline",
    others: dict[str, "MCDiffPipeline"],
    model_name: str,
    inputs: "EvaluationInputs",
    options: Mapping[str, Any],
) -> None:
    """Evaluates a model on clips, and on photographs if they are given."""
    from mcdiff_pipeline.evaluation import evaluate

    evaluate(
        pipe,
        inputs.dataset,
        options["output"],
        inputs.settings,
        model_name=model_name,
        data_name=f"{options['data'].name}, {options['split']}",
        others=others,
        pose_model=inputs.pose_model,
        i3d=options["i3d"],
        wholes=options["wholes"],
        **given(batch_size=options["batch_size"]),
    )


@dataclass(frozen=True)
class EvaluationInputs:
    """What an evaluation needs in addition to models.

    Args:
        dataset (`ClipDataset`, *optional*): the clips; None to evaluate on photographs alone.
        settings (`EvaluationSettings`): what is evaluated.
        pose_model (`Path`, *optional*): MediaPipe's pose model.
    """

    dataset: "ClipDataset | None"
    settings: "EvaluationSettings"
    pose_model: Path | None


def check_evaluation(options: Mapping[str, Any]) -> EvaluationInputs:
    """Checks everything that can be checked without a model.

    Args:
        options (`Mapping[str, Any]`): values of the options, by the names of the parameters of [`evaluate`].

    Raises:
        InputError: if a value is out of its range, two models share a name, there are no clips or photographs, or a
            package is missing.
    """
    from mcdiff_pipeline.dataset import ClipDataset
    from mcdiff_pipeline.evaluation import EvaluationSettings
    from mcdiff_pipeline.evaluation.whole_photographs import WholePhotographs

    check_output_folder(options["output"])
    if options["data"] is None and options["wholes"] is None:
        raise InputError("There is nothing to evaluate on: name clips by --data, photographs by --wholes, or both.")
    if options["batch_size"] is not None and options["batch_size"] < 1:
        raise InputError(f"--batch-size is {options['batch_size']}; it must be 1 or more.")
    names = [named.name for named in options["other"]]
    if len(set(names)) < len(names):
        raise InputError(f"--other names {names}; give each model a name of its own.")
    same_names = ("num_frames", "num_clips", "seed", "anywhere", "drift_frames", "drift_clips", "num_samples")
    with checking_input():
        settings = EvaluationSettings(
            **given(
                strokes=options["strokes"],
                num_inference_steps=options["steps"],
                **{name: options[name] for name in same_names},
            )
        )
        dataset = None if options["data"] is None else ClipDataset(options["data"], options["split"])
        if options["wholes"] is not None:
            WholePhotographs(options["wholes"])
    if dataset is None:
        return EvaluationInputs(None, settings, None)
    missing = [package for module, package in EXTRA_PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(
            f"{', '.join(missing)} cannot be imported: evaluation needs `pip install mcdiff-pipeline[evaluation]`."
        )
    return EvaluationInputs(dataset, settings, _find_pose_model(options["pose_model"]))


def _find_pose_model(path: Path | None) -> Path | None:
    """The pose model at `path`, else the one that annotation uses. None if there is neither.

    Raises:
        InputError: if `path` is given and there is no such file.
    """
    from mcdiff_pipeline.annotation.pose_model import find_pose_model

    if path is None and importlib.util.find_spec("mediapipe") is None:
        return None
    try:
        return find_pose_model(path)
    except FileNotFoundError as error:
        if path is not None:
            raise InputError(first_line(error)) from error
        return None
