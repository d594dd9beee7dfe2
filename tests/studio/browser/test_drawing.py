"""Strokes and regions by mouse, touch, pen and keys; undo, also over a reload."""

import pytest


pytestmark = pytest.mark.browser


def test_drag_makes_a_move_from_the_shown_frame_to_the_end(screen):
    screen.drag((100, 100), (180, 100), (180, 160))
    (stroke,) = screen.strokes
    assert stroke["kind"] == "move"
    assert stroke["points"][0] == pytest.approx([100, 100], abs=0.5)
    assert stroke["points"][-1] == pytest.approx([180, 160], abs=0.5)
    assert 3 <= len(stroke["points"]) <= 64
    assert (stroke["frames"][0], stroke["frames"][-1]) == (0, 15)
    assert stroke["frames"] == sorted(set(stroke["frames"]))


def test_a_short_drag_is_discarded_and_says_why(screen):
    screen.drag((100, 100), (101, 100), steps=1)
    assert screen.strokes == []
    screen.until_it_says("Too short for a move")


def test_recorded_timing_keeps_the_speed_of_the_pen(screen):
    screen.page.get_by_role("button", name="As drawn").click()
    x, y = screen.at(100, 100)
    screen.page.mouse.move(x, y)
    screen.page.mouse.down()
    screen.page.mouse.move(x + 100, y)
    screen.page.wait_for_timeout(500)  # the pen rests at the corner
    screen.page.mouse.move(x + 101, y)
    screen.page.mouse.move(x + 101, y + 100)
    screen.page.mouse.up()
    (stroke,) = screen.strokes
    assert stroke["frames"][-1] < 12  # about as long as the hand took, at 8 frames a second
    rest = max(b - a for a, b in zip(stroke["frames"], stroke["frames"][1:], strict=False))
    assert rest > (stroke["frames"][-1] - stroke["frames"][0]) / 2


@pytest.mark.parametrize("kind", ["touch", "pen"])
def test_touch_and_pen_draw(new_screen, kind):
    screen = new_screen(has_touch=True)
    x, y = screen.at(200, 200)
    if kind == "touch":
        session = screen.context.new_cdp_session(screen.page)
        for name, dx in (("touchStart", 0), ("touchMove", 40), ("touchMove", 80), ("touchEnd", None)):
            points = [] if dx is None else [{"x": x + dx, "y": y}]
            session.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": points})
    else:
        session = screen.context.new_cdp_session(screen.page)
        for name, dx in (("mousePressed", 0), ("mouseMoved", 40), ("mouseMoved", 80), ("mouseReleased", 80)):
            event = {"type": name, "x": x + dx, "y": y, "button": "left", "buttons": 1, "pointerType": "pen"}
            session.send("Input.dispatchMouseEvent", event | ({"clickCount": 1} if "Moved" not in name else {}))
    (stroke,) = screen.strokes
    scale = screen.run("editor.view.scale")
    assert stroke["points"][-1] == pytest.approx([200 + 80 / scale, 200], abs=1)


def test_keys_alone_draw_render_and_change_a_stroke(screen):
    screen.page.get_by_role("button", name="Add move").focus()
    screen.press("Enter")
    assert screen.strokes[0]["points"] == [[256, 240], [384, 240]]
    field = screen.page.get_by_label("x of point 2")
    field.fill("400")
    field.press("Enter")
    assert screen.strokes[0]["points"][1] == [400, 240]
    screen.page.locator("[data-point='1']").focus()
    screen.press("ArrowUp", "Shift+ArrowRight")
    assert screen.strokes[0]["points"][1] == [410, 239]
    screen.page.locator(".stage").focus()
    screen.press("Enter")
    screen.until("editor.state.finished")
    assert screen.run("editor.lastFrame()") == 15


def test_what_is_typed_stays_while_other_things_arrive(screen):
    screen.drag((100, 100), (200, 160))
    field = screen.page.get_by_label("x of point 2")
    field.fill("300")
    screen.run("editor.store.set({ frame: 0 })")
    screen.page.wait_for_timeout(100)
    assert field.input_value() == "300" and screen.strokes[0]["points"][1] != [300, 160]
    field.press("Enter")
    assert screen.strokes[0]["points"][1] == pytest.approx([300, 160], abs=1)
    screen.page.locator(".stage").focus()
    screen.press("Control+z")
    screen.page.wait_for_timeout(100)
    assert float(field.input_value()) == pytest.approx(200, abs=1)


def test_select_drags_points_the_start_moves_all_and_a_double_click_adds_a_point(screen):
    screen.drag((100, 100), (200, 100))
    screen.press("v")
    screen.drag((200, 100), (220, 140))
    assert screen.strokes[0]["points"][1] == pytest.approx([220, 140], abs=1)
    screen.drag((100, 100), (110, 110))
    assert screen.strokes[0]["points"] == [pytest.approx([110, 110], abs=1), pytest.approx([230, 150], abs=1)]
    x, y = screen.at(170, 130)
    screen.page.mouse.dblclick(x, y)
    assert len(screen.strokes[0]["points"]) == 3
    screen.press("Delete")
    assert len(screen.strokes[0]["points"]) == 2
    screen.press("Delete")
    screen.press("Delete")
    assert screen.strokes == []


def test_eraser_removes_what_it_brushes_as_one_step(screen):
    screen.drag((100, 100), (200, 100))
    screen.drag((100, 200), (200, 200))
    screen.press("e")
    screen.drag((150, 60), (150, 240), steps=20)
    assert screen.strokes == []
    screen.press("Control+z")
    assert len(screen.strokes) == 2


def test_undo_and_redo_survive_a_reload(screen):
    screen.drag((100, 100), (200, 100))
    screen.press("h")
    screen.click(300, 300)
    screen.click(350, 300)
    screen.press("Control+z")
    screen.page.wait_for_timeout(500)
    screen.page.reload()
    screen.ready()
    assert len(screen.strokes) == 2
    screen.press("Control+z")
    assert len(screen.strokes) == 1
    screen.press("Control+Shift+z", "Control+Shift+z")
    assert len(screen.strokes) == 3


def test_bars_shift_and_retime_on_whole_frames(screen):
    screen.drag((100, 100), (200, 100))
    cell = screen.run("document.querySelector('.frame-cell').getBoundingClientRect().width")
    end = screen.page.locator(".bar-end").nth(1).bounding_box()
    x, y = end["x"] + end["width"] / 2, end["y"] + end["height"] / 2
    screen.page.mouse.move(x, y)
    screen.page.mouse.down()
    screen.page.mouse.move(x - 5.3 * cell, y, steps=5)
    screen.page.mouse.up()
    assert screen.strokes[0]["frames"] == [0, 10]
    screen.press("]", "]", "[")
    assert screen.strokes[0]["frames"] == [1, 11]
    screen.page.locator(".time-bar").focus()
    screen.press("Shift+ArrowRight")
    assert screen.strokes[0]["frames"] == [1, 12]
    screen.press("Control+z", "Control+z", "Control+z", "Control+z", "Control+z")
    assert screen.strokes[0]["frames"] == [0, 15]


def test_regions_by_click_brush_and_outline(screen):
    screen.press("r")
    screen.click(200, 200)
    screen.until("editor.document.regions.length === 1")
    screen.click(300, 200)
    screen.until("transport.sent.filter((message) => message.type === 'segment').length === 2")
    assert len(screen.sent("segment")[1]["points"]) == 2
    screen.until("!editor.state.busy")
    screen.press("Escape")
    screen.page.get_by_role("button", name="Brush", exact=True).click()
    screen.drag((450, 300), (500, 330))
    screen.until("editor.document.regions.length === 2")
    assert screen.run("editor.shapes.contains(editor.document.regions[1], [475, 315])")
    assert not screen.run("editor.shapes.contains(editor.document.regions[1], [475, 400])")
    screen.press("Escape")
    screen.page.get_by_role("button", name="Outline", exact=True).click()
    for corner in ((50, 50), (120, 50), (120, 120)):
        screen.click(*corner)
    screen.press("Enter")
    assert screen.regions[2]["polygon"][0] == pytest.approx([50, 50], abs=0.6)
    screen.page.get_by_label("Rigid: it does not bend").check()
    screen.page.get_by_label("To the front").click()
    assert screen.regions[2]["rigid"]
    assert screen.regions[2]["order"] == 1


def test_regions_are_found_under_the_strokes_by_keys_alone(screen):
    find = screen.page.get_by_role("button", name="Find regions under the strokes")
    find.focus()
    screen.press("Enter")
    screen.until_it_says("Draw a move on the thing first")
    screen.drag((100, 100), (200, 100))
    screen.drag((400, 300), (500, 300))
    find.focus()
    screen.press("Enter")
    screen.until_it_says("2 regions were found")
    assert screen.run("editor.shapes.contains(editor.document.regions[1], [400, 300])")
    screen.press("Control+z")
    assert screen.regions == []


def test_a_rigid_region_is_sent_as_rigid_once_a_stroke_moves_it(screen):
    screen.press("r")
    screen.page.get_by_role("button", name="Outline", exact=True).click()
    for corner in ((50, 50), (220, 50), (220, 220)):
        screen.click(*corner)
    screen.press("Enter")
    screen.page.get_by_label("Rigid: it does not bend").check()
    screen.press("m")
    screen.drag((400, 300), (450, 300))
    screen.until("transport.regionSets.size === 1")
    assert "rigid" not in screen.run("[...transport.regionSets.values()][0][0]")
    screen.drag((200, 100), (240, 100))
    screen.until("[...transport.regionSets.values()].at(-1)[0].rigid === true")


def test_keep_still_holds_what_is_brushed(screen):
    screen.press("b")
    screen.drag((100, 300), (200, 300))
    screen.until("editor.document.regions.length === 1")
    screen.press("m")
    screen.drag((400, 100), (450, 100))
    screen.until("transport.sent.some((message) => message.type === 'flow' && message.strokes.length === 2)")
    hold = screen.sent("flow")[-1]["strokes"][1]
    assert (hold["kind"], hold["region"]) == ("hold", "Still 1")
    assert screen.run("[...transport.regionSets.values()].at(-1)[0].rigid")


def test_touch_targets_are_large(new_screen):
    screen = new_screen(size=(360, 740), has_touch=True, is_mobile=True)
    small = screen.run(
        """[...document.querySelectorAll("button, select, input:not([type=checkbox])")]
        .filter((one) => one.offsetParent && !one.closest(".zoom, .side"))
        .map((one) => [one.ariaLabel ?? one.textContent, one.getBoundingClientRect()])
        .filter(([, box]) => Math.max(box.width, box.height) && Math.min(box.width, box.height) < 40)
        .map(([name]) => name)"""
    )
    assert small == []
    assert screen.run("document.documentElement.scrollWidth") == 360


def test_all_buttons_are_on_a_narrow_screen(new_screen):
    screen = new_screen(size=(360, 740), has_touch=True, is_mobile=True)
    ends = "[...document.querySelectorAll('.bar button')].map((one) => one.getBoundingClientRect().right)"
    screen.drag((100, 100), (200, 160))
    screen.press("Enter")
    screen.until("editor.state.finished")
    screen.run("editor.goTo(12)")
    screen.drag((300, 300), (200, 360))
    assert screen.page.get_by_role("button", name="Render from 12").inner_text() == "From 12"
    assert max(screen.run(ends)) <= 360
    screen.run("void (transport.frameMs = 300)")
    screen.page.get_by_role("button", name="Render from 12").click()
    screen.until("editor.state.render")
    screen.drag((300, 200), (200, 260))  # now it can be steered
    screen.page.get_by_role("button", name="Steer").wait_for()
    assert max(screen.run(ends)) <= 360
