# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A model without F: strokes go straight into G ("w/o flow completion" in table 2 of the paper)."""

import json

import pytest
import torch
from support.tiny_models import make_pipeline
from test_pipeline_mcdiff import STROKES, latents_of, record_inputs, seeded

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.pipeline_mcdiff import frame_condition


CONDITIONING = ("previous_frame", "sparse_flow")


@pytest.fixture
def pipe() -> MCDiffPipeline:
    return make_pipeline(CONDITIONING, flow_completion=None)


def test_strokes_are_given_in_cells_over_the_flow_scale_and_silence_is_no_hold():
    displacement, mask = torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    displacement[0, :, 0, 1] = torch.tensor([12.0, -8.0])
    mask[0, 0, 0, 1] = mask[0, 0, 2, 2] = True  # one moves, one is held, seven say nothing
    found = frame_condition(
        ["sparse_flow"],
        torch.zeros(1, 4, 3, 3),
        None,
        vae_scale_factor=4,
        flow_scale=2.0,
        sparse_flow=(displacement, mask),
    )
    expected = torch.zeros(1, 3, 3, 3)
    expected[0, :, 0, 1] = torch.tensor([1.5, -1.0, 1.0])
    expected[0, :, 2, 2] = torch.tensor([0.0, 0.0, 1.0])
    assert torch.equal(found, expected)


def test_the_unet_reads_the_strokes_of_each_step(pipe, picture):
    calls = record_inputs(pipe.unet)
    stroke = Stroke([(10, 10), (34, 10)], end_frame=2)  # 8 pixels a step on the working size, two cells
    pipe(picture, [stroke], num_frames=4, num_inference_steps=1)
    masks = [call[0, 10].nonzero().tolist() for call in calls]
    assert [len(mask) for mask in masks] == [1, 1, 0]
    for call, ((row, column),), expected_column in zip(calls, masks, (1, 3)):
        assert column == expected_column
        assert call[0, 8, row, column] == pytest.approx(2, abs=1e-5) and call[0, 9, row, column] == 0


def test_output_has_frames_and_no_dense_flow(pipe, picture):
    output = pipe(picture, STROKES, num_frames=3)
    assert len(output.frames[0]) == 3 and output.dense_flow is None
    frames, dense_flow = pipe(picture, STROKES, num_frames=1, return_dict=False)
    assert len(frames[0]) == 1 and dense_flow is None
    assert not torch.equal(latents_of(pipe, picture), latents_of(pipe, picture, strokes=[]))


def test_predicting_flow_says_that_there_is_none(pipe, picture):
    with pytest.raises(ValueError, match="This model has no `flow_completion`, so there is no dense flow to predict"):
        pipe.predict_flow(picture, STROKES)


def test_dense_flow_that_nothing_reads_is_refused(pipe, picture):
    with pytest.raises(ValueError, match=r"`dense_flow` is given, .*'sparse_flow'\], are not made of dense flow"):
        pipe(picture, [], dense_flow=torch.zeros(1, 1, 2, 8, 8))


@pytest.mark.parametrize("name", ["dense_flow", "splatted_frame", "hole_mask", "start_frame"])
def test_conditions_made_of_dense_flow_need_flow_completion(name):
    with pytest.raises(ValueError, match=rf"`flow_completion` is None, but the conditions \['{name}'\]"):
        make_pipeline(("sparse_flow", name), flow_completion=None)


def test_strokes_may_be_given_beside_dense_flow(picture):
    pipe = make_pipeline(("previous_frame", "dense_flow", "sparse_flow"))
    calls = record_inputs(pipe.unet)
    dense_flow = pipe(picture, STROKES, num_frames=2, num_inference_steps=1).dense_flow
    torch.testing.assert_close(calls[0][:, 8:10] * 4, dense_flow[:, 0])
    assert calls[0][0, 12].sum() == len(STROKES)


def test_guidance_moves_away_from_the_prediction_without_strokes(pipe, picture):
    # one DDIM step is affine in the prediction
    def next_frame(scale, strokes=STROKES):
        return latents_of(pipe, picture, strokes, num_frames=2, num_inference_steps=1, guidance_scale=scale)[:, 1]

    free, moved = next_frame(1.0, strokes=[]), next_frame(1.0)
    assert (moved - free).abs().max() > 1e-3
    torch.testing.assert_close(next_frame(0.0), free, rtol=0, atol=1e-5)
    torch.testing.assert_close(next_frame(2.5), free + 2.5 * (moved - free), rtol=0, atol=1e-4)


def test_stream_and_callbacks_work_as_with_flow_completion(pipe, picture):
    seen = []

    def note(pipe, step, timestep, tensors):
        seen.append((step, sorted(tensors), tensors["dense_flow"]))
        return {}

    stream = pipe.stream(
        picture,
        STROKES,
        num_frames=3,
        generator=seeded(),
        output_type="latent",
        callback_on_step_end=note,
        callback_on_step_end_tensor_inputs=["latents", "dense_flow"],
    )
    assert torch.equal(torch.stack(list(stream)), latents_of(pipe, picture, num_frames=3)[0])
    assert seen == [(step, ["dense_flow", "latents"], None) for step in range(4)]


def test_saved_and_loaded_again_it_makes_the_same_video(pipe, picture, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["flow_completion"] == [None, None]
    loaded = MCDiffPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.flow_completion is None
    torch.testing.assert_close(latents_of(loaded, picture), latents_of(pipe, picture))
    again = MCDiffPipeline(**loaded.components, conditioning=loaded.config.conditioning)
    assert again.components["flow_completion"] is None


def test_a_model_without_flow_completion_can_be_made_from_one_with_it(picture):
    whole = make_pipeline(CONDITIONING)
    pipe = MCDiffPipeline.from_pipe(whole, flow_completion=None)
    assert pipe.flow_completion is None and pipe.unet is whole.unet
    assert torch.equal(latents_of(pipe, picture), latents_of(whole, picture))


def test_offload_gives_the_same_video(pipe, picture):
    expected = latents_of(pipe, picture)
    pipe.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(latents_of(pipe, picture), expected)


def test_flow_video_and_picture_are_refused_before_the_first_frame(pipe, picture, tmp_path, mcdiff):
    pipe.save_pretrained(tmp_path / "model")
    picture.save(tmp_path / "photo.png")
    common = [tmp_path / "photo.png", "--stroke", "10,10 34,26", "--model", tmp_path / "model", "--size", "32x32"]
    assert mcdiff("generate", *common, "--output", tmp_path / "plain.mp4")[0] == 0
    flow_video = ["--flow-video", tmp_path / "flow.mp4"]
    code, _, err = mcdiff("generate", *common, "--output", tmp_path / "video.mp4", *flow_video)
    assert code == 2 and "--flow-video" in err and "no flow completion" in err
    code, _, err = mcdiff("flow", *common, "--output", tmp_path / "flow.png")
    assert code == 2 and "no `flow_completion`" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "photo.png", "plain.mp4"]


def test_info_says_that_there_is_no_flow_completion(pipe, tmp_path, mcdiff):
    pipe.save_pretrained(tmp_path / "model")
    code, out, _ = mcdiff("info", tmp_path / "model")
    assert code == 0 and "previous_frame, sparse_flow" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("flow_completion")] == ["none"]
