# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""How far apart two sets of pictures or videos are as a whole, by the features of a network.

On the features of the Inception network this is FID, on those of I3D it is FVD; on any other features it is neither,
and is to be named after them.
"""

import numpy as np


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared Fréchet distance between the normal distributions fitted to two sets of features.

    `|m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^(1/2))` with means m and unbiased covariances C: Dowson and Landau, "The
    Fréchet distance between multivariate normal distributions", J. Multivariate Analysis 1982; for pictures Heusel et
    al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS 2017.

    It is biased upwards, the more so the fewer samples there are: only distances of equally many are comparable.

    Args:
        features_a (`np.ndarray`): `[N, D]`, N > D.
        features_b (`np.ndarray`): `[M, D]`, M > D.

    Returns:
        `float`: 0 or more, lower is nearer, in squared units of the features. Computed in float64.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or there are too few samples: a covariance in D
            dimensions has full rank only with more than D samples, and below that the distance says more about their
            number than about what they are samples of.
    """
    sets = [np.asarray(features, dtype=np.float64) for features in (features_a, features_b)]
    shapes = [list(features.shape) for features in sets]
    if any(features.ndim != 2 for features in sets) or sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(f"Features must be [N, D] and [M, D] with the same D, not {shapes[0]} and {shapes[1]}.")
    dimensions = sets[0].shape[1]
    if min(map(len, sets)) <= dimensions:
        raise ValueError(
            f"A Fréchet distance on {dimensions} features needs more than {dimensions} samples on either side, "
            f"not {len(sets[0])} and {len(sets[1])}: evaluate more clips or more frames of each."
        )
    if not all(np.isfinite(features).all() for features in sets):
        raise ValueError("Features must be finite: NaN or infinity was found; look for it in the pictures.")

    means = [features.mean(axis=0) for features in sets]
    # Square roots R of the covariances: their product's singular values are the square roots of the eigenvalues of
    # C_a C_b, with an error of the order of float64's precision; eigenvalues of the product, which need not come out
    # real, would lose half of the digits where a covariance is nearly singular.
    roots = []
    for features, mean in zip(sets, means):
        centered = features - mean
        values, vectors = np.linalg.eigh(centered.T @ centered / (len(features) - 1))
        roots.append(np.sqrt(values.clip(min=0))[:, None] * vectors.T)  # R.T @ R = C
    traces = sum(np.square(root).sum() for root in roots)
    overlap = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    distance = np.square(means[0] - means[1]).sum() + traces - 2 * overlap
    return max(float(distance), 0.0)  # rounding takes it a little below 0 for equal sets
