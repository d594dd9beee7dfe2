# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`stream` hands out frames one by one, for as long as they are asked for."""

import gc
import itertools

import numpy as np
import pytest
import torch
from support.tiny_models import make_pipeline

from mcdiff_pipeline import Stroke, StrokeSheet


STROKES = [Stroke([(10, 10), (34, 26)]), Stroke([(40, 30)], kind="hold")]


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_stream_shows_the_frames_of_a_call(tiny_pipeline, picture, output_type):
    arguments = {"num_frames": 4, "guidance_scale": 1.5, "num_inference_steps": 3, "output_type": output_type}
    expected = tiny_pipeline(picture, STROKES, generator=seeded(), **arguments).frames[0]
    found = list(tiny_pipeline.stream(picture, STROKES, generator=seeded(), **arguments))
    assert len(found) == len(expected) == 4
    for frame, other in zip(found, expected, strict=True):
        assert type(frame) is type(other)
        if output_type == "pil":  # decoding one by one or together may round differently
            assert np.abs(np.array(frame).astype(int) - np.array(other)).max() <= 1
        else:
            np.testing.assert_allclose(np.asarray(frame), np.asarray(other), rtol=0, atol=1e-5)


def test_frames_come_one_by_one(tiny_pipeline, picture):
    steps = []
    stream = tiny_pipeline.stream(picture, [], callback_on_step_end=lambda _, step, *rest: steps.append(step))
    next(stream)
    assert steps == []
    next(stream)
    assert steps == [0, 1]
    next(stream)
    assert steps == [0, 1, 2, 3]


def test_stream_without_an_end_goes_on_past_the_default(tiny_pipeline, picture):
    stream = tiny_pipeline.stream(picture, STROKES, num_inference_steps=1, generator=seeded(), output_type="latent")
    found = torch.stack(list(itertools.islice(stream, 9)))
    assert tiny_pipeline.num_timesteps is None
    # strokes without an end end with the model's default of four frames
    ended = [Stroke(stroke.points, kind=stroke.kind, end_frame=3) for stroke in STROKES]
    expected = tiny_pipeline(
        picture, ended, num_frames=9, num_inference_steps=1, generator=seeded(), output_type="latent"
    )
    assert torch.equal(found, expected.frames[0])


def test_strokes_of_a_sheet_last_as_long_as_the_sheet_says(tiny_pipeline, picture):
    sheet = StrokeSheet(STROKES, width=48, height=40, num_frames=6)
    stream = tiny_pipeline.stream(picture, sheet, num_inference_steps=1, generator=seeded(), output_type="latent")
    found = torch.stack(list(itertools.islice(stream, 8)))
    ended = [Stroke(stroke.points, kind=stroke.kind, end_frame=5) for stroke in STROKES]
    expected = tiny_pipeline(
        picture, ended, num_frames=8, num_inference_steps=1, generator=seeded(), output_type="latent"
    )
    assert torch.equal(found, expected.frames[0])


def test_num_frames_ends_the_stream(tiny_pipeline, picture):
    assert len(list(tiny_pipeline.stream(picture, STROKES, num_frames=3))) == 3
    assert tiny_pipeline.num_timesteps == 2 * 2
    assert len(list(tiny_pipeline.stream(picture, STROKES, num_frames=1))) == 1


def test_stream_does_not_hold_on_to_old_frames(tiny_pipeline, picture):
    def live_tensors():
        gc.collect()
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    stream = tiny_pipeline.stream(picture, STROKES, num_inference_steps=1, output_type="latent")
    for _ in range(3):
        next(stream)
    before = live_tensors()
    for _ in range(8):
        next(stream)
    assert live_tensors() == before


def test_given_flow_drives_its_steps_of_a_stream(tiny_pipeline, picture):
    given = [None, torch.full((1, 2, 8, 8), 3.0)]
    expected = tiny_pipeline(picture, STROKES, dense_flow=given, generator=seeded(), output_type="latent").frames[0]
    stream = tiny_pipeline.stream(
        picture, STROKES, num_frames=4, dense_flow=given, generator=seeded(), output_type="latent"
    )
    assert torch.equal(torch.stack(list(stream)), expected)


def test_two_streams_of_one_pipeline_do_not_disturb_each_other(tiny_pipeline, picture):
    def start(guidance_scale, num_inference_steps):
        return tiny_pipeline.stream(
            picture,
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
        tiny_pipeline.predict_flow(picture, STROKES)
    for index, (of_first, of_second) in enumerate(together):
        assert torch.equal(of_first, alone[0][index])
        assert torch.equal(of_second, alone[1][index])


def test_interrupt_ends_the_stream(tiny_pipeline, picture):
    shown = 0
    for _ in tiny_pipeline.stream(picture, STROKES):
        shown += 1
        if shown == 3:
            tiny_pipeline._interrupt = True
    assert shown == 3

    def callback(pipe, step, timestep, tensors):
        pipe._interrupt = step == 2  # the first of the two steps of frame 2

    assert len(list(tiny_pipeline.stream(picture, STROKES, callback_on_step_end=callback))) == 2


def test_predicting_flow_meanwhile_leaves_an_interrupt_alone(tiny_pipeline, picture):
    stream = tiny_pipeline.stream(picture, STROKES)
    next(stream)
    tiny_pipeline._interrupt = True
    tiny_pipeline.predict_flow(picture, STROKES)
    assert list(stream) == []


def test_gradients_are_off_in_the_stream_only(tiny_pipeline, picture):
    for frame in tiny_pipeline.stream(picture, STROKES, num_frames=3, output_type="latent"):
        assert not frame.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("end", ["exhausted", "closed", "error"])
def test_stream_frees_the_models_however_it_ends(picture, end):
    pipe = make_pipeline()
    pipe.enable_model_cpu_offload(device="cpu")
    hooks = list(pipe._all_hooks)

    def callback(pipe, step, timestep, tensors):
        if end == "error":
            raise RuntimeError("no more")

    stream = pipe.stream(picture, STROKES, num_frames=2, callback_on_step_end=callback)
    next(stream)
    assert pipe._all_hooks == hooks
    if end == "exhausted":
        list(stream)
    elif end == "closed":
        stream.close()
    else:
        with pytest.raises(RuntimeError, match="no more"):
            next(stream)
    # models are brought back to the CPU, and get new hooks for the next call
    assert not set(map(id, pipe._all_hooks)) & set(map(id, hooks))
