"""Fixtures shared by the tests of training."""

import pytest
from training_runs import write_training_data


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Clips, a photograph, model configs and an untrained autoencoder."""
    root = tmp_path_factory.mktemp("data")
    write_training_data(root)
    return root
