# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The options that give motion besides strokes, and that continue a video."""

import enum
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import InputError, checking_input
from .option_values import Points, number


if TYPE_CHECKING:
    import numpy as np
    import torch

    from mcdiff_pipeline import StrokeSheet
    from mcdiff_pipeline.motion.reference import ReferenceFlow, ReferenceMotion
    from mcdiff_pipeline.video.clip_metadata import LeadIn


PANEL = "Motion besides strokes"


class MotionAlign(enum.StrEnum):
    COVER = "cover"
    PEOPLE = "people"


class MotionAs(enum.StrEnum):
    FLOW = "flow"
    STROKES = "strokes"


CameraOption = Annotated[
    str | None,
    typer.Option(
        metavar='"WORDS"|FILE',
        help='A camera that moves: "zoom 1.5", "pan 10%,0 ease-in-out", "8: rotate 5; 15: dolly 0.3" (frames 8 and '
        "15), or a file. docs/motion.md describes it.",
        rich_help_panel=PANEL,
    ),
]
MotionFromOption = Annotated[
    Path | None,
    typer.Option(
        metavar="VIDEO",
        help="Move the image as a video moves, by its optical flow. Strokes act where the video says nothing.",
        rich_help_panel=PANEL,
    ),
]
MotionAlignOption = Annotated[
    MotionAlign,
    typer.Option(
        help="How the video lies on the image. cover: over all of it; people: the person in the image moves as the "
        "person in the video, by strokes at the joints (needs the pose model).",
        rich_help_panel=PANEL,
    ),
]
MotionPointOption = Annotated[
    list[Points],
    typer.Option(
        parser=Points.parse,
        metavar='"VX,VY X,Y"',
        help="A point of the video and where it lies in the image, instead of --motion-align; repeatable: one shifts "
        "the video, two turn and scale it, three and more stretch it.",
        rich_help_panel=PANEL,
    ),
]
MotionSpeedOption = Annotated[
    float | None,
    typer.Option(
        parser=number(float, 0.01, 100),
        metavar="S",
        help="Frames of the video in a frame of the result (default: real time).",
        rich_help_panel=PANEL,
    ),
]
MotionRegionOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|N", help="Move only this region as the video moves.", rich_help_panel=PANEL),
]
MotionAsOption = Annotated[
    MotionAs,
    typer.Option(
        help="flow: as dense as it is; strokes: as few strokes, which F completes. Only those are in the clip, so "
        "that a replay does not need the video.",
        rich_help_panel=PANEL,
    ),
]
FlowEstimatorOption = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Estimates the flow: dis, gmflow, raft_large or raft_small.", rich_help_panel=PANEL
    ),
]
FlowWeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Weights of GMFlow or RAFT: a file, or for RAFT a name of torchvision's, such as C_T_V2.",
        rich_help_panel=PANEL,
    ),
]
PhysicsOption = Annotated[
    list[str],
    typer.Option(
        metavar='"WORDS"',
        help='A region that falls, sways or ripples: "gravity ball bounce 0.5", "sway 2 amplitude 8 seed 1", '
        '"ripple water"; repeatable.',
        rich_help_panel=PANEL,
    ),
]
ClosedLoopOption = Annotated[
    bool,
    typer.Option(
        "--closed-loop",
        help="After each frame, find what each stroke moves in it again, and aim the next step from there. It is not "
        "for a camera.",
        rich_help_panel=PANEL,
    ),
]
ContinueOption = Annotated[
    Path | None,
    typer.Option(
        "--continue",
        metavar="CLIP",
        help="Go on where a video ends. The output has its frames and the new ones. Strokes are drawn on its last "
        "frame, their times count from there, and --num-frames counts from there, too.",
        rich_help_panel=PANEL,
    ),
]
AtFrameOption = Annotated[
    int | None,
    typer.Option(
        parser=number(int, 0), metavar="N", help="With --continue: go on from frame N instead.", rich_help_panel=PANEL
    ),
]
MatchColorOption = Annotated[
    bool,
    typer.Option(
        "--match-color/--keep-color",
        help="With --continue, for a video that mcdiff did not make: bring the colors back to those of its first "
        "frame, gradually.",
        rich_help_panel=PANEL,
    ),
]


@functools.lru_cache(maxsize=1)
def _open_reference(path: Path, estimator: str, weights: str | None) -> "ReferenceFlow":
    """Opens a video once; all of its frames are counted."""
    from mcdiff_pipeline.motion.reference import ReferenceFlow

    return ReferenceFlow(path, estimator, weights)


@dataclass(frozen=True)
class GivenReference:
    """
    The reference video on the command line.

    Args:
        path (`Path`): the video.
        align (`MotionAlign`): how it lies on the image.
        points (`list[Points]`): points of the video and of the image, instead.
        speed (`float`, *optional*): frames of the video in a frame of the result.
        region (`str`, *optional*): name or number of the region to move.
        given_as (`MotionAs`): flow, or strokes.
        estimator (`str`): estimates the flow.
        weights (`str`, *optional*): its weights.
    """

    path: Path
    align: MotionAlign = MotionAlign.COVER
    points: list[Points] = field(default_factory=list)
    speed: float | None = None
    region: str | None = None
    given_as: MotionAs = MotionAs.FLOW
    estimator: str = "dis"
    weights: str | None = None

    @property
    def gives_strokes(self) -> bool:
        return self.given_as is MotionAs.STROKES or self.align is MotionAlign.PEOPLE

    def open(self) -> "ReferenceFlow":
        """Opens the video.

        Raises:
            InputError: if an option is wrong, or the video cannot be read.
        """
        if not self.path.is_file():
            raise InputError(f"--motion-from {self.path}: there is no such video.")
        for points in self.points:
            if len(points.coordinates) != 2:
                raise InputError('--motion-point: give a point of the video and one of the image, "VX,VY X,Y".')
        if self.points and self.align is MotionAlign.PEOPLE:
            raise InputError("--motion-point is given together with --motion-align people; give one of them.")
        if self.gives_strokes and self.region is not None:
            raise InputError(
                "--motion-region moves a region by flow; leave it out with strokes, which lie in regions."
            )
        try:
            with checking_input("--motion-from: "):
                return _open_reference(self.path, self.estimator, self.weights)
        except ImportError as error:
            raise InputError(f"--motion-from: {error}") from error

    def speed_at(self, flow: "ReferenceFlow", fps: float) -> float:
        """Frames of the video in a frame of the result, which has `fps` frames a second."""
        return min(max(flow.fps / fps, 0.01), 100.0) if self.speed is None else self.speed

    def motion(self, height: int, width: int, fps: float, first: int) -> "ReferenceMotion":
        """The source of motion for an image of this size."""
        from mcdiff_pipeline.motion.alignment import aligned_by_points, covering
        from mcdiff_pipeline.motion.reference import ReferenceMotion

        flow = self.open()
        alignment = covering((width, height), (flow.width, flow.height))
        region = int(self.region) if self.region is not None and self.region.isdecimal() else self.region
        with checking_input("--motion-from: "):
            if self.points:
                pairs = [points.coordinates for points in self.points]
                in_video = [(x.in_pixels(flow.width), y.in_pixels(flow.height)) for (x, y), _ in pairs]
                in_image = [(x.in_pixels(width), y.in_pixels(height)) for _, (x, y) in pairs]
                alignment = aligned_by_points(in_image, in_video, float(alignment[0, 0]))
            speed = self.speed_at(flow, fps)
            return ReferenceMotion(flow, alignment, width, height, speed=speed, region=region, first=first)

    def add_strokes(self, sheet: "StrokeSheet", image: "torch.Tensor", num_frames: int) -> "StrokeSheet":
        """A sheet with the strokes that the video gives, for an image `[3, H, W]` in [0, 1]."""
        from mcdiff_pipeline.motion.people_motion import people_strokes
        from mcdiff_pipeline.motion.thinning import thin_tracks

        flow = self.open()
        try:
            with checking_input("--motion-from: "):
                if self.align is MotionAlign.PEOPLE:
                    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
                    speed = self.speed_at(flow, sheet.fps)
                    strokes = people_strokes(pixels, self.path, speed=speed, num_frames=num_frames)
                else:
                    motion = self.motion(sheet.height, sheet.width, sheet.fps, 0)
                    strokes = list(thin_tracks(motion.tracks(num_frames, sheet.fps)).tracks.sheet(0.5).strokes)
                x_factor, y_factor = sheet.width / image.shape[2], sheet.height / image.shape[1]
                if self.align is MotionAlign.PEOPLE:
                    strokes = [stroke.scaled(x_factor, y_factor) for stroke in strokes]
                return replace(sheet, strokes=[*sheet.strokes, *strokes])
        except ImportError as error:
            raise InputError(f"--motion-from: {error}") from error


@dataclass(frozen=True)
class GivenMotion:
    """
    The motion on the command line besides strokes.

    Args:
        camera (`str`, *optional*): words or a file.
        reference (`GivenReference`, *optional*): a video.
        physics (`list[str]`): words for each region that falls, sways or ripples.
        closed_loop (`bool`): whether strokes are corrected by what is drawn.
        sheet_camera (`dict`, *optional*): the camera of the stroke sheet, for which `camera` stands in.
    """

    camera: str | None = None
    reference: GivenReference | None = None
    physics: list[str] = field(default_factory=list)
    closed_loop: bool = False
    sheet_camera: dict[str, Any] | None = None

    def __bool__(self) -> bool:
        return self.camera is not None or self.reference is not None or bool(self.physics)

    @property
    def gives_strokes(self) -> bool:
        """Whether some of it becomes strokes."""
        return self.reference is not None and self.reference.gives_strokes

    def check(self) -> None:
        """Opens what is read. Raises an [`InputError`] if it is wrong."""
        if self.closed_loop and self.camera is not None:
            raise InputError(
                "--closed-loop is given together with --camera, under which nothing is found again; leave one out."
            )
        if self.reference is not None:
            self.reference.open()

    def with_camera_of(self, sheet: "StrokeSheet") -> "tuple[GivenMotion, StrokeSheet]":
        """This motion with the camera of a sheet, if no other is given; and the sheet without it."""
        if sheet.camera is None:
            return self, sheet
        if self.closed_loop and self.camera is None:
            raise InputError(
                "--closed-loop is given, but the stroke sheet has a camera, under which nothing is found again; leave "
                "one out."
            )
        return replace(self, sheet_camera=sheet.camera), replace(sheet, camera=None)

    def add_strokes(self, sheet: "StrokeSheet", image: "torch.Tensor", num_frames: int) -> "StrokeSheet":
        """A sheet with the strokes that this motion gives, for the image `[3, H, W]` that is shown."""
        if self.reference is None or not self.reference.gives_strokes:
            return sheet
        return self.reference.add_strokes(sheet, image, num_frames)

    def describe(
        self, height: int, width: int, num_frames: int, fps: float, first: int = 0
    ) -> tuple[dict[str, Any], ...]:
        """
        The sources of motion as JSON objects.

        Args:
            height (`int`): height of the image in pixels.
            width (`int`): its width.
            num_frames (`int`): frames of the part of the video that the motion is for.
            fps (`float`): frames per second of the result.
            first (`int`, defaults to 0): the frame at which that part begins.

        Raises:
            InputError: if an option is wrong.
        """
        from mcdiff_pipeline.motion.camera import Camera
        from mcdiff_pipeline.motion.camera_text import camera_from_text
        from mcdiff_pipeline.motion.description import describe_camera, describe_closed_loop
        from mcdiff_pipeline.motion.physics import toy_from_text

        found: list[dict[str, Any]] = [describe_closed_loop()] if self.closed_loop else []
        if self.reference is not None and not self.reference.gives_strokes:
            found.append(self.reference.motion(height, width, fps, first).to_dict())
        with checking_input("--physics: "):
            found += [toy_from_text(words).to_dict() for words in self.physics]
        if self.camera is not None:
            with checking_input("--camera: "):
                if self.camera.endswith(".json") or Path(self.camera).is_file():
                    camera = Camera.load(self.camera)
                else:
                    camera = camera_from_text(self.camera, width, height, num_frames)
            found.append(describe_camera(camera.shifted(first) if first else camera))
        elif self.sheet_camera is not None:
            with checking_input("--strokes: camera: "):
                camera = Camera.from_dict(self.sheet_camera)
            found.append(describe_camera(camera.shifted(first) if first else camera))
        return tuple(found)


@dataclass(frozen=True)
class ForeignVideo:
    """
    A video that this program did not make, and the frame from which it is continued.

    Args:
        path (`Path`): the file.
        frame (`torch.Tensor`): the frame, `[3, H, W]` in [0, 1], with its colors matched to the first frame.
        lead (`LeadIn`): the frames before it, and the match.
        fps (`float`): frames per second.
    """

    path: Path
    frame: "torch.Tensor"
    lead: "LeadIn"
    fps: float

    @classmethod
    def read(cls, path: Path, at_frame: int | None, *, match_color: bool) -> "ForeignVideo":
        """Reads the video up to the frame, or to its last one.

        Raises:
            InputError: if it is not a video, or too short.
        """
        import torch

        from mcdiff_pipeline.color_matching import color_match
        from mcdiff_pipeline.video import VideoReader
        from mcdiff_pipeline.video.clip_metadata import LeadIn

        first = last = None
        index = -1
        with checking_input(), VideoReader(path) as video:
            fps = video.fps
            for index, last in enumerate(video):
                first = last if first is None else first
                if index == at_frame:
                    break
        if first is None or last is None or (at_frame is not None and index < at_frame):
            raise InputError(f"--at-frame {at_frame}: {path} has the frames 0 to {index}.")
        frame, start = (torch.from_numpy(one).permute(2, 0, 1).float() / 255 for one in (last, first))
        lead = LeadIn(index)
        if match_color:
            scale, shift = color_match(frame, start)
            frame = (scale * frame + shift).clamp(0, 1)
            lead = LeadIn(index, _triple(scale), _triple(shift))
        return cls(path, frame, lead, fps or 8.0)


def _triple(colors: "torch.Tensor") -> tuple[float, float, float]:
    red, green, blue = colors.flatten().tolist()
    return red, green, blue


def lead_frames(path: Path, lead: "LeadIn", size: tuple[int, int]) -> "Iterator[np.ndarray]":
    """The frames of a video up to the one that is continued, uint8 `[height, width, 3]` at (width, height) `size`."""
    import numpy as np
    from PIL import Image

    from mcdiff_pipeline.video import VideoReader

    with VideoReader(path) as video:
        for index, frame in enumerate(video):
            if index > lead.frames:
                return
            image = Image.fromarray(frame)
            yield np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))
