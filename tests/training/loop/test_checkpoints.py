"""Checkpoints of runs that are killed or that meet a full disk."""

import os
import shutil
import subprocess
import time

import pytest
import train_flow_completion

from loop.checkpoints import find_checkpoints
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from support.training_runs import arguments, launch


def test_run_that_was_killed_while_it_wrote_a_checkpoint_continues_from_the_one_before(data, tmp_path):
    changes = {"validation_data_dir": None, "checkpointing_steps": 1, "max_train_steps": 100000}
    process = launch("train_flow_completion", arguments(data, "train_flow_completion", tmp_path, **changes))
    while not find_checkpoints(tmp_path) or not list(tmp_path.glob(".checkpoint-*.unfinished")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.001)
    process.kill()
    process.communicate()
    (last, *_) = reversed(find_checkpoints(tmp_path))
    reached = int(last.name.split("-")[1])
    changes |= {"resume_from_checkpoint": "latest", "max_train_steps": reached + 1}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    assert find_checkpoints(tmp_path)[-1].name == f"checkpoint-{reached + 1}"
    assert not list(tmp_path.glob(".checkpoint-*"))


def test_full_disk_is_reported_and_the_last_checkpoint_is_kept(data, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        changes = {"validation_data_dir": None, "checkpointing_steps": 1, "checkpoints_total_limit": 100}
        changes |= {"max_train_steps": 50}
        with pytest.raises(OSError, match=r"could not be written to .* MB are free: .*; checkpoint-\d+ is kept"):
            train_flow_completion.main(arguments(data, "train_flow_completion", disk / "run", **changes))
        kept = find_checkpoints(disk / "run")
        assert kept and not list((disk / "run").glob(".checkpoint-*"))
        FlowCompletionUNet.from_pretrained(kept[-1], subfolder="flow_completion_ema")
        for old in kept[:-1]:
            shutil.rmtree(old)
        changes |= {"resume_from_checkpoint": "latest", "max_train_steps": len(kept) + 1}
        assert train_flow_completion.main(arguments(data, "train_flow_completion", disk / "run", **changes)) == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_unknown_checkpoint_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        train_flow_completion.main(
            arguments(data, "train_flow_completion", tmp_path, resume_from_checkpoint="checkpoint-9")
        )
