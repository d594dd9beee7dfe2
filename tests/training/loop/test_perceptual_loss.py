"""The perceptual loss of future-frame prediction."""

import pytest
import torch

from loop.perceptual_loss import PerceptualLoss
from support.tiny_models import make_deep_compression_autoencoder


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    pytest.importorskip("stlpips_pytorch", reason="needs the extra `evaluation`")
    return PerceptualLoss(make_deep_compression_autoencoder().requires_grad_(False))


def test_only_the_least_noisy_samples_are_compared(loss):
    target = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    estimate = (target + torch.tensor([0.0, 1.0, 1.0, 1.0]).view(4, 1, 1, 1)).requires_grad_()
    assert loss(estimate, target, torch.tensor([3, 500, 600, 700])).item() == pytest.approx(0, abs=1e-6)
    found = loss(estimate, target, torch.tensor([800, 500, 600, 700]))
    found.backward()
    assert found.item() > 0.01
    assert estimate.grad.flatten(1).abs().sum(dim=1).gt(0).tolist() == [False, True, False, False]


def test_frames_that_are_too_small_are_refused(loss):
    with pytest.raises(ValueError, match="compares crops of 16 x 16 latent cells, but the frames have 8 x 8"):
        loss(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), torch.tensor([0]))
