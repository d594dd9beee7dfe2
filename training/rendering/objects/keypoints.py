"""Keypoints of objects: points spread over each object, the same in all frames."""

import numpy as np

from rendering.objects.pieces import Piece


KEYPOINTS_PER_OBJECT = 8


def spread_points(rng: np.random.Generator, pieces: list[Piece]) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of an object that are far from each other.

    Returns:
        The index in `pieces` of each point, int `[K]`, and its position (x, y) in the texture of that piece,
        float64 `[K, 2]`.
    """
    candidates = []
    for number, piece in enumerate(pieces):
        solid = np.argwhere(piece.texture[..., 3] > 0.9)
        if len(solid) == 0:
            solid = np.argwhere(piece.texture[..., 3] == piece.texture[..., 3].max())
        chosen = solid[rng.integers(len(solid), size=4 * KEYPOINTS_PER_OBJECT)]
        candidates += [(number, *(place[::-1] + 0.5)) for place in chosen]
    candidates = np.array(candidates)
    frame = np.stack([pieces[int(n)].matrices[0] @ [x, y, 1] for n, x, y in candidates])
    chosen = [0]
    for _ in range(KEYPOINTS_PER_OBJECT - 1):  # farthest point sampling
        distance = np.linalg.norm(frame[:, None] - frame[chosen], axis=-1).min(1)
        chosen.append(int(distance.argmax()))
    return candidates[chosen, 0].astype(int), candidates[chosen, 1:]
