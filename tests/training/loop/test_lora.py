"""A LoRA of G: trained by the script, loaded by the pipeline."""

import json
import shutil

import pytest
import torch
import train_future_frame
from diffusers import AutoencoderDC, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file
from support.tiny_models import FULL_CONDITIONING, make_pipeline, make_unet
from support.training_runs import arguments, logged
from test_pipeline_text import make_text_encoder, make_tokenizer

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.pipeline_mcdiff import conditioning_channels


WEIGHTS = "pytorch_lora_weights.safetensors"


def command_line(data, start, output_dir, **changes) -> list[str]:
    settings = {"pretrained_model_name_or_path": start, "lora_rank": 2, "lora_alpha": 6, "learning_rate": 0.05}
    settings |= {"start_frame_reference": None, "model_config": None}
    return arguments(data, "train_future_frame", output_dir, **(settings | changes))


@pytest.fixture(scope="module")
def run(data, start, tmp_path_factory):
    """Output folder of four steps, and the model in memory that they have trained."""
    output_dir, seen = tmp_path_factory.mktemp("lora"), {}
    with pytest.MonkeyPatch.context() as patch:
        train = train_future_frame.train
        patch.setattr(train_future_frame, "train", lambda **given: seen.update(given) or train(**given))
        assert train_future_frame.main(command_line(data, start, output_dir)) == 0
    return output_dir, seen["model"].eval()


@pytest.fixture
def pipe(start) -> MCDiffPipeline:
    pipe = MCDiffPipeline.from_pretrained(start)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def video(pipe: MCDiffPipeline) -> torch.Tensor:
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    return pipe(picture, [Stroke([(4, 4), (20, 20)])], num_frames=3, generator=generator, output_type="pt").frames


def answer(unet: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return unet(torch.randn(2, unet.config.in_channels, 8, 8, generator=generator), 7, None).sample


def test_the_pipeline_loads_what_was_trained_and_gives_it_up_again(run, pipe):
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


def test_a_lora_counts_alpha_over_rank_times_its_low_rank_product(run, start, pipe):
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


def test_loras_are_weighed_switched_off_and_kept_by_a_saved_pipeline(run, pipe, tmp_path):
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


def test_a_pickled_lora_is_not_read(run, pipe, tmp_path):
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


def test_a_checkpoint_holds_the_lora_and_its_average_and_the_average_is_the_result(run):
    folders = [run[0] / name for name in ("unet_lora", "checkpoint-4/unet_lora_ema", "checkpoint-4/unet_lora")]
    result, average, last = (load_file(folder / WEIGHTS) for folder in folders)
    assert all(torch.equal(result[name], average[name]) for name in result)
    assert not all(torch.equal(result[name], last[name]) for name in result)
    with safe_open(run[0] / "unet_lora" / WEIGHTS, "pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    assert (metadata["unet.r"], metadata["unet.lora_alpha"]) == (2, 6)


def test_resumed_run_has_the_losses_of_an_uninterrupted_one(data, start, run, tmp_path):
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
def test_in_half_precision_the_frozen_part_is_kept_in_it_and_the_lora_is_not(data, start, tmp_path):
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        train = train_future_frame.train
        patch.setattr(train_future_frame, "train", lambda **given: seen.update(given) or train(**given))
        changes = {"mixed_precision": "bf16", "gradient_checkpointing": True, "max_train_steps": 2}
        assert train_future_frame.main(command_line(data, start, tmp_path, **changes)) == 0
    dtypes = {parameter.dtype for parameter in seen["model"].parameters() if not parameter.requires_grad}
    assert dtypes == {torch.bfloat16}
    assert {tensor.dtype for tensor in load_file(tmp_path / "unet_lora" / WEIGHTS).values()} == {torch.float32}


def test_a_model_with_text_is_adapted_too(data, tmp_path):
    unet = make_unet(
        4 + conditioning_channels(FULL_CONDITIONING, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
    )
    parts = {"text_encoder": make_text_encoder(), "tokenizer": make_tokenizer()}
    pipe = make_pipeline(vae=AutoencoderDC.from_pretrained(data / "vae"), unet=unet, **parts)
    pipe.save_pretrained(tmp_path / "model")
    changes = {"max_train_steps": 1, "num_validation_samples": 2}
    assert train_future_frame.main(command_line(data, tmp_path / "model", tmp_path / "run", **changes)) == 0
    pipe.load_lora_weights(tmp_path / "run/unet_lora")
    assert any("attn2" in name for name in load_file(tmp_path / "run/unet_lora" / WEIGHTS))


def test_all_of_the_unet_of_a_pipeline_can_be_trained_on(data, start, tmp_path):
    changes = {"lora_rank": None, "lora_alpha": None, "max_train_steps": 1, "validation_data_dir": None}
    assert train_future_frame.main(command_line(data, start, tmp_path, **changes)) == 0
    written = json.loads((tmp_path / "training_arguments.json").read_text())
    assert tuple(written["conditioning"]) == FULL_CONDITIONING and written["flow_scale"] == 1
    before = UNet2DConditionModel.from_pretrained(start, subfolder="unet").state_dict()
    after = UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet").state_dict()
    assert before.keys() == after.keys() and not torch.equal(before["conv_in.weight"], after["conv_in.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained_model_name_or_path": None}, "--lora_rank adapts a trained model: name it"),
        ({"lora_rank": 0}, "--lora_rank is 0; it must be 1 or more"),
        ({"lora_rank": None}, "there is none without --lora_rank"),
        ({"flow_conditioning": "concat"}, "is a whole model, .* leave --flow_conditioning out"),
        ({"prediction_type": "epsilon", "flow_scale": 2}, "leave --flow_scale, --prediction_type out"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(data, start, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train_future_frame.main(command_line(data, start, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_unet_without_attention_is_refused(data, tmp_path):
    channels = 4 + conditioning_channels(FULL_CONDITIONING, 4)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    make_unet(channels, **blocks).save_pretrained(tmp_path / "unet")
    changes = {"start_frame_reference": True}
    with pytest.raises(ValueError, match="this unet has none; train all of it without --lora_rank"):
        train_future_frame.main(command_line(data, tmp_path / "unet", tmp_path / "run", **changes))


def test_a_unet_that_was_only_widened_is_refused(data, tmp_path):
    unet = make_unet(4 + conditioning_channels(FULL_CONDITIONING, 4))
    with torch.no_grad():
        unet.conv_in.weight[:, -1] = 0
    unet.save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match="does not read all of its conditions yet, as widen_unet.py leaves it"):
        train_future_frame.main(command_line(data, tmp_path / "unet", tmp_path / "run", start_frame_reference=True))


def test_without_peft_it_is_said_how_to_install_it(data, start, monkeypatch, tmp_path):
    monkeypatch.setattr("lora.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install peft"):
        train_future_frame.main(command_line(data, start, tmp_path / "run"))
