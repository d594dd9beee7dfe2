"""No serious finding of axe in any state, light and dark."""

import pytest


pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("scheme", "size"), [("light", (1280, 800)), ("dark", (1280, 800)), ("dark", (360, 740))])
def test_no_serious_finding(new_screen, scheme, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    screen = new_screen(size=size, color_scheme=scheme)
    screen.drag((100, 100), (200, 160))
    screen.press("r")
    screen.click(300, 300)
    screen.until("editor.document.regions.length === 1")

    def serious():
        found = axe.run(screen.page).response["violations"]
        found = [one for one in found if one["impact"] in ("serious", "critical")]
        return [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found]

    assert serious() == []
    screen.run("transport.setModel({ joints: { ready: true, why: null } })")
    screen.press("j")
    screen.page.locator("[data-joint]").first.wait_for(state="attached")
    assert serious() == []
    screen.run("editor.addCamera('zoom'), editor.setTool('camera'), editor.store.set({ tab: 'strokes' })")
    screen.page.locator(".camera-list select").wait_for()
    assert serious() == []
    screen.run("editor.live.render(), editor.store.set({ tab: 'versions' })")
    screen.until("editor.state.finished")
    screen.run("editor.tracks.toggle()")
    screen.page.locator(".track-item").first.wait_for()
    assert serious() == []
    screen.run("transport.drop()")
    screen.until("document.querySelector('.status.warn')")
    assert serious() == []
    screen.run("editor.store.set({ dialog: 'help' })")
    screen.page.wait_for_selector("dialog[open]")
    assert serious() == []


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
