"""F and G trained together, on tiny models and clips, and on roll-outs of their own."""

import shutil

import numpy as np
import pytest
import torch
import train_end_to_end
from diffusers import UNet2DConditionModel
from loop.denoising_loss import denoising_loss
from loop.latent_cache import load_vae
from PIL import Image
from support.tiny_models import make_pipeline
from support.training_runs import SIZE, arguments, launch, logged

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline, Stroke
from mcdiff_pipeline.flow import accumulate_flow
from mcdiff_pipeline.pipeline_mcdiff import splatted_start


MODELS = {"flow_completion": FlowCompletionUNet, "unet": UNet2DConditionModel}


def command_line(data, start, output_dir, **changes) -> list[str]:
    settings = {"pretrained_model_name_or_path": start, "rollout_steps": 2, "pretrained_vae": None}
    settings |= {"model_config": None, "num_validation_samples": 2, "adam_weight_decay": 0.0}
    return arguments(data, "train_end_to_end", output_dir, **(settings | changes))


@pytest.fixture(scope="module")
def trained(data, start, tmp_path_factory):
    """Output folder of four steps on roll-outs of two frames, run as a user would."""
    output_dir = tmp_path_factory.mktemp("end_to_end")
    process = launch("train_end_to_end", command_line(data, start, output_dir))
    text, _ = process.communicate(timeout=280)
    assert process.returncode == 0, text
    return output_dir


def changed(name: str, before, after) -> list[bool]:
    """For each parameter of F or G, whether it differs between two folders."""
    before, after = (
        dict(MODELS[name].from_pretrained(folder, subfolder=name).named_parameters()) for folder in (before, after)
    )
    return [not torch.equal(before[key], after[key]) for key in before]


def test_the_result_is_a_pipeline_folder_of_the_averages(data, start, trained):
    pipe = MCDiffPipeline.from_pretrained(trained / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    given = MCDiffPipeline.load_config(start)
    names = ("conditioning", "flow_scale", "residual_condition", "residual_scale")
    for name in (*names, "default_num_frames", "default_num_inference_steps"):
        assert pipe.config[name] == given[name]
    picture, strokes = Image.new("RGB", (SIZE, SIZE)), [Stroke([(4, 4), (20, 20)])]
    assert len(pipe(picture, strokes, num_frames=2).frames[0]) == 2
    for name, model_class in MODELS.items():
        average = model_class.from_pretrained(trained / "checkpoint-4", subfolder=f"{name}_ema")
        for key, tensor in getattr(pipe, name).state_dict().items():
            torch.testing.assert_close(tensor, average.state_dict()[key].half().float())
        assert any(changed(name, trained / "checkpoint-2", trained / "checkpoint-4"))


def test_resumed_run_has_the_losses_of_an_uninterrupted_one(data, start, trained, tmp_path):
    shutil.copytree(trained / "checkpoint-2", tmp_path / "checkpoint-2")
    assert train_end_to_end.main(command_line(data, start, tmp_path, resume_from_checkpoint="latest")) == 0
    for name in ("loss", "flow_loss", "denoising_loss"):
        expected, values = logged(trained, name), logged(tmp_path, name)
        assert list(values) == [3, 4]
        assert values == pytest.approx({step: expected[step] for step in (3, 4)}, rel=1e-5)
    for name, model_class in MODELS.items():
        found, expected = (
            model_class.from_pretrained(folder / "checkpoint-4", subfolder=f"{name}_ema").state_dict()
            for folder in (tmp_path, trained)
        )
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-6)


def test_the_loss_is_that_of_the_frame_and_a_twentieth_of_that_of_the_flow(trained):
    loss, flow_loss, denoising_loss = (logged(trained, name) for name in ("loss", "flow_loss", "denoising_loss"))
    assert len(loss) == 4
    for step, value in loss.items():
        assert value == pytest.approx(0.05 * flow_loss[step] + denoising_loss[step], rel=1e-5)


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
@pytest.mark.usefixtures("another_precision")
def test_the_loss_of_the_frame_reaches_flow_completion_and_all_of_the_unet(data, start, tmp_path, mixed_precision):
    changes = {"flow_loss_weight": 0.0, "validation_data_dir": None, "use_ema": None, "max_train_steps": 2}
    changes |= {"mixed_precision": mixed_precision, "checkpointing_steps": 1}
    assert train_end_to_end.main(command_line(data, start, tmp_path, **changes)) == 0
    for name in MODELS:
        moved = changed(name, tmp_path / "checkpoint-1", tmp_path / "checkpoint-2")
        assert sum(moved) > 0.9 * len(moved)  # a bias before a normalization has no gradient


def test_a_model_of_differences_learns_them_from_where_the_predicted_flow_carries_the_start_frame(
    data, tmp_path, monkeypatch
):
    names = ("previous_frame", "dense_flow", "start_picture")
    vae = load_vae(str(data / "vae"), "cpu")
    make_pipeline(names, vae=vae, residual_condition="start_picture", residual_scale=2.0).save_pretrained(tmp_path)
    args = train_end_to_end.parse_args(command_line(data, tmp_path, "unused", no_noise_augmentation=True))
    clips = train_end_to_end.open_training_clips(args, train_end_to_end.make_accelerator(args))[1]
    model = train_end_to_end.EndToEndModel(train_end_to_end.load_pipeline(tmp_path, vae), args)
    sample = train_end_to_end.load_steps(clips, 0, args, np.random.default_rng(0))
    batch = torch.utils.data.default_collate([sample])
    torch.manual_seed(0)
    end = model.roll_out(model.start(batch), batch, 1)

    targets = []

    def record(unet, scheduler, conditions, target, *arguments):
        targets.append((conditions, target))
        return denoising_loss(unet, scheduler, conditions, target, *arguments)

    monkeypatch.setattr(train_end_to_end, "denoising_loss", record)
    torch.manual_seed(0)
    model(batch)[0].backward()
    ((conditions, target),) = targets
    flow = model.flow_completion(end.latents, batch["sparse_flow"][:, 1], batch["mask"][:, 1]).dense_flow
    accumulated = accumulate_flow(end.accumulated_flow / 4, flow / 4) * 4
    carried = splatted_start(vae, batch["start_picture"], accumulated)
    torch.testing.assert_close(conditions[:, -4:], carried, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(target, 2 * (batch["latent"][:, 2] - carried), rtol=1e-4, atol=1e-4)
    assert model.flow_completion.conv_out.weight.grad.abs().max() > 0


def test_only_the_last_step_carries_gradients_and_starts_from_the_own_frame(data, start):
    args = train_end_to_end.parse_args(command_line(data, start, "unused", no_noise_augmentation=True))
    pipe = MCDiffPipeline.from_pretrained(start)
    pipe.set_progress_bar_config(disable=True)
    model = train_end_to_end.EndToEndModel(pipe, args)
    clips = train_end_to_end.open_training_clips(args, train_end_to_end.make_accelerator(args))[1]
    sample = train_end_to_end.load_steps(clips, 0, args, np.random.default_rng(0))
    batch = torch.utils.data.default_collate([sample])
    torch.manual_seed(0)
    end = model.roll_out(model.start(batch), batch, 1)
    assert not end.latents.requires_grad and end.frame == 1
    assert not torch.allclose(end.latents, batch["latent"][:, 1], atol=0.1)
    seen = []
    pipe.unet.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    torch.manual_seed(0)
    model(batch)
    assert len(seen) == args.rollout_inference_steps + 1
    torch.testing.assert_close(seen[-1][:, 4:8], end.latents)


def test_roll_outs_longer_than_the_clips_are_refused(data, start, tmp_path):
    with pytest.raises(ValueError, match="4 steps need clips of 5 frames or more, but the longest has 4"):
        train_end_to_end.main(command_line(data, start, tmp_path, rollout_steps=4))


def test_steps_never_run_from_one_clip_into_the_next(data, start):
    args = train_end_to_end.parse_args(command_line(data, start, "unused"))
    clips = train_end_to_end.open_training_clips(args, train_end_to_end.make_accelerator(args))[1]
    # four clips of 3, 4, 3 and 4 frames
    assert clips.with_steps(1).tolist() == list(range(10))
    assert clips.with_steps(2).tolist() == [0, 2, 3, 5, 7, 8]
    assert clips.with_steps(3).tolist() == [2, 7]


def test_a_model_without_flow_completion_is_refused(data, tmp_path):
    pipe = make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="has no flow completion, so there is nothing to train end to end"):
        train_end_to_end.main(command_line(data, tmp_path / "model", tmp_path / "run"))
