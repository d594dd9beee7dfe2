# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The motion of a step in which nothing moves on its own: what sources of motion start from without strokes."""

import torch

from ..layers import LayerMotion
from ..rollout import Motion, RolloutState
from ..similarity import identity_similarity


def still_motion(state: RolloutState) -> Motion:
    """The motion of a step in which nothing moves and no stroke says anything."""
    batch, _, height, width = state.latents.shape
    device = state.latents.device
    flow = torch.zeros(batch, 2, height, width, device=device)
    mask = torch.zeros(batch, 1, height, width, dtype=torch.bool, device=device)
    if state.layers is None:
        return Motion(flow, flow, mask)
    number = state.layers.shares.shape[1]
    identity = identity_similarity(batch, number).to(device)
    own = torch.zeros(batch, number, 2, height, width, device=device)
    return Motion(flow, flow, mask, LayerMotion(own, identity))
