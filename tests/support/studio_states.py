"""All states of the page of Studio, one after the other."""

import json
from collections.abc import Iterator
from typing import Any

from support.studio_page import Screen


EXAMPLES = [{"name": name, "title": name.title(), "width": 640, "height": 444} for name in ("cat", "citrus", "coffee")]
SESSIONS = [{"id": "a" * 32, "name": "holiday in the mountains.jpg", "changed": 1.7e9, "frames": 15}]
THUMBNAIL = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 3"><rect width="4" height="3" fill="#7a8"/></svg>'


def open_start_page(page: Any, address: str) -> None:
    """The page without a picture, with the answers of a server that has examples and a session."""
    answers = {"examples": EXAMPLES, "sessions": SESSIONS}

    def answer(route: Any) -> None:
        name = route.request.url.rpartition("/")[2]
        if name in answers:
            route.fulfill(json=answers[name])
        else:
            route.fulfill(body=THUMBNAIL, content_type="image/svg+xml")

    page.route("**/api/**", answer)
    page.goto(f"{address}/")
    page.locator("img").nth(3).wait_for()


def states(screen: Screen) -> Iterator[str]:
    """Brings the editor from each state to the next; yields the name of each one that is reached."""
    yield from _of_the_model(screen)
    yield from _drawing(screen)
    yield from _tools(screen)
    yield from _rendering(screen)
    yield from _versions(screen)
    yield from _dialogs(screen)
    yield from _troubles(screen)


def _of_the_model(screen: Screen) -> Iterator[str]:
    model = {
        "loading": ({"state": "loading"}, "The model is loading"),
        "model failed": ({"state": "failed", "why": "There is no folder /models/small."}, "could not be loaded"),
        "model without F": ({"has_flow": False}, "no flow completion"),
        "empty": ({"joints": {"ready": True, "why": None}}, "Drag"),
    }
    for name, (change, sentence) in model.items():
        screen.run(f"transport.setModel({json.dumps(change)})")
        screen.until_it_says(sentence)
        yield name


def _drawing(screen: Screen) -> Iterator[str]:
    width, height = screen.run("[editor.picture.width, editor.picture.height]")

    def place(x: float, y: float) -> tuple[float, float]:
        return x * width, y * height

    screen.page.mouse.move(*screen.at(*place(0.3, 0.4)))
    screen.page.mouse.down()
    screen.page.mouse.move(*screen.at(*place(0.5, 0.45)), steps=3)
    screen.until("editor.shownFlow()")
    yield "drawing"
    screen.page.mouse.up()
    screen.drag(place(0.62, 0.7), place(0.75, 0.6), place(0.8, 0.75))
    screen.press("h")
    screen.click(*place(0.15, 0.2))
    screen.run("editor.select(editor.document.strokes[1].id, 1)")
    screen.until("editor.shownFlow() && !editor.shownFlow().stale")
    yield "drawn"
    why = "Stroke 2 goes 210 pixels in one frame; at most 48 are possible. Give it more time."
    screen.run(f"void (transport.warnings = [{{ strokes: [1], message: '{why}' }}], editor.live.requestFlow())")
    screen.until_it_says("Stroke 2 goes")
    yield "warned"
    screen.run("transport.warnings = []")
    refusal = {"stroke": 0, "why": "Stroke 1 and stroke 3 start at the same point. Remove one, or move it."}
    screen.run(f"void (transport.refuseFlow = {json.dumps(refusal)}, editor.live.requestFlow())")
    screen.page.wait_for_selector(".stroke.refused")
    yield "refused at a stroke"
    screen.run("void (transport.refuseFlow = null, editor.live.requestFlow())")
    screen.until("!editor.state.refusal && !editor.doubts().length")
    screen.press("r")
    screen.click(*place(0.35, 0.55))
    screen.until("editor.document.regions.length === 1")
    yield "region by a click"
    screen.press("Escape")
    screen.run("editor.store.set({ regionMode: 'brush' })")
    screen.page.mouse.move(*screen.at(*place(0.6, 0.3)))
    screen.page.mouse.down()
    screen.page.mouse.move(*screen.at(*place(0.75, 0.3)), steps=3)
    screen.page.locator(".brushed").first.wait_for(state="attached")
    yield "region by a brush"
    screen.page.mouse.up()
    screen.until("editor.document.regions.length === 2")
    screen.press("Escape")
    screen.run("editor.store.set({ regionMode: 'polygon' })")
    for corner in ((0.55, 0.5), (0.85, 0.45), (0.9, 0.62)):
        screen.click(*place(*corner))
    screen.page.get_by_role("button", name="Close outline").wait_for()
    yield "region by an outline"
    screen.press("Enter")
    screen.until("editor.document.regions.length === 3")


def _tools(screen: Screen) -> Iterator[str]:
    for key, name in (("v", "select"), ("b", "keep still"), ("e", "eraser")):
        screen.press(key)
        screen.page.locator(f".tool[aria-pressed=true][aria-keyshortcuts={key.upper()}]").wait_for()
        yield name
    screen.press("j")
    screen.page.locator("[data-joint]").first.wait_for(state="attached")
    screen.run("editor.store.set({ tab: 'strokes' })")
    yield "joints"
    screen.run("editor.setTool('camera'), editor.addCamera('zoom'), editor.addCamera('pan')")
    screen.page.locator(".camera-list select").first.wait_for()
    yield "camera"
    screen.run("editor.edit({ ...editor.document, camera: [] }), editor.store.set({ tab: 'timeline' })")
    screen.press("m")


def _rendering(screen: Screen) -> Iterator[str]:
    screen.run("editor.select(null), void (transport.ahead = 2)")
    screen.page.locator(".stage").focus()
    screen.press("Enter")
    screen.until_it_says("taking turns")
    yield "queued"
    screen.run("void (transport.ahead = 0, transport.frameMs = 60)")
    screen.until("editor.state.frame >= 2")
    screen.run("void (transport.paused = true)")  # which the page is not told
    yield "rendering"
    screen.run("editor.edit({ ...editor.document, strokes: editor.document.strokes.slice(0, 2) })")
    screen.page.get_by_role("button", name="Steer").wait_for()
    yield "rendering, changed strokes"
    screen.press("Shift+Enter")
    screen.until("[...editor.state.nodes.values()].some((node) => node.state === 'queued')")
    screen.run("editor.store.set({ tab: 'versions' })")
    yield "queue"
    screen.press("p")
    screen.until_it_says("Paused after frame")
    yield "paused"
    screen.run("void (transport.queue.length = 0)")
    screen.press("p", "Escape")
    screen.until("!editor.state.render")
    screen.until_it_says("kept")
    yield "stopped"
    screen.run("void (transport.frameMs = 2, transport.failAt = editor.lastFrame() + 2), editor.undo()")
    screen.page.get_by_role("button", name="Go on").click()
    screen.until_it_says("The render failed")
    yield "failed"
    screen.run("void (transport.failAt = Infinity), editor.store.set({ failure: null, tab: 'timeline' })")
    screen.page.locator(".stage").focus()
    screen.press("Enter")
    screen.until("editor.state.finished")
    yield "finished"
    screen.run("editor.goTo(6)")
    screen.press("t")
    screen.page.locator(".tracks-over").wait_for(state="attached")
    screen.run("editor.store.set({ tab: 'versions' })")
    yield "tracks"
    screen.press("t")
    live = {"node": screen.run("editor.state.node"), "first": 1, "total": 255, "index": 1, "step": 0, "steps": 2}
    live |= {"ahead": 0, "seconds": [], "begun": 0, "frameStarted": 0, "stopping": False, "enlarging": False}
    live |= {"paused": False, "steering": False, "endless": True, "ready": True, "base": "", "rev": 0}
    screen.press("l")
    screen.run(f"editor.store.set({{ render: {json.dumps(live)}, tab: 'timeline' }})")
    screen.until_it_says("Drag a thing in the picture")
    yield "live"
    screen.run("editor.store.set({ render: null })")
    screen.press("v")


def _versions(screen: Screen) -> Iterator[str]:
    screen.run(
        """(() => {
        const [first] = transport.nodes;
        const done = { ...first, state: "done", score: null };
        const idOf = (name) => name?.repeat(32) ?? null;
        const node = (name, parent, at, more) =>
          ({ ...done, id: idOf(name), parent: idOf(parent), at, frames: 15 - at, created: name, ...more });
        transport.nodes = [
          { ...done, id: idOf("1"), frames: 15, name: "The wave, first try with a rather long name", star: true },
          node("2", "1", 4),
          node("3", "2", 8),
          node("4", "3", 10, { frames: 2, state: "stopped" }),
          node("5", "4", 12),
          node("6", "2", 6, { state: "failed", frames: 1 }),
          node("7", "1", 2, { state: "queued", frames: 0 }),
          node("8", null, 0),
        ];
        transport.emit({ type: "tree", nodes: transport.nodes });
        })()"""
    )
    screen.until("editor.state.nodes.size === 8")
    screen.run("editor.showNode('3'.repeat(32)), editor.goTo(9), editor.store.set({ tab: 'versions' })")
    screen.until("editor.state.frame === 9")
    yield "tree"
    screen.run("editor.store.set({ dialog: `best ${'8'.repeat(32)}` })")
    screen.page.wait_for_selector("dialog[open]")
    yield "best of several, asked"
    screen.page.get_by_role("button", name="Render them").click()
    screen.until("editor.state.nodes.size === 12")
    screen.run("editor.showNode('8'.repeat(32))")
    screen.page.locator(".scores").wait_for()
    yield "best of several"
    screen.run("editor.store.set({ dialog: `remove ${editor.transport.nodes[0].id}` })")
    screen.page.wait_for_selector("dialog[open]")
    yield "remove a version"
    screen.run("editor.store.set({ dialog: null }), editor.goTo(9)")
    for mode in ("side", "wipe", "difference"):
        change = json.dumps({"a": "2" * 32, "b": "3" * 32, "mode": mode, "wipe": 0.4})
        screen.run(f"import('/compare.js').then((module) => module.setComparison(editor, {change}))")
        screen.page.locator(f".choice [aria-pressed=true]:text-matches('^{mode}', 'i')").wait_for()
        yield f"compare, {mode}"
    screen.run("import('/compare.js').then((module) => module.setComparison(editor, null))")
    screen.until("!editor.state.compare")
    screen.run("editor.store.set({ tab: 'timeline' })")


def _dialogs(screen: Screen) -> Iterator[str]:
    for menu, entry in (("File: ", "Rename"), ("Export", "GIF")):
        if screen.page.get_by_role("button", name=menu).is_visible():
            screen.page.get_by_role("button", name=menu).click()
            screen.page.get_by_role("menuitem", name=entry).wait_for()
            yield f"menu {entry}"
            screen.press("Escape")
    for dialog in ("help", "settings", "rename", "import"):
        screen.run(f"editor.store.set({{ dialog: '{dialog}' }})")
        screen.page.wait_for_selector("dialog[open]")
        yield dialog
        screen.run("editor.store.set({ dialog: null })")
        screen.until("!document.querySelector('dialog')")


def _troubles(screen: Screen) -> Iterator[str]:
    screen.run("editor.store.set({ saved: 'disk', message: null, finished: null })")
    screen.until_it_says("The disk is full")
    yield "disk full"
    screen.run("editor.store.set({ saved: 'saved' })")
    for name, sentence in (
        ("offline", "No connection"),
        ("connecting", "Connecting again"),
        ("elsewhere", "another window"),
        ("expired", "This session has ended"),
        ("refused", "does not know this page"),
    ):
        screen.run(f"transport.drop('{name}')")
        screen.until_it_says(sentence)
        yield name
