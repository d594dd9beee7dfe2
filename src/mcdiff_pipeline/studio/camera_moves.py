# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The camera as the page draws it: moves with an amount, a time and an easing, which add up.

Each version has moves of its own. A branch begins where the camera of its parent is: from there on, it moves as its
own moves say, so that nothing jumps. The library gets one keyframe for each frame in which the camera of a branch
moves.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..motion.camera import FARTHEST, Camera, CameraKeyframe
from ..stroke_controls import EASINGS
from .protocol import CameraMove
from .refusals import Refused


# Digits of the values in keyframes: below, nothing is seen of them in 4,096 pixels.
DIGITS = {"pan": 3, "truck": 3, "zoom": 5, "rotate": 4, "dolly": 5}

# The moves of a version, and the frame at which it begins.
Part = tuple[int, Sequence[dict[str, Any]]]


@dataclass(frozen=True)
class Place:
    """Where the camera is, as in [`CameraKeyframe`]; `pan` and `truck` are to the right + down * i."""

    pan: complex = 0j
    truck: complex = 0j
    zoom: float = 1.0
    rotate: float = 0.0
    dolly: float = 0.0

    def then(self, since: "Place", until: "Place") -> "Place":
        """The place after what is between two others."""
        return Place(
            self.pan + until.pan - since.pan,
            self.truck + until.truck - since.truck,
            self.zoom * until.zoom / since.zoom,
            self.rotate + until.rotate - since.rotate,
            self.dolly + until.dolly - since.dolly,
        )

    def rounded(self) -> "Place":
        return Place(**{kind: _rounded(getattr(self, kind), digits) for kind, digits in DIGITS.items()})

    def keyframe(self, frame: int, *, has_truck: bool) -> CameraKeyframe:
        return CameraKeyframe(
            frame,
            pan=(self.pan.real, self.pan.imag),
            truck=(self.truck.real, self.truck.imag) if has_truck else None,
            zoom=self.zoom,
            rotate=self.rotate,
            dolly=self.dolly,
        )


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, complex):
        return complex(round(value.real, digits), round(value.imag, digits))
    return round(value, digits)


def place_at(moves: Sequence[dict[str, Any]], frame: float) -> Place:
    """Where moves, the fields of [`CameraMove`], have brought the camera at a frame."""
    found: dict[str, Any] = {"pan": 0j, "truck": 0j, "zoom": 1.0, "rotate": 0.0, "dolly": 0.0}
    for move in moves:
        kind, start, end = move["kind"], move["start"], move["end"]
        share = EASINGS[move["ease"]](min(max((frame - start) / (end - start), 0.0), 1.0))
        if kind == "zoom":
            found[kind] *= move["amount"] ** share
        else:
            found[kind] += share * (move["amount"] if kind in ("rotate", "dolly") else complex(move["x"], move["y"]))
    return Place(**found)


def places_of(parts: Sequence[Part], num_frames: int) -> list[Place]:
    """
    Where the camera of a branch is in each frame.

    Args:
        parts (`Sequence[Part]`): The versions from the root to the end of the branch.
        num_frames (`int`): The length of the video.
    """
    places: list[Place] = []
    for (at, moves), (end, _) in pairwise([*_joined(parts), (num_frames - 1, ())]):
        since, base = place_at(moves, at), places[at] if places else Place()
        own = [place_at(moves, frame) for frame in range(len(places), end + 1)]
        # a root is where its moves say, exactly
        places += own if at == 0 else [base.then(since, one) for one in own]
    return places[:num_frames]


def _joined(parts: Sequence[Part]) -> list[Part]:
    """The parts, without those that go on with the moves of the one before."""
    kept = list(parts[:1])
    for at, moves in parts[1:]:
        if list(moves) != list(kept[-1][1]):
            kept.append((at, moves))
    return kept


def first_frame(parts: Sequence[Part]) -> int | None:
    """The frame at which the first version with a camera begins; None if there is none."""
    return next((at for at, moves in parts if moves), None)


def camera_of(parts: Sequence[Part], picture: tuple[int, int], num_frames: int) -> Camera | None:
    """
    The camera of a branch.

    Args:
        parts (`Sequence[Part]`): The versions from the root to the end of the branch.
        picture (`tuple[int, int]`): (width, height) of the picture.
        num_frames (`int`): The length of the video.

    Returns:
        `Camera` or `None`: With a keyframe for each frame in which it moves; None if no version has a camera.

    Raises:
        Refused: If it goes too far.
    """
    if first_frame(parts) is None:
        return None
    try:
        places = [place.rounded() for place in places_of(parts, num_frames)]
    except ArithmeticError:
        raise Refused("The camera cannot be used: its zooms are too strong together.", code="camera") from None
    changes = [frame for frame in range(1, num_frames) if places[frame] != places[frame - 1]]
    first, last = (changes[0] - 1, changes[-1]) if changes else (0, 0)
    trucks = any(place.truck for place in places)
    try:
        farthest = max(max(abs(place.pan), abs(place.truck)) for place in places)
        if not farthest <= FARTHEST * max(picture):
            raise ValueError(
                f"it goes {farthest:.4g} pixels away; at most {FARTHEST} times the longer side are possible"
            )
        shown = enumerate(places[first : last + 1], start=first)
        keyframes = [place.keyframe(frame, has_truck=trucks) for frame, place in shown]
        return Camera(keyframes, *picture)
    except ValueError as error:
        raise Refused(f"The camera cannot be used: {error}.".replace("..", "."), code="camera") from None


def moves_of(camera: Camera, picture: tuple[int, int], num_frames: int) -> list[dict[str, Any]]:
    """
    Moves that bring the camera to where another one is in each frame, after where that one is in frame 0.

    What moves with one of the easings becomes one move; anything else, one for each frame.

    Args:
        camera (`Camera`): The camera.
        picture (`tuple[int, int]`): (width, height) of the picture, to whose pixels it is brought.
        num_frames (`int`): The length of the video.
    """
    factors = picture[0] / camera.width, picture[1] / camera.height
    places = []
    for frame in range(num_frames):
        here = camera.at(frame)
        pan, truck = (
            complex(one[0] * factors[0], one[1] * factors[1]) for one in (here.pan or (0, 0), here.truck or (0, 0))
        )
        places.append(Place(pan, truck, here.zoom or 1.0, here.rotate or 0.0, here.dolly or 0.0))
    frames = [keyframe.frame for keyframe in camera.keyframes]
    # one for each frame says nothing about where moves begin and end
    corners = set(frames) if any(after - before > 1 for before, after in pairwise(frames)) else set()
    moves = []
    for kind in DIGITS:
        for first, last in _moving(places, kind, corners):
            moves += _fitted(places, kind, first, last)
    return moves


def _moving(places: Sequence[Place], kind: str, corners: Set[float]) -> list[tuple[int, int]]:
    """The first and last frames of the times in which the camera moves in one way; none goes on over a corner."""
    spans: list[tuple[int, int]] = []
    for frame, (before, after) in enumerate(pairwise(places)):
        if getattr(before, kind) == getattr(after, kind):
            continue
        if spans and spans[-1][1] == frame and frame not in corners:
            spans[-1] = spans[-1][0], frame + 1
        else:
            spans.append((frame, frame + 1))
    return spans


def _fitted(places: Sequence[Place], kind: str, first: int, last: int) -> list[dict[str, Any]]:
    """One move between two frames, with the easing that fits; else a linear one for each step."""
    frames = range(first, last + 1)

    def fits(move: dict[str, Any]) -> bool:
        base = places[first]
        found = (base.then(Place(), place_at([move], frame)).rounded() for frame in frames)
        return all(getattr(one, kind) == getattr(places[k].rounded(), kind) for one, k in zip(found, frames))

    whole = [_move(kind, places[first], places[last], first, last, ease) for ease in EASINGS]
    fitting = next((move for move in whole if fits(move)), None)
    if fitting is not None:
        return [fitting]
    return [_move(kind, places[k], places[k + 1], k, k + 1, "linear") for k in range(first, last)]


def _move(kind: str, since: Place, until: Place, start: int, end: int, ease: str) -> dict[str, Any]:
    step = getattr(Place().then(since, until), kind)
    way = {"x": step.real, "y": step.imag} if isinstance(step, complex) else {"amount": step}
    # as one types it, if that is the same
    way = {name: round(value, 6) for name, value in way.items()}
    return CameraMove(kind=kind, start=start, end=end, ease=ease, **way).model_dump()  # type: ignore[arg-type]
