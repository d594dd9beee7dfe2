# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The routes of Studio. Nothing here uses the model itself: its thread does."""

import asyncio
import contextlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope
from starlette.websockets import WebSocket

from .. import __version__
from . import archive, exports
from .live import Connection
from .page_files import MEDIA_TYPES, PageFiles
from .pictures import read_picture, thumbnail
from .protocol import (
    ID_PATTERN,
    DocumentBody,
    ExampleBody,
    NameBody,
    NodeBody,
    RegionsBody,
    check_document,
    read_body,
)
from .refusals import Refused
from .security import SAFE_METHODS, Guard
from .server import Studio
from .sessions import Session, plain_name
from .settings import CLIP_BYTES, DOCUMENT_BYTES, NAME_LENGTH, PICTURE_BYTES, StudioSettings
from .store import TEMPORARY
from .stored_frames import stored_frame
from .tracks import find_tracks
from .tree import find_node


if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"

# Seconds that a body may take to arrive.
BODY_SECONDS = 120
# Bytes of a body that holds a few words.
SMALL_BYTES = 10_000

SessionId = PathParameter(pattern=ID_PATTERN)
NodeId = PathParameter(pattern=ID_PATTERN)
OutputSize = Literal["output", "working"]


def create_app(settings: StudioSettings, load: "Callable[[], Engine]") -> FastAPI:
    """
    The application.

    Args:
        settings (`StudioSettings`): Options.
        load (`Callable[[], Engine]`): Loads the model; called in a thread of its own, after the page is served.

    Returns:
        `FastAPI`: with the server as `app.state.studio`.
    """
    studio = Studio(settings, load)
    app = FastAPI(
        title="mcdiff studio",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=studio.lifespan,
    )
    app.state.studio = studio
    app.add_middleware(Guard, settings=settings)
    _add_error_handlers(app)
    _add_session_routes(app, studio)
    _add_node_routes(app, studio)
    _add_page_routes(app, studio)

    @app.websocket("/api/sessions/{session_id}/live")
    async def live(socket: WebSocket, session_id: str) -> None:
        await Connection(studio, socket).run(session_id)

    app.mount("/", _Static(studio), name="static")
    return app


class _Static(StaticFiles):
    """The files of the page. The model begins to load when the page is there."""

    def __init__(self, studio: Studio):
        super().__init__(directory=STATIC, html=True)
        self.studio, self.files = studio, PageFiles()

    async def get_response(self, path: str, scope: Scope) -> Response:
        path = "index.html" if path == "." else path
        try:
            found, stat = await asyncio.to_thread(self.lookup_path, path)
        except (OSError, ValueError):  # a name that no file can have
            stat = None
        if stat is None or Path(found).suffix not in MEDIA_TYPES or scope["method"] not in SAFE_METHODS:
            return await super().get_response(path, scope)
        file = await asyncio.to_thread(self.files.read, Path(found))
        asked = Headers(scope=scope)
        headers = {"cache-control": "no-cache", "etag": file.tag, "vary": "accept-encoding"}
        if asked.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        content = file.content
        if "gzip" in asked.get("accept-encoding", ""):
            content, headers["content-encoding"] = file.compressed, "gzip"
        task = BackgroundTask(self.studio.page_was_served) if path == "index.html" else None
        return Response(content, headers=headers, media_type=file.media_type, background=task)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return JSONResponse(error.body(), error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        status = 404 if first["loc"][0] == "path" else 422
        return JSONResponse({"why": f"{field}: {first['msg']}.", "code": None}, status)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"why": f"{error.detail}.", "code": None}, error.status_code, error.headers)

    @app.exception_handler(OSError)
    async def disk_error(request: Request, error: OSError) -> Response:
        why = f"A file cannot be written ({error.strerror or type(error).__name__}): make room on the disk."
        return JSONResponse({"why": why, "code": "disk"}, 507)


def _file(*types: str) -> dict[int | str, dict[str, Any]]:
    """What the schema says of an answer that is a file of one of these types."""
    return {200: {"content": {one: {} for one in types}, "description": "A file."}}


def _add_session_routes(app: FastAPI, studio: Studio) -> None:
    settings, registry = studio.settings, studio.registry

    async def get(session_id: str) -> Session:
        return await asyncio.to_thread(registry.get, session_id)

    @app.get("/api/health")
    async def health() -> dict[str, Any]:
        return {"status": studio.model.state, "version": __version__}

    @app.get("/api/info")
    async def info() -> dict[str, Any]:
        return {
            "version": __version__,
            "shared": settings.shared,
            "model": studio.describe_model(),
            "limits": settings.limits(),
            "can_list": not settings.shared,
        }

    @app.get("/api/sessions")
    async def list_sessions() -> list[dict[str, Any]]:
        if settings.shared:
            raise Refused("This server is used by several people, and lists nobody's pictures.", status=404)
        return await asyncio.to_thread(registry.store.list)

    @app.post("/api/sessions", status_code=201, openapi_extra=_BODY)
    async def open_session(request: Request, name: str = Query("picture", max_length=NAME_LENGTH)) -> dict[str, Any]:
        limit = max(PICTURE_BYTES, CLIP_BYTES, settings.bounds.zip_bytes)
        async with _body_file(request, limit, studio) as (path, beginning, size):
            kind = archive.kind_of(beginning)
            if kind == "picture":
                _check_length(size, PICTURE_BYTES, "The picture")
                session = await studio.open_picture(await asyncio.to_thread(path.read_bytes), name)
            elif kind == "zip":
                _check_length(size, settings.bounds.zip_bytes, "The archive")
                session = await studio.open_archive(path)
            elif kind == "json":
                _check_length(size, SMALL_BYTES, "The request")
                session = await _open_example(studio, read_body(ExampleBody, path.read_bytes()).example)
            elif kind in archive.CLIP_SUFFIXES:
                _check_length(size, CLIP_BYTES, "The clip")
                clip = path.with_suffix(kind)
                path.rename(clip)
                try:
                    session = await studio.open_clip(clip, name)
                finally:
                    clip.unlink(missing_ok=True)
            else:
                raise Refused(
                    "The file is not one that can be opened: give a picture (PNG, JPEG or WebP), a clip or a session "
                    "of Studio.",
                    status=415,
                )
        return session.shown(studio.tasks.fingerprint)

    @app.get("/api/sessions/{session_id}")
    async def read_session(session_id: str = SessionId) -> dict[str, Any]:
        return (await get(session_id)).shown(studio.tasks.fingerprint)

    @app.patch("/api/sessions/{session_id}", openapi_extra=_json_body(NameBody))
    async def rename_session(request: Request, session_id: str = SessionId) -> dict[str, Any]:
        session = await get(session_id)
        session.name = plain_name(read_body(NameBody, await _body(request, SMALL_BYTES)).name)
        await asyncio.to_thread(session.save)
        return session.shown(studio.tasks.fingerprint)

    @app.delete("/api/sessions/{session_id}", status_code=204)
    async def delete_session(session_id: str = SessionId) -> None:
        session = await get(session_id)
        await asyncio.to_thread(studio.remove, session)

    @app.get(
        "/api/sessions/{session_id}/{file}.{suffix}",
        responses=_file("image/png", "image/webp", "application/zip"),
        response_class=Response,
    )
    async def session_file(
        file: Literal["picture", "thumbnail", "session"],
        suffix: Literal["png", "webp", "zip"],
        session_id: str = SessionId,
    ) -> Response:
        session = await get(session_id)
        if (file, suffix) == ("session", "zip"):
            return await _made(studio, session, f"{_plain(session.name)}.zip", archive.write_archive, session.files)
        name = f"{file}.{suffix}"
        if name not in ("picture.png", "thumbnail.webp") or not session.files.has(name):
            raise Refused("There is no such file.", status=404)
        return FileResponse(session.files.folder / name, headers={"cache-control": "private, max-age=86400"})

    @app.put("/api/sessions/{session_id}/document", openapi_extra=_json_body(DocumentBody))
    async def put_document(request: Request, session_id: str = SessionId) -> dict[str, int]:
        session = await get(session_id)
        body = read_body(DocumentBody, await _body(request, DOCUMENT_BYTES))
        check_document(body.document)
        session.set_document(body.document, body.rev)
        await asyncio.to_thread(session.save)
        return {"rev": body.rev}

    @app.put("/api/sessions/{session_id}/regions", openapi_extra=_json_body(RegionsBody))
    async def put_regions(request: Request, session_id: str = SessionId) -> dict[str, str | None]:
        session = await get(session_id)
        body = read_body(RegionsBody, await _body(request, DOCUMENT_BYTES))
        if not body.regions:
            return {"regions": None}
        return {"regions": await asyncio.to_thread(session.keep_regions, body.regions)}

    @app.post("/api/sessions/{session_id}/import", openapi_extra=_BODY)
    async def import_sheet(request: Request, session_id: str = SessionId) -> dict[str, Any]:
        session = await get(session_id)
        async with _body_file(request, CLIP_BYTES, studio) as (path, beginning, size):
            kind = archive.kind_of(beginning)
            if kind == "json":
                _check_length(size, 4 * DOCUMENT_BYTES, "The stroke sheet")
                content = await asyncio.to_thread(path.read_bytes)
                return {"sheet": await asyncio.to_thread(archive.sheet_for, content, session.size), "settings": None}
            if kind == "zip":
                raise Refused("This is a session of its own: open it from the start page.", status=409)
            if kind not in archive.CLIP_SUFFIXES:
                raise Refused("The file is neither a stroke sheet (JSON) nor a clip of Studio.", status=415)
            clip = path.with_suffix(str(kind))
            path.rename(clip)
            try:
                async with studio.decoding:
                    _, _, sheet, found = await asyncio.to_thread(archive.read_clip, clip)
            finally:
                clip.unlink(missing_ok=True)
            return {"sheet": await asyncio.to_thread(archive.sheet_for, sheet, session.size), "settings": found}


def _add_node_routes(app: FastAPI, studio: Studio) -> None:
    async def get(session_id: str) -> Session:
        return await asyncio.to_thread(studio.registry.get, session_id)

    node_path = "/api/sessions/{session_id}/nodes/{node_id}"

    @app.patch(node_path, openapi_extra=_json_body(NodeBody))
    async def change_node(request: Request, session_id: str = SessionId, node_id: str = NodeId) -> dict[str, Any]:
        session = await get(session_id)
        node = find_node(session.nodes, node_id)
        body = read_body(NodeBody, await _body(request, SMALL_BYTES))
        if "name" in body.model_fields_set:
            node.name = None if body.name is None else plain_name(body.name)
        if body.star is not None:
            node.star = body.star
        await asyncio.to_thread(session.save)
        session.send_tree(studio.tasks.fingerprint)
        return session.shown_node(node, studio.tasks.fingerprint)

    @app.delete(node_path)
    async def remove_node(session_id: str = SessionId, node_id: str = NodeId) -> dict[str, list[str]]:
        session = await get(session_id)
        node = find_node(session.nodes, node_id)
        return {"removed": await asyncio.to_thread(studio.tasks.remove_node, session, node)}

    @app.get(node_path + "/frames/{frame}.webp", responses=_file("image/webp"), response_class=Response)
    async def frame(
        frame: int = PathParameter(ge=0, lt=10_000),
        size: OutputSize = "working",
        session_id: str = SessionId,
        node_id: str = NodeId,
    ) -> Response:
        session = await get(session_id)
        if frame == 0:
            of = find_node(session.nodes, node_id).settings
            sides = (of.width, of.height) if size == "working" else (of.output_width, of.output_height)
            content = await asyncio.to_thread(archive.frame_zero, session.files, sides)
        else:
            content = await asyncio.to_thread(stored_frame, session, node_id, frame, full=size == "output")
        headers = {"cache-control": "private, max-age=31536000, immutable"}
        return Response(content, media_type="image/webp", headers=headers)

    @app.get(
        node_path + "/clip.{suffix}", responses=_file("video/mp4", "video/webm", "image/gif"), response_class=Response
    )
    async def clip(
        suffix: Literal["mp4", "webm", "gif"],
        size: OutputSize | None = None,
        session_id: str = SessionId,
        node_id: str = NodeId,
    ) -> Response:
        chosen = size or ("working" if suffix == "gif" else "output")
        return await export(session_id, node_id, chosen, suffix, exports.write_clip)

    @app.get(node_path + "/frames.zip", responses=_file("application/zip"), response_class=Response)
    async def frames(size: OutputSize = "output", session_id: str = SessionId, node_id: str = NodeId) -> Response:
        return await export(session_id, node_id, size, "zip", exports.write_frames)

    @app.get(node_path + "/contact.png", responses=_file("image/png"), response_class=Response)
    async def contact(session_id: str = SessionId, node_id: str = NodeId) -> Response:
        indices = exports.contact_frames(find_node((await get(session_id)).nodes, node_id))
        return await export(session_id, node_id, "output", "png", exports.write_contact_sheet, indices)

    @app.get(node_path + "/sheet.json", responses=_file("application/json"), response_class=Response)
    async def sheet(session_id: str = SessionId, node_id: str = NodeId) -> Response:
        return await export(session_id, node_id, "working", "json", exports.write_sheet, [])

    @app.get(node_path + "/tracks.json")
    async def tracks(session_id: str = SessionId, node_id: str = NodeId) -> dict[str, Any]:
        session = await get(session_id)
        node = exports.exported_node(session, node_id)
        with studio.exports_of(session):
            return await asyncio.get_running_loop().run_in_executor(
                studio.export_threads, find_tracks, studio.model, session, node
            )

    async def export(
        session_id: str,
        node_id: str,
        size: OutputSize,
        suffix: str,
        write: Callable[[exports.FrameSource, Path], None],
        indices: list[int] | None = None,
    ) -> Response:
        session = await get(session_id)
        if studio.model.engine is None:
            raise Refused("The model is still loading: try again in a moment.", code="loading", status=503)
        node = exports.exported_node(session, node_id)

        def work(path: Path) -> None:
            write(exports.FrameSource(studio.model, session, node, size, indices), path)

        name = _plain(session.name if node.name is None else f"{session.name} {node.name}")
        return await _made(studio, session, f"{name}.{suffix}", lambda _, path: work(path), None)


def _add_page_routes(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/examples")
    async def list_examples() -> list[dict[str, Any]]:
        found = []
        for name, path in studio.examples().items():
            sheet = json.loads(await asyncio.to_thread(path.with_suffix(".json").read_bytes))
            found.append({"name": name, "title": name.title(), "width": sheet["width"], "height": sheet["height"]})
        return found

    @app.get("/api/examples/{name}/thumbnail.webp", responses=_file("image/webp"), response_class=Response)
    async def example_thumbnail(name: str) -> Response:
        path = _example(studio, name)
        content = await asyncio.to_thread(lambda: thumbnail(read_picture(path.read_bytes())))
        return Response(content, media_type="image/webp", headers={"cache-control": "private, max-age=86400"})


async def _open_example(studio: Studio, name: str) -> Session:
    path = _example(studio, name)
    sheet = json.loads(await asyncio.to_thread(path.with_suffix(".json").read_bytes))
    return await studio.open_picture(await asyncio.to_thread(path.read_bytes), path.name, sheet)


def _example(studio: Studio, name: str) -> Path:
    path = studio.examples().get(name)
    if path is None:
        raise Refused(f"There is no example {name[:40]!r}; there are: {', '.join(studio.examples())}.", status=404)
    return path


async def _made(
    studio: Studio, session: Session, name: str, write: Callable[[Any, Path], None], argument: Any
) -> Response:
    """A file that is written for this response and removed after it; one at a time for a session."""
    with studio.exports_of(session):
        return await _made_alone(studio, name, write, argument)


async def _made_alone(studio: Studio, name: str, write: Callable[[Any, Path], None], argument: Any) -> Response:
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=TEMPORARY, dir=studio.settings.folder))
    remove = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    try:
        path = folder / f"export{Path(name).suffix}"
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(studio.export_threads, write, argument, path)
        return FileResponse(path, filename=name, background=remove, headers={"cache-control": "no-store"})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


async def _body(request: Request, limit: int) -> bytes:
    """The body of a request. Raises `Refused` if it is larger, or takes too long."""
    chunks, size = [], 0
    async for chunk in _chunks(request, limit):
        size += len(chunk)
        chunks.append(chunk)
    return b"".join(chunks)


@contextlib.asynccontextmanager
async def _body_file(request: Request, limit: int, studio: Studio) -> AsyncIterator[tuple[Path, bytes, int]]:
    """The body of a request in a temporary file; its first bytes, and its size."""
    with studio.uploading():
        async with _temporary_file(request, limit, studio.settings.folder) as found:
            yield found


@contextlib.asynccontextmanager
async def _temporary_file(request: Request, limit: int, folder: Path) -> AsyncIterator[tuple[Path, bytes, int]]:
    place = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=TEMPORARY, dir=folder))
    path, beginning, size = place / "upload", b"", 0
    try:
        with open(path, "wb") as file:
            async for chunk in _chunks(request, limit):
                beginning = (beginning + chunk[:64])[:64]
                size += len(chunk)
                file.write(chunk)
        if not size:
            raise Refused("The request has no content: send the file as its body.")
        yield path, beginning, size
    finally:
        await asyncio.to_thread(shutil.rmtree, place, True)


async def _chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    announced = request.headers.get("content-length", "0")
    _check_length(int(announced) if re.fullmatch(r"\d{1,18}", announced) else 0, limit, "The file")
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                _check_length(size, limit, "The file")
                if chunk:
                    yield chunk
    except TimeoutError:
        raise Refused("The file did not arrive in time: try again.", status=408) from None
    except ClientDisconnect:
        raise Refused("The connection ended before the file was there.") from None


def _check_length(size: int, limit: int, what: str) -> None:
    if size > limit:
        unit, name = (1e6, "MB") if limit >= 1e6 else (1e3, "kB")
        raise Refused(
            f"{what} has {size / unit:.1f} {name}; at most {limit / unit:.0f} {name} are possible: make it smaller.",
            status=413,
        )


def _plain(name: str) -> str:
    """A name as a name of a file."""
    stem = Path(name).stem if re.fullmatch(r"\.\w{2,4}", Path(name).suffix) else name
    return re.sub(r"[^\w .()-]+", "_", stem).strip(" .")[:60] or "studio"


def _json_body(body: type[BaseModel]) -> dict[str, Any]:
    """The schema of a JSON body that is read by [`read_body`], which bounds its size."""
    return {"requestBody": {"content": {"application/json": {"schema": body.model_json_schema()}}}}


_BODY = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
