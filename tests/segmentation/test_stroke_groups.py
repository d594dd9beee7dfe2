"""Regions from strokes: which moves belong to one thing, and its mask."""

import logging

import numpy as np
import pytest

from mcdiff_pipeline import Region, Stroke, StrokeSheet
from mcdiff_pipeline.segmentation import PromptSegmenter, regions_of_strokes
from support.paths import EXAMPLES
from support.segmenter import write_segmenter


WALL, RED, GREEN = (40, 40, 40), (200, 30, 30), (30, 160, 60)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return PromptSegmenter(write_segmenter(tmp_path_factory.mktemp("segmenter")))


@pytest.fixture
def scene() -> np.ndarray:
    """A wall with a red box (x 40 to 100, y 30 to 80) and a green one (x 120 to 180, y 30 to 80)."""
    pixels = np.full((120, 200, 3), WALL, np.uint8)
    pixels[30:80, 40:100] = RED
    pixels[30:80, 120:180] = GREEN
    return pixels


def move(x: float, y: float, **options) -> Stroke:
    return Stroke([(x, y), (x + 5, y)], **options)


def hold(x: float, y: float, **options) -> Stroke:
    return Stroke([(x, y)], kind="hold", **options)


def covered(region: Region, x: int, y: int) -> bool:
    return region.mask[y, x].item() > 0.5


def test_moves_of_one_thing_give_one_region(scene, segmenter):
    (region,) = regions_of_strokes(scene, [move(50, 40), move(90, 70)], segmenter)
    assert region.mask.shape == (120, 200)
    assert region.mask.sum() == pytest.approx(63.1 * 53.1, rel=0.05)  # a 128th of 200 on each side
    assert covered(region, 70, 55) and not covered(region, 150, 55)


def test_moves_of_two_things_give_two_regions(scene, segmenter):
    regions = regions_of_strokes(scene, [move(50, 40), move(150, 40), move(60, 70)], segmenter)
    assert sorted((covered(region, 70, 55), covered(region, 150, 55)) for region in regions) == [
        (False, True),
        (True, False),
    ]


def test_holds_are_not_of_the_thing(scene, segmenter):
    scene[30:80, 70:100] = (173, 33, 30)  # nearly the same red
    (region,) = regions_of_strokes(scene, [move(50, 40)], segmenter)
    assert covered(region, 50, 55) and covered(region, 90, 55)
    (region,) = regions_of_strokes(scene, [move(50, 40), hold(90, 40)], segmenter)
    assert covered(region, 50, 55) and not covered(region, 90, 55)


def test_hold_that_the_segmenter_counts_to_the_thing_is_a_held_part(scene, segmenter):
    (region,) = regions_of_strokes(scene, [move(50, 40), hold(90, 70), hold(20, 20)], segmenter)
    assert covered(region, 90, 70) and not covered(region, 20, 20)


def test_strokes_that_say_nothing_about_the_given_image_are_left_out(scene, segmenter):
    left_out = [
        move(150, 40, start_frame=2, end_frame=4),
        Stroke([(150, 40), (155, 40)], frames=[1.0, 3.0]),
        move(-20, 40),
        move(150, 40, region=0),
    ]
    (region,) = regions_of_strokes(scene, [move(50, 40), *left_out], segmenter)
    assert not covered(region, 150, 55)
    assert regions_of_strokes(scene, left_out, segmenter) == []
    assert regions_of_strokes(scene, [hold(50, 40)], segmenter) == []


def test_sheet_is_scaled_to_the_image(scene, segmenter):
    sheet = StrokeSheet([move(5, 4), hold(2, 2)], width=20, height=12, num_frames=4)
    (region,) = regions_of_strokes(scene, sheet, segmenter)
    assert covered(region, 70, 55)


def test_unsure_group_gets_no_region_and_a_warning(scene, segmenter, monkeypatch, caplog):
    scene[30:80, 120:180] = np.linspace(0, 255, 60)[None, :, None]  # without an outline
    for logger in ("diffusers", "mcdiff_pipeline"):
        monkeypatch.setattr(logging.getLogger(logger), "propagate", True)
    with caplog.at_level("WARNING"):
        (region,) = regions_of_strokes(scene, [move(50, 40), move(150, 40)], segmenter)
    assert covered(region, 70, 55)
    (record,) = caplog.records
    assert record.getMessage().startswith("No region for what moves at (150, 40): the outline is not clear")


def test_masks_do_not_overlap_and_the_smaller_one_is_in_front(scene, segmenter):
    scene[45:65, 60:80] = GREEN
    regions = regions_of_strokes(scene, [move(70, 55), move(45, 35)], segmenter)
    assert [covered(region, 45, 35) for region in regions] == [True, False]
    assert sum(region.mask for region in regions).max() <= 1 + 1e-6


# Where strokes begin on the examples: moves, then holds.
STROKES = {
    "astronaut": (
        [(228, 30), (225, 118), (224, 170)],
        [(190, 290), (90, 330), (420, 430), (440, 150), (40, 150)],
    ),
    "cat": (
        [(206, 238), (112, 115), (256, 133), (175, 45)],
        [(20, 285), (287, 280)],
    ),
    "coffee": (
        [(104, 110), (322, 120), (210, 164), (136, 277)],
        [(286, 282), (333, 77), (365, 240), (190, 365), (350, 20)],
    ),
    "rocket": (
        [(216, 140), (216, 246), (216, 380)],
        [(93, 219), (342, 219), (88, 394), (259, 397), (60, 60)],
    ),
    "walking": (
        [(304, 74), (327, 122), (308, 256), (343, 346), (373, 423), (187, 228), (407, 263)],
        [(205, 432), (60, 200), (440, 170), (110, 470)],
    ),
}


@pytest.mark.segmenter
@pytest.mark.parametrize(
    ("name", "num_regions", "share", "inside", "outside"),
    [
        ("astronaut", 1, 0.075, [(230, 40), (225, 130)], [(90, 330), (190, 290), (440, 150)]),
        ("cat", 1, 0.69, [(112, 115), (206, 230), (150, 60)], [(20, 285), (287, 280)]),
        ("coffee", 1, 0.31, [(260, 230), (200, 60), (136, 277)], [(60, 250), (330, 300), (286, 282)]),
        ("rocket", 1, 0.044, [(216, 150), (216, 370)], [(93, 219), (190, 246)]),
        # The standing foot is held, and a part of the walker.
        ("walking", 2, 0.128, [(308, 256), (205, 425), (373, 423)], [(60, 200), (440, 170)]),
    ],
)
def test_strokes_on_the_examples_find_their_things(name, num_regions, share, inside, outside):
    moves, holds = STROKES[name]
    strokes = [Stroke([(x, y), (x + 9, y)]) for x, y in moves] + [Stroke([point], kind="hold") for point in holds]
    regions = regions_of_strokes(EXAMPLES / f"{name}.jpg", strokes, PromptSegmenter())
    assert len(regions) == num_regions
    assert regions[0].mask.mean().item() == pytest.approx(share, rel=0.15)
    assert all(covered(regions[0], x, y) for x, y in inside)
    assert not any(covered(region, x, y) for x, y in outside for region in regions)
