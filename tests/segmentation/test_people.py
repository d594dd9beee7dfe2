"""Masks of people in photographs."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mcdiff_pipeline.segmentation import PersonSegmenter, regions_of_people
from support.paths import EXAMPLES
from support.pose_model import write_bundle


@pytest.fixture(scope="module")
def segmenter():
    pytest.importorskip("mediapipe")
    with PersonSegmenter() as segmenter:
        yield segmenter


@pytest.mark.pose_model
@pytest.mark.parametrize("width", [250, 500, 1500])
def test_person_has_a_mask_of_the_pictures_size(segmenter, width):
    with Image.open(EXAMPLES / "walking.jpg") as image:
        picture = image.convert("RGB").resize((width, width))
    (person,) = segmenter.segment(picture)
    assert person.mask.shape == (width, width) and person.mask.dtype == np.float32
    assert 0 <= person.mask.min() and person.mask.max() <= 1
    assert person.warning is None and person.confidence > 0.8
    scale = width / 500
    for x, y in [(308, 256), (327, 122), (343, 346), (205, 425)]:
        assert person.mask[int(y * scale), int(x * scale)] > 0.9
    for x, y in [(60, 200), (440, 170), (270, 430)]:
        assert person.mask[int(y * scale), int(x * scale)] < 0.1


@pytest.mark.pose_model
def test_each_person_is_a_region_and_the_larger_one_is_in_front(segmenter):
    regions = regions_of_people(EXAMPLES / "balancing.jpg", segmenter)
    assert [round(region.mask.mean().item(), 2) for region in regions] == [0.05, 0.15]
    assert [region.mask[150, 250].item() > 0.5 for region in regions] == [False, True]
    assert sum(region.mask for region in regions).max() <= 1 + 1e-6


@pytest.mark.pose_model
def test_picture_without_people_has_none(segmenter):
    assert segmenter.segment(torch.rand(3, 64, 48)) == []
    assert regions_of_people(EXAMPLES / "coffee.jpg", segmenter) == []


def test_missing_scipy_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(ImportError, match=r"pip install 'mcdiff-pipeline\[annotation,segmentation\]'"):
        PersonSegmenter(write_bundle(tmp_path / "model.task"))


def test_missing_pose_model_says_how_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="build_pose_model.py"):
        PersonSegmenter(tmp_path / "missing.task")
