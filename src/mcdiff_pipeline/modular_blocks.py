# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The MCDiff pipeline as blocks of Modular Diffusers. They call the methods of [`MCDiffPipeline`]."""

import inspect
import sys
import threading
from typing import Any

import diffusers.pipelines
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.modular_pipelines import (
    BlockState,
    ComponentSpec,
    ConfigSpec,
    InputParam,
    LoopSequentialPipelineBlocks,
    ModularPipeline,
    ModularPipelineBlocks,
    OutputParam,
    PipelineState,
    SequentialPipelineBlocks,
)
from transformers import CLIPTextModel, CLIPTokenizer, Dinov2Model

from .call_inputs import CallInputs
from .color_matching import color_match  # noqa: F401  # diffusers copies only the modules that this file imports
from .conditioning import FrameConditioner  # noqa: F401
from .denoising import FrameDenoiser, StepCallback, tensor_inputs_of
from .detail import DetailRenderer  # noqa: F401
from .flow import to_cells  # noqa: F401
from .flow_completion_unet import FlowCompletionUNet
from .frame_decoder import FrameDecoder  # noqa: F401
from .image_processor import ImageProcessor  # noqa: F401
from .inpainting import inpaint  # noqa: F401
from .input_checks import check_flow_steps
from .latent_codec import decode_latents  # noqa: F401
from .layer_colors import separate_colors  # noqa: F401
from .layers import Layers  # noqa: F401
from .model_files import SafetensorsLoaderMixin  # noqa: F401
from .model_names import EMBEDDED_NAME  # noqa: F401
from .model_weights import check_finite  # noqa: F401
from .motion_completion import MotionCompleter, check_rigid_layers
from .pipeline_mcdiff import MCDiffPipeline
from .regions import Region  # noqa: F401
from .rollout import Motion, RolloutState
from .semantic_features import encode_features  # noqa: F401
from .short_repr import ShortReprMixin  # noqa: F401
from .similarity import fit_similarity  # noqa: F401
from .stroke_controls import CONTROLS  # noqa: F401
from .stroke_problems import warn_of
from .strokes import Stroke  # noqa: F401


# The module of F in the indices of models. Where this file runs as remote code, without the package, diffusers finds
# the class in the copy of that module.
MODULE_OF_FLOW_COMPLETION = "mcdiff_pipeline.flow_completion_unet"
if not hasattr(diffusers.pipelines, MODULE_OF_FLOW_COMPLETION):
    setattr(diffusers.pipelines, MODULE_OF_FLOW_COMPLETION, sys.modules[FlowCompletionUNet.__module__])

# The classes are those of the embedded model; the index of a model may name others.
COMPONENTS = (
    ComponentSpec("vae", AutoencoderKL, description="Autoencoder between images and latents."),
    ComponentSpec("flow_completion", FlowCompletionUNet, description="F, which completes strokes to dense flow."),
    ComponentSpec("unet", UNet2DConditionModel, description="G, which denoises the next frame."),
    ComponentSpec("scheduler", DDIMScheduler, description="Scheduler that `unet` was trained for."),
    ComponentSpec("text_encoder", CLIPTextModel, description="Text encoder, if `unet` reads text."),
    ComponentSpec("tokenizer", CLIPTokenizer, description="Its tokenizer."),
    ComponentSpec("image_encoder", Dinov2Model, description="Encoder of the features that F reads."),
)

# The settings of a model, with the defaults of the pipeline. One string names all conditions, as in the configuration.
CONFIGS = tuple(
    ConfigSpec(name, ",".join(parameter.default) if name == "conditioning" else parameter.default)
    for name, parameter in inspect.signature(MCDiffPipeline.__init__).parameters.items()
    if name not in ("self", *(spec.name for spec in COMPONENTS))
)


def pipeline_of(components: ModularPipeline) -> MCDiffPipeline:
    """
    The pipeline whose methods the blocks call. It shares the components; making it takes less than a millisecond.

    Args:
        components (`ModularPipeline`):
            A pipeline of these blocks, whose components are loaded.

    Raises:
        ValueError: If `vae`, `unet` or `scheduler` is missing, or the components do not fit together.
    """
    for name in ("vae", "unet", "scheduler"):
        if getattr(components, name, None) is None:
            raise ValueError(
                f"`{name}` is not loaded, but the blocks of MCDiff need it: call `load_components()` first, or give "
                f"it to `update_components({name}=...)`."
            )
    settings = {spec.name: components.config[spec.name] for spec in CONFIGS}
    return MCDiffPipeline(**{spec.name: getattr(components, spec.name) for spec in COMPONENTS}, **settings)


class MCDiffStep(ModularPipelineBlocks):
    """What all steps have in common: the components and the settings of the model."""

    model_name = "mcdiff"

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return list(COMPONENTS)

    @property
    def expected_configs(self) -> list[ConfigSpec]:
        return list(CONFIGS)


def _input(name: str, type_hint: Any = None, description: str = "", default: Any = None) -> InputParam:
    return InputParam(name, type_hint=type_hint, default=default, description=description)


CALL_INPUTS = InputParam("call_inputs", type_hint=CallInputs, required=True, description="The inputs, as read.")
ROLLOUT_STATE = InputParam(
    "rollout_state", type_hint=RolloutState, required=True, description="The state at the current frame."
)
PROMPT = _input("prompt", str | list[str], "Text, for models with a text encoder.")
PROMPT_EMBEDS = _input("prompt_embeds", torch.Tensor, "Encoded text, instead of `prompt`.")
GENERATOR = _input("generator", torch.Generator, "Makes the video reproducible; a list gives each image its own.")
DECODE_CHUNK_SIZE = _input("decode_chunk_size", int, "Frames that are decoded at a time.", default=8)
CALLBACK = _input(
    "callback_on_step_end",
    StepCallback,
    "Called after every denoising step, as in `MCDiffPipeline.__call__`, with the pipeline that the blocks call.",
)
CALLBACK_TENSOR_INPUTS = _input(
    "callback_on_step_end_tensor_inputs", list[str], "Tensors to give to the callback.", default=("latents",)
)
OUTPUT_TYPE = _input("output_type", str, '"pil", "np", "pt" or "latent".', default="pil")


class MCDiffInputStep(MCDiffStep):
    """Reads image, strokes and regions, and checks everything. Nothing slow runs before."""

    @property
    def description(self) -> str:
        return "Reads image, strokes and regions, brings them to the working size, and checks all inputs."

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("image", required=True, description="The first frame: an image, its path, or a list of these."),
            InputParam("strokes", required=True, description="Strokes, a stroke sheet, its path, or a list of these."),
            _input("num_frames", int, "Number of frames, the given image included."),
            _input("height", int, "Working height in pixels."),
            _input("width", int, "Working width in pixels."),
            _input("num_inference_steps", int, "Denoising steps of each frame."),
            _input("guidance_scale", float, "Guidance on motion."),
            _input("motion", None, "Further sources of motion, such as a camera, or a list of these."),
            _input("regions", None, "The things that move as wholes."),
            _input(
                "output_size",
                None,
                'Size of the frames: "image", (height, width), or None: about the working one.',
            ),
            _input("latents", torch.Tensor, "The noise of all steps, instead of drawing it."),
            _input("dense_flow", None, "Flow in pixels of the working size that replaces the flow of F."),
            PROMPT,
            PROMPT_EMBEDS,
            GENERATOR,
            DECODE_CHUNK_SIZE,
            OUTPUT_TYPE,
            CALLBACK,
            CALLBACK_TENSOR_INPUTS,
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("call_inputs", CallInputs, "The inputs: read, at the working size, checked.")]

    @torch.no_grad()
    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        pipe = pipeline_of(components)
        given = {param.name: block_state[param.name] for param in self.inputs}
        names = tensor_inputs_of(given.pop(CALLBACK.name), given[CALLBACK_TENSOR_INPUTS.name])
        inputs = CallInputs.read(pipe, **given | {CALLBACK_TENSOR_INPUTS.name: names})
        check_flow_steps(inputs.dense_flow, inputs.stroke_frames)
        if not inputs.sources:  # which may say how rigid regions move
            check_rigid_layers(inputs.layers, inputs.strokes, inputs.stroke_frames)
        warn_of(pipe._stroke_problems(inputs), stacklevel=2)
        block_state.call_inputs = inputs
        self.set_block_state(state, block_state)
        return components, state


class MCDiffImageStep(MCDiffStep):
    """Encodes text and images to the state at frame 0."""

    @property
    def description(self) -> str:
        return "Encodes the text and, once, the images: latents, and the semantic features that F reads."

    @property
    def inputs(self) -> list[InputParam]:
        return [CALL_INPUTS, PROMPT, PROMPT_EMBEDS, GENERATOR]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("rollout_state", RolloutState, "The state at frame 0.")]

    @torch.no_grad()
    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        pipe, inputs = pipeline_of(components), block_state.call_inputs
        prompt_embeds = pipe.encode_prompt(block_state.prompt, len(inputs.images), block_state.prompt_embeds)
        block_state.rollout_state = pipe._start(inputs, prompt_embeds, block_state.generator)
        self.set_block_state(state, block_state)
        return components, state


class MCDiffFlowCompletionStep(MCDiffStep):
    """Completes the strokes of one step to its motion. A step of the loop over frames."""

    @property
    def description(self) -> str:
        return "Completes the strokes from the current frame to the next to dense flow, by F."

    @property
    def inputs(self) -> list[InputParam]:
        return [CALL_INPUTS, ROLLOUT_STATE]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("step_motion", Motion, "The motion from the current frame to the next.")]

    @torch.no_grad()
    def __call__(
        self, components: ModularPipeline, block_state: BlockState, completer: MotionCompleter, **others: Any
    ) -> tuple[ModularPipeline, BlockState]:
        inputs, rollout_state = block_state.call_inputs, block_state.rollout_state
        block_state.step_motion = completer.complete_step(
            rollout_state, inputs.strokes, inputs.stroke_frames, inputs.flow_of_step(rollout_state.frame)
        )
        return components, block_state


class MCDiffFrameStep(MCDiffStep):
    """Denoises the next frame. A step of the loop over frames."""

    @property
    def description(self) -> str:
        return "Builds what G is given from the current frame and its motion, and denoises the next frame."

    @property
    def inputs(self) -> list[InputParam]:
        motion = InputParam(
            "step_motion", type_hint=Motion, required=True, description="The motion to the next frame."
        )
        return [CALL_INPUTS, ROLLOUT_STATE, motion, GENERATOR]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("rollout_state", RolloutState, "The state at the next frame.")]

    @torch.no_grad()
    def __call__(
        self, components: ModularPipeline, block_state: BlockState, denoiser: FrameDenoiser, **others: Any
    ) -> tuple[ModularPipeline, BlockState]:
        rollout_state = block_state.rollout_state
        noise = block_state.call_inputs.noise_of_step(rollout_state.frame)
        following = denoiser.next_state(rollout_state, block_state.step_motion, noise, block_state.generator)
        if following is not None:  # else it was canceled, and the state stays that of the last finished frame
            block_state.rollout_state = following
        denoiser.check_finite()
        return components, block_state


class MCDiffRolloutStep(LoopSequentialPipelineBlocks):
    """The loop over frames. Its blocks are called as `block(components, block_state, completer=..., denoiser=...)`."""

    model_name = "mcdiff"
    block_classes = [MCDiffFlowCompletionStep, MCDiffFrameStep]
    block_names = ["flow_completion", "frame"]

    @property
    def description(self) -> str:
        return "The loop over frames, in latent space: F completes the flow, then G makes the next frame."

    @property
    def loop_inputs(self) -> list[InputParam]:
        eta = _input("eta", float, "η of DDIM; other schedulers ignore it.", default=0.0)
        cancel = _input("cancel", threading.Event, "Ends the loop with the last finished frame when it is set.")
        return [CALL_INPUTS, ROLLOUT_STATE, GENERATOR, eta, cancel, CALLBACK, CALLBACK_TENSOR_INPUTS]

    @property
    def loop_intermediate_outputs(self) -> list[OutputParam]:
        return [
            OutputParam("rollout_states", list[RolloutState], "The states at all frames."),
            # not `dense_flow`, which is an input: a state that is called again would give this flow
            OutputParam(
                "completed_flow", torch.Tensor, "The flow of all steps, as in `MCDiffPipelineOutput.dense_flow`."
            ),
        ]

    @torch.no_grad()
    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        pipe, inputs = pipeline_of(components), block_state.call_inputs
        completer = pipe._completer_with(inputs.sources)
        callback = block_state.callback_on_step_end
        tensor_inputs = tensor_inputs_of(callback, block_state.callback_on_step_end_tensor_inputs)
        num_frames = inputs.stroke_frames
        denoiser = pipe._begin_call(inputs, num_frames, block_state.eta, block_state.cancel, callback, tensor_inputs)
        block_state.step_motion, block_state.rollout_states = None, [block_state.rollout_state]
        with self.progress_bar(total=num_frames - 1) as progress_bar, pipe._interruptible(denoiser):
            progress_bar.set_description("Frames")
            while not denoiser.is_canceled and len(block_state.rollout_states) < num_frames:
                components, block_state = self.loop_step(
                    components, block_state, completer=completer, denoiser=denoiser
                )
                if block_state.rollout_state is block_state.rollout_states[-1]:
                    break
                block_state.rollout_states.append(block_state.rollout_state)
                progress_bar.update()
        block_state.completed_flow = pipe.flow_of(block_state.rollout_states)
        self.set_block_state(state, block_state)
        return components, state


class MCDiffDecodeStep(MCDiffStep):
    """Decodes the frames."""

    @property
    def description(self) -> str:
        return "Decodes the frames, with the detail of the given image; the first frame is the image itself."

    @property
    def inputs(self) -> list[InputParam]:
        states = InputParam("rollout_states", type_hint=list[RolloutState], required=True, description="The states.")
        detail = _input("detail", bool, "Whether frames get back the detail of the given image.", default=True)
        return [CALL_INPUTS, states, detail, DECODE_CHUNK_SIZE, OUTPUT_TYPE]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("videos", None, "The frames, as in `MCDiffPipelineOutput.frames`.")]

    @torch.no_grad()
    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        block_state.videos = pipeline_of(components).decode_video(
            block_state.rollout_states,
            block_state.call_inputs.images,
            block_state.detail,
            block_state.decode_chunk_size,
            block_state.output_type,
        )
        self.set_block_state(state, block_state)
        return components, state


class MCDiffBlocks(SequentialPipelineBlocks):
    """
    MCDiff (arXiv 2304.14404) as blocks: an image and strokes in, a video out. The frames are those of
    [`MCDiffPipeline`] for the same arguments.

    Examples:
        ```py
        >>> from diffusers import ModularPipeline

        >>> pipe = ModularPipeline.from_pretrained("exported", trust_remote_code=True)
        >>> pipe.load_components()
        >>> frames = pipe(image="image.jpg", strokes="strokes.json", output="videos")[0]
        ```
    """

    model_name = "mcdiff"
    block_classes = [MCDiffInputStep, MCDiffImageStep, MCDiffRolloutStep, MCDiffDecodeStep]
    block_names = ["input", "image", "rollout", "decode"]

    @property
    def description(self) -> str:
        return "Moves an image along strokes, frame by frame: F completes the strokes to dense flow, G paints."


def modular_pipeline_of(pipe: MCDiffPipeline, blocks: ModularPipelineBlocks | None = None) -> ModularPipeline:
    """
    A pipeline of blocks with the components and settings of a pipeline, which both then share.

    Args:
        pipe (`MCDiffPipeline`):
            The pipeline.
        blocks (`ModularPipelineBlocks`, *optional*):
            The blocks; None is [`MCDiffBlocks`].
    """
    modular = (blocks or MCDiffBlocks()).init_pipeline()
    modular.update_components(**pipe.components, **{spec.name: pipe.config[spec.name] for spec in CONFIGS})
    return modular
