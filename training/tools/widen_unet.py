"""Widens a Stable Diffusion model so that it takes the conditions of MCDiff, as a start for training.

    python training/tools/widen_unet.py --pretrained_model_name_or_path stable-diffusion \\
        --flow_completion runs/flow_completion/flow_completion --output_dir runs/widened

The new input channels of the unet have zero weights. So the unet gives the same output as before until
`train_end_to_end.py` trains it. An inpainting model has two inputs in addition to the noise: the mask of the region to
paint, and the rest of the image. They become the mask of holes and the splatted frame, which mean the same here. Flow
completion has to be trained on latents of the same autoencoder.
"""

import argparse
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.conditioning import FrameConditioner
from mcdiff_pipeline.latent_codec import vae_scale_factor


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pretrained_model_name_or_path", required=True, help="Folder of Stable Diffusion, plain or for inpainting."
    )
    parser.add_argument("--flow_completion", required=True, help="Folder of flow completion.")
    parser.add_argument(
        "--start_frame_reference", action="store_true", help="Add the start frame to the conditions, too."
    )
    parser.add_argument("--output_dir", required=True)
    return parser.parse_args(arguments)


def widen_conv_in(unet: UNet2DConditionModel, in_channels: int) -> None:
    """Appends input channels to the first layer of a unet. The new ones have zero weights."""
    narrow = unet.conv_in
    wide = torch.nn.Conv2d(in_channels, narrow.out_channels, narrow.kernel_size, narrow.stride, narrow.padding)
    wide.to(narrow.weight)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : narrow.in_channels] = narrow.weight
        wide.bias.copy_(narrow.bias)
    unet.conv_in = wide
    unet.register_to_config(in_channels=in_channels)


def conditioning_of(unet: UNet2DConditionModel, latent_channels: int, folder: str) -> list[str]:
    """The conditions of a plain model, or of one for inpainting: their order assigns the old channels to conditions.

    Raises:
        ValueError: if the unet has other input channels.
    """
    if unet.config.in_channels == latent_channels:
        return ["previous_frame", "dense_flow", "splatted_frame", "hole_mask"]
    if unet.config.in_channels == 2 * latent_channels + 1:
        return ["hole_mask", "splatted_frame", "previous_frame", "dense_flow"]
    raise ValueError(
        f"The unet in {folder} takes {unet.config.in_channels} channels, but with latents of {latent_channels} "
        f"channels a plain one takes {latent_channels} and one for inpainting {2 * latent_channels + 1}; give one of "
        "these."
    )


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    folder = args.pretrained_model_name_or_path
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    conditioning = conditioning_of(unet, vae.config.latent_channels, folder)
    if args.start_frame_reference:
        conditioning.append("start_frame")
    conditioner = FrameConditioner(
        conditioning, latent_channels=vae.config.latent_channels, vae_scale_factor=vae_scale_factor(vae)
    )
    widen_conv_in(unet, conditioner.in_channels)
    pipe = MCDiffPipeline(
        vae=vae,
        flow_completion=FlowCompletionUNet.from_pretrained(args.flow_completion),
        unet=unet,
        scheduler=DDIMScheduler.from_pretrained(folder, subfolder="scheduler"),
        text_encoder=CLIPTextModel.from_pretrained(folder, subfolder="text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer"),
        conditioning=conditioning,
    )
    atomic_folder(Path(args.output_dir), pipe.save_pretrained)
    print(f"{args.output_dir}: the unet takes {unet.config.in_channels} channels: noise, {', '.join(conditioning)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
