"""A file with the structure of a pose model, but without its weights."""

import zipfile
from pathlib import Path

from mcdiff_pipeline.annotation.pose_model import NETWORKS


def write_bundle(path: Path) -> Path:
    """Writes a zip file with the members of a pose model; returns the path."""
    with zipfile.ZipFile(path, "w") as archive:
        for network in NETWORKS:
            archive.writestr(network, b"weights")
    return path
