# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.dataset import ClipDataset
from support.paths import EXAMPLES


SHARD = EXAMPLES / "annotated" / "train-00000.tar"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with a link `clips` to annotated clips."""
    (tmp_path / "clips").symlink_to(SHARD.parent)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_clip_is_drawn_by_number_and_by_key(place, mcdiff):
    clips = ClipDataset(SHARD)
    code, out, _ = mcdiff("dataset", "show", SHARD, "--clip", 1, "--output", "a.png")
    assert code == 0 and f"a.png: clip {clips.keys[1]}, {len(clips[1].frames)} frames of " in out
    assert mcdiff("dataset", "show", "clips", "--clip", clips.keys[1], "--output", "b.png")[0] == 0
    assert mcdiff("dataset", "show", "clips", "--output", "first.png")[0] == 0
    by_number, by_key, first = (np.asarray(Image.open(name)) for name in ("a.png", "b.png", "first.png"))
    assert np.array_equal(by_number, by_key) and not np.array_equal(by_number, first)
    assert by_number.shape[1] == 3 * 256 + 2 * 4


def test_samples_of_strokes_are_drawn_with_a_seed(place, mcdiff):
    for name, seed in (("a.png", 0), ("b.png", 1)):
        assert mcdiff("dataset", "show", "clips", "--samples", 16, "--seed", seed, "--output", name)[0] == 0
    first, second = (np.asarray(Image.open(name)) for name in ("a.png", "b.png"))
    assert first.shape[:2] == (4 * (256 + 16 + 4) - 4, 4 * 260 - 4)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.tar", "--output", "a.png"), "nowhere.tar"),
        (("clips", "--output", "a.doc"), "a.doc: the suffix is '.doc', but must be one of .png"),
        (("clips", "--clip", "7000", "--output", "a.png"), "a number from 0 to"),
        (("clips", "--clip", "nobody", "--output", "a.png"), "no such clip"),
        (("clips", "--samples", "0", "--output", "a.png"), "'0' is not a whole number of at least 1"),
    ],
)
def test_wrong_input_is_reported_in_one_sentence(place, mcdiff, arguments, message):
    code, out, err = mcdiff("dataset", "show", *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not Path(arguments[-1]).exists()
