"""The camera, changes of whole strokes, and the joints of people."""

import json

import pytest

from mcdiff_pipeline import StrokeSheet
from mcdiff_pipeline.studio.camera_moves import camera_of


pytestmark = pytest.mark.browser


def test_camera_of_the_page_is_that_of_the_server(screen):
    moves = [
        {"kind": "pan", "x": 60, "y": -20, "amount": 0, "start": 2, "end": 9, "ease": "ease-in"},
        {"kind": "zoom", "x": 0, "y": 0, "amount": 1.6, "start": 0, "end": 15, "ease": "ease-in-out"},
        {"kind": "rotate", "x": 0, "y": 0, "amount": 25, "start": 4, "end": 12, "ease": "linear"},
        {"kind": "dolly", "x": 0, "y": 0, "amount": 0.3, "start": 3, "end": 8, "ease": "ease-out"},
        {"kind": "truck", "x": 0, "y": 30, "amount": 0, "start": 6, "end": 10, "ease": "linear"},
    ]
    branch = [(0, moves), (6, moves[:2]), (7, moves[:2]), (9, [])]
    nodes = [{"at": at, "camera": camera} for at, camera in branch]
    seen, back = screen.run(
        f"""import("/camera.js").then((camera) => {{
            const picture = {{ width: 640, height: 480 }};
            const at = (frame) => camera.seenBy(camera.cameraOnBranch({json.dumps(nodes)}, frame), picture);
            const back = camera.movedBack(at(8), camera.moved(at(8), [100, 200]));
            return [[0, 5, 6, 8, 15].map((k) => Object.values(at(k))), back]; }})"""
    )
    camera = camera_of(branch, (640, 480), 16)
    for frame, (a, b, x, y) in zip((0, 5, 6, 8, 15), seen, strict=True):
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
    (sent,) = screen.sent("render")
    assert [{"id": old["id"], **new} for old, new in zip(moves, sent["camera"], strict=True)] == moves
    assert sent["regions"] is None

    # strokes of a later frame lie where the scene is seen: the middle of the picture there
    screen.press("End", "ArrowLeft", "ArrowLeft", "h")
    box = screen.page.locator(".stage").bounding_box()
    left, top = screen.run("editor.view.fromFrame([320, 240])")
    screen.page.mouse.click(box["x"] + left, box["y"] + top)
    (hold,) = screen.strokes
    pan = camera_of([(0, sent["camera"])], (640, 480), 16).at(13).pan
    assert hold["points"][0] == pytest.approx([320 + pan[0], 240], abs=1)
    # another camera is a branch, too, and each version shows its own
    screen.press("c")
    screen.page.get_by_role("button", name="Rotate", exact=True).click()
    assert screen.run("editor.live.plan()")["kind"] == "branch"
    screen.page.locator(".stage").focus()
    screen.press("Enter")
    screen.until("editor.state.finished && editor.state.nodes.size === 2")
    first, second = screen.run("[...editor.state.nodes.keys()]")
    assert [one["kind"] for one in screen.sent("render")[1]["camera"]] == ["pan", "zoom", "rotate"]
    screen.run(f"editor.showNode('{first}')")
    assert [one["kind"] for one in screen.run("editor.document.camera")] == ["pan", "zoom"]
    screen.run(f"editor.showNode('{second}')")
    assert [one["kind"] for one in screen.run("editor.document.camera")] == ["pan", "zoom", "rotate"]
    # from frame 13 on, nothing jumps: the parent's place, and what the new moves add
    screen.run("editor.goTo(14)")
    screen.until("editor.view.seen && editor.state.frame === 14")
    similarity = camera_of([(0, sent["camera"]), (13, screen.sent("render")[1]["camera"])], (640, 480), 16)
    ((real, imaginary), _) = similarity.view(14, [1.0], (480, 640))[0].tolist()
    seen = screen.run("editor.view.seen")
    assert [seen["a"], seen["b"]] == pytest.approx([real, imaginary], abs=1e-3)


def test_camera_has_bars_in_the_timeline(screen):
    screen.press("c")
    for kind in ("Zoom", "Pan"):
        screen.page.get_by_role("button", name=kind, exact=True).click()
    bars = screen.page.locator(".time-bar.camera")
    bars.nth(1).wait_for()

    def span(index):
        move = screen.run("editor.document.camera")[index]
        return move["start"], move["end"]

    def drag(handle, cells):
        box = handle.bounding_box()
        x, y = box["x"] + min(box["width"] / 2, 40), box["y"] + box["height"] / 2
        screen.page.mouse.move(x, y)
        screen.page.mouse.down()
        screen.page.mouse.move(x + cells * cell, y, steps=3)
        screen.page.mouse.up()

    cell = bars.nth(0).bounding_box()["width"] / 15
    row = screen.page.locator(".bar-row", has=bars.nth(0))
    drag(row.locator(".bar-end").nth(1), -9.2)
    assert span(0) == (0, 6)
    drag(bars.nth(0), 3.1)
    assert span(0) == (3, 9) and screen.run("editor.state.cameraMove === editor.document.camera[0].id")
    drag(row.locator(".bar-end").nth(0), 2)
    assert span(0) == (5, 9)
    # by keys: the whole, its end, its start; and out of the clip it does not go
    bars.nth(0).focus()
    screen.press("ArrowLeft", "Shift+ArrowRight", "Alt+ArrowRight")
    assert span(0) == (5, 9)
    screen.press("]", *["ArrowRight"] * 12)
    assert span(0) == (11, 15)
    screen.page.get_by_label("to", exact=True).fill("13")
    screen.press("Tab")
    assert span(0) == (11, 13)
    bars.nth(0).focus()
    for _ in range(7):  # what could go no further is no step
        screen.press("Control+z")
    assert span(0) == (5, 9)
    # a second one of the same kind at another time
    screen.page.get_by_role("button", name="Zoom", exact=True).click()
    assert [one["kind"] for one in screen.run("editor.document.camera")] == ["zoom", "pan", "zoom"]
    bars.nth(1).focus()
    screen.press("Delete")
    assert [one["kind"] for one in screen.run("editor.document.camera")] == ["zoom", "zoom"]
    screen.press("Control+z")
    assert len(screen.run("editor.document.camera")) == 3


def open_sheet(screen, sheet):
    screen.run(f"window.open({{ session: '1'.repeat(32), sheet: {json.dumps(sheet)} }})")
    screen.until("editor.state.connection === 'open' && editor.view.stage.width > 1")


def test_camera_of_a_file_is_shown_with_what_is_not(screen):
    camera = [{"kind": "zoom", "x": 0, "y": 0, "amount": 1.5, "start": 0, "end": 8, "ease": "ease-in"}]
    sheet = {"num_frames": 12, "strokes": [], "camera": camera, "note": "Its motion by physics is not shown."}
    open_sheet(screen, sheet)
    screen.until_it_says("Its motion by physics is not shown.")
    (move,) = screen.run("editor.document.camera")
    assert move == {"id": move["id"], **camera[0]}
    assert screen.page.locator(".time-bar.camera").get_attribute("aria-valuetext") == "frames 0 to 8"


SHEET = {
    "version": 3,
    "width": 640,
    "height": 480,
    "num_frames": 16,
    "fps": 8.0,
    "regions": [
        {"polygon": [[140, 370], [200, 370], [190, 440], [150, 440]], "name": "cup", "rigid": True, "order": 1}
    ],
    "strokes": [
        {"points": [[310.5, 120.5], [352, 118]], "end_frame": 10, "easing": "ease-in-out", "strength": 0.8},
        {"points": [[420, 300], [470, 210], [420, 300]], "frames": [2, 8.5, 15]},
        {"points": [[420, 300], [470, 210], [500, 300]], "start_frame": 3, "easing": "ease-out", "region": 0},
        {"kind": "hold", "points": [[80.5, 440.5]]},
        {"points": [[170, 400], [229.5, 396.5]], "region": "cup", "rotate": 15, "scale": 1.1, "radius": 25},
        {
            "kind": "hold",
            "points": [[560, 400]],
            "rotate": -10,
            "handles": [[555, 300], [560, 350]],
            "easing": "ease-in",
        },
    ],
}


def test_sheet_of_version_3_is_kept_shown_and_sent_as_it_is(screen):
    open_sheet(screen, SHEET)
    screen.until("transport.sent.some((message) => message.type === 'flow')")
    strokes = screen.sent("flow")[-1]["strokes"]
    assert StrokeSheet.from_dict(SHEET | {"strokes": strokes}) == StrokeSheet.from_dict(SHEET)
    # where handles are, as the library has them
    places = screen.run(
        """import("/strokes.js").then(({ handlesAt, positionAt }) =>
            [0, 4, 9].map((frame) => editor.document.strokes.map(
                (stroke) => [handlesAt(stroke, frame, 16), positionAt(stroke, frame)])))"""
    )
    for frame, of_frame in zip((0, 4, 9), places, strict=True):
        for stroke, (handles, position) in zip(StrokeSheet.from_dict(SHEET).strokes, of_frame, strict=True):
            if stroke.span(16)[0] > frame:
                continue
            assert position == pytest.approx(stroke.at(frame, 16), abs=0.01)
            if handles:
                expected = [one.at(frame, 16) for one in stroke.plain(16)]
                assert [tuple(one) for one in handles] == [pytest.approx(one, abs=0.01) for one in expected]
    assert screen.page.locator(".follower").count() == 4
    # as numbers and choices, by keys
    screen.run("editor.select(editor.document.strokes[0].id)")
    numbers = screen.page.locator(".strokes .numbers")
    assert numbers.get_by_label("Speed").input_value() == "ease-in-out"
    numbers.get_by_label("Strength").fill("1.5")
    numbers.get_by_label("Turn, degrees").fill("30")
    screen.press("Tab")
    screen.until("editor.document.strokes[0].radius === 48")
    numbers.get_by_label("Radius, pixels").fill("12")
    screen.press("Tab")
    numbers.get_by_label("Speed").select_option("ease-in")
    first = screen.strokes[0]
    assert (first["strength"], first["rotate"], first["radius"], first["easing"]) == (1.5, 30, 12, "ease-in")
    # what is not edited here is said, and moves along
    screen.run("editor.select(editor.document.strokes[5].id)")
    screen.page.locator(".strokes .numbers", has_text="2 points move with it").wait_for()
    screen.page.locator(".stage").focus()
    screen.run("editor.select(editor.document.strokes[5].id)")
    screen.press("ArrowRight")
    assert screen.strokes[5]["handles"] == [[556, 300], [561, 350]]


def test_whole_strokes_are_changed(screen):
    screen.drag((100, 100), (200, 100), (200, 200))
    names = ("Copy", "Mirror ↔", "Reverse", "Even", "Smooth")
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
