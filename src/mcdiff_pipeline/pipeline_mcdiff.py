# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The MCDiff pipeline (arXiv 2304.14404): a picture and strokes in, a video out, one frame after the other."""

import inspect
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderTiny,
    DiffusionPipeline,
    UNet2DConditionModel,
    VQModel,
)
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput, load_image
from diffusers.utils.torch_utils import randn_tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .flow import accumulate_flow, fill_from_behind, flow_magnitude, flow_stretch, forward_splat, resize_flow
from .flow_completion_unet import FlowCompletionUNet
from .model_files import check_model_files
from .strokes import Stroke, StrokeSheet, sparse_flow


# What G may be given beside the noise, and what it takes: a number of channels, or the latent's.
CONDITIONING_CHANNELS = {
    "previous_frame": "latent",
    "dense_flow": 2,
    "splatted_frame": "latent",
    "hole_mask": 1,
    "start_frame": "latent",
    "start_picture": "latent",
    "sparse_flow": 3,
}

# Those that are made of dense flow; with none of them G takes the strokes as they are, and there need not be an F.
DENSE_FLOW_CONDITIONS = ("dense_flow", "splatted_frame", "hole_mask", "start_frame", "start_picture")

# Log-weight of one latent cell of motion in forward splatting: where two things land on one cell, the one that moves
# more is taken to be in front (it is the dragged object, the rest is scenery). Measured on rendered people, splatting
# latents by the true flow, PSNR on moving pixels: 20.8 dB at 0, 20.9 at 1, 20.6 at 2, 20.0 at 5, 19.5 at 10, since the
# flow of a cell on an outline is a mixture of both sides.
OCCLUSION_SHARPNESS = 1.0

# Pixels that flow draws more than so far apart are torn: they lie on an outline, where the flow is a mixture of both
# sides, and would be scattered over what comes into sight behind it. They count for so little that the hole is filled
# from behind instead. By eye, on the examples: at 2, outlines blur, and without it a lattice of such pixels shows.
TORN_STRETCH = 3.0
TORN_WEIGHT = 0.02

# The value of white in pictures of whole numbers.
INTEGER_WHITE = {torch.uint8: 255, torch.uint16: 65535}


@dataclass
class MCDiffPipelineOutput(BaseOutput):
    """
    Output of [`MCDiffPipeline`].

    Args:
        frames (`list[list[PIL.Image.Image]]`, `np.ndarray` or `torch.Tensor`):
            One list of `num_frames` pictures for every image given; the first is the given picture at the working
            size. As array: `(batch_size, num_frames, height, width, 3)` in [0, 1]; as tensor:
            `(batch_size, num_frames, 3, height, width)` in [0, 1]; as latents:
            `(batch_size, num_frames, channels, height / f, width / f)`, scaled.
        dense_flow (`torch.Tensor` of shape `(batch_size, num_frames - 1, 2, height / f, width / f)`, *optional*):
            The forward flow that drove each step, in pixels of the working size on the latent grid; None from a model
            without F.
    """

    frames: list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor
    dense_flow: torch.Tensor | None


@dataclass
class MCDiffRollout:
    """
    Where a roll-out stands: all that the next frame depends on, in latent space.

    Args:
        frame (`int`):
            Index of the current frame.
        latents (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
            Scaled latents of the current frame.
        start_latents (`torch.Tensor`):
            Scaled latents of frame 0, same shape.
        accumulated_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Flow from frame 0 to the current frame, in pixels; kept up only where `start_frame` or `start_picture` is a
            condition, else zero.
        dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*):
            Flow from the frame before to the current frame, in pixels; None at frame 0 and from a model without F.
        start_pictures (`torch.Tensor` of shape `(batch_size, 3, height * f, width * f)`, *optional*):
            Frame 0 in [0, 1]; needed where `start_picture` is a condition.
    """

    frame: int
    latents: torch.Tensor
    start_latents: torch.Tensor
    accumulated_flow: torch.Tensor
    dense_flow: torch.Tensor | None = None
    start_pictures: torch.Tensor | None = None


def vae_scale_factor(vae: AutoencoderDC | AutoencoderKL | AutoencoderTiny | VQModel) -> int:
    """Pixels along one side of a latent cell: the autoencoder halves the picture at each level after the first."""
    if isinstance(vae, AutoencoderDC):
        return vae.spatial_compression_ratio
    return 2 ** (len(vae.config.block_out_channels) - 1)


def retrieve_latents(encoded: BaseOutput) -> torch.Tensor:
    """The latent, not yet scaled, of what `vae.encode` gives: the mode, where the autoencoder is variational."""
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mode()
    return encoded.latent if hasattr(encoded, "latent") else encoded.latents


def vae_scaling(vae: AutoencoderDC | AutoencoderKL | AutoencoderTiny | VQModel) -> tuple[float, float]:
    """Factor and shift of scaled latents, `factor * (latent - shift)`; the shift is 0 where the config names none."""
    return vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0


def encode_pictures(
    vae: AutoencoderDC | AutoencoderKL | AutoencoderTiny | VQModel, pictures: torch.Tensor
) -> torch.Tensor:
    """Scaled latents `[B, C, h, w]`, in the autoencoder's dtype, of pictures `[B, 3, H, W]` in [0, 1]."""
    factor, shift = vae_scaling(vae)
    return (retrieve_latents(vae.encode(2 * pictures.to(vae.dtype) - 1)) - shift) * factor


def decode_pictures(
    vae: AutoencoderDC | AutoencoderKL | AutoencoderTiny | VQModel, latents: torch.Tensor
) -> torch.Tensor:
    """Pictures `[B, 3, H, W]` in [0, 1], in the autoencoder's dtype, of scaled latents `[B, C, h, w]`."""
    factor, shift = vae_scaling(vae)
    return (vae.decode(latents.to(vae.dtype) / factor + shift, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)


def conditioning_channels(names: Sequence[str], latent_channels: int) -> int:
    """
    Channels that G takes beside the noise.

    Args:
        names (`Sequence[str]`):
            Conditions in the order of concatenation, keys of `CONDITIONING_CHANNELS`.
        latent_channels (`int`):
            Channels of a latent.

    Raises:
        ValueError: If no name is given, or one is unknown or given twice.
    """
    unknown = [name for name in names if name not in CONDITIONING_CHANNELS]
    if not names or unknown or len(set(names)) != len(names):
        raise ValueError(
            f"`conditioning` is {list(names)}, but it has to name one condition or more, each once, out of "
            f"{list(CONDITIONING_CHANNELS)}."
        )
    channels = [CONDITIONING_CHANNELS[name] for name in names]
    return sum(latent_channels if number == "latent" else number for number in channels)


def check_residual(names: Sequence[str], residual_condition: str | None, residual_scale: float) -> None:
    """Raises `ValueError` where G, given the conditions `names`, cannot denoise a difference from one of them."""
    latents = [name for name in names if CONDITIONING_CHANNELS[name] == "latent"]
    if residual_condition is not None and residual_condition not in latents:
        raise ValueError(
            f"`residual_condition` is {residual_condition!r}, but a difference is from a latent that the unet is "
            f"given, one of {latents}: name one of these, or leave it out."
        )
    if not residual_scale > 0:
        raise ValueError(f"`residual_scale` is {residual_scale}, but a difference is multiplied by more than 0.")


def condition_latent(conditions: torch.Tensor, names: Sequence[str], name: str, latent_channels: int) -> torch.Tensor:
    """One of the conditions `names`, a latent `[B, C, h, w]`, out of their concatenation `[B, C', h, w]`."""
    before = names[: names.index(name)]
    first = conditioning_channels(before, latent_channels) if before else 0
    return conditions[:, first : first + latent_channels]


def frame_condition(
    names: Sequence[str],
    previous_frame: torch.Tensor,
    dense_flow: torch.Tensor | None,
    *,
    vae_scale_factor: int,
    flow_scale: float = 1.0,
    start_frame: torch.Tensor | None = None,
    accumulated_flow: torch.Tensor | None = None,
    start_picture: torch.Tensor | None = None,
    sparse_flow: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """
    What G is given beside the noise, concatenated in the order of `names`.

    Args:
        names (`Sequence[str]`):
            - `previous_frame`: the latent of the current frame, as in the paper.
            - `dense_flow`: the flow in latent cells over `flow_scale`, as in the paper.
            - `splatted_frame`: the latent of the current frame, forward-splatted by the flow; 0 in holes.
            - `hole_mask`: 1 where nothing was splatted to, 0 where a whole cell or more was.
            - `start_frame`: the latent of frame 0, forward-splatted along the flow accumulated since; 0 in holes.
            - `start_picture`: the latent of frame 0 that was splatted as a picture; see [`splat_picture`]. Latents do
              not move by parts of a cell as pictures do, so this is sharper, at the price of encoding every frame.
            - `sparse_flow`: the strokes as they are: displacements in latent cells over `flow_scale`, 0 where nothing
              is specified, and the mask, which is 1 where something is.
        previous_frame (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
            Scaled latent of the current frame.
        dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*):
            Flow from the current frame to the next, in pixels; needed for `DENSE_FLOW_CONDITIONS` only.
        vae_scale_factor (`int`):
            Pixels along one side of a latent cell.
        flow_scale (`float`, defaults to 1.0):
            Displacement, in latent cells, that is 1.0 for G.
        start_frame (`torch.Tensor`, *optional*):
            Scaled latent of frame 0; needed for `start_frame` only.
        accumulated_flow (`torch.Tensor`, *optional*):
            Flow from frame 0 to the next frame, in pixels; needed for `start_frame` only.
        start_picture (`torch.Tensor`, *optional*):
            Scaled latent of the splatted picture; needed for `start_picture` only.
        sparse_flow (`tuple[torch.Tensor, torch.Tensor]`, *optional*):
            Displacements `(batch_size, 2, height, width)` in pixels, zero where nothing is specified, and bool mask
            `(batch_size, 1, height, width)`; needed for `sparse_flow` only.

    Returns:
        `torch.Tensor` of shape `(batch_size, conditioning_channels(names, channels), height, width)`.
    """
    conditions = {"previous_frame": previous_frame, "start_picture": start_picture}
    if "sparse_flow" in names:
        displacement, mask = sparse_flow
        conditions["sparse_flow"] = torch.cat([displacement / (vae_scale_factor * flow_scale), mask], dim=1)
    if dense_flow is not None:
        conditions["dense_flow"] = dense_flow / (vae_scale_factor * flow_scale)
    if "splatted_frame" in names or "hole_mask" in names:
        conditions["splatted_frame"], coverage = splat_latents(previous_frame, dense_flow, vae_scale_factor)
        conditions["hole_mask"] = 1 - coverage.clamp(max=1)
    if "start_frame" in names:
        conditions["start_frame"], _ = splat_latents(start_frame, accumulated_flow, vae_scale_factor)
    return torch.cat([conditions[name].to(previous_frame.dtype) for name in names], dim=1)


def splat_latents(
    latents: torch.Tensor, dense_flow: torch.Tensor, vae_scale_factor: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Forward-splat latents along flow: where the current frame's cells are in the next, before anything is painted.

    Args:
        latents (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
            Scaled latents.
        dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Flow in pixels.
        vae_scale_factor (`int`):
            Pixels along one side of a latent cell.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: the moved latents, 0 in holes, and their coverage `(batch_size, 1, height,
        width)`; see [`forward_splat`].
    """
    cells = dense_flow / vae_scale_factor
    return forward_splat(latents, cells, splat_importance(cells))


def splat_picture(pictures: torch.Tensor, flow: torch.Tensor, vae_scale_factor: int) -> torch.Tensor:
    """
    Forward-splat pictures along flow and fill the holes from behind.

    Pixels that the flow tears off their neighbors hardly count.

    Args:
        pictures (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
            Pictures, of any range.
        flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Flow of every pixel, in pixels.
        vae_scale_factor (`int`):
            Pixels along one side of a latent cell, the unit in which motion decides who is in front.

    Returns:
        `torch.Tensor` of shape `(batch_size, channels, height, width)`.
    """
    motion = flow_magnitude(flow) / vae_scale_factor
    weight = torch.where(flow_stretch(flow) > TORN_STRETCH, TORN_WEIGHT, 1.0)
    payload = torch.cat([pictures, motion.to(pictures.dtype), weight.to(pictures.dtype)], dim=1)
    splatted, coverage = forward_splat(payload, flow, splat_importance(flow / vae_scale_factor) + weight.log())
    pictures, motion, weight = splatted.split([pictures.shape[1], 1, 1], dim=1)
    return fill_from_behind(pictures, weight * coverage, motion)


def splatted_start(
    vae: AutoencoderDC | AutoencoderKL | AutoencoderTiny | VQModel,
    start_pictures: torch.Tensor,
    accumulated_flow: torch.Tensor,
) -> torch.Tensor:
    """
    The condition `start_picture`: frame 0 splatted along the flow to the next frame, then encoded.

    No frame that the model made is encoded, so nothing adds up from frame to frame.

    Args:
        vae ([`AutoencoderDC`], [`AutoencoderKL`], [`AutoencoderTiny`] or [`VQModel`]):
            The autoencoder.
        start_pictures (`torch.Tensor` of shape `(batch_size, 3, height * f, width * f)`):
            Frame 0 in [0, 1].
        accumulated_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Flow from frame 0 to the next frame, in pixels on the latent grid.

    Returns:
        `torch.Tensor` of shape `(batch_size, channels, height, width)`: scaled latents.
    """
    cell = vae_scale_factor(vae)
    flow = resize_flow(accumulated_flow / cell, tuple(start_pictures.shape[2:]))  # in pixels, of every pixel
    return encode_pictures(vae, splat_picture(start_pictures, flow, cell))


def splat_importance(flow: torch.Tensor) -> torch.Tensor:
    """Log-weights `[B, 1, h, w]` for [`forward_splat`] by flow `[B, 2, h, w]` in cells: what moves is in front."""
    return OCCLUSION_SHARPNESS * flow_magnitude(flow)


def load_picture(image: PIL.Image.Image | np.ndarray | torch.Tensor | str | os.PathLike) -> torch.Tensor:
    """
    Read one picture, of any mode and size, as it would be shown on a white page.

    Args:
        image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor`, `str` or `os.PathLike`):
            A PIL picture of any mode (its EXIF rotation is applied, transparency is laid over white, 16-bit and CMYK
            are converted), an array `(height, width[, 1, 3 or 4])` or tensor `(1, 3 or 4, height, width)`, both either
            uint8, uint16 or floating point in [0, 1]; or the path or http(s) address of a picture.

    Returns:
        `torch.Tensor` of shape `(3, height, width)`, float32 in [0, 1].

    Raises:
        ValueError: If the picture has no pixels, a wrong number of channels, another dtype, or values outside [0, 1].
        TypeError: If the picture is none of the types above.
    """
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        image = load_image(image, convert_method=lambda picture: picture)
    elif isinstance(image, (str, os.PathLike)):
        image = PIL.Image.open(image)

    if isinstance(image, PIL.Image.Image):
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode.startswith("I") or image.mode == "F":
            pixels = np.asarray(image).astype(np.float32)
            # PIL opens 16-bit pictures in the integer modes, and has no scale for "F"
            image = pixels if image.mode == "F" else pixels / 65535
        else:
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
            image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        pixels = torch.from_numpy(np.array(image.astype(np.float32) if image.dtype == np.float64 else image))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.movedim(-1, 0)
    elif isinstance(image, torch.Tensor):
        pixels = image.detach().cpu()
    else:
        raise TypeError(
            f"`image` is a {type(image).__name__}, but it has to be a PIL picture, an array, a tensor, a path, or a "
            "list of these."
        )

    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3, 4) or pixels.numel() == 0:
        raise ValueError(
            f"A picture has 1, 3 or 4 channels and at least one pixel, but this one has the shape "
            f"{tuple(pixels.shape)} (channels first): give arrays as height x width x channels and tensors as "
            "channels x height x width."
        )
    if not (pixels.is_floating_point() or pixels.dtype in INTEGER_WHITE):
        raise ValueError(
            f"A picture's values have to be uint8, uint16 or floating point, but these are {pixels.dtype}: convert "
            "them."
        )
    pixels = pixels.float() / INTEGER_WHITE.get(pixels.dtype, 1)
    if not (pixels.amin() >= 0 and pixels.amax() <= 1):  # also catches NaN
        raise ValueError(
            f"A picture's values have to lie in [0, 1], but they span [{pixels.amin():.3g}, {pixels.amax():.3g}]: "
            "rescale floating point pictures, or give uint8."
        )
    if pixels.shape[0] == 4:
        pixels, alpha = pixels[:3], pixels[3:]
        pixels = pixels * alpha + (1 - alpha)
    return pixels.expand(3, -1, -1).clone()


class MCDiffPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    r"""
    Pipeline for motion-conditioned image animation with MCDiff: https://arxiv.org/abs/2304.14404.

    For every frame, the flow completion model turns the strokes of that moment into dense flow, and the UNet paints
    the next frame from noise, the current frame and that flow. The loop never leaves the latent space: the picture is
    encoded once, and frames are decoded only to be shown. With the condition `start_picture` the given picture is
    encoded for each frame again, carried along the flow; a frame that the model made never is.

    This model inherits from [`DiffusionPipeline`]. Check the superclass documentation for the generic methods
    implemented for all pipelines (downloading, saving, running on a particular device, etc.).

    The pipeline also inherits the loading methods of [`~loaders.StableDiffusionLoraLoaderMixin`], for LoRAs of `unet`.

    Args:
        vae ([`AutoencoderDC`], [`AutoencoderKL`], [`AutoencoderTiny`] or [`VQModel`]):
            Autoencoder between pictures and latents.
        flow_completion ([`FlowCompletionUNet`], *optional*):
            F, which completes strokes to dense flow on the latent grid. None for a `unet` that takes the strokes
            themselves, in the condition `sparse_flow`, and nothing that is made of dense flow ("w/o flow completion"
            in table 2 of the paper).
        unet ([`UNet2DConditionModel`]):
            G, which denoises the next frame; its input is the noisy latent and the conditions, channel by channel.
        scheduler ([`SchedulerMixin`]):
            Any of diffusers' schedulers for the noise and prediction type that `unet` was trained with.
        text_encoder ([`~transformers.CLIPTextModel`], *optional*):
            Text encoder, where `unet` has cross-attention to text.
        tokenizer ([`~transformers.CLIPTokenizer`], *optional*):
            Its tokenizer.
        conditioning (`str` or `Sequence[str]`, defaults to `("previous_frame", "dense_flow")`):
            What `unet` is given beside the noise, in this order; see [`frame_condition`]. As in the configuration, one
            string may name them all, separated by commas. The default is the paper's.
        flow_scale (`float`, defaults to 1.0):
            Displacement, in latent cells, that is 1.0 for `unet`.
        residual_condition (`str`, *optional*):
            Where given, `unet` denoises the difference between the next frame and this one of the conditions, which
            has to be a latent, such as `splatted_frame`: what the condition has right need not be painted again. None
            denoises the next frame itself, as in the paper.
        residual_scale (`float`, defaults to 1.0):
            What that difference is multiplied by, to bring it to the size of the noise.
        default_height (`int`, defaults to 256):
            With `default_width`, the working size where a call names none: as many pixels, in the picture's shape.
        default_width (`int`, defaults to 256):
            See `default_height`.
        default_num_frames (`int`, defaults to 16):
            Frames of a video, the given picture included, where neither a call nor its stroke sheet names a number.
        default_num_inference_steps (`int`, defaults to 50):
            Denoising steps of a frame where a call names none.
        default_guidance_scale (`float`, defaults to 1.0):
            Guidance on motion where a call names none.

    Raises:
        ValueError: If `conditioning` does not add up to the input channels of `unet`, the latents of `vae` are not
            what `flow_completion` reads, `residual_condition` is no latent out of `conditioning`, `residual_scale` is
            not positive, or a condition needs dense flow and there is no `flow_completion`.
    """

    model_cpu_offload_seq = "text_encoder->flow_completion->unet->vae"
    _optional_components = ["flow_completion", "text_encoder", "tokenizer"]
    _callback_tensor_inputs = ["latents", "previous_latents", "dense_flow", "prompt_embeds"]

    def __init__(
        self,
        vae: AutoencoderDC | AutoencoderKL | AutoencoderTiny | VQModel,
        flow_completion: FlowCompletionUNet | None,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        conditioning: str | list[str] | tuple[str, ...] = ("previous_frame", "dense_flow"),
        flow_scale: float = 1.0,
        residual_condition: str | None = None,
        residual_scale: float = 1.0,
        default_height: int = 256,
        default_width: int = 256,
        default_num_frames: int = 16,
        default_num_inference_steps: int = 50,
        default_guidance_scale: float = 1.0,
    ):
        super().__init__()
        self.register_modules(
            vae=vae,
            flow_completion=flow_completion,
            unet=unet,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.conditioning = tuple(conditioning.split(",") if isinstance(conditioning, str) else conditioning)
        self.register_to_config(
            # one string: on the Hub diffusers takes every list in model_index.json for a component
            conditioning=",".join(self.conditioning),
            flow_scale=flow_scale,
            residual_condition=residual_condition,
            residual_scale=residual_scale,
            default_height=default_height,
            default_width=default_width,
            default_num_frames=default_num_frames,
            default_num_inference_steps=default_num_inference_steps,
            default_guidance_scale=default_guidance_scale,
        )
        self.vae_scale_factor = vae_scale_factor(vae) if getattr(self, "vae", None) else 4
        self.latent_channels = vae.config.latent_channels if getattr(self, "vae", None) else 4
        self._interrupt = False

        # both networks halve the latent grid once for each level after the first
        levels = [len(model.config.block_out_channels) for model in (unet, flow_completion) if model is not None]
        self.size_multiple = self.vae_scale_factor * 2 ** (max(levels, default=1) - 1)

        channels = conditioning_channels(self.conditioning, self.latent_channels)
        if unet is not None and unet.config.in_channels != self.latent_channels + channels:
            raise ValueError(
                f"`unet` takes {unet.config.in_channels} channels, but the noisy latent has {self.latent_channels} "
                f"and `conditioning` {list(self.conditioning)} has {channels}: give the `conditioning` that `unet` "
                f"was trained with, or a `unet` with `in_channels={self.latent_channels + channels}`."
            )
        check_residual(self.conditioning, residual_condition, residual_scale)
        needing = [name for name in self.conditioning if name in DENSE_FLOW_CONDITIONS]
        if unet is not None and flow_completion is None and needing:
            raise ValueError(
                f"`flow_completion` is None, but the conditions {needing} of `unet` are made of dense flow: give the "
                "`flow_completion` that completes strokes to it, or a `unet` that was trained with `sparse_flow`."
            )
        if flow_completion is not None and (
            flow_completion.config.in_channels != self.latent_channels
            or flow_completion.config.vae_scale_factor != self.vae_scale_factor
        ):
            raise ValueError(
                f"`flow_completion` reads latents of {flow_completion.config.in_channels} channels and "
                f"{flow_completion.config.vae_scale_factor} pixels a cell, but those of `vae` have "
                f"{self.latent_channels} and {self.vae_scale_factor}: use models that were trained together."
            )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> Self:
        """
        Load a model as [`DiffusionPipeline.from_pretrained`] does, but one from a stranger too.

        Only safetensors are read, never pickles, and the files are looked at before they are opened.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                Folder of [`~DiffusionPipeline.save_pretrained`], or the name of a Hub repository.
            kwargs:
                Those of [`DiffusionPipeline.from_pretrained`]; components among them are not read from the folder.

        Raises:
            ValueError: If `use_safetensors` is False, or the files cannot be those of a model or could do harm; see
                [`~mcdiff_pipeline.model_files.check_model_files`].
            OSError: If a file is missing, or the Hub cannot be reached.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                "`use_safetensors` is False, but a pickle can run any code, so only safetensors are read: leave it "
                "out, and take weights that end in .safetensors."
            )
        kwargs["use_safetensors"] = True
        folder = pretrained_model_name_or_path
        if not os.path.isdir(folder):
            folder = cls.download(folder, **kwargs)
        check_model_files(folder, given=kwargs)
        pipe = super().from_pretrained(folder, **kwargs)
        pipe.register_to_config(_name_or_path=pretrained_model_name_or_path)
        return pipe

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict: str | os.PathLike | dict, **kwargs):
        """
        The weights for `load_lora_weights`, as [`~loaders.StableDiffusionLoraLoaderMixin.lora_state_dict`] reads them,
        but from safetensors only, never from pickles.

        Raises:
            ValueError: If `use_safetensors` is False, or `weight_name` is no name of safetensors.
            OSError: If there are no safetensors, or the Hub cannot be reached.
        """
        weight_name = kwargs.get("weight_name")
        if kwargs.get("use_safetensors") is False or not (weight_name or ".safetensors").endswith(".safetensors"):
            raise ValueError(
                f"`weight_name` is {weight_name!r} and `use_safetensors` {kwargs.get('use_safetensors')}, but a "
                "pickle can run any code, so only safetensors are read: take a LoRA that ends in .safetensors."
            )
        return super().lora_state_dict(pretrained_model_name_or_path_or_dict, **kwargs | {"use_safetensors": True})

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def num_timesteps(self) -> int | None:
        """Denoising steps of the whole call, over all frames; None for a stream without an end."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        return self._interrupt

    def check_inputs(
        self,
        num_frames: int,
        height: int,
        width: int,
        num_inference_steps: int,
        batch_size: int,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        dense_flow: torch.Tensor | list[torch.Tensor | None] | None = None,
        prompt: str | list[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        decode_chunk_size: int = 8,
        output_type: str = "pil",
        callback_on_step_end_tensor_inputs: Sequence[str] = (),
    ):
        """
        Check the arguments of a call before anything slow starts; [`MCDiffPipeline.prepare_images`] and
        [`MCDiffPipeline.prepare_strokes`] check theirs.

        Raises:
            ValueError: With one sentence that names the argument, its value, and what is allowed.
        """
        for name, number in (
            ("num_frames", num_frames),
            ("num_inference_steps", num_inference_steps),
            ("decode_chunk_size", decode_chunk_size),
        ):
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"`{name}` is {number!r}, but it has to be an `int` from 1 up.")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f'`output_type` is {output_type!r}, but it has to be "pil", "np", "pt" or "latent".')
        generators = generator if isinstance(generator, list) else [generator]
        if not all(one is None or isinstance(one, torch.Generator) for one in generators):
            raise ValueError(
                f"`generator` is {generator!r}, but it has to be a `torch.Generator` or a list of one for each image: "
                "give torch.Generator().manual_seed(0) for the seed 0."
            )
        if isinstance(generator, list) and len(generator) != batch_size:
            raise ValueError(
                f"`generator` is a list of {len(generator)}, but there are {batch_size} images: give one for each, or "
                "a single one."
            )

        grid = (height // self.vae_scale_factor, width // self.vae_scale_factor)
        if latents is not None:
            expected = (batch_size, num_frames - 1, self.latent_channels, *grid)
            if tuple(latents.shape) != expected:
                raise ValueError(
                    f"`latents` has the shape {tuple(latents.shape)}, but the noise of all steps of this call has "
                    f"{expected}: (images, num_frames - 1, channels, height, width of the latent grid)."
                )
        if dense_flow is not None and not set(self.conditioning) & set(DENSE_FLOW_CONDITIONS):
            raise ValueError(
                f"`dense_flow` is given, but the conditions of this model, {list(self.conditioning)}, are not "
                "made of dense flow: leave it out."
            )
        if isinstance(dense_flow, torch.Tensor) and dense_flow.ndim != 5:
            raise ValueError(
                f"`dense_flow` has the shape {tuple(dense_flow.shape)}, but a tensor for several steps has five "
                "dimensions, (images, steps, 2, height, width): give a list of tensors to name single steps."
            )
        for flow in dense_flow.unbind(1) if isinstance(dense_flow, torch.Tensor) else dense_flow or []:
            if flow is not None and tuple(flow.shape) not in ((batch_size, 2, *grid), (batch_size, 2, height, width)):
                raise ValueError(
                    f"`dense_flow` has the shape {tuple(flow.shape)} for one step, but it has to be "
                    f"{(batch_size, 2, *grid)} on the latent grid or {(batch_size, 2, height, width)} on the pixels."
                )

        if prompt is not None and prompt_embeds is not None:
            raise ValueError("`prompt` and `prompt_embeds` say the same thing twice: give only one of them.")
        unet = self.unet.config
        blocks = (*unet.down_block_types, unet.mid_block_type or "", *unet.up_block_types)
        reads_text = any("CrossAttn" in block for block in blocks)
        if prompt is not None and (self.text_encoder is None or not reads_text):
            raise ValueError(
                f"`prompt` is {prompt!r}, but this model takes no text (no text encoder or no cross-attention): "
                "leave `prompt` out."
            )
        if isinstance(prompt, list) and len(prompt) not in (1, batch_size):
            raise ValueError(
                f"`prompt` is a list of {len(prompt)}, but there are {batch_size} images: give one text for each "
                "image, or one for all."
            )
        if prompt_embeds is not None and not reads_text:
            raise ValueError(
                "`prompt_embeds` is given, but the `unet` of this model has no cross-attention to text: leave it out."
            )
        if prompt_embeds is not None and (prompt_embeds.ndim != 3 or prompt_embeds.shape[0] != batch_size):
            raise ValueError(
                f"`prompt_embeds` has the shape {tuple(prompt_embeds.shape)}, but it has to be ({batch_size}, tokens, "
                f"channels) for {batch_size} images."
            )
        if reads_text and self.text_encoder is None and prompt_embeds is None:
            raise ValueError(
                "This model's `unet` attends to text, but there is no text encoder: load the pipeline with one, or "
                "give `prompt_embeds`."
            )
        for name in callback_on_step_end_tensor_inputs:
            if name not in self._callback_tensor_inputs:
                raise ValueError(
                    f"`callback_on_step_end_tensor_inputs` names {name!r}, but it has to name some of "
                    f"{self._callback_tensor_inputs}."
                )

    def prepare_images(self, image, height: int | None = None, width: int | None = None):
        """
        Read the given pictures and bring them to the working size.

        Args:
            image: One picture as [`load_picture`] reads it, a batch of them as a 4-dimensional array or tensor, or a
                list of pictures.
            height (`int`, *optional*):
                Working height in pixels. Where only one of the two is given, the other follows the picture's shape;
                where none is, the working size has as many pixels as the model's default size, in the picture's shape.
            width (`int`, *optional*):
                Working width in pixels.

        Returns:
            `tuple[torch.Tensor, list[tuple[int, int]]]`: the pictures `(batch_size, 3, height, width)` in [0, 1], and
            the `(height, width)` that each was given in.

        Raises:
            ValueError: If there is no picture, `height` or `width` is no multiple of `size_multiple`, or pictures of
                several shapes come without `height` and `width`.
        """
        for name, size in (("height", height), ("width", width)):
            if size is not None and (size < self.size_multiple or size % self.size_multiple):
                nearest = max(round(size / self.size_multiple), 1) * self.size_multiple
                raise ValueError(
                    f"`{name}` is {size}, but this model needs a multiple of {self.size_multiple}: {nearest} is the "
                    "nearest."
                )

        if isinstance(image, (np.ndarray, torch.Tensor)) and image.ndim == 4:
            image = list(image)
        pictures = [load_picture(picture) for picture in (image if isinstance(image, (list, tuple)) else [image])]
        if not pictures:
            raise ValueError("`image` is an empty list, but a video starts from a picture: give at least one.")

        sizes = []
        for picture in pictures:
            picture_height, picture_width = picture.shape[1:]
            if height is None and width is None:
                area = self.config.default_height * self.config.default_width
                zoom = math.sqrt(area / (picture_height * picture_width))
            else:
                zoom = height / picture_height if height is not None else width / picture_width
            multiple = self.size_multiple
            sizes.append(
                (
                    height if height is not None else max(round(picture_height * zoom / multiple), 1) * multiple,
                    width if width is not None else max(round(picture_width * zoom / multiple), 1) * multiple,
                )
            )
        if len(set(sizes)) > 1:
            raise ValueError(
                f"The pictures of a batch share one working size, but theirs would be {sorted(set(sizes))}: give "
                "`height` and `width`."
            )

        given_sizes = [tuple(picture.shape[1:]) for picture in pictures]
        pictures = [
            picture
            if tuple(picture.shape[1:]) == sizes[0]
            else F.interpolate(picture[None], size=sizes[0], mode="bicubic", antialias=True)[0].clamp(0, 1)
            for picture in pictures
        ]
        return torch.stack(pictures), given_sizes

    def prepare_strokes(
        self, strokes, given_sizes: list[tuple[int, int]], height: int, width: int, num_frames: int | None = None
    ) -> tuple[list[list[Stroke]], int]:
        """
        Bring the strokes of every image to pixels of the working size.

        Args:
            strokes: A list of [`Stroke`] in pixels of the given picture, a [`StrokeSheet`], the path of one, or a list
                of these with one entry for each image. A single entry serves all images.
            given_sizes (`list[tuple[int, int]]`):
                `(height, width)` of the pictures that were given.
            height (`int`):
                Working height in pixels.
            width (`int`):
                Working width in pixels.
            num_frames (`int`, *optional*):
                Frames that the call names.

        Returns:
            `tuple[list[list[Stroke]], int]`: one list of strokes for each image, and the number of frames: the call's,
            else that of the sheets, else the model's default.

        Raises:
            ValueError: If there are neither as many entries as images nor one, or sheets differ in `num_frames`.
            TypeError: If an entry is none of the types above.
        """
        if not isinstance(strokes, (list, tuple)) or all(isinstance(item, Stroke) for item in strokes):
            strokes = [strokes]
        if len(strokes) == 1:
            strokes = list(strokes) * len(given_sizes)
        if len(strokes) != len(given_sizes):
            raise ValueError(
                f"There are strokes for {len(strokes)} images, but {len(given_sizes)} images: give one list or sheet "
                "for each image, or a single one for all."
            )

        lengths = set()
        scaled = []
        for item, (given_height, given_width) in zip(strokes, given_sizes, strict=True):
            if isinstance(item, (str, os.PathLike)):
                item = StrokeSheet.load(item)
            if isinstance(item, StrokeSheet):
                lengths.add(item.num_frames)
                scaled.append(list(item.scaled(width, height).strokes))
            elif isinstance(item, (list, tuple)) and all(isinstance(stroke, Stroke) for stroke in item):
                scaled.append([stroke.scaled(width / given_width, height / given_height) for stroke in item])
            else:
                raise TypeError(
                    f"`strokes` holds a {type(item).__name__}, but it has to be a list of `Stroke`, a `StrokeSheet`, "
                    "the path of a sheet, or a list of these."
                )
        if num_frames is None:
            if len(lengths) > 1:
                raise ValueError(f"The stroke sheets last {sorted(lengths)} frames: give `num_frames`.")
            num_frames = lengths.pop() if lengths else self.config.default_num_frames
        return scaled, num_frames

    def encode_prompt(
        self, prompt: str | list[str] | None, batch_size: int, prompt_embeds: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """
        Encode text for the cross-attention of `unet`.

        Args:
            prompt (`str` or `list[str]`, *optional*):
                The text, one for all images or one for each; None is the empty text.
            batch_size (`int`):
                Number of images.
            prompt_embeds (`torch.Tensor` of shape `(batch_size, tokens, channels)`, *optional*):
                Text that is encoded already, in place of `prompt`.

        Returns:
            `torch.Tensor` of shape `(batch_size, tokens, channels)`, or None where there is no text to encode.
        """
        if prompt_embeds is None and self.text_encoder is not None:
            tokens = self.tokenizer(
                prompt or "",
                padding="max_length",
                max_length=self.tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            prompt_embeds = self.text_encoder(tokens.input_ids.to(self._execution_device))[0]
            prompt_embeds = prompt_embeds.expand(batch_size, -1, -1)
        if prompt_embeds is not None and self.unet is not None:
            prompt_embeds = prompt_embeds.to(device=self._execution_device, dtype=self.unet.dtype)
        return prompt_embeds

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        """
        Encode pictures to scaled latents, deterministically (the mode, where the autoencoder is variational).

        Args:
            pictures (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Pictures in [0, 1].

        Returns:
            `torch.Tensor` of shape `(batch_size, channels, height / f, width / f)`.
        """
        return encode_pictures(self.vae, pictures.to(self._execution_device))

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """
        Decode scaled latents to pictures.

        Args:
            latents (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
                Scaled latents.

        Returns:
            `torch.Tensor` of shape `(batch_size, 3, height * f, width * f)` in [0, 1].
        """
        return decode_pictures(self.vae, latents)

    def start_rollout(self, pictures: torch.Tensor) -> MCDiffRollout:
        """
        Encode the given pictures: the one time that the loop touches pixels.

        Args:
            pictures (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Pictures in [0, 1].
        """
        latents = self.encode_image(pictures).to(self.unet.dtype)
        flow = torch.zeros(latents.shape[0], 2, *latents.shape[2:], device=latents.device)
        return MCDiffRollout(
            frame=0,
            latents=latents,
            start_latents=latents,
            accumulated_flow=flow,
            start_pictures=pictures.to(latents.device) if "start_picture" in self.conditioning else None,
        )

    def rasterize_strokes(
        self, latents: torch.Tensor, strokes: list[list[Stroke]], frame: int, num_frames: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        What the strokes say about the step from `frame` to the next, on the grid of `latents`.

        The arguments are those of [`MCDiffPipeline.complete_flow`].

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: displacements `(batch_size, 2, height, width)`, float32, in pixels,
            and bool mask `(batch_size, 1, height, width)`; see [`~mcdiff_pipeline.strokes.sparse_flow`].
        """
        grid = tuple(latents.shape[2:])
        image_size = (grid[0] * self.vae_scale_factor, grid[1] * self.vae_scale_factor)
        return sparse_flow(
            strokes, frame, image_size=image_size, latent_size=grid, num_frames=num_frames, device=latents.device
        )

    def complete_flow(
        self, latents: torch.Tensor, strokes: list[list[Stroke]], frame: int, num_frames: int
    ) -> torch.Tensor:
        """
        One step of F: the dense flow between `frame` and the next.

        Args:
            latents (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
                Scaled latents of the current frame.
            strokes (`list[list[Stroke]]`):
                Strokes of each image in pixels of the working size.
            frame (`int`):
                Index of the current frame.
            num_frames (`int`):
                Frame count that ends the strokes without an end of their own.

        Returns:
            `torch.Tensor` of shape `(batch_size, 2, height, width)`, float32, in pixels.
        """
        displacement, mask = self.rasterize_strokes(latents, strokes, frame, num_frames)
        latents = latents.to(self.flow_completion.dtype)
        return self.flow_completion(latents, displacement, mask, return_dict=False)[0].float()

    def frame_conditions(
        self,
        rollout: MCDiffRollout,
        dense_flow: torch.Tensor | None,
        sparse_flow: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """
        What one step of G is given beside the noise; differentiable with respect to the flow.

        The arguments are those of [`MCDiffPipeline.next_frame`].

        Returns:
            `tuple`: the flow from frame 0 to the next frame, `(batch_size, 2, height, width)` in pixels, or None where
            no condition needs it; the conditions, `(batch_size, C', height, width)`; and the one of them that G
            denoises the difference from, `(batch_size, channels, height, width)`, or None.
        """
        accumulated_flow = start_picture = None
        if "start_frame" in self.conditioning or "start_picture" in self.conditioning:
            cells_per_pixel = 1 / self.vae_scale_factor
            accumulated_flow = accumulate_flow(
                rollout.accumulated_flow * cells_per_pixel, dense_flow * cells_per_pixel
            )
            accumulated_flow = accumulated_flow * self.vae_scale_factor
        if "start_picture" in self.conditioning:
            start_picture = splatted_start(self.vae, rollout.start_pictures, accumulated_flow)
        conditions = frame_condition(
            self.conditioning,
            rollout.latents,
            dense_flow,
            vae_scale_factor=self.vae_scale_factor,
            flow_scale=self.config.flow_scale,
            start_frame=rollout.start_latents,
            accumulated_flow=accumulated_flow,
            start_picture=start_picture,
            sparse_flow=sparse_flow,
        )
        base = None
        if self.config.residual_condition is not None:
            base = condition_latent(
                conditions, self.conditioning, self.config.residual_condition, self.latent_channels
            )
        return accumulated_flow, conditions, base

    def next_frame(
        self,
        rollout: MCDiffRollout,
        dense_flow: torch.Tensor | None,
        noise: torch.Tensor,
        *,
        sparse_flow: tuple[torch.Tensor, torch.Tensor] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        prompt_embeds: torch.Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        eta: float = 0.0,
        callback_on_step_end: Callable | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> MCDiffRollout | None:
        """
        One step of G, the body of the loop: denoise the next frame from the current one and its motion.

        Args:
            rollout (`MCDiffRollout`):
                Where the roll-out stands; it is left as it is.
            dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*):
                Flow from the current frame to the next, in pixels on the latent grid; None in a model without F.
            noise (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
                Standard normal noise.
            sparse_flow (`tuple[torch.Tensor, torch.Tensor]`, *optional*):
                What the strokes say about this step, from [`MCDiffPipeline.rasterize_strokes`]; needed where
                `sparse_flow` is a condition.
            num_inference_steps (`int`, *optional*):
                Denoising steps; the model's default where None.
            guidance_scale (`float`, *optional*):
                Guidance on motion; the model's default where None.
            prompt_embeds (`torch.Tensor`, *optional*):
                Encoded text, where `unet` reads text.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Source of the noise that stochastic schedulers add.
            eta (`float`, defaults to 0.0):
                η of DDIM (Song et al. 2021); other schedulers ignore it.
            callback_on_step_end (`Callable`, *optional*):
                See [`MCDiffPipeline.__call__`].
            callback_on_step_end_tensor_inputs (`Sequence[str]`, defaults to `("latents",)`):
                See [`MCDiffPipeline.__call__`].

        Returns:
            `MCDiffRollout` at the next frame, or None if the pipeline was interrupted before that frame was finished.
        """
        if num_inference_steps is None:
            num_inference_steps = self.config.default_num_inference_steps
        if guidance_scale is None:
            guidance_scale = self.config.default_guidance_scale
        previous_latents = rollout.latents  # by this name a callback can ask for them
        accumulated_flow, conditions, base = self.frame_conditions(rollout, dense_flow, sparse_flow)
        guided = guidance_scale != 1.0
        still_offset = None
        if guided:
            # the branch to move away from is the one in which nothing moves, and no stroke says anything
            still_flow = None if dense_flow is None else torch.zeros_like(dense_flow)
            no_strokes = None if sparse_flow is None else tuple(torch.zeros_like(part) for part in sparse_flow)
            _, still_conditions, still_base = self.frame_conditions(rollout, still_flow, no_strokes)
            conditions = torch.cat([still_conditions, conditions])
            if base is not None:
                still_offset = self.config.residual_scale * (still_base - base)

        self.scheduler.set_timesteps(num_inference_steps, device=noise.device)
        latents = noise * self.scheduler.init_noise_sigma
        step_arguments = {}
        accepted = inspect.signature(self.scheduler.step).parameters
        if "eta" in accepted:
            step_arguments["eta"] = eta
        if "generator" in accepted:
            step_arguments["generator"] = generator

        dtype = self.unet.dtype  # diffusers walks through all parameters to find it: not in every step
        with self.progress_bar(total=len(self.scheduler.timesteps)) as progress_bar:
            progress_bar.set_description(f"Frame {rollout.frame + 1}")
            progress_bar.leave = False
            for index, timestep in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    return None
                model_input = self.scheduler.scale_model_input(latents, timestep)
                embeds = prompt_embeds
                if guided:
                    still_input = model_input
                    if still_offset is not None:
                        still_input = model_input - self._signal_level(timestep)[0] * still_offset
                    model_input = torch.cat([still_input, model_input])
                    embeds = torch.cat([embeds, embeds]) if embeds is not None else None
                model_input = torch.cat([model_input, conditions], dim=1).to(dtype)  # [B, C + C', h, w]
                prediction = self.unet(model_input, timestep, encoder_hidden_states=embeds, return_dict=False)[0]
                if guided:
                    still, moving = prediction.chunk(2)
                    if still_offset is not None:
                        still = self._restate_prediction(still, timestep, still_offset)
                    prediction = still + guidance_scale * (moving - still)
                latents = self.scheduler.step(prediction, timestep, latents, **step_arguments, return_dict=False)[0]
                latents = latents.to(noise.dtype)

                if callback_on_step_end is not None:
                    callback_kwargs = {}
                    for name in callback_on_step_end_tensor_inputs:
                        callback_kwargs[name] = locals()[name]
                    step = rollout.frame * len(self.scheduler.timesteps) + index
                    callback_outputs = callback_on_step_end(self, step, timestep, callback_kwargs) or {}
                    latents = callback_outputs.pop("latents", latents)
                progress_bar.update()

        if base is not None:
            latents = base + latents / self.config.residual_scale
        return MCDiffRollout(
            frame=rollout.frame + 1,
            latents=latents,
            start_latents=rollout.start_latents,
            accumulated_flow=rollout.accumulated_flow if accumulated_flow is None else accumulated_flow,
            dense_flow=dense_flow,
            start_pictures=rollout.start_pictures,
        )

    def _signal_level(self, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """α and σ of what `unet` reads at a timestep, `α * clean + σ * noise`; all schedulers scale it to that."""
        signal = self.scheduler.alphas_cumprod.to(timestep.device)[timestep.long()]
        return signal.sqrt(), (1 - signal).sqrt()

    def _restate_prediction(
        self, prediction: torch.Tensor, timestep: torch.Tensor, offset: torch.Tensor
    ) -> torch.Tensor:
        """What `unet` predicts of a sample, restated for that sample plus `offset`, both `[B, C, h, w]`."""
        if self.scheduler.config.prediction_type == "v_prediction":
            return prediction - self._signal_level(timestep)[1] * offset
        if self.scheduler.config.prediction_type == "sample":
            return prediction + offset
        return prediction  # the noise is the same

    def roll_out(
        self,
        rollout: MCDiffRollout,
        strokes: list[list[Stroke]],
        num_frames: int | None,
        stroke_frames: int,
        *,
        latents: torch.Tensor | None = None,
        dense_flow: torch.Tensor | Sequence[torch.Tensor | None] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        **next_frame_arguments,
    ) -> Iterator[MCDiffRollout]:
        """
        The loop: F, then G, frame after frame, until `num_frames` exist or the pipeline is interrupted.

        Args:
            rollout (`MCDiffRollout`):
                Where to start from.
            strokes (`list[list[Stroke]]`):
                Strokes of each image in pixels of the working size.
            num_frames (`int`, *optional*):
                Frames to stop at, frame 0 included; None goes on for as long as it is asked.
            stroke_frames (`int`):
                Frame count that ends the strokes without an end of their own.
            latents (`torch.Tensor`, *optional*):
                Noise of all steps, `(batch_size, num_frames - 1, channels, height, width)`.
            dense_flow (`torch.Tensor` or a list, *optional*):
                Flow that replaces F, as in [`MCDiffPipeline.__call__`].
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Source of the noise, one frame after the other.
            next_frame_arguments:
                Passed on to [`MCDiffPipeline.next_frame`].

        Yields:
            `MCDiffRollout` at each new frame.
        """
        grid = rollout.latents.shape[2:]
        given_flow = dense_flow.unbind(1) if isinstance(dense_flow, torch.Tensor) else dense_flow or []
        with self.progress_bar(total=math.inf if num_frames is None else num_frames - 1) as progress_bar:
            progress_bar.set_description("Frames")
            while not self.interrupt and (num_frames is None or rollout.frame < num_frames - 1):
                frame = rollout.frame
                flow = given_flow[frame] if frame < len(given_flow) else None
                if flow is None and self.flow_completion is not None:
                    flow = self.complete_flow(rollout.latents, strokes, frame, stroke_frames)
                elif flow is not None:
                    flow = flow.to(device=rollout.latents.device, dtype=torch.float32)
                    flow = flow if flow.shape[2:] == grid else resize_flow(flow, grid) * self.vae_scale_factor
                stroke_flow = None
                if "sparse_flow" in self.conditioning:
                    stroke_flow = self.rasterize_strokes(rollout.latents, strokes, frame, stroke_frames)
                if latents is not None:
                    noise = latents[:, frame].to(rollout.latents)
                else:
                    # drawn in float32, since in half precision older PyTorch draws other numbers from the same seed
                    noise = randn_tensor(
                        rollout.latents.shape,
                        generator=generator,
                        device=rollout.latents.device,
                        dtype=torch.float32,
                    ).to(rollout.latents.dtype)
                following = self.next_frame(
                    rollout, flow, noise, sparse_flow=stroke_flow, generator=generator, **next_frame_arguments
                )
                if following is None:
                    return
                rollout = following
                progress_bar.update()
                yield rollout

    def _prepare_call(self, image, strokes, num_frames, height, width, num_inference_steps, guidance_scale, **inputs):
        """Resolve defaults, read pictures and strokes, check everything: what every entry point begins with."""
        if num_inference_steps is None:
            num_inference_steps = self.config.default_num_inference_steps
        if guidance_scale is None:
            guidance_scale = self.config.default_guidance_scale

        pictures, given_sizes = self.prepare_images(image, height, width)
        height, width = pictures.shape[2:]
        strokes, stroke_frames = self.prepare_strokes(strokes, given_sizes, height, width, num_frames)
        self.check_inputs(stroke_frames, height, width, num_inference_steps, len(pictures), **inputs)
        return pictures, strokes, stroke_frames, num_inference_steps, guidance_scale

    @torch.no_grad()
    def __call__(
        self,
        image: PIL.Image.Image | np.ndarray | torch.Tensor | str | os.PathLike | list,
        strokes: list[Stroke] | StrokeSheet | str | os.PathLike | list,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        prompt: str | list[str] | None = None,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        dense_flow: torch.Tensor | list[torch.Tensor | None] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        decode_chunk_size: int = 8,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[object, int, int, dict], dict]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> MCDiffPipelineOutput | tuple:
        r"""
        Animate pictures along strokes.

        Args:
            image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor`, `str`, `os.PathLike` or a list of these):
                The first frame of the video, of any mode and size; see [`load_picture`]. Several make a batch.
            strokes (`list[Stroke]`, `StrokeSheet`, `str`, `os.PathLike` or a list of these):
                What moves: strokes in pixels of the given picture, a stroke sheet, the path of one, or one of these
                for each image. An empty list leaves all motion to the model.
            num_frames (`int`, *optional*):
                Frames of the video, the given picture included. Where None, the stroke sheet's, else the model's.
            height (`int`, *optional*):
                Working height in pixels. Where None, see [`MCDiffPipeline.prepare_images`].
            width (`int`, *optional*):
                Working width in pixels.
            num_inference_steps (`int`, *optional*):
                Denoising steps of each frame. Where None, the model's default.
            guidance_scale (`float`, *optional*):
                Classifier-free guidance (Ho and Salimans 2022) on motion: how far to go from the prediction for zero
                flow and no strokes to the prediction for those of this step, and beyond. 1.0 is no guidance and costs
                nothing. Where None, the model's default.
            prompt (`str` or `list[str]`, *optional*):
                Text, for models with a text encoder.
            eta (`float`, defaults to 0.0):
                η of DDIM (Song et al. 2021); other schedulers ignore it.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Makes the video reproducible; a list gives every image its own.
            latents (`torch.Tensor`, *optional*):
                The noise of all steps, `(batch_size, num_frames - 1, channels, height / f, width / f)`, instead of
                drawing it.
            dense_flow (`torch.Tensor` or `list[torch.Tensor | None]`, *optional*):
                Forward flow in pixels of the working size that replaces F: a tensor
                `(batch_size, steps, 2, height, width)` for the first `steps` steps, or one `(batch_size, 2, height,
                width)` for each step with None where F is to answer. On the latent grid or on the pixels.
            prompt_embeds (`torch.Tensor` of shape `(batch_size, tokens, channels)`, *optional*):
                Encoded text, instead of `prompt`.
            decode_chunk_size (`int`, defaults to 8):
                Frames of each image that are decoded at a time; fewer take less memory.
            output_type (`str`, defaults to `"pil"`):
                `"pil"`, `"np"`, `"pt"` or `"latent"`; see [`MCDiffPipelineOutput`].
            return_dict (`bool`, defaults to `True`):
                Whether to return an [`MCDiffPipelineOutput`] instead of a tuple.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipeline, step, timestep, tensors)` after every denoising step; `step` counts over
                all frames. It may return a dict with new `latents`, and may set `pipeline._interrupt = True` to end
                the video with the last frame that is finished.
            callback_on_step_end_tensor_inputs (`Sequence[str]`, defaults to `("latents",)`):
                Tensors to hand to the callback, out of `latents`, `previous_latents`, `dense_flow`, `prompt_embeds`;
                the last two are None in a model without F or text.

        Examples:
            ```py
            >>> from mcdiff_pipeline import MCDiffPipeline, Stroke

            >>> pipe = MCDiffPipeline.from_pretrained("checkpoints/mcdiff-small-128")
            >>> arm = Stroke([(210, 330), (250, 240), (330, 200)])
            >>> feet = Stroke([(220, 480)], kind="hold")
            >>> frames = pipe("picture.jpg", [arm, feet], num_frames=16).frames[0]
            ```

        Returns:
            [`MCDiffPipelineOutput`] or `tuple`: `frames` and `dense_flow`.

        Raises:
            ValueError: If an argument has a value that is not allowed; see [`MCDiffPipeline.check_inputs`].
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs

        # 0. Resolve defaults, read and check everything
        pictures, strokes, num_frames, num_inference_steps, guidance_scale = self._prepare_call(
            image,
            strokes,
            num_frames,
            height,
            width,
            num_inference_steps,
            guidance_scale,
            generator=generator,
            latents=latents,
            dense_flow=dense_flow,
            prompt=prompt,
            prompt_embeds=prompt_embeds,
            decode_chunk_size=decode_chunk_size,
            output_type=output_type,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )
        self._guidance_scale = guidance_scale
        self._interrupt = False
        self.scheduler.set_timesteps(num_inference_steps)
        self._num_timesteps = (num_frames - 1) * len(self.scheduler.timesteps)

        # 1. Encode the text and, once, the pictures
        prompt_embeds = self.encode_prompt(prompt, len(pictures), prompt_embeds)
        start = self.start_rollout(pictures)

        # 2. Frame after frame, in latent space
        frame_latents = [start.latents]
        flows = [start.accumulated_flow[:, None][:, :0]]  # a video of one frame has no step
        for rollout in self.roll_out(
            start,
            strokes,
            num_frames,
            num_frames,
            latents=latents,
            dense_flow=dense_flow,
            generator=generator,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            prompt_embeds=prompt_embeds,
            eta=eta,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        ):
            frame_latents.append(rollout.latents)
            if rollout.dense_flow is not None:
                flows.append(rollout.dense_flow[:, None])
        frame_latents = torch.stack(frame_latents, dim=1)  # [B, N, C, h, w]
        flows = torch.cat(flows, dim=1) if self.flow_completion is not None else None  # [B, N - 1, 2, h, w]

        # 3. Decode; the first frame is the picture itself
        if output_type == "latent":
            frames = frame_latents
        else:
            frames = [pictures[:, None]]
            for chunk in frame_latents[:, 1:].split(decode_chunk_size, dim=1):
                decoded = self.decode_latents(chunk.flatten(0, 1)).unflatten(0, chunk.shape[:2])
                frames.append(decoded.to(pictures))
            frames = torch.cat(frames, dim=1)  # [B, N, 3, H, W]
            frames = self._to_output_type(frames, output_type)

        self.maybe_free_model_hooks()

        if not return_dict:
            return (frames, flows)
        return MCDiffPipelineOutput(frames=frames, dense_flow=flows)

    def _to_output_type(self, frames: torch.Tensor, output_type: str):
        """`[B, N, 3, H, W]` in [0, 1] to what the caller asked for, the same nesting."""
        if output_type == "pt":
            return frames
        frames = frames.float().movedim(2, -1).numpy()
        if output_type == "np":
            return frames
        return [VaeImageProcessor.numpy_to_pil(video) for video in frames]

    @torch.no_grad()
    def predict_flow(
        self,
        image: PIL.Image.Image | np.ndarray | torch.Tensor | str | os.PathLike | list,
        strokes: list[Stroke] | StrokeSheet | str | os.PathLike | list,
        frame: int = 0,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> torch.Tensor:
        """
        The dense flow that F completes from the strokes on the given picture, without any diffusion.

        Args:
            image: As in [`MCDiffPipeline.__call__`].
            strokes: As in [`MCDiffPipeline.__call__`].
            frame (`int`, defaults to 0):
                The step whose piece of the strokes is completed, from `frame` to `frame + 1`.
            num_frames (`int`, *optional*):
                As in [`MCDiffPipeline.__call__`].
            height (`int`, *optional*):
                Working height in pixels.
            width (`int`, *optional*):
                Working width in pixels.

        Returns:
            `torch.Tensor` of shape `(batch_size, 2, height / f, width / f)`, float32, in pixels of the working size.

        Raises:
            ValueError: If an argument has a value that is not allowed, or the model has no F.
        """
        if self.flow_completion is None:
            raise ValueError(
                "This model has no `flow_completion`, so there is no dense flow to predict: its `unet` takes the "
                "strokes as they are; call the pipeline for frames."
            )
        pictures, strokes, num_frames, _, _ = self._prepare_call(image, strokes, num_frames, height, width, None, None)
        if not 0 <= frame < max(num_frames - 1, 1):
            raise ValueError(
                f"`frame` is {frame}, but a video of {num_frames} frames has the steps 0 to {max(num_frames - 2, 0)}."
            )
        flow = self.complete_flow(self.start_rollout(pictures).latents, strokes, frame, num_frames)
        self.maybe_free_model_hooks()
        return flow

    def stream(
        self,
        image: PIL.Image.Image | np.ndarray | torch.Tensor | str | os.PathLike,
        strokes: list[Stroke] | StrokeSheet | str | os.PathLike,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        prompt: str | None = None,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        dense_flow: torch.Tensor | list[torch.Tensor | None] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[[object, int, int, dict], dict]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Iterator[PIL.Image.Image | np.ndarray | torch.Tensor]:
        """
        Hand out each frame as soon as it exists, for as long as frames are asked for; memory stays flat.

        The frames are those of [`MCDiffPipeline.__call__`] for the same arguments and generator state.

        Args:
            image: One picture, as in [`MCDiffPipeline.__call__`].
            strokes: Its strokes, as in [`MCDiffPipeline.__call__`].
            num_frames (`int`, *optional*):
                Frames to stop at. Where None, the stream has no end; strokes without an end of their own then last as
                long as their sheet or the model's default says, and after that nothing is specified.

        The other arguments are those of [`MCDiffPipeline.__call__`].

        Returns:
            An iterator over frames: PIL pictures, arrays `(height, width, 3)`, tensors `(3, height, width)`, both in
            [0, 1], or scaled latents `(channels, height / f, width / f)`.

        Raises:
            ValueError: At once, not at the first frame, if an argument has a value that is not allowed.
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs

        pictures, strokes, stroke_frames, num_inference_steps, guidance_scale = self._prepare_call(
            image,
            strokes,
            num_frames,
            height,
            width,
            num_inference_steps,
            guidance_scale,
            generator=generator,
            dense_flow=dense_flow,
            prompt=prompt,
            prompt_embeds=prompt_embeds,
            output_type=output_type,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )
        if len(pictures) > 1:
            raise ValueError(
                f"There are {len(pictures)} images, but a stream shows one: call the pipeline for a batch."
            )

        self._guidance_scale = guidance_scale
        self._interrupt = False
        self.scheduler.set_timesteps(num_inference_steps)
        self._num_timesteps = None if num_frames is None else (num_frames - 1) * len(self.scheduler.timesteps)

        @torch.no_grad()
        def frames():
            try:
                start = self.start_rollout(pictures)
                if output_type == "latent":
                    yield start.latents[0]
                else:
                    yield self._to_output_type(pictures[None], output_type)[0][0]
                for rollout in self.roll_out(
                    start,
                    strokes,
                    num_frames,
                    stroke_frames,
                    dense_flow=dense_flow,
                    generator=generator,
                    num_inference_steps=num_inference_steps,
                    guidance_scale=guidance_scale,
                    prompt_embeds=self.encode_prompt(prompt, 1, prompt_embeds),
                    eta=eta,
                    callback_on_step_end=callback_on_step_end,
                    callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
                ):
                    if output_type == "latent":
                        yield rollout.latents[0]
                    else:
                        picture = self.decode_latents(rollout.latents).to(pictures)
                        yield self._to_output_type(picture[None], output_type)[0][0]
            finally:  # also where the caller closes the stream, or drops it
                self.maybe_free_model_hooks()

        return frames()
