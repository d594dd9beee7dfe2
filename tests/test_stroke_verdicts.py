# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""How far the flow carried each stroke."""

import numpy as np
import pytest
import torch

from mcdiff_pipeline import Region, Stroke, StrokeSheet
from mcdiff_pipeline.stroke_verdicts import StrokeFollower, judge_strokes
from support.tiny_models import make_pipeline


def uniform_flow(u: float, v: float = 0.0, steps: int = 4) -> torch.Tensor:
    """Flow in pixels on a grid of 10 x 12 cells of 4 pixels."""
    return torch.tensor([u, v]).view(1, 2, 1, 1).expand(steps, 2, 10, 12)


def verdict(stroke: Stroke, flow: torch.Tensor, factor: int = 1):
    sheet = StrokeSheet([stroke.scaled(factor, factor)], 48 * factor, 40 * factor, num_frames=5)
    (found,) = judge_strokes(sheet, flow, cell=4)
    return found


RIGHT = Stroke([(8, 20), (24, 20)])


def test_stroke_that_the_flow_follows():
    found = verdict(RIGHT, uniform_flow(4))
    assert found.followed and found.message == "stroke 1 (from 8,20): asked 16 px, the flow carried it 16 px"
    assert found.error == pytest.approx(0, abs=1e-4)


def test_flow_that_is_too_short_says_what_to_add():
    found = verdict(RIGHT, uniform_flow(1), factor=2)
    assert not found.followed and found.carried == pytest.approx(8) and found.error == pytest.approx(24)
    assert found.message == (
        "stroke 1 (from 16,40): asked 32 px, the flow carried it 8 px: add frames, strokes or a region"
    )


def test_flow_beside_the_way_is_not_followed():
    found = verdict(RIGHT, uniform_flow(4, 3))
    assert not found.followed and "carried it 16 px, but 12 px off its way: add strokes or a region" in found.message


def test_way_and_its_length_are_curved():
    there_and_back = Stroke([(8, 20), (24, 20), (8, 20)])
    flow = torch.cat([uniform_flow(8, steps=2), uniform_flow(-8, steps=2)])
    found = verdict(there_and_back, flow)
    assert found.followed and (found.asked, found.carried) == (pytest.approx(32), pytest.approx(32))


def test_hold_is_judged_by_its_drift():
    hold = Stroke([(8, 20)], kind="hold")
    assert verdict(hold, uniform_flow(0.25)).followed
    found = verdict(hold, uniform_flow(2))
    assert not found.followed and "asked to stay, the flow moved it 8 px: add holds around it" in found.message
    assert verdict(Stroke([(48, 40)], kind="hold"), uniform_flow(0)).followed  # on the border is inside


def test_only_steps_of_the_stroke_inside_the_image_count():
    late = Stroke([(8, 20), (16, 20)], start_frame=2)
    assert verdict(late, uniform_flow(4)).asked == pytest.approx(8)
    leaving = Stroke([(41, 20), (57, 20)])
    assert verdict(leaving, uniform_flow(4)).asked == pytest.approx(8)
    assert judge_strokes(StrokeSheet([Stroke([(60, 20), (70, 20)])], 48, 40, 5), uniform_flow(4), 4) == []


def test_point_is_followed_to_where_the_flow_carried_it():
    flow = torch.zeros(4, 2, 10, 12)
    flow[:, 0, :, :3] = 4  # ends at x = 12
    found = verdict(RIGHT, flow)
    assert not found.followed and 4 < found.carried < 9


def test_rollout_and_its_dense_flow_give_the_same_verdicts(image):
    pipe = make_pipeline()
    pipe.set_progress_bar_config(disable=True)
    sheet = StrokeSheet([RIGHT, Stroke([(40, 30)], kind="hold")], 48, 40, num_frames=4)
    follower = StrokeFollower(sheet)
    seed = torch.Generator().manual_seed
    for _, state in pipe.stream(image, sheet, 4, height=40, width=48, generator=seed(0), return_states=True):
        follower.follow(state)
    flow = pipe(image, sheet, height=40, width=48, generator=seed(0)).dense_flow[0]
    for streamed, judged in zip(follower.verdicts(), judge_strokes(sheet, flow, 4), strict=True):
        assert streamed.carried == pytest.approx(judged.carried, abs=0.05)


def test_rigid_region_is_followed_exactly_although_another_one_hides_it(image):
    left, whole = np.zeros((40, 48), bool), np.zeros((40, 48), bool)
    left[10:30, 4:14] = True
    whole[5:35, 20:40] = True
    regions = [Region(left, rigid=True), Region(whole, rigid=True, order=1)]
    strokes = [RIGHT, Stroke([(30, 20)], kind="hold")]
    sheet = StrokeSheet(strokes, 48, 40, num_frames=5, regions=regions)
    pipe = make_pipeline()
    pipe.set_progress_bar_config(disable=True)
    follower = StrokeFollower(sheet)
    for _, state in pipe.stream(image, sheet, num_frames=5, height=40, width=48, return_states=True):
        follower.follow(state)
    move, hold = follower.verdicts()
    assert move.followed and move.carried == pytest.approx(16, abs=0.2)
    assert hold.followed and hold.carried == pytest.approx(0, abs=0.1)


def test_handles_of_a_stroke_are_judged_as_one_stroke():
    strokes = [
        Stroke([(20, 20), (28, 20)], rotate=90, radius=8),
        Stroke([(40, 30)], kind="hold"),
    ]
    sheet = StrokeSheet(strokes, 48, 40, num_frames=3)
    assert len(sheet.plain().strokes) == 3
    verdicts = judge_strokes(sheet, torch.zeros(2, 2, 10, 12), cell=4)
    assert [(one.stroke, one.kind, one.followed) for one in verdicts] == [(0, "move", False), (1, "hold", True)]
    assert verdicts[0].name.startswith("stroke 1") and verdicts[1].name.startswith("stroke 2")
