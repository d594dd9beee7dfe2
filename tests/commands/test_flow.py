# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import os

import numpy as np
import pytest
import torch
from PIL import Image

from mcdiff_pipeline.flow import resize_flow
from mcdiff_pipeline.flow_visualization import flow_to_image


def test_flow_shows_strokes_beside_colors(place, mcdiff, tiny_pipeline, image):
    code, out, _ = mcdiff("flow", "photo.png", "--strokes", "strokes.json", "--size", "48x40", "--output", "flow.png")
    assert code == 0 and "flow.png: step 0 to 1; the flow moves" in out
    page = np.asarray(Image.open("flow.png"))
    assert page.shape == (40, 96, 3)
    assert np.array_equal(page[:5, :48], np.asarray(image)[:5])
    with torch.no_grad():
        dense_flow = tiny_pipeline.predict_flow("photo.png", "strokes.json", height=40, width=48)
    assert np.array_equal(page[:, 48:], flow_to_image(resize_flow(dense_flow, (40, 48)))[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", ["photo.png", "./photo.png", "link.png", "hard.png"])
def test_flow_does_not_replace_its_image(place, mcdiff, name):
    (place / "link.png").symlink_to("photo.png")
    os.link("photo.png", "hard.png")
    before = (place / "photo.png").read_bytes()
    code, _, err = mcdiff("flow", "photo.png", "--hold", "4,3", "--output", name)
    assert code == 2 and "is to be written, but it is also an input" in err
    assert (place / "photo.png").read_bytes() == before


def test_flow_of_a_later_step_differs_and_the_last_step_is_checked(place, mcdiff):
    for frame in (0, 3):
        arguments = ("flow", "photo.png", "--strokes", "strokes.json", "--frame", frame)
        assert mcdiff(*arguments, "--output", f"{frame}.png")[0] == 0
    assert (place / "0.png").read_bytes() != (place / "3.png").read_bytes()
    code, _, err = mcdiff("flow", "photo.png", "--strokes", "strokes.json", "--frame", 4, "--output", "4.png")
    assert code == 2 and "steps 0 to 3" in err and not (place / "4.png").exists()
