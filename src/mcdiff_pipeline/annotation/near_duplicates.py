# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Clips that are there twice: the same piece of film in another encoding, size or file.

A perceptual hash of single frames cannot tell these from two clips of one unmoved camera. Measured on 13 real videos,
64-bit difference hashes of a clip and of its re-encoded copy were up to 24 bits apart, those of different clips of one
video as few as 12. So what lies between two clips is compared with what happens within them: a copy differs from its
original by much less than the original's first frame from its last, and the next clip of the scene by about as much.
"""

import numpy as np
from PIL import Image


# Side of the thumbnails in pixels: small enough for a crop that is a few pixels off, and 128 bytes for a clip.
THUMBNAIL_SIDE = 8
FINGERPRINT_LENGTH = 2 * THUMBNAIL_SIDE**2
# A copy differs from a clip by at most this share of the change within the clip. Exact copies differ by nothing. The
# same 13 videos were encoded again as H.264 (crf 23, and crf 34 at half the size) and VP9 (crf 40 at three quarters):
# 185 of the 259 clips of these began at the same frame as one of the original, and 124 of the 185 lay within 0.5. What
# lay beyond had its crop in another place, where looked at, and is kept. Different clips of one video were 1.04 or
# more apart.
MAX_RELATIVE_DISTANCE = 0.5
# Clips that are compared at once: the matrices of distances stay below a megabyte.
BATCH_SIZE = 256


def fingerprint(frames: np.ndarray) -> np.ndarray:
    """What remains of a clip for comparing it with others.

    Args:
        frames (`np.ndarray`): uint8 `[T, H, W, 3]`, RGB.

    Returns:
        `np.ndarray`: int8 `[FINGERPRINT_LENGTH]`, brightness minus 128 of the first and of the last frame.
    """
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    thumbnails = [
        np.asarray(Image.fromarray(frame).convert("L").resize(size, Image.Resampling.BOX))
        for frame in (frames[0], frames[-1])
    ]
    return (np.stack(thumbnails).astype(np.int16) - 128).astype(np.int8).reshape(-1)


def first_of_their_kind(fingerprints: np.ndarray) -> np.ndarray:
    """Tells clips from near-duplicates of earlier ones; the first stays.

    The decisions are exact, so they do not depend on the machine. Time grows with the square of the number of clips:
    a minute or so for 100,000.

    Args:
        fingerprints (`np.ndarray`): int8 `[N, FINGERPRINT_LENGTH]`.

    Returns:
        `np.ndarray`: bool `[N]`, False for a near-duplicate.
    """
    is_first = np.ones(len(fingerprints), dtype=bool)
    kept, num_kept = np.empty_like(fingerprints), 0
    for start in range(0, len(fingerprints), BATCH_SIZE):
        batch = fingerprints[start : start + BATCH_SIZE]
        first = is_first[start : start + BATCH_SIZE]  # a view
        for other in range(0, num_kept, BATCH_SIZE):
            first &= ~_are_near(batch, kept[other : min(other + BATCH_SIZE, num_kept)]).any(axis=1)
        near = _are_near(batch, batch)
        for index in range(1, len(batch)):
            first[index] &= not near[index, :index][first[:index]].any()
        added = batch[first]
        kept[num_kept : num_kept + len(added)] = added
        num_kept += len(added)
    return is_first


def _are_near(clips: np.ndarray, others: np.ndarray) -> np.ndarray:
    """bool `[n, m]`: which of `n` clips and `m` others are copies of each other."""
    # Sums of 128 products of up to 2^16 stay within 2^24, so float32 holds them without rounding, in whatever order
    # they are added up.
    clips, others = clips.astype(np.float32), others.astype(np.float32)
    distances = (clips**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * (clips @ others.T)
    changes, their_changes = (
        ((array[:, : THUMBNAIL_SIDE**2] - array[:, THUMBNAIL_SIDE**2 :]) ** 2).sum(axis=1) for array in (clips, others)
    )
    # The distance is summed over two thumbnails, the change over one. A clip in which nothing changes has no measure
    # of its own, and only its exact copy is one.
    return distances <= 2 * MAX_RELATIVE_DISTANCE**2 * np.minimum(changes[:, None], their_changes)
