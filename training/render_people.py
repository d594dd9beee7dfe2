#!/usr/bin/env python
"""Render short clips of moving people over photographs, with exact flow, occlusion, masks and keypoints.

    pip download --no-deps --only-binary :all: --python-version 3.11 pybullet==3.2.7
    python -m zipfile -e pybullet-*.whl pybullet
    python training/render_people.py --output_dir clips/people --split train --num_clips 2000 --seed 0 \\
        --motions_dir pybullet/pybullet_data/data/motions --photographs_dir photographs

Bodies, motions and photographs are divided into train, validation and test. The test motions (`dance_b`, `spinkick`,
`getup_facedown`) are used nowhere else. Validation uses the last quarter of five training motions, and training uses
only their first 70 %. A clip depends only on its seed, its split, its size, its time gap and the given files.

The time between two frames is random for each clip, from 1/30 to 1/6 s, and shorter if people move too far for the
frame. `--time_gap` sets it for all clips; the first frames stay the same.

The recorded motions and the bodies are few. `--recombined` makes more of them: limbs follow motions of their own, in
poses that were not recorded, and bodies are mixtures of two.
"""

from pathlib import Path

from rendering.clip_shards import clip_parser, parse_clip_arguments, write_shards
from rendering.people.assets import BODIES_FILE, load_assets
from rendering.people.clip import render_clip


def main(arguments: list[str] | None = None) -> None:
    parser = clip_parser(__doc__, default_gap="default: random for each clip, from 1/30 to 1/6, less for fast people")
    parser.add_argument("--motions_dir", type=Path, required=True, help="Folder of humanoid3d_*.txt motion files.")
    parser.add_argument("--bodies", type=Path, default=BODIES_FILE, help="File made by export_bodies.py.")
    parser.add_argument(
        "--recombined", action="store_true", help="Limbs follow motions of their own, and bodies are mixtures."
    )
    args = parse_clip_arguments(parser, arguments)
    sources = {
        "motions_dir": args.motions_dir,
        "photographs_dir": args.photographs_dir,
        "bodies": args.bodies,
        "recombined": args.recombined,
    }
    write_shards(args, render_clip, load_assets, sources)


if __name__ == "__main__":
    main()
