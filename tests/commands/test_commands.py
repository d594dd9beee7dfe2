# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from mcdiff_pipeline import Stroke, StrokeSheet, cli
from mcdiff_pipeline.flow import resize_flow
from mcdiff_pipeline.flow_visualization import flow_to_image
from mcdiff_pipeline.video import read_video, write_video


@pytest.fixture
def place(tmp_path, tiny_model_dir, picture, monkeypatch):
    """A working folder with a picture of 48 x 40, a stroke sheet for it, and a model in the environment."""
    picture.save(tmp_path / "photo.png")
    sheet = StrokeSheet(
        [Stroke([(10, 10), (20, 12)], end_frame=3), Stroke([(40, 30)], kind="hold")], 48, 40, num_frames=5, fps=10
    )
    sheet.save(tmp_path / "strokes.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCDIFF_MODEL", str(tiny_model_dir))
    return tmp_path


def frames_equal(first, second):
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# --- generate --------------------------------------------------------------------------------------------------------


def test_generate_gives_the_frames_of_the_pipeline(place, mcdiff, tiny_pipeline):
    assert mcdiff("generate", "photo.png", "--strokes", "strokes.json", "--size", "48x40", "--output", "a.mkv")[0] == 0
    clip = read_video("a.mkv")
    generator = torch.Generator().manual_seed(0)
    expected = tiny_pipeline("photo.png", "strokes.json", generator=generator, height=40, width=48).frames[0]
    assert len(clip.frames) == 5 and clip.fps == 10
    for made, frame in zip(clip.frames, expected, strict=True):
        # a call decodes all frames as one batch, a stream one by one: the last bit before rounding may differ
        assert np.abs(made.astype(int) - np.asarray(frame)).max() <= 1
    assert np.array_equal(clip.frames[0], np.asarray(expected[0]))


def test_clip_carries_strokes_settings_and_model(place, mcdiff, tiny_model_dir):
    code, out, _ = mcdiff(
        *("generate", "photo.png", "--stroke", "10,10 20,12.5 30,10", "--hold", "40,30", "--hold", "1,1"),
        *("--seed", 7, "--steps", 1, "--guidance-scale", 1.5, "--num-frames", 3, "--fps", 12, "--output", "a.mp4"),
    )
    assert code == 0 and "a.mp4: 3 frames of 32 x 32 at 12 a second" in out
    metadata = read_video("a.mp4").metadata
    assert metadata["settings"] == {
        "num_frames": 3,
        "num_inference_steps": 1,
        "guidance_scale": 1.5,
        "seed": 7,
        "fps": 12.0,
        "dtype": "float32",
    }
    assert metadata["model"]["name"] == str(tiny_model_dir)
    strokes = [
        Stroke([(10, 10), (20, 12.5), (30, 10)]),
        Stroke([(40, 30)], kind="hold"),
        Stroke([(1, 1)], kind="hold"),
    ]
    assert StrokeSheet.from_dict(metadata["strokes"]) == StrokeSheet(strokes, 48, 40, num_frames=3, fps=12)


def test_defaults_come_from_the_model_and_the_seed_is_kept(place, mcdiff):
    assert mcdiff("generate", "photo.png", "--hold", "40,30", "--output", "a.mkv")[0] == 0
    settings = read_video("a.mkv").metadata["settings"]
    assert (settings["num_frames"], settings["num_inference_steps"], settings["seed"]) == (4, 2, 0)


def test_typed_strokes_join_the_sheet_scaled_to_the_picture(place, mcdiff):
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
    assert code == 0 and "wide.json was drawn on 100 x 20 pixels, but the picture has 48 x 40" in err


@pytest.mark.parametrize(("size", "expected"), [("24", (32, 24)), ("64x40", (64, 40))])
def test_size_is_the_shorter_side_or_both(place, mcdiff, size, expected):
    mcdiff("generate", "photo.png", "--hold", "4,3", "--num-frames", 2, "--size", size, "--output", "a.mkv")
    height, width, _ = read_video("a.mkv").frames[0].shape
    assert (width, height) == expected


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
    assert changed[56:62, 60:95].any()  # the arrow, five times as large as on the picture
    assert changed[155:165, 205:220].any()  # the hold
    assert not changed[100:140, 150:190].any()


# --- replay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".mkv"])
def test_replay_gives_the_same_video_without_picture_and_sheet(place, mcdiff, suffix):
    clip = f"a{suffix}"
    arguments = ("--seed", 3, "--steps", 1, "--num-frames", 4, "--fps", 5)
    assert mcdiff("generate", "photo.png", "--strokes", "strokes.json", *arguments, "--output", clip)[0] == 0
    (place / "photo.png").unlink()
    (place / "strokes.json").unlink()
    code, _, err = mcdiff("generate", "--replay", clip)
    assert code == 0 and not err
    first, second = read_video(clip), read_video(f"a-replay{suffix}")
    assert frames_equal(first.frames, second.frames)
    assert (second.fps, second.metadata) == (first.fps, first.metadata)


def test_replay_of_a_picture_with_alpha_and_an_odd_size_is_the_same(place, mcdiff):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 4), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    assert mcdiff("generate", "photo.png", "--hold", "9,9", "--num-frames", 3, "--output", "a.mkv")[0] == 0
    assert mcdiff("generate", "--replay", "a.mkv")[0] == 0
    assert frames_equal(read_video("a.mkv").frames, read_video("a-replay.mkv").frames)


def test_settings_beside_replay_win(place, mcdiff):
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


def test_replay_takes_nothing_that_the_clip_brings(place, mcdiff):
    code, _, err = mcdiff("generate", "photo.png", "--replay", "a.mkv")
    assert code == 2 and "IMAGE is given beside --replay" in err
    code, _, err = mcdiff("generate", "--hold", "1,1", "--replay", "a.mkv")
    assert code == 2 and "--hold is given beside --replay" in err


def test_clip_without_settings_cannot_be_replayed(place, mcdiff):
    write_video([np.zeros((8, 8, 3), np.uint8)] * 2, "plain.mp4")
    code, _, err = mcdiff("generate", "--replay", "plain.mp4")
    assert code == 2 and "plain.mp4 carries no settings to replay" in err


@pytest.mark.parametrize(
    "damage",
    [
        {"settings": {}},
        {"settings": None},
        {"strokes": {"version": 1}},
        {"picture": "data:image/png;base64,AAAA"},
        {"picture": 3},
        {"model": "tiny"},
    ],
)
def test_damaged_settings_are_said(place, mcdiff, damage):
    mcdiff("generate", "photo.png", "--hold", "9,9", "--num-frames", 2, "--output", "a.mkv")
    clip = read_video("a.mkv")
    write_video(clip.frames, "b.mkv", metadata=clip.metadata | damage)
    code, _, err = mcdiff("generate", "--replay", "b.mkv")
    assert code == 2 and "the settings that b.mkv carries are damaged" in err
    write_video(clip.frames, "b.mkv", metadata=clip.metadata | {"version": 9})
    assert "settings of version 9; this program reads version 1" in mcdiff("generate", "--replay", "b.mkv")[2]


# --- stopping --------------------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_frames_made_so_far(place):
    command = [sys.executable, "-m", "mcdiff_pipeline.cli", "generate", "photo.png", "--strokes", "strokes.json"]
    command += ["--num-frames", "100000", "--output", "long.mp4", "--flow-video", "flow.mp4"]
    process = subprocess.Popen([*command, "--contact-sheet", "sheet.png"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while sum(path.stat().st_size for path in place.glob(".long.mp4*")) < 50_000:  # so many frames are being written
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # an impatient user
    _, err = process.communicate(timeout=100)
    clip = read_video("long.mp4")
    assert process.returncode == 130
    assert f"stopped; {len(clip.frames)} of 100000 frames are in long.mp4" in err
    assert "Traceback" not in err
    assert len(clip.frames) > 1
    assert len(read_video("flow.mp4").frames) == len(clip.frames) - 1
    assert Image.open("sheet.png").width > 256
    assert clip.metadata["settings"]["num_frames"] == 100000
    assert not [path.name for path in place.iterdir() if path.name.startswith(".")]


# --- flow and info ---------------------------------------------------------------------------------------------------


def test_flow_shows_strokes_beside_colors(place, mcdiff, tiny_pipeline, picture):
    code, out, _ = mcdiff("flow", "photo.png", "--strokes", "strokes.json", "--size", "48x40", "--output", "flow.png")
    assert code == 0 and "flow.png: step 0 to 1; the flow moves" in out
    page = np.asarray(Image.open("flow.png"))
    assert page.shape == (40, 96, 3)
    assert np.array_equal(page[:5, :48], np.asarray(picture)[:5])
    with torch.no_grad():
        dense_flow = tiny_pipeline.predict_flow("photo.png", "strokes.json", height=40, width=48)
    assert np.array_equal(page[:, 48:], flow_to_image(resize_flow(dense_flow, (40, 48)))[0].permute(1, 2, 0).numpy())


def test_flow_of_a_later_step(place, mcdiff):
    for frame in (0, 3):
        arguments = ("flow", "photo.png", "--strokes", "strokes.json", "--frame", frame)
        assert mcdiff(*arguments, "--output", f"{frame}.png")[0] == 0
    assert (place / "0.png").read_bytes() != (place / "3.png").read_bytes()
    code, _, err = mcdiff("flow", "photo.png", "--strokes", "strokes.json", "--frame", 4, "--output", "4.png")
    assert code == 2 and "steps 0 to 3" in err and not (place / "4.png").exists()


def test_info_describes_the_model(place, mcdiff, tiny_pipeline):
    code, out, _ = mcdiff("info")
    assert code == 0
    for name in ("vae", "flow_completion", "unet"):
        parameters = sum(parameter.numel() for parameter in getattr(tiny_pipeline, name).parameters())
        assert f"{parameters:,}" in out
    assert "previous_frame, dense_flow, splatted_frame, hole_mask, start_frame" in out
    assert "32 x 32" in out and "FlowCompletionUNet" in out and "yes" in out


def test_info_says_why_a_model_does_not_load(place, mcdiff, tiny_model_dir):
    shutil.copytree(tiny_model_dir, "broken")
    shutil.rmtree("broken/unet")
    code, out, _ = mcdiff("info", "broken")
    assert code == 1 and "loads         no: " in out


# --- which model -----------------------------------------------------------------------------------------------------


def test_embedded_model_is_the_default(place, tiny_model_dir, monkeypatch):
    monkeypatch.delenv("MCDIFF_MODEL")
    monkeypatch.setattr(cli, "EMBEDDED_MODEL", tiny_model_dir)
    assert cli.resolve_model(None) == (str(tiny_model_dir), "tiny-model")
    assert cli.resolve_model("tiny-model") == (str(tiny_model_dir), "tiny-model")  # as a clip names it
    assert cli.resolve_model(str(tiny_model_dir)) == (str(tiny_model_dir), "tiny-model")


def test_environment_comes_before_the_embedded_model(place, tiny_model_dir, monkeypatch):
    shutil.copytree(tiny_model_dir, "mine")
    monkeypatch.setattr(cli, "EMBEDDED_MODEL", tiny_model_dir)
    monkeypatch.setenv("MCDIFF_MODEL", "mine")
    assert cli.resolve_model(None) == ("mine", "mine")
    assert cli.resolve_model("owner/repository") == ("owner/repository", "owner/repository")


def test_without_any_model_one_sentence_says_how_to_name_one(place, mcdiff, monkeypatch):
    monkeypatch.setenv("MCDIFF_MODEL", "")  # as good as unset
    monkeypatch.setattr(cli, "EMBEDDED_MODEL", place / "nothing")
    code, _, err = mcdiff("generate", "photo.png", "--hold", "1,1", "--output", "a.mp4")
    assert code == 2
    assert err == (
        "mcdiff generate: no model is named: give --model a folder or a Hub repository, or set MCDIFF_MODEL to one.\n"
    )


def test_embedded_model_lies_in_the_checkout():
    assert cli.EMBEDDED_MODEL.parts[-2:] == ("checkpoints", "mcdiff-small-128")
    assert (cli.EMBEDDED_MODEL.parents[1] / "src" / "mcdiff_pipeline").is_dir()


# --- wrong input -----------------------------------------------------------------------------------------------------

GOOD = {"image": "photo.png", "--hold": "1,1", "--output": "a.mp4"}
WRONG = {
    "no picture": ({"image": None}, "no picture is given: name one, or --replay a clip"),
    "missing picture": ({"image": "gone.png"}, "gone.png: there is no such picture"),
    "picture that is none": ({"image": "strokes.json"}, "strokes.json cannot be read as a picture"),
    "folder as picture": ({"image": "."}, ".: there is no such picture"),
    "no strokes": ({"--hold": None}, "no strokes are given: draw some with --stroke, --hold or --strokes FILE"),
    "missing sheet": ({"--strokes": "gone.json"}, "gone.json: there is no such stroke sheet"),
    "sheet that is none": ({"--strokes": "photo.png"}, "photo.png is not JSON"),
    "stroke of words": ({"--stroke": "1,1 a,b"}, "argument --stroke: 'a,b' is no point"),
    "stroke of three numbers": ({"--stroke": "1,1,1 2,2"}, "'1,1,1' is no point"),
    "stroke of one point": ({"--stroke": "1,1"}, "--stroke and --hold: points holds 1 point; a move needs"),
    "stroke with NaN": ({"--stroke": "1,1 nan,2"}, "points[1] is (nan, 2.0)"),
    "stroke far outside": ({"--stroke": "1,1 500,2"}, "strokes[0].points[1] is [500, 2], more than one picture's"),
    "hold of two points": ({"--hold": "1,1 2,2"}, "points holds 2 points; a hold has exactly one"),
    "no output": ({"--output": None}, "no --output is given"),
    "unknown suffix": ({"--output": "a.avi"}, "'a.avi' ends in '.avi'"),
    "missing folder": ({"--output": "gone/a.mp4"}, "there is no folder gone"),
    "folder as output": ({"--output": "folder.mp4"}, "folder.mp4 cannot be written"),
    "unknown suffix of the flow": ({"--flow-video": "flow.avi"}, "'flow.avi' ends in '.avi'"),
    "unknown suffix of the sheet": ({"--contact-sheet": "s.txt"}, "s.txt: the suffix is '.txt'"),
    "one file twice": ({"--flow-video": "a.mp4"}, "name the same file"),
    "too fast for a GIF": ({"--output": "a.gif", "--fps": 60}, "at most 50 frames per second"),
    "size of words": ({"--size": "big"}, "argument --size: 'big' is no size; write 256 for the shorter side"),
    "size 0": ({"--size": "0"}, "'0' is no size"),
    "one frame": ({"--num-frames": 1}, "argument --num-frames: '1' is no whole number from 2"),
    "half a step": ({"--steps": 0.5}, "argument --steps: '0.5' is no whole number from 1"),
    "no rate": ({"--fps": 0}, "argument --fps: '0' is no number above 0"),
    "rate NaN": ({"--fps": "nan"}, "argument --fps: 'nan' is no number above 0"),
    "seed below 0": ({"--seed": "-1"}, "argument --seed: '-1' is no whole number from 0"),
    "seed too large": ({"--seed": 10**400}, "argument --seed"),
    "model that is no folder": ({"--model": "gone"}, "gone is neither a folder nor the name of a Hub repository"),
    "folder without a model": ({"--model": "empty"}, "empty is no model: it holds no model_index.json"),
    "missing clip": ({"image": None, "--hold": None, "--replay": "gone.mp4"}, "gone.mp4: there is no such clip"),
    "clip that is none": ({"image": None, "--hold": None, "--replay": "strokes.json"}, "is not a video"),
    "unknown option": ({"--speed": 3}, "unrecognized arguments: --speed 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_said_in_one_sentence_before_the_model_is_loaded(place, mcdiff, monkeypatch, name):
    changes, message = WRONG[name]
    (place / "empty").mkdir()
    (place / "folder.mp4").mkdir()
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
        (("--device", "abacus"), "--device abacus cannot be used"),
    ],
)
def test_what_only_the_model_knows_is_said_before_the_first_frame(place, mcdiff, changes, message):
    code, _, err = mcdiff("generate", "photo.png", "--hold", "1,1", "--output", "a.mp4", *changes)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not (place / "a.mp4").exists()


def test_a_model_whose_parts_do_not_fit_is_wrong_input(place, mcdiff, tiny_model_dir):
    config = tiny_model_dir / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 5}))
    code, _, err = mcdiff("generate", "photo.png", "--hold", "1,1", "--output", "a.mp4")
    assert code == 2 and "conv_in.weight" in err and err.count("\n") == 1
    assert not (place / "a.mp4").exists()


def test_help_names_every_command(mcdiff):
    code, out, _ = mcdiff("--help")
    assert code == 0 and all(command in out for command in ("generate", "flow", "info"))


@pytest.mark.parametrize("command", ["generate", "flow", "info"])
def test_every_option_is_described(mcdiff, command):
    code, out, _ = mcdiff(command, "--help")
    assert code == 0 and f"usage: mcdiff {command}" in out
