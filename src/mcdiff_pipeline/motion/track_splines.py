# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Text files of tracks: splines of KJNodes, ATI and LTX as JSON, and the trajectories of Tora. `docs/interchange.md`
describes them and their sources."""

import json
import math
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import atomic_path
from ..strokes import MAX_POINTS
from .track_arrays import Arrays


# Tora's trajectories lie on a canvas of 256 x 256 units, which is stretched to the video.
TORA_CANVAS = 256

# Above the limits of any editor.
MAX_TRACKS, MAX_BYTES = 100_000, 200_000_000


def read_splines(path: Path) -> Arrays:
    """Reads `[[{"x": 1, "y": 2}, ...], ...]`: a list of tracks with one point per frame; or a single track.

    A shorter track is not visible after its end. Single quotes, and tracks that are text themselves, are read as well,
    since nodes of ComfyUI pass them on.
    """
    tracks = _load_tracks(path)
    length = max(len(track) for track in tracks)
    positions, visible = np.zeros((length, len(tracks), 2)), np.zeros((length, len(tracks)), dtype=bool)
    for index, track in enumerate(tracks):
        positions[: len(track), index], visible[: len(track), index] = track, True
    return positions, visible


def read_control_points(path: Path, num_frames: int) -> Arrays:
    """Reads the control points of LTX's editor, `points_store`: Catmull-Rom splines through the points, sampled at
    `num_frames` equal steps of their parameter."""
    tracks = [catmull_rom(np.array(track), num_frames) for track in _load_tracks(path)]
    positions = np.stack(tracks, axis=1)
    return positions, np.ones(positions.shape[:2], dtype=bool)


def catmull_rom(points: np.ndarray, number: int) -> np.ndarray:
    """
    Samples the uniform Catmull-Rom spline (Catmull and Rom 1974) through points. Each end is doubled.

    Args:
        points (`np.ndarray` of shape `(control_points, 2)`): One point stays, two give a straight line.
        number (`int`): Samples, at least 2.

    Returns:
        `np.ndarray` of shape `(number, 2)`.
    """
    if len(points) < 3:
        share = np.linspace(0, 1, number)[:, None]
        return (1 - share) * points[0] + share * points[-1]
    padded = np.concatenate([points[:1], points, points[-1:]])
    way = np.linspace(0, len(points) - 1, number)
    segment = np.minimum(way.astype(int), len(points) - 2)
    t = (way - segment)[:, None]
    a, b, c, d = (padded[segment + offset] for offset in range(4))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def write_splines(path: Path, positions: np.ndarray, visible: np.ndarray) -> list[int]:
    """
    Writes a list of tracks, one point for each frame, rounded to hundredths of a pixel.

    The format has no visibility: before a track begins and after it ends, its first and its last point are repeated.

    Returns:
        `list[int]`: the tracks that are not visible in all frames.
    """
    filled, hidden = _filled(positions, visible)
    tracks = [[{"x": round(float(x), 2), "y": round(float(y), 2)} for x, y in track] for track in filled]
    lines = ",\n".join(json.dumps(track) for track in tracks)
    with atomic_path(path) as temporary:
        temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return hidden


def read_tora(path: Path, num_frames: int | None, size: tuple[int, int]) -> Arrays:
    """
    Reads one trajectory from a text file, or one from each text file of a folder: a line `x,y` for each point.

    Args:
        path (`Path`): The file or the folder.
        num_frames (`int`, *optional*): Frames over which the points are distributed, each part between two points
            taking the same time; None is the largest number of points.
        size (`tuple[int, int]`): (width, height) of the image.
    """
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: there is no text file in this folder, but Tora's trajectories are text files.")
    trajectories = [_tora_points(file) for file in files]
    number = num_frames or max(len(points) for points in trajectories)
    positions = np.empty((number, len(trajectories), 2))
    for index, points in enumerate(trajectories):
        way = np.linspace(0, len(points) - 1, number)
        for axis in range(2):
            values = points[:, axis] * (size[axis] / TORA_CANVAS)
            positions[:, index, axis] = np.interp(way, np.arange(len(points)), values)
    return positions, np.ones(positions.shape[:2], dtype=bool)


def write_tora(path: Path, positions: np.ndarray, visible: np.ndarray, size: tuple[int, int]) -> list[int]:
    """
    Writes the file of one track, or a folder with one file for each. Positions are whole units of Tora's canvas, so
    they are rounded by up to a 512th of the width and of the height.

    Returns:
        `list[int]`: the tracks that are not visible in all frames; see [`write_splines`].
    """
    filled, hidden = _filled(positions, visible)
    texts = []
    for track in filled:
        units = np.rint(track * TORA_CANVAS / np.array(size)).clip(0, TORA_CANVAS - 1).astype(int)
        texts.append("".join(f"{x},{y}\n" for x, y in units))
    if path.suffix == ".txt":
        if len(texts) > 1:
            raise ValueError(
                f"{path} is one text file, but there are {len(texts)} tracks and Tora reads one from each file: name "
                "a folder."
            )
        files = [path]
    else:
        path.mkdir(exist_ok=True)
        files = [path / f"{index:02d}.txt" for index in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        with atomic_path(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return hidden


def _filled(positions: np.ndarray, visible: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    """Tracks `[T, 2]` with the nearest known position where they are not visible; and which of them needed this."""
    filled, hidden = [], []
    frames = np.arange(len(positions))
    for track in range(positions.shape[1]):
        known = np.flatnonzero(visible[:, track])
        if len(known) == 0:
            known = frames[:1]
        path = np.stack([np.interp(frames, known, positions[known, track, axis]) for axis in range(2)], axis=1)
        filled.append(path)
        if len(known) < len(frames):
            hidden.append(track)
    return filled, hidden


def _load_tracks(path: Path) -> list[list[tuple[float, float]]]:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, but at most {MAX_BYTES} are read.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text, but splines are JSON.") from None
    return parse_tracks(text, path)


def parse_tracks(text: str, path: str | Path) -> list[list[tuple[float, float]]]:
    """
    The tracks in a text, as [`read_splines`] reads them from a file.

    Args:
        text (`str`): The text.
        path (`str` or `Path`): What it comes from, for messages.

    Returns:
        `list[list[tuple[float, float]]]`: points (x, y) of each track.

    Raises:
        ValueError: If it holds something else.
    """
    tracks: list[list[tuple[float, float]]] = []
    for item in _lists_of_points(_parse(text, path), path):
        if not 0 < len(item) <= MAX_POINTS or len(tracks) == MAX_TRACKS:
            raise ValueError(
                f"{path}: track {len(tracks)} has {len(item)} points; 1 to {MAX_POINTS} points in at most "
                f"{MAX_TRACKS} tracks are read."
            )
        tracks.append([_point(point, len(tracks), index, path) for index, point in enumerate(item)])
    if not tracks:
        raise ValueError(
            f"{path} holds no track, but at least one list of points such as [{{'x': 1, 'y': 2}}] is needed."
        )
    return tracks


def _parse(text: str, path: str | Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(text.replace("'", '"'))  # as Python prints lists
    except (ValueError, RecursionError) as error:
        reason = "too many brackets in each other" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{path} is not JSON, but splines are: {reason}.") from None


def _lists_of_points(content: Any, path: str | Path, depth: int = 0) -> list[list[Any]]:
    """The tracks in what a file holds: one track, a list of tracks, or a list of texts that hold either."""
    if isinstance(content, str) and depth < 3:
        return _lists_of_points(_parse(content, path), path, depth + 1)
    if not isinstance(content, list):
        raise ValueError(f"{path} holds {reprlib.repr(content)}, but splines are lists of points with 'x' and 'y'.")
    if content and all(isinstance(item, dict) for item in content):
        return [content]
    if depth >= 3:
        raise ValueError(f"{path} holds lists of lists of lists, but splines are lists of points with 'x' and 'y'.")
    return [track for item in content for track in _lists_of_points(item, path, depth + 1)]


def _point(point: Any, track: int, index: int, path: str | Path) -> tuple[float, float]:
    values = [point.get(name) for name in ("x", "y")]
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values) or not all(
        map(math.isfinite, values)
    ):
        raise ValueError(
            f"{path}: point {index} of track {track} is {reprlib.repr(point)}, but a point has numbers 'x' and 'y' in "
            "pixels."
        )
    return float(values[0]), float(values[1])


def _tora_points(file: Path) -> np.ndarray:
    """The points of one trajectory, `[points, 2]` in units of the canvas."""
    points: list[Sequence[float]] = []
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not text, but Tora's trajectories are.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            x, y = (float(part) for part in line.split(","))
        except ValueError:
            x = y = math.nan
        if not (math.isfinite(x) and math.isfinite(y)) or len(points) == MAX_POINTS:
            raise ValueError(
                f"{file}: line {number} is {line.strip()!r:.60}, but each of at most {MAX_POINTS} lines is a point "
                f"'x,y' on a canvas of {TORA_CANVAS} x {TORA_CANVAS}."
            )
        points.append((x, y))
    if len(points) < 2:
        raise ValueError(f"{file} holds {len(points)} points, but a trajectory needs at least two lines 'x,y'.")
    return np.array(points)
