# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The results on things that move as a whole, over all photographs, and their JSON form.

JSON calls a method `row`, as in the other results.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .confidence import Estimate, difference_of_ratios, ratio_of_sums
from .whole_measures import MEASURES
from .whole_motions import SETUPS, Setup


@dataclass(frozen=True)
class WholeMeasurement:
    """The measures of one method on one thing, asked to move in one direction.

    Args:
        method (`str`): name of the method.
        size (`int`): working size: the geometric mean of height and width in pixels.
        setup (`Setup`): the kind of motion, and the strokes.
        values (`dict[str, float]`): each of `MEASURES`; NaN where it could not be measured.
    """

    method: str
    size: int
    setup: Setup
    values: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        values = {name: None if math.isnan(value) else value for name, value in self.values.items()}
        return {"row": self.method, "size": self.size, **dataclasses.asdict(self.setup), **values}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        setup = Setup(content["motion"], content["strokes"], content["holds"])
        values = {name: math.nan if content[name] is None else content[name] for name in MEASURES}
        return cls(content["row"], content["size"], setup, values)


@dataclass(frozen=True)
class WholeResult:
    """Estimates over all photographs for one method, or for the difference of two.

    Args:
        method (`str`): name of the method.
        size (`int`): working size in pixels.
        setup (`Setup`): the kind of motion, and the strokes.
        estimates (`dict[str, Estimate | None]`): each of `MEASURES`, with intervals by bootstrap over photographs.
        minus (`str`, *optional*): the other method of a difference.
    """

    method: str
    size: int
    setup: Setup
    estimates: dict[str, Estimate | None]
    minus: str | None = None

    def to_json(self) -> dict[str, Any]:
        minus = {} if self.minus is None else {"minus": self.minus}
        estimates = {name: estimate and dataclasses.asdict(estimate) for name, estimate in self.estimates.items()}
        return {"row": self.method, **minus, "size": self.size, **dataclasses.asdict(self.setup), **estimates}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        setup = Setup(content["motion"], content["strokes"], content["holds"])
        estimates = {name: content[name] and Estimate(**content[name]) for name in MEASURES}
        return cls(content["row"], content["size"], setup, estimates, content.get("minus"))


@dataclass(frozen=True)
class WholesSummary:
    """The results on things that move as a whole.

    Args:
        fingerprint (`str`): digest of the photographs and masks.
        sizes (`tuple[int, ...]`): working sizes in pixels.
        seed (`int`): seed of the directions.
        photographs (`list[dict[str, Any]]`): for each photograph its `name`, and for each method, size and setup its
            measures, means over directions and things.
        results (`list[WholeResult]`): the means over all photographs.
        differences (`list[WholeResult]`): each method of a network minus the model without regions.
    """

    fingerprint: str
    sizes: tuple[int, ...]
    seed: int
    photographs: list[dict[str, Any]]
    results: list[WholeResult]
    differences: list[WholeResult]

    def to_json(self) -> dict[str, Any]:
        """The key `wholes` of `metrics.json`."""
        return {
            "fingerprint": self.fingerprint,
            "sizes": list(self.sizes),
            "seed": self.seed,
            "rows": [result.to_json() for result in self.results],
            "differences": [result.to_json() for result in self.differences],
            "photographs": self.photographs,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            content["fingerprint"],
            tuple(content["sizes"]),
            content["seed"],
            content["photographs"],
            [WholeResult.from_json(result) for result in content["rows"]],
            [WholeResult.from_json(result) for result in content["differences"]],
        )


def summarize_wholes(
    measurements: dict[str, list[WholeMeasurement]], reference: str, fingerprint: str, seed: int
) -> WholesSummary:
    """Aggregates the measurements of all photographs.

    Args:
        measurements (`dict[str, list[WholeMeasurement]]`): the measurements of each photograph by its name, in the
            same order of methods.
        reference (`str`): the method that the others are compared with.
        fingerprint (`str`): digest of the photographs and masks.
        seed (`int`): seed of the directions.
    """
    first = next(iter(measurements.values()))
    methods = list(dict.fromkeys(measurement.method for measurement in first))
    sizes = tuple(dict.fromkeys(measurement.size for measurement in first))
    means = {name: _means_of_photograph(of_photograph) for name, of_photograph in measurements.items()}
    results, differences = [], []
    for size in sizes:
        for setup in SETUPS:
            values = {method: [of[method, size, setup] for of in means.values()] for method in methods}
            for method in methods:
                estimates = {name: ratio_of_sums(*_sums(values[method], name)) for name in MEASURES}
                results.append(WholeResult(method, size, setup, estimates))
                if method != reference:
                    estimates = {
                        name: difference_of_ratios(_sums(values[method], name), _sums(values[reference], name))
                        for name in MEASURES
                    }
                    differences.append(WholeResult(method, size, setup, estimates, minus=reference))
    photographs = [
        {"name": name, "rows": [WholeMeasurement(*key, of[key]).to_json() for key in of]} for name, of in means.items()
    ]
    return WholesSummary(fingerprint, sizes, seed, photographs, results, differences)


def _means_of_photograph(
    measurements: Iterable[WholeMeasurement],
) -> dict[tuple[str, int, Setup], dict[str, float]]:
    """The measures of each method, size and setup: means over directions and things."""
    collected: dict[tuple[str, int, Setup], list[dict[str, float]]] = {}
    for measurement in measurements:
        key = (measurement.method, measurement.size, measurement.setup)
        collected.setdefault(key, []).append(measurement.values)
    return {
        key: {name: float(np.mean([values[name] for values in entries])) for name in MEASURES}
        for key, entries in collected.items()
    }


def _sums(values: list[dict[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of one measure as sums and counts, one per photograph."""
    measured = np.array([of_photograph[name] for of_photograph in values])
    return np.nan_to_num(measured), (~np.isnan(measured)).astype(float)
