"""Steering, pausing, the queue, the tree of versions, and two of them beside each other."""

import pytest


pytestmark = pytest.mark.browser


@pytest.fixture
def branched(screen):
    """A version, and one that goes on from its frame 4 with another stroke in the place of the first."""
    screen.run("void (transport.frameMs = 2)")
    screen.drag((100, 100), (200, 100))
    screen.press("Enter")
    screen.until("editor.state.finished")
    screen.run("editor.goTo(4)")
    screen.press("Escape")
    screen.run("editor.edit({ ...editor.document, strokes: [] })")
    screen.drag((300, 300), (360, 340))
    screen.press("Enter")
    screen.until("editor.state.finished && editor.state.nodes.size === 2")
    return screen


def names(screen):
    return screen.page.locator(".versions .what").all_inner_texts()


def test_paused_render_goes_on_with_changed_strokes_from_the_frame_it_rests_at(screen):
    screen.run("void (transport.frameMs = 60)")
    screen.drag((100, 100), (200, 100))
    screen.press("Enter")
    screen.until("editor.state.frame >= 2")
    screen.press("p")
    screen.until_it_says("Paused after frame")
    screen.drag((300, 300), (360, 340))
    assert screen.page.get_by_role("button", name="Steer").is_visible()
    screen.press("Enter")
    screen.until_it_says("The new strokes act from frame")
    screen.run("void (transport.frameMs = 2)")
    screen.until("editor.state.finished")
    (steer,) = screen.sent("steer")
    assert len(steer["strokes"]) == 2
    # the strip marks where the change took effect
    at = screen.run("[...editor.state.nodes.values()].at(-1).at")
    assert screen.run(f"document.querySelectorAll('.frame-cell')[{at}].querySelector('.change').title").startswith(
        "Version 2: from here on"
    )
    screen.run(f"editor.goTo({at})")
    screen.until(f"document.querySelector('.strip').ariaValueText.startsWith('{at}. Version 2')")


def test_renders_wait_in_a_queue_and_can_be_taken_out(screen):
    screen.run("void (transport.frameMs = 200)")
    screen.drag((100, 100), (200, 100))
    screen.press("Enter")
    screen.until("editor.state.frame >= 2")
    for y in (200, 300):
        screen.run("editor.goTo(1)")
        screen.drag((100, y), (200, y))
        screen.press("Shift+Enter")
    screen.page.get_by_text("waits, 2 before it").wait_for()
    screen.page.get_by_role("button", name="Take Version 2 out of the queue").click()
    screen.until_it_says("Taken out of the queue.")
    screen.run("void (transport.frameMs = 2)")
    screen.until("[...editor.state.nodes.values()].filter((node) => node.at + node.frames === 15).length === 2")
    assert [node["state"] for node in screen.run("transport.nodes")] == ["done", "stopped", "done"]


def test_strokes_before_the_branch_are_ghosts(branched):
    branched.run("editor.goTo(8)")
    branched.until("document.querySelectorAll('polyline.ghost').length === 1")
    assert len(branched.strokes) == 1
    branched.page.get_by_role("treeitem", name="Version 1").first.click()
    branched.until("document.querySelectorAll('polyline.ghost').length === 0")


def test_versions_are_a_tree_that_keys_change(branched):
    rows = branched.page.locator(".versions li")
    assert [row.get_attribute("data-depth") for row in rows.all()] == ["0", "1"]
    branched.page.get_by_label("Name", exact=True).fill("Wave")
    branched.press("Enter")
    branched.until("transport.nodes[1].name === 'Wave'")
    branched.page.get_by_role("treeitem", name="Version 1").first.focus()
    branched.press("Delete")
    dialog = branched.page.get_by_role("dialog")
    assert "the 1 version made from it" in dialog.inner_text() and "Among them: Wave." in dialog.inner_text()
    branched.press("Escape")
    branched.until("editor.state.dialog === null")
    assert names(branched) == ["Version 1", "Wave"]


def focused(screen):
    """Which version has the focus, and which one is in the order of Tab."""
    return screen.run(
        """[document.activeElement.ariaLabel?.split(",")[0],
        [...document.querySelectorAll(".tree li[tabindex='0']")].map((row) => row.ariaLabel.split(",")[0])]"""
    )


def test_arrow_keys_go_through_the_tree(branched):
    screen = branched
    screen.run(
        """(() => {
        const [first, second] = transport.nodes;
        const third = { ...second, id: "d".repeat(32), parent: second.id, at: 8, created: 3 };
        transport.nodes = [first, second, third, { ...first, id: "e".repeat(32), created: 4 }];
        transport.emit({ type: "tree", nodes: transport.nodes });
        })()"""
    )
    screen.until("document.querySelectorAll('[role=treeitem]').length === 4")
    levels = screen.run("[...document.querySelectorAll('[role=treeitem]')].map((row) => row.ariaLevel)")
    assert levels == ["1", "2", "3", "1"]
    screen.page.locator(".tree li[tabindex='0']").focus()
    frame = screen.run("editor.state.frame")
    for key, name in (
        ("Home", "Version 1"),
        ("ArrowUp", "Version 1"),
        ("ArrowDown", "Version 2"),
        ("ArrowRight", "Version 3"),
        ("ArrowRight", "Version 3"),  # nothing is below it
        ("ArrowLeft", "Version 2"),
        ("ArrowLeft", "Version 2"),  # folded
        ("ArrowDown", "Version 4"),
        ("ArrowUp", "Version 2"),
        ("ArrowRight", "Version 2"),  # unfolded
        ("ArrowLeft", "Version 2"),
        ("ArrowLeft", "Version 1"),
        ("End", "Version 4"),
    ):
        screen.press(key)
        screen.until(f"document.querySelector(\".tree li[tabindex='0']\").ariaLabel.startsWith('{name}')")
        assert focused(screen) == [name, [name]], key
    assert screen.run("editor.state.frame") == frame  # the arrows did nothing else
    screen.press("Enter")
    screen.until("editor.state.node === 'e'.repeat(32)")
    assert screen.page.get_by_role("treeitem", selected=True).count() == 1
    # Tab goes on to the buttons of the row, not to other rows
    screen.press("Tab")
    assert screen.run("document.activeElement.ariaLabel") == "Star Version 4"
    screen.press("Tab", "Delete")
    screen.page.get_by_role("dialog").get_by_role("button", name="Remove").focus()
    screen.press("Enter")
    screen.until("document.querySelectorAll('[role=treeitem]').length === 2")  # the third is folded
    screen.until("document.activeElement.role === 'treeitem'")


def test_folded_branch_opens_when_a_version_in_it_is_shown(branched):
    screen = branched
    screen.page.get_by_role("treeitem", name="Version 1").click()
    screen.page.locator(".fold:not(.leaf)").click()
    screen.until("document.querySelectorAll('[role=treeitem]').length === 1")
    assert screen.page.get_by_role("treeitem").get_attribute("aria-expanded") == "false"
    screen.press("ArrowRight")  # what is clicked does not keep the focus: arrows go from frame to frame
    assert screen.run("editor.state.frame") == 1
    screen.run("editor.showNode(transport.nodes[1].id)")
    screen.until("document.querySelectorAll('[role=treeitem]').length === 2")


def test_two_versions_are_compared_at_one_frame(branched):
    screen = branched
    screen.press("a")
    screen.page.wait_for_selector(".comparing")
    screen.press("End")
    assert screen.page.locator(".compare-name").all_inner_texts() == ["Version 2", "Version 1"]
    pixel = """(x, y) => { const c = document.querySelector(".stage canvas");
        return [...c.getContext("2d").getImageData(c.width * x, c.height * y, 1, 1).data]; }"""
    screen.until(f"({pixel})(0.25, 0.5)[3] === 255 && ({pixel})(0.75, 0.5)[3] === 255")
    screen.press("a", "a")  # the made-up frames are the same in both versions
    screen.until(f"String(({pixel})(0.5, 0.5).slice(0, 3)) === '0,0,0'")
    screen.page.get_by_role("button", name="Wipe").click()
    screen.drag((200, 200), (320, 200))
    assert screen.run("editor.state.compare.wipe") == pytest.approx(0.5, abs=0.02)
    assert len(screen.strokes) == 1  # nothing was drawn
    screen.page.locator(".stage").focus()
    screen.press("Escape")
    screen.until("!document.querySelector('.comparing')")
    screen.until("editor.view.stage.width > 900")


def test_seeds_that_compete_are_listed_by_how_well_they_follow(branched):
    screen = branched
    screen.page.get_by_role("button", name="Best of").click()
    screen.page.get_by_label("Seeds").fill("2")
    screen.press("Tab")
    screen.page.get_by_role("button", name="Render them").click()
    screen.until("editor.state.nodes.size === 4")
    screen.page.get_by_text("3rd of 3").wait_for()
    assert len(screen.sent("best")[0]["ids"]) == 2
    assert names(screen) == ["Version 1", "Version 2", "Version 4", "Version 3"]
    assert screen.page.locator(".scores td").all_inner_texts() == ["2.0"]
