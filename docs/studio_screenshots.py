# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""
Makes the screenshots of Studio in the documents: `docs/images/studio-*.png`.

Starts `mcdiff studio` with the embedded model, and renders an example in Chromium. Needs the extras `studio` and
`dev`, and Chromium. With `--notebook` it opens `examples/draw_in_a_notebook.ipynb` in JupyterLab instead, which has to
be installed, with the extra `notebook`. Each takes a minute on a CPU.

Usage:
    python docs/studio_screenshots.py
    python docs/studio_screenshots.py --notebook
"""

import argparse
import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright


ROOT = Path(__file__).resolve().parents[1]
WINDOW = {"width": 1280, "height": 800}
# A screenshot as a PNG with a palette takes a third of its bytes, and text stays sharp.
COLORS = 256
LARGEST_FILE = 400_000
RENDER_MS = 600_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_lab() -> Iterator[str]:
    """The address of a JupyterLab that shows the example."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("draw_in_a_notebook.ipynb", "cat.jpg", "cat.json"):
            shutil.copy(ROOT / "examples" / name, folder)
        options = ["--no-browser", "--ServerApp.token=", "--port", str(port), "--LabApp.news_url="]
        options += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], cwd=folder, stderr=subprocess.PIPE, text=True
        )
        try:
            lines = process.stderr or []
            if not any("is running at" in line for line in lines):
                raise RuntimeError("JupyterLab did not start: install it with the extra `notebook`.")
            yield f"http://127.0.0.1:{port}/doc/tree/draw_in_a_notebook.ipynb"
        finally:
            process.terminate()
            process.communicate()


@contextlib.contextmanager
def running_studio(example: str) -> Iterator[str]:
    """The address of a server that shows an example."""
    port = free_port()
    picture, sheet = (ROOT / "examples" / f"{example}{ending}" for ending in (".jpg", ".json"))
    with tempfile.TemporaryDirectory() as sessions:
        options = ["--strokes", sheet, "--port", str(port), "--sessions", sessions, "--no-browser"]
        command = [sys.executable, "-m", "mcdiff_commands", "studio", picture, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://\S+", line)
            if found is None:
                raise RuntimeError(f"The server did not start; it said {line!r}.")
            yield found[0]
        finally:
            process.terminate()
            process.wait()


def save(page: Page, name: str) -> None:
    """Saves what the page shows as `docs/images/studio-NAME.png`."""
    page.mouse.move(1, 1)
    page.wait_for_timeout(700)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = ROOT / "docs" / "images" / f"studio-{name}.png"
    image.quantize(COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB")
    if size > LARGEST_FILE:
        raise RuntimeError(f"{path} has {size} bytes; {LARGEST_FILE} are allowed.")


def make_all(page: Page, address: str) -> None:
    """Takes screenshots of the flow of the first frame, of the render, and of two versions."""
    page.set_default_timeout(RENDER_MS)
    page.goto(address)
    page.locator(".legend:not(.stale)").wait_for()
    save(page, "draw")
    page.locator(".stage").focus()
    page.keyboard.press("Enter")
    page.locator(".status-text", has_text=re.compile(r"frame ([6-9]|1\d) of")).wait_for()
    save(page, "render")
    make_comparison(page)


def make_comparison(page: Page) -> None:
    """Takes a screenshot of the render beside one without the first stroke from frame 4 on."""
    make_full_size(page)
    page.locator(".strip").focus()
    for key in ("Home", *["ArrowRight"] * 4):
        page.keyboard.press(key)
    page.get_by_role("button", name="Remove stroke 1").click()
    page.get_by_role("button", name="Render from 4").click()
    page.get_by_role("treeitem", name="Version 2").first.wait_for()
    make_full_size(page)
    page.keyboard.press("v")
    page.evaluate("document.querySelector('.versions').scrollIntoView({ block: 'end' })")
    for key in ("a", "End"):
        page.keyboard.press(key)
    save(page, "compare")


def make_full_size(page: Page) -> None:
    """Waits for the render, and brings its frames to the size of the picture."""
    page.get_by_role("button", name="Make full size").click()
    page.locator(".status-text", has_text="full size").wait_for()


def make_notebook(page: Page, address: str) -> None:
    """Takes a screenshot of the editor in a cell."""
    page.set_default_timeout(RENDER_MS)
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell").first.click()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    page.keyboard.press("Shift+Enter")
    page.frame_locator("iframe[title='mcdiff studio']").locator(".legend:not(.stale)").wait_for()
    news = page.get_by_role("button", name="No", exact=True)
    if news.is_visible():
        news.click()
    page.locator("iframe[title='mcdiff studio']").scroll_into_view_if_needed()
    save(page, "notebook")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--example", default="citrus", help="the name of a file in examples/ (default: citrus)")
    parser.add_argument("--notebook", action="store_true", help="the editor in JupyterLab instead")
    parser.add_argument("--dark", action="store_true", help="dark colors")
    arguments = parser.parse_args()
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        parser.error("Chromium is missing; on Debian, `apt-get install chromium` installs it.")
    running = running_lab() if arguments.notebook else running_studio(arguments.example)
    with running as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--no-proxy-server"])
        context = browser.new_context(
            viewport=WINDOW, reduced_motion="reduce", color_scheme="dark" if arguments.dark else "light"
        )
        (make_notebook if arguments.notebook else make_all)(context.new_page(), address)
        browser.close()


if __name__ == "__main__":
    main()
