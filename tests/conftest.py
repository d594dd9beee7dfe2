"""Fixtures shared by all tests."""

import numpy as np
import PIL.Image
import pytest
import torch

from mcdiff_commands.main import main
from mcdiff_pipeline import MCDiffPipeline
from support.tiny_models import make_pipeline


@pytest.fixture(autouse=True)
def threads():
    """Commands set the number of PyTorch's threads, on which the last bits of later results depend."""
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


@pytest.fixture
def tiny_pipeline() -> MCDiffPipeline:
    return make_pipeline()


@pytest.fixture
def tiny_model_dir(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "tiny-model")
    return tmp_path / "tiny-model"


@pytest.fixture
def image(wide_image: PIL.Image.Image) -> PIL.Image.Image:
    return wide_image


@pytest.fixture
def wide_image() -> PIL.Image.Image:
    """48 x 40 pixels of smooth color with some detail."""
    y, x = np.mgrid[0:40, 0:48] / 48
    pixels = np.stack([x, y, (np.sin(20 * x) * np.cos(20 * y) + 1) / 2], axis=-1)
    return PIL.Image.fromarray((pixels * 255).astype(np.uint8))


@pytest.fixture
def mcdiff(capsys):
    """Runs the command in this process; returns exit code, stdout and stderr."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
