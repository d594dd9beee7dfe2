"""Small photographs with masked things, as `mcdiff evaluate --wholes` reads them."""

import json
from pathlib import Path

import numpy as np
import PIL.Image


def write_photographs(folder: Path, number: int = 2) -> Path:
    """Writes photographs of 96 x 64 pixels with a box each, the last one with a second thing; returns the folder."""
    folder.mkdir(parents=True)
    entries = []
    for index in range(number):
        rng = np.random.default_rng(index)
        PIL.Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(folder / f"box-{index}.png")
        boxes = [(16, 16, 40, 48)] + [(56, 8, 88, 32)] * (index == number - 1)
        masks = []
        for left, top, right, bottom in boxes:
            mask = np.zeros((64, 96), np.uint8)
            mask[top:bottom, left:right] = 255
            masks.append(f"box-{index}-mask-{len(masks)}.png")
            PIL.Image.fromarray(mask).convert("1").save(folder / masks[-1])
        entries.append({"name": f"box-{index}", "image": f"box-{index}.png", "masks": masks})
    write_list(folder, entries)
    return folder


def write_list(folder: Path, entries: list[dict]) -> None:
    """Writes `wholes.json`."""
    content = {"format": "mcdiff wholes", "version": 1, "photographs": entries}
    (folder / "wholes.json").write_text(json.dumps(content))
