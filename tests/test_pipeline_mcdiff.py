# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What the pipeline does with a picture and strokes: the roll-out, its outputs, its randomness, its callbacks."""

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
    VQModel,
)
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from support.tiny_models import FULL_CONDITIONING, make_flow_completion, make_pipeline, make_unet, make_vae

from mcdiff_pipeline import MCDiffPipelineOutput, Stroke
from mcdiff_pipeline.pipeline_mcdiff import conditioning_channels, frame_condition


STROKES = [Stroke([(10, 10), (34, 26)]), Stroke([(40, 30)], kind="hold")]
PAPER = ("previous_frame", "dense_flow")


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents_of(pipe, picture, strokes=STROKES, **arguments) -> torch.Tensor:
    arguments = {"generator": seeded(), "output_type": "latent"} | arguments
    return pipe(picture, strokes, **arguments).frames


def record_inputs(model) -> list[torch.Tensor]:
    """A list that fills with the first argument of every call of `model`."""
    calls = []
    model.register_forward_pre_hook(lambda _, arguments: calls.append(arguments[0].clone()))
    return calls


# Outputs


def test_video_starts_at_the_picture_and_has_as_many_frames_as_asked(tiny_pipeline, picture):
    output = tiny_pipeline(picture, STROKES, num_frames=5)
    assert isinstance(output, MCDiffPipelineOutput)
    assert len(output.frames) == 1 and len(output.frames[0]) == 5
    assert all(isinstance(frame, PIL.Image.Image) and frame.size == (32, 32) for frame in output.frames[0])
    assert output.dense_flow.shape == (1, 4, 2, 8, 8)
    assert output.dense_flow.dtype == torch.float32


def test_output_types_hold_the_same_video(tiny_pipeline, picture):
    outputs = {
        kind: tiny_pipeline([picture, picture.rotate(90)], STROKES, generator=seeded(), output_type=kind).frames
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


def test_tuple_and_dataclass_agree(tiny_pipeline, picture):
    output = tiny_pipeline(picture, STROKES, generator=seeded(), output_type="pt")
    frames, dense_flow = tiny_pipeline(picture, STROKES, generator=seeded(), output_type="pt", return_dict=False)
    assert torch.equal(frames, output.frames)
    assert torch.equal(dense_flow, output.dense_flow)


def test_nothing_carries_gradients(tiny_pipeline, picture):
    output = tiny_pipeline(picture, STROKES, output_type="latent")
    assert not output.frames.requires_grad and not output.dense_flow.requires_grad
    assert not tiny_pipeline.predict_flow(picture, STROKES).requires_grad


@pytest.mark.parametrize("decode_chunk_size, batches", [(1, [2, 2, 2]), (2, [4, 2]), (8, [6])])
def test_decoding_in_chunks_changes_nothing_but_the_batches(tiny_pipeline, picture, decode_chunk_size, batches):
    pictures = [picture, picture.rotate(180)]
    expected = tiny_pipeline(pictures, STROKES, generator=seeded(), output_type="pt").frames
    calls = record_inputs(tiny_pipeline.vae.decoder)
    found = tiny_pipeline(
        pictures, STROKES, generator=seeded(), output_type="pt", decode_chunk_size=decode_chunk_size
    ).frames
    assert [len(call) for call in calls] == batches
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_frames_keep_their_order_and_their_image(picture):
    # flows of the two images differ, so that any mix-up of batch and time would show
    pipe = make_pipeline()
    flows = torch.arange(6.0).view(2, 3, 1, 1, 1).expand(2, 3, 2, 8, 8)
    output = pipe([picture] * 2, [], dense_flow=flows, generator=[seeded(1), seeded(2)], output_type="pt")
    for sample in range(2):
        alone = pipe(
            picture, [], dense_flow=flows[sample : sample + 1], generator=seeded(sample + 1), output_type="pt"
        )
        torch.testing.assert_close(output.frames[sample : sample + 1], alone.frames, rtol=0, atol=1e-4)


# The loop


def test_picture_is_encoded_once_and_frames_are_decoded_only_to_be_shown(tiny_pipeline, picture):
    encoded = record_inputs(tiny_pipeline.vae.encoder)
    decoded = record_inputs(tiny_pipeline.vae.decoder)
    tiny_pipeline(picture, STROKES, num_frames=6, output_type="latent")
    assert (len(encoded), len(decoded)) == (1, 0)
    tiny_pipeline(picture, STROKES, num_frames=6)
    assert (len(encoded), len(decoded)) == (2, 1)
    next(tiny_pipeline.stream(picture, STROKES))
    assert (len(encoded), len(decoded)) == (3, 1)


def test_encoding_is_deterministic_and_in_the_scale_of_the_unet(tiny_pipeline, picture):
    pictures, _ = tiny_pipeline.prepare_images(picture)
    expected = tiny_pipeline.vae.encode(2 * pictures - 1).latent_dist.mode() * 0.18215
    torch.testing.assert_close(tiny_pipeline.encode_image(pictures), expected)
    torch.testing.assert_close(latents_of(tiny_pipeline, picture)[:, 0], expected)


def test_shift_of_the_latents_is_undone_by_decoding(picture):
    pipe = make_pipeline(vae=make_vae(shift_factor=0.3, scaling_factor=0.5))
    pictures, _ = pipe.prepare_images(picture)
    unscaled = pipe.vae.encode(2 * pictures - 1).latent_dist.mode()
    torch.testing.assert_close(pipe.encode_image(pictures), (unscaled - 0.3) * 0.5)
    expected = (pipe.vae.decode(unscaled).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(pipe.decode_latents(pipe.encode_image(pictures)), expected)


def test_unet_is_given_noise_and_conditions_in_the_order_of_the_config(picture):
    names = ("dense_flow", "start_frame", "previous_frame", "hole_mask", "splatted_frame")
    pipe = make_pipeline(conditioning=names, flow_scale=2.0)
    calls = record_inputs(pipe.unet)
    noise = torch.randn(1, 3, 4, 8, 8, generator=seeded())
    # one cell, two cells, then none, to the right
    flows = torch.zeros(1, 3, 2, 8, 8)
    flows[:, 0, 0], flows[:, 1, 0] = 4, 8
    output = pipe(picture, [], latents=noise, dense_flow=flows, output_type="latent", num_inference_steps=2)
    first_calls = torch.stack(calls[::2], dim=1)
    latent, flow, start, previous, hole, splatted = first_calls.split([4, 2, 4, 4, 1, 4], dim=2)

    assert torch.equal(latent, noise)
    assert torch.equal(flow, flows / 4 / 2)
    assert torch.equal(previous, output.frames[:, :-1])
    picture_latents = output.frames[:, 0]
    torch.testing.assert_close(start[:, 0, ..., 1:], picture_latents[..., :-1])
    torch.testing.assert_close(start[:, 1, ..., 3:], picture_latents[..., :-3])
    torch.testing.assert_close(start[:, 2, ..., 3:], picture_latents[..., :-3])
    assert (start[:, 1, ..., :3] == 0).all()
    torch.testing.assert_close(splatted[:, 1, ..., 2:], output.frames[:, 1, ..., :-2])
    assert (splatted[:, 1, ..., :2] == 0).all()
    assert hole[0, 1, 0, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_flow_completion_reads_each_new_frame(picture):
    pipe = make_pipeline()
    calls = record_inputs(pipe.flow_completion)
    frames = latents_of(pipe, picture)
    assert torch.equal(torch.stack(calls, dim=1), frames[:, :-1])


def test_strokes_move_the_video(tiny_pipeline, picture):
    moved, free = latents_of(tiny_pipeline, picture), latents_of(tiny_pipeline, picture, strokes=[])
    assert torch.equal(moved[:, 0], free[:, 0])
    assert (moved[:, 1:] - free[:, 1:]).abs().max() > 1e-4


def test_configuration_and_components_are_left_as_they_are(tiny_pipeline, picture):
    before = dict(tiny_pipeline.config)
    weights = {name: p.clone() for name, p in tiny_pipeline.unet.state_dict().items()}
    tiny_pipeline(picture, STROKES, height=40, width=48, guidance_scale=2.0, num_inference_steps=3)
    assert dict(tiny_pipeline.config) == before
    assert all(torch.equal(p, weights[name]) for name, p in tiny_pipeline.unet.state_dict().items())


def test_defaults_are_the_checkpoints(picture):
    pipe = make_pipeline(
        default_height=16,
        default_width=24,
        default_num_frames=3,
        default_num_inference_steps=4,
        default_guidance_scale=2.0,
    )
    calls = record_inputs(pipe.unet)
    frames = pipe(picture.resize((48, 32)), []).frames[0]
    assert len(frames) == 3 and frames[0].size == (24, 16)
    assert len(calls) == 2 * 4 and len(calls[0]) == 2
    assert pipe.guidance_scale == 2.0


def test_one_step_can_be_made_by_hand(tiny_pipeline, picture):
    expected = tiny_pipeline(picture, STROKES, generator=seeded(), output_type="latent")
    pictures, sizes = tiny_pipeline.prepare_images(picture)
    strokes, num_frames = tiny_pipeline.prepare_strokes(STROKES, sizes, *pictures.shape[2:])
    with torch.no_grad():
        start = tiny_pipeline.start_rollout(pictures)
        flow = tiny_pipeline.complete_flow(start.latents, strokes, 0, num_frames)
        noise = torch.randn(start.latents.shape, generator=seeded())
        rollout = tiny_pipeline.next_frame(start, flow, noise)
    assert rollout.frame == 1
    assert torch.equal(rollout.latents, expected.frames[:, 1])
    assert torch.equal(rollout.dense_flow, expected.dense_flow[:, 0])


# Conditions


def latent_grid(channels=4, height=6, width=8):
    return torch.randn(1, channels, height, width, generator=seeded())


def test_dense_flow_is_given_in_cells_over_the_flow_scale():
    flow = torch.randn(1, 2, 6, 8, generator=seeded()) * 20
    found = frame_condition(["dense_flow"], latent_grid(), flow, vae_scale_factor=4, flow_scale=5.0)
    torch.testing.assert_close(found, flow / 20)


def test_splatted_frame_moves_by_whole_cells_and_leaves_a_hole():
    frame, flow = latent_grid(), torch.zeros(1, 2, 6, 8)
    flow[:, 1] = 8  # two cells down
    splatted, hole = frame_condition(["splatted_frame", "hole_mask"], frame, flow, vae_scale_factor=4).split([4, 1], 1)
    torch.testing.assert_close(splatted[:, :, 2:], frame[:, :, :-2])
    assert (splatted[:, :, :2] == 0).all()
    assert (hole[:, :, :2] == 1).all() and (hole[:, :, 2:] == 0).all()


def test_the_faster_of_two_is_in_front():
    frame, flow = latent_grid(), torch.zeros(1, 2, 6, 8)
    flow[0, 0, 3, 2] = 8  # lands on the cell two to the right, which stays
    splatted = frame_condition(["splatted_frame"], frame, flow, vae_scale_factor=4)[0, :, 3, 4]
    mover, stayer = frame[0, :, 3, 2], frame[0, :, 3, 4]
    assert (splatted - mover).norm() < 0.3 * (splatted - stayer).norm()


def test_start_frame_follows_the_accumulated_flow():
    frame, start, flow = latent_grid(), latent_grid() + 1, torch.zeros(1, 2, 6, 8)
    flow[:, 0] = -4
    found = frame_condition(
        ["start_frame"], frame, torch.zeros_like(flow), vae_scale_factor=4, start_frame=start, accumulated_flow=flow
    )
    torch.testing.assert_close(found[..., :-1], start[..., 1:])
    assert (found[..., -1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_conditions_have_the_dtype_of_the_latents(dtype):
    frame, flow = latent_grid().to(dtype), torch.randn(1, 2, 6, 8, generator=seeded())
    arguments = {"vae_scale_factor": 4, "start_frame": frame, "accumulated_flow": flow}
    found = frame_condition(FULL_CONDITIONING, frame, flow, **arguments)
    assert found.dtype == dtype
    assert found.shape == (1, conditioning_channels(FULL_CONDITIONING, 4), 6, 8)


def test_conditions_pass_gradients_to_the_flow():
    # training end to end goes through here
    flow = torch.randn(1, 2, 6, 8, generator=seeded()).requires_grad_()
    frame_condition(
        ["dense_flow", "splatted_frame"], latent_grid(), flow, vae_scale_factor=4
    ).square().sum().backward()
    assert flow.grad.isfinite().all() and flow.grad.abs().max() > 0


# Flow: from the model, or given


@pytest.mark.parametrize("conditioning", [PAPER, FULL_CONDITIONING])
def test_predicted_flow_is_the_first_flow_of_a_video(picture, conditioning):
    pipe = make_pipeline(conditioning)
    calls = record_inputs(pipe.unet)
    flow = pipe.predict_flow(picture, STROKES)
    assert calls == []
    assert flow.shape == (1, 2, 8, 8) and flow.dtype == torch.float32
    assert torch.equal(flow, pipe(picture, STROKES).dense_flow[:, 0])


def test_predicted_flow_follows_the_strokes_of_the_named_step(tiny_pipeline, picture):
    late = [Stroke([(10, 10), (34, 26)], start_frame=2)]
    free = tiny_pipeline.predict_flow(picture, [])
    assert torch.equal(tiny_pipeline.predict_flow(picture, late, frame=1), free)
    assert not torch.equal(tiny_pipeline.predict_flow(picture, late, frame=2), free)


def test_given_flow_replaces_the_model_in_its_steps_only(tiny_pipeline, picture):
    completed = record_inputs(tiny_pipeline.flow_completion)
    given = torch.full((1, 2, 8, 8), 3.0)
    flows = tiny_pipeline(picture, STROKES, dense_flow=[None, given], generator=seeded()).dense_flow
    assert len(completed) == 2
    assert torch.equal(flows[:, 1], given)
    free = tiny_pipeline(picture, STROKES, generator=seeded()).dense_flow
    assert torch.equal(flows[:, 0], free[:, 0])
    assert not torch.equal(flows[:, 2], free[:, 2])


def test_given_flow_may_be_shorter_than_the_video(tiny_pipeline, picture):
    completed = record_inputs(tiny_pipeline.flow_completion)
    given = torch.randn(1, 2, 2, 8, 8, generator=seeded())
    flows = tiny_pipeline(picture, STROKES, dense_flow=given).dense_flow
    assert len(completed) == 1
    assert torch.equal(flows[:, :2], given)


def test_flow_of_a_video_replays_it(tiny_pipeline, picture):
    output = tiny_pipeline(picture, STROKES, generator=seeded(), output_type="latent")
    again = latents_of(tiny_pipeline, picture, strokes=[], dense_flow=output.dense_flow)
    assert torch.equal(again, output.frames)


def test_flow_of_all_pixels_is_brought_to_the_latent_grid_in_pixels(tiny_pipeline, picture):
    given = torch.zeros(1, 3, 2, 40, 48)
    given[:, :, 0], given[:, :, 1] = 6.0, torch.arange(40.0)[:, None]
    flows = tiny_pipeline(picture, [], height=40, width=48, dense_flow=given, num_inference_steps=1).dense_flow
    assert flows.shape == (1, 3, 2, 10, 12)
    torch.testing.assert_close(flows[:, :, 0], torch.full((1, 3, 10, 12), 6.0))
    torch.testing.assert_close(flows[:, :, 1], (torch.arange(10.0) * 4 + 1.5)[:, None].expand(1, 3, 10, 12))


def test_given_flow_may_be_of_any_floating_dtype(tiny_pipeline, picture):
    given = torch.full((1, 3, 2, 8, 8), 3.0, dtype=torch.float64)
    assert torch.equal(tiny_pipeline(picture, [], dense_flow=given).dense_flow, given.float())


# Guidance on motion


@pytest.mark.parametrize("guidance_scale, batch_size", [(1.0, 2), (1.5, 4), (0.0, 4)])
def test_guidance_doubles_the_batch_and_its_absence_costs_nothing(tiny_pipeline, picture, guidance_scale, batch_size):
    calls = record_inputs(tiny_pipeline.unet)
    tiny_pipeline([picture] * 2, STROKES, guidance_scale=guidance_scale, num_inference_steps=3)
    assert [len(call) for call in calls] == [batch_size] * 3 * 3
    assert tiny_pipeline.guidance_scale == guidance_scale


def test_guidance_goes_from_the_prediction_for_no_flow_through_that_for_the_flow(tiny_pipeline, picture):
    # one DDIM step is affine in the prediction
    def next_frame(scale, **arguments):
        arguments = {"num_frames": 2, "num_inference_steps": 1, "guidance_scale": scale} | arguments
        return latents_of(tiny_pipeline, picture, **arguments)[:, 1]

    still = next_frame(1.0, dense_flow=torch.zeros(1, 1, 2, 8, 8))
    moving = next_frame(1.0)
    assert (moving - still).abs().max() > 1e-3
    torch.testing.assert_close(next_frame(0.0), still, rtol=0, atol=1e-5)
    torch.testing.assert_close(next_frame(2.5), still + 2.5 * (moving - still), rtol=0, atol=1e-4)


# Randomness


def test_generator_makes_the_video_reproducible(tiny_pipeline, picture):
    assert torch.equal(latents_of(tiny_pipeline, picture), latents_of(tiny_pipeline, picture))
    other = latents_of(tiny_pipeline, picture, generator=seeded(1))
    assert not torch.equal(latents_of(tiny_pipeline, picture), other)


def test_every_frame_draws_noise_of_its_own(tiny_pipeline, picture):
    calls = record_inputs(tiny_pipeline.unet)
    latents_of(tiny_pipeline, picture, num_inference_steps=1)
    noise = [call[:, :4] for call in calls]
    assert not torch.equal(noise[0], noise[1]) and not torch.equal(noise[1], noise[2])


def test_given_noise_replays_the_video_bit_for_bit(tiny_pipeline, picture):
    generator = seeded(7)
    noise = torch.stack([torch.randn(1, 4, 8, 8, generator=generator) for _ in range(3)], dim=1)
    expected = tiny_pipeline(picture, STROKES, generator=seeded(7), output_type="pt")
    for _ in range(2):
        found = tiny_pipeline(picture, STROKES, latents=noise, output_type="pt")
        assert torch.equal(found.frames, expected.frames)
        assert torch.equal(found.dense_flow, expected.dense_flow)


@pytest.mark.parametrize(
    "scheduler, arguments", [(DDIMScheduler, {}), (DDIMScheduler, {"eta": 1.0}), (LCMScheduler, {})]
)
def test_a_sample_in_a_batch_of_three_equals_the_same_sample_alone(picture, scheduler, arguments):
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pictures = [picture, picture.rotate(90), picture.rotate(180)]
    strokes = [STROKES, [], STROKES[:1]]
    arguments = {"output_type": "pt", "height": 32, "width": 32} | arguments
    batch = pipe(pictures, strokes, generator=[seeded(seed) for seed in range(3)], **arguments)
    for sample in range(3):
        alone = pipe(pictures[sample], [strokes[sample]], generator=[seeded(sample)], **arguments)
        torch.testing.assert_close(batch.frames[sample], alone.frames[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(batch.dense_flow[sample], alone.dense_flow[0], rtol=0, atol=1e-4)


def test_eta_adds_noise_from_the_generator(tiny_pipeline, picture):
    noisy = latents_of(tiny_pipeline, picture, eta=1.0)
    assert torch.equal(noisy, latents_of(tiny_pipeline, picture, eta=1.0))
    assert not torch.equal(noisy, latents_of(tiny_pipeline, picture))


# Callbacks


def test_callback_is_called_after_every_step_with_the_tensors_it_names(tiny_pipeline, picture):
    calls = []

    def callback(pipe, step, timestep, tensors):
        assert pipe is tiny_pipeline
        assert list(tensors) == pipe._callback_tensor_inputs
        calls.append((step, int(timestep), {name: tensor for name, tensor in tensors.items()}))
        return tensors

    expected = latents_of(tiny_pipeline, picture, num_inference_steps=2)
    output = tiny_pipeline(
        picture,
        STROKES,
        num_inference_steps=2,
        generator=seeded(),
        output_type="latent",
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=tiny_pipeline._callback_tensor_inputs,
    )
    assert torch.equal(output.frames, expected)
    assert [step for step, _, _ in calls] == list(range(6))
    assert [timestep for _, timestep, _ in calls] == tiny_pipeline.scheduler.timesteps.tolist() * 3
    for step, _, tensors in calls:
        frame = step // 2
        assert torch.equal(tensors["previous_latents"], output.frames[:, frame])
        assert torch.equal(tensors["dense_flow"], output.dense_flow[:, frame])
        assert tensors["prompt_embeds"] is None
        if step % 2 == 1:
            assert torch.equal(tensors["latents"], output.frames[:, frame + 1])


def test_callback_is_given_latents_unless_it_names_others(tiny_pipeline, picture):
    names = []
    tiny_pipeline(picture, [], callback_on_step_end=lambda *arguments: names.append(list(arguments[3])))
    assert names == [["latents"]] * 6


def test_callback_may_change_the_latents(tiny_pipeline, picture):
    def callback(pipe, step, timestep, tensors):
        return {"latents": torch.full_like(tensors["latents"], step)}

    frames = latents_of(tiny_pipeline, picture, callback_on_step_end=callback)
    assert (frames[:, 1] == 1).all() and (frames[:, 2] == 3).all() and (frames[:, 3] == 5).all()


def test_callbacks_of_diffusers_name_their_own_tensors(tiny_pipeline, picture):
    class Recorder(PipelineCallback):
        tensor_inputs = ["dense_flow"]

        def callback_fn(self, pipe, step, timestep, tensors):
            seen.append((step, list(tensors)))
            return tensors

    for callback in (Recorder(), MultiPipelineCallbacks([Recorder()])):
        seen = []
        tiny_pipeline(picture, [], callback_on_step_end=callback)
        assert seen == [(step, ["dense_flow"]) for step in range(6)]
        seen = []
        list(tiny_pipeline.stream(picture, [], num_frames=2, callback_on_step_end=callback))
        assert seen == [(step, ["dense_flow"]) for step in range(2)]


@pytest.mark.parametrize("step, frames_left", [(0, 1), (2, 2), (3, 3), (4, 3), (5, 4)])
def test_interrupt_ends_the_video_with_the_last_finished_frame(tiny_pipeline, picture, step, frames_left):
    def callback(pipe, current_step, timestep, tensors):
        pipe._interrupt = current_step == step
        steps.append(current_step)

    steps = []
    expected = latents_of(tiny_pipeline, picture)
    output = tiny_pipeline(picture, STROKES, generator=seeded(), output_type="latent", callback_on_step_end=callback)
    assert steps == list(range(step + 1))
    assert torch.equal(output.frames, expected[:, :frames_left])
    assert output.dense_flow.shape[1] == frames_left - 1
    assert len(tiny_pipeline(picture, STROKES).frames[0]) == 4  # the next call starts afresh


def test_interrupted_video_is_decoded(tiny_pipeline, picture):
    def callback(pipe, step, timestep, tensors):
        pipe._interrupt = True

    assert len(tiny_pipeline(picture, STROKES, callback_on_step_end=callback).frames[0]) == 1


@pytest.mark.parametrize("scheduler, calls_per_frame", [(DDIMScheduler, 3), (HeunDiscreteScheduler, 5)])
def test_num_timesteps_counts_the_whole_call(picture, scheduler, calls_per_frame):
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    steps = []
    pipe(picture, [], num_inference_steps=3, callback_on_step_end=lambda _, step, *rest: steps.append(step))
    assert pipe.num_timesteps == 3 * calls_per_frame
    assert steps == list(range(pipe.num_timesteps))


def test_progress_bars_are_named_and_nested_and_can_be_switched_off(tiny_pipeline, picture, capsys):
    tiny_pipeline(picture, [])
    assert capsys.readouterr().err == ""
    tiny_pipeline.set_progress_bar_config(disable=False)
    tiny_pipeline(picture, [])
    shown = capsys.readouterr().err
    assert "Frames: 100%" in shown and "3/3" in shown
    for frame in (1, 2, 3):
        assert f"Frame {frame}:   0%" in shown
    list(zip(range(3), tiny_pipeline.stream(picture, []), strict=False))
    assert "Frames: : 2it" in capsys.readouterr().err


# Other components


def make_tiny_autoencoder():
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=4,
    ).eval()


def make_vq_model():
    torch.manual_seed(0)
    return VQModel(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=3,
        num_vq_embeddings=32,
        norm_num_groups=4,
        mid_block_add_attention=False,
    ).eval()


def make_deep_compression_autoencoder():
    torch.manual_seed(0)
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=8,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        scaling_factor=1.5,
    ).eval()


@pytest.mark.parametrize(
    "make, channels", [(make_tiny_autoencoder, 4), (make_vq_model, 3), (make_deep_compression_autoencoder, 4)]
)
def test_other_autoencoders_can_be_used(picture, make, channels):
    unet = make_unet(channels + conditioning_channels(PAPER, channels), out_channels=channels)
    pipe = make_pipeline(PAPER, vae=make(), unet=unet, flow_completion=make_flow_completion(in_channels=channels))
    frames = pipe(picture, STROKES, num_inference_steps=1, output_type="pt").frames
    assert frames.shape == (1, 4, 3, 32, 32) and frames.isfinite().all()
    assert latents_of(pipe, picture).shape == (1, 4, channels, 8, 8)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_cell_size_is_that_of_the_autoencoder(picture, levels):
    vae = make_vae(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    cell = 2 ** (levels - 1)
    pipe = make_pipeline(vae=vae, flow_completion=make_flow_completion(vae_scale_factor=cell))
    assert pipe.vae_scale_factor == cell and pipe.size_multiple == 2 * cell
    output = pipe(picture, STROKES, height=32, width=32, num_frames=2, num_inference_steps=1, output_type="pt")
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
def test_schedulers_can_be_exchanged(picture, scheduler, prediction_type):
    pipe = make_pipeline(PAPER)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, prediction_type=prediction_type)
    frames = latents_of(pipe, picture, num_frames=3, num_inference_steps=3)
    assert frames.shape == (1, 3, 4, 8, 8) and frames.isfinite().all()
    # a scheduler that remembers its last steps must not carry them from frame to frame or from call to call
    assert torch.equal(latents_of(pipe, picture, num_frames=3, num_inference_steps=3), frames)


def test_scheduler_scales_what_the_unet_reads(picture):
    pipe = make_pipeline(PAPER)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    calls = record_inputs(pipe.unet)
    latents = torch.randn(1, 1, 4, 8, 8, generator=seeded())
    pipe(picture, [], num_frames=2, num_inference_steps=2, latents=latents)
    # the input to the first step has unit variance again, the previous frame beside it is untouched
    sigma = pipe.scheduler.init_noise_sigma
    scale = (pipe.scheduler.sigmas[0] ** 2 + 1) ** 0.5
    torch.testing.assert_close(calls[0][:, :4], latents[:, 0] * sigma / scale)
    assert torch.equal(calls[0][:, 4:8], calls[1][:, 4:8])
