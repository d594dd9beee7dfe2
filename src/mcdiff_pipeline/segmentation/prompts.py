# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Things from points: a promptable segmenter, and how it chooses among the masks that its networks offer."""

import hashlib
import math
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..image_processor import ImageInput, load_image_tensor
from .masks import Segmentation, grown, smoothed, soft_mask, specks_and_holes, stability
from .sam_networks import Embedding, SamNetworks


Point = tuple[float, float]

# Embeddings of as many pictures are kept.
_CACHED_PICTURES = 2

# How often a mask goes back into the decoder together with the same points. With the moves and holds of the six
# photographs in examples/, predicted IoU and stability rose from 0.92 and 0.79 to 0.94 and 0.87 in three rounds.
_ROUNDS = 3

# A mask is unsure below this product of predicted IoU and stability. By eye, masks of the photographs in examples/
# above 0.77 were clean, those below 0.67 ragged or of two things, and between there were both.
SURE_CONFIDENCE = 0.7

# A thing that covers more of the picture is probably everything.
LARGEST_SHARE = 0.9

# What a point on the wrong side of the outline takes from the confidence of a mask when masks are compared.
_WRONG_POINT = 0.2

# Among the masks for one point, the largest is taken whose confidence is at most this much below the best.
_WHOLE_TOLERANCE = 0.05

# A mask of one point that covers less of the picture is probably a mark on a thing, such as the white core of a slice
# of lime. The thing is asked for at so many radii from the point; the radius is that of a disk as large as the mark.
# What covers more than the last share rather lies behind a small thing. For clicks in the middle of 336 things of 67
# photographs, which cover 0.4 % or more, the masks of five changed: their IoU rose from 0.01 to 0.94 on average. With
# a limit of 0.5 % or more, things of that size were lost, too.
_LARGEST_MARK = 0.002
_RADII_OF_MARK = 2.0
_LARGEST_AROUND = 0.25


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask that the decoder offers for some points.

    Args:
        grid (`np.ndarray`): float32 `[h, w]`, logits on the whole grid of the decoder.
        predicted_iou (`float`): how well the decoder expects the mask to fit.
        cells (`np.ndarray`): whole numbers `[num_points, 2]`, row and column of the cell of each point.
        labels (`np.ndarray`): bool `[num_points]`, whether each point belongs to the thing.
        extent (`tuple[int, int]`): rows and columns of the grid that the picture covers.
    """

    grid: np.ndarray
    predicted_iou: float
    cells: np.ndarray
    labels: np.ndarray
    extent: tuple[int, int]

    @cached_property
    def logits(self) -> np.ndarray:
        """Float32 `[h, w]`, the grid without the decoder's checkerboard."""
        return smoothed(self.grid)

    @cached_property
    def _faults(self) -> tuple[np.ndarray, np.ndarray]:
        return specks_and_holes(self._covered > 0, self._cells_of(1), self._cells_of(0))

    def _cells_of(self, label: int) -> list[tuple[int, int]]:
        return [(int(row), int(column)) for row, column in self.cells[self.labels == label]]

    @property
    def _covered(self) -> np.ndarray:
        return self.logits[: self.extent[0], : self.extent[1]]

    @cached_property
    def mask(self) -> np.ndarray:
        """Bool `[rows, columns]`, the cells of the picture that belong to the thing, without specks and holes."""
        specks, holes = self._faults
        return (self._covered > 0) & ~specks | holes

    def soft_mask(self, height: int, width: int) -> np.ndarray:
        """Float32 `[height, width]` in [0, 1], the same at the picture's size; see [`masks.soft_mask`]."""
        return soft_mask(self.logits, *self._faults, height, width)

    def region_mask(self, height: int, width: int) -> np.ndarray:
        """As `soft_mask`, for something that is to move: a little larger, so that no rim of it stays behind."""
        return soft_mask(*grown(self.logits, *self._faults, self._cells_of(0)), height, width)

    @property
    def share(self) -> float:
        """The share of the picture that the mask covers."""
        return float(self.mask.mean())

    @cached_property
    def confidence(self) -> float:
        """The predicted IoU, which some networks put above 1, times the stability."""
        return min(max(self.predicted_iou, 0.0), 1.0) * stability(self._covered)

    @cached_property
    def wrong(self) -> np.ndarray:
        """Bool `[num_points]`, whether each point is on the wrong side of the outline.

        A point of the thing may be one cell away from it: fingers are thinner than a cell.
        """
        from scipy import ndimage

        rows, columns = self.cells.T
        near = ndimage.binary_dilation(self.mask, np.ones((3, 3)))
        return np.where(self.labels, ~near[rows, columns], self.mask[rows, columns])

    @property
    def score(self) -> float:
        """What is compared among candidates for the same points."""
        return self.confidence - _WRONG_POINT * int(self.wrong.sum())


class PromptedImage:
    """A picture that is embedded and waits for points; made by [`PromptSegmenter.open`]."""

    def __init__(self, networks: SamNetworks, embedding: Embedding) -> None:
        self._networks, self._embedding = networks, embedding
        self._of_one_point: dict[Point, Candidate] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        return self._embedding.height, self._embedding.width

    def candidate(self, points: Sequence[Point], labels: Sequence[int]) -> Candidate:
        """The best mask for the points; see [`PromptSegmenter.segment`]."""
        points, labels = [(float(x), float(y)) for x, y in points], list(labels)
        self._check(points, labels)
        if labels == [1]:
            found = self._whole(points[0])
            return self._around(found, points[0]) if 0 < found.share < _LARGEST_MARK else found
        return max(self._offered(points, labels), key=lambda candidate: candidate.score)

    def segmentation(self, candidate: Candidate, points: Sequence[Point]) -> Segmentation:
        """The mask of a candidate at the picture's size. The points are those of the candidate."""
        if not candidate.mask.any():
            return Segmentation(np.zeros(self.size, dtype=np.float32), 0.0, "the mask is empty")
        return Segmentation(candidate.region_mask(*self.size), candidate.confidence, _warning(candidate, points))

    def cells(self, points: Sequence[Point]) -> np.ndarray:
        """Whole numbers `[num_points, 2]`, row and column of the cell of each point of the picture."""
        rows, columns = self._extent()
        height, width = self.size
        places = np.array([(y / height * rows, x / width * columns) for x, y in points])
        return np.floor(places).astype(int).clip(0, (rows - 1, columns - 1))

    def _extent(self) -> tuple[int, int]:
        longer = max(self.size)
        side = self._networks.grid_size
        return max(1, round(self.size[0] / longer * side)), max(1, round(self.size[1] / longer * side))

    def _check(self, points: list[Point], labels: list[int]) -> None:
        height, width = self.size
        if len(points) != len(labels) or not set(labels) <= {0, 1} or 1 not in labels:
            raise ValueError(
                f"`labels` is {labels} for {len(points)} points; give one label for each point, 1 if it belongs to "
                "the thing and 0 if not, and at least one 1."
            )
        for x, y in points:
            if not (0 <= x <= width and 0 <= y <= height):  # also catches NaN
                raise ValueError(
                    f"The point ({x:g}, {y:g}) is not in the image of {width} x {height} pixels; x is between 0 and "
                    f"{width}, y between 0 and {height}."
                )

    def _decode(self, points: list[Point], labels: list[int], previous: Candidate | None = None) -> list[Candidate]:
        """All masks that the decoder gives, each with its predicted IoU."""
        grids, ious = self._networks.decode(
            self._embedding, points, labels, None if previous is None else previous.grid
        )
        cells, is_inside = self.cells(points), np.array(labels, dtype=bool)
        return [Candidate(grid, float(iou), cells, is_inside, self._extent()) for grid, iou in zip(grids, ious)]

    def _whole(self, point: Point) -> Candidate:
        """The mask of one point, which may mean a thing or a part of it: the largest of the good ones.

        A decoder with one output has chosen already. One with four gives a mask for several points first, and then
        three that differ in size (SAM's `multimask_output`).
        """
        if point not in self._of_one_point:
            offered = self._decode([point], [1])
            offered = offered[1:] if len(offered) == 4 else offered
            sensible = [one for one in offered if one.share <= LARGEST_SHARE] or offered
            best = max(one.confidence for one in sensible)
            good = [one for one in sensible if one.confidence >= best - _WHOLE_TOLERANCE]
            self._of_one_point[point] = max(good, key=lambda candidate: candidate.share)
        return self._of_one_point[point]

    def _around(self, mark: Candidate, point: Point) -> Candidate:
        """The thing that a mark is on: the surest mask of a point beside it that contains the mark's point, too.

        Without a sure one, it is the mark itself.
        """
        (x, y), (height, width) = point, self.size
        radius = _RADII_OF_MARK * math.sqrt(mark.share * height * width / math.pi)
        beside = [(x + radius, y), (x - radius, y), (x, y + radius), (x, y - radius)]
        found = [self._whole((x, y)) for x, y in beside if 0 <= x <= width and 0 <= y <= height]
        row, column = mark.cells[0]
        sure = [
            one
            for one in found
            if one.mask[row, column]
            and mark.share < one.share <= _LARGEST_AROUND
            and one.confidence >= SURE_CONFIDENCE
        ]
        return max(sure, key=lambda candidate: candidate.confidence, default=mark)

    def _offered(self, points: list[Point], labels: list[int]) -> Iterator[Candidate]:
        """Masks for several points, from two beginnings: all points, and the best mask of one of them.

        Each is improved in rounds. Several points at once give ragged masks in some pictures, and one point gives the
        wrong part in others.
        """
        cells, is_inside = self.cells(points), np.array(labels, dtype=bool)
        alone = [self._whole(point) for point, label in zip(points, labels) if label]
        alone = [replace(one, cells=cells, labels=is_inside) for one in alone]
        for start in (None, max(alone, key=lambda candidate: candidate.score)):
            if start is not None:
                yield start
            for _ in range(_ROUNDS + (start is None)):
                offered = self._decode(points, labels, start)
                # The first of four is the one for several points.
                start = offered[0] if len(offered) == 4 else max(offered, key=lambda one: one.predicted_iou)
                yield start


class PromptSegmenter:
    """Finds the thing that points mean, by a pair of SAM-style networks.

    Args:
        folder (`str` or `os.PathLike`, *optional*): `encoder.onnx` and `decoder.onnx`, and `config.json` if the
            encoder needs one; see [`find_segmenter`] for None and `docs/segmentation.md` for the files.

    Raises:
        FileNotFoundError: if a network is missing.
        ImportError: if onnxruntime or SciPy is missing.
        ValueError: if a file is not such a network.
    """

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        self._networks = SamNetworks(folder)
        self._opened: OrderedDict[bytes, PromptedImage] = OrderedDict()

    def segment(self, image: ImageInput, points: Sequence[Point], labels: Sequence[int]) -> Segmentation:
        """Finds the thing that contains some points and does not contain others.

        One point may mean a thing or a part of it. If the decoder gives several masks for it, the largest is taken
        whose confidence is close to the best, because a stroke drags whole things; more points say it better. If it
        covers less than 0.2 % of the picture, it is probably a mark on a thing: then the surest mask of a point beside
        it is taken, if it contains the given point.

        Several masks are made for several points: from all points, and from the best mask of a single point, each
        improved in three rounds. The most confident is taken; every point on the wrong side counts against it.

        The embedding of the last two images is kept, so more points on the same image cost little.

        Args:
            image (`ImageInput`): as [`load_image_tensor`] reads it.
            points (`Sequence[tuple[float, float]]`): (x, y) in pixels of the image.
            labels (`Sequence[int]`): for each point, 1 if it belongs to the thing, 0 if not.

        Returns:
            `Segmentation`: the confidence is the IoU that the network predicts times the stability of the mask (its
            area at a logit of 1 over its area at -1). The warning says if this is below 0.7, if the mask is empty or
            covers more than 90 % of the image, or if a point is on the wrong side of the outline.

        Raises:
            ValueError: if the image cannot be read, a point is not in it, or the labels do not fit the points.
        """
        opened = self.open(image)
        return opened.segmentation(opened.candidate(points, labels), points)

    def open(self, image: ImageInput) -> PromptedImage:
        """Embeds an image, or finds it among the last ones, by its content."""
        picture = load_image_tensor(image)
        height, width = picture.shape[1:]
        array = self._networks.encoder_input.array(picture)
        key = hashlib.sha256(array.tobytes() + f"{height}x{width}".encode()).digest()
        if key not in self._opened:
            self._opened[key] = PromptedImage(self._networks, self._networks.encode(array, height, width))
        self._opened.move_to_end(key)
        while len(self._opened) > _CACHED_PICTURES:
            self._opened.popitem(last=False)
        return self._opened[key]


def _warning(candidate: Candidate, points: Sequence[Point]) -> str | None:
    """What speaks against a mask, as part of a sentence."""
    reasons = []
    if candidate.confidence < SURE_CONFIDENCE:
        reasons.append(f"the outline is not clear (confidence {candidate.confidence:.2f})")
    if candidate.share > LARGEST_SHARE:
        reasons.append(f"the mask covers {math.floor(100 * candidate.share)} % of the image")
    for (x, y), label, is_wrong in zip(points, candidate.labels, candidate.wrong):
        if is_wrong:
            place = "outside" if label else "inside"
            reasons.append(
                f"the point ({x:g}, {y:g}) is {place} the mask but should be {'inside' if label else 'outside'}"
            )
    return " and ".join(reasons) or None
