"""The examples are what the README says they are: every photograph has strokes, a license, and moves."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.paths import EXAMPLES

from mcdiff_pipeline.strokes import StrokeSheet, rasterize_strokes


PHOTOGRAPHS = sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(params=PHOTOGRAPHS, ids=lambda path: path.stem)
def photograph(request) -> Path:
    return request.param


def test_there_are_at_least_three_photographs():
    assert len(PHOTOGRAPHS) >= 3


def test_stroke_sheet_was_drawn_on_its_photograph(photograph):
    sheet = StrokeSheet.load(photograph.with_suffix(".json"))
    assert (sheet.width, sheet.height) == Image.open(photograph).size


def test_every_step_moves_something_and_holds_something(photograph):
    sheet = StrokeSheet.load(photograph.with_suffix(".json")).scaled(128, 128)
    for frame in range(sheet.num_frames - 1):
        flow, mask = rasterize_strokes(
            [list(sheet.strokes)],
            frame,
            image_size=(128, 128),
            latent_size=(32, 32),
            num_frames=sheet.num_frames,
        )
        length = flow.norm(dim=1, keepdim=True)[mask]
        assert (length > 0.05).any()
        assert (length == 0).any()
        assert length.max() < 1.5


def test_photograph_is_credited_in_the_readme(photograph):
    assert f"| `{photograph.name}` |" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.mark.weights
def test_move_a_photograph_writes_a_video(tmp_path):
    run = subprocess.run(
        [sys.executable, EXAMPLES / "move_a_photograph.py"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "16 frames" in run.stdout
    assert (tmp_path / "cat.mp4").stat().st_size > 1000
