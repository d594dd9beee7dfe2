# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Regions: the things in a picture that move as a whole.

A *region* is a mask or a polygon. Regions of a picture are numbered from 1 in the order of their list; 0 is what
belongs to no region, of which nothing is said. Masks and polygons have soft outlines: a region has a share of each
pixel, its *coverage*.

This file needs only torch, numpy, PIL and diffusers' logger, so that a repository of a pipeline can contain it as
remote code.
"""

import base64
import binascii
import copy
import io
import math
import os
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from numbers import Real
from typing import Any, Self, cast

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from diffusers.utils import logging


# A mask in one of the forms that [`Region`] reads.
MaskInput = PIL.Image.Image | np.ndarray | torch.Tensor | str | os.PathLike

MAX_REGIONS = 64
MAX_POLYGON_POINTS = 10_000
# Farther than this from the origin, products of coordinates lose the precision that the checks need.
MAX_COORDINATE = 1e6
# Pixels in all masks of one sheet: 1 GiB of float32. Compressed, they can be a file of some kilobytes.
MAX_MASK_PIXELS = 1 << 28
MAX_NAME_LENGTH = 100
# A stroke belongs to a region rather than to none also if the region has less of the pixel, by at most this share.
REGION_BONUS = 0.1
REGION_FIELDS = ("polygon", "mask", "rigid", "name", "order")

_PNG_PREFIX = "data:image/png;base64,"
# How many pairs of sides, or crossings of a side and a row, are handled at once.
_CHUNK = 1 << 20
# A region with this share of the picture is the picture.
_EVERYTHING = 0.999
# Sizes and overlaps are measured on pictures of at most this size.
_MEASURED_SIDE = 512

logger = logging.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Region:
    """A thing in the picture that moves as a whole.

    Two regions are equal only if they are the same object; [`same_as`] compares what they hold.

    Args:
        mask (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor`, `str` or `os.PathLike`, *optional*):
            The share of each pixel of the picture that the region has: bool, uint8 from 0 to 255 or floating point in
            [0, 1], of shape `(height, width)`; or a gray PIL image, or the path of one. Stored as a float32 tensor.
        polygon (`Sequence[tuple[float, float]]`, *optional*):
            The outline, at least three points (x, y) in pixels of the picture, in order. It may leave the picture and
            touch itself, but not cross itself. Stored as a tuple of pairs of floats. Exactly one of `mask` and
            `polygon` is given.
        rigid (`bool`, defaults to `False`):
            Whether the region moves exactly by the similarity transform that its strokes say: one stroke moves it, two
            and more also turn and scale it.
        name (`str`, *optional*):
            What strokes and messages call the region.
        order (`int`, *optional*):
            Regions with a larger order are nearer to the viewer; what belongs to no region has order 0. None: decided
            by motion.

    Raises:
        ValueError: If a field is not as described, a mask covers less than one pixel, or a polygon has no area. The
            message starts with the name of the field.
        TypeError: If a mask is of none of the types above.
    """

    mask: MaskInput | None = None
    polygon: Sequence[tuple[float, float]] | None = None
    _: KW_ONLY
    rigid: bool = False
    name: str | None = None
    order: int | None = None

    def __post_init__(self):
        if (self.mask is None) == (self.polygon is None):
            raise ValueError(
                f"mask and polygon are {'both' if self.mask is not None else 'not'} given; a region has one of them."
            )
        if not isinstance(self.rigid, (bool, np.bool_)):
            raise ValueError(f"rigid is {reprlib.repr(self.rigid)}; it must be true or false.")
        object.__setattr__(self, "rigid", bool(self.rigid))
        if self.name is not None and not (
            isinstance(self.name, str) and self.name.strip() and len(self.name) <= MAX_NAME_LENGTH
        ):
            raise ValueError(
                f"name is {reprlib.repr(self.name)}; it must be a text of 1 to {MAX_NAME_LENGTH} characters, or left "
                "out."
            )
        if self.order is not None:
            if not (is_number(self.order) and abs(self.order) < 2**31 and self.order == int(self.order)):
                raise ValueError(f"order is {reprlib.repr(self.order)}; it must be a whole number, or left out.")
            object.__setattr__(self, "order", int(self.order))
        if self.polygon is not None:
            object.__setattr__(self, "polygon", _checked_polygon(self.polygon))
        else:
            object.__setattr__(self, "mask", _mask_tensor(self.mask))

    @cached_property
    def _mask_mean(self) -> float:
        return self._mask.mean().item()

    @property
    def _mask(self) -> torch.Tensor:
        return cast(torch.Tensor, self.mask)

    def coverage(self, height: int, width: int) -> torch.Tensor:
        """
        The share that the region has of each pixel of the picture at a size.

        Args:
            height (`int`): Height in pixels.
            width (`int`): Width in pixels. A polygon has to be in pixels of the picture at this size; see [`scaled`].

        Returns:
            `torch.Tensor` of shape `(height, width)`: float32 in [0, 1]. A polygon is antialiased. A mask of another
            size is the mean over the area of each pixel along axes that become shorter, and interpolated linearly
            along others; one of this size is returned itself, not a copy.
        """
        return self._coverage(height, width, 1, 1)

    def _coverage(self, height: int, width: int, x_factor: float, y_factor: float) -> torch.Tensor:
        if self.polygon is not None:
            return torch.from_numpy(
                _polygon_coverage(np.array(self.polygon) * (x_factor, y_factor), int(height), int(width))
            )
        mask = self._mask
        # the axis that shrinks the mask most goes first
        for axis, size in sorted(enumerate((height, width)), key=lambda item: item[1] / mask.shape[item[0]]):
            if mask.shape[axis] != size:
                weights = _axis_weights(mask.shape[axis], size)
                mask = torch.sparse.mm(weights, mask) if axis == 0 else torch.sparse.mm(weights, mask.T).T
        return mask if mask is self._mask else mask.clamp(0, 1).contiguous()

    def scaled(self, x_factor: float, y_factor: float) -> Self:
        """
        The same region of a picture `x_factor` times as wide and `y_factor` times as high.

        A polygon is scaled. A mask stays as it is, since it is relative to the picture.

        Raises:
            ValueError: If a factor is not above 0.
        """
        if not (is_number(x_factor) and is_number(y_factor) and x_factor > 0 and y_factor > 0):
            raise ValueError(f"The factors are {x_factor!r} and {y_factor!r}; both must be numbers above 0.")
        if self.polygon is None or (x_factor == 1 and y_factor == 1):
            return self
        region = copy.copy(self)  # a scaled polygon needs no second check
        object.__setattr__(region, "polygon", tuple((x * x_factor, y * y_factor) for x, y in self.polygon))
        return region

    def same_as(self, other: "Region") -> bool:
        """Whether the other region has the same fields, and the same polygon or the same values in its mask."""
        fields = (self.polygon, self.rigid, self.name, self.order)
        if fields != (other.polygon, other.rigid, other.name, other.order):
            return False
        return self.polygon is not None or torch.equal(self._mask, other._mask)

    def to_dict(self, height: int, width: int) -> dict[str, Any]:
        """
        The region as the JSON object of a stroke sheet. Fields that have their default are left out.

        Args:
            height (`int`): Height of the sheet's picture in pixels.
            width (`int`): Its width. A mask of another size is brought to this size, then rounded to 8 bits.
        """
        fields: dict[str, Any] = {}
        if self.polygon is not None:
            fields["polygon"] = [list(point) for point in self.polygon]
        else:
            pixels = (self.coverage(height, width) * 255).round().to(torch.uint8).numpy()
            png = io.BytesIO()
            PIL.Image.fromarray(pixels).save(png, format="PNG", compress_level=6)
            fields["mask"] = _PNG_PREFIX + base64.b64encode(png.getvalue()).decode()
        if self.rigid:
            fields["rigid"] = True
        if self.name is not None:
            fields["name"] = self.name
        if self.order is not None:
            fields["order"] = self.order
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any], height: int, width: int) -> Self:
        """
        The inverse of [`to_dict`], checking every field.

        Args:
            fields (`dict[str, Any]`): The JSON object.
            height (`int`): Height of the sheet's picture in pixels, which a mask has to have. No mask of another size
                is unpacked.
            width (`int`): Its width.

        Raises:
            ValueError: If a field is unknown or not as `docs/stroke-format.md` says. The message starts with the name
                of the field.
        """
        for name, value in fields.items():
            if name not in REGION_FIELDS:
                raise ValueError(
                    f"{name[:40]} is not a field of a region; its fields are: {', '.join(REGION_FIELDS)}."
                )
            if value is None:
                raise ValueError(f"{name} is null; give it a value or leave it out.")
        if "mask" in fields and "polygon" not in fields:
            fields = {**fields, "mask": _unpacked_mask(fields["mask"], height, width)}
        return cls(**fields)


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number that a float can hold, and not a bool."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def is_whole(value: Any, minimum: int) -> bool:
    """
    Whether `value` is a whole number of at least `minimum`, of any type: 3, 3.0 and `np.int64(3)` are, True is not.
    """
    return is_number(value) and value == int(value) and value >= minimum


def checked_points(points: Any, field: str) -> tuple[tuple[float, float], ...]:
    """
    Points as a tuple of pairs of floats.

    Args:
        points: Any sequence of pairs of numbers.
        field (`str`): What the message of an error calls them.

    Raises:
        ValueError: If it is no sequence, or an entry is not a pair of finite numbers.
    """
    try:
        points = list(points)
    except TypeError:
        raise ValueError(f"{field} is {reprlib.repr(points)}; it must be a list of [x, y] pairs.") from None
    for index, point in enumerate(points):
        try:
            x, y = point
        except (TypeError, ValueError):
            x = y = None
        if not (is_number(x) and is_number(y)):
            raise ValueError(
                f"{field}[{index}] is {reprlib.repr(point)}; it must be a pair [x, y] of finite numbers in pixels."
            )
    return tuple((float(x), float(y)) for x, y in points)


def _checked_polygon(polygon: Any, field: str = "polygon") -> tuple[tuple[float, float], ...]:
    """
    The corners of a polygon as a tuple of pairs of floats. The last one is joined to the first.

    A polygon may touch itself, as outlines of thin parts do, but its sides may not cross.

    Args:
        polygon: Any sequence of pairs of numbers.
        field (`str`, defaults to `"polygon"`): What the message of an error calls it.

    Raises:
        ValueError: If there are fewer than three points or too many, one is not a pair of finite numbers or is out of
            reach, sides cross, or there is no area inside.
    """
    points = checked_points(polygon, field)
    if len(points) > MAX_POLYGON_POINTS:
        raise ValueError(
            f"{field} holds {len(points)} points; {MAX_POLYGON_POINTS} are allowed: leave out points that lie nearly "
            "on the line between their neighbors, or give a mask."
        )
    if len(points) < 3:
        raise ValueError(
            f"{field} holds {len(points)} point{'s' * (len(points) != 1)}; a polygon needs at least three to have an "
            "inside."
        )
    for index, (x, y) in enumerate(points):
        if max(abs(x), abs(y)) > MAX_COORDINATE:
            raise ValueError(
                f"{field}[{index}] is [{x:g}, {y:g}]; coordinates go from {-MAX_COORDINATE:,.0f} to "
                f"{MAX_COORDINATE:,.0f} pixels: give the polygon in pixels of the picture."
            )
    corners = np.array(points)
    crossing = _first_crossing(corners)
    if crossing is not None:
        raise ValueError(
            f"{field} crosses itself: the side from point {crossing[0]} crosses the side from point {crossing[1]}; "
            "give the points in the order in which the outline passes them."
        )
    x, y = (corners - corners[0]).T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2  # the shoelace formula
    if area <= 1e-9 * np.square(np.ptp(corners, axis=0)).sum():
        raise ValueError(f"{field} has no area: its points lie on one line; give at least three that do not.")
    return points


def _first_crossing(corners: np.ndarray) -> tuple[int, int] | None:
    """
    Two sides of a polygon that cross, as the indices of the points at which they start.

    Args:
        corners (`np.ndarray` of shape `(num_points, 2)`): The points in order.

    Returns:
        `tuple[int, int]` or `None`: The smaller index first; None if no two sides cross. Sides that only touch, or lie
        on each other, do not cross.
    """
    indices = np.flatnonzero((corners != np.roll(corners, 1, axis=0)).any(axis=1))
    # A point in the middle of a straight line could hide that another side crosses the line there.
    before, after = (corners[indices] - np.roll(corners[indices], 1, axis=0), np.roll(corners[indices], -1, axis=0))
    after = after - corners[indices]
    straight = (_cross(before, after) == 0) & ((before * after).sum(axis=1) > 0)
    indices = indices[~straight]
    if len(indices) < 4:
        return None
    starts = corners[indices] - corners.mean(axis=0)
    ends = np.roll(starts, -1, axis=0)
    tolerance = 1e-12 * np.square(np.ptp(starts, axis=0)).sum()

    def sides(points: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        product = _cross(second - first, points - first)
        return np.sign(product) * (np.abs(product) > tolerance)

    for one, other in _pairs_of_near_sides(starts, ends):
        a, b, c, d = starts[one], ends[one], starts[other], ends[other]
        cross = (sides(c, a, b) * sides(d, a, b) < 0) & (sides(a, c, d) * sides(b, c, d) < 0)
        if cross.any():
            found = int(np.flatnonzero(cross)[0])
            first, second = sorted((int(indices[one[found]]), int(indices[other[found]])))
            return first, second
    return None


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _pairs_of_near_sides(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of sides whose bounding boxes overlap, in chunks of bounded size."""
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    orders = np.argsort(low, axis=0)
    # along the axis that separates more of them, the sides that follow and start before this one ends
    counts = [np.searchsorted(low[order, k], high[order, k], side="right") for k, order in enumerate(orders.T)]
    counts = [count - np.arange(1, len(low) + 1) for count in counts]
    axis = int(counts[1].sum() < counts[0].sum())
    order, count = orders[:, axis], counts[axis]
    total = np.concatenate([[0], np.cumsum(count)])
    first = 0
    while first < len(order):
        last = max(int(np.searchsorted(total, total[first] + _CHUNK, side="right")) - 1, first + 1)
        place = np.repeat(np.arange(first, last), count[first:last])
        step = np.arange(len(place)) - np.repeat(total[first:last] - total[first], count[first:last])
        one, other = order[place], order[place + 1 + step]
        near = (low[one, 1 - axis] <= high[other, 1 - axis]) & (low[other, 1 - axis] <= high[one, 1 - axis])
        if near.any():
            yield one[near], other[near]
        first = last


def _unpacked_mask(text: Any, height: int, width: int) -> PIL.Image.Image:
    """The image in a PNG data URI, if it has the given size."""
    if not (isinstance(text, str) and text.startswith(_PNG_PREFIX)):
        raise ValueError(
            f"mask is {reprlib.repr(text)}; it must be a gray PNG of {width} x {height} pixels as a text that starts "
            f"with {_PNG_PREFIX!r}."
        )
    try:
        png = base64.b64decode(text.removeprefix(_PNG_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"mask is not base64 after {_PNG_PREFIX!r} ({error}); write it again.") from None
    try:
        # opening reads only the head of the file
        image = PIL.Image.open(io.BytesIO(png), formats=["PNG"])
        if image.size == (width, height):
            image.load()
    except PIL.Image.DecompressionBombError:
        raise ValueError(
            f"mask has many more pixels than the picture of the sheet, which has {width} x {height}; it must have as "
            "many."
        ) from None
    except Exception as error:  # each decoder of PIL reports damage in its own way
        reason = "PIL finds no image in it" if isinstance(error, PIL.UnidentifiedImageError) else str(error).lower()
        raise ValueError(f"mask is not a complete PNG ({reason}); write it again.") from None
    if image.size != (width, height):
        raise ValueError(
            f"mask has {image.width} x {image.height} pixels, but the picture of the sheet has {width} x {height}; "
            "give it the size of the picture."
        )
    return image


def _mask_tensor(mask: Any) -> torch.Tensor:
    """A checked mask as a float32 tensor of its own memory, `(height, width)` in [0, 1]."""
    if isinstance(mask, (str, os.PathLike)):
        mask = _opened(mask, "mask")
    if isinstance(mask, PIL.Image.Image):
        mask = _gray_pixels(mask)
    if isinstance(mask, np.ndarray):
        if mask.dtype.kind not in "bfiu":
            raise ValueError(f"mask holds {mask.dtype}; it must hold bool, uint8 from 0 to 255, or floats in [0, 1].")
        values = torch.from_numpy(np.array(mask, dtype=np.float32 if mask.dtype.kind == "f" else None))
    elif isinstance(mask, torch.Tensor):
        values = mask.detach().cpu()
    else:
        raise TypeError(
            f"mask is a {type(mask).__name__}, but it has to be an array, a tensor, a PIL image or the path of one."
        )
    if values.ndim != 2 or values.numel() == 0:
        raise ValueError(
            f"mask has the shape {tuple(values.shape)}; it must be (height, width), with at least one pixel."
        )
    if values.dtype == torch.uint8 and values.max() == 1:
        raise ValueError(
            "mask is uint8 and holds nothing above 1, but its white is 255; make it bool, or multiply it by 255."
        )
    if values.is_floating_point():
        low, high = (value.item() for value in values.aminmax())
        if low != low or high != high:
            raise ValueError("mask holds NaN; every value must be a number from 0 to 1.")
        if low < 0 or high > 1:
            raise ValueError(
                f"mask spans [{low:.4g}, {high:.4g}]; floats must lie in [0, 1]: threshold or rescale them, or give "
                "uint8."
            )
    elif values.dtype not in (torch.uint8, torch.bool):
        raise ValueError(
            f"mask holds {str(values.dtype).removeprefix('torch.')}; it must hold bool, uint8 from 0 to 255, or "
            "floats in [0, 1]."
        )
    shares = values.to(torch.float32, copy=True)
    if values.dtype == torch.uint8:
        shares /= 255
    # floats in 8 bits, as in a sheet, so that what can be saved can be loaded
    covered = ((shares * 255).round_() / 255 if values.is_floating_point() else shares).sum().item()
    if covered < 1 - 1e-6:
        raise ValueError(
            f"mask is empty: it covers {covered:.2g} pixels in all; mark at least one pixel of the thing."
        )
    return shares


def _opened(path: str | os.PathLike, what: str) -> PIL.Image.Image:
    try:
        return PIL.ImageOps.exif_transpose(PIL.Image.open(path))
    except FileNotFoundError:
        raise
    except Exception as error:  # each decoder of PIL reports damage in its own way
        raise ValueError(f"{what} is {os.fspath(path)!r}, which cannot be read as an image: {error}.") from None


def _gray_pixels(image: PIL.Image.Image) -> np.ndarray:
    """The pixels of a mask that is an image: bool, uint8, or float32 in [0, 1] from 16 bits."""
    if image.mode in ("1", "L", "F"):
        return np.asarray(image)
    if image.mode.startswith("I"):  # PIL opens 16-bit images in these modes
        return np.asarray(image).astype(np.float32) / 65535
    red, green, blue, alpha = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
    if (alpha != 255).any() or (red != green).any() or (green != blue).any():
        raise ValueError(
            f"mask is an image of mode {image.mode!r} with colors or transparency; it must be gray: "
            '`image.convert("L")` or `image.getchannel("A")` makes it so.'
        )
    return red


def _polygon_coverage(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """
    The share of each pixel that lies inside a polygon.

    Each row of pixels is divided into four bands (two if a side of the picture is longer than 2,048 pixels). In each
    band a side of the polygon adds a step at the middle of its part there, as high as that part, and the steps are
    summed along the row. So outlines along the axes are exact, and others are off by at most half a band.

    Args:
        corners (`np.ndarray` of shape `(num_points, 2)`): The points in order, in pixels of a picture of this size.
        height (`int`): Height of the picture in pixels.
        width (`int`): Its width.

    Returns:
        `np.ndarray` of shape `(height, width)`: float32 in [0, 1]. Only what is around the polygon is worked on, in
        strips of bounded size.
    """
    coverage = np.zeros((height, width), dtype=np.float32)
    limit = np.array([width, height])
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(int)
    if left >= right or top >= bottom:
        return coverage
    bands = 4 if max(height, width) <= 2048 else 2
    rows = max(1, min(_CHUNK // (right - left + 2), _CHUNK // (bands * len(corners))))
    for row in range(top, bottom, rows):
        end = min(row + rows, bottom)
        coverage[row:end, left:right] = _strip_coverage(corners - (left, row), end - row, right - left, bands)
    return coverage


def _strip_coverage(corners: np.ndarray, height: int, width: int, bands: int) -> np.ndarray:
    start, end = corners * (1, bands), np.roll(corners, -1, axis=0) * (1, bands)
    rise = end[:, 1] - start[:, 1]
    top = np.minimum(start[:, 1], end[:, 1]).clip(0, height * bands)
    bottom = np.maximum(start[:, 1], end[:, 1]).clip(0, height * bands)
    crossed = np.flatnonzero(bottom > top)
    start, end, rise, top, bottom = start[crossed], end[crossed], rise[crossed], top[crossed], bottom[crossed]

    first = np.floor(top).astype(int)
    count = np.ceil(bottom).astype(int) - first
    side = np.repeat(np.arange(len(count)), count)
    band = first[side] + np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count)
    low, high = np.maximum(top[side], band), np.minimum(bottom[side], band + 1)
    step = np.sign(rise[side]) * (high - low) / bands
    slope = (end[:, 0] - start[:, 0]) / rise
    x = (start[side, 0] + ((low + high) / 2 - start[side, 1]) * slope[side]).clip(0, width)

    column = np.floor(x).astype(int)
    place = band // bands * (width + 2) + column
    # the pixel in which the step lies is covered from the step on, all pixels to the right of it entirely
    steps = np.bincount(place, step * (column + 1 - x), minlength=height * (width + 2))
    steps += np.bincount(place + 1, step * (x - column), minlength=height * (width + 2))
    inside = np.abs(np.cumsum(steps.reshape(height, width + 2), axis=1)[:, :width])
    # sums that rounding keeps from 0 or 1
    return np.where(inside < 1e-9, 0, np.where(inside > 1 - 1e-9, 1, inside))


def _axis_weights(source: int, target: int) -> torch.Tensor:
    """
    The sparse matrix `[target, source]` that resizes one axis: the mean over the area of each pixel if the axis
    becomes shorter, else linear interpolation between the centers of pixels.
    """
    if target < source:
        # Positions in units of 1 / target of a source pixel, in which the edges of both grids are whole numbers.
        edges = np.union1d(np.arange(source + 1) * target, np.arange(target + 1) * source)
        rows, columns, values = edges[:-1] // source, edges[:-1] // target, np.diff(edges) / source
    else:
        centers = ((np.arange(target) + 0.5) * (source / target) - 0.5).clip(0, source - 1)
        low = np.floor(centers).astype(int)
        rows = np.tile(np.arange(target), 2)
        columns = np.concatenate([low, np.minimum(low + 1, source - 1)])
        values = np.concatenate([1 - (centers - low), centers - low])
    places = torch.from_numpy(np.stack([rows, columns]))
    weights = torch.from_numpy(values).float()
    # said explicitly, since torch warns otherwise
    return torch.sparse_coo_tensor(places, weights, (target, source), check_invariants=False).coalesce()


def regions_of(value: Any, height: int, width: int) -> tuple[Region, ...]:
    """
    The regions of one picture, checked by [`check_regions`].

    Args:
        value (`list[Region]`, `np.ndarray`, `torch.Tensor`, `PIL.Image.Image`, `str` or `os.PathLike`, *optional*):
            Regions, with polygons in pixels of the picture; or a label map: whole numbers of shape `(height, width)`,
            an image of mode "1", "L", "P" or "I", or the path of one. Label 0 is what belongs to no region. Each other
            label becomes a region, in increasing order: if no label is missing, label k is number k.
        height (`int`): Height of the picture in pixels.
        width (`int`): Its width.

    Returns:
        `tuple[Region, ...]`: Empty if `value` is None.

    Raises:
        ValueError: If a label map has another size or type, or more than 64 labels, or a region is wrong.
        TypeError: If `value` is of none of the types above.
    """
    if value is None:
        return ()
    if isinstance(value, (list, tuple)) and all(isinstance(item, Region) for item in value):
        regions = tuple(value)
        check_regions(regions, height, width)
    else:
        labels = _label_map(value, height, width)
        present = np.unique(labels).tolist()
        if present[0] < 0:
            raise ValueError(f"The label map holds {present[0]}; labels are whole numbers from 0.")
        present = [label for label in present if label > 0]
        if len(present) > MAX_REGIONS:
            raise ValueError(
                f"The label map holds {len(present)} labels beside 0; {MAX_REGIONS} regions are allowed: join some; "
                "of a mask with soft outlines, make a picture in black and white only, or a `Region(mask)`."
            )
        regions = tuple(Region(labels == label) for label in present)
        check_fit(regions, height, width)
    return regions


def _label_map(value: Any, height: int, width: int) -> torch.Tensor:
    if isinstance(value, (str, os.PathLike)):
        value = _opened(value, "The label map")
    if isinstance(value, PIL.Image.Image):
        if value.mode not in ("1", "L", "P") and not value.mode.startswith("I"):
            raise ValueError(
                f"The label map is an image of mode {value.mode!r}; it must have one channel of whole numbers: mode "
                '"1", "L", "P" or "I".'
            )
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biu":
        # int64 first: torch compares and sorts few of the unsigned types
        labels = torch.from_numpy(value.astype(np.int64 if value.dtype.itemsize > 1 else np.uint8))
    elif isinstance(value, torch.Tensor) and not (value.is_floating_point() or value.is_complex()):
        labels = value.detach().cpu().to(torch.int64)
    elif isinstance(value, (np.ndarray, torch.Tensor)):
        raise ValueError(
            f"The label map holds {str(value.dtype).removeprefix('torch.')}; it must hold whole numbers: give a mask "
            "with soft outlines as `Region(mask)`."
        )
    else:
        raise TypeError(
            f"`regions` is a {type(value).__name__}, but it has to be a list of `Region` or a label map: an array or "
            "tensor of whole numbers, a PIL image or the path of one."
        )
    if labels.ndim != 2:
        raise ValueError(f"The label map has the shape {tuple(labels.shape)}; it must be (height, width).")
    if tuple(labels.shape) != (height, width):
        raise ValueError(
            f"The label map has {labels.shape[1]} x {labels.shape[0]} pixels, but the picture has {width} x {height}; "
            "give it the size of the picture, resized without interpolation."
        )
    return labels


def layer_shares(regions: Sequence[Region], height: int, width: int) -> torch.Tensor:
    """
    The share of each pixel that belongs to no region and to each region, times 255.

    Where regions overlap, a later one is in front of the earlier ones: it has its whole coverage, and they share what
    is left. So regions with a common outline leave no seam between them.

    Args:
        regions (`Sequence[Region]`): K regions, with polygons in pixels of the picture at this size.
        height (`int`): Height in pixels.
        width (`int`): Width in pixels.

    Returns:
        `torch.Tensor` of shape `(1 + K, height, width)`: uint8; the share of what belongs to no region, then of each
        region. The sum is 255 on each pixel.
    """
    shares = torch.empty(1 + len(regions), height, width, dtype=torch.uint8)
    remaining = shares[0].fill_(255)
    for number in range(len(regions), 0, -1):
        coverage = (regions[number - 1].coverage(height, width) * 255).round().to(torch.uint8)
        torch.minimum(coverage, remaining, out=shares[number])
        remaining -= shares[number]
    return shares


def layer_of_shares(shares: Sequence[float]) -> int:
    """
    The layer that a stroke acts in, if it starts in a pixel.

    Args:
        shares (`Sequence[float]`): The share of the pixel that belongs to no region, then of each region.

    Returns:
        `int`: The region with the largest share, from 1; 0 if what belongs to no region has more by `REGION_BONUS` or
        more, since strokes are often drawn on outlines.
    """
    preferred = [shares[0], *(share + REGION_BONUS if share > 0 else 0.0 for share in shares[1:])]
    return preferred.index(max(preferred))


def region_at(regions: Sequence[Region], x: float, y: float, height: int, width: int) -> int:
    """
    The number of the region that a stroke belongs to if it starts at a point; see [`layer_of_shares`].

    Args:
        regions (`Sequence[Region]`): Regions of a picture, with polygons in its pixels.
        x (`float`): The point in pixels of the picture.
        y (`float`): See `x`.
        height (`int`): Height of the picture in pixels.
        width (`int`): Its width.

    Returns:
        `int`: From 1; 0 for what belongs to no region, also if the point is outside the picture.
    """
    if not (0 <= x <= width and 0 <= y <= height):
        return 0
    column, row = min(int(x), width - 1), min(int(y), height - 1)  # the right and lower border are inside
    shares, remaining = [0.0] * (1 + len(regions)), 1.0
    for number in range(len(regions), 0, -1):
        region = regions[number - 1]
        if region.polygon is not None:
            coverage = float(_polygon_coverage(np.array(region.polygon) - (column, row), 1, 1)[0, 0])
        else:
            coverage = region.coverage(height, width)[row, column].item()
        shares[number] = min(coverage, remaining)
        remaining -= shares[number]
    shares[0] = remaining
    return layer_of_shares(shares)


def check_regions(regions: Sequence[Region], height: int, width: int) -> None:
    """
    Check that regions fit a picture, and warn if they overlap.

    Args:
        regions (`Sequence[Region]`): The regions, with polygons in pixels of the picture.
        height (`int`): Height of the picture in pixels.
        width (`int`): Its width.

    Raises:
        ValueError: If there are more than 64, two have one name, a mask has another size than the picture, or a region
            covers less than one pixel of the picture, or everything. The message names the region by its index, from
            0.
        TypeError: If one is not a [`Region`].
    """
    check_fit(regions, height, width)
    overlaps = list(_overlaps(regions, height, width))
    if overlaps:
        first, second, pixels, share = overlaps[0]
        more = f" (and {len(overlaps) - 1} more pairs overlap)" if len(overlaps) > 1 else ""
        logger.warning(
            f"{_title(regions, first)} and {_title(regions, second)} overlap on about {pixels:.0f} pixels, "
            f"{share:.1%} of the smaller one{more}; there the later one is in front: change the order of the list, or "
            "cut the overlap away, if that is not meant."
        )


def check_fit(regions: Sequence[Region], height: int, width: int) -> None:
    """The checks of [`check_regions`] that raise an error."""
    if len(regions) > MAX_REGIONS:
        raise ValueError(f"There are {len(regions)} regions; {MAX_REGIONS} are allowed: join or leave out some.")
    names: dict[str, int] = {}
    for index, region in enumerate(regions):
        if not isinstance(region, Region):
            raise TypeError(f"regions[{index}] is a {type(region).__name__}, but it has to be a `Region`.")
        if region.name is not None and names.setdefault(region.name, index) != index:
            raise ValueError(
                f"regions[{index}].name is {region.name!r}, as that of regions[{names[region.name]}]; give each "
                "region a name of its own."
            )
        if region.polygon is None and tuple(region._mask.shape) != (height, width):
            mask_height, mask_width = region._mask.shape
            raise ValueError(
                f"regions[{index}].mask has {mask_width} x {mask_height} pixels, but the picture has {width} x "
                f"{height}; give it the size of the picture."
            )
        field, share = "mask", 0.0
        if region.polygon is None:
            share = region._mask_mean
        else:
            field, share = "polygon", _measured(region, height, width).mean().item()
            if share * height * width < 1:
                raise ValueError(
                    f"regions[{index}].polygon covers {share * height * width:.2g} pixels of the picture of {width} x "
                    f"{height}; it must be given in pixels of the picture, and cover at least one."
                )
        if share >= _EVERYTHING:
            raise ValueError(
                f"regions[{index}].{field} covers {share:.1%} of the picture, so that nothing is outside; leave the "
                "region out to let the model decide, or outline one thing."
            )


def _title(regions: Sequence[Region], index: int) -> str:
    name = regions[index].name
    return f"regions[{index}]" if name is None else f"regions[{index}] ({name!r})"


def _measured(region: Region, height: int, width: int) -> torch.Tensor:
    """The coverage at the size of the picture, or at a smaller one if that is large."""
    factor = min(1, _MEASURED_SIDE / max(height, width))
    small_height, small_width = max(1, round(height * factor)), max(1, round(width * factor))
    return region._coverage(small_height, small_width, small_width / width, small_height / height)


def _overlaps(regions: Sequence[Region], height: int, width: int) -> Iterator[tuple[int, int, float, float]]:
    """
    Pairs of regions that overlap on more than one pixel and a thousandth of the smaller one: their indices, the
    pixels of the picture on which they do, and the share of the smaller one.
    """
    if len(regions) < 2:
        return
    covered = torch.stack([_measured(region, height, width) for region in regions]).flatten(1)
    areas = covered.sum(dim=1)
    # Two shares of a pixel certainly overlap where they are more than the pixel: outlines that meet do not.
    covered = covered[:, covered.sum(dim=0) > 1 + 1e-4]
    if not covered.shape[1]:
        return
    pixel = height * width / _measured(regions[0], height, width).numel()
    for first in range(len(regions) - 1):
        overlaps = (covered[first + 1 :] + covered[first] - 1).clamp(min=0).sum(dim=1)
        for second, overlap in enumerate(overlaps.tolist(), start=first + 1):
            smaller = min(areas[first].item(), areas[second].item())
            if overlap * pixel > 1 - 1e-3 and overlap > 1e-3 * smaller:
                yield first, second, overlap * pixel, overlap / smaller
