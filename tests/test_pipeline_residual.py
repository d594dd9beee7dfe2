"""A G that denoises the difference from the splatted frame: `residual_scale`."""

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from tiny_models import make_pipeline

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.pipeline_mcdiff import splat_latents


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
    pipe = make_pipeline(residual_scale=2.0, scheduler=make_scheduler("sample"))
    torch.nn.init.zeros_(pipe.unet.conv_out.weight)
    torch.nn.init.zeros_(pipe.unet.conv_out.bias)
    output = latents_of(pipe, picture)
    for step in range(3):
        splatted, _ = splat_latents(output.frames[:, step], output.dense_flow[:, step], 4)
        torch.testing.assert_close(output.frames[:, step + 1], splatted)


def test_what_stands_still_stays_exactly_as_it_is(picture):
    pipe = make_pipeline(residual_scale=2.0, scheduler=make_scheduler("sample"))
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
    parts = make_pipeline(NAMES, scheduler=make_scheduler(prediction_type, scheduler), residual_scale=1.0)
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
    pipe = make_pipeline(residual_scale=scale, scheduler=make_scheduler("sample"))
    torch.nn.init.zeros_(pipe.unet.conv_out.weight)
    torch.nn.init.constant_(pipe.unet.conv_out.bias, 0.6)
    output = latents_of(pipe, picture, num_frames=2)
    splatted, _ = splat_latents(output.frames[:, 0], output.dense_flow[:, 0], 4)
    torch.testing.assert_close(output.frames[:, 1], splatted + 0.6 / scale)


def test_scale_is_kept_with_the_model(picture, tmp_path):
    pipe = make_pipeline(residual_scale=2.5)
    pipe.save_pretrained(tmp_path)
    again = MCDiffPipeline.from_pretrained(tmp_path)
    assert again.config.residual_scale == 2.5
    assert make_pipeline().config.residual_scale is None


@pytest.mark.parametrize("scale", [0, -1.0, float("nan")])
def test_impossible_scale_is_refused(scale):
    with pytest.raises(ValueError, match=r"`residual_scale` is .*, but it has to be positive, or None"):
        make_pipeline(residual_scale=scale)


def test_differences_need_a_flow_completion():
    with pytest.raises(ValueError, match=r"`flow_completion` is None, but \['residual_scale'\]"):
        make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None, residual_scale=1.0)
