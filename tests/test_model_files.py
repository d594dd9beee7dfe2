# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Models of strangers: whichever way one is opened, no code of it runs, and one sentence says what is wrong."""

import json
import pickle
import shutil
import sys
import types

import pytest
import torch
from diffusers import ModelMixin
from support.tiny_models import make_unet

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.hub import export_model


class Harm:
    """Makes the file `harm` in the working folder when it is unpickled."""

    def __reduce__(self):
        return open, ("harm", "w")


HARMFUL_MODULE = b"open('harm', 'w')\nfrom diffusers import UNet2DConditionModel as Model, DiffusionPipeline as Pipe\n"


@pytest.fixture
def model(tiny_model_dir, monkeypatch, tmp_path):
    """Folder of a model in an empty working folder, in which nothing harmful has run at the end of the test."""
    monkeypatch.chdir(tmp_path)
    yield tiny_model_dir
    assert not (tmp_path / "harm").exists()


@pytest.fixture(params=["python", "generate", "export"])
def opening(request, mcdiff, picture):
    """Opens a model in one of the ways that there are, and returns what is said against it."""

    def opening(model) -> str:
        if request.param == "generate":
            picture.save("picture.png")
            arguments = ("--model", model, "--hold", "1,1", "--output", "video.mp4")
            code, out, err = mcdiff("generate", "picture.png", *arguments)
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


def test_a_harmful_pickle_does_harm(tmp_path, monkeypatch):
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
def test_asking_for_pickles_is_refused(model, name):
    load = (FlowCompletionUNet if name else MCDiffPipeline).from_pretrained
    with pytest.raises(ValueError, match="only safetensors are read"):
        load(model / name, use_safetensors=False)


def test_pickle_beside_safetensors_is_not_read(model):
    torch.save({"conv_in.weight": Harm()}, model / "unet" / "diffusion_pytorch_model.bin")
    assert MCDiffPipeline.from_pretrained(model).unet is not None


def test_component_beside_the_index_is_looked_at_too(model, opening):
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
        ("safetensors.fp16.index.json", "pickled.bin"),  # as diffusers names a variant
        ("safetensors.index.fp16.json", "pickled.bin"),  # as transformers does
    ],
)
def test_shard_that_is_no_safetensors_file_of_its_folder_is_refused(model, opening, index, shard):
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
        ("unet/config.json", b"[" * 2**19, "is no JSON"),
        ("unet/config.json", b"[]", "holds a list"),
        ("scheduler/scheduler_config.json", b'{"a": "' + b"x" * 2**20 + b'"}', "bytes"),
        ("unet/config.json", b'{"block_out_channels": [8, 1000000000000]}', "says block_out_channels = 1000000000000"),
    ],
)
def test_huge_or_broken_configuration_is_refused_before_it_is_used(model, opening, name, content, message):
    model.joinpath(name).write_bytes(content)
    assert message in opening(model)


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json"])
def test_configuration_of_a_hundred_megabytes_is_not_even_read(model, opening, name):
    with model.joinpath(name).open("r+b") as file:
        file.truncate(100 * 2**20)
    assert "has 104857600 bytes" in opening(model)


@pytest.mark.parametrize("library", ["harm_module", "os", "mcdiff_pipeline.cli", ["os"]])
def test_class_from_anywhere_else_is_refused(model, opening, monkeypatch, library):
    monkeypatch.syspath_prepend(model.parent)
    for folder in (model.parent, model, model / "unet"):
        folder.joinpath("harm_module.py").write_bytes(HARMFUL_MODULE)
    change_json(model / "model_index.json", unet=[library, "Model"])
    assert f"takes the class of unet from {library!r}" in opening(model)
    assert "harm_module" not in sys.modules


def test_component_of_ones_own_class_is_passed(model, monkeypatch):
    unet = make_unet(19)
    # diffusers looks for the base class in the same module
    module = types.SimpleNamespace(MyUNet=type(unet), ModelMixin=ModelMixin)
    monkeypatch.setitem(sys.modules, "my_models", module)
    change_json(model / "model_index.json", unet=["my_models", "MyUNet"])
    assert MCDiffPipeline.from_pretrained(model, unet=unet).unet is unet


def test_pipeline_that_brings_its_class_is_not_run(model):
    model.joinpath("harm_module.py").write_bytes(HARMFUL_MODULE)
    change_json(model / "model_index.json", _class_name=["harm_module", "Pipe"])
    with pytest.raises(ValueError, match="trust_remote_code"):
        MCDiffPipeline.from_pretrained(model)
