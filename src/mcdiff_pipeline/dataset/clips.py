# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A clip, and its encoding as the members of a tar file. `docs/dataset-format.md` documents every member.

```
KEY.frame_00.png …  KEY.flow_00.png …  KEY.mask_00.png …  KEY.keypoints.npy  KEY.meta.json
```
"""

import contextlib
import functools
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image

from ..flow_io import read_kitti_png, write_kitti_png


FORMAT_VERSION = 1

Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class Clip:
    """`T` consecutive frames and the motion between them.

    Displacements and positions are in pixels of these frames, x to the right and y down. Pixel (0, 0) covers
    [0, 1) x [0, 1), so its center is at (0.5, 0.5).

    Args:
        key (`str`): name of the clip: letters, digits, `_` and `-`. It is unique in its dataset.
        frames (`np.ndarray`): uint8 `[T, H, W, 3]`, RGB.
        flow (`np.ndarray`): float32 `[T - 1, 2, H, W]`, forward flow: `flow[t, :, y, x]` = (u, v) is the displacement,
            from frame t to frame t + 1, of the point at the center of pixel (x, y) of frame t. Stored to 1/64 pixel.
        occlusion (`np.ndarray`): bool `[T - 1, H, W]`, True where the point at that pixel of frame t is not visible in
            frame t + 1: it is covered, or outside the image.
        masks (`np.ndarray`): uint8 `[T, H, W]`, 0 = background, k = the k-th person or object.
        keypoints (`np.ndarray`): float32 `[T, P, K, 3]`, x, y and visibility (0 absent, 1 hidden, 2 visible) of `K`
            keypoints on `P` persons or objects. The p-th of them, from 0, has mask p + 1.
        meta (`dict`): any JSON: source, seed, estimator, versions. The name `version` is reserved.

    Raises:
        ValueError: if a shape, a dtype or the key is not as above.
    """

    key: str
    frames: np.ndarray
    flow: np.ndarray
    occlusion: np.ndarray
    masks: np.ndarray
    keypoints: np.ndarray
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.key):
            raise ValueError(f"The key of a clip is {self.key!r}, but only letters, digits, '_' and '-' are allowed.")
        if self.frames.ndim != 4 or self.frames.shape[0] < 1:
            raise ValueError(
                f"`frames` of clip {self.key} has shape {self.frames.shape}, but [T, H, W, 3] with T >= 1 is needed."
            )
        time, height, width = self.frames.shape[:3]
        people, points = self.keypoints.shape[1:3] if self.keypoints.ndim == 4 else (0, 0)
        expected = {
            "frames": (np.uint8, (time, height, width, 3)),
            "flow": (np.float32, (time - 1, 2, height, width)),
            "occlusion": (np.bool_, (time - 1, height, width)),
            "masks": (np.uint8, (time, height, width)),
            "keypoints": (np.float32, (time, people, points, 3)),
        }
        for name, (dtype, shape) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"`{name}` of clip {self.key} is {array.dtype} {list(array.shape)}, but its {time} frames of "
                    f"{height} x {width} pixels need {np.dtype(dtype)} {list(shape)}."
                )
        if "version" in self.meta:
            raise ValueError(f"`meta` of clip {self.key} holds 'version', which the format reserves; rename it.")


class DamagedMember(Exception):
    """A member of a clip is missing or cannot be decoded.

    Args:
        member (`str`): its name without the key, e.g. `flow_00.png`.
        error (`Exception`): the error of its decoder.
    """

    def __init__(self, member: str, error: Exception) -> None:
        super().__init__(f"{member}: {error}")
        self.member = member
        self.error = error


def encode_clip(clip: Clip, frame_format: Literal["png", "jpg"]) -> dict[str, bytes]:
    """Encodes a clip.

    Args:
        clip (`Clip`): the clip.
        frame_format (`str`): `png`, or `jpg` with quality 95 and without chroma subsampling.

    Returns:
        `dict[str, bytes]`: member -> content, in the order in which they are stored. Names are without the key.

    Raises:
        ValueError: if the flow cannot be stored: it is not finite, or above 512 pixels at a pixel that is not
            occluded.
    """
    members = {}
    for t, frame in enumerate(clip.frames):
        buffer = io.BytesIO()
        if frame_format == "png":
            Image.fromarray(frame).save(buffer, format="PNG", compress_level=1)
        else:
            Image.fromarray(frame).save(buffer, format="JPEG", quality=95, subsampling=0)
        members[f"frame_{t:02d}.{frame_format}"] = buffer.getvalue()
    for t, (flow, occlusion) in enumerate(zip(clip.flow, clip.occlusion)):
        if not np.isfinite(flow).all():
            raise ValueError(f"`flow` {t} of clip {clip.key} is not finite everywhere; fill in the unknown values.")
        buffer = io.BytesIO()
        write_kitti_png(buffer, torch.from_numpy(flow), torch.from_numpy(~occlusion))
        members[f"flow_{t:02d}.png"] = buffer.getvalue()
    for t, mask in enumerate(clip.masks):
        members[f"mask_{t:02d}.png"] = _encode_mask(mask) if mask.any() else _empty_mask(mask.shape)
    buffer = io.BytesIO()
    np.save(buffer, clip.keypoints, allow_pickle=False)
    members["keypoints.npy"] = buffer.getvalue()
    members["meta.json"] = json.dumps({"version": FORMAT_VERSION, **clip.meta}, sort_keys=True).encode()
    return members


def _encode_mask(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


@functools.lru_cache(maxsize=8)
def _empty_mask(shape: tuple[int, int]) -> bytes:
    """The encoded mask of a frame without people, as most have it if people are not looked for."""
    return _encode_mask(np.zeros(shape, dtype=np.uint8))


def frame_members(members: Sequence[str]) -> dict[int, str]:
    """The names of the members that hold frames, by frame number."""
    return {int(match[1]): name for name in members if (match := re.fullmatch(r"frame_(\d+)\.(png|jpg)", name))}


def decode_clip(key: str, frames: Sequence[int], images: dict[int, str], read: Callable[[str], bytes]) -> Clip:
    """Decodes consecutive frames of a clip, and nothing else.

    Args:
        key (`str`): name of the clip.
        frames (`Sequence[int]`): which frames; at least one.
        images (`dict[int, str]`): [`frame_members`] of the clip.
        read (callable): returns the content of a member by its name; raises KeyError if there is none.

    Returns:
        `Clip`: with `T = len(frames)` frames.

    Raises:
        DamagedMember: if a member is missing or damaged.
    """
    with _reporting("its members"):
        frame_names = [images[t] for t in frames]
    colors = [_decode(read, name, _decode_image) for name in frame_names]
    masks = [_decode(read, f"mask_{t:02d}.png", _decode_image) for t in frames]
    flows = [_decode(read, f"flow_{t:02d}.png", read_kitti_png) for t in list(frames)[:-1]]
    keypoints = _decode(read, "keypoints.npy", _decode_keypoints)
    meta = _decode(read, "meta.json", _decode_meta)
    with _reporting("its members"):
        height, width = colors[0].shape[:2]
        flow = np.empty((len(flows), 2, height, width), dtype=np.float32)
        occlusion = np.empty((len(flows), height, width), dtype=bool)
        for t, (pair_flow, visible) in enumerate(flows):
            flow[t], occlusion[t] = pair_flow.numpy(), ~visible.numpy()
        keypoints = keypoints[frames[0] : frames[-1] + 1]
        return Clip(key, np.stack(colors), flow, occlusion, np.stack(masks), keypoints, meta)


@contextlib.contextmanager
def _reporting(member: str) -> Iterator[None]:
    """Names the member in an error. Each decoder reports damage in its own way."""
    try:
        yield
    except DamagedMember:
        raise
    except Exception as error:
        raise DamagedMember(member, error) from error


def _decode(read: Callable[[str], bytes], name: str, decoder: Callable[[io.BytesIO], Decoded]) -> Decoded:
    with _reporting(name):
        return decoder(io.BytesIO(read(name)))


def _decode_image(file: io.BytesIO) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


def _decode_keypoints(file: io.BytesIO) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    stored = file.getbuffer().nbytes - file.tell()
    if dtype != np.float32 or 4 * math.prod(shape) != stored:  # checked before memory is taken for it
        raise ValueError(f"it holds {dtype} {list(shape)} in {stored} bytes, but float32 [T, P, K, 3] is needed")
    file.seek(0)
    keypoints = np.load(file, allow_pickle=False)
    if not np.isfinite(keypoints).all():
        raise ValueError("it holds values that are NaN or infinite; an absent keypoint has the visibility 0")
    return keypoints


def _decode_meta(file: io.BytesIO) -> dict[str, Any]:
    meta = json.load(file)
    if not isinstance(meta, dict) or "version" not in meta:
        raise ValueError("it is not a JSON object with a version")
    if meta.pop("version") != FORMAT_VERSION:
        raise ValueError(f"this version of the package reads format version {FORMAT_VERSION} only")
    return meta
