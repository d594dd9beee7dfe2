# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import json

import numpy as np
import pytest

from mcdiff_pipeline import StrokeSheet


def test_strokes_go_to_another_program_and_come_back(place, mcdiff):
    code, out, _ = mcdiff("strokes", "convert", "strokes.json", "tracks.npy")
    assert code == 0 and "tracks.npy and visibility.npy: 2 tracks of 81 frames (wan-move)" in out
    code, out, _ = mcdiff(
        *("strokes", "convert", "tracks.npy", "back.json", "--image", "photo.png", "--num-frames", 5, "--fps", 10)
    )
    assert code == 0 and "2 strokes, 1 of them holds, 5 frames at 10 a second, for 48 x 40 pixels" in out
    before, after = StrokeSheet.load("strokes.json"), StrokeSheet.load("back.json")
    for stroke, other in zip(before.strokes, after.strokes, strict=True):
        for frame in range(4):
            assert np.allclose(stroke.at(frame, 5), other.at(frame, 5), atol=0.11)


def test_error_of_thinning_is_told(place, mcdiff):
    tracks = [[{"x": x + frame * x / 10, "y": 8} for frame in range(4)] for x in range(0, 48, 4)]
    (place / "many.json").write_text(json.dumps(tracks))
    arguments = ("strokes", "convert", "many.json", "few.json", "--format", "kjnodes", "--size", "48x40")
    code, out, _ = mcdiff(*arguments, "--max-strokes", 4)
    assert code == 0 and "4 of 12 tracks are kept. The other 8 are" in out
    assert len(StrokeSheet.load("few.json").strokes) == 4


def test_format_without_visibility_says_what_it_cannot_say(place, mcdiff):
    code, out, _ = mcdiff("strokes", "convert", "strokes.json", "splines.json", "--format", "kjnodes")
    assert code == 0 and "1 of them do not last for the whole clip" in out
    assert [len(track) for track in json.loads((place / "splines.json").read_text())] == [5, 5]


BAD = [
    (("tracks.npy", "a.json"), "there is no such file"),
    (("strokes.json", "a.json"), "name one of"),
    (("strokes.json", "a.pth", "--num-frames", "20"), "20 frames cannot be written"),
    (("strokes.json", "a.json", "--format", "ltx-points"), "is only read"),
    (("splines.json", "a.json", "--format", "kjnodes"), "give either --image, or --size"),
    (("splines.json", "a.json", "--format", "kjnodes", "--size", "48"), "is one side"),
    (("splines.json", "a.npy", "--format", "kjnodes", "--size", "48x40"), "ends in .json"),
    (("strokes.json", "one.txt"), "name a folder"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_conversion_is_refused_in_one_sentence(place, mcdiff, arguments, message):
    (place / "splines.json").write_text('[{"x": 1, "y": 2}, {"x": 3, "y": 2}]')
    code, _, err = mcdiff("strokes", "convert", *arguments)
    assert code == 2 and message in err and err.count("\n") == 1
