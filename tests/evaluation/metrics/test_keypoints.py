import numpy as np
import pytest
import torch
from PIL import Image
from support.paths import EXAMPLES

from mcdiff_pipeline.annotation.people import PersonDetector, find_pose_model
from mcdiff_pipeline.dataset import Clip
from mcdiff_pipeline.evaluation.handles import Handle
from mcdiff_pipeline.evaluation.metrics.keypoints import joints_of, keypoint_distances


def test_a_handle_that_starts_at_a_keypoint_is_that_joint():
    keypoints = np.zeros((2, 2, 3, 3), np.float32)
    keypoints[0, 1, 2] = [7.25, 9.1, 2]
    clip = Clip(
        "clip",
        np.zeros((2, 16, 16, 3), np.uint8),
        np.zeros((1, 2, 16, 16), np.float32),
        np.zeros((1, 16, 16), bool),
        np.zeros((2, 16, 16), np.uint8),
        keypoints,
    )
    at_joint = Handle(np.array([[np.float32(7.25), np.float32(9.1)], [8, 9]], np.float64))
    elsewhere = Handle(np.array([[3.5, 3.5], [4.5, 3.5]]))
    assert joints_of(clip, [elsewhere, at_joint]) == [(1, 2)]


@pytest.fixture(scope="module")
def detector():
    with PersonDetector(find_pose_model()) as detector:
        yield detector


@pytest.fixture(scope="module")
def photograph(detector):
    """A photograph of a person, and the keypoints that the detector finds in it, as if they were the truth."""
    frame = np.array(Image.open(EXAMPLES / "balancing.jpg").convert("RGB"))
    keypoints = detector(frame)[0].keypoints[None].copy()
    keypoints[..., 2] = np.where(keypoints[..., 2] >= 0.5, 2, 1)
    return torch.from_numpy(frame).permute(2, 0, 1).float() / 255, keypoints


def joints(keypoints: np.ndarray) -> list[tuple[int, int]]:
    return [(0, int(joint)) for joint in np.nonzero(keypoints[0, :, 2] == 2)[0]]


@pytest.mark.pose_model
def test_on_the_same_picture_joints_are_where_they_were(photograph, detector):
    frame, keypoints = photograph
    distances = keypoint_distances(detector, frame, keypoints, joints(keypoints))
    assert len(distances) >= 5
    assert distances == pytest.approx([0] * len(distances), abs=0.01)


@pytest.mark.pose_model
def test_joints_of_a_shifted_person_are_off_by_about_the_shift(photograph, detector):
    frame, keypoints = photograph
    moved = keypoints.copy()
    moved[..., 0] += 12
    distances = keypoint_distances(detector, frame, moved, joints(keypoints))
    assert distances == pytest.approx([12] * len(distances), abs=0.01)


@pytest.mark.pose_model
def test_where_nobody_is_found_or_the_joint_is_hidden_there_is_no_distance(photograph, detector):
    frame, keypoints = photograph
    seen = joints(keypoints)
    assert np.isnan(keypoint_distances(detector, torch.zeros_like(frame), keypoints, seen)).all()
    hidden = keypoints.copy()
    hidden[0, seen[0][1], 2] = 1
    assert np.isnan(keypoint_distances(detector, frame, hidden, seen)).tolist()[:2] == [True, False]


@pytest.mark.pose_model
def test_somebody_else_far_away_is_not_taken_for_the_person(photograph, detector):
    frame, keypoints = photograph
    elsewhere = keypoints.copy()
    elsewhere[..., :2] = 0.2 * elsewhere[..., :2]
    assert np.isnan(keypoint_distances(detector, frame, elsewhere, joints(keypoints))).all()
