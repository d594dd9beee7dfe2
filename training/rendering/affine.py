"""Affine maps of the plane as `[2, 3]` arrays: (x, y) -> `matrix @ (x, y, 1)`."""

import numpy as np


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine map that applies `first`, then `second`."""
    return np.concatenate([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2:] + second[:, 2:]], axis=1)


def inverse_affine(matrix: np.ndarray) -> np.ndarray:
    """The affine map that undoes `matrix`."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def similarity(angle: float, scale: float, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The map that rotates (radians, from x to y) and scales about `source`, and moves `source` to `target`."""
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([linear, (target - linear @ source)[:, None]], axis=1)
