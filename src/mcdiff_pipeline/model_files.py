# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Checks of the files of a model, so that a model from an unknown source can be loaded safely."""

import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import ModelMixin, SchedulerMixin
from safetensors import SafetensorError
from transformers import PreTrainedModel

from .model_weights import check_finite, check_scheduler_config, check_weights, load_class, weights_progress_hidden


# Modules that the class of a component may come from. The module path is part of the file format.
LIBRARIES = ("diffusers", "transformers", "mcdiff_pipeline.flow_completion_unet")

# Suffixes of weights that are read by unpickling, which can run any code.
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".npy", ".npz", ".msgpack", ".h5")

# A repository on the Hub. A path that begins with a dot or a slash, or has two, is none.
REPOSITORY_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")

# The largest real JSON files, indices of models in a hundred shards, have a few hundred kilobytes.
MAX_CONFIG_BYTES = 2**20


class SafetensorsLoaderMixin:
    """Loading of a pipeline and of LoRAs from safetensors only; to be named before the classes of diffusers."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> Self:
        """
        Load a model as [`DiffusionPipeline.from_pretrained`] does, also one from an unknown source.

        Only safetensors are read, never pickles, and the files are checked before they are opened. Without `dtype`,
        all components are loaded in float32, whatever their weights are stored in. A `dtype` may be given by its name,
        such as `"float16"`.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                Folder of [`~DiffusionPipeline.save_pretrained`], or the name of a Hub repository.
            kwargs:
                Those of [`DiffusionPipeline.from_pretrained`]; components among them are not read from the folder.

        Raises:
            ValueError: If `use_safetensors` is False, `dtype` is not the name of one, the files are not those of a
                model or could do harm, see [`check_model_files`], or a weight is not finite.
            OSError: If a file is missing, or the Hub cannot be reached.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                "`use_safetensors` is False, but a pickle can run any code, so only safetensors are read: leave it "
                "out, and take weights that end in .safetensors."
            )
        kwargs["use_safetensors"] = True
        for name in ("dtype", "torch_dtype"):
            if kwargs.get(name) is not None:
                kwargs[name] = _dtypes_of(kwargs[name])
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            # the default of diffusers for its own models; those of transformers would keep the dtype of the file, and
            # in half precision an encoder takes 4 times as long on a CPU
            kwargs["dtype"] = torch.float32
        folder = pretrained_model_name_or_path
        if not os.path.isdir(folder):
            if not REPOSITORY_NAME.fullmatch(os.fspath(folder)):
                raise ValueError(
                    f"There is no folder {os.fspath(folder)!r}, and it is not the name of a Hub repository, which "
                    "looks like owner/name: check the path of the model."
                )
            folder = cls.download(folder, **kwargs)  # type: ignore[attr-defined]
        check_model_files(folder, given=kwargs)
        try:
            with weights_progress_hidden():
                pipe = super().from_pretrained(folder, **kwargs)  # type: ignore[misc]
        except (TypeError, KeyError, AttributeError, IndexError, ArithmeticError, AssertionError) as error:
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            raise ValueError(
                f"{folder} cannot be loaded ({type(error).__name__}: {reason:.200}): check its model_index.json "
                "and the arguments, or save the model again."
            ) from error
        for name, component in pipe.components.items():
            if isinstance(component, torch.nn.Module) and name not in kwargs:
                check_finite(name, component)
        pipe.register_to_config(_name_or_path=pretrained_model_name_or_path)
        return pipe

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict: str | os.PathLike | dict, **kwargs):
        """
        Read the weights for `load_lora_weights` as [`~loaders.StableDiffusionLoraLoaderMixin.lora_state_dict`] does,
        but from safetensors only, never from pickles.

        Raises:
            ValueError: If `use_safetensors` is False, `weight_name` does not end in .safetensors, the file is damaged,
                or no weight belongs to `unet` or `text_encoder`.
            OSError: If there are no safetensors, or the Hub cannot be reached.
        """
        weight_name = kwargs.get("weight_name")
        if kwargs.get("use_safetensors") is False or not (weight_name or ".safetensors").endswith(".safetensors"):
            raise ValueError(
                f"`weight_name` is {weight_name!r} and `use_safetensors` {kwargs.get('use_safetensors')}, but a "
                "pickle can run any code, so only safetensors are read: take a LoRA that ends in .safetensors."
            )
        kwargs["use_safetensors"] = True
        try:
            found = super().lora_state_dict(pretrained_model_name_or_path_or_dict, **kwargs)  # type: ignore[misc]
        except (SafetensorError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"The LoRA {weight_name or pretrained_model_name_or_path_or_dict} cannot be read ({reason:.200}): it "
                "is damaged, or not a LoRA; save or download it again."
            ) from error
        weights = found[0] if isinstance(found, tuple) else found
        if not any(name.startswith(("unet.", "text_encoder.")) for name in weights):
            raise ValueError(
                f"This LoRA changes {next(iter(weights), 'nothing')}, but nothing of `unet` or `text_encoder`, so it "
                "was made for another kind of model: take one that was trained on the `unet` of this model."
            )
        return found


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
            larger than `MAX_CONFIG_BYTES`, is not a JSON object, or describes a component that cannot be built or is
            larger than its weights; if a component has weights but no safetensors; if an index of shards names
            anything but safetensors files of its own folder; or if weights are missing, left over or of another
            shape, see [`~mcdiff_pipeline.model_weights.check_weights`].
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
        _check_component(folder / name if folder.joinpath(name).is_dir() else folder, value)


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


def _dtypes_of(dtype: Any) -> Any:
    """A dtype, or a dict of them, whose names are replaced by what they mean."""
    if isinstance(dtype, dict):
        return {name: _dtypes_of(one) for name, one in dtype.items()}
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise ValueError(
            f"`dtype` is {dtype!r}, but it has to be a floating point dtype of PyTorch, such as torch.float32, "
            "torch.float16 or torch.bfloat16, or its name."
        )
    return found


def _check_component(component: Path, class_path: list[Any]) -> None:
    """Checks one component, of the class `[library, name]`; see [`check_model_files`]."""
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
        shards = list(shards.values()) if isinstance(shards, dict) else [shards]
        for shard in shards:
            if not isinstance(shard, str) or shard != Path(shard).name or component / shard not in weights:
                raise ValueError(
                    f"{path} names the shard {shard!r}, but a shard is a .safetensors file of the same folder: save "
                    "the model again."
                )
    component_class = load_class(*(class_path + [None])[:2])
    if issubclass(component_class, ModelMixin | PreTrainedModel) and "config.json" in configs:
        check_weights(component, component_class, configs["config.json"])
    elif issubclass(component_class, SchedulerMixin) and "scheduler_config.json" in configs:
        name = "scheduler_config.json"
        check_scheduler_config(component / name, component_class, configs[name])
