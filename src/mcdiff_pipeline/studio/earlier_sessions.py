# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Sessions that earlier versions wrote, as those of today.

In version 1 of `session.json`, all nodes of a tree had one camera, as keyframes in the file of their regions; the
moves that the page drew were in its document.
"""

from typing import Any

from .protocol import read_camera, read_json
from .settings import CAMERA_MOVES
from .store import SessionFiles


def upgraded(files: SessionFiles, content: dict[str, Any]) -> dict[str, Any]:
    """
    The content of a `session.json` in the version of today. Frames and their states stay as they are.

    Args:
        files (`SessionFiles`): The files of the session; regions without a camera are written to them.
        content (`dict`): What [`SessionFiles.read_session`] gave.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: If it is damaged.
        OSError: If a file cannot be read or written.
    """
    if content["version"] > 1:
        return content
    document = content.get("document")
    document = document if isinstance(document, dict) else {}
    drawn, regions = document.get("camera_sets") or {}, document.get("region_sets") or {}
    sets: dict[str, tuple[str | None, Any]] = {}
    nodes = []
    for node in content["nodes"]:
        key = node["regions"]
        if key is not None and key not in sets:
            sets[key] = _without_camera(files, key)
        new, camera = sets.get(key, (None, None))
        moves = [] if camera is None else _moves(camera, drawn.get(key), content["picture"], node["num_frames"])
        nodes.append({**node, "regions": new, "camera": moves})
    for old, (new, _) in sets.items():
        if old in regions and new is not None:
            regions = {**regions, new: regions[old]}
    if document:
        kept = {name: value for name, value in document.items() if name != "camera_sets"}
        document = kept | ({"region_sets": regions} if regions else {})
    return content | {"nodes": nodes, "document": document or content.get("document")}


def _without_camera(files: SessionFiles, key: str) -> tuple[str | None, Any]:
    """The key of a set of regions without its camera, None if there are none; and the camera."""
    files.read_regions(key)  # it is one
    content = read_json(files.read(f"regions/{key}.json"))
    camera = content.get("camera")
    if camera is None:
        return key, None
    return (files.write_regions(content["regions"]) if content["regions"] else None), camera


def _moves(camera: Any, drawn: Any, picture: dict[str, int], num_frames: int) -> list[dict[str, Any]]:
    """The moves of a camera: as the page drew them if it kept them, else those that give its keyframes."""
    if isinstance(drawn, list):
        fields = ("kind", "x", "y", "amount", "start", "end", "ease")
        moves = read_camera([{name: move[name] for name in fields} for move in drawn])
        return [
            one for one in moves if one["x"] or one["y"] or one["amount"] != (1.0 if one["kind"] == "zoom" else 0.0)
        ]
    from ..motion.camera import Camera  # slow to import
    from .camera_moves import moves_of

    size = int(picture["width"]), int(picture["height"])
    return moves_of(Camera.from_dict(camera), size, int(num_frames))[:CAMERA_MOVES]
