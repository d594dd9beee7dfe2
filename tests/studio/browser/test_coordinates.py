"""A click lands on the pixel of the picture that the user sees under the pointer, whatever the view."""

import io

import numpy as np
import PIL.Image
import pytest


pytestmark = pytest.mark.browser

# A picture with one magenta square whose center is the given point.
MARKED = """async ([width, height, x, y, session]) => {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = "#204020";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "#ff00ff";
  context.fillRect(x - 20, y - 20, 40, 40);
  const photo = await canvas.convertToBlob({ type: "image/png" });
  await window.open({ width, height, photo, session, name: session });
}"""


def show_marked(screen, width, height, x, y, session="a" * 32):
    screen.page.evaluate(MARKED, [width, height, x, y, session])
    screen.ready()
    screen.press("h")


def marker(screen) -> tuple[float, float]:
    """The center of the magenta square in the window, in CSS pixels, from a screenshot."""
    stage = screen.page.locator(".stage")
    image = PIL.Image.open(io.BytesIO(stage.screenshot())).convert("RGB")
    red, green, blue = np.moveaxis(np.asarray(image).astype(float), -1, 0)
    rows, columns = np.nonzero((red > 140) & (green < 45) & (blue > 140))
    share = np.clip((red - green) / 255, 0, 1)  # of the square in pixels at its border
    top, left = rows.min() - 2, columns.min() - 2
    share = share[top : rows.max() + 3, left : columns.max() + 3]
    y = top + 0.5 + (share.sum(1) @ np.arange(share.shape[0])) / share.sum()
    x = left + 0.5 + (share.sum(0) @ np.arange(share.shape[1])) / share.sum()
    box = stage.bounding_box()
    ratio = image.width / box["width"]
    return box["x"] + x / ratio, box["y"] + y / ratio


def check(screen, x, y):
    screen.page.wait_for_timeout(60)
    screen.page.mouse.click(*marker(screen))
    scale = screen.run("editor.view.scale")  # now that the page is laid out
    drawn = screen.strokes[-1]["points"][0]
    # half a pixel of the picture, or of the screen where that is coarser
    assert np.abs(np.array(drawn) - (x, y)).max() <= max(0.5, 0.5 / scale) + 0.01
    screen.press("Control+z")  # its handle covers the square


@pytest.mark.parametrize("ratio", [1, 2])
def test_click_is_exact_at_each_zoom(new_screen, ratio):
    screen = new_screen(device_scale_factor=ratio)
    show_marked(screen, 640, 480, 200, 130)
    for scale in (0.5, 1, 3):
        screen.run(f"editor.view.zoomTo({scale}, editor.view.toStage([220, 140])), editor.store.schedule()")
        check(screen, 200, 130)


def test_click_is_exact_on_extreme_shapes_after_another_picture_and_at_another_size(screen):
    show_marked(screen, 1600, 400, 1200, 100)
    check(screen, 1200, 100)
    show_marked(screen, 300, 1200, 60, 900, session="b" * 32)
    check(screen, 60, 900)
    screen.page.set_viewport_size({"width": 700, "height": 640})
    check(screen, 60, 900)
    screen.page.set_viewport_size({"width": 1500, "height": 900})
    check(screen, 60, 900)


def test_wheel_keeps_the_place_under_the_pointer_and_space_drags_the_view(screen):
    stage = screen.page.locator(".stage").bounding_box()
    place = tuple(map(round, screen.at(100, 100)))  # wheels are at whole pixels
    point = screen.run(f"editor.view.toPicture([{place[0]} - {stage['x']}, {place[1]} - {stage['y']}])")
    screen.page.mouse.move(*place)
    screen.page.mouse.wheel(0, -400)
    screen.until("editor.view.scale > 1.5")
    assert np.allclose(screen.at(*point), place, atol=0.01)
    screen.page.keyboard.down(" ")
    screen.page.mouse.down()
    screen.page.mouse.move(place[0] + 50, place[1] + 20)
    screen.page.mouse.up()
    screen.page.keyboard.up(" ")
    assert np.allclose(screen.at(*point), (place[0] + 50, place[1] + 20), atol=0.01)
    assert screen.strokes == []


def test_two_fingers_zoom_and_draw_nothing(new_screen):
    screen = new_screen(has_touch=True)
    left, top = screen.at(320, 240)
    scale = screen.run("editor.view.scale")
    session = screen.context.new_cdp_session(screen.page)

    def touch(kind, *points):
        touches = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", (left - 50, top))
    touch("touchStart", (left - 50, top), (left + 50, top))
    for step in range(1, 6):
        touch("touchMove", (left - 50 - 10 * step, top), (left + 50 + 10 * step, top))
    touch("touchEnd")
    assert screen.run("editor.view.scale") == pytest.approx(2 * scale, rel=0.02)
    assert screen.strokes == []
