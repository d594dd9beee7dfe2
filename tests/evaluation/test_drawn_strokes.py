# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.evaluation.drawn_strokes import SEARCHED_FRAMES, found_handles


TEXTURE = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))
MOVE = Stroke([(20.5, 30.5), (29.5, 30.5)], frames=[0, 9])
LATE = Stroke([(50.5, 30.5), (55.5, 30.5)], frames=[4, 9])
HOLD = Stroke([(70.5, 40.5)], kind="hold")


def distances(strokes, frame, last=9):
    """All distances by the index of the stroke."""
    found = [[] for _ in strokes]
    for _, handles in found_handles(StrokeSheet(strokes, 96, 64, last + 1), frame, last):
        of_frame = {index: handle.distance for index, handle in handles.items()}
        for index, distance in of_frame.items():
            found[index].append(distance)
    return found


def test_video_that_moves_as_the_strokes_say_has_distance_zero():
    moved = distances([MOVE, LATE], lambda frame: TEXTURE.roll(frame, 2))
    assert moved == [[0] * 9, [0] * 5]


def test_distance_is_how_far_the_thing_is_from_its_stroke():
    still = distances([MOVE, LATE, HOLD], lambda _: TEXTURE)
    assert still == [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5], [0] * 9]
    assert distances([HOLD], lambda frame: TEXTURE.roll(frame, 2))[0] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_what_has_no_contrast_or_lies_outside_is_not_measured():
    flat = torch.full_like(TEXTURE, 0.5)
    assert distances([MOVE], lambda _: flat) == [[]]
    outside = Stroke([(-5.0, 30.0), (5.0, 30.0)], frames=[0, 9])
    assert distances([outside], lambda _: TEXTURE) == [[]]


@pytest.mark.parametrize("last", [1, 16, 50])
def test_frames_of_a_long_video_are_spread_and_the_last_is_among_them(last):
    seen = []

    def frame(number):
        seen.append(number)
        return TEXTURE

    distances([HOLD], frame, last)
    assert max(seen) == last and len(set(seen) - {0}) <= SEARCHED_FRAMES
