# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Markdown tables, and text that contains characters with a meaning in Markdown."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table. The cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table_of(values: Mapping[str, Any], header: Sequence[str] = ("", "")) -> str:
    """A table of nested dictionaries: one row for each value, with a name such as `selection.num_frames`."""
    return table(header, [[name, code(value)] for name, value in _flat(values)])


def plain(text: str) -> str:
    """Escapes text so that Markdown shows it unchanged, also in a table."""
    return re.sub(r"([\\`*\[\]<>|~&])", r"\\\1", _printable(text))


def code(text: str) -> str:
    """Formats text as code, also in a table."""
    text = _printable(text).replace("|", "\\|")
    runs = re.findall("`+", text)
    fence = "`" * (1 + max(map(len, runs), default=0))
    return f"{fence} {text} {fence}" if runs else f"{fence}{text}{fence}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value if isinstance(value, str) else json.dumps(value)))
    return rows


def _printable(text: str) -> str:
    """Escapes line breaks, control characters and other characters that cannot be printed."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
