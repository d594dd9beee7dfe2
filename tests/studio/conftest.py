# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import pytest

from support.studio import serving


pytest.importorskip("fastapi", reason="needs the extra `studio`")


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path / "sessions") as server:
        yield server


@pytest.fixture
def shared_server(tmp_path):
    with serving(tmp_path / "sessions", shared=True, hosts=("studio.example.org",)) as server:
        yield server


@pytest.fixture
def session(server, image):
    return server.open(image)["id"]
