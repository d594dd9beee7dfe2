"""Photographs, masks, cut-outs and clips in small files, to carry them to another machine."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image


# Pixels along the longer side of masks and cut-outs.
MASK_SIDE, STAMP_SIDE = 256, 160
SPLITS = ("train", "validation")


def pack_photographs(photographs_dir: Path, output: Path, side: int, quality: int) -> None:
    """Photographs as JPEG files of at most `side` pixels, with the list of their licenses."""
    for split in SPLITS:
        (output / split).mkdir(parents=True, exist_ok=True)
        for path in sorted((photographs_dir / split).glob("*.jpg")):
            image = Image.open(path).convert("RGB")
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            image.save(output / split / path.name, quality=quality, optimize=True)
    licenses = photographs_dir / "LICENCES.tsv"
    if licenses.exists():
        shutil.copyfile(licenses, output / licenses.name)


def pack_masks(masks_dir: Path, output: Path) -> None:
    """Masks at most `MASK_SIDE` pixels wide and high, in 16 levels."""
    for split in SPLITS:
        for path in sorted((masks_dir / split).glob("[!.]*.npz")):
            with np.load(path, allow_pickle=False) as file:
                masks, is_salient = file["masks"], file["is_salient"]
            scale = MASK_SIDE / max(1, *masks.shape[1:])
            if scale < 1 and len(masks):
                size = (max(1, round(masks.shape[2] * scale)), max(1, round(masks.shape[1] * scale)))
                masks = np.stack([np.asarray(Image.fromarray(mask).resize(size, Image.BOX)) for mask in masks])
                # 16 levels: outlines stay soft and compress well.
                masks = (np.round(masks / 17) * 17).astype(np.uint8)
            (output / split).mkdir(parents=True, exist_ok=True)
            np.savez_compressed(output / split / path.name, masks=masks, is_salient=is_salient)


def pack_stamps(stamps_dir: Path, output: Path, max_bytes: int) -> None:
    """Cut-outs as small PNG images, in an order that mixes all folders, until `max_bytes` are reached."""
    paths = sorted(stamps_dir.rglob("*.png"), key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
    taken = 0
    for path in paths:
        image = Image.open(path).convert("RGBA")
        image.thumbnail((STAMP_SIDE, STAMP_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.quantize(128, Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
        taken += buffer.tell()
        if taken > max_bytes:
            return
        target = output / path.relative_to(stamps_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(buffer.getvalue())


def pack_shards(clips_dir: Path, output: Path, max_bytes: int) -> None:
    """Whole shards of training clips, as many as fit in `max_bytes`, from everywhere: neighbors show the same video.

    Raises:
        ValueError: if there are none, or not even one fits.
    """
    paths = sorted(clips_dir.glob("train-*.tar"))
    if not paths:
        raise ValueError(f"{clips_dir} has no train-*.tar; name a folder that mcdiff annotate wrote.")
    number = min(len(paths), max_bytes // max(path.stat().st_size for path in paths))
    if number == 0:
        raise ValueError(
            f"A shard in {clips_dir} is larger than the {max_bytes / 2**20:.1f} MiB of --clips_mib; allow more, or "
            "annotate again with fewer --clips-per-shard."
        )
    output.mkdir(parents=True)
    for index in range(number):
        path = paths[index * len(paths) // number]
        shutil.copyfile(path, output / f"train-{index:05d}.tar")
