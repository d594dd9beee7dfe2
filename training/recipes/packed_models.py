"""Weights of models in 8 bits, to carry them to another machine."""

import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file


WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")


def quantize(weights: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Weights as int8 with one scale for each row of a matrix; vectors in half precision.

    A value is `round(w / s)` with `s = max |w| / 127` over its row, so its error is at most `s / 2`.
    """
    arrays = {}
    for name, tensor in weights.items():
        values = tensor.float()
        if values.ndim < 2:
            arrays[name] = values.half().numpy()
            continue
        rows = values.flatten(1)
        scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        arrays[name] = torch.round(rows / scale).to(torch.int8).reshape(values.shape).numpy()
        arrays[f"{name}/scale"] = scale[:, 0].numpy()
    return arrays


def dequantize(path: Path) -> dict[str, torch.Tensor]:
    """The float32 weights in a file of `quantize`."""
    weights = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            if name.endswith("/scale"):
                continue
            values = torch.from_numpy(file[name]).float()
            if f"{name}/scale" in file.files:
                scale = torch.from_numpy(file[f"{name}/scale"])
                values = values * scale.reshape(-1, *[1] * (values.ndim - 1))
            weights[name] = values
    return weights


def pack_models(folder: Path, output: Path, half: list[str], left_out: tuple[str, ...] = ()) -> None:
    """Copies the folder of a model or of a pipeline, with its weights in 8 bits or, if named in `half`, in 16.

    Components in `left_out` stay behind.
    """
    for file in sorted(folder.rglob("*")):
        target = output / file.relative_to(folder)
        if file.relative_to(folder).parts[0] in left_out:
            continue
        if not file.is_file() or (file.suffix == ".safetensors" and file.name not in WEIGHTS):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.name not in WEIGHTS:
            shutil.copyfile(file, target)
        elif file.parent.name in half:
            save_file({name: one.half() for name, one in load_file(file).items()}, target, {"format": "pt"})
        else:
            np.savez_compressed(target.with_suffix(".npz"), **quantize(load_file(file)))


def unpack_models(folder: Path, output: Path) -> None:
    """The folder that `pack_models` packed, with weights that diffusers and transformers load."""
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        target = output / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".npz":
            save_file(dequantize(file), target.with_suffix(".safetensors"), {"format": "pt"})
        else:
            shutil.copyfile(file, target)
