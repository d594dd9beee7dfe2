# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The inputs of a call: read, brought to the working size, resolved and checked before anything slow starts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from diffusers import DiffusionPipeline

from .image_processor import OutputSize
from .input_checks import check_carried, check_guidance, check_state
from .layers import Layers
from .motion_completion import MotionSource
from .regions import MaskInput, Region, is_whole, regions_of
from .rollout import RolloutState
from .strokes import Stroke, StrokeSheet, load_sheets, regions_of_sheets, resolve_region


# Strokes of one image in one of the forms that [`MCDiffPipeline.prepare_strokes`] reads.
StrokesInput = Sequence[Stroke] | StrokeSheet | str | os.PathLike

# Regions of one image: a list of them, or a label map.
RegionsInput = Sequence[Region] | MaskInput


@dataclass(frozen=True)
class CallInputs:
    """
    The inputs of a call, read, resolved and checked.

    Args:
        images_or_none (`torch.Tensor` of shape `(batch_size, 3, height, width)`, *optional*):
            The given images at the working size, in [0, 1]; None if the call continues from a state.
        image_sizes (`Sequence[tuple[int, int]]`):
            (height, width) in which each image was given.
        size (`tuple[int, int]`):
            Working (height, width) in pixels.
        strokes (`list[list[Stroke]]`):
            Strokes of each image, in pixels of the working size; empty if they come frame by frame.
        stroke_frames (`int`):
            Number of frames that ends the strokes without an end of their own.
        num_inference_steps (`int`):
            Denoising steps of a frame.
        guidance_scale (`float`):
            Guidance on motion.
        layers (`Layers`, *optional*):
            The regions of the images at frame 0.
        output_image (`torch.Tensor` of shape `(batch_size, 3, output_height, output_width)`, uint8, *optional*):
            The given images at the size at which frames are shown.
        has_own_regions (`bool`, defaults to `False`):
            Whether `layers` replaces the layers of a state, also if it is None: the call gives regions, or the state
            has none.
        acting_layers (`Layers`, *optional*):
            The regions that strokes are in: `layers`, or those of the state.
        sources (`tuple[MotionSource, ...]`):
            Further sources of motion.
        dense_flow (`Sequence[torch.Tensor | None]`, defaults to `()`):
            Flow of each step that replaces the flow of F, as in [`MCDiffPipeline.__call__`].
        noise (`torch.Tensor` of shape `(batch_size, num_frames - 1, channels, height / f, width / f)`, *optional*):
            Noise of all steps, instead of drawing it.
    """

    images_or_none: torch.Tensor | None
    image_sizes: Sequence[tuple[int, int]]
    size: tuple[int, int]
    strokes: list[list[Stroke]]
    stroke_frames: int
    num_inference_steps: int
    guidance_scale: float
    layers: Layers | None = None
    output_image: torch.Tensor | None = None
    has_own_regions: bool = False
    acting_layers: Layers | None = None
    sources: tuple[MotionSource, ...] = ()
    dense_flow: Sequence[torch.Tensor | None] = ()
    noise: torch.Tensor | None = None

    def flow_of_step(self, frame: int) -> torch.Tensor | None:
        """The flow that was given for the step from `frame` to the next frame, in pixels of the working size."""
        return self.dense_flow[frame] if frame < len(self.dense_flow) else None

    def noise_of_step(self, frame: int) -> torch.Tensor | None:
        """The noise that was given for the step from `frame` to the next frame, `[B, C, h, w]`."""
        return None if self.noise is None else self.noise[:, frame]

    @property
    def images(self) -> torch.Tensor:
        """The given images. Raises `TypeError` if a state was given instead."""
        if self.images_or_none is None:
            raise TypeError("`image` is a state, but an image is needed: continue a state by `stream` or `step`.")
        return self.images_or_none

    @classmethod
    def read(
        cls,
        pipe: DiffusionPipeline,
        image: Any,
        strokes: Any,
        num_frames: int | None,
        height: int | None,
        width: int | None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        *,
        regions: Any = None,
        output_size: OutputSize = None,
        motion: Any = None,
        **others: Any,
    ) -> Self:
        """
        Resolve defaults, read images, strokes and regions, and check everything. Every entry point begins with this.

        Args:
            pipe (`MCDiffPipeline`):
                The pipeline that is called.
            image: Images, or a state to continue from.
            motion: Further sources of motion; see [`sources_of`].
            others: Arguments of [`MCDiffPipeline.check_inputs`].

        The other arguments are as in [`MCDiffPipeline.__call__`].

        Raises:
            ValueError, TypeError: If an argument has a value that is not allowed.
        """
        if num_inference_steps is None:
            num_inference_steps = pipe.config.default_num_inference_steps
        if guidance_scale is None:
            guidance_scale = pipe.config.default_guidance_scale
        num_frames, height, width = map(_plain, (num_frames, height, width))
        num_inference_steps = _plain(num_inference_steps)
        check_guidance(guidance_scale, pipe.conditioner, pipe.scheduler)

        images = output_image = None
        state = image if isinstance(image, RolloutState) else None
        if state is not None:
            given = {"height": height, "width": width, "output_size": output_size}
            given |= {name: others.get(name) for name in ("prompt", "prompt_embeds")}
            check_state(state, pipe.conditioner, pipe.unet, pipe.flow_completion, given)
            image_sizes, batch_size, shown = state.image_sizes, len(state.latents), state.output_image
            size = (state.latents.shape[2] * pipe.vae_scale_factor, state.latents.shape[3] * pipe.vae_scale_factor)
            others["prompt_embeds"] = state.prompt_embeds
        else:
            given_images = pipe.image_processor.load(image)
            image_sizes = tuple((one.shape[1], one.shape[2]) for one in given_images)
            images = pipe.image_processor.to_working_size(given_images, height, width)
            is_exact = height is not None and width is not None
            if output_size is None and not is_exact and pipe.conditioner.needs_dense_flow:
                working = (images.shape[2], images.shape[3])
                output_size = pipe.image_processor.unstretched_size(image_sizes, working)
            shown = output_image = pipe.image_processor.to_output_size(given_images, output_size)
            batch_size, size = len(images), (images.shape[2], images.shape[3])

        strokes = load_sheets(strokes, len(image_sizes))
        if motion is None and any(getattr(one, "camera", None) is not None for one in strokes):
            raise ValueError(
                "The stroke sheet has a camera, and `motion` is not given: give `Camera.from_dict(sheet.camera)` of "
                "mcdiff_pipeline.motion.camera as `motion`, or `motion=()` to leave the camera out."
            )
        # a state's regions replace those of a sheet
        has_own_regions = regions is not None or state is None or state.layers is None
        if has_own_regions:
            regions = regions_of_call(regions, strokes, image_sizes)
        sources = sources_of(motion)
        check_carried(pipe.conditioner, output_size, regions, sources)
        needs_layers = any(source.needs_layers for source in sources)
        if regions is None and needs_layers and has_own_regions:
            regions = [()] * len(image_sizes)
        if regions is not None and not needs_layers:
            check_all_have_regions(regions)
        strokes, stroke_frames = pipe.prepare_strokes(strokes, image_sizes, *size, num_frames)
        pipe.check_inputs(stroke_frames, *size, num_inference_steps, batch_size, **others)

        layers = None
        if regions is not None:
            if state is not None:
                accumulated_flow = state.accumulated_flow
            else:
                grid = (side // pipe.vae_scale_factor for side in size)
                accumulated_flow = torch.zeros(batch_size, 2, *grid)
            shown_size = None if shown is None else (shown.shape[2], shown.shape[3])
            layers = Layers.begin(regions, image_sizes, size, accumulated_flow, shown_size, needs_layers=needs_layers)
        acting_layers = layers if state is None or has_own_regions else state.layers
        for source in sources:
            source.check(acting_layers, stroke_frames)
        if (layers is None or layers.shares.shape[1] == 1) and has_own_regions:
            check_named_regions(strokes)
        dense_flow = others.get("dense_flow")
        return cls(
            images,
            image_sizes,
            size,
            strokes,
            stroke_frames,
            cast(int, num_inference_steps),
            guidance_scale,
            layers,
            output_image,
            has_own_regions,
            acting_layers,
            sources,
            dense_flow=dense_flow.unbind(1) if isinstance(dense_flow, torch.Tensor) else dense_flow or (),
            noise=others.get("latents"),
        )


def sources_of(motion: Any) -> tuple[MotionSource, ...]:
    """
    Sources of motion as they are given to a call.

    Args:
        motion: A [`~mcdiff_pipeline.motion_completion.MotionSource`], several in a list, or None.

    Raises:
        TypeError: If one is not a source of motion.
    """
    sources = () if motion is None else tuple(motion) if isinstance(motion, (list, tuple)) else (motion,)
    for source in sources:
        if not (callable(source) and hasattr(source, "needs_layers") and hasattr(source, "check")):
            raise TypeError(
                f"`motion` holds a {type(source).__name__}, but it has to be a source of motion, such as a `Camera` "
                "or a `ReferenceMotion`, or a list of these."
            )
    return sources


def _plain(number: Any) -> Any:
    """A whole number of any type, such as `np.int64(4)`, as an `int`; anything else as it is."""
    return int(number) if is_whole(number, 0) else number


def check_all_have_regions(regions: Sequence[Sequence[Region]]) -> None:
    """Raises `ValueError` if some images of a batch have regions and others do not: these would be moved as layers,
    too, and not as they are alone."""
    without = [index for index, of_image in enumerate(regions) if not of_image]
    if without:
        raise ValueError(
            f"Image {without[0]} of this batch has no regions, but others have: give each image a region, or call the "
            "pipeline for the images without regions on their own."
        )


def check_named_regions(strokes: Sequence[Sequence[Stroke]]) -> None:
    """Raises `ValueError` if a stroke of images without regions names a region."""
    for of_image in strokes:
        for stroke in of_image:
            resolve_region(stroke, ())


def regions_of_call(
    regions: Any, strokes: Sequence[StrokeSheet | list[Stroke]], image_sizes: Sequence[tuple[int, int]]
) -> list[tuple[Region, ...]] | None:
    """
    The regions of each image of a call.

    Args:
        regions:
            Regions or a label map for one image, or a list of these with one entry for each image. A single entry
            serves all images. None takes the regions of the stroke sheets.
        strokes (`Sequence[StrokeSheet | list[Stroke]]`):
            What [`~mcdiff_pipeline.strokes.load_sheets`] returns.
        image_sizes (`Sequence[tuple[int, int]]`):
            (height, width) in which each image was given.

    Returns:
        `list[tuple[Region, ...]]`, with polygons in pixels of the given images; None if no image has a region.

    Raises:
        ValueError: If regions are given twice, for another number of images, or one does not fit its image.
        TypeError: If they are of none of these types.
    """
    of_sheets = regions_of_sheets(strokes, image_sizes)
    if regions is None:
        found = [one or () for one in of_sheets]
        return found if any(found) else None
    if any(of_sheets):
        raise ValueError(
            "`regions` is given together with a stroke sheet that has regions: give either, or a sheet without them."
        )
    is_for_one = not isinstance(regions, (list, tuple)) or all(isinstance(one, Region) for one in regions)
    given: Sequence[Any] = [regions] if is_for_one else regions
    if len(given) not in (1, len(image_sizes)):
        raise ValueError(
            f"There are regions for {len(given)} images, but {len(image_sizes)} images: give one list or label map "
            "for each image, or a single one for all."
        )
    given = list(given) * len(image_sizes) if len(given) == 1 else given
    found = [regions_of(one, *size) for one, size in zip(given, image_sizes, strict=True)]
    return found if any(found) else None
