# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The model file of MediaPipe's pose landmarker: where it is, how to get it, and what it has to contain.

The file is a bundle of two networks with the suffix `.task`. [`find_pose_model`] finds it, [`download_pose_model`]
downloads the vendor's file, and `training/tools/build_pose_model.py` builds one from Python packages. Only
[`download_pose_model`] uses the network.
"""

import os
import shutil
import urllib.request
import zipfile
from pathlib import Path

from ..atomic_files import atomic_path
from ..helper_models import cached_path, locate


VENDOR_MODEL = (
    "https://storage.googleapis.com/mediapipe-models/pose_landmarker/pose_landmarker_full/float16/latest/"
    "pose_landmarker_full.task"
)
"""Download address of the vendor."""

CACHE_NAME = "pose_landmarker_full.task"
"""Name of the model in the user's cache."""

NETWORKS = ("pose_detector.tflite", "pose_landmarks_detector.tflite")
"""Members of a bundle. The first network finds people; the second finds their landmarks and their mask."""


def find_pose_model(path: str | os.PathLike | None = None) -> Path:
    """Returns the model file: `path` if given, else $MCDIFF_POSE_MODEL if set, else the file in the user's cache.

    Raises:
        FileNotFoundError: if this file does not exist; the message says how to get one.
    """
    model, origin = locate(path, "MCDIFF_POSE_MODEL", CACHE_NAME)
    if not model.is_file():
        raise FileNotFoundError(
            f"There is no pose model {model}{origin}; download it from {VENDOR_MODEL}, or make one from Python "
            "packages with training/tools/build_pose_model.py."
        )
    return model


def cached_pose_model() -> Path:
    """Path of the model in the user's cache, whether it exists or not."""
    return cached_path(CACHE_NAME)


def download_pose_model(path: str | os.PathLike, url: str) -> None:
    """Downloads a model. The file appears when it is complete.

    Args:
        path (`str` or `os.PathLike`): the file to write. An existing file is replaced.
        url (`str`): the address of the model, such as `VENDOR_MODEL`.

    Raises:
        OSError: if the model cannot be downloaded or written.
        ValueError: if the download is not a pose model.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as unfinished:
        try:
            opener = urllib.request.build_opener()  # `urlopen` would keep the proxies of its first call
            with opener.open(url, timeout=30) as answer, open(unfinished, "wb") as file:
                shutil.copyfileobj(answer, file)
        except OSError as error:
            raise OSError(
                f"The pose model cannot be downloaded from {url} to {target}: {error}; download it by other means, or "
                "make one from Python packages with training/tools/build_pose_model.py."
            ) from error
        check_pose_model(unfinished, name=url)


def check_pose_model(path: str | os.PathLike, *, name: str | None = None) -> None:
    """Checks that a file is a bundle of the networks.

    Args:
        path (`str` or `os.PathLike`): the file.
        name (`str`, *optional*): what the message calls it, instead of the path.

    Raises:
        ValueError: if it is not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [network for network in NETWORKS if network not in archive.namelist()]
    except zipfile.BadZipFile:
        missing = list(NETWORKS)
    if missing:
        raise ValueError(
            f"{name or path} is not a pose model, a zip file with {' and '.join(NETWORKS)}; download {VENDOR_MODEL}, "
            "or make one from Python packages with training/tools/build_pose_model.py."
        )
