# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import os
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.video import VideoReader, read_video, reader, write_video
from support.moving_square import mean_error, moving_square, tolerance
from support.mutations import refusals
from support.paths import is_open


def test_rate_and_metadata_are_known_before_the_first_frame(path):
    write_video(moving_square(), path, fps=10, metadata={"seed": 1})
    with VideoReader(path) as reader:
        assert reader.fps == pytest.approx(10)
        assert reader.metadata == {"seed": 1}
        assert next(iter(reader)).shape == (48, 64, 3)


def test_comment_of_another_program_is_ignored(tmp_path):
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


def test_gif_of_another_program_is_read(tmp_path):
    frames = [Image.fromarray(frame) for frame in moving_square(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    video = read_video(tmp_path / "a.gif")
    assert video.fps == pytest.approx(10)
    assert mean_error(video.frames, moving_square(3)) < 6


def test_rotated_frames_are_turned_upright(tmp_path):
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


def with_matrix(content: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """An MP4 with another display matrix (ISO 14496-12, 8.3.2)."""
    changed = bytearray(content)
    matrix = content.index(b"tkhd") + 44
    for position, value in ((0, a), (4, b), (12, c), (16, d)):
        changed[matrix + position : matrix + position + 4] = (value << 16).to_bytes(4, "big", signed=True)
    return bytes(changed)


@pytest.mark.parametrize("mirror", [1, -1])
@pytest.mark.parametrize("turns", range(4))
def test_all_eight_orientations_are_shown_upright(tmp_path, mirror, turns):
    write_video(moving_square(2), tmp_path / "a.mp4")
    stored = read_video(tmp_path / "a.mp4").frames[0]
    a, b = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]  # quarter turns clockwise, after a mirror
    content = with_matrix((tmp_path / "a.mp4").read_bytes(), mirror * a, mirror * b, -b, a)
    (tmp_path / "b.mp4").write_bytes(content)
    expected = np.rot90(stored[:, ::mirror], -turns)
    with VideoReader(tmp_path / "b.mp4") as reader:
        frame = next(reader.timed_frames())
        assert (frame.height, frame.width) == expected.shape[:2]
        assert np.array_equal(frame.pixels(), expected)


# Files of other programs


@pytest.mark.parametrize(
    "comment",
    [
        '{"mcdiff_video": [1]}',
        '{"mcdiff_video": {"width": -5, "height": 4, "fps": 8}}',
        '{"mcdiff_video": {"width": 64, "height": 48, "fps": NaN}}',
        '{"mcdiff_video": {"width": 64, "height": 48, "fps": -5}}',
        '{"mcdiff_video": {"width": [], "height": 48, "fps": 8}}',
        '{"mcdiff_video": null}',
        "null",
        "[" * 200_000,
    ],
)
def test_foreign_comment_changes_neither_size_nor_rate(tmp_path, monkeypatch, comment):
    with monkeypatch.context() as patch:
        patch.setattr("json.dumps", lambda *_, **__: comment)
        write_video(moving_square(2), tmp_path / "a.mkv", fps=12, metadata={"a": 1})
    video = read_video(tmp_path / "a.mkv")
    assert (video.fps, video.metadata, video.frames[0].shape) == (12, {}, (48, 64, 3))


def test_title_that_is_not_utf8_does_not_matter(tmp_path):
    write_video(moving_square(2), tmp_path / "a.mkv", metadata={"a": "title"})
    content = (tmp_path / "a.mkv").read_bytes()
    assert content.count(b"title") == 1
    (tmp_path / "b.mkv").write_bytes(content.replace(b"title", b"t\xe9tle"))
    assert len(read_video(tmp_path / "b.mkv").frames) == 2


def test_video_without_a_decoder_is_refused_and_closed(tmp_path):
    write_video(moving_square(2), tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(content.replace(b"avc1", b"xyz1").replace(b"avcC", b"xyzC"))
    with pytest.raises(ValueError, match="b.mp4' is coded in a way that FFmpeg here has no decoder for"):
        read_video(tmp_path / "b.mp4")
    assert not is_open(tmp_path / "b.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".mkv"])
def test_mutated_video_is_read_or_refused_in_one_sentence(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_video(moving_square(2), path, metadata={"seed": 1})
    assert len(refusals(path, read_video, 60)) > 5
    assert not is_open(path)


# Timed frames


def test_timed_frames_have_numbers_and_times(path):
    write_video(moving_square(), path, fps=10)
    with VideoReader(path) as reader:
        timed = [(frame.number, frame.seconds, frame.pixels()) for frame in reader.timed_frames()]
        assert reader.seconds == pytest.approx(0.6, abs=0.11)  # a GIF's last frame has no end
    assert [number for number, _, _ in timed] == list(range(6))
    assert [seconds for _, seconds, _ in timed] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5], abs=1e-3)
    assert all(np.array_equal(a, b) for (_, _, a), b in zip(timed, read_video(path).frames, strict=True))


def test_uneven_times_come_from_the_file(tmp_path):
    times = [0, 40, 50, 200]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for milliseconds, frame in zip(times, moving_square(4), strict=True):
            frame = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoReader(tmp_path / "a.mkv") as reader:
        assert [frame.seconds for frame in reader.timed_frames()] == pytest.approx([0, 0.04, 0.05, 0.2])


def test_timed_frames_stay_valid_after_reading(path):
    write_video(moving_square(), path)
    with VideoReader(path) as reader:
        kept = list(reader.timed_frames())
    frames = [frame.pixels() for frame in reversed(kept)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(frames, read_video(path).frames, strict=True))


@pytest.mark.parametrize("size", [(96, 128), (128, 95), (97, 131)])
def test_reduced_frame_is_the_mean_over_areas(path, size):
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


def test_every_pixel_contributes_to_a_reduced_frame(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    write_video([noise], tmp_path / "a.mkv")
    with VideoReader(tmp_path / "a.mkv") as reader:
        (reduced,) = [frame.pixels(24) for frame in reader.timed_frames()]
    assert mean_error([reduced], [noise.reshape(24, 4, 32, 4, 3).mean(axis=(1, 3))]) < 3


def test_frame_is_never_enlarged(path):
    write_video(moving_square(1), path)
    with VideoReader(path) as reader:
        (frame,) = reader.timed_frames()
        assert np.array_equal(frame.pixels(1000), frame.pixels())


def test_gray_is_the_luma(path):
    write_video(moving_square(2), path)
    with VideoReader(path) as reader:
        for frame in reader.timed_frames():
            gray = frame.pixels(gray=True).astype(float)
            assert gray.shape == (48, 64)
            brightness = frame.pixels() @ [0.2126, 0.7152, 0.0722]
            assert np.corrcoef(gray.ravel(), brightness.ravel())[0, 1] > 0.98


def test_one_thread_reads_the_same_frames(path):
    write_video(moving_square(), path)
    with VideoReader(path, num_threads=1) as reader:
        assert all(np.array_equal(a, b) for a, b in zip(reader, read_video(path).frames, strict=True))


def test_ten_bits_are_rounded_to_eight(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 1, 256)[None, :, None], (64, 256, 3))
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 256, 64, "yuv420p10le"
        frame = av.VideoFrame.from_ndarray((ramp * 65535).astype(np.uint16), format="rgb48le")
        container.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        container.mux(stream.encode(None))
    (frame,) = read_video(tmp_path / "a.mp4").frames
    assert frame.dtype == np.uint8
    assert mean_error([frame], [255 * ramp]) < 2


@pytest.mark.parametrize(("transfer", "hdr"), [(16, "PQ"), (18, "HLG"), (14, None), (1, None)])
def test_hdr_transfer_is_reported(tmp_path, transfer, hdr):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        stream.codec_context.color_trc = transfer
        frame = av.VideoFrame.from_ndarray(next(moving_square()), format="rgb24")
        container.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        container.mux(stream.encode(None))
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.hdr == hdr


def test_frames_before_the_truncation_are_read(path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    write_video(noise, path, fps=8)
    whole = read_video(path).frames
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content))])
    found = []
    with VideoReader(path) as reader, pytest.raises(ValueError, match="clip.*truncated"):
        found.extend(frame.pixels() for frame in reader.timed_frames())
    assert 0 < len(found) < 12
    # The last frame may be incomplete.
    assert all(np.array_equal(a, b) for a, b in zip(found[:-1], whole))


# Errors


def test_missing_file_is_reported(path):
    with pytest.raises(FileNotFoundError, match="no video.*clip"):
        read_video(path)


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_file_that_is_not_a_video_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="clip.*not a video"):
        read_video(path)


def test_frames_with_more_pixels_than_memory_holds_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "large.mkv"
    write_video([np.zeros((16, 48, 3), np.uint8)] * 2, path)
    monkeypatch.setattr(reader, "MAX_FRAME_PIXELS", 16 * 48 - 1)
    with pytest.raises(ValueError, match="its frames have 48 x 16 pixels, but at most 767 are read"):
        read_video(path)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_truncated_video_is_reported(path, share):
    noise = np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), dtype=np.uint8)
    write_video(noise, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="clip.*truncated"):
        read_video(path)


def test_mp4_truncated_between_two_frames_is_reported(tmp_path):
    write_video(moving_square(), tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(content[: starts[3]])
    with pytest.raises(ValueError, match="clip.*truncated"):
        read_video(tmp_path / "clip.mp4")


@pytest.mark.parametrize("name", ["-a.mp4", "two\nlines.mp4", "http:a.mp4", "%03d.mp4", "a?b#c|d.mp4"])
def test_file_name_is_never_parsed_as_an_address_or_pattern(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(moving_square(2), "clip.mp4")
    os.rename("clip.mp4", name)
    assert len(read_video(name).frames) == 2


def test_file_without_a_video_stream_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"a\.mkv.*no frames"):
        read_video(tmp_path / "a.mkv")
