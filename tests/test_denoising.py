# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Denoising of the frames of a call: guidance, callbacks, progress, canceling, and calls at the same time."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from mcdiff_pipeline.conditioning import FrameConditions
from mcdiff_pipeline.denoising import MotionGuidance
from support.pipeline_runs import STROKES, latents_of, record_inputs, seeded
from support.tiny_models import make_pipeline


# Seconds until a test gives up on a thread; a call takes well below one.
PATIENCE = 60


# Guidance on motion


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

    still = next_frame(1.0, dense_flow=torch.zeros(1, 1, 2, 10, 12))
    moving = next_frame(1.0)
    assert (moving - still).abs().max() > 1e-3
    torch.testing.assert_close(next_frame(0.0), still, rtol=0, atol=1e-5)
    torch.testing.assert_close(next_frame(2.5), still + 2.5 * (moving - still), rtol=0, atol=1e-4)


def make_guidance(base: bool, prediction_type: str = "epsilon") -> MotionGuidance:
    """Guidance of a model with one condition of one channel: 0 if still, 1 if moving."""
    still, moving = torch.zeros(2, 1, 3, 3), torch.ones(2, 1, 3, 3)
    moving_conditions = FrameConditions(moving, 2 * moving if base else None, None)
    still_conditions = FrameConditions(still, still if base else None, None)
    scheduler = DDIMScheduler(prediction_type=prediction_type)
    return MotionGuidance(moving_conditions, still_conditions, 0.5, scheduler)


def test_conditions_of_the_still_branch_come_before_the_moving_branch():
    conditions = make_guidance(base=False).conditions
    assert conditions.shape == (4, 1, 3, 3)
    assert (conditions[:2] == 0).all() and (conditions[2:] == 1).all()


def test_without_a_base_both_branches_get_the_same_sample():
    sample, timestep = torch.randn(2, 1, 3, 3, generator=seeded()), torch.tensor(400)
    guidance = make_guidance(base=False)
    assert torch.equal(guidance.expand(sample, timestep), torch.cat([sample, sample]))
    still, moving = torch.randn(2, 2, 1, 3, 3, generator=seeded())
    torch.testing.assert_close(
        guidance.combine(torch.cat([still, moving]), timestep, 3.0), still + 3 * (moving - still)
    )


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_still_branch_is_restated_for_the_difference_of_the_moving_branch(prediction_type):
    # a perfect model of a known difference: both branches then predict the same, at any scale
    guidance = make_guidance(base=True, prediction_type=prediction_type)
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
    torch.testing.assert_close(guidance.combine(prediction, timestep, 3.0), expected)


# Callbacks


def test_callback_is_called_after_every_step_with_the_tensors_it_names(tiny_pipeline, image):
    calls = []

    def callback(pipe, step, timestep, tensors):
        assert pipe is tiny_pipeline
        assert list(tensors) == pipe._callback_tensor_inputs
        calls.append((step, int(timestep), {name: tensor for name, tensor in tensors.items()}))
        return tensors

    expected = latents_of(tiny_pipeline, image, num_inference_steps=2)
    output = tiny_pipeline(
        image,
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


def test_callback_gets_latents_unless_it_names_others(tiny_pipeline, image):
    names = []
    tiny_pipeline(image, [], callback_on_step_end=lambda *arguments: names.append(list(arguments[3])))
    assert names == [["latents"]] * 6


def test_callback_can_change_the_latents(tiny_pipeline, image):
    def callback(pipe, step, timestep, tensors):
        return {"latents": torch.full_like(tensors["latents"], step)}

    frames = latents_of(tiny_pipeline, image, callback_on_step_end=callback)
    assert (frames[:, 1] == 1).all() and (frames[:, 2] == 3).all() and (frames[:, 3] == 5).all()


@pytest.mark.parametrize("latents", [None, torch.zeros(1)])
def test_callback_cannot_give_latents_of_another_shape(tiny_pipeline, image, latents):
    with pytest.raises(ValueError, match="The callback returned `latents` .*, but a tensor of shape .* is needed"):
        tiny_pipeline(image, [], callback_on_step_end=lambda *arguments: {"latents": latents})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"eta": "x"}, "`eta` is 'x', but it has to be a number from 0 to 1"),
        ({"eta": 5.0}, "`eta` is 5.0"),
        ({"cancel": "x"}, "`cancel` is a str, but it has to be a `threading.Event`"),
        ({"callback_on_step_end": 5}, "`callback_on_step_end` is a int, but it has to be a function"),
        ({"dense_flow": ["a"]}, "`dense_flow` holds a str"),
    ],
)
def test_wrong_arguments_of_a_run_are_named(tiny_pipeline, image, argument, message):
    for call in (tiny_pipeline, tiny_pipeline.stream):
        with pytest.raises((ValueError, TypeError), match=message):
            call(image, [], num_frames=3, **argument)


def test_callback_can_change_the_guidance_of_its_call(tiny_pipeline, image):
    def video(scale, callback=None):
        return latents_of(tiny_pipeline, image, guidance_scale=scale, callback_on_step_end=callback)

    def set_guidance(pipe, step, timestep, tensors):
        assert pipe.guidance_scale == (3.0 if step == 0 else 2.0)
        pipe._guidance_scale = 2.0
        return {}

    changed, constant = video(3.0, set_guidance), video(2.0)
    assert tiny_pipeline.guidance_scale == 2.0  # that of the call that began last
    assert not torch.equal(changed[:, 1], constant[:, 1]) and not torch.equal(changed[:, 1], video(3.0)[:, 1])

    def set_at_once(pipe, step, timestep, tensors):
        pipe._guidance_scale = 1.0

    # a call that begins with guidance can end it
    assert (video(3.0, set_at_once) - video(3.0)).abs().max() > 1e-3


def test_callbacks_of_diffusers_name_their_own_tensors(tiny_pipeline, image):
    class Recorder(PipelineCallback):
        tensor_inputs = ["dense_flow"]

        def callback_fn(self, pipe, step, timestep, tensors):
            seen.append((step, list(tensors)))
            return tensors

    for callback in (Recorder(), MultiPipelineCallbacks([Recorder()])):
        seen = []
        tiny_pipeline(image, [], callback_on_step_end=callback)
        assert seen == [(step, ["dense_flow"]) for step in range(6)]
        seen = []
        list(tiny_pipeline.stream(image, [], num_frames=2, callback_on_step_end=callback))
        assert seen == [(step, ["dense_flow"]) for step in range(2)]


@pytest.mark.parametrize("scheduler, calls_per_frame", [(DDIMScheduler, 3), (HeunDiscreteScheduler, 5)])
def test_num_timesteps_counts_the_steps_of_all_frames(image, scheduler, calls_per_frame):
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    steps = []
    pipe(image, [], num_inference_steps=3, callback_on_step_end=lambda _, step, *rest: steps.append(step))
    assert pipe.num_timesteps == 3 * calls_per_frame
    assert steps == list(range(pipe.num_timesteps))


def test_one_progress_bar_by_default_nested_ones_on_request_and_none_if_disabled(tiny_pipeline, image, capsys):
    tiny_pipeline(image, [])
    assert capsys.readouterr().err == ""
    tiny_pipeline.set_progress_bar_config(disable=False)
    tiny_pipeline(image, [])
    shown = capsys.readouterr().err
    assert "Frames: 100%" in shown and "3/3" in shown and "Frame 1" not in shown
    tiny_pipeline.set_progress_bar_config(nested=True)
    tiny_pipeline(image, [])
    shown = capsys.readouterr().err
    assert "Frames: 100%" in shown
    for frame in (1, 2, 3):
        assert f"Frame {frame}:   0%" in shown
    list(zip(range(3), tiny_pipeline.stream(image, []), strict=False))
    assert "Frames: : 2it" in capsys.readouterr().err


# Interrupting


@pytest.mark.parametrize("step, frames_left", [(0, 1), (2, 2), (3, 3), (4, 3), (5, 4)])
def test_interrupt_ends_the_video_with_the_last_finished_frame(tiny_pipeline, image, step, frames_left):
    def callback(pipe, current_step, timestep, tensors):
        pipe._interrupt = current_step == step
        steps.append(current_step)

    steps = []
    expected = latents_of(tiny_pipeline, image)
    output = tiny_pipeline(image, STROKES, generator=seeded(), output_type="latent", callback_on_step_end=callback)
    assert steps == list(range(step + 1))
    assert torch.equal(output.frames, expected[:, :frames_left])
    assert output.dense_flow.shape[1] == frames_left - 1
    assert len(tiny_pipeline(image, STROKES).frames[0]) == 4  # the next call is not interrupted


def test_interrupt_while_the_image_is_encoded_ends_the_call(tiny_pipeline, image):
    def interrupt(*arguments):
        tiny_pipeline._interrupt = True

    hook = tiny_pipeline.vae.encoder.register_forward_pre_hook(interrupt)
    assert len(tiny_pipeline(image, STROKES).frames[0]) == 1
    assert len(list(tiny_pipeline.stream(image, STROKES))) == 1
    hook.remove()
    assert len(tiny_pipeline(image, STROKES).frames[0]) == 4


def test_interrupted_video_is_decoded(tiny_pipeline, image):
    def callback(pipe, step, timestep, tensors):
        pipe._interrupt = True

    assert len(tiny_pipeline(image, STROKES, callback_on_step_end=callback).frames[0]) == 1


def test_interrupt_ends_the_stream(tiny_pipeline, image):
    shown = 0
    for _ in tiny_pipeline.stream(image, STROKES):
        shown += 1
        if shown == 3:
            tiny_pipeline._interrupt = True
    assert shown == 3

    def callback(pipe, step, timestep, tensors):
        pipe._interrupt = step == 2  # the first of the two steps of frame 2

    assert len(list(tiny_pipeline.stream(image, STROKES, callback_on_step_end=callback))) == 2


def test_predicting_flow_does_not_undo_an_interrupt(tiny_pipeline, image):
    stream = tiny_pipeline.stream(image, STROKES)
    next(stream)
    tiny_pipeline._interrupt = True
    tiny_pipeline.predict_flow(image, STROKES)
    assert list(stream) == []


def test_pipeline_shows_whether_the_last_call_was_interrupted(tiny_pipeline, image):
    def callback(pipe, step, timestep, tensors):
        shown.append(pipe.interrupt)
        pipe._interrupt = step == 1
        shown.append(pipe.interrupt)

    shown = []
    tiny_pipeline(image, [], callback_on_step_end=callback)
    assert shown == [False, False, False, True] and tiny_pipeline.interrupt
    tiny_pipeline(image, [], num_frames=2)
    assert not tiny_pipeline.interrupt


def test_step_is_interrupted_in_its_callback(tiny_pipeline, image):
    def callback(pipe, step, timestep, tensors):
        pipe._interrupt = True

    state = tiny_pipeline.start(image)
    assert tiny_pipeline.step(state, STROKES, callback_on_step_end=callback) is None
    assert tiny_pipeline.step(state, STROKES).frame == 1


# Canceling


@pytest.mark.parametrize("step, frames_left", [(0, 1), (2, 2), (3, 3), (5, 4)])
def test_canceled_call_keeps_the_finished_frames(tiny_pipeline, image, step, frames_left):
    def callback(pipe, current_step, timestep, tensors):
        steps.append(current_step)
        if current_step == step:
            cancel.set()

    steps, cancel = [], threading.Event()
    expected = latents_of(tiny_pipeline, image)
    output = tiny_pipeline(
        image, STROKES, generator=seeded(), output_type="latent", callback_on_step_end=callback, cancel=cancel
    )
    assert steps == list(range(step + 1))  # it ends before the next denoising step
    assert torch.equal(output.frames, expected[:, :frames_left])
    assert output.dense_flow.shape[1] == frames_left - 1
    assert not tiny_pipeline.interrupt
    assert torch.equal(latents_of(tiny_pipeline, image), expected)  # the next call is not canceled


def test_call_that_is_canceled_from_the_start_gives_the_image(tiny_pipeline, image):
    cancel = threading.Event()
    cancel.set()
    calls = record_inputs(tiny_pipeline.unet)
    assert len(tiny_pipeline(image, STROKES, cancel=cancel).frames[0]) == 1
    assert len(list(tiny_pipeline.stream(image, STROKES, cancel=cancel))) == 1
    assert tiny_pipeline.step(tiny_pipeline.start(image), STROKES, cancel=cancel) is None
    assert calls == []


def test_stream_ends_before_the_frame_in_which_it_is_canceled(tiny_pipeline, image):
    for step, frames in ((1, 2), (2, 2)):  # the last step of frame 1, the first step of frame 2
        cancel = threading.Event()

        def callback(pipe, current_step, timestep, tensors):
            if current_step == step:
                cancel.set()

        found = list(tiny_pipeline.stream(image, STROKES, callback_on_step_end=callback, cancel=cancel))
        assert len(found) == frames


def test_canceling_one_of_two_streams_leaves_the_other(tiny_pipeline, image):
    cancel = threading.Event()
    arguments = {"generator": seeded(), "output_type": "latent"}
    canceled = tiny_pipeline.stream(image, STROKES, cancel=cancel)
    other = tiny_pipeline.stream(image, STROKES, num_frames=4, **arguments)
    found = [next(other), next(other)]
    next(canceled), next(canceled)
    cancel.set()
    assert list(canceled) == []
    assert torch.equal(torch.stack([*found, *other]), latents_of(tiny_pipeline, image)[0])


# Several threads


class Rendezvous:
    """A callback that waits for another call in each of the first `count` denoising steps, so that both overlap."""

    def __init__(self, count: int):
        self.barrier, self.count = threading.Barrier(2, timeout=PATIENCE), count

    def __call__(self, pipe, step, timestep, tensors):
        if step < self.count:
            self.barrier.wait()


def run_together(*calls) -> list:
    """The results of functions that run at the same time, each in a thread."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [running.result(PATIENCE) for running in [threads.submit(call) for call in calls]]


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler])
def test_two_threads_get_the_frames_that_each_gets_alone(image, scheduler):
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    few, many = (
        {"num_inference_steps": 2, "generator": seeded(1)},
        {"num_inference_steps": 4, "generator": seeded(2), "guidance_scale": 2.0},
    )
    expected = [latents_of(pipe, image, **arguments) for arguments in (few, many)]
    few["generator"], many["generator"] = seeded(1), seeded(2)
    rendezvous = Rendezvous(6)  # in all steps of the first call
    found = run_together(
        lambda: latents_of(pipe, image, **few, callback_on_step_end=rendezvous),
        lambda: latents_of(pipe, image, **many, callback_on_step_end=rendezvous),
    )
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler])
def test_threads_step_and_stream_beside_each_other(image, scheduler):
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    state = pipe.start(image, generator=seeded(1))
    steps, arguments = {"num_inference_steps": 4}, {"num_inference_steps": 3, "num_frames": 3, "output_type": "latent"}
    expected_step = pipe.step(state, STROKES, **steps).latents
    expected_stream = list(pipe.stream(state, [], **arguments))
    rendezvous = Rendezvous(4)
    following, frames = run_together(
        lambda: pipe.step(state, STROKES, **steps, callback_on_step_end=rendezvous),
        lambda: list(pipe.stream(state, [], **arguments, callback_on_step_end=rendezvous)),
    )
    assert torch.equal(following.latents, expected_step)
    assert torch.equal(torch.stack(frames), torch.stack(expected_stream))


def test_call_is_canceled_from_another_thread_while_another_call_goes_on(tiny_pipeline, image):
    expected = latents_of(tiny_pipeline, image)
    both_denoise, cancel = threading.Barrier(3, timeout=PATIENCE), threading.Event()
    canceled, steps = threading.Event(), {"canceled": [], "other": []}

    def note(name):
        def callback(pipe, step, timestep, tensors):
            steps[name].append(step)
            if step == 3:  # two frames are finished after this step
                both_denoise.wait()
                assert canceled.wait(PATIENCE)

        return callback

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(latents_of, tiny_pipeline, image, cancel=cancel, callback_on_step_end=note("canceled"))
        second = threads.submit(latents_of, tiny_pipeline, image, callback_on_step_end=note("other"))
        both_denoise.wait()
        cancel.set()
        canceled.set()
        assert torch.equal(first.result(PATIENCE), expected[:, :3])
        assert torch.equal(second.result(PATIENCE), expected)
    assert steps == {"canceled": [0, 1, 2, 3], "other": [0, 1, 2, 3, 4, 5]}


def test_interrupt_in_a_callback_ends_only_the_call_of_that_callback(tiny_pipeline, image):
    expected = latents_of(tiny_pipeline, image)
    meet = threading.Barrier(2, timeout=PATIENCE)
    interrupt_of_the_other = []

    def interrupting(pipe, step, timestep, tensors):
        if step == 2:
            meet.wait()
            pipe._interrupt = True
            meet.wait()

    def other(pipe, step, timestep, tensors):
        if step == 2:
            meet.wait()
            meet.wait()
            interrupt_of_the_other.append(pipe.interrupt)

    found = run_together(
        lambda: latents_of(tiny_pipeline, image, callback_on_step_end=interrupting),
        lambda: latents_of(tiny_pipeline, image, callback_on_step_end=other),
    )
    assert torch.equal(found[0], expected[:, :2])
    assert torch.equal(found[1], expected)
    assert interrupt_of_the_other == [False]


def test_interrupt_of_another_pipeline_in_a_callback_ends_the_calls_of_that_pipeline(tiny_pipeline, image):
    other = make_pipeline()
    stream = other.stream(image, STROKES)
    next(stream)

    def callback(pipe, step, timestep, tensors):
        other._interrupt = True

    expected = latents_of(tiny_pipeline, image)
    assert torch.equal(latents_of(tiny_pipeline, image, callback_on_step_end=callback), expected)
    assert list(stream) == []


def test_interrupt_outside_of_callbacks_ends_all_running_calls(tiny_pipeline, image):
    streams = [tiny_pipeline.stream(image, STROKES) for _ in range(2)]
    for stream in streams:
        list(itertools.islice(stream, 2))
    tiny_pipeline._interrupt = True
    assert [list(stream) for stream in streams] == [[], []]


def test_callback_may_call_the_same_pipeline(tiny_pipeline, image):
    def callback(pipe, step, timestep, tensors):
        inner.append(latents_of(pipe, image, num_inference_steps=3, num_frames=2))

    inner = []
    outer = latents_of(tiny_pipeline, image, callback_on_step_end=callback)
    assert torch.equal(outer, latents_of(tiny_pipeline, image))
    expected = latents_of(tiny_pipeline, image, num_inference_steps=3, num_frames=2)
    assert len(inner) == 6 and all(torch.equal(frames, expected) for frames in inner)
