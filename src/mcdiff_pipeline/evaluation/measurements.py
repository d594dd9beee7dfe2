# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""All measurements on the frames of one method."""

import os

import numpy as np
import torch

from ..annotation.people import PersonDetector
from .batches import ClipBatch
from .handles import Handle
from .metrics.downloaded import FVD_FEWEST_FRAMES, LPIPS, I3DFeatures, InceptionFeatures, available_metrics
from .metrics.handle_search import HandleSearch
from .metrics.image import psnr, ssim
from .metrics.keypoints import joints_at, keypoint_distances
from .metrics.st_lpips import STLPIPS


# Name of the Fréchet distance that needs no download.
FRECHET = "Fréchet distance on ST-LPIPS features"


class Networks:
    """The networks of the metrics: ST-LPIPS, and LPIPS, FID and FVD where their weights are available.

    Args:
        device (`torch.device` or `str`): where the networks run.
        i3d (`str` or `os.PathLike`, *optional*): the file that FVD needs.

    Attributes:
        absent: for each of LPIPS, FID and FVD that is not measured, the reason.
    """

    def __init__(self, device: torch.device | str, i3d: str | os.PathLike | None = None) -> None:
        available = available_metrics(i3d)
        self.absent = {name: reason for name, reason in available.items() if reason is not None}
        self.st_lpips = STLPIPS(device)
        self.lpips = LPIPS(device) if available["LPIPS"] is None else None
        self.inception = InceptionFeatures(device) if available["FID"] is None else None
        self.i3d = None if i3d is None or available["FVD"] is not None else I3DFeatures(i3d, device)


class FrameMeasurements:
    """Compares frames with the true frames of a batch of clips.

    What depends on the true frames alone is computed once. B is the number of clips, N the number of their frames.

    Args:
        clips (`ClipBatch`): the clips.
        handles (`list[list[Handle]]`): all handles of each clip.
        networks (`Networks`): the networks of the metrics.
        detector (`PersonDetector`, *optional*): finds people; None turns keypoint distances off.
    """

    def __init__(
        self,
        clips: ClipBatch,
        handles: list[list[Handle]],
        networks: Networks,
        detector: PersonDetector | None = None,
    ) -> None:
        self.clips, self.networks, self.detector = clips, networks, detector
        self.joints = [
            joints_at(clip.keypoints[0], np.array([handle.track[0] for handle in drawn]))
            for clip, drawn in zip(clips.clips, handles)
        ]
        self.shape = clips.true_flow.shape[:2]  # B, N - 1
        self.truth = clips.true_frames[:, 1:].flatten(0, 1)  # [B (N - 1), 3, H, W]
        self.compared = sorted({0, self.shape[1] - 1})  # the first and the last frame, for the slow metrics
        self.true_compared = clips.true_frames[:, 1:][:, self.compared].flatten(0, 1)
        self.true_activations = networks.st_lpips.activations(self.true_compared)
        self.still = clips.still.flatten(0, 1)
        self.moving = clips.moving.flatten(0, 1)
        self.uncovered = clips.uncovered.flatten(0, 1)
        self.start = clips.reconstruction[:, :1].expand(-1, self.shape[1], -1, -1, -1).flatten(0, 1)
        # (clip, handle, step, position) of each handle in each frame after the first in which it is visible
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

    def pixel_metrics(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """PSNR of every frame, by region.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1], the frames after the given one.

        Returns:
            `dict[str, torch.Tensor]`: `[B, N - 1]` in dB each, NaN where a region is empty.

            - `psnr`: all pixels.
            - `psnr_moving`: pixels that a moving thing has left or reached.
            - `psnr_still`: pixels where nothing has moved.
            - `psnr_background`: the same pixels, compared with the start frame after the autoencoder instead of the
              true frame. This leaves out the error of the autoencoder.
            - `psnr_uncovered`: pixels that the start frame does not show.
        """
        output = frames.flatten(0, 1)
        values = {
            "psnr": psnr(output, self.truth),
            "psnr_moving": psnr(output, self.truth, self.moving),
            "psnr_still": psnr(output, self.truth, self.still),
            "psnr_background": psnr(output, self.start, self.still),
            "psnr_uncovered": psnr(output, self.truth, self.uncovered),
        }
        return {name: self._by_clip(value) for name, value in values.items()}

    def structure_metrics(self, frames: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The slow image metrics and the features of Fréchet distances.

        They cost a sixth of generating a frame in two denoising steps, so most look at the first and last frame only.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1], the frames after the given one.

        Returns:
            `tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]`: the metrics `ssim`, `st_lpips` and, where it is
            available, `lpips`, `[B, N - 1]` each and NaN between the first and the last frame; and features
            `[B, n, D]` by the name of the Fréchet distance.
        """
        compared = frames[:, self.compared].flatten(0, 1)
        activations = self._activations(frames, compared)
        distances = self.networks.st_lpips.distance(activations, self.true_activations)
        values = {"ssim": self._by_frame(ssim(compared, self.true_compared)), "st_lpips": self._by_frame(distances)}
        features = {FRECHET: self._by_clip(activations[-1].mean(dim=(2, 3)))}
        if self.networks.lpips is not None:
            values["lpips"] = self._by_frame(self.networks.lpips(compared, self.true_compared))
        if self.networks.inception is not None:
            features["FID"] = self._by_clip(self.networks.inception(frames.flatten(0, 1)))
        if self.networks.i3d is not None and self.shape[1] + 1 >= FVD_FEWEST_FRAMES:
            features["FVD"] = self._by_clip(self.networks.i3d(torch.cat([self.clips.start[:, None], frames], dim=1)))
        return values, features

    def _activations(self, frames: torch.Tensor, compared: torch.Tensor) -> list[torch.Tensor]:
        """Activations of the compared frames. The true video and a still need less work than other videos."""
        if torch.equal(compared, self.true_compared):
            return self.true_activations
        if torch.equal(frames[:, :1].expand_as(frames), frames):
            once = self.networks.st_lpips.activations(frames[:, 0])
            return [hidden.repeat_interleave(len(self.compared), dim=0) for hidden in once]
        return self.networks.st_lpips.activations(compared)

    def _by_frame(self, distances: torch.Tensor) -> torch.Tensor:
        """`[B, N - 1]`: the distances of the compared frames, NaN for the others."""
        everywhere = torch.full(self.shape, torch.nan)
        everywhere[:, self.compared] = self._by_clip(distances)
        return everywhere

    def _by_clip(self, values: torch.Tensor) -> torch.Tensor:
        return values.float().cpu().unflatten(0, (self.shape[0], -1))

    def handle_distances(self, frames: torch.Tensor, number: int) -> list[list[list[float]]]:
        """The distance of each handle from its true position, in pixels; see `HandleSearch`.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1].
            number (`int`): how many handles of each clip are searched for, from the first on.

        Returns:
            `list[list[list[float]]]`: for each clip and handle one distance per frame in which the handle is visible;
            NaN where its contrast is too low.
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

    def detected_distances(self, frames: torch.Tensor, number: int) -> list[list[float]]:
        """The distance of each detected keypoint in the last frame from its true position; see `keypoint_distances`.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1].
            number (`int`): how many keypoints of each clip are measured, from the first on.

        Returns:
            `list[list[float]]`: for each clip one distance per handle that starts at a keypoint; empty without a
            detector.
        """
        if self.detector is None:
            return [[] for _ in self.clips.clips]
        return [
            keypoint_distances(self.detector, frames[sample, -1], clip.keypoints[-1], self.joints[sample][:number])
            for sample, clip in enumerate(self.clips.clips)
        ]

    def next_frame_errors(self, image: torch.Tensor) -> list[tuple[float, int, float, int]]:
        """The squared error of the first frame on its moving pixels, and on those that are uncovered.

        Args:
            image (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], the frame after the given one.

        Returns:
            `list[tuple[float, int, float, int]]`: for each clip the sum of squared errors and the number of color
            values, on the moving pixels and on the uncovered ones.
        """
        squared = (image - self.clips.true_frames[:, 1]).square().sum(dim=1)  # [B, H, W]
        errors = []
        for one, moving, uncovered in zip(squared, self.clips.moving[:, 0], self.clips.uncovered[:, 0], strict=True):
            on_moving = float(one[moving].sum()), 3 * int(moving.sum())
            errors.append((*on_moving, float(one[uncovered].sum()), 3 * int(uncovered.sum())))
        return errors
