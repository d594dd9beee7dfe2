# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The jobs of `mcdiff generate --jobs`: which videos to make, which are there already, and the report of all."""

import contextlib
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import typer

from .errors import InputError, checking_input, first_line
from .option_values import MAX_FRAMES, OutputSize, Size, number
from .outputs import check_existing, file_identity


REPORT = "report.jsonl"
# What the report says of a video that a run has begun with, until it is made.
NOT_MADE = "It is not made yet."
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif"}
# Frames of a batch are in memory together. A longer video is made alone, as a stream, in memory that does not grow.
MAX_FRAMES_IN_MEMORY = 256

_size = Size.parser("size", "256 for the shorter side, or 384x256")
# What a line may contain besides `image`, `strokes` and `output`: the parser, and the name in the settings of a clip.
_VALUES: dict[str, tuple[Callable[[str], Any], str]] = {
    "num_frames": (number(int, 2, MAX_FRAMES), "num_frames"),
    "steps": (number(int, 1), "num_inference_steps"),
    "guidance_scale": (number(float, 0), "guidance_scale"),
    "seed": (number(int, 0, 2**64 - 1), "seed"),
    "fps": (number(float, 0, exclusive=True), "fps"),
    "size": (_size, "size"),
    "output_size": (OutputSize.parse, "output_size"),
}


@dataclass(frozen=True)
class Job:
    """One video to make.

    Args:
        image (`Path`): the image.
        strokes (`Path`): its stroke sheet.
        video (`str`): name of the video in the output folder.
        settings (`Mapping`): fields of `ClipSettings` that are given.
        size (`Size`, *optional*): working size; None takes the model's.
        output_size (`OutputSize`, *optional*): size of the frames; None takes that of the image, within limits.
    """

    image: Path
    strokes: Path
    video: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    size: Size | None = None
    output_size: OutputSize | None = None

    def digest(self, model: str) -> str:
        """Identifies the video by the content of the files, the settings and the model."""
        settings = {"video": self.video, "settings": dict(self.settings), "model": model}
        settings |= {"size": repr(self.size), "output_size": repr(self.output_size)}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for path in (self.image, self.strokes):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def kind(self) -> tuple[Any, ...]:
        """Jobs of one kind can be made in a batch. Raises `ValueError` or `OSError` if a file cannot be read."""
        import PIL.Image

        from mcdiff_pipeline.strokes import StrokeSheet  # diffusers is not needed for it, and takes seconds

        with PIL.Image.open(self.image) as image:
            size = (image.size, image.getexif().get(0x0112))  # with the orientation
        sheet = StrokeSheet.load(self.strokes)
        if sheet.camera is not None:
            raise ValueError(f"{self.strokes} has a camera, which jobs do not have: make this video alone.")
        frames = self.settings.get("num_frames") or sheet.num_frames
        others = (self.settings.get(name) for name in ("num_inference_steps", "guidance_scale"))
        return (size, frames, bool(sheet.regions), *others, self.size, self.output_size)


def read_jobs(path: Path, defaults: Mapping[str, Any]) -> list[Job]:
    """
    The jobs of a list, or of a folder.

    Args:
        path (`Path`): a file with one JSON object a line, whose paths are relative to the folder of the file; or a
            folder with images that have their stroke sheets beside them, `cat.jpg` and `cat.json`.
        defaults (`Mapping`): settings, `size` and `output_size` for jobs that do not give them.

    Raises:
        InputError: if there is no job, one is wrong, or two have the same output.
    """
    if path.is_dir():
        images = [one for one in images_in(path) if one.with_suffix(".json").is_file()]
        for first, second in itertools.pairwise(images):
            if first.stem == second.stem:
                raise InputError(
                    f"--jobs: {first.name} and {second.name} in {path} have the same stroke sheet, {first.stem}.json; "
                    "move one away, or write a list of jobs."
                )
        jobs = [_job({"image": one.name, "strokes": f"{one.stem}.json"}, path, defaults, str(one)) for one in images]
    elif path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        jobs = [
            _job(_object(line, f"{path}, line {index}"), path.parent, defaults, f"{path}, line {index}")
            for index, line in enumerate(lines, start=1)
            if line.strip()
        ]
    else:
        raise InputError(f"--jobs: there is no file or folder {path}.")
    if not jobs:
        raise InputError(
            f"--jobs: {path} holds no job; write one JSON object a line, or put images with their stroke sheets "
            "(cat.jpg and cat.json) into the folder."
        )
    names = [job.video for job in jobs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f'--jobs: two jobs write {twice[0]}; give each its own name with "output".')
    return jobs


def images_in(folder: Path) -> list[Path]:
    """The images in a folder, by their names."""
    return sorted(one for one in folder.iterdir() if one.suffix.lower() in IMAGE_SUFFIXES)


def check_job_outputs(path: Path, jobs: Sequence[Job], folder: Path, *, replace: bool | None) -> None:
    """
    Checks that the videos and the report harm no file of the user.

    Args:
        path (`Path`): the list or the folder of the jobs.
        jobs (`Sequence[Job]`): the jobs.
        folder (`Path`): the output folder.
        replace (`bool`, *optional*): whether files that no earlier run has made may be replaced. None asks on a
            terminal, and means no elsewhere.

    Raises:
        InputError: if a file is to be written that is also read, or one exists that may not be replaced.
    """
    read = {file_identity(one) for job in jobs for one in (job.image, job.strokes)} | {file_identity(path)}
    report = folder / REPORT
    outputs = [report, *(folder / job.video for job in jobs)]
    for one in outputs:
        if file_identity(one) in read:
            raise InputError(f"{one} is to be written, but it is also an input; give another name, or another folder.")
    made = read_outcomes(report)
    foreign = [one for one in outputs[1:] if one.name not in made and (one.exists() or one.is_symlink())]
    if report.exists() and not made and report.stat().st_size:
        foreign.insert(0, report)
    check_existing(foreign, replace)


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f'{where} is {line[:40]!r}, but has to be an object such as {{"image": "cat.jpg"}}.')
    return content


def _job(content: dict[str, Any], folder: Path, defaults: Mapping[str, Any], where: str) -> Job:
    allowed = ["image", "strokes", "output", *_VALUES]
    if unknown := sorted(set(content) - set(allowed)):
        raise InputError(f"{where} has {unknown[0]!r}, but may only have {', '.join(allowed)}.")
    files = {}
    for name, default in (
        ("image", None),
        ("strokes", Path(str(content.get("image"))).with_suffix(".json").as_posix()),
    ):
        value = content.get(name, default)
        if not isinstance(value, str) or not (folder / value).is_file():
            raise InputError(f"{where}: {name} is {value!r}, but there is no such file in {folder}.")
        files[name] = folder / value
    video = content.get("output", f"{files['image'].stem}.mp4")
    if not isinstance(video, str) or Path(video).name != video or video.startswith("."):
        raise InputError(f'{where}: output is {video!r}, but has to be a name without a folder, such as "cat.mp4".')
    values = dict(defaults)
    for name, (parse, setting) in _VALUES.items():
        if name in content:
            try:
                values[setting] = parse(str(content[name]))
            except typer.BadParameter as error:
                raise InputError(f"{where}: {name}: {error.message}.") from None
    size, output_size = values.pop("size", None), values.pop("output_size", None)
    with checking_input(f"{where}: "):
        from mcdiff_pipeline.video import VideoWriter

        VideoWriter(Path(video), values.get("fps", 8))  # checks the suffix, and opens no file
    return Job(files["image"], files["strokes"], video, values, size, output_size)


def batches_of(jobs: Sequence[Job], batch_size: int, workers: int = 1) -> list[list[Job]]:
    """
    Jobs of one kind together, in the order of the first.

    Args:
        jobs (`Sequence[Job]`): the jobs.
        batch_size (`int`): most jobs in a batch. Batches of long videos are smaller, so that they fit into memory.
        workers (`int`, defaults to 1): processes that share the batches. Each gets as many, even if they are smaller
            then: large batches that leave a process idle take longer.
    """
    groups: dict[Any, list[Job]] = {}
    limits: dict[Any, int] = {}
    for job in jobs:
        try:
            kind: Any = job.kind()
            limits[kind] = max(1, min(batch_size, MAX_FRAMES_IN_MEMORY // kind[1]))
        except Exception:  # a file is wrong; whoever makes the video says how
            kind = job.video
            limits[kind] = 1
        groups.setdefault(kind, []).append(job)
    batches = []
    for kind, group in groups.items():
        number_of_batches = math.ceil(math.ceil(len(group) / limits[kind]) / workers) * workers
        number_of_batches = min(number_of_batches, len(group))
        batches += [group[index::number_of_batches] for index in range(number_of_batches)]
    return batches


@dataclass(frozen=True)
class Outcome:
    """What became of a job, as a line of the report states it.

    Args:
        video (`str`): name of the video.
        digest (`str`): see [`Job.digest`].
        error (`str`, *optional*): why there is no video.
        num_frames (`int`): frames of the video.
        seconds (`float`): time for it, its share of a batch.
        warnings (`list[str]`): what the pipeline warned of.
    """

    video: str
    digest: str
    error: str | None = None
    num_frames: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


def read_outcomes(report: Path) -> dict[str, Outcome]:
    """The outcomes in a report, by the video; none if there is no file. Lines that are not of a report, or that a run
    could not finish, are left out."""
    outcomes: dict[str, Outcome] = {}
    if not report.is_file():
        return outcomes
    for line in report.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, TypeError):
            outcome = Outcome(**json.loads(line))
            outcomes[outcome.video] = outcome
    return outcomes


class Report:
    """The report in an output folder, with a line for each job.

    A job that is not done has a line, too, so that a video that a killed run had just finished is known to be its own.

    Args:
        folder (`Path`): the output folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / REPORT
        self.outcomes = read_outcomes(self.path)
        self._file = self._rewritten()

    def is_done(self, job: Job, digest: str) -> bool:
        """Whether the video is there, from the same files, settings and model."""
        outcome = self.outcomes.get(job.video)
        is_same = outcome is not None and outcome.error is None and outcome.digest == digest
        return is_same and (self.path.parent / job.video).is_file()

    def begin(self, digests: Mapping[str, str]) -> None:
        """Adds lines for videos that are to be made, with their digests by their names."""
        for video, digest in digests.items():
            self.outcomes[video] = Outcome(video, digest, NOT_MADE)
        self._write([self.outcomes[video] for video in digests])

    def add(self, outcome: Outcome) -> None:
        """Adds a line, which survives a crash of the machine."""
        self.outcomes[outcome.video] = outcome
        self._write([outcome])

    def close(self, jobs: Sequence[Job]) -> None:
        """Leaves one line for each video, those of these jobs first and in their order, and closes the file."""
        names = [job.video for job in jobs if job.video in self.outcomes]
        self.outcomes = {name: self.outcomes[name] for name in [*names, *self.outcomes]}
        self._file.close()
        self._rewritten().close()

    def _rewritten(self) -> IO[str]:
        """Writes the file with one line for each video, and opens it for more."""
        from mcdiff_pipeline.atomic_files import atomic_path

        with atomic_path(self.path) as unfinished:
            unfinished.write_text(_lines(self.outcomes.values()), encoding="utf-8")
        return open(self.path, "a", encoding="utf-8")

    def _write(self, outcomes: Iterable[Outcome]) -> None:
        self._file.write(_lines(outcomes))
        self._file.flush()
        os.fsync(self._file.fileno())


def _lines(outcomes: Iterable[Outcome]) -> str:
    return "".join(json.dumps(asdict(one)) + "\n" for one in outcomes)


@contextlib.contextmanager
def open_report(folder: Path, jobs: Sequence[Job]) -> Iterator[Report]:
    """The report of a run, which keeps other runs out of the folder. It is complete when the block ends, however it
    ends.

    Raises:
        InputError: if another run works in the folder.
    """
    from mcdiff_pipeline.folder_lock import folder_lock

    with contextlib.ExitStack() as stack:
        with checking_input():
            stack.enter_context(folder_lock(folder))
        report = Report(folder)
        stack.callback(report.close, jobs)
        yield report
