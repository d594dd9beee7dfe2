"""A notebook made of a page: it loads a widget's module as anywidget does, and talks to the widget over HTTP."""

import contextlib
import http.server
import json
import queue
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comm
from comm.base_comm import BaseComm


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A notebook</title>
<style>button { color: red; font-size: 40px }</style></head>
<body data-jp-theme-light="true"><p>A cell</p><div id="output"></div>
<script type="module" src="/model.js"></script></body></html>
"""

MODEL = (Path(__file__).parents[1] / "studio" / "browser" / "fake" / "notebook.js").read_text()


class Comm(BaseComm):
    """The channel of a widget, which keeps what it says."""

    def __init__(self, *arguments: Any, **options: Any):
        self.said: queue.Queue[tuple[dict[str, Any], list[bytes]]] = queue.Queue()
        super().__init__(*arguments, **options)

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        if msg_type == "comm_msg":
            self.said.put((data, [bytes(one) for one in buffers or []]))


@contextlib.contextmanager
def comms() -> Iterator[None]:
    """Widgets that are made within the block talk to a page."""
    before, comm.create_comm = comm.create_comm, Comm
    try:
        yield
    finally:
        comm.create_comm = before


def packed(data: Any, buffers: list[bytes]) -> bytes:
    header = json.dumps({"data": data, "sizes": [len(one) for one in buffers]}).encode()
    return struct.pack("<I", len(header)) + header + b"".join(buffers)


def unpacked(content: bytes) -> tuple[Any, list[bytes]]:
    (length,) = struct.unpack_from("<I", content)
    header, at, buffers = json.loads(content[4 : 4 + length]), 4 + length, []
    for size in header["sizes"]:
        buffers.append(content[at : at + size])
        at += size
    return header["data"], buffers


class Handler(http.server.BaseHTTPRequestHandler):
    widget: Any

    def do_GET(self) -> None:
        widget, path = self.widget, self.path.split("?")[0]
        if path == "/receive":
            data, buffers = widget.comm.said.get()
            return self.answer("application/octet-stream", packed(data, buffers))
        state = {name: getattr(widget, name) for name in ("session", "height", "drawn", "shown", "made")}
        files = {
            "/": ("text/html", PAGE),
            "/model.js": ("text/javascript", MODEL),
            "/widget.js": ("text/plain", widget._esm),
            "/state": ("application/json", json.dumps(state)),
            "/favicon.ico": ("image/png", ""),
        }
        kind, content = files[path]
        return self.answer(kind, content.encode())

    def do_POST(self) -> None:
        data, buffers = unpacked(self.rfile.read(int(self.headers["content-length"])))
        message = {"content": {"comm_id": self.widget.comm.comm_id, "data": data}, "buffers": buffers}
        self.widget.comm.handle_msg(message)
        self.answer("text/plain", b"")

    def answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content)

    def log_message(self, *arguments) -> None:
        pass


@contextlib.contextmanager
def notebook(widget: Any) -> Iterator[str]:
    """The address of a page that shows a widget which was made within [`comms`]."""
    handler = type("Handler", (Handler,), {"widget": widget})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        widget.comm.said.put(({"method": "end"}, []))
        server.shutdown()
