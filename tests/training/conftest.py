"""Fixtures of the tests of training."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import train_autoencoder
import train_flow_completion
import train_future_frame
from accelerate.state import AcceleratorState
from diffusers import AutoencoderDC
from transformers import Dinov2Config, Dinov2Model

from support.tiny_models import make_pipeline
from support.training_runs import arguments, write_training_data


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A folder with clips, a photograph, model configs and an untrained autoencoder."""
    root = tmp_path_factory.mktemp("data")
    write_training_data(root)
    return root


@pytest.fixture(scope="session")
def image_encoder(tmp_path_factory) -> Path:
    """The folder of a tiny image encoder with random weights."""
    folder = tmp_path_factory.mktemp("image_encoder")
    torch.manual_seed(3)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, patch_size=14, image_size=56
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def start(data, tmp_path_factory) -> Path:
    """A pipeline folder with random weights."""
    folder = tmp_path_factory.mktemp("start") / "model"
    make_pipeline(vae=AutoencoderDC.from_pretrained(data / "vae")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory) -> dict[str, Path]:
    """The output folders of the three component scripts after four steps, by the names of the scripts."""
    outputs = {}
    for script in (train_autoencoder, train_flow_completion, train_future_frame):
        name = script.__name__
        outputs[name] = tmp_path_factory.mktemp(name)
        assert script.main(arguments(data, name, outputs[name])) == 0
    return outputs


@pytest.fixture
def another_precision() -> Iterator[None]:
    """Lets a test use mixed precision: accelerate keeps one precision for a whole process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()
