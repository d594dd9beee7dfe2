# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Strokes, stroke sheets and their files, and sparse flow on the latent grid."""

import base64
import copy
import importlib.resources
import io
import json
import math
import re
import struct
import time
import zlib
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from mcdiff_pipeline import Region
from mcdiff_pipeline.strokes import (
    Stroke,
    StrokeSheet,
    load_sheets,
    rasterize_strokes,
    regions_of_sheets,
    strokes_at_size,
)
from support.mutations import refusals


DOC = Path(__file__).parents[1] / "docs" / "stroke-format.md"
SCHEMA = json.loads((importlib.resources.files("mcdiff_pipeline") / "stroke_sheet.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def sheet_dict(*strokes, **fields):
    return {"version": 1, "width": 100, "height": 50, "num_frames": 16, "strokes": list(strokes), **fields}


def move(**fields):
    return {"points": [[10, 20], [30, 20]], **fields}


def hold(**fields):
    return {"kind": "hold", "points": [[10, 20]], **fields}


def controlled(*strokes):
    return sheet_dict(*strokes, version=3)


def png_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def soft_mask() -> np.ndarray:
    """8 bits, of the size of `sheet_dict`: white on the left, black on the right, and grays between."""
    return np.tile(np.linspace(300, -45, 100).clip(0, 255).astype(np.uint8), (50, 1))


def mask(**fields):
    return {"mask": png_uri(Image.fromarray(soft_mask())), **fields}


def outline(**fields):
    return {"polygon": [[60, 10], [90, 10], [75, 40]], **fields}


def regions_dict(*regions, strokes=(), **fields):
    return sheet_dict(*strokes, version=2, regions=list(regions), **fields)


def rasterize(*strokes, frame=0, num_frames=None, **kwargs):
    return rasterize_strokes(
        [list(strokes)], frame, image_size=(32, 64), latent_size=(8, 16), num_frames=num_frames, **kwargs
    )


# Time along a stroke


def test_handle_moves_at_constant_speed_around_corners():
    stroke = Stroke([(0, 0), (10, 0), (10, 30)], end_frame=4)
    assert [stroke.at(i) for i in range(5)] == [(0, 0), (10, 0), (10, 10), (10, 20), (10, 30)]
    assert stroke.at(0.5) == (5, 0)
    assert stroke.displacement(0) == (10, 0)
    assert stroke.displacement(3) == (0, 10)


def test_speed_does_not_depend_on_the_number_of_points():
    coarse = Stroke([(3, 5), (23, 45)], start_frame=1, end_frame=7)
    fine = Stroke([(3 + 20 * t, 5 + 40 * t) for t in (0, 0.01, 0.02, 0.02, 0.7, 1)], start_frame=1, end_frame=7)
    for frame in range(1, 8):
        assert fine.at(frame) == pytest.approx(coarse.at(frame), abs=1e-9)


def test_handle_is_at_each_point_at_its_own_frame():
    stroke = Stroke([(0, 0), (8, 0), (8, 0), (0, 0)], frames=[1, 3, 4.5, 5.5])
    assert [stroke.at(f) for f in (1, 2, 3, 4, 5, 5.5)] == [(0, 0), (4, 0), (8, 0), (8, 0), (4, 0), (0, 0)]
    assert stroke.displacement(3) == (0, 0)


def test_stroke_specifies_nothing_outside_its_time():
    stroke = Stroke([(0, 0), (10, 0)], start_frame=2, end_frame=4)
    assert stroke.at(1.9) is None and stroke.at(4.1) is None
    assert stroke.at(4) == (10, 0)
    assert stroke.displacement(1) is None and stroke.displacement(4) is None
    assert stroke.displacement(2) == (5, 0) and stroke.displacement(3) == (5, 0)


def test_fractional_ends_specify_only_the_steps_between_them():
    stroke = Stroke([(0, 0), (10, 0)], frames=[0.5, 3.5])
    assert [stroke.displacement(i) is None for i in range(4)] == [True, False, False, True]


def test_open_end_is_the_last_frame_of_the_clip():
    stroke = Stroke([(0, 0), (10, 0)])
    assert stroke.at(5, num_frames=11) == (5, 0)
    assert stroke.at(10, num_frames=11) == (10, 0)
    assert stroke.at(11, num_frames=11) is None
    with pytest.raises(ValueError, match="end_frame is None and num_frames is None"):
        stroke.at(0)


def test_stroke_that_starts_after_the_end_of_the_clip_specifies_nothing():
    assert Stroke([(0, 0), (10, 0)], start_frame=5).displacement(0, num_frames=4) is None
    assert Stroke([(0, 0), (10, 0)], start_frame=5).at(5, num_frames=6) is None


def test_hold_without_an_end_never_ends():
    stroke = Stroke([(7, 3)], kind="hold", start_frame=2)
    assert stroke.at(1) is None
    assert stroke.at(10_000) == (7, 3)
    assert stroke.displacement(10_000) == (0, 0)
    assert stroke.displacement(9, num_frames=10) is None


def test_points_can_be_a_numpy_array():
    stroke = Stroke(np.array([[1, 2], [3, 4]], dtype=np.float32), end_frame=np.int64(2))
    assert stroke == Stroke([(1, 2), (3, 4)], end_frame=2)


def test_scaled_stroke_moves_by_the_scaled_displacement():
    stroke = Stroke([(4, 8), (6, 8)], end_frame=2).scaled(0.5, 3)
    assert stroke.at(0) == (2, 24)
    assert stroke.displacement(0) == (0.5, 0)
    with pytest.raises(ValueError, match="above 0"):
        stroke.scaled(0, 1)


# Parts of a stroke


def random_strokes(count: int, *, num_frames: int) -> list[Stroke]:
    """Holds, bent moves of constant speed and timed moves, some with rests, open ends or fractional ends."""
    rng = np.random.default_rng(0)
    strokes = []
    for index in range(count):
        points = [tuple(point) for point in rng.uniform(0, 50, size=(rng.integers(2, 6), 2))]
        start = int(rng.integers(0, num_frames - 1))
        end = None if rng.random() < 0.4 else start + int(rng.integers(1, num_frames + 4))
        if index % 3 == 0:
            strokes.append(Stroke(points[:1], kind="hold", start_frame=start, end_frame=end))
        elif index % 3 == 1:
            strokes.append(Stroke(points, start_frame=start, end_frame=end))
        else:
            # rests in between: a point is repeated, often at times between two frames
            points = [point for point in points for _ in range(rng.integers(1, 4))] + [(60.0, 60.0)]
            steps = rng.uniform(0.05, 3, size=len(points))
            frames = rng.uniform(0, 3) + np.cumsum(np.round(steps, 1) if rng.random() < 0.5 else steps)
            strokes.append(Stroke(points, frames=[*frames[:-1], max(frames[-1], frames[0] + 1)]))
    return strokes


def test_part_of_a_stroke_is_exactly_where_the_stroke_is():
    num_frames, parts = 12, 0
    rng = np.random.default_rng(1)
    for stroke in random_strokes(300, num_frames=num_frames):
        first = int(rng.integers(0, num_frames - 1))
        last = int(rng.integers(first + 1, num_frames + 2))
        part = stroke.cut(first, last, num_frames)
        for frame in range(num_frames + 3):
            expected = stroke.displacement(frame, num_frames) if first <= frame < last else None
            # an end of its own: the length of the clip does not change a part
            for length in (None, 2 * num_frames):
                assert (None if part is None else part.displacement(frame, length)) == expected
            if expected is not None:
                parts += 1
                assert part.at(frame) == stroke.at(frame, num_frames)
                assert part.at(frame + 1) == stroke.at(frame + 1, num_frames)
    assert parts > 300


def test_parts_one_after_the_other_specify_what_the_stroke_specifies():
    num_frames = 12
    for stroke in random_strokes(90, num_frames=num_frames):
        for middle in (1, 4, 10):
            parts = [stroke.cut(0, middle, num_frames), stroke.cut(middle, num_frames - 1, num_frames)]
            for frame in range(num_frames - 1):
                found = [part.displacement(frame) for part in parts if part is not None]
                found = [displacement for displacement in found if displacement is not None]
                expected = stroke.displacement(frame, num_frames)
                assert found == ([] if expected is None else [expected])


def test_part_of_a_part_is_a_part_of_the_stroke():
    for stroke in random_strokes(60, num_frames=12):
        part = stroke.cut(1, 9, 12)
        found = part.cut(3, 6) if part is not None else None
        expected = stroke.cut(3, 6, 12)
        assert (found is None) == (expected is None)
        for frame in range(3, 6):
            if expected is not None:
                assert found.displacement(frame) == expected.displacement(frame)


def test_part_without_a_whole_step_is_none():
    stroke = Stroke([(0, 0), (10, 0)], start_frame=2, end_frame=4)
    assert stroke.cut(0, 2) is None and stroke.cut(4, 9) is None
    assert stroke.cut(0, 3) == Stroke([(0, 0), (5, 0)], frames=[2, 3])
    fractional = Stroke([(0, 0), (10, 0)], frames=[1.5, 3.5])
    assert fractional.cut(0, 2) is None and fractional.cut(3, 9) is None  # half a step each
    assert fractional.cut(2, 3) is not None


def test_part_in_which_the_handle_rests_is_a_hold():
    stroke = Stroke([(0, 0), (8, 0), (8, 0), (0, 0)], frames=[0, 2, 5.5, 8])
    assert stroke.cut(2, 5) == Stroke([(8, 0)], kind="hold", start_frame=2, end_frame=5)
    assert stroke.cut(2, 6).kind == "move"


def test_part_of_a_stroke_with_many_points_takes_little_time():
    stroke = Stroke([(x / 1000, x % 7) for x in range(20_000)])
    started = time.process_time()
    assert len(stroke.cut(2, 50, 64).points) > 15_000
    assert time.process_time() - started < 5  # 0.4 s; minutes if each point is looked for along the whole path


def test_part_of_a_hold_between_fractions_of_frames_stays_inside_them():
    assert Stroke([(7, 3)], kind="hold").cut(1.5, 3.5) == Stroke([(7, 3)], kind="hold", start_frame=2, end_frame=3)


def test_part_of_a_hold_is_a_hold():
    hold = Stroke([(7, 3)], kind="hold", start_frame=2)
    assert hold.cut(0, 5) == Stroke([(7, 3)], kind="hold", start_frame=2, end_frame=5)
    assert hold.cut(4, 9, num_frames=7) == Stroke([(7, 3)], kind="hold", start_frame=4, end_frame=6)
    assert hold.cut(0, 2) is None


def test_part_of_an_open_move_needs_the_length_of_the_clip():
    stroke = Stroke([(0, 0), (10, 0)])
    with pytest.raises(ValueError, match="end_frame is None and num_frames is None"):
        stroke.cut(0, 3)
    assert stroke.cut(0, 3, num_frames=11).at(3) == (3, 0)


@pytest.mark.parametrize("first, last", [(3, 3), (4, 2)])
def test_part_that_ends_before_it_starts_is_refused(first, last):
    with pytest.raises(ValueError, match=f"The frames are {first} and {last}; the second must be above the first"):
        Stroke([(0, 0), (10, 0)], end_frame=5).cut(first, last)


# Sparse flow


def test_displacement_is_written_at_the_cell_that_holds_the_handle():
    flow, mask = rasterize(Stroke([(39.9, 11.9), (49.9, 1.9)], end_frame=2))
    assert flow.shape == (1, 2, 8, 16) and flow.dtype == torch.float32
    assert mask.shape == (1, 1, 8, 16) and mask.dtype == torch.bool
    assert mask.nonzero().tolist() == [[0, 0, 2, 9]]
    assert flow[0, :, 2, 9].tolist() == pytest.approx([1.25, -1.25])
    assert flow.abs().sum() == pytest.approx(2.5)


def test_handle_moves_from_cell_to_cell():
    stroke = Stroke([(2, 2), (62, 2)], end_frame=15)
    assert [rasterize(stroke, frame=i)[1].nonzero()[0, 3].item() for i in range(15)] == list(range(15))


def test_displacement_far_below_a_pixel_is_kept():
    flow, _ = rasterize(Stroke([(10, 10), (10.015, 10)], end_frame=15))
    assert flow[0, 0, 2, 2].item() == pytest.approx(0.00025, rel=1e-5)


def test_hold_sets_the_mask_and_zero_flow():
    flow, mask = rasterize(Stroke([(10, 10)], kind="hold"), frame=100)
    assert not flow.any()
    assert mask.sum() == 1 and mask[0, 0, 2, 2]


def test_no_strokes_leave_the_mask_empty():
    flow, mask = rasterize_strokes([[], []], 0, image_size=(32, 64), latent_size=(8, 16))
    assert flow.shape == (2, 2, 8, 16) and not flow.any()
    assert mask.shape == (2, 1, 8, 16) and not mask.any()


def test_two_strokes_in_one_cell_are_averaged():
    right = Stroke([(9, 9), (13, 9)], end_frame=1)
    down = Stroke([(10, 10), (10, 12)], end_frame=1)
    flow, mask = rasterize(right, down, Stroke([(11, 11)], kind="hold"))
    assert flow[0, :, 2, 2].tolist() == pytest.approx([1 / 3, 1 / 6])
    assert mask.sum() == 1


def test_stroke_outside_the_image_specifies_nothing():
    stroke = Stroke([(-4, 2), (68, 2)], end_frame=18)  # 4 pixels a frame, on an image 64 pixels wide
    specified = [rasterize(stroke, frame=i)[1].any().item() for i in range(18)]
    assert specified == [False] + [True] * 17


def test_point_on_the_border_is_inside_and_point_beyond_it_is_outside():
    inside = math.nextafter(64, 0), math.nextafter(32, 0)
    assert rasterize(Stroke([inside], kind="hold"))[1].nonzero().tolist() == [[0, 0, 7, 15]]
    assert rasterize(Stroke([(64, 32)], kind="hold"))[1].nonzero().tolist() == [[0, 0, 7, 15]]
    assert not rasterize(Stroke([(math.nextafter(64, 65), 3)], kind="hold"))[1].any()
    assert not rasterize(Stroke([(3, math.nextafter(32, 33))], kind="hold"))[1].any()


def test_each_image_of_a_batch_has_its_own_strokes():
    first, second = [Stroke([(1, 1), (3, 1)], end_frame=1)], [Stroke([(5, 1)], kind="hold")]
    flow, mask = rasterize_strokes([first, second], 0, image_size=(32, 64), latent_size=(8, 16))
    assert mask.nonzero().tolist() == [[0, 0, 0, 0], [1, 0, 0, 1]]
    assert flow[0, 0, 0, 0] == 0.5 and not flow[1].any()


def test_latent_grid_can_have_any_size():
    flow, mask = rasterize_strokes(
        [[Stroke([(63, 31), (64, 31)], end_frame=1)]], 0, image_size=(33, 65), latent_size=(5, 9), dtype=torch.float16
    )
    assert mask.nonzero().tolist() == [[0, 0, 4, 8]]
    assert flow.dtype == torch.float16 and flow[0, 0, 4, 8].item() == pytest.approx(9 / 65, rel=1e-3)


# Sheets


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


def test_sheet_is_saved_and_loaded(tmp_path):
    sheet().save(tmp_path / "strokes.json")
    assert StrokeSheet.load(tmp_path / "strokes.json") == sheet()
    assert StrokeSheet.from_dict(json.loads(json.dumps(sheet().to_dict()))) == sheet()
    assert VALIDATOR.is_valid(json.loads((tmp_path / "strokes.json").read_text()))
    assert [p.name for p in tmp_path.iterdir()] == ["strokes.json"]


def test_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path):
    target = tmp_path / "strokes.json"
    target.mkdir()  # os.replace cannot put a file over a folder
    with pytest.raises(OSError):
        sheet().save(target)
    assert [p.name for p in tmp_path.iterdir()] == ["strokes.json"]


def test_scaled_sheet_fits_the_scaled_image():
    scaled = sheet().scaled(width=200, height=25)
    assert (scaled.width, scaled.height, scaled.num_frames, scaled.fps) == (200, 25, 16, 12.5)
    assert scaled.strokes[0].points == ((20.5, 10), (60, 10.5625))
    assert scaled.strokes[1].frames == (0, 2.5, 15)
    assert scaled.scaled(100, 50) == sheet()


def test_points_at_the_limit_can_be_scaled():
    limit = StrokeSheet([Stroke([(-100, -50), (200, 100)])], 100, 50, 16)
    for width in range(1, 60):
        limit.scaled(width, 3 * width)


def test_continued_sheet_specifies_both_parts():
    first = StrokeSheet(random_strokes(24, num_frames=12), 60, 60, num_frames=12)
    second = StrokeSheet(random_strokes(30, num_frames=12)[6:], 60, 60, num_frames=15, fps=5)
    for frame in (1, 5, 13):
        both = first.continued(frame, second)
        assert (both.width, both.height, both.num_frames, both.fps) == (60, 60, 15, 5)
        for step in range(14):
            sheet = first if step < frame else second
            size = {"image_size": (60, 60), "latent_size": (15, 15)}
            expected = rasterize_strokes([list(sheet.strokes)], step, num_frames=sheet.num_frames, **size)
            found = rasterize_strokes([list(both.strokes)], step, num_frames=both.num_frames, **size)
            assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_continued_sheet_can_be_continued_and_saved(tmp_path):
    strokes = random_strokes(24, num_frames=12)
    first, second, third = (StrokeSheet(strokes[start::3], 60, 60, num_frames=12) for start in range(3))
    both = first.continued(3, second).continued(7, third)
    both.save(tmp_path / "strokes.json")
    assert StrokeSheet.load(tmp_path / "strokes.json") == both
    for step, sheet in ((2, first), (3, second), (6, second), (7, third)):
        found = [stroke.displacement(step, 12) for stroke in both.strokes]
        expected = [stroke.displacement(step, 12) for stroke in sheet.strokes]
        assert [one for one in found if one is not None] == [one for one in expected if one is not None]


def test_continued_sheet_has_the_image_size_of_the_first():
    both = sheet().continued(4, sheet().scaled(width=200, height=150))
    assert (both.width, both.height) == (100, 50)
    assert both.strokes[-1].points == ((50, 25),)


@pytest.mark.parametrize("frame", [-1, 0, 15])
def test_sheet_cannot_be_continued_outside_the_clip(frame):
    with pytest.raises(ValueError, match=f"frame is {frame}; it must be from 1 to 14, inside a clip of 16 frames"):
        sheet().continued(frame, sheet())


def test_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(sheet().to_dict()), encoding="utf-8")
    assert StrokeSheet.load(tmp_path / "a.json") == sheet()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"1" * 5000])
def test_error_names_a_file_that_is_not_json(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json is not JSON"):
        StrokeSheet.load(path)


def test_error_names_the_file_the_stroke_and_the_field(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(
        '{"version": 1, "width": 9, "height": 9, "num_frames": 4, "strokes": [{"points": [[1, 2], [NaN, 3]]}]}'
    )
    with pytest.raises(ValueError, match=r"bad\.json: strokes\[0\]\.points\[1\] is \[nan, 3\]"):
        StrokeSheet.load(path)


def test_documented_example_is_valid():
    example, with_mask = map(json.loads, re.findall(r"```json\n(.*?)```", DOC.read_text(), re.DOTALL))
    VALIDATOR.validate(example)
    VALIDATOR.validate(with_mask)
    assert StrokeSheet.from_dict(with_mask).regions[0].mask.sum() == 42
    documented = StrokeSheet.from_dict(example)
    # the full example uses every field, except that its regions are polygons, and that its camera stays
    assert set(example) == set(SCHEMA["properties"]) - {"camera"}
    assert {f for s in example["strokes"] for f in s} == set(SCHEMA["$defs"]["stroke"]["properties"])
    assert {f for r in example["regions"] for f in r} == set(SCHEMA["$defs"]["region"]["properties"]) - {"mask"}
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL) if "StrokeSheet(" in c]
    names = {}
    exec(code.replace('sheet.save("strokes.json")', ""), names)  # the code of the document
    assert names["sheet"] == documented


def test_every_field_is_documented():
    table = re.findall(r"^\| `(\w+)` \|", DOC.read_text(), re.MULTILINE)
    fields = [SCHEMA["properties"], *(SCHEMA["$defs"][item]["properties"] for item in ("stroke", "region"))]
    assert table == [name for names in fields for name in names]


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
    "version 2 without its fields": sheet_dict(move(), version=2),
    "no regions": regions_dict(strokes=[move(region="cup")]),
    "a polygon": regions_dict(outline()),
    "a mask": regions_dict(mask()),
    "all region fields": regions_dict(outline(rigid=True, name="cup", order=-1), mask(rigid=False, name="a", order=2)),
    "regions of strokes": regions_dict(
        outline(name="cup"), mask(), strokes=[move(region="cup"), hold(region=2), move(region=0), move(region=1.0)]
    ),
    "a polygon that leaves the image": regions_dict({"polygon": [[-500, 10], [90, 10], [75, 400]]}),
    "regions that overlap": regions_dict(outline(), outline()),
    "version 3 without its fields": controlled(move()),
    "a camera": sheet_dict(
        move(), version=4, camera={"version": 1, "width": 9, "height": 9, "keyframes": [{"frame": 3}]}
    ),
    "easing and strength": controlled(move(easing="ease-in-out", strength=-0.5)),
    "handles that turn and grow": controlled(move(rotate=-30, scale=1.5, radius=5), hold(rotate=10, radius=2)),
    "a group": controlled(move(handles=[[1, 2], [3, 4]]), hold(scale=2, handles=[[1, 2]], end_frame=3)),
}

EMPTY_PNG = png_uri(Image.new("L", (100, 50)))

# Name: (file, part of the message).
BAD = {
    "a list": ([], "stroke sheet is"),
    "no version": ({"width": 9, "height": 9, "num_frames": 4, "strokes": []}, "version is missing"),
    "version 5": (sheet_dict(version=5), "version is 5; this program reads versions 1 to 4"),
    "a camera in version 3": (
        sheet_dict(version=3, camera={}),
        r"'camera' is not a field .* \(it is one of version 4\)",
    ),
    "a camera that is no object": (sheet_dict(version=4, camera=[]), r"camera is \[\]; it must be an object"),
    "version true": (sheet_dict(version=True), "version is True"),
    "version as text": (sheet_dict(version="1"), "version is '1'"),
    "unknown field": (sheet_dict(frames=3), "'frames' is not a field of a stroke sheet"),
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
    "unknown stroke field": (sheet_dict(move(), move(end=3)), r"strokes\[1\]\.end is not a field of a stroke"),
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
    "frames and start": (sheet_dict(move(frames=[0, 3], start_frame=0)), r"strokes\[0\]\.frames is given together"),
    "frames and end": (sheet_dict(move(frames=[0, 3], end_frame=3)), r"strokes\[0\]\.frames is given together"),
    "frames a number": (sheet_dict(move(frames=3)), r"strokes\[0\]\.frames is 3; it must be a list"),
    "frames negative": (sheet_dict(move(frames=[-1, 3])), r"strokes\[0\]\.frames\[0\] is -1"),
    "frames of text": (sheet_dict(move(frames=[0, "3"])), r"strokes\[0\]\.frames\[1\] is '3'"),
    "regions in version 1": (
        {**regions_dict(outline()), "version": 1},
        r"'regions' is not a field of a stroke sheet of version 1 \(it is one of version 2\)",
    ),
    "a region of a stroke in version 1": (
        sheet_dict(move(region="cup")),
        r"strokes\[0\]\.region is not a field of a stroke of version 1 \(it is one of version 2\)",
    ),
    "easing in version 2": (
        regions_dict(strokes=[move(easing="ease-in")]),
        r"strokes\[0\]\.easing is not a field of a stroke of version 2 \(it is one of version 3\)",
    ),
    "unknown easing": (
        controlled(move(easing="slow")),
        r"strokes\[0\]\.easing is 'slow'; it must be one of linear, e",
    ),
    "strength too large": (controlled(move(strength=11)), r"strokes\[0\]\.strength is 11; .* from -10 to 10"),
    "strength true": (controlled(move(strength=True)), r"strokes\[0\]\.strength is True"),
    "scale 0": (controlled(move(scale=0, radius=3)), r"strokes\[0\]\.scale is 0; it must be a number from 0.05"),
    "radius 0": (controlled(move(rotate=9, radius=0)), r"strokes\[0\]\.radius is 0; it must be a number of pixels"),
    "handles one point": (controlled(move(handles=[1, 2])), r"strokes\[0\]\.handles\[0\] is 1; it must be a pair"),
    "region -1": (regions_dict(strokes=[move(region=-1)]), r"strokes\[0\]\.region is -1; it must be the name"),
    "region a list": (regions_dict(strokes=[move(region=["a"])]), r"strokes\[0\]\.region is \['a'\]; it must be"),
    "region of no letters": (regions_dict(strokes=[move(region="")]), r"strokes\[0\]\.region is ''; it must be"),
    "regions an object": ({**regions_dict(), "regions": {}}, r"regions is \{\}; it must be a list of regions"),
    "65 regions": (regions_dict(*[outline()] * 65), "regions holds 65 regions; 64 are allowed"),
    "a region that is a list": (regions_dict(outline(), [1]), r"regions\[1\] is \[1\]; it must be an object"),
    "unknown region field": (regions_dict(outline(color="red")), r"regions\[0\]\.color is not a field of a region"),
    "region field null": (regions_dict(outline(name=None)), r"regions\[0\]\.name is null; give it a value"),
    "an empty region": (regions_dict(outline(), {}), r"regions\[1\]\.mask and polygon are not given"),
    "polygon and mask": (regions_dict(outline(**mask())), r"regions\[0\]\.mask and polygon are both given"),
    "two points": (regions_dict(outline(polygon=[[1, 2], [3, 4]])), r"regions\[0\]\.polygon holds 2 points"),
    "a corner of text": (regions_dict(outline(polygon=[[1, "2"]] * 3)), r"regions\[0\]\.polygon\[0\] is \[1, '2'\]"),
    "mask a list": (
        regions_dict({"mask": [[0, 1]]}),
        r"regions\[0\]\.mask is \[\[0, 1\]\]; it must be a gray PNG of 100",
    ),
    "mask a path": (
        regions_dict(mask(), {"mask": "/etc/hosts"}),
        r"regions\[1\]\.mask is '/etc/hosts'; it must be a gray",
    ),
    "rigid 1": (regions_dict(outline(rigid=1)), r"regions\[0\]\.rigid is 1; it must be true or false"),
    "name 3": (regions_dict(outline(name=3)), r"regions\[0\]\.name is 3; it must be a text"),
    "name blank": (regions_dict(outline(name=" ")), r"regions\[0\]\.name is ' '; it must be a text"),
    "order 0.5": (regions_dict(outline(order=0.5)), r"regions\[0\]\.order is 0.5; it must be a whole number"),
    "frames too few": (sheet_dict(move(frames=[0])), r"strokes\[0\]\.frames holds 1 numbers for 2 points"),
}

# Rules that a schema cannot express.
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
        r"strokes\[1\]\.points\[1\] is \[200.1, 4\], more than one image size away .* between -100 and 200",
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
    "a region that is not there": (
        regions_dict(outline(name="cup"), strokes=[hold(), move(region="cap")]),
        r"strokes\[1\]\.region is 'cap', but the picture has the regions 1 to 1 \(names: 'cup'\); give one of these",
    ),
    "a number that is not there": (
        regions_dict(outline(), strokes=[move(region=2)]),
        r"strokes\[0\]\.region is 2, but the picture has the regions 1 to 1 \(names: none has a name\)",
    ),
    "one name twice": (
        regions_dict(outline(name="cup"), mask(name="cup")),
        r"regions\[1\]\.name is 'cup', as that of regions\[0\]",
    ),
    "an infinite corner": (
        regions_dict(outline(polygon=[[1, 2], [3, math.inf], [5, 6]])),
        r"regions\[0\]\.polygon\[1\]",
    ),
    "sides that cross": (
        regions_dict(outline(polygon=[[0, 0], [9, 9], [9, 0], [0, 9]])),
        r"regions\[0\]\.polygon crosses itself",
    ),
    "a polygon without area": (
        regions_dict(outline(polygon=[[0, 0], [9, 9], [3, 3]])),
        r"regions\[0\]\.polygon has no",
    ),
    "a polygon outside": (
        regions_dict(outline(polygon=[[0, 60], [9, 60], [9, 70]])),
        r"regions\[0\]\.polygon covers 0 pixels of the picture of 100 x 50",
    ),
    "everything": (
        regions_dict(mask(), outline(polygon=[[0, 0], [100, 0], [100, 50], [0, 50]])),
        r"regions\[1\]\.polygon covers 100.0% of the picture",
    ),
    "an empty mask": (regions_dict({"mask": EMPTY_PNG}), r"regions\[0\]\.mask is empty: it covers 0 pixels"),
    "a mask of another size": (
        regions_dict(outline(), mask(), {"mask": png_uri(Image.new("L", (50, 100), 255))}),
        r"regions\[2\]\.mask has 50 x 100 pixels, but the picture of the sheet has 100 x 50; give it the size",
    ),
    "a mask in color": (
        regions_dict({"mask": png_uri(Image.new("RGB", (100, 50), "red"))}),
        r"regions\[0\]\.mask is an image of mode 'RGB' with colors or transparency",
    ),
    "a mask that is not base64": (
        regions_dict({"mask": "data:image/png;base64,a?b"}),
        r"regions\[0\]\.mask is not base64 after 'data:image/png;base64,' \(.*\); write it again",
    ),
    "a mask that ends early": (
        regions_dict({"mask": mask()["mask"][: 22 + 120]}),
        r"regions\[0\]\.mask is not a complete PNG \(.*\); write it again",
    ),
    "a mask that is not a PNG": (
        regions_dict({"mask": "data:image/png;base64,R0lGODlhAQABAAAAACw="}),
        r"regions\[0\]\.mask is not a complete PNG \(PIL finds no image in it\)",
    ),
    "a turn without handles": (controlled(move(rotate=9)), r"strokes\[0\]\.rotate is given, but no points that turn"),
    "a radius without a turn": (controlled(move(radius=9)), r"strokes\[0\]\.radius is given, but the stroke does not"),
    "radius and handles": (
        controlled(move(rotate=9, radius=9, handles=[[1, 2]])),
        r"strokes\[0\]\.radius is given together with handles",
    ),
    "strength of a hold": (controlled(hold(strength=2)), r"strokes\[0\]\.strength is given for a hold, which does"),
    "a handle far away": (
        controlled(move(handles=[[1, 2], [300, 2]])),
        r"strokes\[0\]\.handles\[1\] is \[300, 2\], more than one image size away",
    ),
    "frames too short": (sheet_dict(move(frames=[5, 5.9])), r"strokes\[0\]\.frames run from 5 to 5.9"),
}


@pytest.mark.parametrize("name", GOOD)
def test_valid_sheet_is_accepted_by_loader_and_schema(name):
    VALIDATOR.validate(GOOD[name])
    StrokeSheet.from_dict(copy.deepcopy(GOOD[name]))


@pytest.mark.parametrize("name", BAD)
def test_invalid_sheet_is_refused_by_loader_and_schema(name):
    fields, message = BAD[name]
    assert not VALIDATOR.is_valid(fields)
    with pytest.raises(ValueError, match=message):
        StrokeSheet.from_dict(fields)


@pytest.mark.parametrize("name", BAD_BEYOND_THE_SCHEMA)
def test_sheet_that_breaks_a_rule_beyond_the_schema_is_refused_by_the_loader(name):
    fields, message = BAD_BEYOND_THE_SCHEMA[name]
    assert VALIDATOR.is_valid(fields)
    with pytest.raises(ValueError, match=message):
        StrokeSheet.from_dict(fields)


# Sheets with regions


def sheet_with_regions() -> StrokeSheet:
    return StrokeSheet(
        [
            Stroke([(80, 20), (30, 20)]),  # starts in the polygon, ends in the mask
            Stroke([(2, 2), (5, 5)], start_frame=2),
            Stroke([(99, 49)], kind="hold", region="side"),
        ],
        width=100,
        height=50,
        num_frames=16,
        regions=[
            Region(soft_mask(), name="side", order=-1),
            Region(polygon=[(60, 10), (90, 10), (75, 40)], rigid=True),
        ],
    )


def test_sheet_with_regions_is_saved_and_loaded_byte_for_byte(tmp_path):
    sheet_with_regions().save(tmp_path / "a.json")
    loaded = StrokeSheet.load(tmp_path / "a.json")
    assert loaded == sheet_with_regions()
    assert torch.equal(loaded.regions[0].mask, torch.from_numpy(soft_mask() / 255).float())
    loaded.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    written = json.loads((tmp_path / "a.json").read_text())
    VALIDATOR.validate(written)
    assert written["version"] == 2
    assert set(written["regions"][1]) == {"polygon", "rigid"}  # defaults are left out
    png = base64.b64decode(written["regions"][0]["mask"].partition(",")[2])
    assert Image.open(io.BytesIO(png)).mode == "L"


def test_mask_of_floats_is_saved_with_8_bits_and_then_stays(tmp_path):
    noise = torch.rand(50, 100, generator=torch.manual_seed(0))
    StrokeSheet([], 100, 50, num_frames=2, regions=[Region(noise)]).save(tmp_path / "a.json")
    loaded = StrokeSheet.load(tmp_path / "a.json")
    assert (loaded.regions[0].mask - noise).abs().max() <= 0.5 / 255 + 1e-6
    assert StrokeSheet.from_dict(loaded.to_dict()) == loaded


@pytest.mark.parametrize("mode", ["1", "I;16", "RGB", "P", "LA"])
def test_other_gray_png_files_are_read(mode):
    image = Image.fromarray((soft_mask() > 100).astype(np.uint8) * 255)
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    region = StrokeSheet.from_dict(regions_dict({"mask": png_uri(image)})).regions[0]
    assert torch.equal(region.mask, torch.from_numpy(soft_mask() > 100).float())


def test_version_2_is_written_only_where_it_is_needed():
    without, with_regions = sheet(), sheet_with_regions()
    assert without.to_dict()["version"] == 1 and "regions" not in without.to_dict()
    assert with_regions.to_dict()["version"] == 2
    named = StrokeSheet([Stroke([(1, 1)], kind="hold", region=0)], 100, 50, num_frames=2)
    assert named.to_dict()["version"] == 2 and "regions" not in named.to_dict()
    assert StrokeSheet.from_dict(named.to_dict()) == named


def test_sheets_with_equal_regions_are_equal():
    assert sheet_with_regions() == sheet_with_regions()
    assert hash(sheet_with_regions()) == hash(sheet_with_regions())
    first, second = sheet_with_regions().regions
    for regions in (
        (first,),
        (second, first),
        (first, Region(polygon=second.polygon)),
        (Region(255 - soft_mask()), second),
    ):
        other = StrokeSheet([], 100, 50, num_frames=16, regions=regions)
        assert other != StrokeSheet([], 100, 50, num_frames=16, regions=[first, second])


def test_region_does_not_change_where_a_stroke_goes():
    size = {"image_size": (50, 100), "latent_size": (10, 20), "num_frames": 16}
    plain, named = Stroke([(10, 10), (90, 40)]), Stroke([(10, 10), (90, 40)], region="side")
    assert plain != named
    for found, expected in zip(rasterize_strokes([[named]], 3, **size), rasterize_strokes([[plain]], 3, **size)):
        assert torch.equal(found, expected)


def test_scaled_sheet_has_scaled_regions():
    scaled = sheet_with_regions().scaled(width=200, height=25)
    assert scaled.regions[1].polygon == ((120, 5), (180, 5), (150, 20)) and scaled.regions[1].rigid
    assert torch.equal(scaled.regions[0].mask, sheet_with_regions().regions[0].coverage(25, 200))
    assert StrokeSheet.from_dict(scaled.to_dict()).regions[0].name == "side"
    assert sheet_with_regions().scaled(width=100, height=50) == sheet_with_regions()


def test_parts_of_a_stroke_keep_its_region():
    stroke = Stroke([(0, 0), (8, 0), (8, 0)], frames=[0, 2, 5], region="cup")
    assert stroke.scaled(2, 2).region == "cup"
    assert [stroke.cut(*ends).region for ends in ((0, 1), (1, 3), (3, 5))] == ["cup"] * 3


def test_continued_sheet_keeps_strokes_in_the_region_in_which_they_start():
    both = sheet_with_regions().continued(10, sheet_with_regions())
    before, after = both.strokes[:3], both.strokes[3:]
    assert [stroke.region for stroke in before] == [None, None, "side"]
    assert after[0].at(10) == pytest.approx((80 - 50 * 10 / 15, 20))  # over the mask
    assert [stroke.region for stroke in after] == [2, None, "side"]


def test_continued_sheet_has_the_regions_of_the_first():
    first, second = sheet_with_regions(), sheet_with_regions().scaled(200, 100)
    both = first.continued(3, second)
    assert all(one.same_as(another) for one, another in zip(both.regions, first.regions, strict=True))
    # strokes alone are in the regions of the first sheet too
    alone = StrokeSheet([Stroke([(80, 20), (30, 20)])], 100, 50, num_frames=16)
    assert first.continued(3, alone).strokes[-1].region == 2
    with pytest.raises(
        ValueError, match="The sheets have 0 and 2 regions, or other names .* give both sheets the same"
    ):
        alone.continued(3, first)


def test_sheets_of_a_batch_are_read_once(tmp_path):
    sheet_with_regions().save(tmp_path / "a.json")
    loaded = load_sheets([tmp_path / "a.json", [Stroke([(1, 1)], kind="hold")], tmp_path / "a.json"], 3)
    assert loaded[0] is loaded[2] and loaded[0] == sheet_with_regions()
    (tmp_path / "a.json").unlink()
    assert all(one is another for one, another in zip(load_sheets(loaded, 3)[::2], loaded[::2]))
    strokes, length = strokes_at_size(loaded, [(50, 100), (20, 20), (100, 200)], 25, 50)
    assert strokes[0][0].points == ((40, 10), (15, 10)) == strokes[2][0].points and length == 16
    assert strokes[1][0].points == ((2.5, 1.25),)


def test_single_sheet_serves_all_images(tmp_path):
    sheet_with_regions().save(tmp_path / "a.json")
    assert load_sheets(tmp_path / "a.json", 3) == [sheet_with_regions()] * 3
    assert load_sheets([], 2) == [[], []]
    with pytest.raises(ValueError, match="There are strokes for 2 images, but 3 images"):
        load_sheets([sheet(), sheet()], 3)
    with pytest.raises(TypeError, match="`strokes` holds a int"):
        load_sheets([3], 1)


def test_regions_of_each_image_are_those_of_its_sheet():
    sizes = [(50, 100), (100, 400), (50, 100), (9, 9)]
    found = regions_of_sheets(
        [sheet_with_regions(), sheet_with_regions(), sheet(), [Stroke([(1, 1)], kind="hold")]], sizes
    )
    assert found[2] is None and found[3] is None
    assert found[0][1].polygon == ((60, 10), (90, 10), (75, 40))
    assert found[1][1].polygon == ((240, 20), (360, 20), (300, 80))  # in pixels of the image
    for regions in found[:2]:
        assert regions[0].name == "side" and regions[0].mask.shape == (50, 100)


# Reading bounds its work


def png_that_claims(width: int, height: int) -> str:
    """The head of a gray PNG of this size, without pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" * 9).decode()


def test_mask_with_too_many_pixels_is_not_unpacked():
    fields = regions_dict(outline(), mask(), {"mask": png_that_claims(60_000, 60_000)})
    with pytest.raises(ValueError, match=r"regions\[2\]\.mask has many more pixels than .* 100 x 50"):
        StrokeSheet.from_dict(fields)
    fields = regions_dict({"mask": png_that_claims(5000, 5000)})
    with pytest.raises(ValueError, match=r"regions\[0\]\.mask has 5000 x 5000 pixels, but .* 100 x 50"):
        StrokeSheet.from_dict(fields)


def test_sheet_with_too_many_pixels_in_its_masks_is_refused_before_they_are_unpacked():
    huge = {"width": 60_000, "height": 60_000}
    fields = regions_dict(outline(), {"mask": png_that_claims(60_000, 60_000)}, **huge)
    with pytest.raises(ValueError, match="regions holds 1 masks of 60000 x 60000 pixels; .* 268,435,456 pixels"):
        StrokeSheet.from_dict(fields)
    StrokeSheet.from_dict(regions_dict(outline(polygon=[[1, 1], [50_000, 1], [1, 50_000]]), **huge))


def test_damaged_masks_are_refused_as_value_errors():
    png = bytearray(base64.b64decode(mask()["mask"].partition(",")[2]))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(png)
        for place in rng.integers(0, len(png), size=rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        text = "data:image/png;base64," + base64.b64encode(damaged[: rng.integers(1, len(png) + 1)]).decode()
        try:
            StrokeSheet.from_dict(regions_dict({"mask": text}))
        except ValueError as error:
            assert str(error).startswith("regions[0].mask ")


# Limits and damaged files


def test_number_of_points_is_limited():
    with pytest.raises(ValueError, match="points holds 1000000, but at most 100000 points in a stroke are read"):
        Stroke([(1, 1)] * 1_000_000)


def test_number_of_strokes_of_a_sheet_is_limited(tmp_path):
    fields = StrokeSheet([Stroke([(1, 1), (2, 2)])], 40, 40, 4).to_dict()
    fields["strokes"] *= 100_000
    with pytest.raises(ValueError, match="strokes holds 100000, but at most 1000 strokes in a sheet are read"):
        StrokeSheet.from_dict(fields)


@pytest.mark.parametrize("content", ['{"version": 1,\n}', '{"strokes": [1,\n\n 2,\n]}'])
def test_comma_too_many_is_found(tmp_path, content):
    (tmp_path / "sheet.json").write_text(content)
    line = content[: content.rindex(",")].count("\n") + 1
    with pytest.raises(ValueError, match=f"sheet.json is not JSON, .* comma at the end of line {line} has nothing"):
        StrokeSheet.load(tmp_path / "sheet.json")


def test_mutated_sheet_is_read_or_refused_in_one_sentence(tmp_path):
    path = tmp_path / "sheet.json"
    region = Region(polygon=[(2, 2), (20, 2), (20, 20)])
    strokes = [Stroke([(1, 1), (2, 2)], frames=[0, 2.5]), Stroke([(5, 5)], kind="hold", end_frame=3)]
    StrokeSheet(strokes, 40, 40, 6, regions=[region]).save(path)
    messages = refusals(path, StrokeSheet.load, 400)
    assert len(messages) > 100
    assert all(message.startswith(str(path)) and len(message) < 400 + len(str(path)) for message in messages)
