"""Serves the page of the studio with the made-up server of its tests, under the policy of the real server."""

import http.server
import io
import threading
import time
from pathlib import Path

from mcdiff_pipeline.studio.page_files import PageFiles


ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "src" / "mcdiff_pipeline" / "studio" / "static"
FAKE = ROOT / "tests" / "studio" / "browser" / "fake"
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}
    files = PageFiles()

    def send_head(self):
        """Scripts and styles of the page as the real server sends them."""
        path = Path(self.translate_path(self.path))
        if path.suffix not in (".js", ".css") or not path.is_relative_to(STATIC) or not path.is_file():
            return super().send_head()
        file = self.files.read(path)
        self.send_response(200)
        self.send_header("Content-Type", file.media_type)
        self.send_header("Content-Length", str(len(file.content)))
        self.end_headers()
        return io.BytesIO(file.content)

    def translate_path(self, path: str) -> str:
        path = path.split("?")[0].split("#")[0]
        for prefix, folder in (("/fake/", FAKE), ("/examples/", ROOT / "examples")):
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
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


class Screen:
    """The editor in a browser, with the made-up server.

    Args:
        browser: The browser of playwright.
        address (`str`): Where the page is served.
        size (`tuple[int, int]`): Width and height of the window in CSS pixels.
        picture (`tuple[int, int]`): Width and height of the picture.
        options: Further options of the browser's context, such as `device_scale_factor`.
    """

    def __init__(self, browser, address, size=(1280, 800), picture=(640, 480), page="/fake/", query="", **options):
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce", **options
        )
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.allowed: set[str] = set()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{address}{page}?width={picture[0]}&height={picture[1]}{query}")
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("body[data-ready] .stage")
        self.until("window.editor?.state.connection === 'open' && editor.view.stage.width > 1")

    def run(self, script: str):
        return self.page.evaluate(script)

    def until(self, condition: str) -> None:
        """Waits for a condition. `wait_for_function` would evaluate it in the page, whose policy forbids that."""
        deadline = time.monotonic() + 30
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"{condition} is still not true; the page says: {self.status}"
            self.page.wait_for_timeout(20)

    def until_it_says(self, text: str) -> None:
        """Waits until the page says something that contains `text`. It does so with the next picture on the screen."""
        deadline = time.monotonic() + 30
        while text not in self.status:
            assert time.monotonic() < deadline, f"the page does not say {text!r}, but {self.status!r}"
            self.page.wait_for_timeout(20)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the picture is in the window."""
        left, top = self.run(f"editor.view.toStage([{x}, {y}])")
        box = self.page.locator(".stage").bounding_box()
        return box["x"] + left, box["y"] + top

    def drag(self, *points: tuple[float, float], steps: int = 4) -> None:
        """Drags the mouse along points of the picture."""
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=steps)
        self.page.mouse.up()

    def click(self, x: float, y: float, **options) -> None:
        self.page.mouse.click(*self.at(x, y), **options)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def strokes(self) -> list[dict]:
        return self.run("editor.document.strokes")

    @property
    def regions(self) -> list[dict]:
        return self.run("editor.document.regions")

    def sent(self, kind: str) -> list[dict]:
        return self.run(f"transport.sent.filter((message) => message.type === '{kind}')")

    @property
    def status(self) -> str:
        return self.page.locator(".status-text").inner_text()
