# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""
Toys of physics: a region that falls, sways or ripples. Each is a displacement D(p, t) of the points p of frame 0 in
closed form, with D(p, 0) = 0, so that it does not drift however long it lasts.
"""

import math
import random
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import torch

from ..layers import Layers
from ..motion_completion import CompleteStrokes
from ..regions import is_number, is_whole
from ..rollout import Motion, RolloutState
from ..strokes import Stroke
from .mixing import check_region, layer_of, with_region_flow
from .still import still_motion


@dataclass(frozen=True)
class Toy:
    """
    A source of motion for one region. What else is in the image stands still, or follows its strokes.

    Args:
        region (`str` or `int`): The name or the number of the region; 0 is what belongs to none.
    """

    region: str | int
    needs_layers: ClassVar[bool] = True
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            value = getattr(self, name)
            if not (is_number(value) and low <= value <= high):
                raise ValueError(f"{name} is {value!r:.60}; it must be a number from {low:g} to {high:g}.")
        seed = getattr(self, "seed", 0)
        if not is_whole(seed, 0):
            raise ValueError(f"seed is {seed!r:.60}; it must be a whole number from 0.")

    def displacement(
        self, x: torch.Tensor, y: torch.Tensor, frame: float, box: tuple[float, float, float, float], height: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        D(p, t) in pixels of the given image.

        Args:
            x, y (`torch.Tensor`): Points of frame 0, in pixels.
            frame (`float`): The time t in frames.
            box (`tuple[float, float, float, float]`): Left, top, right and bottom of the region in frame 0.
            height (`int`): Height of the image.
        """
        raise NotImplementedError

    def check(self, layers: Layers | None, num_frames: int) -> None:
        """Raises `ValueError` if the image has no such region."""
        check_region(layers, self.region)

    def __call__(
        self, complete: CompleteStrokes, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None
    ) -> Motion:
        """See [`~mcdiff_pipeline.motion_completion.MotionSource`]."""
        motion = complete(strokes) if any(strokes) else still_motion(state)
        layers = state.layers
        if layers is None:
            raise ValueError("The state has no layers for this motion: start it with `motion=` this source.")
        backward, _ = layers.backward_flow(layers.grid)
        flow = torch.zeros(len(backward), 2, *layers.grid, device=backward.device)
        for index, (height, width) in enumerate(layers.image_sizes):
            layer = layer_of(layers, index, self.region)
            rows, columns = layers.grid
            x_cell, y_cell = width / columns, height / rows
            across = torch.arange(columns, device=backward.device) + 0.5
            down = torch.arange(rows, device=backward.device)[:, None] + 0.5
            x, y = (across + backward[index, layer, 0]) * x_cell, (down + backward[index, layer, 1]) * y_cell
            box = _box(layers, index, layer)
            here, there = (self.displacement(x, y, state.frame + step, box, height) for step in (0, 1))
            flow[index, 0], flow[index, 1] = (there[0] - here[0]) / x_cell, (there[1] - here[1]) / y_cell
        return with_region_flow(state, motion, self.region, flow, torch.ones_like(flow[:, :1]))

    def to_dict(self) -> dict[str, Any]:
        """The source as a JSON object."""
        return {"source": type(self).__name__.lower()} | {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """The inverse of [`to_dict`]. Raises `ValueError` if a field is unknown or wrong."""
        names = [one.name for one in fields(cls)]
        unknown = [name for name in content if name not in names]
        if unknown or "region" not in content:
            raise ValueError(f"its fields are {list(content)!r:.80}; they must be among {names}, with 'region'")
        return cls(**content)


@dataclass(frozen=True)
class Gravity(Toy):
    """
    The region falls, and bounces from the lower border of the image.

    Args:
        acceleration (`float`, defaults to 0.5): In percent of the height of the image per frame², 0.01 to 10.
        bounce (`float`, defaults to 0.4): Part of its speed that it keeps when it bounces, 0 to 0.9.
    """

    acceleration: float = 0.5
    bounce: float = 0.4
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"acceleration": (0.01, 10.0), "bounce": (0.0, 0.9)}

    def displacement(self, x, y, frame, box, height):
        way = max(height - box[3], 0.0)
        pull = self.acceleration * height / 100
        fallen, speed, left = 0.0, 0.0, float(frame)
        while left > 1e-9:
            # until it reaches the ground: way = fallen + speed t + pull t^2 / 2
            down = max(way - fallen, 0.0)
            until = (-speed + math.sqrt(speed * speed + 2 * pull * down)) / pull
            if until > left or (speed <= 0 and until < 1e-6):
                if until > left:
                    fallen += speed * left + pull * left * left / 2
                break
            left -= until
            fallen, speed = way, -self.bounce * (speed + pull * until)
            if -speed < pull / 2:  # it rests
                break
        return torch.zeros_like(x), torch.full_like(y, fallen)


@dataclass(frozen=True)
class Sway(Toy):
    """
    The region sways like a plant in the wind: its lower end stays, and its upper end moves to and fro.

    Args:
        amplitude (`float`, defaults to 6.0): Of the upper end, in percent of the height of the region, 0 to 30.
        period (`float`, defaults to 16.0): In frames, 4 to 200.
        seed (`int`, defaults to 0): Phases of the gusts.
    """

    amplitude: float = 6.0
    period: float = 16.0
    seed: int = 0
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"amplitude": (0.0, 30.0), "period": (4.0, 200.0)}

    def displacement(self, x, y, frame, box, height):
        tall = max(box[3] - box[1], 1.0)
        # a beam that is held at its foot bends by the square of the height, to first order
        bend = ((box[3] - y) / tall).clamp(0, 1).square() * tall * self.amplitude / 100
        draw = random.Random(self.seed)
        gusts = [
            (weight, rate, draw.uniform(0, 2 * math.pi)) for weight, rate in ((0.7, 1.0), (0.2, 0.43), (0.1, 1.7))
        ]
        swing = sum(
            weight * (math.sin(2 * math.pi * rate * frame / self.period + phase) - math.sin(phase))
            for weight, rate, phase in gusts
        )
        return bend * swing, torch.zeros_like(y)


@dataclass(frozen=True)
class Ripple(Toy):
    """
    The region ripples like water: five waves run over it in seeded directions.

    Args:
        amplitude (`float`, defaults to 0.8): In percent of the height of the image, 0 to 5.
        wavelength (`float`, defaults to 12.0): In percent of the height of the image, 4 to 100.
        period (`float`, defaults to 12.0): In frames, 4 to 200.
        seed (`int`, defaults to 0): Directions and phases of the waves.
    """

    amplitude: float = 0.8
    wavelength: float = 12.0
    period: float = 12.0
    seed: int = 0
    ranges: ClassVar[dict[str, tuple[float, float]]] = {
        "amplitude": (0.0, 5.0),
        "wavelength": (4.0, 100.0),
        "period": (4.0, 200.0),
    }

    def displacement(self, x, y, frame, box, height):
        draw = random.Random(self.seed)
        u, v = torch.zeros_like(x), torch.zeros_like(y)
        for _ in range(5):
            angle, phase, stretch = draw.uniform(0, 2 * math.pi), draw.uniform(0, 2 * math.pi), draw.uniform(0.7, 1.4)
            number = 2 * math.pi / (stretch * self.wavelength * height / 100)
            place = number * (math.cos(angle) * x + math.sin(angle) * y) + phase
            # deep water: the frequency grows with the root of the wave number
            time = 2 * math.pi * frame / (self.period * math.sqrt(stretch))
            wave = (torch.sin(place - time) - torch.sin(place)) * self.amplitude * height / 100 / math.sqrt(5)
            u, v = u + math.cos(angle) * wave, v + math.sin(angle) * wave
        return u, v


TOYS: dict[str, type[Toy]] = {one.__name__.lower(): one for one in (Gravity, Sway, Ripple)}


def toy_from_text(text: str) -> Toy:
    """
    Read a toy in a few words: its name, the region, and values: `sway grass amplitude 8 period 20`.

    Raises:
        ValueError: If a word is not understood, or a value is not allowed.
    """
    name, *words = text.split() or [""]
    if name not in TOYS or not words:
        raise ValueError(
            f"{text!r:.60} is not understood; write {', '.join(TOYS)} and a region, such as 'sway grass period 20'."
        )
    toy, region = TOYS[name], words.pop(0)
    names = [one.name for one in fields(toy) if one.name != "region"]
    values: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        if word not in names or not words:
            raise ValueError(f"{word!r:.60} is not understood; {name} has {', '.join(names)}, each with a number.")
        value = words.pop(0)
        try:
            values[word] = int(value) if word == "seed" else float(value)
        except ValueError:
            raise ValueError(f"{word} is {value!r:.60}; it must be a number.") from None
    return toy(int(region) if region.isdecimal() else region, **values)


def _box(layers: Layers, index: int, layer: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a layer in frame 0, in pixels of the given image."""
    share = layers.shares[index, layer] > 0.5
    height, width = layers.image_sizes[index]
    rows, columns = (share.any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    if not rows:
        return 0.0, 0.0, float(width), float(height)
    x_scale, y_scale = width / share.shape[1], height / share.shape[0]
    return columns[0] * x_scale, rows[0] * y_scale, (columns[-1] + 1) * x_scale, (rows[-1] + 1) * y_scale
