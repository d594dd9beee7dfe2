# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""An application in the same process, without a network: an event loop in a thread, and calls as ASGI has them."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, NamedTuple
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send


class Answer(NamedTuple):
    """An HTTP response: its status, its headers in lower case, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Channel:
    """
    An open websocket; [`InProcess.connect`] makes one. Its methods may be called from any thread.

    Args:
        loop (`asyncio.AbstractEventLoop`): The loop of the application.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._put({"type": "websocket.connect"})

    def send(self, text: str) -> None:
        """Sends a text to the application."""
        self._put({"type": "websocket.receive", "text": text})

    def close(self, code: int = 1000) -> None:
        """Says that the page is gone."""
        self._put({"type": "websocket.disconnect", "code": code})

    def _put(self, message: Message) -> None:
        self._loop.call_soon_threadsafe(self.incoming.put_nowait, message)


class InProcess:
    """
    Runs an application in a thread of its own, as a server would. It ends with [`close`], or with the process.

    Args:
        app (`FastAPI`): The application.
        host (`str`): The name and port under which it is asked, as in `Host`.
    """

    def __init__(self, app: FastAPI, host: str):
        self.app, self.host = app, host
        self._loop = asyncio.new_event_loop()
        self._end: asyncio.Event = asyncio.Event()
        self._written: asyncio.Event | None = None  # set when the newest PUT is answered
        self._thread = threading.Thread(target=self._run, name="mcdiff-in-process", daemon=True)
        started: Future[None] = Future()
        self._started = started
        self._thread.start()
        started.result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
        finally:
            self._loop.close()

    async def _live(self) -> None:
        async with self.app.router.lifespan_context(self.app):
            self._started.set_result(None)
            await self._end.wait()
            ours = asyncio.current_task()
            calls = [task for task in asyncio.all_tasks() if task is not ours]
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def close(self) -> None:
        """Ends the application, and waits for its end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()

    def do(self, work: Awaitable[Any]) -> "Future[Any]":
        """Runs a coroutine in the loop of the application."""

        async def run() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def request(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> "Future[Answer]":
        """
        Sends an HTTP request, as from the page. It begins when each PUT that was sent before is answered.

        Otherwise an editor that opens just after another one has saved could be told what was there before.

        Args:
            method (`str`): The method.
            target (`str`): Path and query, for example `"/api/sessions?name=cat.png"`.
            body (`bytes`): The content.
            headers (`dict[str, str]`, *optional*): Further headers.
        """
        scope = self._scope("http", target, {"content-length": str(len(body))} | (headers or {}))
        return self.do(self._in_order(scope | {"method": method.upper(), "scheme": "http"}, body))

    async def _in_order(self, scope: Scope, body: bytes) -> "Answer":
        before, done = self._written, asyncio.Event()
        if scope["method"] == "PUT":
            self._written = done
        try:
            if before is not None:
                await before.wait()
            return await _answer(self.app, scope, body)
        finally:
            done.set()

    def connect(self, target: str, received: Callable[[bytes], None], closed: Callable[[int, str], None]) -> Channel:
        """
        Opens a websocket.

        Args:
            target (`str`): The path.
            received (`Callable[[bytes], None]`): Called, in the thread of the application, with each message.
            closed (`Callable[[int, str], None]`): Called there with the code and the reason when it has ended.
        """
        channel = Channel(self._loop)

        async def send(message: Message) -> None:
            if message["type"] == "websocket.send":
                content = message.get("bytes")
                received(message["text"].encode() if content is None else content)
            elif message["type"] == "websocket.close":
                closed(message.get("code", 1000), message.get("reason") or "")

        scope = self._scope("websocket", target, {}) | {"scheme": "ws", "subprotocols": []}
        self.do(self.app(scope, channel.incoming.get, send))
        return channel

    def _scope(self, kind: str, target: str, headers: dict[str, str]) -> dict[str, Any]:
        path, _, query = target.partition("?")
        own = {"host": self.host, "origin": f"http://{self.host}"}
        name, _, port = self.host.rpartition(":")
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(key.lower().encode(), value.encode()) for key, value in (headers | own).items()],
            "client": None,
            "server": (name, int(port)),
        }


async def _answer(app: Callable[[Scope, Receive, Send], Awaitable[None]], scope: Scope, body: bytes) -> Answer:
    """What an application answers to a request."""
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    answered = asyncio.Event()
    status, headers, parts = 500, {}, []

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {key.decode().lower(): value.decode("latin-1") for key, value in message["headers"]}
        elif message["type"] == "http.response.body":
            parts.append(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                answered.set()

    await app(scope, receive, send)
    return Answer(status, headers, b"".join(parts))
