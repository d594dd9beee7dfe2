# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Classifier-free guidance on motion."""

import pytest
import torch
from diffusers import DDIMScheduler
from support.pipeline_runs import STROKES, latents_of, record_inputs, seeded

from mcdiff_pipeline.conditioning import FrameConditions
from mcdiff_pipeline.denoising import MotionGuidance


@pytest.mark.parametrize("guidance_scale, batch_size", [(1.0, 2), (1.5, 4), (0.0, 4)])
def test_guidance_doubles_the_batch_of_the_unet_only_if_its_scale_is_not_1(
    tiny_pipeline, image, guidance_scale, batch_size
):
    calls = record_inputs(tiny_pipeline.unet)
    tiny_pipeline([image] * 2, STROKES, guidance_scale=guidance_scale, num_inference_steps=3)
    assert [len(call) for call in calls] == [batch_size] * 3 * 3
    assert tiny_pipeline.guidance_scale == guidance_scale


def test_guidance_extrapolates_from_the_still_to_the_moving_prediction(tiny_pipeline, image):
    # one DDIM step is affine in the prediction
    def next_frame(scale, **arguments):
        arguments = {"num_frames": 2, "num_inference_steps": 1, "guidance_scale": scale} | arguments
        return latents_of(tiny_pipeline, image, **arguments)[:, 1]

    still = next_frame(1.0, dense_flow=torch.zeros(1, 1, 2, 8, 8))
    moving = next_frame(1.0)
    assert (moving - still).abs().max() > 1e-3
    torch.testing.assert_close(next_frame(0.0), still, rtol=0, atol=1e-5)
    torch.testing.assert_close(next_frame(2.5), still + 2.5 * (moving - still), rtol=0, atol=1e-4)


def make_guidance(scale: float, base: bool, prediction_type: str = "epsilon") -> MotionGuidance:
    """Guidance of a model with one condition of one channel: 0 if still, 1 if moving."""
    still, moving = torch.zeros(2, 1, 3, 3), torch.ones(2, 1, 3, 3)
    moving_conditions = FrameConditions(moving, 2 * moving if base else None, None)
    still_conditions = FrameConditions(still, still if base else None, None)
    scheduler = DDIMScheduler(prediction_type=prediction_type)
    return MotionGuidance(scale, moving_conditions, still_conditions, 0.5, scheduler)


def test_conditions_are_those_of_the_still_branch_then_of_the_moving_branch():
    conditions = make_guidance(2.0, base=False).conditions
    assert conditions.shape == (4, 1, 3, 3)
    assert (conditions[:2] == 0).all() and (conditions[2:] == 1).all()


def test_without_a_base_both_branches_get_the_same_sample():
    sample, timestep = torch.randn(2, 1, 3, 3, generator=seeded()), torch.tensor(400)
    guidance = make_guidance(3.0, base=False)
    assert torch.equal(guidance.expand(sample, timestep), torch.cat([sample, sample]))
    still, moving = torch.randn(2, 2, 1, 3, 3, generator=seeded())
    torch.testing.assert_close(guidance.combine(torch.cat([still, moving]), timestep), still + 3 * (moving - still))


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_still_branch_is_restated_for_the_difference_of_the_moving_branch(prediction_type):
    # a perfect model of a known difference: both branches then predict the same, at any scale
    guidance = make_guidance(3.0, base=True, prediction_type=prediction_type)
    timestep = torch.tensor(400)
    signal = DDIMScheduler().alphas_cumprod[timestep]
    alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
    clean, noise = torch.randn(2, 2, 1, 3, 3, generator=seeded())

    def predict(difference, sample):
        found_noise = (sample - alpha * difference) / sigma
        answers = {
            "epsilon": found_noise,
            "sample": difference,
            "v_prediction": alpha * found_noise - sigma * difference,
        }
        return answers[prediction_type]

    moving_difference, still_difference = 0.5 * (clean - 2), 0.5 * clean  # bases 2 and 0, scale 0.5
    sample = alpha * moving_difference + sigma * noise
    still_sample, moving_sample = guidance.expand(sample, timestep).chunk(2)
    expected = predict(moving_difference, moving_sample)
    prediction = torch.cat([predict(still_difference, still_sample), expected])
    torch.testing.assert_close(guidance.combine(prediction, timestep), expected)
