import sys

import collect_generated_clips
import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.video import read_video
from rendering.generated_clips import CLIPS, PACKAGES, clip_packages


def write_animation(path, number: int, milliseconds: int) -> np.ndarray:
    """An animated WebP file without loss; its frames are returned, uint8 `[T, H, W, 3]`."""
    frames = np.random.default_rng(number).integers(0, 256, (number, 24, 32, 3), dtype=np.uint8)
    first, *others = [Image.fromarray(frame) for frame in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=others, duration=milliseconds, lossless=True)
    return frames


def collect(monkeypatch, packages, output) -> None:
    arguments = ["collect_generated_clips.py", "--output_dir", str(output), "--packages_dir", str(packages)]
    monkeypatch.setattr(sys, "argv", arguments)
    collect_generated_clips.main()


def test_every_clip_has_a_license_that_permits_training_and_a_package():
    assert len({clip.name for clip in CLIPS}) == len(CLIPS)
    for clip in CLIPS:
        assert clip.generator.license in ("Apache-2.0", "MIT")
        assert clip.generator.stated_in.startswith("https://")
        assert clip.package in PACKAGES
        assert not clip.name.startswith("api_")
        assert "wan" in clip.name or "kandinsky" in clip.name  # the file names the generator
    assert {clip.split for clip in CLIPS} == {"train", "validation"}


def test_animations_become_lossless_videos_with_their_timing_and_licenses(tmp_path, monkeypatch):
    frames = {}
    for source in clip_packages():
        for name in source.photographs:
            path = tmp_path / "packages" / source.package / name
            frames[path.stem] = write_animation(path, number=3, milliseconds=50)
    collect(monkeypatch, tmp_path / "packages", tmp_path / "videos")
    for clip in CLIPS:
        video = read_video(tmp_path / "videos" / clip.split / f"{clip.name}.mkv")
        np.testing.assert_array_equal(np.stack(video.frames), frames[clip.name])
        assert video.fps == pytest.approx(20)
    rows = (tmp_path / "videos/LICENCES.tsv").read_text().splitlines()
    assert len(rows) == len(CLIPS) + 1
    package = "comfyui-workflow-templates-media-video"
    assert any(row.startswith(f"train/video_wan2_2_14B_t2v-1.mkv\t3\t{package}\tWan\tApache-2.0\t") for row in rows)


def test_missing_and_still_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no one.webp in .*take the version"):
        collect_generated_clips.save_clip(CLIPS[0], tmp_path / "one.webp", tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "one.webp")
    with pytest.raises(ValueError, match="one.webp is a still image"):
        collect_generated_clips.save_clip(CLIPS[0], tmp_path / "one.webp", tmp_path)
