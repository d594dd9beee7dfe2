import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline import Region, Stroke, StrokeSheet
from mcdiff_pipeline.drawing import TITLE_HEIGHT, draw_regions, draw_strokes, region_color, titled_columns


BOX = [(40, 20), (100, 20), (100, 60), (40, 60)]


def disk(radius: float, softness: float) -> np.ndarray:
    row, column = np.mgrid[:80, :120] + 0.5
    return np.clip((radius - np.hypot(column - 60, row - 40)) / softness + 0.5, 0, 1)


def test_strokes_are_drawn_at_their_scaled_positions():
    blank = Image.new("RGB", (60, 40), "black")
    sheet = StrokeSheet([Stroke([(30, 60), (90, 60), (90, 60)], frames=[0, 1, 2])], 120, 80, num_frames=3)
    drawn = np.asarray(draw_strokes(blank, sheet)).sum(axis=-1)
    rows, columns = np.nonzero(drawn)
    assert rows.min() >= 26 and rows.max() <= 34
    assert columns.min() >= 11 and columns.max() <= 48
    assert drawn[30, 15:45].all()


def test_region_is_tinted_inside_and_nothing_changes_outside():
    gray = Image.new("RGB", (120, 80), (100, 100, 100))
    drawn = np.asarray(draw_regions(gray, [Region(polygon=BOX)]))
    inside = np.zeros((80, 120), dtype=bool)
    inside[20:60, 40:100] = True
    assert (drawn[~inside] == 100).all()
    assert (drawn[inside] != 100).any(axis=-1).all()
    # the image is seen through the area, but not through its outline
    assert tuple(drawn[40, 40]) == region_color(0) == tuple(drawn[59, 70])
    assert tuple(drawn[40, 70]) == tuple(round(65 + 0.35 * (color - 0)) for color in region_color(0))


def test_soft_region_is_tinted_softly_and_has_a_sharp_outline():
    black = Image.new("RGB", (120, 80))
    drawn = np.asarray(draw_regions(black, [Region(disk(25, softness=16))])).astype(float)[40, 60:]
    strength = drawn.sum(axis=-1) / sum(region_color(0))
    assert strength[:15] == pytest.approx(0.35, abs=0.01)
    assert (np.diff(strength[26:33]) < 0).all() and (strength[34:] == 0).all()
    assert strength[23:25].max() > 0.9 and (strength[26:] < 0.2).all()


def test_each_region_has_its_own_color_and_the_later_one_is_in_front():
    assert len({region_color(index) for index in range(64)}) == 64
    regions = [Region(polygon=BOX), Region(disk(10, softness=1))]
    drawn = np.asarray(draw_regions(Image.new("RGB", (120, 80)), regions)).astype(float)
    for (x, y), index in (((80, 40), 0), ((60, 40), 1)):
        assert drawn[y, x] == pytest.approx(0.35 * np.array(region_color(index)), abs=1)


def test_rigid_region_is_hatched():
    black = Image.new("RGB", (120, 80))
    free, rigid = (
        np.asarray(draw_regions(black, [Region(polygon=BOX, rigid=rigid)])).astype(float)[25:55, 45:95].sum(axis=-1)
        for rigid in (False, True)
    )
    assert len(np.unique(free)) == 1
    lines = rigid > free
    assert 0.1 < lines.mean() < 0.5 and (rigid[~lines] == free[~lines]).all()


def test_region_at_the_border_has_no_outline_there():
    region = Region(polygon=[(-5, -5), (50, -5), (50, 90), (-5, 90)])
    drawn = np.asarray(draw_regions(Image.new("RGB", (120, 80)), [region]))
    assert (drawn[:, 0] == drawn[40, 20]).all() and tuple(drawn[40, 49]) == region_color(0)


def test_regions_of_a_sheet_are_drawn_below_its_strokes_at_the_size_of_the_image():
    blank = Image.new("RGB", (60, 40))
    regions = [Region(polygon=BOX, rigid=True), Region(disk(8, softness=2))]
    sheet = StrokeSheet([Stroke([(20, 40), (110, 40)])], 120, 80, num_frames=3, regions=regions)
    drawn = draw_strokes(blank, sheet)
    scaled = [region.scaled(0.5, 0.5) for region in regions]
    without = StrokeSheet(sheet.strokes, 120, 80, num_frames=3)
    assert drawn.tobytes() == draw_strokes(draw_regions(blank, scaled), without).tobytes()
    assert drawn.tobytes() != draw_strokes(blank, without).tobytes()


@pytest.mark.parametrize(("width", "factor"), [(8, 16), (100, 2), (200, 1)])
def test_columns_have_titles_and_keep_their_pixels(width, factor):
    frames = np.random.default_rng(0).integers(0, 255, (2, 6, 3 * width, 3)).astype(np.uint8)
    titled = titled_columns(frames, ["frame", "a title that is too long for a narrow column", "flow"])
    assert titled.shape == (2, TITLE_HEIGHT + 6 * factor, 3 * width * factor, 3)
    np.testing.assert_array_equal(titled[:, TITLE_HEIGHT::factor, ::factor], frames)
    strip = titled[0, :TITLE_HEIGHT].reshape(TITLE_HEIGHT, 3, width * factor, 3)
    assert (strip.min(axis=(0, 2, 3)) < 128).all()
    np.testing.assert_array_equal(titled[1, :TITLE_HEIGHT], titled[0, :TITLE_HEIGHT])
