"""The dataset format: short clips with flow, occlusion, masks and keypoints, in tar shards of the WebDataset layout.

One clip is one sample; its members share a key. `docs/dataset-format.md` documents every member.

```
KEY.frame_00.png …  KEY.flow_00.png …  KEY.mask_00.png …  KEY.keypoints.npy  KEY.meta.json
```
"""

import contextlib
import io
import json
import mmap
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image

from ..flow_io import read_kitti_png, write_kitti_png


FORMAT_VERSION = 1
# Keeps a process with many shards below the usual limit of 1024 open files.
MAX_OPEN_SHARDS = 64


@dataclass(frozen=True)
class Clip:
    """`T` consecutive frames with what is known about the motion between them.

    Displacements and positions are in pixels of these frames, x right and y down; pixel (0, 0) covers [0, 1) x [0, 1),
    so its center lies at (0.5, 0.5).

    Args:
        key (`str`): name of the clip, of letters, digits, `_` and `-`; unique in its dataset.
        frames (`np.ndarray`): uint8 `[T, H, W, 3]`, RGB.
        flow (`np.ndarray`): float32 `[T - 1, 2, H, W]`, forward: `flow[t, :, y, x]` = (u, v) is how far the thing at
            the center of pixel (x, y) of frame t has moved in frame t + 1. Stored to 1/64 pixel.
        occlusion (`np.ndarray`): bool `[T - 1, H, W]`, True where the thing at that pixel of frame t is not to be seen
            in frame t + 1: covered, or out of the picture.
        masks (`np.ndarray`): uint8 `[T, H, W]`, 0 = background, k = k-th person or object.
        keypoints (`np.ndarray`): float32 `[T, P, K, 3]`, x, y and visibility (0 absent, 1 hidden, 2 visible) of `K`
            keypoints on `P` persons or objects; the p-th belongs to mask p + 1.
        meta (`dict`): anything that JSON can hold: source, seed, estimator, versions. `version` is reserved.

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
                    f"`{name}` of clip {self.key} is {array.dtype} {list(array.shape)}, but {np.dtype(dtype)} "
                    f"{list(shape)} goes with its {time} frames of {height} x {width}."
                )
        if "version" in self.meta:
            raise ValueError(
                f"`meta` of clip {self.key} holds 'version', which the format keeps for itself; rename it."
            )


class ShardWriter:
    """Writes clips into `FOLDER/{split}-{n:05d}.tar`.

    The same clips in the same order give the same shards byte for byte. A shard appears under its name only when it is
    complete; a writer that is interrupted leaves the shards finished so far.

    Args:
        folder (`str` or `os.PathLike`): where the shards go; made if missing.
        split (`str`): first part of the shards' names: `train`, `validation` or `test`.
        clips_per_shard (`int`): the last shard may hold fewer.
        first_shard (`int`): number of the first shard, so that several processes can write parts of one split.
        frame_format (`str`): `png` is lossless, `jpg` (quality 95, no chroma subsampling) about half as large.

    Example:
        ```py
        with ShardWriter("data/people", "train") as writer:
            for seed in range(1000):
                writer.write(render_clip(seed, ...))
        ```
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        split: str,
        *,
        clips_per_shard: int = 256,
        first_shard: int = 0,
        frame_format: Literal["png", "jpg"] = "png",
    ) -> None:
        check_shard_arguments(split, clips_per_shard)
        if frame_format not in ("png", "jpg"):
            raise ValueError(f"`frame_format` is {frame_format!r}, but only 'png' and 'jpg' are known.")
        self.folder = Path(folder)
        self.split = split
        self.clips_per_shard = clips_per_shard
        self.frame_format = frame_format
        self._shard = first_shard
        self._tar: tarfile.TarFile | None = None
        self._keys: set[str] = set()
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, clip: Clip) -> None:
        """Appends a clip.

        Raises:
            ValueError: if the key was written before into this shard, or the flow cannot be stored (not finite, or
                beyond 512 pixels where it is not occluded).
            FileExistsError: if the shard that the clip belongs to is there already.
        """
        # All is encoded before anything is written: a bad clip leaves no trace.
        self._append(clip.key, _encode(clip, self.frame_format))

    def copy(self, dataset: "ClipDataset", index: int) -> None:
        """Appends a clip of another dataset as it is stored there, so that packing anew loses nothing.

        Args:
            dataset (`ClipDataset`): where the clip is.
            index (`int`): which one it is there.

        Raises:
            IndexError: if there is no clip of that index.
            ValueError: if the key was written before into this shard.
            FileExistsError: if the shard that the clip belongs to is there already.
        """
        members = dataset.stored(index)
        self._append(dataset.keys[index], members)

    def _append(self, key: str, members: dict[str, bytes]) -> None:
        if key in self._keys:
            raise ValueError(f"A clip with the key {key!r} is in {self._path.name} already; keys are unique.")
        if self._tar is None:
            if self._path.exists():
                raise FileExistsError(f"{self._path} exists; remove it or start at another `first_shard`.")
            self._tar = tarfile.open(self._partial, "w", format=tarfile.USTAR_FORMAT)
        for suffix, content in members.items():
            # A new TarInfo has mtime, uid and gid 0, so the bytes depend on nothing but the clip.
            information = tarfile.TarInfo(f"{key}.{suffix}")
            information.size = len(content)
            self._tar.addfile(information, io.BytesIO(content))
        self._keys.add(key)
        if len(self._keys) == self.clips_per_shard:
            self.close()

    def close(self) -> None:
        """Finishes the shard that is being written, if any."""
        if self._tar is not None:
            try:
                self._tar.close()
            except OSError:  # a full disk; half a shard would keep it full
                self._discard()
                raise
            os.replace(self._partial, self._path)
            self._tar = None
            self._keys.clear()
            self._shard += 1

    def _discard(self) -> None:
        with contextlib.suppress(OSError):  # the disk may be full; what stopped the writer is what has to be known
            self._tar.close()
        self._partial.unlink()
        self._tar = None

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.split}-{self._shard:05d}.tar"

    @property
    def _partial(self) -> Path:
        return self._path.with_suffix(f".tar.partial-{os.getpid()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *details: object) -> None:
        if exception_type is None:
            self.close()
        elif self._tar is not None:
            self._discard()


class ClipDataset(torch.utils.data.Dataset):
    """Random access to the clips of a split.

    The shards' headers are read once, on opening; a clip is then read straight from its place in the file. The dataset
    can be pickled, so `torch.utils.data.DataLoader` may use it in any number of workers; several datasets go together
    with `torch.utils.data.ConcatDataset`.

    Args:
        shards (`str`, `os.PathLike` or a sequence of them): a folder that `ShardWriter` wrote, or the tar files.
        split (`str`, *optional*): which of the folder's splits; None takes all of its tar files.

    Raises:
        ValueError: if there are no shards, or one of them is damaged.
    """

    def __init__(self, shards: str | os.PathLike | Sequence[str | os.PathLike], split: str | None = None) -> None:
        if isinstance(shards, (str, os.PathLike)):
            folder = Path(shards)
            self.shards = [folder] if folder.is_file() else sorted(folder.glob(f"{split or '*'}-*.tar"))
            if not self.shards:
                raise ValueError(f"There are no shards {split or '*'}-*.tar in {folder}; name a folder that has some.")
        else:
            self.shards = [Path(shard) for shard in shards]
            if not self.shards:
                raise ValueError("`shards` is empty, but at least one tar file is needed.")
        self._open_shards: dict[int, int] = {}

        # One row a member: suffix number, offset and size; clip i owns rows first[i] to first[i + 1]. Arrays instead
        # of millions of small objects: they cost little to keep and to send to workers.
        self._suffixes: dict[str, int] = {}
        rows: list[tuple[int, int, int]] = []
        first: list[int] = []
        self.keys: list[str] = []
        shard_of: list[int] = []
        for number, shard in enumerate(self.shards):
            previous = None
            for name, offset, size in _tar_members(shard):
                key, _, suffix = name.rpartition("/")[2].partition(".")
                if key != previous:
                    self.keys.append(key)
                    shard_of.append(number)
                    first.append(len(rows))
                    previous = key
                rows.append((self._suffixes.setdefault(suffix, len(self._suffixes)), offset, size))
        self._rows = np.array(rows, dtype=np.int64).reshape(-1, 3)
        self._first = np.array([*first, len(rows)], dtype=np.int64)
        self._shard_of = np.array(shard_of, dtype=np.int32)
        self._suffix_names = list(self._suffixes)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Clip:
        return self.read(index)

    def num_frames(self, index: int) -> int:
        """Number of frames of a clip, without reading it."""
        return sum(suffix.startswith("frame_") for suffix in self._members(index))

    def stored(self, index: int) -> dict[str, bytes]:
        """The members of a clip as they are in the file, suffix -> content, in their order."""
        members = self._members(index)
        file = self._file(self._shard_of[index])
        return {suffix: os.pread(file, size, offset) for suffix, (offset, size) in members.items()}

    def read(self, index: int, frames: Sequence[int] | None = None) -> Clip:
        """Reads a clip, or a piece of it, decoding nothing but what is asked for.

        Args:
            index (`int`): from 0 to `len(self) - 1`, or from the end if negative.
            frames (`Sequence[int]`, *optional*): consecutive frames, e.g. `(3, 4)` for one pair; None reads all.

        Returns:
            `Clip`: with `T = len(frames)` frames and the `T - 1` flows between them.

        Raises:
            IndexError: if there is no clip of that index.
            ValueError: if `frames` are not consecutive frames of the clip, or the clip is damaged.
        """
        members = self._members(index)
        number = self._shard_of[index]
        images = {
            int(match[1]): suffix for suffix in members if (match := re.fullmatch(r"frame_(\d+)\.(png|jpg)", suffix))
        }
        if frames is None:
            frames = range(len(images))
        if len(frames) == 0 or list(frames) != list(range(frames[0], frames[0] + len(frames))) or frames[0] < 0:
            raise ValueError(f"`frames` is {list(frames)}, but consecutive frames are needed, e.g. (3, 4).")
        if frames[-1] >= len(images) and images:
            raise ValueError(f"`frames` is {list(frames)}, but clip {self.keys[index]} has {len(images)} frames.")

        suffix = "its members"
        try:
            read: dict[str, bytes] = {}
            flow_frames = list(frames)[:-1]
            for suffix in (
                *(images[t] for t in frames),
                *(f"flow_{t:02d}.png" for t in flow_frames),
                *(f"mask_{t:02d}.png" for t in frames),
                "keypoints.npy",
                "meta.json",
            ):
                offset, size = members[suffix]
                read[suffix] = os.pread(self._file(number), size, offset)
            pictures, flows, occlusions, masks = [], [], [], []
            for t in frames:
                suffix = images[t]
                pictures.append(np.asarray(Image.open(io.BytesIO(read[suffix]))))
                suffix = f"mask_{t:02d}.png"
                masks.append(np.asarray(Image.open(io.BytesIO(read[suffix]))))
            for t in flow_frames:
                suffix = f"flow_{t:02d}.png"
                flow, visible = read_kitti_png(io.BytesIO(read[suffix]))
                flows.append(flow.numpy())
                occlusions.append(~visible.numpy())
            suffix = "keypoints.npy"
            keypoints = np.load(io.BytesIO(read[suffix]), allow_pickle=False)[frames[0] : frames[-1] + 1]
            suffix = "meta.json"
            meta = json.loads(read[suffix])
            if meta.pop("version") != FORMAT_VERSION:
                raise ValueError(f"this version of the package reads format version {FORMAT_VERSION} only")
            suffix = "its members"
            height, width = pictures[0].shape[:2]
            return Clip(
                key=self.keys[index],
                frames=np.stack(pictures),
                flow=np.stack(flows) if flows else np.zeros((0, 2, height, width), dtype=np.float32),
                occlusion=np.stack(occlusions) if flows else np.zeros((0, height, width), dtype=bool),
                masks=np.stack(masks),
                keypoints=keypoints,
                meta=meta,
            )
        # Each decoder reports damage in its own way; who has a million clips must learn which one is bad.
        except (OSError, ValueError, KeyError, SyntaxError, EOFError) as error:
            raise ValueError(
                f"Clip {self.keys[index]} in {self.shards[number]} is damaged or incomplete at {suffix}: {error}; "
                "write the shard again or leave it out."
            ) from error

    def _members(self, index: int) -> dict[str, tuple[int, int]]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"There is no clip {index}: the dataset has {len(self)} clips.")
        index %= len(self)
        rows = self._rows[self._first[index] : self._first[index + 1]].tolist()
        return {self._suffix_names[suffix]: (offset, size) for suffix, offset, size in rows}

    def _file(self, shard: int) -> int:
        if shard not in self._open_shards:
            if len(self._open_shards) == MAX_OPEN_SHARDS:
                os.close(self._open_shards.pop(next(iter(self._open_shards))))
            self._open_shards[shard] = os.open(self.shards[shard], os.O_RDONLY)
        return self._open_shards[shard]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open_shards": {}}

    def __del__(self) -> None:
        for file in self.__dict__.get("_open_shards", {}).values():
            os.close(file)


def check_shard_arguments(split: str, clips_per_shard: int) -> None:
    """Raises what [`ShardWriter`] would, for those who write only after long work.

    Raises:
        ValueError: if one of its arguments is impossible.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise ValueError(f"`split` is {split!r}, but only letters, digits and '_' are allowed, e.g. 'train'.")
    if clips_per_shard < 1:
        raise ValueError(f"`clips_per_shard` is {clips_per_shard}, but a shard holds at least 1 clip.")


def _encode(clip: Clip, frame_format: str) -> dict[str, bytes]:
    """Members of a clip, suffix -> content, in the order in which they are stored."""
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
            raise ValueError(f"`flow` {t} of clip {clip.key} is not finite everywhere; fill what is not known.")
        buffer = io.BytesIO()
        write_kitti_png(buffer, torch.from_numpy(flow), torch.from_numpy(~occlusion))
        members[f"flow_{t:02d}.png"] = buffer.getvalue()
    for t, mask in enumerate(clip.masks):
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, format="PNG", compress_level=1)
        members[f"mask_{t:02d}.png"] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, clip.keypoints, allow_pickle=False)
    members["keypoints.npy"] = buffer.getvalue()
    members["meta.json"] = json.dumps({"version": FORMAT_VERSION, **clip.meta}, sort_keys=True).encode()
    return members


def _tar_members(path: Path) -> list[tuple[str, int, int]]:
    """(name, offset, size) of the files in a tar archive.

    `tarfile` takes ten times as long, which matters for a million members. Ours have short names and plain headers;
    an archive with extended headers, made by another program, is left to `tarfile`.
    """
    members = []
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            offset = 0
            while (header := data[offset : offset + 512]).strip(b"\0"):
                # The checksum counts its own eight bytes as spaces (POSIX ustar).
                if (
                    len(header) < 512
                    or int(header[148:156].strip(b" \0"), 8) != sum(header) - sum(header[148:156]) + 256
                ):
                    raise ValueError(f"it has no valid header at byte {offset}")
                kind = header[156:157]
                if kind not in b"0\0" or header[345:346] != b"\0":
                    with tarfile.open(path) as tar:
                        return [(member.name, member.offset_data, member.size) for member in tar if member.isfile()]
                size = int(header[124:136].strip(b" \0"), 8)
                members.append((header[:100].rstrip(b"\0").decode(), offset + 512, size))
                offset += 512 + -(-size // 512) * 512
                if offset > len(data):
                    raise ValueError("its last member is cut off")
            if offset == len(data):
                raise ValueError("its end is missing")
    except (OSError, ValueError, tarfile.TarError) as error:
        raise ValueError(f"The shard {path} cannot be read: {error}; write it again or leave it out.") from error
    return members
