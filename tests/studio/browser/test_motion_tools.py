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


def test_whole_strokes_are_changed(screen):
    screen.drag((100, 100), (200, 100), (200, 200))
    names = ("Copy", "Mirror ↔", "Reverse", "Even", "Smooth", "Ease")
    (drawn,) = screen.strokes
    corner = drawn["points"][1]
    for name in names:
        screen.page.locator(".stroke-changes").get_by_role("button", name=name, exact=True).click()
    first, copy = screen.strokes
    assert first == drawn and copy["id"] != drawn["id"]
    # mirrored about its beginning, then the other way round
    begin = [drawn["points"][0][0] + 19.2, drawn["points"][0][1] + 19.2]
    assert copy["points"][-1] == pytest.approx(begin, abs=0.1)
    assert copy["points"][0] == pytest.approx([begin[0] - 100, begin[1] + 100], abs=2)
    assert all(abs(y - begin[1]) > 1 or x > begin[0] - 99 for x, y in copy["points"])  # without the corner
    assert corner == pytest.approx([200, 100], abs=2) and copy["frames"] == sorted(copy["frames"])
    assert (copy["frames"][0], copy["frames"][-1]) == (0, 15)
    # slowly at both ends: less than half of the mean speed in the first and the last tenth
    way, parts = 0, []
    for a, b, since, until in zip(
        copy["points"], copy["points"][1:], copy["frames"], copy["frames"][1:], strict=False
    ):
        parts.append((((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5) / (until - since))
        way += parts[-1] * (until - since)
    assert parts[0] < 0.6 * way / 15 and parts[-1] < 0.6 * way / 15 and max(parts) > way / 15
    screen.press("Control+d")
    assert len(screen.strokes) == 3
    for _ in range(len(names) + 1):
        screen.press("Control+z")
    assert screen.strokes == [drawn]


def test_dragged_joint_moves_and_the_others_are_held(screen):
    screen.run("transport.setModel({ joints: { ready: true, why: null } })")
    screen.press("j")
    screen.page.locator("[data-joint='left elbow']").wait_for()
    screen.drag((230, 220), (180, 180))
    move, *holds = screen.strokes
    assert move["points"][0] == pytest.approx([230, 220], abs=1) and move["points"][-1] == pytest.approx(
        [180, 180], abs=1
    )
    assert {stroke["kind"] for stroke in holds} == {"hold"} and len(holds) == 7
    screen.press("Control+z")
    assert screen.strokes == []
    # without a pen, and without holds
    screen.page.get_by_label("Hold the others").uncheck()
    screen.page.locator("[data-joint='right wrist']").focus()
    screen.press("Enter")
    (move,) = screen.strokes
    assert move["points"] == [[380, 290], [444, 290]] and screen.run("editor.state.selected") == move["id"]


def test_missing_pose_model_is_said(screen):
    screen.run("transport.setModel({ joints: { ready: false, why: 'There is no pose model; make one.' } })")
    screen.press("j")
    screen.page.locator(".hint", has_text="There is no pose model; make one.").wait_for()
    screen.click(100, 100)
    screen.until_it_says("There is no pose model")
