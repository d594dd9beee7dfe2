#!/usr/bin/env python
"""Carry a training to a machine without network, and the trained weights back.

    python training/recipes/bundle.py make bundle --photographs_dir data/photographs --masks_dir data/masks \\
        --motions_dir data/motions --stamps_dir data/stamps --annotated_clips_dir data/annotated_clips \\
        --image_encoder data/image_encoder --from_checkpoint checkpoints/mcdiff-small-128
                                                                        # small_128.py --make_bundle does this,
    python training/recipes/bundle.py open bundle --output_dir runs/small-128/data      # --bundle does this
    python training/recipes/bundle.py save runs/small-128 --output_dir result           # and this
    python training/recipes/bundle.py load result --output_dir runs/carried

A bundle holds the code of the training, photographs as small JPEG files, their masks, cut-outs, motions, some
annotated clips, the image encoder and a pipeline folder to start from. Matrices are stored in 8 bits with one scale
for each row, and in half precision where that is not given up (`--half NAME`). The photographs get the largest size at
which everything fits in `--max_mib`. The saved weights are in half precision, in files of at most 16 MiB.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from carried_weights import load, save
from packed_models import pack_models, unpack_models
from packed_pictures import pack_masks, pack_photographs, pack_shards, pack_stamps
from stages import REPOSITORY, hash_of_files, write_whole


# (Longer side in pixels, JPEG quality) of the photographs, from the best.
PHOTOGRAPH_SIZES = ((512, 84), (448, 84), (384, 82), (320, 80), (288, 76), (256, 74))
# The manifest takes about this many bytes for each file.
MANIFEST_BYTES = 180
CODE_FILES = (".py", ".json", ".npz")


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pack_code(output: Path) -> None:
    """The library and the training scripts, without the masks that only evaluation needs."""
    for folder in ("src", "training"):
        for file in sorted((REPOSITORY / folder).rglob("*")):
            name = file.relative_to(REPOSITORY)
            if file.suffix in CODE_FILES and "__pycache__" not in name.parts and "wholes" not in name.parts[:-1]:
                (output / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, output / name)


def fill(output: Path, args: argparse.Namespace) -> None:
    """Fills the folder of a bundle.

    Raises:
        ValueError: if the bundle does not fit at any size of the photographs.
    """
    pack_code(output / "code")
    pack_models(args.image_encoder, output / "image_encoder", args.half)
    pack_models(args.from_checkpoint, output / "start", args.half, left_out=("image_encoder",))
    pack_masks(args.masks_dir, output / "masks")
    pack_stamps(args.stamps_dir, output / "stamps", int(args.stamps_mib * 2**20))
    pack_shards(args.annotated_clips_dir, output / "annotated_clips", int(args.clips_mib * 2**20))
    (output / "motions").mkdir()
    for path in sorted(args.motions_dir.glob("humanoid3d_*.txt")):
        shutil.copyfile(path, output / "motions" / path.name)
    limit, others = args.max_mib * 2**20, size_of(output)
    for side, quality in PHOTOGRAPH_SIZES:
        pack_photographs(args.photographs_dir, output / "photographs", side, quality)
        if size_of(output) + MANIFEST_BYTES * sum(1 for _ in output.rglob("*")) <= limit:
            break
        shutil.rmtree(output / "photographs")
    else:
        raise ValueError(
            f"Without photographs the bundle has {others / 2**20:.1f} MiB, and with the smallest ones it does not fit "
            f"in --max_mib {args.max_mib:g}; allow more, or lower --stamps_mib or --clips_mib."
        )
    paths = sorted(path for path in output.rglob("*") if path.is_file())
    files = {path.relative_to(output).as_posix(): hash_of_files(path) for path in paths}
    write_whole(output / "manifest.json", {"photographs": {"side": side, "quality": quality}, "files": files})
    for part in sorted(path for path in output.iterdir() if path.is_dir()):
        print(f"{part.name}: {size_of(part) / 2**20:.1f} MiB")
    print(f"together: {size_of(output) / 2**20:.1f} MiB, photographs of {side} pixels at quality {quality}")


def make(args: argparse.Namespace) -> None:
    """Writes a bundle; the folder is there when it is complete.

    Raises:
        ValueError: if the folder is not empty, or the bundle does not fit.
    """
    output = args.folder
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty; name a new folder or empty it.")
    unfinished = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        fill(unfinished, args)
        unfinished.rename(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def open_bundle(args: argparse.Namespace) -> None:
    """Checks a bundle and unpacks its models.

    Raises:
        ValueError: if a file is missing or differs from the manifest.
    """
    for name, expected in json.loads((args.folder / "manifest.json").read_text())["files"].items():
        path = args.folder / name
        if not path.is_file() or hash_of_files(path) != expected:
            raise ValueError(f"{path} is missing or damaged; carry the bundle again.")
    for name in ("start", "image_encoder"):
        unpack_models(args.folder / name, args.output_dir / name)
    start = args.output_dir / "start"
    if json.loads((start / "model_index.json").read_text()).get("image_encoder"):
        shutil.copytree(args.output_dir / "image_encoder", start / "image_encoder", dirs_exist_ok=True)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    makes = actions.add_parser("make", help="Write a bundle.")
    makes.add_argument("folder", type=Path)
    folders = ("photographs_dir", "masks_dir", "motions_dir", "stamps_dir", "annotated_clips_dir")
    for name in (*folders, "image_encoder", "from_checkpoint"):
        makes.add_argument(f"--{name}", type=Path, required=True)
    makes.add_argument("--half", nargs="*", default=["vae"], help="Folders of models that are stored in 16 bits.")
    makes.add_argument("--stamps_mib", type=float, default=2.0, help="Size of the cut-outs.")
    makes.add_argument("--clips_mib", type=float, default=8.0, help="Size of the annotated clips.")
    makes.add_argument("--max_mib", type=float, default=60.0, help="Size of the bundle.")
    opens = actions.add_parser("open", help="Check a bundle and unpack its models.")
    saves = actions.add_parser("save", help="Save the newest weights of the runs in a working folder.")
    saves.add_argument("--every_seconds", type=float, help="Go on, and look for newer weights at these times.")
    loads = actions.add_parser("load", help="Make the folders of saved weights again.")
    for one in (opens, saves, loads):
        one.add_argument("folder", type=Path)
        one.add_argument("--output_dir", type=Path, required=True)
    return parser.parse_args(arguments)


ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "make": make,
    "open": open_bundle,
    "save": lambda args: save(args.folder, args.output_dir, args.every_seconds),
    "load": lambda args: load(args.folder, args.output_dir),
}


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    try:
        ACTIONS[args.action](args)
    except (OSError, ValueError) as error:
        print(f"bundle.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
