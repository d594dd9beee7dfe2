# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""
Makes the screenshot of ComfyUI in the documents: `docs/images/comfyui.png`.

Starts ComfyUI on the CPU with our nodes, runs the example workflow with the embedded model, and shows it in Chromium.
Needs a checkout of ComfyUI in `MCDIFF_COMFYUI`, a Python with its requirements and this package in
`MCDIFF_COMFYUI_PYTHON` (default: this one), playwright and Chromium. Takes two minutes on a CPU.

Usage:
    MCDIFF_COMFYUI=path/of/ComfyUI python docs/comfyui_screenshot.py
"""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright


ROOT = Path(__file__).resolve().parents[1]
NODES = ROOT / "integrations" / "comfyui"
WORKFLOW = NODES / "example_workflows" / "move_a_cat.json"
OUTPUT = ROOT / "docs" / "images" / "comfyui.png"
WINDOW = {"width": 1640, "height": 1240}
# The part of the window that shows the workflow, and where the workflow is moved to.
CLIP = {"x": 70, "y": 85, "width": 1560, "height": 1090}
PLACE_WORKFLOW = "() => { const c = app.canvas; c.ds.scale = 0.92; c.ds.offset = [40, 50]; c.setDirty(true, true); }"
# What lies over the workflow: the map, buttons and numbers of the page.
HIDDEN = "[class*=minimap], .p-buttongroup, .p-dialog-mask { display: none !important }"
COLORS = 256
WAIT_MS = 600_000


@contextlib.contextmanager
def running_comfyui(checkout: str) -> Iterator[str]:
    """The address of ComfyUI with our nodes and the image of the workflow."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("custom_nodes", "input", "models/mcdiff", "user", "output"):
            Path(folder, name).mkdir(parents=True)
        Path(folder, "custom_nodes", "mcdiff").symlink_to(NODES)
        shutil.copy(ROOT / "examples" / "cat.jpg", Path(folder, "input"))
        python = os.environ.get("MCDIFF_COMFYUI_PYTHON", sys.executable)
        options = ["--cpu", "--base-directory", folder, "--port", str(port), "--disable-api-nodes"]
        process = subprocess.Popen([python, "main.py", *options], cwd=checkout)
        try:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_for(port: int, process: subprocess.Popen) -> None:
    """Returns as soon as the server answers."""
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(1)
    raise RuntimeError(f"ComfyUI did not start; it ended with {process.returncode}, see above.")


def run_workflow(page: Page, address: str) -> None:
    """Loads the workflow, runs it, and waits for its end."""
    page.set_default_timeout(WAIT_MS)
    page.goto(address)
    page.wait_for_function("() => window.app && app.graph && app.canvas")
    page.wait_for_timeout(10_000)  # the page loads its own first workflow
    page.add_style_tag(content=HIDDEN)
    page.evaluate("workflow => app.loadGraphData(workflow)", json.loads(WORKFLOW.read_text(encoding="utf-8")))
    page.evaluate("() => app.queuePrompt(0)")
    while not page.evaluate("async () => Object.keys(await (await fetch('/history')).json()).length"):
        page.wait_for_timeout(3000)
    page.evaluate(PLACE_WORKFLOW)
    page.wait_for_timeout(5000)


def main() -> None:
    checkout = os.environ.get("MCDIFF_COMFYUI")
    if checkout is None:
        raise SystemExit("MCDIFF_COMFYUI is not set: name a checkout of ComfyUI.")
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    with running_comfyui(checkout) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(filter(None, found)), args=["--no-sandbox", "--no-proxy-server", "--disable-gpu"]
        )
        page = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
        run_workflow(page, address)
        image = Image.open(io.BytesIO(page.screenshot(clip=CLIP))).convert("RGB")  # type: ignore[arg-type]
        browser.close()
    image = image.quantize(COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    image.save(OUTPUT, optimize=True)
    print(f"{OUTPUT.relative_to(ROOT)}: {OUTPUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
