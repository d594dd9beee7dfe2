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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


REPOSITORY = Path(__file__).resolve().parents[2]


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
        outputs (`tuple[str, ...]`): files and folders that it makes, relative to the working folder.
        inputs (`tuple[str, ...]`): names of stages whose outputs it reads. Stages that the recipe leaves out do not
            count.
        files (`Callable`, *optional*): further files and folders that it reads, from the settings.
        share (`float`): its part of the budget by the clock. The stages of a group, which run at the same time, have
            the same share. A stage without a share takes the time that it needs.
        group (`str`, *optional*): neighbors with the same group run side by side.
        minutes (`float`): without a share, about how long it takes on two cores; only for the plan.
        is_settled (`bool`): whether it makes the same whatever its arguments are, which only say where its parts come
            from. Then other arguments do not make it outdated.
    """

    name: str
    commands: Callable[[Any], list[Command]]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    files: Callable[[Any], list[Path]] | None = None
    share: float = 0.0
    group: str | None = None
    minutes: float = 0.0
    is_settled: bool = False


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
        if stage.is_settled:
            return f"settled-{stage.name}"
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
    """The plan as text: stages, minutes, what is done, the commands, and the minutes of all that is to do."""
    rows = []
    total = 0.0
    for group in recipe.groups():
        planned = recipe.planned_minutes(group)
        lengths = [0.0]
        for stage in group:
            minutes = planned if stage.share else stage.minutes
            state = "done" if recipe.is_done(stage) else "to do" if recipe.is_chosen(stage) else "not chosen"
            if state == "to do":
                lengths.append(minutes)
            about = "" if stage.share else "about "
            beside = f", beside {', '.join(one.name for one in group if one is not stage)}" if len(group) > 1 else ""
            rows.append(f"{stage.name}: {state}, {about}{minutes:.1f} min{beside}")
            for command in recipe.made[stage.name]:
                own = planned / recipe.rounds(group)
                rows += [f"    {shown(line, command, own, line is command.lines[-1])}" for line in command.lines]
        total += max(lengths)
    return "\n".join([*rows, f"all that is to do: about {total:.1f} min; {recipe.jobs} commands at a time"])


def shown(line: Sequence[str], command: Command, minutes: float, is_last: bool) -> str:
    """A line of a command as one would type it."""
    limit = [command.minutes_argument, f"{minutes:.2f}"] if command.minutes_argument and is_last else []
    return shlex.join([*line, *limit]).replace(f"{REPOSITORY}/", "")
