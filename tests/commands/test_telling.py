# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What the commands tell before, while and after they work."""

import json
import shutil

import pytest
import typer

from mcdiff_commands.main import app
from support.sliding_squares import write_squares


RUN = ("generate", "photo.png", "--stroke", "10,10 20,12", "--hold", "40,30", "--num-frames", 3, "--steps", 1)


def test_before_and_after_a_run(place, mcdiff, tiny_model_dir):
    code, out, err = mcdiff(*RUN, "-o", "a.mkv", "--contact-sheet", "a.png")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"Model: {tiny_model_dir}, on cpu in float32"
    assert lines[1] == (
        "Motion at 48 x 40 pixels (about the area of the model's 32 x 32, in the shape of the image); frames of "
        "48 x 40 (as the image)"
    )
    assert any(line.startswith("The flow follows ") and line.endswith(" of 2 strokes.") for line in lines)
    assert any(line.startswith("stroke 1 (from 10,10): asked 10 px, the flow carried it ") for line in lines)
    assert "a.png" in lines and lines[-1].endswith(" s in total") and " s a frame, " in lines[-1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--size", "48x40"), "Motion at 48 x 40 pixels (--size); frames of 48 x 40 (as the image)"),
        (("--output-size", "working"), "frames of 48 x 40 (the working size)"),
        (("--output-size", "80"), "frames of 96 x 80 (--output-size)"),
    ],
)
def test_sizes_are_told_with_their_reason(place, mcdiff, options, reason):
    assert reason in mcdiff(*RUN, *options, "-o", "a.mkv")[1]


def test_quiet_tells_only_warnings(place, mcdiff):
    assert mcdiff(*RUN, "-o", "a.mkv", "--quiet") == (0, "", "")
    code, out, err = mcdiff(*RUN, "--hold", "60,10", "-o", "b.mkv", "-q")
    assert (code, out) == (0, "") and err.startswith("mcdiff: warning: stroke 3 (hold at 60,10) is outside the image")


def test_verbose_tells_every_setting_and_stroke(place, mcdiff):
    _, out, _ = mcdiff(*RUN, "-o", "a.mkv", "--verbose")
    assert "3 frames at 8 a second, 1 steps a frame, guidance 1, seed 0" in out
    assert "stroke 1 (from 10,10): asked 10 px" in out and "stroke 2 (hold at 40,30): asked to stay" in out


def test_json_is_one_line_of_facts(place, mcdiff, tiny_model_dir):
    code, out, err = mcdiff(*RUN, "--hold", "60,10", "-o", "a.mkv", "--flow-video", "flow.mkv", "--json")
    assert code == 0 and out.count("\n") == 1 and err.count("\n") == 1
    facts = json.loads(out)
    assert (facts["video"], facts["flow_video"], facts["num_frames"]) == ("a.mkv", "flow.mkv", 3)
    assert (facts["width"], facts["height"], facts["working_width"], facts["working_height"]) == (48, 40, 48, 40)
    assert (facts["model"], facts["device"], facts["dtype"]) == (str(tiny_model_dir), "cpu", "float32")
    assert (facts["seed"], facts["fps"], facts["num_inference_steps"]) == (0, 8, 1)
    assert 0 < facts["seconds_per_frame"] < facts["seconds"]
    assert [one["stroke"] for one in facts["strokes"]] == [1, 2]  # the third is never inside the image
    assert facts["strokes"][0]["asked"] == pytest.approx(10.2)
    assert len(facts["warnings"]) == 1 and facts["warnings"][0] in err


def test_json_without_warnings_has_an_empty_list(place, mcdiff):
    assert json.loads(mcdiff(*RUN, "-o", "a.mkv", "--json")[1])["warnings"] == []


def test_only_one_way_of_telling_can_be_chosen(place, mcdiff):
    code, _, err = mcdiff(*RUN, "-o", "a.mkv", "--json", "-q")
    assert code == 2 and "--quiet, --verbose and --json exclude each other" in err


def test_what_is_ignored_is_told(place, mcdiff):
    (place / "folder").mkdir()
    sheet = json.loads((place / "strokes.json").read_text())
    sheet["strokes"].append({"points": [[30, 5], [35, 5]], "start_frame": 3, "end_frame": 4})
    (place / "strokes.json").write_text(json.dumps(sheet))
    arguments = ("generate", "photo.png", "--strokes", "strokes.json", "--num-frames", 3, "--segmenter", "folder")
    code, _, err = mcdiff(*arguments, "-o", "a.mkv")
    assert code == 0
    assert "--segmenter is ignored: only --regions auto uses it" in err
    assert "stroke 1 ends at frame 3, but the video at frame 2; the rest of it is ignored" in err
    assert "stroke 3 begins at frame 3 and is ignored: the video ends at frame 2" in err
    code, _, err = mcdiff("flow", "photo.png", "--strokes", "strokes.json", "--segmenter", "folder", "-o", "flow.png")
    assert code == 0 and "--segmenter is ignored: only --regions auto uses it" in err


def test_flow_warns_of_strokes_that_cannot_work(place, mcdiff):
    code, _, err = mcdiff("flow", "photo.png", "--stroke", "60,10 70,10", "-o", "flow.png")
    assert code == 0 and err.startswith("mcdiff: warning: stroke 1 (from 60,10) is outside the image")


# A run of each command that needs neither a network nor an extra, and facts of it.
SHORT_RUNS = (
    (("grid", "photo.png", "-o", "new.png"), {"image": "new.png", "width": 48, "height": 40, "step": 5}),
    (("flow", "photo.png", "--stroke", "10,10 20,12", "-o", "new.png"), {"image": "new.png", "working_width": 48}),
    (("info",), {"loads": True, "latent_channels": 4}),
    (("dataset", "show", "clips", "-o", "new.png"), {"image": "new.png", "num_frames": 3, "num_clips": 1}),
    (("export", "MODEL", "new"), {"folder": "new"}),
)


@pytest.mark.parametrize(("arguments", "expected"), SHORT_RUNS, ids=[run[0][0] for run in SHORT_RUNS])
def test_every_command_tells_nothing_a_line_of_facts_or_more(place, mcdiff, tiny_model_dir, arguments, expected):
    write_squares(place / "clips", range(1), "train", size=32, num_frames=3)
    arguments = [str(tiny_model_dir) if argument == "MODEL" else argument for argument in arguments]

    def run(*options):
        code, out, err = mcdiff(*arguments, *options)
        assert (code, err) == (0, "")
        for path in place.glob("new*"):
            path.rename(place / f"{path.name} of {options[0]}")
        return out

    assert run("--quiet") == ""
    told = run("--json")
    facts = json.loads(told)
    assert told.count("\n") == 1 and facts["warnings"] == [] and facts["seconds"] >= 0
    assert facts == facts | expected
    assert len(run("--verbose").splitlines()) > 1


def leaves(group, path=()):
    for name, command in group.commands.items():
        yield from leaves(command, (*path, name)) if hasattr(command, "commands") else [((*path, name), command)]


@pytest.mark.parametrize(
    "command", [pytest.param(one, id=" ".join(path)) for path, one in leaves(typer.main.get_command(app))]
)
def test_every_command_has_the_same_options(command):
    if command.name == "studio":  # it serves until it is ended
        return
    options = {name for parameter in command.params for name in parameter.opts}
    assert {"--quiet", "-q", "--verbose", "-v", "--json"} <= options


def test_facts_of_a_model_that_does_not_load(place, mcdiff, tiny_model_dir):
    shutil.copytree(tiny_model_dir, "broken")
    shutil.rmtree("broken/unet")
    code, out, _ = mcdiff("info", "broken", "--json")
    facts = json.loads(out)
    assert code == 1 and facts["loads"] is False and "broken" in facts["reason"]
