# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Random messages of a client: refused in one sentence each, without a traceback, while others are served."""

import logging

from support.studio import STROKES
from support.studio_fuzz import Fuzzer, answers_to


def test_random_messages_are_answered_and_others_do_not_notice(server, image, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("mcdiff_pipeline.studio.live.MESSAGES_PER_SECOND", 10**6)
    hostile, other = (server.open(image)["id"] for _ in range(2))
    with server.page(hostile) as page, server.page(other) as neighbor:
        fuzzer = Fuzzer(0, [page.rendered() for _ in range(2)])
        for _ in range(30):
            headers = answers_to(page, [fuzzer.message() for _ in range(10)])
            refused = [header for header in headers if header["type"] == "refused"]
            assert all(header["why"].strip().endswith((".", "?")) and len(header["why"]) < 1000 for header in refused)
            assert not [header for header in headers if header["type"] == "error"], headers
            neighbor.send("flow", strokes=STROKES, num_frames=4)
            neighbor.until("flow")
        neighbor.rendered()
    assert server.client.get("/api/health").json()["status"] == "ready"
    assert [record for record in caplog.records if record.exc_info] == []
