import csv
import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from mcdiff_pipeline.annotation.people import find_pose_model
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.evaluation import EvaluationSettings, evaluate
from mcdiff_pipeline.evaluation.evaluator import ClipEvaluator
from mcdiff_pipeline.folder_lock import folder_lock
from mcdiff_pipeline.video import read_video
from support.mutations import damage_member
from support.sliding_squares import write_squares
from support.tiny_models import make_flow_completion, make_pipeline


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


def estimate(metrics, kind: str, name: str, **which) -> dict:
    """The only estimate of this kind and name whose entry has these values."""
    (entry,) = [entry for entry in metrics[kind] if all(entry[key] == value for key, value in which.items())]
    return entry[name]


def test_true_video_is_the_floor_and_still_is_the_ceiling(finished):
    _, metrics = finished
    for number in SETTINGS.strokes:
        which = {"strokes": number, "frames": "all"}
        assert estimate(metrics, "motion", "ade", row="true video", **which)["value"] == 0
        assert estimate(metrics, "motion", "recall", row="true video", **which)["value"] == 1
        still = estimate(metrics, "motion", "ade", row="still", **which)["value"]
        splat = estimate(metrics, "motion", "ade", row="splat, true flow", **which)["value"]
        assert splat < 0.5 < 2 < still
    assert estimate(metrics, "rows", "ssim", row="true video", frames="all")["value"] == pytest.approx(1)
    assert estimate(metrics, "rows", "st_lpips", row="true video", frames="all")["value"] == pytest.approx(0, abs=1e-6)
    assert estimate(metrics, "rows", "psnr_moving", row="splat, true flow", frames="all")["value"] > (
        3 + estimate(metrics, "rows", "psnr_moving", row="still", frames="all")["value"]
    )


def test_still_is_nearer_to_the_first_frame_than_to_the_last(finished):
    _, metrics = finished
    first, last = (
        estimate(metrics, "rows", "psnr", row="still", frames=frames)["value"] for frames in ("first", "last")
    )
    assert first > last


def test_error_of_zero_flow_is_the_motion_of_the_squares(finished):
    _, metrics = finished
    # The squares move 2, 3, 4 and 5 pixels per step and cover equally many cells.
    error = estimate(metrics, "flow", "end_point_error", flow="zero flow", strokes=1, region="body")
    assert error["value"] == pytest.approx(3.5, rel=0.01)
    nearest = estimate(metrics, "flow", "end_point_error", flow="nearest stroke", strokes=1, region="body")
    assert nearest["value"] == pytest.approx(0, abs=0.02)


def test_flow_ratios_divide_the_error_of_the_completed_flow_on_the_body(finished):
    folder, metrics = finished
    completed, zero = (
        estimate(metrics, "flow", "end_point_error", flow=flow, strokes=2, region="body")["value"]
        for flow in ("F", "zero flow")
    )
    found = estimate(metrics, "flow_ratios", "ratio", over="zero flow", strokes=2)
    assert found["value"] == pytest.approx(completed / zero)
    assert found["low"] <= found["value"] <= found["high"]
    # One stroke describes the motion of a rigid square exactly, so there is nothing to divide by.
    assert estimate(metrics, "flow_ratios", "ratio", over="nearest stroke", strokes=1) is None
    assert "| strokes | over zero flow | over nearest stroke |" in (folder / "report.md").read_text()


def test_flow_with_regions_is_measured_for_a_model_that_reads_them(finished, dataset, tmp_path):
    _, without = finished
    settings = EvaluationSettings(**(vars(SETTINGS) | {"drift_clips": 0, "num_clips": 2}))
    reading = make_pipeline(flow_completion=make_flow_completion(reads_regions=True))
    metrics = evaluate(reading, dataset, tmp_path, settings)
    flows = [{entry["flow"] for entry in found["flow"]} for found in (without, metrics)]
    assert flows[1] - flows[0] == {"F, regions"}
    assert "F, regions" not in {entry["over"] for entry in metrics["flow_ratios"]}


def test_detail_is_measured_where_the_pipeline_gives_it_back(finished, dataset, tmp_path):
    _, without = finished
    settings = EvaluationSettings(**(vars(SETTINGS) | {"drift_clips": 0, "num_clips": 2}))
    with_detail = evaluate(
        make_pipeline(("previous_frame", "dense_flow", "start_picture")), dataset, tmp_path, settings
    )
    kinds = [{entry["row"] for entry in metrics["rows"]} for metrics in (without, with_detail)]
    assert kinds[1] - kinds[0] == {"ours, without detail", "ours, true flow, without detail"}
    which = {"strokes": SETTINGS.middle_strokes, "frames": "first"}
    shown, decoded = (
        estimate(with_detail, "rows", "psnr_background", row=row, **which)["value"]
        for row in ("ours", "ours, without detail")
    )
    assert shown > decoded


def test_next_frame_compares_the_model_with_splats_along_the_true_flow(finished):
    folder, metrics = finished
    psnr = {entry["row"]: entry["psnr_moving"] for entry in metrics["next_frame"]}
    assert list(psnr) == [
        "still",
        "splat, true flow",
        "splat, true flow on cells",
        "ours, true flow",
        "splat of latents, true flow",
    ]
    assert psnr["splat, true flow"]["value"] > 3 + psnr["still"]["value"]
    assert all(found["low"] <= found["value"] <= found["high"] for found in psnr.values())
    gain = {entry["row"]: entry["uncovered_gain"] for entry in metrics["next_frame"]}
    assert gain["splat, true flow"]["value"] == 0 > gain["still"]["value"]  # a still shows what has left
    assert "## Next frame from the true flow" in (folder / "report.md").read_text()


def test_estimates_have_an_interval_and_a_number_of_clips(finished):
    _, metrics = finished
    psnr = estimate(metrics, "rows", "psnr", row="ours", strokes=2, frames="all")
    assert psnr["low"] < psnr["value"] < psnr["high"]
    assert psnr["clips"] == metrics["clips"] == NUM_CLIPS


def test_differences_compare_the_model_with_each_method_on_the_same_clips(finished):
    folder, metrics = finished
    ours = {"row": "ours", "strokes": SETTINGS.middle_strokes, "frames": "all"}
    assert {found["minus"] for found in metrics["differences"]} >= {"still", "splat, F's flow", "ours, true flow"}
    for found in metrics["differences"]:
        for kind, name in (("rows", "psnr"), ("rows", "st_lpips"), ("motion", "ade")):
            theirs = {"row": found["minus"], "frames": "all"}
            if any(entry["row"] == found["minus"] and entry["strokes"] is not None for entry in metrics[kind]):
                theirs["strokes"] = SETTINGS.middle_strokes
            expected = (
                estimate(metrics, kind, name, **ours)["value"] - estimate(metrics, kind, name, **theirs)["value"]
            )
            assert found[name]["value"] == pytest.approx(expected)
            assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    assert "| ours minus |" in (folder / "report.md").read_text()


def test_absent_metrics_are_listed_with_the_reason(finished):
    folder, metrics = finished
    assert metrics["keypoints"] == []
    assert "no pose model" in metrics["absent"]["Keypoints detected on the output"]
    # Four clips have fewer frames than features.
    assert metrics["frechet"] == {}
    assert "Fréchet distance on ST-LPIPS features" in metrics["absent"]
    report = (folder / "report.md").read_text()
    assert "## Not measured" in report
    assert "Fréchet distance on ST-LPIPS features ↓" not in report


def test_report_scorecard_plots_and_samples_are_written(finished):
    folder, metrics = finished
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    report = (folder / "report.md").read_text()
    for method in ("true video", "still", "splat, thin plate", "ours, true flow"):
        assert f"| {method} |" in report
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


def test_long_rollouts_are_measured_at_doubling_frames(finished):
    _, metrics = finished
    assert [entry["frame"] for entry in metrics["drift"]] == [1, 2, 4, 5]
    assert all(entry["color"]["clips"] == 2 for entry in metrics["drift"])
    assert all(entry["still_st_lpips"]["value"] >= 0 for entry in metrics["drift"])


def test_interrupted_evaluation_resumes_and_gives_the_same_results(finished, pipe, dataset, tmp_path, monkeypatch):
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
    records = sorted((tmp_path / "clips").glob("*.json"))
    assert [path.name for path in records] == ["square_0.json", "square_1.json"]
    for path in records:  # earlier versions did not write this key
        content = json.loads(path.read_text())
        del content["next_frame"]
        path.write_text(json.dumps(content))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "clips").iterdir()}
    metrics = evaluate(pipe, dataset, tmp_path, SETTINGS, batch_size=2)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for kind in ("rows", "motion", "flow", "drift"):
        assert metrics[kind] == finished[1][kind]
    assert metrics["next_frame"][0]["psnr_moving"]["clips"] == NUM_CLIPS - 2


def test_evaluation_that_stopped_inside_a_batch_gives_the_same_bytes(pipe, dataset, tmp_path):
    settings = EvaluationSettings(**(vars(SETTINGS) | {"drift_clips": 0, "num_samples": 0, "num_clips": 2}))
    evaluate(pipe, dataset, tmp_path, settings, batch_size=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("clips/square_1.json", "clips/square_1.npz", "metrics.json"):
        (tmp_path / name).unlink()
    evaluate(pipe, dataset, tmp_path, settings, batch_size=2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_damaged_clips_are_left_out_counted_and_named(pipe, data, tmp_path, caplog):
    shutil.copytree(data, tmp_path / "data")
    damage_member(tmp_path / "data/test-00000.tar", "square_1.flow_02.png")
    settings = EvaluationSettings(**(vars(SETTINGS) | {"drift_clips": 0, "num_samples": 0, "num_clips": 2}))
    metrics = evaluate(pipe, ClipDataset(tmp_path / "data"), tmp_path / "output", settings)
    assert metrics["clips"] == 2 and metrics["clips_left_out"] == {"damage": 1}
    assert "Clip square_1 in" in caplog.text
    assert "1 with damage" in (tmp_path / "output/report.md").read_text()


def test_folder_of_a_running_evaluation_is_refused(pipe, dataset, tmp_path):
    with folder_lock(tmp_path), pytest.raises(ValueError, match="Another evaluation works in"):
        evaluate(pipe, dataset, tmp_path, SETTINGS)


def test_batch_size_and_other_models_change_the_results_by_rounding_only(finished, pipe, dataset, tmp_path):
    settings = EvaluationSettings(**(vars(SETTINGS) | {"drift_clips": 0, "num_samples": 0}))
    metrics = evaluate(pipe, dataset, tmp_path, settings, others={"ours, again": pipe}, batch_size=3)
    for entry, expected in zip(metrics["rows"], finished[1]["rows"]):
        if entry["row"] == expected["row"]:
            assert entry["psnr"]["value"] == pytest.approx(expected["psnr"]["value"], abs=1e-2)
    which = {"strokes": 2, "frames": "all"}
    assert estimate(metrics, "rows", "psnr", row="ours, again", **which) == (
        estimate(metrics, "rows", "psnr", row="ours", **which)
    )


def test_folder_of_another_evaluation_raises_and_is_not_changed(finished, pipe, dataset):
    folder, _ = finished
    before = (folder / "metrics.json").read_bytes()
    with pytest.raises(ValueError, match="holds an evaluation with other seed; name another folder"):
        evaluate(pipe, dataset, folder, EvaluationSettings(**(vars(SETTINGS) | {"seed": 1})))
    with pytest.raises(ValueError, match="with other model_fingerprint"):
        other = make_pipeline()
        torch.nn.init.ones_(other.unet.conv_in.bias)
        evaluate(other, dataset, folder, SETTINGS)
    assert (folder / "metrics.json").read_bytes() == before


def test_model_without_flow_completion_is_evaluated_without_it(dataset, tmp_path):
    pipe = make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)
    settings = EvaluationSettings(**(vars(SETTINGS) | {"num_clips": 1, "drift_clips": 0}))
    metrics = evaluate(pipe, dataset, tmp_path, settings)
    methods = {entry["row"] for entry in metrics["rows"]}
    assert "ours" in methods
    assert not methods & {"ours, true flow", "splat, F's flow"}
    assert "F" not in {entry["flow"] for entry in metrics["flow"]}
    assert metrics["flow_ratios"] == metrics["next_frame"] == []


@pytest.mark.pose_model
def test_keypoints_are_detected_at_each_number_of_strokes_for_the_model_only(pipe, dataset, tmp_path):
    settings = EvaluationSettings(**(vars(SETTINGS) | {"num_clips": 1, "drift_clips": 0}))
    evaluate(pipe, dataset, tmp_path, settings, pose_model=find_pose_model())
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "clips").glob("*.json")]
    detected = {(row["row"], row["strokes"]): len(row["keypoints"]) for row in record["rows"]}
    assert (detected["ours", 1], detected["ours", 2]) == (1, 2)
    assert (detected["splat, F's flow", 1], detected["splat, F's flow", 2]) == (0, 2)
    assert detected["true video", None] == 2


class TestInvalidInput:
    def test_clips_without_keypoints_are_refused(self, pipe, tmp_path):
        dataset = ClipDataset(write_squares(tmp_path / "data", range(2), size=SIZE, keypoints=False))
        with pytest.raises(ValueError, match=r"No clip of 2 can be used \(2 with no keypoint in the first frame\)"):
            evaluate(pipe, dataset, tmp_path / "output", SETTINGS)
        assert not (tmp_path / "output").exists()
        anywhere = EvaluationSettings(**(vars(SETTINGS) | {"anywhere": True, "drift_clips": 0}))
        assert evaluate(pipe, dataset, tmp_path / "output", anywhere)["clips"] == 2

    def test_clips_that_are_too_short_are_refused(self, pipe, dataset, tmp_path):
        settings = EvaluationSettings(**(vars(SETTINGS) | {"num_frames": 9}))
        with pytest.raises(ValueError, match="longest of the 4 clips has 4 frames, but 9 are asked for"):
            evaluate(pipe, dataset, tmp_path, settings)

    def test_clips_of_several_sizes_are_refused(self, pipe, data, tmp_path):
        other = write_squares(tmp_path / "data", range(4, 5), size=96)
        dataset = ClipDataset([*ClipDataset(data).shards, *ClipDataset(other).shards])
        with pytest.raises(ValueError, match=r"frames of \[\(64, 64\), \(96, 96\)\] pixels"):
            evaluate(pipe, dataset, tmp_path, SETTINGS)

    def test_clips_of_a_size_that_does_not_fit_the_model_are_refused(self, pipe, tmp_path):
        dataset = ClipDataset(write_squares(tmp_path / "data", range(1), size=68))
        with pytest.raises(ValueError, match="68 x 68 pixels, but this model needs multiples of 8"):
            evaluate(pipe, dataset, tmp_path / "output", SETTINGS)

    def test_clips_that_are_too_small_for_a_metric_are_refused(self, pipe, tmp_path):
        dataset = ClipDataset(write_squares(tmp_path / "data", range(1), size=56))
        with pytest.raises(ValueError, match="56 x 56 pixels, but ST-LPIPS needs 64 x 64 or more"):
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
    def test_numbers_out_of_range_are_refused(self, setting, match):
        with pytest.raises(ValueError, match=match):
            EvaluationSettings(**setting)


def test_results_page_compares_the_results_with_targets(finished, tmp_path):
    folder, metrics = finished
    page = tmp_path / "results.md"
    page.write_text("# Results\n\n## Ablations\n\nResults of variants.\n\n## Samples\n\nOf another model.\n")
    results = runpy.run_path(str(REPOSITORY / "benchmarks/results.py"))
    results["main"](["--evaluation", str(folder), "--output", str(page), "--samples", "square_0"])
    text = page.read_text()
    body = {
        name: estimate(metrics, "flow", "end_point_error", flow=name, strokes=2, region="body")["value"]
        for name in ("F", "zero flow")
    }
    ratio = body["F"] / body["zero flow"]
    verdict = "met" if ratio <= 0.45 else "**missed**"
    assert f"| F on the body, error relative to zero flow, 2 strokes | {ratio:.3g} | ≤ 0.45 | {verdict} |" in text
    assert (
        "## Ablations\n\nResults of variants.\n\n## Samples\n\nOne line" in text
    )  # without variants the section stays
    assert "Of another model" not in text
    for image in ("results-ade.png", "results-drift.png", "results-sample-0.jpg"):
        assert f"](images/{image})" in text
        assert (tmp_path / "images" / image).stat().st_size > 0
