import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.paths import EXAMPLES

from mcdiff_pipeline.annotation.annotator import VideoAnnotator
from mcdiff_pipeline.annotation.flow import FlowEstimator
from mcdiff_pipeline.annotation.people import find_pose_model
from mcdiff_pipeline.annotation.selection import VideoOutcome
from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings
from mcdiff_pipeline.video import write_video


SPEED = 3  # pixels a frame


@pytest.fixture
def pan(tmp_path) -> Path:
    """36 frames of 128 x 128 pixels in which the whole picture goes 3 pixels to the left a frame."""
    picture = np.asarray(Image.open(EXAMPLES / "coffee.jpg").convert("RGB").resize((240, 160)))
    path = tmp_path / "a pan.mkv"
    write_video([picture[16:144, SPEED * t : SPEED * t + 128] for t in range(36)], path, fps=24)
    return path


@pytest.fixture
def moving_person(tmp_path) -> Path:
    """24 frames of 192 x 192 pixels in which a photograph of a person goes 2 pixels to the right a frame."""
    picture = np.asarray(Image.open(EXAMPLES / "walking.jpg").convert("RGB"))
    side = min(picture.shape[:2])
    picture = np.asarray(Image.fromarray(picture[:side, :side]).resize((256, 256)))
    path = tmp_path / "person.mkv"
    write_video([picture[32:224, 56 - 2 * t : 56 - 2 * t + 192] for t in range(24)], path, fps=24)
    return path


def annotate(path: Path, settings: AnnotationSettings, name: str = "folder/a pan.mkv"):
    outcome = VideoOutcome(name)
    with VideoAnnotator(settings) as annotator:
        return list(annotator.annotate(path, name, outcome)), outcome


def small(**changes) -> AnnotationSettings:
    return AnnotationSettings(selection=SelectionSettings(resolution=96, num_frames=3), **changes)


def test_the_flow_of_a_pan_is_the_pan(pan):
    clips, outcome = annotate(pan, small())
    assert len(clips) == outcome.clips >= 2
    for clip in clips:
        scale = 96 / clip.meta["crop"][3]  # the crop was resized
        expected = -SPEED * clip.meta["gap"] * scale
        assert np.median(clip.flow[:, 0]) == pytest.approx(expected, abs=0.25)
        assert np.median(clip.flow[:, 1]) == pytest.approx(0, abs=0.25)
        assert not clip.occlusion[0][20:76, 40:76].any()
        assert clip.occlusion[0][:, :2].mean() > 0.9  # leaves the picture


def test_displacements_lie_in_the_stated_range(pan):
    settings = small()
    low, high = settings.selection.displacement_limits
    for clip in annotate(pan, settings)[0]:
        speeds = np.percentile(np.hypot(clip.flow[:, 0], clip.flow[:, 1]), 95, axis=(1, 2))
        assert low <= speeds.mean() and speeds.max() <= high


def test_meta_says_where_a_clip_comes_from(pan):
    clip = annotate(pan, small())[0][0]
    assert clip.meta["source"] == "video" and clip.meta["video"] == "folder/a pan.mkv"
    gap = clip.meta["gap"]
    assert np.diff(clip.meta["frame_numbers"]).tolist() == [gap, gap]
    assert clip.meta["seconds_per_frame"] == pytest.approx(gap / 24, abs=1e-3)
    assert clip.meta["flow"]["name"] == "dis" and clip.meta["keypoints"] is None
    json.dumps(clip.meta)


def test_the_same_video_gives_the_same_clips_and_keys_are_unique(pan):
    (first, _), (second, _) = annotate(pan, small()), annotate(pan, small())
    assert len({clip.key for clip in first}) == len(first)
    for one, other in zip(first, second, strict=True):
        assert one.key == other.key and one.meta == other.meta
        np.testing.assert_array_equal(one.flow, other.flow)


def test_videos_of_one_name_in_two_folders_have_different_keys(pan):
    keys = [{clip.key for clip in annotate(pan, small(), name)[0]} for name in ("a/pan.mkv", "b/pan.mkv")]
    assert not keys[0] & keys[1]


def test_without_a_pose_model_there_are_no_people(pan):
    clip = annotate(pan, small())[0][0]
    assert clip.keypoints.shape == (3, 0, 17, 3)
    assert clip.masks.max() == 0


def test_a_damaged_video_is_an_outcome_and_no_error(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"this is no video")
    clips, outcome = annotate(path, small(), "broken.mp4")
    assert clips == [] and "broken.mp4" in outcome.error


def test_the_outcome_counts_what_was_kept(pan):
    clips, outcome = annotate(pan, small())
    assert outcome.people == {"0": len(clips)}
    assert sum(outcome.gaps.values()) == len(clips)
    assert sum(outcome.displacements) == sum(clip.flow[:, 0].size for clip in clips)


@pytest.mark.pose_model
def test_a_person_is_followed_through_the_clip(moving_person):
    settings = AnnotationSettings(
        selection=SelectionSettings(resolution=192, num_frames=3), pose_model=str(find_pose_model())
    )
    clips, outcome = annotate(moving_person, settings, "person.mkv")
    assert clips and outcome.people == {"1": len(clips)}
    for clip in clips:
        assert clip.keypoints.shape == (3, 1, 17, 3)
        seen = (clip.keypoints[:, 0, :, 2] == 2).all(axis=0)
        assert seen.sum() >= 8
        steps = np.diff(clip.keypoints[:, 0, seen, 0], axis=0)
        expected = 2 * clip.meta["gap"] * 192 / clip.meta["crop"][3]
        assert np.median(steps) == pytest.approx(expected, abs=2)
        nose = clip.keypoints[0, 0, 0, :2].astype(int)
        assert clip.masks[0, nose[1], nose[0]] == 1
        assert "mediapipe" in json.dumps(clip.meta["keypoints"])


@pytest.mark.pose_model
def test_clips_without_a_person_are_dropped_on_request(pan, moving_person):
    pose_model = str(find_pose_model())
    clips, outcome = annotate(pan, small(pose_model=pose_model, require_person=True))
    assert clips == [] and outcome.dropped["no person"] >= 2 and outcome.clips == 0
    settings = AnnotationSettings(
        selection=SelectionSettings(resolution=192, num_frames=3), pose_model=pose_model, require_person=True
    )
    assert annotate(moving_person, settings)[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"require_person": True}, "only with a `pose_model`"),
        ({"flow": "pwc"}, "`flow` is 'pwc'.*'raft_large', 'raft_small', 'dis'"),
        ({"dtype": "int8"}, "`dtype` is 'int8'.*'float32', 'float16', 'bfloat16'"),
        ({"frame_format": "gif"}, "`frame_format` is 'gif'.*'jpg', 'png'"),
        ({"max_people": 0}, "`max_people` is 0, but at least 1"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AnnotationSettings(**values)


def annotate_with_flow(path: Path, displacement: float):
    """Annotates with an estimator that gives a pixel this displacement, and little to the others."""

    class GivenFlow(FlowEstimator):
        description = {}

        def __call__(self, first, second):
            flow = np.zeros((len(first), 2, *first.shape[1:3]), dtype=np.float32)
            flow[..., :12] = 4  # an eighth of the picture
            flow[:, 0, 0, 0] = displacement
            return flow

    outcome = VideoOutcome("pan.mkv")
    with VideoAnnotator(small()) as annotator:
        annotator.estimator = GivenFlow()
        return list(annotator.annotate(path, "pan.mkv", outcome)), outcome


def test_a_clip_whose_flow_is_no_number_somewhere_is_dropped(pan):
    clips, outcome = annotate_with_flow(pan, np.nan)
    assert not clips and outcome.dropped["flow cannot be stored"] >= 2


def test_flow_beyond_what_the_format_holds_does_no_harm_where_it_leaves_the_picture(pan):
    clips, outcome = annotate_with_flow(pan, 600.0)
    assert clips and "flow cannot be stored" not in outcome.dropped
    assert all(clip.occlusion[:, 0, 0].all() for clip in clips)


def test_settings_are_told_apart_by_the_content_of_files_and_not_by_their_paths(tmp_path):
    for name, content in (("a.task", b"one"), ("b.task", b"one"), ("c.task", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (AnnotationSettings(pose_model=str(tmp_path / f"{name}.task")).as_dict() for name in "abc")
    assert a == b != c
    assert str(tmp_path) not in json.dumps(a)


def test_folders_of_weights_are_told_apart_by_weights_and_configuration(tmp_path):
    contents = {"a": (b"one", "{}"), "b": (b"one", "{}"), "c": (b"two", "{}"), "d": (b"one", '{"upsampling": 2}')}
    values = {}
    for name, (weights, config) in contents.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text(config)
        values[name] = AnnotationSettings(flow="raft_small", flow_weights=str(folder)).as_dict()["flow_weights"]
    assert values["a"] == values["b"] and len(set(values.values())) == 3
    assert str(tmp_path) not in json.dumps(values)
