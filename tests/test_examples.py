"""Every example photograph has strokes that move and hold something, and a license."""

import runpy
from pathlib import Path

import pytest
from PIL import Image

from mcdiff_pipeline.strokes import StrokeSheet, rasterize_strokes
from support.paths import EXAMPLES


PHOTOGRAPHS = sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(params=PHOTOGRAPHS, ids=lambda path: path.stem)
def photograph(request) -> Path:
    return request.param


def test_there_are_at_least_three_photographs():
    assert len(PHOTOGRAPHS) >= 3


def test_stroke_sheet_was_drawn_on_its_photograph(photograph):
    sheet = StrokeSheet.load(photograph.with_suffix(".json"))
    assert (sheet.width, sheet.height) == Image.open(photograph).size


def test_every_step_has_a_moving_and_a_held_cell(photograph):
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


def test_readme_credits_the_photograph(photograph):
    assert f"| `{photograph.name}` |" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.mark.weights
def test_move_a_photograph_writes_a_video(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "move_a_photograph.py"), run_name="__main__")
    assert "16 frames" in capsys.readouterr().out
    assert (tmp_path / "cat.mp4").stat().st_size > 1000
