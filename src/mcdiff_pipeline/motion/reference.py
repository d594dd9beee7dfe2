# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The motion of a reference video, laid over an image: optical flow step by step, with its validity."""

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F

from ..annotation.consistency import forward_backward_consistency
from ..annotation.flow import load_flow_estimator
from ..flow import fill_from_behind
from ..layers import Layers
from ..motion_completion import CompleteStrokes
from ..regions import is_number
from ..rollout import Motion, RolloutState
from ..strokes import Stroke
from ..video import VideoReader
from .mixing import check_region, with_region_flow
from .still import still_motion
from .tracks import Tracks


# Frames are reduced to this shorter side, in pixels, to estimate their flow. F and G work at about half of it.
FLOW_SIDE = 256
# Frames of the video in a frame of the result.
SPEEDS = (0.01, 100.0)


class ReferenceFlow:
    """
    The optical flow of a video between any two times, estimated when it is asked for.

    Args:
        path (`str` or `os.PathLike`): The video.
        estimator (`str`, defaults to `"dis"`): See [`~mcdiff_pipeline.annotation.flow.load_flow_estimator`].
        weights (`str` or `os.PathLike`, *optional*): Weights of the estimator.

    Attributes:
        width, height (`int`): Size of the video in pixels.
        fps (`float`): Its frames per second.
        num_frames (`int`): Its frames.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a video, or has one frame.
        ImportError: If the estimator is not installed.
    """

    def __init__(self, path: str | os.PathLike, estimator: str = "dis", weights: str | os.PathLike | None = None):
        self.path, self.name, self.weights = Path(path), estimator, weights
        self._estimator = load_flow_estimator(estimator, weights=weights)
        self.num_frames = 0
        with VideoReader(self.path) as video:
            self.fps = video.fps or 8.0
            for frame in video.timed_frames():
                if self.num_frames == 0:
                    self.height, self.width = frame.height, frame.width
                self.num_frames += 1
        if self.num_frames < 2:
            raise ValueError(f"{path} has {self.num_frames} frame, but motion needs at least two.")
        self._frames: Iterator[np.ndarray] = iter(())
        self._kept: dict[int, np.ndarray] = {}
        self._next = 0

    def between(self, start: float, end: float) -> tuple[torch.Tensor, torch.Tensor] | None:
        """
        The flow from one time to a later one.

        It is estimated from the last frame before `start` to the first one after `end`, and scaled to the time
        between.

        Args:
            start (`float`): In frames, from 0.
            end (`float`): In frames, above `start`.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]` or `None`: forward flow `[1, 2, h, w]` in cells of its grid, which
            covers the video; and where it is valid, float `[1, 1, h, w]`, 0 or 1: there the flow leads back from where
            it leads to, and stays in the image. None after the end of the video.
        """
        before, after = math.floor(start + 1e-6), math.ceil(end - 1e-6)
        if after > self.num_frames - 1:
            return None
        first, second = self._frame(before)[None], self._frame(after)[None]
        forward, backward = self._estimator(first, second), self._estimator(second, first)
        occluded, _ = forward_backward_consistency(forward, backward)
        flow = torch.from_numpy(forward) * ((end - start) / (after - before))
        return flow, torch.from_numpy(~occluded).float()[:, None]

    def _frame(self, index: int) -> np.ndarray:
        """A frame at the size at which flow is estimated. Frames are read in order, and the last hundred are kept."""
        if index in self._kept:
            return self._kept[index]
        if index < self._next:
            self._next, self._kept = 0, {}
        if self._next == 0:
            self._frames = self._read()
        while self._next <= index:
            self._kept[self._next] = next(self._frames)
            self._next += 1
            # a step of the fastest speed is as long as this
            self._kept = {number: one for number, one in self._kept.items() if number > self._next - SPEEDS[1] - 3}
        return self._kept[index]

    def _read(self) -> Iterator[np.ndarray]:
        with VideoReader(self.path) as video:
            for frame in video.timed_frames():
                yield frame.pixels(FLOW_SIDE)


class ReferenceMotion:
    """
    The motion of a reference video on an image: a source of motion.

    The flow of the video replaces that of F where it is valid, on the whole image or in one region. Elsewhere strokes
    act; without strokes, the flow continues smoothly there, and other regions stand still. After the end of the video
    it says nothing more.

    Args:
        flow (`ReferenceFlow`):
            The flow of the video.
        alignment (`np.ndarray` of shape `(2, 3)`):
            From pixels of the image to pixels of the video; see [`~mcdiff_pipeline.motion.alignment`].
        width (`int`): Width in pixels of the image that `alignment` refers to.
        height (`int`): Its height.
        speed (`float`, defaults to 1.0):
            Frames of the video in a frame of the result, from 0.01 to 100.
        region (`str` or `int`, *optional*):
            The name or the number of the only region that moves so; None moves all.
        first (`int`, defaults to 0):
            The frame of the result at which the video begins.

    Raises:
        ValueError: If the alignment or the speed is not possible.
    """

    needs_layers = False

    def __init__(
        self,
        flow: ReferenceFlow,
        alignment: np.ndarray,
        width: int,
        height: int,
        *,
        speed: float = 1.0,
        region: str | int | None = None,
        first: int = 0,
    ):
        alignment = np.asarray(alignment, dtype=np.float64)
        if (
            alignment.shape != (2, 3)
            or not np.isfinite(alignment).all()
            or abs(np.linalg.det(alignment[:, :2])) < 1e-9
        ):
            raise ValueError(f"alignment is {alignment.tolist()!r:.90}; it must be an invertible affine map [M | b].")
        if not (is_number(speed) and SPEEDS[0] <= speed <= SPEEDS[1]):
            raise ValueError(f"speed is {speed!r:.60}; it must be a number from {SPEEDS[0]:g} to {SPEEDS[1]:g}.")
        self.flow, self.alignment, self.width, self.height = flow, alignment, int(width), int(height)
        self.speed, self.region, self.first = float(speed), region, int(first)

    def at(self, frame: int, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        The motion of the step from a frame, on a grid over the image.

        Args:
            frame (`int`): The frame.
            grid (`tuple[int, int]`): (height, width) of the grid.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: the flow `[1, 2, h, w]` in cells of the grid, and where it is valid,
            `[1, 1, h, w]` in [0, 1]. Both are 0 before and after the video.
        """
        step = frame - self.first
        estimated = None if step < 0 else self.flow.between(step * self.speed, (step + 1) * self.speed)
        if estimated is None:
            return torch.zeros(1, 2, *grid), torch.zeros(1, 1, *grid)
        flow, valid = estimated
        size = np.array([self.flow.width, self.flow.height])
        own = flow * torch.tensor(size / [flow.shape[3], flow.shape[2]], dtype=torch.float32)[:, None, None]
        # averaged over a cell of the grid, if it covers several pixels of the flow
        matrix, shift = self.alignment[:, :2], self.alignment[:, 2]
        cell = np.array([self.width / grid[1], self.height / grid[0]])
        x, y = np.meshgrid((np.arange(grid[1]) + 0.5) * cell[0], (np.arange(grid[0]) + 0.5) * cell[1])
        there = np.stack([x, y], axis=-1) @ matrix.T + shift
        places = torch.from_numpy(2 * there / size - 1).float()[None]
        payload = torch.cat([own * valid, valid], dim=1)
        reach = max(round(float(abs(np.linalg.det(matrix))) ** 0.5 * cell.mean() * flow.shape[3] / size[0]), 1)
        payload = F.avg_pool2d(payload, reach, 1, reach // 2, count_include_pad=False)[
            ..., : flow.shape[2], : flow.shape[3]
        ]
        found = F.grid_sample(payload, places, "bilinear", "zeros", align_corners=False)
        valid = found[:, 2:]
        found = found[:, :2] / valid.clamp_min(1e-3)
        back = torch.from_numpy(np.linalg.inv(matrix)).float()
        moved = torch.einsum("ij,bjhw->bihw", back, found) / torch.from_numpy(cell).float()[:, None, None]
        return moved * (valid > 1e-3), valid.clamp(0, 1)

    def check(self, layers: Layers | None, num_frames: int) -> None:
        """Raises `ValueError` if the image has no such region."""
        if self.region is not None:
            check_region(layers, self.region)

    def __call__(
        self, complete: CompleteStrokes, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None
    ) -> Motion:
        """See [`~mcdiff_pipeline.motion_completion.MotionSource`]."""
        grid = (state.latents.shape[2], state.latents.shape[3])
        flow, valid = (one.to(state.latents.device) for one in self.at(state.frame, grid))
        batch = state.latents.shape[0]
        flow, valid = flow.expand(batch, -1, -1, -1), valid.expand(batch, -1, -1, -1)
        if any(strokes):
            motion = complete(strokes)
        else:
            motion = still_motion(state)
        if not valid.any():
            return motion
        if self.region is not None:
            return with_region_flow(state, motion, self.region, flow, valid)
        if any(strokes):
            assert motion.dense_flow is not None
            mixed = valid * flow + (1 - valid) * motion.dense_flow
        else:
            mixed = fill_from_behind(flow, valid, torch.zeros_like(valid))
        return replace(motion, dense_flow=mixed, layers=None)

    def tracks(self, num_frames: int, fps: float, columns: int = 24) -> Tracks:
        """
        Points of the image, followed along the flow of the video: what strokes can say of it.

        Args:
            num_frames (`int`): Frames to follow them.
            fps (`float`): Frames per second of the result.
            columns (`int`, defaults to 24): Columns of the lattice of points.

        Returns:
            `Tracks`: A track ends where the flow is not valid.

        Raises:
            ValueError: If the flow is valid nowhere in the first step.
        """
        rows = max(round(columns * self.height / self.width), 1)
        grid = (4 * rows, 4 * columns)
        cell = np.array([self.width / grid[1], self.height / grid[0]])
        x, y = np.meshgrid((np.arange(columns) + 0.5) * 4, (np.arange(rows) + 0.5) * 4)
        place = torch.from_numpy(np.stack([x.ravel(), y.ravel()], axis=1)).float()  # in cells
        positions, visible = [place], [torch.ones(len(place), dtype=torch.bool)]
        for frame in range(num_frames - 1):
            flow, valid = self.at(frame, grid)
            places = (2 * place / torch.tensor([grid[1], grid[0]]) - 1)[None, None]
            values = F.grid_sample(torch.cat([flow, valid], dim=1), places, "bilinear", "zeros", align_corners=False)
            place = place + values[0, :2, 0].T
            positions.append(place)
            visible.append(visible[-1] & (values[0, 2, 0] > 0.5))
        array = torch.stack(positions).double().numpy() * cell
        return Tracks(array, torch.stack(visible).numpy(), self.width, self.height, fps)

    def to_dict(self) -> dict[str, Any]:
        """The source as a JSON object: the place of the video and its hash, not its content."""
        weights = {} if self.flow.weights is None else {"weights": str(self.flow.weights)}
        region = {} if self.region is None else {"region": self.region}
        return {
            "source": "reference",
            "video": str(self.flow.path),
            "sha256": _sha256(self.flow.path),
            "estimator": self.flow.name,
            **weights,
            "width": self.width,
            "height": self.height,
            "alignment": self.alignment.tolist(),
            "speed": self.speed,
            **region,
            "first": self.first,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """
        The inverse of [`to_dict`]. The video is opened, and its content is compared.

        Raises:
            ValueError: If a field is missing or wrong, or the video is not there or another one.
        """
        missing = [name for name in ("video", "sha256", "width", "height", "alignment") if name not in fields]
        if missing:
            raise ValueError(f"{missing[0]} is missing; a reference video needs it.")
        path = Path(str(fields["video"]))
        if not path.is_file() or _sha256(path) != fields["sha256"]:
            raise ValueError(
                f"video is {path}, which is not there, or not the file that gave the motion: put it back, or start "
                "again with --motion-from."
            )
        flow = ReferenceFlow(path, str(fields.get("estimator", "dis")), fields.get("weights"))
        return cls(
            flow,
            np.array(fields["alignment"], dtype=np.float64),
            int(fields["width"]),
            int(fields["height"]),
            speed=fields.get("speed", 1.0),
            region=fields.get("region"),
            first=int(fields.get("first", 0)),
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
