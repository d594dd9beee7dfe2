"""Finds the things in a photograph: a promptable segmenter at a grid of points, and a matting network."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from mcdiff_pipeline.segmentation import PromptSegmenter
from rendering.labeled_photographs.labels import LONG_SIDE, Labels
from rendering.labeled_photographs.matting import MattingNetwork


# A mask is kept from this predicted IoU and this stability on. SAM's automatic mask generator has .88 and .95; the
# distilled network is less stable, and its masks were judged by eye.
SMALLEST_IOU, SMALLEST_STABILITY = 0.88, 0.85
# Of masks with at least this intersection over union, the best is kept (SAM's generator: non-maximum suppression at .7
# of the boxes).
SAME_THING = 0.8
# Shares of the photograph that a thing covers. Larger masks are the background.
SMALLEST_SHARE, LARGEST_SHARE = 0.004, 0.6
# A salient thing is dropped if more than this share of its area is neither inside nor outside: the network did not
# decide what it is.
LARGEST_UNDECIDED = 0.25


def find_things(
    photograph: Image.Image, segmenter: PromptSegmenter, matting: MattingNetwork | None, points_per_side: int
) -> Labels:
    """The masks of the things in a photograph.

    Args:
        points_per_side: rows and columns of the grid of points.
    """
    longer = max(photograph.size)
    width, height = (max(1, round(side * min(1.0, LONG_SIDE / longer))) for side in photograph.size)
    found = [] if matting is None else list(_salient(photograph, matting, (height, width)))
    salient = len(found)
    at_points = sorted(_at_grid(photograph, segmenter, points_per_side, (height, width)), key=lambda one: -one[0])
    for _, mask in at_points:
        if all(_overlap(mask, other) < SAME_THING for other in found):
            found.append(mask)
    order = sorted(range(len(found)), key=lambda index: -float(found[index].sum()))
    masks = [np.round(255 * found[index]).astype(np.uint8) for index in order]
    empty = np.zeros((0, height, width), np.uint8)
    return Labels(np.stack(masks) if masks else empty, np.array([index < salient for index in order], dtype=bool))


def _salient(photograph: Image.Image, matting: MattingNetwork, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The matting network's outline, float32 `[h, w]`, if it is that of a thing."""
    mask = matting.alpha(photograph, size)
    undecided = ((mask > 0.1) & (mask < 0.9)).sum() / max((mask > 0.1).sum(), 1)
    if SMALLEST_SHARE < mask.mean() < LARGEST_SHARE and undecided < LARGEST_UNDECIDED:
        yield mask


def _at_grid(
    photograph: Image.Image, segmenter: PromptSegmenter, points_per_side: int, size: tuple[int, int]
) -> Iterator[tuple[float, np.ndarray]]:
    """Confidence and mask, float32 `[h, w]`, of the good masks at a grid of points."""
    image = segmenter.open(photograph)
    places = (np.arange(points_per_side) + 0.5) / points_per_side
    for y in places * photograph.height:
        for x in places * photograph.width:
            candidate = image.candidate([(x, y)], [1])
            stable = candidate.confidence / max(min(candidate.predicted_iou, 1.0), 1e-6) >= SMALLEST_STABILITY
            if candidate.predicted_iou < SMALLEST_IOU or not stable:
                continue
            if SMALLEST_SHARE < candidate.share < LARGEST_SHARE:
                yield candidate.confidence, candidate.soft_mask(*size)


def _overlap(mask: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks."""
    first, second = mask > 0.5, other > 0.5
    return float((first & second).sum() / max((first | second).sum(), 1))
