# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The camera of each version: in flow, frames, branches, exported clips and sessions of earlier versions."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from mcdiff_pipeline import StrokeSheet
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from mcdiff_pipeline.motion.camera_text import camera_from_text
from mcdiff_pipeline.motion.clip_streams import stream_clip
from mcdiff_pipeline.studio.camera_moves import camera_of, moves_of
from mcdiff_pipeline.video import VideoWriter
from mcdiff_pipeline.video.clip_metadata import ClipMetadata, ClipSettings
from support.studio import MOVE, pixels, tiny_pipeline


pytest.importorskip("fastapi", reason="needs the extra `studio`")

SIZE = (48, 40)
PAN = [{"kind": "pan", "x": 12, "y": 0, "start": 0, "end": 3}, {"kind": "zoom", "amount": 1.2, "start": 0, "end": 3}]
TURN = [{"kind": "rotate", "amount": 20, "start": 2, "end": 5, "ease": "ease-in"}]
BOX = {"polygon": [[4, 4], [24, 4], [24, 30], [4, 30]], "name": "box", "order": 1}


def shown(server, session):
    return {node["id"]: node for node in server.client.get(f"/api/sessions/{session}").json()["nodes"]}


def frame_of(server, session, node, frame):
    return pixels(server.client.get(server.url(session, node, f"frames/{frame}.webp")).content)


def test_camera_moves_flow_and_frames_as_the_library_does(kept_server, kept_session, image):
    with kept_server.page(kept_session) as page:
        page.send("flow", strokes=[], num_frames=4, camera=PAN)
        header, payload = page.until("flow", "refused")
        assert header["type"] == "flow", header
        flow = np.frombuffer(payload, "<f2").reshape(2, header["h"], header["w"])
        node = page.rendered(strokes=[], num_frames=4, camera=PAN, settings={"output": "working"})
    camera, pipe = Camera([CameraKeyframe(3, pan=(12, 0), zoom=1.2)], *SIZE), tiny_pipeline()
    size = {"height": header["height"], "width": header["width"]}
    expected = pipe.predict_flow(image, [], num_frames=4, motion=camera, **size)[0].numpy()
    assert np.abs(flow - expected).max() < 0.01 and np.abs(flow[0]).max() > 1
    frames = pipe(image, [], num_frames=4, motion=camera, generator=torch.Generator().manual_seed(0), **size).frames[0]
    made = frame_of(kept_server, kept_session, node, 3)
    assert np.abs(made.astype(int) - np.asarray(frames[3]).astype(int)).max() <= 1
    tracks = kept_server.client.get(kept_server.url(kept_session, node, "tracks.json"))
    assert tracks.status_code == 409 and "The camera moves" in tracks.json()["why"]


@pytest.mark.parametrize("regions", [[], [BOX]])
@pytest.mark.parametrize("first", [[], PAN])
def test_branch_has_a_camera_of_its_own_and_its_clip_replays(kept_server, kept_session, tmp_path, first, regions):
    body = {"regions": regions}
    key = kept_server.client.put(f"/api/sessions/{kept_session}/regions", json=body).json()["regions"]
    engine = kept_server.studio.model.engine
    with kept_server.page(kept_session) as page:
        fields = {"strokes": [MOVE], "num_frames": 6}
        root = page.rendered(**fields, regions=key, camera=first, settings={"output": "working"})
        before = [frame_of(kept_server, kept_session, root, frame) for frame in range(1, 6)]
        # the states that the branches go on from are read from their files
        engine.forget(kept_server.studio.registry.get(kept_session))
        branch = page.rendered(**fields, parent=root, at=2, camera=TURN)
        engine.forget(kept_server.studio.registry.get(kept_session))
        last = page.rendered(**fields, parent=branch, at=3, camera=[*TURN, *PAN])
        page.send("flow", node=branch, frame=3, **fields, camera=TURN)
        header, payload = page.until("flow", "refused")
        assert header["type"] == "flow", header
    nodes = shown(kept_server, kept_session)
    assert [len(nodes[one]["camera"]) for one in (root, branch, last)] == [len(first), 1, 3]
    for frame, expected in enumerate(before, start=1):
        assert np.array_equal(frame_of(kept_server, kept_session, root, frame), expected)
    # the flow is that of the next frame
    opened = kept_server.studio.registry.get(kept_session)
    state = engine.state(opened, opened.nodes[branch], 4)
    flow = np.frombuffer(payload, "<f2").reshape(2, header["h"], header["w"])
    cells = state.dense_flow[0].numpy() * tiny_pipeline().vae_scale_factor
    assert np.abs(flow - cells).max() < 0.02 and np.abs(flow).max() > 1
    for node in (branch, last):
        clip = kept_server.client.get(kept_server.url(kept_session, node, "clip.mp4?size=working"))
        (tmp_path / "clip.mp4").write_bytes(clip.content)
        replayed = list(stream_clip(tiny_pipeline(), ClipMetadata.read(tmp_path / "clip.mp4")))
        assert len(replayed) == 6
        for frame, (image, _) in enumerate(replayed[1:], start=1):
            assert np.array_equal(frame_of(kept_server, kept_session, node, frame), np.asarray(image)), frame


def test_nothing_jumps_where_a_branch_changes_the_camera():
    far = [{"kind": "pan", "x": 40.0, "y": 0.0, "amount": 0.0, "start": 0, "end": 8, "ease": "linear"}]
    camera = camera_of([(0, []), (2, far), (4, far), (6, [])], SIZE, 9)
    assert [camera.at(frame).pan[0] for frame in range(9)] == [0, 0, 0, 5, 10, 15, 20, 20, 20]
    assert camera_of([(0, []), (3, [])], SIZE, 9) is None


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("zoom 1.5", 1),
        ("pan 10%,5% ease-in-out", 1),
        ("4: zoom 2; 8: zoom 1 ease-out", 2),
        ("4: rotate 5; 8: dolly 0.3 truck 5,0 ease-out", 3),
    ],
)
def test_camera_of_the_command_line_becomes_moves(words, number):
    camera = camera_from_text(words, *SIZE, 9)
    moves = moves_of(camera, SIZE, 9)
    again = camera_of([(0, moves)], SIZE, 9)
    assert len(moves) == number, moves
    for frame in range(9):
        expected, found = camera.at(frame), again.at(frame)
        assert [*found.pan, *(found.truck or (0, 0)), found.zoom, found.rotate, found.dolly] == pytest.approx(
            [*expected.pan, *expected.truck, expected.zoom, expected.rotate, expected.dolly], abs=1e-3
        )
    # also what follows no easing
    odd = Camera([CameraKeyframe(k, zoom=1 + 0.3 * (k % 3)) for k in range(1, 7)], *SIZE)
    again = camera_of([(0, moves_of(odd, SIZE, 9))], SIZE, 9)
    assert [again.at(k).zoom for k in range(9)] == pytest.approx([odd.at(k).zoom for k in range(9)], abs=1e-5)


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ([{"kind": "zoom", "amount": 1.2, "start": 3, "end": 3}], "end is 3, not after start"),
        ([{"kind": "zoom", "amount": 0, "start": 0, "end": 3}], "a zoom must be a factor"),
        ([{"kind": "zoom", "amount": 9, "start": 0, "end": 3}] * 2, "zoom is 81"),
        ([{"kind": "zoom", "amount": 1e-3, "start": 0, "end": 1}] * 200, "zoom is 0"),
        ([{"kind": "pan", "x": 1e4, "start": 0, "end": 3}], "it goes 1e+04 pixels away"),
        ([{"kind": "fly", "start": 0, "end": 3}], "input should be 'pan'"),
        ([{"kind": "dolly", "amount": 0.9, "start": 0, "end": 3}], "reaches a layer"),
    ],
)
def test_wrong_camera_is_refused_in_a_sentence(kept_server, kept_session, camera, words):
    body = {"regions": [BOX | {"order": 9}]}
    key = kept_server.client.put(f"/api/sessions/{kept_session}/regions", json=body).json()["regions"]
    with kept_server.page(kept_session) as page:
        page.send("flow", strokes=[MOVE], num_frames=4, camera=camera, regions=key)
        why = page.until("refused")[0]["why"]
        assert words in why and why.endswith(".") and ".." not in why


def test_steering_and_seeds_take_the_camera(server, session):
    with server.page(session) as page:
        node = page.render(strokes=[], camera=PAN, num_frames=200)
        page.until("frame")
        page.send("steer", node=node, strokes=[MOVE], camera=TURN)
        child = page.until("steered", "refused")[0]["child"]
        page.send("cancel")
        while page.until("stopped", "done")[0]["node"] != child:
            pass
        short = page.rendered(strokes=[MOVE], camera=TURN, num_frames=5, parent=node, at=1)
        page.send("best", node=short, ids=["a" * 32])
        header, _ = page.until("done", "refused", "failed")
        assert header["type"] == "done", header
    nodes = shown(server, session)
    assert [one["kind"] for one in nodes[child]["camera"]] == ["rotate"]
    # one camera that does what both do, from frame 0 on
    joined = camera_of([(0, nodes[node]["camera"]), (1, nodes[short]["camera"])], SIZE, 5)
    assert camera_of([(0, nodes["a" * 32]["camera"])], SIZE, 5) == joined


def test_files_bring_the_camera_back(server, session, tmp_path):
    moves = [move | {"x": 0.0, "y": 0.0, "amount": 0.0, "ease": "linear"} | move for move in [*PAN, *TURN]]
    with server.page(session) as page:
        root = page.rendered(strokes=[MOVE], num_frames=6, camera=PAN)
        node = page.rendered(strokes=[MOVE], num_frames=6, camera=moves, parent=root, at=2)
    clip = server.client.get(server.url(session, node, "clip.mp4")).content
    assert server.client.post("/api/sessions", content=clip).json()["sheet"]["camera"] == moves
    found = server.client.post(f"/api/sessions/{session}/import", content=clip).json()["sheet"]
    assert (found["camera"], found["note"]) == (moves, "")
    # a stroke sheet has it as the library does, and the same moves come of it
    exported = server.client.get(server.url(session, node, "sheet.json")).json()
    camera = camera_of([(0, moves[:2]), (2, moves)], SIZE, 6)
    assert exported["version"] == 4 and StrokeSheet.from_dict(exported).camera == camera.to_dict()
    found = server.client.post(f"/api/sessions/{session}/import", json=exported).json()["sheet"]["camera"]
    assert [one["kind"] for one in found] == ["pan", "zoom", "rotate"]
    assert camera_of([(0, found)], SIZE, 6) == camera
    exported["camera"]["keyframes"] = [{"frame": k, "zoom": 1 + k % 2} for k in range(600)]
    refused = server.client.post(f"/api/sessions/{session}/import", json=exported)
    assert refused.status_code == 413 and "600 keyframes" in refused.json()["why"]
    archive = server.client.get(f"/api/sessions/{session}/session.zip").content
    opened = server.client.post("/api/sessions", content=archive).json()
    assert [one["camera"] for one in opened["nodes"]] == [moves[:2], moves]


def test_clip_of_the_command_line_brings_its_camera_and_says_what_is_missing(server, session, image, tmp_path):
    camera = Camera([CameraKeyframe(3, zoom=1.5, easing="ease-out")], 96, 80, parallax=0.8)
    motion = ({"source": "camera", **camera.to_dict()}, {"source": "ripple"})
    settings = ClipSettings(4, 2, 1.0, 0, 8.0, "float32", 40, 48)
    clip = ClipMetadata("m", "0" * 16, settings, StrokeSheet([], *SIZE, 4), image, motion)
    with VideoWriter(tmp_path / "a.mp4", 8, clip.to_dict()) as video:
        for _ in range(4):
            video.write(image)
    content = (tmp_path / "a.mp4").read_bytes()
    found = server.client.post(f"/api/sessions/{session}/import", content=content).json()["sheet"]
    (move,) = found["camera"]
    assert (move["kind"], move["amount"], move["end"], move["ease"]) == ("zoom", 1.5, 3, "ease-out")
    assert "parallax of 0.8" in found["note"] and "motion by ripple" in found["note"]


def earlier(files):
    """The files of a session as version 1 had them: keyframes in the file of the regions, moves in the document."""
    content = json.loads(files["session.json"])
    content["version"] = 1
    moves = content["nodes"][0].pop("camera")
    camera = camera_of([(0, moves)], SIZE, 4).to_dict()
    key = "0123456789abcdef"
    files[f"regions/{key}.json"] = json.dumps({"regions": [BOX], "camera": camera}).encode()
    content["nodes"][0]["regions"] = key
    drawn = [{"id": "1", **move} for move in moves]
    content["document"] = {"version": 1, "region_sets": {key: [BOX]}, "camera_sets": {key: drawn}}
    return files | {"session.json": json.dumps(content).encode()}, moves


@pytest.mark.parametrize("is_drawn", [True, False])
def test_session_of_an_earlier_version_keeps_its_camera(server, session, is_drawn):
    key = server.client.put(f"/api/sessions/{session}/regions", json={"regions": [BOX]}).json()["regions"]
    with server.page(session) as page:
        node = page.rendered(strokes=[], num_frames=4, camera=PAN, regions=key)
    expected = frame_of(server, session, node, 3)
    content = server.client.get(f"/api/sessions/{session}/session.zip").content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files, moves = earlier({name: archive.read(name) for name in archive.namelist()})
    if not is_drawn:
        files["session.json"] = files["session.json"].replace(b"camera_sets", b"other_sets_")
    old = io.BytesIO()
    with zipfile.ZipFile(old, "w") as archive:
        for name, one in files.items():
            archive.writestr(name, one)
    opened = server.client.post("/api/sessions", content=old.getvalue()).json()
    (upgraded,) = opened["nodes"]
    assert upgraded["regions"] == key and opened["document"]["region_sets"][key] == [BOX]
    assert upgraded["camera"] == moves if is_drawn else len(upgraded["camera"]) == 2
    assert "camera_sets" not in opened["document"]
    with server.page(opened["id"]) as page:
        page.rendered(strokes=[], num_frames=4, parent=node, at=2, camera=PAN)
    assert np.array_equal(frame_of(server, opened["id"], node, 3), expected)
