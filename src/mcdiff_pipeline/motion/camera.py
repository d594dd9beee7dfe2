# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""
A camera that moves: pan, zoom, rotation, and with parallax between layers, truck and dolly.

The image stands in front of a pinhole camera as parallel planes, one for each layer. A point of a layer at depth D,
which is seen at u in frame 0, relative to the center of the image, is seen at

    u' = zoom * R(-rotate) * ((u - truck / D) / (1 - dolly / D) - pan)

later. This is a similarity for each layer, so that it is exact at every size. D is 1 for what belongs to no region;
each step of the `order` of a region brings it nearer by the factor 1 + `parallax`.
"""

import cmath
import json
import math
import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from ..atomic_files import atomic_path
from ..layers import Layers
from ..motion_completion import CompleteStrokes
from ..regions import is_number, is_whole
from ..rollout import Motion, RolloutState
from ..similarity import compose_similarities, identity_similarity, invert_similarity
from ..stroke_controls import EASINGS, check_easing
from ..strokes import Stroke
from .still import still_motion


CAMERA_VERSION = 1
# Names of what moves, with the values of a camera that has not moved.
REST: dict[str, Any] = {"pan": (0.0, 0.0), "truck": (0.0, 0.0), "zoom": 1.0, "rotate": 0.0, "dolly": 0.0}
# Ranges of the values. A zoom of 20 shows single pixels.
LIMITS = {"zoom": (0.05, 20.0), "rotate": (-3600.0, 3600.0), "dolly": (-20.0, 0.95), "parallax": (0.0, 10.0)}
# The nearest layer must stay this far, relative to its depth, in front of the camera.
NEAREST = 0.05


# How far a camera may go from the image, in its longer sides: beyond, nothing of it is seen at any zoom.
FARTHEST = 32


@dataclass(frozen=True)
class CameraKeyframe:
    """
    Where the camera is at a frame. What is None is as in the keyframe before.

    Args:
        frame (`float`):
            The frame, from 0.
        pan (`tuple[float, float]`, *optional*):
            How far the camera has turned to the right and down, in pixels of the image of frame 0. All layers move
            alike.
        truck (`tuple[float, float]`, *optional*):
            How far the camera has moved to the right and down, in pixels by which layer 0 moves. Nearer layers move
            more.
        zoom (`float`, *optional*):
            Magnification of all layers, 1 at frame 0.
        rotate (`float`, *optional*):
            How far the camera has turned clockwise about its axis, in degrees.
        dolly (`float`, *optional*):
            How far the camera has moved into the scene, as a part of the distance of layer 0: 0.5 shows layer 0 twice
            as large, and nearer layers larger still.
        easing (`str`, defaults to `"linear"`):
            How the camera moves here from the keyframe before: `"linear"`, `"ease-in"`, `"ease-out"` or
            `"ease-in-out"`.

    Raises:
        ValueError: If a value is not as described, or outside its range. The message starts with its name.
    """

    frame: float
    _: KW_ONLY
    pan: tuple[float, float] | None = None
    truck: tuple[float, float] | None = None
    zoom: float | None = None
    rotate: float | None = None
    dolly: float | None = None
    easing: str = "linear"

    def __post_init__(self) -> None:
        if not (is_number(self.frame) and self.frame >= 0):
            raise ValueError(f"frame is {self.frame!r:.80}; it must be a number from 0.")
        for name in ("pan", "truck"):
            pair = getattr(self, name)
            if pair is None:
                continue
            if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and all(is_number(one) for one in pair)):
                raise ValueError(f"{name} is {pair!r:.80}; it must be two numbers, to the right and down, in pixels.")
            object.__setattr__(self, name, (float(pair[0]), float(pair[1])))
        for name in ("zoom", "rotate", "dolly"):
            value = getattr(self, name)
            if value is not None:
                _check_range(name, value)
        check_easing(self.easing, "easing")


def _check_range(name: str, value: object) -> None:
    low, high = LIMITS[name]
    if not (is_number(value) and low <= value <= high):  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r:.80}; it must be a number from {low:g} to {high:g}.")


@dataclass(frozen=True)
class Camera:
    """
    A camera that moves between keyframes: a source of motion.

    Strokes are in the scene, so that what they drag moves relative to the camera. Without any strokes, the scene
    stands still, and F is not run.

    Args:
        keyframes (`Sequence[CameraKeyframe]`):
            In the order of their frames. The camera is at rest at frame 0, unless there is a keyframe at 0, and stays
            after the last one. Zoom changes by equal factors in equal times, and everything else by equal amounts,
            except for the easing.
        width (`int`): Width in pixels of the image that `pan` and `truck` refer to.
        height (`int`): Its height.
        parallax (`float`, defaults to 0.5):
            How much nearer a region is for each step of its `order`: its depth is (1 + parallax)^-order. A region
            without an order counts as 1, in front of the scene.

    Raises:
        ValueError: If there is no keyframe, their frames do not increase, or a value is outside its range.
    """

    keyframes: Sequence[CameraKeyframe]
    width: int
    height: int
    parallax: float = 0.5
    needs_layers = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyframes", tuple(self.keyframes))
        for name in ("width", "height"):
            if not is_whole(getattr(self, name), 1):
                raise ValueError(f"{name} is {getattr(self, name)!r:.80}; it must be a whole number from 1.")
        _check_range("parallax", self.parallax)
        farthest = FARTHEST * max(self.width, self.height)
        for index, keyframe in enumerate(self.keyframes):
            for name in ("pan", "truck"):
                if max(map(abs, getattr(keyframe, name) or (0,))) > farthest:
                    raise ValueError(
                        f"keyframes[{index}].{name} is {getattr(keyframe, name)}, more than {FARTHEST} times the "
                        f"longer side of the image, {max(self.width, self.height)} pixels, so that nothing of it is "
                        "seen: move less far."
                    )
        if not self.keyframes:
            raise ValueError("keyframes is empty; a camera that moves needs at least one.")
        for index, (before, after) in enumerate(zip(self.keyframes, self.keyframes[1:]), start=1):
            if after.frame <= before.frame:
                raise ValueError(
                    f"keyframes[{index}].frame is {after.frame:g}, not above that of the keyframe before it, which is "
                    f"{before.frame:g}."
                )

    def shifted(self, first: int) -> Self:
        """The same camera, which is at rest until the frame `first` of a longer video, and begins there."""
        later = [replace(keyframe, frame=keyframe.frame + first) for keyframe in self.keyframes]
        return replace(self, keyframes=[*([CameraKeyframe(first)] if later[0].frame > first else []), *later])

    def at(self, frame: float) -> CameraKeyframe:
        """Where the camera is at a frame: a keyframe without None."""
        earlier = CameraKeyframe(0.0, **REST)
        for keyframe in self.keyframes:
            given = {name: getattr(keyframe, name) for name in REST}
            here = replace(
                keyframe, **{name: getattr(earlier, name) if one is None else one for name, one in given.items()}
            )
            if frame <= here.frame:
                if here.frame == 0 or frame == here.frame:
                    return here
                share = EASINGS[here.easing]((frame - earlier.frame) / (here.frame - earlier.frame))
                return _between(earlier, here, share, frame)
            earlier = here
        return replace(earlier, frame=frame)

    def view(self, frame: float, disparities: Sequence[float], image_size: tuple[int, int]) -> torch.Tensor:
        """
        How the camera has moved layers since frame 0.

        Args:
            frame (`float`):
                The frame.
            disparities (`Sequence[float]`):
                1 / D of each layer.
            image_size (`tuple[int, int]`):
                (height, width) of the image, of the proportions of the camera's.

        Returns:
            `torch.Tensor` of shape `(layers, 2, 2)`, float64: similarities in pixels of the image.

        Raises:
            ValueError: If the camera is not in front of a layer.
        """
        height, width = image_size
        here = self.at(frame)
        scale = complex(width / self.width, 0), complex(0, height / self.height)
        pan, truck = (one[0] * scale[0] + one[1] * scale[1] for one in ((here.pan or (0, 0)), (here.truck or (0, 0))))
        zoom, rotate, dolly = (float(value or 0.0) for value in (here.zoom, here.rotate, here.dolly))
        turn = zoom * cmath.exp(-1j * math.radians(rotate))
        center = complex(width / 2, height / 2)
        similarities = []
        for disparity in disparities:
            distance = 1 - dolly * disparity
            if distance < NEAREST:
                raise ValueError(
                    f"dolly is {dolly:g} at frame {frame:g}, where the camera reaches a layer at the distance "
                    f"{1 / disparity:.3g}: move less far, or give a smaller parallax than {self.parallax:g}."
                )
            factor = turn / distance
            shift = center - factor * (center + truck * disparity) - turn * pan
            similarities.append([[factor.real, factor.imag], [shift.real, shift.imag]])
        return torch.tensor(similarities, dtype=torch.float64)

    def disparity(self, order: int | None) -> float:
        """1 / D of a layer of this order; None is that of a region without one."""
        return (1 + self.parallax) ** (1 if order is None else order)

    def views(self, frame: float, layers: Layers) -> torch.Tensor:
        """How the camera has moved the layers of each image since frame 0: `[B, L, 2, 2]`."""
        number = layers.shares.shape[1]
        found = identity_similarity(len(layers.traits), number)
        for index, traits in enumerate(layers.traits):
            disparities = [self.disparity(0), *(self.disparity(one.order) for one in traits)]
            found[index, : len(disparities)] = self.view(frame, disparities, layers.image_sizes[index])
        return found.to(layers.shares.device)

    def check(self, layers: Layers | None, num_frames: int) -> None:
        """Raises `ValueError` if the camera reaches a layer in a video of `num_frames` frames."""
        if layers is not None:
            # between keyframes, it is nowhere nearer than at one of them
            for frame in {min(keyframe.frame, num_frames - 1) for keyframe in self.keyframes}:
                self.views(frame, layers)

    def __call__(
        self, complete: CompleteStrokes, state: RolloutState, strokes: list[list[Stroke]], num_frames: int | None
    ) -> Motion:
        """The motion of a step as this camera sees it; see [`~mcdiff_pipeline.motion_completion.MotionSource`]."""
        layers = state.layers
        if layers is None:
            raise ValueError("The state has no layers for the camera to move: start it with `motion=` this camera.")
        before, after = self.views(state.frame, layers), self.views(state.frame + 1, layers)
        step = compose_similarities(invert_similarity(before), after)
        motion = complete(strokes) if any(strokes) else still_motion(state)
        assert motion.layers is not None
        seen = motion.layers.seen_from(step, layers.image_sizes)
        visible = layers.visible_on(layers.grid)
        return replace(motion, dense_flow=(visible[:, :, None] * seen.flow).sum(dim=1), layers=seen)

    def to_dict(self) -> dict[str, Any]:
        """The camera as the JSON object of a file. What is None is left out."""
        keyframes = []
        for keyframe in self.keyframes:
            fields = {name: getattr(keyframe, name) for name in ("frame", *REST)}
            fields = {
                name: list(one) if isinstance(one, tuple) else one for name, one in fields.items() if one is not None
            }
            keyframes.append(fields | ({} if keyframe.easing == "linear" else {"easing": keyframe.easing}))
        sizes = {"width": self.width, "height": self.height}
        return {"version": CAMERA_VERSION, **sizes, "parallax": self.parallax, "keyframes": keyframes}

    @classmethod
    def from_dict(cls, fields: Any) -> Self:
        """
        The inverse of [`to_dict`], checking every field.

        Raises:
            ValueError: If a field is missing, unknown or wrong. The message names it.
        """
        if not isinstance(fields, dict):
            raise ValueError(f"The camera is {fields!r:.80}; it must be an object.")
        names = ("version", "width", "height", "parallax", "keyframes")
        _check_names(fields, names, "a camera")
        if fields.get("version") != CAMERA_VERSION:
            raise ValueError(f"version is {fields.get('version')!r:.80}; this program reads version {CAMERA_VERSION}.")
        for name in ("width", "height", "keyframes"):
            if name not in fields:
                raise ValueError(f"{name} is missing; a camera needs it.")
        if not isinstance(fields["keyframes"], list):
            raise ValueError(f"keyframes is {fields['keyframes']!r:.80}; it must be a list.")
        keyframes = []
        for index, one in enumerate(fields["keyframes"]):
            where = f"keyframes[{index}]"
            if not isinstance(one, dict) or "frame" not in one:
                raise ValueError(f"{where} is {one!r:.80}; it must be an object with at least 'frame'.")
            _check_names(one, ("frame", *REST, "easing"), where)
            try:
                keyframes.append(CameraKeyframe(**one))
            except ValueError as error:
                raise ValueError(f"{where}.{error}") from None
        return cls(keyframes, fields["width"], fields["height"], fields.get("parallax", 0.5))

    def save(self, path: str | os.PathLike) -> None:
        """Write the camera to a JSON file. It appears complete, or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """
        Read a camera from a JSON file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a camera. The message names the file and the field.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_bytes().decode("utf-8-sig")))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a camera: {error}") from None


def _check_names(fields: dict[str, Any], names: tuple[str, ...], what: str) -> None:
    for name in fields:
        if name not in names:
            raise ValueError(f"{name!r:.60} is not a field of {what}; its fields are: {', '.join(names)}.")


def _between(first: CameraKeyframe, second: CameraKeyframe, share: float, frame: float) -> CameraKeyframe:
    values: dict[str, Any] = {}
    for name in REST:
        a, b = getattr(first, name), getattr(second, name)
        if name == "zoom":
            values[name] = a ** (1 - share) * b**share
        elif isinstance(a, tuple):
            values[name] = tuple((1 - share) * one + share * other for one, other in zip(a, b, strict=True))
        else:
            values[name] = (1 - share) * a + share * b
    return CameraKeyframe(frame, **values)
