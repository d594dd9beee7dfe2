# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff generate` with motion besides strokes, and going on where a video ends."""

import json

import numpy as np
import pytest
from PIL import Image

from mcdiff_commands import option_values
from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from mcdiff_pipeline.motion.description import describe_camera
from mcdiff_pipeline.stroke_controls import CONTROL_LIMITS, EASINGS
from mcdiff_pipeline.video import read_video, write_video
from mcdiff_pipeline.video.clip_metadata import ClipMetadata


NEXT = StrokeSheet([Stroke([(20, 20), (12, 26)]), Stroke([(40, 30)], kind="hold", end_frame=2)], 48, 40, num_frames=4)


def test_command_continues_a_clip_and_replays_it(place, mcdiff):
    arguments = ("--strokes", "strokes.json", "--size", "48x32", "--seed", 5)
    assert mcdiff("generate", "photo.png", *arguments, "--output", "a.mkv")[0] == 0
    NEXT.save("next.json")
    code, out, err = mcdiff("generate", "--continue", "a.mkv", "--strokes", "next.json", "--output", "b.mkv")
    assert code == 0 and "b.mkv: 8 frames" in out, err
    before, after = read_video("a.mkv").frames, read_video("b.mkv").frames
    assert len(after) == 8 and all(np.array_equal(*pair) for pair in zip(before, after[:5], strict=True))
    assert mcdiff("generate", "--replay", "b.mkv", "--output", "c.mkv")[0] == 0
    assert all(np.array_equal(*pair) for pair in zip(after, read_video("c.mkv").frames, strict=True))


def test_command_continues_another_video_without_a_jump(place, mcdiff, image):
    first = np.asarray(image).astype(np.float32)
    frames = [np.clip(first * (1 - 0.02 * t) + 2 * t, 0, 255).astype(np.uint8) for t in range(5)]  # colors that drift
    write_video([Image.fromarray(frame) for frame in frames], "other.mkv", fps=6)
    code, out, err = mcdiff(
        *("generate", "--continue", "other.mkv", "--hold", "5,5", "--num-frames", 3, "--output", "b.mkv")
    )
    assert code == 0 and "b.mkv: 7 frames of 48 x 40 at 6 a second" in out, err
    video = read_video("b.mkv")
    assert all(np.array_equal(*pair) for pair in zip(video.frames[:5], frames, strict=True))
    clip = ClipMetadata.read("b.mkv")
    assert clip.lead.frames == 4 and clip.settings.num_frames == 3
    # what is generated starts with the colors of the first frame, and shows them more and more
    assert np.abs(np.asarray(clip.image).mean((0, 1)) - first.mean((0, 1))).max() < 1.5
    code, _, err = mcdiff("generate", "--replay", "b.mkv", "--output", "c.mkv")
    assert code == 0 and all(
        np.array_equal(*pair) for pair in zip(video.frames, read_video("c.mkv").frames, strict=True)
    )
    code, _, err = mcdiff(
        "generate", "--continue", "b.mkv", "--at-frame", 5, "--strokes", "strokes.json", "--output", "d.mkv"
    )
    assert code == 0, err
    longer = read_video("d.mkv").frames
    assert len(longer) == 10 and all(np.array_equal(*pair) for pair in zip(video.frames[:6], longer[:6], strict=True))


def test_command_moves_a_camera_and_keeps_it_in_the_clip(place, mcdiff):
    arguments = ("generate", "photo.png", "--num-frames", 3, "--size", "48x40")
    assert mcdiff(*arguments, "--camera", "zoom 1.5 pan 10%,0", "--output", "a.mkv")[0] == 0
    clip = ClipMetadata.read("a.mkv")
    camera = Camera([CameraKeyframe(2, zoom=1.5, pan=(4.8, 0))], 48, 40)
    assert clip.motion == (describe_camera(camera),)
    assert mcdiff("generate", "--replay", "a.mkv", "--output", "b.mkv")[0] == 0
    camera.save("camera.json")
    assert mcdiff(*arguments, "--camera", "camera.json", "--output", "c.mkv")[0] == 0
    sheet = {"version": 4, "width": 48, "height": 40, "num_frames": 3, "strokes": [], "camera": camera.to_dict()}
    (place / "sheet.json").write_text(json.dumps(sheet))
    assert mcdiff(*arguments, "--strokes", "sheet.json", "--output", "d.mkv")[0] == 0
    for other in ("b.mkv", "c.mkv", "d.mkv"):
        assert all(
            np.array_equal(*pair) for pair in zip(read_video("a.mkv").frames, read_video(other).frames, strict=True)
        )


BAD = [
    (("photo.png", "--camera", "fly 2"), "--camera: 'fly' is not understood"),
    (("photo.png", "--camera", "no.json"), "no.json"),
    (("--continue", "no.mkv", "--hold", "1,1"), "there is no such video"),
    (("--continue", "strokes.json", "--hold", "1,1"), "strokes.json"),
    (("--continue", "a.mkv", "--hold", "1,1"), "needs the length of the new part"),
    (("--continue", "a.mkv", "--hold", "1,1", "--num-frames", "3", "--at-frame", "7"), "frame is 7"),
    (
        ("--continue", "a.mkv", "--hold", "1,1", "--num-frames", "3", "--regions", "sheet"),
        "--regions is given together",
    ),
    (("photo.png", "--continue", "a.mkv", "--hold", "1,1"), "IMAGE is given together with --continue"),
    (("--continue", "other.mkv", "--hold", "1,1", "--at-frame", "7"), "has the frames 0 to 1"),
]


def test_bad_motion_is_refused_in_one_sentence(place, mcdiff, image):
    assert mcdiff("generate", "photo.png", "--strokes", "strokes.json", "--output", "a.mkv")[0] == 0
    write_video([image, image], "other.mkv", fps=6)
    for arguments, message in BAD:
        code, _, err = mcdiff("generate", *arguments, "--output", "x.mkv")
        assert code == 2 and message in err and err.count("\n") == 1, (arguments, err)


def sliding_video(path):
    """Six frames in which everything moves to the right by two pixels of 96 a frame."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 255, (20, 30, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    write_video([texture[:, 20 - 2 * t : 116 - 2 * t] for t in range(6)], path, fps=8)


def test_command_moves_an_image_as_a_video_moves(place, mcdiff):
    sliding_video("slide.mkv")
    arguments = (
        "generate",
        "photo.png",
        "--num-frames",
        4,
        "--fps",
        8,
        "--size",
        "48x40",
        "--motion-from",
        "slide.mkv",
    )
    code, out, err = mcdiff(*arguments, "--motion-speed", 2, "--output", "a.mkv")
    assert code == 0, err
    (motion,) = ClipMetadata.read("a.mkv").motion
    assert motion["alignment"] == [[2, 0, 0], [0, 2, 0]] and motion["speed"] == 2
    assert mcdiff("generate", "--replay", "a.mkv", "--output", "b.mkv")[0] == 0
    assert all(
        np.array_equal(*pair) for pair in zip(read_video("a.mkv").frames, read_video("b.mkv").frames, strict=True)
    )
    code, out, err = mcdiff(*arguments, "--motion-as", "strokes", "--output", "c.mkv")
    clip = ClipMetadata.read("c.mkv")
    assert code == 0 and clip.motion == () and clip.strokes.strokes
    moved = [stroke.displacement(0, 4) for stroke in clip.strokes.strokes if stroke.displacement(0, 4)]
    assert np.abs(np.median(moved, axis=0) - (1, 0)).max() < 0.3  # half as many pixels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no.mkv",), "there is no such video"),
        (("photo.png",), "photo.png"),
        (("slide.mkv", "--motion-point", "1,1"), "a point of the video and one of the image"),
        (("slide.mkv", "--motion-point", "1,1 2,2", "--motion-align", "people"), "given together"),
        (("slide.mkv", "--motion-as", "strokes", "--motion-region", "a"), "leave it out with strokes"),
        (("slide.mkv", "--flow-estimator", "raft_small"), "needs `weights`"),
        (("slide.mkv", "--motion-region", "a"), "the image has no regions"),
    ],
)
def test_bad_reference_is_refused_in_one_sentence(place, mcdiff, arguments, message):
    sliding_video("slide.mkv")
    code, _, err = mcdiff("generate", "photo.png", "--num-frames", 3, "--motion-from", *arguments, "--output", "x.mkv")
    assert code in (1, 2) and message in err and err.count("\n") == 1, err


def test_words_of_strokes_are_those_of_the_library():
    assert option_values.STROKE_EASINGS == tuple(EASINGS) and set(option_values.STROKE_NUMBERS) == set(CONTROL_LIMITS)


def test_command_eases_and_turns_strokes_and_replays_them(place, mcdiff):
    stroke = ("--stroke", "20,20 30,24 ease-in-out strength 0.5 rotate 30 scale 1.1 radius 10%")
    group = ("--hold", "50%,50% rotate -20 handles 40,30 8,30")
    arguments = ("generate", "photo.png", *stroke, *group, "--num-frames", 4, "--size", "48x40")
    code, out, err = mcdiff(*arguments, "--output", "a.mkv")
    assert code == 0 and "of 2 strokes" in out, err
    strokes = ClipMetadata.read("a.mkv").strokes.strokes
    assert strokes[0] == Stroke(
        [(20, 20), (30, 24)], easing="ease-in-out", strength=0.5, rotate=30, scale=1.1, radius=4.8
    )
    assert strokes[1] == Stroke([(24, 20)], kind="hold", rotate=-20, handles=[(40, 30), (8, 30)])
    assert mcdiff("generate", "--replay", "a.mkv", "--output", "b.mkv")[0] == 0
    assert all(
        np.array_equal(*pair) for pair in zip(read_video("a.mkv").frames, read_video("b.mkv").frames, strict=True)
    )
    code, _, err = mcdiff("generate", "--continue", "a.mkv", *stroke, "--num-frames", 2, "--output", "c.mkv")
    assert code == 0 and len(read_video("c.mkv").frames) == 5, err


@pytest.mark.parametrize(
    ("stroke", "message"),
    [
        ("1,1 9,9 faster", "'faster' is not a point, nor one of the words linear, ease-in,"),
        ("1,1 9,9 strength", "strength is '', which is not a number"),
        ("1,1 9,9 rotate 20", "rotate is given, but no points that turn or grow; give radius"),
        ("1,1 9,9 rotate 9000 radius 5", "rotate is 9000.0; it must be a number from -3600 to 3600"),
        ("1,1 9,9 handles", "handles are given without points"),
    ],
)
def test_stroke_in_wrong_words_is_refused(place, mcdiff, stroke, message):
    code, _, err = mcdiff("generate", "photo.png", "--stroke", stroke, "--output", "a.mkv")
    assert code == 2 and message in " ".join(err.replace("│", " ").split()), err


def test_command_closes_the_loop_and_keeps_this_in_the_clip(place, mcdiff):
    arguments = ("generate", "photo.png", "--stroke", "10,10 30,24", "--num-frames", 4, "--size", "48x40")
    assert mcdiff(*arguments, "--closed-loop", "--output", "a.mkv")[0] == 0
    assert ClipMetadata.read("a.mkv").motion == ({"source": "closed-loop"},)
    assert mcdiff("generate", "--replay", "a.mkv", "--output", "b.mkv")[0] == 0
    assert all(
        np.array_equal(*pair) for pair in zip(read_video("a.mkv").frames, read_video("b.mkv").frames, strict=True)
    )
    code, _, err = mcdiff(*arguments, "--closed-loop", "--camera", "zoom 2", "--output", "c.mkv")
    assert code == 2 and "--closed-loop is given together with --camera" in err
