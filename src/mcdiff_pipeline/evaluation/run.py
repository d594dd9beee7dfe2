# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Evaluates a model on the clips of a dataset, together with its baselines.

The results of each clip are written as soon as it is finished, so an interrupted run resumes and gives the same
results. The output folder holds:

```
evaluation.json     what is evaluated: model, data, settings
clips/KEY.json      all measurements of one clip; KEY.npz has the features for Fréchet distances
drift/KEY.json      the measurements of its long rollout
samples/KEY.*       images and videos of the first clips
wholes/NAME.json    the measurements of one photograph; wholes.json says what they belong to
metrics.json, report.md, strokes.csv, *.png     the results over all clips
```
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..annotation.people import PersonDetector
from ..atomic_files import atomic_path
from ..dataset import Clip, ClipDataset
from ..folder_lock import folder_lock
from ..hub.fingerprint import model_fingerprint
from ..pipeline_mcdiff import MCDiffPipeline
from ..progress import progress_bar
from .aggregation import score_strokes, summarize
from .description import EvaluationDescription
from .evaluator import ClipEvaluator
from .metrics.st_lpips import SMALLEST
from .records import ClipRecord, write_drift
from .report import write_report
from .settings import EvaluationSettings
from .whole_photographs import WholePhotographs
from .wholes import measure_wholes


logger = logging.getLogger(__name__)


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
    wholes: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Evaluates a model, and writes `metrics.json`, `report.md`, plots, sample images and videos to a folder.

    Args:
        pipe (`MCDiffPipeline`): the model, on its device.
        dataset (`ClipDataset`): clips with true flow, all of one size that the model can work at.
        output_dir (`str` or `os.PathLike`): the output folder; created if it does not exist. If it holds an unfinished
            run with the same model, data and settings, that run resumes.
        settings (`EvaluationSettings`): what is measured.
        model_name, data_name (`str`): names in the report.
        others (`dict[str, MCDiffPipeline]`, *optional*): other models to compare with, by the names of their methods.
        pose_model (`str` or `os.PathLike`, *optional*): MediaPipe's pose model, which detects keypoints in the output;
            None leaves this metric out.
        i3d (`str` or `os.PathLike`, *optional*): the network that FVD needs; see `docs/evaluation.md`.
        batch_size (`int`, defaults to 8): clips at a time. It changes the results by rounding only.
        wholes (`str` or `os.PathLike`, *optional*): folder of photographs on which the flow of whole things is
            measured, see `evaluation.wholes`; None leaves this out.

    Returns:
        `dict`: the content of `metrics.json`; `docs/evaluation.md` describes it.

    Raises:
        ValueError: if no clip can be used, clips differ in size, `wholes` has no photographs, the folder holds
            another evaluation, or another process evaluates into it. The error is raised before the first video is
            made.

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
    photographs = None if wholes is None else WholePhotographs(wholes)
    if settings.num_inference_steps is None:
        steps = pipe.config.default_num_inference_steps
        settings = dataclasses.replace(settings, num_inference_steps=steps)
    indices, left_out = usable_clips(dataset, pipe, settings)
    height, width = dataset.read(indices[0], frames=(0,)).frames.shape[1:3]
    clips = {dataset.keys[index]: index for index in indices}
    drifting = dict(list(clips.items())[: settings.drift_clips])
    with (
        folder_lock(output_dir, used_by="evaluation"),
        contextlib.nullcontext() if pose_model is None else PersonDetector(pose_model) as detector,
    ):
        evaluator = ClipEvaluator(pipe, settings, others, detector, i3d)
        absent = dict(evaluator.networks.absent)
        if detector is None:
            absent["Keypoints detected on the output"] = "no pose model was given."
        description = EvaluationDescription(
            model=model_name,
            model_fingerprint=model_fingerprint(pipe),
            others={name: model_fingerprint(other) for name, other in (others or {}).items()},
            data=data_name,
            frame_size=(height, width),
            data_fingerprint=_data_fingerprint(dataset),
            settings=settings,
            pose_model=None if detector is None else detector.description,
            absent=tuple(sorted(absent)),
        )
        description.start_or_resume(output_dir)
        _evaluate_clips(evaluator, dataset, clips, output_dir, batch_size)
        _evaluate_drift(evaluator, dataset, drifting, output_dir)
        records = {key: ClipRecord.read(output_dir / f"clips/{key}.json") for key in clips}
        summary = summarize(output_dir, description, records, list(drifting), left_out, absent)
        if photographs is not None:
            measured = measure_wholes(pipe, photographs, output_dir, others=others, seed=settings.seed)
            summary = dataclasses.replace(summary, wholes=measured)
        write_report(output_dir, summary, score_strokes(records, settings.strokes[-1]))
        return summary.to_json()


def usable_clips(
    dataset: ClipDataset, pipe: MCDiffPipeline, settings: EvaluationSettings
) -> tuple[list[int], dict[str, int]]:
    """The clips that can be evaluated, and how many others cannot, by reason. Damaged clips are named by a warning.

    Returns:
        `tuple[list[int], dict[str, int]]`: indices in the dataset, at most `num_clips` of them, and the number of
        clips that were left out by reason.

    Raises:
        ValueError: if there are none, they differ in size, or the model or a metric cannot work at their size.
    """
    indices: list[int] = []
    reasons: dict[str, int] = {}
    sizes: set[tuple[int, int]] = set()
    longest = 0
    too_short, no_keypoint = f"fewer than {settings.num_frames} frames", "no keypoint in the first frame"
    damaged = "damage"
    for index in range(len(dataset)):
        if len(indices) == settings.num_clips:
            break
        longest = max(longest, dataset.num_frames(index))
        if dataset.num_frames(index) < settings.num_frames:
            reasons[too_short] = reasons.get(too_short, 0) + 1
            continue
        try:
            first = read_clip(dataset, index, settings.num_frames)
        except ValueError as error:
            logger.warning(f"Left out: {error}")
            reasons[damaged] = reasons.get(damaged, 0) + 1
            continue
        if not settings.anywhere and not (first.keypoints[0, ..., 2] == 2).any():
            reasons[no_keypoint] = reasons.get(no_keypoint, 0) + 1
            continue
        height, width = first.frames.shape[1:3]
        sizes.add((height, width))
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
    _check_size(*sizes.pop(), pipe)
    return indices, reasons


def _check_size(height: int, width: int, pipe: MCDiffPipeline) -> None:
    """Raises `ValueError` where ST-LPIPS or the model cannot work at this size."""
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"The clips have frames of {height} x {width} pixels, but ST-LPIPS needs {SMALLEST} x {SMALLEST} or "
            "more; render or annotate them at a higher resolution."
        )
    if height % pipe.size_multiple or width % pipe.size_multiple:
        raise ValueError(
            f"The clips have frames of {height} x {width} pixels, but this model needs multiples of "
            f"{pipe.size_multiple}; render or annotate them at another resolution."
        )


def read_clip(dataset: ClipDataset, index: int, num_frames: int) -> Clip:
    """The first frames of a clip."""
    return dataset.read(index, frames=range(num_frames))


def _data_fingerprint(dataset: ClipDataset) -> str:
    """A digest of the names and sizes of the shards."""
    shards = "\n".join(f"{shard.name} {shard.stat().st_size}" for shard in dataset.shards)
    return hashlib.sha256(shards.encode()).hexdigest()[:16]


def _evaluate_clips(
    evaluator: ClipEvaluator, dataset: ClipDataset, clips: dict[str, int], output_dir: Path, batch_size: int
) -> None:
    """Evaluates the clips without a record, and writes their records, features and samples.

    The size of a batch changes the last digits of its results. So a batch of which a record is missing is evaluated
    again as a whole, and a run that was stopped gives the same bytes as one that was not.

    Args:
        evaluator (`ClipEvaluator`): makes and measures the videos.
        dataset (`ClipDataset`): the clips.
        clips (`dict[str, int]`): the index of each clip in the dataset by its key.
        output_dir (`Path`): folder of the evaluation.
        batch_size (`int`): clips at a time.
    """
    num_frames, sampled = evaluator.settings.num_frames, list(clips)[: evaluator.settings.num_samples]
    keys = list(clips)
    batches = [keys[first : first + batch_size] for first in range(0, len(keys), batch_size)]
    remaining = [of_batch for of_batch in batches if not all(_is_finished(output_dir, key) for key in of_batch)]
    with progress_bar("clips", len(keys), initial=len(keys) - sum(map(len, remaining))) as bar:
        for of_batch in remaining:
            indices = [clips[key] for key in of_batch]
            batch = [read_clip(dataset, index, num_frames) for index in indices]
            for clip, result in zip(batch, evaluator.evaluate(batch, indices)):
                if clip.key in sampled:
                    result.sample.save(output_dir / "samples", clip.key)
                with atomic_path(output_dir / f"clips/{clip.key}.npz") as path:
                    np.savez(path, **result.features)  # type: ignore[arg-type]
                result.record.write(output_dir / f"clips/{clip.key}.json")  # last: a clip with a record is finished
                bar.update()


def _is_finished(output_dir: Path, key: str) -> bool:
    return (output_dir / f"clips/{key}.json").is_file()


def _evaluate_drift(evaluator: ClipEvaluator, dataset: ClipDataset, clips: dict[str, int], output_dir: Path) -> None:
    """Makes the long rollouts without a record, and writes their records."""
    paths = {key: output_dir / f"drift/{key}.json" for key in clips}
    remaining = [key for key, path in paths.items() if not path.is_file()]
    with progress_bar("long rollouts", len(clips), initial=len(clips) - len(remaining)) as bar:
        for key in remaining:
            clip = read_clip(dataset, clips[key], evaluator.settings.num_frames)
            write_drift(paths[key], evaluator.drift(clip, clips[key]))
            bar.update()
