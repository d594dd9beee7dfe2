# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Makes requests of a Studio with a tiny model from the description of its routes, `/api/openapi.json`.

    pip install schemathesis
    python tests/fuzz/routes.py --examples 50

Ends with status 1 if a request fails on the server, or an answer is of another type or form than described.
"""

import argparse
import collections
import multiprocessing
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

import httpx  # noqa: E402
import schemathesis  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from PIL import Image  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.core.failures import FailureGroup  # noqa: E402
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from support.studio import TOKEN, Page, Socket, png_of, run_server  # noqa: E402


CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]


def make_session(origin: str, headers: dict[str, str]) -> dict[str, str]:
    """The parameters that lead to a session with a render."""
    picture = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    with httpx.Client(base_url=origin, headers=headers, timeout=60) as client:
        session = client.post("/api/sessions", content=png_of(picture)).json()["id"]
    with connect(f"{origin.replace('http', 'ws')}/api/sessions/{session}/live", origin=origin) as websocket:
        page = Page(Socket(websocket))
        page.send("hello", token=TOKEN)
        page.until("hello")
        return {"session_id": session, "node_id": page.rendered()}


def try_route(operation: Any, headers: dict[str, str], ids: dict[str, str], examples: int) -> collections.Counter:
    """Makes requests of one route; returns how often it answered with each status."""
    statuses: collections.Counter = collections.Counter()

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def send(case: Any) -> None:
        if case.method != "DELETE":  # what the others need stays
            case.path_parameters.update({name: ids[name] for name in case.path_parameters if name in ids})
        response = case.call_and_validate(headers=headers, checks=CHECKS)
        statuses[response.status_code] += 1

    send()
    return statuses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=50, help="requests of each route (default: 50)")
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        origin = f"http://127.0.0.1:{port}"
        headers = {"origin": origin, "x-mcdiff-token": TOKEN}
        run = multiprocessing.get_context("fork").Process(target=run_server, args=(Path(folder), port, listener))
        run.start()
        try:
            ids = make_session(origin, headers)
            schema = schemathesis.openapi.from_url(f"{origin}/api/openapi.json", headers=headers)
            for operation in (result.ok() for result in schema.get_all_operations()):
                try:
                    found = try_route(operation, headers, ids, args.examples)
                    counts = ", ".join(f"{count} x {status}" for status, count in sorted(found.items()))
                    print(f"{operation.label}: {counts}")
                except FailureGroup as failures:
                    failed += 1
                    print(f"{operation.label}: {failures}")
        finally:
            run.kill()
            run.join()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
