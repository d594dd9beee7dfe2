# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Strokes that cannot do what they say are named before the first frame."""

import logging

import pytest

from mcdiff_pipeline import Stroke
from support.tiny_models import make_pipeline


@pytest.fixture(scope="module")
def pipe():
    return make_pipeline()


@pytest.fixture
def warned(pipe, image, caplog, monkeypatch):
    """Calls the pipeline with strokes on an image of 48 x 40 pixels; returns the warnings."""
    monkeypatch.setattr(logging.getLogger("mcdiff_pipeline.call_inputs"), "propagate", True)

    def warned(*strokes: Stroke) -> list[str]:
        caplog.clear()
        pipe.stream(image, list(strokes), num_frames=4, height=40, width=48)
        return [record.getMessage() for record in caplog.records]

    return warned


def test_good_strokes_are_not_warned_of(warned):
    move, hold = Stroke([(10, 10), (20, 20)]), Stroke([(40, 30)], kind="hold")
    assert warned(move, hold) == []
    assert warned(Stroke([(48, 40)], kind="hold")) == []  # the border is inside
    assert warned(Stroke([(-10, 10), (30, 10)])) == []  # it enters the image


def test_stroke_outside_of_the_image_is_warned_of(warned):
    (warning,) = warned(Stroke([(10, 10), (20, 20)]), Stroke([(60, 20), (80, 20)]))
    assert "strokes[1], which begins at (60, 20), is outside the image of 48 x 40 pixels all the time" in warning


def test_move_and_hold_on_one_point_are_warned_of(warned):
    (warning,) = warned(Stroke([(10, 10)], kind="hold"), Stroke([(10, 10), (30, 10)]))
    assert "strokes[0] and strokes[1] say different things about the same place" in warning
    assert "at least 4 pixels apart" in warning


def test_two_strokes_that_agree_are_not_warned_of(warned):
    assert warned(Stroke([(10, 10), (30, 10)]), Stroke([(10.5, 10.5), (30.5, 10.5)])) == []


def test_messages_are_in_pixels_of_the_given_image(pipe, image, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mcdiff_pipeline.call_inputs"), "propagate", True)
    pipe.stream(image.resize((480, 400)), [Stroke([(500, 20), (600, 20)])], num_frames=4, height=40, width=48)
    assert "strokes[0], which begins at (500, 20), is outside the image of 480 x 400 pixels" in caplog.text
