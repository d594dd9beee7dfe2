"""A folder of photographs with one subfolder for each split."""

import hashlib
from pathlib import Path


SPLITS = ("train", "validation", "test")


def check_split(split: str) -> None:
    """Check the name of a split.

    Raises:
        ValueError: if the split is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"Split {split!r} is unknown, it must be one of {', '.join(SPLITS)}.")


def split_of(name: str) -> str:
    """Assign an image to train, validation or test (about 85, 5 and 10 %) by a hash of its name."""
    bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 85 else "validation" if bucket < 90 else "test"


def list_photographs(photographs_dir: str | Path, split: str) -> list[Path]:
    """The images in `photographs_dir/split`, sorted by name. `collect_photographs.py` makes such folders.

    Raises:
        FileNotFoundError: if there are none.
    """
    folder = Path(photographs_dir) / split
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise FileNotFoundError(f"There are no photographs in {folder}; run collect_photographs.py first.")
    return paths
