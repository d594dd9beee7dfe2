"""Mutates foreign files and reads them, for as long as wanted: `python tests/fuzz/readers.py --minutes 10`.

Every reader may read a mutated file or refuse it by a `ValueError` or `OSError` of one line. Anything else is a fault:
another exception, a read that takes more than 2 seconds of CPU time, or memory above 2 GB. The file is kept in
`--failures`, and the exit code is 1.
"""

import argparse
import collections
import json
import logging
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image


sys.path.insert(0, str(Path(__file__).parents[1]))

from mcdiff_pipeline import Region, Stroke, StrokeSheet  # noqa: E402
from mcdiff_pipeline.dataset import Clip, ClipDataset, ShardWriter  # noqa: E402
from mcdiff_pipeline.flow_io import read_flo, read_kitti_png, write_flo, write_kitti_png  # noqa: E402
from mcdiff_pipeline.image_processor import load_image_tensor  # noqa: E402
from mcdiff_pipeline.model_files import check_model_files  # noqa: E402
from mcdiff_pipeline.video import read_video, write_video  # noqa: E402
from mcdiff_pipeline.video.clip_metadata import ClipMetadata, ClipSettings  # noqa: E402
from support.moving_square import moving_square  # noqa: E402
from support.mutations import mutated, mutated_config  # noqa: E402
from support.tiny_models import make_pipeline  # noqa: E402


MAX_SECONDS = 2
MAX_GIGABYTES = 2

Reader = Callable[[Path], object]


class Slow(BaseException):
    """A read took more than `MAX_SECONDS` of CPU time."""


def read_shard(path: Path) -> None:
    dataset = ClipDataset([path])
    for index in range(len(dataset)):
        dataset[index]


def make_files(folder: Path) -> dict[Path, Reader]:
    """Writes one good file of each kind. Returns the files with their readers."""
    readers: dict[Path, Reader] = {}
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    for suffix in ("png", "jpg", "webp", "gif", "tif", "bmp", "avif"):
        Image.fromarray(noise).save(folder / f"image.{suffix}")
        readers[folder / f"image.{suffix}"] = load_image_tensor
    for suffix in ("mp4", "webm", "gif", "mkv"):
        write_video(moving_square(3), folder / f"video.{suffix}", metadata={"seed": 1})
        readers[folder / f"video.{suffix}"] = read_video
    strokes = [Stroke([(1, 1), (2, 2)], frames=[0, 2.5]), Stroke([(5, 5)], kind="hold", end_frame=3)]
    sheet = StrokeSheet(strokes, 48, 40, 6, regions=[Region(polygon=[(2, 2), (20, 2), (20, 20)])])
    sheet.save(folder / "sheet.json")
    readers[folder / "sheet.json"] = StrokeSheet.load
    settings = ClipSettings(3, 2, 1.0, 0, 8.0, "float32", 40, 48)
    clip = ClipMetadata("model", "0" * 16, settings, sheet, Image.fromarray(noise))
    write_video(moving_square(3), folder / "clip.mkv", metadata=clip.to_dict())
    readers[folder / "clip.mkv"] = ClipMetadata.read
    flow = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 9, 8)).astype(np.float32))
    write_flo(folder / "flow.flo", flow)
    write_kitti_png(folder / "flow.png", flow)
    readers |= {folder / "flow.flo": read_flo, folder / "flow.png": read_kitti_png}
    with ShardWriter(folder, "train") as writer:
        for number in range(2):
            frames = np.stack([noise[:8, :9]] * 2)
            keypoints = np.zeros((2, 1, 17, 3), np.float32)
            flows, occlusion = np.zeros((1, 2, 8, 9), np.float32), np.zeros((1, 8, 9), bool)
            writer.write(Clip(f"clip_{number}", frames, flows, occlusion, frames[..., 0], keypoints, {"seed": 1}))
    readers[folder / "train-00000.tar"] = read_shard
    return readers


def read_within_limits(read: Reader, path: Path) -> str | None:
    """Reads a file. Returns what is wrong with the outcome; None if nothing is."""

    def stop(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        read(path)
    except Slow:
        return f"more than {MAX_SECONDS} seconds"
    except (ValueError, OSError) as error:
        return f"a message of several lines: {error}" if "\n" in str(error) else None
    except MemoryError:
        return f"more than {MAX_GIGABYTES} GB"
    except Exception:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long to run (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other files (default: 0)")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="where files that fail are kept")
    args = parser.parse_args()

    logging.disable(logging.ERROR)
    generator = random.Random(args.seed)
    counts: collections.Counter[str] = collections.Counter()
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        readers = {path: (read, path.read_bytes()) for path, read in make_files(folder).items()}
        model = folder / "model"
        make_pipeline().save_pretrained(model)
        configs = {path: json.loads(path.read_text()) for path in sorted(model.rglob("*.json"))}
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + MAX_GIGABYTES * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        end = time.monotonic() + 60 * args.minutes
        while time.monotonic() < end:
            if generator.random() < 0.1:
                path = generator.choice(list(configs))
                path.write_text(json.dumps(mutated_config(configs[path], generator)))
                wrong = read_within_limits(lambda _: check_model_files(model), path)
            else:
                path = generator.choice(list(readers))
                read, content = readers[path]
                path.write_bytes(mutated(content, generator))
                wrong = read_within_limits(read, path)
            counts[path.name] += 1
            if wrong is not None:
                failed += 1
                args.failures.mkdir(parents=True, exist_ok=True)
                kept = args.failures / f"{sum(counts.values()):07d}-{path.name}"
                shutil.copyfile(path, kept)
                print(f"{kept}: {wrong}", flush=True)
            if path in configs:
                path.write_text(json.dumps(configs[path]))
    print(f"{sum(counts.values())} files, {failed} faults: {dict(sorted(counts.items()))}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
