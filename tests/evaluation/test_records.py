import json
import math

import pytest

from mcdiff_pipeline.evaluation.metrics.drift import DriftMeasurement
from mcdiff_pipeline.evaluation.metrics.flow_errors import RegionError
from mcdiff_pipeline.evaluation.records import (
    ClipRecord,
    FlowErrors,
    MethodResult,
    NextFrameError,
    read_drift,
    write_drift,
)


def make_record() -> ClipRecord:
    return ClipRecord(
        handles=[[[1.5, 2.0], [3.0, 2.0]]],
        methods=[MethodResult("ours", 1, {"psnr": [20.0, math.nan]}, [[0.5]], [math.nan])],
        flow=[FlowErrors("F", 1, {"body": RegionError(12.5, 4)})],
        next_frame=[NextFrameError("still", 0.25, 12, 0.5, 6)],
    )


def test_record_is_stored_with_the_keys_of_the_format(tmp_path):
    make_record().write(tmp_path / "clip.json")
    assert json.loads((tmp_path / "clip.json").read_text()) == {
        "handles": [[[1.5, 2.0], [3.0, 2.0]]],
        "rows": [
            {"row": "ours", "strokes": 1, "pictures": {"psnr": [20.0, None]}, "handles": [[0.5]], "keypoints": [None]}
        ],
        "flow": [{"flow": "F", "strokes": 1, "errors": {"body": [12.5, 4]}}],
        "next_frame": [
            {"row": "still", "squared_error": 0.25, "values": 12, "uncovered_error": 0.5, "uncovered_values": 6}
        ],
    }


def test_record_is_read_as_it_was_written(tmp_path):
    make_record().write(tmp_path / "clip.json")
    record = ClipRecord.read(tmp_path / "clip.json")
    assert record.flow == make_record().flow
    assert record.next_frame == make_record().next_frame
    assert record.methods[0].images == {"psnr": [20.0, pytest.approx(math.nan, nan_ok=True)]}


def test_record_without_next_frame_is_read(tmp_path):
    make_record().write(tmp_path / "clip.json")
    content = json.loads((tmp_path / "clip.json").read_text())
    del content["next_frame"]
    (tmp_path / "clip.json").write_text(json.dumps(content))
    assert ClipRecord.read(tmp_path / "clip.json").next_frame == []


def test_drift_is_read_as_it_was_written(tmp_path):
    drift = {1: DriftMeasurement(0.1, 0.9, 0.2, 30.0), 8: DriftMeasurement(0.2, 0.8, 0.3, 29.0)}
    write_drift(tmp_path / "clip.json", drift)
    assert read_drift(tmp_path / "clip.json") == drift
    write_drift(tmp_path / "clip.json", {1: DriftMeasurement(0.1, 0.9, math.nan, math.nan)})
    assert math.isnan(read_drift(tmp_path / "clip.json")[1].still_psnr)
