"""Regions that bend, by their strokes: F completes them as a part of the scene, and all else as if they did not."""

import math

import pytest
import torch

from mcdiff_pipeline import Region, Stroke
from mcdiff_pipeline.motion_completion import bending_of
from support.tiny_models import make_flow_completion, make_pipeline


HELD = Stroke([(28, 28)], kind="hold")


@pytest.fixture
def pipe():
    pipe = make_pipeline(flow_completion=make_flow_completion(reads_regions=True, fits_regions=True))
    with torch.no_grad():  # as if it had been trained: what it says depends on all that it reads
        for parameter in pipe.flow_completion.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return pipe


def moves(*ends):
    """A move from each of three points of the region."""
    starts = [(6, 6), (16, 6), (6, 16)]
    return [Stroke([start, end]) for start, end in zip(starts, ends, strict=True)] + [HELD]


def told_regions(pipe, image, strokes, **region):
    """The largest share of the region in each run of F, and the flow."""
    told, complete_flow = [], pipe.complete_flow

    def recorded(*inputs, regions, **others):
        told.append(float(regions.amax()))
        return complete_flow(*inputs, regions=regions, **others)

    pipe.complete_flow = recorded
    try:
        polygon = Region(polygon=[(2, 2), (22, 2), (22, 22), (2, 22)], **region)
        flow = pipe.predict_flow(pipe.start(image, 32, 32, regions=[polygon]), strokes, num_frames=2)
    finally:
        del pipe.complete_flow
    return told, flow


@pytest.mark.parametrize(
    "ends",
    [
        [(10, 9), (20, 9), (10, 19)],  # moved
        [(7, 5), (17, 7), (5, 15)],  # turned and grown
    ],
)
def test_strokes_that_agree_need_one_run(pipe, image, ends):
    assert told_regions(pipe, image, moves(*ends))[0] == [1.0]


def test_a_region_that_bends_is_completed_as_a_part_of_the_scene(pipe, image):
    told, flow = told_regions(pipe, image, moves((10, 6), (16, 12), (2, 16)))
    assert told == [1.0, 0.0]
    assert flow.isfinite().all()


def test_what_is_outside_is_as_if_it_did_not_bend(pipe, image, monkeypatch):
    strokes = moves((10, 6), (16, 12), (2, 16))
    _, bent = told_regions(pipe, image, strokes)
    monkeypatch.setattr("mcdiff_pipeline.motion_completion.BENDS", (8.0, 9.0))
    told, whole = told_regions(pipe, image, strokes)
    assert told == [1.0]
    outside = torch.ones(bent.shape[2:], dtype=torch.bool)
    outside[:6, :6] = False  # cells of 4 pixels that the region covers
    torch.testing.assert_close(bent[:, :, outside], whole[:, :, outside])
    assert (bent - whole).abs().max() > 1e-4


def test_rigid_regions_never_bend(pipe, image):
    assert told_regions(pipe, image, moves((10, 6), (16, 12), (2, 16)), rigid=True)[0] == [1.0]


def test_how_far_points_bend():
    triangle = [(0.0, 0.0), (10.0, 0.0), (0.0, 10.0)]
    turned = [(math.cos(0.3) * x - math.sin(0.3) * y + 4, math.sin(0.3) * x + math.cos(0.3) * y) for x, y in triangle]
    assert bending_of(triangle, triangle) == 0
    assert bending_of(triangle, turned) == 0
    assert bending_of(triangle[:2], [(3.0, 1.0), (8.0, -4.0)]) == 0
    assert bending_of(triangle, [(1.0, 0.0), (11.0, 0.0), (-1.0, 10.0)]) == 1
    slightly = [(x + 10, y + (0.8 if x else 0)) for x, y in triangle]
    assert bending_of(triangle, slightly) < 1
