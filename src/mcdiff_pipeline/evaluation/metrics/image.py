# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""PSNR and SSIM: pixel-wise comparison of images with the true ones.

Images are float tensors `[B, 3, H, W]` in [0, 1].
"""

from typing import cast

import torch


# dB. The PSNR of identical images is infinite, and one infinite value would make the mean of a whole table infinite.
# Rounding to 8 bits alone gives 58.9 dB, below this limit.
PSNR_LARGEST = 60.0
# SSIM compares windows of 11 x 11 pixels (Wang et al. 2004, section III-C).
SSIM_SMALLEST = 11


def check_images(output: torch.Tensor, target: torch.Tensor, smallest: int = 1) -> None:
    """Checks that two batches of images have the same shape, lie in [0, 1] and are large enough.

    Args:
        output, target (`torch.Tensor`): the two batches.
        smallest (`int`, defaults to 1): the smallest allowed height and width in pixels.

    Raises:
        ValueError: if a shape, a dtype, a size or a value is not allowed.
    """
    if output.shape != target.shape or output.ndim != 4 or output.shape[1] != 3 or 0 in output.shape:
        raise ValueError(
            "Output and target must be images of the same shape [B, 3, H, W] without a dimension of 0, "
            f"not {list(output.shape)} and {list(target.shape)}."
        )
    if min(output.shape[2:]) < smallest:
        raise ValueError(
            f"Images of {output.shape[3]} x {output.shape[2]} pixels are too small for this metric: "
            f"give at least {smallest} x {smallest}."
        )
    for name, images in (("Output", output), ("Target", target)):
        if not images.is_floating_point():
            raise ValueError(f"{name} must be floats in [0, 1], not {images.dtype}: divide 8-bit images by 255.")
        low, high = (value.item() for value in torch.aminmax(images))
        if not (low >= 0 and high <= 1):  # written this way, the condition refuses NaN too
            raise ValueError(
                f"{name} must lie in [0, 1], not [{low:g}, {high:g}]: rescale it, or clamp the output of a decoder."
            )


def check_region(where: torch.Tensor, images: torch.Tensor) -> None:
    """Checks that `where` is a bool mask `[B, H, W]` of the images; raises `ValueError` otherwise."""
    expected = images.shape[:1] + images.shape[2:]
    if where.dtype != torch.bool or where.shape != expected:
        raise ValueError(
            f"The region must be a bool tensor {list(expected)} like the images, "
            f"not {where.dtype} {list(where.shape)}."
        )


def psnr(output: torch.Tensor, target: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio, `10 log10(1 / MSE)` with the mean over pixels and colors.

    Args:
        output, target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1].
        where (`torch.Tensor`, *optional*): bool `[B, H, W]`, the region that is measured; None measures all pixels.

    Returns:
        `torch.Tensor`: `[B]` in dB, higher is better, at most 60 dB, the value of identical images. NaN where `where`
        selects no pixel.

    Raises:
        ValueError: if shapes, dtypes or ranges are not as above.
    """
    check_images(output, target)
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
    the three colors. The paper measures luminance only, and first halves large images down to about 256 pixels.

    Args:
        output, target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 11 x 11 pixels.

    Returns:
        `torch.Tensor`: `[B]` in [-1, 1], higher is better, 1 for identical images.

    Raises:
        ValueError: if shapes, dtypes or ranges are not as above.
        ImportError: if torchmetrics is missing.
    """
    check_images(output, target, SSIM_SMALLEST)
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ModuleNotFoundError as error:
        raise ImportError('SSIM needs torchmetrics: `pip install "mcdiff-pipeline[evaluation]"`.') from error
    # This memory format halves the time of the convolutions on a CPU.
    output, target = (images.contiguous(memory_format=torch.channels_last) for images in (output, target))
    return cast(torch.Tensor, structural_similarity_index_measure(output, target, data_range=1.0, reduction="none"))
