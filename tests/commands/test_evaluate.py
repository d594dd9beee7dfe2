import json

import pytest

from mcdiff_pipeline.evaluation.summary import EvaluationSummary
from support.photographs import write_photographs
from support.sliding_squares import write_squares
from support.tiny_models import make_pipeline


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("squares"), range(2), size=64)


@pytest.fixture
def short(data, tiny_model_dir, tmp_path):
    """The arguments of a short evaluation."""
    arguments = ["evaluate", "--model", tiny_model_dir, "--data", data, "--output", tmp_path / "output"]
    return [*arguments, "--num-frames", "3", "--strokes", "1,2", "--steps", "1", "--drift-clips", "0"]


def test_evaluate_writes_metrics_report_and_samples(mcdiff, short, data, tmp_path, monkeypatch):
    monkeypatch.setenv("MCDIFF_POSE_MODEL", str(tmp_path / "nowhere.task"))
    code, out, err = mcdiff(*short)
    assert code == 0, err
    assert f"Report: {tmp_path / 'output' / 'report.md'}" in out
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    assert metrics["clips"] == 2
    assert metrics["data"] == f"{data.name}, test"
    assert metrics["settings"]["strokes"] == [1, 2]
    assert "Keypoints detected on the output" in metrics["absent"]
    assert len(list((tmp_path / "output" / "samples").iterdir())) == 4


def test_other_model_is_compared_under_its_name(mcdiff, short, tmp_path):
    pipe = make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)
    pipe.save_pretrained(tmp_path / "without-f")
    code, _, err = mcdiff(*short, "--other", f"ours, without F={tmp_path / 'without-f'}", "--num-clips", "1")
    assert code == 0, err
    report = (tmp_path / "output" / "report.md").read_text()
    assert "| ours, without F |" in report


def test_photographs_are_evaluated_beside_clips(mcdiff, short, tmp_path):
    write_photographs(tmp_path / "boxes", 1)
    code, _, err = mcdiff(*short, "--num-clips", "1", "--num-samples", "0", "--wholes", tmp_path / "boxes")
    assert code == 0, err
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    assert metrics["clips"] == 1
    assert [photograph["name"] for photograph in metrics["wholes"]["photographs"]] == ["box-0"]
    assert EvaluationSummary.from_json(metrics).to_json() == metrics
    report = (tmp_path / "output" / "report.md").read_text()
    assert "## Motion following" in report
    assert "## Things that move as a whole" in report


def test_photographs_are_evaluated_without_clips(mcdiff, tiny_model_dir, tmp_path):
    write_photographs(tmp_path / "boxes", 1)
    arguments = ["evaluate", "--model", tiny_model_dir, "--output", tmp_path / "output"]
    code, out, err = mcdiff(*arguments, "--wholes", tmp_path / "boxes", "--seed", "2")
    assert code == 0, err
    assert f"Report: {tmp_path / 'output' / 'report.md'}" in out
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    # The default size of the model, and twice that.
    assert metrics["wholes"]["sizes"] == [32, 64]
    assert metrics["wholes"]["seed"] == 2
    code, _, err = mcdiff(*arguments)
    assert code == 2
    assert "name clips by --data, photographs by --wholes, or both" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--wholes", "nowhere"), "'nowhere' has no wholes.json; make the folder by training/collect_wholes.py"),
        (("--strokes", "1;5"), "'1;5' is not a list of whole numbers; write 1,5,9"),
        (("--strokes", "0"), "`strokes` is [0]"),
        (("--num-frames", "9"), "the longest of the 2 clips has 4 frames, but 9 are asked for".capitalize()),
        (("--split", "validation"), "no shards validation-*.tar"),
        (("--batch-size", "0"), "--batch-size is 0; it must be 1 or more"),
        (("--other", "without-f"), "'without-f' is not NAME=MODEL"),
        (("--other", "a=x/y", "--other", "a=x/z"), "give each model a name of its own"),
        (("--pose-model", "nowhere.task"), "no pose model nowhere.task"),
    ],
)
def test_wrong_input_is_reported_in_one_sentence(mcdiff, short, arguments, message):
    code, _, err = mcdiff(*short, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_folder_with_another_evaluation_is_refused(mcdiff, short):
    assert mcdiff(*short, "--num-samples", "0")[0] == 0
    code, _, err = mcdiff(*short, "--num-samples", "0", "--seed", "3")
    assert code == 2
    assert "holds an evaluation with other seed" in err
