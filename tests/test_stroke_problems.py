# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Strokes that cannot work as they are."""

import warnings

import numpy as np
import pytest

from mcdiff_pipeline import Region, Stroke, StrokeWarning
from support.tiny_models import make_flow_completion, make_pipeline


@pytest.fixture(scope="module")
def pipe():
    """A model with cells of 4 pixels, which works at 32 x 32 pixels and has seen steps of 6 pixels."""
    pipe = make_pipeline(flow_completion=make_flow_completion(max_displacement=6.0))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def problems(pipe, image, *strokes, num_frames=5, **arguments):
    found = pipe.check_strokes(image, list(strokes), num_frames, 32, 32, **arguments)
    return [(problem.kind, problem.strokes) for problem in found]


HOLD = Stroke([(36, 30)], kind="hold")  # of an image of 48 x 40
MOVE = Stroke([(10, 10), (14, 12)])


def test_good_strokes_have_no_problem(pipe, image):
    assert problems(pipe, image, MOVE, HOLD) == []


@pytest.mark.parametrize(
    ("stroke", "is_problem"),
    [
        (Stroke([(60, 10), (70, 10)]), True),
        (Stroke([(-5, 10)], kind="hold"), True),
        (Stroke([(46, 10), (62, 10)]), True),  # one step of four inside
        (Stroke([(36, 10), (50, 10)]), False),
        (Stroke([(48, 40)], kind="hold"), False),
    ],
    ids=["outside", "hold outside", "leaves at once", "leaves in the end", "on the border"],
)
def test_stroke_that_is_mostly_outside(pipe, image, stroke, is_problem):
    assert problems(pipe, image, MOVE, stroke) == [("outside", (1,))] * is_problem


def test_two_moves_of_one_place_in_different_ways(pipe, image):
    away, along = Stroke([(10.5, 10), (4, 4)]), Stroke([(10.5, 10), (14.5, 12)])
    assert problems(pipe, image, MOVE, away) == [("conflict", (0, 1))]
    assert problems(pipe, image, MOVE, along) == []


def test_things_of_different_regions_are_not_at_odds_also_in_a_state(pipe, image):
    hold = Stroke([(19.5, 12)], kind="hold")
    box = Region(polygon=[(4, 4), (17, 4), (17, 20), (4, 20)])
    states = [pipe.start(image, 32, 32, regions=regions) for regions in (None, [box])]
    found = [[one.kind for one in pipe.check_strokes(state, [MOVE, hold], 5)] for state in states]
    assert found == [["held"], []]
    assert problems(pipe, image, MOVE, hold, regions=[box]) == []


def test_move_at_a_held_point(pipe, image):
    near = Stroke([(12, 13)], kind="hold")
    assert problems(pipe, image, MOVE, near) == [("held", (0, 1))]
    assert problems(pipe, image, Stroke([(2, 30), (38, 30)]), HOLD, num_frames=12) == [("held", (0, 1))]
    before = Stroke([(12, 13)], kind="hold", end_frame=2)
    assert problems(pipe, image, Stroke([(10, 10), (14, 12)], start_frame=2), before) == []


def test_strokes_of_different_regions_are_not_at_odds(pipe, image):
    mask = np.zeros((40, 48), bool)
    mask[:, :11] = True
    hold = Stroke([(12, 10)], kind="hold")
    assert problems(pipe, image, MOVE, hold) == [("held", (0, 1))]
    assert problems(pipe, image, MOVE, hold, regions=[Region(mask)]) == []


def test_faster_than_the_model_has_seen(pipe, image):
    fast = Stroke([(5, 10), (45, 10)])  # 27 pixels of 32
    (problem,) = pipe.check_strokes(image, [MOVE, fast], 4, 32, 32)
    assert (problem.kind, problem.strokes) == ("fast", (1,))
    assert problem.message == (
        "stroke 2 (from 5,10) moves 13 px from one frame to the next, but the model has seen at most 9 px at this "
        "size; give it 6 frames instead of 4, a shorter way, or a rigid region."
    )
    assert problems(pipe, image, fast, num_frames=6) == []
    mask = np.zeros((40, 48), bool)
    mask[5:15, 2:12] = True
    assert problems(pipe, image, fast, num_frames=4, regions=[Region(mask, rigid=True)]) == []


def test_model_that_does_not_know_its_speed_says_nothing(image):
    assert problems(make_pipeline(), image, Stroke([(5, 10), (45, 10)]), num_frames=2) == []


def test_call_and_stream_warn_once_and_still_run(pipe, image):
    strokes = [Stroke([(60, 10), (70, 10)]), MOVE]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            assert len(pipe(image, strokes, num_frames=3).frames[0]) == 3
    messages = [str(one.message) for one in caught if one.category is StrokeWarning]
    assert messages == [
        "stroke 1 (from 60,10) is outside the image, which has 48 x 40 pixels, and specifies nothing; draw it on the "
        "thing that is to move."
    ]
    with pytest.warns(StrokeWarning, match="stroke 1 ") as streamed:
        pipe.stream(image, strokes, num_frames=2)
    assert {one.filename for one in (*caught, *streamed) if one.category is StrokeWarning} == {__file__}


def test_message_about_a_stroke_outside_says_where_the_image_is(pipe, image):
    strokes = [Stroke([(60, 10), (70, 10)]), Stroke([(0, 41)], kind="hold"), Stroke([(46, 10), (62, 10)])]
    assert [problem.message for problem in pipe.check_strokes(image, strokes, 5, 32, 32)] == [
        "stroke 1 (from 60,10) is outside the image, which has 48 x 40 pixels, and specifies nothing; draw it on the "
        "thing that is to move.",
        "stroke 2 (hold at 0,41) is outside the image, which has 48 x 40 pixels, and specifies nothing; put it on "
        "what is to stay.",
        "stroke 3 (from 46,10) is in the image in 1 of 4 steps only, and specifies nothing in the others; draw it on "
        "the thing that is to move.",
    ]
