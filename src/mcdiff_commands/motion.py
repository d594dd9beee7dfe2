# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The options that give motion besides strokes, and that continue a video."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import InputError, checking_input
from .option_values import number


if TYPE_CHECKING:
    import numpy as np
    import torch

    from mcdiff_pipeline.video.clip_metadata import LeadIn


PANEL = "Motion besides strokes"

CameraOption = Annotated[
    str | None,
    typer.Option(
        metavar='"WORDS"|FILE',
        help='A camera that moves: "zoom 1.5", "pan 10%,0 ease-in-out", "8: rotate 5; 15: dolly 0.3" (frames 8 and '
        "15), or a file. docs/motion.md describes it.",
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


@dataclass(frozen=True)
class GivenMotion:
    """
    The motion on the command line besides strokes.

    Args:
        camera (`str`, *optional*): words or a file.
    """

    camera: str | None = None

    def __bool__(self) -> bool:
        return self.camera is not None

    def describe(self, height: int, width: int, num_frames: int, first: int = 0) -> tuple[dict[str, Any], ...]:
        """
        The sources of motion as JSON objects.

        Args:
            height (`int`): height of the image in pixels.
            width (`int`): its width.
            num_frames (`int`): frames of the part of the video that the motion is for.
            first (`int`, defaults to 0): the frame at which that part begins.

        Raises:
            InputError: if an option is wrong.
        """
        if self.camera is None:
            return ()
        from mcdiff_pipeline.motion.camera import Camera
        from mcdiff_pipeline.motion.camera_text import camera_from_text
        from mcdiff_pipeline.motion.description import describe_camera

        with checking_input("--camera: "):
            if self.camera.endswith(".json") or Path(self.camera).is_file():
                camera = Camera.load(self.camera)
            else:
                camera = camera_from_text(self.camera, width, height, num_frames)
        return (describe_camera(camera.shifted(first) if first else camera),)


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
