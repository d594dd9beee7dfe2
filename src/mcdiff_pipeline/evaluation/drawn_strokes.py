# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""How near what is under drawn strokes is to where they say, in a video for which no true one exists.

The handle search of [`~mcdiff_pipeline.evaluation.metrics.handle_search`] takes its patches from a true video. Here
they are those of the video itself, around the beginning of each stroke in the frame in which it begins. A handle that
turns or is lit otherwise is found less well, so the distances compare videos of the same strokes with each other.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from ..strokes import StrokeSheet
from .metrics.handle_search import HandleSearch


# Frames in which handles are searched for, spread over the video; the last one is among them.
SEARCHED_FRAMES = 16
# Handles that are searched for at a time: at 512 pixels each takes half a megabyte for its window.
AT_A_TIME = 64


@dataclass(frozen=True)
class FoundHandle:
    """
    A handle in a frame.

    Args:
        goal (`tuple[float, float]`): Where its stroke says that it is, (x, y) in pixels of the frames.
        place (`tuple[float, float]`): Where it is found.
    """

    goal: tuple[float, float]
    place: tuple[float, float]

    @property
    def distance(self) -> float:
        return math.dist(self.goal, self.place)


def found_handles(
    sheet: StrokeSheet, frame: Callable[[int], torch.Tensor], last: int, searched: int = SEARCHED_FRAMES
) -> Iterator[tuple[int, dict[int, FoundHandle]]]:
    """
    Searches for the handle of each stroke, frame by frame.

    Args:
        sheet (`StrokeSheet`): The strokes, at the size of the frames. Moves and holds are both measured.
        frame (`Callable[[int], torch.Tensor]`): Gives a frame, float32 `[3, H, W]` in [0, 1], by its number.
        last (`int`): The last frame of the video.
        searched (`int`): Frames that are looked at, spread over the video; the last one is among them.

    Yields:
        `tuple[int, dict[int, FoundHandle]]`: the number of a frame, and the handles by the index of the stroke, of
        those that are active there and whose patch has contrast.
    """
    starts = [math.ceil(stroke.span(sheet.num_frames)[0]) for stroke in sheet.strokes]
    step = max(math.ceil(last / searched), 1)
    references: dict[int, torch.Tensor] = {}
    for number in sorted(range(last, 0, -step)):
        shown = frame(number)
        found: dict[int, FoundHandle] = {}
        for start in sorted({one for one in starts if one < number}):
            active = [index for index, one in enumerate(starts) if one == start]
            places = {index: _place(sheet, index, start) for index in active}
            goals = {index: _place(sheet, index, number) for index in active}
            active = [index for index in active if places[index] is not None and goals[index] is not None]
            for first in range(0, len(active), AT_A_TIME):
                chosen = active[first : first + AT_A_TIME]
                if start not in references:
                    references = {start: frame(start)}  # one is kept: most strokes begin with the video
                offsets = _offsets(
                    torch.stack([references[start], shown]),
                    torch.tensor([places[index] for index in chosen]),
                    torch.tensor([goals[index] for index in chosen]),
                )
                for index, (right, down) in zip(chosen, offsets):
                    goal = goals[index]
                    if goal is not None and not math.isnan(right):
                        found[index] = FoundHandle(goal, (goal[0] + right, goal[1] + down))
        yield number, found


def _place(sheet: StrokeSheet, index: int, frame: int) -> tuple[float, float] | None:
    """Where the handle of a stroke is to be at a frame; None outside its time and outside the image."""
    place = sheet.strokes[index].at(frame, sheet.num_frames)
    is_inside = place is not None and 0 <= place[0] < sheet.width and 0 <= place[1] < sheet.height
    return place if is_inside else None


def _offsets(frames: torch.Tensor, places: torch.Tensor, goals: torch.Tensor) -> list[list[float]]:
    """How far the handles at `places` in the first frame are from their `goals` in the second; NaN if unknown."""
    ones = torch.ones(len(goals), dtype=torch.long)
    search = HandleSearch(frames, goals, ones, patches_at=(places, ones - 1))
    return search.offsets(frames).tolist()
