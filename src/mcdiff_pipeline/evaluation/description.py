# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What an evaluation is about: model, data and settings. `evaluation.json` holds it, so that a run can resume."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .records import write_json
from .settings import EvaluationSettings


# Names do not affect the identity of an evaluation: the fingerprints do.
NAMES = ("model", "data")


@dataclass(frozen=True)
class EvaluationDescription:
    """What an evaluation is about.

    Args:
        model, data (`str`): names of the model and the data in reports.
        model_fingerprint, data_fingerprint (`str`): digests of the model and the data.
        others (`dict[str, str]`): digests of the other models by the names of their methods.
        frame_size (`tuple[int, int]`): (height, width) of the clips in pixels.
        settings (`EvaluationSettings`): the settings, with a number for the denoising steps.
        pose_model (`dict[str, Any]`, *optional*): `PersonDetector.description`; None if keypoints are not detected.
        absent (`tuple[str, ...]`): names of the metrics that are not measured, sorted.
    """

    model: str
    model_fingerprint: str
    others: dict[str, str]
    data: str
    frame_size: tuple[int, int]
    data_fingerprint: str
    settings: EvaluationSettings
    pose_model: dict[str, Any] | None
    absent: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The content of `evaluation.json`, which is also a part of `metrics.json`."""
        return {
            "model": self.model,
            "model_fingerprint": self.model_fingerprint,
            "others": self.others,
            "data": self.data,
            "frame_size": list(self.frame_size),
            "data_fingerprint": self.data_fingerprint,
            "settings": dataclasses.asdict(self.settings) | {"strokes": list(self.settings.strokes)},
            "pose_model": self.pose_model,
            "absent": list(self.absent),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Reads the description from the content of `metrics.json`."""
        height, width = content["frame_size"]
        return cls(
            model=content["model"],
            model_fingerprint=content["model_fingerprint"],
            others=content["others"],
            data=content["data"],
            frame_size=(height, width),
            data_fingerprint=content["data_fingerprint"],
            settings=EvaluationSettings(**content["settings"]),
            pose_model=content["pose_model"],
            absent=tuple(sorted(content["absent"])),
        )

    def start_or_resume(self, output_dir: Path) -> None:
        """Writes `evaluation.json` to a folder, and makes the folders of the records.

        Raises:
            ValueError: if the folder holds another evaluation.
        """
        path = output_dir / "evaluation.json"
        if path.is_file():
            changed = _differences(json.loads(path.read_text()), self.to_json())
            if changed:
                raise ValueError(
                    f"'{output_dir}' holds an evaluation with other {', '.join(changed)}; name another folder, or "
                    "delete this one."
                )
        for folder in ("clips", "drift", "samples"):
            output_dir.joinpath(folder).mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_json())


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The settings and other keys in which two descriptions differ, apart from names."""
    old, new = before["settings"], now["settings"]
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    keys = [key for key in {**now, **before} if key not in ("settings", *NAMES)]
    return changed + [key for key in keys if before.get(key) != now.get(key)]
