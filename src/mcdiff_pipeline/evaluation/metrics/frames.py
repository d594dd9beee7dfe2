# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""All that is measured on the frames of one row of the comparison, frame by frame."""

import os
from collections.abc import Sequence

import torch

from ...annotation.people import PersonDetector
from ...dataset import Clip
from ..handles import Handle
from ..methods import ClipBatch
from .downloaded import FVD_FEWEST_FRAMES, LPIPS, I3DFeatures, InceptionFeatures, available_metrics
from .handle_search import HandleSearch
from .image import psnr, ssim
from .keypoints import joints_of, keypoint_distances
from .st_lpips import STLPIPS


# What the Fréchet distance that needs no download is called.
FRECHET = "Fréchet distance on ST-LPIPS features"


class Networks:
    """The networks that look at frames: that of ST-LPIPS, and those of the literature whose weights are here.

    Args:
        device (`torch.device` or `str`): where they run.
        i3d (`str` or `os.PathLike`, *optional*): the file that FVD needs.

    Attributes:
        absent: why LPIPS, FID or FVD is not measured, by name.
    """

    def __init__(self, device: torch.device | str, i3d: str | os.PathLike | None = None) -> None:
        available = available_metrics(i3d)
        self.absent = {name: reason for name, reason in available.items() if reason is not None}
        self.st_lpips = STLPIPS(device)
        self.lpips = LPIPS(device) if available["LPIPS"] is None else None
        self.inception = InceptionFeatures(device) if available["FID"] is None else None
        self.i3d = I3DFeatures(i3d, device) if available["FVD"] is None else None


class FrameMeasurements:
    """Compares frames with the true ones of a batch of clips; what depends on these alone is computed once.

    Args:
        clips (`ClipBatch`): the clips, N frames each.
        annotated (`Sequence[Clip]`): the same clips, for their keypoints.
        handles (`list[list[Handle]]`): for each clip all handles that are looked for.
        networks (`Networks`): what looks at frames.
        detector (`PersonDetector`, *optional*): finds people.
    """

    def __init__(
        self,
        clips: ClipBatch,
        annotated: Sequence[Clip],
        handles: list[list[Handle]],
        networks: Networks,
        detector: PersonDetector | None = None,
    ) -> None:
        self.clips, self.annotated, self.networks, self.detector = clips, annotated, networks, detector
        self.joints = [joints_of(clip, drawn) for clip, drawn in zip(annotated, handles)]
        self.shape = clips.true_flow.shape[:2]  # B, N - 1
        self.truth = clips.true_frames[:, 1:].flatten(0, 1)  # [B (N - 1), 3, H, W]
        self.looked_at = sorted({0, self.shape[1] - 1})
        self.true_looks = clips.true_frames[:, 1:][:, self.looked_at].flatten(0, 1)
        self.true_activations = networks.st_lpips.activations(self.true_looks)
        self.still = clips.still.flatten(0, 1)
        self.moving = clips.moving.flatten(0, 1)
        self.start = clips.reconstruction[:, :1].expand(-1, self.shape[1], -1, -1, -1).flatten(0, 1)
        # A handle counts in the frames after the first as long as it is to be seen.
        self.places = [
            (sample, number, frame - 1, handle.track[frame])
            for sample, drawn in enumerate(handles)
            for number, handle in enumerate(drawn)
            for frame in range(1, len(handle.track))
        ]
        self.search = HandleSearch(
            self.truth,
            torch.tensor([position.tolist() for _, _, _, position in self.places]).reshape(-1, 2),
            torch.tensor([sample * self.shape[1] + time for sample, _, time, _ in self.places], dtype=torch.long),
        )

    def pixels(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """PSNR of every frame in dB, `[B, N - 1]` each, NaN where a region is empty.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1], the frames after the given one.

        Returns:
            `dict[str, torch.Tensor]`: `psnr`, `psnr_moving` (where things have left or reached), `psnr_still` (where
            nothing has moved), and `psnr_background`, the latter against the autoencoder's own picture of the start
            frame, which leaves out what the autoencoder loses.
        """
        output = frames.flatten(0, 1)
        values = {
            "psnr": psnr(output, self.truth),
            "psnr_moving": psnr(output, self.truth, self.moving),
            "psnr_still": psnr(output, self.truth, self.still),
            "psnr_background": psnr(output, self.start, self.still),
        }
        return {name: self._by_clip(value) for name, value in values.items()}

    def structure(self, frames: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """What sees more than pixels, and costs a sixth of making a frame in two steps.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1], the frames after the given one.

        Returns:
            `tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]`: `ssim`, `st_lpips` and, with its weights,
            `lpips` of the first and the last frame, `[B, N - 1]` each, NaN in between; and features `[B, n, D]` by the
            name of the metric that compares their distributions.
        """
        looks = frames[:, self.looked_at].flatten(0, 1)
        if torch.equal(looks, self.true_looks):
            activations = self.true_activations
        elif torch.equal(frames[:, :1].expand_as(frames), frames):  # a still needs one look
            once = self.networks.st_lpips.activations(frames[:, 0])
            activations = [hidden.repeat_interleave(len(self.looked_at), dim=0) for hidden in once]
        else:
            activations = self.networks.st_lpips.activations(looks)
        distances = self.networks.st_lpips.distance(activations, self.true_activations)
        values = {"ssim": self._at_looks(ssim(looks, self.true_looks)), "st_lpips": self._at_looks(distances)}
        features = {FRECHET: self._by_clip(activations[-1].mean(dim=(2, 3)))}
        if self.networks.lpips is not None:
            values["lpips"] = self._at_looks(self.networks.lpips(looks, self.true_looks))
        if self.networks.inception is not None:
            features["FID"] = self._by_clip(self.networks.inception(frames.flatten(0, 1)))
        if self.networks.i3d is not None and self.shape[1] + 1 >= FVD_FEWEST_FRAMES:
            features["FVD"] = self._by_clip(self.networks.i3d(torch.cat([self.clips.start[:, None], frames], dim=1)))
        return values, features

    def _at_looks(self, distances: torch.Tensor) -> torch.Tensor:
        """`[B, N - 1]`: distances of the frames that are looked at, NaN at the others."""
        everywhere = torch.full(self.shape, torch.nan)
        everywhere[:, self.looked_at] = self._by_clip(distances)
        return everywhere

    def _by_clip(self, values: torch.Tensor) -> torch.Tensor:
        return values.float().cpu().unflatten(0, (self.shape[0], -1))

    def handles(self, frames: torch.Tensor, number: int) -> list[list[list[float]]]:
        """How far from its true position each handle is found, in pixels; see `HandleSearch`.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1].
            number (`int`): the first so many handles of each clip are looked for.

        Returns:
            `list[list[list[float]]]`: for each clip and handle one distance for each frame in which it is to be seen,
            NaN where it has no contrast to be found by.
        """
        chosen = [index for index, place in enumerate(self.places) if place[1] < number]
        distances = self.search.distances(frames.flatten(0, 1), chosen)
        found: list[list[list[float]]] = [[] for _ in range(self.shape[0])]
        for index, distance in zip(chosen, distances.tolist()):
            sample, handle, _, _ = self.places[index]
            if handle == len(found[sample]):
                found[sample].append([])
            found[sample][handle].append(distance)
        return found

    def keypoints(self, frames: torch.Tensor, number: int) -> list[list[float]]:
        """How far from their true positions keypoints are detected in the last frame; see `keypoint_distances`.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1].
            number (`int`): those of the first so many handles of each clip.

        Returns:
            `list[list[float]]`: for each clip one distance for each handle that starts at a keypoint; none without a
            detector.
        """
        if self.detector is None:
            return [[] for _ in self.annotated]
        return [
            keypoint_distances(self.detector, frames[sample, -1], clip.keypoints[-1], self.joints[sample][:number])
            for sample, clip in enumerate(self.annotated)
        ]
