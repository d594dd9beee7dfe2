# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Classifier-free guidance on motion (Ho and Salimans 2022): away from the frame in which nothing moves."""

import torch
from diffusers.schedulers import KarrasDiffusionSchedulers

from .conditioning import FrameConditions


class MotionGuidance:
    """
    Two branches of one denoising step: one in which nothing moves, and one with the motion of the step.

    If G denoises the difference from a condition, the two branches denoise differences from different images. The
    input of the still branch is then moved by the offset between both, and its prediction is restated for the other
    difference, so that the result is the same as in a model that denoises the frame itself.

    Args:
        scale (`float`):
            How far to go from the prediction of the still branch to that of the moving branch. 1.0 stops there.
        moving (`FrameConditions`):
            Conditions of the step.
        still (`FrameConditions`):
            Conditions of the same step with [`~mcdiff_pipeline.rollout.Motion.still`].
        residual_scale (`float`):
            Factor on the difference that G denoises.
        scheduler ([`SchedulerMixin`]):
            The scheduler of the call.
    """

    def __init__(
        self,
        scale: float,
        moving: FrameConditions,
        still: FrameConditions,
        residual_scale: float,
        scheduler: KarrasDiffusionSchedulers,
    ):
        self.scale, self.scheduler = scale, scheduler
        self.conditions = torch.cat([still.tensor, moving.tensor])  # [2 * B, C', h, w]
        self.offset = None if moving.base is None else residual_scale * (still.base - moving.base)

    def expand(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The scaled noisy latents `[B, C, h, w]` as input of both branches, `[2 * B, C, h, w]`."""
        still = sample
        if self.offset is not None:
            still = sample - self._signal_level(timestep)[0] * self.offset
        return torch.cat([still, sample])

    def combine(self, prediction: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The guided prediction `[B, C, h, w]` from the predictions of both branches `[2 * B, C, h, w]`."""
        still, moving = prediction.chunk(2)
        if self.offset is not None:
            still = self._restate(still, timestep)
        return still + self.scale * (moving - still)

    def _restate(self, prediction: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """What is predicted of a sample, restated for that sample plus the offset."""
        prediction_type = self.scheduler.config.prediction_type
        if prediction_type == "v_prediction":
            return prediction - self._signal_level(timestep)[1] * self.offset
        if prediction_type == "sample":
            return prediction + self.offset
        return prediction  # the noise is the same

    def _signal_level(self, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """α and σ of the input of G at a timestep, `α * clean + σ * noise`. All schedulers scale their samples so."""
        signal = self.scheduler.alphas_cumprod.to(timestep.device)[timestep.long()]
        return signal.sqrt(), (1 - signal).sqrt()
