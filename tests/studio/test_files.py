# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What is kept on the disk: over restarts, crashes and copies, and what archives of strangers may not do."""

import io
import json
import multiprocessing
import random
import socket
import time
import zipfile

import httpx
import numpy as np
import pytest
from websockets.sync.client import connect

from support.studio import (
    HOLD,
    MOVE,
    ORIGIN,
    STROKES,
    TOKEN,
    Page,
    Socket,
    new_id,
    pixels,
    png_of,
    run_server,
    serving,
)
from support.tiny_models import make_feature_pipeline


def files_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(files, method=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, one in files.items():
            archive.writestr(name, one)
    return content.getvalue()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The files of a session with a branch and regions, and the answer about it."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("archive")
    with serving(folder) as server:
        session = server.open(Image.linear_gradient("L").resize((48, 40)).convert("RGB"), "cat.jpg")["id"]
        region = {"polygon": [[4, 4], [24, 4], [24, 30], [4, 30]], "name": "box"}
        key = server.client.put(f"/api/sessions/{session}/regions", json={"regions": [region]}).json()["regions"]
        document = {"rev": 3, "document": {"version": 1, "text": "ü"}}
        server.client.put(f"/api/sessions/{session}/document", json=document)
        with server.page(session) as page:
            root = page.rendered(regions=key)
            page.rendered(parent=root, at=1, strokes=[HOLD])
        shown = server.client.get(f"/api/sessions/{session}").json()
        response = server.client.get(f"/api/sessions/{session}/session.zip")
        assert 'filename="cat.zip"' in response.headers["content-disposition"]
    return files_of(response.content), shown


def test_restart_opens_everything_and_goes_on(tmp_path, image):
    with serving(tmp_path) as server:
        session = server.open(image)["id"]
        document = {"rev": 1, "document": {"version": 1, "strokes": STROKES}}
        server.client.put(f"/api/sessions/{session}/document", json=document)
        with server.page(session) as page:
            whole = page.rendered(num_frames=6)
            expected = server.client.get(server.url(session, whole, "frames/4.webp")).content
            node = page.render(num_frames=6)
            page.until("frame")
            page.send("cancel")
            page.until("stopped", "done")
        before = server.client.get(f"/api/sessions/{session}").json()
    with serving(tmp_path) as server:
        (listed,) = server.client.get("/api/sessions").json()
        assert (listed["id"], listed["nodes"]) == (session, 2)
        assert listed["frames"] == sum(one["frames"] for one in before["nodes"])
        assert server.client.get(f"/api/sessions/{session}").json() == before
        with server.page(session) as page:
            if before["nodes"][1]["state"] == "stopped":
                page.rendered(node, num_frames=6)
            page.rendered(parent=node, at=2, num_frames=6)
        assert server.client.get(server.url(session, node, "frames/4.webp")).content == expected


def test_page_that_comes_back_finds_what_was_made(server, session):
    with server.page(session) as page:
        node = page.render(num_frames=200)
        page.until("frame")
    deadline = time.monotonic() + 60
    while (shown := server.client.get(f"/api/sessions/{session}").json()["nodes"][0])["state"] == "rendering":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert shown["state"] == "stopped" and 1 <= shown["frames"] < 199
    with server.page(session) as page:
        assert page.received[0][0]["session"]["nodes"][0]["frames"] == shown["frames"]
        assert page.received[0][0]["rendering"] is None
        page.render(node, num_frames=200)
        assert page.until("frame")[0]["index"] == shown["frames"] + 1
        page.send("cancel")
        page.until("stopped")


def test_archive_opens_as_the_same_session(server, archive):
    files, shown = archive
    opened = server.client.post("/api/sessions", content=zip_of(files)).json()
    assert opened["id"] != shown["id"]
    for field in ("name", "picture", "nodes", "document", "document_rev"):
        assert opened[field] == shown[field], field
    root, child = opened["nodes"]
    with server.page(opened["id"]) as page:
        page.rendered(parent=child["id"], at=2, strokes=[HOLD])
        frame = server.client.get(server.url(opened["id"], root["id"], "frames/2.webp")).content
    assert frame == files[f"nodes/{root['id']}/0002.webp"]
    again = files_of(server.client.get(f"/api/sessions/{opened['id']}/session.zip").content)
    assert set(files) <= set(again) and json.loads(again["session.json"])["id"] == opened["id"]


def test_clip_opens_as_the_drawing_that_it_was_made_from(server, session, image):
    with server.page(session) as page:
        root = page.rendered(num_frames=6, fps=12.0, settings={"seed": 7, "steps": 1, "output": "image"})
        child = page.rendered(parent=root, at=2, strokes=[MOVE], num_frames=5)
    for name in ("clip.mp4", "clip.webm", "clip.gif"):
        clip = server.client.get(server.url(session, child, name)).content
        opened = server.client.post("/api/sessions", content=clip, params={"name": "other"}).json()
        assert opened["name"] == "cat.png" and opened["sheet"]["strokes"] == [MOVE], name
        assert opened["settings"] | {"fps": 0} == {
            "num_frames": 5, "fps": 0, "seed": 7, "steps": 1, "guidance": opened["settings"]["guidance"], "size": 40,
        }  # fmt: skip
        picture = server.client.get(f"/api/sessions/{opened['id']}/picture.png").content
        assert np.array_equal(pixels(picture), np.asarray(image))
        found = server.client.post(f"/api/sessions/{session}/import", content=clip).json()
        assert found == {"sheet": opened["sheet"], "settings": opened["settings"]}


def node_of(files, **fields):
    """The files with other fields of the first node."""
    content = json.loads(files["session.json"])
    settings = fields.pop("settings", {})
    content["nodes"][0] |= fields
    for node in content["nodes"]:
        node["settings"] |= settings
    return files | {"session.json": json.dumps(content)}


def session_of(files, **fields):
    return files | {"session.json": json.dumps(json.loads(files["session.json"]) | fields)}


HOSTILE = {
    "traversal": lambda files: files | {"../evil.json": b"{}"},
    "absolute": lambda files: files | {"/tmp/evil.json": b"{}"},
    "backslash": lambda files: files | {"..\\evil.json": b"{}"},
    "other name": lambda files: files | {"nodes/evil.sh": b""},
    "upper case": lambda files: files | {"nodes/" + "A" * 32 + "/0001.webp": b""},
    "large frame": lambda files: files | {"nodes/" + "a" * 32 + "/0001.webp": bytes(20_000_001)},
    "large document": lambda files: files | {"session.json": b" " * 16_000_001 + files["session.json"]},
    "no session": lambda files: {name: one for name, one in files.items() if name != "session.json"},
    "no picture": lambda files: {name: one for name, one in files.items() if name != "picture.png"},
    "picture is none": lambda files: files | {"picture.png": b"\x89PNG\r\n\x1a\n"},
    "not JSON": lambda files: files | {"session.json": b"{"},
    "deep JSON": lambda files: files | {"session.json": b"[" * 100_000},
    "NaN": lambda files: files | {"session.json": files["session.json"].replace(b'"fps":8.0', b'"fps":NaN')},
    "surrogate": lambda files: files | {"session.json": files["session.json"].replace(b"cat", b"\\ud800")},
    "other format": lambda files: session_of(files, format="other"),
    "newer": lambda files: session_of(files, version=99),
    "no document version": lambda files: session_of(files, document={}),
    "deep document": lambda files: session_of(files, document={"version": 1, "x": json.loads("[" * 40 + "]" * 40)}),
    "sheet": lambda files: session_of(files, sheet={"version": 1}),
    "nodes": lambda files: session_of(files, nodes=5),
    "own parent": lambda files: node_of(files, parent=json.loads(files["session.json"])["nodes"][0]["id"], at=1),
    "id": lambda files: node_of(files, id="../../x"),
    "regions": lambda files: node_of(files, regions="../x"),
    "frames": lambda files: node_of(files, num_frames=10**6),
    "width": lambda files: node_of(files, settings={"width": 10**6}),
    "output": lambda files: node_of(files, settings={"output_width": 10**5}),
    "steps": lambda files: node_of(files, settings={"steps": 10**9}),
    "guidance": lambda files: node_of(files, settings={"guidance": -1}),
    "seed": lambda files: node_of(files, settings={"seed": 10**30}),
    "state": lambda files: node_of(files, state="made"),
    "strokes": lambda files: node_of(files, strokes=[1]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_refused_and_leaves_nothing(kept_server, archive, name):
    response = kept_server.client.post("/api/sessions", content=zip_of(HOSTILE[name](archive[0])))
    assert response.status_code in (400, 409, 413, 415, 422), response.text
    assert list(kept_server.studio.settings.folder.iterdir()) == []


def damaged(content, name):
    """An archive that is broken as a file."""
    if name == "truncated":
        return content[:-10]
    if name == "comment":
        return content[:-2] + b"\x05\0hello"
    if name == "long directory":
        return content[:-10] + (10**9).to_bytes(4, "little") + content[-6:]
    if name == "wrong bits":
        start = content.index(b"session.json") + 12
        return content[:start] + bytes(byte ^ 0xFF for byte in content[start : start + 60]) + content[start + 60 :]
    flag = content.rindex(b"PK\x01\x02") + 8
    return content[:flag] + b"\x01\x00" + content[flag + 2 :]


@pytest.mark.parametrize(
    "name", ["truncated", "comment", "long directory", "wrong bits", "encrypted", "bzip2", "twice"]
)
def test_damaged_archive_is_refused(kept_server, archive, name):
    files = {**archive[0]}
    files["session.json"] = files.pop("session.json")  # the last one
    if name == "bzip2":
        content = zip_of(files, zipfile.ZIP_BZIP2)
    elif name == "twice":
        content = io.BytesIO(zip_of(files))
        with zipfile.ZipFile(content, "a") as one, pytest.warns(UserWarning):
            one.writestr("session.json", files["session.json"])
        content = content.getvalue()
    else:
        content = damaged(zip_of(files), name)
    response = kept_server.client.post("/api/sessions", content=content)
    assert response.status_code in (413, 415), response.text
    assert list(kept_server.studio.settings.folder.iterdir()) == []


def test_archive_bomb_is_refused_while_it_is_unpacked(tmp_path, archive):
    bomb = archive[0] | {f"nodes/{'a' * 32}/{k:04d}.safetensors": bytes(60_000_000) for k in range(1, 6)}
    content = zip_of(bomb)
    assert len(content) < 2_000_000
    with serving(tmp_path, shared=True) as server:
        response = server.client.post("/api/sessions", content=content)
        assert response.status_code == 413 and "too large" in response.json()["why"]
        assert list(tmp_path.iterdir()) == []


def test_damaged_files_of_a_session_are_no_longer_continued(server, session):
    folder = server.studio.settings.folder / session
    with server.page(session) as page:
        node = page.rendered()
        other = page.rendered(num_frames=5)
    server.studio.registry.sweep()
    server.studio.registry._close(server.studio.registry.get(session))  # as after a restart
    good = (folder / "nodes" / node / "0002.safetensors").read_bytes()
    for content in (b"", good[:100], good[:-1], good.replace(b'"frame":"2"', b'"frame":"1"'), b"\xff" * 100):
        (folder / "nodes" / node / "0002.safetensors").write_bytes(content)
        with server.page(session) as page:
            page.send("flow", node=node, frame=2, strokes=STROKES, num_frames=4)
            header, _ = page.until("refused", "flow")
            assert header["code"] == "node" and "cannot be continued" in header["why"], header
    (folder / "nodes" / node / "0002.webp").write_bytes(b"RIFF")
    response = server.client.get(server.url(session, node, "clip.gif"))
    assert response.status_code in (400, 409) and "damaged" in response.json()["why"]
    (folder / "nodes" / other / "0003.webp").unlink()
    server.studio.registry._close(server.studio.registry.get(session))
    nodes = {one["id"]: one for one in server.client.get(f"/api/sessions/{session}").json()["nodes"]}
    assert (nodes[other]["frames"], nodes[other]["state"]) == (2, "stopped")
    server.studio.registry._close(server.studio.registry.get(session))
    (folder / "session.json").write_bytes(b"{")
    assert server.client.get(f"/api/sessions/{session}").status_code == 409
    assert server.client.get("/api/sessions").json() == []


def test_version_of_another_model_can_be_looked_at_only(tmp_path, image):
    with serving(tmp_path) as server:
        session = server.open(image)["id"]
        with server.page(session) as page:
            node = page.rendered()
    with serving(tmp_path, make_feature_pipeline()) as server:
        assert not server.client.get(f"/api/sessions/{session}").json()["nodes"][0]["continuable"]
        with server.page(session) as page:
            page.render(parent=node, at=1)
            header, _ = page.until("refused", "failed")
            assert "Another model" in header["why"]
        assert server.client.get(server.url(session, node, "clip.gif")).status_code == 200
        assert server.client.get(server.url(session, node, "frames/2.webp")).status_code == 200


def test_model_whose_flow_reads_features_continues_from_the_disk(tmp_path, image):
    pipe = make_feature_pipeline()
    made, session, root = [], None, None
    for _ in range(2):
        with serving(tmp_path, pipe) as server:
            session = session or server.open(image)["id"]
            with server.page(session) as page:
                root = root or page.rendered()
                child = page.rendered(parent=root, at=1, strokes=[HOLD])
            made.append(server.client.get(server.url(session, child, "frames/3.webp")).content)
    assert made[0] == made[1]
    (state,) = (tmp_path / session / "nodes" / root).glob("0001.safetensors")
    assert b"start_" not in state.read_bytes()[:4000]  # what frame 0 says is kept once


def test_server_that_is_killed_loses_at_most_the_frame_being_made(tmp_path, image):
    context = multiprocessing.get_context("fork")  # PyTorch is imported already
    chance = random.Random(0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        address, origin = f"127.0.0.1:{port}", f"http://127.0.0.1:{port}"
        headers = {"origin": origin, "x-mcdiff-token": TOKEN}
        session, node, seen, kept = None, new_id(), {}, None
        with httpx.Client(base_url=origin, headers=headers, timeout=60) as client:
            for number in range(10):
                process = context.Process(target=run_server, args=(tmp_path, port, listener), daemon=True)
                process.start()
                try:
                    if session is None:
                        session = client.post("/api/sessions", content=png_of(image)).json()["id"]
                    shown = client.get(f"/api/sessions/{session}").json()
                    if number:
                        assert shown["document"] == kept and shown["nodes"][0]["frames"] >= max(seen)
                        for index, frame in seen.items():
                            url = f"/api/sessions/{session}/nodes/{node}/frames/{index}.webp"
                            assert np.array_equal(pixels(client.get(url).content), frame)
                    url = f"ws://{address}/api/sessions/{session}/live"
                    with connect(url, origin=origin, compression=None) as websocket:
                        page = Page(Socket(websocket))
                        page.send("hello", token=TOKEN)
                        page.until("hello")
                        page.rev = 10 * number + 10
                        kept = {"version": 1, "number": number}
                        page.send("save", document=kept)
                        page.until("saved")
                        page.render(node, num_frames=250)
                        for _ in range(chance.randint(1, 5)):
                            header, payload = page.until("frame")
                            seen[header["index"]] = pixels(payload)
                        time.sleep(0.05 * chance.random())
                        process.kill()
                finally:
                    process.kill()
                    process.join()
    assert ORIGIN != origin and list((tmp_path / session).rglob("picture.png"))


def test_hidden_folders_of_the_user_are_kept_in_a_folder_of_sessions(tmp_path):
    from mcdiff_pipeline.studio.store import TEMPORARY, Store

    session = "0" * 32
    left_behind = (f".{session}.unfinished", TEMPORARY + "abc")
    mine = (".export-2024", ".upload-queue", ".thesis.unfinished", f".{session}.unfinished.old")
    for name in (*left_behind, *mine):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    Store(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(mine)
