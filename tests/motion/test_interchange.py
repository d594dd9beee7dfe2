# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Tracks of other programs become strokes, and strokes become their tracks. Files are made from the descriptions in
docs/interchange.md."""

import io
import json
import pickle

import numpy as np
import pytest
import torch

from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.motion.interchange import FORMATS, read_tracks, write_tracks
from mcdiff_pipeline.motion.thinning import thin_tracks
from mcdiff_pipeline.motion.tracks import Tracks, needed_points


SHEET = StrokeSheet(
    [
        Stroke([(10, 10), (30, 20), (30, 32)]),
        Stroke([(40, 30)], kind="hold"),
        Stroke([(5, 5), (9, 5)], start_frame=2, end_frame=6),
    ],
    64,
    48,
    num_frames=9,
    fps=12,
)
# How far a point may be moved by writing it: the rounding of float32, of hundredths, and of Tora's units.
ROUNDING = {"wan-move": 1e-5, "ati": 1e-5, "cotracker": 1e-5, "tora": 0.5 * 64 / 256 + 1e-9}
NAMES = {"wan-move": "tracks.npy", "ati": "a.pth", "cotracker": "c.npz", "tora": "trajectories"}
WRITABLE = sorted(set(FORMATS) - {"ltx-points"})


def path_of(name: str) -> str:
    return NAMES.get(name, "splines.json")


@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_written_is_read_again(name, tmp_path):
    tracks = Tracks.of_sheet(SHEET)
    path = tmp_path / path_of(name)
    written = write_tracks(tracks, path, name)
    back = read_tracks(path, name, 64, 48, num_frames=9)
    if written.num_frames == 9:
        expected = tracks
    else:
        expected = tracks.resampled(written.num_frames).resampled(9)
    seen = expected.visible
    error = np.abs(back.positions - expected.positions)[seen]
    assert error.max() <= ROUNDING.get(name, 0.005 + 1e-9)
    assert (back.visible == seen).all() or written.filled == [2]
    assert FORMATS[name].has_visibility == (written.filled == [])


def test_file_read_twice_gives_the_strokes_of_the_sheet(tmp_path):
    write_tracks(Tracks.of_sheet(SHEET), tmp_path / "c.npz", "cotracker")
    sheet = read_tracks(tmp_path / "c.npz", "cotracker", 64, 48).sheet()
    for frame in range(9):
        for stroke, other in zip(sheet.strokes, SHEET.strokes, strict=True):
            here, there = stroke.at(frame, 9), other.at(frame, 9)
            assert (here is None) == (there is None)
            assert here is None or np.hypot(here[0] - there[0], here[1] - there[1]) <= 0.1 + 1e-5
    assert [stroke.kind for stroke in sheet.strokes] == ["move", "hold", "move"]


def test_wan_move_has_a_batch_and_counts_from_the_centers_of_pixels(tmp_path):
    positions = np.array([[[3.0, 4.0], [7.0, 1.0]], [[5.0, 4.0], [7.0, 1.0]]], dtype=np.float32)
    np.save(tmp_path / "x_tracks.npy", positions[None])
    np.save(tmp_path / "x_visibility.npy", np.array([[[1, 1], [1, 0]]]))
    tracks = read_tracks(tmp_path / "x_tracks.npy", None, 16, 16)
    assert tracks.positions[:, 0].tolist() == [[3.5, 4.5], [5.5, 4.5]]
    assert tracks.visible.tolist() == [[True, True], [True, False]]
    assert tracks.fps == 16


@pytest.mark.parametrize("layout", ["tracks first", "frames first"])
def test_ati_is_an_npz_in_a_pth_times_8(tmp_path, layout):
    array = np.zeros((2, 121, 1, 3), dtype=np.float32)
    array[0, :, 0, 0], array[0, :, 0, 1], array[0, :, 0, 2] = 8 * np.arange(121) / 10, 8 * 20, 8
    array[1, :40, 0] = 8 * np.array([30, 10, 1])  # shorter tracks are filled with zeros
    if layout == "frames first":
        array = array.swapaxes(0, 1)
    packed = io.BytesIO()
    np.savez_compressed(packed, array=array)
    torch.save(packed.getvalue(), tmp_path / "a.pth")
    tracks = read_tracks(tmp_path / "a.pth", "ati", 64, 48)
    assert tracks.positions[120, 0].tolist() == pytest.approx([12, 20])
    assert tracks.visible.sum(axis=0).tolist() == [121, 40]
    short = read_tracks(tmp_path / "a.pth", "ati", 64, 48, num_frames=16)
    assert short.fps == pytest.approx(3)  # 5 seconds
    assert short.positions[15, 0].tolist() == pytest.approx([12, 20])


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_cotracker_may_give_probabilities_and_no_batch(tmp_path, suffix):
    arrays = {"pred_tracks": np.full((3, 2, 2), 4.0), "pred_visibility": np.array([[0.9, 0.1]] * 3)}
    if suffix == ".npz":
        np.savez(tmp_path / "c.npz", **arrays)
    else:
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, tmp_path / "c.pt")
    tracks = read_tracks(tmp_path / f"c{suffix}", "cotracker", 16, 16)
    assert tracks.positions[0, 0].tolist() == [4.5, 4.5] and tracks.visible[0].tolist() == [True, False]


SPLINES = [
    '[[{"x": 1, "y": 2}, {"x": 3, "y": 2}, {"x": 5, "y": 2}], [{"x": 7, "y": 7}, {"x": 7, "y": 8}]]',
    "[[{'x': 1, 'y': 2}, {'x': 3, 'y': 2}, {'x': 5, 'y': 2}], [{'x': 7, 'y': 7}, {'x': 7, 'y': 8}]]",
    json.dumps(['[{"x": 1, "y": 2}, {"x": 3, "y": 2}, {"x": 5, "y": 2}]', '[{"x": 7, "y": 7}, {"x": 7, "y": 8}]']),
]


@pytest.mark.parametrize("text", SPLINES, ids=["JSON", "single quotes", "texts in a list"])
def test_splines_are_read_in_the_forms_that_nodes_pass_on(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    tracks = read_tracks(tmp_path / "s.json", "kjnodes", 16, 16)
    assert tracks.positions[:, 0].tolist() == [[1, 2], [3, 2], [5, 2]]
    assert tracks.visible.tolist() == [[True, True], [True, True], [True, False]]


def test_a_single_spline_is_one_track(tmp_path):
    (tmp_path / "s.json").write_text('[{"x": 1, "y": 2}, {"x": 3, "y": 2}]')
    assert len(read_tracks(tmp_path / "s.json", "kjnodes", 16, 16)) == 1


def test_control_points_of_ltx_are_a_catmull_rom_spline(tmp_path):
    points = [{"x": 0, "y": 0}, {"x": 10, "y": 0}, {"x": 10, "y": 10}]
    (tmp_path / "p.json").write_text(json.dumps([points]))
    tracks = read_tracks(tmp_path / "p.json", "ltx-points", 16, 16, num_frames=5)
    # the middle of a part is (-a + 9 b + 9 c - d) / 16 for the points a, b, c, d around it; each end counts twice
    expected = [[0, 0], [5, -0.625], [10, 0], [10.625, 5], [10, 10]]
    assert np.allclose(tracks.positions[:, 0], expected)


def test_tora_stretches_its_canvas_and_gives_each_part_the_same_time(tmp_path):
    (tmp_path / "t.txt").write_text("0,128\n64,128\n256,0\n")
    tracks = read_tracks(tmp_path / "t.txt", None, 512, 100, num_frames=5)
    assert tracks.positions[:, 0].tolist() == [[0, 50], [64, 50], [128, 50], [320, 25], [512, 0]]


class Payload:
    def __reduce__(self):
        return print, ("this code ran",)


@pytest.mark.parametrize("name", ["ati", "cotracker"])
def test_pickles_that_could_run_code_are_refused(tmp_path, name, capsys):
    torch.save({"pred_tracks": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="could run code"):
        read_tracks(tmp_path / "evil.pth", name, 16, 16)
    np.save(tmp_path / "tracks.npy", np.array([Payload()]), allow_pickle=True)
    with pytest.raises(ValueError, match="not an array"):
        read_tracks(tmp_path / "tracks.npy", "wan-move", 16, 16)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match=r"plain\.pth"):
        read_tracks(tmp_path / "plain.pth", name, 16, 16)
    assert capsys.readouterr().out == ""


BAD = [
    ("s.json", "kjnodes", '{"x": 1}', "lists of points"),
    ("s.json", "kjnodes", '[[{"x": 1, "y": "a"}]]', "point 0 of track 0"),
    ("s.json", "kjnodes", '[[{"x": 1, "y": NaN}]]', "point 0 of track 0"),
    ("s.json", "kjnodes", "[]", "no track"),
    ("s.json", "kjnodes", "[[[[[]]]]]", "lists of lists"),
    ("s.json", "kjnodes", "[" * 100_000, "brackets"),
    ("s.json", "kjnodes", "no", "not JSON"),
    ("t.txt", "tora", "1,2\n1;2\n", "line 2"),
    ("t.txt", "tora", "1,2\n", "at least two"),
    ("c.npz", "cotracker", "no", "c.npz"),
    ("x.npy", "wan-move", "no", "x.npy"),
    ("s.json", "wan-move", "[]", "suffix"),
    ("s.json", "other", "[]", "no format 'other'"),
    ("s.json", None, "[]", "name one of"),
]


@pytest.mark.parametrize(("file", "name", "content", "message"), BAD)
def test_bad_file_is_named_in_one_sentence(tmp_path, file, name, content, message):
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_tracks(tmp_path / file, name, 16, 16)
    assert "\n" not in str(error.value)


def test_visible_point_that_is_no_number_is_named():
    positions = np.zeros((3, 2, 2))
    positions[1, 1] = np.nan
    with pytest.raises(ValueError, match="Track 1 is visible in frame 1"):
        Tracks(positions, np.ones((3, 2)), 8, 8)
    Tracks(positions, np.array([[1, 1], [1, 0], [1, 1]]), 8, 8)


def test_track_that_is_hidden_for_a_while_becomes_two_strokes():
    positions = np.stack([np.arange(8.0), np.full(8, 3.0)], axis=1)[:, None]
    visible = np.ones((8, 1), dtype=bool)
    visible[3:5] = False
    strokes = Tracks(positions, visible, 16, 16).sheet().strokes
    assert [stroke.frames for stroke in strokes] == [(0, 2), (5, 7)]


def test_path_keeps_the_points_that_it_needs():
    time = np.linspace(0, 1, 41)
    path = np.stack([100 * time, 50 * time**2], axis=1)
    kept = needed_points(path, 0.5)
    frames = np.arange(41)
    said = np.stack([np.interp(frames, kept, path[kept, axis]) for axis in range(2)], axis=1)
    assert np.linalg.norm(said - path, axis=1).max() <= 0.5
    assert 2 < len(kept) < 12
    assert needed_points(np.stack([frames, frames], axis=1).astype(float), 0) == [0, 40]


def grid_of_tracks(moves: bool) -> Tracks:
    """A lattice of 20 x 15 points; those in the left half move to the right by 12 pixels, if `moves`."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(4, 156, 20), np.linspace(4, 116, 15)))
    start = np.stack([x, y], axis=1)
    time = np.linspace(0, 1, 13)[:, None, None]
    shift = np.where(moves & (x < 80), 12.0, 0.0)[:, None] * np.array([1.0, 0.0])
    positions = start + time * shift
    return Tracks(positions, np.ones(positions.shape[:2]), 160, 120)


def test_many_tracks_are_thinned_to_those_that_say_the_same():
    tracks = grid_of_tracks(moves=True)
    thinned = thin_tracks(tracks, max_tracks=300, max_error=1.0)
    assert thinned.max_error <= 1.0 and thinned.mean_error <= thinned.max_error
    assert 2 <= len(thinned.tracks) < 150
    few = thin_tracks(tracks, max_tracks=6, max_error=1.0)
    assert len(few.tracks) == 6 and few.max_error > 1.0
    kinds = {stroke.kind for stroke in few.tracks.sheet().strokes}
    assert kinds == {"move", "hold"}  # what stands still beside something that moves is said, too
    still = thin_tracks(grid_of_tracks(moves=False))
    assert len(still.tracks) == 1 and still.max_error == 0


def test_all_tracks_that_differ_are_kept_if_no_error_is_allowed():
    tracks = Tracks.of_sheet(SHEET)
    thinned = thin_tracks(tracks, max_error=0)
    assert len(thinned.tracks) == 3 and thinned.max_error == 0
    assert np.array_equal(thinned.tracks.positions, tracks.positions)
