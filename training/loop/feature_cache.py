"""The semantic features of the frames of all clips, encoded once and kept in files beside the latents.

Each shard becomes a folder with one array. The name of the folder above depends on the weights of the image encoder
and on the size at which it sees images. So features of different encoders never mix, and latents stay as they are.
"""

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import Dinov2Model

from mcdiff_pipeline import semantic_features
from mcdiff_pipeline.dataset import ClipDataset


# Part of the name of every folder. A new layout of the array needs a new number.
FEATURE_CACHE_VERSION = 1
# Name of the array, float16 `[clips, steps, C, h', w']`: features of each frame that is the first of a pair.
FEATURES = "features.npy"
# Frames that are encoded together.
BATCH_SIZE = 16


def add_feature_drop_argument(parser: argparse._ActionsContainer) -> None:
    """Adds the share of the samples that are trained without features."""
    parser.add_argument(
        "--feature_drop_probability",
        type=float,
        default=0.1,
        help="Share of the samples without features, for a model that reads them.",
    )


def load_image_encoder(folder: str, device: torch.device | str) -> Dinov2Model:
    """The image encoder from its folder, frozen, in float32.

    Raises:
        ValueError: if the folder has no config of a model.
    """
    if not Path(folder, "config.json").is_file():
        raise ValueError(
            f"{folder} has no config.json, so it is no image encoder; give the folder that "
            "training/tools/build_image_encoder.py wrote."
        )
    image_encoder = Dinov2Model.from_pretrained(folder, dtype=torch.float32)
    return image_encoder.to(device).requires_grad_(False).eval()


def features_folder(cache_dir: str | Path, image_encoder: Dinov2Model) -> Path:
    """The folder of an image encoder in the cache, named by the hash of its weights and of the size of its input."""
    weights = hashlib.sha256(f"{semantic_features.ENCODED_SIZE} {image_encoder.config.patch_size}".encode())
    for name, tensor in sorted(image_encoder.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return Path(cache_dir, f"features-v{FEATURE_CACHE_VERSION}-{weights.hexdigest()[:16]}")


def encode_features(image_encoder: Dinov2Model, frames: np.ndarray) -> np.ndarray:
    """Features float16 `[N, C, h', w']` of uint8 frames `[N, H, W, 3]`, as the pipeline computes them.

    In bfloat16 on a GPU, and on a CPU that has instructions for it.
    """
    device = next(image_encoder.parameters()).device
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).to(device).float().div(255)
    has_bfloat16 = device.type != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16):
        features = semantic_features.encode_features(image_encoder, images)
    return features.float().cpu().numpy().astype(np.float16)


def encode_shard_features(
    folder: Path, shard: Path, image_encoder: Dinov2Model, watch: Callable[[float], object]
) -> None:
    """Encodes the frames of one shard into `FEATURES`. Short clips are padded with zeros.

    The last frame of a clip is never the first of a pair and is left out. Frames that are equal, as the first frames
    of clips from one photograph, are encoded once. `watch` is called with the share of the frames that are encoded.
    """
    dataset = ClipDataset([shard])
    steps = [dataset.num_frames(clip) - 1 for clip in range(len(dataset))]
    places: dict[bytes, list[tuple[int, int]]] = {}  # hash of a frame -> where it is
    for clip, number in enumerate(steps):
        for t in range(number):
            try:
                frame = dataset.read(clip, (t,)).frames[0]
            except ValueError:  # the cache of latents has named this clip, and left it out
                break
            places.setdefault(hashlib.sha256(frame.tobytes()).digest(), []).append((clip, t))
    features, distinct = None, list(places.values())
    for first in range(0, len(distinct), BATCH_SIZE):
        batch = distinct[first : first + BATCH_SIZE]
        frames = np.stack([dataset.read(clip, (t,)).frames[0] for (clip, t), *_ in batch])
        encoded = encode_features(image_encoder, frames)
        if features is None:
            shape = (len(dataset), max(steps), *encoded.shape[1:])
            features = np.lib.format.open_memmap(folder / FEATURES, "w+", np.float16, shape)
        for values, same in zip(encoded, batch):
            for clip, t in same:
                features[clip, t] = values
        watch(min(first + BATCH_SIZE, len(distinct)) / len(distinct))
    if features is None:
        raise ValueError(f"The shard {shard} has no clip of two frames, so there is nothing to encode; leave it out.")
    features.flush()
