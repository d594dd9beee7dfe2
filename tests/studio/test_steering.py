# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Renders that wait, rest, change their way, have no end, or compete."""

import numpy as np
import pytest

from mcdiff_pipeline.studio.pull import LARGEST_STEP, Pull
from support.studio import HOLD, MOVE, STROKES, new_id, pixels, serving


HIGHER = {"kind": "move", "points": [[20.0, 20.0], [20.0, 8.0]], "frames": [1, 3]}


def nodes_of(server, session):
    return {node["id"]: node for node in server.client.get(f"/api/sessions/{session}").json()["nodes"]}


def frames_of(page, node):
    """Frames that a page received, by index."""
    return {
        header["index"]: pixels(payload)
        for header, payload in page.received
        if header["type"] == "frame" and header["node"] == node
    }


def why_refused(page, kind, **fields):
    rev = page.send(kind, **fields)
    while True:
        header, _ = page.until("refused")
        if header["rev"] in (rev, None):  # a message that cannot be read has none
            return header["why"]


def paused_render(page, num_frames):
    """Begins a render, and lets it rest after its first frame."""
    node = page.render(num_frames=num_frames)
    page.until("frame")
    page.send("pause", node=node, paused=True)
    assert page.until("paused")[0]["paused"]
    return node


# The queue


def test_renders_of_a_session_are_made_one_after_the_other(server, session):
    with server.page(session) as page:
        first = page.render(num_frames=6)
        page.until("frame")
        others = [page.render(parent=first, at=1, num_frames=6, strokes=[stroke]) for stroke in (HIGHER, MOVE)]
        for node in others:
            assert page.until("begun")[0]["node"] == node
        page.until("done")
    queued = [header["waiting"] for header, _ in page.received if header["type"] == "queued"]
    made = [header["node"] for header, _ in page.received if header["type"] == "frame"]
    assert queued == [0, 1, 2] and made == [first] * 5 + [others[0]] * 4 + [others[1]] * 4
    assert {node["state"] for node in nodes_of(server, session).values()} == {"done"}


def test_render_that_waits_can_be_canceled_and_begun_again(server, session):
    with server.page(session) as page:
        first = page.render(num_frames=100)
        second, third = page.render(), page.render(strokes=[MOVE])
        page.until("frame")
        page.send("cancel", node=second)
        assert page.until("stopped")[0] | {"why": ""} == {"type": "stopped", "node": second, "frames": 0, "why": ""}
        page.send("cancel", node=first)
        assert page.until("begun")[0]["node"] == third
        page.until("done")
        states = {node: made["state"] for node, made in nodes_of(server, session).items()}
        assert states == {first: "stopped", second: "stopped", third: "done"}
        page.rendered(second)


def test_canceling_without_a_node_ends_all(server, session):
    with server.page(session) as page:
        nodes = [page.render(num_frames=100) for _ in range(3)]
        page.until("frame")
        page.send("cancel")
        assert {page.until("stopped")[0]["node"] for _ in nodes} == set(nodes)
        page.rendered()


def test_queue_is_bounded_and_ends_with_the_connection(shared_server, image):
    session = shared_server.open(image)["id"]
    with shared_server.page(session) as page:
        for _ in range(9):
            page.render(num_frames=60)
        page.until("frame")
        assert "8 renders of this picture wait" in why_refused(
            page, "render", node=new_id(), strokes=STROKES, num_frames=4
        )
    with shared_server.page(session) as page:
        nodes = page.received[0][0]["session"]["nodes"]
        assert len(nodes) == 9 and {node["state"] for node in nodes[1:]} == {"stopped"}


def test_hello_comes_first_also_if_a_render_sends_something_while_it_is_made(server, session, monkeypatch):
    hello = server.studio.hello

    def slow_hello(opened):
        opened.send_tree(None)
        return hello(opened)

    monkeypatch.setattr(server.studio, "hello", slow_hello)
    with server.page(session) as page:
        assert page.received[0][0]["type"] == "hello"
        page.until("tree")


def test_removing_a_node_that_waits_takes_it_out_of_the_queue(server, session):
    with server.page(session) as page:
        first, second = page.render(num_frames=100), page.render()
        page.until("frame")
        assert server.client.delete(f"/api/sessions/{session}/nodes/{second}").json()["removed"] == [second]
        page.send("cancel", node=first)
        page.until("stopped")
        page.rendered()
    assert second not in nodes_of(server, session)


# Pausing and steering


def test_paused_render_rests_after_a_frame_and_goes_on_to_the_same_frames(server, session):
    with server.page(session) as page:
        whole = page.rendered(num_frames=9)
        node = paused_render(page, 9)
        page.send("segment", points=[[1, 1]], labels=[1])  # its turn comes although the render rests
        page.until("refused", "mask")
        kept = len(frames_of(page, node))
        assert kept < 8 and nodes_of(server, session)[node]["frames"] <= kept + 1
        page.send("pause", node=node, paused=False)
        page.until("done")
        first, second = frames_of(page, whole), frames_of(page, node)
    assert all(np.array_equal(first[index], second[index]) for index in range(1, 9))


def test_paused_render_ends_with_its_page(server, session):
    with server.page(session) as page:
        node = paused_render(page, 50)
        assert "not being rendered" in why_refused(page, "pause", node=new_id(), paused=True)
    with server.page(session) as page:
        page.render()
        page.until("done")
    assert nodes_of(server, session)[node]["state"] == "stopped"


def test_steering_a_paused_render_goes_on_at_its_last_frame(server, session):
    with server.page(session) as page:
        node = paused_render(page, 9)
        page.send("steer", node=node, strokes=[HIGHER])
        header, _ = page.until("steered")
        page.until("done")
    nodes = nodes_of(server, session)
    assert nodes[header["child"]]["at"] == header["frame"] == nodes[node]["frames"]
    assert nodes[header["child"]]["frames"] == 8 - header["frame"]


def test_render_without_a_frame_takes_the_new_strokes_itself(server, session):
    with server.page(session) as page:
        page.render(num_frames=40)
        page.until("frame")
        waiting = page.render()
        page.send("cancel")
        page.until("stopped")
        page.render(waiting)
        page.send("pause", node=waiting, paused=True)
        page.send("steer", node=waiting, strokes=[HIGHER])
        page.until("steered", "refused")
        page.until("done", "refused")
    assert len(nodes_of(server, session)) <= 3


def test_steered_render_goes_before_those_that_wait(server, session):
    with server.page(session) as page:
        node = page.render(num_frames=20)
        waiting = page.render()
        page.until("frame")
        page.send("steer", node=node, strokes=[HIGHER])
        child = page.until("steered")[0]["child"]
        page.until("frame")
        page.send("cancel", node=child)
        assert page.until("begun")[0]["node"] == waiting
        page.until("done")


# Endless renders


def endless(page, **fields):
    return page.render(endless=True, num_frames=4, **fields)


def test_endless_render_follows_the_pen_and_is_the_video_of_its_strokes(server, session):
    with server.page(session) as page:
        node = endless(page, strokes=[HOLD])
        page.until("queued")
        page.send("pull", node=node, start=[10.5, 10.5], to=[13.5, 11.0], down=True)
        for _ in range(3):
            page.until("frame")
        page.send("pull", node=node, to=[14.0, 12.0], down=False)
        page.until("frame")
        page.send("cancel", node=node)
        header, _ = page.until("stopped")
        made = frames_of(page, node)
        stored = nodes_of(server, session)[node]
        assert header["frames"] == len(made) == stored["frames"] == stored["num_frames"] - 1
        assert stored["state"] == "done" and not stored["endless"]
        hold, pulled = stored["strokes"]
        assert hold == HOLD and pulled["points"][0] == [10.5, 10.5] and pulled["frames"] == list(range(len(made) + 1))
        again = page.rendered(strokes=stored["strokes"], num_frames=stored["num_frames"])
        assert all(np.array_equal(frame, frames_of(page, again)[index]) for index, frame in made.items())


def test_endless_render_rests_while_no_pen_is_down(server, session):
    with server.page(session) as page:
        node = endless(page)
        page.until("queued")
        page.send("flow", strokes=STROKES, num_frames=4)
        page.until("flow")
        page.send("cancel", node=node)
        assert page.until("stopped")[0]["frames"] == 0
    assert nodes_of(server, session) == {}  # without any frame, it never was


def test_endless_render_goes_on_after_the_last_frame_that_is_kept(shared_server, image):
    session = shared_server.open(image)["id"]
    with shared_server.page(session) as page:
        node = endless(page, strokes=[HOLD])
        page.until("queued")
        page.send("pull", node=node, start=[10.5, 10.5], to=[12.5, 11.0], down=True)
        kept = [page.until("frame")[0]["kept"] for _ in range(70)]
        assert kept == [True] * 63 + [False] * 7
        page.send("cancel", node=node)
        page.until("stopped")
    stored = nodes_of(shared_server, session)[node]
    assert (stored["frames"], stored["num_frames"]) == (63, 64)
    assert stored["strokes"][1]["frames"][-1] == 63


def test_endless_render_that_a_crash_ends_has_the_strokes_of_its_frames(tmp_path, image):
    with serving(tmp_path) as server:
        session = server.open(image)["id"]
        with server.page(session) as page:
            node = endless(page, strokes=[HOLD])
            page.until("queued")
            page.send("pull", node=node, start=[10.5, 10.5], to=[13.5, 11.0], down=True)
            for _ in range(3):
                page.until("frame")
            crashed = (tmp_path / session / "session.json").read_bytes()
            page.send("cancel")
            page.until("stopped")
    assert b'"endless":true' in crashed
    (tmp_path / session / "session.json").write_bytes(crashed)
    with serving(tmp_path) as server:
        stored = nodes_of(server, session)[node]
        assert stored["num_frames"] == stored["frames"] + 1 >= 4 and not stored["endless"]
        assert stored["strokes"][1]["frames"][:4] == [0, 1, 2, 3]
        with server.page(session) as page:
            page.rendered(parent=node, at=1, num_frames=4)


def test_endless_render_is_steered_to_other_strokes(server, session):
    with server.page(session) as page:
        node = endless(page, strokes=[HOLD])
        page.until("queued")
        page.send("pull", node=node, start=[10.5, 10.5], to=[13.5, 11.0], down=True)
        page.until("frame")
        page.send("steer", node=node, strokes=[HOLD, HIGHER], num_frames=4)
        header, _ = page.until("steered", "refused")
        page.until("frame")
        page.send("cancel")
        page.until("stopped")
    nodes = nodes_of(server, session)
    assert nodes[node]["state"] == "done" and nodes[header["child"]]["parent"] == node
    assert nodes[header["child"]]["strokes"][:2] == [HOLD, HIGHER]


def test_pull_of_another_render_is_refused(server, session):
    with server.page(session) as page:
        node = page.render(num_frames=50)
        page.until("frame")
        assert "not a pen" in why_refused(page, "pull", node=node, to=[1, 1], down=True)
        page.send("cancel")
        page.until("stopped")


def test_thing_follows_the_pen_no_faster_than_it_may():
    pull = Pull((100, 50), 20)
    pull.begin([], 4)
    assert not pull.is_wanted
    pull.pull((10, 10), (15, 10), is_down=True)
    pull.strokes(0)
    pull.pull(None, (15, 10), is_down=False)
    frame = 1
    while pull.is_wanted:
        pull.strokes(frame)
        frame += 1
    (stroke,) = pull.strokes_until(frame)
    steps = np.diff(np.array(stroke["points"])[:, 0])
    assert steps.max() <= LARGEST_STEP * 50 + 1e-6 and stroke["points"][-1] == [15, 10]
    assert stroke["frames"] == list(range(frame + 1))


def test_move_without_an_end_keeps_its_speed_in_an_endless_render():
    pull = Pull((100, 50), 20)
    pull.begin([{"kind": "move", "points": [[1, 1], [9, 1]]}, HOLD], 5)
    assert [stroke.get("end_frame") for stroke in pull.strokes(0)] == [4, None]


# Seeds that compete


def test_best_of_several_seeds_is_found_by_how_well_strokes_are_followed(server, session):
    with server.page(session) as page:
        source = page.rendered()
        ids = [new_id() for _ in range(2)]
        page.send("best", node=source, ids=ids)
        for _ in ids:
            page.until("done")
    nodes = nodes_of(server, session)
    assert [nodes[one]["settings"]["seed"] for one in ids] == [1, 2]
    for one in (source, *ids):
        score = nodes[one]["score"]
        assert len(score["strokes"]) == 2 and score["mean"] == pytest.approx(np.mean(score["strokes"]))
    assert all(nodes[one]["best_of"] == source and nodes[one]["strokes"] == STROKES for one in ids)


def test_seeds_of_a_branch_are_renders_of_its_one_sheet(tmp_path, image):
    with serving(tmp_path) as server:
        session = server.open(image)["id"]
        with server.page(session) as page:
            root = page.rendered(num_frames=6)
            child = page.rendered(parent=root, at=2, num_frames=6, strokes=[HIGHER, HOLD])
            (one,) = ids = [new_id()]
            page.send("best", node=child, ids=ids)
            page.until("done")
        nodes = nodes_of(server, session)
        assert (
            nodes[one]["parent"] is None and len(nodes[one]["strokes"]) == len(nodes[child]["score"]["strokes"]) == 4
        )
    with serving(tmp_path) as server:  # scores are kept
        assert nodes_of(server, session) == nodes


def test_seeds_are_bounded(shared_server, image):
    session = shared_server.open(image)["id"]
    with shared_server.page(session) as page:
        source = page.rendered()
        assert "at most 8" in why_refused(page, "best", node=source, ids=[new_id() for _ in range(9)])
        for _ in range(8):
            page.rendered()
        assert "9 versions of 16" in why_refused(page, "best", node=source, ids=[new_id() for _ in range(8)])
        page.render(num_frames=60)
        page.send("best", node=source, ids=[new_id() for _ in range(3)])
        page.until("frame")
        page.send("cancel")  # those that waited were made for this alone
        for _ in range(4):
            page.until("stopped")
    assert len(nodes_of(shared_server, session)) == 10
