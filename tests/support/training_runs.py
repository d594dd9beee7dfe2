"""Tiny clips and command lines of short trainings, for the tests of training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import train_autoencoder
from diffusers import AutoencoderDC
from PIL import Image

from mcdiff_pipeline.dataset import Clip, ShardWriter


TRAINING = Path(train_autoencoder.__file__).parent
SIZE = 32

VAE_CONFIG = {
    "latent_channels": 4,
    "encoder_block_out_channels": [8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8],
    "encoder_layers_per_block": [0, 1, 1],
    "decoder_layers_per_block": [0, 1, 1],
    "encoder_qkv_multiscales": [[], [], []],
    "decoder_qkv_multiscales": [[], [], []],
}
UNET_CONFIG = {
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}


def sliding_square(number: int, num_frames: int) -> Clip:
    """A clip of a square that slides over a still background."""
    rng = np.random.default_rng(number)
    background = np.kron(rng.integers(0, 255, (SIZE // 8, SIZE // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    color, (u, v) = rng.integers(0, 255, 3), rng.integers(1, 4, 2)
    frames = np.repeat(background[None], num_frames, axis=0)
    masks = np.zeros((num_frames, SIZE, SIZE), np.uint8)
    flow = np.zeros((num_frames - 1, 2, SIZE, SIZE), np.float32)
    keypoints = np.zeros((num_frames, 1, 2, 3), np.float32)
    for t in range(num_frames):
        x, y = 4 + u * t, 4 + v * t
        masks[t, y : y + 12, x : x + 12] = 1
        frames[t][masks[t] > 0] = color
        keypoints[t, 0] = [[x + 3, y + 3, 2], [x + 9, y + 9, 2]]
        if t < num_frames - 1:
            flow[t][:, masks[t] > 0] = np.array([[u], [v]])
    return Clip(f"clip_{number}", frames, flow, np.zeros(flow[:, 0].shape, bool), masks, keypoints)


def write_training_data(root: Path) -> None:
    """Writes clips, a photograph, model configs and an untrained autoencoder."""
    for split, count in (("train", 4), ("validation", 2)):
        with ShardWriter(root / "clips", split, clips_per_shard=2) as writer:
            for number in range(count):
                writer.write(sliding_square(number, num_frames=3 + number % 2))
    (root / "photographs").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(root / "photographs/one.jpg")
    (root / "vae.json").write_text(json.dumps({"_class_name": "AutoencoderDC", **VAE_CONFIG}))
    (root / "train_flow_completion.json").write_text(json.dumps(UNET_CONFIG))
    (root / "train_future_frame.json").write_text(json.dumps({**UNET_CONFIG, "mid_block_type": "UNetMidBlock2D"}))
    torch.manual_seed(0)
    AutoencoderDC(**VAE_CONFIG, scaling_factor=1.5).save_pretrained(root / "vae")


def arguments(data: Path, script: str, output_dir: Path, **changes) -> list[str]:
    """The command line of a short run.

    Args:
        changes: arguments with their values, in place of the defaults; None removes an argument.
    """
    common = {"output_dir": output_dir, "train_batch_size": 2, "max_train_steps": 4, "learning_rate": 1e-3}
    common |= {"lr_warmup_steps": 0, "use_ema": True, "logging_steps": 1, "checkpointing_steps": 2, "seed": 7}
    common |= {"report_to": "none"}
    if script == "train_autoencoder":
        own = {"photographs_dir": data / "photographs", "train_data_dir": data / "clips", "patch_size": 32}
        own |= {"model_config": data / "vae.json", "validation_data_dir": data / "clips", "resolution": SIZE}
    else:
        own = {
            "train_data_dir": data / "clips",
            "validation_data_dir": data / "clips",
            "model_config": data / f"{script}.json",
        }
        own |= {"pretrained_vae": data / "vae", "cache_dir": data / "cache"}
        if script == "train_future_frame":
            own["start_picture_reference"] = True
    result = []
    for name, value in (common | own | changes).items():
        if value is not None:
            result += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return result


def launch(script: str, command_line: list[str]) -> subprocess.Popen:
    """Starts a script in its own process."""
    return subprocess.Popen(
        [sys.executable, str(TRAINING / f"{script}.py"), *command_line],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def logged(output_dir: Path, name: str) -> dict[int, float]:
    """The logged values of a name, by step. Of several lines for the same step, the last one counts."""
    lines = [json.loads(line) for line in Path(output_dir, "log.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}
