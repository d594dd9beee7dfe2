"""Things from points, with networks that take what has the color of a point for a thing."""

import json
import shutil
import sys

import numpy as np
import onnx
import PIL.Image
import pytest
import torch

from mcdiff_pipeline.segmentation import PromptSegmenter, find_segmenter
from support.paths import EXAMPLES
from support.segmenter import PREDICTED_IOU, write_segmenter


WALL, RED, DARK_RED, GREEN = (40, 40, 40), (200, 30, 30), (150, 60, 30), (30, 160, 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_segmenter(tmp_path_factory.mktemp("segmenter"))


@pytest.fixture
def segmenter(folder):
    return PromptSegmenter(folder)


def scene(height=120, width=200) -> np.ndarray:
    """A wall with a red box (x 40 to 100, y 30 to 80), which has a hole of 3 x 3, and a red box far from it."""
    pixels = np.full((height, width, 3), WALL, np.uint8)
    pixels[30:80, 40:100] = RED
    pixels[50:53, 60:63] = WALL
    pixels[60:70, 150:190] = RED
    return pixels


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is more than half covered."""
    rows, columns = np.nonzero(mask > 0.5)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def around(left: int, top: int, right: int, bottom: int, size: int = 200):
    """A box a 128th of the longer side larger on each side, as that of a region that is found."""
    return pytest.approx((left - size / 128, top - size / 128, right + size / 128, bottom + size / 128), abs=1)


def test_mask_has_the_size_of_the_picture_and_a_soft_outline(segmenter):
    found = segmenter.segment(scene(), [(50, 40)], [1])
    assert found.mask.shape == (120, 200) and found.mask.dtype == np.float32
    assert 0 <= found.mask.min() and found.mask.max() <= 1
    assert box(found.mask) == around(40, 30, 100, 80)
    assert found.mask[35:75, 45:95].min() > 0.98 and found.mask[:26].max() < 0.01
    edge = found.mask[55, 34:44]
    assert ((edge > 0.02) & (edge < 0.98)).any() and (np.diff(edge) >= 0).all()


def test_point_on_a_mark_means_the_thing_around_it(segmenter):
    pixels = scene()
    pixels[40:43, 80:83] = GREEN
    found = segmenter.segment(pixels, [(81.5, 41.5)], [1])
    assert box(found.mask) == around(40, 30, 100, 80) and found.mask[41, 81] > 0.5
    # several points say which of them it is
    found = segmenter.segment(pixels, [(81.5, 41.5), (60, 40)], [1, 0])
    assert box(found.mask) == around(80, 40, 83, 43)


def test_small_thing_is_not_taken_for_a_mark_on_what_lies_behind_it(segmenter):
    pixels = scene()
    pixels[10:13, 130:133] = GREEN
    assert box(segmenter.segment(pixels, [(131.5, 11.5)], [1]).mask) == around(130, 10, 133, 13)


@pytest.mark.parametrize("height", [256, 512, 1024])
def test_masks_are_a_little_larger_than_what_is_found(segmenter, height):
    scale = height // 256
    pixels = np.full((height, height, 3), WALL, np.uint8)
    pixels[80 * scale : 120 * scale, 100 * scale : 150 * scale] = RED
    mask = segmenter.segment(pixels, [(120 * scale, 90 * scale)], [1]).mask
    assert box(mask) == pytest.approx([side * scale for side in (98, 78, 152, 122)], abs=0.6 * scale)


def test_outline_stays_where_a_point_beside_it_is_not_of_the_thing(segmenter):
    pixels = np.full((256, 256, 3), WALL, np.uint8)
    pixels[80:120, 100:150] = RED
    mask = segmenter.segment(pixels, [(120, 90), (151.5, 100.5)], [1, 0]).mask
    assert mask[100, 149] > 0.5 > mask[100, 151]
    assert mask[85, 151] > 0.5 and mask[115, 151] > 0.5


@pytest.mark.parametrize("size", [(3, 1), (1, 40), (61, 200), (300, 100), (1500, 2200)])
def test_any_size_and_aspect(segmenter, size):
    height, width = size
    pixels = np.full((height, width, 3), WALL, np.uint8)
    pixels[: (height + 1) // 2, : (width + 1) // 2] = RED
    found = segmenter.segment(pixels, [(0.2 * width, 0.2 * height)], [1])
    assert found.mask.shape == size
    assert found.mask.mean() == pytest.approx((pixels[..., 0] == RED[0]).mean(), abs=0.03 + 1 / max(size))


def test_outlines_are_sharp_in_large_pictures(segmenter):
    pixels = np.full((1000, 4096, 3), WALL, np.uint8)
    pixels[:, :2000] = RED
    row = segmenter.segment(pixels, [(100, 100)], [1]).mask[500]
    assert ((row > 0.1) & (row < 0.9)).sum() <= 10
    assert np.abs(np.flatnonzero(row < 0.5)[0] - 2000 - 4096 / 128) <= 4


def test_parts_without_a_point_are_removed_and_small_holes_filled(segmenter):
    mask = segmenter.segment(scene(), [(50, 40)], [1]).mask
    assert mask[60:70, 150:190].max() < 0.01
    assert mask[51, 61] > 0.99


def test_part_with_a_point_of_its_own_is_kept(segmenter):
    mask = segmenter.segment(scene(), [(50, 40), (170, 65)], [1, 1]).mask
    assert mask[65, 170] > 0.99 and mask[40, 50] > 0.99


def test_large_holes_and_holes_with_a_point_outside_stay(segmenter):
    pixels = scene()
    pixels[40:70, 50:80] = WALL
    assert segmenter.segment(pixels, [(45, 35)], [1]).mask[55, 65] < 0.01
    assert segmenter.segment(scene(), [(45, 35), (61.5, 51.5)], [1, 0]).mask[51, 61] < 0.5


def test_points_that_are_not_of_the_thing_exclude_what_is_like_them(segmenter):
    pixels = scene()
    pixels[30:80, 70:100] = DARK_RED
    two = segmenter.segment(pixels, [(50, 40), (90, 40)], [1, 1])
    one = segmenter.segment(pixels, [(50, 40), (90, 40)], [1, 0])
    assert box(two.mask) == around(40, 30, 100, 80)
    assert box(one.mask) == around(40, 30, 70, 80)


def test_one_point_means_the_largest_of_several_good_masks(tmp_path):
    pixels = scene()
    pixels[30:80, 70:100] = DARK_RED
    segmenter = PromptSegmenter(write_segmenter(tmp_path, num_masks=4))
    assert box(segmenter.segment(pixels, [(50, 40)], [1]).mask) == around(40, 30, 100, 80)
    # With several points, the mask for several points counts, which is the near one.
    assert box(segmenter.segment(pixels, [(50, 40), (60, 70)], [1, 1]).mask) == around(40, 30, 70, 80)


def test_confidence_is_predicted_iou_times_stability(segmenter):
    found = segmenter.segment(scene(), [(50, 40)], [1])
    assert 0.85 * PREDICTED_IOU < found.confidence <= PREDICTED_IOU
    assert found.warning is None


def test_unclear_outline_is_said(segmenter):
    pixels = np.full((120, 200, 3), (168, 30, 30), np.uint8)  # as far from red as a thing reaches
    pixels[30:80, 40:100] = RED
    found = segmenter.segment(pixels, [(50, 40)], [1])
    assert found.confidence < 0.7 and found.warning.startswith("the outline is not clear (confidence 0.")


def test_mask_of_nearly_everything_is_said(segmenter):
    pixels = np.full((100, 100, 3), WALL, np.uint8)
    pixels[:5, :5] = RED
    found = segmenter.segment(pixels, [(50, 50)], [1])
    assert found.warning == "the mask covers 99 % of the image"


def test_points_on_the_wrong_side_are_said(segmenter):
    found = segmenter.segment(scene(), [(50, 40), (55, 40)], [1, 0])  # the same color
    assert found.warning == "the point (55, 40) is inside the mask but should be outside"
    pixels = scene()
    pixels[60:70, 150:190] = GREEN
    found = segmenter.segment(pixels, [(50, 40), (170, 65), (155, 65)], [1, 1, 0])
    assert found.warning == "the point (170, 65) is outside the mask but should be inside"


def test_empty_mask_is_said(segmenter):
    pixels = np.full((256, 256, 3), WALL, np.uint8)
    pixels[100, 100] = RED  # smaller than what is a thing
    found = segmenter.segment(pixels, [(100.5, 100.5)], [1])
    assert (found.mask.max(), found.confidence, found.warning) == (0, 0, "the mask is empty")


@pytest.mark.parametrize("layout", ["channels_last", "uint8"])
def test_encoders_that_normalize_give_the_same_masks(segmenter, tmp_path, layout):
    other = PromptSegmenter(write_segmenter(tmp_path, layout=layout))
    points, labels = [(50, 40), (150, 20)], [1, 0]
    np.testing.assert_allclose(
        other.segment(scene(), points, labels).mask, segmenter.segment(scene(), points, labels).mask, atol=0.05
    )


def test_config_says_the_normalization(segmenter, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps({"mean": [0, 0, 0], "std": [1e6] * 3}))
    found = PromptSegmenter(tmp_path / "other").segment(scene(), [(50, 40)], [1])
    assert found.warning == "the mask covers 100 % of the image"  # all colors are nearly 0


def test_images_are_read_in_every_form(segmenter, tmp_path):
    pixels = scene()
    PIL.Image.fromarray(pixels).save(tmp_path / "scene.png")
    forms = (PIL.Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1), str(tmp_path / "scene.png"))
    expected = segmenter.segment(pixels, [(50, 40)], [1]).mask
    for form in forms:
        np.testing.assert_array_equal(segmenter.segment(form, [(50, 40)], [1]).mask, expected)


def test_embedding_of_the_last_two_images_is_kept_by_content(segmenter):
    first, second, third = scene(), scene()[::-1].copy(), scene()[:, ::-1].copy()
    opened = segmenter.open(first)
    assert segmenter.open(first.copy()) is opened
    segmenter.open(second)
    assert segmenter.open(PIL.Image.fromarray(first)) is opened
    segmenter.open(third)
    segmenter.open(second)
    assert segmenter.open(first) is not opened
    first[30:80, 40:100] = WALL
    assert segmenter.segment(first, [(170, 65)], [1]).mask[40, 50] < 0.01


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        ([(250, 10)], [1], r"The point \(250, 10\) is not in the image of 200 x 120 pixels"),
        ([(float("nan"), 10)], [1], "The point .* is not in the image"),
        ([], [], "at least one 1"),
        ([(10, 10)], [0], "at least one 1"),
        ([(10, 10)], [1, 0], r"`labels` is \[1, 0\] for 1 points"),
        ([(10, 10)], [2], r"`labels` is \[2\]"),
    ],
)
def test_wrong_points_are_refused(segmenter, points, labels, message):
    with pytest.raises(ValueError, match=message):
        segmenter.segment(scene(), points, labels)


def test_missing_folder_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "environment"))
    monkeypatch.delenv("MCDIFF_SEGMENTER", raising=False)
    with pytest.raises(FileNotFoundError, match="no segmenter in .*mcdiff-pipeline/segmenter, .*build_segmenter.py"):
        PromptSegmenter()
    monkeypatch.setenv("MCDIFF_SEGMENTER", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere, which MCDIFF_SEGMENTER names"):
        PromptSegmenter()


def test_folder_is_found_in_the_cache_and_by_the_environment(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("MCDIFF_SEGMENTER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "environment"))
    shutil.copytree(folder, tmp_path / "environment" / "segmenter")
    assert find_segmenter() == tmp_path / "environment" / "segmenter"  # where make builds it
    shutil.copytree(folder, tmp_path / "mcdiff-pipeline" / "segmenter")
    assert find_segmenter() == tmp_path / "mcdiff-pipeline" / "segmenter"
    monkeypatch.setenv("MCDIFF_SEGMENTER", str(folder))
    assert find_segmenter() == folder
    assert find_segmenter(tmp_path / "mcdiff-pipeline" / "segmenter") != folder


def test_missing_onnxruntime_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'mcdiff-pipeline\[segmentation\]'"):
        PromptSegmenter(folder)


def test_files_that_are_no_such_networks_are_refused(folder, tmp_path):
    def copy(name):
        return shutil.copytree(folder, tmp_path / name)

    text = copy("text")
    (text / "encoder.onnx").write_text("not a network")
    with pytest.raises(ValueError, match="encoder.onnx cannot be loaded as an ONNX network"):
        PromptSegmenter(text)

    swapped = copy("swapped")
    shutil.copy(folder / "encoder.onnx", swapped / "decoder.onnx")
    with pytest.raises(ValueError, match="decoder.onnx has the inputs input and .* the decoder of SAM has"):
        PromptSegmenter(swapped)

    grey = copy("grey")
    network = onnx.load(grey / "encoder.onnx")
    network.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    network.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(network, grey / "encoder.onnx")
    with pytest.raises(ValueError, match="an encoder takes a square picture of three channels"):
        PromptSegmenter(grey)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json is not JSON"),
        ("[" * 200_000, "config.json is not JSON"),
        ('{"size": 3}', "its fields are image_size, mean, std"),
        ('{"image_size": 0}', "image_size is 0"),
        ('{"mean": [1, 2, 3]}', "mean and std are"),
        ('{"mean": [1, 2], "std": [1, 2]}', "mean and std are"),
    ],
)
def test_wrong_config_is_refused(folder, tmp_path, config, message):
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(config)
    with pytest.raises(ValueError, match=message):
        PromptSegmenter(tmp_path / "other")


@pytest.fixture(scope="module")
def real_segmenter():
    return PromptSegmenter()


@pytest.mark.segmenter
@pytest.mark.parametrize(
    ("name", "point", "inside", "outside"),
    [
        ("walking", (308, 256), [(327, 122), (343, 346), (305, 85)], [(60, 200), (440, 170), (250, 400)]),
        ("rocket", (216, 246), [(216, 150), (216, 370)], [(93, 219), (342, 219), (190, 246), (245, 246)]),
        ("astronaut", (225, 118), [(90, 330), (228, 30)], [(440, 150), (40, 150), (420, 430)]),
    ],
)
def test_one_point_of_a_photograph_gives_the_whole_thing(real_segmenter, name, point, inside, outside):
    found = real_segmenter.segment(EXAMPLES / f"{name}.jpg", [point], [1])
    assert found.warning is None and found.confidence > 0.8
    assert all(found.mask[y, x] > 0.9 for x, y in inside)
    assert all(found.mask[y, x] < 0.1 for x, y in outside)


@pytest.mark.segmenter
def test_cup_is_told_from_its_saucer_by_points(real_segmenter):
    inside = [(104, 110), (322, 120), (210, 164), (136, 277)]
    outside = [(286, 282), (365, 240), (190, 365), (350, 20)]
    found = real_segmenter.segment(EXAMPLES / "coffee.jpg", inside + outside, [1] * 4 + [0] * 4)
    assert found.warning is None
    assert found.mask.mean() == pytest.approx(0.31, abs=0.03)
    for x, y in [(260, 230), (200, 60)]:  # the wall of the cup and its rim
        assert found.mask[y, x] > 0.9
    for x, y in [(60, 250), (330, 300)]:  # the saucer
        assert found.mask[y, x] < 0.1


@pytest.mark.segmenter
def test_unclear_point_of_a_photograph_is_said(real_segmenter):
    found = real_segmenter.segment(EXAMPLES / "balancing.jpg", [(150, 262)], [1])  # a hand before a bright window
    assert found.confidence < 0.5 and "the outline is not clear" in found.warning
