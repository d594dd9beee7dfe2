# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""How a reference video lies on an image: affine maps of the plane."""

from collections.abc import Sequence

import numpy as np


def covering(image_size: tuple[int, int], video_size: tuple[int, int]) -> np.ndarray:
    """
    The map from an image to a video that is laid over it, as large as needed to cover it, with equal centers.

    Args:
        image_size (`tuple[int, int]`): (width, height) of the image in pixels.
        video_size (`tuple[int, int]`): (width, height) of the video in pixels.

    Returns:
        `np.ndarray` of shape `(2, 3)`, float64: `[M | b]`; a point p of the image is at `M p + b` in the video.
    """
    scale = min(video / image for image, video in zip(image_size, video_size, strict=True))
    shift = [video / 2 - scale * image / 2 for image, video in zip(image_size, video_size, strict=True)]
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def aligned_by_points(
    in_image: Sequence[tuple[float, float]], in_video: Sequence[tuple[float, float]], scale: float
) -> np.ndarray:
    """
    The map from an image to a video that takes points to their counterparts.

    Args:
        in_image (`Sequence[tuple[float, float]]`): (x, y) in pixels of the image.
        in_video (`Sequence[tuple[float, float]]`): Their counterparts in pixels of the video.
        scale (`float`): Pixels of the video in a pixel of the image, if there is only one point.

    Returns:
        `np.ndarray` of shape `(2, 3)`; see [`covering`]. One point gives a translation, two a similarity, and more the
        affine map of least squares.

    Raises:
        ValueError: If there is no point, or the points do not determine a map: two are equal, or all lie on a line.
    """
    here, there = np.array(in_image, dtype=float).reshape(-1, 2), np.array(in_video, dtype=float).reshape(-1, 2)
    if len(here) == 0 or len(here) != len(there):
        raise ValueError(f"There are {len(here)} points in the image and {len(there)} in the video: give pairs.")
    if len(here) == 1:
        return np.array([[scale, 0, there[0, 0] - scale * here[0, 0]], [0, scale, there[0, 1] - scale * here[0, 1]]])
    if len(here) == 2:
        (a, b), (c, d) = here @ [1, 1j], there @ [1, 1j]
        if a == b or c == d:
            raise ValueError("Both points are the same in the image or in the video: give different ones.")
        factor = (d - c) / (b - a)
        shift = c - factor * a
        return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
    design = np.concatenate([here, np.ones((len(here), 1))], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(design, there, rcond=1e-9)
    found = solution.T
    if rank < 3 or abs(np.linalg.det(found[:, :2])) < 1e-6:
        raise ValueError("The points lie on a line in the image or in the video: give one beside it.")
    return found
