import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_large, raft_small
from torchvision.transforms._presets import OpticalFlow

from mcdiff_pipeline.annotation.flow import (
    forward_backward_consistency,
    load_flow_estimator,
)
from mcdiff_pipeline.flow import backward_warp, resize_flow


MODELS = {"raft_small": raft_small, "raft_large": raft_large}


def random_raft(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files with the weights of `random_raft`, by name of the model."""
    folder = tmp_path_factory.mktemp("weights")
    for name in MODELS:
        save_file(random_raft(name).state_dict(), folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in MODELS}


def noise_frames(batch: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


def texture(height: int, width: int) -> np.ndarray:
    """A smooth picture with detail of several sizes, uint8 `[H, W, 3]`."""
    rng = np.random.default_rng(5)
    picture = torch.zeros(1, 3, height, width)
    for cells in (3, 8, 20):
        noise = torch.from_numpy(rng.uniform(-1, 1, (1, 3, cells, cells)))
        picture += torch.nn.functional.interpolate(noise.float(), (height, width), mode="bicubic")
    return (picture[0].permute(1, 2, 0) * 50 + 128).clamp(0, 255).byte().numpy()


def shifted(batch: int, right: int, down: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Frames whose content moves by whole pixels, with fresh content coming in at the border."""
    picture = texture(size + 40, size + 40)
    first = picture[20 : 20 + size, 20 : 20 + size]
    second = picture[20 - down : 20 - down + size, 20 - right : 20 - right + size]
    return np.repeat(first[None], batch, axis=0), np.repeat(second[None], batch, axis=0)


def torchvision_flow(model: torch.nn.Module, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    tensors = OpticalFlow()(*(torch.from_numpy(frames).permute(0, 3, 1, 2) for frames in (first, second)))
    with torch.no_grad():
        return model(*tensors)[-1].numpy()


@pytest.mark.parametrize("name", MODELS)
def test_raft_gives_what_torchvision_gives(name, weights):
    first, second = noise_frames(2, 128, 136), noise_frames(2, 128, 136, seed=1)
    flow = load_flow_estimator(name, weights=weights[name])(first, second)
    assert flow.dtype == np.float32 and flow.shape == (2, 2, 128, 136)
    np.testing.assert_array_equal(flow, torchvision_flow(random_raft(name), first, second))


def test_frames_that_raft_refuses_are_continued_by_their_border(weights):
    first, second = noise_frames(1, 100, 141), noise_frames(1, 100, 141, seed=1)
    flow = load_flow_estimator("raft_small", weights=weights["raft_small"])(first, second)
    around = ((0, 0), (14, 14), (1, 2), (0, 0))
    padded = torchvision_flow(random_raft("raft_small"), *(np.pad(f, around, mode="edge") for f in (first, second)))
    np.testing.assert_array_equal(flow, padded[:, :, 14:-14, 1:-2])


def test_a_model_folder_says_by_how_much_frames_are_enlarged(weights, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(weights["raft_small"].read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"upsampling": 2}))
    estimator = load_flow_estimator("raft_small", weights=tmp_path)
    frames = np.repeat(np.repeat(noise_frames(2, 16, 20), 4, axis=1), 4, axis=2)
    tensors = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    enlarged = torch.nn.functional.interpolate(tensors, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        expected = resize_flow(random_raft("raft_small")(enlarged[:1], enlarged[1:])[-1], (64, 80))
    np.testing.assert_allclose(estimator(frames[:1], frames[1:]), expected, atol=2e-3)
    assert estimator.description["upsampling"] == 2


def test_half_precision_stays_near_full_precision(weights):
    first, second = shifted(1, 3, 2, size=128)
    full = load_flow_estimator("raft_small", weights=weights["raft_small"])(first, second)
    half = load_flow_estimator("raft_small", weights=weights["raft_small"], dtype=torch.bfloat16)(first, second)
    assert half.dtype == np.float32 and not np.array_equal(half, full)
    assert np.abs(half - full).mean() < 0.1 * np.abs(full).mean()


def test_names_of_torchvision_weights_and_pth_files_are_understood(tmp_path, monkeypatch):
    # torchvision takes what lies in its cache; so nothing is downloaded here.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub/checkpoints/raft_small_C_T_V2-01064c6d.pth"
    file.parent.mkdir(parents=True)
    torch.save(random_raft("raft_small").state_dict(), file)
    first, second = noise_frames(1, 128, 128), noise_frames(1, 128, 128, seed=1)
    by_name = load_flow_estimator("raft_small", weights="DEFAULT")
    by_file = load_flow_estimator("raft_small", weights=file)
    assert by_name.description["weights"] == "C_T_V2"
    np.testing.assert_array_equal(by_name(first, second), by_file(first, second))


@pytest.mark.parametrize(("right", "down"), [(5, -3), (-2, 7), (0, 0)])
def test_dis_finds_a_shift(right, down):
    flow = load_flow_estimator("dis")(*shifted(1, right, down))
    assert flow.dtype == np.float32 and flow.shape == (1, 2, 96, 96)
    inside = flow[0, :, 16:-16, 16:-16]
    assert np.linalg.norm(inside - np.array([right, down])[:, None, None], axis=0).mean() < 0.15


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 65)])
def test_dis_takes_frames_of_any_size(size):
    frames = noise_frames(3, *size)
    flow = load_flow_estimator("dis")(frames, frames)
    assert flow.shape == (3, 2, *size) and np.abs(flow).max() < 0.5


def test_the_same_frames_give_the_same_flow_whatever_is_beside_them():
    estimator = load_flow_estimator("dis")
    first, second = shifted(3, 4, 1)
    second[1:] = noise_frames(2, 96, 96)
    flow = estimator(first, second)
    np.testing.assert_array_equal(estimator(first[:1], second[:1]), flow[:1])
    np.testing.assert_array_equal(load_flow_estimator("dis")(first, second), flow)


def test_there_and_back_is_what_two_calls_give(weights):
    frames = noise_frames(3, 40, 48)
    for estimator in (
        load_flow_estimator("dis"),
        load_flow_estimator("raft_small", weights=weights["raft_small"]),
    ):
        there, back = estimator.there_and_back(frames)
        np.testing.assert_array_equal(there, estimator(frames[:-1], frames[1:]))
        np.testing.assert_array_equal(back, estimator(frames[1:], frames[:-1]))


def test_descriptions_tell_estimators_apart(weights, tmp_path):
    other = {name: tensor + 1 for name, tensor in random_raft("raft_small").state_dict().items()}
    save_file(other, tmp_path / "other.safetensors")
    descriptions = [
        load_flow_estimator("dis").description,
        load_flow_estimator("raft_small", weights=weights["raft_small"]).description,
        load_flow_estimator("raft_small", weights=weights["raft_small"], dtype=torch.bfloat16).description,
        load_flow_estimator("raft_small", weights=tmp_path / "other.safetensors").description,
        load_flow_estimator("raft_large", weights=weights["raft_large"]).description,
    ]
    assert len({json.dumps(description) for description in descriptions}) == len(descriptions)
    assert all(description["library"].split()[1][0].isdigit() for description in descriptions)
    assert all(description["device"] == "cpu" for description in descriptions if description["name"] != "dis")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("pwc", {}, "'pwc'.*raft_large, raft_small, dis"),
        ("dis", {"weights": "C_T_V2"}, "'C_T_V2'.*none"),
        ("raft_large", {}, "'raft_large' needs `weights`.*C_T_V1.*'dis'"),
        ("raft_small", {"weights": "C_T_V9"}, "'C_T_V9'.*no file.*C_T_V2"),
        ("raft_small", {"weights": "C_T_V2", "dtype": torch.int8}, "torch.int8.*bfloat16"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_sentence(name, changes, message):
    with pytest.raises(ValueError, match=message):
        load_flow_estimator(name, **changes)


def test_weights_of_another_model_and_files_of_another_kind_are_refused(weights, tmp_path):
    with pytest.raises(ValueError, match="raft_small.safetensors.*not a state dict of torchvision's raft_large"):
        load_flow_estimator("raft_large", weights=weights["raft_small"])
    for suffix in ("pth", "safetensors"):
        (tmp_path / f"other.{suffix}").write_text("something else")
        with pytest.raises(ValueError, match=f"other.{suffix}' is not a state dict of torchvision's raft_small"):
            load_flow_estimator("raft_small", weights=tmp_path / f"other.{suffix}")


@pytest.mark.parametrize(("module", "name"), [("cv2", "dis"), ("torchvision", "raft_small")])
def test_a_missing_library_is_named_with_the_extra_that_brings_it(module, name, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"'{name}' needs {module}.*mcdiff-pipeline\[annotation\]"):
        load_flow_estimator(name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 8, 8, 3), np.float32)),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)),
        (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)),
    ],
)
def test_frames_of_another_kind_are_refused(first, second):
    with pytest.raises(ValueError, match=r"uint8 \[B, H, W, 3\]"):
        load_flow_estimator("dis")(first, second)


def constant_flow(right: float, down: float, size: int = 20) -> np.ndarray:
    return np.tile(np.array([right, down], np.float32)[:, None, None], (1, 1, size, size))


def test_flow_that_comes_back_is_believed_and_what_leaves_the_picture_is_occluded():
    occlusion, confidence = forward_backward_consistency(constant_flow(5, -2), constant_flow(-5, 2))
    expected = np.zeros((1, 20, 20), dtype=bool)
    expected[:, :, -5:] = expected[:, :2] = True
    np.testing.assert_array_equal(occlusion, expected)
    np.testing.assert_array_equal(confidence, np.where(expected, 0, 1))
    assert occlusion.dtype == bool and confidence.dtype == np.float32


def test_a_pixel_leaves_the_picture_when_its_center_does():
    occlusion, _ = forward_backward_consistency(constant_flow(0.49, 0), constant_flow(-0.49, 0))
    assert not occlusion.any()
    occlusion, _ = forward_backward_consistency(constant_flow(0.51, 0), constant_flow(-0.51, 0))
    assert occlusion[0, :, -1].all() and not occlusion[0, :, :-1].any()


def test_background_that_a_moving_square_covers_is_occluded():
    forward, backward = np.zeros((2, 1, 2, 40, 40), dtype=np.float32)
    forward[0, 0, 10:20, 10:20] = 8
    backward[0, 0, 10:20, 18:28] = -8
    occlusion, _ = forward_backward_consistency(forward, backward)
    expected = np.zeros((40, 40), dtype=bool)
    expected[10:20, 20:28] = True
    np.testing.assert_array_equal(occlusion[0], expected)


def test_the_threshold_grows_with_the_motion_and_confidence_crosses_one_half_there():
    # |w + w'|² = 0.01 (|w|² + |w'|²) + 0.5 for w = (10, 0) and w' = (-10 + gap, 0), solved for the gap.
    gap = (-0.2 + np.sqrt(0.04 + 4 * 0.99 * 2.5)) / (2 * 0.99)
    for factor, occluded in ((0.99, False), (1.01, True)):
        occlusion, confidence = forward_backward_consistency(
            constant_flow(10, 0), constant_flow(-10 + factor * gap, 0)
        )
        assert (occlusion[:, :, :10] == occluded).all()
        assert ((confidence[:, :, :10] < 0.5) == occluded).all()
        np.testing.assert_allclose(confidence[:, :, :10], 0.5, atol=0.02)
    occlusion, _ = forward_backward_consistency(constant_flow(1, 0), constant_flow(-1 + gap, 0))
    assert occlusion.all()


def test_the_way_back_is_looked_up_between_pixels_and_what_is_no_number_is_occluded():
    rng = np.random.default_rng(0)
    forward, backward = rng.normal(0, 3, (2, 2, 2, 24, 31)).astype(np.float32)
    back = backward_warp(torch.from_numpy(backward), torch.from_numpy(forward)).numpy()
    allowed = 0.01 * (np.square(forward).sum(axis=1) + np.square(back).sum(axis=1)) + 0.5
    contradicts = np.square(forward + back).sum(axis=1) > allowed
    x, y = np.arange(31) + forward[:, 0], np.arange(24)[:, None] + forward[:, 1]
    inside = (x >= -0.5) & (x < 30.5) & (y >= -0.5) & (y < 23.5)
    occlusion, _ = forward_backward_consistency(forward, backward)
    np.testing.assert_array_equal(occlusion, contradicts | ~inside)

    forward[1, 0, 5, 5] = np.nan
    changed, confidence = forward_backward_consistency(forward, backward)
    assert changed[1, 5, 5] and confidence[1, 5, 5] == 0
    changed[1, 5, 5] = occlusion[1, 5, 5]
    np.testing.assert_array_equal(changed, occlusion)


def test_flows_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"`backward` has shape \(1, 2, 8, 8\)"):
        forward_backward_consistency(constant_flow(0, 0), constant_flow(0, 0, size=8))
