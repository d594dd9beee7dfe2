#!/usr/bin/env python
"""Render short clips of things that move in photographs, with exact flow, occlusion, masks and keypoints.

    pip install patchmatch-cython
    python training/render_photographs.py --output_dir clips/photographs --split train --num_clips 2000 --seed 0 \\
        --photographs_dir photographs --masks_dir masks

`label_photographs.py` finds the things. One to three of them move: as a whole, or a part alone, a part on a whole that
moves, too, or two that turn about the place where they touch. Motion is by homographies: translations, similarities
and mild perspective. In a quarter of the clips the camera moves. The first frame is the untouched photograph, and what
is uncovered later is filled by PatchMatch (`--filling`). In a quarter of the clips the things are pasted over another
photograph, so what they uncover is true. The meta of a clip names its photographs and their licenses, and says which
of the two it is (`uncovered`). A clip depends only on its seed, its split, its size, its time gap and the given files.

Speeds refer to frames that are 1/12 s apart. `--time_gap` multiplies them.
"""

import functools
from pathlib import Path

from rendering.clip_shards import clip_parser, parse_clip_arguments, write_shards
from rendering.labeled_photographs.assets import load_assets
from rendering.labeled_photographs.clip import render_clip
from rendering.labeled_photographs.filling import FILLINGS


def main(arguments: list[str] | None = None) -> None:
    parser = clip_parser(__doc__, default_gap="default: the 1/12 s that speeds refer to")
    parser.add_argument("--masks_dir", type=Path, required=True, help="The output of label_photographs.py.")
    parser.add_argument("--filling", choices=FILLINGS, default=FILLINGS[0], help="Of what things uncover.")
    args = parse_clip_arguments(parser, arguments)
    sources = {"photographs_dir": args.photographs_dir, "masks_dir": args.masks_dir}
    write_shards(args, render_clip, functools.partial(load_assets, filling=args.filling), sources)


if __name__ == "__main__":
    main()
