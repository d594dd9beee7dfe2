# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Sends 10,000 random messages to a Studio with a tiny model, and says what it made of them.

    python tests/fuzz/studio.py --messages 10000 --seed 1

Ends with status 1 if a request failed for a reason that nobody thought of, another page was not served, or memory grew
by more than 50 MB after the first half (what finds things and people is loaded in the first).
"""

import argparse
import collections
import logging
import random
import sys
import tempfile
import time
from pathlib import Path


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

from PIL import Image  # noqa: E402

from mcdiff_pipeline.studio import live  # noqa: E402
from support.studio import STROKES, serving  # noqa: E402
from support.studio_fuzz import Fuzzer, answers_to  # noqa: E402


GROWTH = 50.0  # megabytes
CHUNK = 20  # messages between two checks


class Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self):
        super().__init__(logging.ERROR)  # that a thing was not found is a warning
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    live.MESSAGES_PER_SECOND = 10**9  # the limit is not what is tested here
    errors, kinds, memory = Errors(), collections.Counter(), []
    logging.getLogger().addHandler(errors)
    picture = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    chance, begin, slowest = random.Random(args.seed), time.perf_counter(), 0.0
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        hostile, other = (server.open(picture)["id"] for _ in range(2))
        with server.page(other) as neighbor:
            neighbor.rendered(settings={"size": 512})  # what the largest frames need stays with the process
            for first in range(0, args.messages, CHUNK):
                if first % (50 * CHUNK) == 0:
                    memory.append(resident())
                if first % (10 * CHUNK) == 0:  # a new tree, so that no limit on versions hides what comes after
                    server.client.delete(f"/api/sessions/{hostile}")
                    hostile = server.open(picture)["id"]
                with server.page(hostile) as page:
                    page.send("cancel")
                    fuzzer = Fuzzer(chance.randrange(2**32), [node["id"] for node in nodes_of(server, hostile)])
                    kinds.update(
                        header["type"] for header in answers_to(page, [fuzzer.message() for _ in range(CHUNK)])
                    )
                asked = time.perf_counter()
                neighbor.send("flow", strokes=STROKES, num_frames=4)
                neighbor.until("flow")
                neighbor.received.clear()
                slowest = max(slowest, time.perf_counter() - asked)
    memory.append(resident())
    print(f"{args.messages} messages in {time.perf_counter() - begin:.0f} s; answers: {dict(kinds.most_common())}")
    print(f"slowest flow of the neighbor: {slowest:.2f} s; memory: {', '.join(f'{one:.0f}' for one in memory)} MB")
    for record in errors.records[:5]:
        print(logging.Formatter().format(record))
    growth = memory[-1] - memory[len(memory) // 2]
    failed = bool(errors.records) or kinds["error"] > 0 or growth > GROWTH
    print("failed" if failed else "passed", f"(memory grew by {growth:.1f} MB, {len(errors.records)} errors)")
    return int(failed)


def nodes_of(server, session: str) -> list[dict]:
    return server.client.get(f"/api/sessions/{session}").json()["nodes"]


if __name__ == "__main__":
    sys.exit(main())
