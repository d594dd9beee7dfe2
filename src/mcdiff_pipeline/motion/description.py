# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Sources of motion as JSON objects, as the metadata of clips contains them."""

from collections.abc import Sequence
from typing import Any

from ..motion_completion import MotionSource
from ..pipeline_mcdiff import MCDiffPipeline
from .camera import Camera
from .closed_loop import ClosedLoop
from .physics import TOYS


def describe_camera(camera: Camera) -> dict[str, Any]:
    """The JSON object of a camera."""
    return {"source": "camera", **camera.to_dict()}


def describe_closed_loop() -> dict[str, Any]:
    """The JSON object of [`ClosedLoop`], which has no settings."""
    return {"source": "closed-loop"}


def motion_from_dicts(
    descriptions: Sequence[dict[str, Any]], pipe: MCDiffPipeline | None = None
) -> list[MotionSource]:
    """
    The sources of motion that JSON objects describe.

    Args:
        descriptions (`Sequence[dict]`): The objects.
        pipe (`MCDiffPipeline`, *optional*): The pipeline that they are for, which a closed loop needs.

    Raises:
        ValueError: If one is not known, or has a wrong field. The message names it.
    """
    sources: list[MotionSource] = []
    for index, description in enumerate(descriptions):
        fields = {name: value for name, value in description.items() if name != "source"}
        kind = description.get("source")
        try:
            if kind == "camera":
                sources.append(Camera.from_dict(fields))
            elif kind in TOYS:
                sources.append(TOYS[kind].from_dict(fields))
            elif kind == "closed-loop" and pipe is not None:
                sources.append(ClosedLoop(pipe))
            elif kind == "reference":
                from .reference import ReferenceMotion  # needs OpenCV or torchvision

                sources.append(ReferenceMotion.from_dict(fields))
            else:
                raise ValueError(
                    f"source is {kind!r:.60}; it must be camera, closed-loop, reference, {', '.join(TOYS)}"
                )
        except ValueError as error:
            raise ValueError(f"motion[{index}]: {error}") from None
    return sources
