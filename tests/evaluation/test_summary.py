from mcdiff_pipeline.evaluation import EvaluationSettings
from mcdiff_pipeline.evaluation.confidence import Estimate
from mcdiff_pipeline.evaluation.description import EvaluationDescription
from mcdiff_pipeline.evaluation.summary import (
    Difference,
    DriftSummary,
    EvaluationSummary,
    FlowRatio,
    FlowSummary,
    ImageSummary,
    KeypointSummary,
    MotionSummary,
    NextFrameSummary,
)


VALUE = Estimate(2.0, 1.0, 3.0, 4)
DESCRIPTION = EvaluationDescription(
    "tiny", "0123", {"other": "4567"}, "squares", (64, 96), "89ab", EvaluationSettings(), None, ("FID",)
)
SUMMARY = EvaluationSummary(
    description=DESCRIPTION,
    clips=4,
    clips_left_out={"no keypoint in the first frame": 1},
    absent={"FID": "no weights"},
    images=[ImageSummary("still", None, "all", {"psnr": VALUE, "ssim": None})],
    differences=[Difference("ours", "still", 5, {"psnr": VALUE, "ade": None})],
    motion=[MotionSummary("ours", 5, "all", VALUE, None, VALUE)],
    keypoints=[KeypointSummary("ours", 5, VALUE, VALUE)],
    flow=[FlowSummary("F", 5, "body", VALUE)],
    flow_ratios=[FlowRatio("zero flow", 5, VALUE)],
    next_frame=[NextFrameSummary("still", VALUE)],
    drift=[DriftSummary(1, VALUE, VALUE, None, None, 0.5)],
    frechet={"FID": {"ours (5)": 1.5}},
)


def test_summary_is_read_as_it_was_written():
    assert EvaluationSummary.from_json(SUMMARY.to_json()) == SUMMARY


def test_json_calls_a_method_row_and_flattens_its_estimates():
    content = SUMMARY.to_json()
    value = {"value": 2.0, "low": 1.0, "high": 3.0, "clips": 4}
    assert content["rows"] == [{"row": "still", "strokes": None, "frames": "all", "psnr": value, "ssim": None}]
    assert content["differences"][0] == {"row": "ours", "minus": "still", "strokes": 5, "psnr": value, "ade": None}
    assert content["absent"] == {"FID": "no weights"}
    assert content["frame_size"] == [64, 96]
    assert content["settings"]["strokes"] == [1, 5, 9]


def test_summary_of_an_earlier_version_has_no_ratios_and_no_next_frame():
    content = SUMMARY.to_json()
    del content["flow_ratios"], content["next_frame"]
    summary = EvaluationSummary.from_json(content)
    assert summary.flow_ratios == summary.next_frame == []
