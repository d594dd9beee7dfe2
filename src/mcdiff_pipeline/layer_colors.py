# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The colors of layers that share pixels, and layers seen through each other. This file needs torch only."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .flow import fill_from_behind


# A pixel shows a layer alone from this share on.
PURE_SHARE = 0.95
# Width of the band around an outline, in parts of the shorter side of the image, from which no color is taken to
# continue layer 0 behind the regions. Outlines are rarely exact, and the color of a region would stay behind.
OUTLINE_BAND = 0.008
# Power of the share that weighs a pixel in the estimate of the color of its layer. Pixels on an outline contain the
# color of other layers.
PURITY = 8
# Colors are the same if each channel differs by less than this.
SAME_COLOR = 0.03
# Colors are limited to [0, 1] after each correction of the mixture. The next one distributes what this cost. Where
# that is not enough, all layers take the color of the picture.
MIXTURE_ROUNDS = 2


def separate_colors(picture: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """
    The color of each layer in each pixel of a picture, also where the layer is hidden.

    A pixel on an outline is a mixture, `picture = sum(shares * colors)`. A layer's color there is first taken from its
    surroundings (pull-push), and what is then missing in the mixture is divided by the squared shares, which is the
    smallest change of all colors (as Forte 2021, "Approximate Fast Foreground Colour Estimation", for two layers).

    Args:
        picture (`torch.Tensor` of shape `(3, height, width)`):
            The picture in [0, 1].
        shares (`torch.Tensor` of shape `(layers, height, width)`):
            Share of each layer in each pixel, in [0, 1]. The sum over layers is 1.

    Returns:
        `torch.Tensor` of shape `(layers, 3, height, width)`: the colors in [0, 1].
    """
    colors = continued_colors(picture, shares)
    everywhere = (slice(None), slice(None), slice(None))
    correct_mixture(picture, [(color, share[None], everywhere) for color, share in zip(colors, shares, strict=True)])
    return colors


def correct_mixture(
    picture: torch.Tensor, layers: Sequence[tuple[torch.Tensor, torch.Tensor, tuple[slice, slice, slice]]]
) -> None:
    """
    Change the colors of layers in place by as little as possible, so that their mixture is the picture.

    Args:
        picture (`torch.Tensor` of shape `(3, height, width)`): float in [0, 1].
        layers: For each layer its colors `[3, rows, columns]`, its share `[1, rows, columns]`, and where it lies in
            the picture.
    """
    squares = torch.full_like(picture[:1], 1e-6)
    for _, share, here in layers:
        squares[here] += share.square()
    for _ in range(MIXTURE_ROUNDS):
        missing = picture.clone()
        for colors, share, here in layers:
            missing[here] -= share * colors
        missing /= squares
        for colors, share, here in layers:
            colors.add_(share * missing[here]).clamp_(0, 1)
    left = picture.clone()
    for colors, share, here in layers:
        left[here] -= share * colors
    impossible = (left.abs() > 1 / 512).any(dim=0, keepdim=True)
    for colors, _, here in layers:
        colors.copy_(torch.where(impossible[here], picture[here], colors))


def clear_outlines(
    picture: torch.Tensor, layers: Sequence[tuple[torch.Tensor, torch.Tensor, tuple[slice, slice, slice]]]
) -> None:
    """
    Take pixels out of regions, in place, whose outline is drawn around more than the thing.

    A pixel that the mask divides between a region and layer 0 then shows layer 0 alone. To explain it as a mixture,
    layer 0 would have to take on the opposite of the region's color, and a line would stay when the region moves.

    Args:
        picture (`torch.Tensor` of shape `(3, height, width)`): float in [0, 1].
        layers: As in [`correct_mixture`]; layer 0, which covers the picture, comes first.
    """
    behind, rest, _ = layers[0]
    is_behind = ((picture - behind).abs() < SAME_COLOR).all(dim=0, keepdim=True)
    for colors, share, here in layers[1:]:
        left = rest[here]
        mixed = share * colors + left * behind[here]
        is_wrong = ((picture[here] - mixed).abs() > 2 * SAME_COLOR).any(dim=0, keepdim=True)
        cleared = is_behind[here] & is_wrong & (share + left > PURE_SHARE) & (left > 0)
        left.add_(torch.where(cleared, share, 0.0))  # a part of the share of layer 0
        share.masked_fill_(cleared, 0.0)


def continued_colors(picture: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """The color of each layer, continued from its pure pixels to all others: `[layers, 3, height, width]`."""
    purity = shares[:, None] ** PURITY
    if len(shares) > 1:
        surroundings = surroundings_of_regions(shares)
        if surroundings.any():  # else layer 0 is all outline
            purity = torch.cat([purity[:1] * surroundings, purity[1:]])
    pictures = picture.expand(len(shares), -1, -1, -1)
    continued = fill_from_behind(pictures, purity, torch.zeros_like(purity))
    return torch.where(shares[:, None] >= PURE_SHARE, pictures, continued)


def surroundings_of_regions(shares: torch.Tensor) -> torch.Tensor:
    """The pixels of layer 0 that are not near an outline, `[height, width]`, bool; shares are `[layers, height,
    width]`."""
    band = max(round(OUTLINE_BAND * min(shares.shape[1:])), 1)
    return F.max_pool2d((shares[:1] < PURE_SHARE).float(), 2 * band + 1, stride=1, padding=band)[0] == 0


def stack_layers(shares: torch.Tensor, order: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    What is seen of each layer, if the layers lie on each other.

    A layer takes its share of a pixel, as far as the layers in front leave something. So layers that share the pixels
    of an outline leave no seam.

    Args:
        shares (`torch.Tensor` of shape `(layers, 1, height, width)`):
            How much of each pixel each layer covers, in [0, 1].
        order (`Sequence[int]`):
            The layers from front to back.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: what is seen of each layer, `(layers, 1, height, width)`, and what no
        layer covers, `(1, height, width)`; together they sum to 1.
    """
    left_over = torch.ones_like(shares[0])
    visible = torch.empty_like(shares)
    for layer in order:
        visible[layer] = torch.minimum(shares[layer], left_over)
        left_over = left_over - visible[layer]
    return visible, left_over


def composite(colors: torch.Tensor, visible: torch.Tensor, left_over: torch.Tensor) -> torch.Tensor:
    """The picture `[3, H, W]` of layers with colors `[L, 3, H, W]`, as [`stack_layers`] says what is seen of each.
    What no layer covers shows layer 0, which is continued behind the others."""
    return (visible * colors).sum(dim=0) + left_over * colors[0]
