# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff generate` with motion besides strokes, and going on where a video ends."""

import numpy as np
from PIL import Image

from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from mcdiff_pipeline.motion.description import describe_camera
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
    for other in ("b.mkv", "c.mkv"):
        assert all(
            np.array_equal(*pair) for pair in zip(read_video("a.mkv").frames, read_video(other).frames, strict=True)
        )


BAD = [
    (("photo.png", "--camera", "fly 2"), "--camera: 'fly' is not understood"),
    (("photo.png", "--camera", "no.json"), "no.json"),
    (("--continue", "no.mkv", "--hold", "1,1"), "there is no such video"),
    (("--continue", "photo.png", "--hold", "1,1"), "photo.png"),
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
