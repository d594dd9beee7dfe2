# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Weights of networks: what a configuration would build, whether stored weights fit it, whether they are finite, and
whether they stay on one device."""

import contextlib
import importlib
import inspect
import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.modules import module as module_hooks


# A network registers some tensors twice, and some that are not stored. What it builds is refused beyond this many
# times what is stored, plus a constant for networks that store next to nothing.
MAX_RATIO, SPARE_TENSORS, SPARE_VALUES = 2, 200, 10**7
# A module may have no tensors, such as an activation; this many modules may belong to one tensor.
MODULES_PER_TENSOR = 20
# Far above the 1,000 of all known schedulers, and still built in milliseconds.
MAX_TRAIN_TIMESTEPS = 10**6
# Names of weights that a message lists.
LISTED_NAMES = 3

# Weights of diffusers and of transformers in one file, also of a variant.
_ONE_FILE = re.compile(r"(diffusion_pytorch_model|model)(\.\w+)?\.safetensors")


class _TooLarge(Exception):
    """A network that is being built has more tensors, values or modules than allowed."""


def load_class(library: str, name: object) -> type:
    """
    The class of a component.

    Args:
        library (`str`): the module that it comes from, one of `model_files.LIBRARIES`.
        name: its name there.

    Raises:
        ValueError: If there is no such class.
    """
    found = getattr(importlib.import_module(library), name, None) if isinstance(name, str) else None
    if not isinstance(found, type):
        raise ValueError(f"{library} has no class {name!r}; take a model that was made for the installed version.")
    return found


def check_weights(component: Path, component_class: type, config: Mapping[str, Any]) -> None:
    """
    Refuse a network that its stored weights do not fit, without reading them.

    The network is built on the meta device, so it takes no memory, and building ends as soon as it has more tensors
    than are stored.

    Args:
        component (`Path`): Folder with `config.json` and the weights.
        component_class (`type`): Class of the network, from diffusers or transformers.
        config (`Mapping[str, Any]`): Content of `config.json`.

    Raises:
        ValueError: If a file of weights is damaged, the network cannot be built, it is larger than the stored weights,
            or weights are missing, left over or of another shape; the message names the file and some of the weights.
    """
    stored = stored_shapes(component)
    if not stored:
        return  # diffusers names the file that is missing
    shapes = max(stored.values(), key=len)
    values = max(sum(map(_size, one.values())) for one in stored.values())
    with _within(len(shapes), values, component / "config.json"):
        network = build_from_config(component / "config.json", component_class, config)
    if hasattr(network, "_fix_state_dict_keys_on_load"):  # a model of diffusers
        for path, found in stored.items():
            _check_keys(path, network, found)
    else:
        for path in stored:
            _check_keys_of_transformers(component, component_class, _variant_of(path))


def check_scheduler_config(path: Path, scheduler_class: type, config: Mapping[str, Any]) -> None:
    """
    Refuse the configuration of a scheduler that cannot be built.

    Args:
        path (`Path`): The file, for messages.
        scheduler_class (`type`): Its class in diffusers.
        config (`Mapping[str, Any]`): Its content.

    Raises:
        ValueError: If it cannot be built, or would have more than `MAX_TRAIN_TIMESTEPS` steps.
    """
    steps = config.get("num_train_timesteps", 1000)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MAX_TRAIN_TIMESTEPS:
        raise ValueError(
            f"{path} says num_train_timesteps = {steps!r:.80}, but it has to be a whole number from 1 to "
            f"{MAX_TRAIN_TIMESTEPS}: save the model again."
        )
    build_from_config(path, scheduler_class, config, device="cpu")


def build_from_config(path: Path, component_class: type, config: Mapping[str, Any], device: str = "meta") -> Any:
    """
    Build a component from its configuration alone.

    Args:
        path (`Path`): The file, for messages.
        component_class (`type`): Its class.
        config (`Mapping[str, Any]`): Content of the file.
        device (`str`, defaults to `"meta"`): Where its tensors are made.

    Raises:
        ValueError: If the class refuses the configuration, in any way; the message names a field that probably caused
            it.
    """
    try:
        with torch.device(device):
            if hasattr(component_class, "config_class") and hasattr(component_class.config_class, "from_dict"):
                return component_class(component_class.config_class.from_dict(dict(config)))
            parameters = inspect.signature(component_class).parameters
            return component_class(**{name: value for name, value in config.items() if name in parameters})
    except _TooLarge:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        field = _suspicious_field(component_class, config)
        where = "" if field is None else f", probably because of {field} = {config[field]!r:.80}"
        raise ValueError(
            f"{path} does not describe a {component_class.__name__}{where} ({type(error).__name__}: {reason:.200}): "
            "save the model again."
        ) from error


def stored_shapes(component: Path) -> dict[Path, dict[str, tuple[int, ...]]]:
    """
    Names and shapes of the stored weights of a component, from the headers of the files.

    Args:
        component (`Path`): The folder. Its indices of shards are known to name files of the folder.

    Returns:
        `dict[Path, dict[str, tuple[int, ...]]]`: for each file with all weights, and each index of shards: name ->
        shape.

    Raises:
        ValueError: If a file is damaged, or an index names weights that its shards do not hold.
    """
    stored = {}
    for path in sorted(component.glob("*.safetensors")):
        if _ONE_FILE.fullmatch(path.name):
            stored[path] = _shapes_in(path)
    for path in sorted(component.glob("*.safetensors*.json")):
        shard_of = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards = {name: _shapes_in(component / name) for name in set(shard_of.values())}
        missing = [name for name, shard in shard_of.items() if name not in shards[shard]]
        if missing:
            raise ValueError(
                f"{path} names {_listed(missing)}, which the named shards do not hold: save the model again."
            )
        stored[path] = {name: shards[shard][name] for name, shard in shard_of.items()}
    return stored


def check_finite(name: str, network: nn.Module) -> None:
    """
    Refuse a network with weights that are not finite.

    Args:
        name (`str`): Name of the component, for the message.
        network (`nn.Module`): The network. Weights on the meta device, and whole numbers, are not looked at.

    Raises:
        ValueError: If a weight is NaN or infinite; the message names some of them.
    """
    bad = [key for key, tensor in network.state_dict().items() if not _is_finite(tensor)]
    if bad:
        raise ValueError(
            f"The weights of {name} are not finite in {_listed(bad)}: the file is damaged, or the training that made "
            "it diverged; take another one, or load it in float32 if that was not its number format."
        )


def is_offloaded(network: nn.Module) -> bool:
    """
    Whether hooks of accelerate or diffusers may move the weights of a network, to be there during its forward pass.

    The hooks are on the network itself (`enable_model_cpu_offload`, `enable_sequential_cpu_offload`, groups of blocks)
    or on each module that has weights (groups of leaves). Only the first of these is looked at, so this is fast enough
    for every frame.
    """
    with_weights = (module for module in network.modules() if next(module.parameters(recurse=False), None) is not None)
    looked_at = (network, next(with_weights, network))
    return any(hasattr(module, hook) for module in looked_at for hook in ("_hf_hook", "_diffusers_hook"))


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.is_meta or tensor.numel() == 0:
        return True
    tensor = tensor.detach()
    smallest, largest = torch.aminmax(tensor.float() if tensor.element_size() == 1 else tensor)
    return bool(torch.isfinite(smallest) & torch.isfinite(largest))


def _shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; copy or save the model again.") from error


def _check_keys(path: Path, network: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises `ValueError` unless the weights of a model of diffusers are those in the file or index `path`."""
    found = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    network._fix_state_dict_keys_on_load(found)  # old names of attention layers
    expected = network.state_dict()
    ignored = [re.compile(pattern) for pattern in network._keys_to_ignore_on_load_unexpected or ()]
    unexpected = [name for name in found if name not in expected and not any(one.search(name) for one in ignored)]
    mismatched = [name for name in expected if name in found and expected[name].shape != found[name].shape]
    _refuse(path, [name for name in expected if name not in found], unexpected, mismatched)


def _variant_of(path: Path) -> str | None:
    """The variant in the name of a file of weights or of their index: `"fp16"` for model.fp16.safetensors."""
    parts = [part for part in path.name.split(".")[1:] if part not in ("safetensors", "index", "json")]
    return ".".join(parts) or None


@contextlib.contextmanager
def weights_progress_hidden() -> Iterator[None]:
    """Hides the progress bar of transformers, which would be a second one below that of the components."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_keys_of_transformers(component: Path, model_class: Any, variant: str | None) -> None:
    """Raises `ValueError` unless transformers finds the weights of a model, which it may rename, in its folder."""
    try:
        with weights_progress_hidden():
            _, found = model_class.from_pretrained(
                component,
                device_map="meta",
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                output_loading_info=True,
                variant=variant,
            )
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{component} cannot be loaded: {reason:.200}; save the model again.") from error
    mismatched = [one if isinstance(one, str) else one[0] for one in found["mismatched_keys"]]
    _refuse(component, sorted(found["missing_keys"]), sorted(found["unexpected_keys"]), sorted(mismatched))


def _refuse(path: Path, missing: list[str], unexpected: list[str], mismatched: list[str]) -> None:
    for names, what in (
        (missing, "lacks {} of the network"),
        (unexpected, "holds {}, which the network does not have"),
        (mismatched, "holds {} in another shape than the network has"),
    ):
        if names:
            raise ValueError(
                f"{path} {what.format(_listed(names))}: take the weights and the config.json beside them from the "
                "same model."
            )


def _listed(names: list[str]) -> str:
    more = len(names) - LISTED_NAMES
    return ", ".join(names[:LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


@contextlib.contextmanager
def _within(num_tensors: int, num_values: int, path: Path) -> Iterator[None]:
    """Ends the building of networks in this thread with a `ValueError` if they are larger than what is stored."""
    thread = threading.get_ident()
    tensors, values = MAX_RATIO * num_tensors + SPARE_TENSORS, MAX_RATIO * num_values + SPARE_VALUES
    left = {"tensors": tensors, "values": values, "modules": MODULES_PER_TENSOR * tensors}

    def count_tensor(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        if tensor is not None and threading.get_ident() == thread:
            left["tensors"] -= 1
            left["values"] -= tensor.numel()
            if min(left["tensors"], left["values"]) < 0:
                raise _TooLarge

    def count_module(module: nn.Module, name: str, child: nn.Module | None) -> None:
        if threading.get_ident() == thread:
            left["modules"] -= 1
            if left["modules"] < 0:
                raise _TooLarge

    hooks = [
        module_hooks.register_module_parameter_registration_hook(count_tensor),
        module_hooks.register_module_buffer_registration_hook(count_tensor),
        module_hooks.register_module_module_registration_hook(count_module),
    ]
    try:
        yield
    except _TooLarge:
        raise ValueError(
            f"{path} describes a larger network than the weights beside it, which are {num_tensors} tensors with "
            f"{num_values} values: take both files from the same model."
        ) from None
    finally:
        for hook in hooks:
            hook.remove()


def _suspicious_field(component_class: Any, config: Mapping[str, Any]) -> str | None:
    """The first field whose value is of another kind than the default of its class; None if there is none."""
    config_class = getattr(component_class, "config_class", None)
    for name, parameter in inspect.signature(config_class or component_class).parameters.items():
        default = parameter.default
        if name not in config or default in (None, inspect.Parameter.empty) or config[name] is None:
            continue
        kinds: tuple[type, ...] = (type(default),)
        if isinstance(default, bool | int | float):
            kinds = (bool, int, float) if not isinstance(default, bool) else (bool,)
        if isinstance(default, tuple | list):
            kinds = (tuple, list)
        if not isinstance(config[name], kinds):
            return name
    return None
