"""The widget of notebooks in a page that loads it as anywidget does, with its Python side and a tiny model."""

import time

import numpy as np
import pytest

from support.axe import ALL_RULES, Axe
from support.tiny_models import make_pipeline


pytestmark = pytest.mark.browser
pytest.importorskip("fastapi", reason="needs the extra `studio`")
pytest.importorskip("anywidget", reason="needs the extra `notebook`")


@pytest.fixture
def widget(image):
    from mcdiff_pipeline.studio.notebook import StudioWidget
    from support.notebook_page import comms

    with comms():
        widget = StudioWidget(make_pipeline(), image, num_frames=4, height=700)
    yield widget
    widget.close()


@pytest.fixture
def page(browser, widget):
    from support.notebook_page import notebook

    context = browser.new_context(viewport={"width": 1000, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    faults, requests = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    with notebook(widget) as address:
        page.goto(address)
        yield page
        context.close()
    assert not faults
    assert [url for url in requests if not url.startswith((address, "blob:", "data:", "about:"))] == []


def until(page, condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it is still not so"
        page.wait_for_timeout(30)


def drawn_on(page):
    """The frame of the editor when a move is drawn from the middle of its stage."""
    frame = page.frame_locator("iframe")
    frame.locator("body[data-ready] .stage").wait_for()
    box = frame.locator(".stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 20, steps=4)
    page.mouse.up()
    frame.locator(".strokes li").wait_for()  # a busy browser takes up the end of the move later
    return frame


def test_what_is_drawn_and_rendered_is_there_in_python(page, widget):
    frame = drawn_on(page)
    assert frame.locator(".button.primary").evaluate("(one) => getComputedStyle(one).fontSize") != "40px"
    until(page, lambda: len(widget.strokes) == 1)
    (stroke,) = widget.strokes
    width, height = widget.sheet.width, widget.sheet.height
    assert np.hypot(stroke.points[0][0] - width / 2, stroke.points[0][1] - height / 2) < 2
    assert widget.frames == [] and widget.sheet.num_frames == 4

    frame.locator(".legend").wait_for()  # the flow comes through the messages of the widget
    page.keyboard.press("Enter")
    until(page, lambda: widget.made == 3)
    frame.locator(".status.good").wait_for()
    assert list(Axe(page, {"light": ALL_RULES}, frame=page.frames[1]).serious()) == []
    frames, full = widget.frames, widget.full_frames()
    assert len(frames) == len(full) == 4 and full[0].size == (width, height)
    assert widget.shown is not None

    # the notebook shows it again: all of it is there
    page.evaluate("window.hide(), void window.show()")
    frame.locator("body[data-ready] .stage").wait_for()
    frame.locator(".stroke").wait_for(state="attached")
    frame.get_by_role("treeitem", name="Version 1").first.wait_for()


SHOWN_AGAIN = {
    "hidden and shown": "() => (window.hide(), window.show(), null)",
    "moved": "() => { const cell = document.querySelector('iframe'); cell.parentNode.prepend(cell); }",
}


@pytest.mark.parametrize("way", SHOWN_AGAIN)
def test_what_was_just_drawn_is_there_when_the_notebook_shows_it_again(page, widget, way):
    frame = drawn_on(page)
    page.evaluate(SHOWN_AGAIN[way])
    frame.locator("body[data-ready] .stroke").wait_for(state="attached")
    until(page, lambda: len(widget.strokes) == 1)


def test_the_same_frame_is_shown_again(page, widget):
    frame = drawn_on(page)
    frame.locator(".legend").wait_for()
    page.keyboard.press("Enter")
    frame.locator(".status.good").wait_for()
    page.wait_for_timeout(1200)  # all of it is saved, but not which frame is shown after it
    page.keyboard.press("End")
    frame.get_by_text("Frame 3 of 3").first.wait_for()
    page.evaluate(SHOWN_AGAIN["hidden and shown"])
    frame.locator("body[data-ready]").get_by_text("Frame 3 of 3").first.wait_for()
