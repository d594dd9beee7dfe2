# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Easing, strength and turning handles give ordinary strokes that say exactly this."""

import math

import numpy as np
import pytest

from mcdiff_pipeline import Stroke
from mcdiff_pipeline.motion.handles import eased, group, strengthened, turning_handle
from mcdiff_pipeline.similarity import fit_similarity


STRAIGHT = Stroke([(10, 10), (50, 10)])


@pytest.mark.parametrize(
    ("easing", "middle"), [("linear", 30), ("ease-in", 20), ("ease-out", 40), ("ease-in-out", 30)]
)
def test_eased_stroke_keeps_its_path_and_its_ends(easing, middle):
    stroke = eased(STRAIGHT, easing, num_frames=9)
    assert np.allclose([stroke.at(frame) for frame in (0, 4, 8)], [(10, 10), (middle, 10), (50, 10)])
    late = eased(Stroke([(0, 0), (0, 8)], start_frame=3, end_frame=7), easing)
    assert late.span() == (3, 7) and late.at(7) == (0, 8)
    assert eased(Stroke([(1, 1)], kind="hold"), easing).kind == "hold"


def test_strength_scales_the_motion_about_its_beginning():
    assert strengthened(STRAIGHT, 0.5).points == ((10, 10), (30, 10))
    assert strengthened(STRAIGHT, -1).points == ((10, 10), (-30, 10))
    still = strengthened(STRAIGHT, 0, num_frames=5)
    assert still.kind == "hold" and still.span() == (0, 4)
    with pytest.raises(ValueError, match="strength is nan"):
        strengthened(STRAIGHT, math.nan)


def test_turning_handle_says_the_similarity_of_its_path():
    path = Stroke([(100, 100), (140, 120)], end_frame=6, region="fig")
    strokes = turning_handle(path, rotate=30, scale=1.5, radius=10, easing="ease-in-out")
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
    assert {stroke.region for stroke in strokes} == {"fig"}


def test_group_turns_about_a_hold():
    pivot = Stroke([(20, 20)], kind="hold", end_frame=4)
    arm, center = group([(30, 20), (20, 20)], pivot, rotate=90)
    assert arm.at(4) == pytest.approx((20, 30)) and center.kind == "hold"
    with pytest.raises(ValueError, match="hold without an end"):
        group([(30, 20)], Stroke([(20, 20)], kind="hold"), rotate=90)
    with pytest.raises(ValueError, match="scale 0"):
        group([(30, 20)], pivot, scale=0)
