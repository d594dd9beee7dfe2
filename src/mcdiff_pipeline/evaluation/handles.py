# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Handles: points of a clip, followed along its true flow. A handle and its way are what a user's stroke would say."""

from dataclasses import dataclass

import numpy as np

from ..dataset import Clip
from ..dataset.sampling import CANDIDATES, STILL, pixel_centers, visible_keypoints, weighted_order
from ..strokes import Stroke


@dataclass(frozen=True)
class Handle:
    """A point of frame 0 and where it goes.

    Args:
        track (`np.ndarray`): float64 `[L, 2]`, L >= 2, its position (x, y) in pixels in frames 0 to L - 1. It ends
            before the frame in which the point is covered or out of the picture.
    """

    track: np.ndarray

    def stroke(self) -> Stroke:
        """The stroke that says this way, frame by frame."""
        return Stroke(self.track.tolist(), frames=range(len(self.track)))


def follow_points(clip: Clip, points: np.ndarray) -> list[np.ndarray]:
    """Follows points of frame 0 along the true flow of a clip.

    A point takes the flow of the pixel it is on, so after a step it is at most half a pixel off on each axis. It is
    lost where its pixel is occluded, where it leaves the picture, and where rounding puts it on another mask than it
    came from.

    Args:
        clip (`Clip`): the clip.
        points (`np.ndarray`): float `[N, 2]`, (x, y) in pixels, inside the picture.

    Returns:
        `list[np.ndarray]`: for each point float64 `[L, 2]`, L >= 1, its positions until it is lost.
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
    """Draws handles that move, with a probability proportional to how far they get, none twice.

    The order is random as well: the first few are a draw of fewer handles.

    Args:
        clip (`Clip`): the clip.
        number (`int`): how many, as far as there are so many.
        rng (`np.random.Generator`): source of all randomness.
        anywhere (`bool`, defaults to `False`): handles are any pixels, instead of keypoints that are to be seen.

    Returns:
        `list[Handle]`: `number` or fewer; those that stay within 0.25 pixels or are lost at once do not count.
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
