# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Typer's command classes with three changes: help in groups without Rich, help of a group that is given nothing, and
Ctrl-C with its message.

Rich would triple the time of `--help`.
"""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Stopped(Exception):
    """Ctrl-C or SIGTERM stopped the command. The message says what is kept."""


class Command(TyperCommand):
    """A command whose help lists options under their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_parameters(self, ctx, formatter)


class CommandGroup(TyperGroup):
    """A group whose help lists commands under their `rich_help_panel`. Without a command it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args or ctx.resilient_parsing else ["--help"])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_parameters(self, ctx, formatter)
        width = formatter.width - 6 - max(map(len, self.commands))
        records = [(command, (name, command.get_short_help_str(width))) for name, command in self.commands.items()]
        _write_groups(records, "Commands", formatter)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # Typer would drop its message
            raise Stopped(str(error)) from None


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        records = [
            (parameter, record)
            for parameter in command.get_params(ctx)
            if parameter.param_type_name == kind and (record := parameter.get_help_record(ctx))
        ]
        _write_groups(records, title, formatter)


def _write_groups(records: list[tuple[Any, tuple[str, str]]], default_title: str, formatter: Any) -> None:
    groups: dict[str, list[tuple[str, str]]] = {}
    for item, record in records:
        groups.setdefault(item.rich_help_panel or default_title, []).append(record)
    for title, group in groups.items():
        with formatter.section(title):
            formatter.write_dl(group)
