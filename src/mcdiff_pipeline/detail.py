# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Frames with the detail of the start picture, at a size of their own.

A frame is the start picture, carried along in layers at the output size, plus what G changed, resized:

    frame = resize(decoded - w * reconstruction) + w * carried

where `decoded` is the frame that G made, at the working size, `carried` is the start picture carried along at the
output size, and `reconstruction` is what the autoencoder makes of the start picture carried along at the working size.
Without a change by G, `decoded` is `reconstruction`, and the frame is `carried`. At the working size, this returns
what the autoencoder loses. The weight `w` leaves the detail out where pixels are uncovered, torn, or changed by G.

The reconstruction is not encoded and decoded again, which would be a quarter of the time of a frame. It is the picture
carried along, slightly blurred, plus the rest of the autoencoder's error in the start picture, carried along: 39 dB
from the true one with layers of rendered clips, where the carried error alone is 31 dB from it and shows as ghosts of
outlines that have left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .flow import box_mean, sampling_grid
from .inpainting import inpaint
from .layer_colors import (
    clear_outlines,
    composite,
    continued_colors,
    correct_mixture,
    separate_colors,
    stack_layers,
    surroundings_of_regions,
)


# The weight is `known * exp(-(change / CHANGE_SCALE)^2)`, with the mean difference between the decoded frame and the
# reconstruction over a box of CHANGE_WIDTH pixels as `change`. Measured on 18 rendered validation clips at 128 pixels,
# frames 1, 3 and 6, along the true flow | F's flow: PSNR in dB on still and on moving pixels, ST-LPIPS of frame 1:
#     the decoded frame alone                    28.1  19.7  .071 | 25.8  16.6  .067
#     the picture carried along, alone           33.7  19.0  .018 | 27.8  16.0  .029
#     known alone                                33.0  19.8  .032 | 27.7  16.3  .032
#     scale 0.03                                 33.0  19.9  .041 | 27.9  16.5  .036
#     scale 0.05                                 33.1  19.9  .038 | 27.8  16.4  .033
#     scale 0.1                                  33.1  19.9  .034 | 27.7  16.3  .032
#     scale 0.1, the carried error alone         33.0  19.9  .035 | 27.7  16.3  .032
#     scale 0.04, encoded and decoded again      33.3  20.1  .037 | 27.7  16.3  .032
# Boxes of 1 and 9 pixels are within 0.05 dB and .005 of 5. 0.1 is as good as 0.05 in PSNR and sharper where limbs have
# moved far.
CHANGE_WIDTH = 5
CHANGE_SCALE = 0.1

# Standard deviation, in pixels, of the Gaussian that stands for what the autoencoder does to outlines. PSNR of the
# reconstruction of layers of rendered clips: 31.4 dB without, 39.4 at 0.6, 39.2 at 0.8, 38.5 at 1.
AUTOENCODER_BLUR = 0.6

# Rows of the output that are made at a time.
STRIP = 128
# Longer side, in pixels, at which what lies behind a layer is estimated. Colors are a blurred continuation, so more
# pixels do not change them; texture is taken from the picture at the output size.
FILL_SIZE = 256
# A layer is left out of the pixels that it covers by less than this: half of the smallest change in 8 bits.
SMALLEST_SHARE = 1 / 512


class _StripResizer:
    """
    Resizes images, some rows at a time.

    Args:
        old (`tuple[int, int]`): (height, width) of the images.
        new (`tuple[int, int]`): (height, width) to resize to.
        mode (`str`): `"bicubic"` or `"bilinear"`; antialiased where an axis shrinks.
    """

    def __init__(self, old: tuple[int, int], new: tuple[int, int], mode: str, device: torch.device):
        self.old, self.new, self.mode = old, new, mode
        self.row_weights = self._resize(torch.eye(old[0], device=device)[None], (new[0], old[0]))[0]

    def _resize(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        shrinks = size[0] < images.shape[1] or size[1] < images.shape[2]
        return F.interpolate(images[None], size=size, mode=self.mode, align_corners=False, antialias=shrinks)[0]

    def rows(self, images: torch.Tensor, top: int, bottom: int) -> torch.Tensor:
        """Rows `top` to `bottom` of the resized images `[channels, height, width]`."""
        if self.old == self.new:
            return images[:, top:bottom]
        weights = self.row_weights[top:bottom]
        used = weights.ne(0).any(dim=0).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        wide = self._resize(images[:, first:last], (last - first, self.new[1]))
        return weights[:, first:last] @ wide


@dataclass(frozen=True, eq=False)
class _Plate:
    """
    A layer of the start picture at the output size, cut to the box that contains it.

    Args:
        colors (`torch.Tensor` of shape `(3, height, width)`): uint8 or float in [0, 1].
        share (`torch.Tensor` of shape `(1, height, width)`, *optional*): uint8. None if it is 1 in each pixel.
        top, left (`int`): position of the box in the picture.
    """

    colors: torch.Tensor
    share: torch.Tensor | None
    top: int
    left: int


class DetailRenderer:
    """
    Makes the frames of one picture at the output size from what a model made at the working size.

    It is made once for a picture. Memory is bounded: it keeps the picture in the given dtype, for each region its box,
    and one more picture if there are regions; a frame is made in strips.

    Args:
        picture (`torch.Tensor` of shape `(3, output_height, output_width)`):
            The start picture at the output size, uint8 or float in [0, 1].
        start (`torch.Tensor` of shape `(3, height, width)`):
            The start picture at the working size, as it was encoded, in [0, 1].
        reconstruction (`torch.Tensor` of shape `(3, height, width)`):
            What the autoencoder makes of it, in [0, 1].
        shares (`torch.Tensor` of shape `(layers, any_height, any_width)`, *optional*):
            Share of each layer in each pixel of the start picture, in [0, 1]; the sum over layers is 1. Layer 0 is
            what belongs to no region. Behind the others, it is filled from its surroundings; see
            [`~mcdiff_pipeline.inpainting.inpaint`]. None for one layer.

    Raises:
        ValueError: If shapes or dtypes are not as above.
    """

    def __init__(
        self,
        picture: torch.Tensor,
        start: torch.Tensor,
        reconstruction: torch.Tensor,
        shares: torch.Tensor | None = None,
    ):
        for name, image in (("picture", picture), ("start", start), ("reconstruction", reconstruction)):
            _check_image(image, name)
        if start.shape != reconstruction.shape:
            raise ValueError(
                f"`start` has the shape {tuple(start.shape)} and `reconstruction` {tuple(reconstruction.shape)}, but "
                "both are at the working size: give the picture that was encoded, and what it was decoded to."
            )
        self.output_size = (picture.shape[1], picture.shape[2])
        self.working_size = (start.shape[1], start.shape[2])
        self.device = picture.device
        start, reconstruction = (_as_float(image.to(self.device)) for image in (start, reconstruction))
        self._error = reconstruction - _blurred(start)
        self._smooth = _StripResizer(self.working_size, self.output_size, "bicubic", self.device)
        self._linear = _StripResizer(self.working_size, self.output_size, "bilinear", self.device)

        # whether the start picture at the working size, carried along, is what is shown
        self._shows_start = False
        if shares is None or len(shares) == 1:
            self._starts = start[None]
            self._shows_start = self.output_size == self.working_size and picture.is_floating_point()
            self._plates = [_Plate(picture, None, 0, 0)]
        else:
            _check_shares(shares)
            shares = shares.to(self.device, torch.float32)
            at_working_size = _resized(shares, self.working_size)
            self._shares = at_working_size[:, None]
            self._starts = separate_colors(start, at_working_size)
            self._plates = self._make_plates(picture, shares)

    def render(
        self,
        decoded: torch.Tensor,
        backward: torch.Tensor,
        known: torch.Tensor,
        order: Sequence[int] | None = None,
        unchanged: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Make a frame.

        Args:
            decoded (`torch.Tensor` of shape `(3, height, width)`):
                The frame that the model made, in [0, 1].
            backward (`torch.Tensor` of shape `(layers, 2, height, width)`):
                For each pixel of the frame, where it comes from in the start picture if it belongs to the layer, in
                pixels of the working size; see [`~mcdiff_pipeline.flow.invert_latent_flow`].
            known (`torch.Tensor` of shape `(layers, height, width)`):
                How far this is known, in [0, 1].
            order (`Sequence[int]`, *optional*):
                The layers from front to back. None: from the last to layer 0.
            unchanged (`torch.Tensor` of shape `(1, height, width)`, *optional*):
                Share of each pixel of the frame, in [0, 1], in which the model left the picture that was carried along
                as it is. What was decoded is its reconstruction there, which needs no estimate.

        Returns:
            `torch.Tensor` of shape `(3, output_height, output_width)`, float32 in [0, 1].

        Raises:
            ValueError: If shapes do not fit the picture, or `order` does not name each layer once.
        """
        order = list(range(len(self._plates)))[::-1] if order is None else [int(layer) for layer in order]
        self._check(decoded, backward, known, order)
        decoded, backward = decoded.to(self.device).float(), backward.to(self.device).float()
        known = known.to(self.device).float()

        start, error, weight, boxes = self._at_working_size(backward, known, order)
        reconstruction = _blurred(start) + error
        if unchanged is not None:
            reconstruction = torch.lerp(reconstruction, decoded, unchanged.to(self.device).float())
        change = (decoded - reconstruction).abs().mean(dim=0, keepdim=True)
        change = box_mean(change[None], CHANGE_WIDTH)[0]
        weight = weight * (-(change / CHANGE_SCALE).square()).exp()

        rest = decoded - weight * reconstruction
        height, width = self.output_size
        frame = torch.empty(3, height, width, device=self.device)
        for top in range(0, height, STRIP):
            bottom = min(top + STRIP, height)
            carried = start[:, top:bottom] if self._shows_start else self._carried(backward, order, boxes, top, bottom)
            shown = carried * self._linear.rows(weight, top, bottom)
            shown += self._smooth.rows(rest, top, bottom)
            frame[:, top:bottom] = shown.clamp_(0, 1)
        return frame

    def _at_working_size(
        self, backward: torch.Tensor, known: torch.Tensor, order: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[tuple[int, int, int, int]]]:
        """
        The layers composited at the working size.

        Returns:
            The start picture and the autoencoder's error in it, carried along, `[3, height, width]` both; how far each
            pixel is known, `[1, height, width]`; and for each layer the box of the output that it may cover, as top,
            bottom, left, right. A layer that is alone covers everything and needs none.
        """
        grid = sampling_grid(backward)
        starts = F.grid_sample(self._starts, grid, "bicubic", "border", align_corners=False)
        if len(order) == 1:
            error = F.grid_sample(self._error[None], grid, "bilinear", "border", align_corners=False)[0]
            return starts[0].clamp(0, 1), error, known, []
        rest = torch.cat([self._shares, self._error.expand(len(order), -1, -1, -1)], dim=1)
        shares, errors = F.grid_sample(rest, grid, "bilinear", "border", align_corners=False).split([1, 3], dim=1)
        visible, left_over = stack_layers(shares, order)
        boxes = [_box(share[0] > SMALLEST_SHARE, self.output_size, margin=2) for share in visible]
        start = composite(starts, visible, left_over).clamp(0, 1)
        error = (visible * errors).sum(dim=0)
        weight = (visible * known[:, None]).sum(dim=0) + left_over * known[0]
        return start, error, weight, boxes

    def _carried(
        self,
        backward: torch.Tensor,
        order: list[int],
        boxes: list[tuple[int, int, int, int]],
        top: int,
        bottom: int,
    ) -> torch.Tensor:
        """Rows `top` to `bottom` of the start picture, carried along: `[3, rows, output_width]`."""
        width = self.output_size[1]
        if len(order) == 1:
            return self._colors(0, backward, (top, bottom, 0, width))[0]
        carried = torch.zeros(3, bottom - top, width, device=self.device)
        left_over = torch.ones(1, bottom - top, width, device=self.device)
        in_front = order[: order.index(0)] if order[-1] == 0 else order
        for layer in in_front:
            first, last, left, right = boxes[layer]
            first, last = max(first, top), min(last, bottom)
            if first >= last or left >= right:
                continue
            colors, share = self._colors(layer, backward, (first, last, left, right))
            here = (slice(None), slice(first - top, last - top), slice(left, right))
            share = torch.minimum(share, left_over[here])
            carried[here] += share * colors
            left_over[here] -= share
        if in_front and float(left_over.amax()) == 0:
            return carried
        # what is uncovered shows the back layer, which is filled behind the others
        return carried + left_over * self._colors(0, backward, (top, bottom, 0, width))[0]

    def _colors(
        self, layer: int, backward: torch.Tensor, box: tuple[int, int, int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Colors `[3, rows, columns]` and share `[1, rows, columns]` of a layer in a box of the output."""
        top, bottom, left, right = box
        plate = self._plates[layer]
        flow = self._linear.rows(backward[layer], top, bottom)[:, :, left:right]
        scales = (self.output_size[1] / self.working_size[1], self.output_size[0] / self.working_size[0])
        x = torch.arange(left - plate.left, right - plate.left, device=self.device) + flow[0] * scales[0]
        y = torch.arange(top - plate.top, bottom - plate.top, device=self.device)[:, None] + flow[1] * scales[1]
        colors = _look_up(plate.colors, x, y, "bicubic")
        if plate.share is None:
            return colors, torch.ones_like(colors[:1])
        return colors, _look_up(plate.share, x, y, "bilinear")

    def _make_plates(self, picture: torch.Tensor, shares: torch.Tensor) -> list[_Plate]:
        """Separate the layers of the picture at the output size, in strips."""
        height, width = self.output_size
        zoom = min(FILL_SIZE / max(height, width), 1)
        small = (max(round(height * zoom), 1), max(round(width * zoom), 1))
        small_picture, small_shares = _resized(picture, small), _resized(shares, small)
        continued = continued_colors(small_picture, small_shares)
        behind = inpaint(small_picture, surroundings_of_regions(small_shares))
        to_output = _StripResizer(small, self.output_size, "bilinear", self.device)
        share_to_output = _StripResizer((shares.shape[1], shares.shape[2]), self.output_size, "bilinear", self.device)

        boxes = [_box(share > SMALLEST_SHARE, self.output_size, margin=4) for share in shares]
        boxes[0] = (0, height, 0, width)
        color_planes, share_planes = [], []
        for top, bottom, left, right in boxes:
            color_planes.append(picture.new_zeros(3, bottom - top, right - left))
            share_planes.append(picture.new_zeros(1, bottom - top, right - left, dtype=torch.uint8))
        for top in range(0, height, STRIP):
            bottom = min(top + STRIP, height)
            layers, targets = [], []
            for layer, (first, last, left, right) in enumerate(boxes):
                rows = slice(max(top - first, 0), max(min(bottom, last) - first, 0))
                first, last = max(first, top), min(last, bottom)
                if first >= last or left >= right:
                    continue
                color = to_output.rows(continued[layer], first, last)[:, :, left:right].clone()
                share = share_to_output.rows(shares[layer : layer + 1], first, last)[:, :, left:right].clone()
                if layer == 0 and behind is not None and len(hidden := (share < 1).any(dim=1)[0].nonzero()):
                    columns = slice(int(hidden[0]), int(hidden[-1]) + 1)
                    color[:, :, columns] = behind.part(picture, slice(first, last), columns)
                layers.append((color, share, (slice(None), slice(first - top, last - top), slice(left, right))))
                targets.append((color_planes[layer][:, rows], share_planes[layer][:, rows]))
            strip = _as_float(picture[:, top:bottom])
            clear_outlines(strip, layers)
            correct_mixture(strip, layers)
            for (color_target, share_target), (color, share, _) in zip(targets, layers, strict=True):
                color_target.copy_(_as_dtype(color, picture.dtype))
                share_target.copy_(_as_dtype(share, torch.uint8))
        return [
            _Plate(color, share, box[0], box[2])
            for color, share, box in zip(color_planes, share_planes, boxes, strict=True)
        ]

    def _check(self, decoded: torch.Tensor, backward: torch.Tensor, known: torch.Tensor, order: list[int]) -> None:
        layers = len(self._plates)
        for name, tensor, shape in (
            ("decoded", decoded, (3, *self.working_size)),
            ("backward", backward, (layers, 2, *self.working_size)),
            ("known", known, (layers, *self.working_size)),
        ):
            if tuple(tensor.shape) != shape:
                raise ValueError(
                    f"`{name}` has the shape {tuple(tensor.shape)}, but this picture of {layers} layers and working "
                    f"size {self.working_size} needs {shape}."
                )
        if sorted(order) != list(range(layers)):
            raise ValueError(f"`order` is {order}, but it has to name each layer from 0 to {layers - 1} once.")


def _blurred(image: torch.Tensor) -> torch.Tensor:
    """An image `[3, H, W]` with outlines as blurred as the autoencoder would make them."""
    taps = [math.exp(-((distance / AUTOENCODER_BLUR) ** 2) / 2) for distance in range(-2, 3)]
    # Sums of shifted images take a third of the time of a convolution on a CPU.
    image = F.pad(image[None], (2, 2, 2, 2), mode="replicate")[0]
    for axis in (1, 2):
        length = image.shape[axis] - 4
        blurred = torch.zeros_like(image.narrow(axis, 0, length))
        for shift, tap in enumerate(taps):
            blurred.add_(image.narrow(axis, shift, length), alpha=tap / sum(taps))
        image = blurred
    return image


def _look_up(image: torch.Tensor, x: torch.Tensor, y: torch.Tensor, mode: str) -> torch.Tensor:
    """
    Sample an image of any size at positions in its pixels. Only the part that is needed is converted to float.

    Args:
        image (`torch.Tensor` of shape `(channels, height, width)`): uint8, or float in [0, 1].
        x, y (`torch.Tensor` of shape `(rows, columns)`): 0 is the center of the first pixel.
        mode (`str`): `"bicubic"` or `"bilinear"`.

    Returns:
        `torch.Tensor` of shape `(channels, rows, columns)`, float32. Outside, the border is repeated.
    """
    height, width = image.shape[1:]
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    limits = torch.stack([*x.aminmax(), *y.aminmax()]).tolist()
    left, right = max(int(limits[0]) - 2, 0), min(int(limits[1]) + 4, width)
    top, bottom = max(int(limits[2]) - 2, 0), min(int(limits[3]) + 4, height)
    part = _as_float(image[:, top:bottom, left:right])
    grid = torch.stack([(2 * (x - left) + 1) / (right - left) - 1, (2 * (y - top) + 1) / (bottom - top) - 1], dim=-1)
    return F.grid_sample(part[None], grid[None], mode, "border", align_corners=False)[0]


def _resized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Images `[C, H, W]` as float32 at another size: the mean over pixels where an axis shrinks."""
    height, width = images.shape[1:]
    if height > size[0] or width > size[1]:
        rows = [
            F.interpolate(_as_float(image)[None, None], (min(height, size[0]), min(width, size[1])), mode="area")[0, 0]
            for image in images
        ]
        images = torch.stack(rows)
    if images.shape[1:] != size:
        images = F.interpolate(_as_float(images)[None], size, mode="bilinear", align_corners=False)[0]
    return _as_float(images)


def _box(mask: torch.Tensor, size: tuple[int, int], margin: int) -> tuple[int, int, int, int]:
    """The part of an image of (height, width) `size` that a mask `[h, w]` of it covers: top, bottom, left, right."""
    limits = []
    for axis, length in zip((1, 0), size, strict=True):
        covered = mask.any(dim=axis).nonzero().flatten()
        if len(covered) == 0:
            return (0, 0, 0, 0)
        scale = length / mask.shape[1 - axis]
        limits.append(max(int((int(covered[0]) - margin) * scale), 0))
        limits.append(min(int((int(covered[-1]) + 1 + margin) * scale) + 1, length))
    return (limits[0], limits[1], limits[2], limits[3])


def _as_float(image: torch.Tensor) -> torch.Tensor:
    """Float32 in [0, 1]."""
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def _as_dtype(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Values in [0, 1] as uint8, or in another dtype."""
    image = image.clamp(0, 1)
    return (255 * image).round().to(dtype) if dtype == torch.uint8 else image.to(dtype)


def _check_image(image: torch.Tensor, name: str) -> None:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"`{name}` has the shape {tuple(image.shape)}, but (3, height, width) is needed.")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ValueError(f"`{name}` has the dtype {image.dtype}, but uint8 or floating point in [0, 1] is needed.")


def _check_shares(shares: torch.Tensor) -> None:
    if shares.ndim != 3 or 0 in shares.shape or not shares.is_floating_point():
        raise ValueError(
            f"`shares` has the shape {tuple(shares.shape)} and dtype {shares.dtype}, but floating point values of "
            "shape (layers, height, width) are needed."
        )
