# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The two networks of the Segment Anything Model (SAM, https://arxiv.org/abs/2304.02643) as ONNX graphs.

The *encoder* turns a picture into an embedding. The *decoder* turns an embedding and points into masks. Public exports
agree on the decoder, and differ in the input of the encoder; see [`EncoderInput`].
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .model_folder import DECODER, ENCODER, find_segmenter, read_config


# Names of SAM's own export of the decoder (`scripts/export_onnx_model.py` in facebookresearch/segment-anything).
# `orig_im_size` is missing where an export does not resize the masks.
_DECODER_INPUTS = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size")
_DECODER_OUTPUTS = ("iou_predictions", "low_res_masks")

# Side of the input in pixels, mean and standard deviation of RGB values from 0 to 255: SAM's `Sam.__init__`.
_IMAGE_SIZE = 1024
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

# Side of the grid of masks that go into the decoder, and of those that come out: four cells for each of the 64 cells
# of the embedding.
_GRID = 256

_NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}

# The label of a point that only fills the list: SAM was trained with one if no box is given.
_PADDING_LABEL = -1


@dataclass(frozen=True)
class EncoderInput:
    """How an encoder wants its picture.

    Known exports take either normalized values, channels first, padded to a square (SAM's and MobileSAM's image
    encoder as it is), or values from 0 to 255, channels last or uint8, and normalize and pad by themselves
    (samexporter's `--use-preprocess` and others).

    Args:
        name (`str`): name of the input.
        dtype (`type`): numpy dtype of its values.
        rank (`int`): 4 with a batch axis, 3 without.
        is_channels_last (`bool`): whether the color is the last axis.
        is_square (`bool`): whether the picture is padded to a square; else its shorter side is free.
        size (`int`): the longer side in pixels.
        mean (`tuple[float, float, float]`): of RGB values from 0 to 255; also the color of the padding.
        std (`tuple[float, float, float]`, *optional*): None leaves the normalization to the encoder.
    """

    name: str
    dtype: Any
    rank: int
    is_channels_last: bool
    is_square: bool
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...] | None

    @classmethod
    def of(cls, graph_input: Any, config: dict[str, Any], path: Path) -> "EncoderInput":
        """Recognizes the input of a graph. A field of `config` overrides what is recognized.

        Raises:
            ValueError: if it is none of the known forms.
        """
        shape = [side if isinstance(side, int) else None for side in graph_input.shape]
        is_channels_last = len(shape) in (3, 4) and shape[-1] == 3
        is_channels_first = len(shape) in (3, 4) and shape[-3] == 3
        sides = shape[-3:-1] if is_channels_last else shape[-2:]
        if is_channels_last == is_channels_first or graph_input.type not in _NUMPY_TYPES or sides[0] != sides[1]:
            raise ValueError(
                f"{path} takes {graph_input.type} {graph_input.shape}, but an encoder takes a square picture of three "
                "channels; give an ONNX export of MobileSAM's or SAM's image encoder."
            )
        dtype = _NUMPY_TYPES[graph_input.type]
        if "mean" in config:
            normalizes = config["mean"] is None
        else:
            normalizes = is_channels_last or dtype == np.uint8
        return cls(
            name=graph_input.name,
            dtype=dtype,
            rank=len(shape),
            is_channels_last=is_channels_last,
            is_square=sides[0] is not None or not normalizes,
            size=sides[0] or config.get("image_size", _IMAGE_SIZE),
            mean=tuple(config.get("mean") or _MEAN),
            std=None if normalizes else tuple(config.get("std") or _STD),
        )

    def array(self, picture: torch.Tensor) -> np.ndarray:
        """The picture as the encoder wants it.

        Args:
            picture (`torch.Tensor`): float32 `[3, H, W]` in [0, 1].

        Returns:
            `np.ndarray`: values of the input, in its dtype and with its axes.
        """
        height, width = picture.shape[1:]
        scale = self.size / max(height, width)
        resized = torch.nn.functional.interpolate(
            picture[None],
            size=(max(1, round(height * scale)), max(1, round(width * scale))),
            mode="bilinear",
            antialias=True,
        )[0]
        values = resized.permute(1, 2, 0).numpy() * 255
        mean = np.array(self.mean, dtype=np.float32)
        if self.is_square:
            square = np.broadcast_to(mean, (self.size, self.size, 3)).copy()
            square[: values.shape[0], : values.shape[1]] = values
            values = square
        if self.std is not None:
            values = (values - mean) / np.array(self.std, dtype=np.float32)
        elif self.dtype == np.uint8:
            values = values.round()
        if not self.is_channels_last:
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values if self.rank == 3 else values[None], dtype=self.dtype)


@dataclass(frozen=True)
class Embedding:
    """A picture as the decoder reads it.

    Args:
        features (`np.ndarray`): output of the encoder.
        height (`int`): of the picture in pixels.
        width (`int`): of the picture in pixels.
    """

    features: np.ndarray
    height: int
    width: int


class SamNetworks:
    """Encoder and decoder of a folder, on the CPU, with as many threads as PyTorch has.

    Args:
        folder (`str` or `os.PathLike`, *optional*): contains `encoder.onnx`, `decoder.onnx` and, if
            the defaults are wrong for this encoder, `config.json`; see [`find_segmenter`].

    Attributes:
        encoder_input (`EncoderInput`): how the encoder wants its picture.
        grid_size (`int`): side of the grid of a mask.

    Raises:
        FileNotFoundError: if a network is missing.
        ImportError: if onnxruntime or SciPy is missing.
        ValueError: if a file is not such a network.
    """

    grid_size = _GRID

    def __init__(self, folder: str | os.PathLike | None) -> None:
        folder = find_segmenter(folder)
        config = read_config(folder)
        self._encoder = _load(folder / ENCODER)
        self._decoder = _load(folder / DECODER)
        self.encoder_input = EncoderInput.of(self._encoder.get_inputs()[0], config, folder / ENCODER)
        self._inputs = [one.name for one in self._decoder.get_inputs()]
        outputs = {one.name for one in self._decoder.get_outputs()}
        wrong = {*_DECODER_INPUTS[:-1]} - {*self._inputs} | {*self._inputs} - {*_DECODER_INPUTS}
        wrong |= {*_DECODER_OUTPUTS} - outputs
        if wrong:
            raise ValueError(
                f"{folder / DECODER} has the inputs {', '.join(self._inputs)} and the outputs "
                f"{', '.join(sorted(outputs))}, but the decoder of SAM has {', '.join(_DECODER_INPUTS)} and "
                f"{', '.join(_DECODER_OUTPUTS)}; export it with SAM's scripts/export_onnx_model.py."
            )

    def encode(self, array: np.ndarray, height: int, width: int) -> Embedding:
        """The embedding of a picture of `height` x `width` pixels, given as [`EncoderInput.array`] makes it."""
        names = [output.name for output in self._encoder.get_outputs()]
        name = "image_embeddings" if "image_embeddings" in names else names[0]
        (features,) = self._encoder.run([name], {self.encoder_input.name: array})
        return Embedding(features, height, width)

    def decode(
        self,
        embedding: Embedding,
        points: list[tuple[float, float]],
        labels: list[int],
        previous: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The masks that points ask for.

        Args:
            embedding (`Embedding`): the picture.
            points (`list[tuple[float, float]]`): (x, y) in pixels of the picture.
            labels (`list[int]`): for each point, 1 if it belongs to the thing, 0 if not.
            previous (`np.ndarray`, *optional*): float32 `[h, w]`, logits of an earlier mask that is improved.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: float32 `[num_masks, h, w]`, logits of the masks on the decoder's grid,
            whose longer side is the picture's and whose rest is padding; and float32 `[num_masks]`, the IoU that the
            network predicts for each.
        """
        longer = max(embedding.height, embedding.width)
        scale = self.encoder_input.size / longer
        # SAM counts from the center of the first pixel, and adds 0.5 by itself.
        positions = [(x * scale - 0.5, y * scale - 0.5) for x, y in points] + [(0, 0)]
        values = {
            "image_embeddings": embedding.features,
            "point_coords": np.array([positions], dtype=np.float32),
            "point_labels": np.array([[*labels, _PADDING_LABEL]], dtype=np.float32),
            "mask_input": np.zeros((1, 1, _GRID, _GRID), np.float32) if previous is None else previous[None, None],
            "has_mask_input": np.array([previous is not None], dtype=np.float32),
            # Only the masks on the grid are used, so the resized ones are as small as they can be.
            "orig_im_size": np.array([side / longer * _GRID for side in (embedding.height, embedding.width)]),
        }
        values["orig_im_size"] = values["orig_im_size"].round().clip(1).astype(np.float32)
        iou, logits = self._decoder.run(_DECODER_OUTPUTS, {name: values[name] for name in self._inputs})
        return logits[0], iou[0]


def _load(path: Path) -> Any:
    try:
        import onnxruntime
        import scipy.ndimage  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"Segmentation needs a package that cannot be imported ({error}); "
            "pip install 'mcdiff-pipeline[segmentation]' installs it."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no other base class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} cannot be loaded as an ONNX network ({reason}); export or copy it again.") from error
