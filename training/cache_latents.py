"""Encodes the frames of all clips once, for the training of flow completion and of future-frame prediction.

With `--image_encoder`, also the semantic features that flow completion reads.

    python training/cache_latents.py --train_data_dir clips --pretrained_vae runs/autoencoder/vae --cache_dir cache

The training scripts do this themselves for clips that are not in the cache. Run it alone to encode on another machine,
or before several trainings start.
"""

import argparse
import sys

import torch

from loop.autoencoder import load_vae
from loop.feature_cache import load_image_encoder
from loop.latent_cache import open_latent_clips


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_data_dir", nargs="+", required=True, help="Folders of clip shards.")
    parser.add_argument("--splits", nargs="+", default=["train", "validation"])
    parser.add_argument("--pretrained_vae", required=True, help="Folder of the trained autoencoder.")
    parser.add_argument("--cache_dir", required=True, help="Folder for the latents.")
    parser.add_argument("--image_encoder", default=None, help="Folder of the image encoder, for semantic features.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    image_encoder = None if args.image_encoder is None else load_image_encoder(args.image_encoder, device)
    vae = load_vae(args.pretrained_vae, device)
    for split in args.splits:
        clips = open_latent_clips(args.train_data_dir, split, vae, args.cache_dir, image_encoder=image_encoder)
        print(f"{split}: {len(clips)} pairs of frames.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
