"""Serves the page's files, the made-up server of the tests and the examples, with the policy of the real server."""

import functools
import http.server
import threading
from pathlib import Path


STATIC = Path(__file__).resolve().parents[3] / "src" / "mcdiff_pipeline" / "studio" / "static"
FAKE = Path(__file__).parent / "fake"
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def translate_path(self, path: str) -> str:
        path = path.split("?")[0].split("#")[0]
        for prefix, folder in (("/fake/", FAKE), ("/examples/", EXAMPLES)):
            if path.startswith(prefix):
                return str(folder / (path.removeprefix(prefix) or "index.html"))
        return str(STATIC / path.lstrip("/"))

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *arguments) -> None:
        pass


def serve() -> tuple[http.server.ThreadingHTTPServer, str]:
    """The running server, and its address without a slash at the end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"
