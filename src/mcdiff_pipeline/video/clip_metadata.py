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
```

In version 1, which can be read, frames had the working size, and `height` and `width` did not exist.
"""

import base64
import io
import os
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from .. import __version__
from ..strokes import StrokeSheet
from .reader import VideoReader


FORMAT = "mcdiff clip"
VERSION = 2
READABLE_VERSIONS = (1, 2)
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
class ClipMetadata:
    """Model, settings, strokes and image of a generated clip.

    Args:
        model_name (`str`): folder, Hub repository, or name of the embedded model.
        model_fingerprint (`str`): see `mcdiff_pipeline.hub.fingerprint`.
        settings (`ClipSettings`): how the clip was generated.
        strokes (`StrokeSheet`): the strokes, in pixels of the image that was given.
        image (`PIL.Image.Image`): frame 0, RGB, at the size of the frames. The image that was given may have had
            another.

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

    @classmethod
    def read(cls, path: str | os.PathLike) -> "ClipMetadata":
        """Reads the metadata of a video file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a video, or `mcdiff generate` of this version did not write it.
        """
        with VideoReader(path) as video:
            content = video.metadata
        if content.get("format") != FORMAT:
            raise ValueError(f"{path} carries no settings to replay; only a video that `mcdiff generate` wrote does.")
        if content.get("version") not in READABLE_VERSIONS:
            raise ValueError(
                f"{path} carries settings of version {content.get('version')}; this program reads versions 1 and 2."
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
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, as [`VideoWriter`] takes it."""
        png = io.BytesIO()
        self.image.save(png, format="PNG", optimize=True)
        return {
            "format": FORMAT,
            "version": VERSION,
            "program": f"mcdiff-pipeline {__version__}",
            "model": {"name": self.model_name, "fingerprint": self.model_fingerprint},
            "settings": asdict(self.settings),
            "strokes": self.strokes.to_dict(),
            "picture": _PNG_PREFIX + base64.b64encode(png.getvalue()).decode(),
        }
