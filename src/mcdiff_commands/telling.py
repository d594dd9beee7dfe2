# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What a command tells: sentences for people, or one line of facts for programs."""

import json
import sys
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
    typer.Option("--verbose", "-v", help="Tell every setting, stroke and duration.", rich_help_panel=PANEL),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one line of facts as JSON for programs, instead of sentences.", rich_help_panel=PANEL
    ),
]


@dataclass
class Teller:
    """Prints what a command has to tell: sentences on stdout, warnings on stderr.

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
        """Prints a warning, and keeps it under the fact `warnings`."""
        self.facts.setdefault("warnings", []).append(sentence)
        print(f"mcdiff: warning: {sentence}", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Prints the facts, if they are asked for."""
        if self.as_json:
            print(json.dumps({"warnings": []} | self.facts))
