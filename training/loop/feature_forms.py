"""Forms of F that lack a part of how it reads semantic features, for ablations.

The model keeps its config. The part is set to a value with which it does nothing, and stays so in training.
"""

import torch

from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet


# Logit of a closed gate, and logarithm of a weight that is none.
CLOSED = -30.0


def close_gate(model: FlowCompletionUNet) -> None:
    """Leaves the flows by attention out of the output: features are input channels only."""
    gate = model.conv_attention_gate
    torch.nn.init.zeros_(gate.weight)
    torch.nn.init.constant_(gate.bias, CLOSED)
    gate.requires_grad_(False)


def close_channels(model: FlowCompletionUNet) -> None:
    """Leaves the input channels of features out: features act through the gate only."""
    weight = model.conv_in.weight
    mask = torch.ones_like(weight)
    mask[:, -model.stroke_attention.num_channels :] = 0
    with torch.no_grad():
        weight.mul_(mask)
    weight.register_hook(lambda gradient: gradient * mask.to(gradient.device))


def fix_kernel(model: FlowCompletionUNet) -> None:
    """Keeps the attention to strokes as it is in a new model: metric, temperature, threshold and locality."""
    model.stroke_attention.requires_grad_(False)


def close_locality(model: FlowCompletionUNet) -> None:
    """Leaves distance out of the attention to strokes: only what is alike counts."""
    locality = model.stroke_attention.log_locality
    torch.nn.init.constant_(locality, CLOSED)
    locality.requires_grad_(False)


WITHOUT = {
    "gate": close_gate,
    "channels": close_channels,
    "trained_kernel": fix_kernel,
    "locality": close_locality,
}
