import dataclasses
import json
import os
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.annotation.outcome import VideoOutcome
from mcdiff_pipeline.annotation.selection import select_clips
from mcdiff_pipeline.annotation.settings import SelectionSettings
from mcdiff_pipeline.video import write_video
from support.paths import EXAMPLES


# In pixels at a resolution of 256: 0.5 to 6 pixels at 64, with a geometric mean of 1.7.
RANGE = (2.0, 24.0)
SETTINGS = SelectionSettings(resolution=64, num_frames=5, displacement_range=RANGE)


@cache
def photograph(name: str, size: int) -> np.ndarray:
    return np.asarray(Image.open(EXAMPLES / f"{name}.jpg").convert("RGB").resize((size, size), Image.Resampling.BOX))


def walk(num_frames: int = 60, speed: float = 3, *, start: int = 20, height: int = 128, width: int = 192):
    """A person of 48 x 64 pixels who walks to the right, `speed` pixels per frame, on a still background.

    uint8 `[height, width, 3]` each.
    """
    for frame in range(num_frames):
        image = np.ascontiguousarray(photograph("coffee", 256)[:height, :width])
        x = start + round(speed * frame)
        person = photograph("astronaut", 160)[:64, 44:92]
        image[height // 4 : height // 4 + 64, x : x + 48] = person[:, : max(0, width - x)]
        yield image


def small_objects(*paths: list[int], size: int = 256, side: int = 32):
    """Square objects of `side` pixels on a still background, at these distances from the left, one above the other.

    uint8 `[size, size, 3]` each.
    """
    for places in zip(*paths, strict=True):
        image = photograph("coffee", size).copy()
        for row, x in enumerate(places):
            y = size // 8 + row * size // 2
            image[y : y + side, x : x + side] = photograph("astronaut", 160)[:side, 44 : 44 + side]
        yield image


def pan(num_frames: int, speed: int, name: str = "balancing"):
    for frame in range(num_frames):
        x = speed * frame
        yield np.ascontiguousarray(photograph(name, 400)[100:228, x : x + 192])


def write_by_hand(
    path: Path,
    frames,
    *,
    pixel_format: str = "yuv420p",
    fps: int = 25,
    times: list[int] | None = None,
    transfer: int | None = None,
    pixel_aspect: Fraction | None = None,
    encoder: str = "",
) -> Path:
    """Writes H.264 with options that `write_video` does not have. `times` are in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"x264-params": encoder})
        stream.pix_fmt = pixel_format
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
            image = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixel_format)
            image.pts, image.time_base = number, Fraction(1, fps)
            if times is not None:
                image.pts, image.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return path


def select(path, settings: SelectionSettings = SETTINGS):
    """The clips and the outcome. The outcome can always be written as JSON."""
    outcome = VideoOutcome("walk/clip.mp4")
    clips = list(select_clips(path, settings, outcome))
    assert json.loads(json.dumps(dataclasses.asdict(outcome))) == dataclasses.asdict(outcome)
    return clips, outcome


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(walk(40), path, fps=25)
    return path


class TestFrames:
    def test_clips_are_evenly_spaced_frames_without_overlap(self, video):
        clips, outcome = select(video)
        assert len(clips) >= 3
        numbers = [number for clip in clips for number in clip.frame_numbers]
        assert numbers == sorted(set(numbers))
        for clip in clips:
            assert clip.frames.shape == (5, 64, 64, 3) and clip.frames.dtype == np.uint8
            assert clip.frame_numbers == tuple(clip.frame_numbers[0] + clip.gap * step for step in range(5))
            assert clip.timestamps == pytest.approx([number / 25 for number in clip.frame_numbers])
        assert (outcome.num_frames, outcome.width, outcome.height, outcome.fps) == (40, 192, 128, 25)
        assert outcome.seconds == pytest.approx(40 / 25)
        assert outcome.error is None and outcome.notes == [] and outcome.shots == 1

    def test_frames_are_crops_of_the_stated_frames(self, tmp_path):
        write_video(walk(30), tmp_path / "clip.mkv", fps=25)  # lossless
        frames = list(walk(30))
        clips, _ = select(tmp_path / "clip.mkv")
        assert clips
        for clip in clips:
            left, top, width, height = clip.crop
            for number, found in zip(clip.frame_numbers, clip.frames, strict=True):
                part = frames[number][top : top + height, left : left + width]
                expected = cv2.resize(part, (64, 64), interpolation=cv2.INTER_AREA)
                assert np.abs(expected.astype(int) - found).mean() < 3

    def test_same_video_gives_same_clips(self, video):
        first, second = select(video), select(video)
        for a, b in zip(first[0], second[0], strict=True):
            assert np.array_equal(a.frames, b.frames)
            assert dataclasses.replace(a, frames=None) == dataclasses.replace(b, frames=None)
        assert first[1] == second[1]

    def test_clips_are_yielded_while_the_video_is_read(self, video):
        outcome = VideoOutcome("clip.mp4")
        clip = next(select_clips(video, SETTINGS, outcome))
        assert clip.frame_numbers[-1] < outcome.num_frames <= clip.frame_numbers[-1] + 6

    def test_no_clip_crosses_a_cut(self, tmp_path):
        write_video([*walk(14), *pan(17, 2), *walk(14)], tmp_path / "clip.mp4", fps=25)
        clips, outcome = select(tmp_path / "clip.mp4")
        shot_of = [0] * 14 + [1] * 17 + [2] * 14
        assert outcome.shots == 3
        assert {clip.shot for clip in clips} == {0, 1, 2}
        assert all(shot_of[number] == clip.shot for clip in clips for number in clip.frame_numbers)


class TestGap:
    @pytest.mark.parametrize(("speed", "gap"), [(0.5, 6), (1, 4), (2, 2), (4, 1), (8, 1)])
    def test_gap_decreases_with_speed(self, tmp_path, speed, gap):
        write_video(walk(40, speed), tmp_path / "clip.mp4", fps=25)
        clips, _ = select(tmp_path / "clip.mp4")
        assert clips
        # The person moves 1.7 pixels of the clip, times the enlargement by the crop, plus at most one frame's motion.
        assert all(gap - 1 <= clip.gap <= gap + 1 for clip in clips)

    @pytest.mark.parametrize("resolution", [64, 128])
    def test_displacements_are_in_the_range_at_any_resolution(self, tmp_path, resolution):
        settings = SelectionSettings(resolution, num_frames=5, displacement_range=RANGE)
        for speed in (0.5, 2, 5):
            write_video(walk(40, speed), tmp_path / "clip.mp4", fps=25)
            clips, _ = select(tmp_path / "clip.mp4", settings)
            for clip in clips:
                moved = speed * clip.gap * resolution / clip.crop[3]
                assert 2 * resolution / 256 <= moved <= 24 * resolution / 256

    def test_gap_is_limited_in_frames_and_seconds(self, tmp_path):
        write_video(walk(60, 0.4), tmp_path / "clip.mp4", fps=25)
        for limits, most in (({"max_gap": 3}, 3), ({"max_seconds": 0.16}, 4), ({}, 6)):
            clips, _ = select(tmp_path / "clip.mp4", dataclasses.replace(SETTINGS, **limits))
            assert {clip.gap for clip in clips} == {most}

    def test_gap_changes_with_the_speed(self, tmp_path):
        slow, fast = walk(30, 0.5), walk(20, 5, start=35)
        write_video([*slow, *fast], tmp_path / "clip.mp4", fps=25)
        clips, _ = select(tmp_path / "clip.mp4")
        assert clips[0].gap >= 4
        assert clips[-1].gap == 1 and clips[-1].frame_numbers[0] >= 30

    def test_sudden_start_of_motion_is_kept(self, tmp_path):
        write_video([*walk(20, 0), *walk(12, 10)], tmp_path / "clip.mp4", fps=25)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert clips[0].frame_numbers[0] <= 20 and clips[0].gap == 1
        assert outcome.dropped["static"] == 1


class TestCrop:
    def test_crop_contains_the_person_and_is_smaller_than_the_image(self, tmp_path):
        still = np.pad(photograph("coffee", 256), ((0, 128), (0, 256), (0, 0)), mode="reflect")
        frames = []
        for frame in range(30):
            frames.append(still.copy())
            frames[-1][60:124, 300 + 3 * frame : 348 + 3 * frame] = photograph("astronaut", 160)[:64, 44:92]
        write_video(frames, tmp_path / "clip.mp4", fps=25)
        clips, _ = select(tmp_path / "clip.mp4")
        assert clips
        for clip in clips:
            left, top, width, height = clip.crop
            assert width == height < 256
            first, last = clip.frame_numbers[0], clip.frame_numbers[-1]
            assert left <= 300 + 3 * first and 348 + 3 * last <= left + width
            assert top <= 60 and 124 <= top + height

    def test_moving_camera_gives_the_whole_center(self, tmp_path):
        write_video(pan(40, 2), tmp_path / "clip.mp4", fps=25)
        clips, _ = select(tmp_path / "clip.mp4")
        assert clips
        for clip in clips:
            left, top, width, height = clip.crop
            assert (top, width, height) == (0, 128, 128)
            assert abs(left - 32) <= 8

    def test_crop_has_the_aspect_ratio_of_the_clips(self, video):
        clips, _ = select(video, dataclasses.replace(SETTINGS, resolution=(48, 64)))
        assert clips
        for clip in clips:
            assert clip.frames.shape == (5, 48, 64, 3)
            assert clip.crop[2] / clip.crop[3] == pytest.approx(4 / 3, rel=0.02)

    def test_crop_is_inside_the_image(self, tmp_path):
        write_video(walk(20, 2, start=140), tmp_path / "clip.mp4", fps=25)
        clips, _ = select(tmp_path / "clip.mp4")
        assert clips
        for clip in clips:
            left, top, width, height = clip.crop
            assert left >= 0 and top >= 0 and left + width <= 192 and top + height <= 128

    @pytest.mark.parametrize(("size", "side"), [(96, 20), (200, 32)])
    def test_crop_has_at_least_the_resolution_of_the_clips(self, tmp_path, size, side):
        write_video(small_objects(range(20, 60, 2), size=size, side=side), tmp_path / "clip.mp4", fps=25)
        clips, _ = select(tmp_path / "clip.mp4")
        assert clips and all(64 <= clip.crop[2] == clip.crop[3] < 0.8 * size for clip in clips)

    def test_small_video_is_enlarged(self, video):
        clips, _ = select(video, dataclasses.replace(SETTINGS, resolution=160))
        assert clips and all(clip.frames.shape[1:3] == (160, 160) and clip.crop[3] <= 128 for clip in clips)

    def test_crop_grows_if_motion_is_too_fast_in_a_smaller_one(self, tmp_path):
        write_video(small_objects(range(0, 180, 14), side=72), tmp_path / "clip.mp4", fps=25)
        clips, _ = select(tmp_path / "clip.mp4", dataclasses.replace(SETTINGS, num_frames=9))
        assert clips and 14 * 64 / clips[0].crop[3] < 6 < 14 * 64 / 128

    def test_too_fast_first_step_in_a_small_crop_is_dropped(self, tmp_path):
        write_video(small_objects([16, *range(38, 100, 4)], side=72), tmp_path / "clip.mp4", fps=25)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert clips[0].frame_numbers[0] > 0 and outcome.dropped["too fast"] == 1

    def test_motion_too_slow_in_a_grown_crop_is_dropped(self, tmp_path):
        alone = [*range(20, 60, 2), *[60] * 40]
        later = [*[100] * 10, *range(100, 200, 2)]
        write_video(small_objects(alone, later), tmp_path / "clip.mp4", fps=25)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert clips and outcome.dropped["static"] >= 1
        for clip in clips:
            # In a crop of both objects, one of them covers less than 5 % of the image.
            assert clip.crop[3] < 190

    def test_non_square_pixels_keep_their_aspect_ratio(self, tmp_path):
        squeezed = [np.ascontiguousarray(frame[:, ::2]) for frame in walk(30)]
        clips, _ = select(write_by_hand(tmp_path / "clip.mp4", squeezed, pixel_aspect=Fraction(2)))
        assert clips
        for clip in clips:
            assert clip.crop[3] / clip.crop[2] == pytest.approx(2, rel=0.05)


class TestDropped:
    @pytest.mark.parametrize(
        ("frames", "reason"),
        [
            (lambda: walk(30, 0), "static"),
            (lambda: pan(13, 16), "too fast"),
            (lambda: walk(1), "shot too short"),
            (lambda: walk(4, 4), "shot too short"),
            (lambda: (frame[::5, ::5].copy() for frame in walk(20)), "picture too small"),
        ],
    )
    def test_drops_have_the_expected_reason(self, tmp_path, frames, reason):
        write_video(frames(), tmp_path / "clip.mp4", fps=25)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert clips == [] and outcome.error is None
        assert set(outcome.dropped) == {reason}

    def test_long_part_counts_once_per_clip_length(self, tmp_path):
        write_video(pan(13, 16), tmp_path / "clip.mp4", fps=25)
        assert select(tmp_path / "clip.mp4")[1].dropped == {"too fast": 3}

    def test_low_frame_rate_is_dropped(self, tmp_path):
        write_video(walk(30), tmp_path / "clip.mp4", fps=2)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert clips == [] and set(outcome.dropped) == {"too few frames per second"}

    @pytest.mark.parametrize("intervals", [(10, 10, 30), (0, 0, 0)])
    def test_uneven_times_are_dropped(self, tmp_path, intervals):
        times = np.cumsum(intervals * 10).tolist()
        clips, outcome = select(write_by_hand(tmp_path / "clip.mkv", walk(30, 4), times=times))
        assert clips == [] and set(outcome.dropped) == {"uneven times"}

    def test_times_rounded_by_the_container_are_accepted(self, tmp_path):
        times = [round(1000 * frame / 60) for frame in range(40)]  # 16 and 17 milliseconds, as in WebM
        clips, outcome = select(write_by_hand(tmp_path / "clip.mkv", walk(40), times=times))
        assert clips and outcome.dropped == {}

    @pytest.mark.parametrize(("period", "num_frames", "least"), [(1, 8, 3), (4, 5, 3), (4, 8, 2)])
    def test_no_clip_contains_a_frame_twice(self, tmp_path, period, num_frames, least):
        """60 frames per second made from 30 repeat every frame; 30 made from 24 repeat every fourth."""
        frames, sources = [], []
        for number, frame in enumerate(walk(36, 4, start=0)):
            for _ in range(1 + (number % period == 0)):
                frames.append(frame)
                sources.append(number)
        write_video(frames, tmp_path / "clip.mp4", fps=60)
        clips, outcome = select(tmp_path / "clip.mp4", dataclasses.replace(SETTINGS, num_frames=num_frames))
        assert len(clips) >= least and "static" not in outcome.dropped
        for clip in clips:
            assert len({sources[number] for number in clip.frame_numbers}) == num_frames

    def test_fast_motion_after_a_repeated_frame_is_kept(self, tmp_path):
        slow, fast = list(walk(14, 4, start=0)), walk(8, 9, start=60)
        write_video([*slow[:7], slow[6], *slow[7:], *fast], tmp_path / "clip.mp4", fps=25)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert outcome.dropped["repeated frames"] == 1
        assert clips[-1].gap == 1 and clips[-1].frame_numbers[-1] >= 19

    def test_no_clip_contains_a_flash(self, tmp_path):
        frames = list(walk(30))
        frames[13] = np.clip(0.4 * frames[13] + 150, 0, 255).astype(np.uint8)
        write_video(frames, tmp_path / "clip.mp4", fps=25)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert outcome.shots == 1 and outcome.dropped["unexplained change"] == 1
        assert len(clips) >= 2 and all(13 not in clip.frame_numbers for clip in clips)


class TestBadVideos:
    def test_missing_video_is_an_error(self, tmp_path):
        clips, outcome = select(tmp_path / "missing.mp4")
        assert clips == [] and outcome.error == "There is no video 'walk/clip.mp4'."

    @pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
    def test_file_that_is_not_a_video_is_an_error(self, tmp_path, content):
        (tmp_path / "clip.mp4").write_bytes(content)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert clips == [] and outcome.error.startswith("'walk/clip.mp4' is not a video")

    def test_folder_is_an_error(self, tmp_path):
        clips, outcome = select(tmp_path)
        assert clips == [] and "no video" in outcome.error

    def test_file_with_sound_only_is_an_error(self, tmp_path):
        with av.open(str(tmp_path / "a.mkv"), "w") as container:
            stream = container.add_stream("aac", rate=44100, layout="mono")
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 44100
            container.mux(stream.encode(silence))
            container.mux(stream.encode(None))
        clips, outcome = select(tmp_path / "a.mkv")
        assert clips == [] and "holds no frames" in outcome.error

    def test_video_without_frames_is_an_error(self, tmp_path):
        with av.open(str(tmp_path / "a.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            container.start_encoding()
        clips, outcome = select(tmp_path / "a.mkv")
        assert clips == [] and outcome.error

    @pytest.mark.parametrize(
        ("suffix", "damage"),
        [(".mp4", "truncated"), (".mkv", "truncated"), (".webm", "truncated"), (".mp4", "wiped"), (".webm", "wiped")],
    )
    def test_clips_before_the_damage_are_kept(self, tmp_path, suffix, damage):
        path = tmp_path / f"clip{suffix}"
        write_video(walk(100, 1.2), path, fps=25)
        whole, _ = select(path)
        content = bytearray(path.read_bytes())
        place = len(content) * 3 // 4
        if damage == "truncated":
            del content[place:]
        else:
            content[place : place + 400] = bytes(400)
        path.write_bytes(content)
        clips, outcome = select(path)
        assert "damaged or" in outcome.error or "truncated" in outcome.error
        assert str(tmp_path) not in outcome.error
        assert 0 < len(clips) < len(whole)
        for clip, expected in zip(clips, whole):
            assert np.array_equal(clip.frames, expected.frames)

    @pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
    def test_hdr_video_is_rejected_with_advice(self, tmp_path, transfer, name):
        path = write_by_hand(tmp_path / "clip.mp4", walk(20), pixel_format="yuv420p10le", transfer=transfer)
        clips, outcome = select(path)
        assert clips == [] and name in outcome.error and "convert it to SDR" in outcome.error

    def test_interlaced_video_is_noted(self, tmp_path):
        clips, outcome = select(write_by_hand(tmp_path / "clip.mp4", walk(30), encoder="interlaced=1"))
        assert clips and "interlaced" in outcome.notes[0]


class TestOddVideos:
    def test_ten_bits_give_the_same_colors_as_eight(self, tmp_path, video):
        expected, _ = select(video)
        clips, _ = select(write_by_hand(tmp_path / "b.mp4", walk(40), pixel_format="yuv420p10le"))
        assert clips[0].frame_numbers == expected[0].frame_numbers
        assert abs(clips[0].frames.mean(axis=(0, 1, 2)) - expected[0].frames.mean(axis=(0, 1, 2))).max() < 3

    def test_rotated_video_gives_upright_clips(self, tmp_path):
        # The display matrix of MP4: a quarter turn clockwise.
        sideways = [np.ascontiguousarray(np.rot90(frame)) for frame in walk(30)]
        write_video(sideways, tmp_path / "a.mp4", fps=25)
        content = bytearray((tmp_path / "a.mp4").read_bytes())
        matrix = content.index(b"tkhd") + 44
        for position, value in ((0, 0), (4, 1 << 16), (12, -(1 << 16)), (16, 0)):
            content[matrix + position : matrix + position + 4] = value.to_bytes(4, "big", signed=True)
        (tmp_path / "a.mp4").write_bytes(content)
        write_video(walk(30), tmp_path / "b.mp4", fps=25)
        clips, outcome = select(tmp_path / "a.mp4")
        expected, _ = select(tmp_path / "b.mp4")
        assert (outcome.width, outcome.height) == (192, 128)
        assert clips[0].frame_numbers == expected[0].frame_numbers
        assert clips[0].crop == pytest.approx(expected[0].crop, abs=4)

    @pytest.mark.parametrize("size", [(127, 191), (96, 97), (63, 191)])
    def test_videos_of_odd_sizes_give_clips(self, tmp_path, size):
        height, width = size
        write_video((frame[:height, :width] for frame in walk(25, 3, start=4)), tmp_path / "clip.mp4", fps=25)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert clips and (outcome.height, outcome.width) == size

    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (16, 190), (120, 16)])
    def test_videos_of_tiny_sizes_give_no_clips(self, tmp_path, size):
        height, width = size
        write_video((frame[:height, :width] for frame in walk(12)), tmp_path / "clip.mp4", fps=25)
        clips, outcome = select(tmp_path / "clip.mp4")
        assert clips == [] and set(outcome.dropped) == {"picture too small"}

    @pytest.mark.parametrize(
        "name", ["-clip.mp4", "two\nlines.mp4", "🙂 'one' \"two\".mp4", "http:a.mp4", "%03d?#|.mp4", b"\xff\xfe.mp4"]
    )
    def test_videos_with_any_name_are_read(self, video, monkeypatch, name):
        monkeypatch.chdir(video.parent)
        name = os.fsdecode(name)
        video.rename(name)
        clips, outcome = select(name)
        assert clips and outcome.error is None
