"""Trains in two processes on the CPU, as several GPUs would, and goes on in another number of processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import recorded_training
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from diffusers import AutoencoderDC
from training_runs import TRAINING, logged


CONFIGS = TRAINING / "accelerate_configs"


def launch_two(command_line: list[str]) -> None:
    """Trains in two processes, launched as the docs say."""
    # Of the ports that are free now: accelerate 1.0 does not choose one by itself.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    command += ["--config_file", str(CONFIGS / "cpu_two_processes.yaml"), "--main_process_port", str(port)]
    process = subprocess.run(
        [*command, recorded_training.__file__, *command_line],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr


def steps_to(last: int, output_dir: Path, batch: int, **changes) -> list[str]:
    settings = {"output_dir": output_dir, "max_train_steps": last, "train_batch_size": batch, "use_ema": True}
    settings |= {"learning_rate": 1e-3, "lr_scheduler": "constant", "checkpointing_steps": 2, "logging_steps": 1}
    settings |= {"checkpoints_total_limit": 10} | changes
    return [
        part
        for name, value in settings.items()
        for part in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three epochs of four steps in one process; steps 3 to 8 of the same in two with two workers each."""
    root = tmp_path_factory.mktemp("runs")
    assert recorded_training.main(steps_to(12, root / "one", batch=4)) == 0
    resumed = {"resume_from_checkpoint": root / "one/checkpoint-2", "dataloader_num_workers": 2}
    launch_two(steps_to(8, root / "two", batch=2, **resumed))
    return root


def test_two_processes_go_on_where_one_stopped(runs):
    assert recorded_training.recorded(runs / "two") == recorded_training.recorded(runs / "one")[2:8]
    # Without the penalty on the latent's variance, which each process has of its own batch as a whole.
    expected, found = logged(runs / "one", "reconstruction"), logged(runs / "two", "reconstruction")
    assert found == pytest.approx({step: expected[step] for step in range(3, 9)}, rel=1e-4)
    for name in ("vae", "vae_ema"):
        found, wanted = (
            AutoencoderDC.from_pretrained(runs / run / "checkpoint-8", subfolder=name).state_dict()
            for run in ("two", "one")
        )
        for key in wanted:
            torch.testing.assert_close(found[key], wanted[key], rtol=1e-3, atol=1e-4)


def test_ranks_and_workers_share_an_epoch_with_each_sample_once(runs):
    epoch = recorded_training.recorded(runs / "two")[2:6]
    items = [item for step in epoch for item, _ in step]
    assert sorted(items) == list(range(recorded_training.NUM_ITEMS)) and items != sorted(items)


def test_one_process_goes_on_where_two_stopped(runs, tmp_path):
    resumed = {"resume_from_checkpoint": runs / "two/checkpoint-8"}
    assert recorded_training.main(steps_to(12, tmp_path, batch=4, **resumed)) == 0
    assert recorded_training.recorded(tmp_path) == recorded_training.recorded(runs / "one")[8:]
    expected, found = logged(runs / "one", "reconstruction"), logged(tmp_path, "reconstruction")
    assert found == pytest.approx({step: expected[step] for step in range(9, 13)}, rel=1e-4)


def test_another_batch_after_resuming_skips_no_sample_and_repeats_none(runs, tmp_path):
    resumed = {"resume_from_checkpoint": runs / "two/checkpoint-8"}
    assert recorded_training.main(steps_to(10, tmp_path, batch=6, **resumed)) == 0
    found = sum(recorded_training.recorded(tmp_path), [])
    assert found == sum(recorded_training.recorded(runs / "one")[8:], [])[:12]


@pytest.mark.parametrize("path", sorted(CONFIGS.iterdir()), ids=lambda path: path.name)
def test_accelerate_accepts_every_config_and_knows_all_its_keys(path):
    config = load_config_from_file(str(path))  # refuses unknown keys of the first level itself
    known = set(vars(launch_command_parser().parse_args(["script.py"])))
    assert set(config.deepspeed_config) | set(config.fsdp_config) <= known
    assert config.num_processes == 2


@pytest.mark.parametrize(
    ("launched_with", "changes", "message"),
    [
        ("ACCELERATE_USE_FSDP", {}, "FSDP keeps only a part of the weights .* launch with .*ddp.yaml"),
        ("ACCELERATE_USE_DEEPSPEED", {"mixed_precision": "fp16"}, "fp16 would leave .* DeepSpeed; use bf16 or no"),
    ],
)
def test_what_cannot_be_averaged_is_refused_before_training(tmp_path, monkeypatch, launched_with, changes, message):
    monkeypatch.setenv(launched_with, "true")
    with pytest.raises(ValueError, match=message):
        recorded_training.main(steps_to(1, tmp_path / "run", batch=2, **changes))
    assert not (tmp_path / "run").exists()
