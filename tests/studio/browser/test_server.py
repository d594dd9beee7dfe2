"""The page with the real server and a tiny model: from a picture to an exported video."""

import io
import json
import os
import random
import re
import signal
import socket
import threading
import time

import numpy as np
import PIL.Image
import pytest

from mcdiff_pipeline.video import read_video
from support.tiny_models import make_pipeline


pytestmark = pytest.mark.browser
pytest.importorskip("fastapi", reason="needs the extra `studio`")

TOKEN = "token-of-the-browser"


@pytest.fixture
def studio_address(tmp_path):
    """Address of a running server, with its token."""
    import uvicorn

    from mcdiff_pipeline.studio.app import create_app
    from mcdiff_pipeline.studio.engine import Engine
    from mcdiff_pipeline.studio.settings import StudioSettings

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        settings = StudioSettings(folder=tmp_path / "sessions", token=TOKEN, port=port)
        app = create_app(settings, lambda: Engine(make_pipeline(), "tiny", settings))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def page(browser, studio_address):
    """The start page; no script fails, and no request goes elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(30000)
    faults, requests = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{studio_address}/#token={TOKEN}")
    yield page
    context.close()
    assert not faults
    own = (studio_address, "blob:", "data:")
    assert [url for url in requests if not url.startswith(own)] == []


def photo(orientation: int | None = None) -> dict:
    """An 80 x 48 photograph with a magenta square around (60, 15), as it is to be seen."""
    y, x = np.mgrid[0:48, 0:80] / 80
    pixels = (np.stack([0.2 * x, 0.5 * y, 0.3 + 0.1 * np.sin(20 * x)], axis=-1) * 255).astype(np.uint8)
    pixels[11:19, 56:64] = (255, 0, 255)
    image = PIL.Image.fromarray(pixels)
    exif = PIL.Image.Exif()
    if orientation == 6:  # stored lying: to be turned clockwise by a quarter
        image = image.transpose(PIL.Image.Transpose.ROTATE_90)
        exif[0x0112] = orientation
    content = io.BytesIO()
    image.save(content, "JPEG", quality=100, subsampling=0, exif=exif)
    return {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": content.getvalue()}


def open_file(page, file: dict) -> None:
    """Opens a file, and waits until the page knows that the model is ready: what needs it is refused until then."""
    received: list[bytes] = []
    page.once("websocket", lambda socket: socket.on("framereceived", lambda message: received.append(message)))
    page.locator("input[type=file]").first.set_input_files(file)
    page.wait_for_selector(".stage")
    page.get_by_role("button", name="Render", exact=True).wait_for()
    deadline = time.monotonic() + 60
    while not any(re.search(rb'"state": ?"ready"', message) for message in received):
        assert time.monotonic() < deadline, received
        page.wait_for_timeout(20)


def drag(page, start, end) -> None:
    """Drags between two points, given in shares of the stage."""
    box = page.locator(".stage").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=5)
    page.mouse.up()


def exported(page, label: str) -> bytes:
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name=label).click()
    return download.value.path().read_bytes()


def wait_until_done(page) -> None:
    page.locator(".status.good").wait_for(timeout=60000)


def test_turned_photograph_is_drawn_on_where_it_is_seen(page):
    open_file(page, photo(orientation=6))
    page.keyboard.press("h")
    page.wait_for_timeout(100)
    stage = page.locator(".stage")
    pixels = np.asarray(PIL.Image.open(io.BytesIO(stage.screenshot())).convert("RGB")).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 180) & (pixels[..., 1] < 60) & (pixels[..., 2] > 180))
    box = stage.bounding_box()
    x, y = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
    page.mouse.click(box["x"] + x, box["y"] + y)
    fields = [float(page.get_by_label(f"{name} of point 1").input_value()) for name in "xy"]
    assert fields == pytest.approx([60, 15], abs=0.5)


def test_from_a_picture_to_an_exported_video_and_back(page, tmp_path):
    open_file(page, photo())
    drag(page, (0.4, 0.4), (0.6, 0.5))
    page.wait_for_selector(".legend")
    page.keyboard.press("Enter")
    wait_until_done(page)

    # another stroke from frame 4 on makes a version of its own
    page.locator(".strip").focus()
    for key in ("Home", *["ArrowRight"] * 4, "m"):
        page.keyboard.press(key)
    drag(page, (0.5, 0.7), (0.6, 0.6))
    page.get_by_role("button", name="Render from 4").click()
    page.get_by_role("treeitem", name="Version 2").first.wait_for()
    wait_until_done(page)

    # all of it is there again after a reload
    page.locator(".saved", has_text=re.compile("^Saved$")).wait_for()
    page.reload()
    page.get_by_role("treeitem", name="Version 2").first.wait_for()
    assert page.locator(".strokes li").count() == 2

    video = exported(page, "Video, MP4")
    (tmp_path / "clip.mp4").write_bytes(video)
    frames = read_video(tmp_path / "clip.mp4").frames
    assert len(frames) == 16
    sheet = json.loads(exported(page, "Stroke sheet, JSON"))
    # what the first version does up to frame 4, and then both strokes
    assert {stroke["kind"] for stroke in sheet["strokes"]} == {"move"}

    # the video is a session of its own, with the strokes as they were drawn
    page.get_by_role("button", name="File: photo.jpg").click()
    page.get_by_role("menuitem", name="All pictures").click()
    page.locator(".card-title", has_text="photo.jpg").wait_for()
    open_file(page, {"name": "photo.mp4", "mimeType": "video/mp4", "buffer": video})
    page.wait_for_selector("[data-stroke]")
    assert page.locator(".stroke").count() == 2


def test_stop_keeps_what_is_there(page):
    open_file(page, photo())
    drag(page, (0.4, 0.4), (0.6, 0.5))
    page.get_by_label("Frames", exact=True).fill("200")
    page.keyboard.press("Tab")
    page.locator(".stage").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_role("slider", name="Frame").first.wait_for()
    page.locator(".status-text", has_text=re.compile(r"frame ([3-9]|\d\d+) of")).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Go on").wait_for()
    assert "kept" in page.locator(".status-text").inner_text()


def test_thing_is_pulled_while_frames_are_made_and_the_pull_is_a_stroke(page):
    open_file(page, photo())
    page.keyboard.press("l")
    stage = page.locator(".stage").bounding_box()
    x, y = stage["x"] + 0.5 * stage["width"], stage["y"] + 0.5 * stage["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 10, steps=4)
    page.locator(".status-text", has_text=re.compile(r"^Frame ([3-9]|\d\d+)\.")).wait_for()
    page.mouse.up()
    page.keyboard.press("Escape")
    page.locator(".status-text", has_text="what you pulled is there as strokes").wait_for()
    assert page.locator(".strokes li").count() == 1
    assert page.get_by_role("treeitem").count() == 1
    # the same by keys, from the frame that is shown
    page.locator(".stage").focus()
    page.keyboard.press("ArrowRight")
    page.locator(".status-text", has_text=re.compile(r"^Frame \d+\. Drag")).wait_for()
    page.keyboard.press("Escape")
    page.locator(".status-text", has_text="what you pulled is there as strokes").wait_for()
    assert page.locator(".strokes li").count() == 2
    page.get_by_role("treeitem", name="Version 1").first.click()
    # it can be competed with: the same strokes with another seed
    page.get_by_role("button", name="Best of").click()
    page.get_by_label("Seeds").fill("1")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Render them").click()
    page.get_by_text(re.compile("px off, seed 1")).wait_for()
    assert page.get_by_role("treeitem").count() == 3


def test_browser_that_is_killed_loses_at_most_what_is_not_saved(launch, studio_address):
    chance, address, saved, drawn = random.Random(0), f"{studio_address}/#token={TOKEN}", 0, 0
    for number in range(10):
        browser = launch()
        page = browser.new_page()
        page.set_default_timeout(60000)
        page.goto(address)
        if number == 0:
            open_file(page, photo())
            address += f"&session={page.url.rpartition('session=')[2]}"
        page.get_by_role("button", name="Render", exact=True).wait_for()
        found = page.locator(".stroke").count()
        assert saved <= found <= drawn
        saved = drawn = found  # it came from the server
        for _ in range(2):
            x, y = (0.1, 0.55)[drawn % 2], 0.12 + 0.035 * drawn  # apart from the points of the others
            drag(page, (x, y), (x + 0.3, y + 0.01))
            drawn += 1
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # shown
            page.wait_for_timeout(1000 * chance.random())
            if page.locator(".saved", has_text=re.compile("^Saved$")).count():
                saved = drawn
        processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        os.kill(next(one["id"] for one in processes if one["type"] == "browser"), signal.SIGKILL)
    assert saved > 0
