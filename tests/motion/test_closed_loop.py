# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A closed loop finds what a stroke moves in the frames again, and corrects the stroke only where it is sure."""

from dataclasses import replace

import pytest
import torch

from mcdiff_pipeline import Region, Stroke
from mcdiff_pipeline.layers import Layers
from mcdiff_pipeline.motion.closed_loop import ClosedLoop
from support.tiny_models import make_pipeline


SIZE = {"height": 128, "width": 128}
STROKE = Stroke([(24, 32), (40, 32)], end_frame=4)


@pytest.fixture(scope="module")
def pipe():
    return make_pipeline()


def drawn(pipe, right: int = 0, down: int = 0, frame: int = 2, **arguments):
    """A state at a frame in which everything that is drawn has moved by whole cells, and frame 0 is noise."""
    state = pipe.start(torch.rand(3, 128, 128), **SIZE, **arguments)
    latents = 4 * torch.randn(state.latents.shape, generator=torch.Generator().manual_seed(0))
    moved = latents.roll((down, right), dims=(2, 3))
    return replace(state, frame=frame, start_latents=latents, latents=moved)


def aimed(pipe, state, stroke=STROKE, num_frames=5):
    return ClosedLoop(pipe).aimed(state, [[stroke]], num_frames)[0][0]


def test_stroke_goes_on_from_where_its_handle_is_found(pipe):
    stroke = aimed(pipe, drawn(pipe, right=2, down=1))  # it should be 8 pixels to the right, and is 4 further down
    assert stroke.at(2) == pytest.approx((32, 36), abs=0.3)
    # half of the error is left in the next frame
    assert stroke.at(3) == pytest.approx((36, 34), abs=0.2)
    assert stroke.displacement(2) == pytest.approx((4, -2), abs=0.3)
    assert stroke.at(0) == (24, 32) and stroke.span() == (0, 4)


@pytest.mark.parametrize("case", ["at its place", "not found", "a hold", "out of reach", "ended", "begins now"])
def test_stroke_stays_as_it_is_where_nothing_is_sure(pipe, case):
    state, stroke = drawn(pipe, right=2), STROKE
    if case == "not found":
        state = replace(state, latents=torch.randn_like(state.latents))
    elif case == "a hold":
        state, stroke = drawn(pipe, right=1), Stroke([(24, 32)], kind="hold")
    elif case == "out of reach":
        state = drawn(pipe, right=2, down=5)
    elif case == "ended":
        state, stroke = drawn(pipe, down=1), Stroke([(24, 32), (26, 32)], end_frame=2)
    elif case == "begins now":
        state, stroke = drawn(pipe, down=1), Stroke([(24, 32), (40, 32)], start_frame=2)
    assert aimed(pipe, state, stroke) is stroke


def test_stroke_that_begins_later_is_found_by_its_own_first_frame(pipe):
    stroke = Stroke([(24, 32), (40, 32)], start_frame=2, end_frame=6)
    loop, state = ClosedLoop(pipe), drawn(pipe)
    first = replace(state, latents=torch.randn_like(state.latents))
    later = replace(first, frame=4, latents=first.latents.roll((1, 2), dims=(2, 3)))
    assert loop.aimed(first, [[stroke]], 7)[0][0] is stroke
    assert loop.aimed(later, [[stroke]], 7)[0][0].at(4) == pytest.approx((32, 36), abs=0.3)
    # the frames of another video are forgotten
    other = replace(later, start_latents=later.start_latents.clone())
    assert loop.aimed(other, [[stroke]], 7)[0][0] is stroke


def test_rigid_regions_move_exactly_without_it(pipe):
    for rigid in (False, True):
        region = Region(polygon=[(4, 4), (120, 4), (120, 120), (4, 120)], rigid=rigid)
        state = drawn(pipe, right=2, down=1, regions=[region], output_size=(128, 128))
        assert isinstance(state.layers, Layers)
        assert (aimed(pipe, state) is STROKE) == rigid


def test_call_with_a_closed_loop_makes_a_video(pipe):
    image = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(1))
    arguments = {"num_frames": 4, "output_type": "pt", **SIZE}
    closed = pipe(image, [STROKE], motion=ClosedLoop(pipe), generator=torch.Generator().manual_seed(0), **arguments)
    again = pipe(image, [STROKE], motion=ClosedLoop(pipe), generator=torch.Generator().manual_seed(0), **arguments)
    assert closed.frames.shape == (1, 4, 3, 128, 128) and torch.equal(closed.frames, again.frames)
