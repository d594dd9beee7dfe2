# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What a stroke can say besides its path: easing, strength, and handles that turn and grow along it."""

import cmath
import math
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from .regions import checked_points, is_number


# From the share of the time that has passed to the share of the way, both in [0, 1]. The quadratic functions of Penner
# 2002 ("Robert Penner's Programming Macromedia Flash MX"), and the cubic of Hermite for both ends.
EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2 - t),
    "ease-in-out": lambda t: t * t * (3 - 2 * t),
}
# The fields of a stroke that this module describes, with the values that change nothing.
CONTROLS: dict[str, Any] = {
    "easing": "linear",
    "strength": 1.0,
    "rotate": 0.0,
    "scale": 1.0,
    "radius": None,
    "handles": (),
}
# Ranges of those that are numbers.
CONTROL_LIMITS = {"strength": (-10.0, 10.0), "rotate": (-3600.0, 3600.0), "scale": (0.05, 20.0)}
MAX_HANDLES = 100


def check_easing(name: object, field: str) -> None:
    """Raises `ValueError` if there is no easing of this name."""
    if not (isinstance(name, str) and name in EASINGS):
        raise ValueError(f"{field} is {name!r:.80}; it must be one of {', '.join(EASINGS)}.")


def checked_controls(kind: str, controls: dict[str, Any]) -> dict[str, Any]:
    """
    The values of [`CONTROLS`] of a stroke, with numbers as floats and points as tuples.

    Args:
        kind (`str`): Kind of the stroke.
        controls (`dict[str, Any]`): A value for each of [`CONTROLS`].

    Raises:
        ValueError: If one is wrong, or does not fit the others. The message starts with its name.
    """
    checked = dict(controls)
    check_easing(controls["easing"], "easing")
    for name, (low, high) in CONTROL_LIMITS.items():
        value = controls[name]
        if not (is_number(value) and low <= value <= high):
            raise ValueError(f"{name} is {reprlib.repr(value)}; it must be a number from {low:g} to {high:g}.")
        checked[name] = float(value)
    if controls["radius"] is not None:
        if not (is_number(controls["radius"]) and controls["radius"] > 0):
            raise ValueError(f"radius is {reprlib.repr(controls['radius'])}; it must be a number of pixels above 0.")
        checked["radius"] = float(controls["radius"])
    checked["handles"] = checked_points(controls["handles"], "handles")
    if len(checked["handles"]) > MAX_HANDLES:
        raise ValueError(f"handles holds {len(checked['handles'])} points; at most {MAX_HANDLES} are read.")
    turns = checked["rotate"] != 0 or checked["scale"] != 1
    if checked["handles"] and checked["radius"] is not None:
        raise ValueError("radius is given together with handles; give the points, or how far two are from the path.")
    if checked["radius"] is not None and not turns:
        raise ValueError("radius is given, but the stroke does not turn or grow; give rotate or scale, too.")
    if turns and not checked["handles"] and checked["radius"] is None:
        raise ValueError(
            f"{'rotate' if checked['rotate'] != 0 else 'scale'} is given, but no points that turn or grow; give "
            "radius for two beside the path, or handles."
        )
    for name in ("easing", "strength"):
        if kind == "hold" and not turns and checked[name] != CONTROLS[name]:
            raise ValueError(f"{name} is given for a hold, which does not move; leave it out.")
    return checked


def turned(
    handle: tuple[float, float],
    begin: tuple[float, float],
    here: tuple[float, float],
    angle: float,
    factor: float,
) -> tuple[float, float]:
    """
    Where a handle is that moves, turns and grows with a path.

    Args:
        handle (`tuple[float, float]`): (x, y) of the handle at first, in pixels.
        begin (`tuple[float, float]`): Where the path begins.
        here (`tuple[float, float]`): Where the path is now.
        angle (`float`): How far it has turned, in degrees clockwise.
        factor (`float`): How much it has grown.
    """
    place = complex(*here) + (complex(*handle) - complex(*begin)) * factor * cmath.exp(1j * math.radians(angle))
    return place.real, place.imag


def scaled_controls(
    handles: Sequence[tuple[float, float]], radius: float | None, x_factor: float, y_factor: float
) -> dict[str, Any]:
    """The fields `handles` and `radius` of a stroke on an image of another size. The radius is along x."""
    return {
        "handles": tuple((x * x_factor, y * y_factor) for x, y in handles),
        "radius": None if radius is None else radius * x_factor,
    }
