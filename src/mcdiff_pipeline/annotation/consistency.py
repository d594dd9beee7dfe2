# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Forward-backward consistency check of optical flow, and the occlusion that follows from it."""

import numpy as np
import torch

from ..flow import backward_warp


def forward_backward_consistency(forward: np.ndarray, backward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds pixels that are occluded in the second frame, or whose flow is wrong.

    Let w be the forward flow at a pixel, and w' the backward flow at the end of w. The pixel is occluded if
    `|w + w'|² > 0.01 (|w|² + |w'|²) + 0.5` (Sundaram, Brox & Keutzer, "Dense point trajectories by GPU-accelerated
    large displacement optical flow", ECCV 2010), or if w leaves the image.

    Args:
        forward (`np.ndarray`): float32 `[B, 2, H, W]`, flow in pixels from the first frames to the second.
        backward (`np.ndarray`): float32 `[B, 2, H, W]`, flow in pixels from the second frames to the first.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: occlusion, bool `[B, H, W]`, at pixels of the first frames; and confidence,
        float32 `[B, H, W]`: 1 where both flows agree, 1/2 where both sides of the inequality are equal, 0 outside the
        image. Confidence is our addition: `2 ** -(left side / right side)`, so it is below 1/2 at occluded pixels and
        only there.

    Raises:
        ValueError: if `forward` and `backward` are not flows of the same shape.
    """
    for name, flow in (("forward", forward), ("backward", backward)):
        if flow.ndim != 4 or flow.shape[1] != 2 or flow.shape != forward.shape:
            raise ValueError(
                f"`{name}` has shape {flow.shape}, but [B, 2, H, W], the same for both directions, is needed."
            )
    occlusion = leaves_image(forward)
    confidence = np.empty(occlusion.shape, dtype=np.float32)
    # One pair at a time, so that intermediate results fit the caches of the processor.
    for number, (flow, flow_back) in enumerate(zip(forward, backward)):
        back = backward_warp(torch.from_numpy(flow_back)[None], torch.from_numpy(flow)[None])[0].numpy()
        gap = np.square(flow + back).sum(axis=0)
        allowed = 0.01 * (np.square(flow).sum(axis=0) + np.square(back).sum(axis=0)) + 0.5
        np.exp2(-gap / allowed, out=confidence[number])
        confidence[number][occlusion[number]] = 0
        occlusion[number] |= gap > allowed
    return occlusion, confidence


def leaves_image(flow: np.ndarray) -> np.ndarray:
    """Finds pixels whose flow ends outside the image.

    Args:
        flow (`np.ndarray`): float32 `[B, 2, H, W]`, in pixels.

    Returns:
        `np.ndarray`: bool `[B, H, W]`; also True where the flow is NaN.
    """
    height, width = flow.shape[2:]
    # Pixel x covers [x, x + 1), so the image ends half a pixel beyond the centers of its border pixels. These bounds
    # on the flow are exact in float32; the end point x + u would be rounded.
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    u, v = flow[:, 0], flow[:, 1]
    return ~((u >= -0.5 - x) & (u < width - 0.5 - x) & (v >= -0.5 - y) & (v < height - 0.5 - y))
