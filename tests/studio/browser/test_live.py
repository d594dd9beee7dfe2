"""Flow that follows the pen, renders, versions, and what is said when something fails."""

import json
import shutil
import subprocess

import pytest

from support.studio_page import STATIC


pytestmark = pytest.mark.browser


def test_the_newest_flow_wins_and_stale_flow_dims(screen):
    screen.drag((100, 100), (200, 100))
    screen.until("editor.shownFlow() && !editor.shownFlow().stale")
    # the answer to the next request comes late, after that to the one after it
    screen.run("void (transport.flowDelay = (rev) => (rev === editor.live.rev ? 400 : 0))")
    screen.drag((300, 300), (400, 300))
    screen.until("editor.shownFlow().stale")
    screen.run("void (transport.flowDelay = () => 0)")
    screen.drag((300, 200), (400, 200))
    screen.until("editor.shownFlow() && !editor.shownFlow().stale")
    newest = screen.run("editor.state.flow.rev")
    screen.page.wait_for_timeout(500)
    assert screen.run("editor.state.flow.rev") >= newest
    assert screen.run("editor.state.flow.rev === editor.state.flowRev")


def test_flow_is_asked_for_while_the_pen_is_down(screen):
    x, y = screen.at(100, 100)
    screen.page.mouse.move(x, y)
    screen.page.mouse.down()
    screen.page.mouse.move(x + 80, y, steps=8)
    screen.until("editor.shownFlow()")
    assert screen.strokes == []
    screen.page.mouse.up()


def test_render_rewind_and_draw_again_makes_a_child(screen):
    screen.drag((100, 100), (200, 100))
    screen.press("Enter")
    screen.until("editor.state.frame >= 3 && editor.state.render")
    screen.until("editor.state.finished")
    (first,) = screen.run("[...editor.state.nodes.values()]")
    screen.page.locator(".strip").focus()
    screen.press("Home", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight")
    assert screen.run("editor.state.frame") == 4
    screen.press("m")
    screen.drag((300, 300), (360, 340))
    assert screen.strokes[1]["frames"] == [4, 15]
    screen.page.get_by_role("button", name="Render from 4").click()
    screen.until("editor.state.finished")
    request = screen.sent("render")[1]
    assert (request["parent"], request["at"], request["settings"]) == (first["id"], 4, None)
    assert len(request["strokes"]) == 2
    # nothing is overwritten, and undo brings back what was drawn before another version was shown
    screen.page.get_by_role("treeitem", name="Version 1").first.click()
    assert len(screen.strokes) == 1
    screen.press("Control+z")
    assert len(screen.strokes) == 2


def test_frame_of_a_branch_comes_from_the_version_that_made_it(screen):
    owner = """(() => {
        const nodes = new Map([["a", { id: "a", parent: null, at: 0 }], ["b", { id: "b", parent: "a", at: 4 }],
            ["c", { id: "c", parent: "b", at: 6 }]]);
        return [0, 3, 4, 5, 6, 7].map((k) => editor.frames.owner(nodes, "c", k)); })()"""
    assert screen.run(owner) == [None, "a", "a", "b", "b", "c"]


def test_stop_keeps_the_frames_and_go_on_continues(screen):
    screen.run("void (transport.frameMs = 120)")
    screen.drag((100, 100), (200, 100))
    screen.press("Enter")
    screen.until("editor.state.frame >= 2")
    screen.press("Escape")
    screen.until("!editor.state.render")
    kept = screen.run("editor.lastFrame()")
    assert 2 <= kept < 15
    screen.until_it_says("kept")
    screen.run("void (transport.frameMs = 4)")
    screen.page.get_by_role("button", name="Go on").click()
    screen.until("editor.state.finished")
    assert screen.sent("render")[0]["node"] == screen.sent("render")[1]["node"]
    assert screen.run("editor.lastFrame()") == 15


def test_a_refusal_is_shown_at_its_stroke(screen):
    screen.run("void (transport.refuseFlow = { stroke: 1, why: 'Two moves start at the same point.' })")
    screen.drag((100, 100), (200, 100))
    screen.drag((300, 300), (400, 300))
    screen.page.wait_for_selector(".stroke.refused")
    assert screen.page.locator(".refusal").inner_text() == "Two moves start at the same point."
    assert screen.status == "Stroke 2: Two moves start at the same point."
    screen.run("void (transport.refuseFlow = null)")
    screen.press("Control+z")
    screen.until("!editor.state.refusal")


def test_a_warning_is_shown_beside_its_stroke_and_stops_nothing(screen):
    why = "Stroke 1 (from 100,100) is too fast."
    screen.run(f"void (transport.warnings = [{{ strokes: [0], message: '{why}' }}])")
    screen.drag((100, 100), (200, 100))
    screen.drag((300, 300), (400, 300))
    screen.page.wait_for_selector(".stroke.doubtful")
    screen.until_it_says(why)
    assert screen.page.locator(".side .why").all_inner_texts() == [why]
    screen.press("f", "Enter")  # without flow, the render tells it
    screen.until("editor.state.finished")
    screen.until_it_says(f"s. {why}")
    screen.run("void (transport.warnings = [])")
    screen.press("f", "Control+z")
    screen.until("!editor.doubts().length")


def test_a_failed_render_keeps_strokes_and_offers_a_smaller_one(screen):
    screen.run("void (transport.failAt = 3)")
    screen.drag((100, 100), (200, 100))
    screen.press("Enter")
    screen.page.wait_for_selector(".status.bad")
    screen.until_it_says("The graphics memory is full.")
    assert len(screen.strokes) == 1
    screen.run("void (transport.failAt = Infinity)")
    screen.page.get_by_role("button", name="Try smaller").click()
    screen.until("editor.state.finished")
    assert screen.sent("render")[1]["settings"]["size"] == 88


def test_drawing_goes_on_offline_and_the_newest_document_is_sent_after(screen):
    screen.run("transport.drop()")
    screen.drag((100, 100), (200, 100))
    screen.drag((100, 200), (200, 200))
    screen.until_it_says("No connection")
    screen.page.wait_for_timeout(1100)
    assert screen.run("transport.saved.length") == 0
    screen.page.get_by_role("button", name="Try again").click()
    screen.until("transport.saved.length === 1 && editor.state.saved === 'saved'")
    assert len(screen.run("transport.saved[0].draft.strokes")) == 2


def test_document_is_saved_while_one_draws_on_without_a_pause(screen):
    for index in range(8):
        screen.drag((100, 60 + 40 * index), (200, 60 + 40 * index))
        screen.page.wait_for_timeout(300)
    assert screen.run("transport.saved.length") >= 1
    screen.until("editor.state.saved === 'saved'")
    assert len(screen.run("transport.saved.at(-1).draft.strokes")) == 8


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("transport.setModel({ state: 'loading' })", "The model is loading."),
        ("transport.setModel({ state: 'failed', why: 'There is no such folder.' })", "There is no such folder."),
        ("transport.setModel({ has_flow: false })", "no flow completion"),
        ("transport.drop('expired')", "This session has ended"),
        ("transport.drop('elsewhere')", "another window"),
        ("editor.store.set({ saved: 'disk' })", "The disk is full"),
    ],
)
def test_states_are_said_in_a_sentence(screen, change, sentence):
    screen.run(f"void ({change})")
    screen.until(f"document.querySelector('.status-text').textContent.includes({json.dumps(sentence)})")


def test_sheet_of_an_example_is_the_first_document(new_screen):
    screen = new_screen(query="&sheet=/examples/coffee.json", picture=(400, 400))
    assert [stroke["kind"] for stroke in screen.strokes] == ["move", "hold", "hold"]
    assert [region["name"] for region in screen.regions] == ["cup"]
    screen.page.wait_for_selector("[data-region] path")


def test_masks_are_gray_pngs_of_the_same_pixels(screen):
    assert screen.run(
        """(async () => {
            const { maskToUrl, maskFromUrl } = await import("/masks.js");
            const mask = { width: 7, height: 5, data: Uint8Array.from({ length: 35 }, (_, i) => (i * 37) % 256) };
            const again = await maskFromUrl(await maskToUrl(mask));
            return again.width === 7 && again.height === 5 && again.data.every((value, i) => value === mask.data[i]);
        })()"""
    )


def test_types_of_the_page():
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("needs the compiler of TypeScript, tsc")
    project = STATIC.parents[3] / "tsconfig.json"
    result = subprocess.run([compiler, "--project", project], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_tracks_show_where_handles_are_found(screen):
    screen.drag((100, 100), (200, 100))
    screen.press("h")
    screen.click(400, 300)
    screen.press("Enter")
    screen.until("editor.state.finished")
    screen.press("t")
    screen.page.locator(".track-item").nth(1).wait_for()
    assert [one.strip() for one in screen.page.locator(".verdict").all_inner_texts()] == [
        "22 px off",
        "stays, 1.5 px off",
    ]
    screen.page.locator(".strip").focus()
    screen.press("Escape", "Home", "ArrowRight", "ArrowRight")
    screen.page.locator(".tracks-over .spot").nth(1).wait_for()
    place = "document.querySelector('.tracks-over circle.{}').cx.baseVal.value"
    # both are of the frame that is shown now: found one pixel of the picture to the left of where it was to go
    screen.until(f"Math.abs({place.format('spot')} - {place.format('goal')} + editor.view.scale) < 0.01")
    screen.press("t")
    screen.until("!document.querySelector('.tracks-over')")
