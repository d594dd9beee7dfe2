# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The Space of `examples/space/`: its files say what the Hub needs, and its command serves what it copies, no more."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
import yaml
from PIL import Image

from mcdiff_pipeline.studio.settings import SHARED
from support.paths import EXAMPLES, REPOSITORY
from support.studio import MOVE, Page, Socket, new_id, png_of


pytest.importorskip("fastapi", reason="needs the extra `studio`")

SPACE = EXAMPLES / "space"
DOCKERFILE = (SPACE / "Dockerfile").read_text(encoding="utf-8")
COMMAND = json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[0])
PORT = int(COMMAND[COMMAND.index("--port") + 1])
HOST = "someone-mcdiff-studio.hf.space"
PAGE = {"host": HOST, "origin": f"https://{HOST}"}


def copied() -> list[tuple[str, str]]:
    """Which paths of the repository the Dockerfile copies, and where to below its folder."""
    pairs = []
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE):
        *sources, target = line.split()
        pairs += [(one, target if len(sources) == 1 else f"{target}{one}") for one in sources]
    return pairs


def test_metadata_is_what_the_hub_needs():
    _, header, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = yaml.safe_load(header)
    assert metadata["sdk"] == "docker" and metadata["app_port"] == PORT == 7860
    assert metadata["title"] and len(metadata["short_description"]) <= 60
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {metadata["colorFrom"], metadata["colorTo"]} <= colors
    assert f"EXPOSE {PORT}" in DOCKERFILE and COMMAND[:3] == ["mcdiff", "studio", "--shared"]


def test_image_is_built_from_the_repository_alone():
    allowed = {line[1:] for line in (SPACE / "Dockerfile.dockerignore").read_text().split() if line.startswith("!")}
    assert {source for source, _ in copied()} == allowed
    assert all((REPOSITORY / source).exists() for source, _ in copied() if not source.startswith("checkpoints"))
    assert "ADD " not in DOCKERFILE and "http" not in re.sub(r"(?m)^#.*", "", DOCKERFILE)


@pytest.fixture
def space(tmp_path):
    """A client of the command of the Space, which runs in a folder with what the image has."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", PORT))
        except OSError:
            pytest.skip(f"port {PORT} is taken")
    home, temporary = tmp_path / "app", tmp_path / "tmp"
    temporary.mkdir()
    for source, target in copied():
        (home / target).parent.mkdir(parents=True, exist_ok=True)
        (home / target).symlink_to(REPOSITORY / source)
    # a module finds its folder by the path of its file, where links are resolved
    (home / "src").unlink()
    shutil.copytree(REPOSITORY / "src", home / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    path = {"PYTHONPATH": str(home / "src"), "TMPDIR": str(temporary), "HOME": str(home), "PATH": "/usr/bin:/bin"}
    environment = path | {"SPACE_HOST": HOST, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with open(tmp_path / "log", "w+") as log:
        command = [sys.executable, "-m", "mcdiff_commands", *COMMAND[1:]]
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", headers=PAGE, trust_env=False) as client:
                until_ready(client, process)
                yield client
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert not list(temporary.glob("mcdiff-studio-*"))  # nothing of visitors stays
        finally:
            process.kill()
            process.wait()
            log.seek(0)
            print(log.read())


def until_ready(client, process) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/api/health").json()["status"] == "ready":
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("the command does not serve")


@pytest.mark.weights
def test_command_serves_visitors_of_the_space(space):
    from websockets.sync.client import connect

    page = space.get("/")
    assert page.status_code == 200 and "frame-ancestors 'self' https://huggingface.co" in str(page.headers)
    assert "x-frame-options" not in page.headers
    info = space.get("/api/info").json()
    assert info["shared"] and not info["can_list"] and info["limits"]["frames"] == SHARED.frames
    assert len(space.get("/api/examples").json()) >= 3
    assert space.get("/api/sessions").status_code == 404
    for headers in ({"host": "other.hf.space"}, {"origin": "https://other.hf.space"}):
        assert space.post("/api/sessions", headers=headers, content=b"x").status_code == 403

    session = space.post("/api/sessions", content=png_of(Image.new("RGB", (160, 120), "gray"))).json()["id"]
    address = f"ws://{HOST}/api/sessions/{session}/live"
    with socket.create_connection(("127.0.0.1", PORT)) as plain:
        with connect(address, origin=PAGE["origin"], sock=plain, max_size=None, proxy=None) as live:
            visitor = Page(Socket(live))
            visitor.send("hello", token=None)
            visitor.until("hello")
            visitor.send("render", node=new_id(), strokes=[MOVE], num_frames=SHARED.frames + 1)
            assert "at most 64 are possible" in visitor.until("refused")[0]["why"]
            visitor.send("render", node=new_id(), strokes=[MOVE], num_frames=2)
            assert visitor.until("frame", "failed", "refused")[0]["type"] == "frame"
