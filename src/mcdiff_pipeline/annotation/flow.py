"""Dense optical flow of real frames: RAFT and DIS behind one interface, and where their flow is to be believed.

RAFT (Teed & Deng, ECCV 2020) is torchvision's; DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search",
ECCV 2016) is OpenCV's, needs no weights and runs on any CPU. Both come with the extra `annotation`.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ..flow import backward_warp, resize_flow


ESTIMATORS = ("raft_large", "raft_small", "dis")
# Number formats of RAFT by their names in torch.
DTYPES = ("float32", "float16", "bfloat16")
# RAFT works at an eighth of the picture's size, and its coarsest correlations need two values there.
RAFT_MULTIPLE, RAFT_SMALLEST = 8, 128
# OpenCV finds no scale to start from in pictures that are smaller (it needs 12; this keeps a margin for its patches).
DIS_SMALLEST = 16


class FlowEstimator(Protocol):
    """What makes flow out of two frames.

    Attributes:
        description: all that the flow depends on beside the frames, for the meta of clips: library and version,
            weights, settings, for RAFT the device. JSON.
    """

    description: dict[str, Any]

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Flow from each frame of `first` to the same one of `second`.

        Args:
            first, second: uint8 `[B, H, W, 3]`, RGB, of any size.

        Returns:
            float32 `[B, 2, H, W]`, pixels; channel 0 to the right, channel 1 down.

        Raises:
            ValueError: if a shape or a dtype is not as above.
        """
        ...

    def there_and_back(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """The flow from each frame of a clip to the next, then from each but the first to the one before.

        Each is computed when it is asked for: the first may show that the second is not needed.

        Args:
            frames: uint8 `[T, H, W, 3]`, RGB, of any size.

        Yields:
            `np.ndarray`: twice, float32 `[T - 1, 2, H, W]`, what calls of the estimator give.

        Raises:
            ValueError: with the first, if the shape or the dtype is not as above.
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
    """An estimator of optical flow by its name.

    Args:
        name (`str`): `raft_large` or `raft_small` (torchvision), or `dis` (OpenCV).
        weights (`str` or `os.PathLike`, *optional*): of RAFT: a member of torchvision's `Raft_Large_Weights` or
            `Raft_Small_Weights`, such as `C_T_V2` or `DEFAULT`, which torchvision downloads; or a state dict, as a
            `.safetensors` or `.pth` file or as the folder that `training/train_optical_flow.py` wrote.
        device (`str` or `torch.device`, *optional*): where RAFT runs, the CPU if None. DIS runs on the CPU.
        dtype (`torch.dtype`, *optional*): `torch.float16` or `torch.bfloat16` for RAFT's convolutions (autocast);
            None computes in float32. DIS has one way to compute.

    Returns:
        `FlowEstimator`: the same frames give the same flow: DIS bit for bit, RAFT bit for bit on one machine, with
            the same device and number of threads.

    Raises:
        ValueError: if the name or the weights are unknown, do not fit together or cannot be had.
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
            raise ValueError(f"`weights` is {str(weights)!r}, but 'dis' has none: leave them out or choose a RAFT.")
        return DisFlow()
    if dtype not in (None, *(getattr(torch, known) for known in DTYPES)):
        raise ValueError(f"`dtype` is {dtype}, but RAFT runs in {', '.join(f'torch.{known}' for known in DTYPES)}.")
    return RaftFlow(name, weights, device=device or "cpu", dtype=dtype or torch.float32)


class RaftFlow(FlowEstimator):
    """RAFT of torchvision with its usual 12 updates; arguments as of `load_flow_estimator`.

    Frames whose sides are no multiples of 8 or below 128 pixels, which torchvision refuses, are continued beyond their
    borders by their outermost pixels. All others give what torchvision's model gives.
    """

    def __init__(
        self, name: str, weights: str | os.PathLike | None, *, device: str | torch.device, dtype: torch.dtype
    ) -> None:
        torchvision = _import("torchvision", f"'{name}'")
        known = torchvision.models.get_model_weights(name).__members__
        if weights is None:
            raise ValueError(
                f"'{name}' needs `weights`: give one of {', '.join(known)}, which is downloaded, or the path of a "
                "state dict; 'dis' is the estimator that needs none."
            )
        model = torchvision.models.get_model(name, weights=None)
        upsampling = 1
        if str(weights) in known:
            member = known[str(weights)]
            identity = member.name
            try:
                state = member.get_state_dict(progress=False, check_hash=True)
            except OSError as error:
                raise ValueError(
                    f"The weights {identity} of '{name}' cannot be downloaded: {error}; fetch {member.url} elsewhere "
                    "and give the path of the file as `weights`."
                ) from error
            model.load_state_dict(state)
        else:
            path = Path(weights)
            if path.is_dir():
                path = path / "model.safetensors"
                config = path.with_name("config.json")
                upsampling = json.loads(config.read_text())["upsampling"] if config.is_file() else 1
            if not path.is_file():
                raise ValueError(
                    f"`weights` is {str(weights)!r}, which is no file, no folder with a model.safetensors and none of "
                    f"{', '.join(known)}."
                )
            identity = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            try:
                if path.suffix == ".safetensors":
                    state = load_file(path)
                else:
                    state = torch.load(path, map_location="cpu", weights_only=True)
                model.load_state_dict(state)
            # What is no state dict of this model fails in as many ways as there are kinds of files.
            except Exception as error:
                raise ValueError(
                    f"`weights` {str(weights)!r} is not a state dict of torchvision's {name}: {error}"
                ) from error
        self.device, self.dtype, self.upsampling = torch.device(device), dtype, upsampling
        self.model = model.to(self.device).eval()
        self.description = {
            "name": name,
            "library": f"torchvision {torchvision.__version__}",
            "weights": identity,
            "dtype": str(dtype).removeprefix("torch."),
            "upsampling": upsampling,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type,
        }

    @torch.inference_mode()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        _check_frames(first, second)
        size = first.shape[1:3]
        # As torchvision's preset: [0, 1] first, then [-1, 1].
        frames = torch.from_numpy(np.concatenate([first, second])).to(self.device).permute(0, 3, 1, 2).float()
        frames = (frames / 255 - 0.5) / 0.5  # [2B, 3, H, W]
        if self.upsampling > 1:
            frames = F.interpolate(frames, scale_factor=self.upsampling, mode="bilinear")
        left, right, top, bottom = _padding(frames.shape[2:])
        frames = F.pad(frames, (left, right, top, bottom), mode="replicate")
        first_frames, second_frames = (part.contiguous() for part in frames.chunk(2))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            flow = self.model(first_frames, second_frames)[-1].float()
        height, width = flow.shape[2:]
        flow = flow[:, :, top : height - bottom, left : width - right]
        return resize_flow(flow, size).cpu().numpy()


class DisFlow(FlowEstimator):
    """DIS of OpenCV, on enlarged frames.

    Among all presets and the factors 1, 2, 3, 4, 6 and 8, the defaults came within 1 % of the least end-point error on
    the body (0.86 pixels at 128, 1.49 at 256, rendered people of the validation split) in little more than half the
    time of the best; `benchmarks/optical_flow.py` has the command.

    Args:
        preset: `ultrafast`, `fast` or `medium`, OpenCV's names.
        upsampling: frames are enlarged by this, which shows small things to patches of 8 x 8 pixels.
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

    def there_and_back(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        _check_frames(frames, frames)
        enlarged = list(map(self._enlarged, frames))  # once, where two calls would do it up to four times
        shape = len(frames) - 1, *frames.shape[1:]
        yield self._flow(enlarged[:-1], enlarged[1:], shape)
        yield self._flow(enlarged[1:], enlarged[:-1], shape)

    def _enlarged(self, frame: np.ndarray) -> np.ndarray:
        """What DIS looks at: uint8 gray, of at least `DIS_SMALLEST` pixels to each side."""
        gray = self._cv2.cvtColor(np.ascontiguousarray(frame), self._cv2.COLOR_RGB2GRAY)
        gray = self._cv2.resize(
            gray, None, fx=self.upsampling, fy=self.upsampling, interpolation=self._cv2.INTER_LINEAR
        )
        return np.pad(gray, [(0, max(0, DIS_SMALLEST - length)) for length in gray.shape], mode="edge")

    def _flow(self, first: Iterable[np.ndarray], second: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Flow between enlarged frames, for frames of shape `[B, H, W, 3]`."""
        height, width = shape[1:3]
        flow = np.empty((shape[0], 2, height, width), dtype=np.float32)
        for number, pair in enumerate(zip(first, second)):
            found = torch.from_numpy(self.estimator.calc(*pair, None)).permute(2, 0, 1)[None]
            found = found[:, :, : height * self.upsampling, : width * self.upsampling]
            flow[number] = resize_flow(found, (height, width))[0]
        return flow


def forward_backward_consistency(forward: np.ndarray, backward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the flow there and the flow back again do not end where they began, something is hidden, or wrong.

    With w the forward flow and w' the backward flow where w ends, a pixel is occluded if
    `|w + w'|² > 0.01 (|w|² + |w'|²) + 0.5` (Sundaram, Brox & Keutzer, "Dense point trajectories by GPU-accelerated
    large displacement optical flow", ECCV 2010), or if w leaves the picture.

    Args:
        forward: float32 `[B, 2, H, W]`, flow in pixels from the first frames to the second.
        backward: float32 `[B, 2, H, W]`, flow in pixels from the second frames to the first.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: occlusion, bool `[B, H, W]`, pixels of the first frames; and confidence,
            float32 `[B, H, W]`, 1 where both flows agree, 1/2 where the two sides of the inequality are equal, and 0
            outside the picture. The latter is ours: `2 ** -(left side / right side)`, so that it is below 1/2 exactly
            where the pixel is occluded.

    Raises:
        ValueError: if the two are not flow of one shape.
    """
    for name, flow in (("forward", forward), ("backward", backward)):
        if flow.ndim != 4 or flow.shape[1] != 2 or flow.shape != forward.shape:
            raise ValueError(
                f"`{name}` has shape {flow.shape}, but [B, 2, H, W], the same for both directions, is needed."
            )
    occlusion = leaves_picture(forward)
    confidence = np.empty(occlusion.shape, dtype=np.float32)
    # Pair by pair, what is computed on the way stays in the processor's caches.
    for number, (there, back_again) in enumerate(zip(forward, backward)):
        back = backward_warp(torch.from_numpy(back_again)[None], torch.from_numpy(there)[None])[0].numpy()
        gap = np.square(there + back).sum(axis=0)
        allowed = 0.01 * (np.square(there).sum(axis=0) + np.square(back).sum(axis=0)) + 0.5
        np.exp2(-gap / allowed, out=confidence[number])
        confidence[number][occlusion[number]] = 0
        occlusion[number] |= gap > allowed
    return occlusion, confidence


def leaves_picture(flow: np.ndarray) -> np.ndarray:
    """Where flow leads out of the picture.

    Args:
        flow: float32 `[B, 2, H, W]`, pixels.

    Returns:
        bool `[B, H, W]`; True, too, where the flow is no number.
    """
    height, width = flow.shape[2:]
    # Pixel x covers [x, x + 1): its center leaves the picture half a pixel beyond the outermost centers. The room that
    # is left is exact in float32, where the place that is reached would be rounded.
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    u, v = flow[:, 0], flow[:, 1]
    return ~((u >= -0.5 - x) & (u < width - 0.5 - x) & (v >= -0.5 - y) & (v < height - 0.5 - y))


def _import(module: str, needed_by: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{needed_by} needs {module}, which cannot be imported ({error}); "
            "pip install 'mcdiff-pipeline[annotation]' brings it."
        ) from error


def _check_frames(first: np.ndarray, second: np.ndarray) -> None:
    for name, frames in (("first", first), ("second", second)):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or frames.shape != first.shape:
            raise ValueError(
                f"`{name}` is {frames.dtype} {list(frames.shape)}, but uint8 [B, H, W, 3], the same shape for both, "
                "is needed."
            )


def _padding(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixels to add on the left, right, top and bottom, shared between both sides, for RAFT to take the picture."""
    height, width = size
    padding = []
    for length in (width, height):
        missing = max(RAFT_SMALLEST, -(-length // RAFT_MULTIPLE) * RAFT_MULTIPLE) - length
        padding += [missing // 2, missing - missing // 2]
    return tuple(padding)
