"""Skips marked tests that this machine cannot run, with the reason, and enables Ctrl-C for all tests."""

import importlib.util
import os
import shutil
import signal
from pathlib import Path


# Several threads do not make tiny models faster. If other programs use the cores, they make them a hundred times
# slower, because threads wait for each other. Processes that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402

from mcdiff_pipeline.annotation.pose_model import find_pose_model  # noqa: E402
from mcdiff_pipeline.segmentation import find_segmenter  # noqa: E402


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EMBEDDED_MODEL = Path(__file__).parent / "checkpoints" / "mcdiff-small-128"
# Files of tests that take longest.
LONGEST = ("test_docs.py", "test_several_processes.py", "test_ray.py")


def pytest_configure() -> None:
    # A shell starts background jobs with Ctrl-C ignored, and children inherit this. The tests of Ctrl-C need it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # With several processes, these would otherwise be the last ones, while the other processes have nothing to do.
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    reasons = {}
    if not torch.cuda.is_available():
        reasons["gpu"] = "needs a CUDA device, and this machine has none"
    if os.environ.get("MCDIFF_TEST_HUB") != "1":
        reasons["hub"] = "talks to the Hugging Face Hub: set MCDIFF_TEST_HUB=1 to run it"
    if not (EMBEDDED_MODEL / "model_index.json").is_file():
        reasons["weights"] = "needs the embedded model, and checkpoints/mcdiff-small-128 is missing"
    if importlib.util.find_spec("playwright") is None or not any(map(shutil.which, BROWSERS)):
        reasons["browser"] = "needs playwright (pip) and Chromium (on Debian: apt-get install chromium)"
    try:
        find_pose_model()
    except FileNotFoundError:
        reasons["pose_model"] = "needs the pose model: `make test` builds it, or set MCDIFF_POSE_MODEL to one"
    try:
        find_segmenter()
    except FileNotFoundError:
        reasons["segmenter"] = "needs the segmenter: `make test` builds it, or set MCDIFF_SEGMENTER to one"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
