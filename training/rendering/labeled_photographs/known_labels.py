"""Masks that were made before, in one file, so that nobody has to find the things in the same photographs again.

The file is a zip. It holds `SPLIT/NAME.npz` as `label_photographs.py` writes it, and `photographs.json`: for each name
the size of the photograph and a thumbnail, by which the photograph is known again.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from mcdiff_pipeline.atomic_files import atomic_path
from rendering.labeled_photographs.labels import label_path


INDEX = "photographs.json"
# Side of a thumbnail in pixels, and the largest difference of one of its gray levels between two files of the same
# photograph, which versions of Pillow may write differently.
THUMBNAIL, TOLERANCE = 16, 4


class KnownLabels:
    """
    The masks in such a file.

    Args:
        path: the file; if there is none, no photograph is known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._photographs: dict[str, dict] = {}
        if path.is_file():
            with zipfile.ZipFile(path) as archive:
                self._photographs = json.loads(archive.read(INDEX))

    def find(self, photograph: Path) -> bytes | None:
        """The content of the masks' file of `.../SPLIT/NAME.jpg`, or None if there is none for this photograph."""
        known = self._photographs.get(_name_of(photograph))
        if known is None:
            return None
        found = _traits_of(photograph)
        difference = np.abs(np.subtract(found["thumbnail"], known["thumbnail"], dtype=int))
        if found["size"] != known["size"] or difference.max() > TOLERANCE:
            return None
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(f"{_name_of(photograph)}.npz")


def write_known_labels(path: Path, photographs: list[Path], masks_dir: Path) -> None:
    """Writes such a file for photographs that have masks in `masks_dir`. It appears when it is complete."""
    with atomic_path(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:  # masks are compressed already
        for photograph in photographs:
            archive.write(label_path(masks_dir, photograph), f"{_name_of(photograph)}.npz")
        index = {_name_of(photograph): _traits_of(photograph) for photograph in photographs}
        archive.writestr(INDEX, json.dumps(index), zipfile.ZIP_DEFLATED)


def _name_of(photograph: Path) -> str:
    """Split and name, which a photograph keeps wherever it is."""
    return f"{photograph.parent.name}/{photograph.stem}"


def _traits_of(photograph: Path) -> dict:
    """The size, `[width, height]`, and the gray levels of the thumbnail of a photograph."""
    with Image.open(photograph) as image:
        thumbnail = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        return {"size": list(image.size), "thumbnail": np.asarray(thumbnail).flatten().tolist()}
