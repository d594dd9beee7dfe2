# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Drift: how far the frames of a long rollout get from their start in color, sharpness and still regions."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .image import psnr
from .st_lpips import STLPIPS


# Distance in pixels, at 128 pixels on the shorter side, that still regions keep from everything that moves. It leaves
# out the outlines of masks and the spread of a latent cell.
MARGIN = 6
# Still regions with a smaller share of the image are not measured.
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class DriftMeasurement:
    """One frame of a long rollout, compared with the start frame.

    Args:
        color (`float`): largest relative change of the mean of a color channel.
        sharpness (`float`): mean magnitude of the Laplacian, divided by the same mean of the start frame.
        still_st_lpips (`float`): ST-LPIPS over the still region; NaN where that region is too small.
        still_psnr (`float`): PSNR over the still region in dB; NaN where that region is too small.
    """

    color: float
    sharpness: float
    still_st_lpips: float
    still_psnr: float


def erode_still_region(still: torch.Tensor) -> torch.Tensor:
    """Removes a margin of 6 pixels (at 128 pixels on the shorter side) around everything that is not still.

    Args:
        still (`torch.Tensor`): bool `[B, H, W]`.

    Returns:
        `torch.Tensor`: bool `[B, H, W]`.
    """
    margin = round(MARGIN * min(still.shape[1:]) / 128)
    return ~F.max_pool2d((~still).float(), 2 * margin + 1, stride=1, padding=margin).bool()


def measure_drift(
    frames: Iterable[tuple[int, torch.Tensor]], start: torch.Tensor, still: torch.Tensor, st_lpips: STLPIPS
) -> dict[int, DriftMeasurement]:
    """Compares frames of one long rollout with its start frame.

    Args:
        frames (`Iterable[tuple[int, torch.Tensor]]`): numbers of frames, and frames `[1, 3, H, W]` in [0, 1].
        start (`torch.Tensor`): `[1, 3, H, W]` in [0, 1], the start frame.
        still (`torch.Tensor`): bool `[1, H, W]`, the region in which nothing moves.
        st_lpips (`STLPIPS`): the perceptual distance.

    Returns:
        `dict[int, DriftMeasurement]`: the measurement of each frame by its number.
    """
    enough = still.float().mean() >= LEAST_SHARE
    drift = {}
    for number, frame in frames:
        means = frame.mean(dim=(2, 3)) / start.mean(dim=(2, 3)).clamp_min(1e-3)
        drift[number] = DriftMeasurement(
            color=float((means - 1).abs().max()),
            sharpness=_sharpness(frame) / max(_sharpness(start), 1e-6),
            still_st_lpips=float(st_lpips(frame, start, where=still)) if enough else float("nan"),
            still_psnr=float(psnr(frame, start, still)) if enough else float("nan"),
        )
    return drift


def _sharpness(image: torch.Tensor) -> float:
    """Mean magnitude of the Laplacian of the gray image."""
    gray = image.mean(dim=1, keepdim=True)
    kernel = gray.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(gray, kernel).abs().mean())
