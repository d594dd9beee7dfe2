"""Fixtures of the tests of the pipeline."""

import PIL.Image
import pytest


@pytest.fixture
def image(wide_image: PIL.Image.Image) -> PIL.Image.Image:
    """An image in the shape of the default size of tiny models: a call without a size works at 32 x 32 pixels."""
    return wide_image.resize((32, 32))
