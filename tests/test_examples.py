"""Every example photograph has regions, strokes that move and hold something, and a license."""

import logging
import runpy
from pathlib import Path

import pytest
from PIL import Image

from mcdiff_pipeline.regions import check_regions, layer_shares
from mcdiff_pipeline.strokes import StrokeSheet, rasterize_strokes
from support.paths import EXAMPLES


PHOTOGRAPHS = sorted(EXAMPLES.glob("*.jpg"))

# So that a clone stays small and a sheet can be read.
LARGEST_PHOTOGRAPH = 700_000
LARGEST_SHEET = 60_000


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


def test_regions_fit_the_photograph_and_do_not_overlap(photograph, caplog):
    sheet = StrokeSheet.load(photograph.with_suffix(".json"))
    assert sheet.regions
    with caplog.at_level(logging.WARNING, logger="mcdiff_pipeline.regions"):
        check_regions(sheet.regions, sheet.height, sheet.width)
    assert caplog.records == []


def test_every_rigid_region_has_a_stroke(photograph):
    sheet = StrokeSheet.load(photograph.with_suffix(".json"))
    shares = layer_shares(sheet.regions, sheet.height, sheet.width)
    names = [region.name for region in sheet.regions]
    spoken = set()
    for stroke in sheet.strokes:
        x, y = stroke.points[0]
        spoken.add(stroke.region or [None, *names][int(shares[:, int(y), int(x)].argmax())])
    assert {region.name for region in sheet.regions if region.rigid} <= spoken


def test_files_are_small(photograph):
    assert photograph.stat().st_size < LARGEST_PHOTOGRAPH
    assert photograph.with_suffix(".json").stat().st_size < LARGEST_SHEET


def test_one_photograph_is_large_and_one_thing_passes_behind_another():
    assert any(max(Image.open(path).size) >= 2000 for path in PHOTOGRAPHS)
    orders = [
        {region.order for region in StrokeSheet.load(path.with_suffix(".json")).regions if region.order is not None}
        for path in PHOTOGRAPHS
    ]
    assert any(len(order) > 1 for order in orders)


def test_readme_credits_the_photograph(photograph):
    assert f"| `{photograph.name}` |" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


PROGRAMS = {
    "move_a_photograph": ("moved.mp4", "16 frames"),
    "move_a_camera": ("truck.mp4", "8 frames"),
    "continue_a_video": ("longer.mp4", "11 frames"),
}


@pytest.mark.weights
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_writes_a_video(name, tmp_path, monkeypatch, capsys):
    video, said = PROGRAMS[name]
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert said in capsys.readouterr().out
    assert (tmp_path / video).stat().st_size > 1000
