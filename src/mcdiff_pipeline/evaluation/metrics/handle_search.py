# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Do things go where the strokes say? Handles are found again on the output, and their distance to the truth counted.

A handle is found again by what it looks like: around its true position in a frame of the true video there is a patch,
and the place in the output, near the same position, where that patch fits best is where the handle is. So it works on
anything, people or not. The paper detects body keypoints on the output instead, which works on people alone.

No such figure means anything by itself: on the true video it is 0 by construction, on a still it is the length of the
motion as far as it is found, and between the two a picture that is carried along the true flow shows how far texture
alone can be followed. Reports give all of these beside a model's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F


# At 128 pixels on the shorter side, and proportional to it. A patch of 15 x 15 pixels is a head; a handle that is
# 20 pixels off is lost. A trial with both gave 0.0 / 10.4 pixels on the true video / a still.
REFERENCE_SIDE = 128
PATCH_RADIUS, SEARCH_RADIUS = 7, 20
# A handle counts as recalled within this distance, at the reference side.
RECALL_DISTANCE = 3.0
# A patch whose values spread less than this (standard deviation, white = 1) fits everywhere: it says nothing.
MIN_CONTRAST = 0.02


def scaled_to(height: int, width: int) -> tuple[int, int, float]:
    """Patch radius, search radius and distance of recall, in pixels, for frames of this size."""
    factor = min(height, width) / REFERENCE_SIDE
    return max(2, round(PATCH_RADIUS * factor)), max(2, round(SEARCH_RADIUS * factor)), RECALL_DISTANCE * factor


class HandleSearch:
    """Finds handles again in outputs; what they look like in the true video is prepared once for all of them.

    Args:
        true_frames (`torch.Tensor`): `[N, 3, H, W]` in [0, 1].
        positions (`torch.Tensor`): `[M, 2]`, the true (x, y) of each handle in pixels; pixel (0, 0) covers [0, 1).
        numbers (`torch.Tensor`): integer `[M]`, the number of the frame that each handle is looked for in.

    Raises:
        ValueError: if the shapes do not fit together.
    """

    def __init__(self, true_frames: torch.Tensor, positions: torch.Tensor, numbers: torch.Tensor) -> None:
        if positions.shape != (*numbers.shape, 2):
            raise ValueError(
                f"`positions` {list(positions.shape)} and `numbers` {list(numbers.shape)} do not fit together: for M "
                "handles, [M, 2] and [M] are needed."
            )
        self.frames_shape, self.numbers = true_frames.shape, numbers
        self.columns, self.rows = positions.long().unbind(1)
        self.radius, self.search, _ = scaled_to(*true_frames.shape[2:])
        patches = _crop(true_frames, numbers, self.rows, self.columns, self.radius)
        patches = patches - patches.mean(dim=(2, 3), keepdim=True)
        self.energy = patches.square().sum(dim=(1, 2, 3))  # [M]
        self.spectra = patches  # of no handles: PyTorch 2.6 cannot transform nothing
        if len(numbers) > 0:
            self.spectra = torch.fft.rfft2(patches, s=(2 * (self.radius + self.search) + 1,) * 2).conj()

    def distances(self, output: torch.Tensor, chosen: Sequence[int] | None = None) -> torch.Tensor:
        """How far from its true position each handle is found in the output.

        The place of best fit is that of the largest normalized cross-correlation (Lewis 1995, "Fast normalized
        cross-correlation"; per channel without its mean, summed over channels), to whole pixels.

        Args:
            output (`torch.Tensor`): `[N, 3, H, W]` in [0, 1], for each true frame the output of the same time.
            chosen (`Sequence[int]`, *optional*): the handles that are looked for, K of the M; None looks for all.

        Returns:
            `torch.Tensor`: float32 `[K]` in pixels; NaN where the patch has too little contrast to be found.

        Raises:
            ValueError: if the output has another shape than the true frames.
        """
        if output.shape != self.frames_shape:
            raise ValueError(
                f"`output` is {list(output.shape)}, but the true frames are {list(self.frames_shape)}; give a frame "
                "for each of them."
            )
        every = slice(None) if chosen is None else torch.as_tensor(chosen, dtype=torch.long)
        numbers, rows, columns = self.numbers[every], self.rows[every], self.columns[every]
        spectra, own_energy = self.spectra[every], self.energy[every]
        if len(numbers) == 0:
            return output.new_zeros(0)
        radius, search = self.radius, self.search
        channels, height, width = output.shape[1:]

        windows = _crop(output, numbers, rows, columns, radius + search)
        # No correlation depends on this mean, but without it sums round less.
        windows = windows - windows.mean(dim=(2, 3), keepdim=True)

        side, area = 2 * radius + 1, (2 * radius + 1) ** 2
        # Correlation by the convolution theorem: a tenth of the time of a convolution with M groups.
        spectrum = (torch.fft.rfft2(windows) * spectra).sum(dim=1)
        fit = torch.fft.irfft2(spectrum, s=windows.shape[2:])[:, : 2 * search + 1, : 2 * search + 1]
        squares = _local_mean(windows.square().sum(dim=1), side)
        energy = (squares - _local_mean(windows, side).square().sum(dim=1)).clamp_min(0) * area
        # Where the output is flat the correlation is 0, not a ratio of rounding errors.
        least = channels * area * (MIN_CONTRAST / 10) ** 2
        fit = fit / (energy.clamp_min(least) * own_energy.clamp_min(least)[:, None, None]).sqrt()

        offsets = torch.arange(-search, search + 1, device=output.device)
        row, column = rows[:, None] + offsets, columns[:, None] + offsets
        inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None]
        distance = torch.hypot(offsets[:, None].float(), offsets[None].float())
        # Of places that fit alike the nearest one is taken.
        score = torch.where(inside, fit - 1e-5 * distance, -torch.inf)
        found = distance.flatten()[score.flatten(1).argmax(dim=1)]
        flat = own_energy < channels * area * MIN_CONTRAST**2
        return torch.where(flat, torch.nan, found)


def _local_mean(values: torch.Tensor, side: int) -> torch.Tensor:
    """Means over all windows of `side` x `side` of square pictures `[..., S, S]`.

    As two products with a band matrix they round less than running sums, and take less time than these and pooling.
    """
    size = values.shape[-1]
    band = values.new_ones(size - side + 1, size).triu().tril(side - 1) / side
    return band @ (values @ band.T)


def _crop(
    frames: torch.Tensor, numbers: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, radius: int
) -> torch.Tensor:
    """`[M, 3, 2 * radius + 1, 2 * radius + 1]` around pixels of frames `[N, 3, H, W]`; outside, the border goes on."""
    side = 2 * radius + 1
    padded = F.pad(frames, (radius,) * 4, mode="replicate")
    # A view of all windows, of which those that are wanted are copied: half of the time of an index for each pixel.
    return padded.unfold(2, side, 1).unfold(3, side, 1)[numbers, :, rows, columns]
