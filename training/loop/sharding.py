"""Weights and optimizer states of which each process holds a part (FSDP), and the same as a whole.

FSDP 2 keeps a parameter as a `DTensor`, whose first axis is split over the processes. Averaging works on the parts as
they are. What is validated or saved is put together again, so that a checkpoint is that of one process, whoever wrote
it. All functions that put together or split have to be called by all processes at once.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor


def names_of_blocks(model: nn.Module) -> list[str]:
    """Classes of the blocks that diffusers' models in `model` are best split at; none where they name none.

    Each such block becomes a unit of FSDP, whose weights are together only while it is at work.
    """
    modules = list(model.modules())
    named = {name for module in modules for name in getattr(module, "_no_split_modules", None) or ()}
    return sorted(named & {type(module).__name__ for module in modules})


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor put together of its parts; itself if it is no `DTensor`."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: torch.Tensor, parameter: DTensor) -> DTensor:
    """A whole tensor of the shape of `parameter`, split and placed as that is."""
    tensor = tensor.detach().to(parameter.device).contiguous()
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)


@torch.no_grad()
def put_together(parts: Iterable[DTensor], tensors: Iterable[torch.Tensor]) -> None:
    """Writes each of `parts` as a whole into the tensor in its place, one at a time."""
    for part, tensor in zip(parts, tensors, strict=True):
        tensor.copy_(whole(part))


@torch.no_grad()
def split(tensors: Iterable[torch.Tensor], parts: Iterable[DTensor]) -> None:
    """Writes each of the whole tensors into the parts in its place."""
    for tensor, part in zip(tensors, parts, strict=True):
        part.copy_(split_like(tensor, part))


def whole_optimizer_state(optimizer: torch.optim.Optimizer, keep: bool) -> dict:
    """The `state_dict` that the optimizer would have in one process, in the memory of the CPU.

    Args:
        keep (`bool`): whether this process wants it; the others only take part, and have nothing of use returned.
    """

    def put_together_and_kept(value):
        value = whole(value)
        if not keep:
            return None
        # In the layout that the weights have in one process, which the optimizer goes by.
        layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
        return value.to("cpu", memory_format=layout)

    state = optimizer.state_dict()
    whole_state = {
        number: {
            name: put_together_and_kept(value) if isinstance(value, torch.Tensor) else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return state | {"state": whole_state}


def load_whole_optimizer_state(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Takes over the `state_dict` of the same optimizer in one process."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    split_state = {
        number: {
            name: split_like(value, parameters[number])
            if isinstance(value, torch.Tensor) and value.shape == parameters[number].shape
            else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": split_state})
