"""Trains RAFT-small (Teed & Deng, ECCV 2020) from random weights: optical flow between two frames.

    python train_optical_flow.py --train_data_dir clips/people clips/objects --validation_data_dir clips/people \\
        --output_dir runs/raft --max_train_minutes 80 --train_batch_size 6 --mixed_precision bf16 --use_ema

The network is torchvision's `raft_small` (`pip install -e ".[annotation,training]"`). The loss and the schedule are as
in the paper. The trained model is the folder `output_dir/raft_small`, for `mcdiff annotate --flow-weights`.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torchvision.models.optical_flow import raft_small
from torchvision.transforms.v2 import functional as transforms

from loop.accelerator import make_accelerator
from loop.arguments import add_training_arguments, check_training_arguments
from loop.draws import SeededDraws
from loop.trainer import Trainer
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.flow import resize_flow


# Weight of the i-th of N predictions is GAMMA ** (N - i) (RAFT, section 3.3).
GAMMA = 0.8
# Pixels that move further than this, in pixels, do not count in the loss, as in the paper's training program.
MAX_FLOW = 400.0
# Standard deviation, in pixels, of the shift between the two crops of a pair; see `--shifted_share`.
SHIFT = 10.0
# Updates of the flow in validation; in training, see `--num_flow_updates`.
VALIDATION_FLOW_UPDATES = 12


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_argument_group("clips")
    group.add_argument("--train_data_dir", nargs="+", required=True, help="Folders of clip shards (split train).")
    group.add_argument("--validation_data_dir", nargs="*", default=[], help="Folders of clip shards, of any sizes.")
    group.add_argument("--validation_split", default="validation")
    group.add_argument("--num_validation_samples", type=int, default=100)
    parser.add_argument("--crop_size", type=int, default=144, help="Pixels, a multiple of 8 and at least 128.")
    parser.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=(0.8, 2.2),
        metavar=("LEAST", "MOST"),
        help="Frames are resized by a random factor in this range before they are cropped.",
    )
    parser.add_argument(
        "--shifted_share",
        type=float,
        default=0.7,
        help="Share of the samples in which the second frame is cropped at another place, as if the camera moved. "
        "Without this, most pixels of rendered clips are still, and a network that predicts zero flow does not learn.",
    )
    parser.add_argument(
        "--num_flow_updates", type=int, default=8, help="Updates of the flow in training; validation has 12."
    )
    parser.add_argument(
        "--upsampling",
        type=int,
        default=3,
        help="Frames are enlarged by this factor in validation and in annotation, which reads it from config.json. "
        "The network has one flow vector per 8 x 8 pixels, and the arms of a person 128 pixels high are thinner.",
    )
    add_training_arguments(parser)
    # The settings of RAFT: one cycle with linear annealing, little weight decay.
    parser.set_defaults(learning_rate=4e-4, lr_scheduler="linear", adam_beta2=0.999, adam_weight_decay=1e-4)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    if args.crop_size % 8 or args.crop_size < 128:
        raise ValueError(
            f"--crop_size is {args.crop_size}, but RAFT needs a multiple of 8 that is at least 128, such as 144."
        )
    return args


class RaftSmall(torch.nn.Module):
    """torchvision's `raft_small`, with the methods of a diffusers model that the training loop needs.

    Args:
        description (`dict`, *optional*): further entries of `config.json`, as JSON values.
    """

    def __init__(self, description: dict[str, Any] | None = None):
        super().__init__()
        self.network = raft_small()
        self.description = description or {}

    def forward(self, first: torch.Tensor, second: torch.Tensor, num_flow_updates: int) -> list[torch.Tensor]:
        """Flow `[B, 2, H, W]` in pixels after each update, of two frames `[B, 3, H, W]` in [-1, 1]."""
        return self.network(first, second, num_flow_updates=num_flow_updates)

    def save_pretrained(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        save_file(weights, Path(folder, "model.safetensors"))
        config = {"architecture": "torchvision.models.optical_flow.raft_small", **self.description}
        Path(folder, "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path, subfolder: str = "") -> Self:
        model = cls()
        model.network.load_state_dict(load_file(Path(folder, subfolder, "model.safetensors")))
        return model


class FramePair(NamedTuple):
    """Two consecutive frames.

    frames: uint8 `[2, 3, H, W]`.
    flow: float32 `[2, H, W]` in pixels, from the first frame to the second.
    mask: uint8 `[H, W]` of the first frame, 0 = background.
    """

    frames: torch.Tensor
    flow: torch.Tensor
    mask: torch.Tensor


class FramePairs:
    """Pairs of consecutive frames with their flow, from one split of some folders.

    Damaged clips are named on stderr. Instead of a damaged pair, the next pair that can be read is given.

    Raises:
        ValueError: by `pairs[index]`, if no pair can be read.
    """

    def __init__(self, data_dirs: list[str], split: str):
        self.datasets = [ClipDataset(folder, split) for folder in data_dirs]
        self.pairs = [
            (number, clip, t)
            for number, dataset in enumerate(self.datasets)
            for clip in range(len(dataset))
            for t in range(dataset.num_frames(clip) - 1)
        ]
        self._told: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> FramePair:
        error = None
        for place in itertools.chain(range(index, len(self)), range(index)):
            number, clip, t = self.pairs[place]
            try:
                piece = self.datasets[number].read(clip, (t, t + 1))
            except ValueError as damage:
                error = damage
                if (number, clip) not in self._told:
                    self._told.add((number, clip))
                    print(f"Skipped: {error}", file=sys.stderr)
                continue
            frames = torch.from_numpy(piece.frames).permute(0, 3, 1, 2)
            return FramePair(frames, torch.from_numpy(piece.flow[0]), torch.from_numpy(piece.masks[0]))
        raise ValueError("No pair of frames can be read: all clips are damaged.") from error


def random_crop(
    frames: torch.Tensor,
    flow: torch.Tensor,
    crop_size: int,
    scale: tuple[float, float],
    shifted_share: float,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random crop of a pair, shifted, resized and mirrored.

    Args:
        frames (`torch.Tensor`): uint8 `[2, 3, H, W]`.
        flow (`torch.Tensor`): float32 `[2, H, W]` in pixels, from the first frame to the second.
        crop_size (`int`): height and width of the result, in pixels.
        scale (`tuple[float, float]`): smallest and largest factor of resizing. Frames that would be smaller than the
            crop are enlarged more.
        shifted_share (`float`): probability that the second frame is cropped at another place.

    Returns:
        Frames, float32 `[2, 3, crop_size, crop_size]` in [0, 1], and their flow, float32 in pixels of the result.
    """
    # Cropping before resizing gives the same image for a fraction of the work.
    zoom = np.exp(rng.uniform(*np.log(scale)))
    stretch = 2 ** rng.uniform(-0.2, 0.2)
    height, width = flow.shape[1:]
    rows = min(round(crop_size / (zoom * stretch)), height)
    columns = min(round(crop_size / (zoom / stretch)), width)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    down = right = 0
    if rng.random() < shifted_share:
        down = np.clip(round(rng.normal(0, SHIFT / zoom)), -top, height - rows - top)
        right = np.clip(round(rng.normal(0, SHIFT / zoom)), -left, width - columns - left)
    windows = ((top, left), (top + down, left + right))
    frames = [frame[:, y : y + rows, x : x + columns] for frame, (y, x) in zip(frames, windows)]
    frames = torch.stack(frames).float().div(255)
    flow = flow[:, top : top + rows, left : left + columns] - torch.tensor([right, down])[:, None, None]
    size = (crop_size, crop_size)
    frames = F.interpolate(frames, size, mode="bilinear", antialias=True)
    # Nearest, since flow on an outline is the flow of the person or of the background, not a mean of both.
    flow = F.interpolate(flow[None], size, mode="nearest-exact")[0]
    flow = flow * torch.tensor([crop_size / columns, crop_size / rows])[:, None, None]
    for axis, probability in ((2, 0.5), (1, 0.1)):
        if rng.random() < probability:
            frames, flow = frames.flip(axis + 1), flow.flip(axis)
            flow[2 - axis] *= -1
    return frames, flow


def disturb(frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Changes the colors of frames `[2, 3, H, W]` in [0, 1], adds noise, and covers rectangles of the second frame."""
    # In one of five cases the two frames have different light.
    if rng.random() < 0.2:
        frames = torch.stack([recolor(frame, rng) for frame in frames])
    else:
        frames = recolor(frames, rng)
    noise = torch.from_numpy(rng.standard_normal(frames.shape, dtype=np.float32))
    frames = (frames + noise * rng.uniform(0, 0.02)).clamp(0, 1)

    # Occlusions: rectangles of the second frame get its mean color.
    if rng.random() < 0.5:
        height, width = frames.shape[2:]
        for _ in range(rng.integers(1, 3)):
            rows, columns = rng.integers(height // 8, height // 3), rng.integers(width // 8, width // 3)
            top, left = rng.integers(height - rows), rng.integers(width - columns)
            frames[1, :, top : top + rows, left : left + columns] = frames[1].mean(dim=(1, 2))[:, None, None]
    return frames


def recolor(frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Random brightness, contrast, saturation and hue, with the ranges of RAFT's training."""
    frames = transforms.adjust_brightness(frames, rng.uniform(0.6, 1.4))
    frames = transforms.adjust_contrast(frames, rng.uniform(0.6, 1.4))
    frames = transforms.adjust_saturation(frames, rng.uniform(0.6, 1.4))
    return transforms.adjust_hue(frames, rng.uniform(-0.16, 0.16))


def sequence_loss(predictions: list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """Equation 7 of RAFT: weighted L1 distances of all predictions `[B, 2, H, W]` to the target.

    Later predictions have larger weights.
    """
    known = target.norm(dim=1, keepdim=True) < MAX_FLOW
    loss = target.new_zeros(())
    for number, prediction in enumerate(reversed(predictions)):
        loss = loss + GAMMA**number * ((prediction.float() - target).abs() * known).mean()
    return loss


class OpticalFlowTraining:
    """RAFT-small with its training pairs, loss and validation.

    A sample has `frames`, float32 `[2, 3, S, S]` in [-1, 1], and `flow`, float32 `[2, S, S]` in pixels.
    """

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator):
        self.args, self.accelerator = args, accelerator
        self.pairs = FramePairs(args.train_data_dir, "train")
        accelerator.print(f"{len(self.pairs)} pairs of frames to train on.")
        torch.manual_seed(args.seed)
        self.model = RaftSmall({"upsampling": args.upsampling})
        self.draws = SeededDraws(len(self.pairs), self.load_sample, args.seed)
        self.validation_pairs = FramePairs(args.validation_data_dir, args.validation_split)
        order = np.random.default_rng(1).permutation(len(self.validation_pairs))
        self.validation_indices = order[: args.num_validation_samples].tolist()

    def load_sample(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        args, pair = self.args, self.pairs[index]
        frames, flow = random_crop(pair.frames, pair.flow, args.crop_size, args.scale, args.shifted_share, rng)
        return {"frames": disturb(frames, rng) * 2 - 1, "flow": flow}

    def compute_loss(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        predictions = model(batch["frames"][:, 0], batch["frames"][:, 1], self.args.num_flow_updates)
        loss = sequence_loss(predictions, batch["flow"])
        with torch.no_grad():
            error = (predictions[-1].float() - batch["flow"]).norm(dim=1).mean()
        return loss, {"end_point_error": error}

    def predict(self, model: RaftSmall, frames: torch.Tensor) -> torch.Tensor:
        """The flow `[2, H, W]` in pixels between two uint8 frames `[2, 3, H, W]`."""
        size = [length * self.args.upsampling for length in frames.shape[2:]]
        enlarged = F.interpolate(frames.float(), size, mode="bilinear").div(127.5).sub(1).to(self.accelerator.device)
        with self.accelerator.autocast():
            prediction = model(enlarged[:1], enlarged[1:], VALIDATION_FLOW_UPDATES)[-1].float().cpu()
        return resize_flow(prediction, frames.shape[2:])[0]

    def validate(self, model: RaftSmall, step: int) -> dict[str, float]:
        """Mean end-point errors in pixels of the model and of zero flow, over pixels on bodies and off bodies."""
        places = ("body", "off_body")
        errors = {f"epe_{place}_{name}": 0.0 for place in places for name in ("model", "zero")}
        pixels = dict.fromkeys(places, 0)
        for pair in map(self.validation_pairs.__getitem__, self.validation_indices):
            prediction = self.predict(model, pair.frames)
            for place, where in zip(places, (pair.mask > 0, pair.mask == 0)):
                errors[f"epe_{place}_model"] += float((prediction - pair.flow).norm(dim=0)[where].sum())
                errors[f"epe_{place}_zero"] += float(pair.flow.norm(dim=0)[where].sum())
                pixels[place] += int(where.sum())
        return {
            f"epe_{place}_{name}": errors[f"epe_{place}_{name}"] / max(pixels[place], 1)
            for place in places
            for name in ("model", "zero")
        }


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    accelerator = make_accelerator(args)
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    training = OpticalFlowTraining(args, accelerator)
    status = Trainer(
        accelerator,
        args,
        name="raft_small",
        model=training.model,
        draws=training.draws,
        compute_loss=training.compute_loss,
        validate=training.validate if training.validation_indices else None,
    ).train()

    if accelerator.is_main_process:
        atomic_folder(Path(args.output_dir, "raft_small"), training.model.save_pretrained)
    return status


if __name__ == "__main__":
    sys.exit(main())
