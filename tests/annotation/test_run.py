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
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
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
    process_of,
    readers_in,
    write_pans,
)
from torchvision.models.optical_flow import raft_small

from mcdiff_pipeline.annotation.annotator import VideoAnnotator
from mcdiff_pipeline.annotation.flow import FlowEstimator
from mcdiff_pipeline.annotation.found_videos import find_videos
from mcdiff_pipeline.annotation.run import NEAR_DUPLICATE, annotate_videos
from mcdiff_pipeline.annotation.workers import WRITING, Part, annotate_part, default_num_workers
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.video import read_video, write_video


def play(name: str, num_frames: int) -> list[np.ndarray]:
    """A camera that stands still, before it a cut-out of the photograph's middle that walks to and fro, and turns."""
    picture = photograph(name)
    frames = []
    for t in range(num_frames):
        turn = cv2.getRotationMatrix2D((80, 80), 5 * t, 1)
        turn[:, 2] += 28 * np.sin(t / 5), 9 * np.sin(t / 3)
        turned = cv2.warpAffine(picture, turn, (160, 160), borderMode=cv2.BORDER_REFLECT)
        mask = cv2.warpAffine(np.pad(np.ones((44, 32), np.uint8), ((58, 58), (64, 64))), turn, (160, 160))
        frames.append(np.where(mask[..., None] > 0, 255 - turned, picture)[30:126, 30:126])
    return frames


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_pans(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(videos, tmp_path_factory) -> dict[str, str]:
    """Digests of the dataset that a run makes of the videos when nothing comes in between."""
    output = tmp_path_factory.mktemp("undisturbed")
    annotate([videos], output, num_workers=1)
    return digests(output)


def stop_after_one(output: Path, number: int = signal.SIGINT):
    """An action for `meanwhile`: sends this process the signal as soon as a video is done."""

    def stop():
        if num_parts(output) < 1:
            return False
        os.kill(os.getpid(), number)
        return True

    return stop


def test_the_dataset_holds_the_clips_of_all_videos_in_the_order_of_their_names(videos, undisturbed, tmp_path):
    report = annotate([videos], tmp_path, num_workers=2)
    dataset = ClipDataset(tmp_path, "train")
    assert len(dataset) == report.total.clips == sum(outcome.clips for outcome in report.videos)
    sources = [(clip.meta["video"], clip.meta["frame_numbers"][0]) for clip in dataset]
    assert sources == sorted(sources) and {name for name, _ in sources} == {f"{name}.mp4" for name in PHOTOGRAPHS}
    assert len(set(dataset.keys)) == len(dataset)
    shards = sorted(path.name for path in tmp_path.glob("*.tar"))
    assert shards == [f"train-{number:05d}.tar" for number in range(report.num_shards)]
    assert [len(ClipDataset(tmp_path / shard)) for shard in shards[:-1]] == [CLIPS_PER_SHARD] * (len(shards) - 1)
    assert set(undisturbed) == {*shards, "report.json", "report.md", "histograms.png", "README.md"}


@pytest.mark.parametrize("num_workers", [2, 7])
def test_the_number_of_workers_does_not_change_a_byte(videos, undisturbed, tmp_path, num_workers):
    annotate([videos], tmp_path, num_workers=num_workers)
    assert digests(tmp_path) == undisturbed


def test_nothing_tells_where_and_when_the_dataset_was_made(videos, undisturbed, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for video in reversed(sorted(videos.iterdir())):
        (moved / video.name).write_bytes(video.read_bytes())
    annotate([*moved.iterdir()], tmp_path / "output", num_workers=2)
    assert digests(tmp_path / "output") == undisturbed
    for path in (tmp_path / "output").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_videos_that_cannot_be_read_are_reported_and_cost_nothing_else(videos, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    whole = (videos / "cat.mp4").read_bytes()
    (folder / "cat.mp4").write_bytes(whole)
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    (folder / "lost.mp4").symlink_to(tmp_path / "nowhere")
    strange = os.fsdecode(b"strange \xff|name\n.mp4")
    (folder / strange).write_bytes((videos / "rocket.mp4").read_bytes())
    report = annotate([folder], tmp_path / "output", num_workers=2)
    outcomes = {outcome.video: outcome for outcome in report.videos}
    assert set(outcomes) == {"cat.mp4", "text.mp4", "empty.mp4", "lost.mp4", "strange \\xff|name\n.mp4"}
    for name in ("text.mp4", "empty.mp4", "lost.mp4"):
        assert name in outcomes[name].error and outcomes[name].clips == 0
        assert str(tmp_path) not in outcomes[name].error
    for name in ("cat.mp4", "strange \\xff|name\n.mp4"):
        assert outcomes[name].error is None and outcomes[name].clips > 0
    assert len(ClipDataset(tmp_path / "output")) == report.total.clips
    text = (tmp_path / "output" / "report.md").read_text("utf-8")
    assert all(name in text for name in ("text.mp4", "empty.mp4", "lost.mp4", "strange \\xff\\|name\\n.mp4"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks for a worker's open files in /proc")
@pytest.mark.parametrize("always", [False, True])
def test_a_worker_that_dies_costs_at_most_its_video(videos, undisturbed, tmp_path, always):
    folder = tmp_path / "videos"
    folder.mkdir()
    for video in videos.iterdir():
        (folder / video.name).write_bytes(video.read_bytes())
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


@pytest.mark.parametrize("num_workers, parts", [(1, 2), (2, 1)])
def test_a_run_killed_while_annotating_goes_on_to_the_same_bytes(videos, undisturbed, tmp_path, num_workers, parts):
    run = process_of(functools.partial(annotate, num_workers=num_workers), [videos], tmp_path)
    while num_parts(tmp_path) < parts:
        assert run.is_alive()
        time.sleep(0.001)
    run.kill()
    run.join()
    assert parts <= num_parts(tmp_path) < len(PHOTOGRAPHS) and not list(tmp_path.glob("*.tar"))
    # A part whose JSON is not there yet is not complete, and is made again.
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


def test_a_run_killed_at_any_step_of_the_merge_goes_on_to_the_same_bytes(videos, tmp_path):
    some = [videos / f"{name}.mp4" for name in PHOTOGRAPHS[:3]]
    undisturbed = tmp_path / "undisturbed"
    num_shards = annotate(some, undisturbed, num_workers=2).num_shards
    # The plan of the merge has some thousand bytes: so far comes a run that annotates and does not merge.
    with pytest.raises(OSError, match="3 of 3 videos done"), largest_file(1000):
        annotate(some, tmp_path / "annotated", num_workers=2)
    for change in itertools.count():
        output = tmp_path / str(change)
        shutil.copytree(tmp_path / "annotated", output)
        run = process_of(annotate_until, change, some, output)
        run.join()
        if run.exitcode != -signal.SIGKILL:
            break
        annotate(some, output)
        assert digests(output) == digests(undisturbed), f"killed just before change {change}"
    assert run.exitcode == 0 and digests(output) == digests(undisturbed)
    assert num_shards > 3 and change > 4 * num_shards


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(videos, undisturbed, tmp_path, number):
    with (
        pytest.raises(KeyboardInterrupt, match=r"[1-4] of 5 videos done.*goes on"),
        meanwhile(stop_after_one(tmp_path, number)),
    ):
        annotate([videos], tmp_path, num_workers=1)
    assert not readers_in(videos)
    assert not (tmp_path / ".unfinished" / "writing").exists()
    annotate([videos], tmp_path, num_workers=1)
    assert digests(tmp_path) == undisturbed


def test_a_finished_dataset_is_left_alone(videos, tmp_path):
    first = annotate([videos], tmp_path, num_workers=2)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.iterdir()]}
    again = annotate([videos], tmp_path, num_workers=2)
    assert {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.iterdir()]} == before
    assert (first.was_finished, again.was_finished) == (False, True)
    assert again.as_dict() == first.as_dict()
    with pytest.raises(ValueError, match=r"finished dataset.*split: \"train\", now \"test\""):
        annotate([videos], tmp_path, split="test")
    with pytest.raises(ValueError, match=r"finished dataset.*astronaut\.mp4"):
        annotate([videos / "cat.mp4"], tmp_path)


def test_an_unfinished_run_takes_no_other_settings_but_more_videos(videos, undisturbed, tmp_path):
    fewer = sorted(videos.iterdir())[:4]
    with pytest.raises(KeyboardInterrupt), meanwhile(stop_after_one(tmp_path)):
        annotate(fewer, tmp_path, num_workers=1)
    with pytest.raises(ValueError, match=r"unfinished run.*settings\.max_people: 4, now 2"):
        annotate([videos], tmp_path, dataclasses.replace(SETTINGS, max_people=2))
    annotate([videos], tmp_path, num_workers=1)
    assert digests(tmp_path) == undisturbed


def test_a_video_that_changed_since_it_was_annotated_is_annotated_again(videos, undisturbed, tmp_path):
    folder, output = tmp_path / "videos", tmp_path / "output"
    folder.mkdir()
    for video in videos.iterdir():
        (folder / video.name).write_bytes(video.read_bytes())
    # The largest is the first.
    first = max(folder.iterdir(), key=lambda video: video.stat().st_size)
    whole = first.read_bytes()
    write_video(pan("cat", num_frames=48, speed=1), first, fps=12)

    with pytest.raises(KeyboardInterrupt), meanwhile(stop_after_one(output)):
        annotate([folder], output, num_workers=1)
    first.write_bytes(whole)
    annotate([folder], output, num_workers=1)
    assert digests(output) == undisturbed


def test_two_runs_in_one_folder_are_one_too_many(videos, undisturbed, tmp_path):
    first = threading.Thread(target=annotate, args=([videos], tmp_path), kwargs={"num_workers": 1})
    first.start()
    while num_parts(tmp_path) < 1:
        time.sleep(0.001)
    with pytest.raises(ValueError, match="Another run is at work"):
        annotate([videos], tmp_path, num_workers=1)
    first.join()
    assert digests(tmp_path) == undisturbed


def test_a_folder_with_other_files_is_refused(videos, tmp_path):
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
def test_impossible_arguments_are_refused_before_anything_is_made(videos, tmp_path, arguments, match):
    with pytest.raises(ValueError, match=match):
        annotate_videos([videos], tmp_path / "output", SETTINGS, **arguments)
    assert not (tmp_path / "output").exists()


def test_what_keeps_an_annotator_from_loading_stops_the_run_and_the_corrected_one_is_taken(
    videos, undisturbed, tmp_path
):
    for weights in ("nowhere.pth", None):
        settings = dataclasses.replace(SETTINGS, flow="raft_small", flow_weights=weights)
        with pytest.raises(ValueError, match=r"nowhere\.pth" if weights else "needs `weights`"):
            annotate([videos], tmp_path, settings, num_workers=2)
    annotate([videos], tmp_path, num_workers=2)
    assert digests(tmp_path) == undisturbed


@pytest.fixture
def insatiable(tmp_path) -> Path:
    """A folder of RAFT's weights by whose configuration frames are enlarged beyond any memory."""
    folder = tmp_path / "raft_small"
    folder.mkdir()
    save_file(raft_small().state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"upsampling": 1000000}')
    return folder


def test_a_video_for_which_memory_runs_out_is_tried_again_alone(videos, insatiable, tmp_path):
    settings = dataclasses.replace(SETTINGS, flow="raft_small", flow_weights=str(insatiable))
    report = annotate([videos / "cat.mp4"], tmp_path / "output", settings, num_workers=1)
    (outcome,) = report.videos
    assert "ends the process that annotates it, twice: " in outcome.error and "allocate memory" in outcome.error
    assert outcome.clips == 0 and not list((tmp_path / "output").glob("*.tar"))


@pytest.mark.parametrize(
    ("error", "is_the_videos"),
    [
        (MemoryError(), False),
        (torch.OutOfMemoryError("CUDA out of memory."), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("shapes do not fit"), True),
        (ValueError("what the video holds"), True),
    ],
)
def test_errors_of_the_machine_are_not_entered_as_the_videos(videos, tmp_path, error, is_the_videos):
    class Failing(FlowEstimator):
        def __call__(self, first, second):
            raise error

    (tmp_path / WRITING).mkdir()
    (video,) = find_videos([videos / "cat.mp4"])
    with VideoAnnotator(SETTINGS) as annotator:
        annotator.estimator = Failing()
        with contextlib.nullcontext() if is_the_videos else pytest.raises(type(error)):
            annotate_part(annotator, video, tmp_path)
    part = Part.read(video, tmp_path)
    assert (part is not None) == is_the_videos
    assert not is_the_videos or str(error) in part.outcome.error
    assert not list((tmp_path / WRITING).iterdir())


def test_processes_share_a_gpu_and_have_a_cpu_each():
    raft = dataclasses.replace(SETTINGS, flow="raft_small", flow_weights="DEFAULT")
    assert default_num_workers(SETTINGS, num_cpus=64, num_gpus=1) == 64
    assert default_num_workers(raft, num_cpus=64, num_gpus=0) == 64
    assert default_num_workers(dataclasses.replace(raft, device="cpu"), num_cpus=64, num_gpus=1) == 64
    assert default_num_workers(raft, num_cpus=64, num_gpus=1) < 64
    assert default_num_workers(raft, num_cpus=64, num_gpus=2) == 2 * default_num_workers(raft, 64, num_gpus=1)
    assert default_num_workers(raft, num_cpus=2, num_gpus=8) == 2


def test_a_script_that_workers_cannot_import_is_told_what_it_lacks(videos, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from mcdiff_pipeline.annotation.run import annotate_videos\n"
        "from mcdiff_pipeline.annotation.settings import AnnotationSettings\n"
        f"annotate_videos([{str(videos)!r}], {str(tmp_path / 'output')!r}, AnnotationSettings(), num_workers=1)\n"
    )
    refused = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert refused.returncode == 1
    assert 'a script that annotates needs `if __name__ == "__main__":`' in refused.stderr.splitlines()[-1]


def test_a_disk_that_is_full_while_annotating_loses_nothing(videos, undisturbed, tmp_path):
    answer, theirs = multiprocessing.Pipe()
    process_of(error_with_largest_file, 60_000, [videos], tmp_path, theirs).join()
    assert re.fullmatch(
        rf"'{tmp_path}' takes no more data \(File too large\), with {num_parts(tmp_path)} of 5 videos done, .*; make "
        "room, and the same command goes on.",
        answer.recv(),
    )
    annotate([videos], tmp_path, num_workers=2)
    assert digests(tmp_path) == undisturbed


def test_a_disk_that_is_full_while_packing_loses_nothing(videos, undisturbed, tmp_path):
    # The limit is that of this process, which packs. Those that annotate are forked from one that began before.
    with pytest.raises(OSError, match=r"takes no more data.*5 of 5 videos done.*make room"), largest_file(20_000):
        annotate([videos], tmp_path, num_workers=2)
    assert num_parts(tmp_path) == 5
    annotate([videos], tmp_path, num_workers=2)
    assert digests(tmp_path) == undisturbed


def test_a_small_disk_that_fills_up_and_is_enlarged(videos, undisturbed, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk can be mounted by root only")
    try:
        # One process, as two can fill the disk before either has finished a video.
        with pytest.raises(OSError, match=r"No space left on device.*of 5 videos done"):
            annotate([videos], disk, num_workers=1)
        assert 0 < num_parts(disk) < len(PHOTOGRAPHS)
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        annotate([videos], disk, num_workers=2)
        assert digests(disk) == undisturbed
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_video_that_is_there_twice_gives_its_clips_once(videos, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((videos / "cat.mp4").read_bytes())
    (folder / "b.mp4").write_bytes((videos / "cat.mp4").read_bytes())
    again = [cv2.GaussianBlur(frame, (0, 0), 0.8) for frame in read_video(videos / "cat.mp4").frames]
    write_video(again, folder / "c.webm", fps=12)
    write_video(pan("rocket"), folder / "d.mp4", fps=12)
    report = annotate([folder], tmp_path / "output", num_workers=2)
    first, copy, encoded, other = report.videos
    assert first.dropped.get(NEAR_DUPLICATE, 0) == other.dropped.get(NEAR_DUPLICATE, 0) == 0
    assert first.clips > 3 and other.clips > 3
    assert copy.clips == 0 and copy.dropped[NEAR_DUPLICATE] == first.clips
    assert encoded.clips == 0 and encoded.dropped[NEAR_DUPLICATE] == first.clips
    # What was left out is left out everywhere.
    assert len(ClipDataset(tmp_path / "output")) == report.total.clips == first.clips + other.clips
    assert sum(report.total.gaps.values()) == sum(report.total.people.values()) == report.total.clips
    assert sum(report.total.displacements) == report.total.clips * 2 * 48 * 48
    assert copy.gaps == {} and sum(copy.displacements) == 0


def test_clips_of_one_unmoved_camera_are_all_kept(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(play("walking", num_frames=72), folder / "play.mp4", fps=12)
    report = annotate([folder], tmp_path / "output", num_workers=1)
    assert report.total.clips > 8 and NEAR_DUPLICATE not in report.total.dropped


def test_settings_travel_to_workers_and_into_the_report(videos, undisturbed, tmp_path):
    annotate([videos], tmp_path, num_workers=2, license="cc-by-4.0")
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["settings"] == json.loads(json.dumps(SETTINGS.as_dict()))
    assert values["license"] == "cc-by-4.0" and values["made_with"][0]["flow"]["name"] == "dis"
    shards = {name: digest for name, digest in digests(tmp_path).items() if name.endswith(".tar")}
    assert shards.items() <= undisturbed.items()
