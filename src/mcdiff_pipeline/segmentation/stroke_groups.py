# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Regions from strokes: which moves belong to one thing, and its mask."""

from collections.abc import Sequence

import numpy as np
from diffusers.utils import logging

from ..image_processor import ImageInput, load_image_tensor
from ..regions import Region
from ..strokes import Stroke, StrokeSheet
from .masks import without_overlap
from .prompts import LARGEST_SHARE, SURE_CONFIDENCE, Candidate, Point, PromptedImage, PromptSegmenter


logger = logging.get_logger(__name__)

# Moves belong to one thing if the masks of their points overlap by more than this IoU, or one contains the other's
# point.
_SAME_THING = 0.5

# A hold belongs to the thing if the thing contains it although it was not told so, with this logit: a probability of
# 0.92. On the photographs in examples/ it is 3.9 and more for holds on a foot and a chest, 1.5 for one beside a rim.
_HELD_PART = 2.5


def regions_of_strokes(
    image: ImageInput, strokes: StrokeSheet | Sequence[Stroke], segmenter: PromptSegmenter
) -> list[Region]:
    """Finds the things that strokes move.

    The strokes are prompts. Moves whose points lie in one thing give one region: those that are in each other's mask,
    directly or by way of others. Its mask contains the moves of the group, and neither the holds nor the moves of
    other groups. But a hold that the segmenter counts to the thing although it is not told to, such as the standing
    foot of a person, is a held part of the thing and stays in its region.

    Strokes that start after frame 0, outside the image, or name a region of their own are left out. A group whose mask
    is unsure gets no region, and a warning says so. Where masks overlap, the smaller one is in front.

    Args:
        image (`ImageInput`): as [`load_image_tensor`] reads it.
        strokes (`StrokeSheet` or `Sequence[Stroke]`): a sheet, or strokes in pixels of the image.
        segmenter (`PromptSegmenter`): finds the masks.

    Returns:
        `list[Region]`: a mask of the image's size for each group, larger ones first.
    """
    picture = load_image_tensor(image)
    height, width = picture.shape[1:]
    if isinstance(strokes, StrokeSheet):
        strokes = strokes.plain().scaled(width, height).strokes
    starts = [stroke for stroke in strokes if _is_prompt(stroke, height, width)]
    moves = list(dict.fromkeys(stroke.points[0] for stroke in starts if stroke.kind == "move"))
    holds = list(dict.fromkeys(stroke.points[0] for stroke in starts if stroke.kind == "hold"))
    if not moves:
        return []
    opened = segmenter.open(picture)
    masks = []
    for group in _groups(opened, moves):
        others = [move for move in moves if move not in group]
        outside = others + _outside(opened, group, holds, others)
        points, labels = group + outside, [1] * len(group) + [0] * len(outside)
        found = opened.segmentation(opened.candidate(points, labels), points)
        if found.warning is None:
            masks.append(found.mask)
        else:
            places = ", ".join(f"({x:g}, {y:g})" for x, y in group)
            logger.warning(
                f"No region for what moves at {places}: {found.warning}; it moves as without regions: add strokes to "
                "it and holds around it, or draw its region yourself."
            )
    masks.sort(key=lambda mask: -float(mask.sum()))  # a part is in front of what it is a part of
    return [Region(mask=mask) for mask in without_overlap(masks)]


def _is_prompt(stroke: Stroke, height: int, width: int) -> bool:
    """Whether a stroke says something about the given image, and does not name its region."""
    x, y = stroke.points[0]
    start = stroke.start_frame if stroke.frames is None else stroke.frames[0]
    return start == 0 and 0 <= x <= width and 0 <= y <= height and stroke.region is None


def _groups(opened: PromptedImage, moves: list[Point]) -> list[list[Point]]:
    """Moves of one thing, in the order of the first move of each group."""
    alone = [opened.candidate([move], [1]) for move in moves]
    cells = opened.cells(moves)
    numbers = list(range(len(moves)))  # the number of the group of each move
    for first in range(len(moves)):
        for second in range(first):
            if _is_one_thing(alone[first], cells[first], alone[second], cells[second]):
                numbers = [numbers[second] if number == numbers[first] else number for number in numbers]
    return [[move for move, number in zip(moves, numbers) if number == group] for group in dict.fromkeys(numbers)]


def _is_one_thing(first: Candidate, first_cell: np.ndarray, second: Candidate, second_cell: np.ndarray) -> bool:
    is_inside = [
        one.confidence >= SURE_CONFIDENCE and one.mask[tuple(cell)]
        for one, cell in ((first, second_cell), (second, first_cell))
    ]
    shared = (first.mask & second.mask).sum() / max((first.mask | second.mask).sum(), 1)
    return any(is_inside) or shared > _SAME_THING


def _outside(opened: PromptedImage, group: list[Point], holds: list[Point], others: list[Point]) -> list[Point]:
    """The holds that are not held parts of the thing."""
    points = group + others
    labels = [1] * len(group) + [0] * len(others)
    # What could be part of the thing: what is in its mask without holds, or in the mask of one of its points.
    masks = [opened.candidate(points, labels), *(opened.candidate([move], [1]) for move in group)]
    possible = np.any([one.mask for one in masks if _is_sure(one)] or [np.zeros_like(masks[0].mask)], axis=0)
    outside = []
    for hold, cell in zip(holds, opened.cells(holds) if holds else ()):
        rest = [other for other in holds if other != hold]
        if possible[tuple(cell)]:
            without = opened.candidate(points + rest, labels + [0] * len(rest))
            if _is_sure(without) and not without.wrong.any() and without.logits[tuple(cell)] >= _HELD_PART:
                continue
        outside.append(hold)
    return outside


def _is_sure(candidate: Candidate) -> bool:
    return candidate.confidence >= SURE_CONFIDENCE and candidate.share <= LARGEST_SHARE
