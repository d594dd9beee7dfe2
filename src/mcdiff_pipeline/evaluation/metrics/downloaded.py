# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""LPIPS, FID and FVD: standard metrics whose weights come with no package.

Each metric is available only if its weights are already on this machine. This module downloads nothing, and never
replaces a missing metric by another one. It says which file is missing. Files are found by their names; their content
is not checked.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import torch
import torch.nn.functional as F

from .image import check_images


# LPIPS was calibrated on patches of this size.
LPIPS_SMALLEST = 64
# I3D divides the number of frames by eight, and its last pooling needs two. Users of the file report that it needs at
# least ten frames.
FVD_FEWEST_FRAMES = 10
# I3D was trained on frames of this height and width.
FVD_SIZE = 224


def _hub_file(metric: str, url: str) -> Path:
    """The file in which torch.hub stores the download of this address; raises `FileNotFoundError` if it is missing."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        raise FileNotFoundError(f"{metric} needs weights that are not on this machine: put {url} at {path}.")
    return path


def lpips_weights() -> Path:
    """The file with torchvision's AlexNet. The other weights of LPIPS come with torchmetrics.

    Raises:
        ImportError: if torchmetrics or torchvision is missing.
        FileNotFoundError: if the file is missing; the message says which file belongs where.
    """
    try:
        import torchmetrics.image.lpip  # noqa: F401
        from torchvision.models import AlexNet_Weights
    except ModuleNotFoundError as error:
        raise ImportError(f'LPIPS needs {error.name}: `pip install "mcdiff-pipeline[evaluation]"`.') from error
    # torchmetrics loads these weights through torchvision and torch.hub, which downloads them only if this file is
    # missing.
    return _hub_file("LPIPS", AlexNet_Weights.DEFAULT.url)


def fid_weights() -> Path:
    """The file with the Inception network of Heusel et al., converted by torch-fidelity.

    Raises:
        ImportError: if torch-fidelity is missing.
        FileNotFoundError: if the file is missing; the message says which file belongs where.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except ModuleNotFoundError as error:
        raise ImportError(f'FID needs {error.name}: `pip install "mcdiff-pipeline[evaluation]"`.') from error
    return _hub_file("FID", URL_INCEPTION_V3)


def fvd_weights(path: str | os.PathLike | None) -> Path:
    """The TorchScript file with I3D, trained on Kinetics-400, with which StyleGAN-V measures FVD.

    Args:
        path (`str` or `os.PathLike`): the path that the user gave, or None.

    Raises:
        FileNotFoundError: if the file is missing; the message says where to get it.
    """
    if path is None or not Path(path).is_file():
        raise FileNotFoundError(
            "FVD needs the file i3d_torchscript.pt of StyleGAN-V (https://github.com/universome/fvd-comparison): "
            + ("get it and name its path." if path is None else f"there is no file {os.fspath(path)}.")
        )
    return Path(path)


def available_metrics(i3d: str | os.PathLike | None = None) -> dict[str, str | None]:
    """Which of LPIPS, FID and FVD are available. Looks for files and packages only; never downloads.

    Args:
        i3d (`str` or `os.PathLike`, *optional*): the file that FVD needs, see `fvd_weights`.

    Returns:
        `dict[str, str | None]`: None for an available metric, otherwise a sentence that says which file belongs where.
    """
    needed: dict[str, Callable[[], Path]] = {
        "LPIPS": lpips_weights,
        "FID": fid_weights,
        "FVD": functools.partial(fvd_weights, i3d),
    }
    reasons: dict[str, str | None] = {}
    for name, find in needed.items():
        try:
            find()
            reasons[name] = None
        except (ImportError, FileNotFoundError) as error:
            reasons[name] = str(error)
    return reasons


class LPIPS:
    """LPIPS: Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual
    Metric", CVPR 2018. Version 0.1 with AlexNet, as torchmetrics computes it.

    Args:
        device (`torch.device` or `str`, defaults to "cpu"): where the network runs. Images are moved there.

    Raises:
        ImportError, FileNotFoundError: see `lpips_weights`.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        lpips_weights()
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        self.device = device
        self.metric = LearnedPerceptualImagePatchSimilarity("alex", reduction="none", normalize=True).to(device)

    @torch.no_grad()
    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The perceptual distance of each pair.

        Args:
            output, target (`torch.Tensor`): `[B, 3, H, W]` in [0, 1], at least 64 x 64 pixels.

        Returns:
            `torch.Tensor`: float32 `[B]`, 0 or more, lower is nearer, 0 for identical images.

        Raises:
            ValueError: if shapes, dtypes or ranges are not as above.
        """
        check_images(output, target, LPIPS_SMALLEST)
        distances = self.metric(output.to(self.device, torch.float32), target.to(self.device, torch.float32))
        self.metric.reset()  # otherwise it keeps the distances of all calls
        return distances.reshape(len(output))


class InceptionFeatures:
    """The features with which `frechet_distance` is FID (Heusel et al., NeurIPS 2017), computed by torch-fidelity.

    Images are converted to 8 bits, and resized to 299 x 299 pixels by the method of TensorFlow 1.

    Args:
        device (`torch.device` or `str`, defaults to "cpu"): where the network runs. Images are moved there.

    Raises:
        ImportError, FileNotFoundError: see `fid_weights`.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        weights = fid_weights()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.device = device
        self.network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
        ).to(device)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Features of each image.

        Args:
            images (`torch.Tensor`): `[B, 3, H, W]` in [0, 1].

        Returns:
            `torch.Tensor`: float32 `[B, 2048]`.

        Raises:
            ValueError: if shape, dtype or range is not as above.
        """
        check_images(images, images)
        return self.network((images.to(self.device) * 255).round().to(torch.uint8))[0]


class I3DFeatures:
    """The features with which `frechet_distance` is FVD: the 400 logits of I3D (Unterthiner et al., "Towards Accurate
    Generative Models of Video", 2018).

    Frames are resized to 224 x 224 pixels; their aspect ratio is not kept.

    Args:
        path (`str` or `os.PathLike`): the file, see `fvd_weights`.
        device (`torch.device` or `str`, defaults to "cpu"): where the network runs. Videos are moved there.

    Raises:
        FileNotFoundError: if the file is missing.
    """

    def __init__(self, path: str | os.PathLike, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.network = torch.jit.load(fvd_weights(path), map_location=device).eval()

    @torch.no_grad()
    def __call__(self, videos: torch.Tensor) -> torch.Tensor:
        """Features of each video. FVD is usually measured on 16 frames. Compare only videos of equal length.

        Args:
            videos (`torch.Tensor`): `[B, N, 3, H, W]` in [0, 1], at least 10 frames each.

        Returns:
            `torch.Tensor`: float32 `[B, 400]`.

        Raises:
            ValueError: if shape, dtype or range is not as above, or the videos are too short.
        """
        if videos.ndim != 5 or videos.shape[1] < FVD_FEWEST_FRAMES:
            raise ValueError(
                f"FVD needs videos [B, N, 3, H, W] of at least {FVD_FEWEST_FRAMES} frames, not {list(videos.shape)}."
            )
        frames = videos.flatten(0, 1)
        check_images(frames, frames)
        frames = F.interpolate(frames.to(self.device, torch.float32), (FVD_SIZE, FVD_SIZE), mode="bilinear")
        videos = (2 * frames - 1).unflatten(0, videos.shape[:2]).transpose(1, 2)  # [B, 3, N, 224, 224]
        # The network can rescale and resize by itself; here both are done already.
        return self.network(videos, rescale=False, resize=False, return_features=True)
