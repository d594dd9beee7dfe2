# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import json
import os
import signal
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.video import VideoReader, VideoWriter, read_video, write_video


SUFFIXES = [".mp4", ".webm", ".gif", ".mkv"]
METADATA = {
    "strokes": [{"points": [[1.5, 2.25], [-3.0, 1e-7]]}],
    "seed": 2**40,
    "prompt": 'Grüße, "東京"\n',
    "model": None,
}


def moving_square(num_frames=6, height=48, width=64):
    """A dark square that walks to the right over a smooth background, uint8 `[height, width, 3]` each."""
    y, x = np.mgrid[:height, :width]
    for frame in range(num_frames):
        picture = np.stack([80 + x, 60 + 2 * y, 140 - x + y], axis=2).clip(0, 255).astype(np.uint8)
        picture[height // 4 : height // 2, 4 * frame : 4 * frame + height // 4] = (150, 40, 30)
        yield picture


def tolerance(path):
    """Mean error in levels of 255 that a format may make of `moving_square`; one frame too early or late adds 2."""
    return {".mp4": 2, ".webm": 2, ".gif": 3.5, ".mkv": 0}[path.suffix]


def mean_error(frames, expected):
    return np.abs(np.stack(frames).astype(int) - np.stack(list(expected)).astype(int)).mean()


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"clip{request.param}"


class TestRoundTrip:
    def test_frames_rate_and_metadata_come_back(self, path):
        write_video(moving_square(), path, fps=12, metadata=METADATA)
        video = read_video(path)
        assert len(video.frames) == 6
        assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in video.frames)
        assert mean_error(video.frames, moving_square()) <= tolerance(path)
        assert video.fps == pytest.approx(12)
        assert video.metadata == METADATA
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_mkv_is_lossless(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (3, 33, 47, 3), dtype=np.uint8)
        write_video(noise, tmp_path / "a.mkv")
        assert np.array_equal(np.stack(read_video(tmp_path / "a.mkv").frames), noise)

    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (33, 48), (32, 47)])
    def test_every_size_comes_back_odd_ones_included(self, path, size):
        frames = list(moving_square(3, *size))
        write_video(frames, path, metadata={"seed": 1})
        video = read_video(path)
        assert [frame.shape for frame in video.frames] == [(*size, 3)] * 3
        assert video.metadata == {"seed": 1}

    @pytest.mark.parametrize("fps", [0.5, 8, 12.5, 23.976, 50])
    def test_frame_rates_come_back(self, path, fps):
        write_video(moving_square(4), path, fps=fps)
        assert read_video(path).fps == pytest.approx(fps, rel=1e-4)

    def test_one_frame_is_a_video(self, path):
        write_video(moving_square(1), path, fps=8, metadata=METADATA)
        video = read_video(path)
        assert mean_error(video.frames, moving_square(1)) <= tolerance(path)
        assert video.fps == pytest.approx(8)
        assert video.metadata == METADATA

    def test_without_metadata_it_is_empty(self, path):
        write_video(moving_square(2, 33, 47), path)
        assert read_video(path).metadata == {}

    def test_long_metadata_survives(self, path):
        metadata = {"points": [[index, index / 7] for index in range(20000)]}
        write_video(moving_square(2), path, metadata=metadata)
        assert read_video(path).metadata == metadata

    def test_pictures_of_any_mode_and_arrays_are_the_same_frames(self, tmp_path):
        array = next(moving_square(1))
        picture = Image.fromarray(array)
        write_video([array, picture, picture.convert("RGBA")], tmp_path / "a.mkv")
        assert mean_error(read_video(tmp_path / "a.mkv").frames, [array] * 3) == 0

    def test_views_of_arrays_are_written_as_they_look(self, tmp_path):
        array = next(moving_square(1))[::-1, ::2]
        write_video([array], tmp_path / "a.mkv")
        assert np.array_equal(read_video(tmp_path / "a.mkv").frames[0], array)

    def test_colors_keep_their_values(self, path):
        """Full and limited range, BT.601 and BT.709: mixing up any of them moves some patch by more than 5 levels."""
        colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (224, 172, 140)]
        chart = np.concatenate([np.full((32, 32, 3), color, np.uint8) for color in colors], axis=1)
        write_video([chart] * 3, path)
        for frame in read_video(path).frames:
            for index, color in enumerate(colors):
                patch = frame[8:-8, 32 * index + 8 : 32 * index + 24].reshape(-1, 3).mean(axis=0)
                assert np.abs(patch - color).max() <= 3, (color, patch)

    def test_a_file_is_replaced(self, path):
        write_video(moving_square(3), path)
        write_video(moving_square(5), path)
        assert len(read_video(path).frames) == 5


class TestWhatOtherProgramsSee:
    @pytest.mark.parametrize("suffix", [".mp4", ".webm"])
    def test_color_tags_say_bt709_limited_range(self, tmp_path, suffix):
        write_video(moving_square(), tmp_path / f"a{suffix}")
        with av.open(str(tmp_path / f"a{suffix}")) as container:
            stream = container.streams.video[0].codec_context
            assert (stream.pix_fmt, stream.color_range, stream.colorspace) == ("yuv420p", 1, 1)
            assert (stream.color_primaries, stream.color_trc) == (1, 1)

    def test_codecs_are_those_that_players_know(self, path):
        write_video(moving_square(), path)
        with av.open(str(path)) as container:
            codec = container.streams.video[0].codec_context.name
        assert codec == {".mp4": "h264", ".webm": "vp9", ".gif": "gif", ".mkv": "ffv1"}[path.suffix]

    def test_an_mp4_begins_with_its_index(self, tmp_path):
        write_video(moving_square(), tmp_path / "a.mp4")
        content = (tmp_path / "a.mp4").read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")

    def test_an_odd_mp4_repeats_its_border(self, tmp_path):
        frame = next(moving_square(1, 33, 47))
        write_video([frame], tmp_path / "a.mp4")
        with av.open(str(tmp_path / "a.mp4")) as container:
            shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
        assert shown.shape == (34, 48, 3)
        assert mean_error([shown], [np.pad(frame, ((0, 1), (0, 1), (0, 0)), mode="edge")]) < 2

    def test_opencv_reads_the_same_pixels(self, tmp_path):
        cv2 = pytest.importorskip("cv2", reason="OpenCV's reader is compared")
        write_video(moving_square(), tmp_path / "a.mp4")
        capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
        frames = [capture.read()[1][:, :, ::-1] for _ in range(6)]
        assert capture.get(cv2.CAP_PROP_FPS) == 8
        assert mean_error(frames, read_video(tmp_path / "a.mp4").frames) < 1

    def test_a_gif_loops_for_ever_at_the_right_pace_and_carries_its_comment(self, tmp_path):
        write_video(moving_square(16), tmp_path / "a.gif", fps=8, metadata={"seed": 1})
        with Image.open(tmp_path / "a.gif") as picture:
            assert picture.info["loop"] == 0
            assert json.loads(picture.info["comment"])["seed"] == 1
            durations, frames = [], []
            for index in range(picture.n_frames):
                picture.seek(index)
                durations.append(picture.info["duration"])
                frames.append(np.asarray(picture.convert("RGB")))
        assert set(durations) == {120, 130}  # a GIF counts hundredths of a second
        assert sum(durations) == pytest.approx(2000, abs=10)
        assert mean_error(frames, moving_square(16)) <= tolerance(tmp_path / "a.gif")

    def test_the_comment_of_an_mp4_is_plain_json(self, tmp_path):
        write_video(moving_square(), tmp_path / "a.mp4", metadata=METADATA)
        with av.open(str(tmp_path / "a.mp4")) as container:
            assert json.loads(container.metadata["comment"]) == METADATA


class TestInterruption:
    def test_an_exception_keeps_the_frames_made_so_far(self, path):
        def frames():
            yield from moving_square(4)
            raise RuntimeError("out of strokes")

        with pytest.raises(RuntimeError, match="out of strokes"):
            write_video(frames(), path, metadata=METADATA)
        video = read_video(path)
        assert mean_error(video.frames, moving_square(4)) <= tolerance(path)
        assert video.metadata == METADATA
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_an_exception_before_the_first_frame_leaves_nothing(self, path):
        with pytest.raises(RuntimeError), VideoWriter(path, fps=8):
            raise RuntimeError
        assert list(path.parent.iterdir()) == []

    def test_an_exception_before_the_first_frame_leaves_the_old_file(self, path):
        write_video(moving_square(), path)
        old = path.read_bytes()
        with pytest.raises(RuntimeError), VideoWriter(path, fps=8):
            raise RuntimeError
        assert path.read_bytes() == old

    def test_the_name_appears_when_the_file_is_complete(self, path):
        with VideoWriter(path, fps=8) as writer:
            for frame in moving_square():
                writer.write(frame)
                assert not path.exists()
            assert writer.num_frames == 6
        assert path.exists()

    def test_ctrl_c_keeps_the_frames_made_so_far(self, path):
        with pytest.raises(KeyboardInterrupt), VideoWriter(path, fps=8, metadata={"seed": 1}) as writer:
            while True:
                writer.write(np.full((48, 64, 3), writer.num_frames % 256, np.uint8))
                if writer.num_frames == 5:
                    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        video = read_video(path)
        assert len(video.frames) - writer.num_frames in (0, 1)  # it may come between a frame and its count
        assert mean_error(video.frames[:5], [np.full((48, 64, 3), value) for value in range(5)]) < 2
        assert video.metadata == {"seed": 1}
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    @pytest.mark.parametrize("delay", [0.0, 0.005, 0.02, 0.05])
    def test_ctrl_c_while_the_file_is_being_finished_waits_for_it(self, tmp_path, delay):
        path = tmp_path / "clip.mp4"
        noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
        with pytest.raises(KeyboardInterrupt):
            with VideoWriter(path, fps=8) as writer:
                for _ in range(8):  # H.264 looks ahead, so all of them are encoded when the file is finished
                    writer.write(noise)
                timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
                timer.start()
            timer.join()  # where the file was finished first, Ctrl-C comes here
            time.sleep(1)
        assert len(read_video(path).frames) == 8

    def test_a_writer_works_in_any_thread(self, path):
        thread = threading.Thread(target=write_video, args=(list(moving_square()), path))
        thread.start()
        thread.join()
        assert len(read_video(path).frames) == 6


class TestReader:
    def test_the_head_of_a_file_is_enough_for_rate_and_metadata(self, path):
        write_video(moving_square(), path, fps=10, metadata=METADATA)
        with VideoReader(path) as reader:
            assert reader.fps == pytest.approx(10)
            assert reader.metadata == METADATA
            assert next(iter(reader)).shape == (48, 64, 3)

    def test_a_foreign_comment_is_no_metadata(self, tmp_path):
        with av.open(str(tmp_path / "a.mp4"), "w") as container:
            container.metadata["comment"] = "made with love"
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
            container.mux(stream.encode(None))
        video = read_video(tmp_path / "a.mp4")
        assert video.metadata == {}
        assert video.fps == 25

    def test_a_foreign_gif_is_read(self, tmp_path):
        frames = [Image.fromarray(frame) for frame in moving_square(3)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
        video = read_video(tmp_path / "a.gif")
        assert video.fps == pytest.approx(10)
        assert mean_error(video.frames, moving_square(3)) < 6

    def test_a_picture_taken_sideways_is_turned_upright(self, tmp_path):
        write_video(moving_square(2), tmp_path / "a.mp4")
        content = bytearray((tmp_path / "a.mp4").read_bytes())
        # ISO 14496-12: the track header's transformation matrix, 16.16 fixed point, begins 44 bytes after its name;
        # a quarter turn clockwise is (0, 1, -1, 0).
        matrix = content.index(b"tkhd") + 44
        for position, value in ((0, 0), (4, 1 << 16), (12, -(1 << 16)), (16, 0)):
            content[matrix + position : matrix + position + 4] = value.to_bytes(4, "big", signed=True)
        (tmp_path / "b.mp4").write_bytes(content)
        upright, turned = read_video(tmp_path / "a.mp4").frames, read_video(tmp_path / "b.mp4").frames
        assert all(np.array_equal(np.rot90(a, -1), b) for a, b in zip(upright, turned, strict=True))
        assert turned[0].shape == (64, 48, 3)


class TestTimedFrames:
    def test_they_are_the_frames_with_numbers_and_times(self, path):
        write_video(moving_square(), path, fps=10)
        with VideoReader(path) as reader:
            timed = [(frame.number, frame.seconds, frame.pixels()) for frame in reader.timed_frames()]
            assert reader.seconds == pytest.approx(0.6, abs=0.11)  # a GIF's last frame has no end
        assert [number for number, _, _ in timed] == list(range(6))
        assert [seconds for _, seconds, _ in timed] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5], abs=1e-3)
        assert all(np.array_equal(a, b) for (_, _, a), b in zip(timed, read_video(path).frames, strict=True))

    def test_uneven_times_are_those_of_the_file(self, tmp_path):
        times = [0, 40, 50, 200]
        with av.open(str(tmp_path / "a.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
            stream.codec_context.time_base = Fraction(1, 1000)
            for milliseconds, frame in zip(times, moving_square(4), strict=True):
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")
                picture.pts, picture.time_base = milliseconds, Fraction(1, 1000)
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        with VideoReader(tmp_path / "a.mkv") as reader:
            assert [frame.seconds for frame in reader.timed_frames()] == pytest.approx([0, 0.04, 0.05, 0.2])

    def test_frames_can_be_kept_and_looked_at_later(self, path):
        write_video(moving_square(), path)
        with VideoReader(path) as reader:
            kept = list(reader.timed_frames())
        frames = [frame.pixels() for frame in reversed(kept)][::-1]
        assert all(np.array_equal(a, b) for a, b in zip(frames, read_video(path).frames, strict=True))

    @pytest.mark.parametrize("size", [(96, 128), (128, 95), (97, 131)])
    def test_a_reduced_frame_is_the_mean_over_areas(self, path, size):
        write_video(moving_square(3, *size), path, fps=8)
        with VideoReader(path) as reader:
            reduced = [frame.pixels(24) for frame in reader.timed_frames()]
        height, width = (round(length * 24 / min(size)) for length in size)
        assert all(frame.shape == (height, width, 3) for frame in reduced)
        expected = [
            np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))
            for frame in moving_square(3, *size)
        ]
        assert mean_error(reduced, expected) < tolerance(path) + 2

    def test_every_pixel_has_its_share_in_a_reduced_frame(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        write_video([noise], tmp_path / "a.mkv")
        with VideoReader(tmp_path / "a.mkv") as reader:
            (reduced,) = [frame.pixels(24) for frame in reader.timed_frames()]
        assert mean_error([reduced], [noise.reshape(24, 4, 32, 4, 3).mean(axis=(1, 3))]) < 3

    def test_a_frame_is_never_enlarged(self, path):
        write_video(moving_square(1), path)
        with VideoReader(path) as reader:
            (frame,) = reader.timed_frames()
            assert np.array_equal(frame.pixels(1000), frame.pixels())

    def test_gray_is_the_brightness(self, path):
        write_video(moving_square(2), path)
        with VideoReader(path) as reader:
            for frame in reader.timed_frames():
                gray = frame.pixels(gray=True).astype(float)
                assert gray.shape == (48, 64)
                brightness = frame.pixels() @ [0.2126, 0.7152, 0.0722]
                assert np.corrcoef(gray.ravel(), brightness.ravel())[0, 1] > 0.98

    def test_one_thread_reads_the_same_frames(self, path):
        write_video(moving_square(), path)
        with VideoReader(path, num_threads=1) as reader:
            assert all(np.array_equal(a, b) for a, b in zip(reader, read_video(path).frames, strict=True))

    def test_ten_bits_are_rounded_to_eight(self, tmp_path):
        ramp = np.broadcast_to(np.linspace(0, 1, 256)[None, :, None], (64, 256, 3))
        with av.open(str(tmp_path / "a.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
            stream.width, stream.height, stream.pix_fmt = 256, 64, "yuv420p10le"
            picture = av.VideoFrame.from_ndarray((ramp * 65535).astype(np.uint16), format="rgb48le")
            container.mux(stream.encode(picture.reformat(format="yuv420p10le")))
            container.mux(stream.encode(None))
        (frame,) = read_video(tmp_path / "a.mp4").frames
        assert frame.dtype == np.uint8
        assert mean_error([frame], [255 * ramp]) < 2

    @pytest.mark.parametrize(("transfer", "hdr"), [(16, "PQ"), (18, "HLG"), (14, None), (1, None)])
    def test_brightness_coded_for_hdr_screens_is_told(self, tmp_path, transfer, hdr):
        with av.open(str(tmp_path / "a.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
            stream.codec_context.color_trc = transfer
            picture = av.VideoFrame.from_ndarray(next(moving_square()), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p10le")))
            container.mux(stream.encode(None))
        with VideoReader(tmp_path / "a.mp4") as reader:
            assert reader.hdr == hdr

    def test_frames_before_a_cut_off_end_are_read(self, path):
        noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
        write_video(noise, path, fps=8)
        whole = read_video(path).frames
        content = path.read_bytes()
        path.write_bytes(content[: int(0.7 * len(content))])
        found = []
        with VideoReader(path) as reader, pytest.raises(ValueError, match="clip.*truncated"):
            found.extend(frame.pixels() for frame in reader.timed_frames())
        assert 0 < len(found) < 12
        # What is left of the last one may be incomplete.
        assert all(np.array_equal(a, b) for a, b in zip(found[:-1], whole))


class TestErrors:
    @pytest.mark.parametrize("name", ["clip.avi", "clip", "clip.mp4.txt"])
    def test_unknown_suffix(self, tmp_path, name):
        with pytest.raises(ValueError, match=r"'.*clip.*'.*\.mp4, \.webm, \.gif or \.mkv"):
            write_video(moving_square(), tmp_path / name)

    def test_missing_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no folder.*missing"):
            VideoWriter(tmp_path / "missing" / "clip.mp4", fps=8)

    @pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), "8"])
    def test_impossible_frame_rate(self, tmp_path, fps):
        with pytest.raises(ValueError, match="`fps` is .*above 0"):
            VideoWriter(tmp_path / "clip.mp4", fps=fps)

    def test_too_fast_for_a_gif(self, tmp_path):
        with pytest.raises(ValueError, match="60.*at most 50"):
            VideoWriter(tmp_path / "clip.gif", fps=60)

    @pytest.mark.parametrize("metadata", [[1], {"a": object()}, {"a": float("nan")}, {"mcdiff_video": 1}])
    def test_metadata_that_is_no_json_object(self, tmp_path, metadata):
        with pytest.raises(ValueError, match="`metadata`"):
            VideoWriter(tmp_path / "clip.mp4", fps=8, metadata=metadata)

    def test_no_frames(self, path):
        with pytest.raises(ValueError, match=r"No frames.*clip.*at least 1"):
            write_video([], path)
        assert list(path.parent.iterdir()) == []

    def test_frames_of_different_sizes_keep_those_before(self, path):
        with pytest.raises(ValueError, match="Frame 2 is 32 x 32.*64 x 48"):
            write_video([*moving_square(2), np.zeros((32, 32, 3), np.uint8)], path)
        assert len(read_video(path).frames) == 2

    @pytest.mark.parametrize(
        "frame",
        [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), "frame.png"],
    )
    def test_what_is_no_frame(self, path, frame):
        with pytest.raises(ValueError, match=r"A frame is .*uint8 array of shape \(height, width, 3\)"):
            write_video([frame], path)
        assert list(path.parent.iterdir()) == []

    def test_missing_video(self, path):
        with pytest.raises(FileNotFoundError, match="no video.*clip"):
            read_video(path)

    @pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
    def test_no_video(self, path, content):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="clip.*not a video"):
            read_video(path)

    @pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    def test_truncated_video(self, path, share):
        noise = np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), dtype=np.uint8)
        write_video(noise, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match="clip.*truncated"):
            read_video(path)

    def test_an_mp4_cut_off_between_two_frames(self, tmp_path):
        write_video(moving_square(), tmp_path / "clip.mp4")
        with av.open(str(tmp_path / "clip.mp4")) as container:
            starts = [packet.pos for packet in container.demux(video=0) if packet.size]
        content = (tmp_path / "clip.mp4").read_bytes()
        (tmp_path / "clip.mp4").write_bytes(content[: starts[3]])
        with pytest.raises(ValueError, match="clip.*truncated"):
            read_video(tmp_path / "clip.mp4")

    @pytest.mark.parametrize("name", ["-a.mp4", "two\nlines.mp4", "http:a.mp4", "%03d.mp4", "a?b#c|d.mp4"])
    def test_a_name_is_never_taken_for_anything_else(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        write_video(moving_square(2), "clip.mp4")
        os.rename("clip.mp4", name)
        assert len(read_video(name).frames) == 2

    def test_no_video_stream(self, tmp_path):
        with av.open(str(tmp_path / "a.mkv"), "w") as container:
            stream = container.add_stream("aac", rate=44100, layout="mono")
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 44100
            container.mux(stream.encode(silence))
            container.mux(stream.encode(None))
        with pytest.raises(ValueError, match=r"a\.mkv.*no pictures"):
            read_video(tmp_path / "a.mkv")
