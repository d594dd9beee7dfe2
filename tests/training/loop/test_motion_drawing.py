import numpy as np
import pytest
import torch

from loop.motion_drawing import with_new_motions
from mcdiff_pipeline.similarity import similarity_flow, similarity_of_flow


def make_pair(labels):
    flow = np.random.default_rng(0).normal(size=(2, *labels.shape)).astype(np.float32)
    return {"latent": np.zeros((4, 16, 16)), "mask": labels, "flow": flow}


@pytest.fixture
def pair():
    labels = np.zeros((64, 64), np.uint8)
    labels[8:30, 10:30] = 1
    labels[34:60, 30:60] = 3
    labels[0, 60:63] = 2  # too small to be a thing
    return make_pair(labels)


def test_each_thing_moves_by_a_similarity_of_its_own(pair):
    flow, size = torch.from_numpy(with_new_motions(pair, np.random.default_rng(1))["flow"]), pair["mask"].shape
    assert flow.dtype == torch.float32
    for where in (pair["mask"] == 1, pair["mask"] == 3, ~np.isin(pair["mask"], (1, 3))):
        fit = similarity_of_flow(flow, torch.from_numpy(where), size)
        assert torch.allclose(similarity_flow(fit, size, size)[:, where], flow[:, where], atol=1e-3)


def test_motions_are_various_and_bounded(pair):
    rng, still, turning, moving_background = np.random.default_rng(2), 0, 0, 0
    for _ in range(200):
        flow = with_new_motions(pair, rng)["flow"]
        speed = np.hypot(*flow)
        assert speed[pair["mask"] == 1].max() < 0.21 * 64
        assert speed[np.isin(pair["mask"], (1, 3))].max() > 0
        still += speed[pair["mask"] == 1].max() == 0
        moving_background += speed[pair["mask"] == 0].max() > 0
        u, v = flow[:, 9:29, 11:29]
        turning += abs(np.diff(v, axis=1).mean() - np.diff(u, axis=0).mean()) > 0.05
    assert 20 < still < 80 and 40 < turning < 160 and 25 < moving_background < 80


def test_what_is_not_the_flow_stays(pair):
    before = {name: value.copy() for name, value in pair.items()}
    after = with_new_motions(pair, np.random.default_rng(3))
    assert after["latent"] is pair["latent"] and after["mask"] is pair["mask"] and after["has_new_motions"]
    assert all(np.array_equal(pair[name], before[name]) for name in before)


def test_a_frame_without_large_things_keeps_its_flow(pair):
    pair["mask"] = np.where(pair["mask"] == 2, pair["mask"], 0)
    assert with_new_motions(pair, np.random.default_rng(4)) is pair
