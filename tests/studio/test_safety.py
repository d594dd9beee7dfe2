# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Who may ask, how often and how much; and that nobody else notices when somebody should not have."""

import json
import time

import pytest
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from mcdiff_pipeline.studio.security import Rate
from mcdiff_pipeline.studio.settings import LARGEST_OUTBOX, SHARED
from support.studio import ORIGIN, STROKES, TOKEN, new_id, png_of, serving


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {"host": "evil.example"}, 403),
        ("GET", "/", {"host": "127.0.0.1:80"}, 403),
        ("GET", "/", {"host": "127.0.0.1"}, 403),
        ("GET", "/", {"host": "evil.example:7861"}, 403),
        ("GET", "/", {"host": "127.0.0.1:7861.evil.example"}, 403),
        ("GET", "/", {"host": "localhost:7861", "origin": "http://localhost:7861"}, 200),
        ("GET", "/api/info", {"host": "evil.example:7861"}, 403),
        ("GET", "/api/info", {"x-mcdiff-token": "wrong"}, 401),
        ("GET", "/api/info", {"x-mcdiff-token": ""}, 401),
        ("GET", "/api/info", {"x-mcdiff-token": "ü"}, 401),
        ("GET", "/api/info", {"origin": "http://evil.example"}, 403),
        ("GET", "/api/health", {"x-mcdiff-token": "", "origin": ""}, 403),
        ("POST", "/api/sessions", {"origin": "http://evil.example"}, 403),
        ("POST", "/api/sessions", {"origin": "null"}, 403),
        ("POST", "/api/sessions", {"origin": "http://127.0.0.1:7862"}, 403),
        ("POST", "/api/sessions", {"origin": "https://127.0.0.1:7861"}, 403),
        ("POST", "/api/sessions", {"origin": "http://127.0.0.1:7861.evil.example"}, 403),
        ("DELETE", "/api/sessions/" + "0" * 32, {"origin": "http://localhost:7861"}, 403),
        ("DELETE", "/api/sessions/" + "0" * 32, {}, 404),
        ("GET", "/api/openapi.json", {"x-mcdiff-token": "wrong"}, 401),
    ],
)
def test_only_our_page_is_answered(kept_server, method, path, headers, status):
    headers = {name: value.encode("utf-8") for name, value in headers.items()}
    response = kept_server.client.request(method, path, headers=headers)
    assert response.status_code == status, response.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'self'" in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in response.headers and "set-cookie" not in response.headers


def test_request_without_token_or_origin_is_refused(kept_server):
    client = kept_server.client
    for name, path, method, status in (
        ("x-mcdiff-token", "/api/sessions", "GET", 401),
        ("origin", "/api/sessions", "POST", 403),
        ("origin", "/api/sessions", "GET", 200),
        ("x-mcdiff-token", "/api/health", "GET", 200),
        ("x-mcdiff-token", "/app.js", "GET", 200),
    ):
        request = client.build_request(method, path)
        del request.headers[name]
        assert client.send(request).status_code == status, (name, path)


def connect(server, session, **headers):
    return server.client.websocket_connect(f"ws://127.0.0.1:7861/api/sessions/{session}/live", headers=headers)


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"host": "evil.example:7861"}])
def test_foreign_websocket_is_not_accepted(kept_server, kept_session, headers):
    with pytest.raises((WebSocketDisconnect, WebSocketDenialResponse)), connect(kept_server, kept_session, **headers):
        pass


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["hello"], 4400),
        (["[]"], 4400),
        ([json.dumps({"type": "hello", "token": "wrong"})], 4401),
        ([json.dumps({"type": "hello", "token": None})], 4401),
        ([json.dumps({"type": "hello", "token": TOKEN, "more": 1})], 4400),
        ([json.dumps({"type": "cancel", "node": None})], 4400),
        ([b"bytes"], 4400),
        ([json.dumps({"type": "hello", "token": TOKEN}), "x" * 262_145], 1009),
        ([json.dumps({"type": "hello", "token": TOKEN}), "ü" * 131_073], 1009),
        ([json.dumps({"type": "hello", "token": TOKEN}), b"bytes"], 4400),
    ],
)
def test_connection_that_breaks_the_protocol_is_closed(kept_server, kept_session, messages, code):
    assert closed_with(kept_server, kept_session, messages) == code
    with kept_server.page(kept_session) as page:  # the session goes on
        page.send("flow", strokes=STROKES, num_frames=4)
        page.until("flow")


def test_connection_that_sends_too_often_is_closed(kept_server, kept_session, monkeypatch):
    # so few that also a slow machine sends more
    monkeypatch.setattr("mcdiff_pipeline.studio.live.MESSAGES_PER_SECOND", 1)
    assert closed_with(kept_server, kept_session, [json.dumps({"type": "hello", "token": TOKEN})] * 300) == 4429


def closed_with(server, session, messages):
    """Sends messages; returns the code with which the server closes the connection."""
    with connect(server, session) as socket:
        for message in messages:
            socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(message)
        with pytest.raises(WebSocketDisconnect) as closed:
            while True:
                socket.receive_bytes()
    return closed.value.code


def test_session_that_does_not_exist_closes_the_connection(kept_server):
    hello = json.dumps({"type": "hello", "token": TOKEN})
    for session in (new_id(), "x"):
        assert closed_with(kept_server, session, [hello]) == 4404


def test_websocket_at_another_path_is_closed(kept_server):
    for path in ("/", "/app.js", "/api/sessions", "/api/sessions/..%2f..%2f/live"):
        with pytest.raises((WebSocketDisconnect, WebSocketDenialResponse)):
            with kept_server.client.websocket_connect(f"ws://127.0.0.1:7861{path}"):
                pass


def test_silent_connection_is_closed(kept_server, kept_session, monkeypatch):
    monkeypatch.setattr("mcdiff_pipeline.studio.live.HELLO_SECONDS", 0.05)
    assert closed_with(kept_server, kept_session, []) == 4408


def test_second_page_takes_over(server, session):
    with server.page(session) as first, server.page(session) as second:
        assert first.until("error")[0]["code"] == "replaced"
        with pytest.raises(WebSocketDisconnect) as closed:
            first.next()
        assert closed.value.code == 4409
        second.rendered()


def test_deleted_session_closes_its_page(server, session):
    with server.page(session) as page:
        page.render(num_frames=200)
        page.until("frame")
        assert server.client.delete(f"/api/sessions/{session}").status_code == 204
        assert page.until("error")[0]["code"] == "expired"
        with pytest.raises(WebSocketDisconnect) as closed:
            page.next()
        assert closed.value.code == 4410
    assert list(server.studio.settings.folder.iterdir()) == []


def test_frame_on_its_way_does_not_bring_a_deleted_session_back(server, session):
    files = server.studio.registry.get(session).files
    assert server.client.delete(f"/api/sessions/{session}").status_code == 204
    files.write(files.frame_name("0" * 32, 1, "webp"), b"frame")
    assert list(server.studio.settings.folder.iterdir()) == []


def test_page_that_asks_and_never_reads_is_sent_away(server, session):
    with server.page(session) as page:
        found = server.studio.registry.get(session)
        outbox = found.outbox
        outbox._messages.extend([b"\0\0\0\0"] * LARGEST_OUTBOX)
        found.send({"type": "tree", "nodes": []})
        assert len(outbox._messages) <= LARGEST_OUTBOX
        with pytest.raises(WebSocketDisconnect) as closed:
            while True:
                page.socket.receive_bytes()
        assert closed.value.code == 4429


def test_rate_allows_bursts_but_not_more_on_average():
    seconds = 0.0
    rate = Rate(10, clock=lambda: seconds)
    assert [rate.allows() for _ in range(21)] == [True] * 20 + [False]
    seconds = 0.5
    assert [rate.allows() for _ in range(6)] == [True] * 5 + [False]


def test_shared_server_needs_no_token_and_lists_nothing(shared_server, image):
    client = shared_server.client
    assert client.get("/api/sessions").status_code == 404
    info = client.get("/api/info").json()
    assert (info["shared"], info["can_list"]) == (True, False)
    assert info["limits"]["shorter_side"] == 256 and info["limits"]["frames"] == 64
    session = shared_server.open(image)["id"]
    for host in ("studio.example.org", "studio.example.org:8443"):
        for scheme in ("http", "https"):
            headers = {"host": host, "origin": f"{scheme}://{host}"}
            assert client.get(f"/api/sessions/{session}", headers=headers).status_code == 200
        assert client.delete(f"/api/sessions/{new_id()}", headers={"host": host, "origin": ORIGIN}).status_code == 403
    assert client.get("/", headers={"host": "example.org"}).status_code == 403
    with shared_server.page(session) as page:
        page.render(num_frames=65)
        assert "at most 64" in page.until("refused", "queued")[0]["why"]
        page.render(settings={"size": 264})
        assert "256 pixels" in page.until("refused", "queued")[0]["why"]
        page.render(settings={"output": "image"})
        page.until("done")


def test_shared_server_takes_so_many_pictures_and_closes_those_that_nobody_opened(tmp_path, image, monkeypatch):
    with serving(tmp_path, shared=True) as server:
        opened = [server.open(image)["id"] for _ in range(SHARED.sessions)]
        with server.page(opened[0]):
            response = server.client.post("/api/sessions", content=png_of(image))
            assert response.status_code == 503 and response.json()["code"] == "busy"
            monkeypatch.setattr("mcdiff_pipeline.studio.sessions.UNOPENED_SECONDS", 0)
            server.open(image)
            assert server.client.get(f"/api/sessions/{opened[0]}").status_code == 200
            assert server.client.get(f"/api/sessions/{opened[1]}").status_code == 404
        # what nobody uses is gone from the disk, too
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_versions_and_renders_are_bounded(tmp_path, image):
    with serving(tmp_path, shared=True) as server:
        session = server.open(image)["id"]
        with server.page(session) as page:
            root = page.rendered()
            nodes = server.studio.registry.get(session).nodes
            for _ in range(SHARED.nodes - 1):
                copy = new_id()
                nodes[copy] = nodes[root]
            page.render()
            header, _ = page.until("refused", "queued")
            assert header["code"] == "limit" and "remove some" in header["why"]


def test_uploads_are_counted(server, image, monkeypatch):
    monkeypatch.setattr("mcdiff_pipeline.studio.server.UPLOADS", 0)
    response = server.client.post("/api/sessions", content=png_of(image))
    assert response.status_code == 503 and response.json()["code"] == "busy"


def test_several_people_take_turns_by_frame(server, image):
    sessions = [server.open(image)["id"] for _ in range(2)]
    order = []
    keep = server.studio.model.engine.keep

    def noting(session, node, state):
        order.append(session.id)
        keep(session, node, state)

    server.studio.model.engine.keep = noting
    with server.page(sessions[0]) as one, server.page(sessions[1]) as other:
        one.render(num_frames=40)
        one.until("frame")
        assert other.render(num_frames=6) and other.until("queued")[0]["ahead"] == 1
        other.until("done")
        one.send("cancel")
        one.until("stopped")
    first, last = order.index(sessions[1]), len(order) - order[::-1].index(sessions[1])
    both = order[first:last]
    assert both == [sessions[1], *sessions] * 4 + [sessions[1]] or both == [sessions[1], sessions[0]] * 4 + [
        sessions[1]
    ]


def test_idle_sessions_are_closed_and_open_again(server, image, monkeypatch):
    session = server.open(image)["id"]
    with server.page(session) as page:
        node = page.rendered()
    monkeypatch.setattr("mcdiff_pipeline.studio.sessions.SESSION_SECONDS", -1)
    deadline = time.monotonic() + 60
    closed = []
    while not closed and time.monotonic() < deadline:  # the server still takes note of the end of the page
        closed = server.studio.registry.sweep()
        time.sleep(0.01)
    assert [one.id for one in closed] == [session]
    assert server.studio.registry.all() == []
    assert server.client.get(f"/api/sessions/{session}").json()["nodes"][0]["id"] == node
