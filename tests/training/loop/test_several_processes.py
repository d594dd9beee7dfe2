"""Training in two processes on the CPU, as on two GPUs, and resuming with another number of processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import train_flow_completion
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import compare_versions
from diffusers import AutoencoderDC
from safetensors.torch import load_file

from loop.accelerator import FSDP_ACCELERATE_VERSION
from mcdiff_pipeline import FlowCompletionUNet
from support import fsdp_on_cpu, launches, recorded_training, scripts_in_turn
from support.training_runs import TRAINING, arguments, logged


CONFIGS = TRAINING / "accelerate_configs"
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}

has_fsdp = compare_versions("accelerate", ">=", FSDP_ACCELERATE_VERSION)
needs_fsdp = pytest.mark.skipif(not has_fsdp, reason=f"FSDP 2 needs accelerate {FSDP_ACCELERATE_VERSION} or later")


def launch_two(commands: list[list[str]], config: str, root: Path, *program: str) -> list[str]:
    """The arguments of `accelerate launch` that run scripts in turn in two processes.

    Args:
        commands: each a script and its arguments.
        config: file in `training/accelerate_configs`.
        root: where the list of commands is written.
        program: program that runs the scripts.
    """
    file = root / f"commands-{config}.json"
    file.write_text(json.dumps([[str(word) for word in command] for command in commands]))
    # accelerate 1.0 does not choose a free port by itself.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    arguments = ["--config_file", str(CONFIGS / config), "--main_process_port", str(port)]
    return [*arguments, *program, scripts_in_turn.__file__, str(file)]


def steps_to(last: int, output_dir: Path, batch: int, **changes) -> list[str]:
    settings = {"output_dir": output_dir, "max_train_steps": last, "train_batch_size": batch, "use_ema": True}
    settings |= {"learning_rate": 1e-3, "lr_scheduler": "constant", "checkpointing_steps": 2, "logging_steps": 1}
    settings |= {"checkpoints_total_limit": 10} | changes
    return [
        part
        for name, value in settings.items()
        for part in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


def flow_completion(data: Path, output_dir: Path, batch: int) -> list[str]:
    changes = {"validation_data_dir": None, "lr_scheduler": "constant", "train_batch_size": batch}
    return arguments(data, "train_flow_completion", output_dir, **changes)


def end_to_end(data: Path, start: Path, output_dir: Path) -> list[str]:
    changes = {"pretrained_model_name_or_path": start, "rollout_steps": 2, "rollout_inference_steps": 1}
    changes |= {"pretrained_vae": None, "model_config": None, "max_train_steps": 2, "train_batch_size": 1}
    changes |= {"num_validation_samples": 2}
    # With such small gradients, Adam makes large steps of rounding errors.
    changes |= {"adam_epsilon": 1e-3}
    return arguments(data, "train_end_to_end", output_dir, **changes)


@pytest.fixture(scope="module")
def runs(data, start, tmp_path_factory) -> Path:
    """Output folders of runs.

    - `one`: the recorded training in one process, three epochs of four steps.
    - `two`: steps 3 to 8 of the same in two processes, with two workers each.
    - `flow_completion`, `end_to_end`: two processes.
    - `sharded/recorded`, `sharded/end_to_end`: steps 3 to 6 as in `two`, and `end_to_end`, with FSDP.
    """
    root = tmp_path_factory.mktemp("runs")
    assert recorded_training.main(steps_to(12, root / "one", batch=4)) == 0
    resumed = {"resume_from_checkpoint": root / "one/checkpoint-2"}
    commands = [
        [recorded_training.__file__, *steps_to(8, root / "two", batch=2, dataloader_num_workers=2, **resumed)],
        [TRAINING / "train_flow_completion.py", *flow_completion(data, root / "flow_completion", batch=2)],
        [TRAINING / "train_end_to_end.py", *end_to_end(data, start, root / "end_to_end")],
    ]
    launched = [launch_two(commands, "cpu_two_processes.yaml", root)]
    if has_fsdp:
        commands = [
            [recorded_training.__file__, *steps_to(6, root / "sharded/recorded", batch=2, **resumed)],
            [TRAINING / "train_end_to_end.py", *end_to_end(data, start, root / "sharded/end_to_end")],
        ]
        launched.append(launch_two(commands, "fsdp.yaml", root, fsdp_on_cpu.__file__))
    (root / "launches.json").write_text(json.dumps(launched))
    process = subprocess.run(
        [sys.executable, launches.__file__, root / "launches.json"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr
    return root


def assert_same_weights(found: Path, expected: Path, **tolerances) -> None:
    """Two folders of models have the same files of weights, with the same weights."""
    files = {path.relative_to(expected) for path in expected.rglob("*.safetensors")}
    assert files and {path.relative_to(found) for path in found.rglob("*.safetensors")} == files
    for file in files:
        torch.testing.assert_close(load_file(found / file), load_file(expected / file), **tolerances)


def test_two_processes_continue_a_run_of_one(runs):
    assert recorded_training.recorded(runs / "two") == recorded_training.recorded(runs / "one")[2:8]
    # Not the whole loss: each process penalizes the variance of the latents in its own batch.
    expected, found = logged(runs / "one", "reconstruction"), logged(runs / "two", "reconstruction")
    assert found == pytest.approx({step: expected[step] for step in range(3, 9)}, rel=1e-4)
    for name in ("vae", "vae_ema"):
        found, expected = (
            AutoencoderDC.from_pretrained(runs / run / "checkpoint-8", subfolder=name).state_dict()
            for run in ("two", "one")
        )
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-4)


def test_two_processes_have_the_losses_of_one_with_twice_the_batch(data, runs, tmp_path):
    two = runs / "flow_completion"
    assert train_flow_completion.main(flow_completion(data, tmp_path, batch=4)) == 0
    # All samples of a pass differ, so equal losses need every sample once, in one of the two processes.
    expected, losses = logged(tmp_path, "loss"), logged(two, "loss")
    assert list(losses) == [1, 2, 3, 4] and len(set(losses.values())) == 4
    assert losses == pytest.approx(expected, rel=1e-4)
    found, expected = (
        FlowCompletionUNet.from_pretrained(folder, subfolder="flow_completion").state_dict()
        for folder in (two, tmp_path)
    )
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-4)


def test_processes_and_workers_share_an_epoch_with_each_sample_once(runs):
    epoch = recorded_training.recorded(runs / "two")[2:6]
    items = [item for step in epoch for item, _ in step]
    assert sorted(items) == list(range(recorded_training.NUM_ITEMS)) and items != sorted(items)


def test_one_process_continues_a_run_of_two(runs, tmp_path):
    resumed = {"resume_from_checkpoint": runs / "two/checkpoint-8"}
    assert recorded_training.main(steps_to(12, tmp_path, batch=4, **resumed)) == 0
    assert recorded_training.recorded(tmp_path) == recorded_training.recorded(runs / "one")[8:]
    expected, found = logged(runs / "one", "reconstruction"), logged(tmp_path, "reconstruction")
    assert found == pytest.approx({step: expected[step] for step in range(9, 13)}, rel=1e-4)


def test_another_batch_size_after_resuming_skips_no_sample_and_repeats_none(runs, tmp_path):
    resumed = {"resume_from_checkpoint": runs / "two/checkpoint-8"}
    assert recorded_training.main(steps_to(10, tmp_path, batch=6, **resumed)) == 0
    found = sum(recorded_training.recorded(tmp_path), [])
    assert found == sum(recorded_training.recorded(runs / "one")[8:], [])[:12]


@needs_fsdp
def test_fsdp_continues_a_run_of_one_process(runs):
    for name in ("loss", "gradient_norm"):
        expected, found = logged(runs / "two", name), logged(runs / "sharded/recorded", name)
        assert found == pytest.approx({step: expected[step] for step in range(3, 7)}, rel=1e-5)
    expected, found = logged(runs / "one", "reconstruction"), logged(runs / "sharded/recorded", "reconstruction")
    assert found == pytest.approx({step: expected[step] for step in range(3, 7)}, rel=1e-4)


@needs_fsdp
def test_one_process_continues_a_run_of_fsdp(runs, tmp_path):
    checkpoint = runs / "sharded/recorded/checkpoint-6"
    assert_same_weights(checkpoint, runs / "two/checkpoint-6", rtol=1e-4, atol=1e-6)
    assert recorded_training.main(steps_to(8, tmp_path, batch=4, resume_from_checkpoint=checkpoint)) == 0
    assert recorded_training.recorded(tmp_path) == recorded_training.recorded(runs / "one")[6:8]
    expected, found = logged(runs / "one", "reconstruction"), logged(tmp_path, "reconstruction")
    assert found == pytest.approx({step: expected[step] for step in (7, 8)}, rel=1e-4)


@needs_fsdp
def test_two_networks_in_blocks_train_with_fsdp_as_without(runs):
    found, expected = runs / "sharded/end_to_end", runs / "end_to_end"
    for name in ("loss", "flow_loss", "denoising_loss", "gradient_norm", "epe", "psnr_moving_model"):
        assert logged(found, name) == pytest.approx(logged(expected, name), rel=1e-4)
    assert_same_weights(found / "checkpoint-2", expected / "checkpoint-2", rtol=1e-4, atol=1e-5)
    assert_same_weights(found / "pipeline", expected / "pipeline", rtol=1e-2, atol=1e-4)  # half precision


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
                ({}, {}, "distributed_type is FSDP, but accelerate gives NO .* over accelerators only; .*cpu_two"),
                ({}, {"mixed_precision": "fp16"}, "FSDP does not work with --mixed_precision fp16 here"),
                ({"FSDP_VERSION": "1"}, {}, "FSDP does not work with fsdp_version 1 here; .* launch with .*fsdp.yaml"),
                ({"FSDP_OFFLOAD_PARAMS": "true"}, {}, "FSDP does not work with fsdp_offload_params here"),
            )
        ),
    ],
)
def test_unsupported_settings_are_refused_before_training(tmp_path, monkeypatch, environment, changes, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        recorded_training.main(steps_to(1, tmp_path / "run", batch=2, **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(has_fsdp, reason=f"accelerate {FSDP_ACCELERATE_VERSION} or later has FSDP 2")
def test_accelerate_without_fsdp_2_is_refused_before_training(tmp_path, monkeypatch):
    for name, value in FSDP.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"FSDP needs accelerate {FSDP_ACCELERATE_VERSION} or later; .*ddp.yaml"):
        recorded_training.main(steps_to(1, tmp_path / "run", batch=2))
    assert not (tmp_path / "run").exists()
