"""The photographs that clips of moving things are made of, and what is known about the things in them."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rendering.labeled_photographs.filling import Filling
from rendering.labeled_photographs.labels import Labels, label_path, read_labels
from rendering.photographs import check_split, list_photographs


# Pixels along the shorter side of a photograph in memory.
SHORT_SIDE = 512
# A mask that covers more than this share of the photograph's border is taken for the background; also one of which
# less than half is salient, if it touches the border at all and something else is salient.
LARGEST_BORDER_SHARE = 0.2
# A mask is a part of another one if this share of it is inside, and if it is smaller by this factor.
PART_INSIDE, PART_SIZE = 0.85, 0.7
# Relations between masks are computed at this size in pixels along the longer side.
RELATION_SIDE = 128


@dataclass(frozen=True, eq=False)
class LabeledPhotograph:
    """A photograph with the masks of its things, from the largest to the smallest.

    Args:
        name: SPLIT/NAME.jpg.
        origin: package and license, as the collection states them.
        image: RGB.
        masks: uint8 `[N, h, w]`, N at least 1, of the whole photograph; 0 to 255.
        is_salient: bool `[N]`, whether a mask is a soft outline of a whole thing.
        wholes: int `[N]`, the index of the smallest mask that each one is a part of; -1 if there is none.
        is_cut: bool `[N]`, whether the border of the photograph cuts the thing.
    """

    name: str
    origin: dict[str, str]
    image: Image.Image
    masks: np.ndarray
    is_salient: np.ndarray
    wholes: np.ndarray
    is_cut: np.ndarray


@dataclass(frozen=True)
class Assets:
    """What clips of one split are made of.

    Args:
        photographs: with at least one thing each.
        filling: how what things uncover is filled.
    """

    photographs: list[LabeledPhotograph]
    filling: Filling


def load_assets(
    split: str, *, photographs_dir: str | Path, masks_dir: str | Path, filling: str = "patchmatch"
) -> Assets:
    """Read the labeled photographs of `split`.

    Args:
        split: `train`, `validation` or `test`.
        photographs_dir: folder with one subfolder of JPEG or PNG photographs for each split.
        masks_dir: the output of `label_photographs.py` for it. Photographs that are not labeled are left out.
        filling: a name in `filling.FILLINGS`.

    Raises:
        FileNotFoundError: if there is no labeled photograph.
        ImportError: if the filling needs a package that is missing.
        ValueError: if the split or the filling is unknown, or a file is damaged.
    """
    check_split(split)
    fill = Filling(filling)
    origins = read_origins(Path(photographs_dir) / "LICENCES.tsv")
    photographs = []
    for path in list_photographs(photographs_dir, split):
        file = label_path(masks_dir, path)
        if file.exists():
            image = Image.open(path).convert("RGB")
            image.thumbnail([round(side * SHORT_SIDE / min(image.size)) + 1 for side in image.size])
            labeled = with_relations(f"{split}/{path.name}", origins, image, read_labels(file))
            photographs += [labeled] if len(labeled.masks) else []
    if not photographs:
        raise FileNotFoundError(
            f"There are no masks of things of the split {split!r} in {masks_dir}; run label_photographs.py first."
        )
    return Assets(photographs, fill)


def read_origins(path: Path) -> dict[str, dict[str, str]]:
    """Package and license of each photograph by SPLIT/NAME.jpg; empty if the collection has no list."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row[0]: {"package": row[1], "license": row[3]} for row in list(rows)[1:]}


def with_relations(
    name: str, origins: dict[str, dict[str, str]], image: Image.Image, labels: Labels
) -> LabeledPhotograph:
    """A photograph without the masks of its background, and how the others belong together."""
    small = small_masks(labels.masks)
    touched = border_shares(small)
    kept = touched <= LARGEST_BORDER_SHARE
    if labels.is_salient.any():
        salient = small[labels.is_salient].any(0)
        inside = (small & salient).sum((1, 2)) / np.maximum(small.sum((1, 2)), 1)
        kept &= (inside >= 0.5) | (touched == 0)
    kept |= labels.is_salient
    small, masks = small[kept], labels.masks[kept]
    areas = small.sum((1, 2)).astype(np.float64)
    shared = np.einsum("ihw,jhw->ij", small.astype(np.float32), small.astype(np.float32))
    wholes = np.full(len(masks), -1)
    for part in range(len(masks)):
        for whole in range(part):  # from the largest to the smallest
            if shared[part, whole] >= PART_INSIDE * areas[part] and areas[part] <= PART_SIZE * areas[whole]:
                wholes[part] = whole
    origin = origins.get(name, {"package": "not stated", "license": "not stated"})
    return LabeledPhotograph(name, origin, image, masks, labels.is_salient[kept], wholes, touched[kept] > 0.01)


def small_masks(masks: np.ndarray) -> np.ndarray:
    """Masks as bool `[N, h, w]`, at most `RELATION_SIDE` pixels large."""
    step = max(1, -(-max(masks.shape[1:]) // RELATION_SIDE))
    return masks[:, step // 2 :: step, step // 2 :: step] > 127


def border_shares(masks: np.ndarray) -> np.ndarray:
    """Float64 `[N]`: the share of the border of the photograph that each mask, bool `[N, h, w]`, covers."""
    border = np.concatenate([masks[:, 0], masks[:, -1], masks[:, 1:-1, 0], masks[:, 1:-1, -1]], axis=1)
    return border.mean(axis=1) if border.size else np.zeros(len(masks))
