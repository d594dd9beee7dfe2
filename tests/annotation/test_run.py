import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_small

from mcdiff_pipeline.annotation.merge import NEAR_DUPLICATE
from mcdiff_pipeline.annotation.report import Report
from mcdiff_pipeline.annotation.run import annotate_videos
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.video import read_video, write_video
from support.annotation_runs import (
    CLIPS_PER_SHARD,
    PHOTOGRAPHS,
    SETTINGS,
    annotate,
    annotate_until,
    digests,
    error_with_largest_file,
    kill,
    largest_file,
    meanwhile,
    num_parts,
    pan,
    photograph,
    readers_in,
    start_process,
    stopped_run,
    write_pans,
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_pans(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(videos, tmp_path_factory) -> dict[str, str]:
    """Digests of the dataset of a run that nothing disturbs."""
    output = tmp_path_factory.mktemp("undisturbed")
    annotate([videos], output, num_workers=1)
    return digests(output)


@pytest.fixture(scope="module")
def licensed(videos, tmp_path_factory) -> tuple[Path, Report]:
    """The folder and the report of a run with two workers and a license."""
    output = tmp_path_factory.mktemp("licensed")
    return output, annotate([videos], output, num_workers=2, license="cc-by-4.0")


def copy_videos(source: Path, target: Path) -> Path:
    target.mkdir()
    for video in source.iterdir():
        shutil.copyfile(video, target / video.name)
    return target


def test_dataset_contains_clips_of_all_videos_in_order_of_names(licensed, undisturbed):
    output, report = licensed
    dataset = ClipDataset(output, "train")
    assert len(dataset) == report.total.clips == sum(outcome.clips for outcome in report.videos)
    sources = [(clip.meta["video"], clip.meta["frame_numbers"][0]) for clip in dataset]
    assert sources == sorted(sources) and {name for name, _ in sources} == {f"{name}.mp4" for name in PHOTOGRAPHS}
    assert len(set(dataset.keys)) == len(dataset)
    shards = sorted(path.name for path in output.glob("*.tar"))
    assert shards == [f"train-{number:05d}.tar" for number in range(report.num_shards)]
    assert [len(ClipDataset(output / shard)) for shard in shards[:-1]] == [CLIPS_PER_SHARD] * (len(shards) - 1)
    assert set(undisturbed) == {*shards, "report.json", "report.md", "histograms.png", "README.md"}


def test_report_contains_settings_and_license_which_does_not_change_shards(licensed, undisturbed):
    output, _ = licensed
    values = json.loads((output / "report.json").read_text())
    assert values["settings"] == json.loads(json.dumps(SETTINGS.as_dict()))
    assert values["license"] == "cc-by-4.0" and values["made_with"][0]["flow"]["name"] == "dis"
    shards = {name: digest for name, digest in digests(output).items() if name.endswith(".tar")}
    assert shards and shards.items() <= undisturbed.items()


def test_finished_dataset_stays_unchanged(videos, licensed):
    output, first = licensed
    before = {path: path.stat().st_mtime_ns for path in [output, *output.iterdir()]}
    again = annotate([videos], output, num_workers=2, license="cc-by-4.0")
    assert {path: path.stat().st_mtime_ns for path in [output, *output.iterdir()]} == before
    assert (first.was_finished, again.was_finished) == (False, True)
    assert again.as_dict() == first.as_dict()
    with pytest.raises(ValueError, match=r"finished dataset.*split: \"train\", now \"test\""):
        annotate([videos], output, split="test", license="cc-by-4.0")
    with pytest.raises(ValueError, match=r"finished dataset.*astronaut\.mp4"):
        annotate([videos / "cat.mp4"], output, license="cc-by-4.0")


def test_bytes_do_not_depend_on_workers_place_time_or_order(videos, undisturbed, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for video in reversed(sorted(videos.iterdir())):
        (moved / video.name).write_bytes(video.read_bytes())
    annotate([*moved.iterdir()], tmp_path / "output", num_workers=7)
    assert digests(tmp_path / "output") == undisturbed
    for path in (tmp_path / "output").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def dancer(name: str, num_frames: int) -> list[np.ndarray]:
    """A static camera, and a part of the photograph that moves left and right and rotates."""
    image = photograph(name)
    frames = []
    for t in range(num_frames):
        turn = cv2.getRotationMatrix2D((80, 80), 5 * t, 1)
        turn[:, 2] += 28 * np.sin(t / 5), 9 * np.sin(t / 3)
        turned = cv2.warpAffine(image, turn, (160, 160), borderMode=cv2.BORDER_REFLECT)
        mask = cv2.warpAffine(np.pad(np.ones((44, 32), np.uint8), ((58, 58), (64, 64))), turn, (160, 160))
        frames.append(np.where(mask[..., None] > 0, 255 - turned, image)[30:126, 30:126])
    return frames


STRANGE_NAME = "strange \\xff|name\n.mp4"  # as the report writes it


@pytest.fixture(scope="module")
def mixed(videos, tmp_path_factory) -> tuple[Path, Report]:
    """The folder and the report of a run on copies, unreadable files, a strange name and a static camera."""
    folder = tmp_path_factory.mktemp("mixed")
    cat = (videos / "cat.mp4").read_bytes()
    (folder / "a.mp4").write_bytes(cat)
    (folder / "b.mp4").write_bytes(cat)
    write_video(
        [cv2.GaussianBlur(frame, (0, 0), 0.8) for frame in read_video(videos / "cat.mp4").frames],
        folder / "c.webm",
        fps=12,
    )
    write_video(pan("rocket"), folder / "d.mp4", fps=12)
    write_video(dancer("walking", num_frames=72), folder / "static.mp4", fps=12)
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    (folder / "lost.mp4").symlink_to(folder / "nowhere")
    (folder / os.fsdecode(b"strange \xff|name\n.mp4")).write_bytes((videos / "coffee.mp4").read_bytes())
    output = tmp_path_factory.mktemp("output")
    return output, annotate([folder], output, num_workers=2)


def test_unreadable_videos_are_reported_and_do_not_affect_others(mixed):
    output, report = mixed
    outcomes = {outcome.video: outcome for outcome in report.videos}
    unreadable, readable = ("text.mp4", "empty.mp4", "lost.mp4"), ("a.mp4", STRANGE_NAME)
    assert set(outcomes) == {*unreadable, *readable, "b.mp4", "c.webm", "d.mp4", "static.mp4"}
    for name in unreadable:
        assert name in outcomes[name].error and outcomes[name].clips == 0
        assert str(output.parent) not in outcomes[name].error
    for name in readable:
        assert outcomes[name].error is None and outcomes[name].clips > 0
    assert len(ClipDataset(output)) == report.total.clips
    text = (output / "report.md").read_text("utf-8")
    assert all(name in text for name in (*unreadable, "strange \\xff\\|name\\n.mp4"))


def test_near_duplicates_are_left_out_of_shards_and_counts(mixed):
    output, report = mixed
    outcomes = {outcome.video: outcome for outcome in report.videos}
    first, copy, encoded, other = (outcomes[name] for name in ("a.mp4", "b.mp4", "c.webm", "d.mp4"))
    assert first.dropped.get(NEAR_DUPLICATE, 0) == other.dropped.get(NEAR_DUPLICATE, 0) == 0
    assert first.clips > 3 and other.clips > 3
    assert copy.clips == 0 and copy.dropped[NEAR_DUPLICATE] == first.clips
    assert encoded.clips == 0 and encoded.dropped[NEAR_DUPLICATE] == first.clips
    others = outcomes["static.mp4"].clips + outcomes[STRANGE_NAME].clips
    assert len(ClipDataset(output)) == report.total.clips == first.clips + other.clips + others
    assert sum(report.total.gaps.values()) == sum(report.total.people.values()) == report.total.clips
    assert sum(report.total.displacements) == report.total.clips * 2 * 48 * 48
    assert copy.gaps == {} and sum(copy.displacements) == 0


def test_all_clips_of_a_static_camera_are_kept(mixed):
    (outcome,) = (outcome for outcome in mixed[1].videos if outcome.video == "static.mp4")
    assert outcome.clips > 8 and NEAR_DUPLICATE not in outcome.dropped


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="searches /proc for open files of a worker")
@pytest.mark.parametrize("always", [False, True])
def test_worker_that_dies_costs_at_most_its_video(videos, undisturbed, tmp_path, always):
    folder = copy_videos(videos, tmp_path / "videos")
    killed = []

    def disturb():
        readers = [reader for reader, video in readers_in(folder) if video == "coffee.mp4"]
        killed.extend(reader for reader in readers if kill(reader))
        return bool(killed) and not always

    with meanwhile(disturb):
        report = annotate([folder], tmp_path / "output", num_workers=2)
    assert killed
    if not always:
        assert digests(tmp_path / "output") == undisturbed
        return
    assert len(set(killed)) == 2  # once among others, once alone
    errors = {outcome.video: outcome.error for outcome in report.videos if outcome.error}
    assert set(errors) == {"coffee.mp4"} and "SIGKILL" in errors["coffee.mp4"]
    kept = {clip.meta["video"] for clip in ClipDataset(tmp_path / "output")}
    assert kept == {f"{name}.mp4" for name in PHOTOGRAPHS} - {"coffee.mp4"}


def test_second_run_is_rejected_and_killed_run_continues_to_same_bytes(videos, undisturbed, tmp_path):
    run = start_process(functools.partial(annotate, num_workers=2), [videos], tmp_path)
    while num_parts(tmp_path) < 1:
        assert run.is_alive()
        time.sleep(0.001)
    with pytest.raises(ValueError, match="Another run works in"):
        annotate([videos], tmp_path, num_workers=1)
    run.kill()
    run.join()
    assert 1 <= num_parts(tmp_path) < len(PHOTOGRAPHS) and not list(tmp_path.glob("*.tar"))
    # A part without its JSON is incomplete, and is made again.
    done = {path.with_suffix(".tar") for path in (tmp_path / ".unfinished").glob("*.json")}
    done = {path: path.stat().st_ino for path in done if path.exists()}
    written_again = []

    def look():
        for path, inode in done.items():
            with contextlib.suppress(FileNotFoundError):
                written_again.extend([path] if path.stat().st_ino != inode else [])

    with meanwhile(look):
        annotate([videos], tmp_path, num_workers=2)
    assert digests(tmp_path) == undisturbed
    assert not written_again


def test_stopped_run_takes_more_videos_but_no_other_settings_and_continues_to_same_bytes(
    videos, undisturbed, tmp_path
):
    """A run with one worker, stopped by Ctrl-C and then by SIGTERM."""
    fewer = sorted(videos.iterdir())[:4]
    for given, total, parts, number in ((fewer, 4, 1, signal.SIGINT), ([videos], 5, 3, signal.SIGTERM)):
        said = stopped_run(number, parts, given, tmp_path)
        assert re.search(rf"[{parts}-4] of {total} videos done.*continues", said)
        assert not readers_in(videos)
        assert not (tmp_path / ".unfinished" / "writing").exists()
        with pytest.raises(ValueError, match=r"unfinished run.*settings\.max_people: 4, now 2"):
            annotate([videos], tmp_path, dataclasses.replace(SETTINGS, max_people=2))
    annotate([videos], tmp_path, num_workers=1)
    assert digests(tmp_path) == undisturbed


def test_changed_video_is_annotated_again(videos, undisturbed, tmp_path):
    folder, output = copy_videos(videos, tmp_path / "videos"), tmp_path / "output"
    # The largest video is annotated first.
    first = max(folder.iterdir(), key=lambda video: video.stat().st_size)
    original = first.read_bytes()
    write_video(pan("cat", num_frames=48, speed=1), first, fps=12)

    stopped_run(signal.SIGINT, 1, [folder], output)
    first.write_bytes(original)
    annotate([folder], output, num_workers=1)
    assert digests(output) == undisturbed


def test_run_killed_at_any_step_of_the_merge_continues_to_same_bytes(videos, tmp_path):
    some = [videos / f"{name}.mp4" for name in PHOTOGRAPHS[:3]]
    # The plan of the merge has a few thousand bytes, so this run annotates and does not merge.
    with pytest.raises(OSError, match="3 of 3 videos done"), largest_file(1000):
        annotate(some, tmp_path / "annotated", num_workers=2)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(tmp_path / "annotated", undisturbed)
    num_shards = annotate(some, undisturbed).num_shards
    for change in itertools.count():
        output = tmp_path / str(change)
        shutil.copytree(tmp_path / "annotated", output)
        run = start_process(annotate_until, change, some, output)
        run.join()
        if run.exitcode != -signal.SIGKILL:
            break
        annotate(some, output)
        assert digests(output) == digests(undisturbed), f"killed just before change {change}"
    assert run.exitcode == 0 and digests(output) == digests(undisturbed)
    assert num_shards > 3 and change > 4 * num_shards


def test_full_disk_while_annotating_and_while_packing_loses_nothing(videos, undisturbed, tmp_path):
    received, sending = multiprocessing.Pipe()
    start_process(error_with_largest_file, 60_000, [videos], tmp_path, sending).join()
    assert re.fullmatch(
        rf"'{tmp_path}' takes no more data \(File too large\), with {num_parts(tmp_path)} of 5 videos done, .*; make "
        "room, and the same command continues.",
        received.recv(),
    )
    # This limit holds for this process, which packs, and not for its workers, which are forked from an older process.
    with pytest.raises(OSError, match=r"takes no more data.*5 of 5 videos done.*make room"), largest_file(20_000):
        annotate([videos], tmp_path, num_workers=2)
    assert num_parts(tmp_path) == 5
    annotate([videos], tmp_path, num_workers=2)
    assert digests(tmp_path) == undisturbed


def test_run_on_a_full_disk_continues_when_the_disk_is_enlarged(videos, undisturbed, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk")
    try:
        # One process, because two may fill the disk before one of them has finished a video.
        with pytest.raises(OSError, match=r"No space left on device.*of 5 videos done"):
            annotate([videos], disk, num_workers=1)
        assert 0 < num_parts(disk) < len(PHOTOGRAPHS)
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        annotate([videos], disk, num_workers=2)
        assert digests(disk) == undisturbed
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_folder_with_other_files_is_rejected(videos, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        annotate([videos], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"split": "a-b"}, "split"),
        ({"clips_per_shard": 0}, "clips_per_shard"),
        ({"num_workers": 0}, "num_workers"),
        ({"license": "CC BY: 4"}, "license"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_written(videos, tmp_path, arguments, match):
    with pytest.raises(ValueError, match=match):
        annotate_videos([videos], tmp_path / "output", SETTINGS, **arguments)
    assert not (tmp_path / "output").exists()


def test_run_that_cannot_load_its_estimator_stops_and_may_be_corrected(videos, undisturbed, tmp_path):
    for weights in ("nowhere.pth", None):
        settings = dataclasses.replace(SETTINGS, flow="raft_small", flow_weights=weights)
        with pytest.raises(ValueError, match=r"nowhere\.pth" if weights else "needs `weights`"):
            annotate([videos], tmp_path, settings, num_workers=2)
    annotate([videos], tmp_path, num_workers=2)
    assert digests(tmp_path) == undisturbed


@pytest.fixture
def hungry_weights(tmp_path) -> Path:
    """A folder of weights of RAFT whose configuration enlarges frames beyond any memory."""
    folder = tmp_path / "raft_small"
    folder.mkdir()
    save_file(raft_small().state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"upsampling": 1000000}')
    return folder


def test_video_that_runs_out_of_memory_is_tried_again_alone(videos, hungry_weights, tmp_path):
    settings = dataclasses.replace(SETTINGS, flow="raft_small", flow_weights=str(hungry_weights))
    report = annotate([videos / "cat.mp4"], tmp_path / "output", settings, num_workers=1)
    (outcome,) = report.videos
    assert "ends the process that annotates it, twice: " in outcome.error and "allocate memory" in outcome.error
    assert outcome.clips == 0 and not list((tmp_path / "output").glob("*.tar"))


def test_script_without_main_guard_raises_what_is_missing(videos, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from mcdiff_pipeline.annotation.run import annotate_videos\n"
        "from mcdiff_pipeline.annotation.settings import AnnotationSettings\n"
        f"annotate_videos([{str(videos)!r}], {str(tmp_path / 'output')!r}, AnnotationSettings(), num_workers=1)\n"
    )
    rejected = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert rejected.returncode == 1
    assert 'a script that annotates needs `if __name__ == "__main__":`' in rejected.stderr.splitlines()[-1]
