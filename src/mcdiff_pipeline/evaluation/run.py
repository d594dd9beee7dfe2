# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Evaluating a model on the clips of a dataset, with its rivals in the same run.

Every clip that is finished is written to the output folder at once, so that a run that was interrupted goes on where
it stopped and ends with the figures that it would have had.

```
evaluation.json     what is evaluated: model, data, settings
clips/KEY.json      all that was measured on one clip; its features for the Fréchet distance are in KEY.npz
drift/KEY.json      the same of its long roll-out
samples/KEY.*       pictures and videos of the first clips
metrics.json, report.md, strokes.csv, *.png     the figures over all clips
```
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..annotation.people import PersonDetector
from ..atomic_files import atomic_path
from ..dataset import Clip, ClipDataset
from ..hub.fingerprint import model_fingerprint
from ..pipeline_mcdiff import MCDiffPipeline
from .evaluator import ClipEvaluator
from .metrics.st_lpips import SMALLEST
from .report import write_report
from .settings import EvaluationSettings


def evaluate(
    pipe: MCDiffPipeline,
    dataset: ClipDataset,
    output_dir: str | os.PathLike,
    settings: EvaluationSettings = EvaluationSettings(),
    *,
    model_name: str = "model",
    data_name: str = "data",
    others: dict[str, MCDiffPipeline] | None = None,
    pose_model: str | os.PathLike | None = None,
    i3d: str | os.PathLike | None = None,
    batch_size: int = 8,
) -> dict[str, Any]:
    """Evaluates a model, and writes `metrics.json`, `report.md`, plots, sheets and videos to a folder.

    Args:
        pipe (`MCDiffPipeline`): the model, on its device.
        dataset (`ClipDataset`): clips with true flow, all of one size that the model can work at.
        output_dir (`str` or `os.PathLike`): made if it is not there. What a run with the same model, data and settings
            has left there is gone on with.
        settings (`EvaluationSettings`): see there.
        model_name, data_name (`str`): what the report calls them.
        others (`dict[str, MCDiffPipeline]`, *optional*): further models to compare with, by the name of their row.
        pose_model (`str` or `os.PathLike`, *optional*): MediaPipe's pose model, to follow people's keypoints by;
            without one that metric is absent.
        i3d (`str` or `os.PathLike`, *optional*): the network that FVD needs; see `docs/evaluation.md`.
        batch_size (`int`, defaults to 8): clips at a time; figures depend on it by rounding alone.

    Returns:
        `dict`: what `metrics.json` holds; `docs/evaluation.md` describes it.

    Raises:
        ValueError: if no clip can be used, clips differ in size, or the folder holds another evaluation; all before
            the first video is made.

    Example:
        ```py
        >>> from mcdiff_pipeline import MCDiffPipeline
        >>> from mcdiff_pipeline.dataset import ClipDataset
        >>> from mcdiff_pipeline.evaluation import evaluate

        >>> pipe = MCDiffPipeline.from_pretrained("checkpoints/mcdiff-small-128")
        >>> metrics = evaluate(pipe, ClipDataset("data/people", "test"), "evaluation")
        ```
    """
    output_dir = Path(output_dir)
    if settings.num_inference_steps is None:
        steps = pipe.config.default_num_inference_steps
        settings = dataclasses.replace(settings, num_inference_steps=steps)
    indices, left_out = usable_clips(dataset, pipe, settings)
    keys = [dataset.keys[index] for index in indices]
    shards = "\n".join(f"{shard.name} {shard.stat().st_size}" for shard in dataset.shards)
    description = {
        "model": model_name,
        "model_fingerprint": model_fingerprint(pipe),
        "others": {name: model_fingerprint(other) for name, other in (others or {}).items()},
        "data": data_name,
        "frame_size": list(dataset.read(indices[0], frames=(0,)).frames.shape[1:3]),
        "data_fingerprint": hashlib.sha256(shards.encode()).hexdigest()[:16],
        "settings": dataclasses.asdict(settings) | {"strokes": list(settings.strokes)},
    }
    with contextlib.nullcontext() if pose_model is None else PersonDetector(pose_model) as detector:
        description["pose_model"] = None if detector is None else detector.description
        evaluator = ClipEvaluator(pipe, settings, others, detector, i3d)
        absent = dict(evaluator.networks.absent)
        if detector is None:
            absent["Keypoints detected on the output"] = "no pose model was given."
        description["absent"] = sorted(absent)
        _begin_or_go_on(output_dir, description)

        remaining = [n for n, key in enumerate(keys) if not (output_dir / f"clips/{key}.json").is_file()]
        with _progress("clips", len(keys), len(keys) - len(remaining)) as bar:
            for first in range(0, len(remaining), batch_size):
                numbers = remaining[first : first + batch_size]
                clips = [read_clip(dataset, indices[number], settings.num_frames) for number in numbers]
                results = evaluator.evaluate(clips, [indices[number] for number in numbers])
                for number, clip, result in zip(numbers, clips, results):
                    if number < settings.num_samples:
                        result.sample.save(output_dir / "samples", clip.key)
                    with atomic_path(output_dir / f"clips/{clip.key}.npz") as path:
                        np.savez(path, **result.features)
                    _write_json(output_dir / f"clips/{clip.key}.json", result.record)
                    bar.update()

        drifting = keys[: settings.drift_clips]
        remaining = [n for n, key in enumerate(drifting) if not (output_dir / f"drift/{key}.json").is_file()]
        with _progress("long roll-outs", len(drifting), len(drifting) - len(remaining)) as bar:
            for number in remaining:
                clip = read_clip(dataset, indices[number], settings.num_frames)
                _write_json(output_dir / f"drift/{clip.key}.json", evaluator.drift(clip, indices[number]))
                bar.update()
    return write_report(output_dir, description, keys, drifting, left_out, absent)


def usable_clips(
    dataset: ClipDataset, pipe: MCDiffPipeline, settings: EvaluationSettings
) -> tuple[list[int], dict[str, int]]:
    """The clips that can be evaluated, and why and how often others cannot.

    Returns:
        `tuple[list[int], dict[str, int]]`: numbers of clips in the dataset, the first `num_clips` of those that can be
        used, and the number of clips passed over by reason.

    Raises:
        ValueError: if there are none, they differ in size, or the model or a metric cannot work at their size.
    """
    indices, reasons, sizes, longest = [], {}, set(), 0
    too_short, no_keypoint = f"fewer than {settings.num_frames} frames", "no keypoint in the first frame"
    for index in range(len(dataset)):
        if len(indices) == settings.num_clips:
            break
        longest = max(longest, dataset.num_frames(index))
        if dataset.num_frames(index) < settings.num_frames:
            reasons[too_short] = reasons.get(too_short, 0) + 1
            continue
        first = dataset.read(index, frames=(0,))
        if not settings.anywhere and not (first.keypoints[0, ..., 2] == 2).any():
            reasons[no_keypoint] = reasons.get(no_keypoint, 0) + 1
            continue
        sizes.add(first.frames.shape[1:3])
        indices.append(index)
    if not indices and longest < settings.num_frames:
        raise ValueError(
            f"The longest of the {len(dataset)} clips has {longest} frames, but {settings.num_frames} are asked for; "
            f"ask for at most {longest}, or render longer clips."
        )
    if not indices:
        counted = ", ".join(f"{count} with {reason}" for reason, count in reasons.items())
        raise ValueError(
            f"No clip of {len(dataset)} can be used ({counted}): without keypoints, let handles be any moving pixels."
        )
    if len(sizes) > 1:
        raise ValueError(f"The clips have frames of {sorted(sizes)} pixels; evaluate clips of one size at a time.")
    height, width = sizes.pop()
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"The clips have frames of {height} x {width} pixels, but ST-LPIPS looks at {SMALLEST} x {SMALLEST} or "
            "more; render or annotate them at a higher resolution."
        )
    if height % pipe.size_multiple or width % pipe.size_multiple:
        raise ValueError(
            f"The clips have frames of {height} x {width} pixels, but this model needs multiples of "
            f"{pipe.size_multiple}; render or annotate them at another resolution."
        )
    return indices, reasons


def read_clip(dataset: ClipDataset, index: int, num_frames: int) -> Clip:
    """The first frames of a clip."""
    return dataset.read(index, frames=range(num_frames))


def _begin_or_go_on(output_dir: Path, description: dict[str, Any]) -> None:
    """Makes the folder, or sees to it that it holds the same evaluation."""
    path = output_dir / "evaluation.json"
    if path.is_file():
        before = json.loads(path.read_text())
        # What is called differently is the same all the same.
        for now in (before, described := json.loads(json.dumps(description))):
            now.pop("model"), now.pop("data")
        if before != described:
            changed = [
                name
                for name in {**before["settings"], **described["settings"]}
                if before["settings"].get(name) != described["settings"].get(name)
            ] + [name for name in described if name != "settings" and before.get(name) != described[name]]
            raise ValueError(
                f"'{output_dir}' holds an evaluation with other {', '.join(changed)}; name another folder, or delete "
                "this one."
            )
    for folder in ("clips", "drift", "samples"):
        output_dir.joinpath(folder).mkdir(parents=True, exist_ok=True)
    _write_json(path, description)


def _write_json(path: Path, content: Any) -> None:
    """Writes JSON proper, with null for what is not a number."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(_without_nan(content), allow_nan=False) + "\n")


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _progress(name: str, total: int, initial: int) -> tqdm:
    return tqdm(
        total=total, initial=initial, desc=name, disable=total == 0, mininterval=0.1 if sys.stderr.isatty() else 30
    )
