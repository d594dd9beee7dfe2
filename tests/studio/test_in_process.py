# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Requests to an application in the same process."""

import asyncio

import pytest


fastapi = pytest.importorskip("fastapi")

from mcdiff_pipeline.studio.in_process import InProcess  # noqa: E402


@pytest.fixture
def app():
    app, kept = fastapi.FastAPI(), {"value": "old"}

    @app.put("/kept/{value}")
    async def put(value: str, fails: bool = False) -> None:
        await asyncio.sleep(0.05)
        if fails:
            raise RuntimeError("it cannot be kept")
        kept["value"] = value

    @app.get("/kept")
    async def get() -> dict[str, str]:
        return kept

    running = InProcess(app, "127.0.0.1:1")
    yield running
    running.close()


def test_what_was_put_before_is_there_for_a_request_that_does_not_wait_for_it(app):
    app.request("PUT", "/kept/new")
    app.request("PUT", "/kept/newer")
    assert app.request("GET", "/kept").result(timeout=60).body == b'{"value":"newer"}'


def test_put_that_fails_does_not_hold_up_the_next_request(app):
    failed = app.request("PUT", "/kept/new?fails=true")
    assert app.request("GET", "/kept").result(timeout=60).body == b'{"value":"old"}'
    with pytest.raises(RuntimeError, match="it cannot be kept"):
        failed.result(timeout=60)
