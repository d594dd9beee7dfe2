# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Type checkers accept a program like those of the documents."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import REPOSITORY


SAMPLE = Path(__file__).parent / "typing" / "sample.py"
PYRIGHT = shutil.which("basedpyright", path=Path(sys.executable).parent)


def test_package_is_marked_as_typed():
    (package,) = importlib.util.find_spec("mcdiff_pipeline").submodule_search_locations
    assert Path(package, "py.typed").is_file()


def test_mypy_accepts_the_sample():
    result = subprocess.run([sys.executable, "-m", "mypy", SAMPLE], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.skipif(PYRIGHT is None, reason="needs basedpyright: pip install '.[dev]'")
def test_pyright_accepts_the_sample(tmp_path):
    settings = {
        "include": [str(SAMPLE)],
        "extraPaths": [str(REPOSITORY / "src")],
        "pythonVersion": "3.11",
        "typeCheckingMode": "standard",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [PYRIGHT, "--project", tmp_path, "--pythonpath", sys.executable, "--level", "error"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
