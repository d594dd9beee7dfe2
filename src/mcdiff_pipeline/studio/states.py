# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The state of a frame as a file, without what all frames of a tree share.

`RolloutState.save` writes a state that stands alone. Here the picture, the masks and the latents of frame 0, which are
most of it, are left out: they are made again from the picture and the settings of the tree.
"""

import json
from dataclasses import fields, replace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..rollout import RolloutState


FORMAT, VERSION = "mcdiff studio state", "1"

# What the frame at the output size needs, and stepping does not.
_OF_OUTPUT = ("output_image", "output_shares")


def _tensors(state: RolloutState) -> dict[str, torch.Tensor]:
    """The tensors of a state and of its layers, by name."""
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    found = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    if state.layers is not None:
        found |= {f"layers.{name}": tensor for name, tensor in state.layers.tensors().items()}
    return found


def _own_tensors(state: RolloutState, start: RolloutState) -> dict[str, torch.Tensor]:
    """The tensors that are not those of frame 0."""
    shared = _tensors(start)
    own = {
        name: tensor
        for name, tensor in _tensors(state).items()
        if tensor is not shared.get(name) and name.rpartition(".")[2] not in _OF_OUTPUT
    }
    shares = "layers.shares"  # made once more where a camera begins
    if shares in own and shares in shared and torch.equal(own[shares], shared[shares]):
        del own[shares]
    return own


def state_bytes(state: RolloutState, start: RolloutState) -> bytes:
    """
    The content of a file of a state.

    Args:
        state (`RolloutState`): A state that was stepped to from `start`.
        start (`RolloutState`): The state at frame 0 of the same tree.
    """
    metadata = {"format": FORMAT, "version": VERSION, "frame": str(state.frame)}
    if state.layers is not None:
        metadata["labels"] = json.dumps(state.layers.labels)
    own = _own_tensors(state, start).items()
    copies = {name: one.detach().cpu().clone(memory_format=torch.contiguous_format) for name, one in own}
    return save(copies, metadata)


def state_from_bytes(content: bytes, start: RolloutState) -> RolloutState:
    """
    The state of a file.

    Args:
        content (`bytes`): What [`state_bytes`] gave.
        start (`RolloutState`): The state at frame 0 of the same tree.

    Raises:
        ValueError: If it is damaged, or of another tree or model.
    """
    try:
        metadata = _metadata(content)
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise ValueError("it does not say that it is a state")
        tensors: dict[str, Any] = load(content)
        # flow from the previous frame, which frame 0 does not have
        expected = {"dense_flow": start.accumulated_flow} | _tensors(start)
        if start.layers is not None:
            expected["layers.view"] = start.layers.similarities  # of a camera, which has not moved yet
        for name, tensor in tensors.items():
            like = expected.get(name)
            if like is None or tensor.shape != like.shape or tensor.dtype != like.dtype:
                raise ValueError(f"{name} does not fit the picture and the model")
        if "latents" not in tensors or (start.layers is not None and "layers.accumulated_flow" not in tensors):
            raise ValueError("it is not complete")
        layers = start.layers
        if layers is not None:
            labels: Any = json.loads(metadata["labels"])
            of_layers: dict[str, Any] = {
                name[7:]: tensors.pop(name) for name in list(tensors) if name.startswith("layers.")
            }
            layers = replace(
                layers,
                labels=tuple({str(key): int(value) for key, value in one.items()} for one in labels),
                **of_layers,
            )
            if len(labels) != len(start.latents):
                raise ValueError("its labels do not fit")
        state = replace(start, frame=int(metadata["frame"]), layers=layers, **tensors).to(start.latents.device)
        state.generator()  # reads the state of the noise
        return state
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"The state of the frame cannot be read: {error}.") from error


def _metadata(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: a little-endian `u64` length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + min(length, len(content))])
    return header.get("__metadata__", {})


def own_bytes(state: RolloutState, start: RolloutState | None = None) -> int:
    """Bytes of memory that a state takes, beside what it shares with frame 0 if that is given."""
    tensors = _tensors(state) if start is None else _own_tensors(state, start)
    return sum(tensor.nbytes for tensor in tensors.values())


def at_working_size(state: RolloutState) -> RolloutState:
    """The same state, whose frames are shown at the working size."""
    layers = None if state.layers is None else replace(state.layers, output_shares=None)
    return replace(state, output_image=None, layers=layers)


def at_output_size(state: RolloutState, start: RolloutState) -> RolloutState:
    """The inverse of [`at_working_size`], with the state at frame 0 of the same tree."""
    layers = state.layers
    if layers is not None and start.layers is not None:
        layers = replace(layers, output_shares=start.layers.output_shares)
    return replace(state, output_image=start.output_image, layers=layers)
