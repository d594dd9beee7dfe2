# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Outputs that exist, and outputs that are inputs."""

import io
import os
import sys

import pytest

from mcdiff_commands import generate


class Typed(io.StringIO):
    """A terminal on which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def answer(monkeypatch):
    """Types an answer on a terminal."""

    def type_answer(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", Typed(text + "\n"))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    return type_answer


GRID = ("grid", "photo.png", "-o", "grid.png")


@pytest.fixture
def existing(place):
    (place / "grid.png").write_text("mine")
    return place / "grid.png"


def test_existing_output_is_refused_where_nobody_can_be_asked(existing, mcdiff):
    code, out, err = mcdiff(*GRID)
    assert (code, out) == (2, "")
    assert err == "mcdiff grid: grid.png exists; give -y to replace what exists, or another name.\n"
    assert existing.read_text() == "mine"


def test_yes_replaces_an_existing_output(existing, mcdiff):
    assert mcdiff(*GRID, "-y")[0] == 0
    assert existing.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("text", "is_replaced"), [("y", True), ("n", False), ("", False)])
def test_terminal_is_asked(existing, mcdiff, answer, text, is_replaced):
    answer(text)
    code, _, err = mcdiff(*GRID)
    assert code == (0 if is_replaced else 2) and (existing.read_bytes() != b"mine") == is_replaced
    assert "grid.png exists. Replace? [y/N]" in err
    assert is_replaced or "nothing is done" in err


def test_no_refuses_without_a_question(existing, mcdiff, answer):
    answer("y")
    code, _, err = mcdiff(*GRID, "-n")
    assert code == 2 and "Replace?" not in err and existing.read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "photo.png", "--hold", "1,1", "-o", "new.mp4", "--contact-sheet", "old.png"),
        ("generate", "photo.png", "--hold", "1,1", "-o", "old.gif"),
        ("flow", "photo.png", "--hold", "1,1", "-o", "old.png"),
        ("segment", "photo.png", "--point", "1,1", "-o", "new.png", "--overlay", "old.png"),
    ],
    ids=lambda arguments: arguments[0] + arguments[-1][-4:],
)
def test_every_existing_output_is_kept_before_the_model_is_loaded(place, mcdiff, monkeypatch, arguments):
    monkeypatch.setenv("MCDIFF_MODEL", "no/model")
    for name in ("old.png", "old.gif"):
        (place / name).write_text("mine")
    code, _, err = mcdiff(*arguments)
    assert code == 2 and " exists; give -y" in err and err.count("\n") == 1
    assert (place / "old.png").read_text() == (place / "old.gif").read_text() == "mine"
    assert not list(place.glob("new.*"))


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic link", "hard link"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "photo.png", "--hold", "1,1", "-o", "a.mp4", "--show-regions", "link.png"),
        ("flow", "photo.png", "--hold", "1,1", "-o", "link.png"),
        ("grid", "photo.png", "-o", "link.png"),
        ("grid", "link.png", "-o", "./photo.png"),
    ],
    ids=["generate", "flow", "grid", "input is a link"],
)
def test_output_that_leads_to_an_input_is_refused_even_with_yes(place, mcdiff, arguments, link):
    before = (place / "photo.png").read_bytes()
    link("photo.png", "link.png")
    code, _, err = mcdiff(*arguments, "-y")
    assert code == 2 and "is to be written, but it is also an input" in err and err.count("\n") == 1
    assert (place / "photo.png").read_bytes() == before


def test_clip_is_not_replaced_by_its_own_replay(place, mcdiff):
    arguments = ("generate", "photo.png", "--hold", "1,1", "--num-frames", 2, "--steps", 1, "-o", "a.mkv")
    assert mcdiff(*arguments)[0] == 0
    code, _, err = mcdiff("generate", "--replay", "a.mkv", "-o", "a.mkv", "-y")
    assert code == 2 and "it is also an input" in err
    assert mcdiff("generate", "--replay", "a.mkv")[0] == 0
    code, _, err = mcdiff("generate", "--replay", "a.mkv")
    assert code == 2 and "a-replay.mkv exists" in err


def test_two_names_of_one_output_are_refused(place, mcdiff):
    (place / "folder").symlink_to(place)
    code, _, err = mcdiff("generate", "photo.png", "--hold", "1,1", "-o", "a.mp4", "--flow-video", "folder/a.mp4")
    assert code == 2 and "--output and --flow-video name the same file" in err


@pytest.mark.parametrize("option", ["--output", "--flow-video", "--contact-sheet"])
def test_second_run_is_refused_while_the_first_writes_the_same_file(place, mcdiff, monkeypatch, option):
    """The second run begins while the first loads its model: neither file exists yet."""
    load, second = generate.load_model, []
    settings = ("--hold", "1,1", "--num-frames", 2, "--steps", 1)
    name = "same.png" if option == "--contact-sheet" else "same.mkv"
    files = {"--output": "second.mkv"} | {option: f"./{name}"}

    def load_meanwhile(*arguments):
        if not second:
            second.append(None)
            words = [word for pair in files.items() for word in pair]
            second[0] = mcdiff("generate", "photo.png", *settings, *words, "-y")
        return load(*arguments)

    monkeypatch.setattr(generate, "load_model", load_meanwhile)
    first = {"--output": "first.mkv"} | {option: name}
    words = [word for pair in first.items() for word in pair]
    assert mcdiff("generate", "photo.png", *settings, *words)[0] == 0
    code, _, err = second[0]
    assert code == 2 and f"another run writes {name} now: wait until it has ended" in err and err.count("\n") == 1
    assert (place / name).exists() and not (place / "second.mkv").exists()
    assert mcdiff("generate", "photo.png", *settings, *words, "-y")[0] == 0, "the first run has ended"
