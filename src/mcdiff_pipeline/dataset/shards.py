# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Tar shards of clips in the WebDataset layout: one clip is one sample, and its members share a key."""

import contextlib
import io
import mmap
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from .clips import Clip, DamagedMember, decode_clip, encode_clip, frame_members


# Below the usual limit of 1024 open files in a process.
MAX_OPEN_SHARDS = 64


class ShardWriter:
    """Writes clips into `FOLDER/{split}-{n:05d}.tar`.

    The same clips in the same order give the same bytes. A shard appears under its name when it is complete. A writer
    that is interrupted keeps the shards that are complete.

    Args:
        folder (`str` or `os.PathLike`): the folder of the shards. It is created if it does not exist.
        split (`str`): first part of the file names: `train`, `validation` or `test`.
        clips_per_shard (`int`, defaults to 256): the last shard may hold fewer.
        first_shard (`int`, defaults to 0): number of the first shard, so that several processes can write one split.
        frame_format (`str`, defaults to `"png"`): `png` is lossless; `jpg` (quality 95, no chroma subsampling) takes
            about half the space.

    Raises:
        ValueError: if `split`, `clips_per_shard` or `frame_format` is not allowed.

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
            ValueError: if this shard already holds a clip with this key, or the flow cannot be stored (not finite, or
                above 512 pixels at a pixel that is not occluded).
            FileExistsError: if the shard that the clip belongs to exists.
        """
        # The whole clip is encoded before anything is written, so an invalid clip writes nothing.
        self._append(clip.key, encode_clip(clip, self.frame_format))

    def copy(self, dataset: "ClipDataset", index: int) -> None:
        """Appends a clip of another dataset as it is stored there, without decoding it, so nothing is lost.

        Args:
            dataset (`ClipDataset`): the other dataset.
            index (`int`): index of the clip in it.

        Raises:
            IndexError: if there is no clip with this index.
            ValueError: if this shard already holds a clip with this key.
            FileExistsError: if the shard that the clip belongs to exists.
        """
        members = dataset.stored(index)
        self._append(dataset.keys[index], members)

    def _append(self, key: str, members: dict[str, bytes]) -> None:
        if key in self._keys:
            raise ValueError(f"{self._path.name} already holds a clip with the key {key!r}; keys are unique.")
        if self._tar is None:
            if self._path.exists():
                raise FileExistsError(f"{self._path} exists; remove it or start at another `first_shard`.")
            self._tar = tarfile.open(self._partial, "w", format=tarfile.USTAR_FORMAT)
        for suffix, content in members.items():
            # A new TarInfo has mtime, uid and gid 0, so the bytes depend on the clip alone.
            information = tarfile.TarInfo(f"{key}.{suffix}")
            information.size = len(content)
            self._tar.addfile(information, io.BytesIO(content))
        self._keys.add(key)
        if len(self._keys) == self.clips_per_shard:
            self.close()

    def close(self) -> None:
        """Completes the current shard, if there is one."""
        if self._tar is not None:
            try:
                self._tar.close()
            except OSError:  # the disk is full: the partial shard is removed, to free space
                self._discard(self._tar)
                raise
            os.replace(self._partial, self._path)
            self._tar = None
            self._keys.clear()
            self._shard += 1

    def _discard(self, tar: tarfile.TarFile) -> None:
        with contextlib.suppress(OSError):  # a full disk; the caller raises the error that matters
            tar.close()
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
            self._discard(self._tar)


class ClipDataset(torch.utils.data.Dataset):
    """Random access to the clips of a split.

    Opening reads the headers of all shards once. Reading a clip then reads only its bytes. The dataset can be pickled,
    so `torch.utils.data.DataLoader` can use it with any number of workers. Combine several datasets by
    `torch.utils.data.ConcatDataset`.

    Args:
        shards (`str`, `os.PathLike` or a sequence of them): a folder that `ShardWriter` wrote, or tar files.
        split (`str`, *optional*): the split of the folder. None takes all tar files of the folder.

    Raises:
        ValueError: if there are no shards, or a shard is damaged.
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

        # One row for each member: number of its name, offset and size. Clip i has rows first[i] to first[i + 1].
        # Arrays take less memory than millions of small objects, and pickle faster.
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
        """The members of a clip as stored, name without the key -> content, in their order."""
        members = self._members(index)
        return {suffix: self._read(self._shard_of[index], place) for suffix, place in members.items()}

    def read(self, index: int, frames: Sequence[int] | None = None) -> Clip:
        """Reads a clip or some of its frames. Nothing else is decoded.

        Args:
            index (`int`): from 0 to `len(self) - 1`; negative numbers count from the end.
            frames (`Sequence[int]`, *optional*): consecutive frames, e.g. `(3, 4)` for one pair. None reads all.

        Returns:
            `Clip`: with `T = len(frames)` frames and the `T - 1` flows between them.

        Raises:
            IndexError: if there is no clip with this index.
            ValueError: if `frames` are not consecutive frames of the clip, or the clip is damaged.
        """
        members = self._members(index)
        images = frame_members(list(members))
        if frames is None:
            frames = range(len(images))
        if len(frames) == 0 or list(frames) != list(range(frames[0], frames[0] + len(frames))) or frames[0] < 0:
            raise ValueError(f"`frames` is {list(frames)}, but consecutive frames are needed, e.g. (3, 4).")
        if frames[-1] >= len(images) and images:
            raise ValueError(f"`frames` is {list(frames)}, but clip {self.keys[index]} has {len(images)} frames.")
        shard = self._shard_of[index]
        try:
            return decode_clip(self.keys[index], frames, images, lambda member: self._read(shard, members[member]))
        except DamagedMember as damage:
            raise ValueError(
                f"Clip {self.keys[index]} in {self.shards[shard]} is damaged or incomplete at {damage}; "
                "write the shard again or leave it out."
            ) from damage.error

    def _members(self, index: int) -> dict[str, tuple[int, int]]:
        """Name without the key -> (offset, size) in the shard."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"There is no clip {index}: the dataset has {len(self)} clips.")
        index %= len(self)
        rows = self._rows[self._first[index] : self._first[index + 1]].tolist()
        return {self._suffix_names[suffix]: (offset, size) for suffix, offset, size in rows}

    def _read(self, shard: int, place: tuple[int, int]) -> bytes:
        offset, size = place
        if not hasattr(os, "pread"):  # Windows
            with open(self.shards[shard], "rb") as file:
                file.seek(offset)
                return file.read(size)
        if shard not in self._open_shards:
            if len(self._open_shards) == MAX_OPEN_SHARDS:
                os.close(self._open_shards.pop(next(iter(self._open_shards))))
            self._open_shards[shard] = os.open(self.shards[shard], os.O_RDONLY)
        return os.pread(self._open_shards[shard], size, offset)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open_shards": {}}

    def __del__(self) -> None:
        for file in self.__dict__.get("_open_shards", {}).values():
            os.close(file)


def check_shard_arguments(split: str, clips_per_shard: int) -> None:
    """Checks arguments of [`ShardWriter`], for callers that create it only after long work.

    Raises:
        ValueError: if one of them is not allowed.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise ValueError(f"`split` is {split!r}, but only letters, digits and '_' are allowed, e.g. 'train'.")
    if clips_per_shard < 1:
        raise ValueError(f"`clips_per_shard` is {clips_per_shard}, but a shard holds at least 1 clip.")


def _tar_members(path: Path) -> list[tuple[str, int, int]]:
    """(name, offset, size) of the files in a tar archive.

    Reads plain headers, which `ShardWriter` writes, ten times as fast as `tarfile`: a dataset may have a million
    members. An archive with extended headers, from another program, is read by `tarfile`.
    """
    members = []
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            offset = 0
            while (header := data[offset : offset + 512]).strip(b"\0"):
                # The checksum counts its own eight bytes as spaces (POSIX ustar).
                if len(header) < 512 or _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 256:
                    raise ValueError(f"it has no valid header at byte {offset}")
                kind = header[156:157]
                if kind not in b"0\0" or header[345:346] != b"\0":
                    return _tar_members_by_tarfile(path, len(data))
                size = _octal(header[124:136])
                members.append((header[:100].rstrip(b"\0").decode(), offset + 512, size))
                offset += 512 + -(-size // 512) * 512
                if offset > len(data):
                    raise ValueError("its last member is truncated")
            if offset == len(data):
                raise ValueError("its end is missing")
    except Exception as error:  # `tarfile` reports damage by exceptions of many kinds
        raise ValueError(f"The shard {path} cannot be read: {error}; write it again or leave it out.") from error
    return members


def _octal(field: bytes) -> int:
    """The number in a field of a tar header. Raises `ValueError` if it is not one; `int` would accept a minus sign."""
    digits = field.strip(b" \0")
    if not digits.isdigit():
        raise ValueError(f"a number in a header is {digits!r}, but only octal digits are allowed")
    return int(digits, 8)


def _tar_members_by_tarfile(path: Path, size: int) -> list[tuple[str, int, int]]:
    """(name, offset, size) of the files in a tar archive of `size` bytes with extended headers."""
    members = []
    end = 0
    with tarfile.open(path) as tar:
        for member in tar:
            # a negative size would lead back to an earlier header, and the search would not end
            if member.offset < end or member.size < 0 or member.offset_data + member.size > size:
                raise ValueError(f"the member {member.name!r:.80} has {member.size} bytes at byte {member.offset}")
            end = member.offset + 1
            if member.isfile():
                members.append((member.name, member.offset_data, member.size))
    return members
