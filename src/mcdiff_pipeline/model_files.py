# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Checks of the files of a model, so that a model from an unknown source can be loaded safely."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import torch


# Modules that the class of a component may come from. The module path is part of the file format.
LIBRARIES = ("diffusers", "transformers", "mcdiff_pipeline.flow_completion_unet")

# Suffixes of weights that are read by unpickling, which can run any code.
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".npy", ".npz", ".msgpack", ".h5")

# The largest real JSON files, indices of models in a hundred shards, have a few hundred kilobytes.
MAX_CONFIG_BYTES = 2**20


class SafetensorsLoaderMixin:
    """Loading of a pipeline and of LoRAs from safetensors only; to be named before the classes of diffusers."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> Self:
        """
        Load a model as [`DiffusionPipeline.from_pretrained`] does, also one from an unknown source.

        Only safetensors are read, never pickles, and the files are checked before they are opened. Without `dtype`,
        all components are loaded in float32, whatever their weights are stored in.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                Folder of [`~DiffusionPipeline.save_pretrained`], or the name of a Hub repository.
            kwargs:
                Those of [`DiffusionPipeline.from_pretrained`]; components among them are not read from the folder.

        Raises:
            ValueError: If `use_safetensors` is False, or the files are not those of a model or could do harm; see
                [`check_model_files`].
            OSError: If a file is missing, or the Hub cannot be reached.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                "`use_safetensors` is False, but a pickle can run any code, so only safetensors are read: leave it "
                "out, and take weights that end in .safetensors."
            )
        kwargs["use_safetensors"] = True
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            # the default of diffusers for its own models; those of transformers would keep the dtype of the file, and
            # in half precision an encoder takes 4 times as long on a CPU
            kwargs["dtype"] = torch.float32
        folder = pretrained_model_name_or_path
        if not os.path.isdir(folder):
            folder = cls.download(folder, **kwargs)  # type: ignore[attr-defined]
        check_model_files(folder, given=kwargs)
        pipe = super().from_pretrained(folder, **kwargs)  # type: ignore[misc]
        pipe.register_to_config(_name_or_path=pretrained_model_name_or_path)
        return pipe

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict: str | os.PathLike | dict, **kwargs):
        """
        Read the weights for `load_lora_weights` as [`~loaders.StableDiffusionLoraLoaderMixin.lora_state_dict`] does,
        but from safetensors only, never from pickles.

        Raises:
            ValueError: If `use_safetensors` is False, or `weight_name` does not end in .safetensors.
            OSError: If there are no safetensors, or the Hub cannot be reached.
        """
        weight_name = kwargs.get("weight_name")
        if kwargs.get("use_safetensors") is False or not (weight_name or ".safetensors").endswith(".safetensors"):
            raise ValueError(
                f"`weight_name` is {weight_name!r} and `use_safetensors` {kwargs.get('use_safetensors')}, but a "
                "pickle can run any code, so only safetensors are read: take a LoRA that ends in .safetensors."
            )
        kwargs["use_safetensors"] = True
        return super().lora_state_dict(pretrained_model_name_or_path_or_dict, **kwargs)  # type: ignore[misc]


def check_model_files(folder: str | os.PathLike, given: Collection[str] = ()) -> None:
    """
    Refuse a folder whose files are not those of a model, or could do harm when they are opened.

    Args:
        folder (`str` or `os.PathLike`):
            A folder as `save_pretrained` writes it.
        given (`Collection[str]`):
            Components that are not read from the folder.

    Raises:
        ValueError: If `model_index.json` is missing or names a class outside of `LIBRARIES`; if a configuration is
            larger than `MAX_CONFIG_BYTES`, is not a JSON object, or names more channels than there are bytes of
            weights; if a component has weights but no safetensors; or if an index of shards names anything but
            safetensors files of its own folder.
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
        # without such a folder, diffusers looks for the component beside model_index.json
        _check_component(folder / name if folder.joinpath(name).is_dir() else folder)


def read_config(path: Path) -> dict[str, Any]:
    """
    Read a JSON object of a model folder.

    Raises:
        ValueError: If the file does not exist, is larger than `MAX_CONFIG_BYTES`, or is not a JSON object.
    """
    if not path.is_file():
        raise ValueError(
            f"{path.parent} is not a model: it holds no {path.name}; name a folder that save_pretrained wrote."
        )
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, but a configuration has at most {MAX_CONFIG_BYTES}: "
            "save the model again with save_pretrained."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}; save the model again with save_pretrained.") from None
    if not isinstance(config, dict):
        raise ValueError(
            f"{path} holds a {type(config).__name__}, but has to hold a JSON object: save the model again."
        )
    return config


def _check_component(component: Path) -> None:
    """Checks one component; see [`check_model_files`]."""
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
    # a layer with n channels (in transformers, of the hidden size n) has at least n weights
    size = sum(path.stat().st_size for path in weights)
    for key, value in configs.get("config.json", {}).items():
        for channels in value if isinstance(value, list) else [value]:
            if key.endswith(("channels", "hidden_size")) and isinstance(channels, int) and weights and channels > size:
                raise ValueError(
                    f"{component / 'config.json'} says {key} = {channels}, but the weights beside it have only {size} "
                    "bytes: take both files from the same model."
                )
