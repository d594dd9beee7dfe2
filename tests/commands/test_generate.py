# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from mcdiff_pipeline import Region, Stroke, StrokeSheet
from mcdiff_pipeline.flow import resize_flow
from mcdiff_pipeline.flow_visualization import flow_to_image
from mcdiff_pipeline.video import read_video, write_video


def frames_equal(first, second):
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_generate_writes_the_frames_of_the_pipeline(place, mcdiff, tiny_pipeline):
    assert mcdiff("generate", "photo.png", "--strokes", "strokes.json", "--size", "48x40", "--output", "a.mkv")[0] == 0
    clip = read_video("a.mkv")
    generator = torch.Generator().manual_seed(0)
    expected = tiny_pipeline("photo.png", "strokes.json", generator=generator, height=40, width=48).frames[0]
    assert len(clip.frames) == 5 and clip.fps == 10
    for made, frame in zip(clip.frames, expected, strict=True):
        # a call decodes all frames as one batch, a stream one by one: the last bit before rounding may differ
        assert np.abs(made.astype(int) - np.asarray(frame)).max() <= 1
    assert np.array_equal(clip.frames[0], np.asarray(expected[0]))


def test_clip_contains_strokes_settings_and_model(place, mcdiff, tiny_model_dir):
    code, out, _ = mcdiff(
        *("generate", "photo.png", "--stroke", "10,10 20,12.5 30,10", "--hold", "40,30", "--hold", "1,1"),
        *("--seed", 7, "--steps", 1, "--guidance-scale", 1.5, "--num-frames", 3, "--fps", 12, "--output", "a.mp4"),
        *("--size", "32x32"),
    )
    assert code == 0 and "a.mp4: 3 frames of 48 x 40 at 12 a second; motion at 32 x 32" in out
    metadata = read_video("a.mp4").metadata
    assert metadata["settings"] == {
        "num_frames": 3,
        "num_inference_steps": 1,
        "guidance_scale": 1.5,
        "seed": 7,
        "fps": 12.0,
        "dtype": "float32",
        "height": 32,
        "width": 32,
    }
    assert metadata["model"]["name"] == str(tiny_model_dir)
    strokes = [
        Stroke([(10, 10), (20, 12.5), (30, 10)]),
        Stroke([(40, 30)], kind="hold"),
        Stroke([(1, 1)], kind="hold"),
    ]
    assert StrokeSheet.from_dict(metadata["strokes"]) == StrokeSheet(strokes, 48, 40, num_frames=3, fps=12)


def test_clip_states_the_defaults_of_the_model_and_seed_0(place, mcdiff):
    assert mcdiff("generate", "photo.png", "--hold", "40,30", "--output", "a.mkv")[0] == 0
    settings = read_video("a.mkv").metadata["settings"]
    assert (settings["num_frames"], settings["num_inference_steps"], settings["seed"]) == (4, 2, 0)


def test_strokes_of_options_are_added_to_the_sheet_scaled_to_the_image(place, mcdiff):
    StrokeSheet([Stroke([(96, 80)], kind="hold")], 192, 160, num_frames=3).save("large.json")
    code, _, err = mcdiff(
        *("generate", "photo.png", "--strokes", "large.json", "--stroke", "1,1 5,5", "--output", "a.mkv")
    )
    assert code == 0 and not err
    sheet = StrokeSheet.from_dict(read_video("a.mkv").metadata["strokes"])
    assert (sheet.width, sheet.height) == (48, 40)
    assert [stroke.points[0] for stroke in sheet.strokes] == [(24, 20), (1, 1)]


def test_sheet_of_another_shape_is_stretched_with_a_warning(place, mcdiff):
    StrokeSheet([Stroke([(3, 3)], kind="hold")], 100, 20, num_frames=2).save("wide.json")
    code, _, err = mcdiff("generate", "photo.png", "--strokes", "wide.json", "--output", "a.mkv")
    assert code == 0 and "wide.json was drawn on 100 x 20 pixels, but the image has 48 x 40" in err


@pytest.mark.parametrize(("size", "expected"), [("24", (32, 24)), ("64x40", (64, 40))])
def test_size_is_the_shorter_side_or_both(place, mcdiff, size, expected):
    arguments = ("generate", "photo.png", "--hold", "4,3", "--num-frames", 2, "--output-size", "working")
    mcdiff(*arguments, "--size", size, "--output", "a.mkv")
    height, width, _ = read_video("a.mkv").frames[0].shape
    assert (width, height) == expected


SIZES = [
    (None, (48, 40)),
    ("image", (48, 40)),
    ("working", (48, 40)),
    ("80", (96, 80)),
    ("30x50", (30, 50)),
]


@pytest.mark.parametrize(("output_size", "expected"), SIZES)
def test_output_size_is_that_of_the_image_unless_given(place, mcdiff, output_size, expected):
    arguments = ["generate", "photo.png", "--hold", "4,3", "--num-frames", 2, "--output", "a.mkv"]
    arguments += [] if output_size is None else ["--output-size", output_size]
    assert mcdiff(*arguments)[0] == 0
    clip = read_video("a.mkv")
    assert {frame.shape for frame in clip.frames} == {(expected[1], expected[0], 3)}
    # the working size has the shape of the image, although the default size of the model is 32 x 32
    assert (clip.metadata["settings"]["width"], clip.metadata["settings"]["height"]) == (48, 40)


def test_large_image_is_reduced_to_1280_pixels_unless_asked(place, mcdiff, image):
    image.resize((2000, 500)).save("large.png")
    arguments = ("generate", "large.png", "--hold", "4,3", "--num-frames", 2)
    assert mcdiff(*arguments, "--output", "a.mkv")[0] == 0
    assert read_video("a.mkv").frames[1].shape == (320, 1280, 3)
    assert mcdiff(*arguments, "--output-size", "image", "--output", "b.mkv")[0] == 0
    assert read_video("b.mkv").frames[1].shape == (500, 2000, 3)


# Regions


@pytest.fixture
def labels(place):
    """`labels.png`: a label map with one region, in which the stroke of the sheet begins."""
    pixels = np.zeros((40, 48), np.uint8)
    pixels[4:20, 4:24] = 1
    Image.fromarray(pixels).save("labels.png")
    return pixels


def test_regions_of_a_label_map_are_used_shown_and_kept_in_the_clip(place, mcdiff, labels):
    arguments = ("generate", "photo.png", "--strokes", "strokes.json", "--output", "a.mkv")
    assert mcdiff(*arguments, "--regions", "labels.png", "--show-regions", "shown.png")[0] == 0
    shown = np.asarray(Image.open("shown.png")).astype(int)
    changed = np.abs(shown - np.asarray(Image.open("photo.png"))).sum(axis=-1) > 30
    assert changed[5:9, 16:23].all() and not changed[24:28, 4:24].any()
    sheet = StrokeSheet.from_dict(read_video("a.mkv").metadata["strokes"])
    assert len(sheet.regions) == 1 and np.array_equal(sheet.regions[0].coverage(40, 48) > 0.5, labels > 0)
    assert mcdiff(*arguments[:-1], "b.mkv")[0] == 0
    assert not np.array_equal(read_video("a.mkv").frames[2], read_video("b.mkv").frames[2])


def test_replay_of_a_clip_with_regions_is_the_same(place, mcdiff, labels, image):
    image.resize((96, 80)).save("photo.png")
    Image.fromarray(labels).resize((96, 80), Image.Resampling.NEAREST).save("labels.png")
    arguments = ("generate", "photo.png", "--strokes", "strokes.json", "--regions", "labels.png")
    assert mcdiff(*arguments, "--output-size", "60", "--output", "a.mkv")[0] == 0
    assert mcdiff("generate", "--replay", "a.mkv")[0] == 0
    first, second = read_video("a.mkv"), read_video("a-replay.mkv")
    assert first.frames[0].shape == (60, 72, 3) and frames_equal(first.frames, second.frames)
    assert first.metadata == second.metadata


def test_sheet_with_regions_needs_no_option(place, mcdiff, labels):
    regions = [Region(labels == 1, rigid=True)]
    StrokeSheet([Stroke([(10, 10), (20, 12)])], 48, 40, num_frames=3, regions=regions).save("regions.json")
    arguments = ("generate", "photo.png", "--strokes", "regions.json", "--output", "a.mkv")
    assert mcdiff(*arguments)[0] == 0
    code, _, err = mcdiff(*arguments, "-y", "--regions", "labels.png")
    assert code == 2 and "the stroke sheet has 1 regions of its own" in err


def test_rigid_region_without_strokes_is_reported(place, mcdiff, labels):
    regions = [Region(labels == 1, rigid=True)]
    StrokeSheet([Stroke([(40, 30)], kind="hold")], 48, 40, num_frames=3, regions=regions).save("regions.json")
    code, _, err = mcdiff("generate", "photo.png", "--strokes", "regions.json", "--output", "a.mkv")
    assert code == 2 and "Region 1 is rigid, but no stroke begins in it" in err and err.count("\n") == 1


def test_flow_video_shows_the_dense_flow_of_every_step_on_one_scale(place, mcdiff, tiny_pipeline):
    arguments = ("generate", "photo.png", "--strokes", "strokes.json", "--size", "48x40", "--output", "a.mkv")
    assert mcdiff(*arguments, "--flow-video", "flow.mkv")[0] == 0
    generator = torch.Generator().manual_seed(0)
    dense_flow = tiny_pipeline("photo.png", "strokes.json", generator=generator, height=40, width=48).dense_flow[0]
    fastest = dense_flow.norm(dim=1).max().item()
    expected = flow_to_image(resize_flow(dense_flow, (40, 48)) / 4, fastest).permute(0, 2, 3, 1).numpy()
    shown = np.stack(read_video("flow.mkv").frames)
    assert shown.shape == expected.shape == (4, 40, 48, 3)
    assert np.abs(shown.astype(int) - expected).max() <= 1


def test_contact_sheet_shows_strokes_and_frames(place, mcdiff):
    arguments = ("generate", "photo.png", "--strokes", "strokes.json", "--size", "48x40", "--output", "a.mkv")
    assert mcdiff(*arguments, "--contact-sheet", "sheet.png")[0] == 0
    page = np.asarray(Image.open("sheet.png"))
    tile_height, tile_width = 213, 256
    assert page.shape == (2 * tile_height + 4, 4 * tile_width + 3 * 4, 3)  # strokes and 5 frames, in rows of 4
    first, second = page[:tile_height, :tile_width], page[:tile_height, tile_width + 4 : 2 * tile_width + 4]
    changed = np.abs(first.astype(int) - second).sum(axis=-1) > 60
    assert changed[56:62, 60:95].any()  # the arrow, five times as large as on the image
    assert changed[155:165, 205:220].any()  # the hold
    assert not changed[100:140, 150:190].any()


# Replay


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".mkv"])
def test_replay_gives_the_same_video_without_image_and_sheet(place, mcdiff, suffix):
    clip = f"a{suffix}"
    arguments = ("--seed", 3, "--steps", 1, "--num-frames", 4, "--fps", 5)
    assert mcdiff("generate", "photo.png", "--strokes", "strokes.json", *arguments, "--output", clip)[0] == 0
    (place / "photo.png").unlink()
    (place / "strokes.json").unlink()
    code, _, err = mcdiff("generate", "--replay", clip)
    assert code == 0 and not err
    first, second = read_video(clip), read_video(f"a-replay{suffix}")
    if suffix == ".mp4":  # of the same frames, x264 makes another file in about one of ten runs at this size
        errors = [np.abs(one.astype(int) - other) for one, other in zip(first.frames, second.frames, strict=True)]
        assert max(error.mean() for error in errors) < 0.5
    else:
        assert frames_equal(first.frames, second.frames)
    assert (second.fps, second.metadata) == (first.fps, first.metadata)


def test_replay_of_an_image_with_alpha_and_an_odd_size_is_the_same(place, mcdiff):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 4), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    assert mcdiff("generate", "photo.png", "--hold", "9,9", "--num-frames", 3, "--output", "a.mkv")[0] == 0
    assert mcdiff("generate", "--replay", "a.mkv")[0] == 0
    assert frames_equal(read_video("a.mkv").frames, read_video("a-replay.mkv").frames)


def test_options_with_replay_override_settings_of_the_clip(place, mcdiff):
    mcdiff("generate", "photo.png", "--strokes", "strokes.json", "--output", "a.mkv")
    assert mcdiff("generate", "--replay", "a.mkv", "--seed", 1, "--num-frames", 3, "--output", "b.mkv")[0] == 0
    first, second = read_video("a.mkv"), read_video("b.mkv")
    assert len(second.frames) == 3 and second.metadata["settings"]["seed"] == 1
    assert np.array_equal(first.frames[0], second.frames[0])
    assert not np.array_equal(first.frames[1], second.frames[1])


def test_replay_with_another_model_warns(place, mcdiff, tiny_pipeline):
    mcdiff("generate", "photo.png", "--hold", "9,9", "--num-frames", 2, "--output", "a.mkv")
    with torch.no_grad():
        tiny_pipeline.unet.conv_in.bias[0] += 1
    tiny_pipeline.save_pretrained("other")
    code, _, err = mcdiff("generate", "--replay", "a.mkv", "--model", "other")
    assert code == 0 and "other is not the model that made a.mkv; the video will differ" in err


def test_replay_refuses_an_image_and_strokes(place, mcdiff):
    code, _, err = mcdiff("generate", "photo.png", "--replay", "a.mkv")
    assert code == 2 and "IMAGE is given together with --replay" in err
    code, _, err = mcdiff("generate", "--hold", "1,1", "--replay", "a.mkv")
    assert code == 2 and "--hold is given together with --replay" in err


def test_clip_without_settings_cannot_be_replayed(place, mcdiff):
    write_video([np.zeros((8, 8, 3), np.uint8)] * 2, "plain.mp4")
    code, _, err = mcdiff("generate", "--replay", "plain.mp4")
    assert code == 2 and "plain.mp4 carries no settings to replay" in err


# Ctrl-C


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_keep_the_frames_made_so_far(place, signal_number):
    arguments = ["--strokes", "strokes.json", "--num-frames", "100000", "--output", "long.mkv"]
    arguments += ["--flow-video", "flow.mp4", "--contact-sheet", "sheet.png"]
    command = [sys.executable, "-m", "mcdiff_commands", "generate", "photo.png", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while sum(path.stat().st_size for path in place.glob(".long.*.mkv")) < 50_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal_number)
    process.send_signal(signal_number)  # a second one changes nothing
    err = process.communicate()[1]
    clip = read_video("long.mkv")
    assert process.returncode == 130
    assert f"stopped; {len(clip.frames)} of 100000 frames are in long.mkv" in err
    assert "Traceback" not in err
    assert len(clip.frames) > 1
    assert len(read_video("flow.mp4").frames) == len(clip.frames) - 1
    assert Image.open("sheet.png").width > 256
    assert clip.metadata["settings"]["num_frames"] == 100000
    assert not [path.name for path in place.iterdir() if path.name.startswith(".")]


def test_files_that_a_killed_command_left_behind_are_removed(place, mcdiff):
    gone = subprocess.Popen(["true"])
    gone.wait()
    ours = place / f".a.{gone.pid}.unfinished.mkv"
    others = [place / f".b.{gone.pid}.unfinished.mkv", place / f".a.{os.getppid()}.unfinished.mkv"]
    for path in [ours, *others]:
        path.touch()
    assert mcdiff("generate", "photo.png", "--hold", "4,3", "--num-frames", 2, "--output", "a.mkv")[0] == 0
    assert not ours.exists() and all(path.exists() for path in others)


def test_spaces_in_points_and_short_names_of_dtypes_are_understood(place, mcdiff):
    arguments = ("generate", "photo.png", "--stroke", "10, 10 20 ,12.5", "--num-frames", 2, "--dtype", "bf16")
    assert mcdiff(*arguments, "--output", "a.mkv")[0] == 0
    metadata = read_video("a.mkv").metadata
    assert metadata["strokes"]["strokes"][0]["points"] == [[10, 10], [20, 12.5]]
    assert metadata["settings"]["dtype"] == "bfloat16"


# Wrong input

GOOD = {"image": "photo.png", "--hold": "1,1", "--output": "a.mp4"}
WRONG = {
    "no image": ({"image": None}, "no image is given: name one, or --replay a clip"),
    "missing image": ({"image": "gone.png"}, "gone.png: there is no such image"),
    "file that is not an image": ({"image": "strokes.json"}, "strokes.json cannot be read as an image"),
    "folder as image": ({"image": "."}, ".: this is a folder, not an image"),
    "no strokes": ({"--hold": None}, "no strokes are given: draw some with --stroke, --hold or --strokes FILE"),
    "missing sheet": ({"--strokes": "gone.json"}, "gone.json: there is no such stroke sheet"),
    "file that is not a sheet": ({"--strokes": "photo.png"}, "photo.png is not JSON"),
    "stroke of words": ({"--stroke": "1,1 a,b"}, "'--stroke': 'a,b' is not a point"),
    "stroke of three numbers": ({"--stroke": "1,1,1 2,2"}, "'1,1,1' is not a point"),
    "stroke of one point": ({"--stroke": "1,1"}, "--stroke and --hold: points holds 1 point; a move needs"),
    "stroke with NaN": ({"--stroke": "1,1 nan,2"}, "points[1] is (nan, 2.0)"),
    "stroke far outside": (
        {"--stroke": "1,1 500,2"},
        "points[1] is [500, 2], more than one image size away",
    ),
    "hold of two points": ({"--hold": "1,1 2,2"}, "points holds 2 points; a hold has exactly one"),
    "no output": ({"--output": None}, "no --output is given"),
    "unknown suffix": ({"--output": "a.avi"}, "'a.avi' ends in '.avi'"),
    "missing folder": ({"--output": "gone/a.mp4"}, "there is no folder gone"),
    "folder as output": ({"--output": "folder.mp4"}, "folder.mp4 cannot be written"),
    "unknown suffix of the flow": ({"--flow-video": "flow.avi"}, "'flow.avi' ends in '.avi'"),
    "unknown suffix of the sheet": ({"--contact-sheet": "s.txt"}, "s.txt: the suffix is '.txt'"),
    "output that is an input": ({"--show-regions": "photo.png"}, "it is also an input"),
    "output that is an input through a link": ({"--contact-sheet": "link.png"}, "it is also an input"),
    "output that is an input through a hard link": ({"--contact-sheet": "hard.png"}, "it is also an input"),
    "clip that is replayed onto itself": (
        {"image": None, "--hold": None, "--replay": "replayed.mp4", "--output": "replayed.mp4"},
        "it is also an input",
    ),
    "one file twice through a link": ({"--contact-sheet": "one.png", "--show-regions": "./one.png"}, "the same file"),
    "one file twice": ({"--flow-video": "a.mp4"}, "name the same file"),
    "too fast for a GIF": ({"--output": "a.gif", "--fps": 60}, "at most 50 frames per second"),
    "size of words": ({"--size": "big"}, "'--size': 'big' is not a size; write 256 for the shorter side"),
    "size 0": ({"--size": "0"}, "'0' is not a size"),
    "output size of words": ({"--output-size": "big"}, "'big' is not a size; write 512 for the shorter side, 768x512"),
    "missing label map": ({"--regions": "gone.png"}, "gone.png"),
    "regions beside a replay": (
        {"image": None, "--hold": None, "--replay": "a.mkv", "--regions": "auto"},
        "--regions is given together with --replay",
    ),
    "one frame": ({"--num-frames": 1}, "'--num-frames': '1' is not a whole number of at least 2"),
    "half a step": ({"--steps": 0.5}, "'--steps': '0.5' is not a whole number of at least 1"),
    "no rate": ({"--fps": 0}, "'--fps': '0' is not a number above 0"),
    "rate NaN": ({"--fps": "nan"}, "'--fps': 'nan' is not a number above 0"),
    "rate too low": ({"--fps": "1e-9"}, "`fps` is 1e-09, but it has to be a number of frames per second from 0.01 to"),
    "rate of almost nothing": ({"--fps": "5e-324"}, "from 0.01 to 1000"),
    "rate too high": ({"--fps": "5000"}, "from 0.01 to 1000"),
    "rate much too high": ({"--fps": "1e308"}, "'--fps': 1e308 is too large; it must be at most 9.22337e+18"),
    "seed below 0": ({"--seed": "-1"}, "'--seed': '-1' is not a whole number of at least 0"),
    "seed too large": ({"--seed": 10**400}, "Invalid value for '--seed'"),
    "seed of 65 bits": (
        {"--seed": 2**64},
        "'--seed': 18446744073709551616 is too large; it must be at most 1.84467e+19",
    ),
    "model that is no folder": ({"--model": "gone"}, "gone is neither a folder nor the name of a Hub repository"),
    "folder without a model": ({"--model": "empty"}, "empty is not a model: it has no model_index.json"),
    "missing clip": ({"image": None, "--hold": None, "--replay": "gone.mp4"}, "gone.mp4: there is no such clip"),
    "file that is not a clip": ({"image": None, "--hold": None, "--replay": "strokes.json"}, "is not a video"),
    "unknown option": ({"--speed": 3}, "No such option: --speed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_reported_in_one_sentence_before_the_model_is_loaded(place, mcdiff, monkeypatch, name):
    changes, message = WRONG[name]
    (place / "empty").mkdir()
    (place / "folder.mp4").mkdir()
    (place / "link.png").symlink_to("photo.png")
    os.link("photo.png", "hard.png")
    (place / "replayed.mp4").touch()
    monkeypatch.setenv("MCDIFF_MODEL", "no/model")  # the Hub cannot be asked for it here: loading would fail otherwise
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = sorted(place.rglob("*"))
    options = {option: value for option, value in (GOOD | changes).items() if value is not None}
    image = options.pop("image", None)
    arguments = [str(part) for option in options.items() for part in option]
    code, out, err = mcdiff("generate", *([image] if image else []), *arguments)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("mcdiff") and err.count("\n") == 1
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--size", "45x40"), "`width` is 45"),
        (("--size", "40000"), "frames of 48000 x 40000 pixels need about 553.0 GB of memory, and"),
        (("--size", "4200x8"), "each side can have at most 4096"),
        (("--output-size", "5000x4000"), "at most 4096 on the longer side"),
        (("--device", "abacus"), "--device abacus cannot be used"),
    ],
)
def test_error_that_needs_the_model_is_reported_before_the_first_frame(place, mcdiff, changes, message):
    code, _, err = mcdiff("generate", "photo.png", "--hold", "1,1", "--output", "a.mp4", *changes)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not (place / "a.mp4").exists()


def test_model_whose_parts_do_not_fit_is_wrong_input(place, mcdiff, tiny_model_dir):
    config = tiny_model_dir / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 5}))
    code, _, err = mcdiff("generate", "photo.png", "--hold", "1,1", "--output", "a.mp4")
    assert code == 2 and "conv_in.weight" in err and err.count("\n") == 1
    assert not (place / "a.mp4").exists()


@pytest.mark.parametrize(
    ("given", "other"),
    [
        (("--at-frame", 3), "--continue"),
        (("--keep-color",), "--continue"),
        (("--motion-speed", 3), "--motion-from"),
        (("--motion-as", "strokes"), "--motion-from"),
        (("--num-workers", 3), "--jobs"),
        (("--batch-size", 4), "--jobs"),
    ],
)
def test_options_about_another_one_are_refused_without_it(place, mcdiff, given, other):
    code, _, err = mcdiff("generate", "photo.png", "--strokes", "strokes.json", "--output", "out.mkv", *given)
    assert code == 2 and f"is given without {other}, which it is about; leave it out" in err
    assert given[0] in err and not (place / "out.mkv").exists()
