# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Regions: masks and polygons, their share of each pixel, and what is refused."""

import logging
import math

import numpy as np
import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from PIL import Image

from mcdiff_pipeline import Region, Stroke
from mcdiff_pipeline.layers import Layers
from mcdiff_pipeline.regions import check_regions, layer_shares, region_at, regions_of
from mcdiff_pipeline.strokes import resolve_region


HEIGHT, WIDTH = 24, 32


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def circle(x: float, y: float, radius: float, num_points: int = 200) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * math.pi, num_points, endpoint=False)
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def half_mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[:, : WIDTH // 2] = True
    return mask


# Masks


@pytest.mark.parametrize(
    "mask",
    [
        half_mask(),
        half_mask().astype(np.uint8) * 255,
        half_mask().astype(np.float64),
        torch.from_numpy(half_mask()),
        torch.from_numpy(half_mask()).to(torch.bfloat16),
        Image.fromarray(half_mask().astype(np.uint8) * 255),
        Image.fromarray(half_mask()),  # mode "1"
        Image.fromarray(half_mask().astype(np.uint8) * 255).convert("RGB"),
        Image.fromarray(half_mask().astype(np.uint8) * 255).convert("P"),
        Image.fromarray(half_mask().astype(np.uint16) * 65535),
    ],
    ids=["bool", "uint8", "float64", "tensor", "bfloat16", "L", "1", "RGB", "P", "16 bits"],
)
def test_mask_can_have_any_usual_form(mask):
    region = Region(mask)
    assert region.mask.dtype == torch.float32
    assert torch.equal(region.mask, torch.from_numpy(half_mask()).float())


def test_mask_can_be_the_path_of_an_image(tmp_path):
    Image.fromarray(half_mask().astype(np.uint8) * 255).save(tmp_path / "mask.png")
    for path in (tmp_path / "mask.png", str(tmp_path / "mask.png")):
        assert torch.equal(Region(path).mask, torch.from_numpy(half_mask()).float())


def test_values_between_black_and_white_are_kept():
    mask = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    assert torch.equal(Region(mask).mask, torch.from_numpy(mask / 255).float())


def test_region_does_not_change_with_the_array_it_was_made_from():
    mask = torch.ones(HEIGHT, WIDTH)
    region = Region(mask)
    mask.zero_()
    assert region.mask.all()


def test_smaller_coverage_of_a_mask_is_the_mean_over_each_pixel():
    mask = torch.rand(HEIGHT, WIDTH, generator=torch.manual_seed(0))
    expected = torch.nn.functional.avg_pool2d(mask[None], (3, 4))[0]
    torch.testing.assert_close(Region(mask).coverage(8, 8), expected)
    # a size that does not divide the mask keeps what is covered in all
    assert Region(mask).coverage(7, 13).mean().item() == pytest.approx(mask.mean().item(), rel=1e-5)


def test_larger_coverage_of_a_mask_is_linear_between_pixels():
    mask = torch.rand(HEIGHT, WIDTH, generator=torch.manual_seed(0))
    expected = torch.nn.functional.interpolate(mask[None, None], (50, 70), mode="bilinear")[0, 0]
    torch.testing.assert_close(Region(mask).coverage(50, 70), expected)
    taller = torch.nn.functional.interpolate(mask[None, None], (50, WIDTH), mode="bilinear")[0, 0]
    expected = torch.nn.functional.avg_pool2d(taller[None], (1, 4))[0]
    torch.testing.assert_close(Region(mask).coverage(50, 8), expected)


# Polygons


def test_polygon_along_the_axes_covers_exact_shares():
    coverage = Region(polygon=box(2, 3.25, 5.5, 6)).coverage(8, 8)
    expected = torch.zeros(8, 8)
    expected[4:6, 2:5], expected[3, 2:5], expected[4:6, 5], expected[3, 5] = 1, 0.75, 0.5, 0.375
    assert torch.equal(coverage, expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_polygon_covers_its_area_with_a_soft_outline(reverse):
    corners = circle(16.3, 11.8, 8.4)[:: -1 if reverse else 1]
    coverage = Region(polygon=corners).coverage(HEIGHT, WIDTH)
    assert coverage.sum().item() == pytest.approx(math.pi * 8.4**2, rel=2e-3)
    row, column = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    distance = torch.from_numpy(np.hypot(column - 16.3, row - 11.8))
    assert (coverage[distance < 7.6] == 1).all() and (coverage[distance > 9.2] == 0).all()
    outline = coverage[(distance - 8.4).abs() < 0.2]
    assert ((outline > 0) & (outline < 1)).all()
    assert (coverage - (8.4 - distance + 0.5).clamp(0, 1)).abs().max() < 0.15


def test_polygon_outside_the_picture_is_cut_off():
    coverage = Region(polygon=box(-10, -5, 4, 100)).coverage(HEIGHT, WIDTH)
    assert (coverage[:, :4] == 1).all() and (coverage[:, 4:] == 0).all()
    slanted = Region(polygon=[(-16, 12), (16, -20), (48, 12), (16, 44)]).coverage(HEIGHT, WIDTH)
    assert slanted.mean().item() > 0.99


def test_polygon_of_a_large_picture_is_the_polygon_of_a_small_one():
    region = Region(polygon=circle(16, 12, 9))
    large = region.scaled(100, 100).coverage(100 * HEIGHT, 100 * WIDTH)
    means = torch.nn.functional.avg_pool2d(large[None], 100)[0]
    assert (means - region.coverage(HEIGHT, WIDTH)).abs().max() < 0.1
    assert large.sum().item() == pytest.approx(math.pi * 900**2, rel=1e-3)


def test_scaled_polygon_covers_the_same_part_and_a_mask_stays():
    region = Region(polygon=box(2, 4, 6, 8), name="cup", rigid=True, order=2).scaled(0.5, 0.25)
    assert region.polygon == ((1, 1), (3, 1), (3, 2), (1, 2))
    assert (region.name, region.rigid, region.order) == ("cup", True, 2)
    mask = Region(half_mask())
    assert torch.equal(mask.scaled(3, 5).mask, mask.mask)
    with pytest.raises(ValueError, match="above 0"):
        region.scaled(0, 1)


@pytest.mark.parametrize(
    "corners",
    [
        # a thin part that the outline follows there and back
        [(2, 2), (10, 2), (10, 6), (20, 6), (10, 6), (10, 10), (2, 10)],
        # two squares that share a corner
        [(2, 2), (6, 2), (6, 6), (10, 6), (10, 10), (6, 10), (6, 6), (2, 6)],
        # points on straight sides, and one given twice
        [(2, 2), (5, 2), (10, 2), (10, 2), (10, 10), (2, 10), (2, 2)],
    ],
)
def test_polygon_that_touches_itself_is_allowed(corners):
    x, y = np.array(corners, dtype=float).T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert Region(polygon=corners).coverage(HEIGHT, WIDTH).sum().item() == pytest.approx(area)


def test_many_sides_are_compared():
    corners = circle(500, 500, 400, num_points=10_000)
    Region(polygon=corners)
    corners[3000], corners[7000] = corners[7000], corners[3000]
    with pytest.raises(ValueError, match="polygon crosses itself"):
        Region(polygon=corners)


# What is refused

HOLED = half_mask().astype(float)
HOLED[3, 4] = math.nan

BAD_REGIONS = {
    "nothing": ({}, "mask and polygon are not given; a region has one of them"),
    "both": ({"mask": half_mask(), "polygon": box(0, 0, 5, 5)}, "mask and polygon are both given"),
    "rigid a number": ({"mask": half_mask(), "rigid": 1}, "rigid is 1; it must be true or false"),
    "an empty name": ({"mask": half_mask(), "name": " "}, "name is ' '; it must be a text of 1 to 100 characters"),
    "a name that is a number": ({"mask": half_mask(), "name": 3}, "name is 3; it must be a text"),
    "a long name": ({"mask": half_mask(), "name": "a" * 101}, "name is 'aaa.*it must be a text"),
    "an order with a fraction": ({"mask": half_mask(), "order": 0.5}, "order is 0.5; it must be a whole number"),
    "an order of text": ({"mask": half_mask(), "order": "1"}, "order is '1'; it must be a whole number"),
    "an empty mask": ({"mask": half_mask() & False}, "mask is empty: it covers 0 pixels in all"),
    "less than a pixel": ({"mask": half_mask() * 0.0019}, "mask is empty: it covers 0.* pixels in all; mark at least"),
    "NaN in a mask": ({"mask": HOLED}, "mask holds NaN"),
    "a negative mask": ({"mask": half_mask() - 0.5}, r"mask spans \[-0.5, 0.5\]; floats must lie in \[0, 1\]"),
    "a float mask of 255": ({"mask": half_mask() * 255.0}, r"mask spans \[0, 255\].*rescale them, or give uint8"),
    "an infinite mask": ({"mask": np.where(half_mask(), np.inf, 0)}, r"mask spans \[0, inf\]"),
    "uint8 of 0 and 1": (
        {"mask": half_mask().astype(np.uint8)},
        "uint8 and holds nothing above 1.*multiply it by 255",
    ),
    "whole numbers": ({"mask": half_mask().astype(np.int64)}, "mask holds int64; it must hold bool, uint8"),
    "text in an array": ({"mask": np.array([["a"]])}, "mask holds <U1; it must hold bool"),
    "a batch": ({"mask": half_mask()[None]}, r"mask has the shape \(1, 24, 32\); it must be \(height, width\)"),
    "no pixels": ({"mask": half_mask()[:0]}, r"mask has the shape \(0, 32\).*at least one pixel"),
    "colors": (
        {"mask": Image.new("RGB", (9, 9), "red")},
        "mask is an image of mode 'RGB' with colors or transparency",
    ),
    "transparency": ({"mask": Image.new("RGBA", (9, 9))}, "mode 'RGBA' with colors or transparency; it must be gray"),
    "two points": ({"polygon": [(1, 1), (5, 5)]}, "polygon holds 2 points; a polygon needs at least three"),
    "no points": ({"polygon": []}, "polygon holds 0 points"),
    "a number": ({"polygon": 3}, r"polygon is 3; it must be a list of \[x, y\] pairs"),
    "a point of three": ({"polygon": [(1, 1), (5, 5), (1, 2, 3)]}, r"polygon\[2\] is \(1, 2, 3\); it must be a pair"),
    "NaN in a polygon": (
        {"polygon": [(1, 1), (5, math.nan), (1, 5)]},
        r"polygon\[1\] is \(5, nan\); it must be a pair",
    ),
    "infinity in a polygon": ({"polygon": [(1, 1), (5, 5), (math.inf, 5)]}, r"polygon\[2\] is \(inf, 5\)"),
    "far away": (
        {"polygon": [(1, 1), (5, 5), (1e7, 5)]},
        r"polygon\[2\] is \[1e\+07, 5\].*from -1,000,000 to 1,000,000",
    ),
    "a line": ({"polygon": [(1, 1), (5, 5), (9, 9)]}, "polygon has no area: its points lie on one line"),
    "one point three times": ({"polygon": [(1, 1)] * 3}, "polygon has no area"),
    "a bow tie": (
        {"polygon": [(0, 0), (9, 9), (9, 0), (0, 9)]},
        "polygon crosses itself: the side from point 0 crosses the side from point 2; give the points in the order",
    ),
    "a bow tie with a point in the middle": (
        {"polygon": [(0, 0), (5, 5), (9, 9), (9, 0), (0, 9)]},
        "polygon crosses itself: the side from point 0 crosses the side from point 3",
    ),
    "a star": ({"polygon": [circle(9, 9, 8, 5)[2 * k % 5] for k in range(5)]}, "polygon crosses itself"),
    "too many points": ({"polygon": circle(9, 9, 8, 10_001)}, "polygon holds 10001 points; 10000 are allowed"),
}


@pytest.mark.parametrize("name", BAD_REGIONS)
def test_wrong_region_is_refused_in_one_sentence(name):
    fields, message = BAD_REGIONS[name]
    with pytest.raises(ValueError, match=message) as error:
        Region(**fields)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_mask_of_another_type_is_refused():
    with pytest.raises(TypeError, match="mask is a list, but it has to be an array"):
        Region([[True, False]])


def test_file_that_is_no_mask_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.png"):
        Region(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match="mask is '.*text.png', which cannot be read as an image"):
        Region(tmp_path / "text.png")


BAD_FOR_A_PICTURE = {
    "another size": (
        [Region(np.ones((9, 7)))],
        r"regions\[0\].mask has 7 x 9 pixels, but the picture has 32 x 24; give it the size of the picture",
    ),
    "a mask of everything": (
        [Region(half_mask()), Region(np.ones((HEIGHT, WIDTH)))],
        r"regions\[1\].mask covers 100.0% of the picture",
    ),
    "a polygon of everything": ([Region(polygon=box(-1, -1, 40, 40))], r"regions\[0\].polygon covers 100.0%"),
    "a polygon outside": ([Region(polygon=box(40, 2, 50, 9))], r"regions\[0\].polygon covers 0 pixels of the picture"),
    "a tiny polygon": ([Region(polygon=box(4, 2, 4.5, 3))], r"regions\[0\].polygon covers 0.5 pixels of the picture"),
    "one name twice": (
        [Region(half_mask(), name="cup"), Region(half_mask()), Region(~half_mask(), name="cup")],
        r"regions\[2\].name is 'cup', as that of regions\[0\]; give each region a name of its own",
    ),
    "too many": ([Region(half_mask())] * 65, "There are 65 regions; 64 are allowed"),
}


@pytest.mark.parametrize("name", BAD_FOR_A_PICTURE)
def test_regions_that_do_not_fit_the_picture_are_refused(name):
    regions, message = BAD_FOR_A_PICTURE[name]
    with pytest.raises(ValueError, match=message):
        check_regions(regions, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=message):
        regions_of(regions, HEIGHT, WIDTH)


def test_what_is_no_region_is_refused():
    with pytest.raises(TypeError, match=r"regions\[1\] is a str, but it has to be a `Region`"):
        check_regions([Region(half_mask()), "cup"], HEIGHT, WIDTH)


@pytest.fixture
def warnings_of_diffusers(caplog):
    diffusers_logging.enable_propagation()
    with caplog.at_level(logging.WARNING, logger="diffusers"), caplog.at_level(logging.WARNING, "mcdiff_pipeline"):
        yield caplog
    diffusers_logging.disable_propagation()


def test_overlap_is_said(warnings_of_diffusers):
    regions = [Region(half_mask(), name="cup"), Region(polygon=box(12, 2, 20, 12)), Region(polygon=box(26, 2, 30, 9))]
    check_regions(regions, HEIGHT, WIDTH)
    (message,) = warnings_of_diffusers.messages
    assert message.startswith(
        "regions[0] ('cup') and regions[1] overlap on about 40 pixels, 50.0% of the smaller one;"
    )
    assert "the later one is in front" in message


def test_overlap_of_many_regions_is_one_warning(warnings_of_diffusers):
    check_regions([Region(polygon=box(2, 2, 9, 9 + k)) for k in range(4)], HEIGHT, WIDTH)
    (message,) = warnings_of_diffusers.messages
    assert "(and 5 more pairs overlap)" in message


def test_regions_that_meet_do_not_overlap(warnings_of_diffusers):
    soft = torch.linspace(0, 1, WIDTH).repeat(HEIGHT, 1)
    check_regions([Region(soft), Region(1 - soft)], HEIGHT, WIDTH)
    check_regions([Region(polygon=[(0, 0), (32, 0), (32, 24)]), Region(polygon=[(0, 0), (32, 24), (0, 24)])], 24, 32)
    assert not warnings_of_diffusers.messages


# Several regions of one picture


def label_map() -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[2:8, 2:8], labels[2:8, 10:20], labels[12:20, 2:30] = 1, 2, 5
    return labels


@pytest.mark.parametrize(
    "labels",
    [
        label_map(),
        label_map().astype(np.uint16),
        label_map().astype(np.int64),
        torch.from_numpy(label_map()).int(),
        Image.fromarray(label_map()),
        Image.fromarray(label_map().astype(np.int32)),
        Image.fromarray(label_map()).convert("P"),
    ],
    ids=["uint8", "uint16", "int64", "tensor", "L", "I", "P"],
)
def test_each_label_of_a_map_is_a_region(labels):
    regions = regions_of(labels, HEIGHT, WIDTH)
    for region, label in zip(regions, (1, 2, 5), strict=True):
        assert torch.equal(region.mask, torch.from_numpy(label_map() == label).float())


def test_label_map_can_be_the_path_of_an_image(tmp_path):
    palette = Image.fromarray(label_map()).convert("P")
    palette.putpalette(list(range(255, -1, -1)) * 3)
    palette.save(tmp_path / "labels.png")
    regions = regions_of(tmp_path / "labels.png", HEIGHT, WIDTH)
    assert [region.mask.sum().item() for region in regions] == [36, 60, 224]


def test_no_regions_are_an_empty_tuple():
    assert regions_of(None, HEIGHT, WIDTH) == ()
    assert regions_of([], HEIGHT, WIDTH) == ()
    assert regions_of(np.zeros((HEIGHT, WIDTH), dtype=bool), HEIGHT, WIDTH) == ()


def test_list_of_regions_is_kept():
    regions = [Region(half_mask()), Region(polygon=box(20, 2, 30, 9))]
    assert regions_of(regions, HEIGHT, WIDTH) == tuple(regions)


@pytest.mark.parametrize(
    "labels, message",
    [
        (label_map().T, "The label map has 24 x 32 pixels, but the picture has 32 x 24"),
        (label_map() / 5, r"The label map holds float64; it must hold whole numbers: .* `Region\(mask\)`"),
        (torch.from_numpy(label_map()) / 5, "The label map holds float32; it must hold whole numbers"),
        (label_map()[None], r"The label map has the shape \(1, 24, 32\); it must be \(height, width\)"),
        (-label_map().astype(int), "The label map holds -5; labels are whole numbers from 0"),
        (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH), "The label map holds 767 labels beside 0; 64 regions"),
        (np.ones((HEIGHT, WIDTH), dtype=bool), r"regions\[0\].mask covers 100.0% of the picture"),
        (Image.new("RGB", (WIDTH, HEIGHT)), "The label map is an image of mode 'RGB'; it must have one channel"),
    ],
)
def test_wrong_label_map_is_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        regions_of(labels, HEIGHT, WIDTH)


@pytest.mark.parametrize("value", [3, {"cup": 1}, [[0, 1]], Region(half_mask())])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match=f"`regions` is a {type(value).__name__}, but it has to be a list of `Region`"):
        regions_of(value, HEIGHT, WIDTH)


def test_shares_of_a_pixel_sum_to_one_and_the_later_region_is_in_front():
    soft = torch.linspace(0, 1, WIDTH).repeat(HEIGHT, 1)
    regions = [Region(half_mask()), Region(polygon=circle(16, 12, 8)), Region(soft)]
    shares = layer_shares(regions, HEIGHT, WIDTH)
    assert shares.shape == (4, HEIGHT, WIDTH) and shares.dtype == torch.uint8
    assert torch.equal(shares.sum(dim=0), torch.full((HEIGHT, WIDTH), 255))
    assert torch.equal(shares[3], (255 * soft).round().to(torch.uint8))
    assert shares[2, 12, 16] == 255 - shares[3, 12, 16]
    assert shares[0, 2, 3] == 0 and shares[0, 2, 25] == 255 - shares[3, 2, 25]


def test_without_regions_everything_belongs_to_none():
    assert (layer_shares([], 3, 4) == 255).all()


def test_regions_with_a_common_outline_leave_no_seam_at_any_size():
    labels = np.ones((HEIGHT, WIDTH), dtype=int)
    labels[:, 13:] = 2
    regions = regions_of(labels, HEIGHT, WIDTH)
    for size in ((5, 7), (HEIGHT, WIDTH), (50, 70)):
        assert layer_shares(regions, *size)[0].max() == 0


def test_region_at_a_point_is_the_layer_that_a_stroke_acts_in():
    regions = [Region(half_mask()), Region(polygon=circle(16, 12, 8)), Region(polygon=box(20, 2, 22, 4.4))]
    size = (HEIGHT, WIDTH)
    layers = Layers.begin([regions], [size], size, torch.zeros(1, 2, HEIGHT // 4, WIDTH // 4))
    for row in range(HEIGHT):
        for column in range(WIDTH):
            point = (column + 0.3, row + 0.9)
            assert region_at(regions, *point, *size) == layers.layer_at(0, 0, point, point)
    for x, y in ((-0.1, 3), (3, -1), (WIDTH + 1, 3), (3, HEIGHT + 1)):
        assert region_at(regions, x, y, HEIGHT, WIDTH) == layers.layer_at(0, 0, (x, y), (x, y)) == 0


def test_stroke_on_an_outline_belongs_to_the_region_unless_it_covers_much_less():
    regions = [Region(np.array([[0.46, 0.44], [0.0, 1.0]], np.float32))]
    assert [region_at(regions, x + 0.5, 0.5, 2, 2) for x in (0, 1)] == [1, 0]


# Regions that strokes name


def test_stroke_names_its_region_by_name_or_number():
    regions = [Region(half_mask()), Region(half_mask(), name="cup")]
    for region, number in ((None, None), (0, 0), (1, 1), (2, 2), ("cup", 2)):
        assert resolve_region(Stroke([(1, 1)], kind="hold", region=region), regions) == number


@pytest.mark.parametrize("region", ["plate", 3])
def test_region_that_does_not_exist_is_refused_with_those_that_do(region):
    stroke = Stroke([(1, 1)], kind="hold", region=region)
    regions = [Region(half_mask(), name="saucer"), Region(half_mask()), Region(half_mask(), name="cup")]
    with pytest.raises(ValueError, match=rf"region is {region!r}, .* regions 1 to 2 \(names: 'saucer'\)"):
        resolve_region(stroke, regions[:2])
    with pytest.raises(ValueError, match=rf"region is {region!r}, .* 1 to 1 \(names: none has a name\)"):
        resolve_region(stroke, regions[1:2])
    with pytest.raises(ValueError, match=rf"region is {region!r}, but the picture has no regions"):
        resolve_region(stroke, [])
