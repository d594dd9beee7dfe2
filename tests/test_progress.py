# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import pytest

from mcdiff_pipeline import progress
from mcdiff_pipeline.progress import progress_bar, progress_hidden


def test_short_work_writes_nothing_where_there_is_no_terminal(capsys):
    with progress_bar("Frames", 3) as bar:
        for _ in range(3):
            bar.update()
    assert capsys.readouterr().err == ""


def test_long_work_writes_lines_with_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)
    with progress_bar("Frames", 4, initial=1) as bar:
        bar.update()
        bar.set_postfix(loss="0.5", refresh=False)
        bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("Frames: 3 of 4, 00:00 so far, 00:00 left, loss=0.5")
    assert all(line.startswith("Frames: ") for line in lines) and len(lines) >= 2


@pytest.mark.parametrize(("unit", "amount"), [("frame", "2 of 4 frames,"), ("MB", "2.00 of 4.00 MB,")])
def test_lines_name_the_unit(capsys, monkeypatch, unit, amount):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)
    with progress_bar("Work", 4.0 if unit == "MB" else 4, unit=unit) as bar:
        bar.update(2)
    assert amount in capsys.readouterr().err


def test_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar("Frames", 2, unit="frame") as bar:
        bar.update(2)
    assert "Frames: 100%|" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [{"total": 0}, {"total": 5, "disable": True}])
def test_nothing_to_do_or_disabled_writes_nothing(capsys, monkeypatch, arguments):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar("Frames", **arguments):
        pass
    assert capsys.readouterr().err == ""


def test_hidden_progress_writes_nothing_and_ends_with_its_block(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_hidden(), progress_bar("Frames", 2):
        pass
    assert capsys.readouterr().err == ""
    with progress_bar("Frames", 2):
        pass
    assert "Frames" in capsys.readouterr().err
