# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The widget of notebooks from Python: what the page asks for is answered, and what it says is there."""

import json
import re
import sys

import pytest
from PIL import Image

from mcdiff_pipeline import Region, Stroke, StrokeSheet
from mcdiff_pipeline.studio.widget_files import STATIC, widget_module
from support.paths import EXAMPLES
from support.studio import MOVE, STROKES, new_id, png_of, tiny_pipeline, unpacked


pytest.importorskip("fastapi", reason="needs the extra `studio`")
pytest.importorskip("anywidget", reason="needs the extra `notebook`")

STROKE = Stroke([(10.5, 10.5), (33.0, 26.0)])


class Front:
    """What the page says to a widget, and hears of it."""

    def __init__(self, widget):
        self.widget = widget

    def say(self, data: dict, *buffers: bytes) -> None:
        self.widget.comm.handle_msg({"content": {"data": data}, "buffers": list(buffers)})

    def send(self, kind: str, id: str, *buffers: bytes, **fields) -> None:
        self.say({"method": "custom", "content": {"kind": kind, "id": id} | fields}, *buffers)

    def hear(self, id: str) -> tuple[dict, bytes]:
        """The next message about a request or a connection."""
        while True:
            data, buffers = self.widget.comm.said.get(timeout=30)
            if data["method"] == "custom" and data["content"]["id"] == id:
                return data["content"], b"".join(buffers)

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
        self.send("request", "r", body, method=method, path=path, headers={"content-type": kind})
        content, answer = self.hear("r")
        return content["status"], answer

    def draw(self, **changes) -> None:
        self.say({"method": "update", "state": changes, "buffer_paths": []})


@pytest.fixture
def make():
    """Makes widgets, and closes them."""
    from mcdiff_pipeline.studio.notebook import StudioWidget
    from support.notebook_page import comms

    made = []

    def make(*arguments, **options):
        with comms():
            made.append(StudioWidget(tiny_pipeline(), *arguments, **options))
        return made[-1]

    yield make
    for widget in made:
        widget.close()


def test_editor_begins_with_the_strokes_and_regions_that_are_given(make, image):
    region = Region(polygon=[(5, 5), (20, 5), (20, 20), (5, 20)], name="cup")
    widget = make(image, [STROKE], [region], num_frames=6, fps=12)
    assert widget.strokes == [STROKE] and [one.name for one in widget.regions] == ["cup"]
    assert (widget.sheet.num_frames, widget.sheet.fps) == (6, 12)
    status, answer = Front(widget).request("GET", f"/api/sessions/{widget.session}")
    assert status == 200 and json.loads(answer)["sheet"] == widget.sheet.to_dict()


def test_sheet_is_scaled_to_the_image(make, image, tmp_path):
    image.save(tmp_path / "photo.png")
    sheet = StrokeSheet([Stroke([(20, 20), (40, 40)])], 2 * image.width, 2 * image.height, 5)
    widget = make(tmp_path / "photo.png", sheet)
    assert widget.strokes == [Stroke([(10, 10), (20, 20)])] and widget.sheet.num_frames == 5


def test_what_the_page_draws_is_there_and_is_told(make, image):
    widget, told = make(image, num_frames=4), []
    widget.observe(lambda change: told.append(change["new"]), "drawn")
    fields = {
        "version": 2,
        "width": image.width,
        "height": image.height,
        "num_frames": 4,
        "fps": 8,
        "strokes": STROKES,
    }
    Front(widget).draw(drawn=fields)
    assert [stroke.kind for stroke in widget.strokes] == ["move", "hold"] and told == [fields]


def test_live_messages_and_frames_come_through_the_widget(make, image):
    widget = make(image, num_frames=4)
    front, node = Front(widget), new_id()
    front.send("open", "w", path=f"/api/sessions/{widget.session}/live")
    front.send("text", "w", text=json.dumps({"type": "hello", "token": None}))
    kinds = []

    def until(kind: str) -> None:
        while kind not in kinds:
            header, _ = unpacked(front.hear("w")[1])
            assert header["type"] not in ("refused", "error", "failed"), header
            kinds.append(header["type"])

    until("hello")
    front.send(
        "text", "w", text=json.dumps({"type": "render", "rev": 1, "node": node, "strokes": [MOVE], "num_frames": 4})
    )
    until("done")
    assert kinds.count("frame") == 3
    assert widget.frames == []  # the page shows none yet
    front.draw(shown=node, made=3)
    frames = widget.frames
    assert len(frames) == 4 and {frame.size for frame in frames} == {frames[0].size}
    assert {frame.size for frame in widget.full_frames()} == {image.size}
    front.send("open", "again", path=f"/api/sessions/{widget.session}/live")
    front.send("text", "again", text=json.dumps({"type": "hello", "token": None}))
    content, _ = front.hear("w")
    while content["kind"] == "message":
        content, _ = front.hear("w")
    assert content["code"] == 4409  # the picture is open in another page


def test_refusals_are_answers(make, image):
    front = Front(make(image))
    status, answer = front.request("GET", f"/api/sessions/{'0' * 32}")
    assert status == 404 and "no longer there" in json.loads(answer)["why"]
    status, _ = front.request("POST", "/api/sessions?name=b.png", png_of(Image.new("RGB", (40, 30))), "image/png")
    assert status == 201


def test_closed_editor_keeps_the_drawing_and_leaves_no_files(make, image):
    widget = make(image, [STROKE])
    folder = widget._studio.settings.folder
    assert folder.is_dir()
    widget.close()
    assert not folder.exists() and widget.strokes == [STROKE] and widget.frames == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"height": 100}, "`height` is 100; the editor needs 320 pixels or more"),
        ({"strokes": [Stroke([(500, 0), (0, 0)])]}, r"strokes\[0\].points\[0\]"),
        ({"image": [1]}, "`image` is list; it must be a PIL image or the name of a file"),
        ({"image": Image.new("RGB", (4000, 10))}, "at most 32 times"),
    ],
)
def test_wrong_arguments_are_refused(make, image, options, words):
    with pytest.raises(ValueError, match=words):
        make(**{"image": image} | options)


def test_full_frames_need_a_render(make, image):
    with pytest.raises(ValueError, match="Nothing is rendered yet"):
        make(image).full_frames()


def test_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "mcdiff_pipeline.studio.notebook", raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match=r"pip install 'mcdiff-pipeline\[notebook\]'"):
        import mcdiff_pipeline.studio.notebook  # noqa: F401


def test_module_of_the_widget_holds_all_that_it_imports_in_order():
    content = re.search(r"showInFrame\(context, (.*)\) \};", widget_module())
    scripts, before = json.loads(content[1])["scripts"], set()
    for name, source in scripts:
        imported = set(re.findall(r'"mcdiff:([^"]+)"', source))
        assert imported <= before, name
        assert not re.search(r'from "\.', source), name
        before.add(name)
    assert scripts[-1][0] == "notebook.js" and "editor.js" in before
    assert {"app.js", "start.js"}.isdisjoint(before) and (STATIC / "app.js").is_file()


@pytest.mark.weights
def test_example_runs(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    names: dict = {}
    for cell in json.loads((EXAMPLES / "draw_in_a_notebook.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["output"].frames[0]) == 3 and names["editor"].strokes
