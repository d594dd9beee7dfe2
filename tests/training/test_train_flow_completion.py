"""The training of flow completion, with tiny models and clips."""

import json

import pytest
import torch
import train_flow_completion
from PIL import Image

from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from support.tiny_models import make_flow_completion
from support.training_runs import SIZE, arguments, logged


def test_validation_compares_with_baselines_and_draws_a_sheet(trained):
    folder = trained["train_flow_completion"]
    assert logged(folder, "epe_body_zero")[4] > 1  # the squares move by at least one pixel in each direction
    assert logged(folder, "epe_body_nearest")[4] < 0.5  # and rigidly, so that one stroke is enough
    assert logged(folder, "epe_off_body_zero")[4] < 0.2
    with Image.open(folder / "validation_000004.png") as sheet:
        assert sheet.width == 4 * SIZE


@pytest.mark.parametrize("switch", [{"no_keypoints": True}, {"sampling": "uniform"}, {"flow_weighting": "none"}])
def test_switches_change_the_loss(data, trained, tmp_path, switch):
    changes = {"validation_data_dir": None, "max_train_steps": 1} | switch
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    assert logged(tmp_path, "loss")[1] != logged(trained["train_flow_completion"], "loss")[1]


def test_enlarged_model_gives_the_same_output_as_the_small_one():
    small = make_flow_completion()
    large = make_flow_completion(
        down_block_types=("AttnDownBlock2D",) * 2,
        up_block_types=("AttnUpBlock2D",) * 2,
        separate_foreground=True,
    )
    train_flow_completion.enlarge(large, small)
    generator = torch.Generator().manual_seed(0)
    latent, sparse_flow = (torch.randn(2, channels, 8, 8, generator=generator) for channels in (4, 2))
    mask = torch.rand(2, 1, 8, 8, generator=generator) < 0.1
    with torch.no_grad():
        expected = small(latent, sparse_flow, mask).dense_flow
        torch.testing.assert_close(large(latent, sparse_flow, mask).dense_flow, expected)
    with pytest.raises(ValueError, match="conv_in.weight of the pretrained model does not fit"):
        train_flow_completion.enlarge(make_flow_completion(num_spread_levels=4), small)


def test_training_can_start_from_a_smaller_model(data, trained, tmp_path):
    config = json.loads((data / "train_flow_completion.json").read_text())
    config["separate_foreground"] = True
    (tmp_path / "larger.json").write_text(json.dumps(config))
    changes = {
        "pretrained_model_name_or_path": trained["train_flow_completion"] / "flow_completion",
        "model_config": tmp_path / "larger.json",
        "flow_weighting": "mask",
    }
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "run", **changes)) == 0
    model = FlowCompletionUNet.from_pretrained(tmp_path / "run/flow_completion")
    assert model.config.separate_foreground
    assert len(logged(tmp_path / "run", "foreground_loss")) == 4
