"""Assembles a pipeline folder for `MCDiffPipeline.from_pretrained` from trained components.

    python training/assemble_pipeline.py --vae runs/autoencoder/vae \\
        --flow_completion runs/flow_completion/flow_completion --unet runs/future_frame/unet \\
        --scheduler runs/future_frame/scheduler --output_dir runs/mcdiff-small-128

An F that was trained with semantic features also needs `--image_encoder`, the folder of
`training/tools/build_image_encoder.py`, or a base model that has it.

The conditions of the unet are read from the `training_arguments.json` of its run. Leave `--flow_completion` out for a
unet that was trained with `--no_flow_completion`.

With `--base_model`, only what is new has to be named. The rest comes from that pipeline:

    python training/assemble_pipeline.py --base_model checkpoints/mcdiff-small-128 \
        --flow_completion runs/flow_completion/flow_completion --output_dir runs/mcdiff-small-128

Weights are stored in half precision, which halves the download. Loading converts them to the precision that is asked
for.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import Dinov2Model

from loop.autoencoder import load_vae
from loop.pipeline_folders import CONDITION_SETTINGS, save_pipeline
from loop.publishing import add_hub_arguments, describe_training, open_repository, push_pipeline, run_folder
from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.conditioning import FrameConditioner
from mcdiff_pipeline.latent_codec import vae_scale_factor
from mcdiff_pipeline.semantic_features import channels_of_features


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--base_model", default=None, help="Folder of a pipeline, which gives the components that are not named."
    )
    parser.add_argument("--vae", default=None, help="Folder of the autoencoder.")
    parser.add_argument("--flow_completion", default=None, help="Folder of flow completion.")
    parser.add_argument("--image_encoder", default=None, help="Folder of the image encoder, if F reads its features.")
    parser.add_argument("--unet", default=None, help="Folder of the unet, in the output of train_future_frame.py.")
    parser.add_argument("--scheduler", default=None, help="Folder of the scheduler that the unet was trained with.")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--default_size", type=int, default=128, help="Side of a square with the default area.")
    parser.add_argument("--default_frames", type=int, default=16)
    parser.add_argument("--default_steps", type=int, default=2)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    if (args.unet is None) != (args.scheduler is None):
        parser.error("--unet and --scheduler belong together; name both, or neither")
    missing = [f"--{name}" for name in ("vae", "unet", "scheduler") if getattr(args, name) is None]
    if args.base_model is None and missing:
        parser.error(f"{', '.join(missing)} is missing; name it, or give --base_model a pipeline that has it")
    return args


def take_components(args: argparse.Namespace) -> dict[str, Any]:
    """Takes the components that the arguments do not name from the base model, and reads how its unet was trained.

    Raises:
        ValueError: if the unet is named, and it is unknown how it was trained.
    """
    settings = None if args.unet is None else training_arguments(args.unet)
    if args.base_model is not None:
        if settings is None:
            settings = dict(MCDiffPipeline.load_config(args.base_model))
            settings["conditioning"] = settings["conditioning"].split(",")
        for name in ("vae", "unet", "scheduler", "flow_completion", "image_encoder"):
            folder = Path(args.base_model, name)
            if getattr(args, name) is None and folder.is_dir():
                setattr(args, name, str(folder))
    return {name: settings[name] for name in CONDITION_SETTINGS if settings.get(name) is not None}


def training_arguments(unet: str) -> dict[str, Any]:
    """The arguments of the run that made the folder of a unet.

    Raises:
        ValueError: if the folder above it has none.
    """
    run = run_folder(unet)
    if run is None:
        raise ValueError(
            f"--unet {unet}: there is no training_arguments.json in the folder above, so the conditions of the unet "
            "are unknown; name the folder in the output of train_future_frame.py."
        )
    return json.loads((run / "training_arguments.json").read_text())


def make_pipeline(args: argparse.Namespace) -> MCDiffPipeline:
    """The pipeline of the components that the arguments name.

    Raises:
        ValueError: if flow completion is missing where the unet needs it, or given where it does not; or if the image
            encoder is given where flow completion does not read its features.
    """
    named_encoder = args.image_encoder
    settings = take_components(args)
    vae = load_vae(args.vae, "cpu")
    conditioner = FrameConditioner(
        **settings, latent_channels=vae.config.latent_channels, vae_scale_factor=vae_scale_factor(vae)
    )
    flow_completion = None
    if conditioner.needs_dense_flow:
        if args.flow_completion is None:
            raise ValueError(
                f"--unet {args.unet} was trained with dense flow, so --flow_completion has to name the folder of flow "
                "completion."
            )
        flow_completion = FlowCompletionUNet.from_pretrained(args.flow_completion)
    elif args.flow_completion is not None:
        raise ValueError(
            f"--unet {args.unet} was trained without dense flow, so --flow_completion has no use; leave it out."
        )
    image_encoder = None
    if channels_of_features(flow_completion) is None:
        if named_encoder is not None:
            raise ValueError(
                f"--image_encoder {named_encoder} has no use, since flow completion reads no features; leave it out."
            )
    elif args.image_encoder is not None:
        image_encoder = Dinov2Model.from_pretrained(args.image_encoder)
    else:
        print(
            "Flow completion reads semantic features, but there is no image encoder, so the pipeline will run without "
            "them, and strokes will move whole things less: give --image_encoder.",
            file=sys.stderr,
        )
    return MCDiffPipeline(
        vae=vae,
        flow_completion=flow_completion,
        unet=UNet2DConditionModel.from_pretrained(args.unet),
        scheduler=DDIMScheduler.from_pretrained(args.scheduler),
        image_encoder=image_encoder,
        **settings,
        default_height=args.default_size,
        default_width=args.default_size,
        default_num_frames=args.default_frames,
        default_num_inference_steps=args.default_steps,
    )


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    pipe = make_pipeline(args)
    repository = open_repository(args, whole_pipeline=True)
    save_pipeline(pipe, args.output_dir)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            print(f"{name}: {sum(p.numel() for p in part.parameters()) / 1e6:.2f} M parameters")
    if repository is not None:
        folders = {"vae": args.vae, "flow_completion": args.flow_completion, "unet": args.unet}
        training = [f"**`{name}`.** {describe_training(folder)}" for name, folder in folders.items() if folder]
        push_pipeline(args.output_dir, "\n\n".join(training), repository)
    return 0


if __name__ == "__main__":
    sys.exit(main())
