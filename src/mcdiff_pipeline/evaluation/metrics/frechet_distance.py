# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The Fréchet distance between two sets of images or videos, on the features of a network.

With the features of Inception this is FID, with the features of I3D it is FVD. With other features it is neither of
them, and reports name it after these features.
"""

import numpy as np


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared Fréchet distance between the normal distributions fitted to two sets of features.

    `|m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^(1/2))` with means m and unbiased covariances C: Dowson and Landau, "The
    Fréchet distance between multivariate normal distributions", J. Multivariate Analysis 1982; for images Heusel et
    al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS 2017.

    The distance is biased upwards, and more so with fewer samples. Compare only distances that were measured with
    equally many samples.

    Args:
        features_a (`np.ndarray`): `[N, D]`, N > D.
        features_b (`np.ndarray`): `[M, D]`, M > D.

    Returns:
        `float`: 0 or more, lower is nearer, in squared units of the features. Computed in float64.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or there are too few samples. A covariance in D
            dimensions has full rank only with more than D samples. With fewer, the distance depends mostly on the
            number of samples.
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
        raise ValueError("Features must be finite, but NaN or infinity was found: check the images for it.")

    means = [features.mean(axis=0) for features in sets]
    # R are square roots of the covariances. The singular values of R_a R_b^T are the square roots of the eigenvalues
    # of C_a C_b, with an error of the order of float64's precision. The eigenvalues of C_a C_b itself may come out
    # complex, and lose half of the digits where a covariance is nearly singular.
    roots = []
    for features, mean in zip(sets, means):
        centered = features - mean
        values, vectors = np.linalg.eigh(centered.T @ centered / (len(features) - 1))
        roots.append(np.sqrt(values.clip(min=0))[:, None] * vectors.T)  # R.T @ R = C
    traces = sum(np.square(root).sum() for root in roots)
    overlap = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    distance = np.square(means[0] - means[1]).sum() + traces - 2 * overlap
    return max(float(distance), 0.0)  # rounding makes it slightly negative for equal sets
