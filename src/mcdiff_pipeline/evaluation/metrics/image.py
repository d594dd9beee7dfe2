# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""How far pictures are from the true ones, pixel by pixel: PSNR and SSIM.

Pictures are float tensors `[B, 3, H, W]` in [0, 1].
"""

import torch


# dB. Identical pictures would be infinitely good, and one of them would make the mean of a whole table infinite. From
# here on the error is below that of rounding to 8 bits, 58.9 dB.
PSNR_LARGEST = 60.0
# SSIM compares windows of 11 x 11 pixels (Wang et al. 2004, section III-C).
SSIM_SMALLEST = 11


def check_pictures(output: torch.Tensor, target: torch.Tensor, smallest: int = 1) -> None:
    """Refuses what is not two batches of pictures of the same shape, in [0, 1] and large enough.

    Args:
        output, target (`torch.Tensor`): see the module.
        smallest (`int`, defaults to 1): the least height and width in pixels.

    Raises:
        ValueError: names what is wrong.
    """
    if output.shape != target.shape or output.ndim != 4 or output.shape[1] != 3 or 0 in output.shape:
        raise ValueError(
            "Output and target must be pictures of the same shape [B, 3, H, W], none of it 0, "
            f"not {list(output.shape)} and {list(target.shape)}."
        )
    if min(output.shape[2:]) < smallest:
        raise ValueError(
            f"Pictures of {output.shape[3]} x {output.shape[2]} pixels are too small for this metric: "
            f"give at least {smallest} x {smallest}."
        )
    for name, pictures in (("Output", output), ("Target", target)):
        if not pictures.is_floating_point():
            raise ValueError(f"{name} must be floats in [0, 1], not {pictures.dtype}: divide 8-bit pictures by 255.")
        low, high = (value.item() for value in torch.aminmax(pictures))
        if not (low >= 0 and high <= 1):  # this way round, NaN is refused as well
            raise ValueError(
                f"{name} must lie in [0, 1], not [{low:g}, {high:g}]: rescale it, and clamp what a decoder overshot."
            )


def check_region(where: torch.Tensor, pictures: torch.Tensor) -> None:
    """Refuses what is not a bool mask `[B, H, W]` of these pictures, with a ValueError."""
    expected = pictures.shape[:1] + pictures.shape[2:]
    if where.dtype != torch.bool or where.shape != expected:
        raise ValueError(
            f"The region must be a bool tensor {list(expected)} like the pictures, "
            f"not {where.dtype} {list(where.shape)}."
        )


def psnr(output: torch.Tensor, target: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio, `10 log10(1 / MSE)` with the mean over pixels and colors.

    Args:
        output, target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1].
        where (`torch.Tensor`, *optional*): bool `[B, H, W]`, the pixels that count. All of them if None.

    Returns:
        `torch.Tensor`: `[B]` in dB, higher is better, capped at 60 dB, which identical pictures reach. NaN where
        `where` selects nothing.

    Raises:
        ValueError: if shapes, dtypes or ranges are not as above.
    """
    check_pictures(output, target)
    squared = (output - target).square().mean(dim=1)  # [B, H, W]
    if where is None:
        error = squared.mean(dim=(1, 2))
    else:
        check_region(where, output)
        error = (squared * where).sum(dim=(1, 2)) / where.sum(dim=(1, 2))
    return (-10 * error.log10()).clamp(max=PSNR_LARGEST)


def ssim(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Structural similarity: Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to
    Structural Similarity", IEEE TIP 2004, as torchmetrics computes it.

    Gaussian windows of 11 x 11 pixels with a standard deviation of 1.5, K1 = 0.01, K2 = 0.03, the mean over pixels and
    the three colors. The paper takes luminance only, after halving large pictures until about 256 pixels are left.

    Args:
        output, target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 11 x 11 pixels.

    Returns:
        `torch.Tensor`: `[B]` in [-1, 1], higher is better, 1 for identical pictures.

    Raises:
        ValueError: if shapes, dtypes or ranges are not as above.
        ImportError: if torchmetrics is missing.
    """
    check_pictures(output, target, SSIM_SMALLEST)
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ModuleNotFoundError as error:
        raise ImportError('SSIM needs torchmetrics: `pip install "mcdiff-pipeline[evaluation]"`.') from error
    # On a CPU its convolutions take half the time this way.
    output, target = (pictures.contiguous(memory_format=torch.channels_last) for pictures in (output, target))
    return structural_similarity_index_measure(output, target, data_range=1.0, reduction="none")
