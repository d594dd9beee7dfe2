# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Handle search: finds the handles in the output again and measures how far they are from their true positions.

The patch around the true position of a handle in the true video is searched for in the output, near the same position.
The place with the best match is where the handle is. This works on any content. The paper detects body keypoints on
the output instead, which works on people only.

Compare the result with its reference values, which reports show. The true video gives 0 by construction. A still gives
the length of the motion, as far as the search finds it. A splat along the true flow shows how far texture alone can be
followed.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F


# All three are for 128 pixels on the shorter side, and scale with it. A patch of 15 x 15 pixels has the size of a
# head, and a handle can be found up to 20 pixels away. In a trial these radii gave 0.0 pixels on the true video and
# 10.4 pixels on a still.
REFERENCE_SIDE = 128
PATCH_RADIUS, SEARCH_RADIUS = 7, 20
# Recall threshold in pixels.
RECALL_DISTANCE = 3.0
# A patch with a smaller standard deviation (white = 1) matches everywhere, so it is not measured.
MIN_CONTRAST = 0.02


def scaled_to(height: int, width: int) -> tuple[int, int, float]:
    """Patch radius, search radius and recall threshold, in pixels, for frames of this size."""
    factor = min(height, width) / REFERENCE_SIDE
    return max(2, round(PATCH_RADIUS * factor)), max(2, round(SEARCH_RADIUS * factor)), RECALL_DISTANCE * factor


class HandleSearch:
    """Finds handles in outputs. The patches of the true video are prepared once for all outputs.

    Args:
        true_frames (`torch.Tensor`): `[N, 3, H, W]` in [0, 1].
        positions (`torch.Tensor`): `[M, 2]`, the true (x, y) of each handle in pixels; pixel (0, 0) covers [0, 1).
        numbers (`torch.Tensor`): integer `[M]`, the number of the frame that each position belongs to.
        search (`int`, *optional*): how far away a handle is searched for, in pixels on each axis; None takes
            `SEARCH_RADIUS` at the size of the frames.
        patches_at (`tuple[torch.Tensor, torch.Tensor]`, *optional*): positions and numbers of frames from which the
            patches are taken instead, where there is no true video: a patch of an earlier frame, for example.

    Raises:
        ValueError: if the shapes do not fit together.
    """

    def __init__(
        self,
        true_frames: torch.Tensor,
        positions: torch.Tensor,
        numbers: torch.Tensor,
        search: int | None = None,
        patches_at: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        if positions.shape != (*numbers.shape, 2):
            raise ValueError(
                f"`positions` {list(positions.shape)} and `numbers` {list(numbers.shape)} do not fit together: for M "
                "handles, [M, 2] and [M] are needed."
            )
        self.frames_shape, self.numbers = true_frames.shape, numbers
        self.columns, self.rows = positions.long().unbind(1)
        self.radius, self.search, _ = scaled_to(*true_frames.shape[2:])
        self.search = search or self.search
        places, sources = (positions, numbers) if patches_at is None else patches_at
        self.within = places - places.long()
        columns, rows = places.long().unbind(1)
        patches = _crop(true_frames, sources, rows, columns, self.radius)
        patches = patches - patches.mean(dim=(2, 3), keepdim=True)
        self.energy = patches.square().sum(dim=(1, 2, 3))  # [M]
        self.spectra = patches  # empty if M = 0, because PyTorch 2.6 cannot transform an empty tensor
        if len(numbers) > 0:
            self.spectra = torch.fft.rfft2(patches, s=(2 * (self.radius + self.search) + 1,) * 2).conj()

    def distances(self, output: torch.Tensor, chosen: Sequence[int] | None = None) -> torch.Tensor:
        """The distance of each handle in the output from its true position: the length of [`offsets`].

        Returns:
            `torch.Tensor`: float32 `[K]` in pixels; NaN where the contrast of the patch is too low.
        """
        offsets = self.offsets(output, chosen)
        return torch.hypot(offsets[:, 0], offsets[:, 1])

    def offsets(self, output: torch.Tensor, chosen: Sequence[int] | None = None) -> torch.Tensor:
        """How far right and down each handle in the output is from its true position.

        The handle is where the normalized cross-correlation with its patch is largest (Lewis 1995, "Fast normalized
        cross-correlation"), to whole pixels. The mean of each color is subtracted, and the colors are summed.

        Args:
            output (`torch.Tensor`): `[N, 3, H, W]` in [0, 1], one frame for each true frame.
            chosen (`Sequence[int]`, *optional*): numbers of the K handles to search for; None searches for all M.

        Returns:
            `torch.Tensor`: float32 `[K, 2]` in pixels; NaN where the contrast of the patch is too low.

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
        if len(numbers) == 0:
            return output.new_zeros(0, 2)
        _, best = self._best(output, numbers, rows, columns, every)
        reach = 2 * self.search + 1
        found = torch.stack([best % reach, best // reach], dim=1).float() - self.search
        return torch.where(self._is_flat[every, None], torch.nan, found)

    def locate(
        self, output: torch.Tensor, near: torch.Tensor, numbers: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Where each handle is in an output, to fractions of a pixel: the top of a parabola through the correlation at
        the best pixel and its neighbors, on each axis.

        Args:
            output (`torch.Tensor`): `[N, 3, H, W]` in [0, 1].
            near (`torch.Tensor`): `[M, 2]`, the (x, y) in pixels around which each handle is searched for.
            numbers (`torch.Tensor`, *optional*): integer `[M]`, the frames of the output; None: those of the patches.

        Returns:
            `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`: the places (x, y), float32 `[M, 2]`; the correlation
            there, and at `near`, float32 `[M]`, at most 1. Both are 0 where the contrast of the patch is too low, and
            where the best place is on the border of those that are searched, since it may be beyond.
        """
        if len(near) == 0:
            return near.new_zeros(0, 2), near.new_zeros(0), near.new_zeros(0)
        height, width = output.shape[2:]
        columns, rows = near[:, 0].long().clamp(0, width - 1), near[:, 1].long().clamp(0, height - 1)
        numbers = self.numbers if numbers is None else numbers
        fit, best = self._best(output, numbers, rows, columns, slice(None))
        reach = fit.shape[1]
        row, column = best // reach, best % reach
        every = torch.arange(len(near), device=fit.device)
        padded = F.pad(fit[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        center = fit[every, row, column]
        across = _top(padded[every, row + 1, column], center, padded[every, row + 1, column + 2])
        along = _top(padded[every, row, column + 1], center, padded[every, row + 2, column + 1])
        # a handle keeps its place within its pixel
        x = columns + self.within[:, 0] + column - self.search + across
        y = rows + self.within[:, 1] + row - self.search + along
        is_inside = (row > 0) & (row < reach - 1) & (column > 0) & (column < reach - 1) & ~self._is_flat
        found, expected = (torch.where(is_inside, one, 0.0) for one in (center, fit[:, self.search, self.search]))
        return torch.stack([x, y], dim=1).float(), found, expected

    @property
    def _is_flat(self) -> torch.Tensor:
        """bool `[M]`: whether the contrast of each patch is too low to find it."""
        return self.energy < self.frames_shape[1] * (2 * self.radius + 1) ** 2 * MIN_CONTRAST**2

    def _best(
        self,
        output: torch.Tensor,
        numbers: torch.Tensor,
        rows: torch.Tensor,
        columns: torch.Tensor,
        every: slice | torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The correlation `[K, S, S]` of patches around pixels, and the index of the best place."""
        height, width = output.shape[2:]
        windows = _crop(output, numbers, rows, columns, self.radius + self.search)
        fit = self._correlation(windows, self.spectra[every], self.energy[every])
        offsets = torch.arange(-self.search, self.search + 1, device=output.device)
        row, column = rows[:, None] + offsets, columns[:, None] + offsets
        inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None]
        distance = torch.hypot(offsets[:, None].float(), offsets[None].float())
        # Among places with equal correlation the nearest one wins.
        score = torch.where(inside, fit - 1e-5 * distance, -torch.inf)
        return fit, score.flatten(1).argmax(dim=1)

    def _correlation(self, windows: torch.Tensor, spectra: torch.Tensor, own_energy: torch.Tensor) -> torch.Tensor:
        """Normalized cross-correlation `[K, S, S]` of windows `[K, 3, W, W]` with patches, for each offset."""
        # The correlation does not depend on this mean. Subtracting it reduces rounding errors.
        windows = windows - windows.mean(dim=(2, 3), keepdim=True)
        side, area = 2 * self.radius + 1, (2 * self.radius + 1) ** 2
        # The convolution theorem takes a tenth of the time of a convolution with M groups.
        spectrum = (torch.fft.rfft2(windows) * spectra).sum(dim=1)
        reach = 2 * self.search + 1
        fit = torch.fft.irfft2(spectrum, s=windows.shape[2:])[:, :reach, :reach]
        squares = _local_mean(windows.square().sum(dim=1), side)
        energy = (squares - _local_mean(windows, side).square().sum(dim=1)).clamp_min(0) * area
        # In flat parts of the output this limit makes the correlation 0 instead of a ratio of rounding errors.
        least = windows.shape[1] * area * (MIN_CONTRAST / 10) ** 2
        return fit / (energy.clamp_min(least) * own_energy.clamp_min(least)[:, None, None]).sqrt()


def _top(before: torch.Tensor, at: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Where the parabola through three values at -1, 0 and 1 is largest, within half a step of 0."""
    curvature = before - 2 * at + after
    return torch.where(curvature < 0, (before - after) / (2 * curvature), 0.0).clamp(-0.5, 0.5)


def _local_mean(values: torch.Tensor, side: int) -> torch.Tensor:
    """Means over all windows of `side` x `side` of square images `[..., S, S]`.

    Two products with a band matrix round less than running sums, and are faster than running sums and pooling.
    """
    size = values.shape[-1]
    band = values.new_ones(size - side + 1, size).triu().tril(side - 1) / side
    return band @ (values @ band.T)


def _crop(
    frames: torch.Tensor, numbers: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, radius: int
) -> torch.Tensor:
    """Windows `[M, 3, 2 * radius + 1, 2 * radius + 1]` around pixels of frames `[N, 3, H, W]`, with border padding."""
    side = 2 * radius + 1
    padded = F.pad(frames, (radius,) * 4, mode="replicate")
    # Indexing a view of all windows takes half of the time of indexing each pixel.
    return padded.unfold(2, side, 1).unfold(3, side, 1)[numbers, :, rows, columns]
