"""The training of both networks together, with tiny models and clips, also on rollouts of their own frames."""

import shutil
from pathlib import Path

import pytest
import torch
import train_end_to_end
from diffusers import UNet2DConditionModel
from PIL import Image
from train_end_to_end import EndToEndTraining

from loop.accelerator import make_accelerator
from loop.autoencoder import load_vae
from loop.denoising_loss import denoising_loss
from loop.region_sampling import NUM_REGIONS
from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline, Stroke
from mcdiff_pipeline.flow import accumulate_flow, resize_flow, splat_image
from mcdiff_pipeline.latent_codec import encode_images
from mcdiff_pipeline.rollout import RolloutState
from mcdiff_pipeline.semantic_features import carry_features
from support.tiny_models import make_flow_completion, make_image_encoder, make_pipeline
from support.training_runs import SIZE, arguments, logged


MODELS = {"flow_completion": FlowCompletionUNet, "unet": UNet2DConditionModel}


def command_line(data: Path, start: Path, output_dir: Path | str, **changes) -> list[str]:
    settings = {"pretrained_model_name_or_path": start, "rollout_steps": 2, "pretrained_vae": None}
    settings |= {"model_config": None, "num_validation_samples": 2, "adam_weight_decay": 0.0}
    return arguments(data, "train_end_to_end", output_dir, **(settings | changes))


@pytest.fixture(scope="module")
def trained(data, start, tmp_path_factory) -> Path:
    """The output folder of four steps on rollouts of two frames."""
    output_dir = tmp_path_factory.mktemp("end_to_end")
    assert train_end_to_end.main(command_line(data, start, output_dir)) == 0
    return output_dir


def training_without_noise(data: Path, start: Path) -> EndToEndTraining:
    args = train_end_to_end.parse_args(
        command_line(data, start, "unused", no_noise_augmentation=True, validation_data_dir=None)
    )
    return EndToEndTraining(args, make_accelerator(args))


def first_batch(training: EndToEndTraining) -> dict[str, torch.Tensor]:
    batch = torch.utils.data.default_collate([training.draws[0]])
    batch.pop("index")
    return batch


def roll_out(training: EndToEndTraining, batch: dict[str, torch.Tensor]) -> RolloutState:
    """The state after the first step of a batch, with the noise that the loss draws for it."""
    torch.manual_seed(0)
    return training.model.roll_out(training.model.start(batch), batch, 1)


def changed(name: str, before: Path, after: Path) -> list[bool]:
    """For each parameter of a network, whether it differs between two folders."""
    before, after = (
        dict(MODELS[name].from_pretrained(folder, subfolder=name).named_parameters()) for folder in (before, after)
    )
    return [not torch.equal(before[key], after[key]) for key in before]


def test_result_is_a_pipeline_folder_of_the_averages(start, trained):
    pipe = MCDiffPipeline.from_pretrained(trained / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    given = MCDiffPipeline.load_config(start)
    names = ("conditioning", "flow_scale", "residual_condition", "residual_scale")
    for name in (*names, "default_num_frames", "default_num_inference_steps"):
        assert pipe.config[name] == given[name]
    image, strokes = Image.new("RGB", (SIZE, SIZE)), [Stroke([(4, 4), (20, 20)])]
    assert len(pipe(image, strokes, num_frames=2).frames[0]) == 2
    for name, model_class in MODELS.items():
        average = model_class.from_pretrained(trained / "checkpoint-4", subfolder=f"{name}_ema")
        for key, tensor in getattr(pipe, name).state_dict().items():
            torch.testing.assert_close(tensor, average.state_dict()[key].half().float())
        assert any(changed(name, trained / "checkpoint-2", trained / "checkpoint-4"))


def test_resumed_run_has_the_losses_of_an_uninterrupted_run(data, start, trained, tmp_path):
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


def test_loss_is_the_denoising_loss_and_a_twentieth_of_the_flow_loss(trained):
    loss, flow_loss, denoising_loss = (logged(trained, name) for name in ("loss", "flow_loss", "denoising_loss"))
    assert len(loss) == 4
    for step, value in loss.items():
        assert value == pytest.approx(0.05 * flow_loss[step] + denoising_loss[step], rel=1e-5)


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
@pytest.mark.usefixtures("another_precision")
def test_denoising_loss_trains_flow_completion_and_all_of_the_unet(data, start, tmp_path, mixed_precision):
    changes = {"flow_loss_weight": 0.0, "validation_data_dir": None, "use_ema": None, "max_train_steps": 2}
    changes |= {"mixed_precision": mixed_precision, "checkpointing_steps": 1}
    assert train_end_to_end.main(command_line(data, start, tmp_path, **changes)) == 0
    for name in MODELS:
        moved = changed(name, tmp_path / "checkpoint-1", tmp_path / "checkpoint-2")
        assert sum(moved) > 0.9 * len(moved)  # a bias before a normalization has no gradient


def test_residual_model_learns_the_difference_from_the_start_image_splatted_along_predicted_flow(
    data, tmp_path, monkeypatch
):
    names = ("previous_frame", "dense_flow", "start_picture")
    vae = load_vae(str(data / "vae"), "cpu")
    make_pipeline(names, vae=vae, residual_condition="start_picture", residual_scale=2.0).save_pretrained(tmp_path)
    training = training_without_noise(data, tmp_path)
    model, batch = training.model, first_batch(training)
    end = roll_out(training, batch)

    targets = []

    def record(unet, scheduler, conditions, target, *arguments):
        targets.append((conditions, target))
        return denoising_loss(unet, scheduler, conditions, target, *arguments)

    monkeypatch.setattr(train_end_to_end, "denoising_loss", record)
    torch.manual_seed(0)
    training.compute_loss(model, batch)[0].backward()
    ((conditions, target),) = targets
    flow = training.pipe.complete_flow(end.latents, batch["sparse_flow"][:, 1], batch["mask"][:, 1])
    accumulated = resize_flow(accumulate_flow(end.accumulated_flow, flow), (SIZE, SIZE))
    splatted = encode_images(vae, splat_image(batch["start_picture"], accumulated, 4))
    torch.testing.assert_close(conditions[:, -4:], splatted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(target, 2 * (batch["latent"][:, 2] - splatted), rtol=1e-4, atol=1e-4)
    assert model.flow_completion.conv_out.weight.grad.abs().max() > 0


def test_only_the_last_step_has_gradients_and_starts_from_a_frame_of_the_model(data, start):
    training = training_without_noise(data, start)
    batch = first_batch(training)
    end = roll_out(training, batch)
    assert not end.latents.requires_grad and end.frame == 1
    assert not torch.allclose(end.latents, batch["latent"][:, 1], atol=0.1)
    inputs = []
    training.pipe.unet.register_forward_pre_hook(
        lambda _, arguments: inputs.append((arguments[0].detach(), torch.is_grad_enabled()))
    )
    torch.manual_seed(0)
    training.compute_loss(training.model, batch)
    assert [has_gradients for _, has_gradients in inputs] == [False] * training.args.rollout_inference_steps + [True]
    torch.testing.assert_close(inputs[-1][0][:, 4:8], end.latents)


@pytest.fixture
def start_with_features(data, tmp_path) -> Path:
    """A pipeline folder whose F reads regions and semantic features, and whose gates are half open."""
    flow_completion = make_flow_completion(reads_regions=True, fits_regions=True, feature_channels=16)
    for gate in (flow_completion.conv_gate, flow_completion.conv_attention_gate):
        torch.nn.init.zeros_(gate.bias)
    parts = {"vae": load_vae(str(data / "vae"), "cpu"), "image_encoder": make_image_encoder()}
    make_pipeline(flow_completion=flow_completion, **parts).save_pretrained(tmp_path / "reads")
    return tmp_path / "reads"


def test_flow_completion_that_reads_features_and_regions_learns_from_them(data, start_with_features, tmp_path):
    changes = {"use_ema": None, "max_train_steps": 2, "checkpointing_steps": 1, "region_probability": 1}
    changes |= {"feature_drop_probability": 0}
    assert train_end_to_end.main(command_line(data, start_with_features, tmp_path / "run", **changes)) == 0
    before, after = (
        FlowCompletionUNet.from_pretrained(tmp_path / f"run/checkpoint-{step}", subfolder="flow_completion")
        for step in (1, 2)
    )
    for name in ("conv_gate.weight", "conv_attention_gate.weight", "stroke_attention.metric"):
        assert not torch.equal(before.state_dict()[name], after.state_dict()[name]), name
    pipe = MCDiffPipeline.from_pretrained(tmp_path / "run/pipeline")
    assert pipe.image_encoder is not None and pipe.flow_completion.config.feature_channels == 16


def test_features_of_the_start_frame_are_carried_to_the_step_with_the_loss(data, start_with_features):
    training = training_without_noise(data, start_with_features)
    batch = first_batch(training)
    end = roll_out(training, batch)
    assert end.accumulated_flow.any()
    given = []
    training.pipe.flow_completion.register_forward_pre_hook(
        lambda _, arguments, named: given.append(named), with_kwargs=True
    )
    torch.manual_seed(0)
    training.compute_loss(training.model, batch)
    expected = carry_features(batch["start_features"], end.accumulated_flow)
    torch.testing.assert_close(given[-1]["features"], expected)
    assert given[-1]["regions"].shape[:2] == (1, NUM_REGIONS) and given[0].get("regions") is None


def test_samples_without_features_are_trained_too(data, start_with_features):
    changes = {"feature_drop_probability": 1, "validation_data_dir": None}
    args = train_end_to_end.parse_args(command_line(data, start_with_features, "unused", **changes))
    training = EndToEndTraining(args, make_accelerator(args))
    assert not training.draws[0]["start_features"].any()


def test_impossible_share_of_features_is_refused(data, start):
    with pytest.raises(ValueError, match="--feature_drop_probability is 2.0; it must be a number from 0 to 1"):
        train_end_to_end.parse_args(command_line(data, start, "unused", feature_drop_probability=2))


def test_rollouts_longer_than_the_clips_are_refused(data, start, tmp_path):
    with pytest.raises(ValueError, match="4 steps need clips of 5 frames or more, but the longest has 4"):
        train_end_to_end.main(command_line(data, start, tmp_path, rollout_steps=4))


def test_model_without_flow_completion_is_refused(data, tmp_path):
    pipe = make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="has no flow completion, so there is nothing to train end to end"):
        train_end_to_end.main(command_line(data, tmp_path / "model", tmp_path / "run"))
