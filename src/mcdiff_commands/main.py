# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The `mcdiff` command: its commands in groups, and its exit codes.

Exit codes: 0 done, 1 failed, 2 wrong input, 130 stopped by Ctrl-C or SIGTERM. An error in the input is reported in
one sentence: before the model is loaded, or before the first frame if the check needs the model.
"""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import annotate, dataset, evaluate, export, flow, generate, grid, info, push, segment, stroke_files, studio
from .errors import InputError, first_line
from .typer_classes import Command, CommandGroup, Stopped


VIDEO, MODELS, DATA = "Make a video", "Models", "Data and measuring"

app = typer.Typer(
    cls=CommandGroup,
    help="From one image and a few strokes to a video.",
    epilog="`mcdiff COMMAND --help` describes each command.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(cls=Command, epilog=generate.EPILOG, rich_help_panel=VIDEO)(generate.generate)
app.command(cls=Command, epilog=studio.EPILOG, rich_help_panel=VIDEO)(studio.studio)
app.command(cls=Command, epilog=flow.EPILOG, rich_help_panel=VIDEO)(flow.flow)
app.command(cls=Command, epilog=segment.EPILOG, rich_help_panel=VIDEO)(segment.segment)
app.command(cls=Command, epilog=grid.EPILOG, rich_help_panel=VIDEO)(grid.grid)
app.add_typer(stroke_files.app, name="strokes", rich_help_panel=VIDEO)
app.command(cls=Command, rich_help_panel=MODELS)(info.info)
app.command(cls=Command, epilog=export.EPILOG, rich_help_panel=MODELS)(export.export)
app.command(cls=Command, epilog=push.EPILOG, rich_help_panel=MODELS)(push.push)
app.command(cls=Command, epilog=annotate.EPILOG, rich_help_panel=DATA)(annotate.annotate)
app.command(cls=Command, epilog=evaluate.EPILOG, rich_help_panel=DATA)(evaluate.evaluate)
app.add_typer(dataset.app, name="dataset", rich_help_panel=DATA)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        import importlib.metadata

        print(f"mcdiff-pipeline {importlib.metadata.version('mcdiff-pipeline')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments (`list[str]`, *optional*): its arguments; None takes those of the process.

    Returns:
        `int`: the exit code.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["mcdiff", *arguments[:1]])
    share_cores()
    try:
        with sigterm_as_interrupt():
            return app(arguments, prog_name="mcdiff", standalone_mode=False) or 0
    except typer.TyperException as error:
        code, message = 2, usage_mistake(error, command)
    except InputError as error:
        code, message = 2, f"{command}: {error}"
    except (Stopped, KeyboardInterrupt) as error:
        code, message = 130, f"{command}: {str(error) or 'stopped.'}"
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        code, message = 1, f"{command}: failed: {_failure(error)}"
    print(message, file=sys.stderr)
    return code


def _failure(error: Exception) -> str:
    """What a message says of an error that is not one of the input."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room, then give the same command again."
    return f"{type(error).__name__}: {first_line(error)}"


def share_cores() -> None:
    """Lets the threads of PyTorch sleep while they wait, if the machine is busy. PyTorch must not be imported before.

    By default they spin, so that other programs on the same cores stop them all: with two threads on two cores and a
    load of 17, a frame of 128 x 128 took 13 s, and 0.4 s with this number of turns (one thread: 0.25 s).
    """
    if hasattr(os, "getloadavg") and "OMP_WAIT_POLICY" not in os.environ:
        if os.getloadavg()[0] > (os.cpu_count() or 1) / 2:
            os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM keep what Ctrl-C keeps. Both reach the main thread only."""

    def stop(*_: object) -> None:
        on_interrupt = signal.getsignal(signal.SIGINT)
        if callable(on_interrupt):
            on_interrupt(signal.SIGINT, None)
        else:  # a job in the background ignores Ctrl-C, but not SIGTERM
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def usage_mistake(error: typer.TyperException, command: str) -> str:
    """One sentence about a wrong argument. `command` is named if Typer does not know which command it belongs to."""
    context = getattr(error, "ctx", None)
    if context is not None:
        command = context.command_path
    message = error.format_message().replace("Value error, ", "").rstrip(".")  # a prefix of pydantic
    return f"{command}: {message} (`{command} --help` shows what is allowed)"


def parse(arguments: list[str]) -> dict[str, Any]:
    """The values of a command's arguments and options, by the names of its parameters. Nothing is run.

    Raises:
        InputError: if an argument is wrong.
    """
    command, path, rest = typer.main.get_command(app), "mcdiff", list(arguments)
    while isinstance(command, TyperGroup):
        if not rest or rest[0] not in command.commands:
            raise InputError(f"{path}: there is no command {' '.join(rest[:1])!r} (`{path} --help` lists them)")
        command, path, rest = command.commands[rest[0]], f"{path} {rest[0]}", rest[1:]
    try:
        with command.make_context(path, rest) as context:
            return context.params
    except typer.TyperException as error:
        raise InputError(usage_mistake(error, path)) from None
