# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What is opened besides pictures: archives of sessions, clips, and stroke sheets, all from strangers.

Nothing of PyTorch is needed: strokes and regions keep their form, and the library checks them when they are used.
"""

import base64
import binascii
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

from ..strokes import StrokeSheet
from .earlier_sessions import upgraded
from .pictures import PICTURE_ERRORS, PNG_PREFIX, encoded, lossless_webp, read_picture, thumbnail
from .protocol import SheetBody, check_document, check_strokes, fields_of_camera, read_body
from .refusals import Refused, first_line
from .sessions import Session, plain_name
from .settings import CAMERA_MOVES, DOCUMENT_BYTES, LARGEST_AREA, LOCAL, PICTURE_BYTES, Bounds
from .sheets import refusal_of
from .store import NAMES, SESSION_JSON, SessionFiles, now


# Of a camera of the page; see [`~mcdiff_pipeline.motion.camera.Camera`].
DEFAULT_PARALLAX = 0.5
# Of all cameras in a file: each is looked up in each frame.
KEYFRAMES = 2 * LOCAL.frames
# Bytes of one file of a session at most, by its suffix.
_LARGEST = {".json": 4 * DOCUMENT_BYTES, ".png": 8 * PICTURE_BYTES, ".webp": PICTURE_BYTES, ".safetensors": 64_000_000}
_CHUNK = 1 << 16
# Bytes of the list of files in an archive: a session of 64 versions with 256 frames has less.
_LARGEST_DIRECTORY = 16_000_000
_ZIP_ERRORS = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)
# The first bytes of clips, and what else FFmpeg must never be asked to guess.
_CLIPS = {b"\x1a\x45\xdf\xa3": ".mkv", b"GIF8": ".gif"}
CLIP_SUFFIXES = (".mp4", ".mkv", ".gif")


def kind_of(content: bytes) -> str | None:
    """What the first bytes of a file say that it is: "picture", "zip", "json", a suffix of a clip, or None."""
    if content.startswith((b"\x89PNG", b"\xff\xd8\xff")) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP"):
        return "picture"
    if content.startswith(b"PK\x03\x04"):
        return "zip"
    if content[4:8] == b"ftyp":
        return ".mp4"
    for beginning, suffix in _CLIPS.items():
        if content.startswith(beginning):
            return suffix
    return "json" if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else None


def write_archive(files: SessionFiles, path: Path) -> None:
    """Writes a zip file of all files of a session."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in files.names():
            method = zipfile.ZIP_DEFLATED if name.endswith((".json", ".safetensors")) else zipfile.ZIP_STORED
            try:
                archive.writestr(name, files.read(name), method)
            except FileNotFoundError:  # a node was removed meanwhile
                continue


def read_archive(path: Path, target: SessionFiles, bounds: Bounds) -> None:
    """
    Unpacks a session. It appears complete or not at all.

    Args:
        path (`Path`): The zip file.
        target (`SessionFiles`): The new session.
        bounds (`Bounds`): What a session may hold.

    Raises:
        Refused: If it is not an archive of a session, has other files, or is too large; its own numbers are not
            trusted, bytes are counted while unpacking.
        OSError: If it cannot be written.
    """
    unfinished = target.folder.with_name(f".{target.folder.name}.unfinished")
    unpacked = SessionFiles(unfinished)
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            _unpack(archive, unfinished, bounds.zip_bytes)
        content = upgraded(unpacked, unpacked.read_session())
        # the pixels decide, not what the archive says of them
        picture = read_picture(unpacked.read("picture.png"), _LARGEST[".png"])
        write_picture(unpacked, picture)
        content["picture"] = {"width": picture.width, "height": picture.height}
        content["created"] = content["changed"] = now()
        content["sheet"] = content.get("sheet") and sheet_for(content["sheet"], picture.size)
        content["settings"] = _plain_settings(content.get("settings"))
        if content.get("document") is not None:
            check_document(content["document"])
        unpacked.write_session(content)
        session = Session.load(unpacked)
        _check_bounds(session, bounds)
        SessionFiles(unfinished, target.folder.name).write_session(session.to_dict())
        os.replace(unfinished, target.folder)
    except (*_ZIP_ERRORS, KeyError, TypeError, ValueError) as error:
        raise Refused(
            f"The file is not a session that can be opened ({first_line(error)}): export it again.", status=415
        ) from None
    except FileNotFoundError:
        raise Refused("The file is not a session: its picture is missing.", status=415) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_directory(path: Path) -> None:
    """
    Raises `Refused` if the list of files is too long to be read, or not at its place.

    [APPNOTE 4.3.16](https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT) describes the last 22 bytes; before
    them lie 20 more in a file that is larger than ours can be.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 42, 0))
        tail = file.read()
    if len(tail) < 22 or not tail[-22:].startswith(b"PK\x05\x06") or not tail.endswith(b"\0\0"):
        raise Refused("The archive is not complete: export it again.", status=415)
    if tail.startswith(b"PK\x06\x07") or int.from_bytes(tail[-10:-6], "little") > _LARGEST_DIRECTORY:
        raise Refused("The archive holds more files than a session has.", status=413)


def _check_bounds(session: Session, bounds: Bounds) -> None:
    """Raises `Refused` if a session is larger than one may become on this server."""
    nodes = session.nodes.values()
    if len(nodes) > bounds.nodes:
        raise Refused(f"The session has {len(nodes)} versions; at most {bounds.nodes} are possible here.", status=413)
    for node in nodes:
        if node.num_frames > bounds.frames:
            why = f"A version has {node.num_frames} frames; at most {bounds.frames} are possible here."
            raise Refused(why, status=413)
        of = node.settings
        working, output = of.width * of.height, max(of.output_width, of.output_height)
        if working > LARGEST_AREA * bounds.shorter_side**2 or output > max(bounds.output_side, of.width, of.height):
            why = f"A version has frames of {of.output_width} x {of.output_height} pixels, too many for this server."
            raise Refused(why, status=413)


def _plain_settings(settings: Any) -> dict[str, float] | None:
    """Settings of a clip, as far as they are numbers."""
    if not isinstance(settings, dict):
        return None
    names = ("num_frames", "fps", "seed", "steps", "guidance", "size")
    return {name: settings[name] for name in names if isinstance(settings.get(name), int | float)}


def _unpack(archive: zipfile.ZipFile, folder: Path, limit: int) -> None:
    left, seen = limit, set()
    for member in archive.infolist():
        name = member.filename
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f"{name[:60]!r} is packed in a way that sessions are not.", status=415)
        if not NAMES.fullmatch(name) or name in seen:
            raise Refused(f"The archive holds {name[:60]!r}, which is not a file of a session.", status=415)
        seen.add(name)
        path, largest = folder / name, _LARGEST[Path(name).suffix]
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with archive.open(member) as source, open(path, "wb") as target:
            while chunk := source.read(_CHUNK):
                written, left = written + len(chunk), left - len(chunk)
                if written > largest or left < 0:
                    raise Refused(f"{name} is too large when it is unpacked: the archive is not opened.", status=413)
                target.write(chunk)
    if SESSION_JSON not in seen:
        raise Refused("The archive is not a session: session.json is missing.", status=415)


def sheet_for(content: bytes | dict[str, Any], picture: tuple[int, int]) -> dict[str, Any]:
    """
    A stroke sheet for a picture.

    Args:
        content (`bytes` or `dict`): The sheet, JSON.
        picture (`tuple[int, int]`): (width, height) to which points and polygons are scaled. Masks stay as they are.

    Returns:
        `dict`: The sheet, with the moves of its camera as `camera`, and a `note` on what is not shown.

    Raises:
        Refused: If it is not a stroke sheet.
    """
    if isinstance(content, dict):
        content = json.dumps(content).encode()
    if content.startswith(b"\xef\xbb\xbf"):
        content = content[3:]
    sheet = read_body(SheetBody, content)
    check_strokes(sheet.strokes)
    _check_controls(sheet)
    factors = picture[0] / sheet.width, picture[1] / sheet.height
    strokes = [_scaled_stroke(stroke, factors) for stroke in sheet.strokes]
    if isinstance(sheet.camera, dict):
        camera, note = _moves_of_parts([(0, [sheet.camera])], picture, sheet.num_frames)
    else:
        moves = fields_of_camera(sheet.camera)
        camera = [{**move, "x": move["x"] * factors[0], "y": move["y"] * factors[1]} for move in moves]
        note = sheet.note
    return {
        "version": max(sheet.version, 2),
        "width": picture[0],
        "height": picture[1],
        "num_frames": sheet.num_frames,
        "fps": sheet.fps,
        "regions": [_scaled(region, "polygon", factors) for region in sheet.regions],
        "camera": camera,
        "strokes": strokes,
        "note": note,
    }


def _check_controls(sheet: SheetBody) -> None:
    """Raises `Refused` if easing, strength, turns or handles, which came in version 3, do not fit together."""
    if sheet.version < 3:
        return
    fields = {name: getattr(sheet, name) for name in ("width", "height", "num_frames", "strokes")}
    try:
        StrokeSheet.from_dict({"version": 3, **fields})
    except ValueError as error:
        raise refusal_of(error) from None


def _moves_of_parts(
    parts: list[tuple[int, list[dict[str, Any]]]], picture: tuple[int, int], num_frames: int
) -> tuple[list[dict[str, Any]], str]:
    """
    The moves of the cameras of a clip, and a note on motion that the page does not show.

    Args:
        parts (`list[tuple[int, list[dict]]]`): The frame at which each part of the clip begins, and the sources of
            motion of the part as JSON objects.
        picture (`tuple[int, int]`): (width, height) of the picture.
        num_frames (`int`): The length of the video.
    """
    from ..motion.camera import Camera  # slow to import
    from .camera_moves import camera_of, moves_of

    num_frames = min(num_frames, LOCAL.frames)  # no longer ones are shown
    keyframes = [fields.get("keyframes") for _, sources in parts for fields in sources]
    if (number := sum(len(one) for one in keyframes if isinstance(one, list))) > KEYFRAMES:
        raise Refused(f"The camera has {number} keyframes; {KEYFRAMES} are read.", status=413, field="camera")
    found: list[tuple[int, list[dict[str, Any]]]] = []
    notes = []
    for at, sources in parts:
        moves: list[dict[str, Any]] = []
        for fields in sources:
            if fields.get("source", "camera") != "camera":
                notes.append(f"Its motion by {str(fields['source'])[:40]} is not shown.")
                continue
            try:
                camera = Camera.from_dict({name: value for name, value in fields.items() if name != "source"})
            except (ValueError, TypeError) as error:
                raise Refused(f"camera.{first_line(error)}", status=422, field="camera") from None
            moves += moves_of(camera, picture, num_frames)
            if camera.parallax != DEFAULT_PARALLAX:
                notes.append(f"Its camera has a parallax of {camera.parallax:g}; here it is {DEFAULT_PARALLAX:g}.")
        found.append((at, moves))
    joined = camera_of(found, picture, num_frames) if len(found) > 1 else None
    moves = found[-1][1] if joined is None else moves_of(joined, picture, num_frames)
    if len(moves) > CAMERA_MOVES:
        notes.append("Its camera has too many moves to be shown.")
    return (moves if len(moves) <= CAMERA_MOVES else []), " ".join(dict.fromkeys(notes))


def _scaled_stroke(stroke: dict[str, Any], factors: tuple[float, float]) -> dict[str, Any]:
    """A stroke on a picture of another size. What is wrong in it, the library says when it is used."""
    scaled = _scaled(_scaled(stroke, "points", factors), "handles", factors)
    radius = stroke.get("radius")
    return {**scaled, "radius": radius * factors[0]} if isinstance(radius, int | float) else scaled


def _scaled(item: dict[str, Any], field: str, factors: tuple[float, float]) -> dict[str, Any]:
    if field not in item or factors == (1.0, 1.0):
        return item
    try:
        return {**item, field: [[x * factors[0], y * factors[1]] for x, y in item[field]]}
    except (TypeError, ValueError):
        raise Refused(f"{field} of a stroke or region must be a list of pairs of numbers.", status=422) from None


def read_clip(path: Path) -> tuple[bytes, str | None, dict[str, Any], dict[str, Any]]:
    """
    The content of a clip that `mcdiff` or Studio wrote.

    Args:
        path (`Path`): The file, with a suffix that fits its first bytes.

    Returns:
        `tuple[bytes, str | None, dict, dict]`: The PNG of the picture; the name of its session, if it has one; the
        sheet for that picture, as it was last drawn; and `{"num_frames", "fps", "seed", "steps", "guidance", "size"}`.

    Raises:
        Refused: If it is no such clip.
    """
    from ..video import VideoReader

    try:
        with VideoReader(path, num_threads=1) as video:
            content = video.metadata
        if content.get("format") != "mcdiff clip":
            raise Refused("The clip carries no strokes: only clips of mcdiff can be opened.", status=415)
        uri = content["picture"]
        if not isinstance(uri, str) or not uri.startswith(PNG_PREFIX) or len(uri) > 2 * PICTURE_BYTES:
            raise ValueError("its picture is missing or too large")
        png = base64.b64decode(uri.removeprefix(PNG_PREFIX), validate=True)
        settings = content["settings"]
        picture = read_picture(png, _LARGEST[".png"])
        sides = int(settings.get("height", picture.height)), int(settings.get("width", picture.width))
        found = {
            "num_frames": int(settings["num_frames"]),
            "fps": float(settings["fps"]),
            "seed": int(settings["seed"]),
            "steps": int(settings["num_inference_steps"]),
            "guidance": float(settings["guidance_scale"]),
            "size": min(sides),
        }
        sheet = sheet_for(content["strokes"], picture.size)
        parts = content.get("parts") or [{"at": 0, "motion": content.get("motion", [])}]
        cameras = [(int(part["at"]), list(part.get("motion", []))) for part in parts]
        sheet["camera"], sheet["note"] = _moves_of_parts(cameras, picture.size, sheet["num_frames"])
        drawn, name = content.get("studio"), None
        if isinstance(drawn, dict):
            sheet = _drawn_sheet(drawn, picture.size, sheet["camera"])
            name = plain_name(drawn["name"]) if drawn.get("name") else None
        return png, name, sheet, found
    except Refused:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, binascii.Error) as error:
        reason = first_line(error).replace(str(path), "it")
        raise Refused(f"The clip cannot be opened: {reason}.", status=415) from None


def _drawn_sheet(drawn: dict[str, Any], picture: tuple[int, int], camera: list[dict[str, Any]]) -> dict[str, Any]:
    """The strokes and the camera of the last part of a branch, as they were drawn; `camera` is that of a clip of an
    earlier version, which does not say."""
    last = drawn["parts"][-1]
    sheet = {
        "version": 3,
        "width": drawn["picture"]["width"],
        "height": drawn["picture"]["height"],
        "num_frames": last["num_frames"],
        "fps": last["fps"],
        "regions": drawn["regions"],
        "strokes": last["strokes"],
    }
    found = sheet_for(sheet | {"camera": last.get("camera", [])}, picture)
    return found if "camera" in last else found | {"camera": camera}


def write_picture(files: SessionFiles, picture: Image.Image) -> None:
    """Writes the picture of a session, and a small one for lists. Raises `OSError` if that is not possible."""
    files.write("picture.png", encoded(picture, "PNG", compress_level=1))
    files.write("thumbnail.webp", thumbnail(picture))


def read_picture_file(files: SessionFiles) -> Image.Image:
    """The picture of a session. Raises `Refused` if it is gone."""
    try:
        with Image.open(files.folder / "picture.png", formats=["PNG"]) as picture:
            return picture.convert("RGB")
    except PICTURE_ERRORS:
        raise Refused("The picture is no longer there: open it again.", code="session", status=404) from None


def frame_zero(files: SessionFiles, size: tuple[int, int]) -> bytes:
    """The picture of a session at a (width, height), as a lossless WebP."""
    picture = read_picture_file(files)
    return lossless_webp(picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC))
