# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Few tracks instead of many: those from which the motion of the others follows."""

from dataclasses import dataclass

import numpy as np

from .tracks import Tracks


# Added to squared distances between points, in parts of the squared shorter side of the image, so that the weight of a
# point that lies on another one is finite.
SMALLEST_DISTANCE = 1e-6


@dataclass(frozen=True)
class ThinnedTracks:
    """
    What is left of many tracks, and what was lost.

    Args:
        tracks (`Tracks`): The tracks that are kept.
        mean_error (`float`): Mean distance in pixels, over the other tracks and their frames, between where a point is
            and where the kept tracks say it is; 0 if all tracks are kept.
        max_error (`float`): The largest of these distances, in pixels.
    """

    tracks: Tracks
    mean_error: float
    max_error: float


def thin_tracks(tracks: Tracks, max_tracks: int = 32, max_error: float = 1.0) -> ThinnedTracks:
    """
    Keep the tracks from which the motion of the others follows.

    What the kept tracks say of a point is the mean of their displacements in each step, weighted by the inverse fourth
    power of their distance from it in that step (Shepard 1968; with the square, many far ones outweigh the nearest);
    the errors of its steps add up. One by one, the track with
    the largest error is kept, until no error is above `max_error` or there are `max_tracks`.

    Args:
        tracks (`Tracks`): All tracks.
        max_tracks (`int`, defaults to 32): Tracks to keep at most.
        max_error (`float`, defaults to 1.0): The error that is accepted, in pixels; 0 keeps all that differ.

    Returns:
        `ThinnedTracks`: the kept tracks in their order, and the errors of the others.

    Raises:
        ValueError: If `max_tracks` is below 1, or `max_error` is negative.
    """
    if max_tracks < 1 or not max_error >= 0:
        raise ValueError(
            f"At most {max_tracks} tracks with an error of {max_error} pixels cannot be kept: keep at least 1, with "
            "an error from 0."
        )
    step = tracks.visible[:-1] & tracks.visible[1:]  # [T - 1, N]
    displacement = np.where(step[..., None], np.diff(tracks.positions, axis=0), 0.0)
    nearest = SMALLEST_DISTANCE * min(tracks.width, tracks.height) ** 2
    total, weights = np.zeros_like(displacement), np.zeros(step.shape)
    kept: list[int] = []
    # a track that is never visible for a whole step says nothing
    is_open = step.any(axis=0)
    while True:
        said = total / np.maximum(weights, 1e-100)[..., None]
        distance = np.linalg.norm(np.cumsum(np.where(step[..., None], displacement - said, 0.0), axis=0), axis=2)
        error = np.where(is_open, np.where(step, distance, 0.0).max(axis=0), -1.0)
        worst = int(error.argmax())
        if error[worst] <= (max_error if kept else -1.0) or len(kept) == max_tracks:
            break
        kept.append(worst)
        is_open[worst] = False
        away = np.square(tracks.positions[:-1] - tracks.positions[:-1, worst : worst + 1]).sum(axis=2)
        weight = np.where(step[:, worst : worst + 1], 1 / (away + nearest) ** 2, 0.0)
        total += weight[..., None] * displacement[:, worst : worst + 1]
        weights += weight
    if not kept:
        raise ValueError("No track is visible in two frames after each other, so there is no motion to read.")
    left_out = step & is_open
    errors = distance[left_out]
    return ThinnedTracks(
        tracks.chosen(sorted(kept)),
        mean_error=float(errors.mean()) if errors.size else 0.0,
        max_error=float(errors.max()) if errors.size else 0.0,
    )
