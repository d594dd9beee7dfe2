# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Atomic writes of folders."""

import pytest

from mcdiff_pipeline.atomic_files import atomic_folder


def test_failed_write_of_a_folder_keeps_the_old_one(tmp_path):
    atomic_folder(tmp_path / "model", lambda folder: (folder / "weights").write_text("old"))

    def fail(folder):
        (folder / "weights").write_text("new")
        raise OSError("No space left on device")

    with pytest.raises(OSError):
        atomic_folder(tmp_path / "model", fail)
    assert (tmp_path / "model/weights").read_text() == "old"
