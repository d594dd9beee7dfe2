# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The MCDiff pipeline (arXiv 2304.14404): an image and strokes in, a video out, made frame by frame."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, cast, overload

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderTiny,
    DiffusionPipeline,
    ModelMixin,
    UNet2DConditionModel,
    VQModel,
)
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput
from transformers import CLIPTextModel, CLIPTokenizer, Dinov2Model

from .call_inputs import CallInputs, RegionsInput, StrokesInput, check_named_regions
from .color_matching import color_match  # noqa: F401
from .conditioning import FrameConditioner
from .denoising import FrameDenoiser, RunningCallsMixin, StepCallback, tensor_inputs_of
from .detail import DetailRenderer  # noqa: F401  # diffusers copies only the modules that this file imports
from .flow import to_cells, to_pixels
from .flow_completion_unet import FlowCompletionUNet
from .frame_decoder import FrameDecoder, shown_images
from .image_processor import OUTPUT_TYPES, ImageInput, ImageProcessor, OutputSize
from .inpainting import inpaint  # noqa: F401
from .input_checks import (
    check_components,
    check_dense_flow,
    check_flow_steps,
    check_image_encoder,
    check_noise,
    check_running,
    check_scheduler,
    check_step,
    check_text,
    check_vae,
    reads_text,
)
from .latent_codec import decode_latents, encode_images, vae_scale_factor
from .layer_colors import separate_colors  # noqa: F401
from .layers import Layers  # noqa: F401
from .model_files import SafetensorsLoaderMixin
from .model_names import EMBEDDED_MODEL, EMBEDDED_NAME
from .model_weights import is_offloaded
from .motion_completion import MotionCompleter, MotionSource, check_rigid_layers
from .regions import Region, is_whole  # noqa: F401
from .rollout import Motion, RolloutState, noise_state_of
from .semantic_features import channels_of_features, encode_features
from .short_repr import ShortReprMixin
from .similarity import fit_similarity  # noqa: F401
from .stroke_controls import CONTROLS  # noqa: F401
from .stroke_problems import StrokeProblem, find_stroke_problems, warn_of
from .strokes import MAX_FRAMES, Stroke, strokes_at_size


@dataclass(repr=False)
class MCDiffPipelineOutput(ShortReprMixin, BaseOutput):
    """
    Output of [`MCDiffPipeline`].

    Args:
        frames (`list[list[PIL.Image.Image]]`, `np.ndarray` or `torch.Tensor`):
            One list of `num_frames` images for every image given; the first is the given image. All have the output
            size; see `output_size` of [`MCDiffPipeline.__call__`]. As array:
            `(batch_size, num_frames, output_height, output_width, 3)` in [0, 1]; as tensor:
            `(batch_size, num_frames, 3, output_height, output_width)` in [0, 1]; as latents, which have no output
            size: `(batch_size, num_frames, channels, height / f, width / f)`, scaled.
        dense_flow (`torch.Tensor` of shape `(batch_size, num_frames - 1, 2, height / f, width / f)`, *optional*):
            The forward flow of each step, in pixels of the working size on the latent grid; None from a model without
            F.
    """

    frames: Any  # one of the types above, which `output_type` chooses
    dense_flow: torch.Tensor | None


class MCDiffPipeline(SafetensorsLoaderMixin, RunningCallsMixin, DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    r"""
    Pipeline for motion-conditioned image animation with MCDiff: https://arxiv.org/abs/2304.14404.

    For every frame, the flow completion model F completes the strokes of that moment to dense flow, and the UNet G
    makes the next frame from noise, the current frame and that flow. The loop stays in the latent space: the given
    image is encoded once, and frames are decoded only to be shown. With the condition `start_picture`, the given image
    is also moved along the flow and encoded for each frame; so it is for F, if the working size is not the size that F
    was trained at. A frame that the model made is never encoded.

    A call may name regions, the things that move as wholes ([`~mcdiff_pipeline.regions.Region`]). Each becomes a layer
    with a flow field of its own ([`~mcdiff_pipeline.layers.Layers`]). The frames that are shown may be larger than the
    working size; they are the given image carried along, plus what the model changed ([`~mcdiff_pipeline.detail`]).

    This model inherits from [`DiffusionPipeline`]. Check the superclass documentation for the generic methods
    implemented for all pipelines (downloading, saving, running on a particular device, etc.).

    The pipeline also inherits the loading methods of [`~loaders.StableDiffusionLoraLoaderMixin`], for LoRAs of `unet`.

    Args:
        vae ([`AutoencoderDC`], [`AutoencoderKL`], [`AutoencoderTiny`] or [`VQModel`]):
            Autoencoder between images and latents.
        flow_completion ([`FlowCompletionUNet`], *optional*):
            F, which completes strokes to dense flow on the latent grid. None for a `unet` that is given the strokes
            themselves, by the condition `sparse_flow`, and nothing that is made of dense flow ("w/o flow completion"
            in table 2 of the paper).
        unet ([`UNet2DConditionModel`]):
            G, which denoises the next frame. Its input is the noisy latent and the conditions, concatenated.
        scheduler ([`SchedulerMixin`]):
            Any scheduler of diffusers for the noise and prediction type that `unet` was trained with.
        text_encoder ([`~transformers.CLIPTextModel`], *optional*):
            Text encoder, if `unet` has cross-attention to text.
        tokenizer ([`~transformers.CLIPTokenizer`], *optional*):
            Its tokenizer.
        image_encoder ([`~transformers.Dinov2Model`], *optional*):
            Encoder of the semantic features that `flow_completion` reads; see [`~mcdiff_pipeline.semantic_features`].
            It encodes each given image once, and is not used if `flow_completion` reads no features.
        conditioning (`str` or `Sequence[str]`, defaults to `("previous_frame", "dense_flow")`):
            Conditions that `unet` is given in addition to the noise, in this order; see
            [`~mcdiff_pipeline.conditioning.FrameConditioner`]. One string may name them all, separated by commas, as
            in the configuration. The default is as in the paper.
        flow_scale (`float`, defaults to 1.0):
            Displacement, in latent cells, that is 1.0 for `unet`.
        residual_condition (`str`, *optional*):
            The condition that `unet` denoises the difference from, one of those that are latents, such as
            `splatted_frame`. Then `unet` does not need to make again what is right in the condition. None denoises the
            next frame itself, as in the paper.
        residual_scale (`float`, defaults to 1.0):
            Factor that brings this difference to the size of the noise.
        default_height (`int`, defaults to 256):
            With `default_width`, about how many pixels the working size has if a call names none. It then is the size
            that stretches the image least; see [`~mcdiff_pipeline.image_processor.ImageProcessor.fitting_size`].
        default_width (`int`, defaults to 256):
            See `default_height`.
        default_num_frames (`int`, defaults to 16):
            Number of frames, the given image included, if neither a call nor its stroke sheet names one.
        default_num_inference_steps (`int`, defaults to 50):
            Denoising steps of a frame if a call names none.
        default_guidance_scale (`float`, defaults to 1.0):
            Guidance on motion if a call names none.

    Raises:
        ValueError: If the channels of `conditioning` do not add up to the input channels of `unet`, `flow_completion`
            does not read the latents of `vae`, `residual_condition` is not a latent out of `conditioning`,
            `residual_scale` is not positive, a condition needs dense flow and there is no `flow_completion`, or
            `flow_completion` reads features of another size than those of `image_encoder`.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->flow_completion->unet->vae"
    _optional_components = ["flow_completion", "text_encoder", "tokenizer", "image_encoder"]
    _callback_tensor_inputs = ["latents", "previous_latents", "dense_flow", "prompt_embeds"]

    def __init__(
        self,
        vae: AutoencoderDC | AutoencoderKL | AutoencoderTiny | VQModel,
        # the class of a model that brought its code along is a copy; without the base class diffusers would warn of it
        flow_completion: FlowCompletionUNet | ModelMixin | None,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        image_encoder: Dinov2Model | None = None,
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
        flow_completion = cast(FlowCompletionUNet | None, flow_completion)
        self.register_modules(
            vae=vae,
            flow_completion=flow_completion,
            unet=unet,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
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
        self.conditioner = FrameConditioner(
            self.conditioning,
            latent_channels=self.latent_channels,
            vae_scale_factor=self.vae_scale_factor,
            flow_scale=flow_scale,
            residual_condition=residual_condition,
            residual_scale=residual_scale,
        )
        if getattr(self, "vae", None):
            check_vae(vae, self.conditioner)
        check_components(unet, flow_completion, self.conditioner)
        check_image_encoder(image_encoder, flow_completion)

        # both networks halve the latent grid once for each level after the first
        levels = [len(model.config.block_out_channels) for model in (unet, flow_completion) if model is not None]
        self.size_multiple = self.vae_scale_factor * 2 ** (max(levels, default=1) - 1)
        self.image_processor = ImageProcessor(self.size_multiple, default_height, default_width)
        self.shows_steps = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Self:
        """
        Load a model; see [`~mcdiff_pipeline.model_files.SafetensorsLoaderMixin.from_pretrained`].

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                A folder, a Hub repository, or `"mcdiff-small-128"`, the embedded model, which is in a checkout and in
                the package that the extra `model` installs.
        """
        if pretrained_model_name_or_path == EMBEDDED_NAME and EMBEDDED_MODEL.is_dir():
            pretrained_model_name_or_path = EMBEDDED_MODEL
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def set_progress_bar_config(self, *, nested: bool = False, **config: Any) -> None:
        """
        Configure the progress bars of calls.

        Args:
            nested (`bool`, defaults to `False`):
                Whether to show a bar of the denoising steps of each frame, below the bar of frames.
            config:
                Arguments of `tqdm`, such as `disable=True`.
        """
        super().set_progress_bar_config(**config)
        self.shows_steps = nested

    @property
    def num_timesteps(self) -> int | None:
        """Denoising steps of all frames up to the last one of the call; None for a stream without an end."""
        return self._num_timesteps

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
        completes_strokes: bool = True,
    ) -> None:
        """
        Check the arguments of a call before anything slow starts. [`MCDiffPipeline.prepare_images`] and
        [`MCDiffPipeline.prepare_strokes`] check theirs. `completes_strokes` says whether strokes are made into dense
        flow, which needs F; a motion that is given does not.

        Raises:
            ValueError: With one sentence that names the argument, its value, and what is allowed.
        """
        for name, number in (
            ("num_frames", num_frames),
            ("num_inference_steps", num_inference_steps),
            ("decode_chunk_size", decode_chunk_size),
        ):
            if not is_whole(number, 1):
                raise ValueError(f"`{name}` is {number!r}, but it has to be a whole number from 1 up.")
        if num_frames > MAX_FRAMES:
            raise ValueError(
                f"`num_frames` is {num_frames}, but a video has at most {MAX_FRAMES} frames: make it in parts, or use "
                "`stream` without `num_frames`."
            )
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f'`output_type` is {output_type!r}, but it has to be "pil", "np", "pt" or "latent".')
        for name in callback_on_step_end_tensor_inputs:
            if name not in self._callback_tensor_inputs:
                raise ValueError(
                    f"`callback_on_step_end_tensor_inputs` names {name!r}, but it has to name some of "
                    f"{self._callback_tensor_inputs}."
                )
        completes_strokes = completes_strokes and dense_flow is None
        check_components(self.unet, self.flow_completion, self.conditioner, completes_strokes)
        check_vae(self.vae, self.conditioner)
        check_scheduler(self.scheduler, num_inference_steps)
        grid = (height // self.vae_scale_factor, width // self.vae_scale_factor)
        check_noise(generator, latents, batch_size, num_frames, (self.latent_channels, *grid))
        check_dense_flow(dense_flow, batch_size, (height, width), self.conditioner)
        check_text(prompt, prompt_embeds, batch_size, self.unet, has_text_encoder=self.text_encoder is not None)

    def prepare_images(
        self, image: ImageInput | Sequence[ImageInput], height: int | None = None, width: int | None = None
    ) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        """Read the given images and bring them to the working size; see
        [`~mcdiff_pipeline.image_processor.ImageProcessor.preprocess`]."""
        return self.image_processor.preprocess(image, height, width)

    def prepare_strokes(
        self,
        strokes: StrokesInput | Sequence[StrokesInput],
        image_sizes: Sequence[tuple[int, int]],
        height: int,
        width: int,
        num_frames: int | None = None,
    ) -> tuple[list[list[Stroke]], int]:
        """
        Bring the strokes of every image to pixels of the working size; see
        [`~mcdiff_pipeline.strokes.strokes_at_size`].

        Returns:
            `tuple[list[list[Stroke]], int]`: one list of strokes for each image, and the number of frames: from the
            call, else from the sheets, else the default of the model.
        """
        default = self.config.default_num_frames
        return strokes_at_size(strokes, image_sizes, height, width, num_frames, default)

    def check_strokes(
        self,
        image: ImageInput | Sequence[ImageInput] | RolloutState,
        strokes: StrokesInput | Sequence[StrokesInput],
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        regions: RegionsInput | Sequence[RegionsInput] | None = None,
    ) -> list[StrokeProblem]:
        """
        The strokes that cannot work as they are: outside the image, at odds with each other, at a held point, or
        faster than F has seen. [`MCDiffPipeline.__call__`] and [`MCDiffPipeline.stream`] warn of them.

        The arguments are as in [`MCDiffPipeline.__call__`]; nothing is encoded.

        Returns:
            `list[StrokeProblem]`; see [`~mcdiff_pipeline.stroke_problems.find_stroke_problems`].

        Raises:
            ValueError: If an argument has a value that is not allowed.
        """
        return self._stroke_problems(CallInputs.read(self, image, strokes, num_frames, height, width, regions=regions))

    def _stroke_problems(self, inputs: CallInputs) -> list[StrokeProblem]:
        latent_grid = inputs.size[0] // self.vae_scale_factor, inputs.size[1] // self.vae_scale_factor
        config = {} if self.flow_completion is None else self.flow_completion.config
        return find_stroke_problems(
            inputs.strokes,
            inputs.image_sizes,
            inputs.size,
            self._completer.grid_of(latent_grid),
            inputs.stroke_frames,
            cell=self.vae_scale_factor,
            max_displacement=config.get("max_displacement"),
            layers=inputs.acting_layers,
        )

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
                Encoded text, instead of `prompt`.

        Returns:
            `torch.Tensor` of shape `(batch_size, tokens, channels)`, or None if there is no text to encode.
        """
        if prompt_embeds is None and self.text_encoder is not None and (self.unet is None or reads_text(self.unet)):
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

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """
        Encode images to scaled latents, deterministically (the mode, if the autoencoder is variational).

        Args:
            images (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Images in [0, 1].

        Returns:
            `torch.Tensor` of shape `(batch_size, channels, height / f, width / f)`.
        """
        return encode_images(self.vae, images.to(self._execution_device))

    def encode_features(self, images: torch.Tensor) -> torch.Tensor | None:
        """
        The semantic features of images that `flow_completion` reads.

        Args:
            images (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Images in [0, 1].

        Returns:
            `torch.Tensor` of shape `(batch_size, channels, grid_height, grid_width)`, float32; None if
            `flow_completion` reads no features, or there is no `image_encoder`.
        """
        if self.image_encoder is None or channels_of_features(self.flow_completion) is None:
            return None
        return encode_features(self.image_encoder, images.to(self._execution_device))

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """
        Decode scaled latents to images.

        Args:
            latents (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
                Scaled latents.

        Returns:
            `torch.Tensor` of shape `(batch_size, 3, height * f, width * f)` in [0, 1].
        """
        return decode_latents(self.vae, latents)

    @torch.no_grad()
    def start(
        self,
        image: ImageInput | Sequence[ImageInput] | None = None,
        height: int | None = None,
        width: int | None = None,
        *,
        frames: Sequence[ImageInput] | None = None,
        regions: RegionsInput | Sequence[RegionsInput] | None = None,
        output_size: OutputSize = None,
        motion: MotionSource | Sequence[MotionSource] | None = None,
        prompt: str | list[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> RolloutState:
        """
        Start a rollout: encode the given images.

        Args:
            image: As in [`MCDiffPipeline.__call__`].
            height (`int`, *optional*):
                Working height in pixels.
            width (`int`, *optional*):
                Working width in pixels.
            frames (`Sequence`, *optional*):
                Frames of one video to continue, instead of an image: the rollout starts with the last one, its colors
                matched to those of the first ([`~mcdiff_pipeline.color_matching.color_match`]).
            regions: As in [`MCDiffPipeline.__call__`].
            output_size: As in [`MCDiffPipeline.__call__`].
            motion: As in [`MCDiffPipeline.__call__`]; a state for a camera has layers, also without regions.
            prompt (`str` or `list[str]`, *optional*):
                Text, for models with a text encoder.
            prompt_embeds (`torch.Tensor` of shape `(batch_size, tokens, channels)`, *optional*):
                Encoded text, instead of `prompt`.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Where the noise of all frames comes from. The state keeps a copy of its state, and the generator is
                left as it is: the noise of frame k depends on the seed and on k only (and, if the scheduler draws
                noise in its steps, on the number of denoising steps before). Without a generator, each step draws
                from PyTorch's global one.

        Returns:
            [`~mcdiff_pipeline.rollout.RolloutState`]: The state at frame 0.

        Raises:
            ValueError: If an argument has a value that is not allowed.
        """
        if (image is None) == (frames is None):
            raise ValueError("`image` and `frames` are both given, or neither: give the one to start from.")
        inputs = CallInputs.read(
            self,
            image if frames is None else self.image_processor.continued_image(frames),
            [],
            None,
            height,
            width,
            regions=regions,
            output_size=output_size,
            motion=motion,
            generator=generator,
            prompt=prompt,
            prompt_embeds=prompt_embeds,
        )
        prompt_embeds = self.encode_prompt(prompt, len(inputs.image_sizes), prompt_embeds)
        state = self._start(inputs, prompt_embeds, generator)
        self.maybe_free_model_hooks()
        return state

    def _start(
        self,
        inputs: CallInputs,
        prompt_embeds: torch.Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> RolloutState:
        """Encode the images of a call to the state at frame 0."""
        images, latents = inputs.images, self.encode_image(inputs.images).to(self.unet.dtype)
        noise_state, noise_device = noise_state_of(generator)
        grid, device = (latents.shape[2], latents.shape[3]), latents.device
        needs_image = self.conditioner.needs_start_image or self._completer.grid_of(grid) != grid
        needs_image = needs_image or inputs.output_image is not None or inputs.layers is not None
        return RolloutState(
            frame=0,
            latents=latents,
            start_latents=latents,
            accumulated_flow=torch.zeros(latents.shape[0], 2, *grid, device=device),
            start_image=images.to(device) if needs_image else None,
            start_features=self.encode_features(images),
            layers=None if inputs.layers is None else inputs.layers.to(device),
            output_image=None if inputs.output_image is None else inputs.output_image.to(device),
            prompt_embeds=prompt_embeds,
            image_sizes=tuple(inputs.image_sizes),
            noise_state=noise_state,
            noise_device=noise_device,
        )

    def _on_own_device(self, state: RolloutState) -> RolloutState:
        """The given state on the device of this model, for example one that was loaded to the CPU."""
        # `_execution_device` walks through all modules, which takes 3 ms in the embedded model. The weights of
        # offloaded models are on another device than the one that they run on.
        if not is_offloaded(self.unet) and state.latents.device == next(self.unet.parameters()).device:
            return state
        return state.to(self._execution_device)

    def _continued(self, state: RolloutState, inputs: CallInputs) -> RolloutState:
        """The given state on the device of this model, with the regions of a call if it gives some, and with the
        features of its image if they are missing, as in a state of an older version."""
        state = self._on_own_device(state)
        if state.start_features is None and state.start_image is not None:
            state = replace(state, start_features=self.encode_features(state.start_image))
        if not inputs.has_own_regions:
            return state
        return replace(state, layers=None if inputs.layers is None else inputs.layers.to(state.latents.device))

    def complete_flow(
        self,
        latents: torch.Tensor,
        sparse_flow: torch.Tensor,
        mask: torch.Tensor,
        regions: torch.Tensor | None = None,
        region_sparse_flow: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        One step of F: complete sparse flow to dense flow. Whatever calls F calls this method.

        The grid is the one that F works on; see [`~mcdiff_pipeline.motion_completion.MotionCompleter.grid_of`]. With
        regions, an F that does not read them is called with the strokes of each region in an entry of the batch.

        Args:
            latents (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
                Scaled latents of the current frame.
            sparse_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
                Displacements in cells of this grid.
            mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool):
                True where a displacement is specified.
            regions (`torch.Tensor` of shape `(batch_size, num_regions, height, width)`, *optional*):
                Share of each cell that shows each region. Only an F with `reads_regions` gets this and the following.
            region_sparse_flow (`torch.Tensor` of shape `(batch_size, num_regions, 2, height, width)`, *optional*):
                Displacements of the strokes of each region, in cells of this grid.
            region_mask (`torch.Tensor` of shape `(batch_size, num_regions, 1, height, width)`, bool, *optional*):
                True where a stroke of the region specifies the displacement.
            features (`torch.Tensor` of shape `(batch_size, channels, grid_height, grid_width)`, *optional*):
                Semantic features of the current frame, on a grid of their own, or
                [`~mcdiff_pipeline.FlowCompletionUNet.reduce_features`] of them, which the pipeline gives. Only an F
                with `feature_channels` gets them.

        Returns:
            `torch.Tensor` of shape `(batch_size, 2, height, width)`, float32, in cells of this grid.
        """
        cell = self.vae_scale_factor
        dense_flow = self.flow_completion(
            latents.to(self.flow_completion.dtype),
            to_pixels(sparse_flow, cell),
            mask,
            regions=regions,
            region_sparse_flow=None if region_sparse_flow is None else to_pixels(region_sparse_flow, cell),
            region_mask=region_mask,
            features=features,
            return_dict=False,
        )[0]
        return to_cells(dense_flow.float(), cell)

    @property
    def _completer(self) -> MotionCompleter:
        """Completes strokes to motion with the present components."""
        return self._completer_with(())

    def _completer_with(self, sources: Sequence[MotionSource]) -> MotionCompleter:
        """The same, with further sources of motion."""
        return MotionCompleter(
            self.flow_completion,
            self.complete_flow,
            self.vae,
            self.vae_scale_factor,
            self.conditioner.needs_sparse_flow,
            sources,
        )

    @torch.no_grad()
    def predict_flow(
        self,
        image: ImageInput | Sequence[ImageInput] | RolloutState,
        strokes: StrokesInput | Sequence[StrokesInput],
        frame: int | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        regions: RegionsInput | Sequence[RegionsInput] | None = None,
        motion: MotionSource | Sequence[MotionSource] | None = None,
    ) -> torch.Tensor:
        """
        The dense flow that F completes from the strokes, without any diffusion.

        Args:
            image: As in [`MCDiffPipeline.__call__`], or a state. Nothing is encoded for a state, unless its working
                size is not the size that F was trained at.
            strokes: As in [`MCDiffPipeline.__call__`].
            frame (`int`, *optional*):
                The step from `frame` to `frame + 1`, whose part of the strokes is completed. None takes the frame of
                the state, or 0 for an image.
            num_frames (`int`, *optional*):
                As in [`MCDiffPipeline.__call__`].
            height (`int`, *optional*):
                Working height in pixels; left out for a state.
            width (`int`, *optional*):
                Working width in pixels; left out for a state.
            regions: As in [`MCDiffPipeline.__call__`]; for a state, instead of its own.
            motion: As in [`MCDiffPipeline.__call__`].

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
        inputs = CallInputs.read(self, image, strokes, num_frames, height, width, regions=regions, motion=motion)
        state = self._start(inputs) if not isinstance(image, RolloutState) else self._continued(image, inputs)
        if frame is None:
            frame = state.frame
        elif not 0 <= frame < max(inputs.stroke_frames - 1, 1):
            raise ValueError(
                f"`frame` is {frame}, but a video of {inputs.stroke_frames} frames has the steps 0 to "
                f"{max(inputs.stroke_frames - 2, 0)}: name one of these, or give `num_frames`."
            )
        state = replace(state, frame=frame)
        completed = self._completer_with(inputs.sources).complete_step(state, inputs.strokes, inputs.stroke_frames)
        self.maybe_free_model_hooks()
        return to_pixels(cast(torch.Tensor, completed.dense_flow), self.vae_scale_factor)

    @torch.no_grad()
    def step(
        self,
        state: RolloutState,
        strokes: StrokesInput | Sequence[StrokesInput] | Motion,
        *,
        num_frames: int | None = None,
        regions: RegionsInput | Sequence[RegionsInput] | None = None,
        dense_flow: torch.Tensor | None = None,
        motion: MotionSource | Sequence[MotionSource] | None = None,
        noise: torch.Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        eta: float = 0.0,
        cancel: threading.Event | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> RolloutState | None:
        """
        Make the next frame. The given state is left as it is, so it can be continued again with other strokes.

        Args:
            state (`RolloutState`):
                The state at the current frame.
            strokes: As in [`MCDiffPipeline.__call__`]; the part from the current frame to the next counts. Or a
                [`~mcdiff_pipeline.rollout.Motion`] instead of strokes. F completes a motion without dense flow.
            num_frames (`int`, *optional*):
                Number of frames of the video; it ends the strokes without an end of their own. None takes the number
                of the stroke sheet, else the default of the model.
            regions: As in [`MCDiffPipeline.__call__`], instead of those of the state; they are regions of frame 0. An
                empty list removes those of the state.
            dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*):
                Flow that replaces the flow of F, in pixels of the working size, on the latent grid or on the pixel
                grid.
            motion: As in [`MCDiffPipeline.__call__`]; not together with a [`~mcdiff_pipeline.rollout.Motion`].
            noise (`torch.Tensor` of shape `(batch_size, channels, height / f, width / f)`, *optional*):
                Standard normal noise, instead of drawing it.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Where noise is drawn from. None takes the generators of the state; see [`MCDiffPipeline.start`].
            num_inference_steps (`int`, *optional*):
                Denoising steps. None takes the default of the model.
            guidance_scale (`float`, *optional*):
                Guidance on motion. None takes the default of the model.
            eta (`float`, defaults to 0.0):
                η of DDIM (Song et al. 2021); other schedulers ignore it.
            cancel (`threading.Event`, *optional*):
                Ends the step before the next denoising step when it is set, from any thread.
            callback_on_step_end (`Callable`, *optional*):
                See [`MCDiffPipeline.__call__`].
            callback_on_step_end_tensor_inputs (`Sequence[str]`, defaults to `("latents",)`):
                See [`MCDiffPipeline.__call__`].

        Returns:
            [`~mcdiff_pipeline.rollout.RolloutState`]: The state at the next frame, or None if the step was canceled.

        Raises:
            ValueError: If an argument has a value that is not allowed.
            TypeError: If `state` is not a state.
        """
        callback_tensor_inputs = tensor_inputs_of(callback_on_step_end, callback_on_step_end_tensor_inputs)
        check_step(state, strokes, dense_flow, noise, motion)
        inputs = CallInputs.read(
            self,
            state,
            [] if isinstance(strokes, Motion) else strokes,
            num_frames,
            None,
            None,
            num_inference_steps,
            guidance_scale,
            regions=regions,
            motion=motion,
            generator=generator,
            dense_flow=None if dense_flow is None else [dense_flow],
            callback_on_step_end_tensor_inputs=callback_tensor_inputs,
            completes_strokes=not isinstance(strokes, Motion),
        )
        state = self._continued(state, inputs)
        if isinstance(strokes, Motion):
            completed = self._completer.complete(state, strokes.to(state.latents.device))
        else:
            completer = self._completer_with(inputs.sources)
            completed = completer.complete_step(state, inputs.strokes, inputs.stroke_frames, dense_flow)
        num_frames = state.frame + 2  # of a video that ends with the next frame
        denoiser = self._begin_call(inputs, num_frames, eta, cancel, callback_on_step_end, callback_tensor_inputs)
        with self._interruptible(denoiser):
            following = denoiser.next_state(state, completed, noise, generator or state.generator())
            denoiser.check_finite()
        self.maybe_free_model_hooks()
        return following

    def _roll_out(
        self,
        denoiser: FrameDenoiser,
        state: RolloutState,
        inputs: CallInputs,
        num_frames: int | None,
        strokes_of: Callable[[int], StrokesInput] | None,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> Iterator[RolloutState]:
        """
        The loop: F, then G, frame after frame, until `num_frames` exist or the call is canceled.

        Args:
            denoiser: The denoiser of the call.
            state: Where to start.
            inputs: The inputs of the call.
            num_frames: Number of frames to stop at, frame 0 included; None has no end.
            strokes_of: Called before each frame for its strokes, instead of the strokes in `inputs`.
            generator: Where noise is drawn from. None takes the generators of the state.

        Yields:
            [`~mcdiff_pipeline.rollout.RolloutState`] at each new frame.
        """
        generator = generator or state.generator()
        strokes, stroke_frames = inputs.strokes, inputs.stroke_frames
        completer = self._completer_with(inputs.sources)
        total = math.inf if num_frames is None else max(num_frames - 1 - state.frame, 0)
        with self.progress_bar(total=total) as progress_bar:
            progress_bar.set_description("Frames")
            while not denoiser.is_canceled and (num_frames is None or state.frame < num_frames - 1):
                if strokes_of is not None:
                    strokes, stroke_frames = self.prepare_strokes(
                        strokes_of(state.frame), inputs.image_sizes, *inputs.size, num_frames
                    )
                    if state.layers is None:
                        check_named_regions(strokes)
                flow = inputs.flow_of_step(state.frame)
                motion = completer.complete_step(state, strokes, stroke_frames, flow)
                following = denoiser.next_state(state, motion, inputs.noise_of_step(state.frame), generator)
                if following is None:
                    break
                state = following
                # what is made of a start image waits for a GPU in any case
                waits = state.latents.device.type == "cpu" or state.start_image is not None
                denoiser.check_finite(but_last=0 if waits else 1)
                progress_bar.update()
                yield state
            denoiser.check_finite()

    @overload
    def __call__(self, *arguments: Any, return_dict: Literal[False], **further: Any) -> tuple: ...

    @overload
    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        strokes: StrokesInput | Sequence[StrokesInput],
        num_frames: int | None = ...,
        height: int | None = ...,
        width: int | None = ...,
        num_inference_steps: int | None = ...,
        guidance_scale: float | None = ...,
        prompt: str | list[str] | None = ...,
        eta: float = ...,
        generator: torch.Generator | list[torch.Generator] | None = ...,
        latents: torch.Tensor | None = ...,
        dense_flow: torch.Tensor | list[torch.Tensor | None] | None = ...,
        prompt_embeds: torch.Tensor | None = ...,
        regions: RegionsInput | Sequence[RegionsInput] | None = ...,
        motion: MotionSource | Sequence[MotionSource] | None = ...,
        output_size: OutputSize = ...,
        detail: bool = ...,
        decode_chunk_size: int = ...,
        output_type: str = ...,
        return_dict: Literal[True] = ...,
        callback_on_step_end: StepCallback | None = ...,
        callback_on_step_end_tensor_inputs: Sequence[str] = ...,
        cancel: threading.Event | None = ...,
    ) -> MCDiffPipelineOutput: ...

    @torch.no_grad()  # type: ignore[misc]  # the first overload leaves arguments out
    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        strokes: StrokesInput | Sequence[StrokesInput],
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
        regions: RegionsInput | Sequence[RegionsInput] | None = None,
        motion: MotionSource | Sequence[MotionSource] | None = None,
        output_size: OutputSize = None,
        detail: bool = True,
        decode_chunk_size: int = 8,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        cancel: threading.Event | None = None,
    ) -> MCDiffPipelineOutput | tuple:
        r"""
        Animate images along strokes.

        Several threads can call one pipeline at a time, except with offloading: each call denoises with its own copy
        of the scheduler.

        Args:
            image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor`, `str`, `os.PathLike` or a list of these):
                The first frame of the video, of any mode and size; see
                [`~mcdiff_pipeline.image_processor.load_image_tensor`]. Several make a batch.
            strokes (`list[Stroke]`, `StrokeSheet`, `str`, `os.PathLike` or a list of these):
                What moves: strokes in pixels of the given image, a stroke sheet, the path of one, or one of these for
                each image. An empty list leaves all motion to the model.
            num_frames (`int`, *optional*):
                Number of frames of the video, the given image included. None takes the number of the stroke sheet,
                else the default of the model.
            height (`int`, *optional*):
                Working height in pixels. For None, see [`MCDiffPipeline.prepare_images`]. If both sides are given, the
                image is stretched to them, and frames have this size.
            width (`int`, *optional*):
                Working width in pixels.
            num_inference_steps (`int`, *optional*):
                Denoising steps of each frame. None takes the default of the model.
            guidance_scale (`float`, *optional*):
                Classifier-free guidance (Ho and Salimans 2022) on motion: s in `still + s * (moving - still)`, where
                `still` is the prediction without motion and `moving` the prediction with the motion of the step. 1.0
                is no guidance and costs nothing. None takes the default of the model.
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
                Forward flow in pixels of the working size, which replaces the flow of F: a tensor
                `(batch_size, steps, 2, height, width)` for the first `steps` steps, or one `(batch_size, 2, height,
                width)` for each step, with None where F completes the strokes. Each is on the latent grid or on the
                pixel grid.
            prompt_embeds (`torch.Tensor` of shape `(batch_size, tokens, channels)`, *optional*):
                Encoded text, instead of `prompt`.
            regions (`list[Region]`, `np.ndarray`, `torch.Tensor`, `PIL.Image.Image`, path or a list of these):
                The things that move as wholes: [`Region`]s in pixels of the given image, or a label map
                `(height, width)` of whole numbers, in which 0 says nothing; or one of these for each image. A stroke
                belongs to the region in which it begins, and acts in it only. None takes those of the stroke sheet.
                In a batch, all images have regions, or none.
            motion (`MotionSource` or `Sequence[MotionSource]`, *optional*):
                Further sources of motion, such as a [`~mcdiff_pipeline.motion.camera.Camera`]. Each changes what the
                strokes and those before it give; see [`~mcdiff_pipeline.motion_completion.MotionSource`].
            output_size (`"image"` or `tuple[int, int]`, *optional*):
                Size of the frames: "image" is that of the given image, a pair is (height, width), at most 4,096 pixels
                on a side. None is the working size if `height` and `width` are given, or if the model has no dense
                flow; else frames have as many pixels, in the shape of the image. The motion is computed at the working
                size in any case.
            detail (`bool`, defaults to `True`):
                Whether frames get back the detail of the given image that the autoencoder loses, where the image is
                still to be seen; see [`~mcdiff_pipeline.detail`]. A model without the condition `start_picture` does
                this only where frames have an output size that is not the working size.
            decode_chunk_size (`int`, defaults to 8):
                Frames of each image that are decoded at a time; fewer take less memory.
            output_type (`str`, defaults to `"pil"`):
                `"pil"`, `"np"`, `"pt"` or `"latent"`; see [`MCDiffPipelineOutput`].
            return_dict (`bool`, defaults to `True`):
                Whether to return an [`MCDiffPipelineOutput`] instead of a tuple.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipeline, step, timestep, tensors)` after every denoising step; `step` counts over
                all frames. It may return a dict with new `latents`, may set `pipeline._interrupt = True` to end its
                call with the last frame that is finished, and may set `pipeline._guidance_scale` for the steps that
                follow; a frame that began without guidance stays without it.
            callback_on_step_end_tensor_inputs (`Sequence[str]`, defaults to `("latents",)`):
                Tensors to give to the callback, out of `latents`, `previous_latents`, `dense_flow` (in pixels),
                `prompt_embeds`; the last two are None in a model without F or text.
            cancel (`threading.Event`, *optional*):
                Ends the call with the last frame that is finished when it is set, from any thread. It takes effect
                before the next denoising step.

        Examples:
            ```py
            >>> from mcdiff_pipeline import MCDiffPipeline, Stroke

            >>> pipe = MCDiffPipeline.from_pretrained("checkpoints/mcdiff-small-128")
            >>> arm = Stroke([(210, 330), (250, 240), (330, 200)])
            >>> feet = Stroke([(220, 480)], kind="hold")
            >>> frames = pipe("image.jpg", [arm, feet], num_frames=16).frames[0]
            ```

        Returns:
            [`MCDiffPipelineOutput`] or `tuple`: `frames` and `dense_flow`.

        Raises:
            ValueError: If an argument has a value that is not allowed; see [`MCDiffPipeline.check_inputs`].
        """
        callback_tensor_inputs = tensor_inputs_of(callback_on_step_end, callback_on_step_end_tensor_inputs)

        # 0. Resolve defaults, read and check everything
        inputs = CallInputs.read(
            self,
            image,
            strokes,
            num_frames,
            height,
            width,
            num_inference_steps,
            guidance_scale,
            regions=regions,
            motion=motion,
            output_size=output_size,
            generator=generator,
            latents=latents,
            dense_flow=dense_flow,
            prompt=prompt,
            prompt_embeds=prompt_embeds,
            decode_chunk_size=decode_chunk_size,
            output_type=output_type,
            callback_on_step_end_tensor_inputs=callback_tensor_inputs,
        )
        num_frames = inputs.stroke_frames
        check_flow_steps(inputs.dense_flow, num_frames)
        if not inputs.sources:  # which may say how rigid regions move
            check_rigid_layers(inputs.layers, inputs.strokes, num_frames)
        warn_of(self._stroke_problems(inputs), stacklevel=3)  # above this call is its decorator
        denoiser = self._begin_call(inputs, num_frames, eta, cancel, callback_on_step_end, callback_tensor_inputs)

        with self._interruptible(denoiser):
            # 1. Encode the text and, once, the images
            prompt_embeds = self.encode_prompt(prompt, len(inputs.images), prompt_embeds)
            state = self._start(inputs, prompt_embeds, generator)

            # 2. Frame after frame, in latent space
            states = [state, *self._roll_out(denoiser, state, inputs, num_frames, None, generator)]
        flows = self.flow_of(states)

        # 3. Decode
        frames = self.decode_video(states, inputs.images, detail, decode_chunk_size, output_type)

        self.maybe_free_model_hooks()

        if not return_dict:
            return (frames, flows)
        return MCDiffPipelineOutput(frames=frames, dense_flow=flows)

    def flow_of(self, states: Sequence[RolloutState]) -> torch.Tensor | None:
        """
        The flow of the steps between the states of a rollout.

        Args:
            states (`Sequence[RolloutState]`):
                The states, from frame 0 on.

        Returns:
            `torch.Tensor` of shape `(batch_size, len(states) - 1, 2, height / f, width / f)`, in pixels of the working
            size; None from a model without F.
        """
        if self.flow_completion is None:
            return None
        flows = [states[0].accumulated_flow[:, None][:, :0]]  # a video of one frame has no step
        for state in states[1:]:
            flows.append(to_pixels(cast(torch.Tensor, state.dense_flow), self.vae_scale_factor)[:, None])
        return torch.cat(flows, dim=1)  # [B, N - 1, 2, h, w]

    @torch.no_grad()
    def decode_video(
        self,
        states: Sequence[RolloutState],
        images: torch.Tensor,
        detail: bool = True,
        decode_chunk_size: int = 8,
        output_type: str = "pil",
    ):
        """
        The frames of the states of a rollout.

        Args:
            states (`Sequence[RolloutState]`):
                The states, from frame 0 on.
            images (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                The given images at the working size, in [0, 1]. The first frame is the image itself.
            detail (`bool`, defaults to `True`):
                As in [`MCDiffPipeline.__call__`].
            decode_chunk_size (`int`, defaults to 8):
                As in [`MCDiffPipeline.__call__`].
            output_type (`str`, defaults to `"pil"`):
                `"pil"`, `"np"`, `"pt"` or `"latent"`.

        Returns:
            The frames, as in [`MCDiffPipelineOutput`].
        """
        if output_type == "latent":
            return torch.stack([state.latents for state in states], dim=1)  # [B, N, C, h, w]
        decoder = FrameDecoder(self.vae, self.conditioner, detail)
        shown = shown_images(states[0], images)[:, None].cpu()
        videos = [self.image_processor.postprocess(shown, output_type)]
        chunk = int(decode_chunk_size)
        for first in range(1, len(states), chunk):
            for decoded in decoder.decode(states[first : first + chunk]):
                videos.append(self.image_processor.postprocess(decoded[:, None], output_type))
        return self.image_processor.concatenate(videos)

    def _begin_call(
        self,
        inputs: CallInputs,
        num_frames: int | None,
        eta: float,
        cancel: threading.Event | None,
        callback: StepCallback | None,
        callback_tensor_inputs: Sequence[str],
    ) -> FrameDenoiser:
        """Check how a call runs, make its denoiser, and set the properties of the pipeline that describe the call."""
        check_running(eta, cancel, callback)
        denoiser = FrameDenoiser(
            self, inputs.num_inference_steps, inputs.guidance_scale, eta, cancel, callback, callback_tensor_inputs
        )
        self._last_interrupted = False
        self._last_guidance_scale = inputs.guidance_scale
        self._num_timesteps = None if num_frames is None else (num_frames - 1) * len(denoiser.scheduler.timesteps)
        return denoiser

    def stream(
        self,
        image: ImageInput | RolloutState,
        strokes: StrokesInput | Callable[[int], StrokesInput],
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
        regions: RegionsInput | Sequence[RegionsInput] | None = None,
        motion: MotionSource | Sequence[MotionSource] | None = None,
        output_size: OutputSize = None,
        detail: bool = True,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        cancel: threading.Event | None = None,
        return_states: bool = False,
    ) -> Iterator[Any]:
        """
        Yield each frame as soon as it is ready, as long as frames are requested. Memory does not grow.

        The frames are those of [`MCDiffPipeline.__call__`] for the same arguments and generator state.

        Args:
            image: One image, as in [`MCDiffPipeline.__call__`]; or a state, of [`MCDiffPipeline.start`],
                [`MCDiffPipeline.step`] or a stream, to continue: the first frame is then the frame after it.
            strokes: The strokes, as in [`MCDiffPipeline.__call__`]; or a callable. It is called before each frame with
                the index of the current frame, and returns the strokes of the step to the next frame. Regions of a
                sheet that it returns are not read: give `regions`.
            num_frames (`int`, *optional*):
                Number of frames to stop at, frame 0 included. With None, the stream has no end. Strokes without an end
                of their own then end with their sheet, or with the default number of frames of the model. After that,
                nothing is specified.
            dense_flow (`torch.Tensor` or `list[torch.Tensor | None]`, *optional*):
                As in [`MCDiffPipeline.__call__`]. Its steps count from frame 0, also in a stream from a state.
            regions: As in [`MCDiffPipeline.__call__`]; for a state, instead of its own.
            motion: As in [`MCDiffPipeline.__call__`].
            output_size: As in [`MCDiffPipeline.__call__`]; a state has its own.
            cancel (`threading.Event`, *optional*):
                Ends the stream when it is set, from any thread, before the next denoising step.
            return_states (`bool`, defaults to `False`):
                Whether to yield pairs of a frame and its state.

        The other arguments are as in [`MCDiffPipeline.__call__`].

        Returns:
            An iterator over frames: PIL images, arrays `(output_height, output_width, 3)`, tensors `(3, output_height,
            output_width)`, both in [0, 1], or scaled latents `(channels, height / f, width / f)`; with `return_states`
            over pairs of a frame and a [`~mcdiff_pipeline.rollout.RolloutState`].

        Raises:
            ValueError: At once, not at the first frame, if an argument has a value that is not allowed.
        """
        callback_tensor_inputs = tensor_inputs_of(callback_on_step_end, callback_on_step_end_tensor_inputs)

        inputs = CallInputs.read(
            self,
            image,
            [] if callable(strokes) else strokes,
            num_frames,
            height,
            width,
            num_inference_steps,
            guidance_scale,
            regions=regions,
            motion=motion,
            output_size=output_size,
            generator=generator,
            dense_flow=dense_flow,
            prompt=prompt,
            prompt_embeds=prompt_embeds,
            output_type=output_type,
            callback_on_step_end_tensor_inputs=callback_tensor_inputs,
        )
        if len(inputs.image_sizes) > 1:
            raise ValueError(
                f"There are {len(inputs.image_sizes)} images, but a stream shows one: call the pipeline for a batch."
            )
        if num_frames is not None:
            check_flow_steps(inputs.dense_flow, num_frames)
        if not callable(strokes):
            if not inputs.sources:
                check_rigid_layers(inputs.layers, inputs.strokes, inputs.stroke_frames)
            warn_of(self._stroke_problems(inputs), stacklevel=2)
        denoiser = self._begin_call(inputs, num_frames, eta, cancel, callback_on_step_end, callback_tensor_inputs)
        decoder = FrameDecoder(self.vae, self.conditioner, detail)
        strokes_of = strokes if callable(strokes) else None

        @torch.no_grad()
        def frames():
            try:
                with self._interruptible(denoiser):
                    if isinstance(image, RolloutState):
                        state = self._continued(image, inputs)
                    else:
                        embeds = self.encode_prompt(prompt, 1, prompt_embeds)
                        state = self._start(inputs, embeds, generator)
                        frame = self._frame_of(state, output_type, decoder, inputs.images)
                        yield (frame, state) if return_states else frame
                    for state in self._roll_out(denoiser, state, inputs, num_frames, strokes_of, generator):
                        frame = self._frame_of(state, output_type, decoder)
                        denoiser.check_finite()
                        yield (frame, state) if return_states else frame
            finally:  # also if the caller closes the stream, or drops it
                self.maybe_free_model_hooks()

        return frames()

    def _frame_of(
        self, state: RolloutState, output_type: str, decoder: FrameDecoder, images: torch.Tensor | None = None
    ):
        """The frame of a state with one image, in the form of `output_type`. `images` are frame 0, if it is wanted."""
        if output_type == "latent":
            return state.latents[0]
        if images is None:
            (images,) = decoder.decode([state])
        else:
            images = shown_images(state, images).cpu()
        return self.image_processor.postprocess(images[:, None], output_type)[0][0]

    @torch.no_grad()
    def decode_frame(self, state: RolloutState, output_type: str = "pil", detail: bool = True):
        """
        The frame of a state, as [`MCDiffPipeline.stream`] shows it: at the output size that it was started with.

        With detail, each call separates the layers of the given image again; a stream does so once.

        Args:
            state (`RolloutState`):
                A state of this model.
            output_type (`str`, defaults to `"pil"`):
                `"pil"`, `"np"` or `"pt"`.
            detail (`bool`, defaults to `True`):
                As in [`MCDiffPipeline.__call__`].

        Returns:
            A list of PIL images, an array `(batch_size, output_height, output_width, 3)` or a tensor `(batch_size, 3,
            output_height, output_width)`, both in [0, 1].

        Raises:
            ValueError: If `output_type` is none of these.
        """
        if output_type not in OUTPUT_TYPES or output_type == "latent":
            raise ValueError(f'`output_type` is {output_type!r}, but it has to be "pil", "np" or "pt".')
        state = self._on_own_device(state)
        (images,) = FrameDecoder(self.vae, self.conditioner, detail).decode([state])
        self.maybe_free_model_hooks()
        frames = self.image_processor.postprocess(images[:, None], output_type)
        return [video[0] for video in frames] if isinstance(frames, list) else frames[:, 0]
