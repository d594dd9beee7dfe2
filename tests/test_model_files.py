# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Models from unknown sources: no code of them runs, however they are opened, and the error is one sentence."""

import json
import pickle
import random
import re
import shutil
import sys
import types

import pytest
import torch
from diffusers import ModelMixin
from safetensors.torch import load_file, save_file

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.hub import export_model
from mcdiff_pipeline.model_files import check_model_files
from support.mutations import mutated, mutated_config
from support.text_models import make_cross_attention_unet, make_text_encoder, make_tokenizer
from support.tiny_models import make_pipeline, make_unet


class Harm:
    """Creates the file `harm` in the working folder when it is unpickled."""

    def __reduce__(self):
        return open, ("harm", "w")


HARMFUL_MODULE = b"open('harm', 'w')\nfrom diffusers import UNet2DConditionModel as Model, DiffusionPipeline as Pipe\n"


@pytest.fixture
def model(tiny_model_dir, monkeypatch, tmp_path):
    """Folder of a model. The working folder is empty, and at the end of the test no harmful code has run."""
    monkeypatch.chdir(tmp_path)
    yield tiny_model_dir
    assert not (tmp_path / "harm").exists()


@pytest.fixture(params=["python", "generate", "export"])
def opening(request, mcdiff, image):
    """Opens a model in one of the possible ways, and returns the error message."""

    def opening(model) -> str:
        if request.param == "generate":
            image.save("image.png")
            arguments = ("--model", model, "--hold", "1,1", "--output", "video.mp4")
            code, out, err = mcdiff("generate", "image.png", *arguments)
            assert (code, out) == (2, "") and err.count("\n") == 1
            return err
        with pytest.raises(ValueError) as refusal:
            if request.param == "python":
                MCDiffPipeline.from_pretrained(model)
            else:
                export_model(model, "exported")
        return str(refusal.value)

    return opening


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_harmful_pickle_does_harm_if_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Harm()))
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["vae/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.bin"])
def test_pickled_weights_are_not_read(model, opening, name):
    (model / name).with_suffix(".safetensors").unlink()
    torch.save({"conv_in.weight": Harm()}, model / name)
    assert f"{model / name} is a pickle" in opening(model)


def test_flow_completion_alone_is_not_read_from_a_pickle(model, tiny_pipeline):
    folder = model / "flow_completion"
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(tiny_pipeline.flow_completion.state_dict(), folder / "diffusion_pytorch_model.bin")
    for arguments in ({}, {"use_safetensors": True}, {"use_safetensors": None}):
        with pytest.raises(OSError, match="safetensors"):
            FlowCompletionUNet.from_pretrained(folder, **arguments)


@pytest.mark.parametrize("name", ["", "flow_completion"])
def test_request_for_pickles_is_refused(model, name):
    load = (FlowCompletionUNet if name else MCDiffPipeline).from_pretrained
    with pytest.raises(ValueError, match="only safetensors are read"):
        load(model / name, use_safetensors=False)


def test_pickle_beside_safetensors_is_ignored(model):
    torch.save({"conv_in.weight": Harm()}, model / "unet" / "diffusion_pytorch_model.bin")
    assert MCDiffPipeline.from_pretrained(model).unet is not None


def test_component_beside_the_index_is_checked_too(model, opening):
    shutil.move(model / "unet" / "config.json", model)
    shutil.rmtree(model / "unet")
    torch.save({"conv_in.weight": Harm()}, model / "diffusion_pytorch_model.bin")
    assert "is a pickle" in opening(model)


@pytest.mark.parametrize(
    ("index", "shard"),
    [
        ("safetensors.index.json", "../../secret.safetensors"),
        ("safetensors.index.json", "/etc/passwd"),
        ("safetensors.index.json", "missing.safetensors"),
        ("safetensors.index.json", "pickled.bin"),
        ("safetensors.index.json", 3),
        ("safetensors.index.json", ["missing.safetensors"]),
        ("safetensors.fp16.index.json", "pickled.bin"),  # how diffusers names a variant
        ("safetensors.index.fp16.json", "pickled.bin"),  # how transformers does
    ],
)
def test_shard_that_is_not_a_safetensors_file_of_its_folder_is_refused(model, opening, index, shard):
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, model.parent / "secret.safetensors")
    torch.save({"conv_in.weight": Harm()}, model / "unet" / "pickled.bin")
    content = {"metadata": {"total_size": 1}, "weight_map": {"conv_in.weight": shard}}
    (model / "unet" / f"diffusion_pytorch_model.{index}").write_text(json.dumps(content))
    assert f"names the shard {shard!r}" in opening(model)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model_index.json", b" " * 2**21, "has 2097152 bytes"),
        ("unet/config.json", b"[" * 2**19, "is not JSON"),
        ("unet/config.json", b"[]", "holds a list"),
        ("scheduler/scheduler_config.json", b'{"a": "' + b"x" * 2**20 + b'"}', "bytes"),
    ],
)
def test_huge_or_broken_configuration_is_refused_before_it_is_used(model, opening, name, content, message):
    model.joinpath(name).write_bytes(content)
    assert message in opening(model)


@pytest.mark.parametrize(
    ("component", "changes"),
    [
        ("unet", {"layers_per_block": 10**6}),
        ("unet", {"num_class_embeds": 10**11}),
        ("unet", {"time_embedding_dim": 10**7}),
        ("unet", {"block_out_channels": [8, 10**12]}),
        ("vae", {"layers_per_block": 10**9}),
        ("flow_completion", {"layers_per_block": 10**9}),
    ],
)
def test_configuration_of_a_network_that_is_larger_than_its_weights_is_refused(model, component, changes):
    change_json(model / component / "config.json", **changes)
    with pytest.raises(ValueError, match=f"{component}/config.json describes a larger network than the weights"):
        MCDiffPipeline.from_pretrained(model)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vae/config.json", {"latent_channels": "x"}, "AutoencoderKL, probably because of latent_channels = 'x'"),
        ("unet/config.json", {"norm_num_groups": 0}, "UNet2DConditionModel"),
        ("unet/config.json", {"down_block_types": "abc"}, "probably because of down_block_types = 'abc'"),
        ("scheduler/scheduler_config.json", {"beta_end": "x"}, "probably because of beta_end = 'x'"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**11}, "num_train_timesteps = 100000000000"),
        ("model_index.json", {"unet": ["diffusers", "NoSuchModel"]}, "has no class 'NoSuchModel'"),
    ],
)
def test_configuration_that_cannot_be_built_is_refused_with_file_and_field(model, opening, name, changes, message):
    change_json(model / name, **changes)
    found = opening(model)
    assert message in found
    assert name in found or name == "model_index.json"


@pytest.mark.parametrize(
    ("component", "changes", "message"),
    [
        ("vae/config.json", {"scaling_factor": 0}, "scaling_factor = 0"),
        ("vae/config.json", {"scaling_factor": float("nan")}, "scaling_factor = nan"),
        ("vae/config.json", {"shift_factor": float("inf")}, "shift_factor = inf"),
    ],
)
def test_autoencoder_that_does_not_scale_its_latents_is_refused(model, component, changes, message):
    change_json(model / component, **changes)
    with pytest.raises(ValueError, match=message):
        MCDiffPipeline.from_pretrained(model)


@pytest.mark.parametrize(
    "name",
    ["model_index.json", "unet/config.json", "vae/config.json", "flow_completion/config.json"]
    + ["scheduler/scheduler_config.json"],
)
def test_mutated_configuration_is_read_or_refused_in_one_sentence(model, name):
    config = json.loads((model / name).read_text())
    generator = random.Random(0)
    refused = 0
    for _ in range(25):
        (model / name).write_text(json.dumps(mutated_config(config, generator)))
        try:
            check_model_files(model)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 2


@pytest.mark.parametrize("component", ["unet", "vae", "flow_completion"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: dict(list(weights.items())[1:]), "lacks"),
        (lambda weights: {f"x.{name}": tensor for name, tensor in weights.items()}, "lacks"),
        (lambda weights: {}, "lacks"),
        (
            lambda weights: weights | {"more.weight": torch.ones(2)},
            "holds more.weight, which the network does not have",
        ),
        (lambda weights: {name: torch.cat([tensor, tensor]) for name, tensor in weights.items()}, "in another shape"),
        (lambda weights: {name: tensor * torch.nan for name, tensor in weights.items()}, "are not finite in"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(model, component, change, message):
    path = model / component / "diffusion_pytorch_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message) as refusal:
        MCDiffPipeline.from_pretrained(model)
    assert component in str(refusal.value)


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "a/b/c", "..", "~/model"])
def test_folder_that_does_not_exist_is_named_instead_of_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"no folder '{re.escape(name)}'" if name != ".." else "holds no model_index"):
        MCDiffPipeline.from_pretrained(name)


def test_missing_weight_is_named(model):
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks conv_in.bias of the network"):
        MCDiffPipeline.from_pretrained(model)


def test_flow_completion_alone_is_refused_if_a_weight_is_missing(model):
    path = model / "flow_completion" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lack conv_in.bias"):
        FlowCompletionUNet.from_pretrained(model / "flow_completion")


def test_index_without_weights_is_refused(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    path = tmp_path / "sharded" / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    change_json(path, weight_map={})
    with pytest.raises(ValueError, match="index.json lacks conv_in"):
        MCDiffPipeline.from_pretrained(tmp_path / "sharded")


def test_text_encoder_whose_weights_do_not_fit_is_refused(tmp_path):
    pipe = make_pipeline(
        unet=make_cross_attention_unet(15), text_encoder=make_text_encoder(), tokenizer=make_tokenizer()
    )
    pipe.save_pretrained(tmp_path / "text")
    MCDiffPipeline.from_pretrained(tmp_path / "text")
    path = tmp_path / "text" / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="text_encoder lacks"):
        MCDiffPipeline.from_pretrained(tmp_path / "text")


def test_truncated_weights_are_refused(model, opening):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{path} cannot be read" in opening(model)


def test_lora_of_another_network_is_refused(tiny_pipeline):
    weights = {f"transformer.blocks.0.attn.to_q.lora_{part}.weight": torch.zeros(4, 4) for part in "AB"}
    with pytest.raises(ValueError, match="nothing of `unet` or `text_encoder`"):
        tiny_pipeline.load_lora_weights(weights)


def test_mutated_lora_is_read_or_refused_in_one_sentence(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({f"unet.conv_in.lora_{part}.weight": torch.zeros(4, 4) for part in "AB"}, path)
    content, generator, refusals = path.read_bytes(), random.Random(0), []
    for _ in range(100):
        path.write_bytes(mutated(content, generator))
        try:
            MCDiffPipeline.lora_state_dict(tmp_path, weight_name=path.name)
        except ValueError as refusal:
            refusals.append(str(refusal))
    assert len(refusals) > 50 and not any("\n" in refusal for refusal in refusals)
    assert any("The LoRA lora.safetensors cannot be read (" in refusal for refusal in refusals)


@pytest.mark.parametrize("dtype", ["float16", "torch.float16", {"default": "float16"}])
def test_dtype_may_be_given_by_its_name(model, dtype):
    assert MCDiffPipeline.from_pretrained(model, dtype=dtype).unet.dtype == torch.float16


@pytest.mark.parametrize("dtype", ["half precision", 16, "nn"])
def test_unknown_dtype_is_refused(model, dtype):
    with pytest.raises(ValueError, match="`dtype` is"):
        MCDiffPipeline.from_pretrained(model, dtype=dtype)


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json"])
def test_configuration_of_a_hundred_megabytes_is_not_read(model, opening, name):
    with model.joinpath(name).open("r+b") as file:
        file.truncate(100 * 2**20)
    assert "has 104857600 bytes" in opening(model)


@pytest.mark.parametrize("library", ["harm_module", "os", "mcdiff_pipeline.hub", ["os"]])
def test_class_from_another_library_is_refused(model, opening, monkeypatch, library):
    monkeypatch.syspath_prepend(model.parent)
    for folder in (model.parent, model, model / "unet"):
        folder.joinpath("harm_module.py").write_bytes(HARMFUL_MODULE)
    change_json(model / "model_index.json", unet=[library, "Model"])
    assert f"takes the class of unet from {library!r}" in opening(model)
    assert "harm_module" not in sys.modules


def test_component_of_another_class_can_be_passed(model, monkeypatch):
    unet = make_unet(15)
    # diffusers looks for the base class in the same module
    module = types.SimpleNamespace(MyUNet=type(unet), ModelMixin=ModelMixin)
    monkeypatch.setitem(sys.modules, "my_models", module)
    change_json(model / "model_index.json", unet=["my_models", "MyUNet"])
    assert MCDiffPipeline.from_pretrained(model, unet=unet).unet is unet


def test_class_that_a_model_brings_along_is_not_run(model):
    model.joinpath("harm_module.py").write_bytes(HARMFUL_MODULE)
    change_json(model / "model_index.json", _class_name=["harm_module", "Pipe"])
    with pytest.raises(ValueError, match="trust_remote_code"):
        MCDiffPipeline.from_pretrained(model)
