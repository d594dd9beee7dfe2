# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""ST-LPIPS, a perceptual distance that tolerates small shifts, and the features of its network.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022. Its values cannot be compared with those of
LPIPS.

The weights come in the wheel of `stlpips-pytorch` (BSD-2-Clause), so nothing is downloaded. This module implements the
network itself and never imports the package. The package imports IPython and torchsummary without declaring them, and
the license of some of its code excludes commercial use.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from .image import check_images, check_region


# The network was trained on patches of this size.
SMALLEST = 64


class BlurPool(nn.Module):
    """Applies a binomial filter and halves the feature map (Zhang, "Making Convolutional Networks Shift-Invariant
    Again", ICML 2019).

    The reflected border is that of ST-LPIPS, two cells wide. The filter `[channels, 1, 3, 3]` is part of the weights.

    Args:
        channels (`int`): channels of the feature map.
    """

    filt: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.zeros(channels, 1, 3, 3))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = F.pad(hidden, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(hidden, self.filt, stride=2, groups=hidden.shape[1])


class BlurredConv2d(nn.Module):
    """A convolution and the `BlurPool` after it, as one convolution with stride 2.

    Both are linear, so they can be joined. For the first layers of ST-LPIPS this takes a fifth of the time.

    The blur reflects the output of the convolution at its borders. At the top and on the left this only repeats the
    first values. At the bottom and on the right it adds the last tap of the filter to the first one, if an even number
    of rows or columns is blurred. There are therefore four filters: for inner values, the last row, the last column
    and the corner.

    Args:
        convolution (`nn.Conv2d`): with stride 1, zero padding and an odd kernel size.
        blur (`BlurPool`): the layer after it.
    """

    bias: torch.Tensor
    kernels: torch.Tensor

    def __init__(self, convolution: nn.Conv2d, blur: BlurPool) -> None:
        super().__init__()
        assert convolution.bias is not None
        self.padding = int(convolution.padding[0])
        self.register_buffer("bias", convolution.bias.detach())
        # [bottom, right, channels, 3, k + 2, k + 2]
        kernels = [
            [_joined(convolution.weight.detach(), _folded(blur.filt, bottom, right)) for right in (False, True)]
            for bottom in (False, True)
        ]
        self.register_buffer("kernels", torch.stack([torch.stack(row) for row in kernels]))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        odd_rows, odd_columns = (size % 2 for size in hidden.shape[2:])
        # The kernels are one cell larger than the convolution's padding at the bottom and on the right.
        hidden = F.pad(hidden, (self.padding, self.padding + 1) * 2)
        blurred = self._convolve(hidden, bottom=0, right=0)
        if not odd_rows:
            blurred[:, :, -1:] = self._convolve(hidden, bottom=1, right=0)
        if not odd_columns:
            blurred[:, :, :, -1:] = self._convolve(hidden, bottom=0, right=1)
        if not odd_rows and not odd_columns:
            blurred[:, :, -1:, -1:] = self._convolve(hidden, bottom=1, right=1)
        return F.pad(blurred, (1, odd_columns, 1, odd_rows), mode="replicate")

    def _convolve(self, hidden: torch.Tensor, *, bottom: int, right: int) -> torch.Tensor:
        """Applies one of the four filters to the whole map, the last rows, the last columns or the corner."""
        size = self.kernels.shape[-1]
        part = hidden[:, :, -size * bottom :, -size * right :]
        return F.conv2d(part, self.kernels[bottom, right], self.bias, stride=2)


def _folded(filt: torch.Tensor, bottom: bool, right: bool) -> torch.Tensor:
    """The filter `[channels, 1, 3, 3]` with its last row, last column or both added to the first and then set to 0."""
    for dim, last in ((2, bottom), (3, right)):
        if last:
            first, middle, other = filt.split(1, dim)
            filt = torch.cat([first + other, middle, torch.zeros_like(other)], dim)
    return filt


def _joined(weight: torch.Tensor, filt: torch.Tensor) -> torch.Tensor:
    """The kernel `[channels, in, k + 2, k + 2]` of a convolution and the filter `[channels, 1, 3, 3]` after it."""
    kernel = torch.zeros(())
    for row in range(3):
        for column in range(3):
            padded = F.pad(weight, (column, 2 - column, row, 2 - row))
            kernel = kernel + filt[:, :, row : row + 1, column : column + 1] * padded
    return kernel


class STLPIPS:
    """ST-LPIPS and its features, with the shift-tolerant AlexNet. Deterministic; only `differentiable` computes
    gradients.

    Args:
        device (`torch.device` or `str`, defaults to "cpu"): where the network runs. Images are moved there.

    Raises:
        ImportError: if `stlpips-pytorch` is missing.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        package = importlib.util.find_spec("stlpips_pytorch")  # finds the package without importing it
        if package is None or package.origin is None:
            raise ImportError('ST-LPIPS needs stlpips-pytorch: `pip install "mcdiff-pipeline[evaluation]"`.')
        weights = torch.load(
            Path(package.origin).parent / "weights/vST0.0/alex_shift_tolerant.pth",
            map_location=device,
            weights_only=True,
        )
        # AlexNet, in which only `BlurPool` has a stride. The names of the weights contain the numbers of these layers.
        self.layers = nn.Sequential(
            nn.Conv2d(3, 64, 11, padding=2),
            BlurPool(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=1),
            BlurPool(64),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=1),
            BlurPool(192),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        ).to(memory_format=torch.channels_last)
        self.layers.to(device).requires_grad_(False)
        self.layers.load_state_dict(
            {name.split(".", 2)[2]: value for name, value in weights.items() if name.startswith("net.")}
        )
        # These two layers take half of the time, so they are joined. The identity keeps the numbers of the others.
        self.layers[0], self.layers[1] = BlurredConv2d(*self.layers[:2]), nn.Identity()
        # Features are compared after each of these layers, weighted by channel: [1, channels, 1, 1] each.
        self.compared = (2, 6, 10, 12, 14)
        self.channel_weights = [weights[f"lin{number}.model.1.weight"] for number in range(len(self.compared))]
        self.shift, self.scale = weights["scaling_layer.shift"], weights["scaling_layer.scale"]

    @torch.no_grad()
    def activations(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Activations of the network. Compute them once to compare one image with several others.

        Args:
            images (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 64 x 64 pixels.

        Returns:
            `list[torch.Tensor]`: float32 `[B, channels, h, w]` after each compared layer. `features` averages the last
            one.

        Raises:
            ValueError: if shape, dtype or range is not as above.
        """
        check_images(images, images, SMALLEST)
        return self._activations(images)

    def _activations(self, images: torch.Tensor) -> list[torch.Tensor]:
        hidden = (2 * images.to(self.shift) - 1 - self.shift) / self.scale
        # This memory format saves a third of the time on a CPU.
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        activations = []
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden)
            if number in self.compared:
                activations.append(hidden)
        return activations

    @torch.no_grad()
    def __call__(self, output: torch.Tensor, target: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
        """The perceptual distance of each pair.

        For a region, the output is first replaced by the target outside the region. The differences of each layer are
        then averaged over the region, weighted by the share of each cell that lies in it. Averaging alone is not
        enough: a feature of the last layer sees 101 x 101 pixels, so errors outside the region would count. The
        replacement makes a seam at the rim of the region, which counts as a difference.

        Args:
            output, target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 64 x 64 pixels.
            where (`torch.Tensor`, *optional*): bool `[B, H, W]`, the region that is measured; None measures the
                whole image.

        Returns:
            `torch.Tensor`: float32 `[B]`, 0 or more, lower is nearer, 0 for identical images. NaN where `where`
            selects no pixel.

        Raises:
            ValueError: if shapes, dtypes or ranges are not as above.
        """
        check_images(output, target, SMALLEST)
        if where is not None:
            check_region(where, output)
            output = torch.where(where[:, None], output, target)
            where = where[:, None].to(self.shift)
        return self.distance(self.activations(output), self.activations(target), where)

    def differentiable(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The perceptual distance of each pair, with gradients for `output`.

        Args:
            output, target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 64 x 64 pixels.

        Returns:
            `torch.Tensor`: float32 `[B]`.

        Raises:
            ValueError: if shapes, dtypes or ranges are not as above.
        """
        check_images(output, target, SMALLEST)
        return self._distance(self._activations(output), self.activations(target), None)

    @torch.no_grad()
    def distance(
        self, output: list[torch.Tensor], target: list[torch.Tensor], where: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The same from the `activations` of both images; `where` is float `[B, 1, H, W]`, 1 in the region."""
        return self._distance(output, target, where)

    def _distance(
        self, output: list[torch.Tensor], target: list[torch.Tensor], where: torch.Tensor | None
    ) -> torch.Tensor:
        distance = torch.zeros(len(output[0]), device=self.shift.device)
        for first, second, weights in zip(output, target, self.channel_weights, strict=True):
            # Features of unit length at each position. The constant is from the authors' code.
            first, second = (hidden / (hidden.norm(dim=1, keepdim=True) + 1e-10) for hidden in (first, second))
            differences = ((first - second).square() * weights).sum(dim=1)  # [B, h, w]
            if where is None:
                distance = distance + differences.mean(dim=(1, 2))
            else:
                share = F.adaptive_avg_pool2d(where, differences.shape[1:])[:, 0]
                distance += (differences * share).sum(dim=(1, 2)) / share.sum(dim=(1, 2))
        return distance

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features of each image for `frechet_distance`: the activations after the last ReLU, averaged over the image.

        Args:
            images (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 64 x 64 pixels.

        Returns:
            `torch.Tensor`: float32 `[B, 256]`, 0 or more.

        Raises:
            ValueError: if shape, dtype or range is not as above.
        """
        return self.activations(images)[-1].mean(dim=(2, 3))
