# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What Studio costs beside its model: flow, streamed frames, branches, files, memory.

    python benchmarks/studio.py                 # the embedded model
    python benchmarks/studio.py --tiny          # its shape with random weights
    python benchmarks/studio.py --size 256

A server runs in this process, and a client talks to it through a websocket. The two sides of a comparison take turns,
and the ratio is the median of the ratios of the turns, which other programs disturb least. What a browser receives and
paints is measured in Chromium, if it and Playwright are installed.
"""

import argparse
import contextlib
import itertools
import json
import random
import secrets
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import uvicorn
from pipeline_overhead import REPOSITORY, describe_machine, load_pipeline
from process_times import resident_bytes
from websockets.sync.client import ClientConnection, connect

from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.processor import available_cores
from mcdiff_pipeline.studio.app import create_app
from mcdiff_pipeline.studio.engine import Engine
from mcdiff_pipeline.studio.protocol import unpacked
from mcdiff_pipeline.studio.server import Studio
from mcdiff_pipeline.studio.settings import StudioSettings
from mcdiff_pipeline.studio.sheets import make_sheet


# What is measured, and what the ratio may be.
LIMITS = {
    "flow on the server / `predict_flow` alone": 1.15,
    "flow painted in the browser / on the server": 1.3,
    "flow while another renders / a frame": 0.9,
    "streamed / bare time of a frame": 1.05,
    "frames after cancel": 1,
    "first frame of a branch / a frame": 1.15,
    "files of a frame / its latents, 2 flows and WebP": 1.3,
    "memory after 20 sessions / after 4": 1.1,
    "own JavaScript and CSS as the browser receives it, compressed, in kB": 200,
}
TOKEN = secrets.token_hex(16)

# Notes for each request of flow, in ms: from sending it to the picture on the screen; how much of that the page waited
# for the next refresh of the screen, which is 60 times a second, so 8 ms on average, and no work of anybody; the time
# on the server. The flow is painted in an animation frame; a timer that is set there runs after it is shown.
WATCH_FLOW = """
const [sent, { send }] = [new Map(), WebSocket.prototype];
const { drawImage } = CanvasRenderingContext2D.prototype;
const { get, set } = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
let [arrived, waits] = [null, () => {}];
window.painted = [];
// without polling, which would take time of both sides
window.untilPainted = (count) => new Promise((resolve) => {
  waits = () => window.painted.length >= count && resolve();
  waits();
});
WebSocket.prototype.send = function (text) {
  const { type, rev } = JSON.parse(text);
  if (type === "flow") sent.set(rev, performance.now());
  send.call(this, text);
};
Object.defineProperty(WebSocket.prototype, "onmessage", { get, set(handler) {
  set.call(this, (event) => {
    const length = new DataView(event.data).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(event.data, 4, length)));
    if (header.type === "flow") arrived = header;
    handler(event);
    if (header.type === "flow") header.handled = performance.now();
  });
} });
CanvasRenderingContext2D.prototype.drawImage = function (image, ...rest) {
  drawImage.call(this, image, ...rest);
  if (!arrived || !(image instanceof OffscreenCanvas)) return;
  const { rev, ms, handled } = arrived;
  const waited = Math.max(0, document.timeline.currentTime - handled); // until the animation frame began
  arrived = null;
  setTimeout(() => {
    window.painted.push([performance.now() - sent.get(rev), waited, ms]);
    waits();
  });
};
"""
RECEIVED = """() => performance.getEntriesByType("resource")
  .filter(({ name }) => /\\.(js|css)$/.test(name) && !name.includes("/vendor/"))
  .reduce(([plain, sent], entry) => [plain + entry.decodedBodySize, sent + entry.encodedBodySize], [0, 0])"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(REPOSITORY / "checkpoints/mcdiff-small-128"), help="Folder of a model.")
    parser.add_argument(
        "--tiny", action="store_true", help="Random weights in the shape of training/configs/small-128."
    )
    parser.add_argument("--image", type=Path, default=REPOSITORY / "examples/cat.jpg")
    parser.add_argument("--size", type=int, default=128, help="Shorter side of the working size in pixels.")
    parser.add_argument("--cpu_time", action="store_true", help="Compare frames by CPU time, on a busy machine.")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, help="Threads of torch (default: the cores it may use).")
    return parser.parse_args()


class Page:
    """
    A client with one session.

    Args:
        studio: The server.
        address: Its host and port.
        content: The picture, as the bytes of its file.
    """

    def __init__(self, studio: Studio, address: str, content: bytes):
        import httpx

        self.headers = {"origin": f"http://{address}", "x-mcdiff-token": TOKEN}
        self.client = httpx.Client(base_url=f"http://{address}", headers=self.headers, timeout=600)
        response = self.client.post("/api/sessions", content=content)
        response.raise_for_status()
        self.id, picture = response.json()["id"], response.json()["picture"]
        self.session = studio.registry.get(self.id)
        width, height = picture["width"], picture["height"]
        self.strokes: list[dict[str, Any]] = [
            {"kind": "move", "points": [[share * width, 0.5 * height], [(share + 0.1) * width, 0.4 * height]]}
            for share in (0.2, 0.4, 0.6, 0.8)
        ]
        self.strokes.append({"kind": "hold", "points": [[0.5 * width, 0.9 * height]]})
        url = f"ws://{address}/api/sessions/{self.id}/live"
        self.stack = contextlib.ExitStack()
        origin: Any = self.headers["origin"]
        opened = connect(url, origin=origin, max_size=None, compression=None)
        self.socket: ClientConnection = self.stack.enter_context(opened)
        self.send("hello", token=TOKEN)
        self.until("hello")

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind} | fields))

    def until(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these types, with the time at which it came."""
        while True:
            message = self.socket.recv()
            assert isinstance(message, bytes)
            header = unpacked(message)[0]
            if header["type"] in ("refused", "error", "failed") and header["type"] not in kinds:
                sys.exit(f"The server says: {header['why']}")
            if header["type"] in kinds:
                return header | {"received": time.perf_counter(), "cpu": time.process_time()}

    def render(self, num_frames: int, size: int, **fields: Any) -> str:
        """Asks for a node; returns its id."""
        node = secrets.token_hex(16)
        settings = None if fields.get("parent") else {"size": size}
        self.send("render", rev=0, node=node, strokes=self.strokes, num_frames=num_frames, settings=settings, **fields)
        return node

    def flow(self, **fields: Any) -> tuple[float, float]:
        """Asks for flow; returns its seconds on the server and at the client."""
        begin = time.perf_counter()
        self.send("flow", rev=0, strokes=self.strokes, num_frames=16, **fields)
        header = self.until("flow")
        return header["ms"] / 1e3, header["received"] - begin

    def close(self) -> None:
        self.stack.close()
        self.client.close()


class Bench:
    """The measurements, each with its own sessions."""

    def __init__(self, studio: Studio, address: str, args: argparse.Namespace):
        self.studio, self.address, self.args = studio, address, args
        self.content = args.image.read_bytes()
        # of this process, which the client is part of: while it waits, it needs none
        self.clock = time.process_time if args.cpu_time else time.perf_counter
        self.received = "cpu" if args.cpu_time else "received"
        engine = studio.model.engine
        assert engine is not None
        self.engine: Engine = engine
        self.pipe: MCDiffPipeline = engine.pipe

    def page(self) -> Page:
        return Page(self.studio, self.address, self.content)

    def flow(self) -> float:
        """The ratio of flow on the server to F's caller alone."""
        page = self.page()
        node = page.render(3, self.args.size)
        page.until("done")
        state = self.engine.state(page.session, page.session.nodes[node], 0)
        sheet = make_sheet(page.strokes, page.session.size, 16)
        server, client, alone = [], [], []
        for index in range(self.args.repetitions + 2):
            page.strokes[0]["points"][1][0] += 0.5  # the pen moves
            on_server, at_client = page.flow(node=node, frame=0)
            begin = time.perf_counter()
            self.pipe.predict_flow(state, sheet, num_frames=16)
            if index >= 2:
                server.append(on_server)
                client.append(at_client)
                alone.append(time.perf_counter() - begin)
        page.close()
        print(f"flow: alone {1e3 * median(alone):.1f} ms, on the server {1e3 * median(server):.1f} ms", end=", ")
        print(f"at the client {1e3 * median(client):.1f} ms")
        return median_ratio(server, alone)

    def in_browser(self) -> tuple[float | None, float | None]:
        """
        The ratio of the time until flow is painted, without the wait for the screen, to that on the server, and the kB
        of own code as it is sent; None without a browser.
        """
        names = ("chromium", "chromium-browser", "google-chrome")
        browser_path = next(filter(None, map(shutil.which, names)), None)
        try:
            from playwright.sync_api import sync_playwright
        except ImportError:
            browser_path = None
        if browser_path is None:
            print("browser: not measured, since it needs Chromium and the package playwright")
            return None, None
        own = self.page()
        with sync_playwright() as playwright:
            arguments = ["--no-sandbox", "--no-proxy-server"]
            browser = playwright.chromium.launch(executable_path=browser_path, args=arguments)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(600_000)
            page.add_init_script(WATCH_FLOW)
            page.goto(f"http://{self.address}/#token={TOKEN}&session={own.id}")
            stage = page.locator(".stage")
            box = stage.bounding_box()
            assert box is not None
            x, y = box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"]
            page.mouse.move(x, y)
            page.mouse.down()
            for index in range(self.args.repetitions + 2):
                page.mouse.move(x + 40 + 3 * index, y - 2 * index)
                page.evaluate("(count) => window.untilPainted(count)", index + 1)
            page.mouse.up()
            shown, waited, server = zip(*page.evaluate("window.painted")[2:], strict=True)
            plain, compressed = page.evaluate(RECEIVED)
            browser.close()
        own.close()
        painted = [a - b for a, b in zip(shown, waited, strict=True)]
        print(
            f"browser: flow on the screen after {median(shown):.0f} ms, of which the server {median(server):.0f} ms",
            f"and {median(waited):.0f} ms of waiting for the screen;",
            end=" ",
        )
        print(f"code {plain / 1e3:.0f} kB, sent as {compressed / 1e3:.0f} kB")
        return median_ratio(painted, server), compressed / 1e3

    def bare_frame(self, page: Page, node: str, num_frames: int) -> list[float]:
        """Seconds of frames of the pipeline alone, with the settings of a node."""
        settings = page.session.nodes[node].settings
        sheet = make_sheet(page.strokes, page.session.size, num_frames)
        begin, seconds = self.clock(), []
        stream = self.pipe.stream(
            self.engine.state(page.session, page.session.nodes[node], 0),
            sheet,
            num_frames=num_frames,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
        )
        for _ in stream:
            end = self.clock()
            seconds.append(end - begin)
            begin = end
        return seconds[1:]

    def streaming(self) -> tuple[float, float, float]:
        """Ratios of streamed to bare frames, of the first frame of a branch to one, and of the files of a frame."""
        page = self.page()
        streamed, bare, first, sizes = [], [], [], []
        length = 6
        for turn in range(max(self.args.repetitions // 2, 2)):
            node = page.render(length, self.args.size)
            times = [page.until("frame")[self.received] for _ in range(length - 1)]
            page.until("done")
            begin = self.clock()
            branch = page.render(length, self.args.size, parent=node, at=2)
            start = page.until("frame")[self.received] - begin
            page.until("done")
            more = self.bare_frame(page, node, length)
            if turn:
                streamed.append(median([later - earlier for earlier, later in itertools.pairwise(times)]))
                first.append(start)
                bare.append(median(more))
            sizes += list(self.sizes(page, node))
            page.client.delete(f"/api/sessions/{page.id}/nodes/{node}").raise_for_status()
            assert branch not in page.session.nodes
        page.close()
        print(f"frame: bare {median(bare):.3f} s, streamed {median(streamed):.3f} s, first of a branch", end=" ")
        print(f"{median(first):.3f} s")
        return median_ratio(streamed, bare), median_ratio(first, streamed), median(sizes)

    def sizes(self, page: Page, node: str) -> Iterator[float]:
        """The bytes of the files of a frame, over those of its latents, two flows and the WebP."""
        state = self.engine.state(page.session, page.session.nodes[node], 0)
        least = state.latents.nbytes + 2 * state.accumulated_flow.nbytes
        for path in (page.session.files.folder / "nodes" / node).glob("*.safetensors"):
            webp = path.with_suffix(".webp").stat().st_size
            yield (path.stat().st_size + webp) / (least + webp)

    def beside_another(self) -> float:
        """The ratio of the time of flow to that of a frame, while another page renders."""
        other, page = self.page(), self.page()
        other.render(self.engine.settings.bounds.frames, self.args.size)
        times, waits, chance = [other.until("frame")["received"]], [], random.Random(0)
        while len(waits) < self.args.repetitions:
            times.append(other.until("frame")["received"])
            time.sleep(chance.random() * (times[-1] - times[-2]))
            waits.append(page.flow(size=self.args.size)[1])
        other.send("cancel")
        other.until("stopped")
        frames = [later - earlier for earlier, later in itertools.pairwise(times)]
        print(f"beside another: flow {median(waits):.3f} s (most {max(waits):.3f} s), a frame {median(frames):.3f} s")
        for one in (other, page):
            one.close()
        return median(waits) / median(frames)

    def after_cancel(self) -> float:
        """The most frames that come after a render was canceled."""
        page, most = self.page(), 0
        for _ in range(self.args.repetitions // 2):
            node = page.render(50, self.args.size)
            page.until("frame")
            page.send("cancel")
            count = 0
            while page.until("frame", "stopped")["type"] == "frame":
                count += 1
            most = max(most, count)
            page.client.delete(f"/api/sessions/{page.id}/nodes/{node}").raise_for_status()
        page.close()
        return most

    def memory(self) -> float:
        """The ratio of memory after 20 sessions to that after 4."""
        found = []
        for _ in range(20):
            page = self.page()
            page.render(3, self.args.size)
            page.until("done")
            page.close()
            found.append(resident_bytes() / 1e6)
        print(f"memory: after 4 sessions {found[3]:.0f} MB, after 20 {found[19]:.0f} MB")
        return found[19] / found[3]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    return median([value / other for value, other in zip(values, others, strict=True)])


def report(ratios: dict[str, float | None]) -> None:
    print("\n| what | measured | at most | |\n|---|---|---|---|")
    for name, value in ratios.items():
        if value is None:
            print(f"| {name} | - | {LIMITS[name]} | not measured |")
            continue
        shown = f"{value:.2f}" if value < 10 else f"{value:.0f}"
        print(f"| {name} | {shown} | {LIMITS[name]} | {'holds' if value <= LIMITS[name] else 'DOES NOT HOLD'} |")


def main() -> None:
    args = parse_args()
    args.threads = args.threads or available_cores()
    torch.set_num_threads(args.threads)
    pipe = load_pipeline(args)
    with tempfile.TemporaryDirectory() as folder:
        config = uvicorn.Config(None, port=0, log_level="warning", ws="websockets-sansio")  # type: ignore[arg-type]
        listener = config.bind_socket()
        port = listener.getsockname()[1]
        settings = StudioSettings(folder=Path(folder), port=port, token=TOKEN)
        app = create_app(settings, lambda: Engine(pipe, "benchmark", settings))
        app.state.studio.may_load.set()
        config.app = app
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while app.state.studio.model.engine is None:
            time.sleep(0.05)
        bench = Bench(app.state.studio, f"127.0.0.1:{port}", args)
        print(f"{describe_machine(args.device)}; {args.size} pixels, {args.repetitions} repetitions")
        names = list(LIMITS)
        flow = bench.flow()
        painted, code = bench.in_browser()
        streamed, branch, files = bench.streaming()
        beside, canceled = bench.beside_another(), bench.after_cancel()
        values = (flow, painted, beside, streamed, canceled, branch, files, bench.memory(), code)
        report(dict(zip(names, values, strict=True)))
        server.should_exit = True
        thread.join(15)


if __name__ == "__main__":
    main()
