# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The messages between page and server.

A client sends text with one JSON object, which `type` names. The server sends bytes: a little-endian `u32` length, as
many bytes of JSON, and the payload.
"""

import json
import struct
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import from_json

from ..video.writer import MIN_FPS
from .refusals import Refused
from .settings import (
    CAMERA_MOVES,
    DOCUMENT_DEPTH,
    GUIDANCE,
    LARGEST_SEED,
    NAME_LENGTH,
    POINTS,
    REGIONS,
    SEEDS,
    STEPS,
    STROKES,
)


ID_PATTERN = r"^[0-9a-f]{32}$"
KEY_PATTERN = r"^[0-9a-f]{16}$"

Id = Annotated[str, Field(pattern=ID_PATTERN)]
Key = Annotated[str, Field(pattern=KEY_PATTERN)]
Rev = Annotated[int, Field(ge=0, lt=2**53)]
Frame = Annotated[int, Field(ge=0, lt=2**31)]
# What a stroke and a region are, the library says: its sentences name the field.
Strokes = Annotated[list[dict[str, Any]], Field(max_length=STROKES)]
Regions = Annotated[list[dict[str, Any]], Field(max_length=REGIONS)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]

CLOSE_PROTOCOL, CLOSE_TOKEN, CLOSE_NO_SESSION, CLOSE_NO_HELLO = 4400, 4401, 4404, 4408
CLOSE_REPLACED, CLOSE_GONE, CLOSE_RATE, CLOSE_TOO_LARGE, CLOSE_SERVER_ENDS = 4409, 4410, 4429, 1009, 1001


class Message(BaseModel):
    """A JSON object with exactly the fields of its class."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class CameraMove(Message):
    """A move of the camera between two frames; see [`~mcdiff_pipeline.motion.camera.CameraKeyframe`] for the kinds.

    `x` and `y` are the way of a pan or a truck, in pixels of the picture to the right and down. `amount` is the factor
    of a zoom, the degrees of a rotation, clockwise, or the share of the way of a dolly.
    """

    kind: Literal["pan", "truck", "zoom", "rotate", "dolly"]
    x: Annotated[float, Field(ge=-1e6, le=1e6)] = 0.0
    y: Annotated[float, Field(ge=-1e6, le=1e6)] = 0.0
    amount: Annotated[float, Field(ge=-7200, le=7200)] = 0.0
    start: Annotated[float, Field(ge=0, le=100_000)]
    end: Annotated[float, Field(ge=0, le=100_000)]
    ease: Literal["linear", "ease-in", "ease-out", "ease-in-out"] = "linear"

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.end - self.start < 0.01:
            raise ValueError(f"end is {self.end:g}, not after start, which is {self.start:g}")
        if self.kind == "zoom" and not 1e-3 <= self.amount <= 1e3:
            raise ValueError(f"amount is {self.amount:g}; a zoom must be a factor from 0.001 to 1000")
        return self


Camera = Annotated[list[CameraMove], Field(max_length=CAMERA_MOVES)]


class TreeSettings(Message):
    """Settings of a render from frame 0; all its branches have the same. None takes the model's default."""

    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    steps: Annotated[int, Field(ge=1, le=STEPS)] | None = None
    guidance: Annotated[float, Field(ge=0, le=GUIDANCE)] | None = None
    size: Annotated[int, Field(ge=8, le=4096)] | None = None
    output: Literal["image", "working"] = "image"


class Hello(Message):
    """The first message of a connection."""

    type: Literal["hello"]
    token: Annotated[str, Field(max_length=200)] | None = None


class Flow(Message):
    """Asks for the dense flow of a step. The newest request of a session replaces one that waits."""

    type: Literal["flow"]
    rev: Rev
    node: Id | None = None
    frame: Frame = 0
    strokes: Strokes
    num_frames: Annotated[int, Field(ge=2)]
    size: Annotated[int, Field(ge=8, le=4096)] | None = None
    regions: Key | None = None
    camera: Camera = []


class Render(Message):
    """Asks for the frames of a new node, or to go on with one that was stopped."""

    type: Literal["render"]
    rev: Rev
    node: Id
    parent: Id | None = None
    at: Frame = 0
    strokes: Strokes
    num_frames: Annotated[int, Field(ge=2)]
    fps: Annotated[float, Field(ge=MIN_FPS, le=240)] = 8.0
    regions: Key | None = None
    camera: Camera = []
    settings: TreeSettings | None = None
    preview: bool = True
    endless: bool = False


class Steer(Message):
    """Changes the strokes and the camera of a render: it ends at the next frame, and a branch goes on."""

    type: Literal["steer"]
    rev: Rev
    node: Id
    strokes: Strokes
    camera: Camera = []
    # of an endless render: the length of the video that the strokes were drawn for
    num_frames: Annotated[int, Field(ge=2, le=100_000)] | None = None


class Pause(Message):
    """Lets a render rest after the frame that is being made, or go on."""

    type: Literal["pause"]
    rev: Rev
    node: Id
    paused: bool


class Pull(Message):
    """Where the pen is that pulls a thing in an endless render; `start` is where it took hold of the thing."""

    type: Literal["pull"]
    rev: Rev
    node: Id
    start: Point | None = None
    to: Point
    down: bool


class Best(Message):
    """Asks for the strokes of a branch with other seeds, in new nodes, and how well each one follows them."""

    type: Literal["best"]
    rev: Rev
    node: Id
    ids: Annotated[list[Id], Field(min_length=1, max_length=SEEDS)]


class Cancel(Message):
    """Ends a render at the next denoising step, or before it begins; without a node, all of the session."""

    type: Literal["cancel"]
    node: Id | None = None


class Enlarge(Message):
    """Asks for the frames of a branch at the output size."""

    type: Literal["enlarge"]
    rev: Rev
    node: Id


class Joints(Message):
    """Asks for the people in a frame."""

    type: Literal["joints"]
    rev: Rev
    node: Id | None = None
    frame: Frame = 0


class Segment(Message):
    """Asks for the mask of the thing at some points of the picture."""

    type: Literal["segment"]
    rev: Rev
    points: Annotated[list[Point], Field(min_length=1, max_length=64)]
    labels: Annotated[list[Literal[0, 1]], Field(min_length=1, max_length=64)]


class Propose(Message):
    """Asks for a region for each group of strokes."""

    type: Literal["propose"]
    rev: Rev
    strokes: Strokes


class Save(Message):
    """Keeps the document of the page."""

    type: Literal["save"]
    rev: Rev
    document: dict[str, Any]


ClientMessage = (
    Hello | Flow | Render | Steer | Pause | Pull | Best | Cancel | Enlarge | Joints | Segment | Propose | Save
)

_CAMERA: TypeAdapter[list[CameraMove]] = TypeAdapter(Camera)
_CLIENT_MESSAGE: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


# Bodies of HTTP requests.

Body = TypeVar("Body", bound=BaseModel)


class ExampleBody(Message):
    example: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")]


class DocumentBody(Message):
    rev: Rev
    document: dict[str, Any]


class RegionsBody(Message):
    """What all nodes of a tree share."""

    regions: Regions


class NameBody(Message):
    name: Name


class NodeBody(Message):
    name: Name | None = None
    star: bool | None = None


class SheetBody(Message):
    """
    A stroke sheet of any version, as far as its shape goes.

    In a file, `camera` is that of the library. What this program hands on has moves instead, and may have a note on
    what is not shown.
    """

    version: Literal[1, 2, 3, 4]
    width: Annotated[int, Field(ge=1, le=100_000)]
    height: Annotated[int, Field(ge=1, le=100_000)]
    num_frames: Annotated[int, Field(ge=2, le=100_000)]
    fps: Annotated[float, Field(ge=MIN_FPS, le=240)] = 8.0
    regions: Regions = []
    camera: Camera | dict[str, Any] = []
    strokes: Strokes
    note: Annotated[str, Field(max_length=1000)] = ""


def read_json(content: str | bytes) -> Any:
    """
    A JSON value from a stranger. What is read can be written again: numbers are finite, and text is Unicode.

    Raises:
        ValueError: If it is not JSON, or nested too deep.
    """
    value = from_json(content, allow_inf_nan=False)
    json.dumps(value, allow_nan=False)  # 1e999 is read as infinity
    return value


def read_camera(moves: Any) -> list[dict[str, Any]]:
    """
    The moves of a camera in a file.

    Raises:
        ValueError: If they are not moves of a camera.
    """
    return fields_of_camera(_CAMERA.validate_python(moves))


def fields_of_camera(moves: Camera) -> list[dict[str, Any]]:
    """The moves of a camera as a node and its files have them."""
    return [move.model_dump() for move in moves]


def read_message(text: str | bytes) -> ClientMessage:
    """
    The message in a text.

    Raises:
        Refused: If it is not one of the messages. `field` says what is wrong in it.
    """
    try:
        return _CLIENT_MESSAGE.validate_python(_read_json(text, "The message"))
    except ValidationError as error:
        raise refusal_of(error) from None


def read_body(body: type[Body], content: bytes) -> Body:
    """
    The JSON body of an HTTP request.

    Raises:
        Refused: If it does not fit the schema.
    """
    try:
        return body.model_validate(_read_json(content, "The request"))
    except ValidationError as error:
        raise refusal_of(error, skip=0) from None


def _read_json(content: str | bytes, what: str) -> Any:
    try:
        return read_json(content)
    except ValueError as error:
        raise Refused(f"{what} is not JSON that can be read: {error}.", status=422) from None


def refusal_of(error: ValidationError, skip: int = 1) -> Refused:
    """One sentence about the first thing that does not fit the schema. `skip` parts of its place are not shown."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"][skip:])[:100]
    message = first["msg"].replace("Value error, ", "").rstrip(".")
    return Refused(
        f"{field or 'The message'}: {message[:1].lower()}{message[1:200]}.", status=422, field=field or None
    )


def check_strokes(strokes: list[dict[str, Any]]) -> None:
    """Raises `Refused` if a stroke has too many points. Everything else the library checks."""
    for index, stroke in enumerate(strokes):
        points = stroke.get("points")
        if isinstance(points, list) and len(points) > POINTS:
            raise Refused(
                f"strokes[{index}].points holds {len(points)} points; {POINTS} are allowed: leave out points that lie "
                "nearly on the line between their neighbors.",
                code="strokes",
                field="points",
                stroke=index,
            )


def check_document(document: dict[str, Any]) -> None:
    """Raises `Refused` if a document of a page cannot be kept. What it says is the page's own business."""
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise Refused("document.version is missing; a document has a whole number as its version.", status=422)
    if depth_of(document, DOCUMENT_DEPTH) > DOCUMENT_DEPTH:
        raise Refused(f"The document is nested more than {DOCUMENT_DEPTH} deep.", status=422)


def depth_of(value: Any, limit: int) -> int:
    """How deep a JSON value is nested; counting ends above `limit`."""
    depth, level = 0, [value]
    while level and depth <= limit:
        nested: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                nested.extend(one.values())
            elif isinstance(one, list):
                nested.extend(one)
        depth, level = depth + 1, nested
    return depth


def packed(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """A message of the server."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return struct.pack("<I", len(text)) + text + payload


def unpacked(message: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the payload of a message of the server."""
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length]), message[4 + length :]
