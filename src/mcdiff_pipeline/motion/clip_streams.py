# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The frames of a clip, made from its metadata; and clips that go on where another one ends."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import torch

from ..motion_completion import MotionSource
from ..pipeline_mcdiff import MCDiffPipeline
from ..rollout import RolloutState
from ..similarity import compose_similarities, identity_similarity, invert_similarity, move_points
from ..strokes import StrokeSheet, resolve_region
from ..video.clip_metadata import ClipMetadata, ClipPart, LeadIn
from .camera import Camera
from .description import motion_from_dicts


FrameAndState = tuple[PIL.Image.Image, RolloutState]


def stream_clip(pipe: MCDiffPipeline, clip: ClipMetadata) -> Iterator[FrameAndState]:
    """
    The generated frames of a clip with their states, as they are made. Those of a video that the clip continues are
    not among them.

    Args:
        pipe (`MCDiffPipeline`): The model that made the clip, in the number format of its settings.
        clip (`ClipMetadata`): The clip.

    Returns:
        An iterator, as that of [`MCDiffPipeline.stream`].

    Raises:
        ValueError: At once, if the first part of the clip cannot be made, or the motion of any is not known.
    """
    parts = clip.parts or (ClipPart(0, clip.strokes, clip.motion),)
    sources = [motion_from_dicts(part.motion, pipe) for part in parts]
    # the last frame of a part is the state that the next one starts from
    ends = [*(part.at + 1 for part in parts[1:]), clip.settings.num_frames]
    first = pipe.stream(
        clip.image,
        parts[0].strokes,
        height=clip.settings.height,
        width=clip.settings.width,
        regions=clip.strokes.regions if clip.parts else None,
        output_size=clip.output_size,
        generator=torch.Generator().manual_seed(clip.settings.seed),
        **_stream_arguments(clip, ends[0], sources[0]),
    )

    def frames() -> Iterator[FrameAndState]:
        state: RolloutState | None = None
        for part, end, motion in zip(parts, ends, sources, strict=True):
            following = first
            if state is not None:
                following = pipe.stream(state, part.strokes, **_stream_arguments(clip, end, motion))
            for frame, state in following:
                yield frame, state

    return frames()


def _stream_arguments(clip: ClipMetadata, num_frames: int, motion: list[MotionSource]) -> dict[str, Any]:
    return {
        "num_frames": num_frames,
        "motion": motion,
        "num_inference_steps": clip.settings.num_inference_steps,
        "guidance_scale": clip.settings.guidance_scale,
        "return_states": True,
    }


def shown_frames(frames: Iterator[FrameAndState], lead: LeadIn | None) -> Iterator[FrameAndState]:
    """
    Generated frames as they are shown after those of another video: the match of their colors fades in.

    Args:
        frames: What [`stream_clip`] returns.
        lead (`LeadIn`, *optional*): How the clip continues another video; None changes nothing.
    """
    for frame, state in frames:
        if lead is not None and state.frame < lead.fade:
            shown = faded(np.asarray(frame, dtype=np.float32) / 255, state.frame, lead)
            frame = PIL.Image.fromarray((shown * 255).round().astype(np.uint8))
        yield frame, state


def faded(frame: np.ndarray, number: int, lead: LeadIn) -> np.ndarray:
    """
    A generated frame as it is shown after those of another video.

    Args:
        frame (`np.ndarray` of shape `(height, width, 3)`): The frame with matched colors, in [0, 1].
        number (`int`): Its number, from 0 for the frame that was continued.
        lead (`LeadIn`): How the video is continued.
    """
    if number >= lead.fade:
        return frame
    given = (frame - np.asarray(lead.shift, np.float32)) / np.asarray(lead.scale, np.float32)
    return (given + number / lead.fade * (frame - given)).clip(0, 1)


def remake_state(pipe: MCDiffPipeline, clip: ClipMetadata, frame: int | None = None) -> RolloutState:
    """
    The state of a clip at a frame, made again from its metadata: what the clip can be continued from.

    Args:
        pipe (`MCDiffPipeline`): The model that made the clip, in the number format of its settings.
        clip (`ClipMetadata`): The clip.
        frame (`int`, *optional*): The generated frame; None is the last one.

    Returns:
        `RolloutState`: Equal to the state that the clip was made with, on the same machine.

    Raises:
        ValueError: If there is no such frame.
    """
    frame = checked_frame(clip, frame)
    for _, state in stream_clip(pipe, clip):
        if state.frame == frame:
            return state
    raise RuntimeError(f"The clip ended before its frame {frame}.")


def checked_frame(clip: ClipMetadata, frame: int | None) -> int:
    """A generated frame of a clip, the last one for None. Raises `ValueError` if there is no such frame."""
    last = clip.settings.num_frames - 1
    if frame is None:
        return last
    if not 0 <= frame <= last:
        raise ValueError(f"frame is {frame}, but the clip has the frames 0 to {last}.")
    return frame


def continued_clip(
    clip: ClipMetadata,
    sheet: StrokeSheet,
    frame: int | None = None,
    motion: Sequence[dict[str, Any]] = (),
) -> ClipMetadata:
    """
    The metadata of a longer clip: the same up to a frame, and other strokes from there on.

    Up to the frame it is equal to the clip in every bit, since it has the same strokes, and the noise of a frame
    depends on the seed and on its number only.

    Args:
        clip (`ClipMetadata`):
            The clip that is continued.
        sheet (`StrokeSheet`):
            What follows. Its times count from the frame that is continued, on which it was drawn, and it is scaled to
            the image of the clip. A stroke belongs to the region that lies under it then.
        frame (`int`, *optional*):
            The generated frame from which to go on; None is the last one.
        motion (`Sequence[dict]`):
            Further sources of motion of the new part, as JSON objects whose times count from frame 0 of the clip.

    Returns:
        `ClipMetadata`: with `frame + sheet.num_frames` frames.

    Raises:
        ValueError: If there is no such frame, or `sheet` has regions, which a clip has from its first frame on.
    """
    frame = checked_frame(clip, frame)
    if sheet.regions:
        raise ValueError(
            "The stroke sheet has regions, but a clip has those of its first frame throughout: leave them out."
        )
    num_frames = frame + sheet.num_frames
    drawn = clip.strokes
    parts = clip.parts or (ClipPart(0, _timed(drawn, clip.settings.num_frames, 0, num_frames), clip.motion),)
    parts = tuple(
        replace(part, strokes=replace(part.strokes, num_frames=num_frames))
        for part in parts
        if part.at < max(frame, 1)
    )
    following = _timed(sheet.scaled(drawn.width, drawn.height), sheet.num_frames, frame, num_frames)
    following = _in_the_scene(following, clip, parts, frame)
    new = ClipPart(frame, replace(following, fps=drawn.fps), tuple(motion))
    parts = (new,) if frame == 0 else (*parts, new)
    shown = [
        stroke
        for part, end in zip(parts, [*(part.at for part in parts[1:]), num_frames - 1], strict=True)
        for stroke in (one.cut(part.at, end, num_frames) for one in part.strokes.plain().strokes)
        if stroke is not None
    ]
    return replace(
        clip,
        settings=replace(clip.settings, num_frames=num_frames),
        strokes=StrokeSheet(shown, drawn.width, drawn.height, num_frames, drawn.fps, drawn.regions),
        motion=(),
        parts=parts,
    )


def _in_the_scene(sheet: StrokeSheet, clip: ClipMetadata, parts: Sequence[ClipPart], frame: int) -> StrokeSheet:
    """Strokes that were drawn on a frame, in coordinates of frame 0: without what the camera has done until then. A
    stroke is on what belongs to no region, unless it names its region."""
    regions = clip.strokes.regions
    ends = [*(part.at for part in parts[1:]), frame]
    cameras = [
        (camera, part.at, end)
        for part, end in zip(parts, ends, strict=True)
        for camera in motion_from_dicts([one for one in part.motion if one.get("source") == "camera"])
        if isinstance(camera, Camera)
    ]
    if not cameras:
        return sheet
    strokes = []
    for stroke in sheet.plain().strokes:
        region = resolve_region(stroke, regions) or 0
        order = 0 if region == 0 else regions[region - 1].order
        view = identity_similarity(1)
        for camera, first, end in cameras:
            before, after = (
                camera.view(one, [camera.disparity(order)], (sheet.height, sheet.width)) for one in (first, end)
            )
            view = compose_similarities(view, compose_similarities(invert_similarity(before), after))
        strokes.append(replace(stroke, points=move_points(stroke.points, invert_similarity(view)[0])))
    return replace(sheet, strokes=strokes)


def _timed(sheet: StrokeSheet, num_frames: int, first: int, length: int) -> StrokeSheet:
    """The sheet of a clip of `num_frames` frames in a longer one of `length`, where it begins at frame `first`."""
    timed = [stroke.timed(num_frames, first) for stroke in sheet.strokes]
    # what begins after the last step of the longer clip is left out
    kept = [stroke for stroke in timed if stroke is not None and stroke.span(length)[0] <= length - 2]
    return StrokeSheet(kept, sheet.width, sheet.height, length, sheet.fps)
