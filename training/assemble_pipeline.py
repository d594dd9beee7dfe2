#!/usr/bin/env python
"""Puts trained components together into one pipeline folder that `MCDiffPipeline.from_pretrained` loads.

    python training/assemble_pipeline.py --vae runs/autoencoder/vae \\
        --flow_completion runs/flow_completion/flow_completion --unet runs/future_frame/unet \\
        --scheduler runs/future_frame/scheduler --output_dir runs/mcdiff-small-128

What G is given beside the noise is read from the `training_arguments.json` of its run. Leave `--flow_completion` out
for a G that was trained with `--no_flow_completion`.

Weights are stored in half precision, which halves the download; loading gives them in the precision that is asked for.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderDC, AutoencoderKL, DDIMScheduler, ModelMixin, UNet2DConditionModel
from loop.latent_cache import load_vae
from loop.publishing import add_hub_arguments, describe_training, open_repository, push_pipeline, run_folder
from transformers import CLIPTextModel, CLIPTokenizer

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.pipeline_mcdiff import DENSE_FLOW_CONDITIONS


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", required=True, help="Folder of the autoencoder.")
    parser.add_argument("--flow_completion", default=None, help="Folder of F.")
    parser.add_argument("--unet", required=True, help="Folder of G, in the output folder of train_future_frame.py.")
    parser.add_argument("--scheduler", required=True, help="Folder of the scheduler that G was trained with.")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--default_size", type=int, default=128, help="Side of the square with the default area.")
    parser.add_argument("--default_frames", type=int, default=16)
    parser.add_argument("--default_steps", type=int, default=2)
    add_hub_arguments(parser)
    return parser.parse_args(arguments)


def trained_with(unet: str) -> dict:
    """The arguments of the run whose output folder, or a checkpoint in it, holds the folder of G.

    Raises:
        ValueError: if there are none.
    """
    run = run_folder(unet)
    if run is None:
        raise ValueError(
            f"--unet {unet}: no training_arguments.json in the folder above says what G was trained with; name the "
            "folder in the output of train_future_frame.py."
        )
    return json.loads((run / "training_arguments.json").read_text())


def load_pipeline(folder: str | Path, vae: AutoencoderDC | AutoencoderKL) -> MCDiffPipeline:
    """The pipeline of a folder around an autoencoder that is loaded already, to train on.

    Not by `from_pretrained`, so that the models have the precision and layout that training gives them.
    """
    config = MCDiffPipeline.load_config(folder)
    others = {}
    if config["flow_completion"][0] is not None:
        others["flow_completion"] = FlowCompletionUNet.from_pretrained(folder, subfolder="flow_completion")
    if config["text_encoder"][0] is not None:
        others["text_encoder"] = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").to(vae.device)
        others["tokenizer"] = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    pipe = MCDiffPipeline(
        vae=vae,
        unet=UNet2DConditionModel.from_pretrained(folder, subfolder="unet"),
        scheduler=DDIMScheduler.from_pretrained(folder, subfolder="scheduler"),
        **{"flow_completion": None} | others,
        **{name: value for name, value in config.items() if name.startswith("default_")},
        conditioning=config["conditioning"],
        flow_scale=config["flow_scale"],
        residual_condition=config.get("residual_condition"),
        residual_scale=config.get("residual_scale", 1.0),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_pipeline(pipe: MCDiffPipeline, output_dir: str | Path) -> None:
    """Writes a pipeline folder, all or nothing, in half precision; the pipeline is left in half precision, too."""
    for part in pipe.components.values():
        if isinstance(part, ModelMixin):
            part.register_to_config(_name_or_path=Path(output_dir).name)  # not the folder it was trained in
    atomic_folder(output_dir, pipe.to(torch.float16).save_pretrained)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    trained = trained_with(args.unet)
    needs_flow = any(name in DENSE_FLOW_CONDITIONS for name in trained["conditioning"])
    if needs_flow != (args.flow_completion is not None):
        raise ValueError(
            f"--unet {args.unet} was trained {'with' if needs_flow else 'without'} dense flow, so "
            f"--flow_completion {'has to name the folder of F' if needs_flow else 'has no use; leave it out'}."
        )
    repository = open_repository(args, whole_pipeline=True)
    flow_completion = None
    if args.flow_completion is not None:
        flow_completion = FlowCompletionUNet.from_pretrained(args.flow_completion)
    pipe = MCDiffPipeline(
        vae=load_vae(args.vae, "cpu"),
        flow_completion=flow_completion,
        unet=UNet2DConditionModel.from_pretrained(args.unet),
        scheduler=DDIMScheduler.from_pretrained(args.scheduler),
        conditioning=trained["conditioning"],
        flow_scale=trained["flow_scale"],
        residual_condition=trained.get("residual_condition"),
        residual_scale=trained.get("residual_scale") or 1.0,
        default_height=args.default_size,
        default_width=args.default_size,
        default_num_frames=args.default_frames,
        default_num_inference_steps=args.default_steps,
    )
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
