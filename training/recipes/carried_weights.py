"""Trained weights in files of at most 16 MiB, to carry them back: saved while they are trained, and loaded again."""

import json
import shutil
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from packed_models import WEIGHTS
from stages import hash_of_files, write_whole


SHARD_BYTES = 15 * 2**20
# Folder of a run -> its model.
RUNS = {"light_autoencoder": "vae", "flow_completion": "flow_completion", "future_frame": "unet"}
# Characters of each log that are carried back.
LOG_END = 20_000


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
        # Written elsewhere first, so that a cut seldom hits the moment in which files of two times are in the folder.
        staged = work_dir / "saving"
        staged.mkdir(exist_ok=True)
        for name, part in zip(names, parts):
            save_file(part, staged / name, {"format": "pt"})
        for name in names:
            shutil.move(staged / name, output / name)
        scheduler = work_dir / "runs" / run / "scheduler/scheduler_config.json"
        result["models"][run] = {
            "folder": folder.relative_to(work_dir).as_posix(),
            "config": json.loads((folder / "config.json").read_text()),
            "scheduler": json.loads(scheduler.read_text()) if scheduler.is_file() else None,
            "training_arguments": json.loads(arguments.read_text()),
            "files": {name: hash_of_files(output / name) for name in names},
        }
        known[run] = str(folder)
    for log in sorted((work_dir / "logs").glob("*.log")):
        result["logs"][log.stem] = log.read_text(errors="replace")[-LOG_END:]
    write_whole(output / "result.json", result)


def save(work_dir: Path, output: Path, every_seconds: float | None = None) -> None:
    """Saves the newest weights once, or again and again until it is stopped."""
    known: dict[str, str] = {}
    while True:
        try:
            save_once(work_dir, output, known)
        except (OSError, StopIteration) as error:  # a checkpoint that was removed meanwhile
            if every_seconds is None:
                raise
            print(f"not saved this time: {error}", flush=True)
        if every_seconds is None:
            return
        time.sleep(every_seconds)


def load(result: Path, output: Path) -> None:
    """The folders of the trained models, as the training scripts write them, from saved weights.

    Raises:
        ValueError: if a file is missing or damaged.
    """
    models = json.loads((result / "result.json").read_text())["models"]
    for run, one in models.items():
        weights = {}
        for name, expected in one["files"].items():
            path = result / name
            if not path.is_file() or hash_of_files(path) != expected:
                raise ValueError(f"{path} is missing or damaged; fetch the files of the run again.")
            with safe_open(path, "pt") as file:
                weights |= {key: file.get_tensor(key) for key in file.keys()}
        folder = output / run / RUNS[run]
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "config.json", one["config"])
        save_file(weights, folder / WEIGHTS[0], {"format": "pt"})
        write_whole(output / run / "training_arguments.json", one["training_arguments"])
        if one["scheduler"] is not None:
            (output / run / "scheduler").mkdir(exist_ok=True)
            write_whole(output / run / "scheduler/scheduler_config.json", one["scheduler"])
        print(f"{run}: {folder}, from {one['folder']}")
