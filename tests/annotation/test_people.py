"""People in real photographs, and who is who in two frames."""

import http.server
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.paths import EXAMPLES

from mcdiff_pipeline.annotation.people import (
    NETWORKS,
    Person,
    PersonDetector,
    cached_pose_model,
    download_pose_model,
    find_pose_model,
    match_people,
)
from mcdiff_pipeline.dataset.keypoints import COCO_KEYPOINTS, HEAD, LIMBS, SKELETON, TORSO


# Read off the photographs by eye, in pixels. In `balancing` a woman stands behind the man.
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
    """An example's photograph, uint8 [H, W, 3]; `size` is (width, height)."""
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


def upright(x: float, y: float, *, height: float = 60.0, shape: tuple[int, int] = (96, 128)) -> Person:
    """A made-up person whose pelvis is at (x, y): an ellipse with joints from head to foot."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    mask = ((columns - x) / (0.2 * height)) ** 2 + ((rows - y) / (0.5 * height)) ** 2 < 1
    keypoints = np.full((17, 3), (x, y, 1), dtype=np.float32)
    keypoints[:, 1] += np.linspace(-0.45, 0.45, 17, dtype=np.float32) * height
    keypoints[11:13, :2] = (x, y)
    return Person(keypoints, mask.astype(np.float32))


def test_names_and_parts_are_those_of_coco():
    assert len(COCO_KEYPOINTS) == 17 and len(LIMBS) == 8
    names = [{COCO_KEYPOINTS[start], COCO_KEYPOINTS[end]} for start, end in LIMBS]
    assert {"left_shoulder", "left_elbow"} in names and {"right_knee", "right_ankle"} in names
    assert all(len({name.partition("_")[0] for name in limb}) == 1 for limb in names)  # none goes from left to right
    assert [COCO_KEYPOINTS[corner] for corner in TORSO] == ["left_shoulder", "right_shoulder", "right_hip", "left_hip"]
    assert {part for line in SKELETON for part in line} | set(HEAD) == set(range(17))


@pytest.mark.pose_model
@pytest.mark.parametrize(
    ("name", "people"),
    [("walking", [WALKING_WOMAN]), ("balancing", [BALANCING_MAN, WOMAN_BEHIND]), ("astronaut", [ASTRONAUT])],
)
def test_joints_lie_where_one_sees_them(detector, name, people):
    found = detector(photograph(name))
    assert len(found) == len(people)
    for person, expected in zip(found, people):
        assert person.keypoints.dtype == np.float32 and person.keypoints.shape == (17, 3)
        assert_joints(person, expected, tolerance=14)


@pytest.mark.pose_model
def test_joints_beyond_the_picture_have_no_confidence(detector):
    (astronaut,) = detector(photograph("astronaut"))
    assert max(joint(astronaut, name)[2] for name in ("left_knee", "right_knee", "left_ankle", "right_ankle")) < 0.1


@pytest.mark.pose_model
def test_the_mask_covers_the_person_and_nothing_else(detector):
    (person,) = detector(photograph("walking"))
    assert person.mask.dtype == np.float32 and person.mask.shape == (500, 500)
    assert 0 <= person.mask.min() and person.mask.max() <= 1
    body = np.array([WALKING_WOMAN[name] for name in ("left_ear", "left_shoulder", "left_elbow", "left_knee")])
    assert person.mask[body[:, 1], body[:, 0]].min() > 0.5
    rows, columns = np.nonzero(person.mask > 0.5)  # by eye she reaches from x = 157 to 418 and from y = 49 to 457
    assert abs(columns.min() - 157) < 12 and abs(columns.max() - 418) < 12
    assert abs(rows.min() - 49) < 12 and abs(rows.max() - 457) < 12


@pytest.mark.pose_model
def test_a_picture_without_people_gives_nobody(detector):
    gradient = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (150, 200, 3))
    for picture in (gradient, photograph("cat"), photograph("coffee")):
        assert detector(picture) == []


@pytest.mark.pose_model
def test_the_result_depends_on_the_frame_alone(detector):
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
def test_positions_and_masks_scale_with_the_picture(detector, size):
    (person,) = detector(photograph("walking", size))
    assert person.mask.shape == size[::-1]
    scale = np.array(size) / 500
    expected = {name: tuple(scale * position) for name, position in WALKING_WOMAN.items()}
    assert_joints(person, expected, tolerance=14 * max(scale))


@pytest.mark.pose_model
def test_two_people_side_by_side_do_not_share_masks_or_joints(detector):
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
def test_the_last_of_all_searches_gives_what_a_call_gives(detector):
    picture = photograph("balancing")
    *_, last = found = list(detector.searches(picture))
    assert [len(people) for people in found] == sorted(len(people) for people in found)
    for person, called in zip(last, detector(picture), strict=True):
        np.testing.assert_array_equal(person.keypoints, called.keypoints)


@pytest.mark.pose_model
def test_no_more_people_than_asked_for():
    pytest.importorskip("mediapipe")
    with PersonDetector(find_pose_model(), max_people=1) as detector:
        (man,) = detector(photograph("balancing"))
    assert_joints(man, BALANCING_MAN, tolerance=14)


@pytest.mark.pose_model
def test_the_description_names_model_and_settings(detector):
    assert detector.description["name"] == "mediapipe_pose_landmarker"
    assert detector.description["library"].startswith("mediapipe 0.10.")
    assert detector.description["weights"].startswith("sha256:")
    assert (detector.description["max_people"], detector.description["min_confidence"]) == (4, 0.5)


@pytest.mark.pose_model
def test_nothing_is_written_to_stderr(capfd):
    pytest.importorskip("mediapipe")
    with PersonDetector(find_pose_model()) as detector:
        detector(photograph("walking"))
    assert capfd.readouterr().err == ""


@pytest.mark.pose_model
def test_wrong_frames_are_refused(detector):
    for frame in (np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8), np.zeros((0, 64, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"`frame` is .* uint8 \[H, W, 3\] is needed"):
            detector(frame)


def test_people_are_matched_whatever_their_order():
    first = [upright(30, 50), upright(60, 50), upright(95, 48)]
    moved = [upright(36, 52), upright(66, 50), upright(90, 50)]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        second = [moved[number] for number in order]
        assert match_people(first, second) == [(i, order.index(i)) for i in range(3)]


def test_who_leaves_or_arrives_has_no_partner():
    first, second = [upright(30, 50), upright(100, 50)], [upright(98, 52)]
    assert match_people(first, second) == [(1, 0)]
    assert match_people(second, first) == [(0, 1)]
    assert match_people([], second) == match_people(first, []) == []


def test_who_moved_too_far_for_his_size_is_somebody_else():
    assert match_people([upright(30, 50)], [upright(50, 50)]) == [(0, 0)]
    assert match_people([upright(30, 50)], [upright(70, 50)]) == []
    assert match_people([upright(30, 50, height=20)], [upright(50, 50, height=20)]) == []


def test_who_has_another_outline_is_somebody_else():
    assert match_people([upright(60, 50, height=80)], [upright(60, 50, height=25)]) == []


def test_a_pelvis_that_jumps_beyond_the_picture_matches_nobody():
    first, second = upright(40, 50), upright(40, 50)
    first.keypoints[:, 1] *= 10  # as if only the head of a giant were in the picture
    second.keypoints[:, 1] = first.keypoints[:, 1] - 100
    assert match_people([first], [second]) == match_people([second], [first]) == []


def test_the_sum_of_agreements_counts_and_not_the_best_pair():
    # Taking the nearest pair first, 52 to 51, would leave 40 to 64, which is hardly believable.
    first, second = [upright(40, 50), upright(52, 50)], [upright(51, 50), upright(64, 50)]
    assert match_people(first, second) == [(0, 0), (1, 1)]


@pytest.mark.pose_model
def test_detected_people_are_matched_while_the_camera_moves(detector):
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
    """A zip file that has the members of a model."""
    path = tmp_path / "model.task"
    with zipfile.ZipFile(path, "w") as archive:
        for network in NETWORKS:
            archive.writestr(network, b"weights")
    return path


def test_the_model_is_looked_for_in_three_places(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MCDIFF_POSE_MODEL", raising=False)
    cached = tmp_path / "cache" / "mcdiff-pipeline" / "pose_landmarker_full.task"
    assert cached_pose_model() == cached
    with pytest.raises(FileNotFoundError, match=f"{cached}.*MCDIFF_POSE_MODEL.*https://.*build_pose_model.py"):
        find_pose_model()
    cached.parent.mkdir(parents=True)
    cached.write_bytes(bundle.read_bytes())
    assert find_pose_model() == cached
    monkeypatch.setenv("MCDIFF_POSE_MODEL", str(bundle))
    assert find_pose_model() == bundle
    assert find_pose_model(cached) == cached
    monkeypatch.setenv("MCDIFF_POSE_MODEL", str(tmp_path / "missing.task"))
    with pytest.raises(FileNotFoundError, match="missing.task, which MCDIFF_POSE_MODEL names"):
        find_pose_model()
    with pytest.raises(FileNotFoundError, match="no pose model .*nowhere.task"):
        find_pose_model(tmp_path / "nowhere.task")


def test_a_file_that_is_no_model_is_refused(bundle, tmp_path):
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


def test_a_number_of_people_out_of_range_is_refused(bundle):
    with pytest.raises(ValueError, match="`max_people` is 0"):
        PersonDetector(bundle, max_people=0)


def test_without_mediapipe_one_sentence_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ImportError, match=r"pip install 'mcdiff-pipeline\[annotation\]'"):
        PersonDetector(bundle)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server on this machine, and the folder it serves."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def test_a_model_that_was_downloaded_to_the_cache_is_found(bundle, server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MCDIFF_POSE_MODEL", raising=False)
    address, folder = server
    (folder / "model.task").write_bytes(bundle.read_bytes())
    model = cached_pose_model()
    download_pose_model(model, f"{address}/model.task")
    assert model.read_bytes() == bundle.read_bytes()
    assert find_pose_model() == model
    assert [path.name for path in model.parent.iterdir()] == [model.name]


def test_a_failed_download_leaves_the_old_file_alone(bundle, server, tmp_path):
    address, folder = server
    (folder / "half.task").write_bytes(bundle.read_bytes()[:100])
    target = tmp_path / "models" / "pose.task"
    target.parent.mkdir()
    target.write_bytes(bundle.read_bytes())
    with pytest.raises(OSError, match=f"cannot be downloaded from {address}/none.task .*404.*build_pose_model.py"):
        download_pose_model(target, f"{address}/none.task")
    with pytest.raises(ValueError, match=f"{address}/half.task is not a pose model"):
        download_pose_model(target, f"{address}/half.task")
    assert target.read_bytes() == bundle.read_bytes()
    assert list(target.parent.iterdir()) == [target]
