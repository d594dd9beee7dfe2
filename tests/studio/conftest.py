# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import pytest

from mcdiff_pipeline.model_names import EXAMPLE_IMAGE
from support.studio import serving


pytest.importorskip("fastapi", reason="needs the extra `studio`")


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path / "sessions") as server:
        yield server


@pytest.fixture(scope="module")
def kept_server(tmp_path_factory):
    """A server that several tests use, which change nothing that the others see."""
    with serving(tmp_path_factory.mktemp("kept"), examples=EXAMPLE_IMAGE.parent) as server:
        yield server


@pytest.fixture
def kept_session(kept_server, image):
    session = kept_server.open(image)["id"]
    yield session
    kept_server.client.delete(f"/api/sessions/{session}")


@pytest.fixture
def shared_server(tmp_path):
    with serving(tmp_path / "sessions", shared=True, hosts=("studio.example.org",)) as server:
        yield server


@pytest.fixture
def session(server, image):
    return server.open(image)["id"]
