"""The photographs and cut-outs that clips of objects are made of."""

import fnmatch
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rendering.photographs import check_split, list_photographs, split_of


# Folders of tuxpaint's stamps that hold drawings or signs, by glob on the path inside the folder.
DRAWN_CUTOUTS = (
    "*cartoon*",
    "*outline*",
    "clothes/*",
    "naturalforces/*",
    "seasonal/easter/*",
    "seasonal/newyears/*",
    "symbols/*",
)
PHOTOGRAPHED_SYMBOLS = "symbols/money/*/coins/*"
SMALLEST_CUTOUT = 48


@dataclass
class Assets:
    """What clips of one split are made of: photographs (RGB) and cut-outs (RGBA)."""

    photographs: list[Image.Image]
    cutouts: list[Image.Image]


def load_assets(split: str, *, photographs_dir: str | Path, cutouts_dir: str | Path | None = None) -> Assets:
    """Read what the clips of `split` may use.

    Args:
        split: `train`, `validation` or `test`.
        photographs_dir: folder with one subfolder of JPEG or PNG photographs for each split.
        cutouts_dir: folder of PNG images with an alpha channel, at any depth; None for random shapes only.

    Raises:
        ValueError: if the split is unknown.
        FileNotFoundError: if there is no photograph or no cut-out for it.
    """
    check_split(split)
    photographs = [Image.open(path).convert("RGB") for path in list_photographs(photographs_dir, split)]
    if cutouts_dir is None:
        return Assets(photographs, [])
    cutouts = read_cutouts(Path(cutouts_dir), split)
    if not cutouts:
        raise FileNotFoundError(
            f"There are no cut-outs of the split {split!r} in {cutouts_dir}; leave it out or add some."
        )
    return Assets(photographs, cutouts)


def read_cutouts(folder: Path, split: str) -> list[Image.Image]:
    """The photographed cut-outs of a split, cropped to what is not transparent, without mirrored copies."""
    cutouts = []
    for path in sorted(folder.rglob("*.png")):
        name = path.relative_to(folder).as_posix()
        drawn = any(fnmatch.fnmatch(name, pattern) for pattern in DRAWN_CUTOUTS)
        if (drawn and not fnmatch.fnmatch(name, PHOTOGRAPHED_SYMBOLS)) or split_of(name) != split:
            continue
        if path.stem.endswith(("_mirror", "_flip")):
            continue
        image = Image.open(path).convert("RGBA")
        image = image.crop(image.getchannel("A").getbbox())
        covered = np.asarray(image.getchannel("A")) > 127
        if min(image.size) >= SMALLEST_CUTOUT and 0.1 < covered.mean() < 0.98:
            cutouts.append(image)
    return cutouts
