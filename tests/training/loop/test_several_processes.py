"""Trains in two processes on the CPU, as several GPUs would, and goes on in another number of processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import compare_versions
from diffusers import AutoencoderDC
from loop.trainer import FSDP_ACCELERATE_VERSION
from safetensors.torch import load_file
from support import fsdp_on_cpu, recorded_training
from support.training_runs import TRAINING, arguments, logged


CONFIGS = TRAINING / "accelerate_configs"
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def launch_two(command_line: list, config: str = "cpu_two_processes.yaml") -> None:
    """Trains in two processes, launched as the docs say; of a script and its arguments."""
    # Of the ports that are free now: accelerate 1.0 does not choose one by itself.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    command += ["--config_file", str(CONFIGS / config), "--main_process_port", str(port)]
    process = subprocess.run(
        [*command, *map(str, command_line)],
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
    launch_two([recorded_training.__file__, *steps_to(8, root / "two", batch=2, **resumed)])
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


has_fsdp = compare_versions("accelerate", ">=", FSDP_ACCELERATE_VERSION)
needs_fsdp = pytest.mark.skipif(not has_fsdp, reason=f"FSDP 2 needs accelerate {FSDP_ACCELERATE_VERSION} or later")


@pytest.fixture(scope="module")
def in_parts(runs):
    """Steps 3 to 6 as in `two`, but with FSDP."""
    resumed = {"resume_from_checkpoint": runs / "one/checkpoint-2"}
    launch_fsdp(recorded_training.__file__, steps_to(6, runs / "in_parts", batch=2, **resumed))
    return runs / "in_parts"


def launch_fsdp(script: str | Path, arguments: list[str]) -> None:
    launch_two([fsdp_on_cpu.__file__, script, *arguments], "fsdp.yaml")


def assert_alike(found: Path, wanted: Path, **tolerances) -> None:
    """The same files of weights with the same weights, in two folders of models."""
    files = {path.relative_to(wanted) for path in wanted.rglob("*.safetensors")}
    assert files and {path.relative_to(found) for path in found.rglob("*.safetensors")} == files
    for file in files:
        torch.testing.assert_close(load_file(found / file), load_file(wanted / file), **tolerances)


@needs_fsdp
def test_fsdp_goes_on_where_one_process_stopped(runs, in_parts):
    for name in ("loss", "gradient_norm"):
        expected, found = logged(runs / "two", name), logged(in_parts, name)
        assert found == pytest.approx({step: expected[step] for step in range(3, 7)}, rel=1e-5)
    expected, found = logged(runs / "one", "reconstruction"), logged(in_parts, "reconstruction")
    assert found == pytest.approx({step: expected[step] for step in range(3, 7)}, rel=1e-4)


@needs_fsdp
def test_a_checkpoint_of_fsdp_is_that_of_one_process(runs, in_parts, tmp_path):
    assert_alike(in_parts / "checkpoint-6", runs / "two/checkpoint-6", rtol=1e-4, atol=1e-6)
    resumed = {"resume_from_checkpoint": in_parts / "checkpoint-6"}
    assert recorded_training.main(steps_to(8, tmp_path, batch=4, **resumed)) == 0
    assert recorded_training.recorded(tmp_path) == recorded_training.recorded(runs / "one")[6:8]
    expected, found = logged(runs / "one", "reconstruction"), logged(tmp_path, "reconstruction")
    assert found == pytest.approx({step: expected[step] for step in (7, 8)}, rel=1e-4)


@needs_fsdp
def test_two_models_in_blocks_train_with_fsdp_as_without(data, start, tmp_path):
    changes = {"pretrained_model_name_or_path": start, "rollout_steps": 2, "rollout_inference_steps": 1}
    changes |= {"pretrained_vae": None, "model_config": None, "max_train_steps": 2, "train_batch_size": 1}
    changes |= {"num_validation_samples": 2}
    # With its small gradients Adam makes large steps of rounding errors.
    changes |= {"adam_epsilon": 1e-3}
    script = TRAINING / "train_end_to_end.py"
    whole, in_parts = (
        arguments(data, "train_end_to_end", tmp_path / name, **changes) for name in ("whole", "in_parts")
    )
    launch_two([script, *whole])
    launch_fsdp(script, in_parts)
    for name in ("loss", "flow_loss", "denoising_loss", "gradient_norm", "epe", "psnr_moving_model"):
        assert logged(tmp_path / "in_parts", name) == pytest.approx(logged(tmp_path / "whole", name), rel=1e-4)
    assert_alike(tmp_path / "in_parts/checkpoint-2", tmp_path / "whole/checkpoint-2", rtol=1e-4, atol=1e-5)
    assert_alike(tmp_path / "in_parts/pipeline", tmp_path / "whole/pipeline", rtol=1e-2, atol=1e-4)  # half precision


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[needs_fsdp] if path.name == "fsdp.yaml" else [], id=path.name)
        for path in sorted(CONFIGS.iterdir())
    ],
)
def test_accelerate_accepts_every_config_and_knows_all_its_keys(path):
    config = load_config_from_file(str(path))  # refuses unknown keys of the first level itself
    known = set(vars(launch_command_parser().parse_args(["script.py"])))
    assert set(config.deepspeed_config) | set(config.fsdp_config) <= known
    assert config.num_processes == 2


@pytest.mark.parametrize(
    ("environment", "changes", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {"mixed_precision": "fp16"}, "fp16 would leave .* DeepSpeed; use bf16"),
        *(
            pytest.param(FSDP | environment, changes, message, marks=needs_fsdp)
            for environment, changes, message in (
                (
                    {},
                    {},
                    "FSDP was asked for, but accelerate gives NO .* over accelerators only; .*cpu_two",
                ),
                ({}, {"mixed_precision": "fp16"}, "FSDP cannot be had with --mixed_precision fp16 here"),
                ({"FSDP_VERSION": "1"}, {}, "FSDP cannot be had with fsdp_version 1 here; .* launch with .*fsdp.yaml"),
                ({"FSDP_OFFLOAD_PARAMS": "true"}, {}, "FSDP cannot be had with fsdp_offload_params here"),
            )
        ),
    ],
)
def test_what_cannot_be_trained_so_is_refused_before_training(tmp_path, monkeypatch, environment, changes, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        recorded_training.main(steps_to(1, tmp_path / "run", batch=2, **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(has_fsdp, reason=f"this accelerate is {FSDP_ACCELERATE_VERSION} or later and has FSDP 2")
def test_an_accelerate_without_fsdp_2_is_refused_before_training(tmp_path, monkeypatch):
    for name, value in FSDP.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"FSDP needs accelerate {FSDP_ACCELERATE_VERSION} or later; .*ddp.yaml"):
        recorded_training.main(steps_to(1, tmp_path / "run", batch=2))
    assert not (tmp_path / "run").exists()
