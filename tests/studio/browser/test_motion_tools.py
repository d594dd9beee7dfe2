"""The camera, changes of whole strokes, and the joints of people."""

import json

import pytest

from mcdiff_pipeline.motion.camera import Camera


pytestmark = pytest.mark.browser


def test_camera_of_the_page_is_that_of_the_library(screen):
    moves = [
        {"id": "1", "kind": "pan", "x": 60, "y": -20, "amount": 0, "start": 2, "end": 9, "ease": "ease-in"},
        {"id": "2", "kind": "zoom", "x": 0, "y": 0, "amount": 1.6, "start": 0, "end": 15, "ease": "ease-in-out"},
        {"id": "3", "kind": "rotate", "x": 0, "y": 0, "amount": 25, "start": 4, "end": 12, "ease": "linear"},
        {"id": "4", "kind": "dolly", "x": 0, "y": 0, "amount": 0.3, "start": 3, "end": 8, "ease": "ease-out"},
    ]
    fields, seen, back = screen.run(
        f"""import("/camera.js").then((camera) => {{
            const moves = {json.dumps(moves)}, picture = {{ width: 640, height: 480 }};
            const at = (frame) => camera.seenBy(camera.cameraAt(moves, frame), picture);
            return [camera.cameraToSheet(moves, picture, 16), [0, 5, 8, 15].map((k) => Object.values(at(k))),
                camera.movedBack(at(8), camera.moved(at(8), [100, 200]))]; }})"""
    )
    camera = Camera.from_dict(fields)
    for frame, (a, b, x, y) in zip((0, 5, 8, 15), seen, strict=True):
        ((real, imaginary), shift) = camera.view(frame, [1.0], (480, 640))[0].tolist()
        assert [real, imaginary, *shift] == pytest.approx([a, b, x, y], abs=0.05)
    assert back == pytest.approx([100, 200])


def test_camera_is_drawn_changed_by_numbers_and_rendered(screen):
    screen.press("c")
    screen.drag((320, 240), (220, 240))
    screen.page.get_by_role("button", name="Zoom", exact=True).click()
    screen.page.get_by_role("spinbutton", name="times").fill("2")
    screen.press("Tab")
    moves = screen.run("editor.document.camera")
    assert [(one["kind"], one["end"]) for one in moves] == [("pan", 15), ("zoom", 15)]
    assert moves[0]["x"] == pytest.approx(100, abs=1) and moves[1]["amount"] == 2
    screen.page.locator(".stage").focus()
    screen.press("Enter")  # without any stroke
    screen.until("editor.state.finished")
    sent = screen.run("transport.camera")
    assert sent["keyframes"][-1] == {"frame": 15, "pan": [moves[0]["x"], 0], "zoom": 2, "rotate": 0, "dolly": 0}
    assert screen.sent("render")[0]["regions"] is not None

    # strokes of a later frame lie where the scene is seen: the middle of the picture there
    screen.press("End", "ArrowLeft", "ArrowLeft", "h")
    box = screen.page.locator(".stage").bounding_box()
    left, top = screen.run("editor.view.fromFrame([320, 240])")
    screen.page.mouse.click(box["x"] + left, box["y"] + top)
    (hold,) = screen.strokes
    pan = next(one["pan"] for one in sent["keyframes"] if one["frame"] == 13)
    assert hold["points"][0] == pytest.approx([320 + pan[0], 240], abs=1)
    assert screen.run("editor.live.plan().kind") == "branch"
    # another camera begins another tree; undo brings back this one
    screen.press("c")
    screen.page.get_by_role("button", name="Rotate", exact=True).click()
    assert screen.run("editor.live.plan().kind") == "new"
    screen.press("Control+z")
    assert screen.run("editor.live.plan().kind") == "branch"
