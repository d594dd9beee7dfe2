# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Where each handle of a version was to go, and where it is found in its frames."""

import math
import queue
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .refusals import Refused, first_line
from .sessions import Session
from .tree import Node
from .worker import Job, ModelThread


if TYPE_CHECKING:
    from ..evaluation.drawn_strokes import FoundHandle
    from ..strokes import StrokeSheet
    from .engine import Engine

# Frames that are searched, spread over the video: a few milliseconds for each handle in each of them.
SEARCHED = 48
# Seconds after which a page is not made to wait longer, while others render.
PATIENCE = 120


def find_tracks(model: ModelThread, session: Session, node: Node) -> dict[str, Any]:
    """
    The tracks of a version. The thread of the model searches, a frame a turn; the calling thread waits.

    Args:
        model (`ModelThread`): Searches.
        session (`Session`): Has the node.
        node (`Node`): The end of the branch.

    Returns:
        `dict`: `node`; `last`, the last frame; `near`, the distance within which a handle counts as found where it was
        to be; `frames`, the numbers of those that were searched; and `strokes`, for each its `kind`, `start`, the mean
        distance `off` or None, and for each of the frames `goals` and `found`, (x, y) or None. All in pixels of the
        picture.

    Raises:
        Refused: If there is too much to do already, or a frame cannot be read.
    """
    answers: queue.Queue[dict[str, Any] | Exception] = queue.Queue()

    def steps() -> Iterator[None]:
        try:
            if model.engine is None:
                raise Refused("The model is still loading: try again in a moment.", code="loading", status=503)
            yield from _search(model.engine, session, node, answers)
        except (Refused, OSError) as error:
            answers.put(error)
        except (RuntimeError, MemoryError, ValueError) as error:
            answers.put(Refused(f"The tracks cannot be found ({first_line(error)}).", status=409))

    model.add(Job(session, steps()))
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = answers.get(timeout=0.5)
        except queue.Empty:
            if session.is_removed or model.is_ending or time.monotonic() > deadline:
                raise Refused("The search for tracks takes too long: try again later.", status=503) from None
            continue
        if isinstance(answer, Exception):
            raise answer
        return answer


def _search(engine: "Engine", session: Session, node: Node, answers: queue.Queue[Any]) -> Iterator[None]:
    from ..evaluation.metrics.handle_search import scaled_to

    sheet, search = engine.tracks(session, node, SEARCHED)
    frames, found = [], []
    for number, handles in search:
        frames.append(number)
        found.append(handles)
        yield
    scale = (session.size[0] / sheet.width, session.size[1] / sheet.height)
    strokes = [_track(sheet, index, frames, found, scale) for index in range(len(sheet.strokes))]
    near = scaled_to(sheet.height, sheet.width)[2] * math.sqrt(scale[0] * scale[1])
    answers.put({"node": node.id, "last": node.last, "near": near, "frames": frames, "strokes": strokes})


def _track(
    sheet: "StrokeSheet",
    index: int,
    frames: list[int],
    found: list[dict[int, "FoundHandle"]],
    scale: tuple[float, float],
) -> dict[str, Any]:
    """The track of one stroke. `scale` is the pixels of the picture in one of the sheet, in x and y."""
    stroke = sheet.strokes[index]
    handles = [one.get(index) for one in found]
    length = math.sqrt(scale[0] * scale[1])
    distances = [handle.distance * length for handle in handles if handle is not None]
    start = math.ceil(stroke.span(sheet.num_frames)[0])
    beginning = stroke.at(start, sheet.num_frames)

    def shown(place: tuple[float, float] | None) -> list[float] | None:
        return None if place is None else [round(scale[0] * place[0], 2), round(scale[1] * place[1], 2)]

    return {
        "kind": stroke.kind,
        "start": start,
        "from": shown(beginning),
        "off": round(sum(distances) / len(distances), 2) if distances else None,
        "goals": [shown(stroke.at(number, sheet.num_frames)) for number in frames],
        "found": [shown(None if handle is None else handle.place) for handle in handles],
    }
