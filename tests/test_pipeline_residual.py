"""A G that denoises the difference from one of its conditions."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from support.tiny_models import make_pipeline

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.pipeline_mcdiff import splat_latents, splat_picture


STROKES = [Stroke([(10, 10), (34, 26)])]
NAMES = ("previous_frame", "dense_flow", "splatted_frame")


def seeded():
    return torch.Generator().manual_seed(0)


def make_scheduler(prediction_type, cls=DDIMScheduler):
    options = {} if cls is EulerDiscreteScheduler else {"clip_sample": False}
    return cls(prediction_type=prediction_type, timestep_spacing="trailing", **options)


def latents_of(pipe, picture, **arguments):
    return pipe(picture, STROKES, generator=seeded(), output_type="latent", **arguments)


def test_nothing_predicted_is_the_splatted_frame(picture):
    pipe = make_pipeline(residual_condition="splatted_frame", residual_scale=2.0, scheduler=make_scheduler("sample"))
    torch.nn.init.zeros_(pipe.unet.conv_out.weight)
    torch.nn.init.zeros_(pipe.unet.conv_out.bias)
    output = latents_of(pipe, picture)
    for step in range(3):
        splatted, _ = splat_latents(output.frames[:, step], output.dense_flow[:, step], 4)
        torch.testing.assert_close(output.frames[:, step + 1], splatted)


def test_what_stands_still_stays_exactly_as_it_is(picture):
    pipe = make_pipeline(residual_condition="splatted_frame", residual_scale=2.0, scheduler=make_scheduler("sample"))
    torch.nn.init.zeros_(pipe.unet.conv_out.weight)
    torch.nn.init.zeros_(pipe.unet.conv_out.bias)
    frames = latents_of(pipe, picture, num_frames=8, dense_flow=torch.zeros(1, 7, 2, 8, 8)).frames
    torch.testing.assert_close(frames, frames[:, :1].expand_as(frames), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample", "epsilon"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_denoising_a_difference_can_give_the_frame_that_denoising_the_frame_gives(
    picture, scheduler, prediction_type, guidance_scale
):
    if scheduler is EulerDiscreteScheduler and prediction_type == "sample":
        pytest.skip("this scheduler of diffusers knows no prediction of the sample")
    whole = make_pipeline(NAMES, scheduler=make_scheduler(prediction_type, scheduler))
    parts = make_pipeline(
        NAMES, scheduler=make_scheduler(prediction_type, scheduler), residual_condition="splatted_frame"
    )
    of_frame = parts.unet.forward

    def of_difference(model_input, timestep, **arguments):
        """Answers for the difference by asking about the frame: that plus what is splatted."""
        splatted = model_input[:, -4:]
        signal = parts.scheduler.alphas_cumprod[timestep.long()]
        noisy = model_input[:, :4] + signal.sqrt() * splatted
        (found,) = of_frame(torch.cat([noisy, model_input[:, 4:]], dim=1), timestep, **arguments)
        if prediction_type == "v_prediction":
            found = found + (1 - signal).sqrt() * splatted
        return (found - splatted if prediction_type == "sample" else found,)

    parts.unet.forward = of_difference
    flow = torch.randn(1, 1, 2, 8, 8, generator=seeded()) * 4
    noise = torch.randn(1, 1, 4, 8, 8, generator=seeded())
    arguments = {"guidance_scale": guidance_scale, "num_inference_steps": 3, "num_frames": 2, "dense_flow": flow}
    found = latents_of(parts, picture, latents=noise, **arguments).frames

    # one noise is not one noisy frame for both: what the signal has of it at the first step is added
    splatted, _ = splat_latents(found[:, 0], flow[:, 0], 4)
    whole.scheduler.set_timesteps(3)
    first = whole.scheduler.timesteps[:1]
    signal = whole.scheduler.add_noise(splatted, torch.zeros_like(splatted), first) / whole.scheduler.init_noise_sigma
    expected = latents_of(whole, picture, latents=noise + signal[:, None], **arguments).frames
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_what_is_predicted_is_the_difference_times_the_scale(picture, scale):
    pipe = make_pipeline(residual_condition="splatted_frame", residual_scale=scale, scheduler=make_scheduler("sample"))
    torch.nn.init.zeros_(pipe.unet.conv_out.weight)
    torch.nn.init.constant_(pipe.unet.conv_out.bias, 0.6)
    output = latents_of(pipe, picture, num_frames=2)
    splatted, _ = splat_latents(output.frames[:, 0], output.dense_flow[:, 0], 4)
    torch.testing.assert_close(output.frames[:, 1], splatted + 0.6 / scale)


def test_scale_is_kept_with_the_model(picture, tmp_path):
    make_pipeline(residual_condition="start_frame", residual_scale=2.5).save_pretrained(tmp_path)
    config = MCDiffPipeline.from_pretrained(tmp_path).config
    assert (config.residual_condition, config.residual_scale) == ("start_frame", 2.5)
    assert make_pipeline().config.residual_condition is None


@pytest.mark.parametrize("scale", [0, -1.0, float("nan")])
def test_impossible_scale_is_refused(scale):
    with pytest.raises(ValueError, match=r"`residual_scale` is .*, but a difference is multiplied by more than 0"):
        make_pipeline(residual_scale=scale)


@pytest.mark.parametrize("name", ["dense_flow", "hole_mask", "start_picture", "next_frame"])
def test_a_difference_is_from_a_latent_that_the_unet_is_given(name):
    with pytest.raises(
        ValueError, match=rf"`residual_condition` is '{name}', but .* one of \['previous_frame', 'splat"
    ):
        make_pipeline(residual_condition=name)


# The start frame, splatted as a picture


def test_start_picture_is_splatted_before_it_is_encoded(picture):
    names = ("start_picture", "dense_flow")
    pipe = make_pipeline(names)
    calls = []
    pipe.unet.register_forward_pre_hook(lambda _, arguments: calls.append(arguments[0]))
    flows = torch.zeros(1, 3, 2, 8, 8)
    flows[:, 0, 0], flows[:, 1, 1] = 4, 2  # pixels: a cell to the right, then half a cell down
    picture = picture.crop((0, 0, 32, 32))
    pipe(picture, [], dense_flow=flows, num_inference_steps=1)
    pixels = torch.as_tensor(np.array(picture)).permute(2, 0, 1)[None] / 255
    for call, (right, down) in zip(calls, [(4, 0), (4, 2), (4, 2)], strict=True):
        flow = torch.tensor([right, down]).float().view(1, 2, 1, 1).expand(1, 2, 32, 32)
        carried = splat_picture(pixels, flow, 4)
        torch.testing.assert_close(carried[..., down:, right:], pixels[..., : 32 - down, : 32 - right])
        torch.testing.assert_close(call[:, 4:8], pipe.encode_image(carried), rtol=1e-4, atol=1e-4)


def test_an_outline_that_flow_tears_is_not_scattered_over_what_comes_into_sight():
    picture = torch.zeros(1, 1, 16, 64)
    picture[..., 24:40] = 1  # a white bar goes right, and its left outline, of 5 pixels here, only in part
    flow = torch.zeros(1, 2, 16, 64)
    flow[:, 0, :, 24:40] = 20
    flow[:, 0, :, 22:27] = torch.linspace(0, 20, 7)[1:-1]
    moved = splat_picture(picture, flow, 4)
    assert (moved[..., 50:58] > 0.9).all() and (moved[..., :20] < 0.1).all()
    assert moved[..., 28:42].max() < 0.2


def test_long_videos_of_nothing_new_end_as_they_began(picture):
    names = ("previous_frame", "dense_flow", "start_picture")
    pipe = make_pipeline(names, residual_condition="start_picture", scheduler=make_scheduler("sample"))
    torch.nn.init.zeros_(pipe.unet.conv_out.weight)
    torch.nn.init.zeros_(pipe.unet.conv_out.bias)
    there_and_back = torch.full((1, 40, 2, 8, 8), 1.5)
    there_and_back[:, 1::2] *= -1
    frames = latents_of(pipe, picture, num_frames=41, dense_flow=there_and_back).frames
    torch.testing.assert_close(frames[:, -1, :, 2:-2, 2:-2], frames[:, 0, :, 2:-2, 2:-2], rtol=1e-2, atol=1e-2)


def test_pictures_are_kept_only_where_they_are_needed(picture):
    for names, needed in ((NAMES, False), ((*NAMES, "start_picture"), True)):
        pipe = make_pipeline(names)
        start = pipe.start_rollout(pipe.prepare_images(picture)[0])
        assert (start.start_pictures is not None) == needed


def test_streams_and_guidance_go_through_the_start_picture(picture):
    names = (*NAMES, "start_picture")
    pipe = make_pipeline(names, residual_condition="start_picture", residual_scale=2.0)
    video = pipe(picture, STROKES, generator=seeded(), guidance_scale=2.0, output_type="np").frames[0]
    stream = pipe.stream(picture, STROKES, 4, generator=seeded(), guidance_scale=2.0, output_type="np")
    for expected, found in zip(video, stream, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
