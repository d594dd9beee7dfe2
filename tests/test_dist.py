# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The packages of `make dist` install and run without the clone."""

import os
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from support.paths import REPOSITORY


pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(
        shutil.which("make") is None or not Path(sys.prefix, "bin", "uv").is_file(), reason="needs make and uv"
    ),
]
PROGRAM = """
import sys
import mcdiff_pipeline, mcdiff_commands, mcdiff_small_128
from mcdiff_pipeline.model_names import find_model
for module in (mcdiff_pipeline, mcdiff_commands, mcdiff_small_128):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
pipe = mcdiff_pipeline.MCDiffPipeline.from_pretrained("mcdiff-small-128")
for name in (None, "mcdiff-small-128"):
    location = find_model(name)
    assert location.path.startswith(sys.argv[1]) and location.is_embedded
print(pipe.config.default_width)
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "dist"
    arguments = [f"DIST={folder}", f"VENV={sys.prefix}", "BUILD=--no-build-isolation --offline"]
    subprocess.run(["make", "dist", *arguments], cwd=REPOSITORY, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory) -> Path:
    """A folder into which both wheels are installed; their requirements come from the environment of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    uv = [Path(sys.prefix, "bin", "uv"), "pip", "install", "--quiet", "--offline", "--no-deps", "--target", folder]
    subprocess.run([*uv, *dist.glob("*.whl")], check=True)
    return folder


def run_outside(installed: Path, place: Path, *arguments: str | Path) -> str:
    """Runs Python where only the installed packages and their requirements are found."""
    path = os.pathsep.join(map(str, [installed, *site.getsitepackages()]))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MCDIFF", "PYTHON"))}
    # -S leaves out the editable installation of the clone
    command = [sys.executable, "-S", *map(str, arguments)]
    variables = environment | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_packages_are_complete_and_small(dist):
    (wheel,) = dist.glob("mcdiff_pipeline-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"mcdiff_pipeline/py.typed", "mcdiff_pipeline/stroke_sheet.schema.json"} <= set(names)
    assert "mcdiff_commands/main.py" in names and wheel.stat().st_size < 1e6
    (model,) = dist.glob("mcdiff_small_128-*.whl")
    assert "mcdiff_small_128/mcdiff-small-128/model_index.json" in zipfile.ZipFile(model).namelist()
    sources = sorted(dist.glob("*.tar.gz"))
    assert len(sources) == 2 and len(tarfile.open(sources[1]).getnames()) > 10
    assert all(path.stat().st_size < 100e6 for path in (model, *sources))


def test_name_means_the_installed_model(installed, tmp_path):
    assert run_outside(installed, tmp_path, "-c", PROGRAM, installed) == "128\n"


def test_command_works_without_the_clone(installed, tmp_path):
    shutil.copy(REPOSITORY / "examples" / "cat.jpg", tmp_path)
    arguments = ("generate", "cat.jpg", "--stroke", "70%,80% 55%,78%", "--num-frames", "2", "--steps", "1")
    out = run_outside(installed, tmp_path, "-m", "mcdiff_commands", *arguments, "-o", "cat.mp4")
    assert "Model: mcdiff-small-128, on " in out and (tmp_path / "cat.mp4").is_file()
