# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Easing: how the speed of a motion changes between two points in time."""

from collections.abc import Callable


# From the share of the time that has passed to the share of the way, both in [0, 1]. The quadratic functions of Penner
# 2002 ("Robert Penner's Programming Macromedia Flash MX"), and the cubic of Hermite for both ends.
EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2 - t),
    "ease-in-out": lambda t: t * t * (3 - 2 * t),
}


def check_easing(name: object, field: str) -> None:
    """Raises `ValueError` if there is no easing of this name."""
    if not (isinstance(name, str) and name in EASINGS):
        raise ValueError(f"{field} is {name!r:.80}; it must be one of {', '.join(EASINGS)}.")
