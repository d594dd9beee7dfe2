# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""LPIPS, FID and FVD: metrics of the literature whose weights come with no package.

Each is offered only where its weights lie on this machine already. Nothing here downloads, and nothing stands in for
what is missing: a metric that cannot be had is absent, and says why. Files are known by their names; that they hold
what their names say is up to whoever put them there.
"""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import torch
import torch.nn.functional as F

from .image import check_pictures


# LPIPS was calibrated on patches of this size.
LPIPS_SMALLEST = 64
# I3D's last pooling takes two frames after its strides have divided time by eight; users of the file report ten as the
# fewest that it takes.
FVD_FEWEST_FRAMES = 10
# I3D was trained on frames of this height and width.
FVD_SIZE = 224


def _hub_file(metric: str, url: str) -> Path:
    """Where torch.hub keeps what it downloads from there, if it is there; with a FileNotFoundError otherwise."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        raise FileNotFoundError(f"{metric} needs weights that are not on this machine: put {url} at {path}.")
    return path


def lpips_weights() -> Path:
    """The file with torchvision's AlexNet; the weights of LPIPS itself come with torchmetrics.

    Raises:
        ImportError: if torchmetrics or torchvision is missing.
        FileNotFoundError: if the file is; says what to put where.
    """
    try:
        import torchmetrics.image.lpip  # noqa: F401
        from torchvision.models import AlexNet_Weights
    except ModuleNotFoundError as error:
        raise ImportError(f'LPIPS needs {error.name}: `pip install "mcdiff-pipeline[evaluation]"`.') from error
    # torchmetrics asks torchvision for these, and torchvision asks torch.hub, which downloads only if this file is
    # not there.
    return _hub_file("LPIPS", AlexNet_Weights.DEFAULT.url)


def fid_weights() -> Path:
    """The file with the Inception network of Heusel et al., as torch-fidelity converted it.

    Raises:
        ImportError: if torch-fidelity is missing.
        FileNotFoundError: if the file is; says what to put where.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except ModuleNotFoundError as error:
        raise ImportError(f'FID needs {error.name}: `pip install "mcdiff-pipeline[evaluation]"`.') from error
    return _hub_file("FID", URL_INCEPTION_V3)


def fvd_weights(path: str | os.PathLike | None) -> Path:
    """The TorchScript file with I3D, trained on Kinetics-400, that StyleGAN-V measures FVD with.

    Args:
        path (`str` or `os.PathLike`): where the user says that it is. None if nothing was said.

    Raises:
        FileNotFoundError: if it is not there; says what to put where.
    """
    if path is None or not Path(path).is_file():
        raise FileNotFoundError(
            "FVD needs the file i3d_torchscript.pt of StyleGAN-V (https://github.com/universome/fvd-comparison): "
            + ("get it and name its path." if path is None else f"there is no file {os.fspath(path)}.")
        )
    return Path(path)


def available_metrics(i3d: str | os.PathLike | None = None) -> dict[str, str | None]:
    """Which of LPIPS, FID and FVD can be had. Looks for files and packages only; never downloads.

    Args:
        i3d (`str` or `os.PathLike`, *optional*): the file that FVD needs, see `fvd_weights`.

    Returns:
        `dict[str, str | None]`: by name, None where the metric can be had, else a sentence on what to put where.
    """
    needed: dict[str, Callable[[], Path]] = {
        "LPIPS": lpips_weights,
        "FID": fid_weights,
        "FVD": lambda: fvd_weights(i3d),
    }
    reasons = {}
    for name, find in needed.items():
        try:
            find()
            reasons[name] = None
        except (ImportError, FileNotFoundError) as error:
            reasons[name] = str(error)
    return reasons


class LPIPS:
    """The perceptual distance of Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep
    Features as a Perceptual Metric", CVPR 2018: version 0.1 with AlexNet, as torchmetrics computes it.

    Args:
        device (`torch.device` or `str`, defaults to "cpu"): where it runs. Pictures are moved there.

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
            `torch.Tensor`: float32 `[B]`, 0 or more, lower is nearer, 0 for identical pictures.

        Raises:
            ValueError: if shapes, dtypes or ranges are not as above.
        """
        check_pictures(output, target, LPIPS_SMALLEST)
        distances = self.metric(output.to(self.device, torch.float32), target.to(self.device, torch.float32))
        self.metric.reset()  # else it keeps the distances of every call
        return distances.reshape(len(output))


class InceptionFeatures:
    """The features whose `frechet_distance` is FID (Heusel et al., NeurIPS 2017), as torch-fidelity computes them:
    from 8-bit pictures, resized to 299 x 299 pixels as TensorFlow 1 did.

    Args:
        device (`torch.device` or `str`, defaults to "cpu"): where the network runs. Pictures are moved there.

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
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features of each picture.

        Args:
            pictures (`torch.Tensor`): `[B, 3, H, W]` in [0, 1].

        Returns:
            `torch.Tensor`: float32 `[B, 2048]`.

        Raises:
            ValueError: if shape, dtype or range is not as above.
        """
        check_pictures(pictures, pictures)
        return self.network((pictures.to(self.device) * 255).round().to(torch.uint8))[0]


class I3DFeatures:
    """The features whose `frechet_distance` is FVD (Unterthiner et al., "Towards Accurate Generative Models of Video",
    2018): the 400 logits of I3D, from frames resized to 224 x 224 pixels without regard to their aspect.

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
        """Features of each video. FVD is usually measured on 16 frames, and only equal lengths are comparable.

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
        pictures = videos.flatten(0, 1)
        check_pictures(pictures, pictures)
        pictures = F.interpolate(pictures.to(self.device, torch.float32), (FVD_SIZE, FVD_SIZE), mode="bilinear")
        videos = (2 * pictures - 1).unflatten(0, videos.shape[:2]).transpose(1, 2)  # [B, 3, N, 224, 224]
        # The network can take 8-bit values and resize by itself, and is told that neither is wanted.
        return self.network(videos, rescale=False, resize=False, return_features=True)
