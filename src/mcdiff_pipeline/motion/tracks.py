# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Tracks: points that are followed over the frames of a video, and the strokes that say the same."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ..strokes import Stroke, StrokeSheet


# The largest array of positions that is read, in numbers: 2 GB.
MAX_POSITIONS = 250_000_000


@dataclass(frozen=True, eq=False)
class Tracks:
    """
    Points that are followed over the frames of a video.

    Args:
        positions (`np.ndarray` of shape `(num_frames, tracks, 2)`):
            float64, (x, y) in pixels of the image: pixel (0, 0) covers [0, 1) x [0, 1). Anything where not visible.
        visible (`np.ndarray` of shape `(num_frames, tracks)`):
            bool, whether the position is known.
        width (`int`): Width of the image in pixels.
        height (`int`): Height of the image in pixels.
        fps (`float`, defaults to 8.0): Frames per second.

    Raises:
        ValueError: If shapes do not fit together, there are fewer than two frames or no track, or the position of a
            visible point is not finite.
    """

    positions: np.ndarray
    visible: np.ndarray
    width: int
    height: int
    fps: float = 8.0

    def __post_init__(self) -> None:
        positions = np.asarray(self.positions)
        if positions.ndim != 3 or positions.shape[2:] != (2,) or positions.shape[0] < 2 or positions.shape[1] < 1:
            raise ValueError(
                f"The positions of the tracks have the shape {list(positions.shape)}, but [frames, tracks, 2] with at "
                "least two frames and one track is needed."
            )
        if positions.size > MAX_POSITIONS:
            raise ValueError(
                f"There are {positions.size} numbers in the tracks, but at most {MAX_POSITIONS} are read."
            )
        visible = np.asarray(self.visible)
        if visible.shape != positions.shape[:2]:
            raise ValueError(
                f"The visibility of the tracks has the shape {list(visible.shape)}, but their positions have "
                f"{list(positions.shape)}: one value for each position is needed."
            )
        visible = visible.astype(bool)
        wrong = np.argwhere(visible & ~np.isfinite(positions).all(axis=2))
        if len(wrong) > 0:
            frame, track = wrong[0]
            raise ValueError(
                f"Track {track} is visible in frame {frame} at {positions[frame, track].tolist()}, which is no "
                "position: correct it, or mark it as not visible."
            )
        positions = np.where(visible[..., None], positions, 0.0).astype(np.float64)
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "visible", visible)

    @property
    def num_frames(self) -> int:
        return self.positions.shape[0]

    def __len__(self) -> int:
        return self.positions.shape[1]

    @classmethod
    def of_sheet(cls, sheet: StrokeSheet) -> Self:
        """
        The strokes of a sheet, one track for each handle. A track is visible while its stroke specifies something.

        Raises:
            ValueError: If the sheet has no strokes.
        """
        if not sheet.strokes:
            raise ValueError("The stroke sheet has no strokes, so there are no tracks to write: draw some.")
        sheet = sheet.plain()
        positions = np.zeros((sheet.num_frames, len(sheet.strokes), 2))
        visible = np.zeros(positions.shape[:2], dtype=bool)
        for index, stroke in enumerate(sheet.strokes):
            for frame in range(sheet.num_frames):
                point = stroke.at(frame, sheet.num_frames)
                if point is not None:
                    positions[frame, index], visible[frame, index] = point, True
        return cls(positions, visible, sheet.width, sheet.height, sheet.fps)

    def chosen(self, indices: np.ndarray | list[int]) -> Self:
        """Some of the tracks."""
        return replace(self, positions=self.positions[:, indices], visible=self.visible[:, indices])

    def resampled(self, num_frames: int) -> Self:
        """
        The same motion in another number of frames, at positions between frames by linear interpolation.

        The first and the last frame stay what they are, and the frame rate changes so that the duration does not. A
        point between two frames is visible if it is in both.

        Raises:
            ValueError: If `num_frames` is below 2.
        """
        if num_frames < 2:
            raise ValueError(f"`num_frames` is {num_frames}, but a video has at least 2 frames.")
        if num_frames == self.num_frames:
            return self
        times = np.linspace(0, self.num_frames - 1, num_frames)
        before = np.minimum(times.astype(int), self.num_frames - 2)
        share = (times - before)[:, None, None]
        positions = (1 - share) * self.positions[before] + share * self.positions[before + 1]
        visible = (self.visible[before] | (share[..., 0] == 1)) & (self.visible[before + 1] | (share[..., 0] == 0))
        fps = self.fps * (num_frames - 1) / (self.num_frames - 1)
        return replace(self, positions=positions, visible=visible, fps=fps)

    def sheet(self, tolerance: float = 0.1) -> StrokeSheet:
        """
        The stroke sheet that says the same.

        Each time in which a track is visible becomes a stroke: a hold, if the point stays within `tolerance` of where
        it begins. Otherwise it is a move with a point for some of the frames, so that it is never farther than
        `tolerance` from the track. Positions more than one image size away from the image count as not visible.

        Args:
            tolerance (`float`, defaults to 0.1):
                In pixels; 0 changes nothing.

        Raises:
            ValueError: If there are more strokes than a sheet may have.
        """
        strokes = [stroke for track in range(len(self)) for stroke in self._strokes_of(track, tolerance)]
        return StrokeSheet(strokes, self.width, self.height, self.num_frames, self.fps)

    def _strokes_of(self, track: int, tolerance: float) -> Iterator[Stroke]:
        size = np.array([self.width, self.height])
        near = np.abs(self.positions[:, track] / size - 0.5).max(axis=1) <= 1.5
        for first, last in _runs(self.visible[:, track] & near):
            path = self.positions[first : last + 1, track]
            if np.linalg.norm(path - path[0], axis=1).max() <= tolerance:
                yield Stroke([tuple(path[0])], kind="hold", start_frame=first, end_frame=last)
                continue
            kept = needed_points(path, tolerance)
            points = [(float(x), float(y)) for x, y in path[kept]]
            yield Stroke(points, frames=[float(first + index) for index in kept])


def _runs(visible: np.ndarray) -> list[tuple[int, int]]:
    """The first and the last frame of each time of at least two frames in which a point `(num_frames,)` is visible."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], visible, [False]]).astype(int)))
    return [(int(first), int(end) - 1) for first, end in edges.reshape(-1, 2) if end - first > 1]


def needed_points(path: np.ndarray, tolerance: float) -> list[int]:
    """
    The points of a path that are needed to know all of them (Douglas and Peucker 1973, with distances at equal times).

    Args:
        path (`np.ndarray` of shape `(points, 2)`): Positions at equal steps of time.
        tolerance (`float`): How far linear interpolation between the points may be from the path at any time.

    Returns:
        `list[int]`: their indices, increasing; the first and the last point are always among them.
    """
    kept, parts = {0, len(path) - 1}, [(0, len(path) - 1)]
    while parts:
        first, last = parts.pop()
        share = np.linspace(0, 1, last - first + 1)[:, None]
        distance = np.linalg.norm(path[first : last + 1] - ((1 - share) * path[first] + share * path[last]), axis=1)
        worst = int(distance.argmax())
        # rounding of the interpolation is not a corner
        if distance[worst] > tolerance + 1e-9:
            kept.add(first + worst)
            parts += [(first, first + worst), (first + worst, last)]
    return sorted(kept)
