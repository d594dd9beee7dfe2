# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from PIL import Image


@pytest.mark.parametrize(
    ("size", "page", "step"),
    [((48, 40), (960, 800), 5), ((1000, 1200), (1000, 1200), 100), ((4000, 3000), (1600, 1200), 200)],
)
def test_grid_has_readable_steps_at_any_size(place, mcdiff, size, page, step):
    Image.new("RGB", size, (0, 128, 0)).save("photo.png")
    code, out, _ = mcdiff("grid", "photo.png", "-o", "grid.png")
    assert code == 0 and out == f"grid.png: {size[0]} x {size[1]} pixels, a line every {step}\n"
    pixels = np.asarray(Image.open("grid.png")).astype(int)
    margin = (pixels.shape[1] - page[0]) // 2
    assert pixels.shape == (page[1] + 2 * margin, page[0] + 2 * margin, 3)
    zoom = page[0] / size[0]
    row = pixels[margin + page[1] // 2 + 7, margin:-margin]
    light = np.flatnonzero(row.min(axis=1) > 150)
    assert all(np.abs(light / zoom - line).min() * zoom < 1.5 for line in range(0, size[0], step))
    assert (pixels[:margin] < 100).any() and (pixels[-margin:] < 100).any()  # labels


def test_points_in_percent_are_scaled_with_the_image(place, mcdiff):
    from mcdiff_pipeline import StrokeSheet
    from mcdiff_pipeline.video import read_video

    arguments = ("--stroke", "50%,30% 60%,12", "--hold", "25%,50%", "--num-frames", 2, "--steps", 1)
    assert mcdiff("generate", "photo.png", *arguments, "-o", "a.mkv")[0] == 0
    strokes = StrokeSheet.from_dict(read_video("a.mkv").metadata["strokes"]).strokes
    assert [stroke.points for stroke in strokes] == [((24, 12), (28.8, 12)), ((12, 20),)]


@pytest.mark.parametrize("text", ["50%%,1", "%,1", "1,1,1", "a%,2"])
def test_point_that_is_none_says_how_to_write_one(place, mcdiff, text):
    code, _, err = mcdiff("generate", "photo.png", "--hold", text, "-o", "a.mkv")
    assert code == 2 and f'{text!r} is not a point; write "x,y x,y" in pixels, or "x%,y% x%,y%"' in err
