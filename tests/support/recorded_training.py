"""Trains a tiny autoencoder and records the samples of each process, for tests of several processes."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC
from train_autoencoder import AutoencoderLoss

from loop.accelerator import make_accelerator
from loop.arguments import add_training_arguments, check_training_arguments
from loop.draws import SeededDraws
from loop.trainer import Trainer
from support.training_runs import VAE_CONFIG


NUM_ITEMS = 16


class RecordedLoss:
    """The loss of the autoencoder, which appends the items and their first values to a file."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        values = batch["picture"][:, 0, 0, 0].tolist()
        with self.path.open("a") as file:
            file.write(json.dumps(list(zip(batch["item"].tolist(), values))) + "\n")
        return model(batch["picture"])


def load_sample(index: int, rng: np.random.Generator) -> dict:
    return {"item": index, "picture": torch.from_numpy(rng.uniform(-1, 1, (3, 16, 16)).astype("float32"))}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_training_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    # Each process draws noise and shifts for itself, so with them two processes would not equal one.
    args.latent_noise, args.shift_equivariance, args.gradient_weight = 0.0, 0.0, 0.5
    accelerator = make_accelerator(args)
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vae = AutoencoderDC(**VAE_CONFIG)
    return Trainer(
        accelerator,
        args,
        name="vae",
        model=AutoencoderLoss(vae, args),
        draws=SeededDraws(NUM_ITEMS, load_sample, args.seed),
        compute_loss=RecordedLoss(Path(args.output_dir, f"samples-{accelerator.process_index}.jsonl")),
        parts={"vae": vae},
    ).train()


def recorded(output_dir: Path) -> list[list[list[float]]]:
    """The samples of each step of a run, of all processes in their order, each as its item and its first value."""
    processes = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(Path(output_dir).glob("samples-*.jsonl"))
    ]
    return [sum(batches, []) for batches in zip(*processes, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
