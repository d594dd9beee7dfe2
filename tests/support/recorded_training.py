"""Trains a tiny autoencoder and writes down which samples each process was given, for tests of several processes."""

import argparse
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderDC
from loop.trainer import SeededDraws, add_training_arguments, check_training_arguments, make_accelerator, train
from support.training_runs import VAE_CONFIG
from train_autoencoder import AutoencoderLoss


NUM_ITEMS = 16


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_training_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    # Noise and shifts are drawn by each process for itself, so that with them two are not exactly as one.
    args.latent_noise, args.shift_equivariance, args.gradient_weight = 0.0, 0.0, 0.5
    accelerator = make_accelerator(args)
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    def load(index, rng):
        return {"item": index, "picture": torch.from_numpy(rng.uniform(-1, 1, (3, 16, 16)).astype("float32"))}

    torch.manual_seed(0)
    vae = AutoencoderDC(**VAE_CONFIG)
    with open(Path(args.output_dir, f"samples-{accelerator.process_index}.jsonl"), "a") as record:

        def compute_loss(model, batch):
            values = batch["picture"][:, 0, 0, 0].tolist()
            record.write(json.dumps(list(zip(batch["item"].tolist(), values))) + "\n")
            return model(batch["picture"])

        return train(
            accelerator=accelerator,
            args=args,
            name="vae",
            model=AutoencoderLoss(vae, args),
            draws=SeededDraws(NUM_ITEMS, load, args.seed),
            compute_loss=compute_loss,
            parts={"vae": vae},
        )


def recorded(output_dir: Path) -> list[list[list[float]]]:
    """For each step of a run, the samples of all processes in their order, each as its item and its first value."""
    processes = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(Path(output_dir).glob("samples-*.jsonl"))
    ]
    return [sum(batches, []) for batches in zip(*processes, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
