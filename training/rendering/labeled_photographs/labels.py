"""The masks of the things in a photograph, and their file."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcdiff_pipeline.atomic_files import atomic_path


# Pixels along the longer side of a mask.
LONG_SIDE = 512


@dataclass(frozen=True, eq=False)
class Labels:
    """The masks of one photograph, from the largest to the smallest.

    Args:
        masks: uint8 `[N, h, w]`, the share of each pixel that belongs to the thing, 0 to 255. (h, w) is the size of
            the photograph, reduced to at most 512 pixels on the longer side.
        is_salient: bool `[N]`, True where the mask is the soft outline that the matting network found, which is the
            whole thing in the foreground.
    """

    masks: np.ndarray
    is_salient: np.ndarray


def label_path(masks_dir: str | Path, photograph: Path) -> Path:
    """The file of the masks of `.../SPLIT/NAME.jpg`: `masks_dir/SPLIT/NAME.npz`."""
    return Path(masks_dir) / photograph.parent.name / f"{photograph.stem}.npz"


def write_labels(path: Path, labels: Labels) -> None:
    """Write the masks of a photograph. The file appears when it is complete."""
    content = io.BytesIO()
    np.savez_compressed(content, masks=labels.masks, is_salient=labels.is_salient)
    write_file(path, content.getvalue())


def write_file(path: Path, content: bytes) -> None:
    """Write a file of masks. It appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content)


def read_labels(path: Path) -> Labels:
    """Read the masks of a photograph.

    Raises:
        ValueError: if the file is damaged, or not of this kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            labels = Labels(file["masks"], file["is_salient"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}); remove it and run label_photographs.py again.") from error
    if labels.masks.dtype != np.uint8 or labels.masks.ndim != 3 or labels.is_salient.shape != labels.masks.shape[:1]:
        raise ValueError(
            f"{path} holds masks of {labels.masks.dtype} {list(labels.masks.shape)}, but uint8 [N, h, w] is needed; "
            "remove it and run label_photographs.py again."
        )
    return labels
