# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The frames of branches in the files of a session."""

import io

from PIL import Image

from .pictures import PICTURE_ERRORS
from .refusals import Refused
from .sessions import Session
from .tree import find_node, node_with_frame


def stored_frame(session: Session, node_id: str, frame: int, *, full: bool = False) -> bytes:
    """
    The file of a frame of a branch, frame 0 excepted.

    Raises:
        Refused: If there is none.
    """
    node = node_with_frame(session.nodes, find_node(session.nodes, node_id), frame)
    if frame > node.last or frame < 1:
        raise Refused(f"Frame {frame} is not made.", code="node", status=404)
    try:
        return session.files.read(session.files.frame_name(node.id, frame, "output.webp" if full else "webp"))
    except OSError:
        raise Refused(f"Frame {frame} is not there in this size.", code="node", status=404) from None


def open_frame(session: Session, node_id: str, frame: int, *, full: bool = False) -> Image.Image:
    """
    A frame of a branch, frame 0 excepted, as RGB.

    Raises:
        Refused: If there is none, or its file is damaged or has another size than a frame has.
    """
    settings = find_node(session.nodes, node_id).settings
    sizes = (settings.width, settings.height), (settings.output_width, settings.output_height)
    try:
        picture = Image.open(io.BytesIO(stored_frame(session, node_id, frame, full=full)), formats=["WEBP"])
        if picture.size in sizes:
            return picture.convert("RGB")
    except PICTURE_ERRORS:
        pass
    raise Refused(f"The file of frame {frame} is damaged: render it again.", code="node")
