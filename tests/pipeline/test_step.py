# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`start`, `step` and `predict_flow` make a video frame by frame, from states that can be kept and forked."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)
from diffusers.callbacks import PipelineCallback

from mcdiff_pipeline import StrokeSheet
from mcdiff_pipeline.rollout import Motion, RolloutState
from support.pipeline_runs import DRAG, HOLD, STROKES, latents_of, record_inputs, seeded
from support.tiny_models import PAPER_CONDITIONING, make_pipeline


OTHER_STROKES = [DRAG.scaled(0.8, 0.5)]


def tensors_of(state: RolloutState) -> dict[str, torch.Tensor]:
    """Copies of all tensors of a state."""
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    return {name: value.clone() for name, value in values.items() if isinstance(value, torch.Tensor)}


def assert_same_tensors(state: RolloutState, tensors: dict[str, torch.Tensor]):
    found = tensors_of(state)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


# Start


def test_only_start_encodes_and_only_once(tiny_pipeline, image):
    encoded = record_inputs(tiny_pipeline.vae.encoder)
    state = tiny_pipeline.start(image)
    assert len(encoded) == 1
    tiny_pipeline.predict_flow(state, STROKES)
    state = tiny_pipeline.step(state, STROKES)
    tiny_pipeline.predict_flow(state, STROKES)
    next(tiny_pipeline.stream(state, STROKES))
    assert len(encoded) == 1


def test_start_gives_the_first_frame_of_a_call(tiny_pipeline, wide_image):
    image = wide_image
    state = tiny_pipeline.start([image, image.rotate(90)], height=40, width=48)
    assert state.frame == 0 and state.image_sizes == ((40, 48), (40, 48))
    expected = latents_of(tiny_pipeline, [image, image.rotate(90)], height=40, width=48, num_frames=1)
    assert torch.equal(state.latents, expected[:, 0])
    assert torch.equal(state.start_latents, state.latents) and not state.accumulated_flow.any()


def test_start_does_not_use_the_generator(tiny_pipeline, image):
    generator = seeded()
    state = tiny_pipeline.start(image, generator=generator)
    tiny_pipeline.step(tiny_pipeline.step(state, STROKES), STROKES)
    assert torch.equal(generator.get_state(), seeded().get_state())


def test_start_checks_its_arguments(tiny_pipeline, image):
    with pytest.raises(ValueError, match="`height` is 30, but this model needs a multiple of 8"):
        tiny_pipeline.start(image, height=30)
    with pytest.raises(ValueError, match="`generator` is a list of 2, but there are 1 images"):
        tiny_pipeline.start(image, generator=[seeded(), seeded()])
    with pytest.raises(ValueError, match="`prompt` is 'a dog', but this model takes no text"):
        tiny_pipeline.start(image, prompt="a dog")


# Flow of a state


def test_flow_of_a_state_equals_the_flow_of_the_image_and_of_the_call(tiny_pipeline, image):
    flows = tiny_pipeline(image, STROKES, generator=seeded()).dense_flow
    state = tiny_pipeline.start(image, generator=seeded())
    assert torch.equal(tiny_pipeline.predict_flow(state, STROKES), tiny_pipeline.predict_flow(image, STROKES))
    for step in range(3):
        assert torch.equal(tiny_pipeline.predict_flow(state, STROKES), flows[:, step])
        state = tiny_pipeline.step(state, STROKES)


def test_flow_of_a_state_can_be_predicted_for_another_step_of_the_strokes(tiny_pipeline, image):
    state = tiny_pipeline.start(image)
    found = tiny_pipeline.predict_flow(state, STROKES, frame=2)
    assert torch.equal(found, tiny_pipeline.predict_flow(image, STROKES, frame=2))
    assert not torch.equal(found, tiny_pipeline.predict_flow(state, STROKES))


# Steps


SCHEDULERS = [
    (DDIMScheduler, {}),
    (DDIMScheduler, {"eta": 1.0}),
    (DPMSolverMultistepScheduler, {}),
    (EulerDiscreteScheduler, {}),
    (EulerAncestralDiscreteScheduler, {}),  # draws noise in its steps
    (LCMScheduler, {}),
]


@pytest.mark.parametrize("generators", ["one", "list"])
@pytest.mark.parametrize("scheduler, arguments", SCHEDULERS)
def test_steps_give_exactly_the_frames_of_a_call(image, scheduler, arguments, generators):
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    images = [image, image.rotate(90)]
    settings = {"num_inference_steps": 3} | arguments
    sizes = {"height": 32, "width": 32}

    def make_generators():
        return seeded(7) if generators == "one" else [seeded(7), seeded(8)]

    expected = pipe(images, STROKES, generator=make_generators(), output_type="latent", **settings, **sizes)
    state = pipe.start(images, generator=make_generators(), **sizes)
    for step in range(3):
        state = pipe.step(state, STROKES, **settings)
        assert state.frame == step + 1
        assert torch.equal(state.latents, expected.frames[:, step + 1])
        assert torch.equal(4 * state.dense_flow, expected.dense_flow[:, step])


@pytest.mark.parametrize("conditioning", [PAPER_CONDITIONING, ("previous_frame", "dense_flow", "start_picture")])
@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_step_does_not_change_the_given_state(image, scheduler, conditioning):
    pipe = make_pipeline(conditioning)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    states = [pipe.start(image, generator=seeded())]
    states.append(pipe.step(states[0], STROKES))
    for state in states:
        before = tensors_of(state)
        pipe.step(state, STROKES, guidance_scale=2.0)
        pipe.predict_flow(state, STROKES)
        list(pipe.stream(state, STROKES, num_frames=3))
        assert_same_tensors(state, before)


@pytest.mark.parametrize("scheduler, arguments", SCHEDULERS)
def test_state_can_be_forked(image, scheduler, arguments):
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    state = pipe.step(pipe.start(image, generator=seeded()), STROKES, **arguments)

    def continued(strokes):
        following = pipe.step(state, strokes, **arguments)
        return pipe.step(following, strokes, **arguments).latents

    first = continued(STROKES)
    other = continued(OTHER_STROKES)
    assert torch.equal(continued(STROKES), first)
    assert not torch.equal(other, first)


def test_noise_differs_from_frame_to_frame_and_from_seed_to_seed(tiny_pipeline, image):
    noise = record_inputs(tiny_pipeline.unet)
    for seed in (0, 1):
        state = tiny_pipeline.start(image, generator=seeded(seed))
        tiny_pipeline.step(tiny_pipeline.step(state, [], num_inference_steps=1), [], num_inference_steps=1)
    assert len({call[0, 0, 0, 0].item() for call in noise}) == 4


def test_without_a_generator_every_step_draws_other_noise(tiny_pipeline, image):
    state = tiny_pipeline.start(image)
    assert state.noise_state is None
    assert not torch.equal(tiny_pipeline.step(state, []).latents, tiny_pipeline.step(state, []).latents)


def test_generator_of_a_step_replaces_the_generator_of_the_state(tiny_pipeline, image):
    state, generator = tiny_pipeline.start(image, generator=seeded(1)), seeded(0)
    for frame in (1, 2):
        state = tiny_pipeline.step(state, STROKES, generator=generator)
        assert torch.equal(state.latents, latents_of(tiny_pipeline, image)[:, frame])


def test_given_noise_and_flow_have_the_same_effect_as_in_a_call(tiny_pipeline, image):
    noise = torch.randn(1, 1, 4, 8, 8, generator=seeded(3))
    for size in (8, 32):
        flow = torch.randn(1, 1, 2, size, size, generator=seeded(4)) * 4
        expected = latents_of(tiny_pipeline, image, num_frames=2, latents=noise, dense_flow=flow)
        state = tiny_pipeline.step(tiny_pipeline.start(image), STROKES, noise=noise[:, 0], dense_flow=flow[:, 0])
        assert torch.equal(state.latents, expected[:, 1])


def test_motion_can_be_given_instead_of_strokes(tiny_pipeline, image):
    state = tiny_pipeline.start(image, generator=seeded())
    following = tiny_pipeline.step(state, STROKES)
    sparse_flow, mask = torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    dense = tiny_pipeline.step(state, Motion(following.dense_flow))
    assert torch.equal(dense.latents, following.latents)
    free = tiny_pipeline.step(state, Motion(None, sparse_flow, mask))
    assert torch.equal(free.latents, tiny_pipeline.step(state, []).latents)
    assert not torch.equal(free.latents, following.latents)


def test_length_of_the_video_ends_open_strokes(tiny_pipeline, image):
    state = tiny_pipeline.start(image, generator=seeded())
    short, long = (tiny_pipeline.step(state, [DRAG], num_frames=number).latents for number in (3, 9))
    assert not torch.equal(short, long)
    sheet = StrokeSheet([DRAG], width=32, height=32, num_frames=9)
    assert torch.equal(tiny_pipeline.step(state, sheet).latents, long)
    # the step continues after the end of the strokes, which then specify nothing
    late = replace(state, frame=20)
    assert torch.equal(tiny_pipeline.step(late, [DRAG]).latents, tiny_pipeline.step(late, []).latents)


def test_callback_of_diffusers_names_its_tensors(tiny_pipeline, image):
    class Recorder(PipelineCallback):
        tensor_inputs = ["dense_flow"]

        def callback_fn(self, pipe, step, timestep, tensors):
            assert step < pipe.num_timesteps
            seen.append((step, list(tensors), pipe.guidance_scale))
            return tensors

    seen = []
    state = tiny_pipeline.step(tiny_pipeline.start(image), [], callback_on_step_end=Recorder(), guidance_scale=1.5)
    tiny_pipeline.step(state, [], callback_on_step_end=Recorder())
    assert seen == [
        (0, ["dense_flow"], 1.5),
        (1, ["dense_flow"], 1.5),
        (2, ["dense_flow"], 1.0),
        (3, ["dense_flow"], 1.0),
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0"),
        ({"num_frames": 0}, "`num_frames` is 0"),
        ({"generator": [seeded()] * 2}, "`generator` is a list of 2, but there are 1 images"),
        ({"noise": torch.zeros(4, 8, 8)}, r"`noise` has the shape \(4, 8, 8\), .* \(1, 4, 8, 8\)"),
        ({"dense_flow": torch.zeros(1, 2, 9, 8)}, r"`dense_flow` has the shape \(1, 2, 9, 8\)"),
        ({"strokes": Motion(torch.zeros(1, 2, 8, 9))}, r"`Motion.dense_flow` has the shape \(1, 2, 8, 9\), .*2, 8, 8"),
        (
            {"strokes": Motion(None, torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8))},
            "`Motion.mask` has the dtype torch.float32, but it has to be torch.bool",
        ),
        ({"strokes": Motion()}, "no dense flow, and no sparse flow with a mask to complete"),
        (
            {"strokes": Motion(torch.zeros(1, 2, 8, 8)), "dense_flow": torch.zeros(1, 2, 8, 8)},
            "`dense_flow` is given together with a `Motion`",
        ),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "names 'noise'"),
    ],
)
def test_argument_that_is_not_allowed_is_refused(tiny_pipeline, image, arguments, message):
    state = tiny_pipeline.start(image)
    with pytest.raises(ValueError, match=message):
        tiny_pipeline.step(state, **({"strokes": [HOLD]} | arguments))


@pytest.mark.parametrize("state", [None, "cat.png", torch.zeros(3, 32, 32)])
def test_step_of_something_else_than_a_state_is_refused(tiny_pipeline, state):
    with pytest.raises(TypeError, match="`state` is a .*, but it has to be a `RolloutState`"):
        tiny_pipeline.step(state, STROKES)


def test_step_of_a_state_with_other_strokes_than_images_is_refused(tiny_pipeline, image):
    state = tiny_pipeline.start([image, image])
    with pytest.raises(ValueError, match="strokes for 3 images, but 2 images"):
        tiny_pipeline.step(state, [[DRAG], [], [HOLD]])


def test_call_from_a_state_is_refused(tiny_pipeline, image):
    with pytest.raises(TypeError, match="`image` is a state, .* by `stream` or `step`"):
        tiny_pipeline(tiny_pipeline.start(image), STROKES)


def test_state_and_motion_on_another_device_are_brought_to_the_model(tiny_pipeline, image):
    class Reached(Exception):
        pass

    def stop_at(module, inputs, keywords):
        raise Reached({value.device.type for value in (*inputs, *keywords.values()) if torch.is_tensor(value)})

    state = tiny_pipeline.start(image, generator=seeded())
    motion = Motion(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.bool))
    tiny_pipeline.to("meta")  # a device without data: a call ends where it would read values
    tiny_pipeline.unet.register_forward_pre_hook(stop_at, with_kwargs=True)
    assert tiny_pipeline.predict_flow(state, STROKES).device.type == "meta"
    for call in (
        lambda: tiny_pipeline.step(state, STROKES),
        lambda: tiny_pipeline.step(state, motion),
        lambda: next(tiny_pipeline.stream(state, STROKES)),
    ):
        with pytest.raises(Reached) as reached:
            call()
        assert reached.value.args == ({"meta"},)
    assert state.latents.device.type == "cpu"


def test_step_frees_the_models(image):
    pipe = make_pipeline()
    pipe.enable_model_cpu_offload(device="cpu")
    state = pipe.start(image)
    for use in (pipe.step, pipe.predict_flow):
        hooks = list(pipe._all_hooks)
        use(state, STROKES)
        # models are moved back to the CPU, and get new hooks for the next call
        assert not set(map(id, pipe._all_hooks)) & set(map(id, hooks))


def test_states_of_steps_are_decoded_to_a_video_without_gradients(image):
    pipe = make_pipeline(PAPER_CONDITIONING)
    states = [pipe.start(image, generator=seeded())]
    for _ in range(2):
        states.append(pipe.step(states[-1], STROKES))
    images, _ = pipe.prepare_images(image)
    frames = pipe.decode_video(states, images, output_type="pt")
    assert not frames.requires_grad and frames.shape[1] == 3
    expected = pipe.decode_video(states, images, output_type="np")
    assert np.array_equal(frames.permute(0, 1, 3, 4, 2).numpy(), expected)
