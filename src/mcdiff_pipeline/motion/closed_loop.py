# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Closed loop: before each step the handle of a stroke is found again in the frame that was drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from ..evaluation.metrics.handle_search import REFERENCE_SIDE, HandleSearch
from ..layers import Layers
from ..motion_completion import CompleteStrokes, layer_of_stroke
from ..pipeline_mcdiff import MCDiffPipeline
from ..rollout import Motion, RolloutState
from ..strokes import Stroke


# How far from its place a handle is searched for, in pixels at 128 on the shorter side, like the radius of its patch.
SEARCH_RADIUS = 8
# A place counts if the normalized cross-correlation there is at least this, and larger by `MIN_GAIN` than at the place
# where the handle should be. Otherwise the stroke is left as it is.
MIN_FIT, MIN_GAIN = 0.8, 0.02
# Part of the error that one step makes good.
CORRECTION = 0.5


@dataclass(eq=False)
class ClosedLoop:
    """
    A source of motion that corrects strokes by what was drawn.

    Before each step, the patch around the handle of each move is searched for in the current frame
    ([`~mcdiff_pipeline.evaluation.metrics.handle_search.HandleSearch`]). Where it is found elsewhere than it should
    be, the stroke of this step begins there, and aims at where the handle should be in the next frame. The patch is
    that of the frame in which the stroke began.

    Strokes stay as they are if they are holds or in rigid layers, which move exactly; if the patch has no contrast or
    is not found with certainty; and once a camera has moved, since patches look different then.

    Use one object for one rollout at a time: it keeps the frames in which strokes began.

    Args:
        pipe (`MCDiffPipeline`): The pipeline that makes the frames, whose autoencoder decodes them.
    """

    pipe: MCDiffPipeline
    needs_layers = False
    correction: float = CORRECTION
    min_fit: float = MIN_FIT
    min_gain: float = MIN_GAIN
    radius: float = SEARCH_RADIUS
    stats: list = field(default_factory=list)
    _start: torch.Tensor | None = field(default=None, repr=False)
    _frames: dict[int, torch.Tensor] = field(default_factory=dict, repr=False)

    def check(self, layers: Layers | None, num_frames: int) -> None:
        """See [`~mcdiff_pipeline.motion_completion.MotionSource`]."""

    def __call__(
        self, complete: CompleteStrokes, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None
    ) -> Motion:
        """See [`~mcdiff_pipeline.motion_completion.MotionSource`]."""
        return complete(self.aimed(state, strokes, num_frames))

    @torch.no_grad()
    def aimed(
        self, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None
    ) -> list[list[Stroke]]:
        """
        The strokes of the step from the current frame, each from where its handle was found.

        Args:
            state (`RolloutState`): The state at the current frame.
            strokes (`list[list[Stroke]]`): Strokes of each image, in pixels of the working size.
            num_frames (`int`, *optional*): Number of frames that ends the strokes without an end of their own.
        """
        if state.start_latents is not self._start:
            self._start, self._frames = state.start_latents, {}
        active = [
            (index, number, math.ceil(stroke.span(num_frames)[0]))
            for index, of_image in enumerate(strokes)
            for number, stroke in enumerate(of_image)
            if self._is_steered(state, index, stroke, num_frames)
        ]
        begins = any(first == state.frame for _, _, first in active)
        if begins or any(first == 0 or first in self._frames for _, _, first in active):
            frame = self.pipe.decode_latents(state.latents).float()
            if begins:
                self._frames[state.frame] = frame
            if 0 not in self._frames and any(first == 0 for _, _, first in active):
                self._frames[0] = self.pipe.decode_latents(state.start_latents).float()
            known = [one for one in active if one[2] < state.frame and one[2] in self._frames]
            if known:
                return self._corrected(state.frame, frame, strokes, known, num_frames)
        return strokes

    def _is_steered(self, state: RolloutState, index: int, stroke: Stroke, num_frames: int | None) -> bool:
        """Whether a stroke of an image is a move in this step that is not exact anyway."""
        if stroke.kind == "hold" or stroke.displacement(state.frame, num_frames) is None:
            return False
        layers = state.layers
        if layers is None:
            return True
        layer = layer_of_stroke(stroke, state.frame, num_frames, layers, index)
        return layers.view is None and not bool(layers.is_rigid[index, layer])

    def _corrected(
        self,
        number: int,
        frame: torch.Tensor,
        strokes: list[list[Stroke]],
        known: Sequence[tuple[int, int, int]],
        num_frames: int | None,
    ) -> list[list[Stroke]]:
        """Strokes with those in `known`, (image, stroke, first frame), found again in a frame `[B, 3, H, W]`."""
        starts = sorted({first for _, _, first in known})
        batch, (height, width) = len(frame), frame.shape[2:]
        references = torch.cat([self._frames[first] for first in starts])
        began = [strokes[index][which].at(first, num_frames) for index, which, first in known]
        here = [strokes[index][which].at(number, num_frames) for index, which, _ in known]
        inside = [
            all(0 <= one[0] < width and 0 <= one[1] < height for one in places)
            for places in zip(cast(Any, began), cast(Any, here), strict=True)
        ]
        known = [one for one, is_inside in zip(known, inside, strict=True) if is_inside]
        began, here = ([one for one, is_in in zip(places, inside, strict=True) if is_in] for places in (began, here))
        if not known:
            return strokes
        entries = torch.tensor([starts.index(first) * batch + index for index, _, first in known])
        radius = max(2, round(self.radius * min(height, width) / REFERENCE_SIDE))
        search = HandleSearch(references, torch.tensor(began), entries, radius)
        search.numbers = torch.tensor([index for index, _, _ in known])
        places, fit, expected = search.locate(frame, torch.tensor(here))
        corrected = [list(of_image) for of_image in strokes]
        found = zip(known, here, places.tolist(), fit.tolist(), expected.tolist(), strict=True)
        for (index, which, _), (x, y), (found_x, found_y), here_fit, expected_fit in found:
            self.stats.append((number, math.hypot(found_x - x, found_y - y), here_fit, expected_fit))
            if here_fit < self.min_fit or here_fit - expected_fit < self.min_gain:
                continue
            stroke = strokes[index][which]
            target = stroke.at(number + 1, num_frames)
            assert target is not None
            lag = 1 - self.correction
            goal = target[0] + lag * (found_x - x), target[1] + lag * (found_y - y)
            corrected[index][which] = cast(Stroke, AimedStroke(stroke, number, (found_x, found_y), goal))
        return corrected


@dataclass(frozen=True)
class AimedStroke:
    """A stroke that in one step goes from one place to another, in pixels of the working size."""

    stroke: Stroke
    frame: int
    here: tuple[float, float]
    there: tuple[float, float]

    @property
    def kind(self) -> str:
        return self.stroke.kind

    @property
    def region(self) -> str | int | None:
        return self.stroke.region

    def span(self, num_frames: int | None = None) -> tuple[float, float]:
        return self.stroke.span(num_frames)

    def at(self, frame: float, num_frames: int | None = None) -> tuple[float, float] | None:
        return {self.frame: self.here, self.frame + 1: self.there}.get(frame) or self.stroke.at(frame, num_frames)

    def displacement(self, frame: float, num_frames: int | None = None) -> tuple[float, float] | None:
        here, there = self.at(frame, num_frames), self.at(frame + 1, num_frames)
        return None if here is None or there is None else (there[0] - here[0], there[1] - here[1])
