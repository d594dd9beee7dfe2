# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The options that name a model, and loading it."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .errors import InputError, checking_input, first_line
from .telling import Teller


if TYPE_CHECKING:
    from mcdiff_pipeline import MCDiffPipeline
    from mcdiff_pipeline.model_names import ModelLocation


PANEL = "Model"
DEFAULT_MODEL = "default: $MCDIFF_MODEL, else the embedded model"

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="DIR_OR_REPO",
        help=f"Folder or Hub repository of the model ({DEFAULT_MODEL}).",
        rich_help_panel=PANEL,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Device, for example cpu or cuda:0 (default: cuda if there is one).",
        rich_help_panel=PANEL,
    ),
]
DtypeOption = Annotated[
    Literal["float32", "float16", "bfloat16", "fp16", "bf16"] | None,
    typer.Option(
        "--dtype",
        metavar="float32|float16|bfloat16",
        help="Number format of the networks (default: float32; generate: bfloat16 on a CPU with instructions for it).",
        rich_help_panel=PANEL,
    ),
]
EngineOption = Annotated[
    Literal["pytorch", "openvino"],
    typer.Option(
        "--engine",
        metavar="pytorch|openvino",
        help="What runs the networks. OpenVINO, of the extra `openvino`, is faster on a CPU from some hundred frames "
        "of one size on (default: pytorch).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]


def find_model(name: str | None) -> "ModelLocation":
    """The model that `name` means; see `mcdiff_pipeline.model_names.find_model`."""
    from mcdiff_pipeline.model_names import find_model

    with checking_input():
        return find_model(name)


def long_dtype(name: str | None) -> str | None:
    """The long name of a number format: `"float16"` for `"fp16"`."""
    return {"fp16": "float16", "bf16": "bfloat16"}.get(name or "", name)


def device_of(device: str | None) -> str:
    """The device that `--device` means: without it, CUDA if there is one, else the processor."""
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: str | None) -> str:
    """The number format in which the device of `--device` is fastest."""
    from mcdiff_pipeline.processor import fastest_dtype

    return fastest_dtype(device_of(device))


def load_model(path: str, dtype: str, device: str | None, engine: str = "pytorch") -> "MCDiffPipeline":
    """The pipeline at `path` on its device, with the threads and the memory layout that are fastest there. It shows no
    progress of its own."""
    import diffusers
    import torch

    from mcdiff_pipeline import MCDiffPipeline
    from mcdiff_pipeline.processor import available_cores

    try:
        device = torch.device(device_of(device))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {device} cannot be used: {first_line(error)}") from None

    diffusers.utils.logging.disable_progress_bar()
    try:
        pipe = MCDiffPipeline.from_pretrained(path, dtype=getattr(torch, dtype)).to(device)
    except ValueError as error:  # the model's files are wrong; a Hub that cannot be reached is a failure
        raise InputError(first_line(error)) from error
    pipe.set_progress_bar_config(disable=True)
    if device.type == "cpu":
        torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
    if device.type == "cpu" and dtype == "bfloat16":
        # Convolutions need not copy their inputs then. In float32 it would change the last digits, and frames would no
        # longer be exactly those of the library and of Studio.
        for network in (pipe.vae, pipe.unet, pipe.flow_completion):
            if network is not None:
                network.to(memory_format=torch.channels_last)
    if engine == "openvino":
        from mcdiff_pipeline.openvino_networks import use_openvino

        try:
            use_openvino(pipe)
        except (ImportError, ValueError) as error:
            raise InputError(f"--engine openvino: {first_line(error)}") from None
    return pipe


def tell_model(teller: Teller, pipe: "MCDiffPipeline", name: str) -> None:
    """Tells which model works, where, and in which number format."""
    dtype = str(pipe.dtype).removeprefix("torch.")
    teller.say(f"Model: {name}, on {pipe.device} in {dtype}", model=name, device=str(pipe.device), dtype=dtype)
