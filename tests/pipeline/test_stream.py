# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A stream yields frames one by one, follows strokes that change, and can continue from a state."""

import gc
import itertools

import numpy as np
import pytest
import torch

from mcdiff_pipeline import Stroke, StrokeSheet
from support.pipeline_runs import DRAG, HOLD, STROKES, latents_of, seeded
from support.tiny_models import make_flow_completion, make_pipeline, make_unet, make_vq_model


# Frames


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_stream_gives_the_frames_of_a_call(tiny_pipeline, image, output_type):
    arguments = {"num_frames": 4, "guidance_scale": 1.5, "num_inference_steps": 3, "output_type": output_type}
    expected = tiny_pipeline(image, STROKES, generator=seeded(), **arguments).frames[0]
    found = list(tiny_pipeline.stream(image, STROKES, generator=seeded(), **arguments))
    assert len(found) == len(expected) == 4
    for frame, other in zip(found, expected, strict=True):
        assert type(frame) is type(other)
        if output_type == "pil":  # decoding one frame or several at a time may round differently
            assert np.abs(np.array(frame).astype(int) - np.array(other)).max() <= 1
        else:
            np.testing.assert_allclose(np.asarray(frame), np.asarray(other), rtol=0, atol=1e-5)


def test_frame_is_made_only_when_it_is_asked_for(tiny_pipeline, image):
    steps = []
    stream = tiny_pipeline.stream(image, [], callback_on_step_end=lambda _, step, *rest: steps.append(step))
    next(stream)
    assert steps == []
    next(stream)
    assert steps == [0, 1]
    next(stream)
    assert steps == [0, 1, 2, 3]


def test_stream_without_an_end_continues_after_its_strokes(tiny_pipeline, image):
    stream = tiny_pipeline.stream(image, STROKES, num_inference_steps=1, generator=seeded(), output_type="latent")
    found = torch.stack(list(itertools.islice(stream, 9)))
    assert tiny_pipeline.num_timesteps is None
    # strokes without an end last four frames, the default of the model
    ended = [Stroke(stroke.points, kind=stroke.kind, end_frame=3) for stroke in STROKES]
    expected = tiny_pipeline(
        image, ended, num_frames=9, num_inference_steps=1, generator=seeded(), output_type="latent"
    )
    assert torch.equal(found, expected.frames[0])


def test_strokes_of_a_sheet_last_as_long_as_the_sheet_says(tiny_pipeline, image):
    sheet = StrokeSheet(STROKES, width=32, height=32, num_frames=6)
    stream = tiny_pipeline.stream(image, sheet, num_inference_steps=1, generator=seeded(), output_type="latent")
    found = torch.stack(list(itertools.islice(stream, 8)))
    ended = [Stroke(stroke.points, kind=stroke.kind, end_frame=5) for stroke in STROKES]
    expected = tiny_pipeline(
        image, ended, num_frames=8, num_inference_steps=1, generator=seeded(), output_type="latent"
    )
    assert torch.equal(found, expected.frames[0])


def test_num_frames_ends_the_stream(tiny_pipeline, image):
    assert len(list(tiny_pipeline.stream(image, STROKES, num_frames=3))) == 3
    assert tiny_pipeline.num_timesteps == 2 * 2
    assert len(list(tiny_pipeline.stream(image, STROKES, num_frames=1))) == 1


def test_stream_does_not_keep_old_frames_in_memory(tiny_pipeline, image):
    def live_tensors():
        gc.collect()
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    stream = tiny_pipeline.stream(image, STROKES, num_inference_steps=1, output_type="latent")
    for _ in range(3):
        next(stream)
    before = live_tensors()
    for _ in range(8):
        next(stream)
    assert live_tensors() <= before


def test_given_flow_is_used_in_its_steps_of_a_stream(tiny_pipeline, image):
    given = [None, torch.full((1, 2, 8, 8), 3.0)]
    expected = tiny_pipeline(image, STROKES, dense_flow=given, generator=seeded(), output_type="latent").frames[0]
    stream = tiny_pipeline.stream(
        image, STROKES, num_frames=4, dense_flow=given, generator=seeded(), output_type="latent"
    )
    assert torch.equal(torch.stack(list(stream)), expected)


def test_two_streams_of_one_pipeline_do_not_disturb_each_other(tiny_pipeline, image):
    def start(guidance_scale, num_inference_steps):
        return tiny_pipeline.stream(
            image,
            STROKES,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            generator=seeded(),
            output_type="latent",
        )

    alone = [list(itertools.islice(start(*settings), 4)) for settings in ((3.0, 1), (1.0, 2))]
    first, second = start(3.0, 1), start(1.0, 2)
    together = []
    for _ in range(4):
        together.append((next(first), next(second)))
        tiny_pipeline.predict_flow(image, STROKES)
    for index, (of_first, of_second) in enumerate(together):
        assert torch.equal(of_first, alone[0][index])
        assert torch.equal(of_second, alone[1][index])


def test_gradients_are_off_in_the_stream_only(tiny_pipeline, image):
    for frame in tiny_pipeline.stream(image, STROKES, num_frames=3, output_type="latent"):
        assert not frame.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("end", ["exhausted", "closed", "error"])
def test_stream_frees_the_models_however_it_ends(image, end):
    pipe = make_pipeline()
    pipe.enable_model_cpu_offload(device="cpu")
    hooks = list(pipe._all_hooks)

    def callback(pipe, step, timestep, tensors):
        if end == "error":
            raise RuntimeError("no more")

    stream = pipe.stream(image, STROKES, num_frames=2, callback_on_step_end=callback)
    next(stream)
    assert pipe._all_hooks == hooks
    if end == "exhausted":
        list(stream)
    elif end == "closed":
        stream.close()
    else:
        with pytest.raises(RuntimeError, match="no more"):
            next(stream)
    # models are moved back to the CPU, and get new hooks for the next call
    assert not set(map(id, pipe._all_hooks)) & set(map(id, hooks))


# Strokes that change


def test_callable_is_asked_for_strokes_before_each_frame(tiny_pipeline, image):
    asked = []

    def strokes_of(frame):
        asked.append(frame)
        return STROKES

    stream = tiny_pipeline.stream(image, strokes_of, num_frames=4, generator=seeded(), output_type="latent")
    frames = []
    for count, frame in enumerate(stream):
        frames.append(frame)
        assert asked == list(range(count))
    assert torch.equal(torch.stack(frames), latents_of(tiny_pipeline, image, num_frames=4)[0])


def test_callable_may_answer_in_every_form_of_strokes(tiny_pipeline, image, tmp_path):
    sheet = StrokeSheet(STROKES, width=32, height=32, num_frames=4)
    sheet.save(tmp_path / "strokes.json")
    answers = [STROKES, sheet, tmp_path / "strokes.json"]
    stream = tiny_pipeline.stream(image, answers.__getitem__, num_frames=4, generator=seeded(), output_type="latent")
    assert torch.equal(torch.stack(list(stream)), latents_of(tiny_pipeline, image, num_frames=4)[0])


def test_invalid_answer_of_a_callable_raises_the_error_of_its_frame(tiny_pipeline, image):
    stream = tiny_pipeline.stream(image, lambda frame: [[], 7][frame], num_inference_steps=1)
    next(stream), next(stream)
    with pytest.raises(TypeError, match="`strokes` holds a int"):
        next(stream)


def test_strokes_that_change_are_followed_from_the_next_frame_on(tiny_pipeline, image):
    first, second = (StrokeSheet(strokes, 32, 32, num_frames=6) for strokes in ([DRAG], [HOLD]))
    image = image.resize((32, 32))
    stream = tiny_pipeline.stream(
        image, lambda frame: first if frame < 2 else second, num_frames=6, generator=seeded(), output_type="latent"
    )
    expected = latents_of(tiny_pipeline, image, first.continued(2, second))
    assert torch.equal(torch.stack(list(stream)), expected[0])


# States and branches


def test_stream_yields_states_with_the_frames_on_request(tiny_pipeline, image):
    pairs = list(
        tiny_pipeline.stream(
            image, STROKES, num_frames=4, generator=seeded(), output_type="latent", return_states=True
        )
    )
    output = tiny_pipeline(image, STROKES, generator=seeded(), output_type="latent")
    for index, (frame, state) in enumerate(pairs):
        assert state.frame == index
        assert torch.equal(frame, output.frames[0, index]) and torch.equal(state.latents[0], frame)
        if index > 0:
            assert torch.equal(4 * state.dense_flow, output.dense_flow[:, index - 1])


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_stream_from_a_state_continues_with_the_next_frame(tiny_pipeline, image, output_type):
    arguments = {"num_frames": 4, "output_type": output_type}
    expected = list(tiny_pipeline.stream(image, STROKES, generator=seeded(), **arguments))
    state = tiny_pipeline.start(image, generator=seeded())
    found = list(tiny_pipeline.stream(state, STROKES, **arguments))
    found_later = list(tiny_pipeline.stream(tiny_pipeline.step(state, STROKES), STROKES, **arguments))
    for frames in (found, found_later):
        assert len(frames) == {id(found): 3, id(found_later): 2}[id(frames)]
        for frame, other in zip(reversed(frames), reversed(expected)):
            assert type(frame) is type(other) and np.array_equal(np.asarray(frame), np.asarray(other))


def test_stream_from_a_state_at_or_after_its_last_frame_is_empty(tiny_pipeline, image):
    state = tiny_pipeline.step(tiny_pipeline.start(image), STROKES)
    for num_frames in (1, 2):
        assert list(tiny_pipeline.stream(state, STROKES, num_frames=num_frames)) == []


BENT = Stroke([(4.3, 5.1), (20.7, 9.2), (18.1, 30.9), (40.2, 33.3)])
TIMED = Stroke([(30, 8), (30.5, 20), (30.5, 20), (12.25, 21)], frames=[0.5, 2.2, 4.1, 6.9])
LATE = Stroke([(8, 34), (14, 30), (9, 31)], start_frame=2, end_frame=5)
SHORT_HOLD = Stroke([(24, 20)], kind="hold", start_frame=1, end_frame=4)
SAME_CELL = Stroke([(4.9, 5.9), (1, 39)], end_frame=6)  # starts in the cell in which BENT starts


@pytest.mark.parametrize("frame", [1, 3, 5])
@pytest.mark.parametrize(
    "before, after",
    [
        ([BENT], [Stroke([(40, 8), (8, 8), (8, 30)])]),
        ([TIMED, HOLD], [TIMED.scaled(0.9, 1.0), SHORT_HOLD]),
        ([BENT, SAME_CELL, SHORT_HOLD], [LATE, HOLD, BENT]),
        ([], [TIMED, LATE]),
        ([BENT, TIMED, LATE, HOLD], [BENT, TIMED, LATE, HOLD]),
    ],
)
def test_branch_equals_one_sheet_with_both_parts(tiny_pipeline, image, before, after, frame):
    # both sheets are drawn at the working size: scaling would round their positions differently
    first, second = StrokeSheet(before, 48, 40, num_frames=7), StrokeSheet(after, 48, 40, num_frames=8)
    arguments = {"num_inference_steps": 1, "output_type": "latent"}
    sizes = {"height": 40, "width": 48, "generator": seeded()}
    stream = tiny_pipeline.stream(image, first, return_states=True, **arguments, **sizes)
    *_, (_, state) = itertools.islice(stream, frame + 1)
    branch = list(tiny_pipeline.stream(state, second, num_frames=8, **arguments))

    sizes["generator"] = seeded()
    both = latents_of(tiny_pipeline, image, first.continued(frame, second), **arguments, **sizes)[0]
    assert len(both) == 8
    assert torch.equal(torch.stack(branch), both[frame + 1 :])


@pytest.mark.parametrize("name, value", [("height", 32), ("width", 32), ("prompt", "a dog")])
def test_argument_that_a_state_already_holds_is_refused(tiny_pipeline, image, name, value):
    state = tiny_pipeline.start(image)
    with pytest.raises(ValueError, match=f"`{name}` is given together with a state, .* give it to `start`"):
        tiny_pipeline.stream(state, STROKES, **{name: value})


def test_state_of_another_model_is_refused(tiny_pipeline, image):
    state = tiny_pipeline.start(image)
    other = make_pipeline(("previous_frame", "start_picture"))
    with pytest.raises(ValueError, match="The state holds no start image, .* the model that made it"):
        other.stream(state, STROKES)
    three_channels = make_pipeline(
        vae=make_vq_model(),
        unet=make_unet(3 + 9, out_channels=3),
        flow_completion=make_flow_completion(in_channels=3),
    )
    with pytest.raises(ValueError, match="latents of 4 channels, but this model has 3: .* the model that made it"):
        three_channels.stream(state, STROKES)
