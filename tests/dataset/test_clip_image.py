import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.dataset import Clip
from mcdiff_pipeline.dataset.clip_image import draw_clip, draw_samples


@pytest.fixture
def clip() -> Clip:
    """Three gray frames of 48 x 64 with one person, whose lower half moves to the right."""
    frames = np.full((3, 48, 64, 3), 128, dtype=np.uint8)
    flow = np.zeros((2, 2, 48, 64), dtype=np.float32)
    flow[:, 0, 24:40, 20:40] = 5
    masks = np.zeros((3, 48, 64), dtype=np.uint8)
    masks[:, 8:40, 20:40] = 1
    occlusion = np.zeros((2, 48, 64), dtype=bool)
    occlusion[0, 24:40, 40:45] = True
    keypoints = np.zeros((3, 1, 17, 3), dtype=np.float32)
    keypoints[:, 0, 0] = 30.5, 12.5, 2  # nose
    keypoints[:, 0, 15] = 30.5, 36.5, 1  # left ankle, hidden
    return Clip("clip", frames, flow, occlusion, masks, keypoints)


def tile(page: Image.Image, row: int, column: int) -> np.ndarray:
    """One tile at the size of the clip, without its label."""
    width, height = 256, 192
    left, top = column * (width + 4), row * (height + 16 + 4) + 16
    return np.asarray(page.crop((left, top, left + width, top + height)))


def test_row_shows_people_flow_and_strokes(clip):
    page = draw_clip(clip)
    people, flow, strokes = (tile(page, 0, column) for column in range(3))
    assert np.ptp(people[50, 122]) > 60  # the nose is drawn in color
    assert people[100, 80].min() > 200  # the outline of the mask is white
    assert flow[128, 120, 0] > 200 and flow[128, 120, 1] < 60  # to the right: red
    assert flow[40, 120].min() > 240  # no motion: white
    hatched = flow[100:156, 162:178]
    assert hatched.min() < 60 < hatched.max()
    assert np.ptp(strokes, axis=2).max() > 60


def test_last_row_shows_last_frame(clip):
    page = draw_clip(clip)
    assert page.size == (3 * 260 - 4, 3 * 212 - 4)
    assert np.ptp(tile(page, 2, 0)[50, 122]) > 60
    assert tile(page, 2, 1).min() == 255


def test_samples_depend_on_seed(clip):
    pages = [np.asarray(draw_samples(clip, 5, seed=seed)) for seed in (0, 0, 1)]
    assert pages[0].shape == (2 * 212 - 4, 4 * 260 - 4, 3)
    assert (pages[0] == pages[1]).all() and (pages[0] != pages[2]).any()


def test_objects_have_no_bones(clip):
    keypoints = np.zeros((3, 1, 8, 3), dtype=np.float32)
    keypoints[..., :] = 30.5, 20.5, 2
    page = draw_clip(Clip("object", clip.frames, clip.flow, clip.occlusion, clip.masks, keypoints))
    assert np.ptp(tile(page, 0, 0)[82, 122]) > 60
