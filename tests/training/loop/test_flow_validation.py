"""Validation of flow completion by known flows."""

import argparse

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import AutoencoderDC

from loop.flow_validation import FlowValidation, whole_thing
from loop.latent_cache import open_latent_clips
from support.sliding_squares import write_squares


@pytest.fixture(scope="module")
def validation(data, tmp_path_factory) -> FlowValidation:
    """Squares that slide over still backgrounds, of two sizes, with and without keypoints."""
    folder = tmp_path_factory.mktemp("squares")
    write_squares(folder / "small", range(2), split="validation", num_frames=2)
    write_squares(folder / "large", range(1), split="validation", num_frames=2, size=64, keypoints=False)
    args = argparse.Namespace(num_validation_samples=4, num_validation_strokes=2)
    args.validation_data_dir = [folder / "small", folder / "large"]
    vae = AutoencoderDC.from_pretrained(data / "vae")
    clips = open_latent_clips(args.validation_data_dir, "validation", vae, folder / "cache")
    config = {"vae_scale_factor": 4, "reads_regions": False, "feature_channels": None}
    return FlowValidation(clips, args, Accelerator(cpu=True), config)


def still(latent: torch.Tensor, strokes: torch.Tensor, mask: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
    """A model that moves nothing."""
    return (torch.zeros_like(strokes),)


def moves_all(
    latent: torch.Tensor, strokes: torch.Tensor, mask: torch.Tensor, return_dict: bool
) -> tuple[torch.Tensor]:
    """A model that moves all as the fastest stroke."""
    return (strokes.amax(dim=(2, 3), keepdim=True).expand_as(strokes),)


def test_wholes_are_missed_if_nothing_moves_and_leak_if_all_does(validation):
    names = [f"{strokes}_{folder}" for folder in ("small", "large") for strokes in ("1_stroke", "3_strokes")]
    for model, miss, leak in ((still, 1, 0), (moves_all, 0, 1)):
        values = validation.measure(model)
        assert {name for name in values if name.startswith("miss")} == {f"miss_{name}" for name in names}
        assert [values[f"miss_{name}"] for name in names] == pytest.approx([miss] * 4, abs=1e-3)
        assert [values[f"leak_{name}"] for name in names] == pytest.approx([leak] * 4, abs=1e-3)


def test_errors_on_bodies_are_those_of_the_flow(validation):
    values = validation.measure(still)
    assert len(validation.samples) == 2  # the large one has no keypoints
    assert values["epe_body_model"] == values["epe_body_zero"] == pytest.approx(2.5)  # by 2 and by 3 pixels
    assert values["epe_off_body_model"] == 0
    moved = validation.measure(moves_all)
    assert moved["epe_body_model"] == pytest.approx(0, abs=1e-4) and moved["epe_off_body_over_zero"] > 1


def test_only_what_moves_alone_and_as_a_whole_is_a_whole(validation):
    pair = dict(validation.clips[0])
    assert np.array_equal(whole_thing(pair), pair["mask"] == 1)
    camera, bent, slow = (pair["flow"].copy() for _ in range(3))
    camera[1] += 1
    bent[1, :14] = 3 * (pair["mask"][:14] > 0)
    slow *= 0.05
    for flow in (camera, bent, slow):
        assert whole_thing(pair | {"flow": flow}) is None
