"""Flow completion with inputs for regions, as a start for training."""

import pytest
import torch

from mcdiff_pipeline import FlowCompletionUNet
from support.tiny_models import make_flow_completion
from tools import widen_flow_completion


def widen(folder, *switches) -> FlowCompletionUNet:
    make_flow_completion().save_pretrained(folder / "narrow")
    command_line = ["--pretrained_model_name_or_path", folder / "narrow", "--output_dir", folder / "wide", *switches]
    assert widen_flow_completion.main([str(argument) for argument in command_line]) == 0
    return FlowCompletionUNet.from_pretrained(folder / "wide")


def test_widened_model_has_the_new_inputs_and_gives_the_same_flow(tmp_path):
    model = widen(tmp_path, "--sample_size", "8")
    assert model.config.reads_regions and model.config.fits_regions and model.config.sample_size == 8
    generator = torch.Generator().manual_seed(0)
    latent, sparse_flow = (torch.randn(1, channels, 8, 8, generator=generator) for channels in (4, 2))
    mask = torch.rand(1, 1, 8, 8, generator=generator) < 0.1
    with torch.no_grad():
        expected = make_flow_completion()(latent, sparse_flow, mask).dense_flow
        torch.testing.assert_close(model(latent, sparse_flow, mask).dense_flow, expected, rtol=0, atol=1e-5)


def test_fit_can_be_left_out(tmp_path):
    model = widen(tmp_path, "--no_fit")
    assert model.config.reads_regions and not model.config.fits_regions and model.config.sample_size is None


def test_impossible_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--sample_size is 0; it must be 1 or more"):
        widen(tmp_path, "--sample_size", "0")
