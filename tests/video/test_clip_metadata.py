import json

import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.video import VideoWriter, read_video, write_video
from mcdiff_pipeline.video.clip_metadata import ClipMetadata, ClipSettings


SETTINGS = ClipSettings(
    num_frames=2,
    num_inference_steps=8,
    guidance_scale=1.5,
    seed=7,
    fps=12.0,
    dtype="float32",
    height=16,
    width=24,
)


@pytest.fixture
def clip() -> ClipMetadata:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    sheet = StrokeSheet([Stroke([(3, 2), (9, 5.5)])], 16, 12, num_frames=2, fps=12)
    return ClipMetadata("owner/name", "0123456789abcdef", SETTINGS, sheet, Image.fromarray(pixels))


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_metadata_comes_back_from_a_video(clip, tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    with VideoWriter(path, clip.settings.fps, clip.to_dict()) as video:
        for _ in range(clip.settings.num_frames):
            video.write(clip.image)
    read = ClipMetadata.read(path)
    assert (read.model_name, read.model_fingerprint) == (clip.model_name, clip.model_fingerprint)
    assert (read.settings, read.strokes) == (clip.settings, clip.strokes)
    assert np.array_equal(np.asarray(read.image), np.asarray(clip.image))
    assert read.to_dict() == clip.to_dict()


def test_clip_of_version_1_worked_at_the_size_of_its_frames(clip, tmp_path):
    content = clip.to_dict() | {"version": 1}
    settings = content["settings"]
    content["settings"] = {name: settings[name] for name in settings if name not in ("height", "width")}
    write_video([clip.image] * 2, tmp_path / "old.mkv", metadata=content)
    read = ClipMetadata.read(tmp_path / "old.mkv")
    assert (read.settings.height, read.settings.width) == (6, 8)
    assert read.settings.seed == SETTINGS.seed


def test_layout_is_that_of_version_2(clip):
    content = clip.to_dict()
    assert list(content) == ["format", "version", "program", "model", "settings", "strokes", "picture"]
    assert (content["format"], content["version"]) == ("mcdiff clip", 2)
    assert content["model"] == {"name": "owner/name", "fingerprint": "0123456789abcdef"}
    assert list(content["settings"]) == [
        "num_frames",
        "num_inference_steps",
        "guidance_scale",
        "seed",
        "fps",
        "dtype",
        "height",
        "width",
    ]
    assert content["picture"].startswith("data:image/png;base64,")
    json.dumps(content)


def test_video_without_settings_is_refused(tmp_path):
    write_video([np.zeros((8, 8, 3), np.uint8)] * 2, tmp_path / "plain.mp4")
    with pytest.raises(ValueError, match="plain.mp4 carries no settings to replay"):
        ClipMetadata.read(tmp_path / "plain.mp4")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"settings": {}}, "the settings that .*b.mkv carries are damaged"),
        ({"settings": None}, "are damaged"),
        ({"settings": {**vars(SETTINGS), "dtype": "int8"}}, "are damaged"),
        ({"strokes": {"version": 1}}, "are damaged"),
        ({"picture": "data:image/png;base64,AAAA"}, "are damaged"),
        ({"picture": 3}, "are damaged"),
        ({"model": "tiny"}, "are damaged"),
        ({"version": 9}, "settings of version 9; this program reads versions 1 to 3"),
    ],
)
def test_damaged_settings_are_reported(clip, tmp_path, damage, message):
    write_video([clip.image] * 2, tmp_path / "b.mkv", metadata=clip.to_dict() | damage)
    assert read_video(tmp_path / "b.mkv").metadata != {}
    with pytest.raises(ValueError, match=message):
        ClipMetadata.read(tmp_path / "b.mkv")
