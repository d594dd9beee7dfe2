"""The bodies in the repository."""

import numpy as np
import pytest


pytest.importorskip("numba")

from rendering.people.assets import BODIES_FILE  # noqa: E402
from rendering.people.bodies import read_bodies  # noqa: E402


def test_bodies_file_is_small_and_heights_are_human():
    assert BODIES_FILE.stat().st_size <= 3_000_000
    _, bodies = read_bodies(BODIES_FILE)
    heights = [np.ptp(body.rest[:, 2]) for body in bodies]
    assert 0.8 < min(heights) and max(heights) < 2.2
    assert 1.5 < np.median(heights) < 1.9


def test_bodies_differ_from_each_other():
    _, bodies = read_bodies(BODIES_FILE)
    shapes = np.stack([body.rest[::50] for body in bodies])
    distance = np.abs(shapes[:, None] - shapes[None]).mean((2, 3)) + np.eye(len(bodies))
    assert distance.min() > 1e-3
