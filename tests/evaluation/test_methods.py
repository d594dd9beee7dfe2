import numpy as np
import pytest
import torch

from mcdiff_pipeline.evaluation.batches import ClipBatch, StrokedBatch
from mcdiff_pipeline.evaluation.methods import (
    Model,
    ModelWithTrueFlow,
    OtherModel,
    Reconstruction,
    SplatCompletedFlow,
    SplatInterpolatedStrokes,
    SplatTrueFlow,
    SplatTrueFlowOnCells,
    Still,
    TrueVideo,
    comparison_methods,
)
from support.sliding_squares import sliding_square
from support.stroked_batches import make_stroked_batch
from support.tiny_models import make_pipeline


SIZE, NUM_FRAMES = 32, 4


@pytest.fixture(scope="module")
def batch() -> StrokedBatch:
    return make_stroked_batch(make_pipeline(), 0, 1)


def test_every_method_gives_the_frames_after_the_first(batch):
    names = []
    for method in comparison_methods(batch.clips.pipe, {"other": make_pipeline()}):
        frames = method.frames(batch)
        assert frames.shape == (2, NUM_FRAMES - 1, 3, SIZE, SIZE), method.name
        assert frames.min() >= -1e-6, method.name
        assert frames.max() <= 1 + 1e-6, method.name
        names.append(method.name)
    assert len(set(names)) == len(names) == 12


def test_true_video_and_still_give_the_frames_of_the_clip(batch):
    clip = sliding_square(1)
    np.testing.assert_allclose(TrueVideo().frames(batch)[1, 2].permute(1, 2, 0) * 255, clip.frames[3], atol=1e-3)
    np.testing.assert_allclose(Still().frames(batch)[1, 2].permute(1, 2, 0) * 255, clip.frames[0], atol=1e-3)


def test_splat_along_the_true_flow_is_near_the_true_video(batch):
    truth = TrueVideo().frames(batch)
    near = (SplatTrueFlow().frames(batch) - truth).square().mean()
    on_cells = (SplatTrueFlowOnCells().frames(batch) - truth).square().mean()
    far = (Still().frames(batch) - truth).square().mean()
    assert near < 0.5 * far and near < on_cells < far


def test_splat_along_the_nearest_stroke_moves_a_rigid_square_correctly(batch):
    truth, moved = TrueVideo().frames(batch)[0, 2], SplatInterpolatedStrokes("nearest stroke").frames(batch)[0, 2]
    # The whole image moves with the square, which is correct inside the square only.
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[9:19, 11:21] = True
    torch.testing.assert_close(moved[:, inside], truth[:, inside])


def test_methods_of_the_model_share_one_video(batch, monkeypatch):
    shared, runs = make_stroked_batch(batch.clips.pipe, 0), []
    generate = ClipBatch.generate
    monkeypatch.setattr(ClipBatch, "generate", lambda *args, **kwargs: runs.append(1) or generate(*args, **kwargs))
    for method in (Model(), SplatCompletedFlow(), ModelWithTrueFlow(), Model(), ModelWithTrueFlow(), Reconstruction()):
        method.frames(shared)
    assert len(runs) == 2


def test_other_model_gets_the_same_noise(batch):
    assert torch.equal(OtherModel("the same", batch.clips.pipe).frames(batch), Model().frames(batch))


def test_model_without_flow_completion_has_no_methods_that_need_it():
    pipe = make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)
    methods = comparison_methods(pipe)
    assert not any(isinstance(method, (SplatCompletedFlow, ModelWithTrueFlow)) for method in methods)
    stroked = make_stroked_batch(pipe, 0)
    for method in methods:
        assert method.frames(stroked).shape == (1, NUM_FRAMES - 1, 3, SIZE, SIZE)
