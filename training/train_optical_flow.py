"""Trains RAFT-small (Teed & Deng, ECCV 2020) from random weights: from two frames to dense optical flow.

    python train_optical_flow.py --train_data_dir clips/people clips/objects --validation_data_dir clips/people \\
        --output_dir runs/raft --max_train_minutes 80 --train_batch_size 6 --mixed_precision bf16 --use_ema

The network is torchvision's `raft_small` (`pip install -e ".[annotation,training]"`), the loss and the schedule are
the paper's. The trained model is the folder `output_dir/raft_small`, which `--flow_weights` of `annotate_videos.py`
takes.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from loop.trainer import SeededDraws, add_training_arguments, check_training_arguments, make_accelerator, train
from safetensors.torch import load_file, save_file
from torchvision.models.optical_flow import raft_small
from torchvision.transforms.v2 import functional as transforms

from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.flow import resize_flow


# Weight of the i-th of N predictions is GAMMA ** (N - i) (RAFT, section 3.3).
GAMMA = 0.8
# Pixels that move further than this are left out of the loss, as in the paper's training program.
MAX_FLOW = 400.0
# Standard deviation in pixels of the shift between the two pieces of a pair that `--shifted_share` speaks of.
SHIFT = 10.0


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
        help="Frames are resized by a random factor in between before they are cropped.",
    )
    parser.add_argument(
        "--shifted_share",
        type=float,
        default=0.7,
        help="In this share of the samples the second frame is cut elsewhere, as if the camera moved. Without it "
        'most of a rendered picture stands still, and a network that answers "nothing moves" does not learn.',
    )
    parser.add_argument("--num_flow_updates", type=int, default=8, help="Refinements in training; 12 in validation.")
    parser.add_argument(
        "--upsampling",
        type=int,
        default=3,
        help="Frames are enlarged by this in validation and, as config.json says, wherever the model is used: its "
        "flow has one vector for 8 x 8 pixels, and arms of a person 128 pixels high are thinner than that.",
    )
    add_training_arguments(parser)
    # The recipe of RAFT: one cycle with linear annealing, little weight decay.
    parser.set_defaults(learning_rate=4e-4, lr_scheduler="linear", adam_beta2=0.999, adam_weight_decay=1e-4)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    if args.crop_size % 8 or args.crop_size < 128:
        raise ValueError(
            f"--crop_size is {args.crop_size}, but RAFT needs a multiple of 8 that is at least 128, such as 144."
        )
    return args


class RaftSmall(torch.nn.Module):
    """torchvision's `raft_small` with the two methods by which the training loop writes and reads a model's folder.

    Args:
        description: what `config.json` says beside the architecture; anything that JSON can hold.
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


class FramePairs:
    """Pairs of consecutive frames of a split of some folders, with their flow.

    Item `i` is a tuple: frames uint8 `[2, 3, H, W]`, flow float32 `[2, H, W]` in pixels, mask of the first frame uint8
    `[H, W]` (0 = background).
    """

    def __init__(self, data_dirs: list[str], split: str):
        self.datasets = [ClipDataset(folder, split) for folder in data_dirs]
        self.pairs = [
            (number, clip, t)
            for number, dataset in enumerate(self.datasets)
            for clip in range(len(dataset))
            for t in range(dataset.num_frames(clip) - 1)
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        number, clip, t = self.pairs[index]
        piece = self.datasets[number].read(clip, (t, t + 1))
        frames = torch.from_numpy(piece.frames).permute(0, 3, 1, 2)
        return frames, torch.from_numpy(piece.flow[0]), torch.from_numpy(piece.masks[0])


def random_piece(
    frames: torch.Tensor,
    flow: torch.Tensor,
    crop_size: int,
    scale: tuple[float, float],
    shifted_share: float,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random piece of a pair, shifted, resized and mirrored.

    Args:
        frames: uint8 `[2, 3, H, W]`.
        flow: float32 `[2, H, W]` in pixels, from the first frame to the second.
        crop_size: height and width of the result, in pixels.
        scale: least and most that the frames are resized by; what would be too small for the crop is enlarged more.
        shifted_share: probability that the second frame is cut elsewhere.

    Returns:
        Frames, float32 `[2, 3, crop_size, crop_size]` in [0, 1], and their flow, float32 in pixels of the result.
    """
    # The piece is cut first and resized afterwards: the same picture for a fraction of the work.
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
    # Nearest: between a person and the background there is no motion in between.
    flow = F.interpolate(flow[None], size, mode="nearest-exact")[0]
    flow = flow * torch.tensor([crop_size / columns, crop_size / rows])[:, None, None]
    for axis, probability in ((2, 0.5), (1, 0.1)):
        if rng.random() < probability:
            frames, flow = frames.flip(axis + 1), flow.flip(axis)
            flow[2 - axis] *= -1
    return frames, flow


def disturb(frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Recolors frames `[2, 3, H, W]` in [0, 1], adds noise and covers pieces of the second one."""
    # In one case of five the two frames are lit differently.
    if rng.random() < 0.2:
        frames = torch.stack([_recolor(frame, rng) for frame in frames])
    else:
        frames = _recolor(frames, rng)
    noise = torch.from_numpy(rng.standard_normal(frames.shape, dtype=np.float32))
    frames = (frames + noise * rng.uniform(0, 0.02)).clamp(0, 1)

    # Things that vanish: rectangles of the second frame in its mean color.
    if rng.random() < 0.5:
        height, width = frames.shape[2:]
        for _ in range(rng.integers(1, 3)):
            rows, columns = rng.integers(height // 8, height // 3), rng.integers(width // 8, width // 3)
            top, left = rng.integers(height - rows), rng.integers(width - columns)
            frames[1, :, top : top + rows, left : left + columns] = frames[1].mean(dim=(1, 2))[:, None, None]
    return frames


def _recolor(frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Random brightness, contrast, saturation and hue, of the widths that RAFT's training uses."""
    frames = transforms.adjust_brightness(frames, rng.uniform(0.6, 1.4))
    frames = transforms.adjust_contrast(frames, rng.uniform(0.6, 1.4))
    frames = transforms.adjust_saturation(frames, rng.uniform(0.6, 1.4))
    return transforms.adjust_hue(frames, rng.uniform(-0.16, 0.16))


def sequence_loss(predictions: list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """Equation 7 of RAFT: L1 distances of all predictions `[B, 2, H, W]` to the target, later ones counting more."""
    known = target.norm(dim=1, keepdim=True) < MAX_FLOW
    loss = target.new_zeros(())
    for number, prediction in enumerate(reversed(predictions)):
        loss = loss + GAMMA**number * ((prediction.float() - target).abs() * known).mean()
    return loss


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    accelerator = make_accelerator(args)
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    pairs = FramePairs(args.train_data_dir, "train")
    accelerator.print(f"{len(pairs)} pairs of frames to train on.")
    torch.manual_seed(args.seed)
    model = RaftSmall({"upsampling": args.upsampling})

    def load(index, rng):
        frames, flow, _ = pairs[index]
        frames, flow = random_piece(frames, flow, args.crop_size, args.scale, args.shifted_share, rng)
        return {"frames": disturb(frames, rng) * 2 - 1, "flow": flow}

    def compute_loss(model, batch):
        predictions = model(batch["frames"][:, 0], batch["frames"][:, 1], args.num_flow_updates)
        loss = sequence_loss(predictions, batch["flow"])
        with torch.no_grad():
            error = (predictions[-1].float() - batch["flow"]).norm(dim=1).mean()
        return loss, {"end_point_error": error}

    validation = FramePairs(args.validation_data_dir, args.validation_split) if args.validation_data_dir else []
    chosen = np.random.default_rng(1).permutation(len(validation))[: args.num_validation_samples]

    def validate(model, step):
        sums = np.zeros((2, 3))  # body, off the body; error, length of the flow, pixels
        for index in chosen.tolist():
            frames, flow, mask = validation[index]
            size = [length * args.upsampling for length in flow.shape[1:]]
            enlarged = F.interpolate(frames.float(), size, mode="bilinear").div(127.5).sub(1).to(accelerator.device)
            with accelerator.autocast():
                prediction = model(enlarged[:1], enlarged[1:], 12)[-1].float().cpu()
            prediction = resize_flow(prediction, flow.shape[1:])[0]
            for row, where in enumerate((mask > 0, mask == 0)):
                for column, difference in enumerate((prediction - flow, flow)):
                    sums[row, column] += float(difference.norm(dim=0)[where].sum())
                sums[row, 2] += int(where.sum())
        errors = sums[:, :2] / sums[:, 2:].clip(1)
        return {
            f"epe_{place}_{name}": errors[row, column]
            for row, place in enumerate(("body", "off_body"))
            for column, name in enumerate(("model", "zero"))
        }

    status = train(
        accelerator=accelerator,
        args=args,
        name="raft_small",
        model=model,
        draws=SeededDraws(len(pairs), load, args.seed),
        compute_loss=compute_loss,
        validate=validate if len(chosen) else None,
    )
    if accelerator.is_main_process:
        atomic_folder(Path(args.output_dir, "raft_small"), model.save_pretrained)
    return status


if __name__ == "__main__":
    sys.exit(main())
