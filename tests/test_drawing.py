import numpy as np
from PIL import Image

from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.drawing import draw_strokes


def test_strokes_are_drawn_at_their_scaled_positions():
    blank = Image.new("RGB", (60, 40), "black")
    sheet = StrokeSheet([Stroke([(30, 60), (90, 60), (90, 60)], frames=[0, 1, 2])], 120, 80, num_frames=3)
    drawn = np.asarray(draw_strokes(blank, sheet)).sum(axis=-1)
    rows, columns = np.nonzero(drawn)
    assert rows.min() >= 26 and rows.max() <= 34
    assert columns.min() >= 11 and columns.max() <= 48
    assert drawn[30, 15:45].all()
