"""Sharded tensors (FSDP 2) to full tensors and back.

FSDP 2 keeps each parameter as a `DTensor`, whose first axis is split over the processes. Averaging works on the
shards. Validation and checkpoints need full tensors, so that a checkpoint is the same as one from a single process.
All processes have to call each of these functions together.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor


def block_class_names(model: nn.Module) -> list[str]:
    """Names of the block classes that diffusers' models want to keep unsplit (`_no_split_modules`), sorted.

    Each such block becomes one unit of FSDP. Its weights are gathered only while it computes.
    """
    modules = list(model.modules())
    named = {name for module in modules for name in getattr(module, "_no_split_modules", None) or ()}
    return sorted(named & {type(module).__name__ for module in modules})


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a `DTensor`; other tensors are returned unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: torch.Tensor, parameter: DTensor) -> DTensor:
    """Shards a full tensor with the shape of `parameter` in the same way as `parameter`."""
    tensor = tensor.detach().to(parameter.device).contiguous()
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)


@torch.no_grad()
def gather(shards: Iterable[DTensor], tensors: Iterable[torch.Tensor]) -> None:
    """Copies the full tensor of each of `shards` into the matching one of `tensors`, one at a time."""
    for shard, tensor in zip(shards, tensors, strict=True):
        tensor.copy_(full_tensor(shard))


@torch.no_grad()
def scatter(tensors: Iterable[torch.Tensor], shards: Iterable[DTensor]) -> None:
    """Copies each of the full `tensors` into the matching one of `shards`."""
    for tensor, shard in zip(tensors, shards, strict=True):
        shard.copy_(shard_like(tensor, shard))


def _gathered_value(value: Any, keep: bool) -> Any:
    """A value of an optimizer's state, gathered into main memory; None for a tensor that is not kept."""
    if not isinstance(value, torch.Tensor):
        return value
    value = full_tensor(value)
    if not keep:
        return None
    # The memory layout that the weights have in a single process. The optimizer needs the same one.
    layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
    return value.to("cpu", memory_format=layout)


def gather_optimizer_state(optimizer: torch.optim.Optimizer, keep: bool) -> dict[str, Any]:
    """The `state_dict` that the optimizer would have in a single process, in main memory.

    Args:
        keep (`bool`): whether this process needs the result. Other processes take part and drop the tensors.
    """
    state = optimizer.state_dict()
    gathered = {
        number: {name: _gathered_value(value, keep) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return state | {"state": gathered}


def load_gathered_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads the `state_dict` of the same optimizer in a single process into an optimizer of shards."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    sharded = {
        number: {
            name: shard_like(value, parameters[number])
            if isinstance(value, torch.Tensor) and value.shape == parameters[number].shape
            else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": sharded})
