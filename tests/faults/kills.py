"""Kills work by SIGKILL at random moments, starts it again, and compares files: `python tests/faults/kills.py`.

What was killed must end with the same bytes as work that was never killed, and leave nothing unfinished. Generating,
annotating, training and evaluating are tried with tiny models and clips, in forks of this process, which has imported
everything. The exit code is 1 if a file differs.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
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
    data = write_squares(source / "squares", range(5), size=64)
    (source / "training").mkdir()
    write_training_data(source / "training")
    (source / "videos").mkdir()
    write_pans(source / "videos", ("cat", "coffee"))

    def generate(folder: Path) -> int:
        options = ["--model", source / "model", "--stroke", "5,5 30,20", "--num-frames", 12, "--steps", 2]
        # Matroska has random parts; what was killed after its last file is made again
        options += ["--output", folder / "a.mp4", "--flow-video", folder / "flow.mp4", "--yes"]
        return mcdiff(["generate", str(source / "image.png"), *map(str, options)])

    def evaluate(folder: Path) -> int:
        options = ["--model", source / "model", "--data", data, "--output", folder / "evaluation"]
        options += ["--num-frames", 3, "--strokes", "1,2", "--steps", 1, "--batch-size", 2]
        options += ["--drift-clips", 1, "--drift-frames", 4, "--num-samples", 2]
        return mcdiff(["evaluate", *map(str, options)])

    def train(folder: Path) -> int:
        output = folder / "training"
        changes = {"resume_from_checkpoint": "latest", "checkpointing_steps": 1, "max_train_steps": 6}
        return train_autoencoder.main(arguments(source / "training", "train_autoencoder", output, **changes))

    def annotate_pans(folder: Path) -> None:
        annotate([source / "videos"], folder / "clips", num_workers=1)

    return {
        "generate": (generate, ("**/*",)),
        "annotate": (annotate_pans, ("**/*",)),
        "train": (train, ("training/vae/*",)),  # its log has times
        "evaluate": (evaluate, ("**/*",)),
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


class Trials:
    """Runs of one kind of work, which are killed and started again.

    Args:
        name (`str`): name of the work.
        work (`Work`): does it in a folder.
        patterns (`tuple[str, ...]`): which files are compared.
        folder (`Path`): where it is done.
        generator (`random.Random`): decides when it is killed.
    """

    def __init__(
        self, name: str, work: Work, patterns: tuple[str, ...], folder: Path, generator: random.Random
    ) -> None:
        self.name, self.work, self.patterns, self.folder, self.generator = name, work, patterns, folder, generator
        self.runs = self.kills = self.faults = 0
        self.seconds = 0.0
        self.expected: dict[str, str] | None = None

    def run(self) -> bool:
        """Does the work, killed up to `MAX_KILLS` times unless it is the first run. Returns whether it is right."""
        folder = self.folder / f"{self.name}-{self.runs}"
        folder.mkdir()
        kills, status = 0, None
        while status is None:
            started = time.monotonic()
            process = start(self.work, folder)
            is_killed = self.expected is not None and kills < MAX_KILLS
            status = wait(process, self.generator.uniform(0, 1.1 * self.seconds) if is_killed else 900)
            if status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                kills += 1
        seconds, found = time.monotonic() - started, digests(folder, self.patterns)
        if self.expected is None:
            self.expected, self.seconds = found, seconds
        elif kills == 0:  # later runs take less time than the first one
            self.seconds = min(self.seconds, seconds)
        self.runs, self.kills = self.runs + 1, self.kills + kills
        is_right = status == 0 and bool(found) and found == self.expected
        if is_right:
            shutil.rmtree(folder)
        else:
            self.faults += 1
            differing = sorted(dict(found.items() ^ self.expected.items()))
            log = folder.with_suffix(".log").read_text(errors="replace")[-2000:]
            print(f"{self.name}: after {kills} kills status {status}, other: {differing}\n{log}", flush=True)
        return is_right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="kills of each kind of work (default: 100)")
    parser.add_argument("--only", nargs="*", help="kinds of work (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="another seed kills at other moments (default: 0)")
    args = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = folder / "source"
        source.mkdir()
        for name, (work, patterns) in make_work(source).items():
            if args.only and name not in args.only:
                continue
            trials = Trials(name, work, patterns, folder, random.Random(args.seed))
            if trials.run():
                while trials.kills < args.kills:
                    trials.run()
                    print(f"{name}: {trials.kills} kills in {trials.runs} runs, {trials.faults} faults", flush=True)
            faults += trials.faults
            print(f"{name}: {trials.kills} kills in {trials.runs} runs of {trials.seconds:.1f} s", flush=True)
    print(f"{faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
