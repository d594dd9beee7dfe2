#!/usr/bin/env python
"""Carry a training to a machine without network, and the trained weights back.

    python training/recipes/bundle.py make data/bundle --photographs_dir data/photographs --masks_dir data/masks \\
        --motions_dir data/motions --stamps_dir data/stamps --image_encoder data/image_encoder \\
        --from_checkpoint checkpoints/mcdiff-small-128
    python training/recipes/bundle.py open data/bundle --output_dir runs/small-128/data     # small_128.py does this
    python training/recipes/bundle.py save runs/small-128 --output_dir result               # and this
    python training/recipes/bundle.py load result --output_dir runs/carried

A bundle holds photographs as small JPEG files, their masks, cut-outs, motions, the image encoder and a pipeline folder.
Matrices are stored in 8 bits with one scale for each row, and in half precision where that is not given up
(`--half NAME`). The photographs get the largest size at which everything fits in `--max_mib`. The saved weights are in
half precision, in files of at most 16 MiB.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file


# (Longer side in pixels, JPEG quality) of the photographs, from the best.
PHOTOGRAPH_SIZES = ((512, 84), (448, 84), (384, 82), (320, 80), (288, 76), (256, 74))
# Pixels along the longer side of masks and cut-outs.
MASK_SIDE, STAMP_SIDE = 256, 160
SPLITS = ("train", "validation")
SHARD_BYTES = 15 * 2**20
WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
# Folder of a run -> models in it, with their folders in a checkpoint and in the output folder.
RUNS = {"flow_completion": "flow_completion", "future_frame": "unet"}


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


def pack_models(folder: Path, output: Path, half: list[str]) -> None:
    """Copies the folder of a model or of a pipeline, with its weights in 8 bits or, if named in `half`, in 16."""
    for file in sorted(folder.rglob("*")):
        target = output / file.relative_to(folder)
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


def pack_photographs(photographs_dir: Path, output: Path, side: int, quality: int) -> None:
    for split in SPLITS:
        (output / split).mkdir(parents=True, exist_ok=True)
        for path in sorted((photographs_dir / split).glob("*.jpg")):
            image = Image.open(path).convert("RGB")
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            image.save(output / split / path.name, quality=quality, optimize=True)
    licenses = photographs_dir / "LICENCES.tsv"
    if licenses.exists():
        shutil.copyfile(licenses, output / licenses.name)


def pack_masks(masks_dir: Path, output: Path) -> None:
    for split in SPLITS:
        for path in sorted((masks_dir / split).glob("[!.]*.npz")):
            with np.load(path, allow_pickle=False) as file:
                masks, is_salient = file["masks"], file["is_salient"]
            scale = MASK_SIDE / max(1, *masks.shape[1:])
            if scale < 1 and len(masks):
                size = (max(1, round(masks.shape[2] * scale)), max(1, round(masks.shape[1] * scale)))
                masks = np.stack([np.asarray(Image.fromarray(mask).resize(size, Image.BOX)) for mask in masks])
                # 16 levels: outlines stay soft and compress well.
                masks = (np.round(masks / 17) * 17).astype(np.uint8)
            (output / split).mkdir(parents=True, exist_ok=True)
            np.savez_compressed(output / split / path.name, masks=masks, is_salient=is_salient)


def pack_stamps(stamps_dir: Path, output: Path, max_bytes: int) -> None:
    """Cut-outs as small PNG images, in an order that mixes all folders, until `max_bytes` are reached."""
    paths = sorted(stamps_dir.rglob("*.png"), key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
    taken = 0
    for path in paths:
        image = Image.open(path).convert("RGBA")
        image.thumbnail((STAMP_SIDE, STAMP_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.quantize(128, Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
        taken += buffer.tell()
        if taken > max_bytes:
            return
        target = output / path.relative_to(stamps_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(buffer.getvalue())


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def make(args: argparse.Namespace) -> None:
    """Writes a bundle.

    Raises:
        ValueError: if the folder is not empty, or the bundle does not fit at any size of the photographs.
    """
    output = args.folder
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty; name a new folder or empty it.")
    pack_models(args.image_encoder, output / "image_encoder", args.half)
    pack_models(args.from_checkpoint, output / "start", args.half)
    if args.flow_completion is not None:
        shutil.rmtree(output / "start/flow_completion")
        pack_models(args.flow_completion, output / "start/flow_completion", args.half)
    pack_masks(args.masks_dir, output / "masks")
    pack_stamps(args.stamps_dir, output / "stamps", int(args.stamps_mib * 2**20))
    (output / "motions").mkdir()
    for path in sorted(args.motions_dir.glob("humanoid3d_*.txt")):
        shutil.copyfile(path, output / "motions" / path.name)
    limit, others = args.max_mib * 2**20, size_of(output)
    for side, quality in PHOTOGRAPH_SIZES:
        pack_photographs(args.photographs_dir, output / "photographs", side, quality)
        # The manifest takes about 150 bytes a file.
        if others + size_of(output / "photographs") + 150 * sum(1 for _ in output.rglob("*")) <= limit:
            break
        shutil.rmtree(output / "photographs")
    else:
        raise ValueError(
            f"Without photographs the bundle has {others / 2**20:.1f} MiB, and with the smallest ones it does not fit "
            f"in --max_mib {args.max_mib:g}; allow more, or lower --stamps_mib."
        )
    files = {
        path.relative_to(output).as_posix(): {"bytes": path.stat().st_size, "sha256": digest(path)}
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }
    photographs = {"side": side, "quality": quality}
    write_json(output / "manifest.json", {"photographs": photographs, "files": files})
    for part in sorted(path for path in output.iterdir() if path.is_dir()):
        print(f"{part.name}: {size_of(part) / 2**20:.1f} MiB")
    print(f"{output}: {size_of(output) / 2**20:.1f} MiB, photographs of {side} pixels at quality {quality}")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(path: Path, content: dict) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(json.dumps(content, indent=0) + "\n")
    os.replace(unfinished, path)


def open_bundle(args: argparse.Namespace) -> None:
    """Checks a bundle and unpacks its models.

    Raises:
        ValueError: if a file is missing or differs from the manifest.
    """
    for name, expected in json.loads((args.folder / "manifest.json").read_text())["files"].items():
        path = args.folder / name
        if not path.is_file() or digest(path) != expected["sha256"]:
            raise ValueError(f"{path} is missing or damaged; carry the bundle again.")
    for name in ("start", "image_encoder"):
        unpack_models(args.folder / name, args.output_dir / name)


def newest_model(run: Path, model: str) -> Path | None:
    """The newest weights of a run: the final ones, or those of the last checkpoint, averaged if they are there."""
    if (run / model / "config.json").is_file():
        return run / model
    checkpoints = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for checkpoint in reversed(checkpoints):
        for name in (f"{model}_ema", model):
            if (checkpoint / name / "config.json").is_file():
                return checkpoint / name
    return None


def shards(weights: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Weights in parts of at most `SHARD_BYTES`, in half precision."""
    parts: list[dict[str, torch.Tensor]] = [{}]
    taken = 0
    for name, tensor in weights.items():
        tensor = tensor.half() if tensor.is_floating_point() else tensor
        size = tensor.numel() * tensor.element_size()
        if taken + size > SHARD_BYTES and parts[-1]:
            parts.append({})
            taken = 0
        parts[-1][name] = tensor.contiguous()
        taken += size
    return parts


def save_once(work_dir: Path, output: Path, known: dict[str, str]) -> None:
    """Saves the newest weights of all runs, unless `known` says that they are saved, and the ends of the logs."""
    output.mkdir(parents=True, exist_ok=True)
    result: dict = {"models": {}, "logs": {}}
    if (output / "result.json").is_file():
        result["models"] = json.loads((output / "result.json").read_text())["models"]
    for run, model in RUNS.items():
        folder = newest_model(work_dir / "runs" / run, model)
        arguments = work_dir / "runs" / run / "training_arguments.json"
        if folder is None or known.get(run) == str(folder):
            continue
        parts = shards(load_file(next(folder / name for name in WEIGHTS if (folder / name).is_file())))
        names = [f"{run}-{number}.safetensors" for number in range(len(parts))]
        for name, part in zip(names, parts):
            save_file(part, output / f".{name}", {"format": "pt"})
            os.replace(output / f".{name}", output / name)
        scheduler = work_dir / "runs" / run / "scheduler/scheduler_config.json"
        result["models"][run] = {
            "folder": folder.relative_to(work_dir).as_posix(),
            "config": json.loads((folder / "config.json").read_text()),
            "scheduler": json.loads(scheduler.read_text()) if scheduler.is_file() else None,
            "training_arguments": json.loads(arguments.read_text()),
            "files": {name: digest(output / name) for name in names},
        }
        known[run] = str(folder)
    for log in sorted((work_dir / "logs").glob("*.log")):
        result["logs"][log.stem] = log.read_text(errors="replace")[-20_000:]
    write_json(output / "result.json", result)


def save(args: argparse.Namespace) -> None:
    known: dict[str, str] = {}
    while True:
        try:
            save_once(args.folder, args.output_dir, known)
        except (OSError, StopIteration) as error:  # a checkpoint that was removed meanwhile
            if args.every_seconds is None:
                raise
            print(f"not saved this time: {error}", flush=True)
        if args.every_seconds is None:
            return
        time.sleep(args.every_seconds)


def load(args: argparse.Namespace) -> None:
    """The folders of the trained models, as the training scripts write them, from saved weights.

    Raises:
        ValueError: if a file is missing or damaged.
    """
    models = json.loads((args.folder / "result.json").read_text())["models"]
    for run, one in models.items():
        weights = {}
        for name, expected in one["files"].items():
            path = args.folder / name
            if not path.is_file() or digest(path) != expected:
                raise ValueError(f"{path} is missing or damaged; fetch the files of the run again.")
            with safe_open(path, "pt") as file:
                weights |= {key: file.get_tensor(key) for key in file.keys()}
        folder = args.output_dir / run / RUNS[run]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", one["config"])
        save_file(weights, folder / WEIGHTS[0], {"format": "pt"})
        write_json(args.output_dir / run / "training_arguments.json", one["training_arguments"])
        if one["scheduler"] is not None:
            (args.output_dir / run / "scheduler").mkdir(exist_ok=True)
            write_json(args.output_dir / run / "scheduler/scheduler_config.json", one["scheduler"])
        print(f"{run}: {folder}, from {one['folder']}")


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    makes = actions.add_parser("make", help="Write a bundle.")
    makes.add_argument("folder", type=Path)
    for name in ("photographs_dir", "masks_dir", "motions_dir", "stamps_dir", "image_encoder", "from_checkpoint"):
        makes.add_argument(f"--{name}", type=Path, required=True)
    makes.add_argument("--flow_completion", type=Path, help="Another F to start from than that of --from_checkpoint.")
    makes.add_argument("--half", nargs="*", default=["vae"], help="Folders of models that are stored in 16 bits.")
    makes.add_argument("--stamps_mib", type=float, default=2.0, help="Size of the cut-outs.")
    makes.add_argument("--max_mib", type=float, default=60.0, help="Size of the bundle.")
    opens = actions.add_parser("open", help="Check a bundle and unpack its models.")
    saves = actions.add_parser("save", help="Save the newest weights of the runs in a working folder.")
    saves.add_argument("--every_seconds", type=float, help="Go on, and look for newer weights at these times.")
    loads = actions.add_parser("load", help="Make the folders of saved weights again.")
    for one in (opens, saves, loads):
        one.add_argument("folder", type=Path)
        one.add_argument("--output_dir", type=Path, required=True)
    return parser.parse_args(arguments)


ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "make": make,
    "open": open_bundle,
    "save": save,
    "load": load,
}


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    try:
        ACTIONS[args.action](args)
    except (OSError, ValueError) as error:
        print(f"bundle.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
