"""Pipeline folders from trained components."""

import shutil
from pathlib import Path

import assemble_pipeline
import pytest
import torch
import train_future_frame
from PIL import Image

from loop.pipeline_folders import load_pipeline
from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline, Stroke
from support.tiny_models import make_image_encoder
from support.training_runs import SIZE, arguments


def assemble(data: Path, unet: Path, flow_completion: Path | None, output_dir: Path, *options) -> MCDiffPipeline:
    """Assembles a pipeline folder with the script and loads it."""
    command_line = ["--vae", data / "vae", "--unet", unet / "unet", "--scheduler", unet / "scheduler"]
    if flow_completion is not None:
        command_line += ["--flow_completion", flow_completion / "flow_completion"]
    command_line += ["--output_dir", output_dir, "--default_size", SIZE, "--default_frames", 2, *options]
    assert assemble_pipeline.main([str(argument) for argument in command_line]) == 0
    pipe = MCDiffPipeline.from_pretrained(output_dir)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_pipeline_has_the_conditions_that_the_unet_was_trained_with(data, trained, tmp_path):
    unet, flow_completion = trained["train_future_frame"], trained["train_flow_completion"]
    pipe = assemble(data, unet, flow_completion, tmp_path / "model")
    assert pipe.conditioning == ("previous_frame", "dense_flow", "splatted_frame", "hole_mask", "start_picture")
    assert pipe.config.residual_condition is None
    assert len(pipe(Image.new("RGB", (SIZE, SIZE)), [Stroke([(4, 4), (20, 20)])]).frames[0]) == 2
    with pytest.raises(ValueError, match="was trained with dense flow, so --flow_completion has to name"):
        assemble(data, unet, None, tmp_path / "without")
    shutil.copytree(unet / "unet", tmp_path / "alone/somewhere/unet")
    shutil.copytree(unet / "scheduler", tmp_path / "alone/somewhere/scheduler")
    with pytest.raises(ValueError, match="no training_arguments.json in the folder above"):
        assemble(data, tmp_path / "alone/somewhere", flow_completion, tmp_path / "unknown")


def test_pipeline_has_the_image_encoder_whose_features_flow_completion_reads(data, trained, tmp_path, capsys):
    encoder = make_image_encoder()
    encoder.save_pretrained(tmp_path / "encoder")
    plain = trained["train_flow_completion"]
    reading = FlowCompletionUNet.from_pretrained(plain / "flow_completion")
    reading = FlowCompletionUNet.widened(reading, feature_channels=16)
    reading.save_pretrained(tmp_path / "reading/flow_completion")
    options = ["--image_encoder", tmp_path / "encoder"]
    pipe = assemble(data, trained["train_future_frame"], tmp_path / "reading", tmp_path / "model", *options)
    found = pipe.image_encoder.state_dict()
    assert all(torch.equal(found[key], one.half().float()) for key, one in encoder.state_dict().items())
    assert pipe.start(Image.new("RGB", (SIZE, SIZE))).start_features.shape == (1, 16, 16, 16)
    again = load_pipeline(tmp_path / "model", pipe.vae)  # for training end to end
    assert again.image_encoder.config.hidden_size == 16 and again.image_encoder.dtype == torch.float32
    with pytest.raises(ValueError, match="--image_encoder .*encoder has no use, since flow completion reads no feat"):
        assemble(data, trained["train_future_frame"], plain, tmp_path / "other", *options)

    assert "no image encoder" not in capsys.readouterr().err
    assemble(data, trained["train_future_frame"], tmp_path / "reading", tmp_path / "without")
    assert "there is no image encoder, so the pipeline will run without them" in capsys.readouterr().err
    # a new F for a base model keeps its encoder, if it reads its features
    for run, has_encoder in ((tmp_path / "reading", True), (plain, False)):
        command_line = ["--base_model", tmp_path / "model", "--flow_completion", run / "flow_completion"]
        command_line += ["--output_dir", tmp_path / "new"]
        assert assemble_pipeline.main([str(part) for part in command_line]) == 0
        assert (tmp_path / "new/image_encoder").is_dir() == has_encoder


def test_unet_that_was_trained_on_strokes_makes_a_pipeline_without_flow_completion(data, trained, tmp_path):
    switches = {"no_flow_completion": True, "no_keypoints": True, "sampling": "uniform", "max_train_steps": 1}
    command_line = arguments(data, "train_future_frame", tmp_path / "run", start_picture_reference=None, **switches)
    assert train_future_frame.main(command_line) == 0
    pipe = assemble(data, tmp_path / "run", None, tmp_path / "model")
    assert pipe.flow_completion is None and pipe.conditioning == ("previous_frame", "sparse_flow")
    assert pipe(Image.new("RGB", (SIZE, SIZE)), [Stroke([(4, 4), (20, 20)])]).dense_flow is None
    with pytest.raises(ValueError, match="was trained without dense flow, so --flow_completion has no use"):
        assemble(data, tmp_path / "run", trained["train_flow_completion"], tmp_path / "other")


def test_pipeline_keeps_the_residual_that_the_unet_was_trained_with(data, trained, tmp_path):
    changes = {"start_picture_reference": True, "max_train_steps": 1}
    changes |= {"residual_condition": "start_picture", "residual_scale": 2.0, "validation_data_dir": None}
    assert train_future_frame.main(arguments(data, "train_future_frame", tmp_path / "run", **changes)) == 0
    pipe = assemble(data, tmp_path / "run", trained["train_flow_completion"], tmp_path / "model")
    assert (pipe.config.residual_condition, pipe.config.residual_scale) == ("start_picture", 2)


def test_what_is_not_named_comes_from_the_base_model(data, trained, tmp_path):
    base = assemble(data, trained["train_future_frame"], trained["train_flow_completion"], tmp_path / "base")
    other = FlowCompletionUNet.from_pretrained(trained["train_flow_completion"] / "flow_completion")
    with torch.no_grad():
        other.conv_out.bias.add_(1)
    other.save_pretrained(tmp_path / "other")
    options = ["--base_model", tmp_path / "base", "--flow_completion", tmp_path / "other"]
    assemble_pipeline.main([str(argument) for argument in [*options, "--output_dir", tmp_path / "model"]])
    pipe = MCDiffPipeline.from_pretrained(tmp_path / "model")
    assert pipe.conditioning == base.conditioning
    assert torch.equal(pipe.flow_completion.conv_out.bias, other.conv_out.bias.half().float())
    for name in ("vae", "unet"):
        found = getattr(pipe, name).state_dict()
        assert all(torch.equal(found[key], one) for key, one in getattr(base, name).state_dict().items())


@pytest.mark.parametrize(
    "options, message",
    [
        (["--vae", "a"], "--unet, --scheduler is missing; name it, or give --base_model"),
        (["--base_model", "a", "--unet", "b"], "--unet and --scheduler belong together"),
    ],
)
def test_missing_components_are_named(options, message, capsys):
    with pytest.raises(SystemExit):
        assemble_pipeline.parse_args([*options, "--output_dir", "c"])
    assert message in capsys.readouterr().err
