# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A server: its sessions, how they are opened, and the thread of the model."""

import asyncio
import contextlib
import importlib.util
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..helper_models import locate
from . import archive
from .pictures import read_picture
from .protocol import CLOSE_GONE
from .refusals import Refused
from .sessions import Registry, Session, plain_name
from .settings import CLIP_BYTES, PICTURE_BYTES, UPLOADS, StudioSettings
from .tasks import Tasks
from .worker import ModelThread


if TYPE_CHECKING:
    from .engine import Engine

# Seconds after the start of the server at which the model is loaded although nobody has asked for the page. Loading
# keeps the interpreter busy, so the page goes first.
PATIENCE = 3.0
# Seconds between the page and loading, in which the browser fetches the rest of it.
HEAD_START = 0.5
SWEEP_SECONDS = 30
# Seconds that the end of the server waits for the thread of the model, which looks at it between denoising steps.
# Loading, and a denoising step of a large picture, take longer; nothing that they do needs their end.
ENDING_SECONDS = 1.0
# Pictures that are decoded at a time, since each may take some hundred megabytes.
DECODING = 2


class Studio:
    """
    A server: its sessions, and the thread of the model.

    Args:
        settings (`StudioSettings`): Options.
        load (`Callable[[], Engine]`): Loads the model, in its thread.
    """

    def __init__(self, settings: StudioSettings, load: "Callable[[], Engine]"):
        self.settings = settings
        self.may_load = threading.Event()
        self.model = ModelThread(load, self._answer_flow, self._model_changed, self.may_load)
        self.tasks = Tasks(self.model, settings.bounds)
        self.registry = Registry(settings, self.model.is_busy, self.model.forget)
        self.decoding = asyncio.Semaphore(DECODING)
        self.uploads = 0
        self.exporting: set[str] = set()
        # of their own, since they wait for the model: others would wait for a free thread
        self.export_threads = ThreadPoolExecutor(settings.bounds.sessions, "mcdiff-export")

    def _answer_flow(self, engine: "Engine", session: Session, request: Any) -> None:
        self.tasks.answer_flow(engine, session, request)

    def _model_changed(self) -> None:
        message = {"type": "model", "model": self.describe_model()}
        for session in self.registry.all():
            session.send(message)

    def describe_model(self) -> dict[str, Any]:
        """MODEL of the protocol."""
        empty = ("name", "fingerprint", "cell", "multiple", "area", "has_flow", "can_resize", "defaults")
        known = dict.fromkeys(empty) if self.model.engine is None else self.model.engine.describe()
        return {
            "state": self.model.state,
            "why": self.model.failure,
            **known,
            "segmenter": _helper("onnxruntime", "scipy", extra="segmentation", place=_segmenter_place),
            "joints": _helper("mediapipe", extra="annotation", place=_pose_model_place),
        }

    def hello(self, session: Session) -> dict[str, Any]:
        """The first message to a page."""
        return {
            "type": "hello",
            "session": session.shown(self.tasks.fingerprint),
            "model": self.describe_model(),
            "limits": self.settings.limits(),
            "rendering": self.tasks.rendering(session),
        }

    async def open_picture(self, content: bytes, name: str, sheet: dict[str, Any] | None = None) -> Session:
        """A new session from a picture that a client sent, or that the person at this machine named."""
        return await self._open(content, name, sheet, None, PICTURE_BYTES)

    async def _open(
        self,
        content: bytes,
        name: str,
        sheet: dict[str, Any] | None,
        settings: dict[str, Any] | None,
        limit: int,
    ) -> Session:
        files = self.registry.store.new()

        def decode() -> Session:
            picture = read_picture(content, limit)
            try:
                archive.write_picture(files, picture)
                given = None if sheet is None else archive.sheet_for(sheet, picture.size)
                session = Session(files, plain_name(name), picture.size, given, settings)
                session.save()
                return session
            except BaseException:
                files.remove()
                raise

        async with self.decoding:
            session = await asyncio.to_thread(decode)
        try:
            self.registry.add(session)
        except Refused:
            await asyncio.to_thread(files.remove)
            raise
        return session

    async def open_clip(self, path: Path, name: str) -> Session:
        """A new session from a clip of ours."""
        async with self.decoding:
            png, kept_name, sheet, settings = await asyncio.to_thread(archive.read_clip, path)
        return await self._open(png, kept_name or name, sheet, settings, CLIP_BYTES)

    async def open_archive(self, path: Path) -> Session:
        """A new session from an archive of one."""
        files = self.registry.store.new()
        async with self.decoding:
            await asyncio.to_thread(archive.read_archive, path, files, self.settings.bounds)
        try:
            return await asyncio.to_thread(self.registry.get, files.folder.name)
        except Refused:
            await asyncio.to_thread(files.remove)
            raise

    @contextlib.contextmanager
    def uploading(self) -> Iterator[None]:
        """Counts an upload. Raises `Refused` if too many are under way."""
        if self.uploads >= UPLOADS:
            raise Refused(f"{self.uploads} files are being sent: try again in a moment.", code="busy", status=503)
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1

    @contextlib.contextmanager
    def exports_of(self, session: Session) -> Iterator[None]:
        """Marks that something is made for a session. Raises `Refused` if something is already."""
        if session.id in self.exporting:
            raise Refused("An export of this picture is under way: wait for it.", code="busy", status=429)
        self.exporting.add(session.id)
        try:
            yield
        finally:
            self.exporting.discard(session.id)

    def examples(self) -> dict[str, Path]:
        """Pictures to begin with, by name; each has a stroke sheet beside it."""
        folder = self.settings.examples
        if folder is None or not folder.is_dir():
            return {}
        return {path.stem: path for path in sorted(folder.glob("*.jpg")) if path.with_suffix(".json").is_file()}

    def remove(self, session: Session, why: str = "deleted") -> None:
        """Closes a session, and whatever is under way for it."""
        session.is_removed = True
        self.tasks.stop(session, "removed", at_once=True)
        connection = session.connection
        if connection is not None:
            connection.end(CLOSE_GONE, "expired", f"The picture was {why}.")
        self.registry.remove(session)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """What runs beside the requests."""
        self.model.start()
        tasks = [asyncio.create_task(self._load_later()), asyncio.create_task(self._sweep())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for session in self.registry.all():
                self.tasks.stop(session, "disconnected", at_once=True)
            self.model.end()
            self.export_threads.shutdown(wait=False)
            await asyncio.to_thread(self.model.join, ENDING_SECONDS)

    async def _load_later(self) -> None:
        await asyncio.sleep(PATIENCE)
        self.may_load.set()

    async def page_was_served(self) -> None:
        await asyncio.sleep(HEAD_START)
        self.may_load.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.registry.sweep)


def _helper(*packages: str, extra: str, place: Callable[[], str | None]) -> dict[str, Any]:
    """Whether something is there that not every installation has, and what to do if not."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return {
                "ready": False,
                "why": f"{package} is missing; pip install 'mcdiff-pipeline[{extra}]' installs it.",
            }
    why = place()
    return {"ready": why is None, "why": why}


def _segmenter_place() -> str | None:
    folder, origin = locate(None, "MCDIFF_SEGMENTER", "segmenter")
    if all((folder / name).is_file() for name in ("encoder.onnx", "decoder.onnx")):
        return None
    return f"There is no segmenter in {folder}{origin}; make one with training/tools/build_segmenter.py."


def _pose_model_place() -> str | None:
    path, origin = locate(None, "MCDIFF_POSE_MODEL", "pose_landmarker_full.task")
    if path.is_file():
        return None
    return f"There is no pose model {path}{origin}; make one with training/tools/build_pose_model.py."
