# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What a command tells: sentences for people, or one line of facts for programs. All commands have these options."""

import contextlib
import functools
import inspect
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from .errors import InputError


PANEL = "What is told"

QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Tell only warnings and errors, without progress.", rich_help_panel=PANEL),
]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Tell every setting, result and duration.", rich_help_panel=PANEL),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one line of facts as JSON for programs, instead of sentences.", rich_help_panel=PANEL
    ),
]
OPTIONS = {"quiet": QuietOption, "verbose": VerboseOption, "as_json": JsonOption}

# The logger of the library; its warnings are warnings of the command.
LIBRARY = "mcdiff_pipeline"


@dataclass
class Teller:
    """Prints what a command has to tell: sentences on stdout, warnings and progress on stderr.

    Args:
        quiet (`bool`): whether to leave out sentences.
        verbose (`bool`): whether to print details, too.
        as_json (`bool`): whether to print only [`facts`], at the end.

    Raises:
        InputError: if two of these are set.
    """

    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.quiet + self.verbose + self.as_json > 1:
            raise InputError("--quiet, --verbose and --json exclude each other; give one of them.")
        self._begun = time.monotonic()

    @property
    def shows_progress(self) -> bool:
        """Whether progress is shown on stderr."""
        return not self.quiet

    def say(self, sentence: str, **facts: Any) -> None:
        """Prints a sentence, and keeps its facts."""
        self.facts |= facts
        if not self.quiet and not self.as_json:
            print(sentence, flush=True)

    def detail(self, sentence: str, **facts: Any) -> None:
        """Prints a sentence if details are asked for, and keeps its facts."""
        self.facts |= facts
        if self.verbose:
            print(sentence, flush=True)

    def warn(self, sentence: str) -> None:
        """Prints a warning, unless it was told already, and keeps it under the fact `warnings`."""
        told = self.facts.setdefault("warnings", [])
        if sentence in told:
            return
        told.append(sentence)
        print(f"mcdiff: warning: {sentence}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Shows on a terminal what takes a while, until it is done."""
        is_shown = self.shows_progress and sys.stderr.isatty()
        if is_shown:
            print(f"{what} ...", end="", file=sys.stderr, flush=True)
        try:
            yield
        finally:
            if is_shown:
                print("\r\033[K", end="", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def hearing_library(self) -> Iterator[None]:
        """Tells warnings of the library as those of the command; hides its progress if the command is quiet."""
        show_other, logger, handler = warnings.showwarning, logging.getLogger(LIBRARY), _Heard(self)

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if category.__module__.startswith(LIBRARY):
                self.warn(str(message))
            else:
                show_other(message, category, *place, **more)

        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning, module="mcdiff_")
            warnings.showwarning = show
            logger.addHandler(handler)
            try:
                with self._progress():
                    yield
            finally:
                logger.removeHandler(handler)

    def _progress(self) -> contextlib.AbstractContextManager[None]:
        if self.shows_progress:
            return contextlib.nullcontext()
        from mcdiff_pipeline.progress import progress_hidden

        return progress_hidden()

    def finish(self) -> None:
        """Prints the facts, if they are asked for. They have the `seconds` that the command took."""
        seconds = round(time.monotonic() - self._begun, 3)
        if "seconds" not in self.facts:
            self.detail(f"This took {seconds:.3g} s.", seconds=seconds)
        if self.as_json:
            print(json.dumps({"warnings": []} | self.facts))


class _Heard(logging.Handler):
    """Gives records of the library to a teller."""

    def __init__(self, teller: Teller):
        super().__init__(logging.WARNING)
        self.teller = teller

    def emit(self, record: logging.LogRecord) -> None:
        self.teller.warn(record.getMessage())


def told(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options `--quiet`, `--verbose` and `--json`.

    Args:
        command (`Callable`): a function of a command. It takes a [`Teller`] as `teller`, which is no option.

    Returns:
        `Callable`: the function for Typer: with these options instead of `teller`. At its end the facts are told.
    """
    parameters = [
        parameter
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if name != "teller"
    ]
    for name, annotation in OPTIONS.items():
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        )

    @functools.wraps(command)
    def run(*, quiet: bool, verbose: bool, as_json: bool, **values: Any) -> None:
        teller = Teller(quiet, verbose, as_json)
        with teller.hearing_library():
            command(teller=teller, **values)
        teller.finish()

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
