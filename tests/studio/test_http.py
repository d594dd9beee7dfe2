# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The routes: what they give, and what they refuse with one sentence."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.model_names import EXAMPLE_IMAGE
from mcdiff_pipeline.studio.pictures import mask_uri, read_picture
from mcdiff_pipeline.studio.refusals import Refused
from support.studio import MOVE, STROKES, new_id, pixels, png_of, serving


def refusal(response, status, *words):
    """Asserts that a response is a refusal, in one sentence with these words; returns its code."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"why", "code"} and all(word in body["why"] for word in words), body
    assert "\n" not in body["why"] and body["why"].endswith("."), body
    return body["code"]


def claiming(width, height):
    """A PNG of a few bytes that says it has this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_picture_becomes_a_session(server, image):
    session = server.open(image, "my cat.png")
    url = f"/api/sessions/{session['id']}"
    assert session["picture"] == {"width": 48, "height": 40} and session["name"] == "my cat.png"
    assert session["nodes"] == [] and session["document"] is None and session["sheet"] is None
    assert np.array_equal(pixels(server.client.get(f"{url}/picture.png").content), np.asarray(image))
    assert pixels(server.client.get(f"{url}/thumbnail.webp").content).shape == (40, 48, 3)
    assert server.client.get(url).json() == session
    assert [one["id"] for one in server.client.get("/api/sessions").json()] == [session["id"]]
    assert server.client.patch(url, json={"name": "Dog"}).json()["name"] == "Dog"
    assert server.client.delete(url).status_code == 204
    assert refusal(server.client.get(url), 404, "no longer there") == "session"
    assert server.client.get("/api/sessions").json() == []
    assert not (server.studio.settings.folder / session["id"]).exists()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_picture_is_turned_upright_and_loses_its_metadata(server, image, form):
    content, exif = io.BytesIO(), image.getexif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    exif[0x010E] = "a secret"
    image.save(content, form, exif=exif)
    # the type that is announced does not decide
    response = server.client.post("/api/sessions", content=content.getvalue(), headers={"content-type": "text/html"})
    session = response.json()
    assert session["picture"] == {"width": 40, "height": 48}
    stored = server.client.get(f"/api/sessions/{session['id']}/picture.png").content
    assert b"secret" not in stored
    turned = np.rot90(np.asarray(image), -1).astype(int)
    assert np.abs(pixels(stored) - turned).mean() < 12


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_pictures_of_all_modes_are_shown_on_white(image, mode):
    if mode == "I;16":
        other = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "RGBA":
        other = image.copy()
        other.putalpha(0)
    else:
        other = image.convert(mode)
    picture = read_picture(png_of(other))
    assert picture.mode == "RGB" and picture.size == image.size
    expected = Image.new("RGB", image.size, "white") if mode == "RGBA" else other.convert("L").convert("RGB")
    if mode not in ("P", "I;16"):
        assert np.array_equal(np.asarray(picture), np.asarray(expected))
    elif mode == "I;16":
        assert np.array_equal(np.asarray(picture), np.asarray(image.convert("L").convert("RGB")))


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "no content"),
        (b"GIF9", 415, "not one that can be opened"),
        (b"<svg/>", 415, "not one that can be opened"),
        (b"\x89PNG\r\n\x1a\n", 415, "not a picture"),
        (claiming(48, 40), 415, "not a picture"),
        (claiming(30_000, 30_000), 413, "too many pixels"),
        (claiming(2_000_000_000, 2_000_000_000), 413, "pixels"),
        (claiming(3300, 100), 400, "at most 32 times"),
        (b'{"example": "../../etc/passwd"}', 422, "example"),
        (b'{"example": "dragon"}', 404, "there are: "),
        (b'{"example": 1e999}', 422, "not JSON"),
        (b'{"example": ' + b"[" * 5000, 422, "not JSON"),
        (b"PK\x03\x04", 415, "not complete"),
        (b"\0\0\0\x20ftypisom" + b"\0" * 64, 415, "clip cannot be opened"),
        (b"\x1a\x45\xdf\xa3" + b"\0" * 64, 415, "clip cannot be opened"),
        (b"GIF89a" + b"\0" * 64, 415, "clip cannot be opened"),
    ],
)
def test_file_that_cannot_be_opened_is_refused(kept_server, content, status, words):
    response = kept_server.client.post("/api/sessions", content=content)
    refusal(response, status, words)
    assert kept_server.client.get("/api/sessions").json() == []
    assert list(kept_server.studio.settings.folder.iterdir()) == []


def test_truncated_picture_is_refused(server, image):
    refusal(server.client.post("/api/sessions", content=png_of(image)[:-40]), 415, "not a picture")


def test_picture_of_too_many_bytes_is_refused_before_it_is_read(server, image):
    # a claim is enough, and so is a stream that does not end
    headers = {"content-length": "30000000000"}
    refusal(server.client.post("/api/sessions", content=b"\x89PNG", headers=headers), 413, "30000.0 MB")
    content = png_of(image) + b"\0" * 20_000_000
    refusal(server.client.post("/api/sessions", content=content), 413, "at most 20 MB")
    assert list(server.studio.settings.folder.iterdir()) == []


def test_example_comes_with_its_strokes(tmp_path):
    with serving(tmp_path, examples=EXAMPLE_IMAGE.parent) as server:
        examples = {one["name"]: one for one in server.client.get("/api/examples").json()}
        assert "cat" in examples
        assert server.client.get("/api/examples/cat/thumbnail.webp").headers["content-type"] == "image/webp"
        refusal(server.client.get("/api/examples/..%2Fcat/thumbnail.webp"), 404)
        session = server.client.post("/api/sessions", json={"example": "cat"}).json()
        size = examples["cat"]["width"], examples["cat"]["height"]
        assert (session["picture"]["width"], session["picture"]["height"]) == size
        assert session["sheet"]["strokes"] and session["sheet"]["width"] == size[0]
        url = f"/api/sessions/{session['id']}"
        assert server.client.put(f"{url}/document", json={"rev": 1, "document": {"version": 1}}).json() == {"rev": 1}
        assert server.client.get(url).json()["sheet"] is None


def test_document_is_kept_verbatim_and_the_newest_one_wins(server, session):
    url = f"/api/sessions/{session}"
    document = {"version": 3, "strokes": [1.5, None, {"ü": "\u0000"}], "big": 2**70}
    assert server.client.put(f"{url}/document", json={"rev": 5, "document": document}).json() == {"rev": 5}
    code = refusal(
        server.client.put(f"{url}/document", json={"rev": 4, "document": {"version": 1}}), 409, "revision 4"
    )
    assert code == "conflict"
    assert server.client.get(url).json()["document"] == document
    with server.page(session) as page:
        page.send("save", document={"version": 4})
        assert "revision" in page.until("refused")[0]["why"]
        page.rev = 6
        page.send("save", document={"version": 4})
        assert page.until("saved")[0]["rev"] == 7
    assert server.client.get(url).json()["document_rev"] == 7


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ('{"rev": 1, "document": {}}', 422, "document.version"),
        ('{"rev": 1, "document": {"version": true}}', 422, "document.version"),
        ('{"rev": -1, "document": {"version": 1}}', 422, "rev"),
        ('{"rev": 1.5, "document": {"version": 1}}', 422, "rev"),
        ('{"rev": 1, "document": {"version": 1}, "more": 1}', 422, "more"),
        ('{"rev": 1, "document": {"version": 1, "x": NaN}}', 422, "not JSON"),
        ('{"rev": 1, "document": {"version": 1, "x": 1e999}}', 422, "not JSON"),
        ('{"rev": 1, "document": {"version": 1, "x": "\\ud800"}}', 422, "not JSON"),
        ('{"rev": 1, "document": {"version": 1, "x": ' + "[" * 40 + "]" * 40 + "}}", 422, "32 deep"),
        ('{"rev": 1, "document": {"version": 1, "x": ' + "[" * 9999 + "]" * 9999 + "}}", 422, "not JSON"),
        ('{"rev": 1, "document": {"version": 1, "x": "' + "x" * 4_000_000 + '"}}', 413, "4 MB"),
        ("not JSON", 422, "not JSON"),
    ],
)
def test_document_that_cannot_be_kept_is_refused(kept_server, kept_session, body, status, word):
    response = kept_server.client.put(f"/api/sessions/{kept_session}/document", content=body)
    refusal(response, status, word)
    assert kept_server.client.get(f"/api/sessions/{kept_session}").json()["document"] is None


def test_names_are_bounded_and_plain(server, session):
    url = f"/api/sessions/{session}"
    refusal(server.client.patch(url, json={"name": ""}), 422, "name")
    refusal(server.client.patch(url, json={"name": "x" * 101}), 422, "name")
    refusal(server.client.patch(url, content=b" " * 20_000), 413, "smaller")
    assert server.client.patch(url, json={"name": "a\r\nb\0\u202e"}).json()["name"] == "ab"
    assert server.client.patch(url, json={"name": "\u2028"}).json()["name"] == "picture"


def test_regions_have_a_key_of_their_content(server, session, image):
    url = f"/api/sessions/{session}/regions"
    box = {"polygon": [[0, 0], [9, 0], [9, 9]], "name": "box"}
    key = server.client.put(url, json={"regions": [box]}).json()["regions"]
    assert len(key) == 16 and server.client.put(url, json={"regions": [box]}).json()["regions"] == key
    assert server.client.put(url, json={"regions": []}).json() == {"regions": None}
    refusal(server.client.put(url, json={"regions": [box] * 65}), 422, "regions")
    refusal(server.client.put(url, json={"regions": [1]}), 422, "regions.0")
    for number in range(20):  # a page that sends many does not fill the disk
        server.client.put(url, json={"regions": [box | {"name": str(number)}]})
    folder = server.studio.settings.folder / session / "regions"
    assert len(list(folder.iterdir())) <= 9


@pytest.mark.parametrize(
    ("region", "word"),
    [
        ({"polygon": [[0, 0], [9, 0]]}, "polygon"),
        ({"polygon": [[0, 0], [9, 0], [9, 1e300]]}, "polygon"),
        ({"mask": "https://example.org/mask.png"}, "data:image/png"),
        ({"mask": "/etc/passwd"}, "data:image/png"),
        ({"mask": "data:image/png;base64,AAAA"}, "not a complete PNG"),
        ({"mask": 5}, "data:image/png"),
        ({"mask": mask_uri(Image.new("L", (4097, 2)))}, "at most 4096"),
        ({"mask": mask_uri(Image.new("RGB", (2, 2)))}, "must be gray"),
        ({"mask": mask_uri(Image.new("L", (8, 8))), "path": "/etc/passwd"}, "not a field"),
        ({"polygon": [[0, 0], [9, 0], [9, 9]], "rigid": None}, "rigid"),
        ({"polygon": [[0, 0], [9, 0], [9, 9]], "order": "front"}, "order"),
        ({}, "regions[0]"),
    ],
)
def test_region_that_is_wrong_is_named(kept_server, kept_session, region, word):
    key = kept_server.client.put(f"/api/sessions/{kept_session}/regions", json={"regions": [region]}).json()["regions"]
    with kept_server.page(kept_session) as page:
        for kind in ("flow", "render"):
            extra = {"node": new_id()} if kind == "render" else {}
            page.send(kind, strokes=STROKES, num_frames=4, regions=key, **extra)
            header, _ = page.until("refused", "flow", "queued")
            assert header["type"] == "refused" and header["region"] == 0 and word in header["why"], header
            assert header["why"].startswith("regions[0]")


def test_sheet_is_scaled_to_the_picture(server, session):
    url = f"/api/sessions/{session}/import"
    sheet = {"version": 1, "width": 96, "height": 40, "num_frames": 5, "strokes": [MOVE]}
    found = server.client.post(url, content=b"\xef\xbb\xbf" + json.dumps(sheet).encode()).json()
    assert found["settings"] is None and found["sheet"]["strokes"][0]["points"] == [[5.25, 10.5], [16.55, 26.2]]
    assert (found["sheet"]["width"], found["sheet"]["num_frames"], found["sheet"]["fps"]) == (48, 5, 8.0)
    # nothing of version 3 is lost, and its points are scaled, too
    turning = MOVE | {"rotate": 90, "handles": [[10, 10], [20, 10]]}
    growing = MOVE | {"scale": 2, "radius": 8, "easing": "ease-in", "strength": 0.5}
    found = server.client.post(url, json=sheet | {"version": 3, "strokes": [turning, growing]}).json()["sheet"]
    assert found["version"] == 3 and found["strokes"][0]["handles"] == [[5, 10], [10, 10]]
    assert found["strokes"][1] == growing | {"points": found["strokes"][0]["points"], "radius": 4}
    refusal(server.client.post(url, json=sheet | {"version": 3, "strokes": [MOVE | {"rotate": 9}]}), 400, "rotate")
    refusal(server.client.post(url, json=sheet | {"version": 9}), 422, "version")
    refusal(server.client.post(url, json=sheet | {"strokes": [{"kind": "move", "points": 3}]}), 422, "points")
    long = MOVE | {"points": [[1, 1]] * 1025}
    refusal(server.client.post(url, json=sheet | {"strokes": [long]}), 400, "1024 are allowed")
    refusal(server.client.post(url, json=sheet | {"strokes": [MOVE] * 257}), 422, "strokes")
    refusal(server.client.post(url, content=b"PK\x03\x04"), 409, "start page")
    refusal(server.client.post(url, content=b"hello"), 415, "neither")
    refusal(server.client.post(url, content=b""), 400, "no content")


def test_nodes_are_named_and_starred(server, session):
    with server.page(session) as page:
        node = page.rendered()
        url = server.url(session, node, "")[:-1]
        changed = server.client.patch(url, json={"name": "The good one", "star": True}).json()
        assert (changed["name"], changed["star"], changed["continuable"]) == ("The good one", True, True)
        assert page.until("tree")[0]["nodes"] == [changed]
        assert server.client.patch(url, json={"name": None}).json()["name"] is None
        refusal(server.client.patch(url, json={"star": "yes"}), 422, "star")
        refusal(server.client.patch(url, json={"state": "done"}), 422, "state")
    assert server.client.get(f"/api/sessions/{session}").json()["nodes"][0]["star"]


def test_exports_of_frames(server, session):
    with server.page(session) as page:
        node = page.rendered(settings={"size": 32})
        refusal(server.client.get(server.url(session, node, "frames/4.webp")), 404, "Frame 4 is not made")
        assert pixels(server.client.get(server.url(session, node, "frames/0.webp")).content).shape == (32, 40, 3)
        full = server.client.get(server.url(session, node, "frames/0.webp?size=output"))
        assert pixels(full.content).shape == (40, 48, 3) and "immutable" in full.headers["cache-control"]
        contact = server.client.get(server.url(session, node, "contact.png"))
        assert contact.headers["content-type"] == "image/png" and pixels(contact.content).shape[1] > 48
        assert 'filename="cat.' in contact.headers["content-disposition"]
        empty = page.render(num_frames=200)
        page.send("cancel")
        page.until("stopped")
        response = server.client.get(server.url(session, empty, "clip.mp4"))
        assert response.status_code in (200, 409, 404)  # frames that were made before are exported
    assert not list(server.studio.settings.folder.glob(".*temporary*"))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/sessions/..%2f..%2f..%2f..%2fetc/passwd", 404),
        ("/api/sessions/..%2f..%2fetc%2fpasswd", 404),
        ("/api/sessions/ID/..%2fsession.json", 404),
        ("/api/sessions/ID/session.json", 404),
        ("/api/sessions/ID/picture.webp", 404),
        ("/api/sessions/ID/thumbnail.png", 404),
        ("/api/sessions/ID/nodes/%2e%2e%2fpicture.png", 404),
        ("/api/sessions/ID/nodes/..%2f..%2fpicture/frames/1.webp", 404),
        ("/api/sessions/ID/nodes/NODE/frames/1.webp", 404),
        ("/api/sessions/ID/nodes/NODE/frames/-1.webp", 404),
        ("/api/sessions/ID/nodes/NODE/frames/99999999999999999999.webp", 404),
        ("/api/sessions/ID/nodes/NODE/frames/1.webp?size=huge", 422),
        ("/api/sessions/ID/nodes/NODE/clip.exe", 404),
        ("/api/sessions/ID/nodes/NODE/clip.mp4", 404),
        ("/api/sessions/ID/nodes/NODE/sheet.json", 404),
        ("/api/sessions/IDX", 404),
        ("/api/sessions/" + "A" * 32, 404),
        ("/api/nothing", 404),
        ("/..%2f..%2fsetup.cfg", 404),
        ("/%2e%2e/app.py", 404),
        ("//etc/passwd", 404),
        ("/../app.py", 404),
    ],
)
def test_paths_lead_nowhere_else(kept_server, kept_session, path, status):
    response = kept_server.client.get(path.replace("ID", kept_session).replace("NODE", new_id()))
    refusal(response, status)


def test_other_methods_are_refused(server, session):
    refusal(server.client.put(f"/api/sessions/{session}", json={}), 405)
    refusal(server.client.post("/", content=b"x"), 405)
    assert server.client.get("/api/openapi.json").json()["paths"]


def test_full_disk_is_said(server, image, monkeypatch):
    from mcdiff_pipeline.studio.store import SessionFiles

    session = server.open(image)["id"]
    with server.page(session) as page:

        def fail(*arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(SessionFiles, "write", fail)
        response = server.client.put(f"/api/sessions/{session}/document", json={"rev": 1, "document": {"version": 1}})
        assert refusal(response, 507, "make room") == "disk"
        page.send("save", document={"version": 1})
        assert page.until("error")[0]["code"] == "disk"
        node = page.render()
        header, _ = page.until("failed", "done")
        assert (header["type"], header["node"]) == ("failed", node) and "disk is full" in header["why"]
        monkeypatch.undo()
        page.rendered()  # everything works again


def test_example_that_a_stranger_names_is_never_a_path(server):
    with pytest.raises(Refused):
        server.studio.registry.store.files("../other")
