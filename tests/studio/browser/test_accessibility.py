"""No serious finding of axe in any state, light and dark; what is read out; what keys do."""

import pytest

from support.axe import ALL_BUT_CONTRAST, ALL_RULES, CONTRAST, Axe
from support.studio_states import open_start_page, states


pytestmark = pytest.mark.browser


BOTH_THEMES = {"light": ALL_RULES, "dark": CONTRAST}


@pytest.mark.parametrize(
    ("size", "runs"), [((1280, 800), BOTH_THEMES), ((360, 740), {"dark": ALL_BUT_CONTRAST})], ids=["wide", "narrow"]
)
def test_no_serious_finding_in_any_state(new_screen, size, runs):
    screen = new_screen(size=size, has_touch=size[0] < 400)
    axe = Axe(screen.page, runs)
    assert [(state, *finding) for state in states(screen) for finding in axe.serious()] == []


def test_no_serious_finding_without_a_picture(new_screen, address):
    screen = new_screen()
    open_start_page(screen.page, address)
    assert list(Axe(screen.page, BOTH_THEMES).serious()) == []


def test_tools_are_one_stop_of_tab_with_arrow_keys(screen):
    stops = "[...document.querySelectorAll('.tool[tabindex=\"0\"]')].map((tool) => tool.ariaLabel)"
    assert screen.run(stops) == ["Move"]
    screen.page.get_by_role("button", name="Move", exact=True).focus()
    screen.press("ArrowDown", "ArrowRight", "ArrowUp")
    screen.until(f"({stops}).join() === 'Hold'")
    assert screen.run("document.activeElement.ariaLabel") == "Hold"
    screen.press("Enter")
    assert screen.run("editor.state.tool") == "hold"
    screen.press("End", "Home")
    assert screen.run("document.activeElement.ariaLabel") == "Select"


def test_region_is_made_and_changed_without_a_pointer(screen):
    screen.page.get_by_role("button", name="Add region").focus()
    screen.press("Enter")
    field = screen.page.get_by_label("x of corner 1")
    field.fill("100")
    field.press("Enter")
    assert screen.regions[0]["polygon"][0] == [100, 192]
    field.fill("500")  # the outline would cross itself
    field.press("Enter")
    screen.until_it_says("cross itself")
    assert field.input_value() == "100" and screen.regions[0]["polygon"][0] == [100, 192]
    screen.page.get_by_role("button", name="Add corner").press("Enter")
    screen.page.get_by_role("button", name="Remove corner 2").press("Enter")
    assert len(screen.regions[0]["polygon"]) == 4
    still = screen.page.get_by_role("checkbox", name="Keep still")
    still.press("Space")
    assert screen.regions[0]["still"] and screen.regions[0]["rigid"]
    still.press("Space")
    assert not screen.regions[0].get("still")


def test_arrows_on_the_strip_of_frames_leave_the_selected_stroke_alone(screen):
    screen.run("void (transport.frameMs = 2)")
    screen.press("h")
    screen.click(100, 100)
    screen.press("Enter")
    screen.until("editor.state.finished")
    screen.run("editor.select(editor.document.strokes[0].id)")
    place = screen.strokes[0]["points"]
    screen.page.locator(".strip").focus()
    screen.press("Home", "ArrowRight", "ArrowUp", "ArrowLeft")
    assert screen.run("editor.state.frame") == 1
    assert screen.strokes[0]["points"] == place


def test_messages_are_read_out_at_most_once_a_second(screen):
    screen.run(
        """window.said = [];
        const changes = { childList: true, characterData: true, subtree: true };
        const seen = new MutationObserver(() => said.push(performance.now()));
        seen.observe(document.querySelector("[aria-live]"), changes);
        for (let i = 0; i < 20; i++) setTimeout(() => editor.say(`Message ${i}`), 100 * i);"""
    )
    screen.page.wait_for_timeout(2600)
    times = screen.run("said")
    assert 1 <= len(times) <= 4
    assert all(b - a > 900 for a, b in zip(times, times[1:], strict=False))
