# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Closed loop: before each step the handle of a stroke is found again in the frame that was drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from ..evaluation.metrics.handle_search import REFERENCE_SIDE, HandleSearch
from ..layers import Layers
from ..motion_completion import CompleteStrokes, MovedStroke, layer_of_stroke
from ..pipeline_mcdiff import MCDiffPipeline
from ..rollout import Motion, RolloutState
from ..strokes import Stroke


# How far from its place a handle is searched for, in pixels at 128 on the shorter side, like the radius of its patch.
SEARCH_RADIUS = 8
# A place counts if the normalized cross-correlation there is at least `MIN_FIT`, and larger by `MIN_GAIN` than at the
# place where the handle should be. Otherwise the stroke is left as it is. On 16 photographs of the validation split,
# the mean distance of 0.71 pixels became 0.65 with 0.95, 0.58 with 0.9, and 0.50 with 0.8, which brought one handle
# 0.5 pixels farther away, and on rendered people the handles of four clips in 20.
MIN_FIT, MIN_GAIN = 0.9, 0.02
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
    def aimed(self, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None) -> list[list[Stroke]]:
        """
        The strokes of the step from the current frame, each from where its handle was found.

        Args:
            state (`RolloutState`): The state at the current frame.
            strokes (`list[list[Stroke]]`): Strokes of each image, in pixels of the working size.
            num_frames (`int`, *optional*): Number of frames that ends the strokes without an end of their own.
        """
        if state.start_latents is not self._start:
            self._start, self._frames = state.start_latents, {}
        moves = self._moves(state, strokes, num_frames)
        if any(move.first == state.frame for move in moves):
            self._frames[state.frame] = self._drawn(state.latents)
        elif 0 not in self._frames and any(move.first == 0 for move in moves):
            self._frames[0] = self._drawn(state.start_latents)
        known = [move for move in moves if move.first < state.frame and move.first in self._frames]
        if not known:
            return strokes
        corrected = [list(of_image) for of_image in strokes]
        for move, place in zip(known, self._find(self._drawn(state.latents), known), strict=True):
            if place is None:
                continue
            stroke = strokes[move.image][move.stroke]
            x, y = cast(tuple[float, float], stroke.at(state.frame + 1, num_frames))
            left = 1 - CORRECTION
            goal = x + left * (place[0] - move.here[0]), y + left * (place[1] - move.here[1])
            corrected[move.image][move.stroke] = cast(Stroke, MovedStroke(stroke, state.frame, place, goal))
        return corrected

    def _drawn(self, latents: torch.Tensor) -> torch.Tensor:
        """The frames `[B, 3, H, W]` in [0, 1] of latents, at the working size."""
        return self.pipe.decode_latents(latents).float()

    def _moves(self, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None) -> list["_Move"]:
        """The moves of this step that can be corrected, in the image at their beginning and now."""
        height, width = (side * self.pipe.vae_scale_factor for side in state.latents.shape[2:])
        moves = []
        for index, of_image in enumerate(strokes):
            for number, stroke in enumerate(of_image):
                if stroke.kind == "hold" or stroke.displacement(state.frame, num_frames) is None:
                    continue
                first = math.ceil(stroke.span(num_frames)[0])
                began, here = stroke.at(first, num_frames), stroke.at(state.frame, num_frames)
                if any(one is None or not (0 <= one[0] < width and 0 <= one[1] < height) for one in (began, here)):
                    continue
                if state.layers is not None and not _is_steered(state.layers, state.frame, index, stroke, num_frames):
                    continue
                moves.append(_Move(index, number, first, cast(Any, began), cast(Any, here)))
        return moves

    def _find(self, frame: torch.Tensor, moves: Sequence["_Move"]) -> list[tuple[float, float] | None]:
        """Where the handle of each move is in a frame `[B, 3, H, W]`; None where it is at its place, or not sure."""
        starts = sorted({move.first for move in moves})
        references = torch.cat([self._frames[first] for first in starts])
        entries = torch.tensor([starts.index(move.first) * len(frame) + move.image for move in moves])
        radius = max(2, round(SEARCH_RADIUS * min(frame.shape[2:]) / REFERENCE_SIDE))
        search = HandleSearch(references, torch.tensor([move.began for move in moves]), entries, radius)
        images, near = (torch.tensor([getattr(move, name) for move in moves]) for name in ("image", "here"))
        places, fit, expected = search.locate(frame, near, images)
        is_found = (fit >= MIN_FIT) & (fit - expected >= MIN_GAIN)
        return [(x, y) if found else None for (x, y), found in zip(places.tolist(), is_found.tolist(), strict=True)]


@dataclass(frozen=True)
class _Move:
    """A move of a step: which stroke of which image, the frame in which it began, and where it was then and is now."""

    image: int
    stroke: int
    first: int
    began: tuple[float, float]
    here: tuple[float, float]


def _is_steered(layers: Layers, frame: int, index: int, stroke: Stroke, num_frames: int | None) -> bool:
    """Whether a stroke moves a layer that is not rigid, and no camera has moved."""
    if layers.view is not None:
        return False
    return not bool(layers.is_rigid[index, layer_of_stroke(stroke, frame, num_frames, layers, index)])
