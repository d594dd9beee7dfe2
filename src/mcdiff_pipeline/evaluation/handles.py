# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Handles: points of a clip, tracked along its true flow. The track of a handle serves as the user's stroke."""

from dataclasses import dataclass

import numpy as np

from ..dataset import Clip
from ..dataset.sampling import CANDIDATES, STILL, pixel_centers, visible_keypoints, weighted_order
from ..strokes import Stroke


@dataclass(frozen=True)
class Handle:
    """A point of frame 0 and its track.

    Args:
        track (`np.ndarray`): float64 `[L, 2]`, L >= 2, the position (x, y) in pixels in frames 0 to L - 1. The track
            ends before the first frame in which the point is covered or outside the image.
    """

    track: np.ndarray

    def stroke(self) -> Stroke:
        """This track as a `Stroke`, one point per frame."""
        return Stroke(self.track.tolist(), frames=range(len(self.track)))


def follow_points(clip: Clip, points: np.ndarray) -> list[np.ndarray]:
    """Tracks points of frame 0 along the true flow of a clip.

    In each step a point moves by the flow of the pixel that contains it, which is at most half a pixel away on each
    axis. A track ends where the pixel is occluded, where the point leaves the image, and where rounding moves the
    point to another mask.

    Args:
        clip (`Clip`): the clip.
        points (`np.ndarray`): float `[N, 2]`, (x, y) in pixels, inside the image.

    Returns:
        `list[np.ndarray]`: for each point its track, float64 `[L, 2]`, L >= 1.
    """
    height, width = clip.frames.shape[1:3]
    tracks = []
    for point in points.astype(np.float64):
        track = [point]
        mask = clip.masks[0, int(point[1]), int(point[0])]
        for t, flow in enumerate(clip.flow):
            column, row = track[-1].astype(int)
            if clip.occlusion[t, row, column]:
                break
            x, y = position = track[-1] + flow[:, row, column]
            if not (0 <= x < width and 0 <= y < height) or clip.masks[t + 1, int(y), int(x)] != mask:
                break
            track.append(position)
        tracks.append(np.stack(track))
    return tracks


def draw_handles(clip: Clip, number: int, rng: np.random.Generator, *, anywhere: bool = False) -> list[Handle]:
    """Draws moving handles without replacement, with a probability proportional to how far they move.

    The order is random too, so the first k of the handles are a draw of k handles.

    Args:
        clip (`Clip`): the clip.
        number (`int`): maximum number of handles.
        rng (`np.random.Generator`): source of all randomness.
        anywhere (`bool`, defaults to `False`): draws from all pixels instead of visible keypoints.

    Returns:
        `list[Handle]`: at most `number` handles. Points that stay within 0.25 pixels, or whose track ends at once, are
        never drawn.
    """
    height, width = clip.frames.shape[1:3]
    if anywhere:
        points = pixel_centers(rng, CANDIDATES, height, width)
    else:
        points = visible_keypoints(clip.keypoints[0], (height, width), clip.masks[0])
    tracks = follow_points(clip, points)
    reach = np.array([np.linalg.norm(track - track[0], axis=1).max() for track in tracks])
    order = weighted_order(np.maximum(reach, 1e-9), rng)
    return [Handle(tracks[index]) for index in order if reach[index] > STILL][:number]
