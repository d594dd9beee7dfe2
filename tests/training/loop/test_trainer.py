"""The training loop, with tiny models and clips, through the scripts' own command lines."""

import json
import math
import re
import shutil
import signal
import time

import numpy as np
import pytest
import torch
import train_autoencoder
import train_flow_completion
import train_future_frame
from diffusers import AutoencoderDC, UNet2DConditionModel
from filelock import FileLock
from safetensors.torch import load_file

from loop.checkpoints import find_checkpoints
from loop.signals import STOP_SIGNALS
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from support.training_runs import arguments, launch, logged


@pytest.mark.parametrize(
    "script", [train_autoencoder, train_flow_completion, train_future_frame], ids=lambda module: module.__name__
)
def test_resumed_run_has_the_losses_of_an_uninterrupted_run(data, trained, tmp_path, script):
    shutil.copytree(trained[script.__name__] / "checkpoint-2", tmp_path / "checkpoint-2")
    assert script.main(arguments(data, script.__name__, tmp_path, resume_from_checkpoint="latest")) == 0
    expected, losses = logged(trained[script.__name__], "loss"), logged(tmp_path, "loss")
    assert list(losses) == [3, 4]
    assert losses == pytest.approx({step: expected[step] for step in (3, 4)}, rel=1e-6)


@pytest.mark.parametrize(
    ("script", "name", "model_class"),
    [
        ("train_autoencoder", "vae", AutoencoderDC),
        ("train_flow_completion", "flow_completion", FlowCompletionUNet),
        ("train_future_frame", "unet", UNet2DConditionModel),
    ],
)
def test_checkpoint_has_model_and_average_and_the_average_is_the_result(trained, script, name, model_class):
    checkpoint = trained[script] / "checkpoint-4"
    model = model_class.from_pretrained(checkpoint, subfolder=name)
    average = model_class.from_pretrained(checkpoint, subfolder=f"{name}_ema")
    result = model_class.from_pretrained(trained[script], subfolder=name)
    same_as_model = []
    for key, tensor in result.state_dict().items():
        torch.testing.assert_close(tensor, average.state_dict()[key])
        same_as_model.append(torch.equal(tensor, model.state_dict()[key]))
    assert not all(same_as_model)


def test_folder_of_a_running_training_is_refused(data, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match=f"Another training works in '{tmp_path}'"):
        train_autoencoder.main(arguments(data, "train_autoencoder", tmp_path))
    assert not (tmp_path / "training_arguments.json").exists()


def test_run_ends_in_time_and_keeps_the_given_number_of_checkpoints(data, tmp_path):
    changes = {"max_train_steps": None, "max_train_minutes": 0.03, "checkpoints_total_limit": 1, "use_ema": None}
    changes |= {"validation_data_dir": None, "checkpointing_steps": 1}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    assert checkpoint.name == f"checkpoint-{max(logged(tmp_path, 'learning_rate'))}"


def test_learning_rate_follows_the_budget_of_which_more_is_spent(data, trained, tmp_path):
    shutil.copytree(trained["train_flow_completion"] / "checkpoint-2", tmp_path / "checkpoint-2")
    progress = json.loads((tmp_path / "checkpoint-2/progress.json").read_text())
    (tmp_path / "checkpoint-2/progress.json").write_text(json.dumps(progress | {"minutes": 90}))
    changes = {"max_train_steps": 3, "max_train_minutes": 100, "resume_from_checkpoint": "latest"}
    changes |= {"validation_data_dir": None}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    assert logged(tmp_path, "learning_rate")[3] == pytest.approx(1e-3 * (1 + math.cos(0.9 * math.pi)) / 2, rel=0.05)


def test_scaled_learning_rate_is_multiplied_by_the_samples_of_a_step(data, tmp_path):
    changes = {"validation_data_dir": None, "max_train_steps": 1, "lr_scheduler": "constant", "scale_lr": True}
    changes |= {"gradient_accumulation_steps": 3}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    assert logged(tmp_path, "learning_rate")[1] == pytest.approx(2 * 3 * 1e-3)


def test_loss_that_is_not_finite_stops_the_run_and_keeps_models_and_batch(data, tmp_path):
    changes = {"learning_rate": 1e30, "max_grad_norm": 1e30, "validation_data_dir": None, "max_train_steps": 50}
    with pytest.raises(FloatingPointError, match=r"Step \d+: loss .* lower --learning_rate") as caught:
        train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes))
    named = re.findall(r"frame (\d) of clip number (\d) in (\S+train-0000\d\.tar)", str(caught.value))
    assert len(named) == 2
    (snapshot,) = tmp_path.glob("not-finite-*")
    assert str(snapshot) in str(caught.value)
    FlowCompletionUNet.from_pretrained(snapshot, subfolder="flow_completion")
    batch = load_file(snapshot / "batch.safetensors")
    for flow, (frame, clip, shard) in zip(batch["flow"], named):
        np.testing.assert_array_equal(flow, ClipDataset([shard])[int(clip)].flow[int(frame)])


def test_terminated_run_leaves_a_checkpoint(data, tmp_path):
    changes = {"max_train_steps": 100000, "checkpointing_steps": 100000, "validation_data_dir": None}
    process = launch("train_flow_completion", arguments(data, "train_flow_completion", tmp_path, **changes))
    log, deadline = tmp_path / "log.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and log.read_text()):
        time.sleep(0.05)
    process.terminate()
    said = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM, said
    (checkpoint,) = find_checkpoints(tmp_path)
    assert json.loads((checkpoint / "progress.json").read_text())["step"] == int(checkpoint.name.split("-")[1])


def test_handlers_of_signals_come_back(data, tmp_path):
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, max_train_steps=1)) == 0
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == handlers
