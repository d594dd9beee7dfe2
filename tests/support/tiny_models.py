"""Tiny models with random weights, shared by all tests: milliseconds to build and to run."""

import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel, VQModel
from transformers import Dinov2Config, Dinov2Model

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.conditioning import FrameConditioner


PAPER_CONDITIONING = ("previous_frame", "dense_flow")
FULL_CONDITIONING = ("previous_frame", "dense_flow", "splatted_frame", "hole_mask")


def make_vae(**overrides) -> AutoencoderKL:
    """4 pixels along a latent cell, four latent channels."""
    torch.manual_seed(0)
    settings = {
        "block_out_channels": (8, 8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**(settings | overrides)).eval()


def make_tiny_autoencoder() -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=4,
    ).eval()


def make_vq_model() -> VQModel:
    torch.manual_seed(0)
    return VQModel(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=3,
        num_vq_embeddings=32,
        norm_num_groups=4,
        mid_block_add_attention=False,
    ).eval()


def make_deep_compression_autoencoder() -> AutoencoderDC:
    torch.manual_seed(0)
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=8,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        scaling_factor=1.5,
    ).eval()


def make_flow_completion(**overrides) -> FlowCompletionUNet:
    torch.manual_seed(1)
    settings = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    return FlowCompletionUNet(**(settings | overrides)).eval()


def make_image_encoder() -> Dinov2Model:
    """Features of 16 channels."""
    torch.manual_seed(3)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=28)
    return Dinov2Model(config).eval()


def make_unet(in_channels: int, **overrides) -> UNet2DConditionModel:
    """Self-attention only, as in the embedded model."""
    torch.manual_seed(2)
    settings = {
        "in_channels": in_channels,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2D",
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**(settings | overrides)).eval()


def make_pipeline(conditioning=FULL_CONDITIONING, **overrides) -> MCDiffPipeline:
    components = {
        "vae": make_vae(),
        "flow_completion": make_flow_completion(),
        "unet": make_unet(FrameConditioner(conditioning, latent_channels=4, vae_scale_factor=4).in_channels),
        "scheduler": DDIMScheduler(prediction_type="v_prediction", clip_sample=False, timestep_spacing="trailing"),
        "conditioning": conditioning,
        "default_height": 32,
        "default_width": 32,
        "default_num_frames": 4,
        "default_num_inference_steps": 2,
    }
    pipe = MCDiffPipeline(**(components | overrides))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_feature_pipeline(conditioning=FULL_CONDITIONING, **overrides) -> MCDiffPipeline:
    """A pipeline whose F reads the features of its image encoder."""
    components = {
        "flow_completion": make_flow_completion(feature_channels=16, reads_regions=True),
        "image_encoder": make_image_encoder(),
    }
    return make_pipeline(conditioning, **(components | overrides))
