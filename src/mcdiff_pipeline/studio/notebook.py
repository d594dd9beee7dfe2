# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The editor of Studio in a notebook: draw on an image, and take strokes and frames back to Python.

Needs the extra `notebook`. The page in the browser talks to the same application as that of `mcdiff studio`, which
runs in the kernel: requests and live messages travel as messages of the widget, so that it also works where the
browser reaches nothing but the notebook.
"""

import io
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError(f"{error.name} is missing; pip install 'mcdiff-pipeline[notebook]' installs it.") from None

from ..pipeline_mcdiff import MCDiffPipeline
from ..regions import Region
from ..strokes import Stroke, StrokeSheet
from .app import create_app
from .engine import Engine
from .exports import FrameSource, exported_node
from .in_process import Channel, InProcess
from .refusals import Refused
from .server import Studio
from .sessions import Session
from .settings import StudioSettings
from .stored_frames import open_frame
from .tree import Node
from .widget_files import widget_module


# The port is part of the name of the application, and nothing listens there.
HOST, PORT = "127.0.0.1", 7861
SMALLEST_HEIGHT = 320


class StudioWidget(anywidget.AnyWidget):
    """
    The editor of Studio on an image and a pipeline.

    What is drawn is [`sheet`], [`strokes`] and [`regions`], and what is rendered is [`frames`]. Each follows the page
    within a fraction of a second, except while a cell runs. `widget.observe(function, "drawn")` calls a function at
    every change of the drawing, and `"made"` at every new frame.

    The pipeline belongs to the editor until [`close`]: it is called in a thread of its own, and calling it in a cell
    at the same time mixes up the two.

    Args:
        pipe (`MCDiffPipeline`): The pipeline.
        image (`PIL.Image.Image`, `str` or `Path`): The image to draw on, or its file.
        strokes (`Sequence[Stroke]` or `StrokeSheet`, *optional*):
            Strokes to begin with, in pixels of the image; a sheet brings its regions and its number of frames.
        regions (`Sequence[Region]`, *optional*): Regions to begin with.
        num_frames (`int`, *optional*): Frames of the video; the sheet's or the pipeline's number by default.
        fps (`float`, defaults to 8.0): Frames per second.
        size (`int`, *optional*): Shorter side of the working size in pixels; the pipeline's by default.
        height (`int`, defaults to 640): Height of the widget in CSS pixels, at least 320.

    Raises:
        ValueError: If the image, the strokes or a number cannot be used.
        FileNotFoundError: If there is no such image.

    Example:
        ```py
        >>> from mcdiff_pipeline import MCDiffPipeline
        >>> from mcdiff_pipeline.studio.notebook import StudioWidget

        >>> pipe = MCDiffPipeline.from_pretrained("mcdiff-small-128")
        >>> editor = StudioWidget(pipe, "examples/cat.jpg")
        >>> editor  # in a cell: draw, and press Render

        >>> editor.strokes, editor.frames
        ```
    """

    _esm = traitlets.Unicode(help="The script of the page.").tag(sync=True)
    session = traitlets.Unicode(help="The id of its session.").tag(sync=True)
    height = traitlets.Int(640, min=SMALLEST_HEIGHT, help="Height in CSS pixels.").tag(sync=True)
    drawn = traitlets.Dict(help="What is drawn, as a stroke sheet in pixels of the image.").tag(sync=True)
    shown = traitlets.Unicode(None, allow_none=True, help="The id of the version that is shown.").tag(sync=True)
    made = traitlets.Int(0, help="How many frames of it are made, besides frame 0.").tag(sync=True)

    _ending: Any = None  # a widget that could not be made has none

    def __init__(
        self,
        pipe: MCDiffPipeline,
        image: Image.Image | str | Path,
        strokes: Sequence[Stroke] | StrokeSheet | None = None,
        regions: Sequence[Region] | None = None,
        *,
        num_frames: int | None = None,
        fps: float = 8.0,
        size: int | None = None,
        height: int = 640,
    ):
        if height < SMALLEST_HEIGHT:
            raise ValueError(f"`height` is {height}; the editor needs {SMALLEST_HEIGHT} pixels or more.")
        content, name = _picture_file(image)
        self._folder = tempfile.TemporaryDirectory(prefix="mcdiff-notebook-")
        settings = StudioSettings(folder=Path(self._folder.name), port=PORT, size=size)
        app = create_app(settings, lambda: Engine(pipe, _name_of(pipe), settings))
        self._studio: Studio = app.state.studio
        self._app = InProcess(app, f"{HOST}:{PORT}")
        self._channels: dict[str, Channel] = {}
        ending = weakref.finalize(self, _end, self._app, self._folder)
        try:
            opened: Session = self._app.do(self._studio.open_picture(content, name)).result()
            sheet = _first_sheet(strokes, regions, opened.size, num_frames or _default_frames(pipe, strokes), fps)
            opened.sheet = sheet.to_dict()
            opened.save()
        except Refused as refused:
            ending()
            raise ValueError(refused.why) from None
        except BaseException:
            ending()
            raise
        self._ending = ending
        self._studio.may_load.set()
        super().__init__(_esm=widget_module(), session=opened.id, drawn=opened.sheet, height=height)
        self.on_msg(self._received)

    # What Python takes

    @property
    def sheet(self) -> StrokeSheet:
        """What is drawn now, in pixels of the image. Raises `ValueError` if the drawing is not a possible one yet."""
        return StrokeSheet.from_dict(self.drawn)

    @property
    def strokes(self) -> list[Stroke]:
        """The strokes of [`sheet`]."""
        return list(self.sheet.strokes)

    @property
    def regions(self) -> list[Region]:
        """The regions of [`sheet`]."""
        return list(self.sheet.regions or [])

    @property
    def frames(self) -> list[Image.Image]:
        """The frames that are made of the shown version, with the image as frame 0; empty if there are none."""
        node = self._shown_node()
        if node is None:
            return []
        session = self._session()
        frames = [open_frame(session, node.id, index) for index in range(1, node.last + 1)]
        picture = Image.open(session.files.folder / "picture.png").convert("RGB")
        return [picture.resize(frames[0].size, Image.Resampling.BICUBIC), *frames] if frames else []

    def full_frames(self) -> list[Image.Image]:
        """
        The same at the size of the image. Those that are not there in that size are made, without diffusion.

        Raises:
            ValueError: If no version is shown, or the model is not loaded.
        """
        if self.shown is None:
            raise ValueError("Nothing is rendered yet: press Render in the editor, or call the pipeline.")
        try:
            session = self._session()
            source = FrameSource(self._studio.model, session, exported_node(session, self.shown), "output")
            try:
                source.clip()
                return list(source.frames())
            finally:
                source.drop()
        except Refused as refused:
            raise ValueError(refused.why) from None

    def close(self) -> None:
        """Ends the editor, and removes what it keeps on the disk. What was drawn stays as [`sheet`]."""
        if self._ending is not None:
            self._ending()
        super().close()

    def _session(self) -> Session:
        return self._studio.registry.get(self.session)

    def _shown_node(self) -> Node | None:
        return None if self.shown is None or not self._ending.alive else self._session().nodes.get(self.shown)

    # Messages of the page

    def _received(self, widget: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """Takes up a message of the page: a request, or one of a live connection."""
        kind, id = content.get("kind"), str(content.get("id"))
        if not self._ending.alive:
            if kind in ("request", "open"):
                self.send(
                    {"kind": "closed", "id": id, "code": 4410, "reason": "The editor was closed.", "status": 410}
                )
        elif kind == "request":
            body = bytes(buffers[0]) if buffers else b""
            headers = {key: value for key, value in content["headers"].items() if key.lower() == "content-type"}
            answer = self._app.request(content["method"], content["path"], body, headers)
            answer.add_done_callback(self._answerer(id))
        elif kind == "open":
            self._channels[id] = self._app.connect(
                content["path"],
                lambda message: self.send({"kind": "message", "id": id}, [message]),
                lambda code, reason: self._closed(id, code, reason),
            )
        elif id in self._channels and kind == "text":
            self._channels[id].send(content["text"])
        elif id in self._channels and kind == "close":
            self._channels.pop(id).close()

    def _answerer(self, id: str) -> Callable[[Any], None]:
        def answer(done: Any) -> None:
            if done.cancelled() or done.exception() is not None:
                self.send({"kind": "response", "id": id, "status": 500})
                return
            found = done.result()
            self.send({"kind": "response", "id": id, "status": found.status}, [found.body])

        return answer

    def _closed(self, id: str, code: int, reason: str) -> None:
        self._channels.pop(id, None)
        self.send({"kind": "closed", "id": id, "code": code, "reason": reason})


def _end(app: InProcess, folder: tempfile.TemporaryDirectory) -> None:
    app.close()
    folder.cleanup()


def _name_of(pipe: MCDiffPipeline) -> str:
    """What clips say of the model: the last part of where it was loaded from."""
    return Path(str(pipe.config.get("_name_or_path") or "pipeline")).name


def _picture_file(image: Image.Image | str | Path) -> tuple[bytes, str]:
    """The content of an image file, and its name."""
    if isinstance(image, (str, Path)):
        return Path(image).read_bytes(), Path(image).name
    if not isinstance(image, Image.Image):
        raise ValueError(f"`image` is {type(image).__name__}; it must be a PIL image or the name of a file.")
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue(), "image"


def _default_frames(pipe: MCDiffPipeline, strokes: Sequence[Stroke] | StrokeSheet | None) -> int:
    return strokes.num_frames if isinstance(strokes, StrokeSheet) else pipe.config.default_num_frames


def _first_sheet(
    strokes: Sequence[Stroke] | StrokeSheet | None,
    regions: Sequence[Region] | None,
    size: tuple[int, int],
    num_frames: int,
    fps: float,
) -> StrokeSheet:
    """What the editor begins with, in pixels of an image of a (width, height)."""
    if isinstance(strokes, StrokeSheet):
        sheet = strokes.scaled(*size)
        return StrokeSheet(sheet.strokes, *size, num_frames, sheet.fps, list(regions or sheet.regions))
    return StrokeSheet(list(strokes or []), *size, num_frames, fps, list(regions or []))
