"""The shared arguments of the training scripts."""

import importlib.machinery
import importlib.util
import shutil
import sys
import types

import pytest
import torch
import train_flow_completion

from loop.accelerator import make_accelerator
from support.training_runs import arguments, logged


def test_run_without_an_end_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="--max_train_steps, --max_train_minutes"):
        train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, max_train_steps=None))


def test_tf32_is_used_if_it_is_allowed(data):
    assert torch.get_float32_matmul_precision() == "highest"
    try:
        command_line = arguments(data, "train_flow_completion", "unused", allow_tf32=True)
        make_accelerator(train_flow_completion.parse_args(command_line))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


class FakeAdamW8bit(torch.optim.AdamW):
    """Takes the place of the optimizer of bitsandbytes where that is not installed. Its states have 32 bits."""


def test_8_bit_adam_is_the_optimizer_of_bitsandbytes(data, monkeypatch, tmp_path):
    command_line = arguments(data, "train_flow_completion", tmp_path, use_8bit_adam=True, validation_data_dir=None)
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(ImportError, match="pip install bitsandbytes"):
            train_flow_completion.main(command_line)
        module = types.ModuleType("bitsandbytes")
        module.__spec__ = importlib.machinery.ModuleSpec("bitsandbytes", None)
        module.optim = types.SimpleNamespace(AdamW8bit=FakeAdamW8bit)
        monkeypatch.setitem(sys.modules, "bitsandbytes", module)
    import bitsandbytes

    made, make = [], bitsandbytes.optim.AdamW8bit

    def record(*given, **named):
        made.append(make(*given, **named))
        return made[-1]

    monkeypatch.setattr(bitsandbytes.optim, "AdamW8bit", record)
    assert train_flow_completion.main(command_line) == 0
    assert made[0].state and made[0].param_groups[0]["betas"] == (0.9, 0.99)
    expected = logged(tmp_path, "loss")
    assert len(set(expected.values())) == 4
    shutil.rmtree(tmp_path / "checkpoint-4")
    assert train_flow_completion.main([*command_line, "--resume_from_checkpoint", "latest"]) == 0
    assert len(made) == 2 and logged(tmp_path, "loss") == pytest.approx(expected, rel=1e-5)
