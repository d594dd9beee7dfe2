"""`mcdiff segment`, and the regions that `--regions` gives."""

import sys

import numpy as np
import pytest
from PIL import Image

from mcdiff_commands.errors import InputError
from mcdiff_commands.images import read_image
from mcdiff_commands.regions import find_regions
from mcdiff_pipeline import Region, Stroke, StrokeSheet
from support.paths import EXAMPLES
from support.segmenter import write_segmenter


WALL, RED, GREEN = (40, 40, 40), (200, 30, 30), (30, 160, 60)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return write_segmenter(tmp_path_factory.mktemp("segmenter"))


@pytest.fixture
def place(tmp_path, segmenter, monkeypatch):
    """A working folder with a picture of a red box (x 40 to 100, y 30 to 80) and a green one (x 120 to 180)."""
    pixels = np.full((120, 200, 3), WALL, np.uint8)
    pixels[30:80, 40:100] = RED
    pixels[30:80, 120:180] = GREEN
    Image.fromarray(pixels).save(tmp_path / "boxes.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCDIFF_SEGMENTER", str(segmenter))
    return tmp_path


def sheet(*strokes: Stroke, regions=()) -> StrokeSheet:
    return StrokeSheet(strokes, 200, 120, num_frames=4, regions=regions)


def test_segment_writes_a_mask_of_the_images_size(place, mcdiff):
    code, out, err = mcdiff("segment", "boxes.png", "--point", "50,40", "--output", "mask.png")
    assert (code, err) == (0, "")
    with Image.open("mask.png") as mask:
        assert (mask.mode, mask.size) == ("L", (200, 120))
        pixels = np.asarray(mask)
    assert pixels[55, 70] == 255 and pixels[55, 150] == 0 and pixels[10, 10] == 0
    # 60 x 50 pixels are 12.5 %; a found mask is a little larger than the thing
    assert out.startswith("mask.png: 13.") and "% of 200 x 120 pixels, confidence 0.9" in out


def test_points_are_repeatable_and_overlay_shows_them(place, mcdiff):
    arguments = ["--point", "50,40", "--point", "150,40", "--not-point", "10,10", "--overlay", "overlay.png"]
    code, out, _ = mcdiff("segment", "boxes.png", *arguments, "--output", "mask.png")
    assert code == 0 and out.endswith("overlay.png\n")
    pixels = np.asarray(Image.open("mask.png"))
    assert pixels[55, 70] == 255 and pixels[55, 150] == 255
    overlay, picture = (np.asarray(Image.open(name), dtype=int) for name in ("overlay.png", "boxes.png"))
    assert overlay.shape == picture.shape
    assert (overlay[110, 190] == picture[110, 190]).all() and (overlay[55, 70] != picture[55, 70]).any()
    assert (np.abs(overlay[40, 50] - 255) < 2).all() and (np.abs(overlay[10, 10] - 255) < 2).all()  # centers of points


def test_segmenter_option_names_the_folder(place, mcdiff, segmenter, monkeypatch):
    monkeypatch.delenv("MCDIFF_SEGMENTER")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    monkeypatch.setattr("sys.prefix", str(place / "environment"))
    arguments = ("segment", "boxes.png", "--point", "50,40", "--output", "mask.png")
    code, _, err = mcdiff(*arguments)
    assert code == 2 and "build_segmenter.py" in err and err.count("\n") == 1
    assert mcdiff(*arguments, "--segmenter", segmenter)[0] == 0


def test_unsure_mask_is_written_with_a_warning(place, mcdiff):
    code, _, err = mcdiff("segment", "boxes.png", "--point", "50,40", "--not-point", "60,50", "--output", "mask.png")
    assert code == 0 and (place / "mask.png").is_file()
    assert err == (
        "mcdiff: warning: mask.png may be wrong: the point (60, 50) is inside the mask but should be outside; give "
        "more points.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["boxes.png", "--output", "mask.png"], "Missing option '--point'"),
        (["boxes.png", "--point", "5", "--output", "mask.png"], "'5' is not a point"),
        (["boxes.png", "--point", "5,5 6,6", "--output", "mask.png"], "'5,5 6,6' is not one point"),
        (["boxes.png", "--point", "500,40", "--output", "mask.png"], "The point (500, 40) is not in the image"),
        (["boxes.png", "--point", "50,40", "--output", "mask.jpg"], "the suffix is '.jpg', but must be one of .png"),
        (["boxes.png", "--point", "50,40", "--output", "no/mask.png"], "there is no folder no"),
        (["none.png", "--point", "50,40", "--output", "mask.png"], "none.png: there is no such image"),
        (
            ["boxes.png", "--point", "50,40", "--output", "a.png", "--overlay", "a.png"],
            "name the same file, a.png",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(place, mcdiff, arguments, message):
    code, _, err = mcdiff("segment", *arguments)
    assert code == 2 and message in err and err.count("\n") == 1
    assert [path.name for path in place.iterdir()] == ["boxes.png"]


def test_point_without_a_thing_writes_nothing(place, mcdiff):
    pixels = np.full((256, 256, 3), WALL, np.uint8)
    pixels[100, 100] = RED
    Image.fromarray(pixels).save("dot.png")
    code, _, err = mcdiff("segment", "dot.png", "--point", "100.5,100.5", "--output", "mask.png")
    assert code == 2 and "there is no thing at 100.5,100.5" in err and not (place / "mask.png").exists()


def test_missing_package_says_what_to_install(place, mcdiff, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = mcdiff("segment", "boxes.png", "--point", "50,40", "--output", "mask.png")
    assert code == 2 and "pip install 'mcdiff-pipeline[segmentation]'" in err and err.count("\n") == 1


def test_without_the_option_the_sheet_gives_the_regions(place):
    own = Region(polygon=[(40, 30), (100, 30), (100, 80)])
    assert find_regions(None, read_image("boxes.png"), sheet(regions=[own])) == (own,)
    assert find_regions("sheet", read_image("boxes.png"), sheet(regions=[own])) == (own,)
    assert find_regions(None, read_image("boxes.png"), sheet()) == ()
    with pytest.raises(InputError, match="--regions sheet is given, but no stroke sheet with regions"):
        find_regions("sheet", read_image("boxes.png"), sheet())
    with pytest.raises(InputError, match="the stroke sheet has 1 regions of its own"):
        find_regions("auto", read_image("boxes.png"), sheet(regions=[own]))


def test_auto_finds_a_region_for_each_thing_that_strokes_move(place):
    strokes = sheet(Stroke([(50, 40), (60, 40)]), Stroke([(150, 40), (150, 60)]), Stroke([(10, 10)], kind="hold"))
    regions = find_regions("auto", read_image("boxes.png"), strokes)
    assert sorted(region.mask[55, 70].item() > 0.5 for region in regions) == [False, True]


def test_auto_without_a_segmenter_says_how_to_get_one(place, monkeypatch):
    monkeypatch.setenv("MCDIFF_SEGMENTER", "nowhere")
    with pytest.raises(InputError, match="no segmenter in nowhere, .*build_segmenter.py"):
        find_regions("auto", read_image("boxes.png"), sheet(Stroke([(50, 40), (60, 40)])))


def test_file_is_a_label_map_or_a_mask_of_mcdiff_segment(place, mcdiff):
    picture = read_image("boxes.png")
    labels = np.zeros((120, 200), np.uint8)
    labels[30:80, 40:100], labels[30:80, 120:180] = 1, 2
    Image.fromarray(labels).save("labels.png")
    first, second = find_regions("labels.png", picture, sheet())
    assert first.mask[55, 70] == 1 and second.mask[55, 150] == 1

    mcdiff("segment", "boxes.png", "--point", "50,40", "--output", "mask.png")
    (region,) = find_regions("mask.png", picture, sheet())
    assert len(region.mask.unique()) > 4  # soft
    grown = 2 * 200 / 128  # a found mask is larger by 1/128 of the longer side, all around
    assert 60 * 50 < region.mask.sum().item() < (60 + grown) * (50 + grown)


def test_wrong_files_are_refused_in_one_sentence(place, mcdiff):
    picture = read_image("boxes.png")
    (place / "text.png").write_text("not an image")
    Image.new("L", (20, 12), 1).save("small.png")
    mcdiff("segment", "boxes.png", "--point", "50,40", "--output", "mask.png")
    for name, message in [
        ("none.png", "there is no such file; the option is auto, persons, sheet or an image file"),
        ("text.png", "cannot be read as an image"),
        ("small.png", "20 x 12"),
    ]:
        with pytest.raises(InputError, match=f"--regions:? {name}:? .*{message}"):
            find_regions(name, picture, sheet())
    with pytest.raises(InputError, match="--regions mask.png: .*200 x 120"):
        find_regions("mask.png", picture[:, :60], sheet())


@pytest.mark.pose_model
def test_persons_finds_a_region_for_each_person(place):
    pytest.importorskip("mediapipe")
    assert len(find_regions("persons", read_image(str(EXAMPLES / "balancing.jpg")), sheet())) == 2
    with pytest.raises(InputError, match="--regions persons: nobody is found"):
        find_regions("persons", read_image("boxes.png"), sheet())


def test_persons_without_a_pose_model_says_how_to_get_one(place, monkeypatch):
    monkeypatch.setenv("MCDIFF_POSE_MODEL", "nowhere.task")
    with pytest.raises(InputError, match="--regions persons: There is no pose model nowhere.task, .*build_pose_model"):
        find_regions("persons", read_image("boxes.png"), sheet())
