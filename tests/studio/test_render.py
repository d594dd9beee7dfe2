# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Draw, see flow, render, go back, draw again, take away."""

import io
import threading
import zipfile

import numpy as np
import pytest
import torch

from mcdiff_commands.main import main
from mcdiff_pipeline import MCDiffPipeline, Region, StrokeSheet
from mcdiff_pipeline.studio.pictures import mask_uri
from mcdiff_pipeline.studio.sheets import make_regions
from mcdiff_pipeline.video import read_video
from support.studio import HOLD, MOVE, STROKES, new_id, pixels, serving
from support.tiny_models import make_pipeline


HIGHER = {"kind": "move", "points": [[20.0, 20.0], [20.0, 8.0]], "frames": [1, 3]}


def sheet_of(strokes, num_frames=4):
    fields = {"version": 2, "width": 48, "height": 40, "num_frames": num_frames, "strokes": strokes}
    return StrokeSheet.from_dict(fields)


def frames_of(page, node):
    """Frames that a page received, by index."""
    return {
        header["index"]: pixels(payload)
        for header, payload in page.received
        if header["type"] == "frame" and header["node"] == node
    }


def test_flow_is_that_of_the_library(server, session, tiny_pipeline, image):
    with server.page(session) as page:
        rev = page.send("flow", strokes=STROKES, num_frames=4)
        header, payload = page.until("flow", "refused")
    # in the shape of the picture, as the library has it
    assert (header["type"], header["rev"], header["h"], header["w"]) == ("flow", rev, 10, 12)
    flow = np.frombuffer(payload, "<f2").reshape(2, 10, 12)
    expected = tiny_pipeline.predict_flow(image, sheet_of(STROKES), num_frames=4)[0]
    np.testing.assert_allclose(flow, expected.numpy(), atol=2e-3, rtol=2e-3)


def test_render_makes_the_frames_of_the_library_at_the_working_size(server, session, tiny_pipeline, image):
    with server.page(session) as page:
        node = page.rendered()
        made = frames_of(page, node)
    generator = torch.Generator().manual_seed(0)
    expected = list(tiny_pipeline.stream(image, sheet_of(STROKES), 4, generator=generator))
    assert sorted(made) == [1, 2, 3]
    for index, frame in made.items():
        assert np.array_equal(frame, np.asarray(expected[index]))


def test_messages_of_a_render_come_in_order(server, session):
    with server.page(session) as page:
        node = page.rendered()
        kinds = [header["type"] for header, _ in page.received if header["type"] != "progress"]
    assert kinds == ["hello", "tree", "queued", "warnings", "frame", "frame", "frame", "tree", "done"]
    assert server.client.get(f"/api/sessions/{session}").json()["nodes"][0]["state"] == "done"
    frame = server.client.get(server.url(session, node, "frames/2.webp"))
    assert np.array_equal(pixels(frame.content), frames_of(page, node)[2])


def test_strokes_that_may_not_work_are_told_with_flow_and_with_a_render(server, session):
    outside = {"kind": "move", "points": [[-20.0, -20.0], [-10.0, -12.0]]}
    with server.page(session) as page:
        page.send("flow", strokes=[HOLD, outside], num_frames=4)
        (of_flow,) = page.until("flow", "refused")[0]["warnings"]
        page.rendered(strokes=[HOLD, outside])
        (of_render,) = next(header["warnings"] for header, _ in page.received if header["type"] == "warnings")
        page.send("flow", strokes=STROKES, num_frames=4)
        assert page.until("flow", "refused")[0]["warnings"] == []
    assert of_flow == of_render
    assert of_flow["strokes"] == [1]
    assert of_flow["message"].startswith("Stroke 2 (from -20,-20) is outside the image, which has 48 x 40 pixels")


def test_a_branch_is_the_video_of_one_sheet_and_its_clip_replays(tmp_path, image, capsys):
    pipe = make_pipeline()
    pipe.save_pretrained(tmp_path / "model")
    region = {"polygon": [[4, 4], [24, 4], [24, 30], [4, 30]], "rigid": True, "name": "box"}
    bright = image.convert("L").point(lambda value: 255 * (value > 140))
    bright.paste(0, (4, 4, 25, 31))  # regions that overlap would cause a warning
    mask = {"mask": mask_uri(bright), "name": "other"}
    turned = {"kind": "move", "points": [[10.3, 10.7], [14.1, 22.9], [30.2, 9.4]], "start_frame": 0}
    with serving(tmp_path / "sessions", MCDiffPipeline.from_pretrained(tmp_path / "model")) as server:
        session = server.open(image)["id"]
        answer = server.client.put(f"/api/sessions/{session}/regions", json={"regions": [region, mask]})
        with server.page(session) as page:
            settings = {"seed": 3, "steps": 1, "output": "image"}
            root = page.rendered(
                strokes=[turned, HOLD], num_frames=6, regions=answer.json()["regions"], settings=settings
            )
            child = page.rendered(parent=root, at=2, strokes=[turned, HIGHER], num_frames=5, fps=10.0)
            page.send("enlarge", node=child)
            page.until("done", "refused")
            shown = {index: pixels for node in (root, child) for index, pixels in frames_of(page, node).items()}
        response = server.client.get(server.url(session, child, "frames.zip"))
        clip = server.client.get(server.url(session, child, "clip.mp4")).content
        (tmp_path / "clip.mp4").write_bytes(clip)
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        exported = [pixels(archive.read(f"frame-{index:04d}.png")) for index in range(5)]
    assert np.array_equal(exported[0], np.asarray(image))
    assert all(np.array_equal(shown[index], exported[index]) for index in (1, 2, 3, 4))

    metadata = read_video(tmp_path / "clip.mp4").metadata
    assert metadata["settings"]["seed"] == 3 and metadata["settings"]["num_inference_steps"] == 1
    arguments = ["--model", str(tmp_path / "model"), "--output", str(tmp_path / "again.mkv")]
    assert main(["generate", "--replay", str(tmp_path / "clip.mp4"), *arguments]) == 0
    assert "warning" not in capsys.readouterr().err
    again = read_video(tmp_path / "again.mkv").frames
    assert len(again) == 5 and all(np.array_equal(one, other) for one, other in zip(again, exported, strict=True))


def test_flow_at_a_frame_continues_from_there(server, session):
    with server.page(session) as page:
        root = page.rendered()
        answers = []
        for node, frame in ((root, 0), (root, 2), (root, 2)):
            page.send("flow", node=node, frame=frame, strokes=STROKES, num_frames=4)
            answers.append(page.until("flow")[1])
        assert answers[0] != answers[1] and answers[1] == answers[2]
        page.send("flow", node=root, frame=9, strokes=STROKES, num_frames=4)
        assert "Frame 9 is not made yet" in page.until("refused")[0]["why"]


def test_cancel_ends_before_the_next_denoising_step_and_keeps_frames(server, session):
    with server.page(session) as page:
        node = page.render(num_frames=100, settings={"steps": 20})
        page.until("frame")
        page.send("cancel", node=node)
        header, _ = page.until("stopped", "done")
        made = frames_of(page, node)
    assert header["why"] == "canceled" and header["frames"] == len(made) < 99
    stored = server.client.get(f"/api/sessions/{session}").json()["nodes"][0]
    assert (stored["state"], stored["frames"]) == ("stopped", len(made))


def test_stopped_render_goes_on_to_the_same_frames(server, session):
    with server.page(session) as page:
        whole = page.rendered(num_frames=9)
        node = page.render(num_frames=9, settings={"steps": 2})
        page.until("frame")
        page.send("cancel", node=node)
        page.until("stopped")
        page.render(node, num_frames=9)
        page.until("done")
        assert "complete" in _refusal(page, node, num_frames=9)
        first, second = frames_of(page, whole), frames_of(page, node)
    assert all(np.array_equal(first[index], second[index]) for index in range(1, 9))


def _refusal(page, node=None, **fields):
    page.render(node, **fields)
    while True:
        header, _ = page.until("refused", "queued")
        if header["rev"] == page.rev:
            assert header["type"] == "refused", header
            return header["why"]


def test_steering_goes_on_as_a_child_from_the_next_frame(server, session):
    with server.page(session) as page:
        node = page.render(num_frames=30)
        page.until("frame")
        rev = page.send("steer", node=node, strokes=[HIGHER, HOLD])
        header, _ = page.until("steered", "refused")
        assert (header["type"], header["rev"], header["node"]) == ("steered", rev, node)
        frame, _ = page.until("frame")
        page.send("cancel")
        page.until("stopped", "done")
    nodes = {one["id"]: one for one in server.client.get(f"/api/sessions/{session}").json()["nodes"]}
    assert frame["node"] == header["child"] and nodes[header["child"]]["parent"] == node
    assert nodes[header["child"]]["at"] == header["frame"] == nodes[node]["frames"]
    assert nodes[node]["state"] == "stopped"


def test_render_refuses_what_cannot_be_done(server, session):
    with server.page(session) as page:
        root = page.rendered()
        assert "at most 256" in _refusal(page, num_frames=257)
        assert "a branch begins" in _refusal(page, parent=root, at=3)
        assert "render from frame 0" in _refusal(page, parent=root, at=1, settings={"seed": 1})
        assert "no longer there" in _refusal(page, parent=new_id(), at=1)
        assert "there is no parent" in _refusal(page, at=1)
        assert "multiple of 8" in _refusal(page, settings={"size": 33})
        assert "512 pixels" in _refusal(page, settings={"size": 520})
        assert "sent again" in _refusal(page, regions="0" * 16)
        assert "take a new id" in _refusal(page, root, strokes=[HOLD])
        page.render(strokes=[HOLD, MOVE | {"points": [[1, 1], [999, 1]]}])
        header, _ = page.until("refused")
        assert (header["of"], header["stroke"], header["field"]) == ("render", 1, "points")
        assert "strokes[1].points[1] is [999, 1]" in header["why"]
        page.render(strokes=[MOVE | {"region": "cup"}])
        assert page.until("refused")[0]["stroke"] == 0
    assert [node["id"] for node in server.client.get(f"/api/sessions/{session}").json()["nodes"]] == [root]


def test_branch_at_a_frame_of_an_ancestor_belongs_to_the_ancestor(server, session):
    with server.page(session) as page:
        root = page.rendered(num_frames=6)
        child = page.rendered(parent=root, at=3, num_frames=6)
        sibling = page.rendered(parent=child, at=2, num_frames=6, strokes=[HIGHER])
    nodes = {one["id"]: one for one in server.client.get(f"/api/sessions/{session}").json()["nodes"]}
    assert nodes[child]["parent"] == root and nodes[sibling]["parent"] == root


def test_removing_a_node_removes_its_subtree_and_ends_its_render(server, session):
    with server.page(session) as page:
        root = page.rendered(num_frames=6)
        other = page.rendered()
        child = page.render(parent=root, at=1, num_frames=200)
        page.until("frame")
        removed = server.client.delete(f"/api/sessions/{session}/nodes/{root}").json()["removed"]
        assert removed == [root, child]
        page.rendered(parent=other, at=1)  # the thread is free again
    assert root not in {node["id"] for node in server.client.get(f"/api/sessions/{session}").json()["nodes"]}
    assert server.client.get(server.url(session, root, "frames/1.webp")).status_code == 404


def test_full_frames_are_made_on_request(server, image):
    session = server.open(image.resize((96, 80)))["id"]
    with server.page(session) as page:
        node = page.rendered(settings={"output": "image"})
        assert page.received[-3][0]["size"] == "working"
        assert server.client.get(server.url(session, node, "frames/1.webp?size=output")).status_code == 404
        page.send("enlarge", node=node)
        header, payload = page.until("frame")
        assert (header["size"], header["width"], header["height"]) == ("output", 96, 80)
        assert pixels(payload).shape == (80, 96, 3)
        assert page.until("done")[0]["enlarged"]
        full = page.rendered(settings={"output": "image"}, preview=False)
        assert np.array_equal(frames_of(page, full)[3], frames_of(page, node)[3])
    assert server.client.get(server.url(session, node, "frames/1.webp?size=output")).status_code == 200


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif"])
def test_clips_have_all_frames(server, session, tmp_path, name):
    with server.page(session) as page:
        node = page.rendered(fps=12.0, settings={"size": 32, "output": "image"})
    response = server.client.get(server.url(session, node, name))
    assert response.status_code == 200 and 'filename="cat.' in response.headers["content-disposition"]
    (tmp_path / name).write_bytes(response.content)
    video = read_video(tmp_path / name)
    assert len(video.frames) == 4 and video.fps == pytest.approx(12)
    assert video.frames[0].shape == ((32, 40, 3) if name.endswith("gif") else (40, 48, 3))


def test_sheet_of_a_root_is_as_it_was_drawn(server, session):
    with server.page(session) as page:
        node = page.rendered()
        child = page.rendered(parent=node, at=1, strokes=[HIGHER])
    sheet = StrokeSheet.from_dict(server.client.get(server.url(session, node, "sheet.json")).json())
    assert sheet == sheet_of(STROKES)
    joined = StrokeSheet.from_dict(server.client.get(server.url(session, child, "sheet.json")).json())
    assert [stroke.span(4) for stroke in joined.strokes] == [(0, 1), (0, 1), (1, 3)]


def test_masks_of_any_size_become_regions_of_the_picture(image):
    mask = mask_uri(image.convert("L").resize((24, 20)))
    (region,) = make_regions([{"mask": mask, "rigid": True}], (48, 40), (96, 80))
    assert isinstance(region, Region) and tuple(region.mask.shape) == (80, 96) and region.rigid


def test_model_that_cannot_be_loaded_is_reported(tmp_path, image):
    def fail():
        raise OSError("weights.safetensors is missing")

    with serving(tmp_path, load=fail) as server:
        session = server.open(image)["id"]
        assert server.client.get("/api/health").json()["status"] == "failed"
        with server.page(session) as page:
            assert page.received[0][0]["model"]["why"] == "weights.safetensors is missing."
            assert "weights.safetensors" in _refusal(page)


def test_render_asked_for_while_the_model_loads_is_done_after(tmp_path, image):
    may_load = threading.Event()
    with serving(tmp_path, before=may_load.wait) as server:
        session = server.open(image)["id"]
        with server.page(session) as page:
            assert page.received[0][0]["model"]["state"] == "loading"
            page.send("flow", strokes=[HOLD], num_frames=4)
            rev = page.send("flow", strokes=STROKES, num_frames=4)
            node = page.render()
            assert server.client.get("/api/health").json()["status"] == "loading"
            may_load.set()
            assert page.until("model")[0]["model"]["state"] == "ready"
            page.until("done")
            flows = [header["rev"] for header, _ in page.received if header["type"] == "flow"]
            assert flows == [rev] and len(frames_of(page, node)) == 3


def test_cancel_before_the_model_is_loaded_drops_the_render(tmp_path, image):
    may_load = threading.Event()
    with serving(tmp_path, before=may_load.wait) as server:
        session = server.open(image)["id"]
        with server.page(session) as page:
            page.render()
            page.send("cancel")
            assert page.until("stopped")[0]["frames"] == 0
            may_load.set()
            page.until("model")
        assert server.client.get(f"/api/sessions/{session}").json()["nodes"] == []


def test_full_frames_have_the_size_of_the_picture(server, image):
    session = server.open(image.resize((1500, 60)))["id"]
    with server.page(session) as page:
        page.rendered()
    (node,) = server.client.get(f"/api/sessions/{session}").json()["nodes"]
    assert (node["settings"]["output_width"], node["settings"]["output_height"]) == (1500, 60)
