# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The metadata of a generated clip: everything that is needed to generate it again.

It is one JSON object:

```
format      "mcdiff clip"
version     2
program     "mcdiff-pipeline", and its version
model       {"name": folder, Hub repository, or name of the embedded model; "fingerprint": 16 hexadecimal digits}
settings    {"num_frames", "num_inference_steps", "guidance_scale", "seed", "fps", "dtype", "height", "width"}
strokes     a stroke sheet
picture     frame 0 as PNG, in a data URI
motion      list of further sources of motion, such as a camera; see `mcdiff_pipeline.motion.description`
parts       if the clip was continued, list of its parts: {"at": its first frame, "strokes", "motion"}. The stroke
            sheet above then shows all parts in one
lead        if the clip continues another video: {"frames", "scale", "shift", "fade"}; see [`LeadIn`]
```

The last three are left out if they are empty. A clip with one of them has version 3. In version 1, which can be read,
frames had the working size, and `height` and `width` did not exist.
"""

import base64
import io
import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

from PIL import Image

from .. import __version__
from ..strokes import StrokeSheet
from .reader import VideoReader


FORMAT = "mcdiff clip"
VERSION = 2
MOTION_VERSION = 3  # of a clip with motion, parts or a lead
READABLE_VERSIONS = (1, 2, 3)
DTYPES = ("float32", "float16", "bfloat16")

_PNG_PREFIX = "data:image/png;base64,"


@dataclass(frozen=True)
class ClipSettings:
    """The settings with which a clip was generated.

    Args:
        num_frames (`int`): length, the image included.
        num_inference_steps (`int`): denoising steps per frame.
        guidance_scale (`float`): guidance on motion.
        seed (`int`): seed of the noise.
        fps (`float`): frames per second.
        dtype (`str`): number format of the networks: `"float32"`, `"float16"` or `"bfloat16"`.
        height (`int`): working height in pixels.
        width (`int`): working width in pixels.
    """

    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    fps: float
    dtype: str
    height: int
    width: int

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "ClipSettings":
        """Reads the JSON object.

        Raises:
            KeyError: if a setting is missing.
            TypeError, ValueError or OverflowError: if a setting has a wrong value.
        """
        return cls(
            num_frames=int(content["num_frames"]),
            num_inference_steps=int(content["num_inference_steps"]),
            guidance_scale=float(content["guidance_scale"]),
            seed=int(content["seed"]),
            fps=float(content["fps"]),
            dtype=DTYPES[DTYPES.index(content["dtype"])],
            height=int(content["height"]),
            width=int(content["width"]),
        )


@dataclass(frozen=True)
class ClipPart:
    """A part of a clip that was continued.

    Args:
        at (`int`): the frame at which the part begins.
        strokes (`StrokeSheet`): what is followed from there on. Times count from frame 0 of the clip, and each stroke
            has an end.
        motion (`tuple[dict, ...]`): further sources of motion; their times count from frame 0 of the clip, too.
    """

    at: int
    strokes: StrokeSheet
    motion: tuple[dict[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "ClipPart":
        """Reads the JSON object. Raises what [`ClipMetadata.from_dict`] does."""
        return cls(int(content["at"]), StrokeSheet.from_dict(content["strokes"]), _objects(content.get("motion", [])))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {"at": self.at, "strokes": self.strokes.to_dict(), "motion": list(self.motion)}


@dataclass(frozen=True)
class LeadIn:
    """The frames of another video before those that were generated.

    The video was continued from its frame `frames`, with colors matched to those of its first frame. So that there is
    no jump, what is shown begins with the colors of the video, and the match fades in.

    Args:
        frames (`int`): number of frames of the other video before the one that was continued.
        scale (`tuple[float, float, float]`): factor on each color of the continued frame.
        shift (`tuple[float, float, float]`): added after that, white being 1.
        fade (`int`): frames over which the match fades in.
    """

    frames: int
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fade: int = 8

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "LeadIn":
        """Reads the JSON object. Raises what [`ClipMetadata.from_dict`] does."""
        scale, shift = (_color(content[name]) for name in ("scale", "shift"))
        lead = cls(int(content["frames"]), scale, shift, int(content["fade"]))
        if lead.frames < 0 or lead.fade < 1 or min(lead.scale) <= 0:
            raise ValueError("its lead is not possible")
        return lead


def _objects(content: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise ValueError(f"its motion is {content!r:.60}, not a list of objects")
    return tuple(content)


@dataclass(frozen=True)
class ClipMetadata:
    """Model, settings, strokes and image of a generated clip.

    Args:
        model_name (`str`): folder, Hub repository, or name of the embedded model.
        model_fingerprint (`str`): see `mcdiff_pipeline.hub.fingerprint`.
        settings (`ClipSettings`): how the clip was generated.
        strokes (`StrokeSheet`): the strokes, in pixels of the image that was given.
        image (`PIL.Image.Image`): frame 0, RGB, at the size of the frames. The image that was given may have had
            another.
        motion (`tuple[dict, ...]`): further sources of motion, as JSON objects.
        parts (`tuple[ClipPart, ...]`): the parts of a clip that was continued; empty for one in one piece.
        lead (`LeadIn`, *optional*): the frames of another video that the file has first.

    Example:
        ```py
        >>> from mcdiff_pipeline.video import VideoWriter
        >>> from mcdiff_pipeline.video.clip_metadata import ClipMetadata

        >>> clip = ClipMetadata.read("cat.mp4")
        >>> with VideoWriter("again.mp4", clip.settings.fps, clip.to_dict()) as video:
        ...     video.write(clip.image)
        ```
    """

    model_name: str
    model_fingerprint: str
    settings: ClipSettings
    strokes: StrokeSheet
    image: Image.Image
    motion: tuple[dict[str, Any], ...] = ()
    parts: tuple[ClipPart, ...] = ()
    lead: LeadIn | None = None

    @property
    def output_size(self) -> Literal["image"] | None:
        """`output_size` of [`MCDiffPipeline.__call__`] for this clip, whose image has the size of its frames."""
        is_working_size = (self.image.height, self.image.width) == (self.settings.height, self.settings.width)
        return None if is_working_size else "image"

    @classmethod
    def read(cls, path: str | os.PathLike) -> "ClipMetadata":
        """Reads the metadata of a video file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a video, or `mcdiff generate` of this version did not write it.
        """
        clip = cls.read_if_clip(path)
        if clip is None:
            raise ValueError(f"{path} carries no settings to replay; only a video that `mcdiff generate` wrote does.")
        return clip

    @classmethod
    def read_if_clip(cls, path: str | os.PathLike) -> "ClipMetadata | None":
        """Reads the metadata of a video file; None if another program wrote it. It raises what [`read`] raises."""
        with VideoReader(path) as video:
            content = video.metadata
        if content.get("format") != FORMAT:
            return None
        if content.get("version") not in READABLE_VERSIONS:
            raise ValueError(
                f"{path} carries settings of version {content.get('version')}; this program reads versions 1 to 3."
            )
        try:
            return cls.from_dict(content)
        except Exception as error:  # whatever a foreign value makes the parts raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"the settings that {path} carries are damaged: {reason}") from None

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "ClipMetadata":
        """Reads the JSON object.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, OverflowError or OSError: if the object is damaged.
        """
        png = base64.b64decode(content["picture"].removeprefix(_PNG_PREFIX), validate=True)
        with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
            image = opened.convert("RGB")
        settings = content["settings"]
        if content["version"] == 1:
            settings = settings | {"height": image.height, "width": image.width}
        return cls(
            model_name=str(content["model"]["name"]),
            model_fingerprint=str(content["model"]["fingerprint"]),
            settings=ClipSettings.from_dict(settings),
            strokes=StrokeSheet.from_dict(content["strokes"]),
            image=image,
            motion=_objects(content.get("motion", [])),
            parts=tuple(ClipPart.from_dict(one) for one in _objects(content.get("parts", []))),
            lead=LeadIn.from_dict(content["lead"]) if content.get("lead") is not None else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, as [`VideoWriter`] takes it."""
        png = io.BytesIO()
        self.image.save(png, format="PNG", optimize=True)
        optional: dict[str, Any] = {
            "motion": list(self.motion),
            "parts": [part.to_dict() for part in self.parts],
            "lead": None if self.lead is None else asdict(self.lead),
        }
        optional = {name: value for name, value in optional.items() if value}
        return {
            "format": FORMAT,
            "version": MOTION_VERSION if optional else VERSION,
            "program": f"mcdiff-pipeline {__version__}",
            "model": {"name": self.model_name, "fingerprint": self.model_fingerprint},
            "settings": asdict(self.settings),
            "strokes": self.strokes.to_dict(),
            "picture": _PNG_PREFIX + base64.b64encode(png.getvalue()).decode(),
            **optional,
        }


def _color(values: list[Any]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
