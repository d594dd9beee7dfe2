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


def test_known_masks_are_taken_for_the_same_photographs_only(tmp_path, capsys):
    photographs, masks, known = tmp_path / "photographs", tmp_path / "masks", tmp_path / "known.zip"
    for name, color in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        image = Image.new("RGB", (240, 160), (40, 90, 40))
        ImageDraw.Draw(image).rectangle((20, 20, 99, 99), fill=color)
        (photographs / "train").mkdir(parents=True, exist_ok=True)
        image.save(photographs / f"train/{name}.png")
    given = [*("--photographs_dir", str(photographs), "--splits", "train"), "--known", str(known)]
    given += ["--segmenter", str(write_segmenter(tmp_path / "segmenter"))]
    main([*given, "--output_dir", str(masks), "--pack", str(known)])

    # one photograph has changed since, and its masks are found again
    Image.new("RGB", (240, 160), (200, 200, 200)).save(photographs / "train/blue.png")
    main([*given, "--output_dir", str(tmp_path / "again")])
    assert "1 of these have masks in" in capsys.readouterr().err
    red, blue = (photographs / f"train/{name}.png" for name in ("red", "blue"))
    assert label_path(tmp_path / "again", red).read_bytes() == label_path(masks, red).read_bytes()
    assert label_path(tmp_path / "again", blue).read_bytes() != label_path(masks, blue).read_bytes()
    main([*given, "--label_all", "--output_dir", str(tmp_path / "all")])
    assert "have masks in" not in capsys.readouterr().err
    assert label_path(tmp_path / "all", red).read_bytes() == label_path(masks, red).read_bytes()
