import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from mcdiff_pipeline.annotation.outcome import DISPLACEMENT_BINS, ClipCounts, VideoOutcome
from mcdiff_pipeline.annotation.report import Report
from mcdiff_pipeline.annotation.report_files import report_files
from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings
from mcdiff_pipeline.dataset import Clip


def counts_of(gap: int, num_people: int = 1) -> ClipCounts:
    """The statistics of a clip of 3 frames of 4 x 4 pixels, whose flow is (gap, gap) everywhere."""
    clip = Clip(
        "clip",
        frames=np.zeros((3, 4, 4, 3), np.uint8),
        flow=np.full((2, 2, 4, 4), gap, np.float32),
        occlusion=np.zeros((2, 4, 4), bool),
        masks=np.zeros((3, 4, 4), np.uint8),
        keypoints=np.zeros((3, num_people, 17, 3), np.float32),
        meta={"gap": gap, "crop": [0, 0, 4, 4]},
    )
    return ClipCounts.of(clip)


def outcome_of(video: str, gaps=(), dropped=(), num_people: int = 1, **fields) -> VideoOutcome:
    """The outcome of a video with clips of these gaps, and candidates dropped for these reasons."""
    outcome = VideoOutcome(video, **fields)
    for gap in gaps:
        outcome.add(counts_of(gap, num_people))
    for reason in dropped:
        outcome.drop(reason)
    return outcome


def report_of(*outcomes: VideoOutcome, folder: Path = Path("here"), **fields) -> Report:
    selection = SelectionSettings(resolution=(144, 256), num_frames=8)
    settings = AnnotationSettings(selection=selection, pose_model="model", flow="dis").as_dict()
    settings = json.loads(json.dumps(settings))  # as a run stores it
    made_with = [{"flow": {"name": "dis", "library": "OpenCV 5"}, "keypoints": None, "versions": {"numpy": "2.4"}}]
    values = {"split": "train", "license": "cc-by-4.0", "clips_per_shard": 2, "settings": settings} | fields
    return Report(folder, made_with=made_with, videos=list(outcomes), **values)


TYPICAL = report_of(
    outcome_of("a.mp4", gaps=(1, 2, 2), dropped=("static", "static", "too fast"), seconds=90.0, shots=2, fps=25.0),
    outcome_of("b.mp4", gaps=(2, 7), num_people=3, seconds=60.0, shots=1, error="'b.mp4' is truncated."),
    outcome_of("c.mp4", error="'c.mp4' is not a video."),
)


def rows(text: str) -> dict[str, list[str]]:
    """First cell -> other cells, for all rows of all tables in a Markdown text."""
    table = {}
    for line in text.splitlines():
        if line.startswith("| "):
            first, *others = (cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|"))
            table.setdefault(first, others)
    return table


def test_candidates_are_clips_and_dropped_candidates():
    table = rows(report_files(TYPICAL)["report.md"].decode())
    assert table["videos found"] == ["3"]
    assert table["videos not read to the end"] == ["2"]
    assert table["candidate clips"] == ["8"]
    assert table["**dropped**"] == ["3"] and table["static"] == ["2"] and table["too fast"] == ["1"]
    assert table["clips in split `train`"] == ["5"] and table["videos with clips"] == ["2"]
    assert table["shards"] == ["3"]
    assert table["length"] == ["2.5 minutes"]


def test_every_video_has_a_row_with_reasons():
    text = report_files(TYPICAL)["report.md"].decode()
    _, videos = text.split("## Videos\n")
    table = rows(videos)
    assert table["`a.mp4`"][4:6] == ["3", "2 static; 1 too fast"]
    assert table["`b.mp4`"][4] == "2" and table["`b.mp4`"][6] == "'b.mp4' is truncated."
    assert table["`c.mp4`"][4] == "0"


def test_statistics_are_summed_over_all_videos():
    total = TYPICAL.total
    assert total.gaps == {"1": 1, "2": 3, "7": 1} and total.people == {"1": 3, "3": 2}
    shares = {
        name: cells[0] for name, cells in rows(report_files(TYPICAL)["report.md"].decode()).items() if "%" in cells[0]
    }
    # The flow (g, g) is g * sqrt(2) pixels: one clip of 1.4, three of 2.8, one of 9.9.
    assert shares["1-2"] == "20.00%" and shares["2-4"] == "60.00%" and shares["8-16"] == "20.00%"
    assert sum(float(share.rstrip("%")) for share in shares.values()) == pytest.approx(100)
    assert len(shares) == len(DISPLACEMENT_BINS)


def test_json_holds_the_whole_report():
    values = json.loads(report_files(TYPICAL)["report.json"])
    assert Report.from_dict(values, TYPICAL.folder) == TYPICAL
    assert values["total"]["clips"] == 5 and values["total"]["videos"] == 3 and values["shards"] == 3


@pytest.mark.parametrize("values", [[], {}, {"version": 2}])
def test_json_of_other_programs_and_versions_is_rejected(values):
    with pytest.raises(ValueError, match=r"'here' holds a report\.json.*name another folder"):
        Report.from_dict(values, TYPICAL.folder)


def test_files_do_not_contain_the_folder():
    moved = dataclasses.replace(TYPICAL, folder=Path("/somewhere/else"))
    assert report_files(moved) == report_files(TYPICAL)


def test_markdown_in_names_is_escaped():
    name = "a|b`c\n# [x](y) <b>\u202e*.mp4"
    text = report_files(report_of(outcome_of(name, error=f"'{name}' is not a video.")))["report.md"].decode()
    (row,) = (line for line in text.split("## Videos\n")[1].splitlines() if "a\\|b" in line)
    # Code needs no escapes, except for the bar.
    assert row.startswith("| `` a\\|b`c\\n# [x](y) <b>\\u202e*.mp4 `` | 0.0 s |")
    assert row.endswith("'a\\|b\\`c\\\\n# \\[x\\](y) \\<b\\>\\\\u202e\\*.mp4' is not a video. |")


def test_card_has_metadata_of_the_hub():
    card = DatasetCard(report_files(TYPICAL)["README.md"].decode())
    values = card.data.to_dict()
    assert values["license"] == "cc-by-4.0"
    assert values["task_categories"] == ["image-to-video"] and "optical-flow" in values["tags"]
    assert values["size_categories"] == ["n<1K"]
    (config,) = values["configs"]
    assert config["data_files"] == [{"split": "train", "path": "train-*.tar"}]
    assert "5 clips of 8 frames of 256 × 144 pixels" in card.text and "from 2.5 minutes" in card.text
    assert "Masks and keypoints of people are in 5 of them" in card.text and "1 to 7 frames" in card.text


def test_card_does_not_promise_that_all_near_duplicates_are_removed():
    card = report_files(TYPICAL)["README.md"].decode()
    assert "exact copies were left out, and about half of the re-encoded copies" in card


@pytest.mark.parametrize(
    "clips, category",
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (9_999, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (123_456, "100K<n<1M"),
        (1_000_000, "1M<n<10M"),
        (20_000_000, "10M<n<100M"),
    ],
)
def test_card_states_the_order_of_magnitude(clips, category):
    card = DatasetCard(report_files(report_of(VideoOutcome("a.mp4", clips=clips)))["README.md"].decode())
    assert card.data.to_dict()["size_categories"] == [category]


def test_card_states_missing_people_and_missing_license():
    settings = TYPICAL.settings | {"pose_model": None}
    card = report_of(outcome_of("a.mp4", gaps=(1,)), settings=settings, license="unknown")
    card = report_files(card)["README.md"]
    assert b"People were not annotated" in card and b"which was not stated" in card


def painted(report: Report) -> np.ndarray:
    """bool `[4]`: which of the four panels of the image have bars."""
    image = np.asarray(Image.open(io.BytesIO(report_files(report)["histograms.png"])).convert("RGB")).astype(int)
    blue = image[..., 2] - image[..., 0] > 60
    height, width = blue.shape
    return blue.reshape(2, height // 2, 2, width // 2).any(axis=(1, 3)).reshape(-1)


def test_image_shows_all_four_histograms():
    assert painted(TYPICAL).all()


def test_report_without_clips_is_written():
    empty = report_of(outcome_of("c.mp4", error="'c.mp4' is not a video."))
    assert not painted(empty).any()
    assert rows(report_files(empty)["report.md"].decode())["shards"] == ["0"]
    assert "0 clips in 0 shards, from 0 of 1 video" in empty.summary()


def test_histograms_with_many_bars_are_drawn():
    many = outcome_of("a.mp4", gaps=range(1, 61), dropped=[f"reason {number}" for number in range(12)])
    assert painted(report_of(many)).all()


def test_summary_counts_clips_dropped_candidates_and_errors():
    lines = TYPICAL.summary().splitlines()
    assert lines[0] == "here: 5 clips in 3 shards, from 2 of 3 videos (2.5 minutes)"
    assert lines[1] == "dropped: 2 static, 1 too fast"
    assert lines[2] == "not read to the end: 2 videos, e.g. 'b.mp4' is truncated."
    again = dataclasses.replace(TYPICAL, was_finished=True).summary()
    assert again.splitlines()[0] == "This dataset was finished before, so nothing was done."
