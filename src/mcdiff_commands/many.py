# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff generate --jobs`: many videos, resumable, in several processes or on a Ray cluster."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import InputError, first_line
from .model import default_dtype, device_of, find_model
from .option_values import number
from .outputs import check_output_folder
from .telling import Teller


PANEL = "Many videos"

JobsOption = Annotated[
    Path | None,
    typer.Option(
        "--jobs",
        metavar="FILE|DIR",
        help="Make many videos: a file with one JSON object a line (image, strokes, output, num_frames, steps, "
        "guidance_scale, seed, fps, size, output_size), or a folder of images with stroke sheets of the same name.",
        rich_help_panel=PANEL,
    ),
]
BatchSizeOption = Annotated[
    int,
    typer.Option(
        "--batch-size",
        parser=number(int, 1),
        metavar="N",
        help="Videos of one size that are made together (default: 4).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--num-workers",
        parser=number(int, 1),
        metavar="N",
        help="Processes, each with the model (default: one per core; one on a GPU).",
        rich_help_panel=PANEL,
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="Run on this Ray cluster, for example auto or HOST:6379. All its machines must see the jobs, the output "
        "and the model under the same paths.",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class Running:
    """The options that tell with what and where videos are made, as they are given."""

    model: str | None
    device: str | None
    dtype: str | None
    engine: str
    batch_size: int
    num_workers: int | None
    ray_address: str | None


def generate_all(
    teller: Teller,
    path: Path,
    output: Path,
    defaults: Mapping[str, Any],
    how: Running,
    plan: Callable[..., Any],
    *,
    replace: bool | None,
) -> None:
    """
    Makes the videos of all jobs that are not made yet, and writes the report.

    Args:
        teller (`Teller`): tells how many there are, and which failed.
        path (`Path`), defaults (`Mapping`): see [`~mcdiff_commands.jobs.read_jobs`].
        output (`Path`): folder of the videos and of the report.
        how (`Running`): the model, and where it runs.
        plan (`Callable`): see [`~mcdiff_commands.job_makers.Settings`].
        replace (`bool`, *optional*): see [`~mcdiff_commands.jobs.check_job_outputs`].

    Raises:
        InputError: if a job is wrong, or there is no such model or cluster.
        typer.Exit: with exit code 1, if a video could not be made.
    """
    from mcdiff_pipeline.processor import available_cores
    from mcdiff_pipeline.progress import progress_bar

    from .job_makers import Settings, make_here, make_on_ray, prepare_processes
    from .jobs import batches_of, check_job_outputs, images_in, open_report, read_jobs

    check_output_folder(output)
    jobs = read_jobs(path, defaults)
    check_job_outputs(path, jobs, output, replace=replace)
    if path.is_dir():
        left_out = sorted({one.name for one in images_in(path)} - {job.image.name for job in jobs})
        if left_out:
            teller.say(f"Without a stroke sheet, and so left out: {', '.join(left_out)}", left_out=left_out)
    location = find_model(how.model)
    wanted = how.num_workers or default_workers(how.device)
    if wanted > 1 and how.ray_address is None:
        prepare_processes()
    dtype = how.dtype or default_dtype(how.device)
    output.mkdir(parents=True, exist_ok=True)
    with open_report(output, jobs) as report:
        digests = {job.video: job.digest(f"{location.name} {dtype}") for job in jobs}
        missing = [job for job in jobs if not report.is_done(job, digests[job.video])]
        report.begin({job.video: digests[job.video] for job in missing})
        teller.say(f"{len(jobs)} videos, of which {len(jobs) - len(missing)} are in {output}", videos=len(jobs))
        grouped = batches_of(missing, how.batch_size, wanted)
        batches = [[(job, digests[job.video]) for job in batch] for batch in grouped]
        workers = min(wanted, max(len(batches), 1))
        threads = max(1, available_cores() // workers)
        settings = Settings(
            plan, location.path, location.name, dtype, how.device, output.absolute(), threads, how.engine
        )
        if how.ray_address is None:
            made = make_here(batches, settings, workers)
        else:
            made = make_on_ray(batches, settings, how.num_workers, how.ray_address)
        try:
            with (
                contextlib.closing(made),
                progress_bar("Videos", len(jobs), initial=len(jobs) - len(missing), unit="video") as bar,
            ):
                for outcomes in made:
                    for outcome in outcomes:
                        report.add(outcome)
                        bar.update()
        except (ImportError, ConnectionError) as error:
            raise InputError(f"--ray-address: {first_line(error)}") from error
        except KeyboardInterrupt:
            left = sum(not report.is_done(job, digests[job.video]) for job in jobs)
            raise KeyboardInterrupt(
                f"stopped with {len(jobs) - left} of {len(jobs)} videos in {output}; the same command continues."
            ) from None
        failed = [report.outcomes[job.video] for job in jobs if report.outcomes[job.video].error is not None]
    for one in failed:
        teller.warn(f"{one.video}: {one.error}")
    teller.say(
        f"{len(jobs) - len(failed)} of {len(jobs)} videos are in {output}; {report.path} describes each",
        made=len(jobs) - len(failed),
        report=str(report.path),
    )
    if failed:
        teller.finish()
        raise typer.Exit(1)


def default_workers(device: str | None) -> int:
    """One process for each core that may be used, which takes less time than one process with as many threads; one
    process on other devices."""
    from mcdiff_pipeline.processor import available_cores

    return available_cores() if device_of(device).startswith("cpu") else 1
