"""The training of flow completion, with tiny models and clips."""

import json

import numpy as np
import pytest
import torch
import train_flow_completion
from PIL import Image

from loop.autoencoder import load_vae
from mcdiff_pipeline.drawing import TITLE_HEIGHT, TITLED_WIDTH
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from support.sliding_squares import write_squares
from support.tiny_models import make_flow_completion
from support.training_runs import SIZE, arguments, logged


def test_validation_compares_with_baselines_and_draws_a_sheet(trained):
    folder = trained["train_flow_completion"]
    assert logged(folder, "epe_body_zero")[4] > 1  # the squares move by at least one pixel in each direction
    assert logged(folder, "epe_body_nearest")[4] < 0.5  # and rigidly, so that one stroke is enough
    assert logged(folder, "epe_off_body_zero")[4] < 0.2
    with Image.open(folder / "validation_000004.png") as sheet:
        titles = np.asarray(sheet.convert("L"))[:TITLE_HEIGHT].reshape(TITLE_HEIGHT, 4, TITLED_WIDTH)
    assert (titles.min(axis=(0, 2)) < 128).all()  # one above each column


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


def test_model_with_regions_is_trained_and_validated_with_and_without_them(data, trained, tmp_path):
    narrow = trained["train_flow_completion"] / "flow_completion"
    changes = {"pretrained_model_name_or_path": narrow, "model_config": None, "reads_regions": True}
    changes |= {"motion_threshold": 0.2}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "run", **changes)) == 0
    model = FlowCompletionUNet.from_pretrained(tmp_path / "run/flow_completion")
    assert model.config.reads_regions and model.config.fits_regions and model.config.sample_size == SIZE // 4
    assert 0 < model.config.max_displacement < SIZE
    assert model.conv_in.weight[:, -2:].abs().max() > 0  # it has learned to read the fit
    without = logged(tmp_path / "run", "epe_body_model")
    assert logged(tmp_path / "run", "epe_body_model_with_regions").keys() == without.keys()
    assert logged(tmp_path / "run", "epe_body_model_with_regions")[4] != without[4]

    # the model is trained further with regions, without being told so again
    changes = {"pretrained_model_name_or_path": tmp_path / "run/flow_completion", "model_config": None}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "more", **changes)) == 0
    assert 4 in logged(tmp_path / "more", "epe_off_body_model_with_regions")
    for folder in ("run", "more"):  # and it keeps its threshold
        model = FlowCompletionUNet.from_pretrained(tmp_path / folder / "flow_completion")
        assert model.config.motion_threshold == 0.2


def test_training_with_regions_resumes_where_it_stopped(data, tmp_path):
    def train(folder, **changes):
        changes = {"reads_regions": True, "validation_data_dir": None, "region_probability": 0.9} | changes
        assert train_flow_completion.main(arguments(data, "train_flow_completion", folder, **changes)) == 0

    train(tmp_path / "whole", lr_scheduler="constant")
    train(tmp_path / "parts", lr_scheduler="constant", max_train_steps=2)
    train(tmp_path / "parts", lr_scheduler="constant", resume_from_checkpoint="latest")
    assert logged(tmp_path / "parts", "loss") == logged(tmp_path / "whole", "loss")


def test_larger_model_can_read_regions(data, trained, tmp_path):
    config = json.loads((data / "train_flow_completion.json").read_text())
    (tmp_path / "larger.json").write_text(json.dumps(config | {"separate_foreground": True}))
    changes = {"model_config": tmp_path / "larger.json", "reads_regions": True, "max_train_steps": 1}
    changes |= {"pretrained_model_name_or_path": trained["train_flow_completion"] / "flow_completion"}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "run", **changes)) == 0
    model = FlowCompletionUNet.from_pretrained(tmp_path / "run/flow_completion")
    assert model.config.separate_foreground and model.config.reads_regions


def test_gates_of_a_pretrained_model_are_opened(data, tmp_path):
    pretrained = make_flow_completion(reads_regions=True, fits_regions=True, feature_channels=16)
    pretrained.save_pretrained(tmp_path / "pretrained")
    command_line = arguments(
        *(data, "train_flow_completion", tmp_path / "run"),
        **{"pretrained_model_name_or_path": tmp_path / "pretrained", "model_config": None},
    )
    opening = ["--open_gates", "3", "1.5"]
    args = train_flow_completion.parse_args(command_line + opening)
    model = train_flow_completion.make_model(args, load_vae(data / "vae", "cpu"), 16)
    torch.testing.assert_close(model.conv_gate.bias, pretrained.conv_gate.bias + 3)
    torch.testing.assert_close(model.conv_attention_gate.bias, pretrained.conv_attention_gate.bias + 1.5)
    with pytest.raises(ValueError, match="--open_gates is for the gates of a pretrained model"):
        train_flow_completion.parse_args([*arguments(data, "train_flow_completion", tmp_path / "run"), *opening])
    make_flow_completion().save_pretrained(tmp_path / "pretrained")
    with pytest.raises(ValueError, match="--open_gates has no use, since the model does not read both"):
        train_flow_completion.make_model(args, load_vae(data / "vae", "cpu"), None)


def test_impossible_region_probability_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="--region_probability is 1.5; it must be a number from 0 to 1"):
        train_flow_completion.parse_args(arguments(data, "train_flow_completion", tmp_path, region_probability=1.5))


def test_model_with_features_learns_from_them_at_its_own_rate(data, trained, image_encoder, tmp_path):
    changes = {"pretrained_model_name_or_path": trained["train_flow_completion"] / "flow_completion"}
    changes |= {"model_config": None, "reads_features": True, "image_encoder": image_encoder}
    changes |= {"learning_rate": 1e-4, "new_layers_learning_rate": 1e-2, "use_ema": None}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "run", **changes)) == 0
    model = FlowCompletionUNet.from_pretrained(tmp_path / "run/flow_completion")
    assert model.config.feature_channels == 16 and not model.config.reads_regions
    attention = model.stroke_attention
    assert attention.mean.any() and torch.linalg.matrix_rank(attention.projection) > 4
    before = FlowCompletionUNet.from_pretrained(changes["pretrained_model_name_or_path"])
    assert (model.conv_out.weight - before.conv_out.weight).abs().max() < 1e-3 < model.conv_attention_gate.weight.max()
    assert model.conv_in.weight[:, before.conv_in.in_channels :].any()

    # trained further without being told again, the model keeps its basis, and it needs its encoder
    changes = {"pretrained_model_name_or_path": tmp_path / "run/flow_completion", "model_config": None}
    with pytest.raises(ValueError, match="features of 16 channels, but --image_encoder None gives None"):
        train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "more", **changes))
    changes |= {"image_encoder": image_encoder, "max_train_steps": 1, "validation_data_dir": None}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "more", **changes)) == 0
    more = FlowCompletionUNet.from_pretrained(tmp_path / "more/flow_completion")
    assert torch.equal(more.stroke_attention.projection, attention.projection)


@pytest.mark.parametrize("part", ["gate", "channels", "trained_kernel", "locality"])
def test_a_part_of_reading_features_stays_out_of_the_training(data, image_encoder, tmp_path, part):
    changes = {"reads_features": True, "image_encoder": image_encoder, "features_without": part}
    changes |= {"max_train_steps": 2, "validation_data_dir": None}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "run", **changes)) == 0
    model = FlowCompletionUNet.from_pretrained(tmp_path / "run/flow_completion")
    attention = model.stroke_attention
    gate, channels = model.conv_attention_gate, model.conv_in.weight[:, -attention.num_channels :]
    is_trained = {
        "gate": bool(gate.weight.any()),
        "channels": bool(channels.any()),
        "trained_kernel": not torch.equal(attention.metric, torch.eye(len(attention.metric))),
        "locality": attention.log_locality.item() > -20,
    }
    assert is_trained == {name: name != part for name in is_trained}
    assert (gate.bias.max() < -20) == (part == "gate")


def test_part_of_features_that_are_not_read_is_refused(data, tmp_path):
    changes = {"features_without": "gate", "validation_data_dir": None}
    with pytest.raises(ValueError, match="--features_without gate has no use, since the model reads no features"):
        train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes))


def test_training_with_features_and_mixed_clips_resumes_where_it_stopped(data, image_encoder, tmp_path):
    write_squares(tmp_path / "large", range(2), split="train", size=64)

    def train(folder, **changes):
        changes = {
            "reads_features": True,
            "image_encoder": image_encoder,
            "data_weights": "1 2",
            "new_motions": "0 0.5",
        } | changes
        changes |= {"train_batch_size": 4, "gradient_weight": 0.1, "lr_scheduler": "constant", "seed": 2}
        changes |= {"new_layers_learning_rate": 1e-2, "new_motions": "0 0.5", "validation_data_dir": None}
        command_line = arguments(data, "train_flow_completion", folder, **changes)
        place = command_line.index("--train_data_dir")
        command_line[place + 1 : place + 2] = [str(data / "clips"), str(tmp_path / "large")]
        for name, values in (("--data_weights", ["1", "2"]), ("--new_motions", ["0", "0.5"])):
            place = command_line.index(name)
            command_line[place + 1 : place + 2] = values
        assert train_flow_completion.main(command_line) == 0

    train(tmp_path / "whole")
    train(tmp_path / "parts", max_train_steps=2)
    train(tmp_path / "parts", resume_from_checkpoint="latest")
    assert logged(tmp_path / "parts", "loss") == logged(tmp_path / "whole", "loss")
    assert len(set(logged(tmp_path / "whole", "loss").values())) == 4
    assert all(value > 0 for value in logged(tmp_path / "whole", "gradient_loss").values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reads_features": True}, "--reads_features needs --image_encoder; give the folder"),
        ({"feature_drop_probability": 2}, "--feature_drop_probability is 2.0; it must be a number from 0 to 1"),
        ({"data_weights": "-1"}, r"--data_weights is \[-1.0\]; give numbers of 0 or more, not all 0"),
        ({"new_motions": "2"}, r"--new_motions is \[2.0\]; give numbers from 0 to 1"),
        ({"gradient_weight": -1}, "--gradient_weight is -1; it must be 0 or more"),
        ({"sample_size": 0}, "--sample_size is 0; it must be 1 or more"),
        ({"motion_threshold": 1.0}, "--motion_threshold is 1; give a number from 0 to below 1"),
    ],
)
def test_impossible_arguments_are_refused(data, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train_flow_completion.parse_args(arguments(data, "train_flow_completion", tmp_path, **changes))
