# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The files of the page as they are sent: without comments and needless spaces, compressed.

A third of the scripts are comments, which hold all their types. Their line breaks stay, so that what a browser reports
of a line is true of the file.
"""

import gzip
import hashlib
import re
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


# Beside these, a style sheet needs no space.
_STYLE_MARKS = {*"{};,"}
# Between two of these, or two words, a script needs its space.
_GROWING_MARKS = {*"+-/"}


def stripped_style(source: str) -> str:
    """A style sheet without comments and needless white space, on one line."""
    parts: list[str] = []
    for token in _STYLE_TOKEN.finditer(source):
        if token.lastgroup in ("comment", "space"):
            # a space after a colon is in a declaration or a query; in a selector it has a meaning, but stands before
            if parts and parts[-1] not in _STYLE_MARKS | {":", " "}:
                parts.append(" ")
            continue
        if token[0] in _STYLE_MARKS and parts[-1:] == [" "]:
            parts.pop()
        if token[0] == "}" and parts[-1:] == [";"]:
            parts.pop()
        parts.append(token[0])
    return "".join(parts)


def stripped_script(source: str) -> str:
    """
    A script without comments and needless spaces. Texts, regular expressions and templates stay as they are, except
    for the indentation of markup.

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
            _add_space(parts, token)
            continue
        if parts[-1:] == [" "] and not _needs_space("".join(parts[-2:-1])[-1:], part[0]):
            parts.pop()
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
        parts.append(part)
        previous = "/regex/" if regex else "{" if part.endswith("${") else part
    if open_braces:
        raise ValueError("There are more open braces than closed ones.")
    return "".join(parts)


def _needs_space(before: str, after: str) -> bool:
    """Whether a space between two characters of a script separates them."""
    if before in _GROWING_MARKS and after in _GROWING_MARKS:
        return True
    return re.fullmatch(r"[\w$]{2}", before + after) is not None


def _add_space(parts: list[str], token: re.Match[str]) -> None:
    """Adds the line breaks of a comment or of white space; without any, one space."""
    lines = token[0].count("\n")
    if parts[-1:] == [" "] and lines:
        parts.pop()
    if lines or (parts and parts[-1] != " " and not parts[-1].endswith("\n")):
        parts.append("\n" * lines or " ")


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
