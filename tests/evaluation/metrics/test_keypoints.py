import numpy as np
import pytest
import torch
from PIL import Image

from mcdiff_pipeline.annotation.people import PersonDetector, find_pose_model
from mcdiff_pipeline.evaluation.metrics.keypoints import joints_at, keypoint_distances
from support.paths import EXAMPLES


def test_joint_is_found_at_its_exact_position_only():
    keypoints = np.zeros((2, 17, 3), np.float32)
    keypoints[1, 2] = [7.25, 9.1, 2]
    at_joint = np.array([7.25, 9.1], np.float32).astype(np.float64)
    assert joints_at(keypoints, np.array([[3.5, 3.5], at_joint])) == [(1, 2)]


@pytest.fixture(scope="module")
def detector():
    with PersonDetector(find_pose_model()) as detector:
        yield detector


@pytest.fixture(scope="module")
def photograph(detector):
    """A photograph of a person. The keypoints that the detector finds in it serve as the true ones."""
    frame = np.array(Image.open(EXAMPLES / "balancing.jpg").convert("RGB"))
    keypoints = detector(frame)[0].keypoints[None].copy()
    keypoints[..., 2] = np.where(keypoints[..., 2] >= 0.5, 2, 1)
    return torch.from_numpy(frame).permute(2, 0, 1).float() / 255, keypoints


def joints(keypoints: np.ndarray) -> list[tuple[int, int]]:
    return [(0, int(joint)) for joint in np.nonzero(keypoints[0, :, 2] == 2)[0]]


@pytest.mark.pose_model
def test_distances_on_the_same_image_are_zero(photograph, detector):
    frame, keypoints = photograph
    distances = keypoint_distances(detector, frame, keypoints, joints(keypoints))
    assert len(distances) >= 5
    assert distances == pytest.approx([0] * len(distances), abs=0.01)


@pytest.mark.pose_model
def test_distances_to_shifted_keypoints_are_the_shift(photograph, detector):
    frame, keypoints = photograph
    moved = keypoints.copy()
    moved[..., 0] += 12
    distances = keypoint_distances(detector, frame, moved, joints(keypoints))
    assert distances == pytest.approx([12] * len(distances), abs=0.01)


@pytest.mark.pose_model
def test_distance_is_nan_if_no_person_is_found_or_the_joint_is_hidden(photograph, detector):
    frame, keypoints = photograph
    seen = joints(keypoints)
    assert np.isnan(keypoint_distances(detector, torch.zeros_like(frame), keypoints, seen)).all()
    hidden = keypoints.copy()
    hidden[0, seen[0][1], 2] = 1
    assert np.isnan(keypoint_distances(detector, frame, hidden, seen)).tolist()[:2] == [True, False]


@pytest.mark.pose_model
def test_detection_of_a_distant_person_does_not_match(photograph, detector):
    frame, keypoints = photograph
    elsewhere = keypoints.copy()
    elsewhere[..., :2] = 0.2 * elsewhere[..., :2]
    assert np.isnan(keypoint_distances(detector, frame, elsewhere, joints(keypoints))).all()


@pytest.mark.parametrize(("number", "expected"), [(17, [(1, 3)]), (8, [])])
def test_only_keypoints_of_bodies_are_joints(number, expected):
    keypoints = np.random.default_rng(0).uniform(0, 100, (2, number, 3)).astype(np.float32)
    assert joints_at(keypoints, np.stack([keypoints[1, 3, :2], [101, 101]])) == expected
