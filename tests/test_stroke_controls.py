# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Easing, strength and handles of strokes: where they are, and that they move what plain strokes move."""

import math

import numpy as np
import pytest
import torch

from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.similarity import fit_similarity
from support.pipeline_runs import seeded


PATH = [(10, 10), (50, 10)]


@pytest.mark.parametrize(
    ("easing", "middle"), [("linear", 30), ("ease-in", 20), ("ease-out", 40), ("ease-in-out", 30)]
)
def test_eased_stroke_keeps_its_path_and_its_ends(easing, middle):
    stroke = Stroke(PATH, easing=easing)
    assert np.allclose([stroke.at(frame, 9) for frame in (0, 4, 8)], [(10, 10), (middle, 10), (50, 10)])
    timed = Stroke([(0, 0), (0, 8)], frames=[3, 7], easing=easing)
    assert timed.span() == (3, 7) and timed.at(3) == (0, 0) and timed.at(7) == (0, 8) and timed.at(2) is None


def test_strength_scales_the_motion_about_its_beginning():
    assert Stroke(PATH, end_frame=4, strength=0.5).at(4) == (30, 10)
    assert Stroke(PATH, end_frame=4, strength=-1).displacement(0) == (-10, 0)
    (still,) = Stroke(PATH, strength=0).plain(5)
    assert still.kind == "hold" and still.span() == (0, 4)
    turned, _ = Stroke([(20, 20)], kind="hold", end_frame=4, rotate=90, radius=10, strength=-1).plain()
    assert turned.at(4) == pytest.approx((20, 30))  # a quarter against the clock from the left


def test_radius_gives_two_handles_that_say_the_similarity_of_the_path():
    stroke = Stroke(
        [(100, 100), (140, 120)], end_frame=6, region="fig", rotate=30, scale=1.5, radius=10, easing="ease-in-out"
    )
    strokes = stroke.plain()
    for frame in range(7):
        share = frame / 6 * frame / 6 * (3 - 2 * frame / 6)
        similarity = fit_similarity(
            [one.points[0] for one in strokes], [one.at(frame) for one in strokes], [False] * 2
        )
        factor = complex(*similarity[0].tolist())
        assert abs(factor) == pytest.approx(1.5**share)
        assert math.degrees(math.atan2(factor.imag, factor.real)) == pytest.approx(30 * share)
        center = complex(100, 100) * factor + complex(*similarity[1].tolist())
        assert (center.real, center.imag) == pytest.approx((100 + 40 * share, 100 + 20 * share))
    assert {one.region for one in strokes} == {"fig"} and not any(one.has_controls for one in strokes)


def test_handles_turn_about_a_hold():
    arm, center = Stroke([(20, 20)], kind="hold", end_frame=4, rotate=90, handles=[(30, 20), (20, 20)]).plain()
    assert arm.at(4) == pytest.approx((20, 30)) and center.kind == "hold"
    endless = Stroke([(20, 20)], kind="hold", rotate=90, radius=3)
    assert endless.plain(3)[0].span() == (0, 2)
    with pytest.raises(ValueError, match="end_frame is None and num_frames is None"):
        endless.plain()


def test_handles_are_scaled_and_continued_with_their_stroke():
    stroke = Stroke(PATH, end_frame=4, handles=[(10, 20)], easing="ease-in")
    assert stroke.scaled(2, 3).handles == ((20, 60),)
    assert Stroke(PATH, rotate=9, radius=5).scaled(2, 3).radius == 10
    assert stroke.timed(5, first=2).at(4) == pytest.approx(stroke.at(2))
    with pytest.raises(ValueError, match="cut the strokes of `plain` instead"):
        stroke.cut(0, 2)
    sheet = StrokeSheet([stroke], 100, 50, num_frames=5)
    (before, after) = sheet.continued(2, StrokeSheet([Stroke(PATH)], 100, 50, num_frames=6)).strokes
    assert before.at(2) == pytest.approx((20, 20)) and before.span() == (0, 2) and after.span() == (2, 5)


def test_version_3_is_written_only_where_it_is_needed(tmp_path):
    sheet = StrokeSheet(
        [Stroke(PATH), Stroke(PATH, strength=2), Stroke(PATH, scale=2, handles=[(1, 2)])], 100, 50, num_frames=5
    )
    written = sheet.to_dict()
    assert written["version"] == 3 and written["strokes"][1].keys() - written["strokes"][0].keys() == {"strength"}
    sheet.save(tmp_path / "sheet.json")
    assert StrokeSheet.load(tmp_path / "sheet.json") == sheet
    assert sheet.plain().to_dict()["version"] == 1 and sheet.plain().plain() == sheet.plain()


def test_pipeline_moves_handles_as_plain_strokes(tiny_pipeline, image):
    stroke = Stroke([(12, 12), (30, 20)], rotate=60, radius=6, easing="ease-out")
    arguments = {"num_frames": 3, "height": 40, "width": 64, "output_type": "pt"}
    frames = tiny_pipeline(image, [stroke], generator=seeded(), **arguments).frames
    # turns are those of the given image, also where it is stretched
    plain = tiny_pipeline(image, stroke.plain(3), generator=seeded(), **arguments).frames
    assert torch.equal(frames, plain)
    linear = tiny_pipeline(image, [Stroke(stroke.points)], generator=seeded(), **arguments).frames
    assert not torch.equal(frames, linear)
