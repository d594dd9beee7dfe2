# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""All that is measured on the frames of one row of the comparison, frame by frame."""

from collections.abc import Sequence

import torch

from ..annotation.clips import Clip
from ..annotation.people import PersonDetector
from .handles import Handle
from .keypoint_following import joints_of, keypoint_distances
from .motion_following import handle_distances
from .picture_metrics import psnr, ssim
from .rows import ClipBatch
from .st_lpips import STLPIPS


class FrameMeasurements:
    """Compares frames with the true ones of a batch of clips; what depends on these alone is computed once.

    Args:
        clips (`ClipBatch`): the clips, N frames each.
        annotated (`Sequence[Clip]`): the same clips, for their keypoints.
        handles (`list[list[Handle]]`): for each clip all handles that are looked for.
        st_lpips (`STLPIPS`): the perceptual distance.
        detector (`PersonDetector`, *optional*): finds people.
    """

    def __init__(
        self,
        clips: ClipBatch,
        annotated: Sequence[Clip],
        handles: list[list[Handle]],
        st_lpips: STLPIPS,
        detector: PersonDetector | None = None,
    ) -> None:
        self.clips, self.annotated, self.st_lpips, self.detector = clips, annotated, st_lpips, detector
        self.joints = [joints_of(clip, drawn) for clip, drawn in zip(annotated, handles)]
        self.shape = clips.true_flow.shape[:2]  # B, N - 1
        self.truth = clips.true_frames[:, 1:].flatten(0, 1)  # [B (N - 1), 3, H, W]
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

    def pictures(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """Metrics of every frame, `[B, N - 1]` each; NaN where a region is empty.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1], the frames after the given one.

        Returns:
            `dict[str, torch.Tensor]`: `psnr`, `psnr_moving` (where things have left or reached), `psnr_still` (where
            nothing has moved), all in dB; `psnr_background`, the latter against the autoencoder's own picture of the
            start frame, which leaves out what the autoencoder loses; `ssim`; `st_lpips`.
        """
        output = frames.flatten(0, 1)
        values = {
            "psnr": psnr(output, self.truth),
            "psnr_moving": psnr(output, self.truth, self.moving),
            "psnr_still": psnr(output, self.truth, self.still),
            "psnr_background": psnr(output, self.start, self.still),
            "ssim": ssim(output, self.truth),
            "st_lpips": self.st_lpips(output, self.truth),
        }
        return {name: value.float().cpu().unflatten(0, self.shape) for name, value in values.items()}

    def features(self, frames: torch.Tensor) -> torch.Tensor:
        """`[B, N - 1, D]`: what the Fréchet distance is measured on.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1].
        """
        return self.st_lpips.features(frames.flatten(0, 1)).float().cpu().unflatten(0, self.shape)

    def handles(self, frames: torch.Tensor, number: int) -> list[list[list[float]]]:
        """How far from its true position each handle is found, in pixels; see `handle_distances`.

        Args:
            frames (`torch.Tensor`): `[B, N - 1, 3, H, W]` in [0, 1].
            number (`int`): the first so many handles of each clip are looked for.

        Returns:
            `list[list[list[float]]]`: for each clip and handle one distance for each frame in which it is to be seen,
            NaN where it has no contrast to be found by.
        """
        places = [place for place in self.places if place[1] < number]
        samples, numbers, times = ([place[item] for place in places] for item in range(3))
        distances = handle_distances(
            self.clips.true_frames[:, 1:][samples, times],
            frames[samples, times],
            torch.tensor([place[3].tolist() for place in places]).reshape(-1, 2),
        )
        found: list[list[list[float]]] = [[] for _ in range(self.shape[0])]
        for sample, handle, distance in zip(samples, numbers, distances.tolist()):
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
