# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff info`: describe a model."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import first_line
from .model import DEFAULT_MODEL, find_model, load_model
from .telling import Teller, told


if TYPE_CHECKING:
    from mcdiff_pipeline import MCDiffPipeline


@told
def info(
    teller: Teller,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help=f"Folder or Hub repository ({DEFAULT_MODEL}).")
    ] = None,
) -> None:
    """Describe a model and say whether it loads.

    Shows its components, their sizes, its conditioning and its defaults. The exit code is 1 if it does not load.
    """
    path = find_model(model).path
    try:
        pipe = load_model(path, "float32", "cpu")
    except Exception as error:  # the reason why the model does not load is the result of this command
        reason = f"{type(error).__name__}: {first_line(error)}"
        teller.say(f"model         {path}\nloads         no: {reason}", model=path, loads=False, reason=reason)
        teller.finish()
        raise typer.Exit(1) from None
    teller.say("\n".join([*_settings(pipe, path), "", *_components(pipe)]), **_facts(pipe, path))
    for name, component in pipe.components.items():
        if hasattr(component, "config"):
            # transformers' configurations are no mappings
            config = component.config.to_dict() if hasattr(component.config, "to_dict") else dict(component.config)
            teller.detail(f"\n{name}: {json.dumps(config, indent=2, default=str)}")


def _facts(pipe: "MCDiffPipeline", path: str) -> dict[str, Any]:
    config = pipe.config
    return {
        "model": path,
        "loads": True,
        "conditioning": list(pipe.conditioning),
        "working_width": config.default_width,
        "working_height": config.default_height,
        "size_multiple": pipe.size_multiple,
        "latent_channels": pipe.latent_channels,
        "latent_cell": pipe.vae_scale_factor,
        "num_frames": config.default_num_frames,
        "num_inference_steps": config.default_num_inference_steps,
        "guidance_scale": config.default_guidance_scale,
        "prediction_type": pipe.scheduler.config.prediction_type,
        "components": {
            name: {"class": type(component).__name__, "parameters": _count(component)}
            for name, component in pipe.components.items()
            if component is not None
        },
    }


def _count(component: Any) -> int:
    """Number of parameters of a component, 0 for one that is no network."""
    import torch

    return sum(one.numel() for one in component.parameters()) if isinstance(component, torch.nn.Module) else 0


def _settings(pipe: "MCDiffPipeline", path: str) -> list[str]:
    values = {
        "model": path,
        "loads": "yes",
        "conditioning": ", ".join(pipe.conditioning),
        "working size": f"{pipe.config.default_width} x {pipe.config.default_height} pixels, keeping the aspect ratio",
        "other sizes": f"multiples of {pipe.size_multiple} pixels",
        "latent grid": f"{pipe.latent_channels} channels, a cell of {pipe.vae_scale_factor} x {pipe.vae_scale_factor}",
        "frames": pipe.config.default_num_frames,
        "steps": pipe.config.default_num_inference_steps,
        "guidance": pipe.config.default_guidance_scale,
        "prediction": pipe.scheduler.config.prediction_type,
    }
    return [f"{name:13} {value}" for name, value in values.items()]


def _components(pipe: "MCDiffPipeline") -> list[str]:
    lines = [f"{'component':17} {'class':27} {'parameters':>12} {'in float32':>11}"]
    total = 0
    for name, component in pipe.components.items():
        line = f"{name:17} {type(component).__name__ if component is not None else 'none':27}"
        if count := _count(component):
            total += count
            line += f" {count:>12,} {count * 4 / 1e6:>8.1f} MB"
        lines.append(line.rstrip())
    return [*lines, f"{'together':45} {total:>12,} {total * 4 / 1e6:>8.1f} MB"]
