import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mcdiff_commands.generate import plan_job
from mcdiff_commands.job_makers import Settings, make_here
from mcdiff_commands.jobs import Job, batches_of, read_jobs
from mcdiff_pipeline.video import VideoWriter, read_video


@pytest.fixture
def jobs(place) -> Path:
    """`jobs.jsonl`: three videos of `photo.png`, two of them of one kind."""
    lines = [
        {"image": "photo.png", "strokes": "strokes.json", "output": "a.mkv", "seed": 3},
        {"image": "photo.png", "strokes": "strokes.json", "output": "b.mkv"},
        {"image": "photo.png", "strokes": "strokes.json", "output": "c.mkv", "num_frames": 3, "fps": 12},
    ]
    path = place / "jobs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def report_of(folder: str) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "report.jsonl").read_text().splitlines()]


def test_jobs_make_the_videos_that_single_commands_make(jobs, mcdiff):
    code, out, err = mcdiff("generate", "--jobs", "jobs.jsonl", "--output", "videos", "--num-workers", 1)
    assert code == 0, err
    assert "3 of 3 videos are in videos" in out
    assert [line["video"] for line in report_of("videos")] == ["a.mkv", "b.mkv", "c.mkv"]
    assert mcdiff("generate", "photo.png", "--strokes", "strokes.json", "--seed", 3, "--output", "one.mkv")[0] == 0
    made, alone = read_video("videos/a.mkv"), read_video("one.mkv")
    assert made.metadata["settings"] == alone.metadata["settings"] and len(made.frames) == 5
    for first, second in zip(made.frames, alone.frames, strict=True):  # a batch may round the last bit differently
        assert np.abs(first.astype(int) - second).max() <= 1
    short = read_video("videos/c.mkv")
    assert len(short.frames) == 3 and short.fps == 12


def test_finished_videos_are_not_made_again_and_changed_jobs_are(jobs, mcdiff):
    command = ("generate", "--jobs", "jobs.jsonl", "--output", "videos", "--num-workers", 1)
    assert mcdiff(*command)[0] == 0
    before = {path.name: path.stat().st_mtime_ns for path in Path("videos").glob("*.mkv")}
    Path("videos/b.mkv").unlink()
    jobs.write_text(jobs.read_text().replace('"fps": 12', '"fps": 24'))
    with open("videos/report.jsonl", "a") as report:
        report.write('{"video": "a.mkv", "dig')  # a line that a killed run did not finish
    code, out, _ = mcdiff(*command)
    after = {path.name: path.stat().st_mtime_ns for path in Path("videos").glob("*.mkv")}
    assert code == 0 and "3 videos, of which 1 are in videos" in out
    assert after["a.mkv"] == before["a.mkv"] and after["c.mkv"] != before["c.mkv"] and "b.mkv" in after
    assert [line["video"] for line in report_of("videos")] == ["a.mkv", "b.mkv", "c.mkv"]


def test_a_job_that_fails_is_reported_and_the_others_are_made(jobs, mcdiff, place):
    (place / "broken.json").write_text("{")
    line = {"image": "photo.png", "strokes": "broken.json", "output": "d.mkv"}
    jobs.write_text(json.dumps(line) + "\n" + jobs.read_text())
    code, out, err = mcdiff("generate", "--jobs", "jobs.jsonl", "--output", "videos", "--num-workers", 1)
    assert code == 1 and "3 of 4 videos are in videos" in out and "d.mkv: " in err
    failed, *made = report_of("videos")
    assert failed["video"] == "d.mkv" and "broken.json" in failed["error"]
    assert all(line["error"] is None and Path("videos", line["video"]).is_file() for line in made)


def test_a_folder_of_images_with_their_sheets_is_a_list(place, mcdiff):
    Path("pictures").mkdir()
    for name in ("one", "two"):
        Path(f"pictures/{name}.png").write_bytes(Path("photo.png").read_bytes())
        Path(f"pictures/{name}.json").write_bytes(Path("strokes.json").read_bytes())
    command = ("generate", "--jobs", "pictures", "--output", "videos", "--num-workers", 1, "--num-frames", 2)
    assert mcdiff(*command)[0] == 0
    assert [line["num_frames"] for line in report_of("videos")] == [2, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", 'jobs.jsonl, line 1 is \'[]\', but has to be an object such as {"image": "cat.jpg"}'),
        ("{", "jobs.jsonl, line 1 is not JSON"),
        ('{"image": "no.png"}', "line 1: image is 'no.png', but there is no such file"),
        ('{"image": "photo.png", "strokes": "strokes.json", "frames": 3}', "line 1 has 'frames', but may only have"),
        ('{"image": "photo.png", "strokes": "strokes.json", "seed": -1}', "line 1: seed: '-1' is not a whole number"),
        ('{"image": "photo.png", "strokes": "strokes.json", "output": "../a.mp4"}', "a name without a folder"),
        ('{"image": "photo.png", "strokes": "strokes.json", "output": "a.avi"}', "but a video must end in"),
        ("", "holds no job"),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_made(place, mcdiff, line, message):
    Path("jobs.jsonl").write_text(line + "\n")
    code, _, err = mcdiff("generate", "--jobs", "jobs.jsonl", "--output", "videos")
    assert code == 2 and message in err and not Path("videos").exists()


def test_options_of_one_image_are_refused_beside_jobs(jobs, mcdiff):
    code, _, err = mcdiff("generate", "photo.png", "--jobs", "jobs.jsonl", "--output", "videos")
    assert code == 2 and "IMAGE is given together with --jobs" in err


def test_long_videos_are_made_alone(jobs):
    many = read_jobs(jobs, {"num_frames": 100})[:2]
    assert [len(batch) for batch in batches_of(many, 4)] == [2]
    assert [len(batch) for batch in batches_of(read_jobs(jobs, {"num_frames": 1000})[:2], 4)] == [1, 1]


def test_processes_get_equal_shares(jobs):
    (one,) = read_jobs(jobs, {})[:1]
    sizes = [[len(batch) for batch in batches_of([one] * number, 4, workers=2)] for number in (1, 4, 8, 10)]
    assert sizes == [[1], [2, 2], [4, 4], [3, 3, 2, 2]]


def test_nothing_is_lost_or_doubled_if_a_process_is_killed(place, tiny_model_dir):
    jobs = [Job(place / "photo.png", place / "strokes.json", f"{name}.mkv", {"seed": name}) for name in range(6)]
    (place / "videos").mkdir()
    settings = Settings(plan_job, str(tiny_model_dir), "tiny", "float32", "cpu", place / "videos", 1)
    killed = threading.Event()

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not killed.is_set() and time.monotonic() < deadline:
            if children := multiprocessing.active_children():
                os.kill(children[0].pid, signal.SIGKILL)
                killed.set()
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = [one for batch in make_here([[(job, job.video)] for job in jobs], settings, 2) for one in batch]
    killer.join()
    assert killed.is_set()
    assert sorted(one.video for one in outcomes) == sorted(job.video for job in jobs)
    assert all(one.error is None for one in outcomes)
    assert {len(read_video(place / "videos" / job.video).frames) for job in jobs} == {5}


def test_files_that_no_run_has_made_are_replaced_only_if_asked(jobs, mcdiff):
    command = ("generate", "--jobs", "jobs.jsonl", "--output", "videos", "--num-workers", 1)
    Path("videos").mkdir()
    Path("videos/b.mkv").write_bytes(b"mine")
    for more in ((), ("-n",)):
        code, _, err = mcdiff(*command, *more)
        assert code == 2 and "videos/b.mkv exists" in err and Path("videos/b.mkv").read_bytes() == b"mine"
        assert [path.name for path in Path("videos").iterdir()] == ["b.mkv"]
    Path("videos/b.mkv").rename("videos/report.jsonl")
    code, _, err = mcdiff(*command)
    assert code == 2 and "videos/report.jsonl exists" in err
    Path("videos/b.mkv").write_bytes(b"mine")
    assert mcdiff(*command, "-y")[0] == 0
    assert all(line["error"] is None for line in report_of("videos")) and len(report_of("videos")) == 3
    assert len(read_video("videos/b.mkv").frames) == 5


@pytest.mark.parametrize(("folder", "output"), [(".", "photo.png"), (".", "link.gif")])
def test_an_input_is_never_written(place, mcdiff, folder, output):
    image = Path("photo.png").read_bytes()
    Path("photo.gif").write_bytes(image)
    Path("link.gif").hardlink_to("photo.gif")
    line = {"image": "photo.gif", "strokes": "strokes.json", "output": output.replace(".png", ".gif")}
    Path("jobs.jsonl").write_text(json.dumps(line))
    code, _, err = mcdiff("generate", "--jobs", "jobs.jsonl", "--output", folder, "-y")
    assert code == 2 and "is to be written, but it is also an input" in err
    assert Path("photo.gif").read_bytes() == image


def test_a_list_is_not_taken_for_the_report(jobs, mcdiff):
    Path("videos").mkdir()
    lines = jobs.read_text().replace("photo.png", "../photo.png").replace("strokes.json", "../strokes.json")
    Path("videos/report.jsonl").write_text(lines)
    code, _, err = mcdiff("generate", "--jobs", "videos/report.jsonl", "--output", "videos", "-y")
    assert code == 2 and "is also an input" in err and Path("videos/report.jsonl").read_text() == lines


def test_stopped_runs_leave_no_part_of_a_video_and_know_what_they_made(jobs, mcdiff, monkeypatch):
    command = ("generate", "--jobs", "jobs.jsonl", "--output", "videos", "--num-workers", 1, "--batch-size", 1)
    write, written = VideoWriter.write, []

    def stop_in_the_second_video(writer, frame):
        write(writer, frame)
        written.append(writer.path.name)
        if written.count("b.mkv") == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(VideoWriter, "write", stop_in_the_second_video)
    code, _, err = mcdiff(*command)
    assert code == 130 and "stopped with 1 of 3 videos in videos" in err
    assert sorted(path.name for path in Path("videos").glob("[!.]*")) == ["a.mkv", "report.jsonl"]
    assert [line["error"] is None for line in report_of("videos")] == [True, False, False]
    monkeypatch.setattr(VideoWriter, "write", write)
    # as if the process had been killed between a video and its line
    Path("videos/b.mkv").write_bytes(Path("videos/a.mkv").read_bytes())
    with open("videos/report.jsonl", "ab") as report:
        report.write(b"\xff\xfe\n")
    code, out, err = mcdiff(*command)
    assert code == 0 and "of which 1 are in videos" in out, err
    assert all(line["error"] is None for line in report_of("videos"))


def test_images_of_a_folder_without_a_sheet_are_left_out(place, mcdiff):
    Path("pictures").mkdir()
    for name in ("one.png", "other.png", "one.jpg"):
        Path("pictures", name).write_bytes(Path("photo.png").read_bytes())
    Path("pictures/one.json").write_bytes(Path("strokes.json").read_bytes())
    command = ("generate", "--jobs", "pictures", "--output", "videos", "--num-workers", 1, "--num-frames", 2)
    code, _, err = mcdiff(*command)
    assert code == 2 and "one.jpg and one.png in pictures have the same stroke sheet, one.json" in err
    Path("pictures/one.jpg").unlink()
    code, out, _ = mcdiff(*command)
    assert code == 0 and "Without a stroke sheet, and so left out: other.png" in out
    assert [line["video"] for line in report_of("videos")] == ["one.mp4"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(jobs, mcdiff, monkeypatch):
    def fail(writer, frame):
        Path("/dev/full").write_bytes(b"x" * 10000)

    monkeypatch.setattr(VideoWriter, "write", fail)
    code, _, err = mcdiff("generate", "--jobs", "jobs.jsonl", "--output", "videos", "--num-workers", 1)
    assert code == 1 and "failed: the disk is full: make room, then give the same command again." in err
