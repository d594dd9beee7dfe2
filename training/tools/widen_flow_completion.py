"""Widens flow completion so that it reads regions, as a start for training.

    python training/tools/widen_flow_completion.py --pretrained_model_name_or_path mcdiff-small-128/flow_completion \\
        --output_dir runs/widened_flow_completion

The weights of the new inputs are zero. So the model gives the same output as before until it is trained.
`train_flow_completion.py --reads_regions` does the same at its start; this is for pipeline folders.
"""

import argparse
import sys
from pathlib import Path

from mcdiff_pipeline import FlowCompletionUNet
from mcdiff_pipeline.atomic_files import atomic_folder


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained_model_name_or_path", required=True, help="Folder of flow completion.")
    parser.add_argument(
        "--no_fit", action="store_true", help="Do not add the similarity of the strokes of each region to the inputs."
    )
    parser.add_argument(
        "--sample_size",
        type=int,
        default=None,
        help="Latent cells along one side of the frames that the model was trained on, for a model whose config does "
        "not say it.",
    )
    parser.add_argument("--output_dir", required=True)
    args = parser.parse_args(arguments)
    if args.sample_size is not None and args.sample_size < 1:
        raise ValueError(f"--sample_size is {args.sample_size}; it must be 1 or more.")
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    model = FlowCompletionUNet.from_pretrained(args.pretrained_model_name_or_path)
    widened = FlowCompletionUNet.widened(model, reads_regions=True, fits_regions=not args.no_fit)
    if args.sample_size is not None:
        widened.register_to_config(sample_size=args.sample_size)
    atomic_folder(Path(args.output_dir), widened.save_pretrained)
    print(f"{args.output_dir}: {model.conv_in.in_channels} input channels are now {widened.conv_in.in_channels}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
