# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Photographs with masked things, each of which moves as a whole.

They are a folder with a file `wholes.json`:

```
{"format": "mcdiff wholes", "version": 1, "photographs": [
  {"name": "calf", "image": "calf.jpg", "masks": ["calf.png"], "source": "...", "license": "..."}]}
```

`training/collect_wholes.py` makes such a folder. A mask may be smaller than its photograph.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from ..image_processor import reading_image


FORMAT, VERSION = "mcdiff wholes", 1


@dataclass(frozen=True)
class WholePhotograph:
    """A photograph and the masks of its things.

    Args:
        name (`str`): its name in reports.
        image (`PIL.Image.Image`): the photograph, RGB.
        masks (`list[np.ndarray]`): bool `[H, W]` for each thing, at the size of the photograph.
    """

    name: str
    image: PIL.Image.Image
    masks: list[np.ndarray]


class WholePhotographs:
    """The photographs of a folder, read one at a time.

    Args:
        folder (`str` or `os.PathLike`): folder with `wholes.json`.

    Raises:
        ValueError: if the folder has no list of photographs, the list is empty or of another format, names are not
            unique or not names of files, or a file is missing.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        path = self.folder / "wholes.json"
        if not path.is_file():
            raise ValueError(f"'{folder}' has no wholes.json; make the folder by training/collect_wholes.py.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            kind = content["format"], content["version"]
            self._entries = {str(entry["name"]): entry for entry in content["photographs"]}
            files = [str(name) for entry in self._entries.values() for name in [entry["image"], *entry["masks"]]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"'{path}' is not a list of photographs ({error!r}); docs/evaluation.md shows its form."
            ) from error
        if kind != (FORMAT, VERSION):
            raise ValueError(f"'{path}' has the format {kind}, but this version reads {(FORMAT, VERSION)}.")
        if len(self._entries) < len(content["photographs"]) or not self._entries:
            raise ValueError(
                f"'{path}' lists {len(content['photographs'])} photographs with {len(self._entries)} names; list one "
                "or more, each with a name of its own."
            )
        for name in self._entries:
            if Path(name).name != name:
                raise ValueError(f"'{path}' has a photograph of the name {name!r}; give it a name without a folder.")
        for name in files:
            if not (self.folder / name).is_file():
                raise ValueError(f"'{path}' names {name}, but there is no such file; collect the photographs again.")
        self.fingerprint = self._fingerprint(files)

    def _fingerprint(self, files: list[str]) -> str:
        """A digest of the names and contents of all files."""
        digest = hashlib.sha256()
        for name in files:
            digest.update(name.encode() + hashlib.sha256((self.folder / name).read_bytes()).digest())
        return digest.hexdigest()[:16]

    @property
    def names(self) -> list[str]:
        """The names of all photographs in the order of the list."""
        return list(self._entries)

    def read(self, name: str) -> WholePhotograph:
        """Reads one photograph and its masks.

        Raises:
            ValueError: if a file cannot be read as an image, or a mask shows nothing or everything.
        """
        entry = self._entries[name]
        path = self.folder / str(entry["image"])
        with open(path, "rb") as opened, reading_image(path):
            image = PIL.Image.open(opened).convert("RGB")
        masks = []
        for file in entry["masks"]:
            path = self.folder / str(file)
            with open(path, "rb") as opened, reading_image(path):
                mask = PIL.Image.open(opened).convert("L").resize(image.size, PIL.Image.Resampling.BILINEAR)
            mask = np.asarray(mask) > 127
            if mask.all() or not mask.any():
                raise ValueError(
                    f"'{path}' is {'white' if mask.all() else 'black'} everywhere, but a mask has to "
                    "show a thing (white) and what surrounds it (black)."
                )
            masks.append(mask)
        return WholePhotograph(name, image, masks)
