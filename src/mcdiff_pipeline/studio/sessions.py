# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Sessions that are open: a picture, the document of its page, and its tree of renders.

A session is used by the event loop and by the thread of the model. Its `lock` is held for short changes only, never
while something is computed or written.
"""

import asyncio
import collections
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from .earlier_sessions import upgraded
from .protocol import packed
from .refusals import Refused, first_line
from .settings import (
    LARGEST_OUTBOX,
    NAME_LENGTH,
    OUTBOX,
    PATIENT_OUTBOX,
    SESSION_SECONDS,
    UNOPENED_SECONDS,
    StudioSettings,
)
from .store import SessionFiles, Store, now
from .tree import Node, check_tree, subtree_of


# Sets of regions that no node uses and that are kept all the same: a page sends one whenever it changes them.
KEPT_REGIONS = 8


class Outbox:
    """
    Messages that wait for a client. Any thread may put, the event loop gets.

    Args:
        loop (`asyncio.AbstractEventLoop`): The loop of the reader.
        emptied (`Callable[[], None]`): Called, in the loop, when the box is no longer full.
        overflowed (`Callable[[], None]`): Called, in any thread, when the client reads too slowly to be kept.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, emptied: Callable[[], None], overflowed: Callable[[], None]):
        self._loop, self._emptied, self._overflowed = loop, emptied, overflowed
        self._messages: collections.deque[bytes] = collections.deque()
        self._arrived, self._read = asyncio.Event(), asyncio.Event()
        self._lock = threading.Lock()
        self.is_closed = False

    def put(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Adds a message. One for a client that is gone is dropped."""
        with self._lock:
            if self.is_closed:
                return
            is_lost = len(self._messages) >= LARGEST_OUTBOX
            if not is_lost:
                self._messages.append(packed(header, payload))
        if is_lost:
            self._overflowed()
            return
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the loop has ended
            self.is_closed = True

    @property
    def is_full(self) -> bool:
        return not self.is_closed and len(self._messages) >= OUTBOX

    def __len__(self) -> int:
        return len(self._messages)

    async def get(self) -> bytes:
        """The next message, as soon as there is one."""
        while True:
            with self._lock:
                if self._messages:
                    was_full = len(self._messages) >= OUTBOX
                    message = self._messages.popleft()
                    break
                self._arrived.clear()
            await self._arrived.wait()
        self._read.set()
        if was_full:
            self._emptied()
        return message

    async def has_room(self) -> None:
        """Waits until the client has read enough to be answered again."""
        while len(self._messages) >= PATIENT_OUTBOX and not self.is_closed:
            self._read.clear()
            await self._read.wait()

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            self._messages.clear()
        self._emptied()


def plain_name(name: object) -> str:
    """A name of a session without control characters, as long as a name may be."""
    text = str(name).encode("utf-8", "replace").decode()
    return "".join(one for one in text if one.isprintable()).strip()[:NAME_LENGTH] or "picture"


class Ending(Protocol):
    """A connection that can be ended from any thread."""

    def end(self, code: int, word: str, why: str) -> None: ...


class Session:
    """
    One open picture.

    Args:
        files (`SessionFiles`): Its files.
        name (`str`): What the user calls it.
        size (`tuple[int, int]`): (width, height) of the picture in pixels.
        sheet (`dict`, *optional*): Strokes and regions that it came with, until the page stores a document.
        settings (`dict`, *optional*): Settings of the clip that it was opened from.
    """

    def __init__(
        self,
        files: SessionFiles,
        name: str,
        size: tuple[int, int],
        sheet: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ):
        self.files, self.name, self.size, self.sheet, self.settings = files, name, size, sheet, settings
        self.id = files.folder.name
        self.lock = threading.RLock()
        self._writing = threading.Lock()
        self.created = self.changed = now()
        self.document: dict[str, Any] | None = None
        self.document_rev = 0
        self.nodes: dict[str, Node] = {}
        self.outbox: Outbox | None = None
        self.connection: Ending | None = None
        self.is_removed = False
        self.was_opened = False
        self.seen = time.monotonic()

    @classmethod
    def load(cls, files: SessionFiles) -> "Session":
        """
        A session from its files. Frames are counted; what was being rendered is stopped.

        Raises:
            Refused: If there is no such session, or it is damaged.
        """
        content = files.read_session()
        try:
            content = upgraded(files, content)
            size = int(content["picture"]["width"]), int(content["picture"]["height"])
            session = cls(files, plain_name(content["name"]), size, content["sheet"], content["settings"])
            session.created, session.changed = float(content["created"]), float(content["changed"])
            session.document, session.document_rev = content["document"], int(content["document_rev"])
            nodes = [Node.from_dict(one) for one in content["nodes"]]
            session.nodes = {node.id: node for node in nodes}
            check_tree(session.nodes)
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            raise Refused(
                f"The session cannot be read: its session.json is damaged ({first_line(error)}).", status=409
            ) from None
        files.remove_unfinished()
        for node in nodes:
            node.set_frames(files.count_frames(node.id, node.at))
        return session

    def to_dict(self) -> dict[str, Any]:
        """What `session.json` holds, without its header."""
        with self.lock:
            return {
                "name": self.name,
                "picture": {"width": self.size[0], "height": self.size[1]},
                "created": self.created,
                "changed": self.changed,
                "sheet": self.sheet,
                "settings": self.settings,
                "document_rev": self.document_rev,
                "document": self.document,
                "nodes": [node.to_dict() for node in self.nodes.values()],
            }

    def shown(self, fingerprint: str | None) -> dict[str, Any]:
        """The session as the protocol describes it; `fingerprint` is that of the model that is loaded."""
        with self.lock:
            nodes = [self.shown_node(node, fingerprint) for node in self.nodes.values()]
            return {"id": self.id} | self.to_dict() | {"nodes": nodes}

    @staticmethod
    def shown_node(node: Node, fingerprint: str | None) -> dict[str, Any]:
        """NODE of the protocol."""
        return node.to_dict() | {"continuable": fingerprint is None or node.model == fingerprint}

    def save(self) -> None:
        """
        Writes `session.json`, in the order of the changes.

        Raises:
            OSError: If that is not possible, for example since the disk is full.
        """
        with self._writing:
            with self.lock:
                self.changed = now()
                content = self.to_dict()
                used = {node.regions for node in self.nodes.values() if node.regions is not None}
            if not self.is_removed:
                self.files.write_session(content)
                self.files.drop_regions(used, KEPT_REGIONS)

    def keep_regions(self, regions: list[dict[str, Any]]) -> str:
        """
        Keeps a set of regions, and drops old ones that no node uses. Returns its key.

        Raises:
            OSError: If it cannot be written.
        """
        with self._writing:
            key = self.files.write_regions(regions)
            with self.lock:
                used = {node.regions for node in self.nodes.values() if node.regions is not None}
            self.files.drop_regions(used | {key}, KEPT_REGIONS)
            return key

    def set_document(self, document: dict[str, Any], rev: int) -> None:
        """
        Keeps the document of the page.

        Raises:
            Refused: If a newer one is kept.
        """
        with self.lock:
            if rev < self.document_rev:
                raise Refused(
                    f"The document has the revision {rev}, but {self.document_rev} is stored: another page changed "
                    "it; load it again.",
                    code="conflict",
                    status=409,
                )
            self.document, self.document_rev, self.sheet = document, rev, None

    def remove_node(self, node: Node) -> list[str]:
        """Removes a node and all that continue it; returns their ids."""
        with self.lock:
            removed = [one.id for one in subtree_of(self.nodes, node)]
            for one in removed:
                del self.nodes[one]
        self.save()
        for one in removed:
            self.files.remove_node(one)
        return removed

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Sends a message to the page, if one is connected. Any thread may send."""
        outbox = self.outbox
        if outbox is not None:
            outbox.put(header, payload)

    def send_tree(self, fingerprint: str | None) -> None:
        """Sends all nodes."""
        self.send({"type": "tree", "nodes": self.shown(fingerprint)["nodes"]})


class Registry:
    """
    The sessions that are open, within the bounds of the server.

    Args:
        settings (`StudioSettings`): The options of the server.
        is_busy (`Callable[[Session], bool]`): Whether work for a session is under way, so that it stays open.
        forget (`Callable[[Session], None]`): Called when a session is closed, to drop what is computed for it.
    """

    def __init__(
        self, settings: StudioSettings, is_busy: Callable[[Session], bool], forget: Callable[[Session], None]
    ):
        self.settings, self._is_busy, self._forget = settings, is_busy, forget
        self.store = Store(settings.folder)
        self._open: dict[str, Session] = {}
        self._lock = threading.RLock()

    def add(self, session: Session) -> None:
        """Opens a new session. Raises `Refused` if all places are taken."""
        with self._lock:
            self._make_room()
            self._open[session.id] = session

    def get(self, session_id: str) -> Session:
        """
        A session, opened from its files if it is not open.

        Raises:
            Refused: If there is none of this id, it is damaged, or all places are taken.
        """
        with self._lock:
            session = self._open.get(session_id)
            if session is None:
                session = Session.load(self.store.files(session_id))
                self._make_room()
                self._open[session_id] = session
            session.seen = time.monotonic()
            return session

    def all(self) -> list[Session]:
        with self._lock:
            return list(self._open.values())

    def remove(self, session: Session) -> None:
        """Closes a session and removes its files."""
        with self._lock:
            self._open.pop(session.id, None)
            session.is_removed = True
        self._forget(session)
        session.files.remove()

    def sweep(self) -> list[Session]:
        """Closes the sessions that nobody has used for long; with `shared`, their files are removed. Returns them."""
        gone = []
        with self._lock:
            for session in self.all():
                allowed = SESSION_SECONDS if session.was_opened or not self.settings.shared else UNOPENED_SECONDS
                if self._is_idle(session) and time.monotonic() - session.seen > allowed:
                    gone.append(session)
                    self._close(session)
        return gone

    def _is_idle(self, session: Session) -> bool:
        return session.connection is None and not self._is_busy(session)

    def _close(self, session: Session) -> None:
        if self.settings.shared:
            self.remove(session)
        else:
            self._open.pop(session.id, None)
            self._forget(session)

    def _make_room(self) -> None:
        """Closes the session that was used least recently if all places are taken, or refuses."""
        if len(self._open) < self.settings.bounds.sessions:
            return
        self.sweep()
        idle = [session for session in self._open.values() if self._is_idle(session)]
        if len(self._open) >= self.settings.bounds.sessions and idle and not self.settings.shared:
            self._close(min(idle, key=lambda session: session.seen))
        if len(self._open) >= self.settings.bounds.sessions:
            raise Refused(
                f"{len(self._open)} pictures are open, as many as this server allows: close one, or try again later.",
                code="busy",
                status=503,
            )
