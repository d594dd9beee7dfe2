"""Masks of things in photographs, found by networks without weights: a thing is what has the color of its points."""

import numpy as np
import pytest
from label_photographs import main
from PIL import Image, ImageDraw

from rendering.labeled_photographs.labels import label_path, read_labels
from support.segmenter import write_segmenter


pytest.importorskip("onnxruntime")


def test_things_are_found_once_and_labeled_photographs_are_skipped(tmp_path):
    image = Image.new("RGB", (240, 160), (40, 90, 40))
    ImageDraw.Draw(image).rectangle((20, 20, 99, 99), fill=(220, 30, 30))
    photograph = tmp_path / "photographs" / "train" / "box.png"
    photograph.parent.mkdir(parents=True)
    image.save(photograph)
    arguments = [
        *("--photographs_dir", str(tmp_path / "photographs"), "--splits", "train"),
        *("--segmenter", str(write_segmenter(tmp_path / "segmenter")), "--output_dir", str(tmp_path / "masks")),
    ]
    main(arguments)
    path = label_path(tmp_path / "masks", photograph)
    labels = read_labels(path)
    assert labels.masks.shape == (1, 160, 240) and not labels.is_salient.any()
    expected = np.zeros((160, 240), bool)
    expected[20:100, 20:100] = True
    found = labels.masks[0] > 127
    assert (found & expected).sum() / (found | expected).sum() > 0.9
    written = path.stat().st_mtime_ns
    main(arguments)
    assert path.stat().st_mtime_ns == written
