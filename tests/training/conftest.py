"""Fixtures shared by the tests of training."""

import pytest
from accelerate.state import AcceleratorState
from diffusers import AutoencoderDC
from support.tiny_models import make_pipeline
from support.training_runs import write_training_data


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Clips, a photograph, model configs and an untrained autoencoder."""
    root = tmp_path_factory.mktemp("data")
    write_training_data(root)
    return root


@pytest.fixture(scope="session")
def start(data, tmp_path_factory):
    """A pipeline folder with random weights."""
    folder = tmp_path_factory.mktemp("start") / "model"
    make_pipeline(vae=AutoencoderDC.from_pretrained(data / "vae")).save_pretrained(folder)
    return folder


@pytest.fixture
def another_precision():
    """One process has one precision, which accelerate keeps."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()
