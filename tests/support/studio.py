"""A Studio in this process, and a page that talks to it."""

import contextlib
import functools
import io
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from mcdiff_pipeline.studio.app import create_app
from mcdiff_pipeline.studio.engine import Engine
from mcdiff_pipeline.studio.protocol import unpacked
from mcdiff_pipeline.studio.server import Studio
from mcdiff_pipeline.studio.settings import StudioSettings
from support.tiny_models import make_pipeline


TOKEN = "token-of-the-tests"
ORIGIN = "http://127.0.0.1:7861"
# At no whole frame on an edge of a cell, where rounding decides.
MOVE = {"kind": "move", "points": [[10.5, 10.5], [33.1, 26.2]], "frames": [0, 3]}
HOLD = {"kind": "hold", "points": [[40.0, 30.0]]}
STROKES = [MOVE, HOLD]


def png_of(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def new_id() -> str:
    return secrets.token_hex(16)


class Page:
    """A page with an open websocket."""

    def __init__(self, socket: Any):
        self.socket = socket
        self.received: list[tuple[dict[str, Any], bytes]] = []
        self.rev = 0

    def send(self, kind: str, **fields: Any) -> int:
        """Sends a message; returns its revision."""
        self.rev += 1
        if kind not in ("hello", "cancel"):
            fields = {"rev": self.rev} | fields
        self.socket.send_text(json.dumps({"type": kind} | fields))
        return self.rev

    def next(self) -> tuple[dict[str, Any], bytes]:
        message = unpacked(self.socket.receive_bytes())
        self.received.append(message)
        return message

    def until(self, *kinds: str) -> tuple[dict[str, Any], bytes]:
        """The next message of one of these types; others are kept in `received`."""
        while True:
            header, payload = self.next()
            if header["type"] in kinds:
                return header, payload

    def render(self, node: str | None = None, **fields: Any) -> str:
        node = node or new_id()
        self.send("render", **({"node": node, "strokes": STROKES, "num_frames": 4} | fields))
        return node

    def rendered(self, node: str | None = None, **fields: Any) -> str:
        """Renders a node to its end; returns its id."""
        node = self.render(node, **fields)
        header, _ = self.until("done", "refused", "failed", "stopped", "error")
        assert header["type"] == "done", header
        return node


class Socket:
    """A websocket of another process, as that of Starlette's client."""

    def __init__(self, socket):
        self.send_text, self.receive_bytes = socket.send, socket.recv


class Server:
    """A Studio with a tiny model."""

    def __init__(self, client: TestClient, studio: Studio):
        self.client, self.studio = client, studio

    def open(self, image: Image.Image, name: str = "cat.png") -> dict[str, Any]:
        response = self.client.post("/api/sessions", params={"name": name}, content=png_of(image))
        assert response.status_code == 201, response.text
        return response.json()

    @contextlib.contextmanager
    def page(self, session: str) -> Iterator[Page]:
        """A page that said hello; `received[0]` is the answer."""
        address = f"{ORIGIN.replace('http', 'ws')}/api/sessions/{session}/live"
        with contextlib.suppress(CancelledError), self.client.websocket_connect(address) as socket:
            page = Page(socket)
            page.send("hello", token=self.studio.settings.token)
            page.until("hello")
            yield page

    def url(self, session: str, node: str, name: str) -> str:
        return f"/api/sessions/{session}/nodes/{node}/{name}"


@functools.cache
def tiny_pipeline() -> Any:
    """The model of all servers that are given no other."""
    return make_pipeline()


@contextlib.contextmanager
def serving(
    folder: Path,
    pipe: Any = None,
    *,
    load: Callable[[], Any] | None = None,
    before: Callable[[], Any] | None = None,
    **options: Any,
) -> Iterator[Server]:
    """
    A server with a tiny model, which is loaded when the block begins.

    Args:
        folder: Where its sessions are.
        pipe: Another model.
        load: What loads the model instead.
        before: Called, in the thread of the model, before it is loaded; the block then does not wait for it.
        options: Of the server.
    """
    options = {"token": None if options.get("shared") else TOKEN, "port": 7861} | options
    settings = StudioSettings(folder=folder, **options)

    def load_tiny() -> Engine:
        if before is not None:
            before()
        return Engine(pipe or tiny_pipeline(), "tiny", settings) if load is None else load()

    app = create_app(settings, load_tiny)
    headers = {"origin": ORIGIN} | ({"x-mcdiff-token": settings.token} if settings.token else {})
    with TestClient(app, base_url=ORIGIN, headers=headers) as client:
        studio = app.state.studio
        studio.may_load.set()
        while before is None and studio.model.state == "loading":
            time.sleep(0.005)
        yield Server(client, studio)


def pixels(webp: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))


def run_server(folder: Path, port: int, listener: socket.socket) -> None:
    """Serves at a socket until the process is killed."""
    torch.set_num_threads(1)
    settings = StudioSettings(folder=folder, port=port, token=TOKEN)
    app = create_app(settings, lambda: Engine(tiny_pipeline(), "tiny", settings))
    app.state.studio.may_load.set()
    uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio")).run(sockets=[listener])
