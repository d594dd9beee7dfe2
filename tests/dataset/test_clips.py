import dataclasses

import numpy as np
import pytest

from support.sliding_squares import sliding_square


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda clip: {"key": "a.b"}, "key"),
        (lambda clip: {"flow": clip.flow.astype(np.float64)}, "`flow` of clip square_0 is float64"),
        (lambda clip: {"masks": clip.masks[:-1]}, "`masks`"),
        (lambda clip: {"meta": {"version": 3}}, "version"),
    ],
)
def test_invalid_clips_are_rejected(change, message):
    clip = sliding_square()
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(clip, **change(clip))
