# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import json
import multiprocessing
import threading

import av
import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.video import VideoWriter, read_video, write_video
from support import interrupts
from support.moving_square import mean_error, moving_square, tolerance


SUFFIXES = (".mp4", ".webm", ".gif", ".mkv")
METADATA = {
    "strokes": [{"points": [[1.5, 2.25], [-3.0, 1e-7]]}],
    "seed": 2**40,
    "prompt": 'Grüße, "東京"\n',
    "model": None,
}


# Round trip


def test_frames_rate_and_metadata_come_back(path):
    write_video(moving_square(), path, fps=12, metadata=METADATA)
    video = read_video(path)
    assert len(video.frames) == 6
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in video.frames)
    assert mean_error(video.frames, moving_square()) <= tolerance(path)
    assert video.fps == pytest.approx(12)
    assert video.metadata == METADATA
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_mkv_is_lossless(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 33, 47, 3), dtype=np.uint8)
    write_video(noise, tmp_path / "a.mkv")
    assert np.array_equal(np.stack(read_video(tmp_path / "a.mkv").frames), noise)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (33, 48), (32, 47)])
def test_every_size_comes_back_odd_sizes_included(path, size):
    frames = list(moving_square(3, *size))
    write_video(frames, path, metadata={"seed": 1})
    video = read_video(path)
    assert [frame.shape for frame in video.frames] == [(*size, 3)] * 3
    assert video.metadata == {"seed": 1}


@pytest.mark.parametrize("fps", [0.5, 8, 12.5, 23.976, 50])
def test_frame_rates_come_back(path, fps):
    write_video(moving_square(4), path, fps=fps)
    assert read_video(path).fps == pytest.approx(fps, rel=1e-4)


def test_video_of_one_frame_comes_back(path):
    write_video(moving_square(1), path, fps=8, metadata=METADATA)
    video = read_video(path)
    assert mean_error(video.frames, moving_square(1)) <= tolerance(path)
    assert video.fps == pytest.approx(8)
    assert video.metadata == METADATA


def test_metadata_is_empty_if_none_was_given(path):
    write_video(moving_square(2, 33, 47), path)
    assert read_video(path).metadata == {}


def test_long_metadata_comes_back(path):
    metadata = {"points": [[index, index / 7] for index in range(20000)]}
    write_video(moving_square(2), path, metadata=metadata)
    assert read_video(path).metadata == metadata


def test_images_of_any_mode_and_arrays_give_the_same_frames(tmp_path):
    array = next(moving_square(1))
    image = Image.fromarray(array)
    write_video([array, image, image.convert("RGBA")], tmp_path / "a.mkv")
    assert mean_error(read_video(tmp_path / "a.mkv").frames, [array] * 3) == 0


def test_array_with_strides_is_written_correctly(tmp_path):
    array = next(moving_square(1))[::-1, ::2]
    write_video([array], tmp_path / "a.mkv")
    assert np.array_equal(read_video(tmp_path / "a.mkv").frames[0], array)


def test_colors_keep_their_values(path):
    """Full and limited range, BT.601 and BT.709: mixing up any of them moves some patch by more than 5 levels."""
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (224, 172, 140)]
    chart = np.concatenate([np.full((32, 32, 3), color, np.uint8) for color in colors], axis=1)
    write_video([chart] * 3, path)
    for frame in read_video(path).frames:
        for index, color in enumerate(colors):
            patch = frame[8:-8, 32 * index + 8 : 32 * index + 24].reshape(-1, 3).mean(axis=0)
            assert np.abs(patch - color).max() <= 3, (color, patch)


def test_existing_file_is_replaced(path):
    write_video(moving_square(3), path)
    write_video(moving_square(5), path)
    assert len(read_video(path).frames) == 5


# Other programs


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_color_tags_are_bt709_limited_range(tmp_path, suffix):
    write_video(moving_square(), tmp_path / f"a{suffix}")
    with av.open(str(tmp_path / f"a{suffix}")) as container:
        stream = container.streams.video[0].codec_context
        assert (stream.pix_fmt, stream.color_range, stream.colorspace) == ("yuv420p", 1, 1)
        assert (stream.color_primaries, stream.color_trc) == (1, 1)


def test_codec_is_widely_supported(path):
    write_video(moving_square(), path)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context.name
    assert codec == {".mp4": "h264", ".webm": "vp9", ".gif": "gif", ".mkv": "ffv1"}[path.suffix]


def test_mp4_begins_with_its_index(tmp_path):
    write_video(moving_square(), tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_mp4_of_odd_size_repeats_its_border(tmp_path):
    frame = next(moving_square(1, 33, 47))
    write_video([frame], tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert shown.shape == (34, 48, 3)
    assert mean_error([shown], [np.pad(frame, ((0, 1), (0, 1), (0, 0)), mode="edge")]) < 2


def test_opencv_reads_the_same_pixels(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="OpenCV's reader is compared")
    write_video(moving_square(), tmp_path / "a.mp4")
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    frames = [capture.read()[1][:, :, ::-1] for _ in range(6)]
    assert capture.get(cv2.CAP_PROP_FPS) == 8
    assert mean_error(frames, read_video(tmp_path / "a.mp4").frames) < 1


def test_gif_loops_endlessly_at_the_right_rate_and_has_the_comment(tmp_path):
    write_video(moving_square(16), tmp_path / "a.gif", fps=8, metadata={"seed": 1})
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["loop"] == 0
        assert json.loads(gif.info["comment"])["seed"] == 1
        durations, frames = [], []
        for index in range(gif.n_frames):
            gif.seek(index)
            durations.append(gif.info["duration"])
            frames.append(np.asarray(gif.convert("RGB")))
    assert set(durations) == {120, 130}  # GIF counts hundredths of a second
    assert sum(durations) == pytest.approx(2000, abs=10)
    assert mean_error(frames, moving_square(16)) <= tolerance(tmp_path / "a.gif")


def test_comment_of_an_mp4_is_json(tmp_path):
    write_video(moving_square(), tmp_path / "a.mp4", metadata=METADATA)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert json.loads(container.metadata["comment"]) == METADATA


# Interruption


def test_exception_keeps_the_frames_made_so_far(path):
    def frames():
        yield from moving_square(4)
        raise RuntimeError("out of strokes")

    with pytest.raises(RuntimeError, match="out of strokes"):
        write_video(frames(), path, metadata=METADATA)
    video = read_video(path)
    assert mean_error(video.frames, moving_square(4)) <= tolerance(path)
    assert video.metadata == METADATA
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_exception_does_not_replace_a_file_by_a_part_but_ctrl_c_does(path):
    write_video(moving_square(3), path)
    before = path.read_bytes()
    for error, kept in ((ValueError, True), (KeyboardInterrupt, False)):
        with pytest.raises(error), VideoWriter(path, fps=8) as writer:
            writer.write(next(iter(moving_square())))
            raise error
        assert (path.read_bytes() == before) == kept
        assert [one.name for one in path.parent.iterdir()] == [path.name]
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, fps=8, only_whole=True) as writer:
        writer.write(next(iter(moving_square())))
        raise KeyboardInterrupt
    assert len(read_video(path).frames) == 1


def test_exception_before_the_first_frame_leaves_nothing(path):
    with pytest.raises(RuntimeError), VideoWriter(path, fps=8):
        raise RuntimeError
    assert list(path.parent.iterdir()) == []


def test_exception_before_the_first_frame_leaves_the_old_file(path):
    write_video(moving_square(), path)
    old = path.read_bytes()
    with pytest.raises(RuntimeError), VideoWriter(path, fps=8):
        raise RuntimeError
    assert path.read_bytes() == old


def test_path_exists_only_when_the_file_is_complete(path):
    with VideoWriter(path, fps=8) as writer:
        for frame in moving_square():
            writer.write(frame)
            assert not path.exists()
        assert writer.num_frames == 6
    assert path.exists()


@pytest.mark.parametrize(
    "program",
    [
        *(
            pytest.param((interrupts.while_frames_are_written, suffix), id=f"between frames{suffix}")
            for suffix in SUFFIXES
        ),
        pytest.param((interrupts.at_any_line_of_write,), id="at any line"),
        pytest.param((interrupts.while_the_file_is_finished,), id="while the file is finished"),
    ],
)
def test_ctrl_c_keeps_the_frames_made_so_far(tmp_path, program):
    """In a process of its own, as Ctrl-C ends more than a test if it comes too late."""
    function, *arguments = program
    process = multiprocessing.get_context("spawn").Process(target=function, args=(tmp_path, *arguments))
    process.start()
    process.join(120)
    process.kill()
    assert process.exitcode == 0


def test_writer_works_in_any_thread(path):
    thread = threading.Thread(target=write_video, args=(list(moving_square()), path))
    thread.start()
    thread.join()
    assert len(read_video(path).frames) == 6


# Errors


@pytest.mark.parametrize("name", ["clip.avi", "clip", "clip.mp4.txt"])
def test_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"'.*clip.*'.*\.mp4, \.webm, \.gif or \.mkv"):
        write_video(moving_square(), tmp_path / name)


def test_missing_folder_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder.*missing"):
        VideoWriter(tmp_path / "missing" / "clip.mp4", fps=8)


@pytest.mark.parametrize("fps", [0, -1, 1e-9, 5e-324, 1001, 1e308, float("nan"), float("inf"), "8", True])
def test_impossible_frame_rate_is_refused(tmp_path, fps):
    with pytest.raises(ValueError, match="`fps` is .*from 0.01 to 1000"):
        VideoWriter(tmp_path / "clip.mp4", fps=fps)


def test_gif_of_more_than_50_frames_per_second_is_refused(tmp_path):
    with pytest.raises(ValueError, match="60.*at most 50"):
        VideoWriter(tmp_path / "clip.gif", fps=60)


@pytest.mark.parametrize("metadata", [[1], {"a": object()}, {"a": float("nan")}, {"mcdiff_video": 1}])
def test_metadata_must_be_a_json_object(tmp_path, metadata):
    with pytest.raises(ValueError, match="`metadata`"):
        VideoWriter(tmp_path / "clip.mp4", fps=8, metadata=metadata)


def test_video_without_frames_is_refused(path):
    with pytest.raises(ValueError, match=r"No frames.*clip.*at least 1"):
        write_video([], path)
    assert list(path.parent.iterdir()) == []


def test_frame_of_another_size_is_refused_and_earlier_frames_are_kept(path):
    with pytest.raises(ValueError, match="Frame 2 is 32 x 32.*64 x 48"):
        write_video([*moving_square(2), np.zeros((32, 32, 3), np.uint8)], path)
    assert len(read_video(path).frames) == 2


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.int32), "frame.png"],
)
def test_object_that_is_not_a_frame_is_refused(path, frame):
    with pytest.raises(ValueError, match=r"A frame is .*array of shape \(height, width, 3\), uint8 or floating point"):
        write_video([frame], path)
    assert list(path.parent.iterdir()) == []


def test_frames_of_the_pipeline_as_arrays_are_written(tmp_path):
    frames = list(moving_square(3))
    write_video([frame.astype(np.float32) / 255 for frame in frames], tmp_path / "a.mkv")
    assert all(np.array_equal(a, b) for a, b in zip(read_video(tmp_path / "a.mkv").frames, frames, strict=True))


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan])
def test_floating_point_frame_outside_of_0_to_1_is_refused(path, value):
    with pytest.raises(ValueError, match=r"A frame of floating point spans .* has to lie in \[0, 1\]"):
        write_video([np.full((4, 4, 3), value)], path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (16385, 4), (4, 16385)])
def test_size_that_no_encoder_takes_is_refused(path, size):
    with pytest.raises(ValueError, match=f"A frame has {size[1]} x {size[0]} pixels, but each side needs 1 to 16384"):
        write_video([np.zeros((*size, 3), np.uint8)], path)
    assert list(path.parent.iterdir()) == []


def test_video_of_one_pixel_is_written(path):
    write_video([np.full((1, 1, 3), 200, np.uint8)] * 2, path)
    frames = read_video(path).frames
    assert [frame.shape for frame in frames] == [(1, 1, 3)] * 2 and abs(int(frames[0].mean()) - 200) < 12
