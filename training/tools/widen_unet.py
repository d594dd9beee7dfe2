"""Widens a Stable Diffusion model to one that takes the conditions of MCDiff, as a start for training.

    python training/tools/widen_unet.py --pretrained_model_name_or_path stable-diffusion \\
        --flow_completion runs/flow_completion/flow_completion --output_dir runs/widened

The new input channels of the UNet have zero weights, so it answers as before until it is trained, by
`train_end_to_end.py`. A model for inpainting has two inputs beside the noise, the mask of what is to be painted and
the rest of the picture; they become the mask of holes and the splatted frame, which mean the same here. F has to read
the latents of the same autoencoder.
"""

import argparse
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.pipeline_mcdiff import conditioning_channels


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pretrained_model_name_or_path", required=True, help="Stable Diffusion, plain or for inpainting."
    )
    parser.add_argument("--flow_completion", required=True, help="Folder of F.")
    parser.add_argument("--start_frame_reference", action="store_true", help="Take the start frame, too.")
    parser.add_argument("--output_dir", required=True)
    return parser.parse_args(arguments)


def widen_conv_in(unet: UNet2DConditionModel, in_channels: int) -> None:
    """Gives the first layer of a UNet more input channels, after those that it has, which change nothing yet."""
    narrow = unet.conv_in
    wide = torch.nn.Conv2d(in_channels, narrow.out_channels, narrow.kernel_size, narrow.stride, narrow.padding)
    wide.to(narrow.weight)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : narrow.in_channels] = narrow.weight
        wide.bias.copy_(narrow.bias)
    unet.conv_in = wide
    unet.register_to_config(in_channels=in_channels)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    folder = args.pretrained_model_name_or_path
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    channels = vae.config.latent_channels
    if unet.config.in_channels == channels:
        conditioning = ["previous_frame", "dense_flow", "splatted_frame", "hole_mask"]
    elif unet.config.in_channels == 2 * channels + 1:
        conditioning = ["hole_mask", "splatted_frame", "previous_frame", "dense_flow"]
    else:
        raise ValueError(
            f"The unet in {folder} takes {unet.config.in_channels} channels, but with latents of {channels} channels "
            f"a plain one takes {channels} and one for inpainting {2 * channels + 1}; give one of these."
        )
    if args.start_frame_reference:
        conditioning.append("start_frame")
    widen_conv_in(unet, channels + conditioning_channels(conditioning, channels))
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
