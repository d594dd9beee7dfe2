"""The checkpoints in a run's output folder: `checkpoint-STEP`, complete or absent."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from safetensors import SafetensorError

from mcdiff_pipeline.atomic_files import atomic_folder


PROGRESS = "progress.json"


@dataclass
class Progress:
    """How far a run is. Checkpoints hold it as `progress.json`.

    Args:
        step (`int`): optimizer steps.
        samples (`int`): samples drawn from the training set, over all processes.
        minutes (`float`): training time, over resumed runs.
    """

    step: int = 0
    samples: int = 0
    minutes: float = 0.0

    @classmethod
    def load(cls, checkpoint: str | Path) -> Self:
        return cls(**json.loads(Path(checkpoint, PROGRESS).read_text()))

    def save(self, checkpoint: str | Path) -> None:
        Path(checkpoint, PROGRESS).write_text(json.dumps(asdict(self)))


def find_checkpoints(output_dir: str | Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def checkpoint_folder(output_dir: str | Path, step: int) -> Path:
    return Path(output_dir, f"checkpoint-{step}")


def checkpoint_to_resume(output_dir: str | Path, name: str | None) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint` names; None to start from scratch.

    Raises:
        ValueError: if there is no such folder.
    """
    if name is None:
        return None
    if name == "latest":
        return next(reversed(find_checkpoints(output_dir)), None)
    checkpoint = Path(name) if Path(name).is_dir() else Path(output_dir, name)
    if not checkpoint.is_dir():
        raise ValueError(
            f'--resume_from_checkpoint {name!r} is not a folder; use "latest" or one of '
            f"{[path.name for path in find_checkpoints(output_dir)]}."
        )
    return checkpoint


def remove_unfinished_checkpoints(output_dir: str | Path) -> None:
    """Removes what a run left behind that was killed while it wrote a checkpoint."""
    for folder in Path(output_dir).glob(".checkpoint-*"):
        shutil.rmtree(folder)


def write_checkpoint(output_dir: str | Path, progress: Progress, save_state: Callable[[Path], None]) -> None:
    """Writes `checkpoint-STEP` atomically: `save_state(folder)` fills it, `progress.json` is added.

    Raises:
        OSError: if it cannot be written, for example to a full disk. The checkpoints before it are kept.
    """

    def write(unfinished: Path) -> None:
        save_state(unfinished)
        progress.save(unfinished)

    folder = checkpoint_folder(output_dir, progress.step)
    try:
        atomic_folder(folder, write)
    except (OSError, RuntimeError, SafetensorError) as error:  # each writer reports a full disk in its own way
        kept = [path.name for path in find_checkpoints(output_dir)[-1:]] or ["no earlier one"]
        free = shutil.disk_usage(output_dir).free / 1e6
        raise OSError(
            f"{folder.name} could not be written to {output_dir}, where {free:.0f} MB are free: {error}; {kept[0]} is "
            "kept, so make room and continue with --resume_from_checkpoint latest."
        ) from error


def remove_old_checkpoints(output_dir: str | Path, limit: int) -> None:
    """Keeps the newest `limit` checkpoints."""
    for folder in find_checkpoints(output_dir)[:-limit]:
        shutil.rmtree(folder)
