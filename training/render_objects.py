#!/usr/bin/env python
"""Render short clips of moving objects over photographs, with exact flow, occlusion, masks and keypoints.

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb stamps
    python training/render_objects.py --output_dir clips/objects --split train --num_clips 2000 --seed 0 \\
        --photographs_dir photographs --cutouts_dir stamps/usr/share/tuxpaint/stamps

An object is a photographed cut-out with an alpha channel, or a random shape filled with a crop of a photograph. Some
objects have two or three hinged parts, some bend like cloth, some stand still. Photographs and cut-outs are divided
into train, validation and test. Without `--cutouts_dir` there are random shapes only. A clip depends only on its seed,
its split, its size, its time gap and the given files.

Speeds refer to frames that are 1/12 s apart. `--time_gap` multiplies them: the same objects take the same paths, and
move further between two frames. In a clip of more than 4 s they slow down to the motion of 4 s.
"""

from pathlib import Path

from rendering.clip_shards import clip_parser, parse_clip_arguments, write_shards
from rendering.objects.assets import load_assets
from rendering.objects.clip import render_clip


def main(arguments: list[str] | None = None) -> None:
    parser = clip_parser(__doc__, default_gap="default: the 1/12 s that speeds refer to")
    parser.add_argument("--cutouts_dir", type=Path, help="Folder of PNG images with alpha; default: shapes only.")
    args = parse_clip_arguments(parser, arguments)
    sources = {"photographs_dir": args.photographs_dir, "cutouts_dir": args.cutouts_dir}
    write_shards(args, render_clip, load_assets, sources)


if __name__ == "__main__":
    main()
