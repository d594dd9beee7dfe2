# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Toys of physics move their region as their formula says, and nothing else; sources are mixed by time and region."""

import numpy as np
import pytest
import torch

from mcdiff_pipeline import Region, Stroke
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from mcdiff_pipeline.motion.description import motion_from_dicts
from mcdiff_pipeline.motion.mixing import Between, InRegion
from mcdiff_pipeline.motion.physics import TOYS, Gravity, Ripple, Sway, toy_from_text
from support.pipeline_runs import seeded
from support.tiny_models import make_pipeline


HEIGHT, WIDTH = 40, 48
MASK = np.zeros((HEIGHT, WIDTH), np.float32)
MASK[4:20, 8:24] = 1


def roll_out(image, motion, steps, strokes=(), rigid=False):
    pipe = make_pipeline()
    regions = [Region(MASK, name="thing", rigid=rigid)]
    states = [pipe.start(image, HEIGHT, WIDTH, motion=motion, regions=regions, generator=seeded(0))]
    for _ in range(steps):
        states.append(pipe.step(states[-1], list(strokes), motion=motion, num_frames=steps + 1))
    return states


@pytest.mark.parametrize("rigid", [False, True])
def test_thing_falls_faster_and_faster_and_bounces_from_the_border(image, rigid):
    states = roll_out(image, Gravity("thing", acceleration=2.5, bounce=0.5), 12, rigid=rigid)  # a pixel per frame²
    fallen = [float(state.layers.forward_flow((HEIGHT, WIDTH))[0, 1, 1, 10, 14]) for state in states]
    assert fallen[:7] == pytest.approx([0, 0.5, 2, 4.5, 8, 12.5, 18], abs=0.02)
    assert max(fallen) <= 20.02  # its lower end is at 20 of 40
    # it reaches the border after sqrt(40) frames, with as many pixels per frame, and goes up with half of that
    after = 7 - 40**0.5
    assert fallen[7] == pytest.approx(20 - 40**0.5 / 2 * after + after**2 / 2, abs=0.05)
    assert (
        min(fallen[7:10]) < 16 and abs(float(states[12].layers.forward_flow((HEIGHT, WIDTH))[0, 0].abs().max())) == 0
    )


def test_plant_sways_at_its_upper_end_and_comes_back(image):
    sway = Sway("thing", amplitude=20, period=8, seed=3)
    states = roll_out(image, sway, 8)
    moved = torch.stack([state.layers.forward_flow((HEIGHT, WIDTH))[0, 1] for state in states])
    x, y = torch.tensor([15.5]), torch.tensor([5.5])
    expected = [float(sway.displacement(x, y, frame, (8, 4, 24, 20), HEIGHT)[0]) for frame in range(9)]
    assert np.abs(moved[:, 0, 5, 15].numpy() - expected).max() < 0.35
    assert max(np.abs(expected)) > 1 and float(moved[:, :, 18, 15].abs().max()) < 0.2


def test_water_ripples_without_drifting(image):
    ripple = Ripple("thing", amplitude=2, wavelength=40, period=6)
    states = roll_out(image, ripple, 12)
    moved = torch.stack([state.layers.forward_flow((HEIGHT, WIDTH))[0, 1, :, 8:16, 12:20] for state in states])
    assert 0.3 < float(moved[1:].norm(dim=1).mean()) < 2 and float(moved.norm(dim=1).max()) < 4
    assert torch.equal(
        moved,
        torch.stack(
            [state.layers.forward_flow((HEIGHT, WIDTH))[0, 1, :, 8:16, 12:20] for state in roll_out(image, ripple, 12)]
        ),
    )


def test_sources_are_mixed_by_time_and_by_region(image):
    fall, zoom = Gravity("thing"), Camera([CameraKeyframe(4, zoom=2)], WIDTH, HEIGHT)
    states = roll_out(image, [Between(fall, 2, 4), Between(zoom, 0, 2)], 4)
    fallen = [float(state.layers.accumulated_flow[0, 1].abs().max()) for state in states]
    assert fallen[2] == 0 and fallen[3] > 0
    views = [1.0 if state.layers.view is None else float(state.layers.view[0, 0, 0, 0]) for state in states]
    assert views == pytest.approx([1, 2**0.25, 2**0.5, 2**0.5, 2**0.5])

    class Rightward:
        needs_layers = False

        def check(self, layers, num_frames):
            pass

        def __call__(self, complete, state, strokes, num_frames):
            motion = complete(strokes)
            return type(motion)(torch.ones_like(motion.dense_flow), motion.sparse_flow, motion.mask)

    hold = Stroke([(40, 35)], kind="hold")
    flow = roll_out(image, InRegion(Rightward(), "thing"), 1, [hold])[1].dense_flow
    assert (flow[0, :, 2:4, 3:5] == 1).all() and torch.count_nonzero(flow[0, :, 7:]) == 0


@pytest.mark.parametrize("toy", [Gravity("a", bounce=0.1), Sway(2, seed=4), Ripple(0, wavelength=30)])
def test_toys_are_described_and_read_again(toy):
    assert motion_from_dicts([toy.to_dict()]) == [toy]


def test_toys_in_words():
    assert toy_from_text("sway grass amplitude 8 seed 2") == Sway("grass", amplitude=8, seed=2)
    assert toy_from_text("ripple 1") == Ripple(1)
    assert set(TOYS) == {"gravity", "sway", "ripple"}
    for text, message in (
        ("fly a", "not understood"),
        ("sway", "not understood"),
        ("sway a speed 3", "'speed' is not understood"),
        ("sway a amplitude 99", "amplitude is 99.0; it must be a number from 0 to 30"),
        ("gravity a bounce x", "bounce is 'x'"),
        ("ripple a seed -1", "seed is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            toy_from_text(text)
