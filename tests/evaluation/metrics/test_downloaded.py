"""These tests use networks with random weights, stored under the names of the real files. They test how the files are
found and how the networks are called, not the values of the metrics."""

import importlib
import socket
import sys

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.models.alexnet import alexnet

from mcdiff_pipeline.evaluation.metrics.downloaded import LPIPS, I3DFeatures, InceptionFeatures, available_metrics
from mcdiff_pipeline.evaluation.metrics.frechet_distance import frechet_distance


ALEXNET = "alexnet-owt-7be5be79.pth"
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"


class RandomI3D(torch.nn.Module):
    """Has the interface of StyleGAN-V's file. Its features are the mean color, the mean change and 396 zeros."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        if rescale or resize or not return_features or x.shape[1] != 3 or x.shape[3:] != [224, 224]:
            raise ValueError("FVD is measured with other arguments.")
        change = (x[:, :, 1:] - x[:, :, :-1]).abs().mean(dim=(1, 2, 3, 4))[:, None]
        return torch.nn.functional.pad(torch.cat([x.mean(dim=(2, 3, 4)), change], dim=1), (0, 396))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("No network access is allowed.")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """The folder in which torch.hub stores its files, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def i3d(tmp_path):
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(RandomI3D()).save(path)
    return path


def random_images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def random_weights(network: torch.nn.Module, unused: str) -> dict[str, torch.Tensor]:
    """A state dict for a network on the meta device. Its scale keeps the size of activations.

    Weights whose names start with `unused` are zeros, expanded so that they take no space in a file.
    """
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in network.state_dict().items():
        if name.startswith(unused):
            weights[name] = torch.zeros(()).expand(value.shape)
        elif value.ndim == 4:
            scale = (2 / value[0].numel()) ** 0.5
            weights[name] = scale * torch.randn(value.shape, generator=generator)
        else:  # initial batch norms, and zero biases
            start = torch.ones if name.endswith(("bn.weight", "running_var")) else torch.zeros
            weights[name] = start(value.shape, dtype=value.dtype)
    return weights


class InceptionWithoutWeights(FeatureExtractorInceptionV3):
    def load_state_dict(self, state_dict):
        pass


def test_reason_of_a_missing_metric_says_which_file_belongs_where(checkpoints):
    reasons = available_metrics()
    assert list(reasons) == ["LPIPS", "FID", "FVD"]
    assert f"put https://download.pytorch.org/models/{ALEXNET} at {checkpoints / ALEXNET}" in reasons["LPIPS"]
    assert f"at {checkpoints / INCEPTION}" in reasons["FID"]
    assert "i3d_torchscript.pt" in reasons["FVD"] and "name its path" in reasons["FVD"]
    assert list(checkpoints.iterdir()) == []


def test_metric_without_its_file_raises(checkpoints, tmp_path):
    for metric, arguments, reason in (
        (LPIPS, (), ALEXNET),
        (InceptionFeatures, (), INCEPTION),
        (I3DFeatures, (tmp_path / "nowhere.pt",), "nowhere.pt"),
    ):
        with pytest.raises(FileNotFoundError, match=reason):
            metric(*arguments)


def test_file_makes_only_its_own_metric_available(checkpoints, i3d):
    (checkpoints / INCEPTION).touch()
    reasons = available_metrics(i3d)
    assert reasons["FID"] is None and reasons["FVD"] is None and ALEXNET in reasons["LPIPS"]


@pytest.mark.parametrize(("metric", "package"), [("LPIPS", "torchmetrics"), ("FID", "torch_fidelity")])
def test_missing_package_is_named(checkpoints, monkeypatch, metric, package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(package)
    reason = available_metrics()[metric]
    assert package in reason and "mcdiff-pipeline[evaluation]" in reason


def test_lpips_uses_the_file_in_the_hub_folder(checkpoints):
    with torch.device("meta"):
        network = alexnet()
    weights = random_weights(network, unused="classifier")
    torch.save(weights, checkpoints / ALEXNET)
    lpips = LPIPS()
    output, target = random_images(3, 3, 64, 64), random_images(3, 3, 64, 64).flip(0)
    distances = lpips(output, target)
    assert distances.shape == (3,) and (distances[[0, 2]] > 0).all() and distances[1] == 0
    torch.testing.assert_close(lpips(output[:1], target[:1]), distances[:1])  # the previous call has no effect

    # With a zero first layer all images look the same, which proves that the weights come from the file.
    weights["features.0.weight"].zero_()
    torch.save(weights, checkpoints / ALEXNET)
    assert LPIPS()(output, target).tolist() == [0, 0, 0]


def test_fid_features_use_the_file_in_the_hub_folder(checkpoints):
    torch.save({}, checkpoints / INCEPTION)
    with torch.device("meta"):
        network = InceptionWithoutWeights("", ["2048"], feature_extractor_weights_path=checkpoints / INCEPTION)
    weights = random_weights(network, unused="fc")
    torch.save(weights, checkpoints / INCEPTION)
    images = random_images(2, 3, 32, 32)
    images[1] *= 0.5
    features = InceptionFeatures()(images)
    assert features.shape == (2, 2048) and not torch.allclose(features[0], features[1])

    # With a zero first layer all images look the same, which proves that the weights come from the file.
    weights["Conv2d_1a_3x3.conv.weight"].zero_()
    torch.save(weights, checkpoints / INCEPTION)
    features = InceptionFeatures()(images)
    torch.testing.assert_close(features[0], features[1])


def test_fvd_features_use_the_given_file(i3d):
    videos = random_images(4, 10, 3, 20, 30)
    videos[1] = videos[1, :1]  # a still
    videos[2] = torch.tensor([0.25, 0.5, 1])[:, None, None]
    features = I3DFeatures(i3d)(videos)
    assert features.shape == (4, 400)
    assert features[0, 3] > 0.1 and features[1, 3] == 0
    torch.testing.assert_close(features[2, :3], torch.tensor([-0.5, 0, 1]))
    with pytest.raises(ValueError, match="more than 400 samples"):
        frechet_distance(features, features)


def test_fvd_of_videos_below_ten_frames_raises(i3d):
    with pytest.raises(ValueError, match=r"at least 10 frames, not \[1, 7, 3, 20, 30\]"):
        I3DFeatures(i3d)(random_images(1, 7, 3, 20, 30))


def test_videos_out_of_range_raise(i3d):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        I3DFeatures(i3d)(random_images(1, 10, 3, 20, 30) * 255)
