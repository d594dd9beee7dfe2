# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""ST-LPIPS, a perceptual distance that forgives small shifts, and features of its network.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022. It is not LPIPS, and its values are not
comparable with those of LPIPS.

The weights are those in the wheel of `stlpips-pytorch` (BSD-2-Clause), so nothing is downloaded. The network is
written out here and the package itself is never imported: it imports IPython and torchsummary without declaring them,
of which nothing is needed, and parts of its code may not be used commercially.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from .image import check_pictures, check_region


# The network was trained on patches of this size.
SMALLEST = 64


class BlurPool(nn.Module):
    """Halves a feature map after a binomial filter (Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML
    2019), with the wider reflected border of ST-LPIPS. The filter `[channels, 1, 3, 3]` is loaded with the weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.zeros(channels, 1, 3, 3))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = F.pad(hidden, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(hidden, self.filt, stride=2, groups=hidden.shape[1])


class BlurredConv2d(nn.Module):
    """A convolution and the `BlurPool` after it as one convolution with stride 2, since both are linear: for the first
    layers of ST-LPIPS a fifth of the time.

    What the blur reflects is the convolution's output. At the top and on the left this only repeats the first values;
    at the bottom and on the right, where an even number of rows or columns is blurred, it folds the filter's last tap
    onto its first, which takes a filter of its own. So there are four: for the inner values, those of the last row,
    those of the last column, and the corner.

    Args:
        convolution (`nn.Conv2d`): of stride 1, with padding by zeros and an odd kernel.
        blur (`BlurPool`): what follows it.
    """

    def __init__(self, convolution: nn.Conv2d, blur: BlurPool) -> None:
        super().__init__()
        self.padding = convolution.padding[0]
        self.register_buffer("bias", convolution.bias.detach())
        # [bottom, right, channels, 3, k + 2, k + 2]
        kernels = [
            [_joined(convolution.weight.detach(), _folded(blur.filt, bottom, right)) for right in (False, True)]
            for bottom in (False, True)
        ]
        self.register_buffer("kernels", torch.stack([torch.stack(row) for row in kernels]))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        odd_rows, odd_columns = (size % 2 for size in hidden.shape[2:])
        # One zero more than the convolution's own is where the last tap of a folded filter would be.
        hidden = F.pad(hidden, (self.padding, self.padding + 1) * 2)
        size = self.kernels.shape[-1]

        def convolved(bottom: int, right: int) -> torch.Tensor:
            part = hidden[:, :, -size * bottom :, -size * right :]
            return F.conv2d(part, self.kernels[bottom, right], self.bias, stride=2)

        blurred = convolved(0, 0)
        if not odd_rows:
            blurred[:, :, -1:] = convolved(1, 0)
        if not odd_columns:
            blurred[:, :, :, -1:] = convolved(0, 1)
        if not odd_rows and not odd_columns:
            blurred[:, :, -1:, -1:] = convolved(1, 1)
        return F.pad(blurred, (1, odd_columns, 1, odd_rows), mode="replicate")


def _folded(filt: torch.Tensor, bottom: bool, right: bool) -> torch.Tensor:
    """A filter `[channels, 1, 3, 3]` whose last row, last column or both are added to the first, and 0 after that."""
    for dim, last in ((2, bottom), (3, right)):
        if last:
            first, middle, other = filt.split(1, dim)
            filt = torch.cat([first + other, middle, torch.zeros_like(other)], dim)
    return filt


def _joined(weight: torch.Tensor, filt: torch.Tensor) -> torch.Tensor:
    """The kernel `[channels, in, k + 2, k + 2]` of a convolution followed by a filter `[channels, 1, 3, 3]`."""
    return sum(
        filt[:, :, row : row + 1, column : column + 1] * F.pad(weight, (column, 2 - column, row, 2 - row))
        for row in range(3)
        for column in range(3)
    )


class STLPIPS:
    """The distance and the features, with the shift-tolerant AlexNet.

    Deterministic; never computes gradients.

    Args:
        device (`torch.device` or `str`, defaults to "cpu"): where it runs. Pictures are moved there.

    Raises:
        ImportError: if `stlpips-pytorch` is missing.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        package = importlib.util.find_spec("stlpips_pytorch")  # finds, and does not import
        if package is None:
            raise ImportError('ST-LPIPS needs stlpips-pytorch: `pip install "mcdiff-pipeline[evaluation]"`.')
        weights = torch.load(
            Path(package.origin).parent / "weights/vST0.0/alex_shift_tolerant.pth",
            map_location=device,
            weights_only=True,
        )
        # AlexNet in which all striding is left to blurring. The numbers of the layers are those in the weights' names.
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
        ).to(device, memory_format=torch.channels_last)
        self.layers.load_state_dict(
            {name.split(".", 2)[2]: value for name, value in weights.items() if name.startswith("net.")}
        )
        # The two layers that take half of the time, in one; so the numbers stay.
        self.layers[0], self.layers[1] = BlurredConv2d(*self.layers[:2]), nn.Identity()
        # Features are compared after each of these layers, weighted by channel: [1, channels, 1, 1] each.
        self.compared = (2, 6, 10, 12, 14)
        self.channel_weights = [weights[f"lin{number}.model.1.weight"] for number in range(len(self.compared))]
        self.shift, self.scale = weights["scaling_layer.shift"], weights["scaling_layer.scale"]

    @torch.no_grad()
    def activations(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """What the network sees in each picture, for comparing one picture with several others at the cost of one.

        Args:
            pictures (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 64 x 64 pixels.

        Returns:
            `list[torch.Tensor]`: float32 `[B, channels, h, w]` after each of the compared layers; the last one is what
            `features` averages.

        Raises:
            ValueError: if shape, dtype or range is not as above.
        """
        check_pictures(pictures, pictures, SMALLEST)
        hidden = (2 * pictures.to(self.shift) - 1 - self.shift) / self.scale
        # On a CPU the network then takes two thirds of the time.
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

        For a region, both pictures show the target outside it, and the differences at each layer are averaged over the
        region, weighted by how much of a feature's cell lies in it. Averaging alone would not do: a feature of the
        last layer sees 101 x 101 pixels, so what is wrong outside would count. The price is a seam where output and
        target meet at the rim of the region, which counts as a difference.

        Args:
            output, target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 64 x 64 pixels.
            where (`torch.Tensor`, *optional*): bool `[B, H, W]`, the region that counts. All of the picture if None.

        Returns:
            `torch.Tensor`: float32 `[B]`, 0 or more, lower is nearer, 0 for identical pictures. NaN where `where`
            selects nothing.

        Raises:
            ValueError: if shapes, dtypes or ranges are not as above.
        """
        check_pictures(output, target, SMALLEST)
        if where is not None:
            check_region(where, output)
            output = torch.where(where[:, None], output, target)
            where = where[:, None].to(self.shift)
        return self.distance(self.activations(output), self.activations(target), where)

    @torch.no_grad()
    def distance(
        self, output: list[torch.Tensor], target: list[torch.Tensor], where: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The same from the `activations` of both pictures; `where` is float `[B, 1, H, W]`, 1 in the region."""
        distance = torch.zeros(len(output[0]), device=self.shift.device)
        for first, second, weights in zip(output, target, self.channel_weights, strict=True):
            # Cosine distance by channel; the constant is the authors'.
            first, second = (hidden / (hidden.norm(dim=1, keepdim=True) + 1e-10) for hidden in (first, second))
            differences = ((first - second).square() * weights).sum(dim=1)  # [B, h, w]
            if where is None:
                distance += differences.mean(dim=(1, 2))
            else:
                share = F.adaptive_avg_pool2d(where, differences.shape[1:])[:, 0]
                distance += (differences * share).sum(dim=(1, 2)) / share.sum(dim=(1, 2))
        return distance

    @torch.no_grad()
    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """What the last convolution sees in each picture, for `frechet_distance`.

        Args:
            pictures (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 64 x 64 pixels.

        Returns:
            `torch.Tensor`: float32 `[B, 256]`, 0 or more: activations after the last ReLU, the mean over the picture.

        Raises:
            ValueError: if shape, dtype or range is not as above.
        """
        return self.activations(pictures)[-1].mean(dim=(2, 3))
