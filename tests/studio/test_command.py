# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff studio`: what it opens, and what it refuses before anything is served."""

import json
import os
import socket

import pytest
import uvicorn

from mcdiff_pipeline.model_names import EXAMPLE_IMAGE
from support.studio import STROKES


@pytest.fixture
def served(monkeypatch):
    """The configurations of the servers that would run, their sockets, and whether these can be connected to."""
    found = []

    def run(server, sockets):
        listens = [one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1 for one in sockets]
        found.append((server.config, sockets, listens))

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return found


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_picture_with_strokes_is_opened(mcdiff, served, port, image, tmp_path, tiny_model_dir):
    image.save(tmp_path / "cat.png")
    sheet = {"version": 1, "width": 48, "height": 40, "num_frames": 4, "strokes": STROKES}
    (tmp_path / "cat.json").write_text(json.dumps(sheet))
    options = ["--sessions", tmp_path / "kept", "--port", port, "--no-browser", "--model", tiny_model_dir]
    code, out, _ = mcdiff("studio", tmp_path / "cat.png", "--strokes", tmp_path / "cat.json", *options)
    assert code == 0 and str(tmp_path / "kept") in out
    config, (listener,), listens = served[0]
    studio = config.app.state.studio
    address = f"http://127.0.0.1:{port}/#token={studio.settings.token}&session="
    (session,) = studio.registry.all()
    assert address + session.id in out and session.sheet["strokes"] == STROKES
    assert config.ws_max_size == 262_144 and listener.fileno() == -1  # closed again
    assert listens == [True]  # before the address is printed


def test_shared_server_has_no_token_and_keeps_nothing(mcdiff, served, port, tmp_path, tiny_model_dir):
    options = ["--port", port, "--shared", "--host", "Studio.Example.org", "--model", tiny_model_dir]
    assert mcdiff("studio", *options)[0] == 0
    settings = served[0][0].app.state.studio.settings
    assert settings.shared and settings.token is None and "studio.example.org" in settings.hosts
    assert not settings.folder.exists()


def test_process_ends_while_the_model_loads_and_removes_its_files(mcdiff, port, monkeypatch, tiny_model_dir):
    ended, folders = [], []

    def run(server, sockets):
        studio = server.config.app.state.studio
        folders.append(studio.settings.folder)
        studio.model.start()  # it waits, as it does for the page

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(os, "_exit", lambda code: ended.append((code, folders[0].exists())))
    assert mcdiff("studio", "--port", port, "--shared", "--model", tiny_model_dir)[0] == 0
    assert ended == [(0, False)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.png"], "there is no such picture"),
        (["--strokes", "sheet.json"], "name the IMAGE"),
        ([EXAMPLE_IMAGE, "--strokes", "none.json"], "there is no such stroke sheet"),
        (["--shared", "--sessions", "kept"], "keeps nothing"),
        (["--host", "example.org"], "without --shared"),
        (["--size", "4096"], "may have 512 pixels"),
        (["--model", "none"], "none"),
        (["--sessions", "setup.cfg"], "name another folder"),
        ([EXAMPLE_IMAGE, "--strokes", "setup.cfg"], "is not JSON"),
        (["setup.cfg"], "is not a picture"),
    ],
)
def test_wrong_arguments_are_refused(mcdiff, served, port, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.cfg").write_text("[metadata]")
    code, _, err = mcdiff("studio", "--no-browser", "--port", port, *arguments)
    assert code == 2 and words in err and served == []


def test_folder_and_port_of_another_server_are_refused(mcdiff, served, port, tmp_path, monkeypatch):
    options = ["--no-browser", "--port", port, "--sessions", tmp_path]
    inner = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: inner.append(mcdiff("studio", *options)))
    assert mcdiff("studio", *options)[0] == 0
    (code, _, err) = inner[0]
    assert code == 2 and "Another Studio uses" in err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = mcdiff("studio", "--no-browser", "--sessions", tmp_path, "--port", taken.getsockname()[1])
    assert code == 2 and "another program may listen there" in err
