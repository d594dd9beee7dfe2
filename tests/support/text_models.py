# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A tiny text encoder with a tokenizer, and tiny unets that attend to text."""

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from support.tiny_models import make_unet, make_vae


def make_tokenizer() -> CLIPTokenizer:
    """A tokenizer of single letters: 256 bytes, the same at the end of a word, two special tokens, no merges."""
    characters = list(bytes_to_unicode().values())
    words = [*characters, *(character + "</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=77)


def make_text_encoder() -> CLIPTextModel:
    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return CLIPTextModel(config).eval()


def make_cross_attention_unet(in_channels: int) -> UNet2DConditionModel:
    return make_unet(
        in_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
    )


def write_stable_diffusion(folder: Path, in_channels: int) -> UNet2DConditionModel:
    """Writes tiny models into the subfolders of Stable Diffusion. Returns the unet."""
    unet = make_cross_attention_unet(in_channels)
    unet.save_pretrained(folder / "unet")
    make_vae().save_pretrained(folder / "vae")
    make_text_encoder().save_pretrained(folder / "text_encoder")
    make_tokenizer().save_pretrained(folder / "tokenizer")
    DDIMScheduler(clip_sample=False).save_pretrained(folder / "scheduler")
    return unet
