# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Models from unknown sources: no code of them runs, however they are opened, and the error is one sentence."""

import json
import pickle
import shutil
import sys
import types

import pytest
import torch
from diffusers import ModelMixin

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.hub import export_model
from support.tiny_models import make_unet


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
        ("unet/config.json", b'{"block_out_channels": [8, 1000000000000]}', "says block_out_channels = 1000000000000"),
        ("unet/config.json", b'{"hidden_size": 1000000000000}', "says hidden_size = 1000000000000"),
    ],
)
def test_huge_or_broken_configuration_is_refused_before_it_is_used(model, opening, name, content, message):
    model.joinpath(name).write_bytes(content)
    assert message in opening(model)


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
    unet = make_unet(19)
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
