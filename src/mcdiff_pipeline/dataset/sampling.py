"""Strokes sampled from dense flow, as a user might draw them, and the sparse flow that they give.

Positions and displacements are in pixels, x to the right and y down; pixel (0, 0) covers [0, 1) x [0, 1).
"""

from typing import Literal

import numpy as np
import torch


# The paper draws 30 % of the keypoints of a person and a fixed number of general points. Users draw one stroke or
# many, and the paper's results are weakest with one stroke. So here the number of strokes varies, and the share of
# keypoints with it.
MAX_STROKES = 12
# A stroke is at a keypoint with this probability, while keypoints are left, and at a general point otherwise.
KEYPOINT_PROBABILITY = 0.7
# A pixel that moves less, in pixels, is still. Users mark it with a hold stroke.
STILL = 0.25
# Points are drawn by magnitude from this number of uniformly drawn points, so the cost does not depend on image size.
CANDIDATES = 256


def sample_strokes(
    flow: np.ndarray,
    masks: np.ndarray,
    keypoints: np.ndarray,
    *,
    rng: np.random.Generator,
    num_keypoints: int | None = None,
    num_general: int | None = None,
    num_holds: int | None = None,
    sampling: Literal["magnitude", "uniform"] = "magnitude",
) -> tuple[np.ndarray, np.ndarray]:
    """Samples strokes for one step from its dense flow.

    A keypoint is drawn with a probability proportional to its displacement. Half of the general points are drawn
    uniformly over the image and half by magnitude, so that strokes also steer background, objects and camera. Holds
    are points that move less than 0.25 pixels; their displacement is set to zero.

    Numbers that are not given are drawn. The number of keypoints and general points together is 1 to 12; n has a
    probability proportional to 1 / sqrt(n). The number of holds is 0 in half of the samples, and 1 to 3 in the others.

    Args:
        flow (`np.ndarray`): float `[2, H, W]`, forward flow in pixels.
        masks (`np.ndarray`): integer `[H, W]`, 0 = background, k = k-th person. A keypoint is used only where the mask
            shows its own person.
        keypoints (`np.ndarray`): float `[P, K, 3]`, x, y, visibility. Only visible ones (2) are used.
        rng (`np.random.Generator`): source of all randomness.
        num_keypoints, num_general, num_holds (`int`, *optional*): numbers of points; fewer are drawn if there are not
            enough.
        sampling (`str`, defaults to `"magnitude"`): `uniform` draws keypoints and general points with equal
            probability, whatever their displacement.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: points and displacements, both float32 `[N, 2]` (x, y). N is at least 1,
        unless the given numbers are zero.

    Raises:
        ValueError: if `sampling` is unknown.
    """
    if sampling not in ("magnitude", "uniform"):
        raise ValueError(f"`sampling` is {sampling!r}, but only 'magnitude' and 'uniform' are known.")
    by_magnitude = sampling == "magnitude"
    height, width = flow.shape[1:]
    visible = visible_keypoints(keypoints, (height, width), masks)
    if num_keypoints is None or num_general is None:
        odds = np.arange(1, MAX_STROKES + 1) ** -0.5
        total = 1 + int(np.searchsorted(np.cumsum(odds / odds.sum()), rng.random()))
        if num_keypoints is None:
            num_keypoints = min(len(visible), int(rng.binomial(total, KEYPOINT_PROBABILITY)))
        if num_general is None:
            num_general = max(0, total - num_keypoints)
    if num_holds is None:
        num_holds = int(rng.integers(1, 4)) if rng.random() < 0.5 else 0

    keypoint_positions, keypoint_displacements = _draw(flow, visible, num_keypoints, rng, by_magnitude)

    num_moving = int(rng.binomial(num_general, 0.5))
    candidates = pixel_centers(rng, CANDIDATES, height, width)
    still = np.hypot(*_flow_at(flow, candidates).T) < STILL
    uniform_positions = candidates[: num_general - num_moving]
    moving_positions, moving_displacements = _draw(
        flow, candidates[num_general - num_moving :], num_moving, rng, by_magnitude
    )
    hold_positions = candidates[::-1][still[::-1]][:num_holds]

    points = np.concatenate([keypoint_positions, uniform_positions, moving_positions, hold_positions])
    displacements = np.concatenate(
        [
            keypoint_displacements,
            _flow_at(flow, uniform_positions),
            moving_displacements,
            np.zeros_like(hold_positions),
        ]
    )
    return points, displacements


def keypoint_strokes(
    flow: np.ndarray, keypoints: np.ndarray, number: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Samples keypoint strokes only, by magnitude, for evaluation.

    Args:
        flow (`np.ndarray`): float `[2, H, W]`, forward flow in pixels.
        keypoints (`np.ndarray`): float `[P, K, 3]`, x, y, visibility.
        number (`int`): number of strokes; fewer are drawn if fewer keypoints are visible.
        rng (`np.random.Generator`): source of all randomness.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: points and displacements, both float32 `[N, 2]`, N <= number. The displacement
        is the dense flow at the pixel of the keypoint.
    """
    return _draw(flow, visible_keypoints(keypoints, flow.shape[1:]), number, rng, by_magnitude=True)


def rasterize_points(
    points: np.ndarray, displacements: np.ndarray, latent_size: tuple[int, int], image_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rasterizes points onto the latent grid, by the rule of `mcdiff_pipeline.strokes.rasterize_strokes`.

    Args:
        points (`np.ndarray`): float `[N, 2]`, (x, y) in pixels. Points outside the image are ignored.
        displacements (`np.ndarray`): float `[N, 2]`, (u, v) in pixels.
        latent_size (`tuple[int, int]`): (h, w) in cells.
        image_size (`tuple[int, int]`): (H, W) in pixels.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: sparse flow float32 `[2, h, w]` in cells of the latent grid, the mean of
        the points in each cell and zero in a cell without points; and its mask, bool `[1, h, w]`, True in a cell with
        points.
    """
    height, width = latent_size
    image_height, image_width = image_size
    x, y = points[:, 0].astype(np.float64), points[:, 1].astype(np.float64)
    inside = (x >= 0) & (x < image_width) & (y >= 0) & (y < image_height)
    rows = np.minimum((y[inside] * height / image_height).astype(np.int64), height - 1)
    columns = np.minimum((x[inside] * width / image_width).astype(np.int64), width - 1)
    cells = rows * width + columns
    flow = np.zeros((2, height * width))
    count = np.zeros(height * width)
    for channel in range(2):
        np.add.at(flow[channel], cells, displacements[inside, channel])
    np.add.at(count, cells, 1)
    cells_per_pixel = np.array([[width / image_width], [height / image_height]])
    flow = (flow / np.maximum(count, 1) * cells_per_pixel).reshape(2, height, width)
    mask = torch.from_numpy(count > 0).reshape(1, height, width)
    return torch.from_numpy(flow.astype(np.float32)), mask


def visible_keypoints(
    keypoints: np.ndarray, image_size: tuple[int, int], masks: np.ndarray | None = None
) -> np.ndarray:
    """float32 `[N, 2]`: keypoints that are visible, inside the image and, if masks are given, on their own person."""
    height, width = image_size
    x, y, visibility = np.moveaxis(keypoints, -1, 0)
    person, point = np.nonzero((visibility == 2) & (x >= 0) & (x < width) & (y >= 0) & (y < height))
    positions = keypoints[person, point, :2].astype(np.float32)
    if masks is None:
        return positions
    columns, rows = positions.astype(np.int64).T
    return positions[masks[rows, columns] == person + 1]


def weighted_order(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random order by weighted draws without replacement.

    Sorts exponential random variables divided by the weights (Efraimidis and Spirakis, "Weighted random sampling with
    a reservoir", 2006).

    Args:
        weights (`np.ndarray`): float `[N]`, above 0.
        rng (`np.random.Generator`): source of all randomness.

    Returns:
        `np.ndarray`: int `[N]`, indices.
    """
    return np.argsort(rng.standard_exponential(len(weights)) / weights)


def _draw(
    flow: np.ndarray, positions: np.ndarray, number: int, rng: np.random.Generator, by_magnitude: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Draws positions without replacement, weighted by the magnitude of flow there or uniformly."""
    displacements = _flow_at(flow, positions)
    # The small constant allows still points when no others are left.
    weights = np.hypot(*displacements.T) + 1e-3 if by_magnitude else np.ones(len(positions))
    order = weighted_order(weights, rng)[:number]
    return positions[order], displacements[order]


def _flow_at(flow: np.ndarray, positions: np.ndarray) -> np.ndarray:
    columns, rows = positions.astype(np.int64).T
    return flow[:, rows, columns].T.astype(np.float32)


def pixel_centers(rng: np.random.Generator, number: int, height: int, width: int) -> np.ndarray:
    """float32 `[number, 2]`: centers (x, y) of pixels drawn uniformly with replacement."""
    return (rng.integers(0, (width, height), size=(number, 2)) + 0.5).astype(np.float32)
