# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What a folder with a model may hold, so that one from a stranger can be opened: safetensors and small JSON."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any


# Where the class of a component may come from; its module is part of the file format.
LIBRARIES = ("diffusers", "transformers", "mcdiff_pipeline.flow_completion_unet")

# Weights that are read by unpickling, which can run any code.
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".npy", ".npz", ".msgpack", ".h5")

# The largest real ones, indices of models in a hundred shards, have a few hundred kilobytes.
MAX_CONFIG_BYTES = 2**20


def check_model_files(folder: str | os.PathLike, given: Collection[str] = ()) -> None:
    """
    Refuses a folder whose files cannot be those of a model, or could do harm when they are opened.

    Args:
        folder (`str` or `os.PathLike`):
            A folder as `save_pretrained` writes it.
        given (`Collection[str]`):
            Components that are not read from the folder.

    Raises:
        ValueError: If `model_index.json` is missing or names a class outside of `LIBRARIES`; if a configuration has
            more than `MAX_CONFIG_BYTES`, is no JSON object, or speaks of more channels than there are bytes of
            weights; if a component has weights but no safetensors; or if an index of shards names what is no
            safetensors file of its own folder.
    """
    folder = Path(folder)
    index = read_config(folder / "model_index.json")
    for name, value in index.items():
        if not isinstance(value, list) or value[:1] in ([], [None]) or name.startswith("_") or name in given:
            continue
        if value[0] not in LIBRARIES:
            raise ValueError(
                f"{folder / 'model_index.json'} takes the class of {name} from {value[0]!r}, but only "
                f"{', '.join(LIBRARIES)} are used: load that component yourself and pass it to from_pretrained as "
                f"`{name}`."
            )
        # where there is no such folder, diffusers looks for the component beside model_index.json
        _check_component(folder / name if folder.joinpath(name).is_dir() else folder)


def read_config(path: Path) -> dict[str, Any]:
    """
    Reads a JSON object of a model folder.

    Raises:
        ValueError: If there is no such file, it has more than `MAX_CONFIG_BYTES`, or it is no JSON object.
    """
    if not path.is_file():
        raise ValueError(f"{path.parent} is no model: it holds no {path.name}; name the folder of save_pretrained.")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, but a configuration has at most {MAX_CONFIG_BYTES}: this is no "
            "model's; save the model again with save_pretrained."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}; save the model again with save_pretrained.") from None
    if not isinstance(config, dict):
        raise ValueError(
            f"{path} holds a {type(config).__name__}, but has to hold a JSON object: save the model again."
        )
    return config


def _check_component(component: Path) -> None:
    """See [`check_model_files`]."""
    configs = {path.name: read_config(path) for path in component.glob("*config.json")}
    weights = list(component.glob("*.safetensors"))
    pickles = [path for path in component.iterdir() if path.suffix in PICKLES]
    if pickles and not weights:
        raise ValueError(
            f"{pickles[0]} is a pickle, which can run any code when it is opened, and only safetensors are read: "
            "take weights that end in .safetensors."
        )
    for path in component.glob("*.safetensors*.json"):  # variants have their name before or after ".index"
        shards = read_config(path).get("weight_map")
        shards = set(shards.values()) if isinstance(shards, dict) else {shards}
        for shard in shards:
            if not isinstance(shard, str) or shard != Path(shard).name or component / shard not in weights:
                raise ValueError(
                    f"{path} names the shard {shard!r}, but a shard is a .safetensors file of the same folder: save "
                    "the model again."
                )
    # a layer of so many channels has at least as many weights
    size = sum(path.stat().st_size for path in weights)
    for key, value in configs.get("config.json", {}).items():
        for channels in value if isinstance(value, list) else [value]:
            if key.endswith("channels") and isinstance(channels, int) and weights and channels > size:
                raise ValueError(
                    f"{component / 'config.json'} says {key} = {channels}, but the weights beside it have {size} "
                    "bytes only: they are not of one model."
                )
