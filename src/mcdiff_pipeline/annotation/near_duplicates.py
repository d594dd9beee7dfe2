# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Near-duplicate clips: the same part of a film in another encoding, size or file.

A perceptual hash of single frames cannot tell near-duplicates from different clips of a static camera. Measured on 13
real videos, 64-bit difference hashes of a clip and of its re-encoded copy differ by up to 24 bits, and those of
different clips of one video by as few as 12. So the distance of two clips is compared with the change within them. A
copy differs from its original by much less than the first frame of the original differs from its last frame; the next
clip of the scene differs by about as much.
"""

import numpy as np
from PIL import Image


# Side of the thumbnails in pixels. It is small enough for crops that differ by a few pixels, and gives 128 bytes a
# clip.
THUMBNAIL_SIDE = 8
FINGERPRINT_LENGTH = 2 * THUMBNAIL_SIDE**2
# Largest distance of a copy, as a fraction of the change within the clip. The distance of an exact copy is 0. The 13
# videos were encoded again as H.264 (crf 23, and crf 34 at half the size) and VP9 (crf 40 at three quarters). Of the
# 259 clips of these, 185 began at the same frame as a clip of the original, and 124 of the 185 are within 0.5. The
# others that were inspected have another crop, and are kept. Different clips of one video are at least 1.04 apart.
MAX_RELATIVE_DISTANCE = 0.5
# Number of clips compared at once. The matrices of distances stay below a megabyte.
BATCH_SIZE = 256


def fingerprint(frames: np.ndarray) -> np.ndarray:
    """Fingerprint of a clip, for comparison with other clips.

    Args:
        frames (`np.ndarray`): uint8 `[T, H, W, 3]`, RGB.

    Returns:
        `np.ndarray`: int8 `[FINGERPRINT_LENGTH]`, brightness minus 128 in thumbnails of the first and the last frame.
    """
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    thumbnails = [
        np.asarray(Image.fromarray(frame).convert("L").resize(size, Image.Resampling.BOX))
        for frame in (frames[0], frames[-1])
    ]
    return (np.stack(thumbnails).astype(np.int16) - 128).astype(np.int8).reshape(-1)


def without_near_duplicates(fingerprints: np.ndarray) -> np.ndarray:
    """Decides which clips to keep: the first of each group of near-duplicates.

    The computation is exact, so the decisions are the same on every machine. Time grows with the square of the number
    of clips: about a minute for 100,000.

    Args:
        fingerprints (`np.ndarray`): int8 `[N, FINGERPRINT_LENGTH]`.

    Returns:
        `np.ndarray`: bool `[N]`, False for a near-duplicate of an earlier clip.
    """
    keep = np.ones(len(fingerprints), dtype=bool)
    kept, num_kept = np.empty_like(fingerprints), 0
    for start in range(0, len(fingerprints), BATCH_SIZE):
        batch = fingerprints[start : start + BATCH_SIZE]
        keep_batch = keep[start : start + BATCH_SIZE]  # a view
        for other in range(0, num_kept, BATCH_SIZE):
            keep_batch &= ~_are_near(batch, kept[other : min(other + BATCH_SIZE, num_kept)]).any(axis=1)
        near = _are_near(batch, batch)
        for index in range(1, len(batch)):
            keep_batch[index] &= not near[index, :index][keep_batch[:index]].any()
        added = batch[keep_batch]
        kept[num_kept : num_kept + len(added)] = added
        num_kept += len(added)
    return keep


def _are_near(clips: np.ndarray, others: np.ndarray) -> np.ndarray:
    """bool `[n, m]`: which of `n` clips and `m` others are near-duplicates of each other."""
    # Sums of 128 products of at most 2^16 are below 2^24, so float32 holds them exactly, in any order of summation.
    clips, others = clips.astype(np.float32), others.astype(np.float32)
    distances = (clips**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * (clips @ others.T)
    changes, other_changes = (
        ((array[:, : THUMBNAIL_SIDE**2] - array[:, THUMBNAIL_SIDE**2 :]) ** 2).sum(axis=1) for array in (clips, others)
    )
    # The distance is a sum over two thumbnails, the change a sum over one. If nothing changes within a clip, only an
    # exact copy is near.
    return distances <= 2 * MAX_RELATIVE_DISTANCE**2 * np.minimum(changes[:, None], other_changes)
