# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The motion of a video lands on an image: aligned, retimed, in a region, and as strokes."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_small

from mcdiff_pipeline import Region, Stroke
from mcdiff_pipeline.annotation import flow as estimators
from mcdiff_pipeline.annotation.gmflow_network import GmflowNetwork
from mcdiff_pipeline.motion.alignment import aligned_by_points, covering
from mcdiff_pipeline.motion.description import motion_from_dicts
from mcdiff_pipeline.motion.people_motion import retargeted
from mcdiff_pipeline.motion.reference import ReferenceFlow, ReferenceMotion
from mcdiff_pipeline.motion.thinning import thin_tracks
from mcdiff_pipeline.video import write_video
from support.pipeline_runs import seeded
from support.tiny_models import make_pipeline


HEIGHT, WIDTH = 40, 48
VELOCITY = (3, -1)  # of the texture, in pixels of the video in a frame
SAME = np.array([[1.0, 0, 0], [0, 1, 0]])
INNER = (slice(None), slice(None), slice(3, 7), slice(3, 9))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Eight frames of 96 x 80 pixels: a texture that slides."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 30, 34))).float()
    texture = torch.nn.functional.interpolate(coarse, (150, 170), mode="bicubic")[0].clamp(0, 1)
    texture = (texture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    frames = []
    for t in range(8):
        left, top = 40 - VELOCITY[0] * t, 30 - VELOCITY[1] * t
        frames.append(texture[top : top + 80, left : left + 96])
    path = tmp_path_factory.mktemp("reference") / "slide.mkv"
    write_video(frames, path, fps=8)
    return path


@pytest.fixture(scope="module")
def flow(video):
    return ReferenceFlow(video)


def test_flow_of_the_video_lies_on_the_image(flow):
    alignment = covering((WIDTH, HEIGHT), (96, 80))
    assert alignment.tolist() == [[2, 0, 0], [0, 2, 0]]
    found, valid = ReferenceMotion(flow, alignment, WIDTH, HEIGHT).at(0, (10, 12))
    expected = torch.tensor(VELOCITY)[:, None, None] / 2 / 4  # half as many pixels, four to a cell
    assert valid[INNER].min() > 0.9
    assert (found - expected)[INNER].abs().max() < 0.05


@pytest.mark.parametrize("estimator", ["gmflow", "raft_small"])
def test_every_estimator_gives_motion_that_is_described_with_its_weights(video, estimator, tmp_path, monkeypatch):
    """With random weights, so that this runs everywhere: the flow is not that of the video."""
    monkeypatch.setattr(estimators, "GMFLOW_SHORT_SIDE", 1)  # frames are not enlarged, which is faster
    torch.manual_seed(0)
    network = GmflowNetwork() if estimator == "gmflow" else raft_small(weights=None)
    weights = tmp_path / f"{estimator}.safetensors"
    save_file(network.state_dict(), weights)
    motion = ReferenceMotion(ReferenceFlow(video, estimator, weights), SAME, 96, 80)
    flow, valid = motion.at(0, (10, 12))
    assert flow.shape == (1, 2, 10, 12) and flow.isfinite().all() and 0 <= valid.min() and valid.max() <= 1
    description = motion.to_dict()
    assert description["estimator"] == estimator and description["weights"] == str(weights.resolve())
    (again,) = motion_from_dicts([description])
    assert torch.equal(again.at(0, (10, 12))[0], flow)


@pytest.mark.skipif("MCDIFF_GMFLOW_WEIGHTS" not in os.environ, reason="needs the weights of GMFlow")
def test_gmflow_finds_the_motion_of_the_video(video):
    flow = ReferenceFlow(video, "gmflow", os.environ["MCDIFF_GMFLOW_WEIGHTS"])
    found, valid = ReferenceMotion(flow, covering((WIDTH, HEIGHT), (96, 80)), WIDTH, HEIGHT).at(0, (10, 12))
    expected = torch.tensor(VELOCITY)[:, None, None] / 2 / 4
    assert valid[INNER].min() > 0.9 and (found - expected)[INNER].abs().max() < 0.1


def test_flow_turns_with_the_alignment(flow):
    # a quarter turn: to the right in the image is down in the video
    quarter = np.array([[0, -1.0, 70], [1, 0, 10]])
    found, valid = ReferenceMotion(flow, quarter, WIDTH, HEIGHT).at(0, (10, 12))
    expected = torch.tensor([VELOCITY[1], -VELOCITY[0]])[:, None, None] / 4
    assert (valid[INNER] * (found - expected)[INNER]).abs().max() < 0.1


@pytest.mark.parametrize("speed", [0.5, 1, 2, 1.5])
def test_retimed_motion_is_as_fast_as_its_speed(flow, speed):
    found, _ = ReferenceMotion(flow, SAME, WIDTH, HEIGHT, speed=speed).at(1, (10, 12))
    expected = speed * torch.tensor(VELOCITY)[:, None, None] / 4
    assert (found - expected)[INNER].abs().max() < 0.1


def test_video_says_nothing_before_it_begins_and_after_it_ends(flow):
    motion = ReferenceMotion(flow, SAME, WIDTH, HEIGHT, first=2)
    valid = [bool(motion.at(frame, (10, 12))[1].any()) for frame in range(11)]
    assert valid == [False] * 2 + [True] * 7 + [False] * 2


def test_steps_can_be_asked_for_in_any_order(flow):
    motion = ReferenceMotion(flow, SAME, WIDTH, HEIGHT)
    later = motion.at(4, (10, 12))[0]
    motion.at(0, (10, 12))
    assert torch.equal(motion.at(4, (10, 12))[0], later)


def flow_of(image, motion, strokes=(), **arguments):
    pipe = make_pipeline()
    return pipe.predict_flow(
        image, list(strokes), num_frames=4, motion=motion, height=HEIGHT, width=WIDTH, **arguments
    )


def test_reference_moves_the_whole_image_without_strokes(flow, image):
    # over the right half only; the flow continues smoothly in the left one
    shifted = np.array([[1.0, 0, -24], [0, 1, 0]])
    found = flow_of(image, ReferenceMotion(flow, shifted, WIDTH, HEIGHT))
    assert (found - torch.tensor(VELOCITY)[:, None, None])[:, :, 2:8, 1:11].abs().max() < 0.5


def test_strokes_act_where_the_video_says_nothing(flow, image):
    shifted = np.array([[1.0, 0, -24], [0, 1, 0]])
    stroke = Stroke([(8, 20), (14, 26)])
    alone = flow_of(image, None, [stroke])
    found = flow_of(image, ReferenceMotion(flow, shifted, WIDTH, HEIGHT), [stroke])
    assert torch.allclose(found[..., :5], alone[..., :5], atol=1e-5)
    assert (found - torch.tensor(VELOCITY)[:, None, None])[:, :, 3:7, 8:10].abs().max() < 0.5


@pytest.mark.parametrize("rigid", [False, True])
def test_region_moves_alone(flow, image, rigid):
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[8:32, 8:28] = 1
    motion = ReferenceMotion(flow, SAME, WIDTH, HEIGHT, region="thing")
    found = flow_of(image, motion, regions=[Region(mask, name="thing", rigid=rigid)])
    assert (found - torch.tensor(VELOCITY)[:, None, None])[:, :, 3:7, 3:6].abs().max() < 0.5
    assert torch.count_nonzero(found[..., 8:]) == 0
    with pytest.raises(ValueError, match="region is 'other'"):
        flow_of(image, ReferenceMotion(flow, SAME, WIDTH, HEIGHT, region="other"), regions=[Region(mask)])
    with pytest.raises(ValueError, match="the image has no regions"):
        flow_of(image, motion)


def test_points_follow_the_video_as_strokes(flow):
    tracks = ReferenceMotion(flow, SAME, WIDTH, HEIGHT).tracks(6, fps=8.0, columns=8)
    whole = tracks.visible.all(axis=0)
    moved = tracks.positions[5, whole] - tracks.positions[0, whole]
    assert whole.sum() > 10 and np.abs(moved - 5 * np.array(VELOCITY)).max() < 1
    thinned = thin_tracks(tracks, max_tracks=8, max_error=1.0)
    assert len(thinned.tracks) <= 8 and thinned.max_error < 1


def test_source_is_made_again_from_its_description(flow, image, tmp_path):
    motion = ReferenceMotion(flow, SAME, WIDTH, HEIGHT, speed=1.5, first=1)
    (again,) = motion_from_dicts([motion.to_dict()])
    frames = [
        make_pipeline()(image, [], num_frames=3, motion=one, generator=seeded(0), output_type="latent").frames
        for one in (motion, again)
    ]
    assert torch.equal(*frames)
    changed = motion.to_dict() | {"sha256": "0"}
    with pytest.raises(ValueError, match=r"motion\[0\]: video is .* not the file that gave the motion"):
        motion_from_dicts([changed])


def test_points_determine_the_alignment():
    here = [(0, 0), (10, 0), (0, 10), (10, 10)]
    affine = np.array([[2.0, 0.5, 3], [-0.25, 1.5, 4]])
    there = [tuple(affine[:, :2] @ point + affine[:, 2]) for point in here]
    assert np.allclose(aligned_by_points(here, there, 1.0), affine)
    assert np.allclose(aligned_by_points(here[:1], [(5, 6)], 2.0), [[2, 0, 5], [0, 2, 6]])
    assert np.allclose(aligned_by_points(here[:2], [(5, 5), (5, 25)], 1.0), [[0, -2, 5], [2, 0, 5]])
    for wrong in ([(1, 1), (1, 1)], [(0, 0), (1, 1), (2, 2)]):
        with pytest.raises(ValueError, match="give"):
            aligned_by_points(wrong, wrong, 1.0)


def test_limbs_turn_as_in_the_video_and_keep_their_length():
    """A forearm that turns by a quarter, on a body of twice the size whose arm hangs in another direction."""
    body = np.zeros((17, 3))
    body[:, 2] = 1
    body[[5, 6, 11, 12], :2] = [(0, 0), (20, 0), (2, 40), (18, 40)]
    body[[7, 9, 8, 10], :2] = [(-10, 15), (-10, 35), (30, 15), (30, 35)]
    body[[13, 15, 14, 16, 0], :2] = [(2, 60), (2, 80), (18, 60), (18, 80), (10, -15)]
    tracks = np.repeat(body[None], 3, axis=0)
    tracks[1:, 9, :2] = [(-24.142, 29.142), (-30, 15)]  # 45 and 90 degrees clockwise about the elbow
    tracks[2, 15:, 2] = 0  # feet that are not found any more
    person = body.copy()
    person[:, :2] = 2 * body[:, :2] + (100, 50)
    person[9, :2] = person[7, :2] + (-40, 0)
    moved, known = retargeted(tracks, person)
    elbow = person[7, :2]
    assert np.allclose(moved[2, 9], elbow + (0, -40), atol=1e-2)
    others = [joint for joint in (0, 5, 6, 7, 8, 10, 11, 12, 13) if joint != 9]
    assert np.allclose(moved[2, others], person[others, :2])
    assert known[1, 15] and not known[2, 15] and not known[:, 1].any()
    tracks[:, 11, 2] = 0
    with pytest.raises(ValueError, match="hips"):
        retargeted(tracks, person)


def test_video_of_one_frame_has_no_motion(tmp_path, image):
    write_video([image], tmp_path / "one.mkv", fps=8)
    with pytest.raises(ValueError, match="needs at least two"):
        ReferenceFlow(tmp_path / "one.mkv")
