"""Makes a model take other conditions, as a start for training: a model of MCDiff, or Stable Diffusion.

    python training/tools/widen_unet.py --pretrained_model_name_or_path runs/mcdiff-small-128 \\
        --conditioning previous_frame dense_flow start_picture start_coverage --output_dir runs/widened
    python training/tools/widen_unet.py --pretrained_model_name_or_path stable-diffusion \\
        --flow_completion runs/flow_completion/flow_completion --output_dir runs/widened

The conditions that a model of MCDiff keeps also keep their weights. New ones have zero weights, others are removed. If
none is removed, the unet gives the same output as before until it is trained further.

The new input channels of Stable Diffusion have zero weights, too, and `train_end_to_end.py` trains the result. An
inpainting model has two inputs in addition to the noise: the mask of the region to paint, and the rest of the image.
They become the mask of holes and the splatted frame, which mean the same here. Flow completion has to be trained on
latents of the same autoencoder.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.conditioning import CONDITIONS, REMOVED_CONDITIONS, FrameConditioner
from mcdiff_pipeline.latent_codec import vae_scale_factor


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pretrained_model_name_or_path",
        required=True,
        help="Pipeline folder of MCDiff, or folder of Stable Diffusion, plain or for inpainting.",
    )
    parser.add_argument(
        "--conditioning",
        nargs="+",
        choices=CONDITIONS,
        default=None,
        metavar="CONDITION",
        help=f"For a model of MCDiff: its new conditions, in this order, out of {', '.join(CONDITIONS)}.",
    )
    parser.add_argument("--flow_completion", default=None, help="For Stable Diffusion: folder of flow completion.")
    parser.add_argument(
        "--start_picture_reference",
        action="store_true",
        help="For Stable Diffusion: add the start picture to the conditions, too.",
    )
    parser.add_argument("--output_dir", required=True)
    args = parser.parse_args(arguments)
    folder = args.pretrained_model_name_or_path
    if is_mcdiff_folder(folder):
        if args.conditioning is None or args.flow_completion or args.start_picture_reference:
            raise ValueError(
                f"{folder} is a model of MCDiff: give --conditioning, and neither --flow_completion nor "
                "--start_picture_reference."
            )
    elif args.conditioning or args.flow_completion is None:
        raise ValueError(f"{folder} is no model of MCDiff: give --flow_completion, and leave --conditioning out.")
    return args


def is_mcdiff_folder(folder: str) -> bool:
    index = Path(folder, "model_index.json")
    return index.is_file() and json.loads(index.read_text())["_class_name"] == "MCDiffPipeline"


def change_conditions(folder: str, conditioning: list[str]) -> MCDiffPipeline:
    """The pipeline of a folder with other conditions. Its own ones may be of an earlier version.

    Raises:
        ValueError: if the condition that the unet denoises the difference from is not one of them.
    """
    config = MCDiffPipeline.load_config(folder)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    latent, names = unet.config.out_channels, config["conditioning"].split(",")
    residual = config.get("residual_condition")
    new = FrameConditioner(conditioning, latent_channels=latent, vae_scale_factor=1, residual_condition=residual)
    sizes = [latent if name in REMOVED_CONDITIONS else new.channels_of(name) for name in names]
    noise, *kept = unet.conv_in.weight.split([latent, *sizes], dim=1)
    kept = dict(zip(names, kept, strict=True))
    shape = unet.conv_in.weight.shape
    added = {name: unet.conv_in.weight.new_zeros(shape[0], new.channels_of(name), *shape[2:]) for name in new.names}
    narrow = unet.conv_in
    unet.conv_in = torch.nn.Conv2d(
        new.in_channels, narrow.out_channels, narrow.kernel_size, narrow.stride, narrow.padding
    )
    with torch.no_grad():
        unet.conv_in.weight.copy_(torch.cat([noise, *(kept.get(name, added[name]) for name in new.names)], dim=1))
        unet.conv_in.bias.copy_(narrow.bias)
    unet.register_to_config(in_channels=new.in_channels)
    return MCDiffPipeline.from_pretrained(folder, unet=unet, conditioning=conditioning)


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


def widen_stable_diffusion(args: argparse.Namespace) -> MCDiffPipeline:
    """The pipeline of a Stable Diffusion folder and of flow completion."""
    folder = args.pretrained_model_name_or_path
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    conditioning = conditioning_of(unet, vae.config.latent_channels, folder)
    if args.start_picture_reference:
        conditioning.append("start_picture")
    conditioner = FrameConditioner(
        conditioning, latent_channels=vae.config.latent_channels, vae_scale_factor=vae_scale_factor(vae)
    )
    widen_conv_in(unet, conditioner.in_channels)
    return MCDiffPipeline(
        vae=vae,
        flow_completion=FlowCompletionUNet.from_pretrained(args.flow_completion),
        unet=unet,
        scheduler=DDIMScheduler.from_pretrained(folder, subfolder="scheduler"),
        text_encoder=CLIPTextModel.from_pretrained(folder, subfolder="text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer"),
        conditioning=conditioning,
    )


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    if args.conditioning is not None:
        pipe = change_conditions(args.pretrained_model_name_or_path, args.conditioning)
    else:
        pipe = widen_stable_diffusion(args)
    atomic_folder(Path(args.output_dir), pipe.save_pretrained)
    channels, names = pipe.unet.config.in_channels, ", ".join(pipe.conditioner.names)
    print(f"{args.output_dir}: the unet takes {channels} channels: noise, {names}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
