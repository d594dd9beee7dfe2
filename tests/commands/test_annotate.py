# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import sys
from pathlib import Path

import pytest

import mcdiff_pipeline.annotation
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.video import write_video
from support.annotation_runs import pan


SMALL = ("--resolution", 64, "--num-frames", 3, "--no-keypoints", "--flow", "dis", "--num-workers", 1)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with one video of a pan, in the folder `videos`."""
    (tmp_path / "videos").mkdir()
    write_video(pan("coffee"), tmp_path / "videos" / "pan.mkv", fps=24)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_annotate_makes_a_dataset_with_reports(place, mcdiff):
    code, out, _ = mcdiff("annotate", "videos", "--output-dir", "clips", *SMALL)
    assert code == 0 and "clips" in out
    clips = ClipDataset("clips", "train")
    assert len(clips) >= 1 and clips[0].frames.shape == (3, 64, 64, 3)
    assert {"README.md", "report.md", "report.json", "histograms.png"} <= {
        path.name for path in Path("clips").iterdir()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "--output-dir", "clips", "--no-keypoints"), "nowhere"),
        (("videos", "--output-dir", "clips", "--resolution", "big"), "'big' is not a resolution"),
        (("videos", "--output-dir", "clips", "--resolution", "16", "--no-keypoints"), "at least 32 pixels"),
        (("videos", "--output-dir", "clips", "--num-frames", "1", "--no-keypoints"), "at least 2 frames"),
        (
            ("videos", "--output-dir", "clips", "--displacement-range", "5", "2", "--no-keypoints"),
            "the smaller one first",
        ),
        (("videos", "--output-dir", "clips", "--require-person", "--no-keypoints"), "only with a `pose_model`"),
        (("videos", "--output-dir", "clips", "--pose-model", "none.task"), "no pose model none.task"),
        (("videos", "--output-dir", "clips", "--flow", "raft_large", "--no-keypoints"), "needs `weights`"),
        (("videos", "--output-dir", "clips", "--split", "a/b", "--no-keypoints"), "'a/b'"),
        (("videos", "--output-dir", "clips", "--max-people", "0", "--no-keypoints"), "`max_people` is 0"),
    ],
)
def test_wrong_input_is_reported_in_one_sentence_before_anything_is_written(place, mcdiff, arguments, message):
    code, out, err = mcdiff("annotate", *arguments)
    assert code == 2 and message in err and out == ""
    assert len(err.strip().splitlines()) == 1
    assert not Path("clips").exists() or not list(Path("clips").glob("*.tar"))


@pytest.fixture
def without(monkeypatch):
    """Lets annotation be imported anew, as if a package were not installed."""

    def without(package: str) -> None:
        monkeypatch.setattr(mcdiff_pipeline, "annotation", mcdiff_pipeline.annotation)  # put back at the end
        for name in [name for name in sys.modules if name.startswith("mcdiff_pipeline.annotation")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return without


def test_missing_package_of_the_extra_is_reported_with_the_extra(place, mcdiff, without):
    without("cv2")
    code, _, err = mcdiff("annotate", "videos", "--output-dir", "clips", "--no-keypoints")
    assert code == 2 and "annotation needs cv2" in err and "pip install 'mcdiff-pipeline[annotation]'" in err
    assert err.count("\n") == 1


def test_error_about_another_missing_package_does_not_name_the_extra(place, mcdiff, without):
    without("torch")
    code, _, err = mcdiff("annotate", "videos", "--output-dir", "clips", "--no-keypoints")
    assert code == 2 and "import of torch" in err and "pip install" not in err


@pytest.mark.parametrize(
    "command", [("annotate", "videos", "--output-dir"), ("evaluate", "--data", "clips", "--output")]
)
@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_file_as_output_folder_is_refused(mcdiff, tmp_path, monkeypatch, command, folder):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    code, _, err = mcdiff(*command, folder)
    assert code == 2 and f"{folder} cannot be a folder, since file is a file" in err
    assert len(err.strip().splitlines()) == 1
