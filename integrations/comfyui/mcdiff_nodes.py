# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The nodes. Images are IMAGE `(frames, height, width, 3)` in [0, 1], masks are MASK `(batch, height, width)`."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import PIL.Image
import torch

from mcdiff_pipeline import MCDiffPipeline, Region, RolloutState, StrokeSheet
from mcdiff_pipeline.drawing import draw_strokes
from mcdiff_pipeline.flow import resize_flow
from mcdiff_pipeline.flow_visualization import flow_to_image
from mcdiff_pipeline.model_names import EMBEDDED_MODEL, EMBEDDED_NAME
from mcdiff_pipeline.motion.clip_streams import faded
from mcdiff_pipeline.motion.track_splines import parse_tracks
from mcdiff_pipeline.video.clip_metadata import LeadIn

from .mcdiff_inputs import (
    frames_of,
    image_of,
    joined,
    later,
    lead_of,
    sheet_of,
    sheet_path,
    strokes_of,
)


# The folder of models below ComfyUI's `models`.
MODELS = "mcdiff"
folder_paths.add_model_folder_path(MODELS, os.path.join(folder_paths.models_dir, MODELS))

# Longest side of the previews during generation, in pixels.
PREVIEW_SIDE = 512

WORKING_SIZE, IMAGE_SIZE = "working size", "size of the image"


def installed_models() -> dict[str, str]:
    """The models that a node can load: the embedded one, and the folders in `models/mcdiff`, by name."""
    found = {EMBEDDED_NAME: EMBEDDED_NAME} if EMBEDDED_MODEL.is_dir() else {}
    for folder in folder_paths.get_folder_paths(MODELS):
        for index in sorted(Path(folder).glob("*/model_index.json")):
            found[index.parent.name] = str(index.parent)
    return found


class MCDiffLoadModel:
    """Loads a model to the device of ComfyUI."""

    DESCRIPTION = "Loads an MCDiff model: the embedded one, a folder in models/mcdiff, or a repository on the Hub."
    CATEGORY = "MCDiff"
    RETURN_TYPES = ("MCDIFF_MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model, for the other MCDiff nodes.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        models = list(installed_models()) or ["none"]
        return {
            "required": {
                "model": (
                    models,
                    {"tooltip": "A folder in models/mcdiff, as save_pretrained or mcdiff export wrote it."},
                ),
                "dtype": (["float32", "bfloat16", "float16"], {"tooltip": "float32 is the fastest on a CPU."}),
            },
            "optional": {
                "repository": ("STRING", {"default": "", "tooltip": "owner/name on the Hub, instead of the above."})
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str, repository: str = "") -> bool | str:
        if repository.strip() or model in installed_models():
            return True
        return (
            f"There is no model {model!r} in models/{MODELS}: put its folder there, or name a repository of the Hub."
        )

    @classmethod
    def IS_CHANGED(cls, model: str, dtype: str, repository: str = "") -> str:
        folder = Path(installed_models().get(model, ""))
        times = [str(path.stat().st_mtime_ns) for path in sorted(folder.glob("*/*")) if not repository.strip()]
        return " ".join([repository.strip() or model, dtype, *times])

    def load(self, model: str, dtype: str, repository: str = "") -> tuple[MCDiffPipeline]:
        name = repository.strip() or installed_models()[model]
        pipe = MCDiffPipeline.from_pretrained(name, dtype=getattr(torch, dtype))
        pipe.set_progress_bar_config(disable=True)
        return (pipe.to(comfy.model_management.get_torch_device()),)


class MCDiffStrokesFromSplines:
    """Turns what KJNodes' Spline Editor and Points Editor return into strokes."""

    DESCRIPTION = "Strokes from the coordinates of KJNodes' Spline Editor. A spline that is one point holds its place."
    CATEGORY = "MCDiff"
    RETURN_TYPES = ("MCDIFF_STROKES",)
    RETURN_NAMES = ("strokes",)
    OUTPUT_TOOLTIPS = ("What moves, and what stays.",)
    FUNCTION = "convert"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 0, "min": 0, "max": 16384}
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The image that the splines are drawn on."}),
                "splines": ("STRING", {"forceInput": True, "tooltip": "coord_str of the Spline Editor."}),
                "num_frames": (
                    "INT",
                    {"default": 16, "min": 2, "max": 4096, "tooltip": "Frames of the clip, the image included."},
                ),
            },
            "optional": {
                "holds": (
                    "STRING",
                    {"forceInput": True, "tooltip": "positive_coords of the Points Editor: they stay."},
                ),
                "editor_width": ("INT", {**side, "tooltip": "mask_width of the editor; 0 is the width of the image."}),
                "editor_height": ("INT", {**side, "tooltip": "mask_height of the editor; 0 is that of the image."}),
                "strokes": ("MCDIFF_STROKES", {"tooltip": "Strokes to add these to."}),
            },
        }

    def convert(
        self,
        image: torch.Tensor,
        splines: str,
        num_frames: int,
        holds: str = "",
        editor_width: int = 0,
        editor_height: int = 0,
        strokes: StrokeSheet | None = None,
    ) -> tuple[StrokeSheet]:
        moving = parse_tracks(splines, "`splines`") if splines.strip() else []
        still = [[point] for track in parse_tracks(holds, "`holds`") for point in track] if holds.strip() else []
        found = strokes_of([*moving, *still], num_frames)
        sheet = StrokeSheet(found, editor_width or image.shape[2], editor_height or image.shape[1], num_frames)
        return (joined(strokes, sheet.scaled(image.shape[2], image.shape[1])),)


class MCDiffStrokesFromJSON:
    """Reads a stroke sheet."""

    DESCRIPTION = "Strokes, and regions, from a stroke sheet, as Studio and the command line write them."
    CATEGORY = "MCDiff"
    RETURN_TYPES = ("MCDIFF_STROKES", "INT", "FLOAT")
    RETURN_NAMES = ("strokes", "num_frames", "fps")
    OUTPUT_TOOLTIPS = ("What moves, and what stays.", "Frames of the clip.", "Frames per second of the clip.")
    FUNCTION = "read"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        tooltip = "The JSON text of a stroke sheet, or the name of such a file in the input folder of ComfyUI."
        return {
            "required": {"sheet": ("STRING", {"multiline": True, "default": "", "tooltip": tooltip})},
            "optional": {"strokes": ("MCDIFF_STROKES", {"tooltip": "Strokes to add these to."})},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, sheet: str | None) -> bool | str:
        if sheet is None:  # comes from another node
            return True
        try:
            sheet_of(sheet)
        except (ValueError, OSError) as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, sheet: str | None, **others: Any) -> str:
        if sheet is None or sheet.lstrip().startswith("{"):
            return ""
        return str(sheet_path(sheet).stat().st_mtime_ns)

    def read(self, sheet: str, strokes: StrokeSheet | None = None) -> tuple[StrokeSheet, int, float]:
        found = joined(strokes, sheet_of(sheet))
        return found, found.num_frames, found.fps


class MCDiffRegion:
    """Makes a region of each mask."""

    DESCRIPTION = "A thing that moves as a whole, from its mask. Each mask of a batch is a region."
    CATEGORY = "MCDiff"
    RETURN_TYPES = ("MCDIFF_REGIONS",)
    RETURN_NAMES = ("regions",)
    OUTPUT_TOOLTIPS = ("The regions.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        order = {"default": 0, "min": -100, "max": 100, "tooltip": "Larger is nearer; 0: decided by the motion."}
        return {
            "required": {
                "mask": ("MASK", {"tooltip": "1 where the thing is, of the size of the image."}),
                "rigid": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "Whether it moves exactly as its strokes say, without F."},
                ),
                "order": ("INT", order),
            },
            "optional": {"regions": ("MCDIFF_REGIONS", {"tooltip": "Regions to add this to."})},
        }

    def make(
        self, mask: torch.Tensor, rigid: bool, order: int, regions: tuple[Region, ...] = ()
    ) -> tuple[tuple[Region, ...]]:
        masks = mask if mask.ndim == 3 else mask[None]
        made = [Region(one.float().cpu().clamp(0, 1), rigid=rigid, order=order or None) for one in masks]
        return ((*regions, *made),)


# Inputs that several nodes have.
OF_MODEL = ("MCDIFF_MODEL", {"tooltip": "From Load Model."})
OF_STROKES = ("MCDIFF_STROKES", {"tooltip": "What moves, and what stays."})
OF_REGIONS = ("MCDIFF_REGIONS", {"tooltip": "The things that move as wholes; else those of the strokes."})
SEED = (
    "INT",
    {"default": 0, "min": 0, "max": 2**63 - 1, "control_after_generate": True, "tooltip": "Seed of the noise."},
)
STEPS = ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "Denoising steps of a frame; 0: as the model says."})
GUIDANCE = (
    "FLOAT",
    {"default": 0.0, "min": 0.0, "max": 100.0, "step": 0.1, "tooltip": "Guidance on motion; 0: as the model says."},
)
SIDE = {"default": 0, "min": 0, "max": 4096}
HEIGHT = ("INT", {**SIDE, "tooltip": "Working height in pixels; 0: of the size that the model was trained at."})
WIDTH = ("INT", {**SIDE, "tooltip": "Working width in pixels; 0: as the height."})


class MCDiffFlowPreview:
    """Shows strokes and the flow that F completes from them, without making frames."""

    DESCRIPTION = (
        "The strokes over the image, and the dense flow of one step in colors: hue is direction, depth speed."
    )
    CATEGORY = "MCDiff"
    RETURN_TYPES = ("IMAGE", "IMAGE")
    RETURN_NAMES = ("flow", "strokes")
    OUTPUT_TOOLTIPS = ("Flow in the colors of the Middlebury wheel; white stays.", "The strokes over the image.")
    FUNCTION = "preview"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        frame = {"default": 0, "min": 0, "max": 4095, "tooltip": "The step from this frame to the next."}
        return {
            "required": {
                "model": OF_MODEL,
                "image": ("IMAGE", {"tooltip": "The first frame."}),
                "strokes": OF_STROKES,
                "frame": ("INT", frame),
            },
            "optional": {"regions": OF_REGIONS, "height": HEIGHT, "width": WIDTH},
        }

    def preview(
        self,
        model: MCDiffPipeline,
        image: torch.Tensor,
        strokes: StrokeSheet,
        frame: int,
        regions: tuple[Region, ...] | None = None,
        height: int = 0,
        width: int = 0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        picture, strokes = image_of(image), strokes if regions is None else replace(strokes, regions=())
        flow = model.predict_flow(
            picture, strokes, frame=frame, height=height or None, width=width or None, regions=regions
        )
        colors = flow_to_image(resize_flow(flow.cpu(), (picture.shape[1], picture.shape[2])))[0].float() / 255
        pixels = (picture * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        drawn = draw_strokes(PIL.Image.fromarray(pixels), strokes.scaled(picture.shape[2], picture.shape[1]))
        drawn = model.image_processor.load(drawn)[0]
        return frames_of([colors]), frames_of([drawn])


class MCDiffGenerate:
    """Makes a video from an image and strokes."""

    DESCRIPTION = "Moves an image along strokes. The first frame is the image itself."
    CATEGORY = "MCDiff"
    RETURN_TYPES = ("IMAGE", "MCDIFF_STATE", "IMAGE")
    RETURN_NAMES = ("frames", "state", "last_frame")
    OUTPUT_TOOLTIPS = ("The video.", "What Continue goes on from.", "The last frame, to draw the next strokes on.")
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        size = {"tooltip": "The motion is computed at the working size; frames can have the size of the image."}
        return {
            "required": {
                "model": OF_MODEL,
                "image": ("IMAGE", {"tooltip": "The first frame."}),
                "strokes": OF_STROKES,
                "seed": SEED,
                "steps": STEPS,
                "guidance": GUIDANCE,
                "output_size": ([WORKING_SIZE, IMAGE_SIZE], size),
            },
            "optional": {"regions": OF_REGIONS, "height": HEIGHT, "width": WIDTH},
        }

    def generate(
        self,
        model: MCDiffPipeline,
        image: torch.Tensor,
        strokes: StrokeSheet,
        seed: int,
        steps: int,
        guidance: float,
        output_size: str,
        regions: tuple[Region, ...] | None = None,
        height: int = 0,
        width: int = 0,
    ) -> tuple[torch.Tensor, RolloutState, torch.Tensor]:
        made = streamed(
            model,
            image_of(image),
            strokes if regions is None else replace(strokes, regions=()),
            strokes.num_frames,
            strokes.num_frames - 1,
            steps,
            guidance,
            height=height or None,
            width=width or None,
            regions=regions,
            output_size="image" if output_size == IMAGE_SIZE else None,
            generator=torch.Generator().manual_seed(seed),
        )
        frames, states = zip(*made, strict=True)
        return frames_of(frames), states[-1], frames_of(frames[-1:])


class MCDiffContinue:
    """Continues a video exactly where it ended, with other strokes."""

    DESCRIPTION = "Goes on from the last frame of a video, with strokes that begin there; the new frames are added."
    CATEGORY = "MCDiff"
    RETURN_TYPES = ("IMAGE", "MCDIFF_STATE", "IMAGE")
    RETURN_NAMES = ("frames", "state", "last_frame")
    OUTPUT_TOOLTIPS = (
        "The whole video.",
        "What Continue goes on from.",
        "The last frame, to draw the next strokes on.",
    )
    FUNCTION = "go_on"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": OF_MODEL,
                "frames": ("IMAGE", {"tooltip": "The video so far."}),
                "state": ("MCDIFF_STATE", {"tooltip": "From Generate or Continue."}),
                "strokes": (
                    "MCDIFF_STROKES",
                    {"tooltip": "Strokes whose frame 0 is the last frame of the video, drawn on that frame."},
                ),
                "steps": STEPS,
                "guidance": GUIDANCE,
            },
        }

    def go_on(
        self,
        model: MCDiffPipeline,
        frames: torch.Tensor,
        state: RolloutState,
        strokes: StrokeSheet,
        steps: int,
        guidance: float,
    ) -> tuple[torch.Tensor, RolloutState, torch.Tensor]:
        if strokes.regions:
            raise ValueError(
                "The strokes bring regions, but a video keeps those that it began with: give strokes without regions."
            )
        sheet = later(strokes, state.frame)
        made = streamed(model, state, sheet, sheet.num_frames, strokes.num_frames - 1, steps, guidance)
        new, states = zip(*made, strict=True)
        if frames.shape[1:3] != new[0].shape[1:]:
            raise ValueError(
                f"The video has {frames.shape[2]} x {frames.shape[1]} pixels, but its state makes frames of "
                f"{new[0].shape[2]} x {new[0].shape[1]}: connect frames and state of the same node."
            )
        return torch.cat([frames, frames_of(new)]), states[-1], frames_of(new[-1:])


class MCDiffContinueVideo:
    """Continues a video of any origin from its last frame."""

    DESCRIPTION = (
        "Goes on from the last frame of any video, such as one of another model. Its colors are brought back to those "
        "of the first frame over eight frames. A video of Generate goes on exactly with Continue instead."
    )
    CATEGORY = "MCDiff"
    RETURN_TYPES, RETURN_NAMES = MCDiffContinue.RETURN_TYPES, MCDiffContinue.RETURN_NAMES
    OUTPUT_TOOLTIPS = MCDiffContinue.OUTPUT_TOOLTIPS
    FUNCTION = "go_on"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        strokes = "Strokes whose frame 0 is the last frame of the video, drawn on that frame."
        return {
            "required": {
                "model": OF_MODEL,
                "frames": ("IMAGE", {"tooltip": "The video so far."}),
                "strokes": ("MCDIFF_STROKES", {"tooltip": strokes}),
                "seed": SEED,
                "steps": STEPS,
                "guidance": GUIDANCE,
            },
            "optional": {"regions": OF_REGIONS, "height": HEIGHT, "width": WIDTH},
        }

    def go_on(
        self,
        model: MCDiffPipeline,
        frames: torch.Tensor,
        strokes: StrokeSheet,
        seed: int,
        steps: int,
        guidance: float,
        regions: tuple[Region, ...] | None = None,
        height: int = 0,
        width: int = 0,
    ) -> tuple[torch.Tensor, RolloutState, torch.Tensor]:
        ends = [image_of(frames[:1]), image_of(frames[-1:])]
        sheet = strokes.scaled(frames.shape[2], frames.shape[1])
        state = model.start(
            frames=ends,
            height=height or None,
            width=width or None,
            regions=sheet.regions if regions is None else regions,
            output_size="image",
            generator=torch.Generator().manual_seed(seed),
        )
        lead = lead_of(*ends)
        sheet = replace(sheet, regions=())
        made = streamed(model, state, sheet, sheet.num_frames, sheet.num_frames - 1, steps, guidance, lead=lead)
        new, states = zip(*made, strict=True)
        return torch.cat([frames[..., :3].cpu(), frames_of(new)]), states[-1], frames_of(new[-1:])


def streamed(
    model: MCDiffPipeline,
    image: torch.Tensor | RolloutState,
    strokes: StrokeSheet,
    num_frames: int,
    new_frames: int,
    steps: int,
    guidance: float,
    lead: LeadIn | None = None,
    **arguments: Any,
) -> Iterator[tuple[torch.Tensor, RolloutState]]:
    """
    Frames `(3, height, width)` with their states, with progress and previews; ends if the user cancels.

    Args:
        model (`MCDiffPipeline`): The model.
        image (`torch.Tensor` or `RolloutState`): Where to start.
        strokes (`StrokeSheet`): The strokes; times count from frame 0 of the video.
        num_frames (`int`): Frames of the whole video.
        new_frames (`int`): Frames that are denoised, for the progress.
        steps (`int`): Denoising steps of a frame; 0 is the default of the model.
        guidance (`float`): Guidance on motion; 0 is the default of the model.
        lead (`LeadIn`, *optional*): How another video is continued, whose colors fade.
        arguments: Further arguments of `MCDiffPipeline.stream`.

    Raises:
        comfy.model_management.InterruptProcessingException: If the user cancels.
    """
    steps = steps or model.config.default_num_inference_steps
    progress = comfy.utils.ProgressBar(new_frames * steps)

    def after_step(pipe: MCDiffPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    for frame, state in model.stream(
        image,
        strokes,
        num_frames,
        num_inference_steps=steps,
        guidance_scale=guidance or None,
        output_type="pt",
        return_states=True,
        callback_on_step_end=after_step,
        **arguments,
    ):
        if lead is not None:
            frame = torch.from_numpy(faded(frame.permute(1, 2, 0).numpy(), state.frame, lead)).permute(2, 0, 1)
        shown = PIL.Image.fromarray((frame * 255).round().byte().permute(1, 2, 0).numpy())
        progress.update_absolute(progress.current, preview=("JPEG", shown, PREVIEW_SIDE))
        yield frame, state
