"""Stable Diffusion, plain and for inpainting, as a start for training; tiny models with random weights."""

import json

import pytest
import torch
import train_end_to_end

from mcdiff_pipeline import MCDiffPipeline, Stroke
from support.text_models import write_stable_diffusion
from support.tiny_models import FULL_CONDITIONING, make_flow_completion, make_pipeline
from support.training_runs import SIZE, arguments
from tools import widen_unet


INPAINTING = ("hole_mask", "splatted_frame", "previous_frame", "dense_flow")
PLAIN = ("previous_frame", "dense_flow", "splatted_frame", "hole_mask")


def widen(folder, *switches) -> MCDiffPipeline:
    make_flow_completion().save_pretrained(folder / "flow_completion")
    command_line = ["--pretrained_model_name_or_path", folder, "--flow_completion", folder / "flow_completion"]
    command_line += ["--output_dir", folder / "widened", *switches]
    assert widen_unet.main([str(argument) for argument in command_line]) == 0
    pipe = MCDiffPipeline.from_pretrained(folder / "widened")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(("in_channels", "conditioning"), [(4, PLAIN), (9, INPAINTING)])
def test_widened_unet_gives_the_same_output_for_any_content_of_the_new_channels(tmp_path, in_channels, conditioning):
    narrow = write_stable_diffusion(tmp_path, in_channels)
    with torch.no_grad():
        narrow.conv_in.bias.add_(1)  # the bias has to be copied, too
    narrow.save_pretrained(tmp_path / "unet")
    pipe = widen(tmp_path)
    assert pipe.conditioning == conditioning
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, pipe.unet.config.in_channels, 8, 8, generator=generator)
    text = torch.randn(2, 5, 16, generator=generator)
    with torch.no_grad():
        expected = narrow(sample[:, :in_channels], 7, encoder_hidden_states=text).sample
        found = pipe.unet(sample, 7, encoder_hidden_states=text).sample
    assert torch.equal(found, expected)
    assert pipe.unet.config.in_channels == pipe.unet.conv_in.in_channels == 4 + 11


def test_widened_model_makes_videos_and_can_be_trained(data, tmp_path):
    write_stable_diffusion(tmp_path, 9)
    pipe = widen(tmp_path, "--start_picture_reference")
    assert pipe.conditioning == (*INPAINTING, "start_picture")
    image, strokes = torch.rand(3, SIZE, SIZE), [Stroke([(4, 4), (20, 20)])]
    assert len(pipe(image, strokes, num_frames=2, height=SIZE, width=SIZE, num_inference_steps=2).frames[0]) == 2

    changes = {"pretrained_model_name_or_path": tmp_path / "widened", "rollout_steps": 2, "model_config": None}
    changes |= {"pretrained_vae": None, "validation_data_dir": None, "max_train_steps": 1}
    assert train_end_to_end.main(arguments(data, "train_end_to_end", tmp_path / "run", **changes)) == 0
    trained = MCDiffPipeline.from_pretrained(tmp_path / "run/pipeline")
    assert trained.tokenizer is not None
    before, after = pipe.unet.conv_in.weight, trained.unet.conv_in.weight
    assert (before[:, 9:] == 0).all() and (after[:, 9:] != 0).any()


def test_conditions_that_are_kept_keep_their_weights(tmp_path):
    pipe = make_pipeline()
    pipe.save_pretrained(tmp_path / "old")
    names = ("start_coverage", *FULL_CONDITIONING[:2], *FULL_CONDITIONING[3:])  # without the splatted frame
    command_line = ["--pretrained_model_name_or_path", str(tmp_path / "old"), "--output_dir", str(tmp_path / "new")]
    assert widen_unet.main([*command_line, "--conditioning", *names]) == 0
    found = MCDiffPipeline.from_pretrained(tmp_path / "new")
    assert found.conditioning == names
    old, new = pipe.unet.conv_in.weight, found.unet.conv_in.weight
    assert new.shape[1] == found.unet.config.in_channels == found.conditioner.in_channels
    assert torch.equal(new[:, :4], old[:, :4]) and not new[:, 4].any()
    assert torch.equal(new[:, 5:], torch.cat([old[:, 4:10], old[:, 14:]], dim=1))


def test_model_of_an_earlier_version_can_be_given_other_conditions(tmp_path):
    pipe = make_pipeline(("previous_frame", "dense_flow"))
    pipe.save_pretrained(tmp_path / "old")
    index = tmp_path / "old/model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"conditioning": "start_frame,dense_flow"}))
    with pytest.raises(ValueError, match="'start_frame'.* no longer exists: .*widen_unet.py"):
        MCDiffPipeline.from_pretrained(tmp_path / "old")
    command_line = ["--pretrained_model_name_or_path", str(tmp_path / "old"), "--output_dir", str(tmp_path / "new")]
    assert widen_unet.main([*command_line, "--conditioning", "start_coverage", "dense_flow"]) == 0
    new, old = MCDiffPipeline.from_pretrained(tmp_path / "new").unet.conv_in.weight, pipe.unet.conv_in.weight
    assert torch.equal(new[:, [*range(4), 5, 6]], old[:, [*range(4), 8, 9]]) and not new[:, 4].any()


def test_model_of_mcdiff_needs_new_conditions(tmp_path):
    make_pipeline().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a model of MCDiff: give --conditioning"):
        widen(tmp_path)


def test_unet_with_other_inputs_is_refused(tmp_path):
    write_stable_diffusion(tmp_path, 7)
    with pytest.raises(ValueError, match="takes 7 channels, but with latents of 4 channels a plain one takes 4"):
        widen(tmp_path)
