# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Measures whether a model moves a whole thing when strokes on it say so.

Only the flow of the first step is measured, so nothing is denoised. The measurements of each photograph are written to
`wholes/NAME.json` as soon as it is finished, so an interrupted run resumes. `wholes.json` says what they belong to.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import atomic_path
from ..folder_lock import folder_lock
from ..hub.fingerprint import model_fingerprint
from ..image_processor import ImageProcessor
from ..pipeline_mcdiff import MCDiffPipeline
from ..progress import progress_bar
from ..regions import Region
from ..rollout import RolloutState
from .records import COMPLETED_FLOW, write_json
from .summary import FORMAT, VERSION
from .whole_measures import RULES, measure_whole, share_inside
from .whole_motions import SETUPS, STEPS, AskedMotion
from .whole_photographs import WholePhotograph, WholePhotographs
from .whole_summary import WholeMeasurement, WholesSummary, summarize_wholes
from .whole_tables import wholes_section


# What a model is given in addition to strokes, by the suffix of the name of its method: for each region whether it is
# rigid.
REGIONS: dict[str, tuple[bool, ...]] = {"": (), ", region": (False,), ", rigid region": (True,)}


class WholeEvaluator:
    """Measures models and rules on one photograph at a time.

    Args:
        pipes (`dict[str, MCDiffPipeline]`): the models by the names of their methods, each with flow completion.
        sizes (`tuple[int, ...]`): working sizes: the geometric mean of height and width in pixels.
        seed (`int`): seed of the directions.
    """

    def __init__(self, pipes: dict[str, MCDiffPipeline], sizes: tuple[int, ...], seed: int) -> None:
        self.pipes, self.sizes, self.seed = pipes, sizes, seed

    def evaluate(self, photograph: WholePhotograph) -> list[WholeMeasurement]:
        """Measures all methods on all things of a photograph."""
        measurements: list[WholeMeasurement] = []
        for mask in photograph.masks:
            motions = [
                AskedMotion(photograph.name, mask, setup, direction, self.seed)
                for setup in SETUPS
                for direction in range(setup.directions)
            ]
            for size in self.sizes:
                for name, pipe in self.pipes.items():
                    for suffix, state in self._states(pipe, photograph, mask, size):
                        measurements += self._measure_model(name + suffix, pipe, state, motions, size)
                measurements += self._measure_rules(motions, size)
        return measurements

    def _states(
        self, pipe: MCDiffPipeline, photograph: WholePhotograph, mask: np.ndarray, size: int
    ) -> Iterator[tuple[str, RolloutState]]:
        """The start of a model: without regions, with the thing as a region, and with it as a rigid one."""
        (height, width), _ = _sizes(pipe, mask, size)
        for suffix, regions in REGIONS.items():
            given = [Region(mask, rigid=rigid) for rigid in regions]
            yield suffix, pipe.start(photograph.image, height, width, regions=given or None)

    def _measure_model(
        self, method: str, pipe: MCDiffPipeline, state: RolloutState, motions: list[AskedMotion], size: int
    ) -> Iterator[WholeMeasurement]:
        """The measurements of one model on one thing."""
        working, grid = _sizes(pipe, motions[0].mask, size)
        share = share_inside(motions[0].mask, grid)
        for asked in motions:
            flow = pipe.predict_flow(state, asked.strokes, num_frames=STEPS + 1)[0].float().cpu()
            yield WholeMeasurement(method, size, asked.setup, measure_whole(flow, asked.flow(working, grid), share))

    def _measure_rules(self, motions: list[AskedMotion], size: int) -> Iterator[WholeMeasurement]:
        """The measurements of the rules on one thing."""
        working, grid = _sizes(next(iter(self.pipes.values())), motions[0].mask, size)
        share = share_inside(motions[0].mask, grid)
        for method, rule in RULES.items():
            for asked in motions:
                values = measure_whole(rule(asked, working, share), asked.flow(working, grid), share)
                yield WholeMeasurement(method, size, asked.setup, values)


def _sizes(pipe: MCDiffPipeline, mask: np.ndarray, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The working (height, width) with about `size` ** 2 pixels at the aspect ratio of a mask `[H, W]`, and that of
    its latent grid."""
    processor = ImageProcessor(pipe.size_multiple, size, size)
    height, width = processor.working_size((mask.shape[0], mask.shape[1]), None, None)
    return (height, width), (height // pipe.vae_scale_factor, width // pipe.vae_scale_factor)


def measure_wholes(
    pipe: MCDiffPipeline,
    photographs: WholePhotographs,
    output_dir: str | os.PathLike,
    *,
    others: dict[str, MCDiffPipeline] | None = None,
    sizes: tuple[int, ...] | None = None,
    seed: int = 0,
) -> WholesSummary:
    """Measures the photographs that are not measured yet, and aggregates all.

    Args:
        pipe (`MCDiffPipeline`): the model, on its device.
        photographs (`WholePhotographs`): the photographs.
        output_dir (`str` or `os.PathLike`): folder of the evaluation; the measurements are in its folder `wholes`.
        others (`dict[str, MCDiffPipeline]`, *optional*): other models by the names of their methods. Those without
            flow completion are left out.
        sizes (`tuple[int, ...]`, *optional*): working sizes in pixels; None takes the default of the model and twice
            that.
        seed (`int`, defaults to 0): seed of the directions.

    Raises:
        ValueError: if the model has no flow completion, or the folder holds measurements of another model, of other
            photographs or with other settings.
    """
    if pipe.flow_completion is None:
        raise ValueError(
            "This model has no `flow_completion`, so it predicts no flow that could be measured on whole things; "
            "evaluate another model, or leave the photographs out."
        )
    if sizes is None:
        size = round(math.sqrt(pipe.config.default_height * pipe.config.default_width))
        sizes = (size, 2 * size)
    pipes = {COMPLETED_FLOW: pipe}
    pipes |= {name: other for name, other in (others or {}).items() if other.flow_completion is not None}
    identity = {
        "models": {name: model_fingerprint(model) for name, model in pipes.items()},
        "photographs": photographs.fingerprint,
        "sizes": list(sizes),
        "seed": seed,
    }
    folder = _start_or_resume(Path(output_dir), identity)
    evaluator = WholeEvaluator(pipes, sizes, seed)
    remaining = [name for name in photographs.names if not (folder / f"{name}.json").is_file()]
    total = len(photographs.names)
    with progress_bar("photographs", total, initial=total - len(remaining)) as bar:
        for name in remaining:
            measurements = evaluator.evaluate(photographs.read(name))
            write_json(folder / f"{name}.json", [measurement.to_json() for measurement in measurements])
            bar.update()
    measured = {
        name: [WholeMeasurement.from_json(entry) for entry in json.loads((folder / f"{name}.json").read_text())]
        for name in photographs.names
    }
    return summarize_wholes(measured, COMPLETED_FLOW, photographs.fingerprint, seed)


def _start_or_resume(output_dir: Path, identity: dict[str, Any]) -> Path:
    """Writes what is measured to `wholes.json`, and makes the folder of the measurements.

    Raises:
        ValueError: if the folder holds measurements of something else.
    """
    path = output_dir / "wholes.json"
    if path.is_file():
        before = json.loads(path.read_text())
        changed = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
        if changed:
            raise ValueError(
                f"'{output_dir}' holds measurements of whole things with other {', '.join(changed)}; name another "
                "folder, or delete this one."
            )
    folder = output_dir / "wholes"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)
    return folder


def evaluate_wholes(
    pipe: MCDiffPipeline,
    photographs: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    model_name: str = "model",
    others: dict[str, MCDiffPipeline] | None = None,
    sizes: tuple[int, ...] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures a model on whole things alone, and writes `metrics.json` and `report.md` to a folder.

    `evaluate` measures the same beside everything else.

    Args:
        pipe (`MCDiffPipeline`): the model, on its device.
        photographs (`str` or `os.PathLike`): folder of photographs, see `WholePhotographs`.
        output_dir (`str` or `os.PathLike`): the output folder; created if it does not exist. If it holds an unfinished
            run of the same, that run resumes.
        model_name (`str`): name in the report.
        others, sizes, seed: as in `measure_wholes`.

    Returns:
        `dict`: the content of `metrics.json`; `docs/evaluation.md` describes it.

    Raises:
        ValueError: as `WholePhotographs` and `measure_wholes` raise it, or if another process evaluates into the
            folder.

    Example:
        ```py
        >>> from mcdiff_pipeline import MCDiffPipeline
        >>> from mcdiff_pipeline.evaluation.wholes import evaluate_wholes

        >>> pipe = MCDiffPipeline.from_pretrained("checkpoints/mcdiff-small-128")
        >>> metrics = evaluate_wholes(pipe, "data/wholes", "evaluation")
        ```
    """
    output_dir = Path(output_dir)
    if (output_dir / "evaluation.json").is_file():
        raise ValueError(f"'{output_dir}' holds an evaluation on clips; name another folder, or add the clips again.")
    found = WholePhotographs(photographs)
    with folder_lock(output_dir, used_by="evaluation"):
        summary = measure_wholes(pipe, found, output_dir, others=others, sizes=sizes, seed=seed)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "model": model_name,
            "model_fingerprint": model_fingerprint(pipe),
            "others": {name: model_fingerprint(other) for name, other in (others or {}).items()},
            "wholes": summary.to_json(),
        }
        with atomic_path(output_dir / "metrics.json") as path:
            text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
            path.write_text(text + "\n", encoding="utf-8")
        with atomic_path(output_dir / "report.md") as path:
            lines = [f"# Evaluation of {model_name}", "", *wholes_section(summary)]
            path.write_text("\n".join(lines), encoding="utf-8")
        return content
