from pathlib import Path

import pytest


@pytest.fixture(params=[".mp4", ".webm", ".gif", ".mkv"])
def path(request, tmp_path) -> Path:
    """The path of a video that does not exist yet, for each format."""
    return tmp_path / f"clip{request.param}"
