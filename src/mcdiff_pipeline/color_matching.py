# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Colors of one frame of a video matched to those of another. This file needs torch only."""

import torch


# Frames whose mean color differs by more than this, white being 1, show something else, and are not matched. Over 63
# frames, the mean color of rollouts drifts by 0.02, in the worst case by 0.06.
LARGEST_DRIFT = 0.1
# Range of the ratio of contrasts that is matched.
CONTRASTS = (0.8, 1.25)


def color_match(frame: torch.Tensor, first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    How to bring the mean and the standard deviation of each color of a frame to those of the first frame (Reinhard et
    al. 2001, "Color Transfer between Images", in RGB).

    Args:
        frame (`torch.Tensor` of shape `(3, height, width)`): The frame, in [0, 1].
        first (`torch.Tensor` of shape `(3, any_height, any_width)`): The first frame, in [0, 1].

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: scale and shift of each color, float32 `[3, 1, 1]`: `scale * frame +
        shift` is matched. 1 and 0 if the mean color differs so much that the frames show something else.
    """
    frame, first = frame.float(), first.float()
    mean, goal = (image.mean(dim=(1, 2), keepdim=True) for image in (frame, first))
    if (mean - goal).abs().max() > LARGEST_DRIFT:
        return torch.ones_like(mean), torch.zeros_like(mean)
    contrast, wanted = (image.std(dim=(1, 2), keepdim=True).clamp_min(1e-3) for image in (frame, first))
    scale = (wanted / contrast).clamp(*CONTRASTS)
    return scale, goal - scale * mean
