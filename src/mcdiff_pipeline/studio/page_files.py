# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The files of the page as they are sent: without comments, indentation and other space, compressed.

A third of the scripts are comments, which hold all their types. Line breaks stay, so that what a browser reports of a
line is true of the file.
"""

import gzip
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

_COMMENT = r"/\*.*?\*/"
_TEXT = r'"(?:[^"\\\n]|\\.)*"' + r"|'(?:[^'\\\n]|\\.)*'"
_STYLE_TOKEN = re.compile(rf"(?P<comment>{_COMMENT})|(?P<text>{_TEXT})|(?P<space>\s+)|(?P<other>.)", re.DOTALL)
_SCRIPT_TOKEN = re.compile(
    rf"(?P<comment>{_COMMENT}|//[^\n]*)|(?P<text>{_TEXT})|(?P<space>\s+)|(?P<word>[\w$]+)|(?P<mark>.)", re.DOTALL
)
_REGEX = re.compile(r"/(?![*/])(?:[^\\/\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/\w*")
# A part of a template, to its end or to the code within it.
_TEMPLATE = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{)", re.DOTALL)
# After these a slash begins a regular expression; after other words, numbers and closed brackets it divides.
_BEFORE_A_VALUE = {*"(,=:[!&|?{};+-*%~^<>", "", "return", "typeof", "case", "in", "of", "await", "yield", "void"}
# The tag of templates that htm reads, for which line breaks and indentation are one.
_MARKUP = "html"
# Two of these may become another operator when the space between them is left out.
_OPERATORS = frozenset("+-*<>=!&|?:.%^~")
# Beside these, style sheets need no space.
_STYLE_MARKS = frozenset("{};,")


def stripped_style(source: str) -> str:
    """A style sheet without comments and space that says nothing."""
    parts: list[str] = []
    for token in _STYLE_TOKEN.finditer(source):
        _append(parts, _plain_space(token) if token.lastgroup in ("comment", "space") else token[0], _parts_style)
    return "".join(parts)


def stripped_script(source: str) -> str:
    """
    A script without comments and space that says nothing. Texts, regular expressions and templates stay as they are,
    except for the indentation of markup.

    Raises:
        ValueError: If it ends within a template or a block.
    """
    parts: list[str] = []
    open_braces: list[str] = []  # for each, the tag of the template whose code it is; "{" for one of a block
    at, previous = 0, ""
    while at < len(source):
        regex = _REGEX.match(source, at) if source[at] == "/" and previous in _BEFORE_A_VALUE else None
        token = regex or _SCRIPT_TOKEN.match(source, at)
        assert token is not None
        part, at = token[0], token.end()
        if token.lastgroup in ("comment", "space"):
            _append(parts, _plain_space(token), _parts_script)
            continue
        tag = None
        if part == "`":
            tag = previous if previous == _MARKUP else "`"
        elif part == "{":
            open_braces.append("{")
        elif part == "}":
            if not open_braces:
                raise ValueError("There are more closed braces than open ones.")
            closed = open_braces.pop()
            tag = None if closed == "{" else closed
        if tag is not None:
            text = _TEMPLATE.match(source, at)
            if text is None:
                raise ValueError("A template has no end.")
            at = text.end()
            part += re.sub(r"\n[ \t]+", "\n", text[0]) if tag == _MARKUP else text[0]
            if part.endswith("${"):
                open_braces.append(tag)
        _append(parts, part, _parts_script)
        previous = "/regex/" if regex else "{" if part.endswith("${") else part
    if open_braces:
        raise ValueError("There are more open braces than closed ones.")
    return "".join(parts)


def _append(parts: list[str], part: str, is_needed: Callable[[str, str], bool]) -> None:
    """Adds a part, and drops a space before it that is not needed between its neighbors."""
    if parts and parts[-1] == " ":
        before = parts[-2][-1] if len(parts) > 1 else "\n"
        if part[0].isspace() or before.isspace() or not is_needed(before, part[0]):
            parts.pop()
    parts.append(part)


def _parts_script(before: str, after: str) -> bool:
    """Whether a script without a space between two characters could be read differently."""
    if "/" in (before, after) or after == ".":  # divisions, regular expressions, comments; `1 .a`
        return True
    is_word = [one.isalnum() or one in "_$" for one in (before, after)]
    return all(is_word) or {before, after} <= _OPERATORS


def _parts_style(before: str, after: str) -> bool:
    """The same for a style sheet. A selector has a space before a colon, and a value after it."""
    return before not in _STYLE_MARKS and after not in _STYLE_MARKS and before != ":"


def _plain_space(token: re.Match[str]) -> str:
    """The line breaks of a comment or of white space; without any, one space."""
    return "\n" * token[0].count("\n") or " "


class PageFile(NamedTuple):
    """A file as it is sent; `compressed` is the same with gzip. `tag` changes with the content."""

    content: bytes
    compressed: bytes
    media_type: str
    tag: str


class PageFiles:
    """The files of the page. Each is read once, and again if it was changed."""

    def __init__(self) -> None:
        self._files: dict[Path, tuple[int, PageFile]] = {}

    def read(self, path: Path) -> PageFile:
        """
        A file of the page.

        Args:
            path (`Path`): An existing file with the suffix of one of [`MEDIA_TYPES`].
        """
        changed = path.stat().st_mtime_ns
        known = self._files.get(path)
        if known is None or known[0] != changed:
            known = self._files[path] = changed, _as_sent(path)
        return known[1]


def _as_sent(path: Path) -> PageFile:
    strip = {".js": stripped_script, ".css": stripped_style}.get(path.suffix)
    content = path.read_bytes()
    if strip is not None and "vendor" not in path.parts:  # that of others has licenses in its comments
        content = strip(content.decode()).encode()
    compressed = gzip.compress(content, 9, mtime=0)
    return PageFile(content, compressed, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')
