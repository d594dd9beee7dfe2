# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Options of a server, and the bounds that it keeps for its users."""

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Bounds:
    """
    What one server, session or request may use.

    Args:
        sessions (`int`): Sessions that are open at a time.
        nodes (`int`): Nodes of a session.
        frames (`int`): Frames of a video, frame 0 included.
        shorter_side (`int`): Shorter side of the working size in pixels.
        renders (`int`): Renders under way at a time, of all sessions.
        queue (`int`): Renders of a session that wait for the one that is under way.
        output_side (`int`): Longer side of full frames in pixels.
        zip_bytes (`int`): Bytes of an unpacked session.
    """

    sessions: int
    nodes: int
    frames: int
    shorter_side: int
    renders: int
    queue: int
    output_side: int
    zip_bytes: int


LOCAL = Bounds(
    sessions=4,
    nodes=64,
    frames=256,
    shorter_side=512,
    renders=8,
    queue=16,
    output_side=4096,
    zip_bytes=4 * 1024**3,
)
SHARED = Bounds(
    sessions=16,
    nodes=16,
    frames=64,
    shorter_side=256,
    renders=16,
    queue=8,
    output_side=1280,
    zip_bytes=256 * 1024**2,
)

PICTURE_BYTES = 20_000_000
PICTURE_PIXELS = 40_000_000
# A side that is more times as long as the other one leaves too few pixels across it.
LARGEST_ASPECT = 32
CLIP_BYTES = 256_000_000
DOCUMENT_BYTES = 4_000_000
DOCUMENT_DEPTH = 32
MESSAGE_BYTES = 262_144
MESSAGES_PER_SECOND = 120
STROKES, POINTS, REGIONS = 256, 1024, 64
# Moves of a camera: one that follows no easing has one for each frame.
CAMERA_MOVES = 320
MASK_SIDE = 4096
# Pixels in all masks of one set of regions: 256 MB as float32 on the way to the model.
MASKS_PIXELS = 64_000_000
NAME_LENGTH = 100
LARGEST_SEED, STEPS, GUIDANCE = 2**53 - 1, 200, 20.0
# Seeds that are asked for at a time.
SEEDS = 8
# Longer side of any frame in pixels: a working size of the largest aspect ratio is below it.
LARGEST_SIDE = 8192
# Pixels of any frame.
LARGEST_FRAME = 4096**2
# Uploads that are under way at a time, since each lies on the disk.
UPLOADS = 16
# Messages that wait for a client before no more of its own are read, and before it is sent away.
PATIENT_OUTBOX, LARGEST_OUTBOX = 64, 512
# Messages that wait for a client; a session's render waits when so many do.
OUTBOX = 32
# RAM for the states of a session's frames; others are read from the disk.
STATES_BYTES = 256 * 1024**2
# A working size may have as many times the pixels of a square of the largest shorter side.
LARGEST_AREA = 4

# Seconds that a session stays open without a page, and a new one that no page has opened yet.
SESSION_SECONDS = 30 * 60
UNOPENED_SECONDS = 120
HELLO_SECONDS = 10


@dataclass(frozen=True)
class StudioSettings:
    """
    Options of a server.

    Args:
        folder (`Path`): Where sessions are kept.
        shared (`bool`, defaults to `False`):
            Whether others than the person at this machine use it: no token, smaller bounds, no list of sessions.
        port (`int`, defaults to 7861): The port that it listens at.
        hosts (`tuple[str, ...]`): Host names under which it may be asked, without ports, besides this machine's own.
        token (`str`, *optional*): What requests have to carry; None with `shared`.
        size (`int`, *optional*): Shorter side of the working size in pixels if a render names none.
        is_space (`bool`, defaults to `False`): Whether it runs on a Space, which shows it in a frame.
        examples (`Path`, *optional*): Folder with pictures and stroke sheets to begin with.
    """

    folder: Path
    shared: bool = False
    port: int = 7861
    hosts: tuple[str, ...] = ()
    token: str | None = None
    size: int | None = None
    is_space: bool = False
    examples: Path | None = None
    bounds: Bounds = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "bounds", SHARED if self.shared else LOCAL)

    def limits(self) -> dict[str, int]:
        """The bounds that the page shows and keeps."""
        return {
            "sessions": self.bounds.sessions,
            "nodes": self.bounds.nodes,
            "frames": self.bounds.frames,
            "shorter_side": self.bounds.shorter_side,
            "output_side": self.bounds.output_side,
            "renders": self.bounds.renders,
            "queue": self.bounds.queue,
            "strokes": STROKES,
            "points": POINTS,
            "regions": REGIONS,
            "picture_bytes": PICTURE_BYTES,
            "picture_pixels": PICTURE_PIXELS,
            "document_bytes": DOCUMENT_BYTES,
            "message_bytes": MESSAGE_BYTES,
            "messages_per_second": MESSAGES_PER_SECOND,
        }


def default_folder() -> Path:
    """Where sessions are kept if no folder is named."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "mcdiff" / "studio"
