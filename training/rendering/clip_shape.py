"""The size of a clip's frames, and how far objects move between two frames."""

import math
from collections.abc import Sequence

import numpy as np


# Seconds between two frames that the random speeds of cameras and objects, which are per frame, refer to.
FRAME_GAP = 1 / 12
# The longest motion of a clip, in frames of that gap (4 seconds): photographs end, and objects leave the frame.
LONGEST_MOTION = 48
SMALLEST_SIDE = 8


def frame_size(resolution: int | Sequence[int]) -> tuple[int, int]:
    """(H, W) of frames, from one number for both or from height and width.

    Raises:
        ValueError: if these are not one or two whole numbers of at least 8 pixels.
    """
    size = (resolution, resolution) if isinstance(resolution, int | np.integer) else tuple(resolution)
    if len(size) != 2 or any(side != int(side) or side < SMALLEST_SIDE for side in size):
        raise ValueError(
            f"A resolution of {resolution} is not possible; give one number of at least {SMALLEST_SIDE} pixels for "
            "square frames, or two, height and width."
        )
    return int(size[0]), int(size[1])


def motion_factor(time_gap: float | None, num_frames: int) -> float:
    """Factor on the speeds of cameras and objects for frames that are `time_gap` seconds apart.

    The factor is 1 without a gap and at `FRAME_GAP`, and proportional to the gap. It is limited so that the whole clip
    shows at most the motion of `LONGEST_MOTION` frames.

    Raises:
        ValueError: if the gap is not a positive number.
    """
    if time_gap is None:
        return 1.0
    if not 0 < time_gap < math.inf:
        raise ValueError(f"A time gap of {time_gap} s is not possible; give a positive number of seconds, or none.")
    return min(time_gap / FRAME_GAP, LONGEST_MOTION / max(num_frames - 1, 1))
