# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Whether the flow of a video carried each stroke as far as it asked."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from .flow import to_cells
from .rollout import RolloutState
from .stroke_problems import stroke_name
from .strokes import Stroke, StrokeSheet, resolve_region


# A move is followed if it ends within this share of its length, or within this many latent cells; a hold if it drifts
# by no more than `HOLD_TOLERANCE` cells.
MOVE_TOLERANCE_SHARE, MOVE_TOLERANCE, HOLD_TOLERANCE = 0.25, 1.0, 0.5


@dataclass(frozen=True)
class StrokeVerdict:
    """
    How far the flow carried what is under a stroke, at the handle that it follows least if the stroke has several.
    Lengths are in pixels of the sheet's image.

    Args:
        stroke (`int`): Index of the stroke in its sheet, from 0.
        name (`str`): What messages call it; it counts from 1.
        kind (`"move"` or `"hold"`): Kind of the stroke.
        asked (`float`): Length of the way in the frames that were made, as long as it is inside the image.
        carried (`float`): How far the flow carried the point along this way; for a hold, how far away from its place.
        error (`float`): Distance between the end of the way and where the flow carried the point.
        followed (`bool`): Whether the error is small.
    """

    stroke: int
    name: str
    kind: Literal["move", "hold"]
    asked: float
    carried: float
    error: float
    followed: bool

    @property
    def message(self) -> str:
        """One sentence, with what to do if the stroke is not followed."""
        if self.kind == "hold":
            said = f"{self.name}: asked to stay, the flow moved it {self.carried:.0f} px"
            return said if self.followed else f"{said}: add holds around it, or a region for what moves"
        said = f"{self.name}: asked {self.asked:.0f} px, the flow carried it {self.carried:.0f} px"
        if self.followed:
            return said
        if self.carried < (1 - MOVE_TOLERANCE_SHARE) * self.asked:
            return f"{said}: add frames, strokes or a region"
        return f"{said}, but {self.error:.0f} px off its way: add strokes or a region"


class StrokeFollower:
    """
    Follows the strokes of one image through a rollout, in memory that does not grow with its length.

    Args:
        sheet (`StrokeSheet`):
            The strokes, for an image of any size. Each handle is followed on its own.
        num_frames (`int`, *optional*):
            Length of the video, which ends the strokes without an end of their own; None is the length of the sheet.
    """

    def __init__(self, sheet: StrokeSheet, num_frames: int | None = None):
        self.num_frames = num_frames or sheet.num_frames
        self.sheet = sheet.plain(self.num_frames)
        self._drawn = sheet.strokes
        # the index of the stroke that each handle belongs to
        self._owners = [i for i, stroke in enumerate(sheet.strokes) for _ in stroke.plain(self.num_frames)]
        self.frame, self._cell = 0, 1.0
        self._followed: dict[int, _Followed] = {}

    def follow(self, state: RolloutState) -> None:
        """Takes the next state of the rollout, with the flow of one image; states without flow tell nothing."""
        if state.frame > 0 and state.dense_flow is not None:
            self._step(state.dense_flow[0].float().cpu(), state.frame, state)

    def follow_flow(self, dense_flow: torch.Tensor) -> None:
        """Takes the flow of the next step, `(2, height, width)` in latent cells."""
        self._step(dense_flow.float().cpu(), self.frame + 1, None)

    def verdicts(self) -> list[StrokeVerdict]:
        """A verdict for each stroke that was active so far, in the order of the sheet."""
        of_strokes: dict[int, StrokeVerdict] = {}
        for index in sorted(self._followed):
            verdict = self._verdict(index)
            known = of_strokes.setdefault(verdict.stroke, verdict)
            if (verdict.followed, -verdict.error) < (known.followed, -known.error):
                of_strokes[verdict.stroke] = verdict
        return list(of_strokes.values())

    def _step(self, flow: torch.Tensor, frame: int, state: RolloutState | None) -> None:
        height, width = flow.shape[1:]
        sheet = self.sheet
        cell = sheet.width / width, sheet.height / height
        self.frame, self._cell = frame, max(cell)
        for index, stroke in enumerate(sheet.strokes):
            here, asked = stroke.at(frame - 1, self.num_frames), stroke.displacement(frame - 1, self.num_frames)
            if here is None or asked is None or not (0 <= here[0] <= sheet.width and 0 <= here[1] <= sheet.height):
                continue
            if state is not None and state.layers is not None and state.layers.view is not None:
                # what the camera does is no motion of a stroke, and only layers tell them apart
                if stroke.span(self.num_frames)[0] > 0:
                    continue
            followed = self._followed.setdefault(index, _Followed(here, here))
            moved = self._place_in_layer(stroke, followed.start, state, cell)
            if moved is None:
                moved = _carried(followed.place, flow, cell)
            followed.advance(moved, asked, (here[0] + asked[0], here[1] + asked[1]))

    def _place_in_layer(
        self, stroke: Stroke, start: tuple[float, float], state: RolloutState | None, cell: tuple[float, float]
    ) -> tuple[float, float] | None:
        """Where the layer of a stroke that begins at frame 0 carried its beginning; None without layers."""
        if state is None or state.layers is None or stroke.span(self.num_frames)[0] > 0:
            return None
        layers = state.layers
        layer = resolve_region(stroke, layers.traits[0])
        if layer is None:
            beginning = start[0] / cell[0] * layers.cell, start[1] / cell[1] * layers.cell
            layer = layers.layer_at(0, 0, beginning, beginning)
        return _carried(start, layers.accumulated_flow[0, layer].float().cpu(), cell)

    def _verdict(self, index: int) -> StrokeVerdict:
        stroke, followed = self.sheet.strokes[index], self._followed[index]
        error = math.dist(followed.place, followed.goal)
        if stroke.kind == "hold":
            carried, tolerance = error, HOLD_TOLERANCE * self._cell
        else:
            carried = followed.carried
            tolerance = max(MOVE_TOLERANCE * self._cell, MOVE_TOLERANCE_SHARE * followed.asked)
        owner = self._owners[index]
        return StrokeVerdict(
            stroke=owner,
            name=stroke_name(owner, self._drawn[owner]),
            kind=stroke.kind,
            asked=followed.asked,
            carried=carried,
            error=error,
            followed=error <= tolerance,
        )


@dataclass
class _Followed:
    """A point under a stroke, in pixels of the sheet: where it began and is, where it should be, and both ways."""

    start: tuple[float, float]
    place: tuple[float, float]
    goal: tuple[float, float] = (0.0, 0.0)
    asked: float = 0.0
    carried: float = 0.0

    def advance(self, place: tuple[float, float], asked: tuple[float, float], goal: tuple[float, float]) -> None:
        length = math.hypot(*asked)
        if length > 0:
            moved = place[0] - self.place[0], place[1] - self.place[1]
            self.carried += (moved[0] * asked[0] + moved[1] * asked[1]) / length
        self.asked += length
        self.place, self.goal = place, goal


def _carried(place: tuple[float, float], flow: torch.Tensor, cell: tuple[float, float]) -> tuple[float, float]:
    """Where a flow `[2, h, w]` in cells carries a point; `cell` is the width and height of a cell in its unit."""
    height, width = flow.shape[1:]
    x, y = place
    grid = torch.tensor([2 * x / (width * cell[0]) - 1, 2 * y / (height * cell[1]) - 1]).view(1, 1, 1, 2)
    u, v = F.grid_sample(flow[None], grid, padding_mode="border", align_corners=False).flatten().tolist()
    return x + u * cell[0], y + v * cell[1]


def judge_strokes(
    sheet: StrokeSheet, dense_flow: torch.Tensor, cell: int, num_frames: int | None = None
) -> list[StrokeVerdict]:
    """
    Whether the flow of a video carried each stroke as far as it asked.

    Args:
        sheet (`StrokeSheet`):
            The strokes, for an image of any size.
        dense_flow (`torch.Tensor` of shape `(num_frames - 1, 2, height, width)`):
            The flow of each step in pixels of the working size, on the latent grid: one entry of the `dense_flow` of
            [`~mcdiff_pipeline.MCDiffPipelineOutput`].
        cell (`int`):
            Pixels along one side of a latent cell: `pipe.vae_scale_factor`.
        num_frames (`int`, *optional*):
            As it was given to the call, if it was.

    Returns:
        `list[StrokeVerdict]`: for each stroke that is active in these steps.

    Example:
        ```py
        >>> output = pipe("image.jpg", sheet)
        >>> for verdict in judge_strokes(sheet, output.dense_flow[0], pipe.vae_scale_factor):
        ...     print(verdict.message)
        ```
    """
    follower = StrokeFollower(sheet, num_frames)
    for flow in to_cells(dense_flow, cell):
        follower.follow_flow(flow)
    return follower.verdicts()
