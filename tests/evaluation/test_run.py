import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.sliding_squares import write_squares
from support.tiny_models import make_pipeline

from mcdiff_pipeline.annotation.people import find_pose_model
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.evaluation import EvaluationSettings, evaluate
from mcdiff_pipeline.evaluation.evaluator import ClipEvaluator
from mcdiff_pipeline.video import read_video


REPOSITORY = Path(__file__).parents[2]
SIZE, NUM_CLIPS = 64, 4
SETTINGS = EvaluationSettings(
    strokes=(1, 2), num_frames=4, num_inference_steps=1, drift_frames=6, drift_clips=2, num_samples=1
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("data"), range(NUM_CLIPS), size=SIZE)


@pytest.fixture(scope="module")
def dataset(data):
    return ClipDataset(data, "test")


@pytest.fixture(scope="module")
def pipe():
    return make_pipeline()


@pytest.fixture(scope="module")
def finished(pipe, dataset, tmp_path_factory):
    """The folder of an evaluation, and what it returned."""
    folder = tmp_path_factory.mktemp("evaluation")
    return folder, evaluate(pipe, dataset, folder, SETTINGS, model_name="tiny", data_name="squares", batch_size=2)


def figure(metrics, kind: str, name: str, **which) -> dict:
    (entry,) = [entry for entry in metrics[kind] if all(entry[key] == value for key, value in which.items())]
    return entry[name]


def test_the_true_video_is_the_floor_and_a_still_the_ceiling(finished):
    _, metrics = finished
    for number in SETTINGS.strokes:
        which = {"strokes": number, "frames": "all"}
        assert figure(metrics, "motion", "ade", row="true video", **which)["value"] == 0
        assert figure(metrics, "motion", "recall", row="true video", **which)["value"] == 1
        still = figure(metrics, "motion", "ade", row="still", **which)["value"]
        splat = figure(metrics, "motion", "ade", row="splat, true flow", **which)["value"]
        assert splat < 0.5 < 2 < still
    assert figure(metrics, "rows", "ssim", row="true video", frames="all")["value"] == pytest.approx(1)
    assert figure(metrics, "rows", "st_lpips", row="true video", frames="all")["value"] == pytest.approx(0, abs=1e-6)
    assert figure(metrics, "rows", "psnr_moving", row="splat, true flow", frames="all")["value"] > (
        3 + figure(metrics, "rows", "psnr_moving", row="still", frames="all")["value"]
    )


def test_the_first_frame_of_a_still_differs_less_than_the_last(finished):
    _, metrics = finished
    first, last = (
        figure(metrics, "rows", "psnr", row="still", frames=frames)["value"] for frames in ("first", "last")
    )
    assert first > last


def test_zero_flow_is_off_by_the_motion_of_the_squares(finished):
    _, metrics = finished
    # Squares go 2, 3, 4 and 5 pixels in a step and cover as many cells each.
    error = figure(metrics, "flow", "end_point_error", flow="zero flow", strokes=1, region="body")
    assert error["value"] == pytest.approx(3.5, rel=0.01)
    nearest = figure(metrics, "flow", "end_point_error", flow="nearest stroke", strokes=1, region="body")
    assert nearest["value"] == pytest.approx(0, abs=0.02)


def test_figures_carry_their_interval_and_their_number_of_clips(finished):
    _, metrics = finished
    psnr = figure(metrics, "rows", "psnr", row="ours", strokes=2, frames="all")
    assert psnr["low"] < psnr["value"] < psnr["high"]
    assert psnr["clips"] == metrics["clips"] == NUM_CLIPS


def test_the_model_is_compared_with_each_row_on_the_same_clips(finished):
    folder, metrics = finished
    ours = {"row": "ours", "strokes": SETTINGS.usual_strokes, "frames": "all"}
    assert {found["minus"] for found in metrics["differences"]} >= {"still", "splat, F's flow", "ours, true flow"}
    for found in metrics["differences"]:
        for kind, name in (("rows", "psnr"), ("rows", "st_lpips"), ("motion", "ade")):
            theirs = {"row": found["minus"], "frames": "all"}
            if any(entry["row"] == found["minus"] and entry["strokes"] is not None for entry in metrics[kind]):
                theirs["strokes"] = SETTINGS.usual_strokes
            expected = figure(metrics, kind, name, **ours)["value"] - figure(metrics, kind, name, **theirs)["value"]
            assert found[name]["value"] == pytest.approx(expected)
            assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    assert "| ours minus |" in (folder / "report.md").read_text()


def test_what_is_not_measured_is_named_with_the_reason(finished):
    folder, metrics = finished
    assert metrics["keypoints"] == []
    assert "no pose model" in metrics["absent"]["Keypoints detected on the output"]
    # Four clips have fewer frames than features.
    assert metrics["frechet"] == {}
    assert "Fréchet distance on ST-LPIPS features" in metrics["absent"]
    report = (folder / "report.md").read_text()
    assert "## Not measured" in report
    assert "Fréchet distance on ST-LPIPS features ↓" not in report


def test_report_scorecard_plots_and_samples_are_there(finished):
    folder, metrics = finished
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    report = (folder / "report.md").read_text()
    for row in ("true video", "still", "splat, thin plate", "ours, true flow"):
        assert f"| {row} |" in report
    with open(folder / "strokes.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == NUM_CLIPS * 2
    assert {float(line["length"]) for line in lines} == {6, 9, 12, 15}
    assert all(float(line["true video"]) == 0 for line in lines)
    for name in ("ade.png", "drift.png"):
        assert (folder / name).stat().st_size > 1000
    video = read_video(folder / "samples" / "square_0.mp4")
    assert len(video.frames) == SETTINGS.num_frames
    assert (folder / "samples" / "square_0.png").is_file()
    assert len(list((folder / "samples").iterdir())) == 2


def test_long_roll_outs_are_measured_at_frames_that_double(finished):
    _, metrics = finished
    assert [entry["frame"] for entry in metrics["drift"]] == [1, 2, 4, 5]
    assert all(entry["color"]["clips"] == 2 for entry in metrics["drift"])
    assert all(entry["still_st_lpips"]["value"] >= 0 for entry in metrics["drift"])


def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_figures(
    finished, pipe, dataset, tmp_path, monkeypatch
):
    class Interrupted(Exception):
        pass

    def stop_at_the_third(self, clips, indices, original=ClipEvaluator.evaluate):
        if 2 in indices:
            raise Interrupted
        return original(self, clips, indices)

    with monkeypatch.context() as patch:
        patch.setattr(ClipEvaluator, "evaluate", stop_at_the_third)
        with pytest.raises(Interrupted):
            evaluate(pipe, dataset, tmp_path, SETTINGS, batch_size=2)
    assert sorted(path.name for path in (tmp_path / "clips").glob("*.json")) == ["square_0.json", "square_1.json"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "clips").iterdir()}
    metrics = evaluate(pipe, dataset, tmp_path, SETTINGS, batch_size=2)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for kind in ("rows", "motion", "flow", "drift"):
        assert metrics[kind] == finished[1][kind]


def test_the_size_of_a_batch_changes_nothing_but_rounding(finished, pipe, dataset, tmp_path):
    metrics = evaluate(pipe, dataset, tmp_path, SETTINGS, batch_size=3)
    for row, expected in zip(metrics["rows"], finished[1]["rows"]):
        assert row["psnr"]["value"] == pytest.approx(expected["psnr"]["value"], abs=1e-2)


def test_a_folder_with_another_evaluation_is_left_alone(finished, pipe, dataset):
    folder, _ = finished
    before = (folder / "metrics.json").read_bytes()
    with pytest.raises(ValueError, match="holds an evaluation with other seed; name another folder"):
        evaluate(pipe, dataset, folder, EvaluationSettings(**(vars(SETTINGS) | {"seed": 1})))
    with pytest.raises(ValueError, match="with other model_fingerprint"):
        other = make_pipeline()
        torch.nn.init.ones_(other.unet.conv_in.bias)
        evaluate(other, dataset, folder, SETTINGS)
    assert (folder / "metrics.json").read_bytes() == before


def test_a_model_without_f_is_evaluated_without_the_rows_that_need_it(dataset, tmp_path):
    pipe = make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)
    settings = EvaluationSettings(**(vars(SETTINGS) | {"num_clips": 1, "drift_clips": 0}))
    metrics = evaluate(pipe, dataset, tmp_path, settings)
    rows = {entry["row"] for entry in metrics["rows"]}
    assert "ours" in rows
    assert not rows & {"ours, true flow", "splat, F's flow"}
    assert "F" not in {entry["flow"] for entry in metrics["flow"]}


@pytest.mark.pose_model
def test_keypoints_are_looked_for_at_each_number_of_strokes_in_the_models_own_frames(pipe, dataset, tmp_path):
    settings = EvaluationSettings(**(vars(SETTINGS) | {"num_clips": 1, "drift_clips": 0}))
    evaluate(pipe, dataset, tmp_path, settings, pose_model=find_pose_model())
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "clips").glob("*.json")]
    looked_for = {(row["row"], row["strokes"]): len(row["keypoints"]) for row in record["rows"]}
    assert (looked_for["ours", 1], looked_for["ours", 2]) == (1, 2)
    assert (looked_for["splat, F's flow", 1], looked_for["splat, F's flow", 2]) == (0, 2)
    assert looked_for["true video", None] == 2


def test_other_models_are_rows_of_their_own(pipe, dataset, tmp_path):
    settings = EvaluationSettings(**(vars(SETTINGS) | {"num_clips": 1, "drift_clips": 0}))
    metrics = evaluate(pipe, dataset, tmp_path, settings, others={"ours, again": pipe})
    which = {"strokes": 2, "frames": "all"}
    assert figure(metrics, "rows", "psnr", row="ours, again", **which) == (
        figure(metrics, "rows", "psnr", row="ours", **which)
    )


class TestBadInput:
    def test_clips_without_keypoints(self, pipe, tmp_path):
        dataset = ClipDataset(write_squares(tmp_path / "data", range(2), size=SIZE, keypoints=False))
        with pytest.raises(ValueError, match=r"No clip of 2 can be used \(2 with no keypoint in the first frame\)"):
            evaluate(pipe, dataset, tmp_path / "output", SETTINGS)
        assert not (tmp_path / "output").exists()
        anywhere = EvaluationSettings(**(vars(SETTINGS) | {"anywhere": True, "drift_clips": 0}))
        assert evaluate(pipe, dataset, tmp_path / "output", anywhere)["clips"] == 2

    def test_clips_that_are_too_short(self, pipe, dataset, tmp_path):
        settings = EvaluationSettings(**(vars(SETTINGS) | {"num_frames": 9}))
        with pytest.raises(ValueError, match="longest of the 4 clips has 4 frames, but 9 are asked for"):
            evaluate(pipe, dataset, tmp_path, settings)

    def test_clips_of_several_sizes(self, pipe, data, tmp_path):
        other = write_squares(tmp_path / "data", range(4, 5), size=96)
        dataset = ClipDataset([*ClipDataset(data).shards, *ClipDataset(other).shards])
        with pytest.raises(ValueError, match=r"frames of \[\(64, 64\), \(96, 96\)\] pixels"):
            evaluate(pipe, dataset, tmp_path, SETTINGS)

    def test_clips_of_a_size_that_the_model_cannot_work_at(self, pipe, tmp_path):
        dataset = ClipDataset(write_squares(tmp_path / "data", range(1), size=68))
        with pytest.raises(ValueError, match="68 x 68 pixels, but this model needs multiples of 8"):
            evaluate(pipe, dataset, tmp_path / "output", SETTINGS)

    def test_clips_that_are_too_small_for_a_metric(self, pipe, tmp_path):
        dataset = ClipDataset(write_squares(tmp_path / "data", range(1), size=56))
        with pytest.raises(ValueError, match="56 x 56 pixels, but ST-LPIPS looks at 64 x 64 or more"):
            evaluate(pipe, dataset, tmp_path / "output", SETTINGS)

    @pytest.mark.parametrize(
        ("setting", "match"),
        [
            ({"strokes": ()}, "`strokes` is"),
            ({"strokes": (0, 5)}, r"`strokes` is \[0, 5\]"),
            ({"num_frames": 1}, "`num_frames` is 1; it must be 2 or more"),
            ({"num_clips": 0}, "`num_clips` is 0"),
            ({"drift_frames": 1}, "`drift_frames` is 1"),
        ],
    )
    def test_numbers_out_of_range(self, setting, match):
        with pytest.raises(ValueError, match=match):
            EvaluationSettings(**setting)


def test_the_results_page_gives_verdicts_on_the_figures_of_the_evaluation(finished, tmp_path):
    folder, metrics = finished
    page = tmp_path / "results.md"
    page.write_text("# Results\n\n## Ablations\n\nWhat variants gave.\n\n## Samples\n\nOf another model.\n")
    command = [sys.executable, "benchmarks/results.py", "--evaluation", folder, "--output", page]
    subprocess.run([*command, "--samples", "square_0"], cwd=REPOSITORY, check=True)
    text = page.read_text()
    body = {
        name: figure(metrics, "flow", "end_point_error", flow=name, strokes=2, region="body")["value"]
        for name in ("F", "zero flow")
    }
    ratio = body["F"] / body["zero flow"]
    verdict = "met" if ratio <= 0.5 else "**missed**"
    assert f"| F on the body over zero flow, 2 strokes | {ratio:.3g} | ≤ 0.5 | {verdict} |" in text
    assert "## Ablations\n\nWhat variants gave.\n\n## Samples\n\nOne line" in text  # no variants were given
    assert "Of another model" not in text
    for picture in ("results-ade.png", "results-drift.png", "results-sample-0.jpg"):
        assert f"](images/{picture})" in text
        assert (tmp_path / "images" / picture).stat().st_size > 0
