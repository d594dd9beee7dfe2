# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff annotate` and `mcdiff dataset show`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.annotation_runs import pan

from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.video import write_video


REPOSITORY = Path(__file__).parents[2]
SMALL = ("--resolution", 64, "--num-frames", 3, "--no-keypoints", "--flow", "dis", "--num-workers", 1)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with one video of a pan, in the folder `videos`."""
    (tmp_path / "videos").mkdir()
    write_video(pan("coffee"), tmp_path / "videos" / "pan.mkv", fps=24)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_annotate_makes_a_dataset_that_show_draws(place, mcdiff):
    code, out, _ = mcdiff("annotate", "videos", "--output-dir", "clips", *SMALL)
    assert code == 0 and "clips" in out
    clips = ClipDataset("clips", "train")
    assert len(clips) >= 1 and clips[0].frames.shape == (3, 64, 64, 3)
    assert {"README.md", "report.md", "report.json", "histograms.png"} <= {
        path.name for path in Path("clips").iterdir()
    }

    assert mcdiff("dataset", "show", "clips/train-00000.tar", "--output", "a.png")[0] == 0
    assert mcdiff("dataset", "show", "clips", "--clip", clips.keys[0], "--output", "b.png")[0] == 0
    first, second = (np.asarray(Image.open(name)) for name in ("a.png", "b.png"))
    assert (first == second).all() and first.shape[1] == 3 * 256 + 2 * 4

    assert mcdiff("dataset", "show", "clips", "--samples", 16, "--output", "c.png")[0] == 0
    assert Image.open("c.png").size == (4 * 260 - 4, 4 * (256 + 16 + 4) - 4)


def test_the_script_has_the_names_of_training_scripts_and_makes_the_same(place, mcdiff):
    assert mcdiff("annotate", "videos", "--output-dir", "a", *SMALL)[0] == 0
    arguments = [str(argument).replace("-", "_").replace("__", "--", 1) for argument in SMALL]
    script = REPOSITORY / "training" / "annotate_videos.py"
    subprocess.run([sys.executable, script, "videos", "--output_dir", "b", *arguments], check=True)
    files = [sorted(path.read_bytes() for path in Path(folder).iterdir()) for folder in ("a", "b")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "--output-dir", "clips"), "nowhere"),
        (("videos", "--output-dir", "clips", "--resolution", "big"), "'big' is no resolution"),
        (("videos", "--output-dir", "clips", "--resolution", "16"), "at least 32 pixels"),
        (("videos", "--output-dir", "clips", "--num-frames", "1"), "at least 2 frames"),
        (("videos", "--output-dir", "clips", "--displacement-range", "5", "2"), "the smaller one first"),
        (("videos", "--output-dir", "clips", "--require-person", "--no-keypoints"), "only with a `pose_model`"),
        (("videos", "--output-dir", "clips", "--pose-model", "none.task"), "no pose model none.task"),
        (("videos", "--output-dir", "clips", "--flow", "raft_large", "--no-keypoints"), "needs `weights`"),
        (("videos", "--output-dir", "clips", "--split", "a/b", "--no-keypoints"), "'a/b'"),
        (("videos", "--output-dir", "clips", "--max-people", "0", "--no-keypoints"), "`max_people` is 0"),
    ],
)
def test_wrong_input_is_one_sentence_before_anything_is_written(place, mcdiff, arguments, message):
    code, out, err = mcdiff("annotate", *arguments)
    assert code == 2 and message in err and out == ""
    assert len(err.strip().splitlines()) == 1
    assert not Path("clips").exists() or not list(Path("clips").glob("*.tar"))


def test_the_script_says_in_one_sentence_what_is_wrong(place):
    script = REPOSITORY / "training" / "annotate_videos.py"
    command = [sys.executable, script, "nowhere", "--output_dir", "clips", "--no_keypoints"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.strip() == f"annotate_videos.py: There is no video or folder '{place / 'nowhere'}'."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.tar", "--output", "a.png"), "nowhere.tar"),
        (("clips", "--output", "a.doc"), "suffix"),
        (("clips", "--clip", "7000", "--output", "a.png"), "a number from 0 to"),
        (("clips", "--clip", "nobody", "--output", "a.png"), "no such clip"),
    ],
)
def test_show_says_what_cannot_be_drawn(place, mcdiff, arguments, message):
    mcdiff("annotate", "videos", "--output-dir", "clips", *SMALL)
    code, _, err = mcdiff("dataset", "show", *arguments)
    assert code == 2 and message in err
    assert not Path(arguments[-1]).exists()


WITHOUT = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from mcdiff_pipeline.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_without(packages: str, *arguments) -> subprocess.CompletedProcess:
    """Runs the command where these packages are missing."""
    return subprocess.run([sys.executable, "-c", WITHOUT, packages, *arguments], capture_output=True, text=True)


def test_without_the_extra_annotate_names_it_and_other_commands_run(place):
    extra = "cv2,mediapipe,torchvision"
    refused = run_without(extra, "annotate", "videos", "--output-dir", "clips", "--no-keypoints")
    assert refused.returncode == 2 and "pip install 'mcdiff-pipeline[annotation]'" in refused.stderr
    assert run_without(extra, "annotate", "--help").returncode == 0
    assert run_without(extra, "generate", "--help").returncode == 0


def test_the_extra_is_not_blamed_for_another_package_that_is_missing(place):
    refused = run_without("av", "annotate", "videos", "--output-dir", "clips", "--no-keypoints")
    assert refused.returncode == 2 and "import of av" in refused.stderr and "pip install" not in refused.stderr
