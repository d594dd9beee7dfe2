"""From dense flow to the few strokes that a user might have drawn: the sparse input of flow completion in training.

All positions and displacements are in pixels, x right and y down; pixel (0, 0) covers [0, 1) x [0, 1).
"""

from typing import Literal

import numpy as np
import torch


# The paper draws 30 % of a person's keypoints and a fixed number of general points. Users draw one stroke or many, and
# the paper is weakest at one, so the number varies here, and with it the share of the keypoints.
MAX_STROKES = 12
# A stroke is a keypoint with this probability, as far as there are keypoints, else a general point.
KEYPOINT_PROBABILITY = 0.7
# Slower than this is still; a user asks for it with a hold stroke.
STILL = 0.25
# Points are drawn by magnitude out of this many drawn evenly, so the cost does not grow with the picture.
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
    """Draws strokes for one step out of its dense flow.

    Keypoints are drawn with a probability proportional to how far they move. Half of the general points are drawn
    evenly over the picture and half by magnitude, so that background, objects and camera can be steered, too. Holds
    are points that stay within 0.25 pixels; their displacement is exactly zero. The numbers that are not given are
    drawn: 1 to 12 keypoints and general points together, n of them with probability proportional to 1 / sqrt(n); no
    hold in half of the draws, else 1 to 3.

    Args:
        flow (`np.ndarray`): float `[2, H, W]`, forward flow in pixels.
        masks (`np.ndarray`): integer `[H, W]`, 0 = background, k = k-th person. A keypoint counts only where its own
            person is seen.
        keypoints (`np.ndarray`): float `[P, K, 3]`, x, y, visibility (2 = visible; others are never drawn).
        rng (`np.random.Generator`): source of all randomness.
        num_keypoints, num_general, num_holds (`int`, *optional*): how many of each, as far as there are so many.
        sampling (`str`): `uniform` draws all keypoints and general points with the same probability, however far they
            move.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: points and displacements, both float32 `[N, 2]` (x, y). N is at least 1 unless
        the numbers given say otherwise.

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
    anywhere = pixel_centers(rng, CANDIDATES, height, width)
    still = np.hypot(*_flow_at(flow, anywhere).T) < STILL
    even_positions = anywhere[: num_general - num_moving]
    moving_positions, moving_displacements = _draw(
        flow, anywhere[num_general - num_moving :], num_moving, rng, by_magnitude
    )
    hold_positions = anywhere[::-1][still[::-1]][:num_holds]

    points = np.concatenate([keypoint_positions, even_positions, moving_positions, hold_positions])
    displacements = np.concatenate(
        [keypoint_displacements, _flow_at(flow, even_positions), moving_displacements, np.zeros_like(hold_positions)]
    )
    return points, displacements


def keypoint_strokes(
    flow: np.ndarray, keypoints: np.ndarray, number: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws keypoint strokes only, by magnitude: the input of evaluation, e.g. "5 keypoint strokes".

    Args:
        flow (`np.ndarray`): float `[2, H, W]`, forward flow in pixels.
        keypoints (`np.ndarray`): float `[P, K, 3]`, x, y, visibility.
        number (`int`): how many, as far as so many are visible.
        rng (`np.random.Generator`): source of all randomness.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: points and displacements, both float32 `[N, 2]`, N <= number; the displacement
        is that of the dense flow at the keypoint's pixel.
    """
    return _draw(flow, visible_keypoints(keypoints, flow.shape[1:]), number, rng, by_magnitude=True)


def rasterize_points(
    points: np.ndarray, displacements: np.ndarray, latent_size: tuple[int, int], image_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rasterizes points onto the latent grid, by the rule that the pipeline applies to strokes.

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
    flow = np.zeros((2, height, width))
    count = np.zeros((1, height, width))
    np.add.at(flow, (slice(None), rows, columns), displacements[inside].T)
    np.add.at(count, (0, rows, columns), 1)
    cells_per_pixel = np.array([width / image_width, height / image_height]).reshape(2, 1, 1)
    flow = flow / np.maximum(count, 1) * cells_per_pixel
    return torch.from_numpy(flow.astype(np.float32)), torch.from_numpy(count > 0)


def visible_keypoints(
    keypoints: np.ndarray, image_size: tuple[int, int], masks: np.ndarray | None = None
) -> np.ndarray:
    """float32 `[N, 2]`: the keypoints that are visible, in the picture and, given masks, on their own person."""
    height, width = image_size
    x, y, visibility = np.moveaxis(keypoints, -1, 0)
    person, point = np.nonzero((visibility == 2) & (x >= 0) & (x < width) & (y >= 0) & (y < height))
    positions = keypoints[person, point, :2].astype(np.float32)
    if masks is None:
        return positions
    columns, rows = positions.astype(np.int64).T
    return positions[masks[rows, columns] == person + 1]


def weighted_order(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of things in which each next one is drawn with a probability proportional to its weight.

    Successive draws without replacement are the smallest of exponential variables over the weights (Efraimidis and
    Spirakis 2006).

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
    """`number` of the positions, none twice, with probability proportional to the flow's magnitude there or equal."""
    displacements = _flow_at(flow, positions)
    # The small constant lets still points be drawn when nothing else is left.
    weights = np.hypot(*displacements.T) + 1e-3 if by_magnitude else np.ones(len(positions))
    order = weighted_order(weights, rng)[:number]
    return positions[order], displacements[order]


def _flow_at(flow: np.ndarray, positions: np.ndarray) -> np.ndarray:
    columns, rows = positions.astype(np.int64).T
    return flow[:, rows, columns].T.astype(np.float32)


def pixel_centers(rng: np.random.Generator, number: int, height: int, width: int) -> np.ndarray:
    """float32 `[number, 2]`: (x, y) of the centers of pixels drawn evenly, with replacement."""
    return (rng.integers(0, (width, height), size=(number, 2)) + 0.5).astype(np.float32)
