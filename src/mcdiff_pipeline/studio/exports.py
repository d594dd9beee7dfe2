# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Files to take away: clips, frames, contact sheets, stroke sheets.

The thread of the model gives frames, one a turn; a thread of the export encodes them. Only a few wait in between.
"""

import io
import json
import logging
import queue
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from .refusals import Refused, first_line
from .sessions import Session
from .stored_frames import open_frame
from .tree import Node, branch_of, find_node
from .worker import Job, ModelThread


if TYPE_CHECKING:
    from ..strokes import StrokeSheet
    from ..video.clip_metadata import ClipMetadata
    from .engine import Engine

logger = logging.getLogger(__name__)

Size = Literal["output", "working"]

# The key in the metadata of a clip with what the page draws from; `mcdiff generate` ignores it.
STUDIO_KEY = "studio"
# Frames that wait for the encoder.
WAITING = 2
# With the strokes, the contact sheet has two rows of four tiles.
CONTACT_SHEET_FRAMES = 7
# Seconds without a frame after which an export is given up.
PATIENCE = 600

_END = object()


class FrameSource:
    """
    The frames of a branch, and what is written beside them, from the thread of the model.

    Args:
        model (`ModelThread`): Makes what is missing.
        session (`Session`): Has the node.
        node (`Node`): The end of the branch.
        size (`"output"` or `"working"`): The size of the frames.
        indices (`list[int]`, *optional*): Which frames are wanted; None takes all.

    Raises:
        Refused: If there is too much to do already.
    """

    def __init__(self, model: ModelThread, session: Session, node: Node, size: Size, indices: list[int] | None = None):
        self.model, self.session, self.node, self.size = model, session, node, size
        self.indices = list(range(node.last + 1)) if indices is None else indices
        self._queue: queue.Queue[Any] = queue.Queue()
        self._is_dropped = threading.Event()
        model.add(Job(session, self._steps(), lambda: self._is_dropped.is_set() or self._queue.qsize() < WAITING))

    def _steps(self) -> Iterator[None]:
        """In the thread of the model: the clip first, then a frame a step."""
        try:
            engine = self.model.engine
            if engine is None:
                raise Refused("The model is still loading: try again in a moment.", code="loading", status=503)
            self._queue.put((engine.clip(self.session, self.node), engine.sheet(self.session, self.node)))
            yield
            for frame in self._frames(engine):
                if self._is_dropped.is_set():
                    return
                self._queue.put(frame)
                yield
            self._queue.put(_END)
        except (Refused, OSError) as error:  # it is raised again where the frames are wanted
            self._queue.put(error)
        except (RuntimeError, MemoryError, ValueError, ArithmeticError) as error:
            logger.debug("an export failed", exc_info=True)
            self._queue.put(Refused(f"The export failed ({first_line(error)}): try again.", status=409))

    def _frames(self, engine: "Engine") -> Iterator[Image.Image]:
        session, node = self.session, self.node
        if self.size == "working":
            for index in self.indices:
                if index == 0:
                    frame = engine.output_picture(session, node.settings)
                else:
                    frame = open_frame(session, node.id, index)
                yield _at_working_size(frame, node)
            return
        for index in self.indices:
            try:
                yield (
                    engine.output_picture(session, node.settings)
                    if index == 0
                    else open_frame(session, node.id, index, full=True)
                )
            except Refused:
                break
        else:
            return
        for _, image in engine.full_frames(session, node, self.indices[self.indices.index(index) :]):
            yield image

    def _get(self) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                item = self._queue.get(timeout=1)
                break
            except queue.Empty:
                if self.session.is_removed or self.model.is_ending:
                    raise Refused("The export was ended: the picture was removed.", status=409) from None
                if time.monotonic() > deadline:
                    why = "The export takes too long: try again when fewer people render."
                    raise Refused(why, status=503) from None
        self.model.wake()
        if isinstance(item, Exception):
            raise item
        return item

    def clip(self) -> tuple["ClipMetadata", "StrokeSheet"]:
        """What a clip contains beside the frames, and its sheet as it was drawn. It comes before the frames."""
        return self._get()

    def frames(self) -> Iterator[Image.Image]:
        """The frames, as they come."""
        while (item := self._get()) is not _END:
            yield item

    def drop(self) -> None:
        """Ends the work, if any is left."""
        self._is_dropped.set()
        self.model.wake()


def _at_working_size(frame: Image.Image, node: Node) -> Image.Image:
    size = node.settings.width, node.settings.height
    return frame if frame.size == size else frame.resize(size, Image.Resampling.BICUBIC)


def exported_node(session: Session, node_id: str) -> Node:
    """The node to export. Raises `Refused` if there is none, or it has no frame."""
    node = find_node(session.nodes, node_id)
    if node.last < 1:
        raise Refused("This version has no frames yet: render it first.", code="node", status=409)
    return node


def write_clip(source: FrameSource, path: Path) -> None:
    """Writes a video whose metadata is that of `mcdiff generate`, and the strokes as they were drawn."""
    from ..video import VideoWriter

    try:
        clip, _ = source.clip()
        session, node = source.session, source.node
        drawn = {
            "version": 1,
            "name": session.name,
            "picture": {"width": session.size[0], "height": session.size[1]},
            "regions": session.files.read_regions(node.regions),
            "parts": [
                {"strokes": one.strokes, "camera": one.camera}
                | {"at": one.at, "num_frames": one.num_frames, "fps": one.fps}
                for one in branch_of(session.nodes, node)
            ],
        }
        fps = min(node.fps, 50.0) if path.suffix == ".gif" else node.fps
        with VideoWriter(path, fps, clip.to_dict() | {STUDIO_KEY: drawn}) as video:
            for frame in source.frames():
                video.write(frame)
    finally:
        source.drop()


def write_frames(source: FrameSource, path: Path) -> None:
    """Writes a zip file of PNG files."""
    try:
        source.clip()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for index, frame in zip(source.indices, source.frames(), strict=True):
                content = io.BytesIO()
                frame.save(content, "PNG", compress_level=4)
                archive.writestr(f"frame-{index:04d}.png", content.getvalue())
    finally:
        source.drop()


def contact_frames(node: Node) -> list[int]:
    """The frames that a contact sheet shows."""
    return sorted({round(k * node.last / (CONTACT_SHEET_FRAMES - 1)) for k in range(CONTACT_SHEET_FRAMES)})


def write_contact_sheet(source: FrameSource, path: Path) -> None:
    """Writes one picture with the strokes and frames from the whole clip."""
    from ..drawing import contact_sheet

    try:
        clip, _ = source.clip()
        frames = dict(zip(source.indices, source.frames(), strict=True))
        contact_sheet(clip.image, clip.strokes, frames).save(path)
    finally:
        source.drop()


def write_sheet(source: FrameSource, path: Path) -> None:
    """Writes the strokes and regions of a branch as one stroke sheet, at the size of full frames."""
    try:
        _, sheet = source.clip()
        path.write_text(json.dumps(sheet.to_dict()))
    finally:
        source.drop()
