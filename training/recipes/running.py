"""Runs the stages of a recipe: commands one after the other or side by side, with logs, stamps and a way to stop."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stages import REPOSITORY, Command, Recipe, Stage, StageFailed, shown, write_whole


# Seconds between two looks at the running commands, and between two lines about them.
POLL_SECONDS, REPORT_SECONDS = 0.1, 60.0
# Seconds that a command gets to write a checkpoint before it is killed.
STOP_SECONDS = 60.0


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


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM through at the end of the block: no command may start without being noted."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for number in received:
            signal.raise_signal(number)


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
            if path.exists() and path.is_relative_to(recipe.work_dir):
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
        with interrupts_held():
            for job in jobs:
                if job[1].accompanies:
                    beside.append(Process(recipe, *job, minutes))
        begun = told = time.monotonic()
        while waiting or running:
            with interrupts_held():
                while waiting and len(running) < recipe.jobs:
                    running.append(Process(recipe, *waiting.pop(0), minutes))
            time.sleep(POLL_SECONDS)
            with interrupts_held():
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
