# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The files of sessions. Each appears complete or not at all, so that a crash loses what was not yet written, only.

```
ID/session.json            document of the page, nodes, name; versioned
ID/picture.png             the picture, upright, RGB
ID/thumbnail.webp
ID/regions/KEY.json        a set of regions; KEY is the hash of its content
ID/nodes/NODE/0004.webp          frame 4, at the size of the node
ID/nodes/NODE/0004.output.webp   the same at output size, if it was asked for
ID/nodes/NODE/0004.safetensors   what frame 5 depends on
```
"""

import hashlib
import json
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..atomic_files import atomic_path
from .protocol import ID_PATTERN, KEY_PATTERN, read_json
from .refusals import Refused


FORMAT, VERSION = "mcdiff studio session", 2
SESSION_JSON = "session.json"

_HEX = "[0-9a-f]"
# The only names that a session has, and that an archive of one may have.
NAMES = re.compile(
    rf"session\.json|picture\.png|thumbnail\.webp|regions/{_HEX}{{16}}\.json|"
    rf"nodes/{_HEX}{{32}}/[0-9]{{4}}\.(webp|output\.webp|safetensors)"
)


class SessionFiles:
    """
    The files of one session.

    Args:
        folder (`Path`): The folder of the session.
        id (`str`, *optional*): Its id; None is the name of the folder.
    """

    def __init__(self, folder: Path, id: str | None = None):
        self.folder, self.id = folder, id or folder.name
        self._lock, self._is_removed = threading.Lock(), False

    def write(self, name: str, content: bytes) -> None:
        """
        Writes a file under one of [`NAMES`], but not after the session is removed: a frame may be on its way.

        Raises:
            OSError: If that is not possible.
        """
        path = self.folder / name
        with self._lock:
            if self._is_removed:
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as unfinished:
                unfinished.write_bytes(content)

    def read(self, name: str) -> bytes:
        """Raises `OSError` if there is no such file."""
        return (self.folder / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def write_regions(self, regions: list[dict[str, Any]]) -> str:
        """Keeps a set of regions, and returns its key."""
        content = json.dumps({"regions": regions}, sort_keys=True, separators=(",", ":")).encode()
        key = hashlib.sha256(content).hexdigest()[:16]
        if not self.has(f"regions/{key}.json"):
            self.write(f"regions/{key}.json", content)
        return key

    def read_regions(self, key: str | None) -> list[dict[str, Any]]:
        """
        The regions of a key; none for None.

        Raises:
            Refused: If they are not there, or damaged.
        """
        if key is None:
            return []
        try:
            if not re.fullmatch(KEY_PATTERN, key):
                raise ValueError("it is not a key")
            regions = read_json(self.read(f"regions/{key}.json"))["regions"]
            if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
                raise ValueError("it is not a list of objects")
            return regions
        except (OSError, ValueError, KeyError, TypeError):
            raise Refused(
                "The regions are no longer there; they have to be sent again.", code="unknown-regions"
            ) from None

    def drop_regions(self, used: set[str], kept: int) -> None:
        """Removes sets of regions that no node uses, except the newest."""
        unused = [path for path in (self.folder / "regions").glob("*.json") if path.stem not in used]
        for path in sorted(unused, key=lambda path: path.stat().st_mtime, reverse=True)[kept:]:
            path.unlink(missing_ok=True)

    @staticmethod
    def frame_name(node: str, frame: int, suffix: str) -> str:
        """The name of a file of a frame; `suffix` is "webp", "output.webp" or "safetensors"."""
        return f"nodes/{node}/{frame:04d}.{suffix}"

    def count_frames(self, node: str, at: int) -> int:
        """How many frames after `at` are complete: a frame is its picture and its state."""
        frame = at + 1
        while all(self.has(self.frame_name(node, frame, suffix)) for suffix in ("webp", "safetensors")):
            frame += 1
        return frame - 1 - at

    def remove_node(self, node: str) -> None:
        shutil.rmtree(self.folder / "nodes" / node, ignore_errors=True)

    def remove(self) -> None:
        """Removes the session. It disappears from lists at once."""
        with self._lock:
            self._is_removed = True
            (self.folder / SESSION_JSON).unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def remove_unfinished(self) -> None:
        """Removes what a crash left behind."""
        for path in [*self.folder.rglob(".*.unfinished*")]:
            path.unlink(missing_ok=True)

    def read_session(self) -> dict[str, Any]:
        """
        The content of `session.json`.

        Raises:
            Refused: If there is no such session, it is damaged, or of a newer version.
        """
        try:
            content = read_json(self.read(SESSION_JSON))
            if content["format"] != FORMAT:
                raise ValueError("it is not of this format")
            version = int(content["version"])
        except FileNotFoundError:
            raise Refused("This picture is no longer there: open it again.", code="session", status=404) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(f"The session cannot be read: its session.json is damaged ({error}).", status=409) from None
        if version > VERSION:
            raise Refused(
                f"The session was written by a newer program (version {version}); this one reads up to {VERSION}: "
                "update it.",
                status=409,
            )
        return content

    def write_session(self, content: dict[str, Any]) -> None:
        header = {"format": FORMAT, "version": VERSION, "id": self.id}
        self.write(SESSION_JSON, json.dumps(content | header, separators=(",", ":"), allow_nan=False).encode())

    def names(self) -> Iterator[str]:
        """The names of all files."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if NAMES.fullmatch(name) and path.is_file():
                yield name


# Names of folders that are used while a file is sent or received, and while a session is unpacked.
TEMPORARY = ".mcdiff-studio-temporary-"
UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.unfinished")


class Store:
    """
    A folder of sessions.

    Args:
        folder (`Path`): It is made if it does not exist.

    Raises:
        OSError: If it cannot be made.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():  # what a crash left behind; other files of the folder are the user's
            if path.name.startswith(TEMPORARY) or UNFINISHED.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def new(self) -> SessionFiles:
        """Files of a session that does not exist yet. Its folder appears with the first file."""
        return SessionFiles(self.folder / secrets.token_hex(16))

    def files(self, session: str) -> SessionFiles:
        """The files of a session, whether it exists or not."""
        if not re.fullmatch(ID_PATTERN, session):
            raise Refused("This picture is no longer there: open it again.", code="session", status=404)
        return SessionFiles(self.folder / session)

    def list(self) -> list[dict[str, Any]]:
        """What the page shows of each session, the one changed last first."""
        found = []
        for path in self.folder.glob(f"*/{SESSION_JSON}"):
            files = SessionFiles(path.parent)
            if not re.fullmatch(ID_PATTERN, path.parent.name):
                continue
            try:
                content = files.read_session()
                found.append(
                    {
                        "id": path.parent.name,
                        "name": str(content["name"]),
                        "width": int(content["picture"]["width"]),
                        "height": int(content["picture"]["height"]),
                        "created": float(content["created"]),
                        "changed": float(content["changed"]),
                        "nodes": len(content["nodes"]),
                        "frames": sum(files.count_frames(str(one["id"]), int(one["at"])) for one in content["nodes"]),
                    }
                )
            except (Refused, KeyError, TypeError, ValueError, OSError):
                continue  # one damaged session does not hide the others
        return sorted(found, key=lambda one: one["changed"], reverse=True)


def now() -> float:
    """Unix seconds, rounded to milliseconds."""
    return round(time.time(), 3)
