"""The training of future-frame prediction, with tiny models and clips."""

import json

import numpy as np
import pytest
import torch
import train_future_frame
from diffusers import UNet2DConditionModel
from PIL import Image

from loop.denoising_loss import denoising_loss
from mcdiff_pipeline.conditioning import FrameConditioner
from mcdiff_pipeline.drawing import TITLE_HEIGHT, TITLED_WIDTH
from support.tiny_models import FULL_CONDITIONING
from support.training_runs import arguments, logged


def test_validation_compares_with_baselines_and_draws_a_sheet(trained):
    folder = trained["train_future_frame"]
    assert logged(folder, "psnr_still_repeat")[4] > 40
    assert logged(folder, "psnr_moving_model")[4] > 0
    with Image.open(folder / "validation_000004.png") as sheet:
        titles = np.asarray(sheet.convert("L"))[:TITLE_HEIGHT].reshape(TITLE_HEIGHT, 4, TITLED_WIDTH)
    assert (titles.min(axis=(0, 2)) < 128).all()  # one above each column


@pytest.mark.parametrize(
    ("switches", "conditioning"),
    [
        ({"flow_conditioning": "concat"}, ["previous_frame", "dense_flow"]),
        ({}, ["previous_frame", "dense_flow", "splatted_frame", "hole_mask"]),
        (
            {"flow_conditioning": "concat", "start_picture_reference": True},
            ["previous_frame", "dense_flow", "start_picture"],
        ),
        ({"conditioning": "start_coverage"}, ["start_coverage"]),
    ],
)
def test_switches_choose_the_conditions(data, tmp_path, switches, conditioning):
    switches = {"start_picture_reference": None, "validation_data_dir": None, "max_train_steps": 1} | switches
    assert train_future_frame.main(arguments(data, "train_future_frame", tmp_path, **switches)) == 0
    assert json.loads((tmp_path / "training_arguments.json").read_text())["conditioning"] == conditioning
    conditioner = FrameConditioner(conditioning, latent_channels=4, vae_scale_factor=4)
    assert UNet2DConditionModel.load_config(tmp_path / "unet")["in_channels"] == conditioner.in_channels


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"no_flow_completion": True, "flow_conditioning": "concat"}, "leaves no dense flow for"),
        ({"no_flow_completion": True, "start_picture_reference": True}, "leaves no dense flow for"),
        ({"residual_condition": "start_frame"}, "`residual_condition` is 'start_frame', but .* one of"),
        ({"residual_condition": "splatted_frame", "residual_scale": 0}, "`residual_scale` is 0.0, but .* above 0"),
        ({"conditioning": "dense_flow", "start_picture_reference": True}, "leave --start_picture_reference out"),
        ({"uncovered_weight": 2}, "--uncovered_weight needs the start picture, but the conditions are previous"),
        ({"region_probability": 0.5}, "--region_probability needs the start picture, but the conditions are prev"),
        ({"region_probability": 2}, "--region_probability is 2.0; it must be from 0 to 1"),
        ({"rollout_steps": 0}, "--rollout_steps is 0; it must be 1 or more"),
        ({"perceptual_weight": -1}, "--perceptual_weight is -1.0; it must be 0 or more"),
        ({"no_keypoints": True}, "only with --no_flow_completion"),
        ({"sampling": "uniform"}, "only with --no_flow_completion"),
    ],
)
def test_contradicting_switches_are_refused_before_anything_is_written(data, tmp_path, switches, message):
    switches = {"start_picture_reference": None} | switches
    with pytest.raises(ValueError, match=message):
        train_future_frame.main(arguments(data, "train_future_frame", tmp_path / "run", **switches))
    assert not (tmp_path / "run").exists()


def test_unet_with_other_input_channels_is_refused(data, trained, tmp_path):
    changes = {
        "pretrained_model_name_or_path": trained["train_future_frame"] / "unet",
        "start_picture_reference": None,
    }
    with pytest.raises(ValueError, match="takes 19 channels, but .*hole_mask and the noise have 15"):
        train_future_frame.main(arguments(data, "train_future_frame", tmp_path, **changes))


def test_target_of_a_residual_model_is_the_scaled_difference_from_the_condition(data, tmp_path, monkeypatch):
    seen = []

    def record(model, scheduler, conditions, target, *arguments):
        seen.append((conditions, target))
        return denoising_loss(model, scheduler, conditions, target, *arguments)

    monkeypatch.setattr(train_future_frame, "denoising_loss", record)
    differences = {"residual_condition": "start_picture", "residual_scale": 2.0}
    for name, switches in (("frame", {}), ("difference", differences)):
        changes = {"start_picture_reference": True, "max_train_steps": 1} | switches
        assert train_future_frame.main(arguments(data, "train_future_frame", tmp_path / name, **changes)) == 0
    (_, next_latent), (conditions, difference) = seen
    start_picture = conditions[:, -4:]
    torch.testing.assert_close(difference, 2 * (next_latent - start_picture))


def test_noise_augmentation_can_be_switched_off(data, trained, tmp_path):
    changes = {"validation_data_dir": None, "no_noise_augmentation": True}
    assert train_future_frame.main(arguments(data, "train_future_frame", tmp_path, **changes)) == 0
    assert json.loads((tmp_path / "training_arguments.json").read_text())["noise_augmentation"] == 0
    assert logged(tmp_path, "loss")[1] != logged(trained["train_future_frame"], "loss")[1]


def test_switches_change_the_loss(data, tmp_path):
    changes = {"validation_data_dir": None, "max_train_steps": 1, "train_batch_size": 16}
    switches = [{}, {"flow_dropout": 0.5}, {"image_dropout": 0.5}, {"noise_offset": 0.5}, {"snr_gamma": 1.0}]
    losses = []
    for number, switch in enumerate(switches):
        command_line = arguments(data, "train_future_frame", tmp_path / str(number), **changes, **switch)
        assert train_future_frame.main(command_line) == 0
        losses.append(logged(tmp_path / str(number), "loss")[1])
    assert len(set(losses)) == len(switches)


def test_weights_regions_and_own_frames_change_the_loss(data, tmp_path):
    """Of three steps, at least one continues from a frame of the model itself."""
    changes = {"validation_data_dir": None, "max_train_steps": 3, "train_batch_size": 4, "learning_rate": 1e-9}
    changes |= {"start_picture_reference": True, "residual_condition": "start_picture"}
    switches = [{}, {"uncovered_weight": 9.0}, {"region_probability": 0.5}, {"rollout_steps": 2}]
    losses = []
    for number, switch in enumerate(switches):
        command_line = arguments(data, "train_future_frame", tmp_path / str(number), **changes, **switch)
        assert train_future_frame.main(command_line) == 0
        losses.append(tuple(logged(tmp_path / str(number), "loss").values()))
    assert len(set(losses)) == len(switches)


def test_whole_unet_of_a_pipeline_can_be_trained(data, start, tmp_path):
    changes = {"pretrained_model_name_or_path": start, "start_picture_reference": None, "model_config": None}
    changes |= {"max_train_steps": 1, "validation_data_dir": None}
    assert train_future_frame.main(arguments(data, "train_future_frame", tmp_path, **changes)) == 0
    written = json.loads((tmp_path / "training_arguments.json").read_text())
    assert tuple(written["conditioning"]) == FULL_CONDITIONING and written["flow_scale"] == 1
    before = UNet2DConditionModel.from_pretrained(start, subfolder="unet").state_dict()
    after = UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet").state_dict()
    assert before.keys() == after.keys() and not torch.equal(before["conv_in.weight"], after["conv_in.weight"])


def test_unet_that_attends_to_text_is_refused_without_a_text_encoder(data, tmp_path):
    config = json.loads((data / "train_future_frame.json").read_text())
    config |= {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "cross_attention_dim": 8}
    (tmp_path / "unet.json").write_text(json.dumps(config))
    command_line = arguments(data, "train_future_frame", tmp_path, model_config=tmp_path / "unet.json")
    with pytest.raises(ValueError, match="CrossAttnDownBlock2D.* attend to text, but there is no text encoder"):
        train_future_frame.main(command_line)
    config |= {"down_block_types": ["DownBlock2D", "DownBlock2D"], "mid_block_type": "UNetMidBlock2DCrossAttn"}
    (tmp_path / "unet.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="UNetMidBlock2DCrossAttn.* attend to text"):
        train_future_frame.main(command_line)
