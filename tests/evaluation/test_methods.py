import numpy as np
import pytest
import torch
from support.sliding_squares import sliding_square
from support.tiny_models import make_pipeline

from mcdiff_pipeline.evaluation.handles import draw_handles
from mcdiff_pipeline.evaluation.methods import (
    ClipBatch,
    Model,
    ModelWithTrueFlow,
    OtherModel,
    Reconstruction,
    SplatCompletedFlow,
    SplatInterpolatedStrokes,
    SplatTrueFlow,
    Still,
    StrokedBatch,
    TrueVideo,
    comparison_rows,
)


SIZE, NUM_FRAMES = 32, 4


def make_batch(pipe, *numbers: int, strokes: int = 2) -> StrokedBatch:
    clips = [sliding_square(number) for number in numbers]
    handles = [draw_handles(clip, strokes, np.random.default_rng(0)) for clip in clips]
    return StrokedBatch(ClipBatch(pipe, clips, list(numbers), num_inference_steps=1), handles)


@pytest.fixture(scope="module")
def batch() -> StrokedBatch:
    return make_batch(make_pipeline(), 0, 1)


def test_every_row_gives_the_frames_after_the_first(batch):
    names = []
    for row in comparison_rows(batch.clips.pipe, {"other": make_pipeline()}):
        frames = row.frames(batch)
        assert frames.shape == (2, NUM_FRAMES - 1, 3, SIZE, SIZE), row.name
        assert frames.min() >= -1e-6, row.name
        assert frames.max() <= 1 + 1e-6, row.name
        names.append(row.name)
    assert len(set(names)) == len(names) == 11


def test_truth_and_still_are_what_they_say(batch):
    clip = sliding_square(1)
    np.testing.assert_allclose(TrueVideo().frames(batch)[1, 2].permute(1, 2, 0) * 255, clip.frames[3], atol=1e-3)
    np.testing.assert_allclose(Still().frames(batch)[1, 2].permute(1, 2, 0) * 255, clip.frames[0], atol=1e-3)


def test_splatting_along_the_true_flow_is_near_the_true_video(batch):
    truth = TrueVideo().frames(batch)
    near = (SplatTrueFlow().frames(batch) - truth).square().mean()
    far = (Still().frames(batch) - truth).square().mean()
    assert near < 0.5 * far


def test_strokes_of_a_rigid_square_carry_it_to_the_right_place(batch):
    truth, moved = TrueVideo().frames(batch)[0, 2], SplatInterpolatedStrokes("nearest stroke").frames(batch)[0, 2]
    # The whole picture goes with the square; inside the square that is right.
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[9:19, 11:21] = True
    torch.testing.assert_close(moved[:, inside], truth[:, inside])


def test_interpolated_flow_is_zero_once_no_stroke_says_anything():
    clip = sliding_square()
    clip.occlusion[1] = True
    handles = [draw_handles(clip, 1, np.random.default_rng(0))]
    batch = StrokedBatch(ClipBatch(make_pipeline(), [clip], [0]), handles)
    for flow in batch.interpolations.values():
        assert torch.allclose(flow[0, 0, 0], torch.tensor(2.0))
        assert (flow[0, 1:] == 0).all()


def test_the_models_rows_share_one_run(batch, monkeypatch):
    shared, runs = make_batch(batch.clips.pipe, 0), []
    run = ClipBatch.run
    monkeypatch.setattr(ClipBatch, "run", lambda *args, **kwargs: runs.append(1) or run(*args, **kwargs))
    for row in (Model(), SplatCompletedFlow(), ModelWithTrueFlow(), Model(), ModelWithTrueFlow(), Reconstruction()):
        row.frames(shared)
    assert len(runs) == 2


def test_videos_are_those_of_a_call_but_the_picture_is_encoded_once(batch, monkeypatch):
    clips, pipe, encoded = make_batch(batch.clips.pipe, 0, 1).clips, batch.clips.pipe, []
    encode = pipe.encode_image
    monkeypatch.setattr(pipe, "encode_image", lambda pictures: encoded.append(1) or encode(pictures))
    runs = [clips.run(pipe, batch.strokes), clips.run(pipe, [[], []], dense_flow=clips.true_flow_on_cells)]
    assert len(encoded) == 1
    for output, strokes, flow in zip(runs, (batch.strokes, []), (None, clips.true_flow_on_cells)):
        called = pipe(
            clips.start,
            strokes,
            num_frames=NUM_FRAMES,
            height=SIZE,
            width=SIZE,
            num_inference_steps=1,
            generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
            dense_flow=flow,
            output_type="pt",
        )
        torch.testing.assert_close(output.frames, called.frames, atol=1e-5, rtol=0)
        torch.testing.assert_close(output.dense_flow, called.dense_flow, atol=1e-5, rtol=0)


def test_a_video_depends_on_its_own_clip_and_seed_alone(batch):
    alone = make_batch(batch.clips.pipe, 1)
    torch.testing.assert_close(Model().frames(alone)[0], Model().frames(batch)[1], atol=1e-4, rtol=0)


def test_the_true_flow_needs_no_strokes_and_drives_g(batch):
    output = batch.clips.true_flow_rollout
    torch.testing.assert_close(output.dense_flow, batch.clips.true_flow_on_cells)
    assert not torch.allclose(output.frames, batch.rollout.frames)


def test_another_model_gets_the_same_noise(batch):
    assert torch.equal(OtherModel("the same", batch.clips.pipe).frames(batch), Model().frames(batch))


def test_a_model_without_f_has_no_rows_that_need_it(batch):
    pipe = make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)
    rows = comparison_rows(pipe)
    assert not any(isinstance(row, (SplatCompletedFlow, ModelWithTrueFlow)) for row in rows)
    stroked = make_batch(pipe, 0)
    for row in rows:
        assert row.frames(stroked).shape == (1, NUM_FRAMES - 1, 3, SIZE, SIZE)


def test_moving_and_still_regions_follow_the_motion_since_the_start(batch):
    moving, still = batch.clips.moving[0], batch.clips.still[0]
    assert moving[2, 8:20, 4:16].all()  # left
    assert moving[2, 10:18, 12:20].all()  # reached
    assert still[:, :6].all()
    assert not (still & moving).any()
    assert (still[1:] <= still[:-1]).all()
