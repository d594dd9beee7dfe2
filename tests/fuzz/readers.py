"""Mutates foreign files and reads them, for as long as wanted: `python tests/fuzz/readers.py --minutes 10`.

Every reader may read a mutated file or refuse it by a `ValueError` or `OSError` of one line. Anything else is a fault:
another exception, a read that takes more than 2 seconds of CPU time, or that needs more than 1 GB of memory beyond
what the readers take when they are imported. The file is kept in `--failures`, and the exit code is 1.
"""

import argparse
import collections
import io
import json
import logging
import random
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import uuid
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from safetensors.torch import save_file


sys.path.insert(0, str(Path(__file__).parents[1]))

from mcdiff_pipeline import MCDiffPipeline, Region, Stroke, StrokeSheet  # noqa: E402
from mcdiff_pipeline.dataset import Clip, ClipDataset, ShardWriter  # noqa: E402
from mcdiff_pipeline.evaluation.whole_photographs import FORMAT, VERSION, WholePhotographs  # noqa: E402
from mcdiff_pipeline.flow_io import read_flo, read_kitti_png, write_flo, write_kitti_png  # noqa: E402
from mcdiff_pipeline.image_processor import load_image_tensor  # noqa: E402
from mcdiff_pipeline.rollout import RolloutState  # noqa: E402
from mcdiff_pipeline.segmentation.model_folder import read_config  # noqa: E402
from mcdiff_pipeline.studio.archive import read_archive, write_archive  # noqa: E402
from mcdiff_pipeline.studio.refusals import Refused  # noqa: E402
from mcdiff_pipeline.studio.settings import LOCAL  # noqa: E402
from mcdiff_pipeline.studio.store import SessionFiles  # noqa: E402
from mcdiff_pipeline.video import read_video, write_video  # noqa: E402
from mcdiff_pipeline.video.clip_metadata import ClipMetadata, ClipSettings  # noqa: E402
from support.moving_square import moving_square  # noqa: E402
from support.mutations import mutated, mutated_config  # noqa: E402
from support.studio import serving  # noqa: E402
from support.tiny_models import make_pipeline  # noqa: E402


MAX_SECONDS = 2
MAX_GIGABYTES = 1
# How often one of the members of a container is damaged, instead of the container.
MEMBERS = 0.5
# How often a file of a model is damaged: there are many, and loading takes ten times as long as other reads.
MODELS = 0.02

Reader = Callable[[Path], object]


class Slow(BaseException):
    """A read took more than `MAX_SECONDS` of CPU time."""


def read_shard(path: Path) -> None:
    dataset = ClipDataset([path])
    for index in range(len(dataset)):
        dataset[index]


def read_photographs(path: Path) -> None:
    photographs = WholePhotographs(path.parent)
    for name in photographs.names:
        photographs.read(name)


def read_session(path: Path) -> None:
    target = SessionFiles(path.parent / "sessions" / uuid.uuid4().hex)
    try:
        read_archive(path, target, LOCAL)
    finally:
        shutil.rmtree(target.folder.parent, ignore_errors=True)


def read_model(path: Path) -> None:
    """Loads the model that a file belongs to."""
    model = next(parent for parent in path.parents if (parent / "model_index.json").is_file())
    MCDiffPipeline.from_pretrained(model)


def read_lora(path: Path) -> None:
    MCDiffPipeline.lora_state_dict(path.parent, weight_name=path.name)


def make_images_and_videos(folder: Path, noise: np.ndarray) -> dict[Path, Reader]:
    readers: dict[Path, Reader] = {}
    for suffix in ("png", "jpg", "webp", "gif", "tif", "bmp", "avif"):
        Image.fromarray(noise).save(folder / f"image.{suffix}")
        readers[folder / f"image.{suffix}"] = load_image_tensor
    for suffix in ("mp4", "webm", "gif", "mkv"):
        write_video(moving_square(3), folder / f"video.{suffix}", metadata={"seed": 1})
        readers[folder / f"video.{suffix}"] = read_video
    Image.fromarray(noise[..., 0]).save(folder / "mask.png")
    readers[folder / "mask.png"] = lambda path: Region(mask=path)
    (folder / "photographs").mkdir()
    for name in ("image", "mask"):
        Image.fromarray(noise).save(folder / f"photographs/{name}.png")
        readers[folder / f"photographs/{name}.png"] = read_photographs
    entry = {"name": "one", "image": "image.png", "masks": ["mask.png"]}
    listed = {"format": FORMAT, "version": VERSION, "photographs": [entry]}
    (folder / "photographs/wholes.json").write_text(json.dumps(listed))
    readers[folder / "photographs/wholes.json"] = read_photographs
    return readers


def make_sheets_and_clips(folder: Path, noise: np.ndarray) -> dict[Path, Reader]:
    strokes = [Stroke([(1, 1), (2, 2)], frames=[0, 2.5]), Stroke([(5, 5)], kind="hold", end_frame=3)]
    mask = np.zeros((40, 48), bool)
    mask[4:9, 5:20] = True
    regions = [Region(polygon=[(2, 2), (20, 2), (20, 20)]), Region(mask=mask)]
    sheet = StrokeSheet(strokes, 48, 40, 6, regions=regions)
    sheet.save(folder / "sheet.json")
    settings = ClipSettings(3, 2, 1.0, 0, 8.0, "float32", 40, 48)
    clip = ClipMetadata("model", "0" * 16, settings, sheet, Image.fromarray(noise))
    write_video(moving_square(3), folder / "clip.mkv", metadata=clip.to_dict())
    flow = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 9, 8)).astype(np.float32))
    write_flo(folder / "flow.flo", flow)
    write_kitti_png(folder / "flow.png", flow)
    with ShardWriter(folder, "train") as writer:
        for number in range(2):
            frames = np.stack([noise[:8, :9]] * 2)
            keypoints = np.zeros((2, 1, 17, 3), np.float32)
            flows, occlusion = np.zeros((1, 2, 8, 9), np.float32), np.zeros((1, 8, 9), bool)
            writer.write(Clip(f"clip_{number}", frames, flows, occlusion, frames[..., 0], keypoints, {"seed": 1}))
    return {
        folder / "sheet.json": StrokeSheet.load,
        folder / "clip.mkv": ClipMetadata.read,
        folder / "flow.flo": read_flo,
        folder / "flow.png": read_kitti_png,
        folder / "train-00000.tar": read_shard,
    }


def make_models_and_states(folder: Path) -> dict[Path, Reader]:
    pipe = make_pipeline()
    pipe.save_pretrained(folder / "model", max_shard_size="60KB")
    (folder / "segmenter").mkdir()
    (folder / "segmenter/config.json").write_text('{"image_size": 64, "mean": [1, 2, 3], "std": [1, 2, 3]}')
    state = pipe.start(Image.linear_gradient("L").convert("RGB"), 32, 32, generator=torch.Generator().manual_seed(0))
    state.save(folder / "state.safetensors")
    save_file({"unet.conv_in.lora_A.weight": torch.zeros(4, 4)}, folder / "lora.safetensors")
    sessions = folder / "served"
    with serving(sessions) as server:
        session = server.open(Image.linear_gradient("L").resize((48, 40)).convert("RGB"))["id"]
        with server.page(session) as page:
            page.rendered(num_frames=2)
    write_archive(SessionFiles(sessions / session), folder / "session.zip")
    files = [*folder.glob("model/**/*.json"), *folder.glob("model/**/*.safetensors")]
    return dict.fromkeys(sorted(files), read_model) | {
        folder / "segmenter/config.json": lambda path: read_config(path.parent),
        folder / "state.safetensors": RolloutState.load,
        folder / "lora.safetensors": read_lora,
        folder / "session.zip": read_session,
    }


def make_files(folder: Path) -> dict[Path, Reader]:
    """Writes one good file of each kind. Returns the files with their readers."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    readers = make_images_and_videos(folder, noise) | make_sheets_and_clips(folder, noise)
    return readers | make_models_and_states(folder)


def damaged(path: Path, content: bytes, generator: random.Random) -> bytes:
    """A file with damage: to one of its fields or members if it has some, or to its bytes."""
    if path.suffix == ".json" and generator.random() < 0.8:
        return json.dumps(mutated_config(json.loads(content), generator)).encode()
    if path.suffix not in (".tar", ".zip") or generator.random() > MEMBERS:
        return mutated(content, generator)
    changed = io.BytesIO()
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(changed, "w") as target:
            chosen = generator.choice(source.namelist())
            for name in source.namelist():
                member = source.read(name)
                target.writestr(name, mutated(member, generator) if name == chosen and member else member)
        return changed.getvalue()
    with tarfile.open(fileobj=io.BytesIO(content)) as source, tarfile.open(fileobj=changed, mode="w") as target:
        chosen = generator.choice(source.getnames())
        for member in source:
            file = source.extractfile(member)
            assert file is not None
            stored = mutated(file.read(), generator) if member.name == chosen else file.read()
            member.size = len(stored)
            target.addfile(member, io.BytesIO(stored))
    return changed.getvalue()


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
    except (ValueError, OSError, Refused) as error:
        return f"a message of several lines: {error}" if "\n" in str(error) else None
    except MemoryError:
        return f"more than {MAX_GIGABYTES} GB"
    except Exception:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


class Faults:
    """Counts what was read, and keeps the files that broke a reader.

    Args:
        folder (`Path`): where these files are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: collections.Counter[str] = collections.Counter()
        self.number = 0
        self.slowest, self.slowest_name = 0.0, ""

    def read(self, name: str, path: Path, read: Reader) -> None:
        started = time.process_time()
        wrong = read_within_limits(read, path)
        if (seconds := time.process_time() - started) > self.slowest:
            self.slowest, self.slowest_name = seconds, name
        self.counts[name] += 1
        if wrong is not None:
            self.number += 1
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = self.folder / f"{self.counts.total():07d}-{name.replace('/', '-')}"
            shutil.copyfile(path, kept)
            print(f"{kept}: {wrong}", flush=True)

    def summary(self) -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return (
            f"{self.counts.total()} files, {self.number} faults; slowest {self.slowest:.2f} s of CPU time "
            f"({self.slowest_name}); largest resident memory {peak:.2f} GB"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long to run (default: 10)")
    parser.add_argument("--files", type=int, help="end after this many files, if that is earlier")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other files (default: 0)")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="where files that fail are kept")
    args = parser.parse_args()

    logging.disable(logging.ERROR)
    disable_progress_bar()
    warnings.simplefilter("ignore")  # PIL warns of damage that it reads over
    generator, faults = random.Random(args.seed), Faults(args.failures)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        readers = {path: (read, path.read_bytes()) for path, read in make_files(folder).items()}
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + MAX_GIGABYTES * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        end = time.monotonic() + 60 * args.minutes
        while time.monotonic() < end and faults.counts.total() != args.files:
            of_models = generator.random() < MODELS
            path = generator.choice([path for path, (read, _) in readers.items() if (read is read_model) == of_models])
            read, content = readers[path]
            path.write_bytes(damaged(path, content, generator))
            faults.read(str(path.relative_to(folder)), path, read)
            path.write_bytes(content)
            if faults.counts.total() % 10_000 == 0:
                print(faults.summary(), flush=True)
    print(f"{faults.summary()}: {dict(sorted(faults.counts.items()))}")
    return int(faults.number > 0)


if __name__ == "__main__":
    sys.exit(main())
