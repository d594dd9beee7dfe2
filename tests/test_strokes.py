# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import copy
import importlib.resources
import json
import math
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from mcdiff_pipeline.strokes import Stroke, StrokeSheet, sparse_flow


DOC = Path(__file__).parents[1] / "docs" / "stroke-format.md"
SCHEMA = json.loads((importlib.resources.files("mcdiff_pipeline") / "stroke_sheet.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def sheet_dict(*strokes, **fields):
    return {"version": 1, "width": 100, "height": 50, "num_frames": 16, "strokes": list(strokes), **fields}


def move(**fields):
    return {"points": [[10, 20], [30, 20]], **fields}


def hold(**fields):
    return {"kind": "hold", "points": [[10, 20]], **fields}


def rasterize(*strokes, frame=0, num_frames=None, **kwargs):
    return sparse_flow(
        [list(strokes)], frame, image_size=(32, 64), latent_size=(8, 16), num_frames=num_frames, **kwargs
    )


# --- time along a stroke ---------------------------------------------------------------------------------------------


def test_handle_runs_at_even_speed_around_corners():
    stroke = Stroke([(0, 0), (10, 0), (10, 30)], end_frame=4)
    assert [stroke.at(i) for i in range(5)] == [(0, 0), (10, 0), (10, 10), (10, 20), (10, 30)]
    assert stroke.at(0.5) == (5, 0)
    assert stroke.displacement(0) == (10, 0)
    assert stroke.displacement(3) == (0, 10)


def test_even_speed_does_not_depend_on_how_many_points_were_clicked():
    coarse = Stroke([(3, 5), (23, 45)], start_frame=1, end_frame=7)
    fine = Stroke([(3 + 20 * t, 5 + 40 * t) for t in (0, 0.01, 0.02, 0.02, 0.7, 1)], start_frame=1, end_frame=7)
    for frame in range(1, 8):
        assert fine.at(frame) == pytest.approx(coarse.at(frame), abs=1e-9)


def test_handle_is_at_each_point_at_its_own_frame():
    stroke = Stroke([(0, 0), (8, 0), (8, 0), (0, 0)], frames=[1, 3, 4.5, 5.5])
    assert [stroke.at(f) for f in (1, 2, 3, 4, 5, 5.5)] == [(0, 0), (4, 0), (8, 0), (8, 0), (4, 0), (0, 0)]
    assert stroke.displacement(3) == (0, 0)


def test_stroke_says_nothing_outside_its_time():
    stroke = Stroke([(0, 0), (10, 0)], start_frame=2, end_frame=4)
    assert stroke.at(1.9) is None and stroke.at(4.1) is None
    assert stroke.at(4) == (10, 0)
    assert stroke.displacement(1) is None and stroke.displacement(4) is None
    assert stroke.displacement(2) == (5, 0) and stroke.displacement(3) == (5, 0)


def test_fractional_ends_speak_only_in_steps_wholly_inside_them():
    stroke = Stroke([(0, 0), (10, 0)], frames=[0.5, 3.5])
    assert [stroke.displacement(i) is None for i in range(4)] == [True, False, False, True]


def test_open_end_is_the_last_frame_of_the_clip():
    stroke = Stroke([(0, 0), (10, 0)])
    assert stroke.at(5, num_frames=11) == (5, 0)
    assert stroke.at(10, num_frames=11) == (10, 0)
    assert stroke.at(11, num_frames=11) is None
    with pytest.raises(ValueError, match="end_frame is None and num_frames is None"):
        stroke.at(0)


def test_open_end_of_a_clip_that_stops_before_the_start_says_nothing():
    assert Stroke([(0, 0), (10, 0)], start_frame=5).displacement(0, num_frames=4) is None
    assert Stroke([(0, 0), (10, 0)], start_frame=5).at(5, num_frames=6) is None


def test_hold_without_an_end_lasts_for_ever():
    stroke = Stroke([(7, 3)], kind="hold", start_frame=2)
    assert stroke.at(1) is None
    assert stroke.at(10_000) == (7, 3)
    assert stroke.displacement(10_000) == (0, 0)
    assert stroke.displacement(9, num_frames=10) is None


def test_points_may_come_from_numpy():
    stroke = Stroke(np.array([[1, 2], [3, 4]], dtype=np.float32), end_frame=np.int64(2))
    assert stroke == Stroke([(1, 2), (3, 4)], end_frame=2)


def test_scaled_stroke_moves_by_the_scaled_displacement():
    stroke = Stroke([(4, 8), (6, 8)], end_frame=2).scaled(0.5, 3)
    assert stroke.at(0) == (2, 24)
    assert stroke.displacement(0) == (0.5, 0)
    with pytest.raises(ValueError, match="above 0"):
        stroke.scaled(0, 1)


# --- sparse flow -----------------------------------------------------------------------------------------------------


def test_displacement_is_written_at_the_cell_that_holds_the_handle():
    flow, mask = rasterize(Stroke([(39.9, 11.9), (49.9, 1.9)], end_frame=2))
    assert flow.shape == (1, 2, 8, 16) and flow.dtype == torch.float32
    assert mask.shape == (1, 1, 8, 16) and mask.dtype == torch.bool
    assert mask.nonzero().tolist() == [[0, 0, 2, 9]]
    assert flow[0, :, 2, 9].tolist() == pytest.approx([5, -5])
    assert flow.abs().sum() == pytest.approx(10)


def test_handle_travels_from_cell_to_cell():
    stroke = Stroke([(2, 2), (62, 2)], end_frame=15)
    assert [rasterize(stroke, frame=i)[1].nonzero()[0, 3].item() for i in range(15)] == list(range(15))


def test_sub_pixel_displacement_survives():
    flow, _ = rasterize(Stroke([(10, 10), (10.015, 10)], end_frame=15))
    assert flow[0, 0, 2, 2].item() == pytest.approx(0.001, rel=1e-5)


def test_hold_sets_the_mask_over_zero_flow():
    flow, mask = rasterize(Stroke([(10, 10)], kind="hold"), frame=100)
    assert not flow.any()
    assert mask.sum() == 1 and mask[0, 0, 2, 2]


def test_no_strokes_leave_the_mask_empty():
    flow, mask = sparse_flow([[], []], 0, image_size=(32, 64), latent_size=(8, 16))
    assert flow.shape == (2, 2, 8, 16) and not flow.any()
    assert mask.shape == (2, 1, 8, 16) and not mask.any()


def test_two_strokes_in_one_cell_are_averaged():
    right = Stroke([(9, 9), (13, 9)], end_frame=1)
    down = Stroke([(10, 10), (10, 12)], end_frame=1)
    flow, mask = rasterize(right, down, Stroke([(11, 11)], kind="hold"))
    assert flow[0, :, 2, 2].tolist() == pytest.approx([4 / 3, 2 / 3])
    assert mask.sum() == 1


def test_stroke_outside_the_picture_is_silent_until_it_comes_back():
    stroke = Stroke([(-4, 2), (68, 2)], end_frame=18)  # 4 pixels a frame over a picture of 64
    said = [rasterize(stroke, frame=i)[1].any().item() for i in range(18)]
    assert said == [False] + [True] * 16 + [False]


def test_points_on_and_just_inside_the_border():
    inside = math.nextafter(64, 0), math.nextafter(32, 0)
    assert rasterize(Stroke([inside], kind="hold"))[1].nonzero().tolist() == [[0, 0, 7, 15]]
    assert not rasterize(Stroke([(64, 3)], kind="hold"))[1].any()
    assert not rasterize(Stroke([(3, 32)], kind="hold"))[1].any()


def test_each_image_of_a_batch_has_its_own_strokes():
    first, second = [Stroke([(1, 1), (3, 1)], end_frame=1)], [Stroke([(5, 1)], kind="hold")]
    flow, mask = sparse_flow([first, second], 0, image_size=(32, 64), latent_size=(8, 16))
    assert mask.nonzero().tolist() == [[0, 0, 0, 0], [1, 0, 0, 1]]
    assert flow[0, 0, 0, 0] == 2 and not flow[1].any()


def test_latent_grid_may_have_any_size():
    flow, mask = sparse_flow(
        [[Stroke([(63, 31), (64, 31)], end_frame=1)]], 0, image_size=(33, 65), latent_size=(5, 9), dtype=torch.float16
    )
    assert mask.nonzero().tolist() == [[0, 0, 4, 8]]
    assert flow.dtype == torch.float16 and flow[0, 0, 4, 8] == 1


# --- sheets ----------------------------------------------------------------------------------------------------------


def sheet():
    return StrokeSheet(
        [
            Stroke([(10.25, 20), (30, 21.125)], start_frame=1, end_frame=9),
            Stroke([(0.1, 0.2), (99.9, 49.9), (-20, 80)], frames=[0, 2.5, 15]),
            Stroke([(50, 25)], kind="hold", start_frame=3),
        ],
        width=100,
        height=50,
        num_frames=16,
        fps=12.5,
    )


def test_sheet_survives_a_file(tmp_path):
    sheet().save(tmp_path / "strokes.json")
    assert StrokeSheet.load(tmp_path / "strokes.json") == sheet()
    assert StrokeSheet.from_dict(json.loads(json.dumps(sheet().to_dict()))) == sheet()
    assert VALIDATOR.is_valid(json.loads((tmp_path / "strokes.json").read_text()))
    assert [p.name for p in tmp_path.iterdir()] == ["strokes.json"]


def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "strokes.json"
    target.mkdir()  # os.replace cannot put a file over a folder
    with pytest.raises(OSError):
        sheet().save(target)
    assert [p.name for p in tmp_path.iterdir()] == ["strokes.json"]


def test_scaled_sheet_is_drawn_on_the_scaled_picture():
    scaled = sheet().scaled(width=200, height=25)
    assert (scaled.width, scaled.height, scaled.num_frames, scaled.fps) == (200, 25, 16, 12.5)
    assert scaled.strokes[0].points == ((20.5, 10), (60, 10.5625))
    assert scaled.strokes[1].frames == (0, 2.5, 15)
    assert scaled.scaled(100, 50) == sheet()


def test_points_at_the_very_limit_survive_scaling():
    limit = StrokeSheet([Stroke([(-100, -50), (200, 100)])], 100, 50, 16)
    for width in range(1, 60):
        limit.scaled(width, 3 * width)


def test_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(sheet().to_dict()), encoding="utf-8")
    assert StrokeSheet.load(tmp_path / "a.json") == sheet()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"1" * 5000])
def test_file_that_is_not_json_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json is not JSON"):
        StrokeSheet.load(path)


def test_bad_file_is_named_with_stroke_and_field(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(
        '{"version": 1, "width": 9, "height": 9, "num_frames": 4, "strokes": [{"points": [[1, 2], [NaN, 3]]}]}'
    )
    with pytest.raises(ValueError, match=r"bad\.json: strokes\[0\]\.points\[1\] is \[nan, 3\]"):
        StrokeSheet.load(path)


def test_documented_example_is_valid():
    example = json.loads(re.search(r"```json\n(.*?)```", DOC.read_text(), re.DOTALL).group(1))
    VALIDATOR.validate(example)
    documented = StrokeSheet.from_dict(example)
    # the full example uses every field there is
    assert set(example) == set(SCHEMA["properties"])
    assert {f for s in example["strokes"] for f in s} == set(SCHEMA["$defs"]["stroke"]["properties"])
    code = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)[-1]
    names = {}
    exec(code.replace('sheet.save("strokes.json")', ""), names)  # the code in our own document
    assert names["sheet"] == documented


def test_every_field_is_documented():
    table = re.findall(r"^\| `(\w+)` \|", DOC.read_text(), re.MULTILINE)
    assert table == [*SCHEMA["properties"], *SCHEMA["$defs"]["stroke"]["properties"]]


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


GOOD = {
    "a move": sheet_dict(move()),
    "a hold": sheet_dict(hold(start_frame=14)),
    "no strokes": sheet_dict(),
    "all sheet fields": sheet_dict(move(), fps=29.97),
    "all move fields": sheet_dict(move(kind="move", start_frame=2, end_frame=5)),
    "an end beyond the clip": sheet_dict(move(end_frame=100)),
    "times": sheet_dict(move(frames=[0.5, 14])),
    "times beyond the clip": sheet_dict(move(frames=[14, 20])),
    "points in the margin": sheet_dict({"points": [[-100, -50], [200, 100]]}),
    "a repeated point": sheet_dict({"points": [[1, 1], [2, 2], [1, 1]]}),
    "whole floats": sheet_dict(move(start_frame=1.0), width=100.0, version=1.0),
    "two frames": sheet_dict(move(), num_frames=2),
}

# name: (file, what the message must say)
BAD = {
    "a list": ([], "stroke sheet is"),
    "no version": ({"width": 9, "height": 9, "num_frames": 4, "strokes": []}, "version is missing"),
    "version 2": (sheet_dict(version=2), "version is 2; this program reads version 1"),
    "version true": (sheet_dict(version=True), "version is True"),
    "version as text": (sheet_dict(version="1"), "version is '1'"),
    "unknown field": (sheet_dict(frames=3), "'frames' is no field of a stroke sheet"),
    "no width": ({"version": 1, "height": 9, "num_frames": 4, "strokes": []}, "width is missing"),
    "no strokes": ({"version": 1, "width": 9, "height": 9, "num_frames": 4}, "strokes is missing"),
    "width 0": (sheet_dict(width=0), "width is 0; it must be a whole number from 1"),
    "height -3": (sheet_dict(height=-3), "height is -3"),
    "height 1.5": (sheet_dict(height=1.5), "height is 1.5"),
    "width true": (sheet_dict(width=True), "width is True"),
    "width as text": (sheet_dict(width="100"), "width is '100'"),
    "one frame": (sheet_dict(num_frames=1), "num_frames is 1; it must be a whole number from 2"),
    "fps 0": (sheet_dict(fps=0), "fps is 0; it must be a number above 0"),
    "fps null": (sheet_dict(fps=None), "fps is None"),
    "strokes an object": (sheet_dict(strokes={}), r"strokes is \{\}; it must be a list"),
    "a stroke that is a list": (sheet_dict(move(), [[1, 2], [3, 4]]), r"strokes\[1\] is \[\[1, 2\], \[3, 4\]\]"),
    "unknown stroke field": (sheet_dict(move(), move(end=3)), r"strokes\[1\]\.end is no field of a stroke"),
    "no points": (sheet_dict(move(), {}), r"strokes\[1\]\.points is missing"),
    "null": (sheet_dict(move(end_frame=None)), r"strokes\[0\]\.end_frame is null; give it a value or leave it out"),
    "unknown kind": (sheet_dict(move(kind="drag")), r"strokes\[0\]\.kind is 'drag'; it must be one of 'move', 'hold'"),
    "kind a list": (sheet_dict(move(kind=["move"])), r"strokes\[0\]\.kind is \['move'\]"),
    "points a number": (sheet_dict(move(points=3)), r"strokes\[0\]\.points is 3"),
    "points a text": (sheet_dict(move(points="1,2 3,4")), r"strokes\[0\]\.points\[0\] is '1'"),
    "a point of three": (sheet_dict(move(points=[[1, 2, 3], [4, 5]])), r"strokes\[0\]\.points\[0\] is \[1, 2, 3\]"),
    "a point as object": (
        sheet_dict(move(points=[{"x": 1, "y": 2}, [4, 5]])),
        r"strokes\[0\]\.points\[0\] is \{'x': 1",
    ),
    "a point of text": (sheet_dict(move(points=[[1, 2], ["3", 4]])), r"strokes\[0\]\.points\[1\] is \['3', 4\]"),
    "a point of true": (sheet_dict(move(points=[[1, 2], [True, 4]])), r"strokes\[0\]\.points\[1\] is \[True, 4\]"),
    "an empty move": (sheet_dict(move(points=[])), r"strokes\[0\]\.points holds 0 points; a move needs at least two"),
    "a one-point move": (sheet_dict(hold(), move(points=[[1, 2]])), r"strokes\[1\]\.points holds 1 point; a move"),
    "a hold of two": (sheet_dict(hold(points=[[1, 2], [3, 4]])), r"strokes\[0\]\.points holds 2 points; a hold"),
    "a hold of none": (sheet_dict(hold(points=[])), r"strokes\[0\]\.points holds 0 points; a hold"),
    "start -1": (sheet_dict(move(start_frame=-1)), r"strokes\[0\]\.start_frame is -1; it must be a whole number"),
    "start 0.5": (sheet_dict(move(start_frame=0.5)), r"strokes\[0\]\.start_frame is 0.5"),
    "start true": (sheet_dict(move(start_frame=True)), r"strokes\[0\]\.start_frame is True"),
    "end as text": (sheet_dict(move(end_frame="3")), r"strokes\[0\]\.end_frame is '3'"),
    "end 0": (sheet_dict(move(end_frame=0)), r"strokes\[0\]\.end_frame is 0, not after start_frame, which is 0"),
    "frames on a hold": (sheet_dict(hold(frames=[0, 3])), r"strokes\[0\]\.frames is given for a hold"),
    "frames and start": (sheet_dict(move(frames=[0, 3], start_frame=0)), r"strokes\[0\]\.frames is given beside"),
    "frames and end": (sheet_dict(move(frames=[0, 3], end_frame=3)), r"strokes\[0\]\.frames is given beside"),
    "frames a number": (sheet_dict(move(frames=3)), r"strokes\[0\]\.frames is 3; it must be a list"),
    "frames negative": (sheet_dict(move(frames=[-1, 3])), r"strokes\[0\]\.frames\[0\] is -1"),
    "frames of text": (sheet_dict(move(frames=[0, "3"])), r"strokes\[0\]\.frames\[1\] is '3'"),
    "frames too few": (sheet_dict(move(frames=[0])), r"strokes\[0\]\.frames holds 1 numbers for 2 points"),
}

# What no schema can say.
BAD_BEYOND_THE_SCHEMA = {
    "NaN": (sheet_dict(move(points=[[1, 2], [math.nan, 4]])), r"strokes\[0\]\.points\[1\] is \[nan, 4\]"),
    "infinity": (sheet_dict(move(points=[[1, 2], [3, -math.inf]])), r"strokes\[0\]\.points\[1\] is \[3, -inf\]"),
    "a number too large": (sheet_dict(move(points=[[1, 2], [3, 10**400]])), r"strokes\[0\]\.points\[1\] is \[3, 1000"),
    "fps infinite": (sheet_dict(fps=math.inf), "fps is inf"),
    "a move of length zero": (
        sheet_dict(move(points=[[1, 2], [1, 2]])),
        r"strokes\[0\]\.points are all \[1.0, 2.0\], a move of length zero; make the stroke a hold",
    ),
    "a point far right": (
        sheet_dict(hold(), move(points=[[1, 2], [200.1, 4]])),
        r"strokes\[1\]\.points\[1\] is \[200.1, 4\], more than one picture's size away .* between -100 and 200",
    ),
    "a point far above": (sheet_dict(hold(points=[[1, -51]])), r"strokes\[0\]\.points\[0\] is \[1, -51\], more than"),
    "end before start": (
        sheet_dict(move(start_frame=5, end_frame=4)),
        r"strokes\[0\]\.end_frame is 4, not after start_frame, which is 5",
    ),
    "start beyond the clip": (
        sheet_dict(move(start_frame=15)),
        r"strokes\[0\]\.start_frame is 15, too late for a clip of 16 frames; it must be at most 14",
    ),
    "hold beyond the clip": (sheet_dict(hold(start_frame=16)), r"strokes\[0\]\.start_frame is 16, too late"),
    "frames beyond the clip": (sheet_dict(move(frames=[14.5, 18])), r"strokes\[0\]\.frames\[0\] is 14.5, too late"),
    "frames too many": (sheet_dict(move(frames=[0, 1, 2])), r"strokes\[0\]\.frames holds 3 numbers for 2 points"),
    "frames decreasing": (sheet_dict(move(frames=[5, 3])), r"strokes\[0\]\.frames\[1\] is 3, not above frames\[0\]"),
    "frames equal": (sheet_dict(move(frames=[5, 5])), r"strokes\[0\]\.frames\[1\] is 5, not above frames\[0\]"),
    "frames too short": (sheet_dict(move(frames=[5, 5.9])), r"strokes\[0\]\.frames run from 5 to 5.9"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_sheet_is_accepted_by_loader_and_schema(name):
    VALIDATOR.validate(GOOD[name])
    StrokeSheet.from_dict(copy.deepcopy(GOOD[name]))


@pytest.mark.parametrize("name", BAD)
def test_bad_sheet_is_refused_by_loader_and_schema(name):
    fields, message = BAD[name]
    assert not VALIDATOR.is_valid(fields)
    with pytest.raises(ValueError, match=message):
        StrokeSheet.from_dict(fields)


@pytest.mark.parametrize("name", BAD_BEYOND_THE_SCHEMA)
def test_bad_sheet_that_no_schema_can_describe_is_refused_by_the_loader(name):
    fields, message = BAD_BEYOND_THE_SCHEMA[name]
    assert VALIDATOR.is_valid(fields)
    with pytest.raises(ValueError, match=message):
        StrokeSheet.from_dict(fields)
