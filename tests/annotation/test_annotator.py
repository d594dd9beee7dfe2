import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.annotation.annotator import VideoAnnotator
from mcdiff_pipeline.annotation.flow import FlowEstimator
from mcdiff_pipeline.annotation.outcome import VideoOutcome
from mcdiff_pipeline.annotation.pose_model import find_pose_model
from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings
from mcdiff_pipeline.video import write_video
from support.paths import EXAMPLES


SPEED = 3  # pixels per frame


@pytest.fixture(scope="module")
def pan(tmp_path_factory) -> Path:
    """36 frames of 128 x 128 pixels in which the whole image moves 3 pixels to the left per frame."""
    image = np.asarray(Image.open(EXAMPLES / "coffee.jpg").convert("RGB").resize((240, 160)))
    path = tmp_path_factory.mktemp("pan") / "a pan.mkv"
    write_video([image[16:144, SPEED * t : SPEED * t + 128] for t in range(36)], path, fps=24)
    return path


@pytest.fixture(scope="module")
def moving_person(tmp_path_factory) -> Path:
    """24 frames of 192 x 192 pixels in which a photograph of a person moves 2 pixels to the right per frame."""
    image = np.asarray(Image.open(EXAMPLES / "walking.jpg").convert("RGB"))
    side = min(image.shape[:2])
    image = np.asarray(Image.fromarray(image[:side, :side]).resize((256, 256)))
    path = tmp_path_factory.mktemp("person") / "person.mkv"
    write_video([image[32:224, 56 - 2 * t : 56 - 2 * t + 192] for t in range(24)], path, fps=24)
    return path


def annotate(path: Path, settings: AnnotationSettings, name: str = "folder/a pan.mkv"):
    outcome = VideoOutcome(name)
    with VideoAnnotator(settings) as annotator:
        return list(annotator.annotate(path, name, outcome)), outcome


def small(**changes) -> AnnotationSettings:
    return AnnotationSettings(selection=SelectionSettings(resolution=96, num_frames=3), **changes)


@pytest.fixture(scope="module")
def annotated_pan(pan):
    """The clips and the outcome of the pan."""
    return annotate(pan, small())


def test_flow_of_a_pan_equals_the_pan(annotated_pan):
    clips, outcome = annotated_pan
    assert len(clips) == outcome.clips >= 2
    for clip in clips:
        scale = 96 / clip.meta["crop"][3]  # the crop was resized
        expected = -SPEED * clip.meta["gap"] * scale
        assert np.median(clip.flow[:, 0]) == pytest.approx(expected, abs=0.25)
        assert np.median(clip.flow[:, 1]) == pytest.approx(0, abs=0.25)
        assert not clip.occlusion[0][20:76, 40:76].any()
        assert clip.occlusion[0][:, :2].mean() > 0.9  # leaves the image


def test_displacements_are_in_the_given_range(annotated_pan):
    low, high = small().selection.displacement_limits
    for clip in annotated_pan[0]:
        speeds = np.percentile(np.hypot(clip.flow[:, 0], clip.flow[:, 1]), 95, axis=(1, 2))
        assert low <= speeds.mean() and speeds.max() <= high


def test_meta_states_the_source_of_a_clip(annotated_pan):
    clip = annotated_pan[0][0]
    assert clip.meta["source"] == "video" and clip.meta["video"] == "folder/a pan.mkv"
    gap = clip.meta["gap"]
    assert np.diff(clip.meta["frame_numbers"]).tolist() == [gap, gap]
    assert clip.meta["seconds_per_frame"] == pytest.approx(gap / 24, abs=1e-3)
    assert clip.meta["flow"]["name"] == "dis" and clip.meta["keypoints"] is None
    json.dumps(clip.meta)


def test_same_video_gives_same_clips_with_unique_keys(pan, annotated_pan):
    (first, _), (second, _) = annotated_pan, annotate(pan, small())
    assert len({clip.key for clip in first}) == len(first)
    for one, other in zip(first, second, strict=True):
        assert one.key == other.key and one.meta == other.meta
        np.testing.assert_array_equal(one.flow, other.flow)


def test_videos_with_the_same_name_in_two_folders_have_different_keys(pan, annotated_pan):
    clips, _ = annotate(pan, small(), "other/a pan.mkv")
    assert clips and not {clip.key for clip in clips} & {clip.key for clip in annotated_pan[0]}


def test_without_pose_model_clips_have_no_people(annotated_pan):
    clip = annotated_pan[0][0]
    assert clip.keypoints.shape == (3, 0, 17, 3)
    assert clip.masks.max() == 0


def test_damaged_video_gives_an_outcome_not_an_exception(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"this is no video")
    clips, outcome = annotate(path, small(), "broken.mp4")
    assert clips == [] and "broken.mp4" in outcome.error


def test_outcome_counts_kept_clips(annotated_pan):
    clips, outcome = annotated_pan
    assert outcome.people == {"0": len(clips)}
    assert sum(outcome.gaps.values()) == len(clips)
    assert sum(outcome.displacements) == sum(clip.flow[:, 0].size for clip in clips)


@pytest.mark.pose_model
def test_require_person_keeps_clips_in_which_a_person_is_followed(moving_person):
    selection = SelectionSettings(resolution=192, num_frames=3)
    settings = AnnotationSettings(selection=selection, pose_model=str(find_pose_model()), require_person=True)
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
def test_require_person_drops_clips_without_a_person(pan):
    clips, outcome = annotate(pan, small(pose_model=str(find_pose_model()), require_person=True))
    assert clips == [] and outcome.dropped["no person"] >= 2 and outcome.clips == 0


def annotate_with_flow(path: Path, displacement: float):
    """Annotates with an estimator that returns this displacement at one pixel, and small ones at the others."""

    class GivenFlow(FlowEstimator):
        description = {}

        def __call__(self, first, second):
            flow = np.zeros((len(first), 2, *first.shape[1:3]), dtype=np.float32)
            flow[..., :12] = 4  # an eighth of the image
            flow[:, 0, 0, 0] = displacement
            return flow

    outcome = VideoOutcome("pan.mkv")
    with VideoAnnotator(small()) as annotator:
        annotator.estimator = GivenFlow()
        return list(annotator.annotate(path, "pan.mkv", outcome)), outcome


def test_clip_with_nan_in_its_flow_is_dropped(pan):
    clips, outcome = annotate_with_flow(pan, np.nan)
    assert not clips and outcome.dropped["flow cannot be stored"] >= 2


def test_flow_too_large_to_store_is_allowed_where_it_leaves_the_image(pan):
    clips, outcome = annotate_with_flow(pan, 600.0)
    assert clips and "flow cannot be stored" not in outcome.dropped
    assert all(clip.occlusion[:, 0, 0].all() for clip in clips)
