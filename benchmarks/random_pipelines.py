"""Pipelines with random weights in the shape of training/configs. Speed and memory do not depend on weights."""

import json
from pathlib import Path

import diffusers
import torch

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.conditioning import FrameConditioner
from mcdiff_pipeline.latent_codec import vae_scale_factor


CONFIGS = Path(__file__).resolve().parents[1] / "training/configs"
# The conditions of the embedded model.
CONDITIONS = ("previous_frame", "dense_flow", "splatted_frame", "hole_mask", "start_picture")


def make_random_pipeline(
    config: str,
    pixels: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    steps: int = 50,
    has_tiny_autoencoder: bool = False,
) -> MCDiffPipeline:
    """
    A pipeline with random weights, which are made on the device.

    Args:
        config (`str`): folder of training/configs.
        pixels (`int`): default side of the frames.
        dtype (`torch.dtype`), device (`str`): of the networks.
        steps (`int`): default denoising steps of a frame.
        has_tiny_autoencoder (`bool`): whether diffusers' tiny autoencoder replaces that of the folder.
    """
    configs = {
        name: json.loads((CONFIGS / config / f"{name}.json").read_text())
        for name in ("vae", "flow_completion", "unet", "scheduler")
    }
    torch.manual_seed(0)
    with torch.device(device):
        if has_tiny_autoencoder:
            vae = diffusers.AutoencoderTiny()
        else:
            vae = getattr(diffusers, configs["vae"]["_class_name"]).from_config(configs["vae"])
        factor, channels = vae_scale_factor(vae), vae.config.latent_channels
        conditioner = FrameConditioner(CONDITIONS, latent_channels=channels, vae_scale_factor=factor)
        unet = configs["unet"] | {"in_channels": conditioner.in_channels, "out_channels": channels}
        flow_completion = configs["flow_completion"] | {"in_channels": channels, "vae_scale_factor": factor}
        parts = {
            "vae": vae,
            "flow_completion": FlowCompletionUNet.from_config(flow_completion),
            "unet": diffusers.UNet2DConditionModel.from_config(unet),
        }
    pipe = MCDiffPipeline(
        **parts,
        scheduler=getattr(diffusers, configs["scheduler"]["_class_name"]).from_config(configs["scheduler"]),
        conditioning=CONDITIONS,
        default_height=pixels,
        default_width=pixels,
        default_num_inference_steps=steps,
        default_guidance_scale=1.0,
    )
    if dtype != torch.float32:
        pipe.to(dtype)
    return pipe
