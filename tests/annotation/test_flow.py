import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_large, raft_small
from torchvision.transforms._presets import OpticalFlow

from mcdiff_pipeline.annotation.flow import load_flow_estimator
from mcdiff_pipeline.flow import resize_flow


MODELS = {"raft_small": raft_small, "raft_large": raft_large}


def random_raft(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Name of the model -> file with the weights of `random_raft`."""
    folder = tmp_path_factory.mktemp("weights")
    for name in MODELS:
        save_file(random_raft(name).state_dict(), folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in MODELS}


def noise_frames(batch: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


def texture(height: int, width: int) -> np.ndarray:
    """A smooth image with details of several sizes, uint8 `[H, W, 3]`."""
    rng = np.random.default_rng(5)
    image = torch.zeros(1, 3, height, width)
    for cells in (3, 8, 20):
        noise = torch.from_numpy(rng.uniform(-1, 1, (1, 3, cells, cells)))
        image += torch.nn.functional.interpolate(noise.float(), (height, width), mode="bicubic")
    return (image[0].permute(1, 2, 0) * 50 + 128).clamp(0, 255).byte().numpy()


def shifted(batch: int, right: int, down: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Frames whose content moves by whole pixels, with new content at the border."""
    image = texture(size + 40, size + 40)
    first = image[20 : 20 + size, 20 : 20 + size]
    second = image[20 - down : 20 - down + size, 20 - right : 20 - right + size]
    return np.repeat(first[None], batch, axis=0), np.repeat(second[None], batch, axis=0)


def torchvision_flow(model: torch.nn.Module, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    tensors = OpticalFlow()(*(torch.from_numpy(frames).permute(0, 3, 1, 2) for frames in (first, second)))
    with torch.no_grad():
        return model(*tensors)[-1].numpy()


@pytest.mark.parametrize("name", MODELS)
def test_raft_equals_torchvision(name, weights):
    first, second = noise_frames(2, 128, 136), noise_frames(2, 128, 136, seed=1)
    flow = load_flow_estimator(name, weights=weights[name])(first, second)
    assert flow.dtype == np.float32 and flow.shape == (2, 2, 128, 136)
    np.testing.assert_array_equal(flow, torchvision_flow(random_raft(name), first, second))


def test_frames_that_torchvision_rejects_are_padded_by_their_border(weights):
    first, second = noise_frames(1, 100, 141), noise_frames(1, 100, 141, seed=1)
    flow = load_flow_estimator("raft_small", weights=weights["raft_small"])(first, second)
    around = ((0, 0), (14, 14), (1, 2), (0, 0))
    padded = torchvision_flow(random_raft("raft_small"), *(np.pad(f, around, mode="edge") for f in (first, second)))
    np.testing.assert_array_equal(flow, padded[:, :, 14:-14, 1:-2])


def test_model_folder_sets_how_much_frames_are_enlarged(weights, tmp_path):
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


def test_half_precision_is_close_to_full_precision(weights):
    first, second = shifted(1, 3, 2, size=128)
    full = load_flow_estimator("raft_small", weights=weights["raft_small"])(first, second)
    half = load_flow_estimator("raft_small", weights=weights["raft_small"], dtype=torch.bfloat16)(first, second)
    assert half.dtype == np.float32 and not np.array_equal(half, full)
    assert np.abs(half - full).mean() < 0.1 * np.abs(full).mean()


def test_weights_are_loaded_by_torchvision_name_or_pth_file(tmp_path, monkeypatch):
    # torchvision uses files in its cache, so nothing is downloaded here.
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
def test_dis_accepts_frames_of_any_size(size):
    frames = noise_frames(3, *size)
    flow = load_flow_estimator("dis")(frames, frames)
    assert flow.shape == (3, 2, *size) and np.abs(flow).max() < 0.5


def test_flow_of_a_pair_does_not_depend_on_the_batch():
    estimator = load_flow_estimator("dis")
    first, second = shifted(3, 4, 1)
    second[1:] = noise_frames(2, 96, 96)
    flow = estimator(first, second)
    np.testing.assert_array_equal(estimator(first[:1], second[:1]), flow[:1])
    np.testing.assert_array_equal(load_flow_estimator("dis")(first, second), flow)


def test_both_directions_equal_two_calls(weights):
    frames = noise_frames(3, 40, 48)
    for estimator in (
        load_flow_estimator("dis"),
        load_flow_estimator("raft_small", weights=weights["raft_small"]),
    ):
        forward, backward = estimator.both_directions(frames)
        np.testing.assert_array_equal(forward, estimator(frames[:-1], frames[1:]))
        np.testing.assert_array_equal(backward, estimator(frames[1:], frames[:-1]))


def test_descriptions_of_estimators_differ(weights, tmp_path):
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
        ("pwc", {}, "'pwc'.*raft_large, raft_small, gmflow, dis"),
        ("dis", {"weights": "C_T_V2"}, "'C_T_V2'.*none"),
        ("raft_large", {}, "'raft_large' needs `weights`.*C_T_V1.*'dis'"),
        ("raft_small", {"weights": "C_T_V9"}, "'C_T_V9'.*not a file.*C_T_V2"),
        ("raft_small", {"weights": "C_T_V2", "dtype": torch.int8}, "torch.int8.*bfloat16"),
    ],
)
def test_estimators_that_cannot_be_loaded_are_rejected(name, changes, message):
    with pytest.raises(ValueError, match=message):
        load_flow_estimator(name, **changes)


def test_weights_of_other_models_and_other_files_are_rejected(weights, tmp_path):
    with pytest.raises(ValueError, match="raft_small.safetensors.*not a state dict of torchvision's raft_large"):
        load_flow_estimator("raft_large", weights=weights["raft_small"])
    for suffix in ("pth", "safetensors"):
        (tmp_path / f"other.{suffix}").write_text("something else")
        with pytest.raises(ValueError, match=f"other.{suffix}' is not a state dict of torchvision's raft_small"):
            load_flow_estimator("raft_small", weights=tmp_path / f"other.{suffix}")


@pytest.mark.parametrize(("module", "name"), [("cv2", "dis"), ("torchvision", "raft_small")])
def test_missing_library_is_named_with_its_extra(module, name, monkeypatch):
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
def test_invalid_frames_are_rejected(first, second):
    with pytest.raises(ValueError, match=r"uint8 \[B, H, W, 3\]"):
        load_flow_estimator("dis")(first, second)
