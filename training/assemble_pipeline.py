#!/usr/bin/env python
"""Puts trained components together into one pipeline folder that `MCDiffPipeline.from_pretrained` loads.

    python training/assemble_pipeline.py --vae runs/autoencoder/vae \\
        --flow_completion runs/flow_completion/flow_completion --unet runs/future_frame/unet \\
        --scheduler runs/future_frame/scheduler --output_dir runs/mcdiff-small-128

Weights are stored in half precision, which halves the download; loading gives them in the precision that is asked for.
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from latent_cache import load_vae
from training_loop import write_folder

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.pipeline_mcdiff import CONDITIONING_CHANNELS


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", required=True, help="Folder of the autoencoder.")
    parser.add_argument("--flow_completion", required=True, help="Folder of F.")
    parser.add_argument("--unet", required=True, help="Folder of G.")
    parser.add_argument("--scheduler", required=True, help="Folder of the scheduler that G was trained with.")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument(
        "--conditioning",
        nargs="+",
        default=list(CONDITIONING_CHANNELS),
        choices=list(CONDITIONING_CHANNELS),
        help="What G was trained with, in the same order; by default what train_future_frame.py takes by default.",
    )
    parser.add_argument("--flow_scale", type=float, default=1.0, help="What G was trained with.")
    parser.add_argument("--default_size", type=int, default=128, help="Side of the square with the default area.")
    parser.add_argument("--default_frames", type=int, default=16)
    parser.add_argument("--default_steps", type=int, default=2)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    pipe = MCDiffPipeline(
        vae=load_vae(args.vae, "cpu"),
        flow_completion=FlowCompletionUNet.from_pretrained(args.flow_completion),
        unet=UNet2DConditionModel.from_pretrained(args.unet),
        scheduler=DDIMScheduler.from_pretrained(args.scheduler),
        conditioning=args.conditioning,
        flow_scale=args.flow_scale,
        default_height=args.default_size,
        default_width=args.default_size,
        default_num_frames=args.default_frames,
        default_num_inference_steps=args.default_steps,
    )
    for component in (pipe.vae, pipe.flow_completion, pipe.unet):
        component.register_to_config(_name_or_path=Path(args.output_dir).name)  # not the folder it was trained in
    write_folder(args.output_dir, pipe.to(torch.float16).save_pretrained)
    for name, component in pipe.components.items():
        if isinstance(component, torch.nn.Module):
            print(f"{name}: {sum(p.numel() for p in component.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
