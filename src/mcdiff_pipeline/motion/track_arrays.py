# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Files of tracks as arrays: Wan-Move, ATI and CoTracker. `docs/interchange.md` describes them and their sources."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..atomic_files import atomic_path
from .tracks import MAX_POSITIONS


# The tracks of ATI have 121 frames of 24 a second. Coordinates and visibility are stored times 8.
ATI_FRAMES, ATI_QUANTIZATION = 121, 8.0

# CoTracker counts pixels from the center of the first one: it samples features at whole coordinates of pixels.
PIXEL_CENTER = 0.5

Arrays = tuple[np.ndarray, np.ndarray]  # positions [T, N, 2] in pixels of the image, and visibility [T, N]


def visibility_path(path: Path) -> Path:
    """The file of visibility that belongs to a file of positions: `x_visibility.npy` for `x_tracks.npy`.

    Raises:
        ValueError: If the name has no "tracks" in it.
    """
    before, found, after = path.name.rpartition("tracks")
    if not found:
        raise ValueError(
            f"{path}: the name of a file of Wan-Move's tracks ends in tracks.npy, and visibility.npy lies beside it: "
            "rename both."
        )
    return path.with_name(f"{before}visibility{after}")


def read_wan_move(path: Path) -> Arrays:
    """Reads `tracks.npy` and the `visibility.npy` beside it, if there is one."""
    positions = _load_npy(path)
    beside = visibility_path(path)
    visible = _load_npy(beside) if beside.is_file() else np.ones(positions.shape[:-1])
    return _without_batch(positions, visible, path)


def write_wan_move(path: Path, positions: np.ndarray, visible: np.ndarray) -> None:
    """Writes `tracks.npy`, float32 `[1, T, N, 2]`, and `visibility.npy`, bool `[1, T, N]`."""
    arrays = ((path, (positions - PIXEL_CENTER)[None].astype(np.float32)), (visibility_path(path), visible[None]))
    for file, array in arrays:
        with atomic_path(file) as temporary, open(temporary, "wb") as stream:
            np.save(stream, array, allow_pickle=False)


def read_cotracker(path: Path) -> Arrays:
    """Reads `pred_tracks` and `pred_visibility` from an .npz file, or from a dictionary that PyTorch saved."""
    if zipfile.is_zipfile(path) and path.suffix == ".npz":
        content: Any = _load_npz(path, path)
    else:
        content = _load_torch(path)
    if not isinstance(content, dict) or "pred_tracks" not in content:
        raise ValueError(f"{path} holds no `pred_tracks`, but CoTracker's tracks are under that name.")
    positions = _as_array(content["pred_tracks"], path)
    visible = content.get("pred_visibility")
    visible = np.ones(positions.shape[:-1]) if visible is None else _as_array(visible, path)
    if visible.dtype.kind == "f":  # CoTracker 3 can give the probability
        visible = visible > 0.5
    return _without_batch(positions, visible.reshape(positions.shape[:-1]), path)


def write_cotracker(path: Path, positions: np.ndarray, visible: np.ndarray) -> None:
    """Writes `pred_tracks`, float32 `[1, T, N, 2]`, and `pred_visibility`, bool `[1, T, N]`, as .npz or with
    PyTorch."""
    tracks = (positions - PIXEL_CENTER)[None].astype(np.float32)
    with atomic_path(path) as temporary:
        if path.suffix == ".npz":
            with open(temporary, "wb") as stream:
                np.savez_compressed(stream, pred_tracks=tracks, pred_visibility=visible[None])
        else:
            content = {
                "pred_tracks": torch.from_numpy(tracks),
                "pred_visibility": torch.from_numpy(visible[None].copy()),
            }
            torch.save(content, temporary)


def read_ati(path: Path) -> Arrays:
    """Reads a .pth file of ATI: bytes of an .npz file with the array `array`, `[N, 121, 1, 3]` or `[121, h, w, 3]`."""
    content = _load_torch(path)
    if not isinstance(content, bytes):
        raise ValueError(f"{path} holds a {type(content).__name__}, but the tracks of ATI are bytes of an .npz file.")
    arrays = _load_npz(io.BytesIO(content), path)
    if "array" not in arrays:
        raise ValueError(f"{path} holds no `array`, but the tracks of ATI are under that name.")
    array = arrays["array"]
    if array.ndim != 4 or array.shape[3] not in (3, 4) or ATI_FRAMES not in array.shape[:2]:
        raise ValueError(
            f"{path} holds tracks of shape {list(array.shape)}, but those of ATI have [tracks, {ATI_FRAMES}, 1, 3] or "
            f"[{ATI_FRAMES}, rows, columns, 3]."
        )
    array = array.astype(np.float64) / ATI_QUANTIZATION
    if array.shape[1] == ATI_FRAMES:
        array = array.swapaxes(0, 1)
    array = array.reshape(ATI_FRAMES, -1, array.shape[3])
    return array[..., :2], array[..., 2] > 0.5


def write_ati(path: Path, positions: np.ndarray, visible: np.ndarray) -> None:
    """Writes a .pth file of ATI, float32 `[N, 121, 1, 3]` times 8."""
    positions = np.where(visible[..., None], positions, 0.0)
    array = ATI_QUANTIZATION * np.concatenate([positions, visible[..., None]], axis=2)
    packed = io.BytesIO()
    np.savez_compressed(packed, array=array.swapaxes(0, 1)[:, :, None].astype(np.float32))
    with atomic_path(path) as temporary:
        torch.save(packed.getvalue(), temporary)


def _without_batch(positions: np.ndarray, visible: np.ndarray, path: Path) -> Arrays:
    """Positions `[1, T, N, 2]` or `[T, N, 2]` and visibility, from the centers of pixels to our coordinates."""
    for _ in range(positions.ndim - 3):
        if positions.shape[0] != 1:
            raise ValueError(
                f"{path} holds the tracks of {positions.shape[0]} videos, but those of one are read: save them one by "
                "one."
            )
        positions, visible = positions[0], visible[0] if visible.ndim == positions.ndim - 1 else visible
    return positions + PIXEL_CENTER, visible > 0.5 if visible.dtype.kind == "f" else visible


def _as_array(values: Any, path: Path) -> np.ndarray:
    array = values.float().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path} holds tracks of type {array.dtype}, but numbers are needed.")
    return array


def _load_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:
        raise ValueError(f"{path} is not an array of NumPy that can be read: {_first_line(error)}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} holds several arrays, but one is needed.")
    return _as_array(array, path)


def _load_npz(file: Path | io.BytesIO, path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Their size is checked before anything is unpacked."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > 8 * MAX_POSITIONS:
            raise ValueError(f"it holds {size} bytes, but at most {8 * MAX_POSITIONS} are read")
        if isinstance(file, io.BytesIO):
            file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: _as_array(arrays[name], path) for name in arrays.files}
    except (ValueError, EOFError, KeyError, OSError, SyntaxError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a file of arrays that can be read: {_first_line(error)}.") from None


def _load_torch(path: Path) -> Any:
    """What PyTorch saved, if it holds nothing but tensors, numbers, text and bytes. Other pickles could run code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError) as error:
        if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower().replace(" ", "_"):
            raise ValueError(
                f"{path} holds objects that could run code when they are read, so it is refused: save plain tensors."
            ) from None
        raise ValueError(f"{path} is not a file of PyTorch that can be read: {_first_line(error)}.") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
