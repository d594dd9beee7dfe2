# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A call of the pipeline: its outputs, its loop over frames, its flow and its noise."""

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from mcdiff_pipeline import MCDiffPipelineOutput, Stroke
from mcdiff_pipeline.conditioning import FrameConditioner
from mcdiff_pipeline.flow import splat_image
from support.pipeline_runs import STROKES, latents_of, record_inputs, seeded
from support.tiny_models import (
    FULL_CONDITIONING,
    PAPER_CONDITIONING,
    make_deep_compression_autoencoder,
    make_flow_completion,
    make_pipeline,
    make_tiny_autoencoder,
    make_unet,
    make_vae,
    make_vq_model,
)


# Outputs


def test_video_starts_at_the_image_and_has_the_given_number_of_frames(tiny_pipeline, image):
    output = tiny_pipeline(image, STROKES, num_frames=5)
    assert isinstance(output, MCDiffPipelineOutput)
    assert len(output.frames) == 1 and len(output.frames[0]) == 5
    assert all(isinstance(frame, PIL.Image.Image) and frame.size == (32, 32) for frame in output.frames[0])
    assert output.dense_flow.shape == (1, 4, 2, 8, 8)
    assert output.dense_flow.dtype == torch.float32


def test_output_types_hold_the_same_video(tiny_pipeline, image):
    outputs = {
        kind: tiny_pipeline([image, image.rotate(90)], STROKES, generator=seeded(), output_type=kind).frames
        for kind in ("pil", "np", "pt", "latent")
    }
    assert outputs["np"].shape == (2, 4, 32, 32, 3) and outputs["np"].dtype == np.float32
    assert outputs["pt"].shape == (2, 4, 3, 32, 32)
    assert outputs["latent"].shape == (2, 4, 4, 8, 8)
    assert 0 <= outputs["np"].min() and outputs["np"].max() <= 1
    assert np.array_equal(outputs["pt"].movedim(2, -1).numpy(), outputs["np"])
    pil = np.array([[np.array(frame) for frame in video] for video in outputs["pil"]])
    assert np.array_equal(pil, (outputs["np"] * 255).round().astype(np.uint8))
    decoded = tiny_pipeline.decode_latents(outputs["latent"][:, 1:].flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(decoded.detach(), outputs["pt"][:, 1:], rtol=0, atol=1e-5)


def test_tuple_and_dataclass_hold_the_same(tiny_pipeline, image):
    output = tiny_pipeline(image, STROKES, generator=seeded(), output_type="pt")
    frames, dense_flow = tiny_pipeline(image, STROKES, generator=seeded(), output_type="pt", return_dict=False)
    assert torch.equal(frames, output.frames)
    assert torch.equal(dense_flow, output.dense_flow)


def test_results_have_no_gradients(tiny_pipeline, image):
    output = tiny_pipeline(image, STROKES, output_type="latent")
    assert not output.frames.requires_grad and not output.dense_flow.requires_grad
    assert not tiny_pipeline.predict_flow(image, STROKES).requires_grad


@pytest.mark.parametrize("decode_chunk_size, batches", [(1, [2, 2, 2]), (2, [4, 2]), (8, [6])])
def test_decoding_in_chunks_gives_the_same_frames(tiny_pipeline, image, decode_chunk_size, batches):
    images = [image, image.rotate(180)]
    expected = tiny_pipeline(images, STROKES, generator=seeded(), output_type="pt").frames
    calls = record_inputs(tiny_pipeline.vae.decoder)
    found = tiny_pipeline(
        images, STROKES, generator=seeded(), output_type="pt", decode_chunk_size=decode_chunk_size
    ).frames
    assert [len(call) for call in calls] == batches
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_frames_of_a_batch_are_in_order(image):
    # each image has other flow in each step, so confusing images with steps would show
    pipe = make_pipeline()
    flows = torch.arange(6.0).view(2, 3, 1, 1, 1).expand(2, 3, 2, 8, 8)
    output = pipe([image] * 2, [], dense_flow=flows, generator=[seeded(1), seeded(2)], output_type="pt")
    for sample in range(2):
        alone = pipe(image, [], dense_flow=flows[sample : sample + 1], generator=seeded(sample + 1), output_type="pt")
        torch.testing.assert_close(output.frames[sample : sample + 1], alone.frames, rtol=0, atol=1e-4)


# The loop over frames


def test_image_is_encoded_once_and_frames_are_decoded_only_for_output(tiny_pipeline, image):
    encoded = record_inputs(tiny_pipeline.vae.encoder)
    decoded = record_inputs(tiny_pipeline.vae.decoder)
    tiny_pipeline(image, STROKES, num_frames=6, output_type="latent")
    assert (len(encoded), len(decoded)) == (1, 0)
    tiny_pipeline(image, STROKES, num_frames=6)
    assert (len(encoded), len(decoded)) == (2, 1)
    next(tiny_pipeline.stream(image, STROKES))
    assert (len(encoded), len(decoded)) == (3, 1)


def test_first_frame_is_the_scaled_latent_of_the_image(tiny_pipeline, image):
    images, _ = tiny_pipeline.prepare_images(image)
    expected = tiny_pipeline.encode_image(images)
    torch.testing.assert_close(latents_of(tiny_pipeline, image)[:, 0], expected)


def test_unet_gets_noise_and_conditions_in_the_order_of_the_config(image):
    names = ("dense_flow", "start_coverage", "previous_frame", "hole_mask", "splatted_frame")
    pipe = make_pipeline(conditioning=names, flow_scale=2.0)
    calls = record_inputs(pipe.unet)
    noise = torch.randn(1, 3, 4, 8, 8, generator=seeded())
    # one cell, two cells, then none, to the right
    flows = torch.zeros(1, 3, 2, 8, 8)
    flows[:, 0, 0], flows[:, 1, 0] = 4, 8
    output = pipe(image, [], latents=noise, dense_flow=flows, output_type="latent", num_inference_steps=2)
    first_calls = torch.stack(calls[::2], dim=1)
    latent, flow, coverage, previous, hole, splatted = first_calls.split([4, 2, 1, 4, 1, 4], dim=2)

    assert torch.equal(latent, noise)
    assert torch.equal(flow, flows / 4 / 2)
    assert torch.equal(previous, output.frames[:, :-1])
    for step, moved in enumerate((1, 3, 3)):
        assert (coverage[0, step, 0, :, :moved] == 0).all() and (coverage[0, step, 0, :, moved:] == 1).all()
    torch.testing.assert_close(splatted[:, 1, ..., 2:], output.frames[:, 1, ..., :-2])
    assert (splatted[:, 1, ..., :2] == 0).all()
    assert hole[0, 1, 0, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_unet_gets_the_start_picture_splatted_along_the_accumulated_flow(image):
    pipe = make_pipeline(("start_picture", "dense_flow"))
    calls = record_inputs(pipe.unet)
    image = image.crop((0, 0, 32, 32))
    flows = torch.zeros(1, 3, 2, 8, 8)
    flows[:, 0, 0], flows[:, 1, 1] = 4, 2  # pixels: a cell to the right, then half a cell down
    pipe(image, [], dense_flow=flows, num_inference_steps=1)
    pixels = torch.as_tensor(np.array(image)).permute(2, 0, 1)[None] / 255
    for call, (right, down) in zip(calls, [(4, 0), (4, 2), (4, 2)], strict=True):
        flow = torch.tensor([right, down]).float().view(1, 2, 1, 1).expand(1, 2, 32, 32)
        moved = splat_image(pixels, flow, 4)
        torch.testing.assert_close(call[:, 4:8], pipe.encode_image(moved), rtol=1e-4, atol=1e-4)


def test_flow_completion_reads_each_new_frame(image):
    pipe = make_pipeline()
    calls = record_inputs(pipe.flow_completion)
    frames = latents_of(pipe, image)
    assert torch.equal(torch.stack(calls, dim=1), frames[:, :-1])


def test_strokes_change_the_video(tiny_pipeline, image):
    moved, free = latents_of(tiny_pipeline, image), latents_of(tiny_pipeline, image, strokes=[])
    assert torch.equal(moved[:, 0], free[:, 0])
    assert (moved[:, 1:] - free[:, 1:]).abs().max() > 1e-4


def test_call_does_not_change_configuration_and_weights(tiny_pipeline, image):
    before = dict(tiny_pipeline.config)
    weights = {name: p.clone() for name, p in tiny_pipeline.unet.state_dict().items()}
    tiny_pipeline(image, STROKES, height=40, width=48, guidance_scale=2.0, num_inference_steps=3)
    assert dict(tiny_pipeline.config) == before
    assert all(torch.equal(p, weights[name]) for name, p in tiny_pipeline.unet.state_dict().items())


def test_defaults_come_from_the_configuration(image):
    pipe = make_pipeline(
        default_height=16,
        default_width=24,
        default_num_frames=3,
        default_num_inference_steps=4,
        default_guidance_scale=2.0,
    )
    calls = record_inputs(pipe.unet)
    frames = pipe(image.resize((48, 32)), []).frames[0]
    assert len(frames) == 3 and frames[0].size == (24, 16)
    assert len(calls) == 2 * 4 and len(calls[0]) == 2
    assert pipe.guidance_scale == 2.0


# Flow, of the model or given


@pytest.mark.parametrize("conditioning", [PAPER_CONDITIONING, FULL_CONDITIONING])
def test_predicted_flow_is_the_first_flow_of_a_video(image, conditioning):
    pipe = make_pipeline(conditioning)
    calls = record_inputs(pipe.unet)
    flow = pipe.predict_flow(image, STROKES)
    assert calls == []
    assert flow.shape == (1, 2, 8, 8) and flow.dtype == torch.float32
    assert torch.equal(flow, pipe(image, STROKES).dense_flow[:, 0])


def test_predicted_flow_follows_the_strokes_of_the_named_step(tiny_pipeline, image):
    late = [Stroke([(10, 10), (34, 26)], start_frame=2)]
    free = tiny_pipeline.predict_flow(image, [])
    assert torch.equal(tiny_pipeline.predict_flow(image, late, frame=1), free)
    assert not torch.equal(tiny_pipeline.predict_flow(image, late, frame=2), free)


def test_given_flow_replaces_flow_completion_only_in_its_steps(tiny_pipeline, image):
    completed = record_inputs(tiny_pipeline.flow_completion)
    given = torch.full((1, 2, 8, 8), 3.0)
    flows = tiny_pipeline(image, STROKES, dense_flow=[None, given], generator=seeded()).dense_flow
    assert len(completed) == 2
    assert torch.equal(flows[:, 1], given)
    free = tiny_pipeline(image, STROKES, generator=seeded()).dense_flow
    assert torch.equal(flows[:, 0], free[:, 0])
    assert not torch.equal(flows[:, 2], free[:, 2])


def test_given_flow_may_be_shorter_than_the_video(tiny_pipeline, image):
    completed = record_inputs(tiny_pipeline.flow_completion)
    given = torch.randn(1, 2, 2, 8, 8, generator=seeded())
    flows = tiny_pipeline(image, STROKES, dense_flow=given).dense_flow
    assert len(completed) == 1
    assert torch.equal(flows[:, :2], given)


def test_flow_of_a_video_makes_the_same_video_again(tiny_pipeline, image):
    output = tiny_pipeline(image, STROKES, generator=seeded(), output_type="latent")
    again = latents_of(tiny_pipeline, image, strokes=[], dense_flow=output.dense_flow)
    assert torch.equal(again, output.frames)


def test_flow_on_the_pixels_is_resized_to_the_latent_grid_and_stays_in_pixels(tiny_pipeline, image):
    given = torch.zeros(1, 3, 2, 40, 48)
    given[:, :, 0], given[:, :, 1] = 6.0, torch.arange(40.0)[:, None]
    flows = tiny_pipeline(image, [], height=40, width=48, dense_flow=given, num_inference_steps=1).dense_flow
    assert flows.shape == (1, 3, 2, 10, 12)
    torch.testing.assert_close(flows[:, :, 0], torch.full((1, 3, 10, 12), 6.0))
    torch.testing.assert_close(flows[:, :, 1], (torch.arange(10.0) * 4 + 1.5)[:, None].expand(1, 3, 10, 12))


def test_given_flow_may_have_any_floating_dtype(tiny_pipeline, image):
    given = torch.full((1, 3, 2, 8, 8), 3.0, dtype=torch.float64)
    assert torch.equal(tiny_pipeline(image, [], dense_flow=given).dense_flow, given.float())


# Noise


def test_generator_makes_the_video_reproducible(tiny_pipeline, image):
    assert torch.equal(latents_of(tiny_pipeline, image), latents_of(tiny_pipeline, image))
    other = latents_of(tiny_pipeline, image, generator=seeded(1))
    assert not torch.equal(latents_of(tiny_pipeline, image), other)


def test_noise_differs_from_frame_to_frame(tiny_pipeline, image):
    calls = record_inputs(tiny_pipeline.unet)
    latents_of(tiny_pipeline, image, num_inference_steps=1)
    noise = [call[:, :4] for call in calls]
    assert not torch.equal(noise[0], noise[1]) and not torch.equal(noise[1], noise[2])


def test_given_noise_gives_exactly_the_same_video(tiny_pipeline, image):
    generator = seeded(7)
    noise = torch.stack([torch.randn(1, 4, 8, 8, generator=generator) for _ in range(3)], dim=1)
    expected = tiny_pipeline(image, STROKES, generator=seeded(7), output_type="pt")
    for _ in range(2):
        found = tiny_pipeline(image, STROKES, latents=noise, output_type="pt")
        assert torch.equal(found.frames, expected.frames)
        assert torch.equal(found.dense_flow, expected.dense_flow)


@pytest.mark.parametrize(
    "scheduler, arguments", [(DDIMScheduler, {}), (DDIMScheduler, {"eta": 1.0}), (LCMScheduler, {})]
)
def test_image_in_a_batch_of_three_gives_the_video_that_it_gives_alone(image, scheduler, arguments):
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    images = [image, image.rotate(90), image.rotate(180)]
    strokes = [STROKES, [], STROKES[:1]]
    arguments = {"output_type": "pt", "height": 32, "width": 32} | arguments
    batch = pipe(images, strokes, generator=[seeded(seed) for seed in range(3)], **arguments)
    for sample in range(3):
        alone = pipe(images[sample], [strokes[sample]], generator=[seeded(sample)], **arguments)
        torch.testing.assert_close(batch.frames[sample], alone.frames[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(batch.dense_flow[sample], alone.dense_flow[0], rtol=0, atol=1e-4)


def test_eta_adds_noise_from_the_generator(tiny_pipeline, image):
    noisy = latents_of(tiny_pipeline, image, eta=1.0)
    assert torch.equal(noisy, latents_of(tiny_pipeline, image, eta=1.0))
    assert not torch.equal(noisy, latents_of(tiny_pipeline, image))


# Other components


@pytest.mark.parametrize(
    "make, channels", [(make_tiny_autoencoder, 4), (make_vq_model, 3), (make_deep_compression_autoencoder, 4)]
)
def test_other_autoencoders_can_be_used(image, make, channels):
    conditioner = FrameConditioner(PAPER_CONDITIONING, latent_channels=channels, vae_scale_factor=4)
    unet = make_unet(conditioner.in_channels, out_channels=channels)
    pipe = make_pipeline(
        PAPER_CONDITIONING, vae=make(), unet=unet, flow_completion=make_flow_completion(in_channels=channels)
    )
    frames = pipe(image, STROKES, num_inference_steps=1, output_type="pt").frames
    assert frames.shape == (1, 4, 3, 32, 32) and frames.isfinite().all()
    assert latents_of(pipe, image).shape == (1, 4, channels, 8, 8)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_cell_size_comes_from_the_autoencoder(image, levels):
    vae = make_vae(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    cell = 2 ** (levels - 1)
    pipe = make_pipeline(vae=vae, flow_completion=make_flow_completion(vae_scale_factor=cell))
    assert pipe.vae_scale_factor == cell and pipe.size_multiple == 2 * cell
    output = pipe(image, STROKES, height=32, width=32, num_frames=2, num_inference_steps=1, output_type="pt")
    assert output.frames.shape == (1, 2, 3, 32, 32)
    assert output.dense_flow.shape == (1, 1, 2, 32 // cell, 32 // cell)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        UniPCMultistepScheduler,
        EulerDiscreteScheduler,
        EulerAncestralDiscreteScheduler,
        HeunDiscreteScheduler,
        LCMScheduler,
    ],
)
def test_schedulers_can_be_exchanged(image, scheduler, prediction_type):
    pipe = make_pipeline(PAPER_CONDITIONING)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, prediction_type=prediction_type)
    frames = latents_of(pipe, image, num_frames=3, num_inference_steps=3)
    assert frames.shape == (1, 3, 4, 8, 8) and frames.isfinite().all()
    # some schedulers keep their last steps; these must not reach the next frame or the next call
    assert torch.equal(latents_of(pipe, image, num_frames=3, num_inference_steps=3), frames)


def test_scheduler_scales_the_input_of_the_unet(image):
    pipe = make_pipeline(PAPER_CONDITIONING)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    calls = record_inputs(pipe.unet)
    latents = torch.randn(1, 1, 4, 8, 8, generator=seeded())
    pipe(image, [], num_frames=2, num_inference_steps=2, latents=latents)
    # the scheduler scales the noisy latent to unit variance, and not the conditions
    sigma = pipe.scheduler.init_noise_sigma
    scale = (pipe.scheduler.sigmas[0] ** 2 + 1) ** 0.5
    torch.testing.assert_close(calls[0][:, :4], latents[:, 0] * sigma / scale)
    assert torch.equal(calls[0][:, 4:8], calls[1][:, 4:8])
