"""PSNR (dB) for the validation of training scripts."""

import torch


def psnr(output: torch.Tensor, target: torch.Tensor) -> float:
    """Mean over the images of their PSNR in dB; both `[N, 3, H, W]` in [-1, 1]."""
    error = (output.clamp(-1, 1) - target).div(2).square().mean(dim=(1, 2, 3))
    return float((-10 * error.clamp_min(1e-10).log10()).mean())


def psnr_where(output: torch.Tensor, target: torch.Tensor, where: torch.Tensor) -> float:
    """PSNR in dB over a set of pixels of all images together.

    Args:
        output, target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1].
        where (`torch.Tensor`): bool `[B, H, W]`.
    """
    error = (output - target).square().mean(dim=1)
    return float(-10 * error[where].mean().clamp_min(1e-10).log10())


def psnr_moving_and_still(
    outputs: dict[str, torch.Tensor], target: torch.Tensor, moving: torch.Tensor
) -> dict[str, float]:
    """PSNR of several outputs on moving and on still pixels, as `psnr_moving_NAME` and `psnr_still_NAME`.

    Args:
        outputs (`dict`): images `[B, 3, H, W]` in [0, 1] by name.
        target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1].
        moving (`torch.Tensor`): bool `[B, H, W]`, from `moving_pixels`.
    """
    values = {f"psnr_moving_{name}": psnr_where(output, target, moving) for name, output in outputs.items()}
    return values | {f"psnr_still_{name}": psnr_where(output, target, ~moving) for name, output in outputs.items()}
