# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Choice of a crop around the motion of a clip."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from .motion import Motion, ThumbnailFrame, percentile
from .settings import SelectionSettings


# The crop leaves out the fraction `STRAY` of the motion at each end. On each side it adds a margin, the fraction
# `MARGIN` of the extent of the motion, because parts of a person may not move. Inspected on clips of walking,
# balancing and talking people.
STRAY = 0.02
MARGIN = 0.2
# Smallest width and height of a crop, as a fraction of the largest crop. It decides at which size the video is
# decoded: smaller crops would cost more time than the optical flow.
LEAST_CROP = 0.5
# If the motion does not fit into the crop, a place off the center is chosen only if it contains this fraction more of
# the motion.
CENTER_BONUS = 0.1
# Number of places tried in each direction.
NUM_PLACES = 65


class CropWindow:
    """Chooses a crop around motion, and measures the motion in it. Lengths are in pixels of the upright video.

    Args:
        frame (`ThumbnailFrame`): any frame of the clip, for the sizes.
        settings (`SelectionSettings`): give the resolution of the clips.

    Attributes:
        enlargement: resolution of the clips over the height of the largest crop.
    """

    def __init__(self, frame: ThumbnailFrame, settings: SelectionSettings) -> None:
        self.height, self.width = settings.size
        self.image_size = frame.full.height, frame.full.width
        self.thumbnail_height = frame.thumbnail.shape[0]
        self.aspect = self.width / self.height / frame.full.pixel_aspect
        self.largest = min(frame.full.height, frame.full.width / self.aspect)
        resolution = max(self.height, self.width / self.aspect)
        self.enlargement = resolution / self.largest
        self.smallest = min(self.largest, max(resolution, LEAST_CROP * self.largest))

    def around(self, motions: Sequence[Motion]) -> tuple[int, int, int, int]:
        """Left, top, width and height of the smallest crop around these motions."""
        moving = np.sum([motion.moving for motion in motions], axis=0)
        shares = [np.concatenate([[0.0], np.cumsum(moving.sum(axis=axis))]) for axis in (1, 0)]
        edges = [np.linspace(0, size, len(share)) for size, share in zip(self.image_size, shares, strict=True)]
        total = max(shares[0][-1], 1e-6)
        ends = [
            np.interp([STRAY * total, (1 - STRAY) * total], share, edge)
            for share, edge in zip(shares, edges, strict=True)
        ]
        extents = [(1 + 2 * MARGIN) * (high - low) for low, high in ends]
        height = min(max(extents[0], extents[1] / self.aspect, self.smallest), self.largest)
        starts, sizes = [], (round(height), round(height * self.aspect))
        for size, whole, share, edge, (low, high) in zip(sizes, self.image_size, shares, edges, ends, strict=True):
            if high - low <= size:
                start = (low + high - size) / 2
            else:
                places = np.linspace(0, whole - size, NUM_PLACES)
                held = (np.interp(places + size, edge, share) - np.interp(places, edge, share)) / total
                off_center = np.abs(places / max(whole - size, 1) - 0.5) * 2
                start = places[np.argmax(held - CENTER_BONUS * off_center)]
            starts.append(min(max(round(start), 0), whole - size))
        return starts[1], starts[0], sizes[1], sizes[0]

    def displacement(self, motion: Motion, crop: tuple[int, int, int, int]) -> float:
        """95th percentile of the magnitude in the crop, in pixels of the clip."""
        left, top, width, height = crop
        rows, columns = motion.magnitude.shape
        down, right = rows / self.image_size[0], columns / self.image_size[1]
        inside = motion.magnitude[
            math.floor(top * down) : math.ceil((top + height) * down),
            math.floor(left * right) : math.ceil((left + width) * right),
        ]
        return percentile(inside, 95) * self.image_size[0] / self.thumbnail_height * self.height / height

    def at_least(self, displacement: float, crop: tuple[int, int, int, int]) -> float:
        """A displacement in `crop`, converted to the largest crop, up to which later frames may enlarge `crop`."""
        return displacement * crop[3] / self.largest

    def cut(self, frame: ThumbnailFrame, crop: tuple[int, int, int, int]) -> np.ndarray:
        """The crop of a frame, uint8 `[H, W, 3]` at the resolution of the clips."""
        # The largest crop, which most are, is reduced in one step. All others are cut from one decoded size.
        share = 1 if crop[3] == round(self.largest) else LEAST_CROP
        pixels = frame.full.pixels(math.ceil(min(self.image_size) * min(1, self.enlargement / share)))
        scale = pixels.shape[0] / self.image_size[0]
        left, top, width, height = (round(value * scale) for value in crop)
        part = pixels[top : top + height, left : left + width]
        shrinks = part.shape[0] >= self.height and part.shape[1] >= self.width
        return cv2.resize(
            part, (self.width, self.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        )
