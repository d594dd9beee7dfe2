"""A LoRA of the unet: trained by the script, loaded by the pipeline."""

import json
import shutil

import pytest
import torch
import train_future_frame
from diffusers import AutoencoderDC, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.conditioning import FrameConditioner
from support.text_models import make_cross_attention_unet, make_text_encoder, make_tokenizer
from support.tiny_models import FULL_CONDITIONING, make_pipeline, make_unet
from support.training_runs import arguments, logged


WEIGHTS = "pytorch_lora_weights.safetensors"
IN_CHANNELS = FrameConditioner(FULL_CONDITIONING, latent_channels=4, vae_scale_factor=4).in_channels


def command_line(data, start, output_dir, **changes) -> list[str]:
    settings = {"pretrained_model_name_or_path": start, "lora_rank": 2, "lora_alpha": 6, "learning_rate": 0.05}
    settings |= {"start_picture_reference": None, "model_config": None}
    return arguments(data, "train_future_frame", output_dir, **(settings | changes))


def train(command_line: list[str]) -> UNet2DConditionModel:
    """Runs the script and returns the unet that it trained, with its LoRA."""
    made, make = [], train_future_frame.FutureFrameTraining
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_future_frame, "FutureFrameTraining", lambda *given: made.append(make(*given)) or made[-1])
        assert train_future_frame.main(command_line) == 0
    return made[0].model


@pytest.fixture(scope="module")
def run(data, start, tmp_path_factory):
    """Output folder of four steps, and the trained model in memory."""
    output_dir = tmp_path_factory.mktemp("lora")
    return output_dir, train(command_line(data, start, output_dir)).eval()


@pytest.fixture
def pipe(start) -> MCDiffPipeline:
    pipe = MCDiffPipeline.from_pretrained(start)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def video(pipe: MCDiffPipeline) -> torch.Tensor:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    return pipe(image, [Stroke([(4, 4), (20, 20)])], num_frames=3, generator=generator, output_type="pt").frames


def answer(unet: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return unet(torch.randn(2, unet.config.in_channels, 8, 8, generator=generator), 7, None).sample


def test_pipeline_loads_and_unloads_the_trained_lora(run, pipe):
    output_dir, trained = run
    base, plain = answer(pipe.unet), video(pipe)
    pipe.load_lora_weights(output_dir / "unet_lora")
    assert (answer(trained) - base).abs().max() > 0.01
    torch.testing.assert_close(answer(pipe.unet), answer(trained))
    adapted = video(pipe)
    assert (adapted - plain).abs().max() > 0.01
    pipe.fuse_lora()
    torch.testing.assert_close(video(pipe), adapted, atol=1e-3, rtol=0)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    torch.testing.assert_close(video(pipe), plain, atol=1e-3, rtol=0)


def test_lora_adds_alpha_over_rank_times_its_low_rank_product(run, start, pipe):
    weights = load_file(run[0] / "unet_lora" / WEIGHTS)
    layers = {name.rsplit(".lora_", 1)[0] for name in weights}
    assert {layer.split(".", 5)[-1] for layer in layers} == {"to_q", "to_k", "to_v", "to_out.0"}
    unet = UNet2DConditionModel.from_pretrained(start, subfolder="unet")
    for layer in layers:
        down, up = weights[f"{layer}.lora_A.weight"], weights[f"{layer}.lora_B.weight"]
        assert down.shape[0] == up.shape[1] == 2
        unet.get_submodule(layer.removeprefix("unet.")).weight.data += 6 / 2 * up @ down
    pipe.load_lora_weights(run[0] / "unet_lora")
    torch.testing.assert_close(answer(pipe.unet), answer(unet))


def test_loras_can_be_scaled_switched_off_and_fused_into_a_saved_pipeline(run, pipe, tmp_path):
    plain = answer(pipe.unet)
    pipe.load_lora_weights(run[0] / "unet_lora", adapter_name="mine")
    adapted = answer(pipe.unet)
    assert pipe.get_active_adapters() == ["mine"]
    pipe.set_adapters("mine", 0.0)
    torch.testing.assert_close(answer(pipe.unet), plain)
    pipe.set_adapters("mine", 1.0)
    pipe.disable_lora()
    torch.testing.assert_close(answer(pipe.unet), plain)
    pipe.enable_lora()
    torch.testing.assert_close(answer(pipe.unet), adapted)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.save_pretrained(tmp_path / "fused")
    fused = MCDiffPipeline.from_pretrained(tmp_path / "fused")
    torch.testing.assert_close(answer(fused.unet), adapted, atol=1e-4, rtol=0)


def test_pickled_lora_is_refused(run, pipe, tmp_path):
    torch.save(load_file(run[0] / "unet_lora" / WEIGHTS), tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises(OSError):
        pipe.load_lora_weights(tmp_path)
    for given in ({"weight_name": "pytorch_lora_weights.bin"}, {"use_safetensors": False}):
        with pytest.raises(ValueError, match="only safetensors are read"):
            pipe.load_lora_weights(tmp_path, **given)
    assert pipe.get_list_adapters() == {}


def test_only_the_lora_is_trained_and_written(run, start):
    output_dir, trained = run
    base = UNet2DConditionModel.from_pretrained(start, subfolder="unet").state_dict()
    found = {name.replace(".base_layer", ""): tensor for name, tensor in trained.state_dict().items()}
    assert all(torch.equal(found[name], base[name]) for name in base)
    assert not (output_dir / "unet").exists() and not (output_dir / "checkpoint-4/unet").exists()
    size = sum(tensor.numel() for tensor in load_file(output_dir / "unet_lora" / WEIGHTS).values())
    assert size < 0.1 * sum(tensor.numel() for tensor in base.values())


def test_checkpoint_has_the_lora_and_its_average_and_the_average_is_the_result(run):
    folders = [run[0] / name for name in ("unet_lora", "checkpoint-4/unet_lora_ema", "checkpoint-4/unet_lora")]
    result, average, last = (load_file(folder / WEIGHTS) for folder in folders)
    assert all(torch.equal(result[name], average[name]) for name in result)
    assert not all(torch.equal(result[name], last[name]) for name in result)
    with safe_open(run[0] / "unet_lora" / WEIGHTS, "pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    assert (metadata["unet.r"], metadata["unet.lora_alpha"]) == (2, 6)


def test_resumed_run_has_the_losses_of_an_uninterrupted_run(data, start, run, tmp_path):
    shutil.copytree(run[0] / "checkpoint-2", tmp_path / "checkpoint-2")
    changes = {"resume_from_checkpoint": "latest"}
    assert train_future_frame.main(command_line(data, start, tmp_path, **changes)) == 0
    expected, losses = logged(run[0], "loss"), logged(tmp_path, "loss")
    assert list(losses) == [3, 4]
    assert losses == pytest.approx({step: expected[step] for step in (3, 4)}, rel=1e-6)
    found, result = (load_file(folder / "unet_lora" / WEIGHTS) for folder in (tmp_path, run[0]))
    for name in result:
        torch.testing.assert_close(found[name], result[name])
    with pytest.raises(ValueError, match="give the --lora_rank and the model that it was started with"):
        train_future_frame.main(command_line(data, start, tmp_path, lora_rank=3, **changes))


@pytest.mark.usefixtures("another_precision")
def test_half_precision_is_used_for_frozen_weights_and_not_for_the_lora(data, start, tmp_path):
    changes = {"mixed_precision": "bf16", "gradient_checkpointing": True, "max_train_steps": 2}
    model = train(command_line(data, start, tmp_path, **changes))
    dtypes = {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad}
    assert dtypes == {torch.bfloat16}
    assert {tensor.dtype for tensor in load_file(tmp_path / "unet_lora" / WEIGHTS).values()} == {torch.float32}


def test_lora_adapts_attention_to_text(data, tmp_path):
    unet = make_cross_attention_unet(IN_CHANNELS)
    parts = {"text_encoder": make_text_encoder(), "tokenizer": make_tokenizer()}
    pipe = make_pipeline(vae=AutoencoderDC.from_pretrained(data / "vae"), unet=unet, **parts)
    pipe.save_pretrained(tmp_path / "model")
    changes = {"max_train_steps": 1, "num_validation_samples": 2}
    assert train_future_frame.main(command_line(data, tmp_path / "model", tmp_path / "run", **changes)) == 0
    pipe.load_lora_weights(tmp_path / "run/unet_lora")
    assert any("attn2" in name for name in load_file(tmp_path / "run/unet_lora" / WEIGHTS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained_model_name_or_path": None}, "--lora_rank adapts a trained model: name it"),
        ({"lora_rank": 0}, "--lora_rank is 0; it must be 1 or more"),
        ({"lora_rank": None}, "there is none without --lora_rank"),
        ({"flow_conditioning": "concat"}, "is a complete model, .* leave --flow_conditioning out"),
        ({"prediction_type": "epsilon", "flow_scale": 2}, "leave --flow_scale, --prediction_type out"),
    ],
)
def test_contradicting_arguments_are_refused(data, start, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train_future_frame.main(command_line(data, start, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_unet_without_attention_is_refused(data, tmp_path):
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    make_unet(IN_CHANNELS, **blocks).save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match="this unet has none; train the whole unet without --lora_rank"):
        train_future_frame.main(command_line(data, tmp_path / "unet", tmp_path / "run"))


def test_unet_that_was_only_widened_is_refused(data, tmp_path):
    unet = make_unet(IN_CHANNELS)
    with torch.no_grad():
        unet.conv_in.weight[:, -1] = 0
    unet.save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match="does not read all of its conditions yet: widen_unet.py leaves it so"):
        train_future_frame.main(command_line(data, tmp_path / "unet", tmp_path / "run"))


def test_missing_peft_is_reported_with_the_way_to_install_it(data, start, monkeypatch, tmp_path):
    monkeypatch.setattr("loop.lora.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install peft"):
        train_future_frame.main(command_line(data, start, tmp_path / "run"))
