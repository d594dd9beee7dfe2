"""Detection of people in real photographs."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.annotation.people import Person, PersonDetector
from mcdiff_pipeline.annotation.pose_model import find_pose_model
from mcdiff_pipeline.annotation.tracking import match_people
from mcdiff_pipeline.dataset.keypoints import COCO_KEYPOINTS
from support.paths import EXAMPLES
from support.pose_model import write_bundle


# Positions in the photographs in pixels, measured by eye. In `balancing` a woman stands behind the man.
WALKING_WOMAN = {
    "nose": (277, 80),
    "left_ear": (305, 81),
    "left_shoulder": (325, 122),
    "left_elbow": (363, 187),
    "left_wrist": (393, 245),
    "right_wrist": (200, 217),
    "left_knee": (243, 345),
    "right_knee": (345, 350),
    "left_ankle": (207, 432),
    "right_ankle": (375, 435),
}
BALANCING_MAN = {
    "left_shoulder": (290, 107),
    "right_shoulder": (193, 117),
    "left_elbow": (321, 172),
    "right_elbow": (180, 190),
    "left_wrist": (342, 240),
    "right_wrist": (156, 243),
}
WOMAN_BEHIND = {
    "left_shoulder": (407, 132),
    "right_shoulder": (371, 133),
    "left_elbow": (402, 173),
    "left_hip": (402, 207),
    "right_hip": (376, 207),
    "left_ankle": (395, 320),
    "right_ankle": (381, 315),
}
ASTRONAUT = {"nose": (226, 124), "left_eye": (246, 104), "right_eye": (203, 101)}


def photograph(name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """The photograph of an example, uint8 `[H, W, 3]`; `size` is (width, height)."""
    with Image.open(EXAMPLES / f"{name}.jpg") as image:
        return np.asarray(image.convert("RGB") if size is None else image.convert("RGB").resize(size))


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("mediapipe")
    with PersonDetector(find_pose_model()) as detector:
        yield detector


def joint(person: Person, name: str) -> np.ndarray:
    return person.keypoints[COCO_KEYPOINTS.index(name)]


def assert_joints(person: Person, expected: dict[str, tuple[float, float]], tolerance: float) -> None:
    for name, position in expected.items():
        x, y, confidence = joint(person, name)
        assert np.hypot(x - position[0], y - position[1]) < tolerance, (name, x, y)
        assert confidence > 0.5, name


@pytest.mark.pose_model
@pytest.mark.parametrize(
    ("name", "people"),
    [("walking", [WALKING_WOMAN]), ("balancing", [BALANCING_MAN, WOMAN_BEHIND]), ("astronaut", [ASTRONAUT])],
)
def test_joints_are_where_they_are_visible(detector, name, people):
    found = detector(photograph(name))
    assert len(found) == len(people)
    for person, expected in zip(found, people):
        assert person.keypoints.dtype == np.float32 and person.keypoints.shape == (17, 3)
        assert_joints(person, expected, tolerance=14)


@pytest.mark.pose_model
def test_joints_outside_the_image_have_low_confidence(detector):
    (astronaut,) = detector(photograph("astronaut"))
    assert max(joint(astronaut, name)[2] for name in ("left_knee", "right_knee", "left_ankle", "right_ankle")) < 0.1


@pytest.mark.pose_model
def test_mask_covers_the_person_only(detector):
    (person,) = detector(photograph("walking"))
    assert person.mask.dtype == np.float32 and person.mask.shape == (500, 500)
    assert 0 <= person.mask.min() and person.mask.max() <= 1
    body = np.array([WALKING_WOMAN[name] for name in ("left_ear", "left_shoulder", "left_elbow", "left_knee")])
    assert person.mask[body[:, 1], body[:, 0]].min() > 0.5
    rows, columns = np.nonzero(person.mask > 0.5)  # measured by eye: x = 157 to 418, y = 49 to 457
    assert abs(columns.min() - 157) < 12 and abs(columns.max() - 418) < 12
    assert abs(rows.min() - 49) < 12 and abs(rows.max() - 457) < 12


@pytest.mark.pose_model
def test_image_without_people_gives_no_detection(detector):
    gradient = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (150, 200, 3))
    for image in (gradient, photograph("cat"), photograph("coffee")):
        assert detector(image) == []


@pytest.mark.pose_model
def test_result_depends_on_the_frame_alone(detector):
    frame = photograph("balancing")
    results = [detector(frame)]
    detector(photograph("astronaut"))
    results.append(detector(frame))
    with PersonDetector(find_pose_model()) as another:
        results.append(another(frame))
    for other in results[1:]:
        assert len(other) == len(results[0]) == 2
        for person, same in zip(results[0], other):
            np.testing.assert_array_equal(person.keypoints, same.keypoints)
            np.testing.assert_array_equal(person.mask, same.mask)


@pytest.mark.pose_model
@pytest.mark.parametrize("size", [(128, 128), (250, 333), (131, 127), (602, 601)])
def test_positions_and_masks_scale_with_the_image(detector, size):
    (person,) = detector(photograph("walking", size))
    assert person.mask.shape == size[::-1]
    scale = np.array(size) / 500
    expected = {name: tuple(scale * position) for name, position in WALKING_WOMAN.items()}
    assert_joints(person, expected, tolerance=14 * max(scale))


@pytest.mark.pose_model
def test_two_people_side_by_side_have_own_masks_and_joints(detector):
    one = photograph("walking")[20:480, 140:440]
    people = sorted(detector(np.hstack([one, one])), key=lambda person: joint(person, "nose")[0])
    assert len(people) == 2
    for number, person in enumerate(people):
        shift = np.array([300 * number - 140, -20])
        assert_joints(person, {name: tuple(shift + at) for name, at in WALKING_WOMAN.items()}, tolerance=20)
        own = person.mask[:, 300 * number : 300 * (number + 1)]
        assert own.sum() > 0.98 * person.mask.sum() and (own > 0.5).mean() > 0.15


@pytest.mark.pose_model
def test_nobody_is_found_twice(detector):
    for name in ("walking", "balancing", "astronaut"):
        people = detector(photograph(name))
        for number, person in enumerate(people):
            for other in people[:number]:
                shared = np.minimum(person.mask, other.mask).sum()
                assert shared < 0.2 * min(person.mask.sum(), other.mask.sum())


@pytest.mark.pose_model
def test_last_search_equals_a_call(detector):
    image = photograph("balancing")
    *_, last = found = list(detector.searches(image))
    assert [len(people) for people in found] == sorted(len(people) for people in found)
    for person, called in zip(last, detector(image), strict=True):
        np.testing.assert_array_equal(person.keypoints, called.keypoints)


@pytest.mark.pose_model
def test_max_people_limits_the_result():
    pytest.importorskip("mediapipe")
    with PersonDetector(find_pose_model(), max_people=1) as detector:
        (man,) = detector(photograph("balancing"))
    assert_joints(man, BALANCING_MAN, tolerance=14)


@pytest.mark.pose_model
def test_description_states_model_and_settings(detector):
    assert detector.description["name"] == "mediapipe_pose_landmarker"
    assert detector.description["library"].startswith("mediapipe 0.10.")
    assert detector.description["weights"].startswith("sha256:")
    assert (detector.description["max_people"], detector.description["min_confidence"]) == (4, 0.5)


@pytest.mark.pose_model
def test_detector_writes_nothing_to_stderr(capfd):
    pytest.importorskip("mediapipe")
    with PersonDetector(find_pose_model()) as detector:
        detector(photograph("walking"))
    assert capfd.readouterr().err == ""


@pytest.mark.pose_model
def test_invalid_frames_are_rejected(detector):
    for frame in (np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8), np.zeros((0, 64, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"`frame` is .* uint8 \[H, W, 3\] is needed"):
            detector(frame)


@pytest.mark.pose_model
def test_detected_people_are_matched_when_the_camera_moves(detector):
    one = photograph("walking")[20:480, 140:440]
    frame = np.hstack([one, one])
    first, second = detector(frame[:, :-20]), detector(frame[:, 20:])
    assert len(first) == len(second) == 2
    for people in (second, second[::-1]):
        pairs = match_people(first, people)
        assert len(pairs) == 2
        for i, j in pairs:
            assert joint(people[j], "nose")[0] == pytest.approx(joint(first[i], "nose")[0] - 20, abs=5)


@pytest.fixture
def bundle(tmp_path) -> Path:
    return write_bundle(tmp_path / "model.task")


def test_file_that_is_not_a_model_is_rejected(bundle, tmp_path):
    text = tmp_path / "text.task"
    text.write_text("not a model")
    other = tmp_path / "other.task"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("hand_detector.tflite", b"")
    for path in (text, other):
        with pytest.raises(ValueError, match=f"{path} is not a pose model"):
            PersonDetector(path)
    with pytest.raises(FileNotFoundError, match="no pose model .*missing.task; download .*build_pose_model.py"):
        PersonDetector(tmp_path / "missing.task")


def test_max_people_below_one_is_rejected(bundle):
    with pytest.raises(ValueError, match="`max_people` is 0"):
        PersonDetector(bundle, max_people=0)


def test_missing_mediapipe_raises_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ImportError, match=r"pip install 'mcdiff-pipeline\[annotation\]'"):
        PersonDetector(bundle)
