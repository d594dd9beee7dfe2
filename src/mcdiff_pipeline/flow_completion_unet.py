# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""F of MCDiff (arXiv 2304.14404): a UNet that completes a few strokes to dense flow, by regression."""

import os
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import AttentionMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block, get_up_block
from diffusers.utils import BaseOutput
from torch import nn


@dataclass
class FlowCompletionOutput(BaseOutput):
    """
    Output of [`FlowCompletionUNet`].

    Args:
        dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Forward flow in pixels of the working resolution, one vector for every latent cell; channel 0 points
            right, channel 1 points down.
        foreground (`torch.Tensor` of shape `(batch_size, 1, height, width)`, *optional*):
            Share of each cell that people and objects cover, from 0 to 1; only from a model with
            `separate_foreground`.
    """

    dense_flow: torch.Tensor
    foreground: torch.Tensor | None = None


def spread_strokes(displacement: torch.Tensor, mask: torch.Tensor, num_levels: int) -> torch.Tensor:
    """
    Spread what the strokes specify over neighborhoods of several sizes, to every cell of the grid.

    A stroke is one cell in a thousand. Without this input a UNet needs thousands of training steps to notice it. At
    each level, displacements are averaged over the specified cells in windows of 2, 4, 8, ... cells (normalized
    averaging, Knutsson and Westin 1993) and interpolated between the windows.

    Args:
        displacement (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Displacements; read only where `mask` is set.
        mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool):
            True where a stroke specifies the displacement.
        num_levels (`int`):
            Number of window sizes.

    Returns:
        `torch.Tensor` of shape `(batch_size, 3 * num_levels, height, width)`, float32: for each level the mean
        displacement, 0 where no stroke is near, and the number of strokes nearby, at most 1.
    """
    height, width = mask.shape[2:]
    total = torch.cat([torch.where(mask, displacement.float(), 0.0), mask.float()], dim=1)  # [B, 2 + 1, h, w]
    levels = []
    for level in range(1, num_levels + 1):
        window = 2**level
        near = F.avg_pool2d(total, window, ceil_mode=True, divisor_override=1)
        near = F.interpolate(near, scale_factor=window, mode="bilinear")[:, :, :height, :width]
        number = near[:, 2:]
        # far from a stroke its interpolated weight fades out, and the small constant fades its displacement as well
        levels += [near[:, :2] / (number + 1e-2), number.clamp(max=1)]
    return torch.cat(levels, dim=1)


class FlowCompletionUNet(ModelMixin, AttentionMixin, ConfigMixin):
    r"""
    The flow completion model F of MCDiff: `d_i = F(x_i, s_i)`, deterministic, no diffusion.

    It reads the latent of the current frame and the sparse flow of one step on the same grid. A cell that no stroke
    specifies holds a **learnable embedding** instead of a displacement, and a mask says which cells are specified, so
    that "hold still" (zero displacement, specified) and "free to move" (unspecified) are different inputs.

    The defaults give 10 M parameters. `block_out_channels=(224, 448, 672, 896)` with four levels gives 261 M, the size
    of the UNet of LDM-4 (Rombach et al. 2022); `(32, 64, 64)` with `layers_per_block=1` gives 1 M.

    Parameters:
        in_channels (`int`, defaults to 4):
            Channels of the latent of the current frame.
        block_out_channels (`tuple[int, ...]`, defaults to `(64, 128, 192)`):
            Channels of each level, finest first. Each level after the first halves the grid.
        down_block_types (`tuple[str, ...]`, *optional*):
            diffusers' 2D block type of each level, `"DownBlock2D"` or `"AttnDownBlock2D"`.
        up_block_types (`tuple[str, ...]`, *optional*):
            Block types on the way up, coarsest first, `"UpBlock2D"` or `"AttnUpBlock2D"`.
        layers_per_block (`int`, defaults to 2):
            ResNet layers of each level.
        attention_head_dim (`int`, defaults to 32):
            Channels of one attention head.
        norm_num_groups (`int`, defaults to 32):
            Groups of the group normalization; divides every entry of `block_out_channels`.
        dropout (`float`, defaults to 0.0):
            Dropout probability inside the ResNet layers.
        vae_scale_factor (`int`, defaults to 4):
            Pixels along one side of a latent cell.
        flow_scale (`float`, defaults to 1.0):
            Displacement, in latent cells, that is 1.0 inside the network.
        num_spread_levels (`int`, defaults to 5):
            Window sizes over which the strokes are spread as further input, see [`spread_strokes`]; 0 is the paper's
            plain form.
        separate_foreground (`bool`, defaults to `False`):
            Whether to predict two flows, one of people and objects and one of the background, and the share of each
            cell that people and objects cover. The flows are mixed by this share (layers of motion, Wang and Adelson
            1994), so flow can be smooth on a body and end at its outline.

    Raises:
        ValueError: If `block_out_channels`, `down_block_types` and `up_block_types` differ in length.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ResnetBlock2D", "Attention"]
    _skip_layerwise_casting_patterns = ["norm"]
    _repeated_blocks = ["ResnetBlock2D"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        block_out_channels: tuple[int, ...] = (64, 128, 192),
        down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block: int = 2,
        attention_head_dim: int = 32,
        norm_num_groups: int = 32,
        dropout: float = 0.0,
        vae_scale_factor: int = 4,
        flow_scale: float = 1.0,
        num_spread_levels: int = 5,
        separate_foreground: bool = False,
    ):
        super().__init__()
        if not len(block_out_channels) == len(down_block_types) == len(up_block_types):
            raise ValueError(
                f"`block_out_channels` ({len(block_out_channels)} levels), `down_block_types` "
                f"({len(down_block_types)}) and `up_block_types` ({len(up_block_types)}) describe the same levels: "
                "give as many of each."
            )

        # what an unspecified cell holds in place of its displacement (section 3 of the paper)
        self.unspecified = nn.Parameter(torch.randn(2))
        num_input_channels = in_channels + 2 + 1 + 3 * num_spread_levels
        self.conv_in = nn.Conv2d(num_input_channels, block_out_channels[0], kernel_size=3, padding=1)

        block_arguments = {
            "temb_channels": None,
            "resnet_eps": 1e-5,
            "resnet_act_fn": "silu",
            "resnet_groups": norm_num_groups,
            "attention_head_dim": attention_head_dim,
            "dropout": dropout,
        }
        self.down_blocks = nn.ModuleList()
        channels = block_out_channels[0]
        for level, block_type in enumerate(down_block_types):
            is_coarsest = level == len(block_out_channels) - 1
            self.down_blocks.append(
                get_down_block(
                    block_type,
                    num_layers=layers_per_block,
                    in_channels=channels,
                    out_channels=block_out_channels[level],
                    add_downsample=not is_coarsest,
                    downsample_padding=1,
                    downsample_type=None if is_coarsest else "conv",
                    **block_arguments,
                )
            )
            channels = block_out_channels[level]

        self.mid_block = UNetMidBlock2D(in_channels=channels, **block_arguments)

        self.up_blocks = nn.ModuleList()
        coarse_to_fine = tuple(reversed(block_out_channels))
        for level, block_type in enumerate(up_block_types):
            is_finest = level == len(block_out_channels) - 1
            self.up_blocks.append(
                get_up_block(
                    block_type,
                    num_layers=layers_per_block + 1,
                    in_channels=coarse_to_fine[min(level + 1, len(coarse_to_fine) - 1)],
                    out_channels=coarse_to_fine[level],
                    prev_output_channel=channels,
                    add_upsample=not is_finest,
                    upsample_type=None if is_finest else "conv",
                    **block_arguments,
                )
            )
            channels = coarse_to_fine[level]

        self.conv_norm_out = nn.GroupNorm(norm_num_groups, channels, eps=1e-5)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(channels, 5 if separate_foreground else 2, kernel_size=3, padding=1)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> Self:
        r"""
        Load a model as [`ModelMixin.from_pretrained`] does, but from safetensors only, never from a pickle.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                Folder of [`~ModelMixin.save_pretrained`], or the name of a Hub repository.
            kwargs:
                Those of [`ModelMixin.from_pretrained`].

        Raises:
            ValueError: If `use_safetensors` is False.
            OSError: If there are no safetensors, or the Hub cannot be reached.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                "`use_safetensors` is False, but a pickle can run any code, so only safetensors are read: leave it "
                "out, and take weights that end in .safetensors."
            )
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs | {"use_safetensors": True})

    def forward(
        self, sample: torch.Tensor, sparse_flow: torch.Tensor, mask: torch.Tensor, return_dict: bool = True
    ) -> FlowCompletionOutput | tuple[torch.Tensor, ...]:
        r"""
        Complete the sparse flow of one step.

        Args:
            sample (`torch.Tensor` of shape `(batch_size, in_channels, height, width)`):
                Scaled latent of the current frame.
            sparse_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
                Displacements in pixels; read only where `mask` is set.
            mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool):
                True where a stroke specifies the displacement.
            return_dict (`bool`, defaults to `True`):
                Whether to return a [`FlowCompletionOutput`] instead of a tuple.

        Returns:
            [`FlowCompletionOutput`] or `tuple`: the dense flow, `(batch_size, 2, height, width)` in pixels; with
            `separate_foreground` also the foreground, `(batch_size, 1, height, width)`.

        Raises:
            ValueError: If the grid cannot be halved once for each level after the first.
        """
        divisor = 2 ** (len(self.config.block_out_channels) - 1)
        if sample.shape[2] % divisor or sample.shape[3] % divisor:
            raise ValueError(
                f"A latent grid of {sample.shape[2]} x {sample.shape[3]} cells cannot be halved for each of the "
                f"{len(self.config.block_out_channels)} levels: use a height and width that {divisor} divides."
            )
        pixels_per_unit = self.config.vae_scale_factor * self.config.flow_scale

        displacement = (sparse_flow / pixels_per_unit).to(sample.dtype)
        unspecified = self.unspecified.to(sample.dtype)[None, :, None, None]
        inputs = [sample, torch.where(mask, displacement, unspecified), mask.to(sample.dtype)]
        if self.config.num_spread_levels > 0:
            inputs.append(spread_strokes(displacement, mask, self.config.num_spread_levels).to(sample.dtype))
        hidden_states = torch.cat(inputs, dim=1)  # [B, C + 2 + 1 + 3 * levels, h, w]
        hidden_states = self.conv_in(hidden_states)

        residuals = (hidden_states,)
        for down_block in self.down_blocks:
            hidden_states, block_residuals = down_block(hidden_states)
            residuals += block_residuals

        hidden_states = self.mid_block(hidden_states)

        num_layers = self.config.layers_per_block + 1
        for up_block in self.up_blocks:
            block_residuals = residuals[-num_layers:]
            residuals = residuals[:-num_layers]
            hidden_states = up_block(hidden_states, block_residuals)

        hidden_states = self.conv_norm_out(hidden_states)
        hidden_states = self.conv_act(hidden_states)
        flow = self.conv_out(hidden_states)  # [B, 2 or 2 + 2 + 1, h, w]

        foreground = None
        if self.config.separate_foreground:
            foreground_flow, background_flow, logit = flow.split((2, 2, 1), dim=1)
            foreground = logit.sigmoid()
            flow = foreground * foreground_flow + (1 - foreground) * background_flow
        dense_flow = flow * pixels_per_unit  # [B, 2, h, w] pixels

        if not return_dict:
            return (dense_flow,) if foreground is None else (dense_flow, foreground)
        return FlowCompletionOutput(dense_flow=dense_flow, foreground=foreground)
