# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The connection of a page: messages in, messages out, and how it ends."""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from . import protocol
from .refusals import Refused
from .security import Rate, token_fits
from .sessions import Outbox, Session
from .settings import HELLO_SECONDS, MESSAGE_BYTES, MESSAGES_PER_SECOND


if TYPE_CHECKING:
    from .server import Studio


class Closed(Exception):
    """
    The server ends a connection.

    Args:
        code (`int`): The close code.
        word (`str`, *optional*): The code of the message `error` that is sent before.
        why (`str`): A sentence.
    """

    def __init__(self, code: int, word: str | None = None, why: str = ""):
        super().__init__(why)
        self.code, self.word, self.why = code, word, why


class Connection:
    """
    One websocket.

    Args:
        studio (`Studio`): The server.
        socket (`WebSocket`): The socket, not yet accepted.
    """

    def __init__(self, studio: "Studio", socket: WebSocket):
        self.studio, self.socket = studio, socket
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Closed] = self._loop.create_future()
        self._rate = Rate(MESSAGES_PER_SECOND)

    def end(self, code: int, word: str, why: str) -> None:
        """Ends the connection, from any thread."""

        def set_result() -> None:
            if not self._ended.done():
                self._ended.set_result(Closed(code, word, why))

        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(set_result)

    def _end_slow(self) -> None:
        self.end(protocol.CLOSE_RATE, "rate", "The page reads more slowly than it asks.")

    async def run(self, session_id: str) -> None:
        """Serves the page until it goes, or the server ends the connection."""
        await self.socket.accept()
        try:
            await self._run(session_id)
        except Closed as closed:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                if closed.word is not None:
                    header = {"type": "error", "code": closed.word, "why": closed.why}
                    await self.socket.send_bytes(protocol.packed(header))
                await self.socket.close(closed.code, closed.why[:100])
        except (WebSocketDisconnect, RuntimeError):
            pass

    async def _run(self, session_id: str) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = self._read(await self._receive())
        except TimeoutError:
            raise Closed(protocol.CLOSE_NO_HELLO, "protocol", "No hello came in time.") from None
        except Refused as refused:
            raise Closed(protocol.CLOSE_PROTOCOL, "protocol", refused.why) from None
        if not isinstance(hello, protocol.Hello):
            raise Closed(protocol.CLOSE_PROTOCOL, "protocol", "The first message has to be hello.")
        if not token_fits(self.studio.settings, hello.token):
            raise Closed(protocol.CLOSE_TOKEN, "token", "The token is wrong: open the address that was printed.")
        try:
            session = await asyncio.to_thread(self.studio.registry.get, session_id)
        except Refused as refused:
            raise Closed(protocol.CLOSE_NO_SESSION, "expired", refused.why) from None
        await self._serve(session)

    async def _serve(self, session: Session) -> None:
        if session.connection is not None:
            session.connection.end(protocol.CLOSE_REPLACED, "replaced", "The picture was opened in another page.")
        outbox = Outbox(self._loop, self.studio.model.wake, self._end_slow)
        session.connection, session.outbox, session.was_opened = self, outbox, True
        hello = self.studio.hello(session)
        tasks: list[asyncio.Future] = [
            asyncio.create_task(self._send_all(hello, outbox)),
            asyncio.create_task(self._receive_all(session)),
        ]
        try:
            done, _ = await asyncio.wait([*tasks, self._ended], return_when=asyncio.FIRST_COMPLETED)
            if self._ended in done:
                raise self._ended.result()
            for task in done:
                task.result()  # raises what ended it
        finally:
            outbox.close()
            if session.connection is self:
                session.connection = session.outbox = None
                session.seen = time.monotonic()
                self.studio.tasks.stop(session, "disconnected", at_once=False)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_all(self, hello: dict[str, Any], outbox: Outbox) -> None:
        """Sends what waits for the page, after the hello. A render may have sent something while that was made."""
        await self.socket.send_bytes(protocol.packed(hello))
        while True:
            await self.socket.send_bytes(await outbox.get())

    async def _receive_all(self, session: Session) -> None:
        while True:
            if session.outbox is not None:
                await session.outbox.has_room()
            text = await self._receive()
            message = None
            try:
                message = self._read(text)
                await self._take_up(session, message)
            except Refused as refused:
                kind, rev = ("?", None) if message is None else (message.type, getattr(message, "rev", None))
                session.send(refused.header(kind, rev))

    async def _take_up(self, session: Session, message: protocol.ClientMessage) -> None:
        if isinstance(message, protocol.Hello):
            raise Refused("hello came already.", code="protocol")
        if isinstance(message, protocol.Save):
            protocol.check_document(message.document)
            session.set_document(message.document, message.rev)
            try:
                await asyncio.to_thread(session.save)
            except OSError as error:
                why = f"The document cannot be written ({error.strerror}): it is kept in the page until there is room."
                session.send({"type": "error", "code": "disk", "why": why})
                return
            session.send({"type": "saved", "rev": message.rev})
            return
        strokes = getattr(message, "strokes", None)
        if strokes is not None:
            protocol.check_strokes(strokes)
        self.studio.tasks.answer(session, message)

    async def _receive(self) -> str:
        """The next message. Raises `Closed` if it is too large, not text, or comes too early."""
        event = await self.socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1005))
        text = event.get("text")
        if text is None:
            raise Closed(protocol.CLOSE_PROTOCOL, "protocol", "A page sends text.")
        if len(text.encode()) > MESSAGE_BYTES:
            raise Closed(protocol.CLOSE_TOO_LARGE, "protocol", f"A message has more than {MESSAGE_BYTES:,} bytes.")
        if not self._rate.allows():
            raise Closed(protocol.CLOSE_RATE, "rate", f"More than {MESSAGES_PER_SECOND} messages a second came.")
        return text

    @staticmethod
    def _read(text: str) -> protocol.ClientMessage:
        return protocol.read_message(text)
