# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A G that denoises the difference from one of its conditions."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.flow import splat_latents
from support.pipeline_runs import DRAG, seeded
from support.tiny_models import make_pipeline


NAMES = ("previous_frame", "dense_flow", "splatted_frame")


def make_scheduler(prediction_type, cls=DDIMScheduler):
    options = {} if cls is EulerDiscreteScheduler else {"clip_sample": False}
    return cls(prediction_type=prediction_type, timestep_spacing="trailing", **options)


def make_constant_pipeline(value=0.0, names=NAMES, **settings):
    """A pipeline whose G always predicts the same difference."""
    pipe = make_pipeline(names, scheduler=make_scheduler("sample"), **settings)
    torch.nn.init.zeros_(pipe.unet.conv_out.weight)
    torch.nn.init.constant_(pipe.unet.conv_out.bias, value)
    return pipe


def video_of(pipe, image, **arguments):
    return pipe(image, [DRAG], generator=seeded(), output_type="latent", **arguments)


def splatted(frames, dense_flow):
    """Latents splatted along flow in pixels."""
    return splat_latents(frames, dense_flow / 4)[0]


@pytest.mark.parametrize("value, scale", [(0.0, 2.0), (0.6, 0.5), (0.6, 4.0)])
def test_frame_is_the_base_plus_the_predicted_difference_over_the_scale(image, value, scale):
    pipe = make_constant_pipeline(value, residual_condition="splatted_frame", residual_scale=scale)
    output = video_of(pipe, image)
    for step in range(3):
        base = splatted(output.frames[:, step], output.dense_flow[:, step])
        torch.testing.assert_close(output.frames[:, step + 1], base + value / scale)


def test_still_video_stays_exactly_as_it_is(image):
    pipe = make_constant_pipeline(residual_condition="splatted_frame", residual_scale=2.0)
    frames = video_of(pipe, image, num_frames=8, dense_flow=torch.zeros(1, 7, 2, 8, 8)).frames
    torch.testing.assert_close(frames, frames[:, :1].expand_as(frames), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample", "epsilon"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_model_of_the_difference_can_give_the_frames_of_a_model_of_the_frame(
    image, scheduler, prediction_type, guidance_scale
):
    if scheduler is EulerDiscreteScheduler and prediction_type == "sample":
        pytest.skip("this scheduler of diffusers does not know this prediction type")
    whole = make_pipeline(NAMES, scheduler=make_scheduler(prediction_type, scheduler))
    parts = make_pipeline(
        NAMES, scheduler=make_scheduler(prediction_type, scheduler), residual_condition="splatted_frame"
    )
    of_frame = parts.unet.forward

    def of_difference(model_input, timestep, **arguments):
        """Predicts the difference with the model of the frame, which is the difference plus the splatted frame."""
        base = model_input[:, -4:]
        signal = parts.scheduler.alphas_cumprod[timestep.long()]
        noisy = model_input[:, :4] + signal.sqrt() * base
        (found,) = of_frame(torch.cat([noisy, model_input[:, 4:]], dim=1), timestep, **arguments)
        if prediction_type == "v_prediction":
            found = found + (1 - signal).sqrt() * base
        return (found - base if prediction_type == "sample" else found,)

    parts.unet.forward = of_difference
    flow = torch.randn(1, 1, 2, 8, 8, generator=seeded()) * 4
    noise = torch.randn(1, 1, 4, 8, 8, generator=seeded())
    arguments = {"guidance_scale": guidance_scale, "num_inference_steps": 3, "num_frames": 2, "dense_flow": flow}
    found = video_of(parts, image, latents=noise, **arguments).frames

    # the first noisy input of the model of the frame also holds a share of the splatted frame
    base = splatted(found[:, 0], flow[:, 0])
    whole.scheduler.set_timesteps(3)
    first = whole.scheduler.timesteps[:1]
    signal = whole.scheduler.add_noise(base, torch.zeros_like(base), first) / whole.scheduler.init_noise_sigma
    expected = video_of(whole, image, latents=noise + signal[:, None], **arguments).frames
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


def test_scale_is_saved_with_the_model(image, tmp_path):
    make_pipeline(residual_condition="splatted_frame", residual_scale=2.5).save_pretrained(tmp_path)
    config = MCDiffPipeline.from_pretrained(tmp_path).config
    assert (config.residual_condition, config.residual_scale) == ("splatted_frame", 2.5)
    assert make_pipeline().config.residual_condition is None


def test_long_video_from_the_start_picture_ends_as_it_began(image):
    names = ("previous_frame", "dense_flow", "start_picture")
    pipe = make_constant_pipeline(names=names, residual_condition="start_picture")
    flow = torch.full((1, 40, 2, 8, 8), 1.5)
    flow[:, 1::2] *= -1  # every second step undoes the step before
    frames = video_of(pipe, image, num_frames=41, dense_flow=flow).frames
    torch.testing.assert_close(frames[:, -1, :, 2:-2, 2:-2], frames[:, 0, :, 2:-2, 2:-2], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("names, needed", [(NAMES, False), ((*NAMES, "start_picture"), True)])
def test_state_holds_the_start_image_only_if_it_is_needed(image, names, needed):
    assert (make_pipeline(names).start(image).start_image is not None) == needed


def test_stream_with_guidance_uses_the_start_picture(image):
    names = (*NAMES, "start_picture")
    pipe = make_pipeline(names, residual_condition="start_picture", residual_scale=2.0)
    video = pipe(image, [DRAG], generator=seeded(), guidance_scale=2.0, output_type="np").frames[0]
    stream = pipe.stream(image, [DRAG], 4, generator=seeded(), guidance_scale=2.0, output_type="np")
    for expected, found in zip(video, stream, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
