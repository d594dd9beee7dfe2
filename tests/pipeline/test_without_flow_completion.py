# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A model without F: G gets the strokes themselves ("w/o flow completion" in table 2 of the paper)."""

import json

import pytest
import torch

from mcdiff_pipeline import MCDiffPipeline, Stroke
from support.pipeline_runs import STROKES, latents_of, record_inputs, seeded
from support.tiny_models import make_pipeline


CONDITIONING = ("previous_frame", "sparse_flow")


@pytest.fixture
def pipe() -> MCDiffPipeline:
    return make_pipeline(CONDITIONING, flow_completion=None)


def test_unet_gets_the_strokes_of_each_step(pipe, wide_image):
    calls = record_inputs(pipe.unet)
    stroke = Stroke([(10, 10), (34, 10)], end_frame=2)  # 8 pixels or two cells a step at the working size
    pipe(wide_image, [stroke], num_frames=4, num_inference_steps=1, height=32, width=32)
    masks = [call[0, 10].nonzero().tolist() for call in calls]
    assert [len(mask) for mask in masks] == [1, 1, 0]
    for call, ((row, column),), expected_column in zip(calls, masks, (1, 3)):
        assert column == expected_column
        assert call[0, 8, row, column] == pytest.approx(2, abs=1e-5) and call[0, 9, row, column] == 0


def test_output_has_frames_and_no_dense_flow(pipe, image):
    output = pipe(image, STROKES, num_frames=3)
    assert len(output.frames[0]) == 3 and output.dense_flow is None
    frames, dense_flow = pipe(image, STROKES, num_frames=1, return_dict=False)
    assert len(frames[0]) == 1 and dense_flow is None
    assert not torch.equal(latents_of(pipe, image), latents_of(pipe, image, strokes=[]))


def test_predicting_flow_is_refused(pipe, image):
    with pytest.raises(ValueError, match="This model has no `flow_completion`, so there is no dense flow to predict"):
        pipe.predict_flow(image, STROKES)


def test_dense_flow_that_no_condition_needs_is_refused(pipe, image):
    with pytest.raises(ValueError, match=r"`dense_flow` is given, .*'sparse_flow'\], are not made of dense flow"):
        pipe(image, [], dense_flow=torch.zeros(1, 1, 2, 8, 8))


@pytest.mark.parametrize("name", ["dense_flow", "splatted_frame", "hole_mask", "start_picture"])
def test_conditions_made_of_dense_flow_need_flow_completion(name):
    with pytest.raises(ValueError, match=rf"`flow_completion` is None, but the conditions \['{name}'\]"):
        make_pipeline(("sparse_flow", name), flow_completion=None)


def test_unet_can_get_strokes_and_dense_flow(wide_image):
    pipe = make_pipeline(("previous_frame", "dense_flow", "sparse_flow"))
    calls = record_inputs(pipe.unet)
    sizes = {"height": 32, "width": 32}
    dense_flow = pipe(wide_image, STROKES, num_frames=2, num_inference_steps=1, **sizes).dense_flow
    torch.testing.assert_close(calls[0][:, 8:10] * 4, dense_flow[:, 0])
    assert calls[0][0, 12].sum() == len(STROKES)


def test_guidance_extrapolates_from_the_prediction_without_strokes(pipe, image):
    # one DDIM step is affine in the prediction
    def next_frame(scale, strokes=STROKES):
        return latents_of(pipe, image, strokes, num_frames=2, num_inference_steps=1, guidance_scale=scale)[:, 1]

    free, moved = next_frame(1.0, strokes=[]), next_frame(1.0)
    assert (moved - free).abs().max() > 1e-3
    torch.testing.assert_close(next_frame(0.0), free, rtol=0, atol=1e-5)
    torch.testing.assert_close(next_frame(2.5), free + 2.5 * (moved - free), rtol=0, atol=1e-4)


def test_stream_and_callbacks_work_without_dense_flow(pipe, image):
    seen = []

    def note(pipe, step, timestep, tensors):
        seen.append((step, sorted(tensors), tensors["dense_flow"]))
        return {}

    stream = pipe.stream(
        image,
        STROKES,
        num_frames=3,
        generator=seeded(),
        output_type="latent",
        callback_on_step_end=note,
        callback_on_step_end_tensor_inputs=["latents", "dense_flow"],
    )
    assert torch.equal(torch.stack(list(stream)), latents_of(pipe, image, num_frames=3)[0])
    assert seen == [(step, ["dense_flow", "latents"], None) for step in range(4)]


def test_steps_give_the_frames_of_a_call(pipe, image):
    state = pipe.start(image, generator=seeded())
    for latents in latents_of(pipe, image)[:, 1:].unbind(1):
        state = pipe.step(state, STROKES)
        assert torch.equal(state.latents, latents) and state.dense_flow is None


def test_saved_and_loaded_model_makes_the_same_video(pipe, image, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["flow_completion"] == [None, None]
    loaded = MCDiffPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.flow_completion is None
    torch.testing.assert_close(latents_of(loaded, image), latents_of(pipe, image))
    again = MCDiffPipeline(**loaded.components, conditioning=loaded.config.conditioning)
    assert again.components["flow_completion"] is None


def test_a_model_without_flow_completion_can_be_made_from_one_with_it(image):
    whole = make_pipeline(CONDITIONING)
    pipe = MCDiffPipeline.from_pipe(whole, flow_completion=None)
    assert pipe.flow_completion is None and pipe.unet is whole.unet
    assert torch.equal(latents_of(pipe, image), latents_of(whole, image))


def test_offload_gives_the_same_video(pipe, image):
    expected = latents_of(pipe, image)
    pipe.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(latents_of(pipe, image), expected)


def test_commands_refuse_outputs_of_flow_before_the_first_frame(pipe, image, tmp_path, mcdiff):
    pipe.save_pretrained(tmp_path / "model")
    image.save(tmp_path / "photo.png")
    common = [tmp_path / "photo.png", "--stroke", "10,10 34,26", "--model", tmp_path / "model", "--size", "32x32"]
    assert mcdiff("generate", *common, "--output", tmp_path / "plain.mp4")[0] == 0
    flow_video = ["--flow-video", tmp_path / "flow.mp4"]
    code, _, err = mcdiff("generate", *common, "--output", tmp_path / "video.mp4", *flow_video)
    assert code == 2 and "--flow-video" in err and "no flow completion" in err
    code, _, err = mcdiff("flow", *common, "--output", tmp_path / "flow.png")
    assert code == 2 and "no `flow_completion`" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "photo.png", "plain.mp4"]


def test_command_info_shows_that_there_is_no_flow_completion(pipe, tmp_path, mcdiff):
    pipe.save_pretrained(tmp_path / "model")
    code, out, _ = mcdiff("info", tmp_path / "model")
    assert code == 0 and "previous_frame, sparse_flow" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("flow_completion")] == ["none"]
