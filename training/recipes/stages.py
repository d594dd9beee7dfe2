"""Stages of a recipe: commands that are run in order, or side by side, within a budget of minutes.

A stage is data: what it needs, what it makes, its commands and its share of the budget. Each finished command leaves a
stamp, so the same recipe goes on where it was stopped. The name of a stage's state is a hash of its arguments, of the
files that it reads and of the states of the stages before it. If one of these changes, the stage is made again, and
what it had made is moved to `WORK_DIR/outdated`.
"""

import hashlib
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


REPOSITORY = Path(__file__).resolve().parents[2]
# Seconds between two looks at the running commands, and between two lines about them.
POLL_SECONDS, REPORT_SECONDS = 0.1, 60.0
# Seconds that a command gets to write a checkpoint before it is killed.
STOP_SECONDS = 60.0


class StageFailed(Exception):
    """A command of a stage failed; the message names the stage and its log."""


@dataclass(frozen=True)
class Command:
    """One command of a stage; commands of one stage do not depend on each other.

    Args:
        name (`str`): unique in the stage.
        lines (`tuple[tuple[str, ...], ...]`): argument lists, run in turn. `python` stands for this interpreter.
        minutes_argument (`str`, *optional*): argument of the last line that takes the minutes of the command.
        restarted (`Path`, *optional*): folder that is removed before the command is started, since it cannot go on
            where it was; None for a command that can.
        accompanies (`bool`): whether it runs only as long as other commands of its group do.
    """

    name: str
    lines: tuple[tuple[str, ...], ...]
    minutes_argument: str | None = None
    restarted: Path | None = None
    accompanies: bool = False


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe.

    Args:
        name (`str`): name of the stage, of its stamps and of its log.
        commands (`Callable`): makes the commands from the settings of the recipe.
        outputs (`tuple[str, ...]`): files and folders in the working folder that it makes.
        inputs (`tuple[str, ...]`): names of stages whose outputs it reads. Stages that the recipe leaves out do not
            count.
        files (`Callable`, *optional*): further files and folders that it reads, from the settings.
        share (`float`): its part of the budget by the clock. The stages of a group, which run at the same time, have
            the same share. A stage without a share takes the time that it needs.
        group (`str`, *optional*): neighbors with the same group run side by side.
    """

    name: str
    commands: Callable[[Any], list[Command]]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    files: Callable[[Any], list[Path]] | None = None
    share: float = 0.0
    group: str | None = None


@dataclass
class Recipe:
    """Stages with the settings that their commands are made from.

    Args:
        stages (`Sequence[Stage]`): in order.
        settings (`Any`): passed to `Stage.commands` and `Stage.files`.
        work_dir (`Path`): folder of all outputs, stamps and logs.
        budget_minutes (`float`): time for all stages that have a share.
        jobs (`int`): commands that run at the same time.
        chosen (`Sequence[str]`, *optional*): names of the stages to run; None for all.
        is_deadline (`bool`): whether the budget ends with the clock: stages that are limited by minutes get what is
            left, and another budget does not make anything outdated.
        environment (`dict[str, str]`): variables that are set for all commands.

    Raises:
        ValueError: if the budget, the number of jobs or a name is impossible.
    """

    stages: Sequence[Stage]
    settings: Any
    work_dir: Path
    budget_minutes: float
    jobs: int = 1
    chosen: Sequence[str] | None = None
    is_deadline: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.budget_minutes > 0 and math.isfinite(self.budget_minutes)):
            raise ValueError(f"--budget_minutes is {self.budget_minutes:g}; it must be more than 0.")
        if self.jobs < 1:
            raise ValueError(f"--jobs is {self.jobs}; it must be 1 or more.")
        names = [stage.name for stage in self.stages]
        unknown = [name for name in self.chosen or () if name not in names]
        if unknown:
            raise ValueError(f"--stage {unknown[0]} is not in this recipe; its stages are {', '.join(names)}.")
        self.made = {stage.name: stage.commands(self.settings) for stage in self.stages}
        self.keys: dict[str, str] = {}
        for stage in self.stages:
            self.keys[stage.name] = self._key(stage)

    def groups(self) -> list[list[Stage]]:
        """All stages in order; neighbors of one group together."""
        groups: list[list[Stage]] = []
        for stage in self.stages:
            if groups and stage.group is not None and groups[-1][0].group == stage.group:
                groups[-1].append(stage)
            else:
                groups.append([stage])
        return groups

    def is_chosen(self, stage: Stage) -> bool:
        return self.chosen is None or stage.name in self.chosen

    def stamp(self, stage: Stage, command: Command) -> Path:
        return self.work_dir / "stamps" / stage.name / f"{command.name}.json"

    def log(self, stage: Stage) -> Path:
        return self.work_dir / "logs" / f"{stage.name}.log"

    def is_finished(self, stage: Stage, command: Command) -> bool:
        """Whether a command is done with the present arguments and inputs."""
        try:
            return json.loads(self.stamp(stage, command).read_text())["key"] == self.keys[stage.name]
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def is_done(self, stage: Stage) -> bool:
        """Whether all commands are done and all outputs are there."""
        waited_for = [command for command in self.made[stage.name] if not command.accompanies]
        if not waited_for:  # it only accompanies the others of its group
            others = next(group for group in self.groups() if stage in group)
            return all(self.is_done(other) for other in others if other is not stage)
        return all(self.is_finished(stage, command) for command in waited_for) and all(
            (self.work_dir / output).exists() for output in stage.outputs
        )

    def rounds(self, group: Sequence[Stage]) -> int:
        """How many commands limited by minutes run one after the other in a group."""
        limited = [one for stage in group for one in self.made[stage.name] if one.minutes_argument is not None]
        return max(1, math.ceil(len(limited) / self.jobs))

    def planned_minutes(self, group: Sequence[Stage]) -> float:
        """The part of the budget by the clock of a group of stages."""
        groups = self.groups()
        if self.is_deadline:  # the budget is for what is still to be done
            groups = [one for one in groups if any(self.is_chosen(s) and not self.is_done(s) for s in one)]
        total = sum(one[0].share for one in groups)
        return self.budget_minutes * group[0].share / total if total else 0.0

    def _key(self, stage: Stage) -> str:
        """The hash of a stage's arguments, of the files that it reads and of the stages before it."""
        described: list[Any] = [
            [line for line in command.lines] for command in self.made[stage.name] if not command.accompanies
        ]
        text = json.dumps(described).replace(json.dumps(str(self.work_dir))[1:-1], "WORK_DIR")
        parts = [text, *(self.keys.get(name, "") for name in stage.inputs)]
        if stage.share and not self.is_deadline:
            group = next(group for group in self.groups() if stage in group)
            if self.planned_minutes(group):
                parts.append(f"{self.planned_minutes(group) / self.rounds(group):.3f}")
        for path in stage.files(self.settings) if stage.files else ():
            parts.append(hash_of_files(path))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def hash_of_files(path: Path) -> str:
    """Hash of a file, or of the names and contents of all files in a folder.

    Raises:
        ValueError: if there is nothing.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; name a file or folder that does.")
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.relative_to(path).as_posix().encode())
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that appears under its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, path)


def describe(recipe: Recipe) -> str:
    """The plan as text: stages, minutes, what is done, and the commands."""
    rows = []
    for group in recipe.groups():
        minutes = recipe.planned_minutes(group)
        for stage in group:
            state = "done" if recipe.is_done(stage) else "to do" if recipe.is_chosen(stage) else "not chosen"
            length = f"{minutes:.1f} min" if stage.share else "as long as it takes"
            beside = f", beside {', '.join(one.name for one in group if one is not stage)}" if len(group) > 1 else ""
            rows.append(f"{stage.name}: {state}, {length}{beside}")
            for command in recipe.made[stage.name]:
                own = minutes / recipe.rounds(group)
                rows += [f"    {shown(line, command, own, line is command.lines[-1])}" for line in command.lines]
    return "\n".join(rows)


def shown(line: Sequence[str], command: Command, minutes: float, is_last: bool) -> str:
    """A line of a command as one would type it."""
    limit = [command.minutes_argument, f"{minutes:.2f}"] if command.minutes_argument and is_last else []
    return shlex.join([*line, *limit]).replace(f"{REPOSITORY}/", "")


class Process:
    """A running command: its lines in turn, each in a process group of its own, with its output in a log."""

    def __init__(self, recipe: Recipe, stage: Stage, command: Command, minutes: float) -> None:
        self.stage, self.command, self.minutes = stage, command, minutes
        self.started, self.waiting = time.monotonic(), list(command.lines)
        self._environment = os.environ | recipe.environment
        log = recipe.log(stage)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("ab")
        if command.restarted is not None:
            shutil.rmtree(command.restarted, ignore_errors=True)
        self._start_line()

    def _start_line(self) -> None:
        line = self.waiting.pop(0)
        text = shown(line, self.command, self.minutes, not self.waiting)
        self._log.write(f"\n$ {text}\n".encode())
        self._log.flush()
        arguments = [sys.executable if word == "python" else word for word in line[:1]] + list(line[1:])
        if self.command.minutes_argument is not None and not self.waiting:
            arguments += [self.command.minutes_argument, f"{self.minutes:.3f}"]
        self._process = subprocess.Popen(
            arguments,
            cwd=REPOSITORY,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def poll(self) -> int | None:
        """The exit status; None while it runs. Starts the next line when one is done."""
        status = self._process.poll()
        if status == 0 and self.waiting:
            self._start_line()
            return None
        if status is not None:
            self._log.close()
        return status

    def send(self, number: int) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it ended in time."""
        try:
            self._process.wait(max(seconds, 0.01))
        except subprocess.TimeoutExpired:
            return False
        return True


def stop(processes: Sequence[Process]) -> None:
    """Ends commands as Ctrl-C does, so that they write checkpoints; kills those that do not end."""
    for process in processes:
        process.send(signal.SIGINT)
    end = time.monotonic() + STOP_SECONDS
    for process in processes:
        if not process.wait(end - time.monotonic()):
            process.send(signal.SIGKILL)
            process.wait(5)


def run(recipe: Recipe) -> None:
    """Runs the chosen stages that are not done.

    Raises:
        StageFailed: if a command fails; the others of its group are stopped first.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when all commands have ended.
    """

    def interrupt(number, frame):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    end = time.monotonic() + 60 * recipe.budget_minutes
    try:
        for group in recipe.groups():
            stages = [stage for stage in group if recipe.is_chosen(stage)]
            for stage in stages:
                if recipe.is_done(stage):
                    print(f"{stage.name}: done already", flush=True)
            stages = [stage for stage in stages if not recipe.is_done(stage)]
            if stages:
                run_group(recipe, group, stages, end)
    finally:
        signal.signal(signal.SIGTERM, previous)


def minutes_of(recipe: Recipe, group: Sequence[Stage], end: float) -> float:
    """The minutes of each command of a group that is limited by minutes."""
    minutes = recipe.planned_minutes(group)
    if recipe.is_deadline:
        groups = recipe.groups()
        later = groups[[one[0].name for one in groups].index(group[0].name) + 1 :]
        kept = sum(
            recipe.planned_minutes(one)
            for one in later
            if any(recipe.is_chosen(stage) and not recipe.is_done(stage) for stage in one)
        )
        minutes = max((end - time.monotonic()) / 60 - kept, 0.02)
    return minutes / recipe.rounds(group)


def prepare(recipe: Recipe, stage: Stage) -> None:
    """Moves aside what a stage made with other arguments or inputs, and says which it is made with now."""
    folder = recipe.work_dir / "stamps" / stage.name
    started = folder / "started.json"
    key = None
    if started.is_file():
        key = json.loads(started.read_text()).get("key")
    if key != recipe.keys[stage.name]:
        kept = recipe.work_dir / "outdated" / f"{stage.name}-{key or 'unknown'}-{time.time_ns()}"
        for output in stage.outputs:
            path = recipe.work_dir / output
            if path.exists():
                (kept / output).parent.mkdir(parents=True, exist_ok=True)
                path.rename(kept / output)
                print(f"{stage.name}: {output} was made with other arguments; it is now in {kept}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        write_whole(started, {"key": recipe.keys[stage.name]})


def run_group(recipe: Recipe, group: Sequence[Stage], stages: Sequence[Stage], end: float) -> None:
    """Runs the unfinished commands of stages that may run side by side, `recipe.jobs` at a time."""
    minutes = minutes_of(recipe, group, end)
    for stage in stages:
        prepare(recipe, stage)
        length = f", {minutes * recipe.rounds(group):.1f} min" if stage.share else ""
        print(f"{stage.name}: started{length}; log: {recipe.log(stage)}", flush=True)
    jobs = [(stage, command) for stage in stages for command in recipe.made[stage.name]]
    waiting = [job for job in jobs if not job[1].accompanies and not recipe.is_finished(*job)]
    running: list[Process] = []
    beside: list[Process] = []
    try:
        beside += [Process(recipe, *job, minutes) for job in jobs if job[1].accompanies]
        begun = told = time.monotonic()
        while waiting or running:
            while waiting and len(running) < recipe.jobs:
                running.append(Process(recipe, *waiting.pop(0), minutes))
            time.sleep(POLL_SECONDS)
            for process in list(running):
                status = process.poll()
                if status is not None:
                    running.remove(process)
                    finish(recipe, process, status)
            if time.monotonic() - told >= REPORT_SECONDS:
                told = time.monotonic()
                tell(recipe, stages, len(waiting), running, (told - begun) / 60, minutes * recipe.rounds(group))
    finally:
        stop([*running, *beside])
    for stage in stages:
        missing = [output for output in stage.outputs if not (recipe.work_dir / output).exists()]
        if missing:
            raise StageFailed(
                f"Stage {stage.name} ended without {missing[0]}; see its log {recipe.log(stage)}, then run the same "
                "command again."
            )
        print(f"{stage.name}: done", flush=True)


def finish(recipe: Recipe, process: Process, status: int) -> None:
    """Stamps a command that ended well.

    Raises:
        StageFailed: if it did not.
    """
    stage, command = process.stage, process.command
    if status != 0:
        raise StageFailed(
            f"Stage {stage.name} failed ({command.name}, exit status {status}); see its log {recipe.log(stage)}, then "
            "run the same command to go on from there."
        )
    lines = [shown(line, command, process.minutes, line is command.lines[-1]) for line in command.lines]
    taken = (time.monotonic() - process.started) / 60
    content = {"key": recipe.keys[stage.name], "minutes": round(taken, 3), "commands": lines}
    write_whole(recipe.stamp(stage, command), content)


def tell(
    recipe: Recipe, stages: Sequence[Stage], waiting: int, running: Sequence[Process], passed: float, planned: float
) -> None:
    """One line about what runs and how long it still takes."""
    names = ", ".join(f"{one.stage.name} {one.command.name}" for one in running)
    left = f"about {max(planned - passed, 0):.0f} min left" if stages[0].share else "no limit"
    more = f", {waiting} more wait" if waiting else ""
    print(f"after {passed:.0f} min: {names}{more}; {left}", flush=True)
