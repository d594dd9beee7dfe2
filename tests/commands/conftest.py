from pathlib import Path

import pytest

from mcdiff_pipeline import Stroke, StrokeSheet, processor


@pytest.fixture
def place(tmp_path, tiny_model_dir, image, monkeypatch) -> Path:
    """A working folder with an image of 48 x 40, a stroke sheet for it, and a model in the environment."""
    image.save(tmp_path / "photo.png")
    sheet = StrokeSheet(
        [Stroke([(10, 10), (20, 12)], end_frame=3), Stroke([(40, 30)], kind="hold")], 48, 40, num_frames=5, fps=10
    )
    sheet.save(tmp_path / "strokes.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCDIFF_MODEL", str(tiny_model_dir))
    monkeypatch.setattr(processor, "BFLOAT16_FLAGS", set())  # the same number format on every processor
    return tmp_path
