"""Kills work by SIGKILL at random moments, starts it again, and compares files: `python tests/faults/kills.py`.

What was killed must end with the same bytes as work that was never killed, and leave nothing unfinished. Generating,
annotating, training and evaluating are tried with tiny models and clips. The exit code is 1 if a file differs.
"""

import argparse
import contextlib
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from PIL import Image


TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "training")]

import train_autoencoder  # noqa: E402

from mcdiff_commands.main import main as mcdiff  # noqa: E402
from support.annotation_runs import annotate, write_pans  # noqa: E402
from support.sliding_squares import write_squares  # noqa: E402
from support.tiny_models import make_pipeline  # noqa: E402
from support.training_runs import arguments, write_training_data  # noqa: E402


# Kills of one piece of work before it may end.
MAX_KILLS = 4

Work = Callable[[Path], int | None]


def make_work(source: Path) -> dict[str, tuple[Work, tuple[str, ...]]]:
    """Writes what is needed. Returns the kinds of work, each with the patterns of the files that are compared."""
    make_pipeline().save_pretrained(source / "model")
    Image.effect_noise((48, 40), 64).convert("RGB").save(source / "image.png")
    data = write_squares(source / "squares", range(2), size=64)
    (source / "training").mkdir()
    write_training_data(source / "training")
    (source / "videos").mkdir()
    write_pans(source / "videos", ("cat", "coffee"))

    def generate(folder: Path) -> int:
        options = ["--model", source / "model", "--stroke", "5,5 30,20", "--num-frames", 12, "--steps", 2]
        options += ["--output", folder / "a.mp4", "--flow-video", folder / "flow.mp4"]  # Matroska has random parts
        return mcdiff(["generate", str(source / "image.png"), *map(str, options)])

    def evaluate(folder: Path) -> int:
        options = ["--model", source / "model", "--data", data, "--output", folder / "evaluation"]
        options += ["--num-frames", 3, "--strokes", "1,2", "--steps", 1, "--drift-clips", 0]
        return mcdiff(["evaluate", *map(str, options)])

    def train(folder: Path) -> int:
        output = folder / "training"
        changes = {"resume_from_checkpoint": "latest", "checkpointing_steps": 1, "max_train_steps": 6}
        return train_autoencoder.main(arguments(source / "training", "train_autoencoder", output, **changes))

    def annotate_pans(folder: Path) -> None:
        annotate([source / "videos"], folder / "clips", num_workers=1)

    return {
        "generate": (generate, ("**/*",)),
        "annotate": (annotate_pans, ("clips/*.tar",)),
        "train": (train, ("training/vae/*",)),
        "evaluate": (evaluate, ("evaluation/metrics.json",)),
    }


def start(work: Work, folder: Path) -> int:
    """Does the work in a fork of this process. Returns its number."""
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)
        log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 1
        try:
            code = work(folder) or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def wait(process: int, seconds: float) -> int | None:
    """Waits for a process. Returns its status; None if it runs longer than `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return status
        time.sleep(0.002)
    return None


def digests(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="kills of each kind of work (default: 100)")
    parser.add_argument("--only", nargs="*", help="kinds of work (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="another seed kills at other moments (default: 0)")
    args = parser.parse_args()
    generator = random.Random(args.seed)
    faults = 0
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "source")
        source.mkdir()
        for name, (work, patterns) in make_work(source).items():
            if args.only and name not in args.only:
                continue
            expected, seconds = None, 0.0
            kills = trials = 0
            while kills < args.kills or expected is None:
                folder = Path(temporary, f"{name}-{trials}")
                folder.mkdir()
                own_kills = 0
                while True:
                    started = time.monotonic()
                    process = start(work, folder)
                    is_killed = expected is not None and own_kills < MAX_KILLS
                    status = wait(process, generator.uniform(0, 1.1 * seconds) if is_killed else 600)
                    if status is not None:
                        break
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
                    own_kills += 1
                found = digests(folder, patterns)
                if expected is None:
                    expected, seconds = found, time.monotonic() - started
                    is_wrong = status != 0 or not found
                elif own_kills == 0:  # later runs take less time than the first one
                    seconds = min(seconds, time.monotonic() - started)
                    is_wrong = status != 0 or found != expected
                else:
                    is_wrong = status != 0 or found != expected
                if is_wrong:
                    faults += 1
                    log = folder.with_suffix(".log").read_text(errors="replace")[-2000:]
                    print(
                        f"{name}: after {own_kills} kills status {status}, {found}, not {expected}\n{log}", flush=True
                    )
                    if trials == 0:
                        break
                kills, trials = kills + own_kills, trials + 1
            print(f"{name}: {kills} kills in {trials} runs of {seconds:.1f} s", flush=True)
    print(f"{faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
