import importlib.util
import socket
import sys
from types import ModuleType

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from mcdiff_pipeline.evaluation.metrics.image import psnr
from mcdiff_pipeline.evaluation.metrics.st_lpips import STLPIPS
from support.paths import EXAMPLES


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("No network access is allowed.")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.fixture(scope="module")
def st_lpips() -> STLPIPS:
    return STLPIPS()


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    """`[3, 3, 66, 66]` in [0, 1]."""
    images = []
    for name in ("cat", "coffee", "astronaut"):
        with PIL.Image.open(EXAMPLES / f"{name}.jpg") as image:
            images.append(np.asarray(image.convert("RGB").resize((66, 66), PIL.Image.Resampling.LANCZOS)))
    return torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255


def blurred(images: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(images, (4, 4, 4, 4), mode="reflect"), 9, stride=1)


@pytest.mark.parametrize(("height", "width"), [(66, 66), (65, 66), (66, 65), (65, 65)])
def test_matches_the_network_of_the_authors(st_lpips, photographs, monkeypatch, height, width):
    photographs = photographs[..., :height, :width]
    # The package imports these two, but the network does not use them.
    for name, imported in (("IPython", "embed"), ("torchsummary", "summary")):
        module = ModuleType(name)
        setattr(module, imported, None)
        monkeypatch.setitem(sys.modules, name, module)
    from stlpips_pytorch import stlpips

    theirs = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    output = blurred(photographs)
    with torch.no_grad():
        expected = theirs(output, photographs, normalize=True).flatten()
        last = theirs.net(theirs.scaling_layer(2 * photographs - 1)).relu5.mean(dim=(2, 3))
    torch.testing.assert_close(st_lpips(output, photographs), expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(st_lpips.features(photographs), last, rtol=1e-4, atol=1e-6)


def test_distance_is_zero_for_identical_images_only(st_lpips, photographs):
    assert st_lpips(photographs, photographs).tolist() == [0, 0, 0]
    assert (st_lpips(blurred(photographs), photographs) > 0).all()


def test_shift_is_nearer_than_a_blur_of_the_same_psnr(st_lpips, photographs):
    target, shifted = photographs[..., 1:-1, 1:-1], photographs[..., 1:-1, 2:]
    blur = blurred(target) - target
    strength = ((shifted - target).square().mean(dim=(1, 2, 3)) / blur.square().mean(dim=(1, 2, 3))).sqrt()
    assert (strength < 1).all()
    blurred_alike = target + strength[:, None, None, None] * blur
    torch.testing.assert_close(psnr(blurred_alike, target), psnr(shifted, target))
    assert (st_lpips(shifted, target) < st_lpips(blurred_alike, target)).all()


def test_region_ignores_differences_outside_it(st_lpips, photographs):
    where = torch.zeros(3, 66, 66, dtype=torch.bool)
    where[:, :, :33] = True
    output = torch.where(where[:, None], photographs, blurred(photographs))
    assert st_lpips(output, photographs, where=where).tolist() == [0, 0, 0]
    assert (st_lpips(output, photographs, where=~where) > st_lpips(output, photographs)).all()


def test_full_region_equals_the_whole_image_and_empty_region_gives_nan(st_lpips, photographs):
    where = torch.ones(3, 66, 66, dtype=torch.bool)
    where[2] = False
    output = blurred(photographs)
    distances = st_lpips(output, photographs, where=where)
    torch.testing.assert_close(distances[:2], st_lpips(output, photographs)[:2])
    assert distances[2].isnan()


def test_batch_equals_single_images_and_is_deterministic(st_lpips, photographs):
    output = blurred(photographs)
    together = st_lpips(output, photographs)
    assert torch.equal(together, st_lpips(output, photographs))
    alone = torch.cat([st_lpips(output[i : i + 1], photographs[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


def test_features_distinguish_images_and_have_no_gradient(st_lpips, photographs):
    features = st_lpips.features(photographs.clone().requires_grad_())
    assert features.shape == (3, 256) and features.dtype == torch.float32 and not features.requires_grad
    moved = st_lpips.features(photographs.roll(1, dims=-1))
    nearest = torch.cdist(moved, features).argmin(dim=1)
    assert nearest.tolist() == [0, 1, 2]


def test_images_smaller_than_64_pixels_raise(st_lpips, photographs):
    with pytest.raises(ValueError, match="63 x 66 pixels are too small.*at least 64 x 64"):
        st_lpips(photographs[..., :63], photographs[..., :63])


def test_missing_package_raises_and_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"mcdiff-pipeline\[evaluation\]"):
        STLPIPS()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_matches_the_cpu(st_lpips, photographs):
    output = blurred(photographs)
    on_gpu = STLPIPS("cuda")(output, photographs).cpu()
    torch.testing.assert_close(on_gpu, st_lpips(output, photographs), rtol=1e-2, atol=1e-5)
