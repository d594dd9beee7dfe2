import numpy as np
import pytest
import torch

from mcdiff_pipeline.evaluation.batches import ClipBatch, StrokedBatch
from mcdiff_pipeline.evaluation.handles import draw_handles
from support.sliding_squares import sliding_square
from support.stroked_batches import make_stroked_batch
from support.tiny_models import make_flow_completion, make_pipeline


SIZE, NUM_FRAMES = 32, 4


@pytest.fixture(scope="module")
def batch() -> StrokedBatch:
    return make_stroked_batch(make_pipeline(), 0, 1)


def test_videos_equal_those_of_a_call_and_the_images_are_encoded_once(batch, monkeypatch):
    clips, pipe, encoded = make_stroked_batch(batch.clips.pipe, 0, 1).clips, batch.clips.pipe, []
    encode = pipe.encode_image
    monkeypatch.setattr(pipe, "encode_image", lambda images: encoded.append(1) or encode(images))
    videos = [clips.generate(pipe, batch.strokes), clips.generate(pipe, [[], []], clips.true_flow_on_cells)]
    assert len(encoded) == 1
    true_flow = clips.true_flow_on_cells * pipe.vae_scale_factor  # in pixels
    for video, strokes, flow in zip(videos, (batch.strokes, []), (None, true_flow)):
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
        torch.testing.assert_close(video.frames, called.frames, atol=1e-5, rtol=0)
        torch.testing.assert_close(video.dense_flow * pipe.vae_scale_factor, called.dense_flow, atol=1e-5, rtol=0)


def test_frames_without_detail_are_decoded_latents_and_each_frame_is_decoded_once(monkeypatch):
    pipe, decoded = make_pipeline(("start_picture", "dense_flow")), []
    clips = make_stroked_batch(pipe, 0, 1).clips
    expected = [pipe.decode_latents(state.latents) for state in clips.roll_out(pipe, [[], []], NUM_FRAMES)]
    decode = pipe.vae.decode
    monkeypatch.setattr(pipe.vae, "decode", lambda *inputs, **named: decoded.append(1) or decode(*inputs, **named))
    video = clips.generate(pipe, [[], []])
    assert len(decoded) == NUM_FRAMES  # also the given image, for its detail
    assert torch.equal(video.decoded, torch.stack(expected, dim=1))
    assert not torch.equal(video.frames[:, 1:], video.decoded)


def test_video_depends_only_on_its_own_clip_and_seed(batch):
    alone = make_stroked_batch(batch.clips.pipe, 1)
    torch.testing.assert_close(alone.video.frames[0], batch.video.frames[1], atol=1e-4, rtol=0)


def test_true_flow_replaces_the_flow_of_the_strokes(batch):
    video = batch.clips.true_flow_video
    torch.testing.assert_close(video.dense_flow, batch.clips.true_flow_on_cells)
    assert not torch.allclose(video.frames, batch.video.frames)


def test_true_flow_on_the_latent_grid_is_in_cells(batch):
    # The squares cover whole cells and move 2 and 3 pixels right.
    inside = batch.clips.true_flow_on_cells[:, 0, :, 3, 2] * batch.clips.cell
    torch.testing.assert_close(inside, torch.tensor([[2.0, 0.0], [3.0, 0.0]]))


def test_flow_in_regions_keeps_to_the_things_of_the_clips():
    pipe = make_pipeline(flow_completion=make_flow_completion(reads_regions=True, fits_regions=True))
    with torch.no_grad():  # the strokes of a region alone
        pipe.flow_completion.conv_gate.bias.fill_(50)
    batch = make_stroked_batch(pipe, 0, 1)
    flow = batch.first_flow_in_regions * batch.clips.cell
    torch.testing.assert_close(flow[:, :, 3, 2], torch.tensor([[2.0, 0.0], [3.0, 0.0]]))
    other = batch.completed_flow[:, 0] * batch.clips.cell
    assert not torch.allclose(flow, other, atol=0.1)


def test_interpolated_flow_is_zero_in_steps_without_a_stroke():
    clip = sliding_square()
    clip.occlusion[1] = True
    handles = [draw_handles(clip, 1, np.random.default_rng(0))]
    batch = StrokedBatch(ClipBatch(make_pipeline(), [clip], [0]), handles)
    for flow in batch.interpolations.values():
        assert torch.allclose(flow[0, 0, 0] * batch.clips.cell, torch.tensor(2.0))
        assert (flow[0, 1:] == 0).all()


def test_moving_and_still_regions_follow_the_motion_since_the_start(batch):
    moving, still = batch.clips.moving[0], batch.clips.still[0]
    assert moving[2, 8:20, 4:16].all()  # left
    assert moving[2, 10:18, 12:20].all()  # reached
    assert still[:, :6].all()
    assert not (still & moving).any()
    assert (still[1:] <= still[:-1]).all()


def test_latent_splat_along_zero_flow_is_the_decoded_start_frame(batch):
    clip = sliding_square()
    clip.flow[:] = 0
    clips = ClipBatch(batch.clips.pipe, [clip], [0])
    start = clips.reconstruction[:, 0]
    torch.testing.assert_close(clips.true_flow_latent_splat, start, atol=1e-4, rtol=0)
    assert not torch.allclose(batch.clips.true_flow_latent_splat[:1], start, atol=0.05)
